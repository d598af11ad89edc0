// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether a fault has changed a byte that a driver reads, and whether the driver went on from it: a fuzzer of
//! drivers counts nothing else.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{Input, fault::Fault};
use fwctl_proto::opcode as op;

/// Struck, changed and consumed, of one fault after NOP and after another one.
fn counts(text: &str) -> [(u64, u64, u64); 2] {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    let fault = Fault::parse(text).unwrap();
    d.submit(Input::Fault(&fault));
    let mut slot = 0;
    let mut after = |d: &mut Driver| {
        // Not waited for: it may be lost.
        d.post(slot, &cmd(op::QUERY_ADAPTER, 0, 16), 272);
        d.ring(1 << slot);
        slot += 1;
        let [f] = d.card.faults() else { panic!() };
        (f.struck, f.changed, f.consumed)
    };
    [after(&mut d), after(&mut d)]
}

#[test]
fn what_takes_time_or_refrains_changes_no_byte() {
    for then in [
        "delay=1",
        "lost",
        "silent",
        "no-event",
        "no-interrupt",
        "interrupts=3",
        "stop",
        "hang",
        // The byte was zero.
        "reserved=0",
        // There is no event queue that takes it.
        "raise=PORT_CHANGE",
    ] {
        let got = counts(&format!("opcode=QUERY_ADAPTER : {then} : times=1"));
        assert_eq!(got, [(1, 0, 0), (1, 0, 0)], "{then}");
    }
}

#[test]
fn a_changed_byte_counts_once_the_driver_goes_on() {
    for then in [
        "status=BAD_PARAM",
        "fill=1",
        "fill=random delay=0",
        "mutate=200",
        "cut=8",
        "reserved=1",
        "token=3",
        "signature",
        "delivery=TOK_ERR",
        "stray-write=0",
    ] {
        let got = counts(&format!("opcode=QUERY_ADAPTER : {then} : times=1"));
        assert_eq!(got, [(1, 1, 0), (1, 1, 1)], "{then}");
    }
}

#[test]
fn two_faults_are_told_apart() {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    for text in ["any : delay=0 : times=0", "any : fill=1 : times=1"] {
        d.submit(Input::Fault(&Fault::parse(text).unwrap()));
    }
    d.exec(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    d.exec(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    let all: Vec<_> = d
        .card
        .faults()
        .iter()
        .map(|f| (f.struck, f.changed, f.consumed))
        .collect();
    assert_eq!(all, [(2, 0, 0), (1, 1, 1)]);
}
