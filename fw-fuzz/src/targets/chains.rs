// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Command entries and mailbox chains in guest memory that changes while it is read: two reads of one
//! place give two answers.

use core::cell::RefCell;

use arbitrary::Unstructured;
use fw_model::{
    Effect, EventPath, FunctionId, GuestMemory, Input, Unmapped, limits::MAX_MESSAGE, table,
};
use fwctl_proto::{
    cmdif::{BLOCK_DATA, BlockControl, ENTRY_BYTES, Entry, INLINE_BYTES, xor8},
    layout::{Layout as _, get_bits, set_bits},
    layouts::{CmdHcaCap, SetHcaCapIn},
    opcode, segment,
};

use super::{Target, profile, recorded};
use crate::{Device, command, dictionary, from_record::Sent};

/// The target.
pub static CHAINS: Target = Target {
    name: "chains",
    about: "command entries and mailbox chains in memory that changes while it is read",
    max_len: 4096,
    hits: false,
    run,
    record: Some(record),
    dictionary: dictionary::commands,
    seeds,
};

const F: FunctionId = FunctionId(0);
/// Where the command queue lies.
const CMDQ: u64 = 0x10_0000;
/// Bytes of the command queue.
const CMDQ_BYTES: u64 = 32 * ENTRY_BYTES as u64;
const BLOCK_BYTES: usize = 576;
/// Most reads that one doorbell may cause: 32 slots with both chains as long as they may be, and what
/// handlers read besides.
const MAX_READS: usize = 32 * 2 * (MAX_MESSAGE / BLOCK_DATA + 2) + (1 << 16);

/// Bits of an entry's first byte.
mod entry_byte {
    /// Bytes of the fuzzer's instead of an entry.
    pub const RAW: u8 = 0x80;
    /// It belongs to the driver.
    pub const NOT_OWNED: u8 = 0x40;
    /// It has the wrong signature.
    pub const UNSIGNED: u8 = 0x20;
}

/// Memory that a fuzzer makes up.
struct Shifting<'a>(RefCell<State<'a>>);

struct State<'a> {
    u: Unstructured<'a>,
    token: u8,
    block: u32,
    input_blocks: usize,
    reads: usize,
}

impl<'a> Shifting<'a> {
    fn new(u: Unstructured<'a>) -> Self {
        Self(RefCell::new(State {
            u,
            token: 0,
            block: 0,
            input_blocks: 0,
            reads: 0,
        }))
    }
}

impl GuestMemory for Shifting<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let mut s = self.0.borrow_mut();
        s.reads += 1;
        assert!(s.reads < MAX_READS, "memory is read without end");
        let in_queue = (CMDQ..CMDQ + CMDQ_BYTES).contains(&addr);
        match buf.len() {
            ENTRY_BYTES if in_queue => s.entry(buf),
            BLOCK_BYTES => s.block(buf, true),
            64 => s.block(buf, false),
            _ => s.other(buf),
        }
    }
}

impl State<'_> {
    fn byte(&mut self) -> u8 {
        self.u.arbitrary().unwrap_or(0)
    }

    fn fill(&mut self, buf: &mut [u8]) {
        let n = buf.len().min(self.u.len());
        let given = self.u.bytes(n).unwrap_or_default();
        buf[..n].copy_from_slice(given);
        buf[n..].fill(0);
    }

    /// A command entry: 64 bytes.
    fn entry(&mut self, buf: &mut [u8]) -> Result<(), Unmapped> {
        let how = self.byte();
        if how & entry_byte::RAW != 0 {
            self.fill(buf);
            self.token = buf[60];
            return Ok(());
        }
        let row = usize::from(self.u.arbitrary::<u16>().unwrap_or(0)) % table::OPS.len();
        let op = &table::OPS[row];
        let longer = u32::from(self.u.arbitrary::<u16>().unwrap_or(0));
        let in_len = match how & 3 {
            0 => u32::from(op.in_len).max(16),
            1 => u32::from(op.in_len).saturating_add(longer),
            2 => longer << 8,
            _ => longer << 16,
        };
        let out_len = match how >> 2 & 3 {
            0 => u32::from(op.out_len).max(16),
            1 => u32::from(op.out_len).saturating_add(longer),
            2 => longer << 8,
            _ => longer << 16,
        };
        let mut inline_in = [0; INLINE_BYTES];
        self.fill(&mut inline_in);
        set_bits(&mut inline_in, 0, 16, u64::from(op.opcode));
        self.token = self.byte();
        self.block = 0;
        self.input_blocks = (in_len as usize)
            .saturating_sub(INLINE_BYTES)
            .div_ceil(BLOCK_DATA);
        let (in_ptr, out_ptr) = (self.pointer(), self.pointer());
        let e = Entry {
            kind: 7,
            in_len,
            in_ptr,
            inline_in,
            out_ptr,
            out_len,
            token: self.token,
            hw_owned: how & entry_byte::NOT_OWNED == 0,
        };
        buf.copy_from_slice(&e.to_bytes());
        if how & entry_byte::UNSIGNED == 0 {
            buf[Entry::SIG_OFFSET] = !xor8(buf);
        }
        Ok(())
    }

    /// Where a block lies: aligned, unless the fuzzer wants otherwise.
    fn pointer(&mut self) -> u64 {
        let p = self.u.arbitrary::<u16>().unwrap_or(0);
        if p & 0x8000 == 0 {
            0x20_0000 + u64::from(p) * 1024
        } else {
            self.u.arbitrary().unwrap_or(u64::MAX)
        }
    }

    /// A mailbox block, or its control part alone.
    fn block(&mut self, buf: &mut [u8], whole: bool) -> Result<(), Unmapped> {
        let how = self.byte();
        if how & 0xc0 == 0xc0 {
            if how & 1 == 0 {
                return Err(Unmapped);
            }
            self.fill(buf);
            return Ok(());
        }
        if !whole && self.block as usize == self.input_blocks {
            // The output chain is counted anew.
            self.block = 0;
            self.input_blocks = usize::MAX;
        }
        let mut number = self.block;
        let mut token = self.token;
        match how & 7 {
            1 => number = number.wrapping_add(1),
            2 => token = token.wrapping_add(1),
            _ => {}
        }
        let next = self.pointer();
        let control = BlockControl::unsigned(next, number, token);
        self.block += 1;
        let at = buf.len() - control.len();
        if whole {
            let n = usize::from(self.byte()).min(at);
            self.fill(&mut buf[..n]);
            buf[n..at].fill(0);
        }
        buf[at..].copy_from_slice(&control);
        if whole && how & 8 == 0 {
            // Control signature, then that of the whole block.
            buf[BLOCK_BYTES - 2] = !xor8(&buf[at..BLOCK_BYTES - 2]);
            buf[BLOCK_BYTES - 1] = !xor8(&buf[..BLOCK_BYTES - 1]);
        }
        Ok(())
    }

    /// What a handler reads.
    fn other(&mut self, buf: &mut [u8]) -> Result<(), Unmapped> {
        if self.byte() & 7 == 7 {
            return Err(Unmapped);
        }
        self.fill(buf);
        Ok(())
    }
}

thread_local! {
    static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// Handles an input.
pub fn run(data: &[u8]) {
    DEVICE.with_borrow_mut(|d| {
        let d = d.get_or_insert_with(|| Device::of(profile(), &[EventPath::EventQueues]));
        d.renew();
        ring(d, data);
    });
}

fn record(data: &[u8]) -> Vec<u8> {
    let mut device = Device::of(profile(), &[EventPath::EventQueues]);
    recorded(&mut device, |d| ring(d, data))
}

/// Brings the function to where the first byte says, and rings doorbells until the bytes are used up.
fn ring(d: &mut Device, data: &[u8]) {
    let mut u = Unstructured::new(data);
    let begin: u8 = u.arbitrary().unwrap_or(0);
    d.submit(Input::SegmentWrite {
        function: F,
        offset: segment::CMDQ_ADDR_L_SZ as u32,
        data: &(CMDQ as u32).to_be_bytes(),
    });
    if begin & 1 != 0 {
        d.bring_to_enabled(F);
    }
    if begin & 2 != 0 {
        sign(d);
    }
    if begin & 5 == 5 {
        d.command(F, &command(opcode::INIT_HCA, 0, 32), 16);
    }
    crate::begins();
    let mem = Shifting::new(u);
    for _ in 0..4 {
        let slots: u32 = {
            let mut s = mem.0.borrow_mut();
            if s.u.is_empty() {
                return;
            }
            let n = s.byte();
            // Mostly one slot, and all of them.
            if n < 0xf0 { 1 << (n & 31) } else { u32::MAX }
        };
        d.now.0 += 1000;
        let doorbell = Input::SegmentWrite {
            function: F,
            offset: segment::CMD_DBELL as u32,
            data: &slots.to_be_bytes(),
        };
        d.submit_with(doorbell, &mem);
        check_writes(d);
    }
}

/// The answer ends with the owner bit given back, and only its last byte says so.
fn check_writes(d: &Device) {
    for e in d.fx.iter() {
        let Effect::Write { addr, data, .. } = e else {
            continue;
        };
        let status = CMDQ + Entry::STATUS_OFFSET as u64;
        let is_status = addr.wrapping_sub(status) % ENTRY_BYTES as u64 == 0
            && (CMDQ..CMDQ + CMDQ_BYTES).contains(addr);
        if is_status {
            let bytes = d.fx.bytes(*data);
            assert!(
                bytes.len() == 1 && bytes[0] & 1 == 0,
                "an answer keeps the entry"
            );
        }
    }
}

/// Switches command signatures on.
fn sign(d: &mut Device) {
    let bytes = SetHcaCapIn::BYTES;
    let mut inbox = command(opcode::SET_HCA_CAP, 0, bytes);
    let query = command(opcode::QUERY_HCA_CAP, 1, 16);
    if d.command(F, &query, 4112)
        && let Some(r) = d.reply()
    {
        let page = r.outbox.get(16..).unwrap_or_default();
        for (to, from) in inbox[16..].iter_mut().zip(page) {
            *to = *from;
        }
    }
    let f = CmdHcaCap::CMDIF_CHECKSUM;
    set_bits(&mut inbox, 128 + f.offset(), f.width(), 3);
    d.command(F, &inbox, 16);
}

/// A seed that rings for each of these commands, in a function that is up.
#[must_use]
pub fn seed_of(sent: &[Sent]) -> Vec<u8> {
    let mut seed = vec![5];
    for s in sent {
        let op = get_bits(&s.inbox, 0, 16) as u16;
        let Some(row) = table::OPS.iter().position(|o| o.opcode == op) else {
            continue;
        };
        // Lengths are told as what they are above the table's, the same for both.
        let shortest = u32::from(table::OPS[row].in_len);
        let (in_how, longer) = match (s.inbox.len() as u32).checked_sub(shortest) {
            Some(longer) if s.inbox.len() as u32 != shortest.max(16) => (1, longer),
            _ => (0, 0),
        };
        let outbox = u32::from(table::OPS[row].out_len);
        let (out_how, longer) = match s.outbox_len.checked_sub(outbox) {
            Some(more) if more > 0 && (in_how == 0 || more == longer) => (1, more),
            _ => (0, longer),
        };
        let Ok(longer) = u16::try_from(longer) else {
            continue;
        };
        // Slot 0, an entry that is signed and the firmware's.
        seed.extend([0, in_how | out_how << 2]);
        seed.extend((row as u16).to_le_bytes());
        seed.extend(longer.to_le_bytes());
        let (inline, rest) = s.inbox.split_at(s.inbox.len().min(INLINE_BYTES));
        seed.extend(inline);
        seed.extend(vec![0; INLINE_BYTES - inline.len()]);
        // Token; both chains begin at the first block.
        seed.extend([9, 1, 0, 1, 0]);
        for block in rest.chunks(BLOCK_DATA) {
            let data = &block[..block.len().min(usize::from(u8::MAX))];
            seed.extend([0, 1, 0, data.len() as u8]);
            seed.extend(data);
        }
        let outbox = s.outbox_len as usize;
        for _ in 0..outbox.saturating_sub(INLINE_BYTES).div_ceil(BLOCK_DATA) {
            seed.extend([0, 1, 0]);
        }
    }
    seed
}

/// A command of each length class, with and without signatures.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for begin in [0, 1, 3, 5, 7] {
        for (row, _) in table::OPS.iter().enumerate().step_by(7) {
            let [low, high] = (row as u16).to_le_bytes();
            let mut seed = vec![begin, 0, 0, low, high, 0, 0];
            seed.extend([0; INLINE_BYTES]);
            seed.extend([9, 1, 0, 2, 0]);
            seed.extend([0; 40]);
            seeds.push(seed);
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The made-up chains are good ones when the bytes ask for nothing else: the firmware executes.
    #[test]
    fn plain_bytes_are_executed_with_and_without_signatures() {
        let nop = table::OPS
            .iter()
            .position(|o| o.opcode == opcode::QUERY_HCA_CAP)
            .unwrap();
        for begin in [1, 3] {
            let mut d = Device::of(profile(), &[EventPath::EventQueues]);
            let mut data = vec![begin, 0, 0, nop as u8, (nop >> 8) as u8];
            data.extend([0; 128]);
            ring(&mut d, &data);
            // 4112 bytes of outbox: 16 inline and 8 blocks, and the last ring found zeros again.
            let blocks = d.fx.iter().filter(|e| match e {
                Effect::Write { data, .. } => d.fx.bytes(*data).len() >= BLOCK_DATA,
                _ => false,
            });
            assert_eq!(blocks.count(), 8, "begin {begin}");
        }
    }
}
