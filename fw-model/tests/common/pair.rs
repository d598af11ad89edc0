// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two functions of one card, each with a driver on a command channel.

use std::collections::BTreeMap;

use super::cmd;
use fw_model::{
    Caller, Card, CardOptions, Delivery, Effect, Effects, EventPath, FunctionId, Input, NoMemory,
    Profile, Time,
};
use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{CmdHcaCap, MfrlReg},
    opcode as op, register,
};

pub const GENERAL_EVENT: u8 = 0x22;
pub const START: u64 = 10;
pub const ANSWER: u64 = 20;

/// Two functions, behind command channels unless it is said otherwise; drivers' registers are written as over PCI.
pub struct Pair {
    pub card: Card,
    pub now: Time,
    /// (function, event type, sub-type, data) since the last look.
    pub events: Vec<(u8, u8, u8, Vec<u8>)>,
    /// (tag, delivery, outbox).
    pub replies: Vec<(u64, Delivery, Vec<u8>)>,
}

impl Pair {
    pub fn new(more: &str) -> Self {
        Self::of(more, [EventPath::Channel; 2])
    }

    pub fn of(more: &str, paths: [EventPath; 2]) -> Self {
        let profile = Profile::parse(&format!("inherits = \"connectx7\"\n{more}"), "two").unwrap();
        let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let mut p = Self {
            card,
            now: Time(1_000_000_000),
            events: Vec::new(),
            replies: Vec::new(),
        };
        for (f, path) in (0..).zip(paths) {
            p.card.add_function(path).unwrap();
            p.up(f, true, false);
        }
        p.events.clear();
        p
    }

    pub fn submit(&mut self, input: Input<'_>) {
        let mut fx = Effects::new();
        self.card.submit(input, self.now, &NoMemory, &mut fx);
        self.take(&fx);
    }

    pub fn later(&mut self, millis: u64) {
        self.now.0 += millis * 1_000_000;
        let mut fx = Effects::new();
        self.card.poll(self.now, &mut fx);
        self.take(&fx);
    }

    pub fn take(&mut self, fx: &Effects) {
        for e in fx.iter() {
            match e {
                Effect::Event {
                    function,
                    event_type,
                    sub_type,
                    data,
                } => {
                    let data = fx.bytes(*data).to_vec();
                    self.events.push((function.0, *event_type, *sub_type, data));
                }
                Effect::Reply {
                    tag,
                    delivery,
                    outbox,
                    ..
                } => self
                    .replies
                    .push((*tag, *delivery, fx.bytes(*outbox).to_vec())),
                _ => {}
            }
        }
    }

    pub fn send(&mut self, f: u8, tag: u64, inbox: &[u8], outbox_len: u32) {
        self.submit(Input::Command {
            function: FunctionId(f),
            tag,
            caller: Caller::Driver,
            inbox,
            outbox_len,
        });
    }

    pub fn ok(&mut self, f: u8, inbox: &[u8], outbox_len: u32) -> Vec<u8> {
        self.send(f, 0, inbox, outbox_len);
        let at = self.replies.iter().position(|r| r.0 == 0);
        let (_, delivery, out) = self.replies.remove(at.expect("answered at once"));
        assert_eq!((delivery, out[0]), (Delivery::Executed, 0));
        out
    }

    /// Brings a function up whose driver wants to hear of resets, and perhaps unloads for them.
    pub fn up(&mut self, f: u8, listens: bool, unloads: bool) {
        self.ok(f, &cmd(op::ENABLE_HCA, 0, 16), 16);
        let mut caps = cmd(op::SET_HCA_CAP, 0, 4112);
        let page = self.ok(f, &cmd(op::QUERY_HCA_CAP, 1, 16), 4112);
        caps[16..].copy_from_slice(&page[16..]);
        let mut v = ViewMut::<CmdHcaCap>::new(&mut caps[16..]).unwrap();
        v.set(CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_EVENT, u64::from(listens));
        let unload = CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_WITH_DRIVER_UNLOAD;
        v.set(unload, u64::from(unloads));
        self.ok(f, &caps, 16);
        for which in [1, 2] {
            let mut ask = cmd(op::QUERY_PAGES, which, 16);
            ask[8] = 0;
            let out = self.ok(f, &ask, 16);
            let count = u32::from_be_bytes(out[12..16].try_into().unwrap());
            let mut give = cmd(op::MANAGE_PAGES, 1, 16 + 8 * count as usize);
            give[12..16].copy_from_slice(&count.to_be_bytes());
            for i in 0..u64::from(count) {
                let at = 16 + 8 * i as usize;
                let page = u64::from(which) << 40 | u64::from(f) << 36 | i << 12;
                give[at..at + 8].copy_from_slice(&page.to_be_bytes());
            }
            self.ok(f, &give, 16);
        }
        self.ok(f, &cmd(op::INIT_HCA, 0, 16), 16);
    }

    pub fn mfrl(fields: &[(fwctl_proto::layout::Field<MfrlReg>, u64)], write: bool) -> Vec<u8> {
        let mut c = cmd(op::ACCESS_REG, u16::from(!write), 24);
        c[10..12].copy_from_slice(&register::MFRL.to_be_bytes());
        let mut v = ViewMut::<MfrlReg>::new(&mut c[16..]).unwrap();
        for (field, value) in fields {
            v.set(*field, *value);
        }
        c
    }

    pub fn start(&mut self, f: u8) {
        let start = [
            (MfrlReg::RESET_LEVEL, 8),
            (MfrlReg::PCI_SYNC_FOR_FW_UPDATE_START, 1),
        ];
        self.send(f, START, &Self::mfrl(&start, true), 24);
    }

    pub fn answer(&mut self, f: u8, resp: u64) -> Vec<u8> {
        let answer = [
            (MfrlReg::RESET_LEVEL, 8),
            (MfrlReg::PCI_SYNC_FOR_FW_UPDATE_RESP, resp),
        ];
        self.send(f, ANSWER, &Self::mfrl(&answer, true), 24);
        let at = self.replies.iter().position(|r| r.0 == ANSWER);
        self.replies.remove(at.expect("answered at once")).2
    }

    pub fn reset_state(&mut self, f: u8) -> u64 {
        let out = self.ok(f, &Self::mfrl(&[], false), 24);
        let v = View::<MfrlReg>::new(&out[16..]).unwrap();
        v.get(MfrlReg::RESET_STATE)
    }

    /// Steps that were announced, by function.
    pub fn steps(&mut self) -> Vec<(u8, u8)> {
        let steps = self.events.drain(..).map(|(f, event_type, sub, data)| {
            assert_eq!((event_type, sub), (GENERAL_EVENT, 8));
            (f, data[3])
        });
        steps.collect()
    }

    pub fn started(&mut self) -> Option<(u8, u32)> {
        let at = self.replies.iter().position(|r| r.0 == START)?;
        let (_, _, out) = self.replies.remove(at);
        Some((out[0], u32::from_be_bytes(out[4..8].try_into().unwrap())))
    }

    /// The driver tears down fast and disables its interface.
    pub fn leaves(&mut self, f: u8) {
        let mut teardown = cmd(op::TEARDOWN_HCA, 0, 16);
        teardown[11] = 2;
        self.ok(f, &teardown, 16);
        self.segment(f, 0x14, 1 << 8);
    }

    pub fn segment(&mut self, f: u8, offset: u32, value: u32) {
        self.submit(Input::SegmentWrite {
            function: FunctionId(f),
            offset,
            data: &value.to_be_bytes(),
        });
    }

    pub fn read(&self, f: u8, offset: u32) -> u32 {
        let mut b = [0; 4];
        self.card
            .read_segment(FunctionId(f), offset, &mut b, self.now);
        u32::from_be_bytes(b)
    }

    pub fn nic_interface(&self, f: u8) -> u32 {
        self.read(f, 0x14) >> 8 & 7
    }

    pub fn state(&self, f: u8) -> (&'static str, u64) {
        let r = self.card.report(FunctionId(f)).unwrap();
        (r.state, r.generation)
    }
}
