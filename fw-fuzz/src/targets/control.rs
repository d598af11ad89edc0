// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Lines of the control socket.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use fw_model::{Card, CardOptions, EventPath, MemStore};
use fwctl_emu::{
    clients::Clients,
    control::{Events, Server, VERBS},
    owner::Owner,
};

use super::{Target, profile};
use crate::dictionary;

/// The target.
pub static CONTROL: Target = Target {
    name: "control",
    about: "lines of the control socket",
    max_len: 2048,
    hits: true,
    run,
    record: None,
    dictionary: words,
    seeds,
};

/// What names a file on this machine: a fuzzer must not write there.
const FILE: &[u8] = b"path";
/// The fault that makes the model fail on purpose: it would be taken for a failure.
const PANIC: &[u8] = b"panic";

fn server() -> Server {
    let mut card = Card::new(profile(), CardOptions::default(), &BTreeMap::new());
    card.add_function(EventPath::EventQueues);
    card.add_function(EventPath::Channel);
    Server {
        owner: Owner::new(card, Box::new(MemStore::default())),
        clients: Clients::new(|| {}),
        events: Events::default(),
        quit: Box::new(|| {}),
        quitting: AtomicBool::new(false),
        stored: false,
    }
}

/// Handles an input: a line each.
///
/// # Panics
/// If an answer is neither a result nor an error.
pub fn run(data: &[u8]) {
    // Also as JSON may write it.
    let has = |what: &[u8]| data.windows(what.len()).any(|w| w == what);
    if has(FILE) || has(PANIC) || has(b"\\u") {
        return;
    }
    let server = server();
    crate::begins();
    for line in data.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let answer = server.answer(line, None);
        let one = answer.get("return").is_some() != answer.get("error").is_some();
        assert!(one, "{answer}");
    }
    drop(Arc::clone(&server.owner));
}

fn words() -> Vec<Vec<u8>> {
    let verbs = VERBS.iter().map(|v| v.name.as_bytes().to_vec());
    let arguments = VERBS
        .iter()
        .flat_map(|v| v.arguments)
        .map(|a| a.0.as_bytes().to_vec());
    let mut all: Vec<_> = verbs.chain(arguments).filter(|w| w != FILE).collect();
    all.extend(["\"execute\":\"", "\"arguments\":{", "\"id\":"].map(|w| w.as_bytes().to_vec()));
    all.extend(dictionary::names());
    dictionary::unique(all)
}

/// Each verb alone, and with each of its arguments.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for v in VERBS {
        let arguments = v.arguments.iter().filter(|a| a.0.as_bytes() != FILE);
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
                "{{\"execute\":\"{}\",\"arguments\":{{{}}},\"id\":1}}\n",
                v.name,
                all.join(",")
            );
            seeds.push(line.into_bytes());
            if all.is_empty() {
                break;
            }
        }
    }
    let fault = r#"{"execute":"fault","arguments":{"when":"opcode=ALLOC_PD function=0","then":"status=BAD_RES","times":3}}
{"execute":"try","arguments":{"when":"opcode=QUERY_HCA_CAP op_mod=1"}}
{"execute":"faults"}
"#;
    seeds.push(fault.as_bytes().to_vec());
    seeds
}
