// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults from the command line, from a file and over the control socket, with a driver on a real
//! socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{fs, path::Path};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Emulator, Folder, program, refused};
use serde_json::{Value, json};

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn driver(socket: &Path) -> Firmware<PciDriver> {
    let mut d = Firmware::new(PciDriver::probe(socket).unwrap());
    d.bring_up().unwrap();
    d
}

fn status(d: &mut Firmware<PciDriver>, op: u16) -> u8 {
    Command::new(op).exec(&mut d.mailbox).unwrap()[0]
}

fn ctl(control: &Path, args: &[&str]) -> Result<Value, String> {
    let o = program()
        .args(["ctl", "--json", "--control", text(control)])
        .args(args)
        .output()
        .unwrap();
    if o.status.success() {
        Ok(serde_json::from_slice(&o.stdout).unwrap())
    } else {
        Err(String::from_utf8(o.stderr).unwrap())
    }
}

#[test]
fn faults_strike_as_often_as_was_said() {
    let folder = Folder::new();
    let (socket, control, file) = (folder.at("s"), folder.at("c"), folder.at("f.toml"));
    let list = "[[fault]]\nwhen = \"opcode=QUERY_ADAPTER\"\nthen = \"status=BAD_RES\"\n";
    fs::write(&file, list).unwrap();
    let _e = Emulator::start(&[
        "--vfio-user",
        text(&socket),
        "--control",
        text(&control),
        "--fault",
        "opcode=NOP nth=2 : status=BAD_PARAM syndrome=7 : times=1",
        "--faults",
        text(&file),
    ]);
    let mut d = driver(&socket);
    let nops: Vec<u8> = (0..4).map(|_| status(&mut d, opcode::NOP)).collect();
    assert_eq!(nops, [0, 3, 0, 0]);
    assert_eq!(status(&mut d, opcode::QUERY_ADAPTER), 5);
    assert_eq!(status(&mut d, opcode::QUERY_ADAPTER), 0);
    let added = ctl(
        &control,
        &["fault", "when=any", "then=status=LIM_ERR", "times=2"],
    );
    assert_eq!(added, Ok(json!({"id": 3})));
    assert_eq!(status(&mut d, opcode::NOP), 8);
    assert_eq!(
        ctl(&control, &["faults"]).unwrap()[2],
        json!({"id": 3, "fault": "any : status=LIM_ERR : times=2", "matched": 1, "struck": 1, "followed": 0,
               "changed": 1, "consumed": 0, "left": 1})
    );
    assert_eq!(
        ctl(&control, &["fault-clear", "id=3"]),
        Ok(json!({"cleared": 1}))
    );
    assert_eq!(status(&mut d, opcode::NOP), 0);
    let none = ctl(&control, &["fault-clear", "id=3"]).unwrap_err();
    assert!(
        none.contains("there is no fault with this number"),
        "{none}"
    );
    let bad = ctl(&control, &["fault", "when=opcode=NOPE", "then=lost"]).unwrap_err();
    assert!(
        bad.contains("opcode=NOPE: there is none of this name"),
        "{bad}"
    );
    assert_eq!(ctl(&control, &["fault-clear"]), Ok(json!({"cleared": 2})));
    assert_eq!(ctl(&control, &["faults"]), Ok(json!([])));
}

#[test]
fn what_is_no_fault_is_said_before_anything_is_served() {
    let folder = Folder::new();
    let (socket, file) = (folder.at("s"), folder.at("f.toml"));
    let (code, said) = refused(&["--vfio-user", text(&socket), "--fault", "any : explode"]);
    assert!(
        code == 2 && said.contains("explode: there is no such action; there are status=NAME"),
        "{said}"
    );
    let other = ["--vfio-user", text(&socket), "--fault", "function=1 : lost"];
    let (code, said) = refused(&other);
    assert!(
        code == 2 && said.contains("there are 1 functions, from 0"),
        "{said}"
    );
    fs::write(&file, "[[fault]]\nwhen = \"any\"\nthen = \"fill=7\"\n").unwrap();
    let (code, said) = refused(&["--vfio-user", text(&socket), "--faults", text(&file)]);
    assert!(code == 1 && said.contains("f.toml: fault 1: "), "{said}");
    assert!(said.contains("fill=7: there are 0, 1 and random"), "{said}");
    assert!(!socket.exists());
}

/// What the unmodified driver makes of each action is written down.
#[test]
fn docs_say_of_every_action_what_mlx5_core_does() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/faults.md");
    let docs = fs::read_to_string(docs).unwrap();
    let (_, section) = docs.split_once("## What mlx5_core does").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    // What stands between backticks, in words.
    let code = section.split('`').skip(1).step_by(2);
    let words: Vec<&str> = code.flat_map(|c| c.split([' ', '='])).collect();
    for a in fw_model::fault::ACTIONS {
        assert!(words.contains(&a.name), "{} is missing", a.name);
    }
}
