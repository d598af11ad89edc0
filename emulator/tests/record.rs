// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `serve --record` and `fwctl-emu replay`, with a driver on a real socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{fs, path::Path, process::Output, time::Duration};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Emulator, Folder, program, refused};
use rustix::process::Signal;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// A driver that comes up and does a few commands; `more` are options of the emulator.
fn recorded(folder: &Folder, more: &[&str], signal: Signal) -> std::path::PathBuf {
    let (socket, file) = (folder.at("socket"), folder.at("record"));
    let args = ["--vfio-user", text(&socket), "--record", text(&file)];
    let e = Emulator::start(&[&args[..], more].concat());
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    let pd = Command::new(opcode::ALLOC_PD);
    for _ in 0..5 {
        d.ok(&pd).unwrap();
    }
    for _ in 0..20 {
        d.ok(&Command::new(opcode::NOP)).unwrap();
    }
    if signal == Signal::KILL {
        // What was written a while ago is in the file.
        std::thread::sleep(Duration::from_millis(500));
    }
    e.signal(signal);
    e.end();
    file
}

fn replay(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program().arg("replay").args(args).output().unwrap();
    let text = |b| String::from_utf8(b).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_record_runs_again_as_it_ran() {
    let folder = Folder::new();
    let more = ["--fault", "opcode=NOP nth=3 : delay=1"];
    let file = recorded(&folder, &more, Signal::TERM);
    for _ in 0..10 {
        let (code, out, said) = replay(&[text(&file)]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{out}");
        assert!(out.ends_with(" frames: all as recorded\n"), "{out}");
    }
    let (code, _, said) = replay(&[text(&file), "--minimize", text(&folder.at("short"))]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("nothing to minimize, as nothing fails"),
        "{said}"
    );
    // On another card it is not that record.
    let (code, _, said) = replay(&[text(&file), "--profile", "connectx5"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("saved with profile \"connectx7\""), "{said}");
}

#[test]
fn an_emulator_that_is_killed_leaves_a_record_up_to_there() {
    let folder = Folder::new();
    let file = recorded(&folder, &[], Signal::KILL);
    let (code, out, said) = replay(&[text(&file)]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{out}");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 3]).unwrap();
    let (code, out, said) = replay(&[text(&file)]);
    assert_eq!(code, Some(0), "{out}");
    assert!(said.contains("the record ends within a frame"), "{said}");
}

#[test]
fn other_files_are_refused_by_name() {
    let folder = Folder::new();
    let file = recorded(&folder, &[], Signal::TERM);
    let whole = fs::read(&file).unwrap();
    let wrong = |bytes: &[u8], why: &str| {
        fs::write(&file, bytes).unwrap();
        let (code, out, said) = replay(&[text(&file)]);
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(said.contains(why) && said.contains(text(&file)), "{said}");
    };
    let mut other = whole.clone();
    other[8] = 99;
    wrong(
        &other,
        "has format 99, and only format 3 is read: replay it with the fwctl-emu that wrote it",
    );
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    wrong(&flipped, "the record is damaged at byte ");
    wrong(b"something else", "this is not a record");
    wrong(b"", "this is not a record");
    let long = fs::File::create(&file).unwrap();
    long.set_len((4 << 30) + 1).unwrap();
    let (code, _, said) = replay(&[text(&file)]);
    assert_eq!(code, Some(1));
    assert!(said.contains("longer than 4294967296 bytes"), "{said}");
    let (code, _, said) = replay(&["/nowhere/at/all"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("/nowhere/at/all: No such file"), "{said}");
}

/// An emulator that records to a pipe whose reader has gone away since the record began.
fn unread(folder: &Folder) -> Emulator {
    let (socket, pipe) = (folder.at("socket"), folder.at("pipe"));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let end = pipe.clone();
    let reader = std::thread::spawn(move || fs::File::open(end).unwrap());
    let e = Emulator::start(&["--vfio-user", text(&socket), "--record", text(&pipe)]);
    drop(reader.join().unwrap());
    e
}

#[test]
fn a_record_whose_last_frames_cannot_be_written_is_no_success() {
    let folder = Folder::new();
    let e = unread(&folder);
    // What is in the queue and in memory is written at the end.
    e.signal(Signal::TERM);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("pipe: Broken pipe (os error 32); what cannot"),
        "{log}"
    );
}

#[test]
fn a_record_that_cannot_be_written_any_more_ends_the_device() {
    let folder = Folder::new();
    let socket = folder.at("socket");
    let mut e = unread(&folder);
    let d = PciDriver::probe(&socket);
    // Whether it gets through before the first write is tried is chance: frames wait for 200 ms.
    let _ = d.map(|d| Firmware::new(d).bring_up());
    for _ in 0..200 {
        if !e.runs() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("pipe: Broken pipe (os error 32); what cannot"),
        "{log}"
    );
    assert!(
        PciDriver::probe(&socket).is_err(),
        "somebody serves the device"
    );
}

#[test]
fn a_record_that_cannot_begin_is_said_before_anything_is_served() {
    for (file, why) in [
        ("/dev/full", "No space left on device"),
        ("/nowhere/at/all", "No such file or directory"),
    ] {
        let folder = Folder::new();
        let socket = folder.at("socket");
        let (code, said) = refused(&["--vfio-user", text(&socket), "--record", file]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("--record {file}: {why}")), "{said}");
    }
}
