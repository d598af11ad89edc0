// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware tracer: lines about what the firmware does, in a driver's memory (docs/tracer.md).

pub mod strings;

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{FunctionId, time::Time};

/// Entries of 8 bytes in a block; the last is a time stamp.
pub const ENTRIES: usize = 32;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = ENTRIES * 8;
/// Log2 of the most pages of 4 KiB that a buffer may have.
pub const LOG_MAX_PAGES: u8 = 10;
/// Log2 of the bytes of a page of the buffer.
const PAGE_SHIFT: u32 = 12;
/// Event id of function 0's lines; the next is function 1's.
pub const FIRST_EVENT: u8 = 0x10;
/// Event id of a time stamp.
const TIMESTAMP: u64 = 0xff;
/// `urts` of a time stamp that must not be taken for one (tracer version 0).
const UNRELIABLE: u64 = 1 << 2;
/// Times have so many bits.
const TIME_BITS: u32 = 53;
/// Message sequence numbers have so many.
const SEQUENCE_BITS: u32 = 13;
/// A line goes out at the latest after this time.
const PATIENCE: Duration = Duration::from_millis(10);

/// Sub-types of DEVICE_TRACER events.
pub mod subtype {
    /// The tracer was given back.
    pub const OWNERSHIP_CHANGE: u8 = 0;
    /// A block went out.
    pub const TRACES_AVAILABLE: u8 = 1;
}

/// Who has the tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Which function.
    pub function: FunctionId,
    /// Its generation: after a reset it is another driver's.
    pub generation: u64,
}

/// Which lines are wanted, as SET_ITRACE says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// A bit for each class ([`strings::class`]).
    pub classes: u32,
    /// The least level ([`strings::level`]).
    pub level: u8,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            classes: u32::MAX,
            level: 0,
        }
    }
}

impl Filter {
    /// Lines of this class and level are wanted.
    #[must_use]
    pub fn wants(self, (class, level): (u8, u8)) -> bool {
        self.classes >> (class & 31) & 1 != 0 && level >= self.level
    }
}

/// The tracer of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracer {
    /// Who has it.
    pub owner: Option<Owner>,
    /// The owner has switched it on.
    pub on: bool,
    /// The owner wants an event at the next block.
    pub armed: bool,
    /// The memory key of the buffer, with its variant; 0 before MTRC_CONF.
    pub mkey: u32,
    /// Log2 of the buffer's pages.
    pub log_pages: u8,
    /// Which lines its owner gets.
    pub filter: Filter,
    /// A core dump is to be written.
    pub dump: bool,
    /// This function gave it back, and the others are to be told.
    pub released: Option<FunctionId>,
    block: u32,
    filling: Vec<u64>,
    flush_at: Option<Time>,
    unannounced: bool,
    lost: bool,
    last: u64,
    sequence: u64,
}

/// A block that is to be written, at this byte of the buffer.
pub struct Block {
    /// Offset in the buffer.
    pub at: u64,
    /// Its bytes.
    pub bytes: [u8; BLOCK_BYTES],
}

impl Tracer {
    /// Lines are wanted.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.on && self.owner.is_some()
    }

    /// The owner has given a buffer: everything begins anew.
    pub fn configure(&mut self, mkey: u32, log_pages: u8) {
        *self = Self {
            owner: self.owner,
            mkey,
            log_pages,
            filter: self.filter,
            lost: self.lost || !self.filling.is_empty(),
            last: self.last,
            ..Self::default()
        };
    }

    /// Nobody has it any more.
    pub fn release(&mut self) {
        *self = Self {
            released: self.owner.map(|o| o.function),
            filter: self.filter,
            last: self.last,
            ..Self::default()
        };
    }

    /// Bytes of a buffer of 2^`log_pages` pages.
    #[must_use]
    pub fn buffer_bytes(log_pages: u8) -> u64 {
        1 << (PAGE_SHIFT + u32::from(log_pages.min(LOG_MAX_PAGES)))
    }

    /// When the block must go out.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.flush_at
    }

    /// A line with `params` parameters does not fit the block.
    #[must_use]
    pub fn is_full(&self, params: usize) -> bool {
        self.filling.len() + params + 2 > ENTRIES - 1
    }

    /// Adds a line to the block; the caller has looked that it fits.
    pub fn line(&mut self, event: u8, string: u32, params: &[u32], ticks: u64, now: Time) {
        self.sequence = self.sequence.wrapping_add(1) & ((1 << SEQUENCE_BITS) - 1);
        let ticks = ticks & ((1 << TIME_BITS) - 1);
        let head = ticks & 0x7f | u64::from(core::mem::take(&mut self.lost)) << 7;
        let values = core::iter::once(&string).chain(params);
        for (n, value) in values.enumerate() {
            self.filling.push(
                head << 56
                    | u64::from(event) << 48
                    | self.sequence << 35
                    | (n as u64 & 7) << 32
                    | u64::from(*value),
            );
        }
        // Drivers take the upper bits of a line's time from the stamp behind it, which must be
        // later.
        self.filling.push(stamp(ticks + 1, 0));
        self.flush_at.get_or_insert(now.after(PATIENCE));
    }

    /// Ends the block, if there is anything in it.
    pub fn take_block(&mut self, ticks: u64) -> Option<Block> {
        if self.filling.is_empty() {
            return None;
        }
        self.flush_at = None;
        // No two blocks have one time, nor does time go back when lines come within a tick.
        let next = self.last.wrapping_add(1).max(ticks.wrapping_add(1));
        self.last = next & ((1 << TIME_BITS) - 1);
        let mut entries = core::mem::take(&mut self.filling);
        entries.resize(ENTRIES - 1, stamp(self.last, UNRELIABLE));
        entries.push(stamp(self.last, 0));
        let mut bytes = [0; BLOCK_BYTES];
        for (to, entry) in bytes.chunks_exact_mut(8).zip(&entries) {
            to.copy_from_slice(&entry.to_be_bytes());
        }
        entries.clear();
        self.filling = entries;
        let blocks = Self::buffer_bytes(self.log_pages) / BLOCK_BYTES as u64;
        let at = u64::from(self.block) * BLOCK_BYTES as u64;
        self.block = ((u64::from(self.block) + 1) % blocks) as u32;
        Some(Block { at, bytes })
    }

    /// A block went out. True if the owner is to be told.
    pub fn written(&mut self) -> bool {
        self.unannounced = !self.armed;
        core::mem::take(&mut self.armed)
    }

    /// A block could not be written.
    pub fn dropped(&mut self) {
        self.lost = true;
    }

    /// The owner wants an event. True if there are blocks that no event has told of: it comes at
    /// once, unless it must wait for the next block.
    pub fn arm(&mut self, must_wait: bool) -> bool {
        self.armed = must_wait || !self.unannounced;
        if !self.armed {
            self.unannounced = false;
        }
        !self.armed
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What no tracer can hold.
    pub fn check(&self, functions: usize) -> Result<(), &'static str> {
        let known = |o: Owner| usize::from(o.function.0) < functions;
        if !self.owner.is_none_or(known) {
            return Err("a tracer of a function that there is not");
        }
        if self.log_pages > LOG_MAX_PAGES || self.filling.len() > ENTRIES - 1 {
            return Err("a trace buffer of another size");
        }
        Ok(())
    }
}

fn stamp(ticks: u64, urts: u64) -> u64 {
    let ticks = ticks & ((1 << TIME_BITS) - 1);
    (ticks & 0xff) << 56 | TIMESTAMP << 48 | urts << 45 | ticks >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(b: &Block, n: usize) -> u64 {
        u64::from_be_bytes(b.bytes[n * 8..n * 8 + 8].try_into().unwrap())
    }

    #[test]
    fn a_line_is_laid_out_as_the_driver_reads_it() {
        let mut t = Tracer::default();
        t.line(
            0x10,
            0x1000_0010,
            &[0xaa, 0xbb],
            0x1234_5678_9a80 | 0x7f,
            Time::ZERO,
        );
        let b = t.take_block(0x1234_5678_9aff).unwrap();
        // lost 0, timestamp 0x7f; event id; tmsn 1, tdsn; value.
        assert_eq!(entry(&b, 0), 0x7f10_0008_1000_0010);
        assert_eq!(entry(&b, 1), 0x7f10_0009_0000_00aa);
        assert_eq!(entry(&b, 2), 0x7f10_000a_0000_00bb);
        // timestamp7_0, event id 0xff, urts 0, timestamp52_40, timestamp39_8: one later.
        assert_eq!(entry(&b, 3), 0x00ff_0012_3456_789b);
        assert_eq!(entry(&b, 4) >> 45 & 7, 4, "unreliable");
        assert_eq!(entry(&b, 31), 0x00ff_0012_3456_789b);
        assert_eq!(b.at, 0);
        assert!(t.take_block(9).is_none());
    }

    #[test]
    fn blocks_follow_each_other_with_later_times_and_wrap() {
        let mut t = Tracer::default();
        let mut last = 0;
        for n in 0..40u64 {
            t.line(0x10, 1, &[], 5, Time::ZERO);
            let b = t.take_block(5).unwrap();
            assert_eq!(b.at, n % 16 * 256);
            let e = entry(&b, 31);
            let time = (e & 0x1fff_ffff_ffff) << 8 | e >> 56;
            assert!(time > last);
            last = time;
        }
    }

    #[test]
    fn arming_behind_an_untold_block_tells_at_once() {
        let mut t = Tracer::default();
        assert!(!t.arm(false));
        assert!(t.written() && !t.written());
        assert!(!t.arm(true) && t.armed);
        assert!(t.arm(false) && !t.armed);
        assert!(!t.arm(false) && t.armed);
    }
}
