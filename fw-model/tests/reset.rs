// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Resets of the firmware: the handshake between two functions, and the reset that one forces.
//! Numbers are those of the driver's headers (`MLX5_MFRL_REG_*`, `enum sync_rst_state_type`).

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    cmd,
    pair::{ANSWER, Pair, START},
};
use fw_model::{Caller, Effect, Effects, EventPath, FunctionId, Input, NoMemory, ResetKind};
use fwctl_proto::{
    layout::{View, ViewMut, get_bits},
    layouts::{CreateMkeyIn, MfrlReg, Mkc, MtrcCap, MtrcConf, MtrcCtrl},
    opcode as op, register,
};

const REQUEST: u8 = 0;
const NOW: u8 = 1;
const ABORT: u8 = 2;
const UNLOAD: u8 = 3;

#[test]
fn both_agree_and_leave_and_the_firmware_starts_anew() {
    let mut p = Pair::new("");
    p.start(0);
    assert_eq!(p.started(), None, "held back until all agree");
    assert_eq!(p.steps(), [(0, REQUEST), (1, REQUEST)]);
    assert_eq!(p.reset_state(1), 1, "in negotiation");
    assert_eq!(p.answer(0, 1)[0], 0);
    assert_eq!((p.started(), p.steps()), (None, vec![]));
    p.answer(1, 1);
    assert_eq!(p.started(), Some((0, 0)));
    assert_eq!(p.steps(), [(0, NOW), (1, NOW)]);
    assert_eq!(p.reset_state(1), 2, "in progress");
    p.leaves(1);
    assert_eq!((p.state(0), p.state(1)), (("up", 0), ("enabled", 0)));
    p.leaves(0);
    assert_eq!((p.state(0), p.state(1)), (("disabled", 1), ("disabled", 1)));
    // Starting: "initializing" for 50 ms, the interface disabled until a driver takes it.
    assert_eq!((p.read(0, 0x1fc) >> 31, p.nic_interface(1)), (1, 1));
    p.later(50);
    assert_eq!(p.read(0, 0x1fc) >> 31, 0);
    p.up(0, true, false);
    assert_eq!(p.reset_state(0), 0, "idle");
}

/// Asks for a reset by a method: the answer, if it came at once, and the method that MFRL shows.
fn asked_for(p: &mut Pair, method: u64) -> (Option<(u8, u32)>, u64) {
    let start = [
        (MfrlReg::RESET_LEVEL, 8),
        (MfrlReg::PCI_SYNC_FOR_FW_UPDATE_START, 1),
        (MfrlReg::PCI_RESET_REQ_METHOD, method),
    ];
    p.send(0, START, &Pair::mfrl(&start, true), 24);
    let out = p.ok(1, &Pair::mfrl(&[], false), 24);
    let shown = View::<MfrlReg>::new(&out[16..]).unwrap();
    (p.started(), shown.get(MfrlReg::PCI_RESET_REQ_METHOD))
}

#[test]
fn a_reset_of_the_bus_can_be_asked_for_where_the_card_has_it() {
    let mut p = Pair::new("");
    assert_eq!(asked_for(&mut p, 2), (Some((3, 0x00e6_0004)), 0));
    assert_eq!(asked_for(&mut p, 1), (None, 1));
    p.answer(0, 2);
    assert!(p.started().is_some());
    assert_eq!(asked_for(&mut p, 0), (None, 0), "the next one is another");
    let mut p = Pair::new("[caps_max.general]\npcie_reset_using_hotreset_method = 0\n");
    assert_eq!(asked_for(&mut p, 1), (Some((3, 0x00e6_0004)), 0));
}

/// MROQ of a type: `pci_reset_req_method`, `pci_sync_for_fw_update_start` and `query_is_valid`,
/// `reset_type`, `reset_trigger`.
fn options(p: &mut Pair, of: u8) -> [u8; 4] {
    let mut c = cmd(op::ACCESS_REG, 1, 16 + 32);
    c[10..12].copy_from_slice(&0x902f_u16.to_be_bytes());
    c[18] = of;
    let out = p.ok(0, &c, 48);
    out[16..20].try_into().unwrap()
}

#[test]
fn tools_are_told_how_a_reset_can_be_asked_for() {
    let mut p = Pair::new("");
    // Link or bus; the drivers are asked, and it is valid; levels 3 and 6.
    assert_eq!(options(&mut p, 0), [0b11, 0b10 << 1 | 1, 0, 0x48]);
    assert_eq!(options(&mut p, 1), [0, 0, 1, 0], "a type that there is not");
    for of in [64, 255] {
        assert_eq!(options(&mut p, of), [0, 0, of, 0], "nor are there so many");
    }
    let mut p = Pair::new("[caps_max.general]\npcie_reset_using_hotreset_method = 0\n");
    assert_eq!(options(&mut p, 0)[0], 0b01);
    // MCAM's feature 19, counted from the end of the mask.
    let mut mcam = cmd(op::ACCESS_REG, 1, 16 + 72);
    mcam[10..12].copy_from_slice(&0x907f_u16.to_be_bytes());
    let out = p.ok(0, &mcam, 88);
    assert_eq!(out[16 + 0x28 + 15 - 19 / 8] >> (19 % 8) & 1, 1);
}

#[test]
fn one_refusal_ends_it_and_nothing_changed() {
    let mut p = Pair::new("");
    p.start(1);
    p.answer(1, 1);
    p.steps();
    p.answer(0, 2);
    assert_eq!(p.started(), Some((9, 0x00e6_000b)), "BAD_RES_STATE");
    assert_eq!(p.steps(), [(1, ABORT)], "to whom had agreed");
    assert_eq!(p.reset_state(0), 4, "nack");
    assert_eq!((p.state(0), p.state(1)), (("up", 0), ("up", 0)));
    p.start(0);
    assert_eq!(p.steps(), [(0, REQUEST), (1, REQUEST)], "and again");
}

#[test]
fn silence_is_a_timeout() {
    let mut p = Pair::new("");
    p.start(0);
    p.answer(0, 1);
    p.steps();
    p.later(9_999);
    assert_eq!(p.started(), None);
    p.later(1);
    assert_eq!(p.started(), Some((9, 0x00e6_000b)));
    assert_eq!(p.steps(), [(0, ABORT)]);
    assert_eq!(p.reset_state(0), 3, "negotiation timeout");
    p.start(0);
    p.answer(0, 1);
    p.answer(1, 1);
    p.leaves(0);
    p.later(60_000);
    assert_eq!(p.reset_state(1), 5, "unload timeout");
    assert_eq!(p.state(1), ("up", 0));
}

fn reset_of(f: u8, kind: ResetKind) -> Input<'static> {
    Input::Reset {
        function: FunctionId(f),
        kind,
    }
}

#[test]
fn who_asks_for_a_reset_at_the_reboot_gets_it_then() {
    let starts = |p: &Pair| p.read(0, 0x1fc) >> 31 == 1;
    let level = |level| Pair::mfrl(&[(MfrlReg::RESET_LEVEL, level)], true);
    let mut p = Pair::of("", [EventPath::EventQueues, EventPath::Channel]);
    p.submit(reset_of(0, ResetKind::Bus));
    assert!(!starts(&p), "nobody asked");
    p.up(0, true, false);
    p.ok(0, &level(8), 24);
    p.submit(reset_of(0, ResetKind::Bus));
    assert!(
        !starts(&p),
        "the drivers' level alone is for a start by them"
    );
    p.up(0, true, false);
    p.ok(0, &level(0x48), 24);
    assert_eq!((starts(&p), p.state(1)), (false, ("up", 0)), "not before");
    p.submit(reset_of(0, ResetKind::Flr));
    p.submit(reset_of(1, ResetKind::Bus));
    assert!(
        !starts(&p),
        "neither a function's own reset nor an unloaded driver is a reboot"
    );
    p.submit(reset_of(0, ResetKind::Bus));
    assert!(starts(&p), "the host's reset is one");
    assert_eq!(p.state(1).0, "disabled", "of the whole card");
    p.later(50);
    p.submit(reset_of(0, ResetKind::Bus));
    assert!(!starts(&p), "and the next one is not");
    p.up(0, true, false);
    p.ok(0, &level(0x40), 24);
    p.submit(reset_of(1, ResetKind::ClientGone));
    assert!(starts(&p), "nor is a machine that is off running");
}

#[test]
fn of_several_levels_the_card_takes_those_that_it_offers() {
    let mut p = Pair::of(
        "[registers.MFRL]\nreset_level = 0x40\n",
        [EventPath::EventQueues; 2],
    );
    let write = |level, start| {
        let start = (MfrlReg::PCI_SYNC_FOR_FW_UPDATE_START, start);
        Pair::mfrl(&[(MfrlReg::RESET_LEVEL, level), start], true)
    };
    for refused in [write(8, 0), write(1, 0), write(0x48, 1)] {
        p.send(0, ANSWER, &refused, 24);
        assert_eq!(p.replies.pop().unwrap().2[0], 3, "BAD_PARAM");
    }
    p.ok(0, &write(0x48, 0), 24);
    p.submit(reset_of(0, ResetKind::Bus));
    assert_eq!(p.read(0, 0x1fc) >> 31, 1, "it starts");
}

#[test]
fn what_does_not_fit_the_moment_is_refused() {
    let mut p = Pair::new("");
    let out = p.answer(0, 1);
    assert_eq!(
        (out[0], &out[4..8]),
        (9, &[0, 0xe6, 0, 0x0a][..]),
        "unasked"
    );
    p.start(0);
    p.start(1);
    assert_eq!(p.started(), Some((9, 0x00e6_0009)), "one at a time");
    p.answer(0, 1);
    assert_eq!(p.answer(0, 1)[0], 9, "twice");
    assert_eq!(p.answer(1, 3)[0], 3, "neither yes nor no");
    let level0 = Pair::mfrl(&[(MfrlReg::RESET_LEVEL, 1)], true);
    p.send(0, ANSWER, &level0, 24);
    assert_eq!(
        p.replies.pop().unwrap().2[0],
        3,
        "a level that is not offered"
    );
}

#[test]
fn a_driver_that_does_not_listen_cannot_agree_and_one_that_left_need_not() {
    let mut p = Pair::new("");
    let reset = |function| Input::Reset {
        function: FunctionId(function),
        kind: ResetKind::Flr,
    };
    p.submit(reset(1));
    p.up(1, false, false);
    p.events.clear();
    p.start(0);
    assert_eq!(p.started(), Some((9, 0x00e6_000b)));
    p.events.clear();
    p.submit(reset(1));
    p.start(0);
    assert_eq!(p.steps(), [(0, REQUEST)], "who is not up is not asked");
    p.answer(0, 1);
    assert_eq!(p.steps(), [(0, NOW)]);
    p.leaves(0);
    assert_eq!(p.state(1), ("disabled", 3), "and is reset with the card");
}

#[test]
fn with_unloading_the_firmware_waits_for_the_link_or_the_bus() {
    let more = "[caps_max.general]\npci_sync_for_fw_update_with_driver_unload = 1\n";
    let mut p = Pair::new(more);
    for f in 0..2 {
        p.submit(Input::Reset {
            function: FunctionId(f),
            kind: ResetKind::Flr,
        });
        p.up(f, true, true);
    }
    p.events.clear();
    p.start(0);
    p.answer(0, 1);
    p.answer(1, 1);
    p.steps().drain(..2);
    for f in 0..2 {
        p.leaves(f);
        assert_eq!(p.read(0, 0x1fc) >> 12 & 0xf, 0);
        p.segment(f, 0x1fc, 1 << 22);
    }
    assert_eq!(p.read(0, 0x1fc) >> 12 & 0xf, 4, "toggle the link");
    assert_eq!(p.state(0).1, 1, "not yet");
    p.later(1_000);
    assert_eq!((p.read(0, 0x1fc) >> 12 & 0xf, p.state(1).1), (0, 2));
}

#[test]
fn the_step_for_a_driver_that_unloads_has_its_own_number() {
    let more = "[caps_max.general]\npci_sync_for_fw_update_with_driver_unload = 1\n";
    let mut p = Pair::new(more);
    p.submit(Input::Reset {
        function: FunctionId(1),
        kind: ResetKind::Flr,
    });
    p.up(1, true, true);
    p.events.clear();
    p.start(0);
    p.answer(0, 1);
    p.answer(1, 1);
    assert_eq!(p.steps()[2..], [(0, NOW), (1, UNLOAD)]);
}

#[test]
fn a_driver_forces_a_reset_and_all_functions_see_it() {
    let mut p = Pair::new("");
    p.segment(0, 0x14, 7 << 8);
    assert_eq!((p.nic_interface(0), p.nic_interface(1)), (7, 7));
    assert_eq!(p.state(1), ("up", 0));
    p.later(100);
    assert_eq!((p.nic_interface(0), p.nic_interface(1)), (1, 1));
    assert_eq!((p.state(0), p.state(1)), (("disabled", 1), ("disabled", 1)));
}

#[test]
fn a_driver_that_tears_down_meanwhile_need_not_answer() {
    let mut p = Pair::new("");
    p.start(0);
    p.answer(0, 1);
    p.steps();
    p.ok(1, &cmd(op::TEARDOWN_HCA, 0, 16), 16);
    assert_eq!(p.started(), Some((0, 0)));
}

#[test]
fn next_boot_configuration_is_in_force_after_it() {
    let mut p = Pair::new("");
    // MNVDA: access mode in bits 8..10, length in the low bits of the first dword, type, data.
    let item = |mode: u8, write: bool| {
        let mut c = cmd(op::ACCESS_REG, u16::from(!write), 16 + 268);
        c[10..12].copy_from_slice(&register::MNVDA.to_be_bytes());
        c[20..24].copy_from_slice(&0x0000_0080u32.to_be_bytes());
        (c[17], c[19]) = (mode << 6, 4);
        c[28..32].copy_from_slice(&[1, 2, 3, 4]);
        c
    };
    let mut fx = Effects::new();
    let set = item(0, true);
    let input = Input::Command {
        function: FunctionId(0),
        tag: ANSWER,
        caller: Caller::Driver,
        inbox: &set,
        outbox_len: 16 + 268,
    };
    p.card.submit(input, p.now, &NoMemory, &mut fx);
    let token = fx.iter().find_map(|e| match e {
        Effect::Commit { token, .. } => Some(*token),
        _ => None,
    });
    p.submit(Input::Committed {
        token: token.unwrap(),
        stored: true,
    });
    assert_eq!(p.replies.pop().unwrap().2[0], 0);
    let current = |p: &mut Pair| p.ok(0, &item(1, false), 16 + 268)[28..32].to_vec();
    assert_eq!(current(&mut p), [0; 4]);
    p.start(0);
    p.answer(0, 1);
    p.answer(1, 1);
    p.leaves(0);
    p.leaves(1);
    p.later(50);
    p.up(0, true, false);
    assert_eq!(current(&mut p), [1, 2, 3, 4]);
}

#[test]
fn who_takes_the_trace_is_dismissed_a_little_later() {
    let mut p = Pair::new("");
    let own = |on: u64| {
        let mut c = cmd(op::ACCESS_REG, 0, 16 + 128);
        c[10..12].copy_from_slice(&register::MTRC_CAP.to_be_bytes());
        ViewMut::<MtrcCap>::new(&mut c[16..])
            .unwrap()
            .set(MtrcCap::TRACE_OWNER, on);
        c
    };
    p.ok(0, &own(1), 144);
    let mut mkey = cmd(op::CREATE_MKEY, 0, 288);
    let mut v = ViewMut::<CreateMkeyIn>::new(&mut mkey).unwrap();
    let mut k = v.sub_mut(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY);
    k.set(Mkc::LW, 1);
    k.set(Mkc::LENGTH64, 1);
    let out = p.ok(0, &mkey, 16);
    let mut conf = cmd(op::ACCESS_REG, 0, 16 + 128);
    conf[10..12].copy_from_slice(&register::MTRC_CONF.to_be_bytes());
    let mut v = ViewMut::<MtrcConf>::new(&mut conf[16..]).unwrap();
    v.set(MtrcConf::TRACE_MODE, 1);
    v.set(MtrcConf::TRACE_MKEY, get_bits(&out, 0x48, 24) << 8);
    p.ok(0, &conf, 144);
    let mut ctrl = cmd(op::ACCESS_REG, 0, 16 + 64);
    ctrl[10..12].copy_from_slice(&register::MTRC_CTRL.to_be_bytes());
    let mut v = ViewMut::<MtrcCtrl>::new(&mut ctrl[16..]).unwrap();
    v.set(MtrcCtrl::MODIFY_FIELD_SELECT, 1);
    v.set(MtrcCtrl::TRACE_STATUS, 1);
    v.set(MtrcCtrl::ARM_EVENT, 1);
    p.ok(0, &ctrl, 80);
    p.events.clear();
    p.start(0);
    assert_eq!(p.steps(), [(0, 0), (1, 0)]);
    p.answer(0, 1);
    p.answer(1, 1);
    // Its lines do not go out, and arming tells of nothing.
    p.later(199);
    p.ok(0, &ctrl, 80);
    assert_eq!((p.steps(), p.started()), (vec![], None));
    p.later(1);
    assert_eq!(p.steps(), [(0, 1), (1, 1)]);
    assert_eq!(p.started(), Some((0, 0)));
    p.leaves(0);
    p.leaves(1);
    p.later(1000);
    assert_eq!((p.events.len(), p.state(0).1), (0, 1));
}
