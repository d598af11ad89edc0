// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A client of the control socket: lines of it, each with a file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::Shutdown,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use fw_model::{Card, CardOptions, EventPath, MemStore, record::Head};
use fwctl_emu::{
    clients::Clients,
    control::{Events, Server, VERBS},
    owner::Owner,
    record::FlightRecorder,
};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use vmm_sys_util::sock_ctrl_msg::ScmSocket as _;

use super::{Target, profile};
use crate::dictionary;

/// The target.
pub static CONTROL: Target = Target {
    name: "control",
    about: "a client of the control socket, and the files that it passes",
    max_len: 2048,
    hits: true,
    run,
    record: None,
    dictionary: words,
    seeds,
};

/// The fault that makes the model fail on purpose: it would be taken for a failure.
const PANIC: &[u8] = b"panic";
/// How long the server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of a card of its own.
fn server() -> Server {
    let mut card = Card::new(profile(), CardOptions::default(), &BTreeMap::new());
    card.add_function(EventPath::EventQueues);
    card.add_function(EventPath::Channel);
    let owner = Owner::new(card, Box::new(MemStore::default()));
    let events = Events::default();
    let told = events.clone();
    owner.watch(Box::new(move |what| told.happened(what)));
    Server {
        owner,
        clients: Clients::new(|| {}),
        events,
        quit: Box::new(|| {}),
        quitting: AtomicBool::new(false),
        stored: false,
    }
}

/// A flight recorder is two threads: not each input has one.
fn with_flight(server: &Server) {
    let start = |card: &Card| {
        let head = Head {
            program: "fuzz".into(),
            profile: "fuzz".into(),
            overlay: None,
            card: card.save().expect("saved"),
        };
        FlightRecorder::start(card, profile(), head, super::files::folder().into())
    };
    server.owner.keep(start).expect("a flight recorder");
}

/// A file with a card in it that may be loaded, or an empty one.
fn file(server: &Server, filled: bool) -> File {
    let flags = MemfdFlags::CLOEXEC;
    let mut file = File::from(memfd_create("fw-fuzz", flags).expect("memory"));
    if filled {
        let saved = server.owner.with_card(|c, _| c.save()).expect("saved");
        file.write_all(&saved).expect("written");
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).expect("a place");
    }
    file
}

/// Handles an input: how, and a line each.
///
/// # Panics
/// If a line is answered with anything but a result or an error, or not at all.
pub fn run(data: &[u8]) {
    let Some((how, lines)) = data.split_first() else {
        return;
    };
    // Also as JSON may write it.
    let has = |what: &[u8]| lines.windows(what.len()).any(|w| w == what);
    if has(PANIC) || has(b"\\u") {
        return;
    }
    let server = Arc::new(server());
    if how & 1 != 0 {
        with_flight(&server);
    }
    crate::begins();
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let of_thread = server.clone();
    let thread = thread::spawn(move || of_thread.talk(theirs));
    let from = ours.try_clone().expect("a socket");
    // Neither side can wait for the other to read.
    let reader = thread::spawn(move || answers(from));
    let mut asked = 0;
    // A line comes with a file, whatever it is: the server opens none on this machine then.
    for line in lines.split_inclusive(|b| *b == b'\n') {
        asked += usize::from(!line.iter().all(u8::is_ascii_whitespace));
        let file = file(&server, how & 2 != 0);
        ours.send_with_fds(&[line], &[file.as_raw_fd()])
            .expect("a line is sent");
    }
    let _ = ours.shutdown(Shutdown::Write);
    let answered = reader.join().expect("the answers are read");
    assert_eq!(answered, asked, "answers");
    let ended = thread.join();
    assert!(ended.is_ok(), "the connection's thread panicked");
}

/// Counts the answers up to the end of the connection.
fn answers(from: UnixStream) -> usize {
    let mut answered = 0;
    for line in BufReader::new(from).lines() {
        let line = line.expect("a whole line in time");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let has = |what| line.get(what).is_some();
        if has("event") || has("fwctl-emu") {
            continue;
        }
        assert!(has("return") != has("error"), "{line}");
        answered += 1;
    }
    answered
}

fn words() -> Vec<Vec<u8>> {
    let verbs = VERBS.iter().map(|v| v.name.as_bytes().to_vec());
    let arguments = VERBS
        .iter()
        .flat_map(|v| v.arguments)
        .map(|a| a.0.as_bytes().to_vec());
    let mut all: Vec<_> = verbs.chain(arguments).collect();
    all.extend(["\"execute\":\"", "\"arguments\":{", "\"id\":"].map(|w| w.as_bytes().to_vec()));
    all.extend(dictionary::names());
    dictionary::unique(all)
}

/// Each verb alone, and with each of its arguments.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for v in VERBS {
        let arguments = v.arguments.iter();
        let values = [
            "0",
            "1",
            "\"NOP\"",
            "\"PAOS\"",
            "\"opcode=NOP\"",
            "\"status=BAD_RES\"",
        ];
        for value in values {
            let all: Vec<_> = arguments
                .clone()
                .map(|a| format!("\"{}\":{value}", a.0))
                .collect();
            let line = format!(
                "\u{3}{{\"execute\":\"{}\",\"arguments\":{{{}}},\"id\":1}}\n",
                v.name,
                all.join(",")
            );
            seeds.push(line.into_bytes());
            if all.is_empty() {
                break;
            }
        }
    }
    let fault = "\0".to_owned()
        + r#"{"execute":"fault","arguments":{"when":"opcode=ALLOC_PD function=0","then":"status=BAD_RES","times":3}}
{"execute":"try","arguments":{"when":"opcode=QUERY_HCA_CAP op_mod=1"}}
{"execute":"faults"}
"#;
    seeds.push(fault.into_bytes());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_lines_than_a_socket_holds_are_all_answered() {
        run(&[&[0], &b"1\n".repeat(1023)[..]].concat());
    }
}
