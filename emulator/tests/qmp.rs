// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `serve --qmp` with a stand-in for QEMU: the machine is stopped while a command is, and runs on after it, also if
//! the emulator ends meanwhile; one that stood already stays as it was. The scenario `debugging` does it with QEMU.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::ExitStatus,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Control, Emulator, Folder, LIMIT};
use rustix::process::Signal;
use serde_json::{Value, json};

/// How long nothing more may come.
const QUIET: Duration = Duration::from_millis(300);

/// How the stand-in is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vm {
    Runs,
    Stands,
    /// It runs, and once it is stopped it answers nothing more.
    Mute,
}

/// One connection, as docs/interop/qmp-spec has it: a greeting, then an answer for each command, events between.
fn converse(stream: UnixStream, vm: Vm, told: &Sender<String>) {
    let running = vm != Vm::Stands;
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
        if vm == Vm::Mute && name == "cont" {
            told.send(name).unwrap();
            continue;
        }
        if name == "stop" {
            say(json!({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 0}}));
        }
        say(json!({ "return": answer }));
        told.send(name).unwrap();
    }
}

/// A stand-in for QEMU's socket; what it is told.
fn machine(path: &Path, vm: Vm) -> Receiver<String> {
    let listener = UnixListener::bind(path).unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            converse(stream.unwrap(), vm, &tell);
        }
    });
    told
}

/// An emulator whose NOP in slot 0 is stopped.
struct Stopped {
    emulator: Emulator,
    driver: Firmware<PciDriver>,
    control: Control,
    machine: Receiver<String>,
    // Goes with the test.
    _folder: Folder,
}

impl Stopped {
    fn of(vm: Vm, more: &[&str]) -> Self {
        Self::within(Folder::new(), vm, more)
    }

    fn within(folder: Folder, vm: Vm, more: &[&str]) -> Self {
        let path = |name: &str| folder.at(name).to_str().unwrap().to_owned();
        let machine = machine(&folder.at("qmp"), vm);
        let (socket, control, qmp) = (path("s"), path("c"), path("qmp"));
        let args = ["--vfio-user", &socket, "--control", &control, "--qmp", &qmp];
        let emulator = Emulator::start(&[&args, more].concat());
        let mut driver = Firmware::new(PciDriver::probe(&folder.at("s")).unwrap());
        driver.bring_up().unwrap();
        let mut control = Control::greeted(&folder.at("c"));
        let set = json!({"execute": "break", "arguments": {"when": "opcode=NOP"}});
        assert!(control.ask(&set.to_string()).contains("return"));
        let nop = Command::new(opcode::NOP);
        driver.mailbox.post(0, nop.inbox(), 16).unwrap();
        driver.mailbox.ring(1).unwrap();
        Self {
            emulator,
            driver,
            control,
            machine,
            _folder: folder,
        }
    }

    /// The next so many that the machine is told, and what comes soon after them.
    fn told(&self, count: usize) -> Vec<String> {
        let mut all: Vec<_> = (0..count)
            .map(|_| self.machine.recv_timeout(LIMIT).unwrap())
            .collect();
        all.extend(self.machine.recv_timeout(QUIET));
        all
    }

    /// What the machine is told from when it stands, while `end` ends the emulator; and how that ends.
    fn ended(mut self, end: impl FnOnce(&mut Self)) -> (Vec<String>, ExitStatus, String) {
        assert_eq!(self.told(3), HELD);
        end(&mut self);
        let (status, log) = self.emulator.end();
        // All was sent before that.
        let mut then = Vec::new();
        then.extend(self.machine.recv_timeout(QUIET));
        (then, status, log)
    }
}

/// What a machine that runs is told when it shall stand.
const HELD: [&str; 3] = ["qmp_capabilities", "query-status", "stop"];

/// What the machine is told: while a NOP is stopped, and then.
fn told(vm: Vm) -> (Vec<String>, Vec<String>) {
    let mut s = Stopped::of(vm, &[]);
    let runs = vm == Vm::Runs;
    let stopped = s.told(if runs { 3 } else { 2 });
    assert!(s.driver.mailbox.answer(0, 16).unwrap().is_none());
    assert!(
        s.control
            .ask("{\"execute\":\"continue\"}")
            .contains("\"continued\":1")
    );
    let then = s.told(usize::from(runs));
    (stopped, then)
}

#[test]
fn a_machine_stands_while_a_command_is_stopped_and_runs_on() {
    let (stopped, then) = told(Vm::Runs);
    assert_eq!(stopped, HELD);
    assert_eq!(then, ["cont"]);
}

#[test]
fn a_machine_that_stood_already_stays_as_it_was() {
    let (stopped, then) = told(Vm::Stands);
    assert_eq!(stopped, ["qmp_capabilities", "query-status"]);
    assert_eq!(then, [""; 0]);
}

#[test]
fn a_machine_runs_on_when_the_emulator_ends_meanwhile() {
    let ends: [fn(&mut Stopped); 2] = [
        |s| assert!(s.control.ask("{\"execute\":\"quit\"}").contains("return")),
        |s| s.emulator.signal(Signal::TERM),
    ];
    for end in ends {
        let (then, status, log) = Stopped::of(Vm::Runs, &[]).ended(end);
        assert_eq!(
            (&then[..], status.code()),
            (&["cont".to_owned()][..], Some(0)),
            "{log}"
        );
        assert!(log.contains("the machine runs on"), "{log}");
    }
}

#[test]
fn a_machine_runs_on_when_a_fault_ends_the_emulator() {
    // By a command of another slot, and by itself.
    for when in ["opcode=ALLOC_PD", "at=0"] {
        let (then, status, log) = Stopped::of(Vm::Runs, &[]).ended(|s| {
            let fault = json!({"execute": "fault", "arguments": {"when": when, "then": "crash"}});
            s.control.send(format!("{fault}\n").as_bytes());
            if when != "at=0" {
                assert!(s.control.answer().contains("return"));
                let alloc = Command::new(opcode::ALLOC_PD);
                s.driver.mailbox.post(1, alloc.inbox(), 16).unwrap();
                let _ = s.driver.mailbox.ring(1 << 1);
            }
        });
        assert_eq!(
            (&then[..], status.code()),
            (&["cont".to_owned()][..], None),
            "{when}: {log}"
        );
    }
}

#[test]
fn a_machine_runs_on_when_the_device_fails() {
    let folder = Folder::new();
    let pipe = folder.at("pipe");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (go, gone) = channel::<()>();
    let read = pipe.clone();
    let reader = thread::spawn(move || {
        let mut pipe = File::open(read).unwrap();
        // Until it shall fail.
        let mut some = [0; 1 << 16];
        while gone.try_recv().is_err() && pipe.read(&mut some).is_ok() {}
    });
    let record = ["--record", pipe.to_str().unwrap()];
    let (then, status, log) = Stopped::within(folder, Vm::Runs, &record).ended(|s| {
        go.send(()).unwrap();
        let nothing = json!({"execute": "page-demand", "arguments": {"function": 0, "count": 0}});
        for _ in 0..2 {
            s.control.send(format!("{nothing}\n").as_bytes());
            thread::sleep(QUIET);
        }
    });
    reader.join().unwrap();
    assert_eq!(
        (&then[..], status.code()),
        (&["cont".to_owned()][..], Some(1)),
        "{log}"
    );
    assert!(log.contains("Broken pipe"), "{log}");
}

#[test]
fn a_machine_that_does_not_answer_is_not_waited_for() {
    let (then, status, log) = Stopped::of(Vm::Mute, &[]).ended(|s| s.emulator.signal(Signal::TERM));
    assert_eq!(
        (&then[..], status.code()),
        (&["cont".to_owned()][..], Some(0)),
        "{log}"
    );
    assert!(log.contains("the machine stands still"), "{log}");
}
