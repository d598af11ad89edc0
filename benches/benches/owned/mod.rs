// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A card with its owner, with and without a trace.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs::File, hint::black_box, sync::Arc};

use fw_model::{
    Caller, Card, CardOptions, Delivery, EventPath, FunctionId, Input, MemStore, NoMemory, Order,
    Profile,
};
use fwctl_emu::{
    owner::{Owner, Sink},
    trace::{Entry, Recorder},
};

use super::device::inbox;

struct Nobody;

impl Sink for Nobody {
    fn write(&self, _: u64, _: &[u8], _: Order) {}
    fn interrupt(&self, _: u16) {}
    fn reply(&self, _: u64, _: Delivery, outbox: &[u8]) {
        black_box(outbox);
    }
    fn event(&self, _: u8, _: u8, _: &[u8]) {}
}

/// An owner whose card's one function is enabled.
pub struct Owned {
    owner: Arc<Owner>,
    function: FunctionId,
    nop: Vec<u8>,
}

/// Makes one; a NOP was sent already, so that buffers have their size.
pub fn owned(traced: bool) -> Owned {
    let profile = Profile::builtin("connectx7").unwrap();
    let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
    let owner = Owner::new(card, Box::new(MemStore::default()));
    let function = owner.add_function(EventPath::Channel).unwrap();
    owner.attach(function, Arc::new(Nobody));
    if traced {
        let head = Entry::Lost { count: 0 };
        owner.trace(
            Recorder::start(File::create("/dev/null").unwrap(), String::new(), &head).unwrap(),
        );
    }
    let o = Owned {
        owner,
        function,
        nop: inbox(0x80d, 0, 16),
    };
    o.call(&inbox(0x104, 0, 16));
    o.nop();
    o
}

impl Owned {
    /// One NOP.
    pub fn nop(&self) {
        self.call(black_box(&self.nop));
    }

    fn call(&self, inbox: &[u8]) {
        let input = Input::Command {
            function: self.function,
            tag: 0,
            caller: Caller::Driver,
            inbox,
            outbox_len: 16,
        };
        self.owner.submit(input, &NoMemory);
    }
}
