// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Diagnostic parameters and counters, in the bytes that the public tool mlx5ctl sends.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fwctl_proto::opcode as op;

const BAD_PARAM: u8 = 3;
/// diagcnt's flags, in byte 12: single, repetitive, on_demand, enable; and clear.
const SINGLE: u8 = 0x80;
const REPETITIVE: u8 = 0x40;
const CLEAR: u8 = 0x10;
const ON_DEMAND: u8 = 0x08;
const ENABLE: u8 = 0x04;

/// SET_DIAGNOSTIC_PARAMS as `diagcnt set` makes it.
fn set(flags: u8, log_samples: u8, log_period: u8, counters: &[u16]) -> Vec<u8> {
    let mut c = cmd(op::SET_DIAGNOSTIC_PARAMS, 0, 32 + 4 * counters.len());
    c[8..10].copy_from_slice(&(counters.len() as u16).to_be_bytes());
    c[11] = log_samples;
    c[12] = flags;
    c[15] = log_period;
    for (entry, id) in c[32..].chunks_exact_mut(4).zip(counters) {
        entry[2..].copy_from_slice(&id.to_be_bytes());
    }
    c
}

/// QUERY_DIAGNOSTIC_COUNTERS as `diagcnt dump` makes it.
fn dump(samples: u16, index: u16) -> Vec<u8> {
    let mut c = cmd(op::QUERY_DIAGNOSTIC_COUNTERS, 0, 16);
    c[8..10].copy_from_slice(&samples.to_be_bytes());
    c[10..12].copy_from_slice(&index.to_be_bytes());
    c
}

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

#[test]
fn the_debug_capability_lists_the_counters() {
    let mut d = up();
    let general = d.ok(&cmd(op::QUERY_HCA_CAP, 1, 16), 4112);
    assert_eq!(general[16 + 0x50..][..2], [0, 13]);
    let debug = d.ok(&cmd(op::QUERY_HCA_CAP, 0xd << 1 | 1, 16), 4112);
    // log_max_samples; single and repetitive; log_min_sample_period.
    assert_eq!(debug[16 + 3], 7);
    assert_eq!(debug[16 + 4] & 0xc0, 0xc0);
    assert_eq!(debug[16 + 7], 16);
    assert_eq!(debug[16 + 0x40..][..8], [0x80, 0, 4, 1, 0x80, 0, 4, 2]);
}

#[test]
fn what_was_set_is_read_back() {
    let mut d = up();
    let c = set(REPETITIVE | ENABLE | CLEAR, 3, 20, &[0x2006, 0x1001]);
    d.ok(&c, 16);
    let out = d.ok(&cmd(op::QUERY_DIAGNOSTIC_PARAMS, 0, 16), 32 + 12);
    let mut want = c[8..40].to_vec();
    want[4] &= !CLEAR;
    assert_eq!(out[8..40], want);
    assert_eq!(out[40..], [0; 4]);
    // `diagcnt disable`
    d.ok(&set(CLEAR, 0, 0, &[]), 16);
    let out = d.ok(&cmd(op::QUERY_DIAGNOSTIC_PARAMS, 0, 16), 32);
    assert_eq!(out[8..], [0; 24]);
}

#[test]
fn samples_are_read_in_order_and_those_to_come_are_zero() {
    let mut d = up();
    d.ok(&set(ON_DEMAND | ENABLE, 1, 0, &[0x2006, 0x0402]), 16);
    let first = d.ok(&dump(2, 0), 16 + 4 * 16);
    assert_eq!(first[16..20], [0x20, 0x06, 0, 0]);
    assert_eq!(first[32..36], [0x04, 0x02, 0, 0]);
    assert_eq!(first[48..], [0; 32]);
    let second = d.ok(&dump(2, 0), 16 + 4 * 16);
    assert_eq!(second[16..48], first[16..48]);
    assert_eq!(second[48..52], [0x20, 0x06, 0, 1]);
    let third = d.ok(&dump(1, 1), 16 + 2 * 16);
    assert_eq!(third[16..20], [0x20, 0x06, 0, 2]);
}

#[test]
fn what_cannot_be_sampled_is_refused_and_changes_nothing() {
    let mut d = up();
    let good = set(REPETITIVE | ENABLE, 3, 20, &[0x2006]);
    d.ok(&good, 16);
    let mut short = good.clone();
    short[9] = 2;
    for (c, syndrome) in [
        (set(REPETITIVE | ENABLE, 3, 20, &[0x7777]), 0x00ea_0001),
        (
            set(REPETITIVE | ENABLE, 3, 20, &[0x2006, 0x2006]),
            0x00ea_0001,
        ),
        (set(REPETITIVE | ENABLE, 8, 20, &[0x2006]), 0x00ea_0002),
        (set(REPETITIVE | ENABLE, 3, 15, &[0x2006]), 0x00ea_0002),
        (set(REPETITIVE | ENABLE, 3, 64, &[0x2006]), 0x00ea_0002),
        (
            set(REPETITIVE | SINGLE | ENABLE, 3, 20, &[0x2006]),
            0x00ea_0002,
        ),
        (set(ENABLE, 3, 20, &[0x2006]), 0x00ea_0002),
        (set(REPETITIVE | ENABLE, 3, 20, &[]), 0x00ea_0002),
        (dump(9, 0), 0x00e9_0001),
        (dump(0xffff, 0xffff), 0x00e9_0001),
    ] {
        let r = d.exec(&c, 64);
        assert_eq!(
            (r.status(), r.syndrome()),
            (BAD_PARAM, syndrome),
            "{c:02x?}"
        );
    }
    assert_ne!(d.exec(&short, 16).status(), 0);
    let out = d.ok(&cmd(op::QUERY_DIAGNOSTIC_PARAMS, 0, 16), 36);
    assert_eq!(out[8..36], good[8..36]);
}
