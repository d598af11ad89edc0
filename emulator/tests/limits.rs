// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! docs/limits.md has a row for each limit in the sources and names tests that there are; and the limits that
//! have no better place for theirs.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use fw_model::{
    Caller, Card, CardOptions, Effect, Effects, EventPath, Input, MemStore, NoMemory, Profile,
    Time,
    limits::{MAX_IN_FLIGHT, MAX_LOG_EQ_SIZE},
    syndrome::Syndrome,
};
use fwctl_emu::{
    clients::Clients,
    control,
    memory::Files,
    owner::Owner,
    qmp::Client,
    trace::{Broken, MAX_ENTRY, Reader, VERSION},
    virtio::{Door, limits::MAX_HELD},
};
use fwctl_proto::opcode;
use host_driver::mailbox::Command;
use serde_json::json;
use sources::{repository, sources};
use vmm_sys_util::tempdir::TempDir;

/// Numbers named `MAX_…` in the sources: file and name.
fn named() -> BTreeSet<(String, String)> {
    let repo = repository();
    let mut all = BTreeSet::new();
    for folder in ["emulator/src", "fw-model/src", "proto/src", "uapi/src"] {
        for path in sources(&repo.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let file = path.strip_prefix(&repo).unwrap().display().to_string();
            // What is behind is a test's own.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for line in code.lines() {
                let Some((_, rest)) = line.split_once("const MAX_") else {
                    continue;
                };
                let (name, kind) = rest.split_once(':').unwrap();
                // A field of a layout has its bits, and is no limit of ours.
                if !line.trim_start().starts_with("//") && !kind.trim_start().starts_with("Field<")
                {
                    all.insert((file.clone(), format!("MAX_{name}")));
                }
            }
        }
    }
    all
}

/// The rows of a document's tables: cells without their spaces.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let row = |l| -> Vec<&str> { str::split(l, '|').map(str::trim).collect() };
    let all = text.lines().filter(|l| l.starts_with("| `")).map(row);
    all.map(|c| c[1..c.len() - 1].to_vec()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn each_limit_has_a_row_and_each_row_a_test() {
    let repo = repository();
    let text = fs::read_to_string(repo.join("docs/limits.md")).unwrap();
    let named = named();
    assert!(named.len() > 70, "{named:?}");
    let mut listed = BTreeMap::new();
    for row in rows(&text) {
        let (names, files) = (row[0], row[1]);
        let limited = row.len() == 4;
        for name in quoted(names) {
            // A second file of a row may leave out the folder of the first.
            let mut places = files.split(", ");
            let first = places.next().unwrap();
            let folder = first.rsplit_once('/').unwrap().0;
            let all: Vec<String> = std::iter::once(first.to_owned())
                .chain(places.map(|p| match p.split('/').next() {
                    Some("emulator" | "fw-model" | "uapi") => p.to_owned(),
                    _ => format!("{folder}/{p}"),
                }))
                .collect();
            for place in all {
                listed.insert((place, name.to_owned()), limited);
            }
        }
        if !limited {
            continue;
        }
        // "FILE `test`, FILE `test`": each file there is, and has the test.
        for test in row[3].split(", ") {
            let (file, name) = test.split_once(' ').unwrap_or((test, ""));
            let code = fs::read_to_string(repo.join(file));
            let code = code.unwrap_or_else(|e| panic!("{names}: {file}: {e}"));
            assert!(quoted(name).next().is_some(), "{names}: {file}: which test");
            for name in quoted(name) {
                let test = code.split("#[test]\n").skip(1).any(|behind| {
                    let line = behind.lines().find(|l| l.contains("fn "));
                    line.is_some_and(|l| l.contains(&format!("fn {name}()")))
                });
                assert!(test, "{names}: {file}: {name}");
            }
        }
    }
    let has = |file: &str, name: &str| {
        // A row may name a folder.
        let mut all = listed.keys().filter(|l| l.1 == name);
        all.any(|l| l.0 == file || l.0.ends_with('/') && file.starts_with(&l.0))
    };
    let missing: Vec<_> = named.iter().filter(|(f, n)| !has(f, n)).collect();
    assert!(
        missing.is_empty(),
        "docs/limits.md has no row of {missing:?}"
    );
    // And no row of what is gone.
    let there = |file: &str, name: &str| {
        let known = |l: &&(String, String)| {
            l.1 == name && (l.0 == file || file.ends_with('/') && l.0.starts_with(file))
        };
        named.iter().any(|l| known(&l))
    };
    let gone: Vec<_> = listed
        .keys()
        .filter(|(f, n)| n.starts_with("MAX_") && !there(f, n))
        .collect();
    assert!(
        gone.is_empty(),
        "docs/limits.md has rows of what is not there: {gone:?}"
    );
}

#[test]
fn a_trace_that_says_more_than_max_entry_is_damaged() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("trace");
    let read = |len: usize| {
        let version = VERSION.to_le_bytes();
        let bytes = [
            b"fwctltrc",
            &version[..],
            &(len as u32).to_le_bytes(),
            &(!(len as u32)).to_le_bytes(),
            b"short",
        ]
        .concat();
        fs::write(&path, bytes).unwrap();
        Reader::open(&path).unwrap().next().unwrap().unwrap_err()
    };
    assert!(matches!(read(MAX_ENTRY + 1), Broken::Damaged(12)));
    assert!(matches!(read(u32::MAX as usize), Broken::Damaged(12)));
    assert!(matches!(read(0), Broken::Damaged(12)));
    assert!(
        matches!(read(MAX_ENTRY), Broken::Cut(12)),
        "it could be one"
    );
}

#[test]
fn requests_that_are_held_end_at_max_held() {
    let profile = Profile::builtin("minimal").unwrap();
    let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
    let owner = Owner::new(card, Box::new(MemStore::default()));
    let f = owner.add_function(EventPath::Channel).unwrap();
    let door = Door::new(owner, f, "test", Clients::new(|| {}), Files::Sealed);
    let keep = |n: usize| door.rings().keep(n as u16, &mut Vec::new()).is_some();
    // One more than the firmware takes, which it refuses as busy.
    assert_eq!(MAX_HELD, MAX_IN_FLIGHT + 1);
    assert!((0..MAX_HELD).all(keep));
    assert!(!keep(MAX_HELD));
    door.rings().stopped(0);
    assert!(keep(0), "those of a queue that stopped wait no more");
}

#[test]
fn an_event_queue_ends_at_max_log_eq_size() {
    // The capability alone would let a larger one be.
    let text = include_str!("../../fw-model/profiles/minimal.toml");
    let allowed = format!("log_max_eq_sz = {}", MAX_LOG_EQ_SIZE + 2);
    let text = text.replace(&format!("log_max_eq_sz = {MAX_LOG_EQ_SIZE}"), &allowed);
    assert!(text.contains(&allowed));
    let profile = Profile::parse(&text, "test").unwrap();
    let mut card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
    let function = card.add_function(EventPath::Channel).unwrap();
    let mut fx = Effects::new();
    let mut answer = |command: Command| -> Vec<u8> {
        fx.clear();
        let input = Input::Command {
            function,
            tag: 1,
            caller: Caller::Driver,
            inbox: command.inbox(),
            outbox_len: 16,
        };
        card.submit(input, Time::ZERO, &NoMemory, &mut fx);
        let reply = fx.iter().find_map(|e| match e {
            Effect::Reply { outbox, .. } => Some(fx.bytes(*outbox).to_vec()),
            _ => None,
        });
        reply.unwrap()
    };
    let pages: Vec<u64> = (1..49).map(|n| n * 4096).collect();
    let give = Command::new(opcode::MANAGE_PAGES).op_mod(1);
    let give = give.set("input_num_entries", 48).list(&pages);
    for command in [
        Command::new(opcode::ENABLE_HCA),
        give,
        Command::new(opcode::INIT_HCA),
    ] {
        assert_eq!(answer(command)[0], 0);
    }
    let uar = answer(Command::new(opcode::ALLOC_UAR))[11];
    // In one page of 4 KiB << 31.
    let mut create = |log_size: u8| {
        let command = Command::new(opcode::CREATE_EQ)
            .set("eq_context_entry.log_eq_size", log_size.into())
            .set("eq_context_entry.log_page_size", 31)
            .set("eq_context_entry.uar_page", uar.into())
            .list(&[0]);
        let out = answer(command);
        u32::from_be_bytes(out[4..8].try_into().unwrap())
    };
    let refused = Syndrome::EqSize.code();
    assert_eq!(create(MAX_LOG_EQ_SIZE), 0);
    assert_eq!([1, 2].map(|n| create(MAX_LOG_EQ_SIZE + n)), [refused; 2]);
}

/// Writes to whoever listens; false if he has had enough.
type Put<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// Somebody who talks as QEMU's or our control socket: a greeting, and then what `says` makes of each line.
fn talker(path: &Path, greeting: &'static str, says: impl Fn(&str, Put<'_>) + Send + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _): (UnixStream, _) = listener.accept().unwrap();
        writeln!(stream, "{greeting}").unwrap();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            // Whoever listens may have had enough.
            says(&line.unwrap_or_default(), &mut |bytes| {
                stream.write_all(bytes).is_ok()
            });
        }
    });
}

/// `MAX_LINE` and `MAX_EVENTS` of emulator/src/qmp.rs.
const QMP_LINE: usize = 1 << 20;
const QMP_EVENTS: usize = 1000;

#[test]
fn a_machine_monitor_that_talks_without_end_is_not_listened_to() {
    let dir = TempDir::new().unwrap();
    let ask = |name: &str, says: fn(Put<'_>)| {
        let path = dir.as_path().join(name);
        talker(&path, "{\"QMP\": {}}", move |line, put| {
            if line.contains("qmp_capabilities") {
                put(b"{\"return\": {}}\n");
            } else {
                says(put);
            }
        });
        let mut client = Client::connect(&path).unwrap();
        client.execute("query-status", &json!({}))
    };
    fn events(put: Put<'_>, count: usize) {
        (0..count).all(|_| put(b"{\"event\": \"STOP\"}\n"));
        put(b"{\"return\": 7}\n");
    }
    let one_less = ask("a", |put| events(put, QMP_EVENTS - 1)).unwrap();
    assert_eq!(one_less, 7);
    let too_many = ask("b", |put| events(put, QMP_EVENTS)).unwrap_err();
    assert_eq!(too_many.to_string(), "query-status: no answer");
    fn long(put: Put<'_>, bytes: usize) {
        let frame = "{\"return\": \"\"}\n".len();
        put(format!("{{\"return\": \"{}\"}}\n", "x".repeat(bytes - frame)).as_bytes());
    }
    let whole = ask("c", |put| long(put, QMP_LINE)).unwrap();
    assert!(whole.as_str().is_some_and(|s| s.len() > QMP_LINE - 32));
    // A line without its end, which is cut.
    assert!(ask("d", |put| long(put, QMP_LINE + 2)).is_err());
}

/// `MAX_ANSWER` of emulator/src/control/client.rs.
const ANSWER: usize = 16 << 20;

#[test]
fn ctl_does_not_listen_for_ever() {
    let dir = TempDir::new().unwrap();
    let ask = |name: &str, bytes: usize| {
        let path = dir.as_path().join(name);
        talker(&path, "{\"fwctl-emu\": {}}", move |_, put| {
            let event = format!("{{\"event\": \"{}\"}}\n", "x".repeat(1 << 16));
            (0..bytes / event.len()).all(|_| put(event.as_bytes()));
            put(b"{\"return\": 7}\n");
        });
        control::ask(&path, "functions", Vec::new(), true)
    };
    assert_eq!(ask("a", ANSWER - (1 << 18)).unwrap(), "7\n");
    let said = ask("b", ANSWER + (1 << 18)).unwrap_err().to_string();
    // Cut in the middle of a line, or behind one.
    assert!(
        said.contains("no answer") || said.contains("EOF while parsing"),
        "{said}"
    );
}
