// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! File descriptors that are passed to `fwctl-emu serve`: those that were, and numbers that were not.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use process::{Control, Folder, LIMIT};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
};
use vfio_user::Client;

/// `serve` with these arguments, after a shell's redirections. It inherits `keep` under their numbers.
fn shell(redirections: &str, args: &str, keep: &[&dyn std::os::fd::AsFd]) -> Child {
    let program = env!("CARGO_BIN_EXE_fwctl-emu");
    for fd in keep {
        fcntl_setfd(fd.as_fd(), FdFlags::empty()).unwrap();
    }
    let child = Command::new("bash")
        .args([
            "-c",
            &format!("exec {redirections}; exec {program} serve {args}"),
        ])
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for fd in keep {
        fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC).unwrap();
    }
    child
}

/// Waits for its end: exit code, standard output and error.
fn end(mut child: Child) -> (i32, String, String) {
    let limit = Instant::now() + LIMIT;
    let status = loop {
        if let Some(s) = child.try_wait().unwrap() {
            break s;
        }
        if Instant::now() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.unwrap().read_to_string(&mut out).unwrap();
    child.stderr.unwrap().read_to_string(&mut err).unwrap();
    (status.code().unwrap(), out, err)
}

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

#[test]
fn a_number_that_nobody_passed_is_never_one_of_our_files() {
    let folder = Folder::new();
    let (socket, state) = (folder.at("s"), folder.at("state"));
    // Whatever is opened first gets the lowest free numbers: the state folder's lock, the signals.
    let closed = (3..16).map(|n| format!("{n}>&- ")).collect::<String>();
    for n in 3..16 {
        let args = format!("--vfio-user {} --state {}", text(&socket), text(&state));
        let (code, _, said) = end(shell(&closed, &format!("{args} --ready-fd {n}"), &[]));
        assert_eq!(code, 2, "{said}");
        let want = format!("fwctl-emu: --ready-fd {n}: not an open file descriptor\n");
        assert_eq!(said, want);
        let (code, _, said) = end(shell(&closed, &format!("{args} --control fd:{n}"), &[]));
        assert_eq!(code, 2, "{said}");
        let want = format!("fwctl-emu: socket fd:{n}: not an open file descriptor\n");
        assert_eq!(said, want);
    }
    assert!(!socket.exists() && !state.exists());
}

#[test]
fn what_was_passed_for_something_else_is_refused() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.at("l")).unwrap();
    let datagram = UnixDatagram::bind(folder.at("d")).unwrap();
    let (client, _peer) = UnixStream::pair().unwrap();
    let file = fs::File::create(folder.at("f")).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let keep: [&dyn std::os::fd::AsFd; 5] = [&listener, &datagram, &client, &file, &tcp];
    let [l, d, c, f, t] = [
        listener.as_raw_fd(),
        datagram.as_raw_fd(),
        client.as_raw_fd(),
        file.as_raw_fd(),
        tcp.as_raw_fd(),
    ];
    let redirections = format!("20<&{l} 21<&{l} 22<&{d} 23<&{c} 24>&{f} 25</dev/null 26<&{t}");
    let ours = text(&folder.at("s")).to_owned();
    let cases = [
        (
            "--vfio-user fd:0",
            "socket fd:0: not a file descriptor that was passed for this",
        ),
        (
            "--vfio-user fd:1",
            "socket fd:1: not a file descriptor that was passed for this",
        ),
        (
            "--vfio-user fd:2",
            "socket fd:2: not a file descriptor that was passed for this",
        ),
        (
            "--vfio-user fd:-1",
            "socket fd:-1: not an open file descriptor",
        ),
        (
            "--vfio-user fd:22",
            "socket fd:22: not a listening unix socket",
        ),
        (
            "--vfio-user fd:23",
            "socket fd:23: not a listening unix socket",
        ),
        (
            "--vfio-user fd:24",
            "socket fd:24: not a listening unix socket",
        ),
        (
            "--vfio-user fd:26",
            "socket fd:26: not a listening unix socket",
        ),
        (
            "--vfio-user fd:20 --control fd:20",
            "socket fd:20: given twice",
        ),
        (
            "--vfio-user fd:20 --control fd:21",
            "socket fd:21: the same socket as fd:20",
        ),
        (
            "--vfio-user fd:20 --ready-fd 20",
            "--ready-fd 20: also given as a socket",
        ),
        (
            "--vfio-user PATH --ready-fd 0",
            "--ready-fd 0: not open for writing",
        ),
        (
            "--vfio-user PATH --ready-fd 25",
            "--ready-fd 25: not open for writing",
        ),
        (
            "--vfio-user PATH --ready-fd=-1",
            "--ready-fd -1: not an open file descriptor",
        ),
    ];
    for (args, want) in cases {
        let args = args.replace("PATH", &ours);
        let (code, _, said) = end(shell(&redirections, &args, &keep));
        assert_eq!((code, said), (2, format!("fwctl-emu: {want}\n")), "{args}");
    }
}

#[test]
fn passed_sockets_are_served_and_their_paths_are_left_alone() {
    let folder = Folder::new();
    let (a, b, c) = (folder.at("a"), folder.at("b"), folder.at("c"));
    let listeners = [&a, &b, &c].map(|p| UnixListener::bind(p).unwrap());
    let [x, y, z] = listeners.each_ref().map(std::os::fd::AsRawFd::as_raw_fd);
    // The numbers at hand may be those that are wanted, so that they go by way of others.
    let redirections = format!("27<&{x} 28<&{y} 29<&{z} 17<&27 18<&28 19<&29");
    let args = "--vfio-user fd:17 --vhost-user fd:18 --control fd:19 --exit-with-client";
    let keep = listeners.each_ref().map(|l| l as &dyn std::os::fd::AsFd);
    let child = shell(&redirections, args, &keep);
    let mut control = Control::greeted(&c);
    let mut client = Client::new(&a).unwrap();
    let mut id = [0; 4];
    client.region_read(7, 0, &mut id).unwrap();
    assert_eq!(id, [0xb3, 0x15, 0x21, 0x10]);
    // GET_FEATURES of vhost-user: the answer has bit 30, VHOST_USER_F_PROTOCOL_FEATURES.
    let mut vhost = UnixStream::connect(&b).unwrap();
    vhost.set_read_timeout(Some(LIMIT)).unwrap();
    vhost
        .write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
        .unwrap();
    let mut answer = [0; 20];
    vhost.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..12], [1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0]);
    assert_eq!(answer[15] & 0x40, 0x40);
    let functions = control.functions();
    assert_eq!(functions[0]["connected"], true);
    assert_eq!(functions.len(), 2);
    drop((client, vhost));
    let (code, _, said) = end(child);
    assert_eq!(code, 0, "{said}");
    assert!(a.exists() && b.exists() && c.exists());
}

#[test]
fn the_standard_streams_stay_what_they_are() {
    let folder = Folder::new();
    let socket = folder.at("s");
    let nothing = fs::metadata("/dev/null").unwrap();
    for n in [1, 2] {
        let args = format!("--vfio-user {} --ready-fd {n}", text(&socket));
        let mut child = shell("", &args, &[]);
        let pid = child.id();
        if n == 1 {
            // The word, then the end, while it serves.
            let mut said = String::new();
            child
                .stdout
                .as_mut()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            assert_eq!(said, "ready\n");
            use std::os::unix::fs::MetadataExt as _;
            let held = fs::metadata(format!("/proc/{pid}/fd/1")).unwrap();
            assert_eq!(held.rdev(), nothing.rdev());
        }
        // A client makes new descriptors; none becomes a standard stream.
        let limit = Instant::now() + LIMIT;
        let mut client = loop {
            match Client::new(&socket) {
                Ok(c) => break c,
                Err(e) => assert!(Instant::now() < limit, "{e:?}"),
            }
        };
        client.region_read(7, 0, &mut [0; 4]).unwrap();
        drop(client);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let (code, _, said) = end(child);
        assert_eq!(code, 0);
        assert_eq!(
            said.lines().filter(|l| *l == "ready").count(),
            usize::from(n == 2)
        );
        // What comes after the word is there too.
        assert!(
            said.contains("client connected") && said.contains("ended by signal"),
            "{said}"
        );
    }
}
