// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card has answered since the process runs: counts, and the last commands. Not part of its
//! state: neither saved nor reset.

use std::collections::{BTreeMap, VecDeque};

use fwctl_proto::layout::get_bits;

use crate::{FunctionId, time::Time};

/// Kinds of answers that are counted apart from each other; further ones are counted together.
pub const MAX_KINDS: usize = 4096;
/// The last commands that are kept.
pub const MAX_RECENT: usize = 64;

/// What answers are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// The function.
    pub function: FunctionId,
    /// The opcode; `None` for what was counted together.
    pub opcode: Option<u16>,
    /// `delivery status` of the command entry.
    pub delivery: u8,
    /// The status; 0 if it was not delivered.
    pub status: u8,
}

/// A command that was answered, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// When it was taken.
    pub submitted: Time,
    /// When it was answered.
    pub completed: Time,
    /// Slot in the command queue, if it came that way.
    pub slot: Option<u8>,
    /// Function, opcode, delivery and status.
    pub answer: Answered,
    /// `op_mod` of its inbox.
    pub op_mod: u16,
    /// `uid` of its inbox.
    pub uid: u16,
    /// Its syndrome.
    pub syndrome: u32,
}

/// Counts and last commands of a card.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    answered: BTreeMap<Answered, u64>,
    recent: VecDeque<Recent>,
    total: u64,
}

impl Counters {
    /// A copy of others, in the memory that these have.
    pub(super) fn become_like(&mut self, from: &Self) {
        let Self {
            answered,
            recent,
            total,
        } = from;
        self.answered.retain(|a, _| answered.contains_key(a));
        self.answered.extend(answered);
        self.recent.clone_from(recent);
        self.total = *total;
    }

    /// All counts.
    pub fn answered(&self) -> impl Iterator<Item = (Answered, u64)> + '_ {
        self.answered.iter().map(|(a, n)| (*a, *n))
    }

    /// How many that are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The last commands, the oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Recent> + '_ {
        self.recent.iter()
    }

    pub(super) fn count(
        &mut self,
        function: FunctionId,
        slot: Option<u8>,
        times: (Time, Time),
        delivery: u8,
        inbox: &[u8],
        outbox: &[u8],
    ) {
        let word = |at| get_bits(inbox, at, 16) as u16;
        let answer = Answered {
            function,
            opcode: Some(word(0)),
            delivery,
            status: outbox.first().copied().unwrap_or(0),
        };
        let known = self.answered.len() < MAX_KINDS || self.answered.contains_key(&answer);
        let kind = if known {
            answer
        } else {
            Answered {
                opcode: None,
                delivery: 0,
                status: 0,
                function,
            }
        };
        *self.answered.entry(kind).or_default() += 1;
        self.total += 1;
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            submitted: times.0,
            completed: times.1,
            slot,
            answer,
            op_mod: word(48),
            uid: word(16),
            syndrome: get_bits(outbox, 32, 32) as u32,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(c: &mut Counters, opcode: u16, status: u8) {
        let mut inbox = [0; 16];
        inbox[..2].copy_from_slice(&opcode.to_be_bytes());
        inbox[3] = 5;
        let outbox = [status, 0, 0, 0, 0, 0, 1, 2];
        let times = (Time(1), Time(7));
        c.count(FunctionId(3), Some(4), times, 0, &inbox, &outbox);
    }

    #[test]
    fn answers_are_counted_by_opcode_and_status_and_the_last_ones_kept() {
        let mut c = Counters::default();
        for status in [0, 0, 3] {
            count(&mut c, 0x100, status);
        }
        let all: Vec<_> = c.answered().map(|(a, n)| (a.opcode, a.status, n)).collect();
        assert_eq!(all, [(Some(0x100), 0, 2), (Some(0x100), 3, 1)]);
        let last = c.recent().last().unwrap();
        assert_eq!((last.uid, last.syndrome, last.slot), (5, 0x102, Some(4)));
        assert_eq!((last.submitted, last.completed), (Time(1), Time(7)));
    }

    #[test]
    fn a_guest_cannot_make_them_grow_without_end() {
        let mut c = Counters::default();
        for opcode in 0..MAX_KINDS as u16 + 100 {
            count(&mut c, opcode, 2);
        }
        assert_eq!(
            (c.answered.len(), c.recent.len()),
            (MAX_KINDS + 1, MAX_RECENT)
        );
        let together = c.answered().find(|(a, _)| a.opcode.is_none()).unwrap();
        assert_eq!(together.1, 100);
        let sum: u64 = c.answered().map(|(_, n)| n).sum();
        assert_eq!(sum, MAX_KINDS as u64 + 100);
    }
}
