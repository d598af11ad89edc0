// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! docs/lifecycle.md, each cell: every event of a function's life × everything that may survive it.
//! Configuration space is the PCI door's: guest-tests/host-driver has its column.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Driver, cmd};
use fw_model::{
    Card, CardOptions, Effect, EventPath, Input, MemStore, Profile, Report, ResetKind, Store, Time,
};
use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::CmdHcaCap,
    opcode as op, register,
};

/// What is there before each event: a bit of everything.
struct Life {
    d: Driver,
    store: MemStore,
}

/// What an event leaves.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    state: &'static str,
    objects: bool,
    pages: bool,
    caps: bool,
    sick: bool,
    current: u8,
    next: u8,
}

const SICK: Report = Report {
    syndrome: 0x10,
    ext_syndrome: 0,
    severity: 4,
    fatal: false,
    cold: false,
    vars: [0; 6],
};

fn caps(d: &mut Driver) -> Vec<u8> {
    d.ok(&cmd(op::QUERY_HCA_CAP, 1, 16), 4112)[16..].to_vec()
}

fn item(mode: u8, value: Option<u8>) -> Vec<u8> {
    let mut c = cmd(op::ACCESS_REG, u16::from(value.is_none()), 16 + 268);
    c[10..12].copy_from_slice(&register::MNVDA.to_be_bytes());
    (c[17], c[19]) = (mode << 6, 4);
    c[20..24].copy_from_slice(&0x0300_0080u32.to_be_bytes());
    c[31] = value.unwrap_or(0);
    c
}

impl Life {
    /// Up, with an object, a context, an event queue, pages, a set capability, a syndrome, and the
    /// configuration item 1 in force and 2 for the next boot.
    fn new() -> Self {
        let mut life = Self {
            d: Driver::new("connectx7"),
            store: MemStore::default(),
        };
        life.d.ok(&cmd(op::ENABLE_HCA, 0, 16), 12);
        life.set(1);
        life.submit(Input::PowerCycle);
        life.d.now.0 += 1_000_000_000;
        life.d.clear_queue();
        let d = &mut life.d;
        d.ok(&cmd(op::ENABLE_HCA, 0, 16), 12);
        d.give(1, 0x1_0000_0000);
        let mut set = cmd(op::SET_HCA_CAP, 0, 4112);
        set[16..].copy_from_slice(&caps(d));
        let mut v = ViewMut::<CmdHcaCap>::new(&mut set[16..]).unwrap();
        v.set(CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_EVENT, 1);
        d.ok(&set, 16);
        d.give(2, 0x2_0000_0000);
        d.ok(&cmd(op::INIT_HCA, 0, 32), 16);
        d.ok(&cmd(op::ALLOC_PD, 0, 16), 16);
        d.ok(&cmd(op::CREATE_UCTX, 0, 64), 16);
        d.ok(&cmd(op::ALLOC_UAR, 0, 16), 16);
        d.guest.map(0x700_0000, 4 * 4096);
        let mut eq = cmd(op::CREATE_EQ, 0, 304);
        eq[28..32].copy_from_slice(&(8u32 << 24 | 0x40).to_be_bytes());
        for i in 0..4u64 {
            let at = 272 + 8 * i as usize;
            eq[at..at + 8].copy_from_slice(&(0x700_0000 + i * 4096).to_be_bytes());
        }
        d.ok(&eq, 16);
        life.set(2);
        life.submit(Input::Health(SICK));
        life
    }

    /// Sets the item's next-boot value, which waits for the store.
    fn set(&mut self, value: u8) {
        self.d.post(0, &item(0, Some(value)), 16 + 268);
        self.d.ring(1);
        self.commit();
        assert_eq!(self.d.reply(0, 16).unwrap().status(), 0);
    }

    fn submit(&mut self, input: Input<'_>) {
        self.d.submit(input);
        self.commit();
    }

    fn commit(&mut self) {
        let batches: Vec<_> = self
            .d
            .fx
            .iter()
            .filter_map(|e| match e {
                Effect::Commit { token, batch } => Some((*token, batch.clone())),
                _ => None,
            })
            .collect();
        for (token, batch) in batches {
            self.store.commit(&batch).unwrap();
            let stored = true;
            self.d.submit(Input::Committed { token, stored });
        }
    }

    /// The process ends and another begins, with what was stored or without.
    fn restart(&mut self, keep: bool) {
        let stored = if keep {
            self.store.load().unwrap()
        } else {
            BTreeMap::new()
        };
        let profile = Profile::builtin("connectx7").unwrap();
        self.d.card = Card::new(profile, CardOptions::default(), &stored);
        self.d.card.add_function(EventPath::EventQueues).unwrap();
    }

    /// Looks at everything. A disabled function is enabled for it.
    fn left(&mut self) -> Left {
        let r = self.d.card.report(self.d.f).unwrap();
        let mut synd = [0; 4];
        self.d
            .card
            .read_segment(self.d.f, 0x23c, &mut synd, self.d.now);
        let objects = [r.uctx, r.eqs, r.objects.len()];
        assert!(
            objects.iter().all(|n| (*n == 0) == (objects[0] == 0)),
            "{objects:?}"
        );
        // A second for firmware that starts.
        self.d.now.0 += 1_000_000_000;
        self.d.clear_queue();
        if r.state == "disabled" {
            self.d.ok(&cmd(op::ENABLE_HCA, 0, 16), 12);
        }
        let page = caps(&mut self.d);
        let v = View::<CmdHcaCap>::new(&page).unwrap();
        let mut value = |mode| self.d.ok(&item(mode, None), 16 + 268)[31];
        Left {
            state: r.state,
            objects: objects[0] != 0,
            pages: r.pages != 0,
            caps: v.get(CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_EVENT) == 1,
            sick: synd[1] != 0,
            current: value(1),
            next: value(0),
        }
    }
}

const GONE: Left = Left {
    state: "disabled",
    objects: false,
    pages: false,
    caps: false,
    sick: false,
    current: 1,
    next: 2,
};

#[test]
fn before_any_event_everything_is_there() {
    let all = Left {
        state: "up",
        objects: true,
        pages: true,
        caps: true,
        sick: true,
        ..GONE
    };
    assert_eq!(Life::new().left(), all);
}

#[test]
fn teardown_and_disable() {
    for profile in 0..3 {
        let mut l = Life::new();
        let mut teardown = cmd(op::TEARDOWN_HCA, 0, 16);
        teardown[11] = profile;
        l.d.ok(&teardown, 16);
        // The event queue of a forced teardown carries its answer; INIT_HCA ends it.
        if profile != 0 {
            l.d.bring_up_again();
            l.d.ok(&cmd(op::TEARDOWN_HCA, 0, 16), 16);
        }
        let torn = Left {
            state: "enabled",
            pages: true,
            caps: true,
            sick: true,
            ..GONE
        };
        assert_eq!(l.left(), torn, "profile {profile}");
        l.d.ok(&cmd(op::DISABLE_HCA, 0, 16), 12);
        assert_eq!(l.left(), Left { sick: true, ..GONE });
    }
}

#[test]
fn resets_of_the_function() {
    for (kind, sick) in [
        (ResetKind::Flr, true),
        (ResetKind::Bus, false),
        (ResetKind::ClientGone, false),
    ] {
        let mut l = Life::new();
        let function = l.d.f;
        l.submit(Input::Reset { function, kind });
        assert_eq!(l.left(), Left { sick, ..GONE }, "{kind:?}");
    }
}

#[test]
fn resets_of_the_firmware_and_power() {
    let taken = Left { current: 2, ..GONE };
    let mut l = Life::new();
    // nic_interface 7: the driver forces it; it takes 100 ms.
    l.d.segment_write(0x14, &(7u32 << 8).to_be_bytes());
    l.d.now.0 += 100_000_000;
    l.d.poll();
    l.commit();
    assert_eq!(l.left(), taken);
    let mut l = Life::new();
    l.submit(Input::PowerCycle);
    assert_eq!(l.left(), taken);
}

#[test]
fn restarts_of_the_process() {
    let mut l = Life::new();
    l.restart(true);
    assert_eq!(l.left(), GONE);
    let mut l = Life::new();
    l.restart(false);
    let none = Left {
        current: 0,
        next: 0,
        ..GONE
    };
    assert_eq!(l.left(), none);
    assert!(l.d.now > Time::ZERO);
}
