// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Each limit that protects the process: reached, refused, and everything else goes on.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::cmd;
use fw_model::{
    Caller, Card, CardOptions, Delivery, Effect, Effects, EventPath, FunctionId, Input, NoMemory,
    Profile, Time,
    limits::{
        MAX_DELAY_NANOS, MAX_DELAYS, MAX_FUNCTIONS, MAX_IN_FLIGHT, MAX_OBJECT_BYTES, MAX_PAGES,
    },
    nv::{MAX_ITEMS, NvStore},
    object::HEADER,
    store::Batch,
    syndrome::Syndrome,
};

/// A function on a command channel, brought up: no guest memory in the way of large messages.
struct Direct {
    card: Card,
    function: FunctionId,
    fx: Effects,
}

impl Direct {
    fn up(profile: &str) -> Self {
        let mut card = Card::new(
            Profile::builtin(profile).unwrap(),
            CardOptions::default(),
            &BTreeMap::new(),
        );
        let function = card.add_function(EventPath::Channel).unwrap();
        let mut d = Self {
            card,
            function,
            fx: Effects::new(),
        };
        d.run(&cmd(0x104, 0, 16)).unwrap();
        d.give(48, 0x1000).unwrap();
        d.run(&cmd(0x102, 0, 16)).unwrap();
        d
    }

    /// The syndrome of a refusal.
    fn run(&mut self, inbox: &[u8]) -> Result<(), u32> {
        self.fx.clear();
        let input = Input::Command {
            function: self.function,
            tag: 1,
            caller: Caller::Driver,
            inbox,
            outbox_len: 16,
        };
        self.card.submit(input, Time::ZERO, &NoMemory, &mut self.fx);
        let out = self
            .fx
            .iter()
            .find_map(|e| match e {
                Effect::Reply { outbox, .. } => Some(self.fx.bytes(*outbox)),
                _ => None,
            })
            .unwrap();
        if out[0] == 0 {
            Ok(())
        } else {
            Err(u32::from_be_bytes(out[4..8].try_into().unwrap()))
        }
    }

    fn give(&mut self, n: usize, base: u64) -> Result<(), u32> {
        let mut give = cmd(0x108, 1, 16 + 8 * n);
        give[12..16].copy_from_slice(&(n as u32).to_be_bytes());
        for i in 0..n {
            give[16 + 8 * i..][..8].copy_from_slice(&(base + i as u64 * 4096).to_be_bytes());
        }
        self.run(&give)
    }
}

#[test]
fn pages_end_at_max_pages() {
    let mut d = Direct::up("minimal");
    let mut held = 48;
    while held < MAX_PAGES {
        let n = (MAX_PAGES - held).min(1 << 16);
        d.give(n, 0x10_0000_0000 + held as u64 * 4096).unwrap();
        held += n;
    }
    assert_eq!(
        d.give(1, 0x20_0000_0000),
        Err(Syndrome::TooManyPages.code())
    );
    assert_eq!(d.run(&cmd(0x80d, 0, 16)), Ok(()));
}

#[test]
fn object_contexts_end_at_their_memory() {
    let mut d = Direct::up("connectx7");
    // An RQT may carry a list as long as a message.
    let create = cmd(0x916, 0, 1 << 20);
    let each = create.len() - HEADER;
    let mut made = 0;
    let end = loop {
        // The driver gives the pages that the firmware asks for.
        d.give(
            each.div_ceil(4096),
            0x10_0000_0000 + made as u64 * 0x20_0000,
        )
        .unwrap();
        match d.run(&create) {
            Ok(()) => made += 1,
            Err(syndrome) => break syndrome,
        }
        assert!(made * each <= MAX_OBJECT_BYTES, "no end to it");
    };
    assert_eq!(made, MAX_OBJECT_BYTES / each);
    assert_eq!(end, Syndrome::ObjectMemory.code());
    assert_eq!(d.run(&cmd(0x800, 0, 16)), Ok(()));
}

#[test]
fn a_driver_that_gives_no_pages_gets_no_more_objects() {
    let mut d = Direct::up("connectx7");
    let create = cmd(0x916, 0, 1 << 20);
    let mut made = 0;
    let end = loop {
        match d.run(&create) {
            Ok(()) => made += 1,
            Err(syndrome) => break syndrome,
        }
        assert!(made < 100, "no end to it");
    };
    // 1 MiB each; more than 1024 pages owed is too many.
    assert_eq!((made, end), (5, Syndrome::ObjectPages.code()));
    d.give(2048, 0x10_0000_0000).unwrap();
    assert_eq!(d.run(&create), Ok(()));
}

#[test]
fn functions_end_at_max_functions() {
    let mut card = Card::new(
        Profile::builtin("minimal").unwrap(),
        CardOptions::default(),
        &BTreeMap::new(),
    );
    for _ in 0..MAX_FUNCTIONS {
        assert!(card.add_function(EventPath::Channel).is_some());
    }
    assert!(card.add_function(EventPath::Channel).is_none());
}

#[test]
fn configuration_items_end_at_max_items() {
    let mut nv = NvStore::load(&BTreeMap::new());
    for i in 0..MAX_ITEMS as u32 {
        nv.set(i, &[1], 0, &mut Batch::default()).unwrap();
    }
    assert_eq!(
        nv.set(u32::MAX, &[1], 0, &mut Batch::default()),
        Err(Syndrome::NvLimit)
    );
    nv.set(0, &[2], 0, &mut Batch::default()).unwrap();
}

#[test]
fn a_channel_takes_max_in_flight_commands() {
    let mut card = Card::new(
        Profile::builtin("minimal").unwrap(),
        CardOptions::default(),
        &BTreeMap::new(),
    );
    let function = card.add_function(EventPath::Channel).unwrap();
    let mut fx = Effects::new();
    let mut submit = |inbox: &[u8]| {
        fx.clear();
        let input = Input::Command {
            function,
            tag: 1,
            caller: Caller::Driver,
            inbox,
            outbox_len: 284,
        };
        card.submit(input, Time::ZERO, &NoMemory, &mut fx);
        fx.iter().find_map(|e| match e {
            Effect::Reply { delivery, .. } => Some(*delivery),
            _ => None,
        })
    };
    assert_eq!(submit(&cmd(0x104, 0, 16)), Some(Delivery::Executed));
    // A configuration item waits for the store, which never answers here.
    let mut set = cmd(0x805, 0, 284);
    set[10..12].copy_from_slice(&0x9024u16.to_be_bytes());
    (set[19], set[23]) = (4, 0x80);
    for _ in 0..MAX_IN_FLIGHT {
        assert_eq!(submit(&set), None);
    }
    assert_eq!(submit(&set), Some(Delivery::Busy));
}

#[test]
fn held_answers_end_at_max_delays() {
    let mut d = Direct::up("minimal");
    let mut delay = |opcode, nanos| {
        let input = Input::Delay { opcode, nanos };
        d.card.submit(input, Time::ZERO, &NoMemory, &mut d.fx);
    };
    for n in 0..MAX_DELAYS as u16 {
        delay(0x4000 + n, 1);
    }
    // No room for one more; NOP is answered at once.
    delay(0x80d, u64::MAX);
    assert_eq!(d.run(&cmd(0x80d, 0, 16)), Ok(()));
    let mut delay = |opcode, nanos| {
        let input = Input::Delay { opcode, nanos };
        d.card.submit(input, Time::ZERO, &NoMemory, &mut d.fx);
    };
    delay(0x4000, 0);
    delay(0x80d, u64::MAX);
    d.fx.clear();
    let nop = Input::Command {
        function: d.function,
        tag: 1,
        caller: Caller::Driver,
        inbox: &cmd(0x80d, 0, 16),
        outbox_len: 16,
    };
    d.card.submit(nop, Time::ZERO, &NoMemory, &mut d.fx);
    assert!(d.fx.is_empty());
    assert_eq!(d.card.next_deadline(), Some(Time(MAX_DELAY_NANOS)));
}
