// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A panic that the process contains is no silent one for a fuzzer. A file of its own: panics are counted for
//! the whole process.
#![cfg(feature = "emulator")]

use std::{collections::BTreeMap, thread};

use fw_fuzz::{command, panics::none_in, targets::profile};
use fw_model::{
    Caller, Card, CardOptions, EventPath, FunctionId, Input, MemStore, NoMemory, fault::Fault,
};
use fwctl_emu::owner::Owner;
use fwctl_proto::opcode;

#[test]
fn contained_panics_are_counted() {
    assert_eq!(none_in(|| {}), Ok(()));
    // In this thread, in another one whose end nobody looks at, and in the owner, which goes on.
    assert_eq!(none_in(|| panic!("on purpose")), Err("1 panics".into()));
    let elsewhere = || {
        let _ = thread::spawn(|| panic!("on purpose, in a thread")).join();
    };
    let contained = |n: u8| Err(format!("{n} panics, all of them contained"));
    assert_eq!(none_in(elsewhere), contained(1));
    let mut card = Card::new(profile(), CardOptions::default(), &BTreeMap::new());
    card.add_function(EventPath::Channel);
    let owner = Owner::new(card, Box::new(MemStore::default()));
    let fault = Fault::parse("opcode=QUERY_ISSI : panic").unwrap();
    owner.submit(Input::Fault(&fault), &NoMemory);
    let ask = |op| {
        let input = Input::Command {
            function: FunctionId(0),
            tag: 1,
            caller: Caller::Driver,
            inbox: &command(op, 0, 16),
            outbox_len: 16,
        };
        owner.submit(input, &NoMemory);
    };
    assert_eq!(none_in(|| ask(opcode::ENABLE_HCA)), Ok(()));
    assert_eq!(none_in(|| ask(opcode::QUERY_ISSI)), contained(1));
    assert_eq!(none_in(|| ask(opcode::ENABLE_HCA)), Ok(()));
}
