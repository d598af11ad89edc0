// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands that are never answered are in the trace, whatever the reason, with drivers on real sockets.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use fwctl_proto::{opcode, register};
use host_driver::{
    firmware::Firmware, mailbox::Command, pci::PciDriver, vhost::VhostDriver,
    vhost_session::Options,
};
use process::{Control, Emulator, Folder, LIMIT, program};
use rustix::process::Signal;
use serde_json::Value;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn trace(args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = program().arg("trace").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    String::from_utf8(stdout).unwrap()
}

/// A line without its time, and without how long the command waited.
fn timeless(line: &str) -> &str {
    let line = line.trim_start().split_once(' ').unwrap().1;
    line.split(" after ").next().unwrap()
}

/// Sends a NOP in a slot, and waits for no answer.
fn ring(d: &mut Firmware<PciDriver>, slot: usize, op_mod: u16) {
    let d = &mut d.mailbox;
    let nop = Command::new(opcode::NOP).op_mod(op_mod);
    d.post(slot, nop.inbox(), 16).unwrap();
    d.ring(1 << slot).unwrap();
    // The doorbell was taken when a later read is answered.
    d.segment(0x238).unwrap();
    assert!(d.answer(slot, 16).unwrap().is_none());
}

const FAULTS: [&str; 6] = [
    "opcode=NOP op_mod=1 : silent",
    "opcode=NOP op_mod=2 : lost",
    "opcode=NOP op_mod=3 : stop",
    "opcode=NOP op_mod=4 : delay=100000",
    "opcode=NOP op_mod=5 : panic",
    "opcode=NOP op_mod=6 : crash",
];

fn faulty<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let faults = FAULTS.iter().flat_map(|f| ["--fault", f]);
    args.iter().copied().chain(faults).collect()
}

#[test]
fn what_is_never_answered_is_shown_with_its_reason() {
    let folder = Folder::new();
    let (socket, control, file) = (folder.at("s"), folder.at("c"), folder.at("t"));
    let e = Emulator::start(&faulty(&[
        "--vfio-user",
        text(&socket),
        "--control",
        text(&control),
        "--trace",
        text(&file),
        "--log-commands",
    ]));
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    for slot in 1..5 {
        ring(&mut d, slot, slot as u16);
    }
    let mut c = Control::greeted(&control);
    let mut hang = |on: u8| {
        let said = c.ask(&format!(
            "{{\"execute\":\"hang\",\"arguments\":{{\"on\":{on}}}}}"
        ));
        assert!(said.contains("\"return\""), "{said}");
    };
    hang(1);
    ring(&mut d, 6, 0);
    hang(0);
    ring(&mut d, 5, 5);
    e.signal(Signal::TERM);
    let (_, log) = e.end();
    let file = text(&file);
    let shown = trace(&["show", file, "--kind", "unanswered"]);
    let lines: Vec<_> = shown.lines().map(timeless).collect();
    let reset = "unanswered: reset (a reset came before its answer)";
    let expected = [
        (1, 1, "unanswered: silent (by a fault, and not executed)"),
        (2, 2, "unanswered: lost (by a fault, and executed)"),
        (3, 3, "held: stopped (a breakpoint holds its answer)"),
        (4, 4, "held: delayed (its answer is held back for a time)"),
        (
            6,
            0,
            "unanswered: not-running (the firmware does not run and has not executed it)",
        ),
        (5, 5, "unanswered: panic (the firmware model failed)"),
        (3, 3, reset),
        (4, 4, reset),
    ]
    .map(|(slot, op_mod, why)| format!("f0 slot {slot} NOP op_mod={op_mod:#x} in=16 -> {why}"));
    assert_eq!(lines, expected);
    for line in &expected {
        assert!(log.contains(line), "{line}: {log}");
    }
    // What was given on the command line, and the model's failure, are notes.
    let notes = trace(&["show", file, "--kind", "note"]);
    for fault in FAULTS {
        assert!(notes.contains(fault), "{fault}: {notes}");
    }
    assert!(notes.contains(" f0 the firmware model failed"), "{notes}");
    // Chosen by what they are, and by no status.
    let count = |args: &[&str]| {
        let all = [&["show", file, "--opcode", "NOP"], args].concat();
        trace(&all).lines().count()
    };
    assert_eq!(count(&[]), 8);
    assert_eq!(count(&["--status", "none"]), 8);
    for status in ["ok", "!=ok", "!=none"] {
        assert_eq!(count(&["--status", status]), 0, "{status}");
    }
    assert_eq!(count(&["--field", "in.op_mod=3"]), 2);
    assert_eq!(count(&["--field", "out.status=0"]), 0);
    let json = trace(&[
        "show", file, "--field", "op_mod=2", "--opcode", "NOP", "--format", "json", "--raw",
    ]);
    let v: Value = serde_json::from_str(&json).unwrap();
    for (name, value) in [
        ("kind", Value::from("unanswered")),
        ("command", "NOP".into()),
        ("why", "lost".into()),
        ("held", false.into()),
        ("slot", 2.into()),
        ("inbox", "080d0000000000020000000000000000".into()),
    ] {
        assert_eq!(v[name], value, "{name}: {v}");
    }
    // Each command counts once.
    let all: Value = serde_json::from_str(&trace(&["summary", file, "--json"])).unwrap();
    let nop = all
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["command"] == "NOP");
    let nop = nop.unwrap();
    assert_eq!((&nop["count"], &nop["unanswered"]), (&0.into(), &6.into()));
    let table = trace(&["summary", file]);
    let last = table.lines().last().unwrap();
    assert!(last.ends_with(" 6"), "{table}");
    exported(&folder, file);
}

fn exported(folder: &Folder, file: &str) {
    let (perfetto, pcapng) = (folder.at("p"), folder.at("w"));
    let (perfetto, pcapng) = (text(&perfetto), text(&pcapng));
    trace(&["export", "--perfetto", perfetto, "--pcapng", pcapng, file]);
    let said = std::fs::read_to_string(perfetto).unwrap();
    assert_eq!(said.matches("unanswered: reset").count(), 2, "{said}");
    let Ok(tshark) = std::env::var("FWCTL_TSHARK") else {
        println!("SKIP the same in Wireshark: FWCTL_TSHARK names no tshark");
        return;
    };
    let lua = folder.at("lua");
    std::fs::write(&lua, trace(&["dissector"])).unwrap();
    let o = std::process::Command::new(tshark)
        .args(["-X", &format!("lua_script:{}", text(&lua)), "-r", pcapng])
        .args(["-Y", "fwctl.unanswered", "-T", "fields"])
        .args(["slot", "op_mod", "unanswered"].map(|f| format!("-efwctl.{f}")))
        .output()
        .unwrap();
    let said = String::from_utf8(o.stdout).unwrap();
    let first: Vec<_> = said.lines().take(3).collect();
    assert_eq!(first, ["1\t0x0001\t0", "2\t0x0002\t1", "3\t0x0003\t2"]);
}

/// Waits for the end that a crash brings.
fn aborts(mut e: Emulator) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    let end = Instant::now() + LIMIT;
    while e.runs() {
        assert!(Instant::now() < end, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, log) = e.end();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{log}");
    log
}

#[test]
fn a_crash_and_its_command_are_the_last_of_a_trace() {
    let folder = Folder::new();
    let (socket, file) = (folder.at("s"), folder.at("t"));
    let e = Emulator::start(&faulty(&[
        "--vhost-user",
        text(&socket),
        "--trace",
        text(&file),
    ]));
    let mut d = Firmware::new(VhostDriver::connect(&socket, Options::default()).unwrap());
    d.bring_up().unwrap();
    let panics = Command::new(opcode::NOP).op_mod(5);
    assert!(panics.exec(&mut d.mailbox).is_err());
    d.bring_up().unwrap();
    let crashes = Command::new(opcode::NOP).op_mod(6);
    let request = host_driver::vhost::driver_request(16, 16);
    d.mailbox.send(&request, crashes.inbox(), 16).unwrap();
    d.mailbox.kick().unwrap();
    aborts(e);
    let shown = trace(&["show", text(&file)]);
    let said: Vec<_> = shown.lines().map(timeless).collect();
    let by = "f0 channel of the driver NOP";
    assert_eq!(
        said[said.len() - 2..],
        [
            "f0 a fault ends the emulator as a crash would".to_owned(),
            format!(
                "{by} op_mod=0x6 in=16 -> unanswered: crash (the emulator ended before its answer)"
            )
        ]
    );
    let panic = format!("{by} op_mod=0x5 in=16 -> unanswered: panic (the firmware model failed)");
    assert!(said.contains(&panic.as_str()), "{shown}");
}

#[test]
fn a_command_that_waits_for_its_store_is_there_when_a_crash_comes() {
    let folder = Folder::new();
    let (socket, file) = (folder.at("s"), folder.at("t"));
    let e = Emulator::start(&faulty(&[
        "--vfio-user",
        text(&socket),
        "--trace",
        text(&file),
    ]));
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    let d = &mut d.mailbox;
    // An item is written: 12 bytes of nv_global_pci_conf, 0x80 of class 0.
    let mut set = vec![0; 44];
    set[..2].copy_from_slice(&opcode::ACCESS_REG.to_be_bytes());
    set[10..12].copy_from_slice(&register::MNVDA.to_be_bytes());
    (set[19], set[23]) = (12, 0x80);
    d.post(0, &set, 44).unwrap();
    d.post(1, Command::new(opcode::NOP).op_mod(4).inbox(), 16)
        .unwrap();
    d.post(2, Command::new(opcode::NOP).op_mod(6).inbox(), 16)
        .unwrap();
    // Nobody says that it was written.
    assert!(d.ring(0b111).is_err());
    aborts(e);
    let shown = trace(&["show", text(&file), "--kind", "unanswered"]);
    let ended: Vec<_> = shown
        .lines()
        .map(timeless)
        .filter(|l| l.contains("unanswered: crash"))
        .map(|l| l.split(" op_mod").next().unwrap_or_default())
        .collect();
    let register = "f0 slot 0 ACCESS_REG MNVDA nv_global_pci_conf write";
    assert_eq!(
        ended,
        ["f0 slot 2 NOP", register, "f0 slot 1 NOP"],
        "{shown}"
    );
}
