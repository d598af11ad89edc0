// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `serve --qmp` with a stand-in for QEMU: the machine is stopped while a command is, and runs on after it; one
//! that stood already stays as it was. The scenario `debugging` does it with QEMU.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Control, Emulator, Folder, LIMIT};
use serde_json::{Value, json};

/// How long nothing more may come.
const QUIET: Duration = Duration::from_millis(300);

/// One connection, as docs/interop/qmp-spec has it: a greeting, then an answer for each command, events between.
fn converse(stream: UnixStream, running: bool, told: &Sender<String>) {
    let mut to = stream.try_clone().unwrap();
    let mut say = |v: Value| writeln!(to, "{v}").is_ok();
    say(
        json!({"QMP": {"version": {"qemu": {"major": 10, "minor": 1, "micro": 0}}, "capabilities": []}}),
    );
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        let name = request["execute"].as_str().unwrap().to_owned();
        let answer = match name.as_str() {
            "query-status" => {
                json!({"running": running, "status": if running { "running" } else { "paused" }})
            }
            _ => json!({}),
        };
        if name == "stop" {
            say(json!({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}));
        }
        say(json!({ "return": answer }));
        told.send(name).unwrap();
    }
}

/// A stand-in for QEMU's socket; what it is told.
fn machine(path: &Path, running: bool) -> Receiver<String> {
    let listener = UnixListener::bind(path).unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            converse(stream.unwrap(), running, &tell);
        }
    });
    told
}

/// What the machine is told: while a NOP is stopped, and then.
fn told(running: bool) -> (Vec<String>, Vec<String>) {
    let folder = Folder::new();
    let path = |name: &str| folder.at(name).to_str().unwrap().to_owned();
    let machine = machine(&folder.at("qmp"), running);
    let (socket, control, qmp) = (path("s"), path("c"), path("qmp"));
    let _e = Emulator::start(&["--vfio-user", &socket, "--control", &control, "--qmp", &qmp]);
    let mut driver = Firmware::new(PciDriver::probe(&folder.at("s")).unwrap());
    driver.bring_up().unwrap();
    let mut c = Control::greeted(&folder.at("c"));
    let set = json!({"execute": "break", "arguments": {"when": "opcode=NOP"}});
    assert!(c.ask(&set.to_string()).contains("return"));
    let nop = Command::new(opcode::NOP);
    driver.mailbox.post(0, nop.inbox(), 16).unwrap();
    driver.mailbox.ring(1).unwrap();
    // So many, and then nothing for a while.
    let all = |count: usize| {
        let mut all: Vec<_> = (0..count)
            .map(|_| machine.recv_timeout(LIMIT).unwrap())
            .collect();
        all.extend(machine.recv_timeout(QUIET));
        all
    };
    let stopped = all(if running { 3 } else { 2 });
    assert!(driver.mailbox.answer(0, 16).unwrap().is_none());
    assert!(
        c.ask("{\"execute\":\"continue\"}")
            .contains("\"continued\":1")
    );
    let then = all(usize::from(running));
    (stopped, then)
}

#[test]
fn a_machine_stands_while_a_command_is_stopped_and_runs_on() {
    let (stopped, then) = told(true);
    assert_eq!(stopped, ["qmp_capabilities", "query-status", "stop"]);
    assert_eq!(then, ["cont"]);
}

#[test]
fn a_machine_that_stood_already_stays_as_it_was() {
    let (stopped, then) = told(false);
    assert_eq!(stopped, ["qmp_capabilities", "query-status"]);
    assert_eq!(then, [""; 0]);
}
