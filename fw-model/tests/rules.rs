// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The rule tables walked completely: opcode × state, opcode × caller, object × owner.
//!
//! What is expected is written here by hand or follows from the kernel's drivers, and is not read
//! from the table that is walked.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{
    syndrome::Syndrome,
    table::{Action, Callers, OPS, Op, ScopeRule, find},
};
use fwctl_proto::{
    layout::{self, get_bits, set_bits},
    opcode,
};

/// Where a function is in its life.
const STATES: [&str; 3] = ["disabled", "enabled", "up"];

/// Commands that are not for a function that is up alone: in which of [`STATES`] they are allowed.
const NOT_ONLY_UP: &[(&str, [bool; 3])] = &[
    ("ENABLE_HCA", [true, false, false]),
    ("DISABLE_HCA", [false, true, false]),
    ("INIT_HCA", [false, true, false]),
    ("SET_ISSI", [false, true, false]),
    ("TEARDOWN_HCA", [false, false, true]),
    ("QUERY_HCA_CAP", [false, true, true]),
    ("SET_HCA_CAP", [false, true, true]),
    ("QUERY_ADAPTER", [false, true, true]),
    ("QUERY_PAGES", [false, true, true]),
    ("MANAGE_PAGES", [false, true, true]),
    ("QUERY_ISSI", [false, true, true]),
    ("SET_DRIVER_VERSION", [false, true, true]),
    ("ACCESS_REGISTER_USER", [false, true, true]),
    ("ACCESS_REG", [false, true, true]),
    ("NOP", [true, true, true]),
];

/// Commands that a DEVX user may not send: the function's own affairs.
const NO_DEVX: &[&str] = &[
    "SET_DIAGNOSTIC_PARAMS",
    "SET_ROCE_ADDRESS",
    "CONFIG_INT_MODERATION",
    "GET_DROPPED_PACKET_LOG",
    "MODIFY_HCA_VPORT_CONTEXT",
    "ENABLE_HCA",
    "DISABLE_HCA",
    "INIT_HCA",
    "TEARDOWN_HCA",
    "SET_ISSI",
    "QUERY_PAGES",
    "MANAGE_PAGES",
    "SET_HCA_CAP",
    "SET_DRIVER_VERSION",
    "CREATE_UCTX",
    "DESTROY_UCTX",
    "MODIFY_VPORT_STATE",
    "MODIFY_NIC_VPORT_CONTEXT",
    "SET_L2_TABLE_ENTRY",
    "DELETE_L2_TABLE_ENTRY",
    "ADD_VXLAN_UDP_DPORT",
    "DELETE_VXLAN_UDP_DPORT",
    "SET_WOL_ROL",
];

fn name(o: &Op) -> &'static str {
    opcode::name(o.opcode).unwrap()
}

fn in_state(state: &str) -> Driver {
    let mut d = Driver::new("connectx7");
    match state {
        "disabled" => {}
        "enabled" => {
            d.ok(&cmd(0x104, 0, 16), 12);
        }
        _ => d.bring_up(),
    }
    assert_eq!(d.card.report(d.f).unwrap().state, state);
    d
}

fn user(d: &mut Driver, cap: u64) -> u16 {
    let mut c = cmd(0xa04, 0, 64);
    let p = layout::find("create_uctx_in").unwrap().field("uctx.cap");
    let p = p.unwrap();
    set_bits(&mut c, p.offset, p.width, cap);
    get_bits(&d.ok(&c, 16), 0x50, 16) as u16
}

fn as_user(mut c: Vec<u8>, uid: u16) -> Vec<u8> {
    c[2..4].copy_from_slice(&uid.to_be_bytes());
    c
}

fn plain(o: &Op) -> Vec<u8> {
    cmd(o.opcode, 0, usize::from(o.in_len).max(16))
}

#[test]
fn every_opcode_in_every_state() {
    for o in OPS {
        // For the own function only before INIT_HCA; an up one may prepare another.
        let own_caps = name(o) == "SET_HCA_CAP";
        let expected = match NOT_ONLY_UP.iter().find(|(n, _)| *n == name(o)) {
            Some(_) if own_caps => [false, true, false],
            Some((_, allowed)) => *allowed,
            // What nobody may ever use is refused for that, in every state.
            None if matches!(o.action, Action::Refuse(_)) => [true; 3],
            None => [false, false, true],
        };
        for (state, allowed) in STATES.into_iter().zip(expected) {
            let mut d = in_state(state);
            let r = d.exec_any(&plain(o), 4112);
            assert_eq!(
                r.syndrome() != Syndrome::WrongState.code(),
                allowed,
                "{} when {state}",
                name(o)
            );
            if !allowed {
                assert_eq!(r.status(), 0x4, "BAD_SYS_STATE: {}", name(o));
            }
        }
    }
    for (n, _) in NOT_ONLY_UP {
        assert!(OPS.iter().any(|o| name(o) == *n), "{n}");
    }
}

#[test]
fn every_opcode_by_every_kind_of_caller() {
    const TOOLS: u64 = 4;
    for o in OPS {
        let mut d = in_state("up");
        let (devx, tools) = (user(&mut d, 0), user(&mut d, TOOLS));
        if !NOT_ONLY_UP
            .iter()
            .any(|(n, allowed)| *n == name(o) && !allowed[2])
        {
            // mlx5_fwctl lets its users, which are tools, send what has a scope and nothing else.
            let callers = [
                (0, true),
                (devx, !NO_DEVX.contains(&name(o))),
                (tools, o.scope != ScopeRule::Never),
            ];
            for (uid, allowed) in callers {
                let r = d.exec_any(&as_user(plain(o), uid), 4112);
                let refused = r.syndrome() == Syndrome::CallerNotAllowed.code();
                if name(o) == "SET_HCA_CAP" && uid == tools {
                    assert!(refused, "for another function only");
                    continue;
                }
                assert_eq!(refused, !allowed, "{} by uid {uid}", name(o));
                if refused {
                    assert_eq!(r.status(), 0x2, "BAD_OP: {}", name(o));
                }
                if name(o) == "TEARDOWN_HCA" && uid == 0 {
                    d.bring_up_again();
                    assert_eq!((user(&mut d, 0), user(&mut d, TOOLS)), (devx, tools));
                }
            }
        }
        let mut d = in_state("up");
        let r = d.exec_any(&as_user(plain(o), 0x1234), 4112);
        if NOT_ONLY_UP.iter().all(|(n, a)| *n != name(o) || a[2]) {
            assert_eq!(
                (r.status(), r.syndrome()),
                (0x5, Syndrome::NoSuchUid.code()),
                "{} by nobody",
                name(o)
            );
        }
    }
}

#[test]
fn a_context_without_the_tools_capability_is_a_devx_one() {
    let mut d = in_state("up");
    // CAP_RAW_TX alone is not offered by the profile; no capability at all is.
    let uid = user(&mut d, 0);
    let r = d.exec(&as_user(cmd(0x107, 3, 16), uid), 16);
    assert_eq!(r.syndrome(), Syndrome::CallerNotAllowed.code());
}

/// Create, query (or 0), destroy of kinds that need nothing else, and the bytes of each inbox.
const KINDS: &[(u16, u16, u16, usize, usize)] = &[
    (0x200, 0x201, 0x202, 272, 16),
    (0x400, 0x402, 0x401, 272, 16),
    (0x500, 0x50b, 0x501, 272, 16),
    (0x700, 0x702, 0x701, 272, 16),
    (0x705, 0x707, 0x706, 272, 16),
    (0x710, 0x713, 0x711, 128, 16),
    (0x717, 0x719, 0x718, 336, 16),
    (0x900, 0x903, 0x902, 272, 16),
    (0x904, 0x907, 0x906, 272, 16),
    (0x908, 0x90b, 0x90a, 272, 16),
    (0x90c, 0x90f, 0x90e, 272, 16),
    (0x912, 0x915, 0x914, 192, 16),
    (0x916, 0x919, 0x918, 272, 16),
    (0x939, 0x93b, 0x93a, 16, 32),
    (0x800, 0, 0x801, 16, 16),
    (0x802, 0, 0x803, 16, 16),
    (0x80e, 0, 0x80f, 16, 16),
    (0x816, 0, 0x817, 16, 16),
];

#[test]
fn who_sees_and_who_ends_whose_objects() {
    for (create, query, destroy, create_len, query_len) in KINDS {
        let mut d = in_state("up");
        let (a, b, tools) = (user(&mut d, 0), user(&mut d, 0), user(&mut d, 4));
        let c = cmd(*create, 0, *create_len);
        let r = d.exec(&as_user(c.clone(), tools), 64);
        assert_eq!(
            r.syndrome(),
            Syndrome::CallerNotAllowed.code(),
            "tools make nothing: {create:#x}"
        );
        for (owner, stranger) in [(a, b), (0, a)] {
            let out = d.ok(&as_user(c.clone(), owner), 64);
            // 32-bit ids lie at byte 8, 24-bit ones at byte 9.
            let id = u32::from_be_bytes(out[8..12].try_into().unwrap());
            let named = |op: u16, len: usize, uid: u16| {
                let mut c = cmd(op, 0, len);
                let at = if op == 0x93b { 28 } else { 8 };
                c[at..at + 4].copy_from_slice(&id.to_be_bytes());
                as_user(c, uid)
            };
            if *query != 0 {
                for (uid, sees) in [(0, true), (owner, true), (tools, true), (stranger, false)] {
                    let r = d.exec(&named(*query, *query_len, uid), 512);
                    let expected = if sees { 0 } else { Syndrome::NotOwner.code() };
                    assert_eq!(r.syndrome(), expected, "{query:#x} of {owner} by {uid}");
                }
            }
            let end_len = 16;
            let r = d.exec(&named(*destroy, end_len, stranger), 16);
            assert_eq!(r.syndrome(), Syndrome::NotOwner.code(), "{destroy:#x}");
            let r = d.exec(&named(*destroy, end_len, tools), 16);
            assert_eq!(r.syndrome(), Syndrome::CallerNotAllowed.code());
            d.ok(&named(*destroy, end_len, owner), 16);
        }
        // What a context leaves behind goes with it.
        d.ok(&as_user(c, a), 64);
        let mut end = cmd(0xa06, 0, 16);
        set_bits(&mut end, 0x50, 16, u64::from(a));
        d.ok(&end, 16);
        assert!(
            d.card.report(d.f).unwrap().objects.is_empty(),
            "{create:#x}"
        );
    }
}

#[test]
fn tools_may_send_what_fwctl_lets_through_and_the_table_says_so_twice() {
    for o in OPS {
        let by_tools = matches!(o.callers, Callers::All | Callers::KernelTools);
        assert_eq!(by_tools, o.scope != ScopeRule::Never, "{}", name(o));
    }
    assert!(find(0x805).is_some());
}

#[test]
fn capability_pages_of_every_known_type_and_of_no_other() {
    let mut d = in_state("up");
    for t in 0..0x80u16 {
        for maximum in [0, 1] {
            let r = d.exec(&cmd(0x100, t << 1 | (1 - maximum), 16), 4112);
            let known = fwctl_proto::cap_type::name(t).is_some();
            assert_eq!(r.status() == 0, known, "type {t:#x}");
            if !known {
                assert_eq!(r.syndrome(), Syndrome::CapTypeUnknown.code());
            }
            // A short outbox gets the beginning.
            let short = d.exec(&cmd(0x100, t << 1 | (1 - maximum), 16), 64);
            assert_eq!(short.out, r.out[..64], "type {t:#x}");
        }
    }
}

#[test]
fn set_hca_cap_takes_what_is_below_the_maximum_and_nothing_else() {
    let general = |d: &mut Driver, op_mod| d.ok(&cmd(0x100, op_mod, 16), 4112)[16..].to_vec();
    let place = |f: &str| {
        let p = layout::find("cmd_hca_cap").unwrap().field(f).unwrap();
        (p.offset, p.width)
    };
    let mut d = in_state("enabled");
    let (current, max) = (general(&mut d, 1), general(&mut d, 0));
    let set = |page: &[u8]| [&cmd(0x109, 0, 16)[..], page].concat();
    // As a driver sends it back, and with what only the maximum has.
    d.ok(&set(&current), 16);
    let mut page = current.clone();
    let (at, width) = place("cmdif_checksum");
    assert_eq!(get_bits(&max, at, width), 3);
    set_bits(&mut page, at, width, 3);
    let r = d.exec(&set(&page), 16);
    assert_eq!(r.status(), 0);
    // Above the maximum: nothing changes.
    let mut d = in_state("enabled");
    let mut page = current.clone();
    let (at, width) = place("log_max_qp");
    set_bits(&mut page, at, width, get_bits(&max, at, width) + 1);
    let r = d.exec(&set(&page), 16);
    assert_eq!(
        (r.status(), r.syndrome()),
        (0x3, Syndrome::CapAboveMax.code())
    );
    assert_eq!(general(&mut d, 1), current);
    // Lower: in force at once.
    set_bits(&mut page, at, width, 4);
    d.ok(&set(&page), 16);
    assert_eq!(get_bits(&general(&mut d, 1), at, width), 4);
    assert_eq!(general(&mut d, 0), max, "the maximum stays");
}
