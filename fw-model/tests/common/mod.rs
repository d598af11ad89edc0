// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A small driver over guest memory in a map: it builds command entries and mailbox chains from
//! the header's layout, rings the doorbell and carries out the effects.
#![allow(dead_code)]

pub mod pair;

use std::{cell::RefCell, collections::BTreeMap};

use fw_model::{
    Card, CardOptions, Effect, Effects, EventPath, FunctionId, GuestMemory, Input, Order, Profile,
    Time, Unmapped,
};
use fwctl_proto::{cmdif::Entry, layout::set_bits};

/// Guest memory of 4 KiB pages; what was never written is not mapped.
#[derive(Default)]
pub struct Guest {
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl Guest {
    pub fn map(&self, addr: u64, len: usize) {
        for page in addr / 4096..=(addr + len as u64 - 1) / 4096 {
            self.pages
                .borrow_mut()
                .entry(page)
                .or_insert_with(|| vec![0; 4096]);
        }
    }

    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        let mut pages = self.pages.borrow_mut();
        data.iter().enumerate().all(|(i, b)| {
            let at = addr + i as u64;
            pages
                .get_mut(&(at / 4096))
                .map(|p| p[(at % 4096) as usize] = *b)
                .is_some()
        })
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0; len];
        self.read(addr, &mut b).expect("mapped");
        b
    }
}

impl GuestMemory for Guest {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let pages = self.pages.borrow();
        for (i, b) in buf.iter_mut().enumerate() {
            let at = addr.checked_add(i as u64).ok_or(Unmapped)?;
            *b = pages.get(&(at / 4096)).ok_or(Unmapped)?[(at % 4096) as usize];
        }
        Ok(())
    }
}

pub const CMDQ: u64 = 0x10_0000;
pub const IN_BLOCKS: u64 = 0x20_0000;
pub const OUT_BLOCKS: u64 = 0x40_0000;
const BLOCK_STRIDE: u64 = 1024;

/// One function of one card, and its driver.
pub struct Driver {
    pub card: Card,
    pub guest: Guest,
    pub fx: Effects,
    pub f: FunctionId,
    pub now: Time,
    pub irqs: Vec<u16>,
    token: u8,
}

/// What came back in a slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Delivery status of the entry.
    pub delivery: u8,
    pub out: Vec<u8>,
}

impl Reply {
    pub fn status(&self) -> u8 {
        self.out[0]
    }

    pub fn syndrome(&self) -> u32 {
        u32::from_be_bytes(self.out[4..8].try_into().expect("4 bytes"))
    }
}

impl Driver {
    pub fn new(profile: &str) -> Self {
        Self::of(Profile::builtin(profile).expect("built in"))
    }

    pub fn of(profile: std::sync::Arc<Profile>) -> Self {
        let mut card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let f = card
            .add_function(EventPath::EventQueues)
            .expect("first function");
        let mut d = Self {
            card,
            guest: Guest::default(),
            fx: Effects::new(),
            f,
            now: Time::ZERO,
            irqs: Vec::new(),
            token: 0,
        };
        d.guest.map(CMDQ, 4096);
        d.set_up_queue();
        d
    }

    /// Says to the function where its command queue is.
    pub fn set_up_queue(&mut self) {
        self.segment_write(0x10, &0u32.to_be_bytes());
        self.segment_write(0x14, &(CMDQ as u32).to_be_bytes());
    }

    pub fn submit(&mut self, input: Input<'_>) {
        self.fx.clear();
        self.card.submit(input, self.now, &self.guest, &mut self.fx);
        self.carry_out();
    }

    /// Lets the card do what is due.
    pub fn poll(&mut self) {
        self.fx.clear();
        self.card.poll(self.now, &mut self.fx);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for e in self.fx.iter() {
            match e {
                Effect::Write {
                    addr, data, order, ..
                } => {
                    let b = self.fx.bytes(*data);
                    assert!(
                        *order == Order::Relaxed || [1, 8].contains(&b.len()),
                        "only owner bytes and time stamps are published"
                    );
                    self.guest.write(*addr, b);
                }
                Effect::Interrupt { vector, .. } => self.irqs.push(*vector),
                _ => {}
            }
        }
    }

    pub fn segment_write(&mut self, offset: u32, data: &[u8]) {
        self.submit(Input::SegmentWrite {
            function: self.f,
            offset,
            data,
        });
    }

    /// A dword of the initialization segment.
    pub fn segment_read(&self, offset: u32) -> u32 {
        let mut b = [0; 4];
        self.card.read_segment(self.f, offset, &mut b, self.now);
        u32::from_be_bytes(b)
    }

    /// Puts a command into a slot without ringing.
    pub fn post(&mut self, slot: u8, inbox: &[u8], out_len: usize) {
        self.token = self.token % 255 + 1;
        let token = self.token;
        let in_at = IN_BLOCKS + u64::from(slot) * 0x20_0000 * 2;
        let out_at = OUT_BLOCKS + u64::from(slot) * 0x20_0000 * 2;
        let in_ptr = self.chain(in_at, inbox.len(), token, Some(inbox));
        let out_ptr = self.chain(out_at, out_len, token, None);
        let mut inline_in = [0; 16];
        let n = inbox.len().min(16);
        inline_in[..n].copy_from_slice(&inbox[..n]);
        let entry = Entry {
            kind: 7,
            in_len: inbox.len() as u32,
            in_ptr,
            inline_in,
            out_ptr,
            out_len: out_len as u32,
            token,
            hw_owned: true,
        };
        self.guest
            .write(CMDQ + u64::from(slot) * 64, &entry.to_bytes());
    }

    fn chain(&self, at: u64, len: usize, token: u8, data: Option<&[u8]>) -> u64 {
        let blocks = len.saturating_sub(16).div_ceil(512);
        for i in 0..blocks {
            let addr = at + i as u64 * BLOCK_STRIDE;
            let mut b = [0u8; 576];
            if let Some(d) = data {
                let part = &d[16 + i * 512..];
                let n = part.len().min(512);
                b[..n].copy_from_slice(&part[..n]);
            } else {
                b[..512].fill(0xee);
            }
            let next = if i + 1 < blocks {
                addr + BLOCK_STRIDE
            } else {
                0
            };
            b[560..568].copy_from_slice(&next.to_be_bytes());
            b[568..572].copy_from_slice(&(i as u32).to_be_bytes());
            b[573] = token;
            self.guest.map(addr, 576);
            self.guest.write(addr, &b);
        }
        if blocks == 0 { 0 } else { at }
    }

    pub fn ring(&mut self, slots: u32) {
        self.segment_write(0x18, &slots.to_be_bytes());
    }

    /// What a slot holds; `None` while the firmware owns it.
    pub fn reply(&self, slot: u8, out_len: usize) -> Option<Reply> {
        let e = self.guest.bytes(CMDQ + u64::from(slot) * 64, 64);
        if e[63] & 1 == 1 {
            return None;
        }
        let mut out = e[32..48].to_vec();
        let out_at = OUT_BLOCKS + u64::from(slot) * 0x20_0000 * 2;
        for i in 0..out_len.saturating_sub(16).div_ceil(512) {
            out.extend(self.guest.bytes(out_at + i as u64 * BLOCK_STRIDE, 512));
        }
        out.truncate(out_len);
        Some(Reply {
            delivery: e[63] >> 1,
            out,
        })
    }

    pub fn exec(&mut self, inbox: &[u8], out_len: usize) -> Reply {
        self.post(0, inbox, out_len);
        self.ring(1);
        self.reply(0, out_len).expect("answered at once")
    }

    /// Runs a command that may wait for the store, which then answers at once.
    pub fn exec_any(&mut self, inbox: &[u8], out_len: usize) -> Reply {
        self.post(0, inbox, out_len);
        self.ring(1);
        let token = self.fx.iter().find_map(|e| match e {
            Effect::Commit { token, .. } => Some(*token),
            _ => None,
        });
        if let Some(token) = token {
            self.submit(Input::Committed {
                token,
                stored: true,
            });
        }
        self.reply(0, out_len).expect("answered")
    }

    /// Runs a command as [`Self::exec_any`] does; `None` if its answer is held back, or an earlier
    /// one's in its slot is.
    pub fn try_exec(&mut self, inbox: &[u8], out_len: usize) -> Option<Reply> {
        if self.busy() {
            return None;
        }
        self.post(0, inbox, out_len);
        self.ring(1);
        let token = self.fx.iter().find_map(|e| match e {
            Effect::Commit { token, .. } => Some(*token),
            _ => None,
        });
        if let Some(token) = token {
            self.submit(Input::Committed {
                token,
                stored: true,
            });
        }
        self.reply(0, out_len)
    }

    /// No answer is held back any more, and what was is given.
    pub fn settle(&mut self) {
        for op in fw_model::table::OPS {
            self.submit(Input::Delay {
                opcode: op.opcode,
                nanos: 0,
            });
        }
        self.now.0 += 1 << 40;
        self.poll();
    }

    /// The command queue as a driver makes it anew.
    pub fn clear_queue(&mut self) {
        self.guest.write(CMDQ, &[0; 2048]);
        self.segment_write(0x14, &(CMDQ as u32).to_be_bytes());
    }

    /// True while the firmware owns slot 0.
    fn busy(&self) -> bool {
        self.guest.bytes(CMDQ, 64)[63] & 1 == 1
    }

    /// The last input's effects, in words.
    pub fn effects(&self) -> String {
        let bytes = self.fx.iter().map(|e| match e {
            Effect::Write { data, .. } => self.fx.bytes(*data).to_vec(),
            _ => Vec::new(),
        });
        format!("{:?} {:?}", self.fx, bytes.collect::<Vec<_>>())
    }

    /// Runs a command that must succeed.
    pub fn ok(&mut self, inbox: &[u8], out_len: usize) -> Vec<u8> {
        let r = self.exec(inbox, out_len);
        assert_eq!(
            (r.delivery, r.status(), r.syndrome()),
            (0, 0, 0),
            "{:02x?}",
            &inbox[..16]
        );
        r.out
    }

    /// ENABLE_HCA … INIT_HCA, as mlx5_core does it.
    pub fn bring_up(&mut self) {
        self.ok(&cmd(0x104, 0, 16), 12);
        self.ok(&cmd(0x10a, 0, 16), 112);
        let mut issi = cmd(0x10b, 0, 16);
        set_bits(&mut issi, 0x50, 16, 1);
        self.ok(&issi, 16);
        self.give(1, 0x1_0000_0000);
        self.give(2, 0x2_0000_0000);
        self.ok(&cmd(0x102, 0, 32), 16);
    }

    /// INIT_HCA again after a TEARDOWN_HCA: the pages are still there.
    pub fn bring_up_again(&mut self) {
        self.ok(&cmd(0x102, 0, 32), 16);
    }

    /// QUERY_PAGES with `op_mod`, then gives that many from `base` on; returns the count.
    pub fn give(&mut self, op_mod: u16, base: u64) -> u32 {
        let out = self.ok(&cmd(0x107, op_mod, 16), 16);
        let n = u32::from_be_bytes(out[12..16].try_into().expect("4 bytes"));
        let mut give = cmd(0x108, 1, 16 + 8 * n as usize);
        give[12..16].copy_from_slice(&n.to_be_bytes());
        for i in 0..n as usize {
            let addr = base + i as u64 * 4096;
            give[16 + 8 * i..24 + 8 * i].copy_from_slice(&addr.to_be_bytes());
        }
        self.ok(&give, 16);
        n
    }

    pub fn teardown(&mut self) {
        self.ok(&cmd(0x103, 0, 16), 16);
        let held = self.card.report(self.f).expect("there").pages;
        let mut take = cmd(0x108, 2, 16);
        take[12..16].copy_from_slice(&held.to_be_bytes());
        let out = self.ok(&take, 16 + 8 * held as usize);
        assert_eq!(out[8..12], held.to_be_bytes());
        self.ok(&cmd(0x105, 0, 16), 12);
    }
}

/// An inbox of `len` bytes with opcode and op_mod.
pub fn cmd(opcode: u16, op_mod: u16, len: usize) -> Vec<u8> {
    let mut b = vec![0; len];
    b[..2].copy_from_slice(&opcode.to_be_bytes());
    b[6..8].copy_from_slice(&op_mod.to_be_bytes());
    b
}
