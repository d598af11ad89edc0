// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A function that is up, given its commands by call or through the mailbox engine.
#![allow(dead_code, clippy::unwrap_used)] // Each benchmark uses its part.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use fw_model::{
    Caller, Card, CardOptions, Effect, Effects, EventPath, FunctionId, GuestMemory, Input, Profile,
    Time, Unmapped,
    record::{Happening, Noted, Notes, Step, flight::Flight},
};
use fwctl_proto::cmdif::Entry;

/// Guest address of the command queue; the mailbox blocks lie behind it.
const CMDQ: u64 = 0;
const OUT_BLOCKS: u64 = 0x1000;
const MEMORY: usize = 0x8000;
/// Bytes from one mailbox block to the next.
const STRIDE: u64 = 1024;

/// Guest memory in one piece.
pub struct Flat(RefCell<Vec<u8>>);

impl Flat {
    fn new() -> Self {
        Self(RefCell::new(vec![0; MEMORY]))
    }

    fn write(&self, addr: u64, data: &[u8]) {
        let at = addr as usize;
        if let Some(to) = self.0.borrow_mut().get_mut(at..at + data.len()) {
            to.copy_from_slice(data);
        }
    }
}

impl GuestMemory for Flat {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let at = usize::try_from(addr).map_err(|_| Unmapped)?;
        let memory = self.0.borrow();
        let from = memory.get(at..at + buf.len()).ok_or(Unmapped)?;
        buf.copy_from_slice(from);
        Ok(())
    }
}

/// An inbox with opcode and op_mod.
pub fn inbox(opcode: u16, op_mod: u16, len: usize) -> Vec<u8> {
    let mut b = vec![0; len];
    b[..2].copy_from_slice(&opcode.to_be_bytes());
    b[6..8].copy_from_slice(&op_mod.to_be_bytes());
    b
}

/// A function of profile connectx7.
pub struct Device {
    pub card: Card,
    function: FunctionId,
    fx: Effects,
    memory: Flat,
    entry: [u8; 64],
    page: u64,
    flight: Flight,
    notes: Notes,
    spare: Vec<u8>,
}

impl Device {
    /// Up, with its pages.
    pub fn up() -> Self {
        let profile = Profile::builtin("connectx7").unwrap();
        let mut card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let function = card.add_function(EventPath::Channel).unwrap();
        let mut d = Self {
            card,
            function,
            fx: Effects::new(),
            memory: Flat::new(),
            entry: [0; 64],
            page: 0x1_0000_0000,
            flight: Flight::default(),
            notes: Notes::default(),
            spare: Vec::new(),
        };
        d.call(&inbox(0x104, 0, 16), 16);
        d.give(48);
        d.call(&inbox(0x102, 0, 32), 16);
        d
    }

    /// Gives `n` pages.
    pub fn give(&mut self, n: u32) {
        let mut c = inbox(0x108, 1, 16 + 8 * n as usize);
        c[12..16].copy_from_slice(&n.to_be_bytes());
        for place in c[16..].chunks_exact_mut(8) {
            self.page += 4096;
            place.copy_from_slice(&self.page.to_be_bytes());
        }
        self.call(&c, 16);
    }

    /// A command by call; its status must be 0. Returns the id at byte 9 of its outbox.
    pub fn call(&mut self, inbox: &[u8], outbox_len: u32) -> u32 {
        self.fx.clear();
        let input = Input::Command {
            function: self.function,
            tag: 0,
            caller: Caller::Driver,
            inbox,
            outbox_len,
        };
        self.card
            .submit(input, Time::ZERO, &self.memory, &mut self.fx);
        for e in self.fx.iter() {
            if let Effect::Reply { outbox, .. } = e {
                let out = self.fx.bytes(*outbox);
                assert_eq!(out[0], 0, "{inbox:02x?}");
                return u32::from_be_bytes([0, out[9], out[10], out[11]]);
            }
        }
        unreachable!("no reply");
    }

    /// Makes `count` memory keys and gives the pages that they need.
    pub fn fill(&mut self, count: usize) {
        let create = inbox(0x200, 0, 80);
        for i in 0..count {
            if i % 2048 == 0 {
                self.give(64);
            }
            self.call(&create, 16);
        }
    }

    /// Prepares slot 0 for a command without input blocks.
    pub fn prepare(&mut self, inbox: &[u8], out_len: u32) {
        let blocks = u64::from(out_len.saturating_sub(16).div_ceil(512));
        for i in 0..blocks {
            let mut b = [0u8; 576];
            let next = if i + 1 < blocks {
                OUT_BLOCKS + (i + 1) * STRIDE
            } else {
                0
            };
            b[560..568].copy_from_slice(&next.to_be_bytes());
            b[568..572].copy_from_slice(&(i as u32).to_be_bytes());
            b[573] = 1;
            self.memory.write(OUT_BLOCKS + i * STRIDE, &b);
        }
        let entry = Entry {
            kind: 7,
            in_len: inbox.len() as u32,
            in_ptr: 0,
            inline_in: inbox[..16].try_into().unwrap(),
            out_ptr: if blocks == 0 { 0 } else { OUT_BLOCKS },
            out_len,
            token: 1,
            hw_owned: true,
        };
        self.entry = entry.to_bytes();
        self.memory.write(CMDQ, &self.entry);
    }

    /// Rings the doorbell for slot 0; the answer is left in the effects, so that what is measured
    /// is the engine and not this memory.
    pub fn ring(&mut self) {
        self.fx.clear();
        let input = Input::SegmentWrite {
            function: self.function,
            offset: 0x18,
            data: &1u32.to_be_bytes(),
        };
        self.card
            .submit(input, Time::ZERO, &self.memory, &mut self.fx);
        assert!(!self.fx.is_empty());
    }

    /// [`Device::ring`], kept by the flight recorder; a follower in another thread would be done with
    /// the frames that are kept no more.
    pub fn ring_kept(&mut self) {
        self.fx.clear();
        self.notes.clear();
        let step = Step::Input(Input::SegmentWrite {
            function: self.function,
            offset: 0x18,
            data: &1u32.to_be_bytes(),
        });
        let noted = Noted::new(&self.memory, &mut self.notes);
        step.happen(&mut self.card, Time::ZERO, &noted, &mut self.fx);
        let frame = Happening {
            at: Time::ZERO,
            step: &step,
            reads: &self.notes,
            effects: &self.fx,
            from: 0,
            panicked: false,
        };
        let spare = &mut self.spare;
        if let Some(old) = self.flight.put(&frame, || core::mem::take(spare)) {
            self.spare = Arc::try_unwrap(old).unwrap_or_default();
        }
        assert!(!self.fx.is_empty());
    }
}
