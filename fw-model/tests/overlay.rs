// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands and registers that a file adds.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{Card, Input, Overlay, Profile, ResetKind};
use fwctl_proto::{
    layout::{Layout as _, View},
    layouts::McamReg,
};

const WIDGET: &str = include_str!("../../emulator/examples/widget.toml");

fn up(text: &str) -> Driver {
    let overlay = Overlay::parse(text, "widget.toml").unwrap();
    let profile = Profile::builtin("connectx7").unwrap().with_overlay(overlay);
    let mut d = Driver::of(profile);
    d.bring_up();
    d
}

fn query(id: u8) -> Vec<u8> {
    let mut c = cmd(0xbf0, 0, 16);
    c[11] = id;
    c
}

fn register(op_mod: u16, data: [u8; 8]) -> Vec<u8> {
    let mut c = cmd(0x805, op_mod, 24);
    c[10..12].copy_from_slice(&0x90f0u16.to_be_bytes());
    c[16..].copy_from_slice(&data);
    c
}

#[test]
fn a_command_computes_remembers_and_refuses() {
    let mut d = up(WIDGET);
    for asked in 0..3 {
        let out = d.ok(&query(9), 32);
        assert_eq!(out[17..20], [0, 0, 9], "widget_id");
        assert_eq!((out[23], out[24]), (asked, 2));
    }
    let r = d.exec(&query(16), 32);
    assert_eq!((r.status(), r.syndrome()), (5, 0x00bf_0001));
    assert_eq!(r.out[8..], [0; 24]);
    assert_eq!(d.ok(&query(0), 32)[23], 3, "a refusal changes nothing");
    let r = d.exec(&query(0)[..8], 32);
    assert_ne!((r.delivery, r.status()), (0, 0), "too short");
    let (function, kind) = (d.f, ResetKind::Flr);
    d.submit(Input::Reset { function, kind });
    d.clear_queue();
    assert_eq!(d.exec(&query(0), 32).status(), 4, "only when up");
    d.bring_up();
    assert_eq!(d.ok(&query(0), 32)[23], 0, "a reset clears variables");
}

#[test]
fn a_register_takes_its_writable_fields_and_is_shown() {
    let mut d = up(WIDGET);
    assert_eq!(
        d.ok(&register(1, [0; 8]), 24)[16..],
        [1, 7, 0, 0, 0, 0, 0, 0]
    );
    d.ok(&register(0, [0xff; 8]), 24);
    assert_eq!(
        d.ok(&register(1, [0; 8]), 24)[16..],
        [0xff, 7, 0, 0, 0xf0, 0, 0, 0]
    );
    let mut mcam = cmd(0x805, 1, 16 + McamReg::BYTES);
    (mcam[10], mcam[11], mcam[16 + 3]) = (0x90, 0x7f, 1);
    let out = d.ok(&mcam, 16 + McamReg::BYTES);
    // 0x90f0 is register 0x70 of group 1: bit 127 - 0x70 = 15 of the mask at byte 8.
    assert!(View::<McamReg>::new(&out[16..]).is_some());
    assert_eq!(out[16 + 8 + 1] & 1, 1);
}

#[test]
fn a_saved_card_keeps_it_and_wants_the_same_overlay() {
    let mut d = up(WIDGET);
    d.ok(&query(1), 32);
    d.ok(&register(0, [9; 8]), 24);
    let bytes = d.card.save().unwrap();
    let profile = |text: &str| {
        let overlay = Overlay::parse(text, "widget.toml").unwrap();
        Profile::builtin("connectx7").unwrap().with_overlay(overlay)
    };
    d.card = Card::load(profile(WIDGET), &bytes).unwrap();
    assert_eq!(d.ok(&query(1), 32)[23], 1);
    assert_eq!(d.ok(&register(1, [0; 8]), 24)[16], 9);
    let other = WIDGET.replace("state = 2", "state = 3");
    assert!(Card::load(profile(&other), &bytes).is_err());
    assert!(Card::load(Profile::builtin("connectx7").unwrap(), &bytes).is_err());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let wrong = |from: &str, to: &str| {
        assert!(WIDGET.contains(from), "{from}");
        Overlay::parse(&WIDGET.replacen(from, to, 1), "w.toml")
            .unwrap_err()
            .to_string()
    };
    for (from, to, said) in [
        (
            "0xbf0\n",
            "0x100\n",
            "command QUERY_WIDGET: 0x100 is QUERY_HCA_CAP already; say replace = true",
        ),
        (
            "0x90f0",
            "0x9028",
            "register MWDG: 0x9028 is there already; say replace = true",
        ),
        (
            "in.widget_id >=",
            "in.gadget >=",
            "command QUERY_WIDGET: refuse: the inbox has no field \"gadget\"",
        ),
        (">= 16", "=> 16", "\"=>\" is no operator"),
        (">= 16", ">=", "nothing follows \">=\""),
        ("BAD_RES", "BAD", "there is no status \"BAD\""),
        (
            "\"var.asked\"",
            "\"asked\"",
            "\"asked\" is no number, in.FIELD or var.NAME",
        ),
        (
            "state = 2",
            "colour = 2",
            "reply: the outbox has no field \"colour\"",
        ),
        (
            "0x88, 24",
            "0x90, 24",
            "query_widget_out.widget_id: 24 bits at bit 144 do not lie in one dword",
        ),
        (
            "bytes = 32",
            "bytes = 8",
            "query_widget_out: 8 bytes are not 16 to 4096",
        ),
        (
            "most = 7",
            "most = 256",
            "register MWDG: values: most: 256 does not fit 8 bits",
        ),
        ("\"rw\"", "\"wo\"", "mwdg_reg.speed: \"wo\" is not \"rw\""),
        ("scope =", "scoop =", "line 8: unknown field `scoop`"),
    ] {
        let found = wrong(from, to);
        assert!(
            found.starts_with("overlay w.toml: ") && found.contains(said),
            "{found}"
        );
    }
}
