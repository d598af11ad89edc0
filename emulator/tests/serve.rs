// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu serve` as a process: what it refuses before it serves, and how it ends.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs,
    io::Read as _,
    os::{
        fd::AsRawFd,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use process::{Control, Emulator, Folder, LIMIT, program, refused, refused_in};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    process::Signal,
};
use vfio_user::Client;
use vmm_sys_util::sock_ctrl_msg::ScmSocket as _;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// What is said of a command line that is wrong, whatever files and sockets there are.
const WRONG_USAGE: [&str; 6] = [
    "give --vfio-user",
    "longer than 107 bytes",
    "given twice",
    "fd:77",
    "connectx99",
    "--ready-fd",
];

#[test]
fn bad_options_are_said_in_one_line() {
    let folder = Folder::new();
    let socket = folder.at("s");
    let s = text(&socket);
    let file = folder.at("file");
    fs::write(&file, "x").unwrap();
    let profile = folder.at("p.toml");
    let good = include_str!("../../fw-model/profiles/minimal.toml");
    fs::write(
        &profile,
        good.replace("msix_vectors = 8", "msix_vectors = 4096"),
    )
    .unwrap();
    let unknown = folder.at("u.toml");
    fs::write(&unknown, format!("{good}colour = 1\n")).unwrap();
    let missing = folder.at("no/such/s");
    let large = folder.at("large");
    fs::File::create(&large)
        .unwrap()
        .set_len((1 << 20) + 1)
        .unwrap();
    let state = folder.at("state");
    fs::create_dir(&state).unwrap();
    let journal = fs::File::create(state.join("card")).unwrap();
    journal.set_len((256 << 20) + 1).unwrap();
    let long = folder.at(&"l".repeat(108));
    let _live = UnixListener::bind(folder.at("live")).unwrap();
    let live = folder.at("live");
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "give --vfio-user PATH or --vhost-user PATH"),
        (
            vec!["--vfio-user", text(&missing)],
            "no/such/s: cannot be made: No such file or directory",
        ),
        (
            vec!["--vfio-user", text(&file)],
            "file: there is a file that is no socket",
        ),
        (vec!["--vfio-user", text(&long)], "longer than 107 bytes"),
        (
            vec!["--vhost-user", text(&live)],
            "live: another process listens on it",
        ),
        (vec!["--vfio-user", s, "--vhost-user", s], "s: given twice"),
        (vec!["--vfio-user", s, "--control", s], "s: given twice"),
        (
            vec!["--vfio-user", "fd:77"],
            "socket fd:77: not an open file descriptor",
        ),
        (
            vec!["--vfio-user", s, "--control", text(&missing)],
            "no/such/s: cannot be made",
        ),
        (
            vec!["--vfio-user", s, "--profile", "connectx99"],
            "connectx99: there is no built-in profile of this name; there are: connectx5, ",
        ),
        (
            vec!["--vfio-user", s, "--profile", text(&profile)],
            "p.toml: pci.msix_vectors: 4096 is not in 1..=2048",
        ),
        (
            vec!["--vfio-user", s, "--profile", "/no/such.toml"],
            "profile /no/such.toml: No such file",
        ),
        (
            vec!["--vfio-user", s, "--profile", text(&unknown)],
            "u.toml: caps.general.colour: cmd_hca_cap has no such field",
        ),
        (
            vec!["--vfio-user", s, "--overlay", text(&unknown)],
            "u.toml: line ",
        ),
        (
            vec!["--vfio-user", s, "--overlay", text(&missing)],
            "no/such/s: No such file",
        ),
        (
            vec!["--vfio-user", s, "--profile", text(&large)],
            "large: longer than 1048576 bytes",
        ),
        (
            vec!["--vfio-user", s, "--overlay", text(&large)],
            "large: longer than 1048576 bytes",
        ),
        (
            vec!["--vfio-user", s, "--faults", text(&large)],
            "large: longer than 1048576 bytes",
        ),
        (
            vec!["--vfio-user", s, "--state", text(&state)],
            "larger than 268435456 bytes",
        ),
        (
            vec!["--vfio-user", s, "--state", text(&file)],
            "file: cannot be made",
        ),
        (
            vec!["--vfio-user", s, "--ready-fd", "99"],
            "--ready-fd 99: not an open file descriptor",
        ),
        (
            vec!["--vfio-user", s, "--ready-fd", "0"],
            "--ready-fd 0: not open for writing",
        ),
    ];
    for (args, want) in cases {
        let (code, said) = refused(&args);
        let is_usage = WRONG_USAGE.iter().any(|u| want.contains(u));
        assert_eq!(code, if is_usage { 2 } else { 1 }, "{args:?}: {said}");
        assert!(said.contains(want), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(!socket.exists(), "{args:?} left its socket");
    }
    for args in [&["--no-such"][..], &["--seed", "x"], &["--vfio-user"]] {
        assert_eq!(refused(args).0, 2, "{args:?}");
    }
    assert!(live.exists() && file.exists());
}

#[test]
fn what_is_refused_leaves_the_files_of_another_time_as_they_are() {
    let folder = Folder::new();
    let socket = folder.at("s");
    let (trace, record) = (folder.at("trace"), folder.at("record"));
    let files = ["--trace", text(&trace), "--record", text(&record)];
    let long = folder.at(&"l".repeat(200));
    for (more, says) in [
        (["--dump-dir", "/no"], "--dump-dir /no: no folder"),
        (["--save-dir", "/no"], "--save-dir /no: no folder"),
        (["--control", text(&long)], "longer than"),
        (["--load", "/dev/null"], "not a saved card"),
        (["--vhost-user", "/no/such"], "/no/such: cannot be made"),
    ] {
        let args = [&["--vfio-user", text(&socket)], &files[..], &more].concat();
        let (code, said) = refused(&args);
        assert!(code != 0 && said.contains(says), "{more:?}: {said}");
        assert!(!trace.exists() && !record.exists(), "{more:?}");
    }
    fs::write(&trace, "an old trace").unwrap();
    fs::write(&record, "an old record").unwrap();
    // The second of them cannot be opened or written, or the sandbox is not to be had as it is asked for.
    let nowhere = folder.at("no/such");
    for args in [
        ["--trace", text(&trace), "--record", text(&nowhere)],
        ["--trace", text(&nowhere), "--record", text(&record)],
        ["--trace", text(&trace), "--dump-dir", text(&nowhere)],
        ["--trace", text(&trace), "--record", "/dev/full"],
        ["--trace", "/dev/full", "--record", text(&record)],
    ] {
        assert_eq!(
            refused(&[&["--vfio-user", text(&socket)], &args[..]].concat()).0,
            1
        );
        assert_eq!(fs::read(&trace).unwrap(), b"an old trace");
        assert_eq!(fs::read(&record).unwrap(), b"an old record");
    }
    // What is served begins with nothing of it.
    let e = Emulator::start(&[&["--vfio-user", text(&socket)], &files[..]].concat());
    e.signal(Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));
    for file in [&trace, &record] {
        let bytes = fs::read(file).unwrap();
        assert!(!bytes.windows(3).any(|w| w == b"old"));
        let command = if file == &trace {
            ["trace", "show"]
        } else {
            ["replay", "--"]
        };
        let shown = program().args(command).arg(file).output().unwrap();
        assert!(shown.status.success(), "{shown:?}");
    }
}

#[test]
fn folders_that_are_none_are_said_by_their_option_with_a_sandbox_or_without() {
    let folder = Folder::new();
    let (socket, file) = (folder.at("s"), folder.at("file"));
    fs::write(&file, "x").unwrap();
    let under = file.join("state");
    for sandbox in [&[][..], &["--sandbox", "off"]] {
        for option in ["--save-dir", "--dump-dir"] {
            for (dir, why) in [
                ("/no", "no folder: No such file or directory"),
                (text(&file), "no folder"),
            ] {
                let args = [&["--vfio-user", text(&socket), option, dir], sandbox].concat();
                let (code, said) = refused(&args);
                assert_eq!(code, 1, "{args:?}: {said}");
                let want = format!("fwctl-emu: {option} {dir}: {why}");
                assert!(said.starts_with(&want), "{args:?}: {said}");
                assert!(!socket.exists());
            }
        }
        let args = [
            &["--vfio-user", text(&socket), "--state", text(&under)],
            sandbox,
        ]
        .concat();
        let (code, said) = refused(&args);
        let want = format!("{}: cannot be made", text(&under));
        assert!(code == 1 && said.contains(&want), "{said}");
    }
}

#[test]
fn fd_without_a_number_is_no_path() {
    let folder = Folder::new();
    for option in ["--vfio-user", "--vhost-user", "--control"] {
        for place in ["fd:", "fd:abc", "fd:3x", "fd: 3"] {
            let (code, said) = refused_in(&folder.at(""), &[option, place]);
            assert_eq!(code, 2, "{said}");
            let want = format!("a path that begins so is ./{place}");
            assert!(said.contains(&want) && said.contains(option), "{said}");
        }
    }
    assert_eq!(fs::read_dir(folder.at("")).unwrap().count(), 0);
    let path = folder.at("fd:abc");
    let _e = Emulator::start(&["--vfio-user", text(&path)]);
    assert!(path.exists());
}

/// Maps a file for DMA over vfio-user: the errno of the reply.
fn map(socket: &Path, file: &impl AsRawFd) -> u32 {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // Message 1, DMA_MAP, 48 bytes in all; 32 bytes of body, may be read and written; offset, address, size.
    let head = [1u16, 2].map(u16::to_ne_bytes);
    let words = [48u32, 0, 0, 32, 3].map(u32::to_ne_bytes);
    let range = [0u64, 0, 1 << 20].map(u64::to_ne_bytes);
    let message = [
        head.as_flattened(),
        words.as_flattened(),
        range.as_flattened(),
    ]
    .concat();
    stream.send_with_fd(&*message, file.as_raw_fd()).unwrap();
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).unwrap();
    u32::from_ne_bytes(reply[12..].try_into().unwrap())
}

#[test]
fn unsealed_memory_is_taken_if_the_command_line_says_so() {
    const EPERM: u32 = 1;
    let folder = Folder::new();
    let memory = memfd_create("guest", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memory, 1 << 20).unwrap();
    let (a, b) = (folder.at("a"), folder.at("b"));
    let e = Emulator::start(&["--vfio-user", text(&a)]);
    assert_eq!(map(&a, &memory), EPERM);
    e.signal(Signal::TERM);
    let (_, log) = e.end();
    assert!(log.contains("serve with --allow-unsealed"), "{log}");
    let _e = Emulator::start(&["--vfio-user", text(&b), "--allow-unsealed"]);
    assert_eq!(map(&b, &memory), 0);
}

#[test]
fn help_and_lists_teach() {
    let help = program().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in [
        "--vfio-user",
        "--vhost-user",
        "--ready-fd",
        "Examples:",
        "vfio-user-pci",
    ] {
        assert!(help.contains(word), "{word}");
    }
    let list = program().args(["list", "profiles"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(
        list.contains("connectx7 ") && list.contains("minimal "),
        "{list}"
    );
}

#[test]
fn signals_end_it_with_exit_code_0_and_its_sockets_removed() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let folder = Folder::new();
        let (a, b, c) = (folder.at("a"), folder.at("b"), folder.at("c"));
        let e = Emulator::start(&[
            "--vfio-user",
            text(&a),
            "--vhost-user",
            text(&b),
            "--control",
            text(&c),
        ]);
        for path in [&a, &b, &c] {
            assert_eq!(
                fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        e.signal(signal);
        let (status, log) = e.end();
        assert_eq!(status.code(), Some(0));
        assert!(!a.exists() && !b.exists() && !c.exists());
        let served: Vec<_> = log
            .lines()
            .filter(|l| l.contains("serving profile"))
            .collect();
        assert_eq!(served.len(), 1, "{log}");
        let want = format!(
            "connectx7: function 0 vfio-user {}, function 1 vhost-user {}",
            a.display(),
            b.display()
        );
        assert!(served[0].ends_with(&want), "{log}");
    }
}

#[test]
fn a_killed_emulators_sockets_are_replaced_by_the_next() {
    let folder = Folder::new();
    let a = folder.at("a");
    let e = Emulator::start(&["--vfio-user", text(&a)]);
    let (code, said) = refused(&["--vfio-user", text(&a)]);
    assert!(
        code == 1 && said.contains("another process listens"),
        "{said}"
    );
    e.signal(Signal::KILL);
    e.end();
    assert!(a.exists());
    let e = Emulator::start(&["--vfio-user", text(&a)]);
    e.signal(Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));
    assert!(!a.exists());
}

#[test]
fn it_ends_with_its_last_client() {
    let folder = Folder::new();
    let (a, b, c) = (folder.at("a"), folder.at("b"), folder.at("c"));
    let mut e = Emulator::start(&[
        "--vfio-user",
        text(&a),
        "--vfio-user",
        text(&b),
        "--control",
        text(&c),
        "--exit-with-client",
    ]);
    // Who connects and says nothing is no client.
    drop(UnixStream::connect(&a).unwrap());
    let speak = |path| {
        let mut client = Client::new(path).unwrap();
        let mut id = [0; 4];
        client.region_read(7, 0, &mut id).unwrap();
        assert_eq!(id, [0xb3, 0x15, 0x21, 0x10]);
        client
    };
    let (first, second) = (speak(&a), speak(&b));
    drop(first);
    let mut control = Control::greeted(&c);
    let end = std::time::Instant::now() + LIMIT;
    while control.functions()[0]["connected"] == true {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(e.runs() && control.functions()[1]["connected"] == true);
    drop(second);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(log.matches("client connected").count(), 2, "{log}");
    assert_eq!(log.matches("client gone").count(), 2, "{log}");
}

#[test]
fn one_state_folder_serves_one_process_and_damage_is_named() {
    let folder = Folder::new();
    let (a, b, state) = (folder.at("a"), folder.at("b"), folder.at("state"));
    let e = Emulator::start(&["--vfio-user", text(&a), "--state", text(&state)]);
    let (code, said) = refused(&["--vfio-user", text(&b), "--state", text(&state)]);
    assert!(
        code == 1 && said.contains("state: another process uses it"),
        "{said}"
    );
    e.signal(Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));
    fs::write(state.join("card"), [7; 512]).unwrap();
    let (code, said) = refused(&["--vfio-user", text(&b), "--state", text(&state)]);
    assert!(
        code == 1 && said.contains("file card is damaged: at byte 0: a checksum is wrong"),
        "{said}"
    );
    assert!(!b.exists());
}
