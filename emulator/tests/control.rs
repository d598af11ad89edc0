// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: its queries, and what it does with lines that are no requests.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use fwctl_emu::control::{Answer, EVENTS, VERBS, argument};
use host_driver::{firmware::Firmware, pci::PciDriver};
use process::{Control, Emulator, Folder, program};
use rustix::process::Signal;
use serde_json::json;

/// `MAX_LINE` and `MAX_CONNECTIONS` of the control socket, as docs/limits.md promises them.
const MAX_LINE: usize = 64 << 10;
const MAX_CONNECTIONS: usize = 8;

fn start(folder: &Folder) -> (Emulator, std::path::PathBuf) {
    let control = folder.at("control");
    let (a, b) = (folder.at("a"), folder.at("b"));
    let args = [
        "--vhost-user",
        b.to_str().unwrap(),
        "--vfio-user",
        a.to_str().unwrap(),
    ];
    let e = Emulator::start(
        &[
            &args[..],
            &[
                "--control",
                control.to_str().unwrap(),
                "--profile",
                "minimal",
            ],
        ]
        .concat(),
    );
    (e, control)
}

#[test]
fn functions_come_in_the_order_of_the_command_line() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let all = Control::greeted(&control).functions();
    let short: Vec<_> = all
        .iter()
        .map(|f| {
            (
                f["function"].as_u64().unwrap(),
                f["transport"].as_str().unwrap(),
                f["state"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        short,
        [(0, "vhost-user", "disabled"), (1, "vfio-user", "disabled")]
    );
    for f in &all {
        assert_eq!(f["connected"], false);
        assert_eq!(
            (f["uctx"].as_u64(), f["eqs"].as_u64(), f["pages"].as_u64()),
            (Some(0), Some(0), Some(0))
        );
        assert!(f["objects"].as_object().unwrap().is_empty());
    }
    assert_eq!(all[0]["socket"].as_str(), folder.at("b").to_str());
}

#[test]
fn requests_are_answered_with_their_id_and_wrong_ones_with_an_error() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut c = Control::greeted(&control);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        c.ask("{\"execute\":\"version\",\"id\":[1,\"x\"]}"),
        format!("{{\"id\":[1,\"x\"],\"return\":{{\"fwctl-emu\":\"{version}\"}}}}")
    );
    let cases = [
        (
            "{\"execute\":\"fly\"}",
            "CommandNotFound",
            "there is no command",
        ),
        (
            "{\"execute\":\"fualt\"}",
            "CommandNotFound",
            "did you mean fault or faults",
        ),
        (
            "{\"execute\":\"version\",\"speed\":1}",
            "GenericError",
            "unknown field \\\"speed\\\"",
        ),
        (
            "{\"execute\":\"version\",\"arguments\":{\"x\":1}}",
            "InvalidArgument",
            "version has no argument \\\"x\\\"",
        ),
        (
            "{\"execute\":\"version\",\"arguments\":7}",
            "InvalidArgument",
            "is not an object",
        ),
        ("{\"execute\":7}", "GenericError", "no \\\"execute\\\""),
        ("{}", "GenericError", "no \\\"execute\\\""),
        ("[]", "GenericError", "a request is an object"),
        ("{\"execute\":", "GenericError", "not JSON"),
        ("\u{1}\u{2}", "GenericError", "not JSON"),
        (
            "{\"execute\":\"page-demand\",\"arguments\":{\"function\":9,\"count\":1}}",
            "GenericError",
            "no such function",
        ),
        (
            "{\"execute\":\"page-demand\",\"arguments\":{\"function\":0}}",
            "InvalidArgument",
            "page-demand needs count=N: pages; negative to give back",
        ),
        (
            "{\"execute\":\"delay\",\"arguments\":{\"opcode\":\"FLY\",\"ms\":1}}",
            "InvalidArgument",
            "there is no \\\"FLY\\\"",
        ),
        (
            "{\"execute\":\"delay\",\"arguments\":{\"opcode\":\"NOP\",\"ms\":-1}}",
            "InvalidArgument",
            "is negative",
        ),
        (
            "{\"execute\":\"event\",\"arguments\":{\"function\":0,\"type\":\"PORT_CHANGE\",\"data\":\"0\"}}",
            "InvalidArgument",
            "is not hex",
        ),
        (
            "{\"execute\":\"event\",\"arguments\":{\"function\":0,\"type\":\"CMD\",\"data\":1234}}",
            "InvalidArgument",
            "\\\"data\\\" is no text of hex digits",
        ),
        (
            "{\"execute\":\"event\",\"arguments\":{\"function\":0,\"type\":\"0x100\"}}",
            "InvalidArgument",
            "does not fit a byte",
        ),
    ];
    for (line, class, desc) in cases {
        let reply = c.ask(line);
        assert!(
            reply.contains(&format!("\"class\":\"{class}\"")) && reply.contains(desc),
            "{line}: {reply}"
        );
        assert_eq!(c.functions().len(), 2, "after {line}");
    }
    for line in [
        "{\"execute\":\"delay\",\"arguments\":{\"opcode\":\"NOP\",\"ms\":1}}",
        "{\"execute\":\"delay\",\"arguments\":{\"opcode\":\"0x80d\",\"ms\":0}}",
        "{\"execute\":\"event\",\"arguments\":{\"function\":1,\"type\":\"PORT_CHANGE\",\"sub-type\":4,\"data\":\"00ff\"}}",
    ] {
        assert_eq!(c.ask(line), "{\"return\":{}}", "{line}");
    }
    // Function 0 is on vhost-user here, function 1 on vfio-user.
    for (function, on, answer) in [
        (0, 1, "only a function on vfio-user can be pulled"),
        (1, 0, "the function is in its slot"),
        (1, 1, "{\"return\":{}}"),
        (1, 1, "the function is pulled already"),
        (1, 0, "{\"return\":{}}"),
    ] {
        let line = format!(
            "{{\"execute\":\"surprise-removal\",\"arguments\":{{\"function\":{function},\"on\":{on}}}}}"
        );
        let reply = c.ask(&line);
        assert!(reply.contains(answer), "{line}: {reply}");
        let out = (function, on) == (1, 1);
        assert_eq!(c.functions()[1]["removed"], out, "after {line}");
    }
    // A line that is not UTF-8, an empty line, and two requests in one packet.
    c.send(b"\xff\xfe\n");
    assert!(c.answer().contains("not JSON"));
    c.send(b"\n  \n");
    c.send(b"{\"execute\":\"version\",\"id\":1}\n{\"execute\":\"version\",\"id\":2}\n");
    assert!(c.answer().contains("\"id\":1") && c.answer().contains("\"id\":2"));
}

#[test]
fn a_line_without_end_or_measure_is_refused_and_the_rest_goes_on() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut c = Control::greeted(&control);
    let mut long = vec![b'x'; 1 << 20];
    long.push(b'\n');
    c.send(&long);
    assert!(c.answer().contains("longer than 65536 bytes"));
    assert_eq!(c.functions().len(), 2);
    // Exactly as long as may be: a request with much space in it.
    let request = "{\"execute\":\"version\"}";
    let padded = format!("{request}{}\n", " ".repeat(MAX_LINE - request.len() - 1));
    c.send(padded.as_bytes());
    assert!(c.answer().contains("return"));
    // Half a line, though it is whole as JSON: not executed, and said so.
    let mut half = Control::greeted(&control);
    half.send(b"{\"execute\":\"quit\"}");
    half.half_close();
    assert!(half.line().contains("the line does not end"));
    assert_eq!(half.line(), "");
    assert_eq!(c.functions().len(), 2);
}

#[test]
fn connections_are_counted_and_come_free_again() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut open: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| Control::greeted(&control))
        .collect();
    let mut one_more = Control::connect(&control);
    assert!(one_more.line().contains("too many connections"));
    let out = program()
        .args(["ctl", "functions", "--control", control.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("too many connections")
    );
    assert_eq!(open[0].functions().len(), 2);
    open.pop();
    let end = Instant::now() + process::LIMIT;
    while !Control::connect(&control)
        .line()
        .starts_with("{\"fwctl-emu\"")
    {
        assert!(Instant::now() < end, "a closed connection still counts");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn ctl_shows_a_table_or_json_and_quit_ends_the_process() {
    let folder = Folder::new();
    let (e, control) = start(&folder);
    let ctl = |args: &[&str]| {
        let out = program()
            .args(["ctl", "--control", control.to_str().unwrap()])
            .args(args)
            .output()
            .unwrap();
        (
            out.status.code(),
            String::from_utf8(out.stdout).unwrap(),
            String::from_utf8(out.stderr).unwrap(),
        )
    };
    let (code, table, _) = ctl(&["functions"]);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3));
    assert!(lines[0].starts_with("F   TRANSPORT"), "{}", lines[0]);
    assert!(
        lines[1].starts_with("0   vhost-user false     disabled"),
        "{}",
        lines[1]
    );
    let (code, json, _) = ctl(&["functions", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, all.as_array().unwrap().len()), (Some(0), 2));
    let silent = (Some(0), String::new(), String::new());
    assert_eq!(ctl(&["page-demand", "function=0", "count=0"]), silent);
    let version = format!("fwctl-emu: {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(ctl(&["version"]).1, version);
    let (code, _, err) = ctl(&["page-demand", "function"]);
    assert!(
        code == Some(2) && err.contains("is not NAME=VALUE"),
        "{err}"
    );
    let (code, _, err) = ctl(&["fly"]);
    assert!(
        code == Some(2) && err.contains("[possible values: amend, break,"),
        "{err}"
    );
    let (code, _, err) = ctl(&["health", "syndrome=COLD"]);
    assert!(
        code == Some(2) && err.contains("there are: 0, FW_INTERNAL_ERR, DEAD_IRISC"),
        "{err}"
    );
    // Wrong however the card is, or because of how it is.
    for (args, code, want) in [
        (
            &["link", "function=0"][..],
            2,
            "link needs up=0|1: pull or plug",
        ),
        (&["link", "up=1"], 2, "link needs function=N"),
        (
            &["link", "function=0", "up=1", "x=3"],
            2,
            "link has no argument \"x\"",
        ),
        (
            &["link", "function=0", "up=1", "up=0"],
            2,
            "up= is given twice",
        ),
        (&["link", "function=0", "up=2"], 2, "\"up\" is not 0 or 1"),
        (
            &["link", "function=9", "up=1"],
            1,
            "there is no such function",
        ),
        (
            &["temperature", "celsius=abc"],
            2,
            "\"celsius\" is not a number",
        ),
        (
            &["fault", "when=any", "then=panik"],
            2,
            "did you mean panic",
        ),
        (
            &["fault-clear", "id=9"],
            1,
            "there is no fault with this number",
        ),
        (&["register", "name=PAOSS"], 2, "did you mean PAOS"),
        (&["try", "command="], 2, "try needs command=COMMAND"),
        (
            &["try", "command=opcode=NOP function=9"],
            1,
            "there is no such function",
        ),
        (&["save"], 2, "save needs path=FILE"),
        (
            &["save", "path=/no/such/place"],
            1,
            "/no/such/place: No such file",
        ),
    ] {
        let (found, _, err) = ctl(args);
        assert_eq!(found, Some(code), "{args:?}: {err}");
        assert!(err.contains(want), "{args:?}: {err}");
    }
    let (code, help, _) = ctl(&["--help"]);
    assert!(code == Some(0) && help.contains("link         Plug or pull the cable"));
    assert!(
        help.contains("    ms=N                   for how long"),
        "{help}"
    );
    assert_eq!(ctl(&["quit"]).0, Some(0));
    let (status, _) = e.end();
    assert_eq!(status.code(), Some(0));
    assert!(!control.exists() && !folder.at("a").exists() && !folder.at("b").exists());
    let (code, _, err) = ctl(&["functions"]);
    assert!(code == Some(1) && err.contains("running?"), "{err}");
}

#[test]
fn a_signal_ends_it_while_clients_are_connected() {
    let folder = Folder::new();
    let (e, control) = start(&folder);
    let mut c = Control::greeted(&control);
    e.signal(Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));
    assert_eq!(c.line(), "");
}

#[test]
fn another_user_is_refused_by_the_file_and_if_that_lets_him_in_by_the_socket() {
    /// "nobody" of Debian, and of most others.
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    // The program where he can run it, whatever folders it was built in.
    let theirs = folder.at("fwctl-emu");
    fs::copy(program().get_program(), &theirs).unwrap();
    mode(&theirs, 0o755);
    mode(control.parent().unwrap(), 0o755);
    let ask = || {
        let mut command = Command::new(&theirs);
        command.uid(NOBODY).gid(NOBODY).current_dir("/").args([
            "ctl",
            "version",
            "--control",
            control.to_str().unwrap(),
        ]);
        // What another test's thread starts has the copy open for writing until it is on its way.
        let end = Instant::now() + process::LIMIT;
        let out = loop {
            match command.output() {
                Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                out => break out.unwrap(),
            }
        };
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let bits = fs::metadata(&control).unwrap().permissions().mode();
    assert_eq!(bits & 0o777, 0o600);
    let (code, said) = ask();
    assert!(
        code == Some(1) && said.contains("Permission denied"),
        "{said}"
    );
    mode(&control, 0o666);
    let (code, said) = ask();
    assert!(
        code == Some(1) && said.contains("this socket belongs to another user"),
        "{said}"
    );
    assert_eq!(Control::greeted(&control).functions().len(), 2);
}

#[test]
fn a_shell_is_told_of_verbs_arguments_and_names() {
    // clap makes words of arguments for these two; for fish there are the verbs.
    for (shell, word) in [
        ("bash", "type=PORT_CHANGE"),
        ("zsh", "type=PORT_CHANGE"),
        ("fish", "flight-dump"),
    ] {
        let out = program().args(["completions", shell]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(
            text.contains("flight-dump") && text.contains(word),
            "{shell}"
        );
    }
}

#[test]
fn files_that_come_with_requests_are_closed() {
    let folder = Folder::new();
    let (e, control) = start(&folder);
    let mut c = Control::greeted(&control);
    let file = fs::File::open("/dev/null").unwrap();
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", e.pid()))
            .unwrap()
            .count()
    };
    // Doors may open descriptors of their own for a moment after all sockets listen.
    assert!(c.ask("{\"execute\":\"version\"}").contains("return"));
    let mut before = open();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = open();
        if now == before {
            break;
        }
        before = now;
    }
    // The last one is kept until the next request is answered, the others not at all.
    for many in [1, 8, 20, 250] {
        for _ in 0..20 {
            c.send_with(
                b"{\"execute\":\"version\"}\n",
                &vec![file.as_raw_fd(); many],
            );
            assert!(c.answer().contains("return"), "{many}");
        }
        assert!(
            open() <= before + 1,
            "{many}: {} files, {before} before",
            open()
        );
    }
}

/// Arguments with which each verb that takes a number is content; `stopped` and `faults` know of none.
const CONTENT: &[(&str, &[&str])] = &[
    ("amend", &["id=1", "field=status", "value=1"]),
    ("break", &["when=uid=77", "times=1"]),
    ("config", &["function=0", "item=nv_crypto_conf"]),
    ("continue", &["id=1"]),
    ("delay", &["opcode=2061", "ms=0"]),
    ("eqs", &["function=0"]),
    ("event", &["function=0", "type=9", "sub-type=4"]),
    ("fault", &["when=uid=77", "then=lost", "times=1"]),
    ("fault-clear", &["id=77"]),
    ("hang", &["on=0"]),
    (
        "health",
        &["syndrome=1", "ext=18", "severity=3", "fatal=0", "cold=0"],
    ),
    ("link", &["function=0", "up=1"]),
    ("objects", &["function=0", "skip=0"]),
    ("page-demand", &["function=0", "count=0"]),
    ("pages", &["function=0"]),
    ("register", &["name=36896", "function=1"]),
    (
        "set-capability",
        &["function=0", "field=log_max_qp", "value=9"],
    ),
    (
        "set-register",
        &["function=1", "name=20486", "field=admin_status", "value=1"],
    ),
    ("start", &["ms=1"]),
    ("step", &["id=1"]),
    ("surprise-removal", &["function=1", "on=0"]),
    ("temperature", &["celsius=40"]),
    ("uctx", &["function=0"]),
];

/// What these verbs say of numbers that they have read.
const READ: [&str; 4] = [
    "\"return\"",
    "no command is stopped with this number",
    "there is no fault with this number",
    "the function is in its slot",
];

#[test]
fn a_number_is_one_in_json_and_as_decimal_or_hexadecimal_text() {
    const NUMBERS: [&str; 6] = ["N", "0|1", "0..7", "0..1000", "NAME|N", "N|NAME"];
    const TEXTS: [&str; 9] = [
        "FIELD",
        "FIELD=N …",
        "WHEN",
        "THEN",
        "NAME",
        "KIND",
        "HEX",
        "FILE",
        "COMMAND",
    ];
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut driver = Firmware::new(PciDriver::probe(&folder.at("a")).unwrap());
    driver.bring_up().unwrap();
    let mut c = Control::greeted(&control);
    for v in VERBS {
        for (name, form, _) in v.arguments {
            if TEXTS.contains(form) {
                continue;
            }
            assert!(NUMBERS.contains(form), "{} {name}: what is {form}?", v.name);
            let (_, words) = CONTENT.iter().find(|c| c.0 == v.name).unwrap();
            let mut arguments: serde_json::Map<_, _> =
                words.iter().map(|w| argument(w).unwrap()).collect();
            let text = arguments[*name].as_str().unwrap().to_owned();
            let number: u64 = text.parse().unwrap();
            for value in [json!(number), json!(text), json!(format!("{number:#x}"))] {
                arguments.insert((*name).to_owned(), value.clone());
                let said = c.ask(&json!({"execute": v.name, "arguments": arguments}).to_string());
                let read = READ.iter().any(|r| said.contains(r));
                assert!(read, "{} {name}={value}: {said}", v.name);
            }
            for value in [json!("1x"), json!("0x"), json!(1.5), json!(true)] {
                arguments.insert((*name).to_owned(), value.clone());
                let said = c.ask(&json!({"execute": v.name, "arguments": arguments}).to_string());
                assert!(
                    said.contains("\"error\""),
                    "{} {name}={value}: {said}",
                    v.name
                );
            }
        }
    }
    for (count, read) in [
        ("-1", true),
        ("-0x2", true),
        ("--1", false),
        ("+1", false),
        ("0x-1", false),
    ] {
        let request =
            json!({"execute": "page-demand", "arguments": {"function": 0, "count": count}});
        let said = c.ask(&request.to_string());
        assert_eq!(said.contains("\"return\""), read, "{count}: {said}");
    }
}

#[test]
fn ctl_keeps_data_of_digits_as_they_stand() {
    let folder = Folder::new();
    let (e, control) = start(&folder);
    let event = |data: &str| {
        let out = program()
            .args([
                "ctl",
                "--control",
                control.to_str().unwrap(),
                "event",
                "function=1",
            ])
            .args(["type=CMD", &format!("data={data}")])
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    // The first would be a JSON number, the second one of another value, the third none.
    for data in ["10000000", "1e10", "00112233"] {
        assert_eq!(event(data), (Some(0), String::new()), "{data}");
    }
    let (code, said) = event("123");
    assert!(code == Some(2) && said.contains("is not hex"), "{said}");
    drop(e);
    for (word, value) in [
        ("data=10000000", "10000000"),
        ("data=1e10", "1e10"),
        ("data=\"12\"", "12"),
        ("at=", ""),
    ] {
        assert_eq!(argument(word).unwrap().1, json!(value));
    }
}

/// Clients at a time, and faults that each adds.
const CLIENTS: usize = 4;
const ADDED: usize = 500;

#[test]
fn each_of_several_clients_is_told_what_its_own_request_did() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let client = |n: usize| {
        let mut c = Control::greeted(&control);
        let mut ask = |verb: &str, arguments: serde_json::Value, key: &str| {
            let said = c.ask(&json!({"execute": verb, "arguments": arguments}).to_string());
            let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
            let number = answer["return"][key].as_u64();
            number.unwrap_or_else(|| panic!("{verb}: {said}"))
        };
        let mut ids = Vec::new();
        let mut cleared = 0;
        for k in 0..ADDED {
            let fault = json!({"when": format!("uid={n}"), "then": "lost"});
            ids.push(ask("fault", fault, "id"));
            // Half of them only what all have added.
            if k % 2 == n % 2 {
                cleared += ask("fault-clear", json!({}), "cleared");
            }
        }
        (ids, cleared)
    };
    let all: Vec<_> = std::thread::scope(|s| {
        let threads: Vec<_> = (0..CLIENTS).map(|n| s.spawn(move || client(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut ids: Vec<_> = all.iter().flat_map(|a| a.0.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CLIENTS * ADDED, "two were told the same number");
    let mut c = Control::greeted(&control);
    let left: serde_json::Value = serde_json::from_str(&c.ask("{\"execute\":\"faults\"}")).unwrap();
    let left = left["return"].as_array().unwrap().len() as u64;
    let cleared: u64 = all.iter().map(|a| a.1).sum();
    assert_eq!(cleared + left, (CLIENTS * ADDED) as u64);
}

/// A name that is nearly one, in each place that takes a name; and the name that may have been meant.
const NEARLY: &[(&[&str], &str)] = &[
    (&["event", "function=0", "type=PORT_CHANG"], "PORT_CHANGE"),
    (&["delay", "opcode=NOPP", "ms=1"], "NOP"),
    (&["health", "syndrome=FW_INTERNAL_ER"], "FW_INTERNAL_ERR"),
    (&["objects", "kind=mkei"], "mkey"),
    (&["register", "name=PAOSS"], "PAOS"),
    (
        &[
            "set-register",
            "function=0",
            "name=PAOSS",
            "field=x",
            "value=1",
        ],
        "PAOS",
    ),
    (
        &[
            "set-register",
            "function=0",
            "name=PAOS",
            "field=admin_statu",
            "value=1",
        ],
        "admin_status",
    ),
    (
        &[
            "set-capability",
            "function=0",
            "field=log_max_pq",
            "value=1",
        ],
        "log_max_qp",
    ),
    (
        &[
            "set-capability",
            "function=0",
            "type=generall",
            "field=log_max_qp",
            "value=1",
        ],
        "general",
    ),
    (&["try", "command=opcode=QUERY_CQQ"], "QUERY_CQ"),
    (&["break", "when=opcod=NOP"], "opcode"),
    (&["break", "when=register=MNVDAA"], "MNVDA"),
    (&["break", "when=item=nv_crypto_con"], "nv_crypto_conf"),
    (&["fault", "when=any", "then=panik"], "panic"),
    (&["fault", "when=any", "then=delivery=TOK_ER"], "TOK_ERR"),
    (&["fault", "when=any", "then=status=BAD_RESS"], "BAD_RES"),
    (
        &["fault", "when=any", "then=health=FW_INTERNAL_ER"],
        "FW_INTERNAL_ERR",
    ),
    (
        &["fault", "when=any", "then=raise=PORT_CHANG"],
        "PORT_CHANGE",
    ),
    (
        &["fault", "when=any", "then=event-type=PORT_CHANG"],
        "PORT_CHANGE",
    ),
    (&["fault", "when=opcode=NOP state=upp", "then=lost"], "up"),
    (
        &[
            "fault",
            "when=item=nv_crypto_conf",
            "then=set.crypto_policy=FIPS_LEVEL_22",
        ],
        "FIPS_LEVEL_2",
    ),
];

#[test]
fn what_may_have_been_meant_is_told_for_each_verb_argument_and_name() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut c = Control::greeted(&control);
    let mut ask = |verb: &str, arguments: &serde_json::Value| {
        let request = json!({"execute": verb, "arguments": arguments});
        c.ask(&request.to_string())
    };
    for v in VERBS {
        let said = ask(&format!("{}x", v.name), &json!({}));
        assert!(
            said.contains("; did you mean ") && said.contains(v.name),
            "{said}"
        );
        for (name, ..) in v.arguments {
            let said = ask(v.name, &json!({format!("{name}x"): 1}));
            let meant = format!("has no argument \\\"{name}x\\\"; did you mean {name}");
            assert!(said.contains(&meant), "{}: {said}", v.name);
        }
    }
    for (words, meant) in NEARLY {
        let pairs = words[1..].iter().map(|w| argument(w).unwrap());
        let arguments: serde_json::Map<_, _> = pairs.collect();
        let said = ask(words[0], &arguments.into());
        let (_, near) = said
            .split_once("; did you mean ")
            .unwrap_or_else(|| panic!("{words:?}: {said}"));
        assert!(near.contains(meant), "{words:?}: {said}");
    }
    // The card has two functions.
    for (when, then) in [("function=2", "lost"), ("at=5 function=2", "hang")] {
        let said = ask("fault", &json!({"when": when, "then": then}));
        assert!(
            said.contains("function=2: there is no such function; there are 2"),
            "{said}"
        );
    }
}

#[test]
fn what_happens_by_itself_is_told() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut listener = Control::greeted(&control);
    let mut c = Control::greeted(&control);
    let mut told = |name: &str| {
        let mut event: serde_json::Value = serde_json::from_str(&listener.line()).unwrap();
        assert!(
            EVENTS.iter().any(|e| e.0 == name),
            "{name} is not in the table"
        );
        assert_eq!(event["event"], name, "{event}");
        let data = event["data"].take();
        let mut fields: Vec<_> = EVENTS
            .iter()
            .find(|e| e.0 == name)
            .unwrap()
            .1
            .split(", ")
            .collect();
        fields.sort_unstable();
        let keys: Vec<_> = data.as_object().unwrap().keys().collect();
        assert_eq!(keys, fields, "{name}");
        data
    };
    // Function 1 is the one on vfio-user; a client of it is told, and what its going does.
    let socket = folder.at("a");
    let client = PciDriver::probe(&socket).unwrap();
    let came = json!({"function": 1, "socket": socket.to_str().unwrap()});
    assert_eq!(told("CLIENT_CONNECTED"), came);
    drop(client);
    assert_eq!(told("RESET")["function"], 1);
    assert_eq!(told("CLIENT_GONE"), came);
    let ask = |c: &mut Control, verb: &str, arguments: serde_json::Value| {
        let said = c.ask(&json!({"execute": verb, "arguments": arguments}).to_string());
        // Its own connection is told as well.
        assert!(
            said.contains("\"return\"") || said.contains("\"event\""),
            "{said}"
        );
    };
    ask(
        &mut c,
        "health",
        json!({"syndrome": "HW_FATAL_ERR", "severity": 2}),
    );
    let wanted = json!({
        "syndrome": 8, "name": "HW_FATAL_ERR", "ext": 0, "severity": 2, "fatal": false, "cold": false,
    });
    assert_eq!(told("HEALTH"), wanted);
    ask(
        &mut c,
        "fault",
        json!({"when": "at=0 function=1", "then": "panic"}),
    );
    // At a deadline nobody can tell whose state it was.
    assert_eq!(told("PANIC"), json!({"function": null}));
    assert_eq!(told("RESET")["function"], 0);
    assert_eq!(told("RESET")["function"], 1);
}

/// Verbs with arguments that change nothing, or little; and of which there is something to show.
const HARMLESS: &[(&str, &[&str])] = &[
    ("break", &["when=uid=77"]),
    ("config", &["item=nv_crypto_conf"]),
    ("continue", &[]),
    ("counters", &[]),
    ("fault", &["when=uid=77", "then=lost"]),
    ("fault-clear", &["id=1"]),
    ("faults", &[]),
    ("functions", &[]),
    ("link", &["function=0", "up=1"]),
    ("metrics", &[]),
    ("pages", &[]),
    ("recent", &[]),
    ("register", &["name=MGIR"]),
    ("try", &["command=opcode=NOP"]),
    ("version", &[]),
];

#[test]
fn answers_are_what_the_table_says() {
    let folder = Folder::new();
    let (_e, control) = start(&folder);
    let mut driver = Firmware::new(PciDriver::probe(&folder.at("a")).unwrap());
    driver.bring_up().unwrap();
    let mut c = Control::greeted(&control);
    let keys = |v: &serde_json::Value| -> Vec<String> {
        let mut all: Vec<_> = v.as_object().unwrap().keys().cloned().collect();
        all.sort_unstable();
        all
    };
    for (name, words) in HARMLESS {
        let arguments: serde_json::Map<_, _> = words.iter().map(|w| argument(w).unwrap()).collect();
        let said = c.ask(&json!({"execute": name, "arguments": arguments}).to_string());
        let answer = serde_json::from_str::<serde_json::Value>(&said).unwrap()["return"].take();
        let verb = VERBS.iter().find(|v| v.name == *name).unwrap();
        let sorted = |names: &[&str]| {
            let mut all: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
            all.sort_unstable();
            all
        };
        match verb.answer {
            Answer::Nothing => assert_eq!(answer, json!({}), "{name}: {said}"),
            Answer::Object(names) => assert_eq!(keys(&answer), sorted(names), "{name}"),
            Answer::Rows(names) => {
                let first = &answer.as_array().unwrap()[0];
                // An item in each store has columns of its own.
                let own = ["store", "item", "status", "value"];
                let names = if *name == "config" { &own[..] } else { names };
                assert_eq!(keys(first), sorted(names), "{name}");
            }
            Answer::Text(_) => assert!(answer.is_string(), "{name}: {said}"),
        }
    }
}
