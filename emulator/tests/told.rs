// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the operator does is in the trace, also where no input of the model tells of it.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::path::Path;

use fwctl_proto::opcode;
use host_driver::{mailbox::Command, pci::PciDriver};
use process::{Control, Emulator, Folder, program};

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

#[test]
fn what_the_operator_does_is_told_by_its_names() {
    let folder = Folder::new();
    let (socket, control) = (folder.at("s"), folder.at("c"));
    let (file, saved) = (folder.at("t"), folder.at("saved"));
    let e = Emulator::start(&[
        "--vfio-user",
        text(&socket),
        "--control",
        text(&control),
        "--trace",
        text(&file),
        "--sandbox",
        "off",
        "--fault",
        "opcode=ENABLE_HCA : stop",
    ]);
    let ctl = |args: &[&str]| {
        let o = program()
            .args(["ctl", "--control", text(&control)])
            .args(args)
            .output()
            .unwrap();
        assert!(o.status.success(), "{args:?}: {o:?}");
    };
    let path = format!("path={}", text(&saved));
    ctl(&["save", &path]);
    let mut d = PciDriver::probe(&socket).unwrap();
    d.post(0, Command::new(opcode::ENABLE_HCA).inbox(), 16)
        .unwrap();
    d.ring(1).unwrap();
    // The doorbell was taken when a later read is answered.
    d.segment(0x238).unwrap();
    ctl(&["amend", "id=1", "field=syndrome", "value=7"]);
    ctl(&["continue", "id=1"]);
    drop(d);
    ctl(&["surprise-removal", "function=0", "on=1"]);
    ctl(&["surprise-removal", "function=0", "on=0"]);
    ctl(&["load", &path]);
    Control::greeted(&control).ask("{\"execute\":\"quit\"}");
    e.end();
    let o = program()
        .args(["trace", "show", text(&file), "--kind", "note"])
        .output()
        .unwrap();
    let shown = String::from_utf8(o.stdout).unwrap();
    let notes: Vec<_> = shown
        .lines()
        .filter_map(|l| l.trim_start().split_once(' '))
        .map(|l| l.1)
        .collect();
    assert_eq!(
        notes,
        [
            "card fault: opcode=ENABLE_HCA : stop : times=1",
            "card fault 1 strikes: opcode=ENABLE_HCA : stop : times=1",
            "f0 ENABLE_HCA is stopped as number 1; `ctl stopped` shows it",
            "card the operator sets syndrome of stopped command 1 to 0x7",
            "card bits 0x20 to 0x40 of the answer of stopped command 1 become 0x7",
            "card stopped command 1 is answered",
            "f0 the operator pulls the function out of its slot",
            "f0 the operator puts the function back into its slot",
            "card the operator loads a saved card",
        ],
        "{shown}"
    );
}
