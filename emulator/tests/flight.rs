// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A model that fails, and the flight recorder that is always on, with drivers on real sockets.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use fwctl_proto::opcode;
use host_driver::{
    firmware::Firmware, mailbox::Command, pci::PciDriver, vhost::VhostDriver,
    vhost_session::Options,
};
use process::{Control, Emulator, Folder, LIMIT, program, refused};
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::Signal,
};

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn replay(file: &Path) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program().arg("replay").arg(file).output().unwrap();
    let text = |b| String::from_utf8(b).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The dumps in a folder, once there are so many.
fn dumps(folder: &Path, count: usize) -> Vec<PathBuf> {
    let end = Instant::now() + LIMIT;
    loop {
        let mut all: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "record"))
            .collect();
        all.sort();
        assert!(Instant::now() < end, "{all:?}");
        if all.len() == count {
            return all;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_model_that_fails_leaves_what_led_to_it_and_the_device_goes_on_after_a_reset() {
    let folder = Folder::new();
    let (socket, dir) = (folder.at("s"), folder.at("dumps"));
    fs::create_dir(&dir).unwrap();
    let e = Emulator::start(&[
        "--vfio-user",
        text(&socket),
        "--dump-dir",
        text(&dir),
        "--fault",
        "opcode=ALLOC_PD nth=4 : panic",
    ]);
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    for _ in 0..3 {
        d.ok(&Command::new(opcode::ALLOC_PD)).unwrap();
    }
    // No answer; the health buffer says what a driver must know: FW_INTERNAL_ERR, a reset is needed.
    let unanswered = |d: &mut Firmware<PciDriver>, op| {
        let d = &mut d.mailbox;
        d.post(0, Command::new(op).inbox(), 16).unwrap();
        d.ring(1).unwrap();
        // The doorbell was taken when a later read is answered.
        d.segment(0x238).unwrap();
        assert!(d.answer(0, 16).unwrap().is_none());
    };
    unanswered(&mut d, opcode::ALLOC_PD);
    let segment = |d: &mut Firmware<PciDriver>, at| d.mailbox.segment(at).unwrap();
    assert_eq!(segment(&mut d, 0x23c) >> 16 & 0xff, 1);
    assert_eq!(segment(&mut d, 0x238) >> 31, 1);
    // Nothing is executed any more, nor is what was there used again.
    unanswered(&mut d, opcode::NOP);
    drop(d);
    // A new client's function is a fresh one.
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    let pd = d.ok(&Command::new(opcode::ALLOC_PD)).unwrap();
    assert_eq!(pd[9..12], [0, 0, 1], "the first one again");
    drop(d);
    let all = dumps(&dir, 1);
    let mode = fs::metadata(&all[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    e.signal(Signal::TERM);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let file = text(&all[0]);
    assert!(
        log.contains(&format!(
            "inputs up to there are in {file}: `fwctl-emu replay {file}` runs"
        )),
        "{log}"
    );
    assert_eq!(
        log.matches("a fault lets the firmware model fail").count(),
        1
    );
    let (code, out, said) = replay(&all[0]);
    assert_eq!(code, Some(1), "{out}{said}");
    let first = out.lines().next().unwrap();
    let words: Vec<_> = first.split(' ').collect();
    assert_eq!(words[1], words[3], "the last frame: {first}");
    assert_eq!(words[4..], ["fails,", "as", "recorded"]);
    // One line says where.
    let begins = "fwctl-emu: panicked at fw-model/src/";
    assert!(
        said.starts_with(begins) && said.lines().count() == 1,
        "{said}"
    );
    assert!(
        out.contains("the firmware model panics, as it had"),
        "{out}"
    );
    let command = "\n  in the command: ALLOC_PD op_mod=0x0 uid=0 | in: \n";
    assert!(out.contains(command), "{out}");
    // It is not its own place, by whatever name.
    let whole = fs::read(file).unwrap();
    let link = folder.at("link");
    std::os::unix::fs::symlink(file, &link).unwrap();
    for same in [file, text(&link)] {
        let args = ["replay", file, "--minimize", same];
        let o = program().args(args).output().unwrap();
        let said = String::from_utf8(o.stderr).unwrap();
        let refused = format!("--minimize {same} is the same file as the record {file}");
        assert!(!o.status.success() && said.contains(&refused), "{said}");
        assert_eq!(fs::read(file).unwrap(), whole);
    }
    // Made short, it fails again and again, and says so once.
    let short = folder.at("short");
    let args = ["replay", file, "--minimize", text(&short)];
    let o = program().args(args).output().unwrap();
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("panicked at").count(), 1, "{said}");
    let (code, out, _) = replay(&short);
    assert!(code == Some(1) && out.contains(command), "{out}");
}

#[test]
fn a_dump_goes_to_the_folder_of_save_dir_before_that_of_the_state() {
    let folder = Folder::new();
    let (socket, state, saved) = (folder.at("s"), folder.at("state"), folder.at("saved"));
    fs::create_dir(&saved).unwrap();
    let _e = Emulator::start(&[
        "--vfio-user",
        text(&socket),
        "--state",
        text(&state),
        "--save-dir",
        text(&saved),
        "--fault",
        "opcode=ENABLE_HCA : panic",
    ]);
    let mut d = PciDriver::probe(&socket).unwrap();
    d.post(0, Command::new(opcode::ENABLE_HCA).inbox(), 16)
        .unwrap();
    d.ring(1).unwrap();
    assert_eq!(dumps(&saved, 1).len(), 1);
    assert_eq!(dumps(&state, 0).len(), 0);
    // As the help says it; words may be on two lines.
    let help = program().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words: Vec<_> = help.split_whitespace().collect();
    let order = "(default: that of --save-dir, else that of --state, else one of this user's for temporary files)";
    assert!(words.join(" ").contains(order), "{help}");
}

#[test]
fn only_so_many_failures_leave_a_dump() {
    /// `MAX_DUMPS`, as docs/limits.md promises it.
    const MAX_DUMPS: usize = 8;
    let folder = Folder::new();
    let (socket, state) = (folder.at("s"), folder.at("state"));
    let e = Emulator::start(&[
        "--vhost-user",
        text(&folder.at("v")),
        "--vfio-user",
        text(&socket),
        "--state",
        text(&state),
        "--fault",
        "opcode=ENABLE_HCA : panic : times=0",
    ]);
    for _ in 0..=MAX_DUMPS {
        // Not waited for: there is no answer. A new client finds a new function.
        let mut d = PciDriver::probe(&socket).unwrap();
        d.post(0, Command::new(opcode::ENABLE_HCA).inbox(), 16)
            .unwrap();
        d.ring(1).unwrap();
        assert_eq!(d.segment(0x23c).unwrap() >> 16 & 0xff, 1);
    }
    e.signal(Signal::TERM);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(0), "{log}");
    // The folder of --state is where they go if nothing else is said.
    assert_eq!(dumps(&state, MAX_DUMPS).len(), MAX_DUMPS);
    assert!(log.contains("8 dumps were written before"), "{log}");
}

#[test]
fn what_happened_last_is_written_when_somebody_asks() {
    let folder = Folder::new();
    let (socket, control, file) = (folder.at("s"), folder.at("c"), folder.at("f"));
    let _e = Emulator::start(&[
        "--vfio-user",
        text(&socket),
        "--control",
        text(&control),
        "--seed",
        "7",
    ]);
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    for _ in 0..20 {
        d.ok(&Command::new(opcode::ALLOC_PD)).unwrap();
    }
    // The client makes the file: the sandbox has no say in where it is.
    let path = format!("path={}", text(&file));
    let ask = || {
        let ctl = ["ctl", "--control", text(&control), "flight-dump", &path];
        let out = program().args(ctl).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = ask();
    assert!(code == Some(0) && said.starts_with("inputs: "), "{said}");
    // What is there is not overwritten, and nothing is hurt by it.
    let (code, said) = ask();
    assert!(code == Some(1) && said.contains("File exists"), "{said}");
    d.ok(&Command::new(opcode::NOP)).unwrap();
    let (code, out, said) = replay(&file);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{out}");
    assert!(out.ends_with(" frames: all as recorded\n"), "{out}");
    let count: usize = out.split(' ').next().unwrap().parse().unwrap();
    assert!(count > 20, "{count}");
}

/// A pipe that is full: whoever writes to it waits for ever.
#[test]
fn files_that_block_are_refused_and_hold_up_nobody() {
    let folder = Folder::new();
    let (socket, control) = (folder.at("s"), folder.at("c"));
    let e = Emulator::start(&["--vfio-user", text(&socket), "--control", text(&control)]);
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    let (_reader, full) = std::io::pipe().unwrap();
    let nonblocking = OFlags::NONBLOCK | OFlags::WRONLY;
    fcntl_setfl(&full, nonblocking).unwrap();
    while rustix::io::write(&full, &[0; 4096]).is_ok() {}
    fcntl_setfl(&full, OFlags::WRONLY).unwrap();
    let mut asked: Vec<_> = ["flight-dump", "flight-dump", "flight-dump", "save", "load"]
        .into_iter()
        .map(|verb| {
            let line = format!("{{\"execute\":\"{verb}\",\"arguments\":{{\"path\":\"x\"}}}}\n");
            let mut c = Control::greeted(&control);
            c.send_with(line.as_bytes(), &[full.as_raw_fd()]);
            c
        })
        .collect();
    for c in &mut asked {
        let said = c.answer();
        assert!(said.contains("x: it is no regular file"), "{said}");
    }
    for _ in 0..20 {
        d.ok(&Command::new(opcode::NOP)).unwrap();
    }
    e.signal(Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));
}

#[test]
fn a_folder_for_dumps_that_there_is_not_is_said_before_anything_is_served() {
    let folder = Folder::new();
    let socket = folder.at("s");
    let (code, said) = refused(&["--vfio-user", text(&socket), "--dump-dir", "/nowhere"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("--dump-dir /nowhere: no folder"), "{said}");
    assert!(!socket.exists());
}

#[test]
fn over_a_command_channel_a_model_that_fails_says_so_and_a_crash_ends_the_process() {
    let folder = Folder::new();
    let (socket, record) = (folder.at("s"), folder.at("record"));
    let dir = folder.at("dumps");
    fs::create_dir(&dir).unwrap();
    let mut e = Emulator::start(&[
        "--vhost-user",
        text(&socket),
        "--dump-dir",
        text(&dir),
        "--record",
        text(&record),
        "--fault",
        "opcode=NOP op_mod=1 : panic",
        "--fault",
        "opcode=NOP op_mod=2 : crash",
    ]);
    let mut d = Firmware::new(VhostDriver::connect(&socket, Options::default()).unwrap());
    d.bring_up().unwrap();
    let nop = |d: &mut Firmware<VhostDriver>, op_mod| {
        let command = Command::new(opcode::NOP).op_mod(op_mod);
        command.exec(&mut d.mailbox).map(|out| out[0])
    };
    // The command ends at once; its function has forgotten all, and comes up again.
    let said = nop(&mut d, 1).unwrap_err().to_string();
    assert!(said.contains("Reset"), "{said}");
    d.bring_up().unwrap();
    assert_eq!(nop(&mut d, 0).unwrap(), 0);
    assert_eq!(dumps(&dir, 1).len(), 1);
    // Now its backend is gone, which ends QEMU.
    let gone = Command::new(opcode::NOP).op_mod(2);
    d.mailbox
        .send(
            &host_driver::vhost::driver_request(16, 16),
            gone.inbox(),
            16,
        )
        .unwrap();
    d.mailbox.kick().unwrap();
    let end = Instant::now() + LIMIT;
    while e.runs() {
        assert!(Instant::now() < end, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, log) = e.end();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{log}");
    let (code, out, said) = replay(&record);
    // The record is whole up to the crash; it has the panic, which is told.
    assert_eq!(
        (code, said.contains("ends within a frame")),
        (Some(1), false)
    );
    assert!(out.contains("panics, as it had"), "{out}");
}

#[test]
fn a_model_that_fails_by_itself_resets_all_functions() {
    let folder = Folder::new();
    let (a, b, control) = (folder.at("a"), folder.at("b"), folder.at("c"));
    let dir = folder.at("dumps");
    fs::create_dir(&dir).unwrap();
    let _e = Emulator::start(&[
        "--vfio-user",
        text(&a),
        "--vhost-user",
        text(&b),
        "--control",
        text(&control),
        "--dump-dir",
        text(&dir),
    ]);
    let mut d = Firmware::new(PciDriver::probe(&a).unwrap());
    d.bring_up().unwrap();
    let mut v = Firmware::new(VhostDriver::connect(&b, Options::default()).unwrap());
    v.bring_up().unwrap();
    let mut c = Control::greeted(&control);
    let mut states = || -> Vec<_> {
        let all = c.functions();
        all.iter()
            .map(|f| f["state"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(states(), ["up", "up"]);
    let fault = "{\"execute\":\"fault\",\"arguments\":{\"when\":\"at=1\",\"then\":\"panic\"}}";
    assert_eq!(
        Control::greeted(&control).ask(fault),
        "{\"return\":{\"id\":1}}"
    );
    let all = dumps(&dir, 1);
    let end = Instant::now() + LIMIT;
    while states() != ["disabled", "disabled"] {
        assert!(Instant::now() < end, "{:?}", states());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(d.mailbox.segment(0x23c).unwrap() >> 16 & 0xff, 1);
    // A reset of the firmware makes it well: 7 in `nic_interface` at first, then 1 ("disabled").
    let said = Control::greeted(&control).ask("{\"execute\":\"firmware-reset\"}");
    assert_eq!(said, "{\"return\":{}}");
    while d.mailbox.segment(0x14).unwrap() >> 8 & 7 != 1
        || d.mailbox.segment(0x1fc).unwrap() >> 31 != 0
    {
        assert!(Instant::now() < end, "it does not come back");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(d.mailbox.segment(0x23c).unwrap() >> 16 & 0xff, 0);
    let whole = Instant::now() + LIMIT;
    // Its file is whole a moment after it is there.
    while !replay(&all[0]).1.contains("panics, as it had") {
        assert!(Instant::now() < whole, "{:?}", replay(&all[0]));
    }
}
