// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `ctl save` and `serve --load`: a card goes on in another process.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use process::{Control, Emulator, Folder, program, refused};

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn save(control: &Path, file: &Path) -> String {
    Control::greeted(control).ask(&format!(
        "{{\"execute\":\"save\",\"arguments\":{{\"path\":{file:?}}}}}"
    ))
}

#[test]
fn a_saved_card_is_served_again() {
    let folder = Folder::new();
    let (a, b, control) = (folder.at("a"), folder.at("b"), folder.at("control"));
    let doors = ["--vfio-user", text(&a), "--vhost-user", text(&b)];
    let all = folder.at("");
    let common = [
        "--control",
        text(&control),
        "--profile",
        "minimal",
        "--save-dir",
        text(&all),
    ];
    let first = Emulator::start(&[&doors[..], &common].concat());
    let file = folder.at("card");
    let reply = save(&control, &file);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(
        reply,
        format!("{{\"return\":{{\"bytes\":{}}}}}", bytes.len())
    );
    assert_eq!(&bytes[..8], b"fwctlcrd");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        save(&control, &file).contains("File exists"),
        "nothing is overwritten"
    );
    assert!(save(&control, &folder.at("no/such")).contains("No such file"));
    let before = Control::greeted(&control).functions();
    drop(first);
    let load = ["--load", text(&file)];
    let _second = Emulator::start(&[&doors[..], &common, &load].concat());
    assert_eq!(Control::greeted(&control).functions(), before);
    let again = folder.at("again");
    save(&control, &again);
    assert_eq!(
        fs::read(&again).unwrap(),
        bytes,
        "nothing has happened since"
    );
}

#[test]
fn what_cannot_be_loaded_is_said_before_anything_is_served() {
    let folder = Folder::new();
    let (a, control) = (folder.at("a"), folder.at("control"));
    let door = ["--vfio-user", text(&a), "--profile", "minimal"];
    let all = folder.at("");
    let more = ["--control", text(&control), "--save-dir", text(&all)];
    let e = Emulator::start(&[&door[..], &more].concat());
    let file = folder.at("card");
    save(&control, &file);
    drop(e);
    let damaged = folder.at("damaged");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let state = folder.at("state");
    for (options, says) in [
        (
            vec!["--load", "/no/such/card"],
            "--load /no/such/card: No such file",
        ),
        (vec!["--load", text(&damaged)], "damaged: its checksum is"),
        (vec!["--load", "/dev/null"], "this is not a saved card"),
        (
            vec!["--load", text(&file), "--state", text(&state)],
            "leave --state out",
        ),
        (
            vec!["--load", text(&file), "--profile", "connectx7"],
            "saved with profile \"minimal\"",
        ),
        (
            vec!["--load", text(&file), "--vhost-user", text(&control)],
            "give --vfio-user in this order",
        ),
    ] {
        let mut all = vec!["--vfio-user", text(&a)];
        if !options.contains(&"--profile") {
            all.extend(["--profile", "minimal"]);
        }
        all.extend(&options);
        let (code, said) = refused(&all);
        let is_usage = says.contains("--state out") || says.contains("in this order");
        assert_eq!(code, if is_usage { 2 } else { 1 }, "{said}");
        assert!(said.contains(says), "{options:?}: {said}");
    }
}

#[test]
fn a_running_card_becomes_a_saved_one_and_its_record_says_so() {
    let folder = Folder::new();
    let (a, control, file) = (folder.at("a"), folder.at("control"), folder.at("card"));
    let record = folder.at("record");
    let e = Emulator::start(&[
        "--vfio-user",
        text(&a),
        "--control",
        text(&control),
        "--record",
        text(&record),
        "--sandbox",
        "off",
    ]);
    let mut d = Firmware::new(PciDriver::probe(&a).unwrap());
    d.bring_up().unwrap();
    let pd = |d: &mut Firmware<PciDriver>| {
        let out = d.ok(&Command::new(opcode::ALLOC_PD)).unwrap();
        u32::from_be_bytes([0, out[9], out[10], out[11]])
    };
    let first = pd(&mut d);
    save(&control, &file);
    let mut c = Control::greeted(&control);
    let mut load = |path: &Path| {
        c.ask(&format!(
            "{{\"execute\":\"load\",\"arguments\":{{\"path\":{path:?}}}}}"
        ))
    };
    let again: Vec<_> = (0..2)
        .map(|_| {
            let next = [pd(&mut d), pd(&mut d)];
            assert_eq!(load(&file), "{\"return\":{}}");
            next
        })
        .collect();
    assert_eq!(again, [[first + 1, first + 2]; 2]);
    // What is no card of this kind changes nothing.
    let other = folder.at("other");
    fs::write(&other, b"something else").unwrap();
    assert!(load(&other).contains("this is not a saved card"));
    let long = folder.at("long");
    File::create(&long)
        .unwrap()
        .set_len((128 << 20) + 1)
        .unwrap();
    assert!(load(&long).contains("longer than 134217728 bytes"));
    let pipe = folder.at("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    for other in [&*pipe, Path::new("/dev/zero")] {
        assert!(load(other).contains("it is no regular file"));
    }
    assert!(load(Path::new("/no/such")).contains("/no/such: No such file"));
    assert_eq!(pd(&mut d), first + 1);
    drop(d);
    e.signal(rustix::process::Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));
    let out = program().arg("replay").arg(&record).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.ends_with(" frames: all as recorded\n"), "{said}");
}

#[test]
fn a_card_with_other_doors_or_a_state_of_its_own_is_not_loaded_into_a_running_one() {
    let folder = Folder::new();
    let (a, b, file) = (folder.at("a"), folder.at("b"), folder.at("card"));
    let (one, two, state) = (folder.at("one"), folder.at("two"), folder.at("state"));
    let all = folder.at("");
    let common = ["--control", text(&one), "--save-dir", text(&all)];
    let first = Emulator::start(&[&["--vhost-user", text(&a)][..], &common].concat());
    save(&one, &file);
    drop(first);
    let _e = Emulator::start(&[&["--vfio-user", text(&a)][..], &common].concat());
    let _f = Emulator::start(&[
        "--vhost-user",
        text(&b),
        "--control",
        text(&two),
        "--state",
        text(&state),
        "--save-dir",
        text(&all),
    ]);
    let load = |control: &Path| {
        Control::greeted(control).ask(&format!(
            "{{\"execute\":\"load\",\"arguments\":{{\"path\":{file:?}}}}}"
        ))
    };
    assert!(load(&one).contains("saved with other functions"));
    assert!(load(&two).contains("in the folder of --state"));
}
