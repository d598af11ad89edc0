// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `serve --trace` and what `fwctl-emu trace` makes of it, with a driver on a real socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Emulator, Folder, program};
use rustix::process::Signal;
use serde_json::Value;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// A driver that comes up, does `nops` NOPs and one command of a user context that there is not.
fn traced(folder: &Folder, name: &str, nops: usize, signal: Signal) -> std::path::PathBuf {
    let (socket, file) = (folder.at("socket"), folder.at(name));
    let args = ["--vfio-user", text(&socket), "--trace", text(&file)];
    let e = Emulator::start(&args);
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    let nop = Command::new(opcode::NOP);
    for _ in 0..nops {
        d.ok(&nop).unwrap();
    }
    nop.uid(9).exec(&mut d.mailbox).unwrap();
    if signal == Signal::KILL {
        // What was written a while ago is in the file.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    e.signal(signal);
    e.end();
    file
}

fn trace(args: &[&str]) -> Output {
    program().arg("trace").args(args).output().unwrap()
}

fn shown(args: &[&str]) -> String {
    let o = trace(args);
    let said = String::from_utf8_lossy(&o.stderr).into_owned();
    assert_eq!((o.status.code(), said.as_str()), (Some(0), ""));
    String::from_utf8(o.stdout).unwrap()
}

#[test]
fn a_trace_is_shown_filtered_counted_and_exported() {
    let folder = Folder::new();
    let file = traced(&folder, "a", 5, Signal::TERM);
    let file = text(&file);
    let all = shown(&["show", file]);
    // In order: the queue's address, the first doorbell and what it brought, and the end of the client.
    let at = |part: &str| all.lines().position(|l| l.contains(part)).unwrap();
    assert!(at("f0 segment 0x14 <- ") < at("f0 segment 0x18 <- 00000001"));
    assert!(at("f0 segment 0x18 <- 00000001") < at(" ENABLE_HCA op_mod=0x0 in=16 out=12 -> OK"));
    assert!(at(" INIT_HCA ") < at(" NOP "));
    let nops = shown(&["show", file, "--opcode", "nop"]);
    assert_eq!(nops.lines().count(), 6);
    let bad = shown(&["show", file, "--status", "!=ok"]);
    assert_eq!(bad.lines().count(), 1);
    assert!(bad.contains("NOP op_mod=0x0 uid=9 in=16 out=16 -> BAD_RES syndrome 0xe00007"));
    assert_eq!(bad, shown(&["show", file, "--uid", "9", "--function", "0"]));
    assert_eq!(shown(&["show", file, "--function", "1"]), "");
    let raw = shown(&["show", file, "--uid", "9", "--raw"]);
    assert!(
        raw.contains("\n    in  000: 080d0009 00000000 00000000 00000000\n"),
        "{raw}"
    );
    let dump = shown(&["show", file, "--uid", "9", "--format", "mlx5"]);
    assert!(
        dump.contains("cmd[0]: dump command data NOP(0x80d) INPUT\n"),
        "{dump}"
    );
    let json = shown(&["show", file, "--uid", "9", "--format", "json"]);
    let v: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&v["command"], &v["status"]),
        (&"NOP".into(), &"BAD_RES".into())
    );
    assert_eq!(
        (&v["uid"], &v["syndrome"]),
        (&9.into(), &0x00e0_0007.into())
    );
    assert!(v["own_ns"].as_u64().unwrap() > 0);
    let table = shown(&["summary", file, "--opcode", "NOP"]);
    let row: Vec<_> = table
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .take(3)
        .collect();
    assert_eq!(row, ["NOP", "6", "1"]);
    let v: Value = serde_json::from_str(&shown(&["summary", file, "--json"])).unwrap();
    let rows = v.as_array().unwrap().iter();
    assert!(rows.clone().any(|r| r["command"] == "QUERY_HCA_CAP"), "{v}");
    let perfetto = folder.at("p.json");
    shown(&["export", "--perfetto", text(&perfetto), file]);
    let v: Value = serde_json::from_slice(&fs::read(&perfetto).unwrap()).unwrap();
    let events = v["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|e| e["name"] == "NOP").count(), 6);
}

#[test]
fn two_runs_differ_by_what_was_done_and_by_nothing_else() {
    let folder = Folder::new();
    let names = [("a", 3), ("b", 3), ("c", 4)];
    let [a, b, c] = names.map(|(n, nops)| traced(&folder, n, nops, Signal::TERM));
    assert_eq!(shown(&["diff", text(&a), text(&b)]), "");
    let o = trace(&["diff", text(&a), text(&c)]);
    assert_eq!(o.status.code(), Some(1));
    let said = String::from_utf8(o.stdout).unwrap();
    let changed = |sign: &str| {
        let lines = said.lines().filter(|l| l.starts_with(sign));
        lines.filter(|l| l.contains(" NOP ")).count()
    };
    assert_eq!((changed("-"), changed("+")), (0, 1), "{said}");
}

#[test]
fn what_cannot_be_read_is_said_by_name() {
    let folder = Folder::new();
    let missing = folder.at("none");
    let o = trace(&["show", text(&missing)]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(2), "{said}");
    assert!(said.contains("/none: No such file or directory"), "{said}");
    let other = folder.at("other");
    fs::write(&other, "something else altogether").unwrap();
    let o = trace(&["summary", text(&other)]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(2));
    assert!(said.ends_with("/other: this is no trace\n"), "{said}");
    // A killed process leaves what it had written.
    let killed = traced(&folder, "killed", 2, Signal::KILL);
    let whole = shown(&["show", text(&killed), "--opcode", "NOP"]);
    assert_eq!(whole.lines().count(), 3);
    let bytes = fs::read(&killed).unwrap();
    fs::write(&killed, &bytes[..bytes.len() - 3]).unwrap();
    let o = trace(&["show", text(&killed), "--opcode", "NOP"]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(0));
    assert!(said.contains("it ends within an entry, at byte "), "{said}");
    let dir = folder.at("no/such/dir");
    let (code, said) = process::refused(&["--vfio-user", "fd:9", "--trace", text(&dir)]);
    assert_eq!(code, 2, "{said}");
    let (socket, dir) = (folder.at("s"), folder.at("no/dir"));
    let (code, said) = process::refused(&["--vfio-user", text(&socket), "--trace", text(&dir)]);
    assert_eq!(code, 2);
    assert!(
        said.contains("--trace ") && said.contains("No such file"),
        "{said}"
    );
}

#[test]
fn a_message_on_standard_input_is_decoded() {
    let decode = |args: &[&str], input: &str| {
        let mut c = program()
            .arg("decode")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        c.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let o = c.wait_with_output().unwrap();
        let text = [o.stdout, o.stderr].concat();
        (o.status.code(), String::from_utf8(text).unwrap())
    };
    let enable = "mlx5_core 0000:01:00.0: cmd[0]: start dump\n\
        cmd[0]: 000: 01040000 00000000 00000003 00000000\n";
    assert_eq!(
        decode(&[], enable),
        (
            Some(0),
            "ENABLE_HCA enable_hca_in, 16 bytes\nuid=0\nop_mod=0x0\nfunction_id=0x3\n".into()
        )
    );
    let (code, said) = decode(&["--out"], enable);
    assert!(code == Some(2) && said.contains("give --opcode"), "{said}");
    let (code, said) = decode(&["--opcode", "NOSUCH"], "");
    assert!(code == Some(2) && said.contains("list commands"), "{said}");
}
