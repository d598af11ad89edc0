// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests that the firmware has and their chains, found again by the tag of the reply.
//!
//! A tag is a slot and the turn of that slot: a reply that comes after its chain was dropped
//! (reset) names a turn that is over, and is ignored.

use super::chain::Segment;

/// A chain that waits for its reply.
#[derive(Debug, Default)]
struct Slot {
    turn: u32,
    taken: bool,
    head: u16,
    writable: Vec<Segment>,
}

/// All chains that wait. After each slot's first use it allocates no more.
#[derive(Debug)]
pub struct Held {
    slots: Vec<Slot>,
    free: Vec<u32>,
    limit: usize,
}

impl Held {
    /// Room for `limit` chains.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            limit,
        }
    }

    /// Keeps a chain; its list of writable segments is exchanged for an empty one. `None` if
    /// there is no room.
    pub fn keep(&mut self, head: u16, writable: &mut Vec<Segment>) -> Option<u64> {
        let index = match self.free.pop() {
            Some(i) => i,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).ok()?
            }
            None => return None,
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.taken = true;
        slot.head = head;
        core::mem::swap(&mut slot.writable, writable);
        Some(u64::from(slot.turn) << 32 | u64::from(index))
    }

    /// Ends the wait of `tag`: gives `answer` the head and the writable segments. `None` if that
    /// chain waits no more.
    pub fn end<R>(&mut self, tag: u64, answer: impl FnOnce(u16, &[Segment]) -> R) -> Option<R> {
        let index = tag as u32;
        let slot = self.slots.get_mut(index as usize)?;
        if !slot.taken || u64::from(slot.turn) != tag >> 32 {
            return None;
        }
        let r = answer(slot.head, &slot.writable);
        slot.release();
        self.free.push(index);
        Some(r)
    }

    /// Drops all chains; their tags are void.
    pub fn drop_all(&mut self) {
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if slot.taken {
                slot.release();
                // Below `limit`, which keep() bounded to a u32.
                self.free.push(i as u32);
            }
        }
    }
}

impl Slot {
    fn release(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.taken = false;
        self.writable.clear();
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;

    use super::*;

    #[test]
    fn a_tag_ends_once_and_in_any_order() {
        let mut h = Held::new(2);
        let mut list = vec![Segment {
            addr: GuestAddress(1),
            len: 2,
        }];
        let a = h.keep(7, &mut list).unwrap();
        assert!(list.is_empty());
        let b = h.keep(8, &mut list).unwrap();
        assert_eq!(h.keep(9, &mut list), None);
        assert_eq!(h.end(b, |head, s| (head, s.len())), Some((8, 0)));
        assert_eq!(
            h.end(a, |head, s| (head, s.to_vec())),
            Some((
                7,
                vec![Segment {
                    addr: GuestAddress(1),
                    len: 2
                }]
            ))
        );
        assert_eq!(h.end(a, |_, _| ()), None);
    }

    #[test]
    fn a_dropped_tag_is_void_even_when_its_slot_is_taken_again() {
        let mut h = Held::new(1);
        let old = h.keep(1, &mut Vec::new()).unwrap();
        h.drop_all();
        let new = h.keep(1, &mut Vec::new()).unwrap();
        assert_ne!(old, new);
        assert_eq!(h.end(old, |_, _| ()), None);
        assert_eq!(h.end(u64::MAX, |_, _| ()), None);
        assert_eq!(h.end(new, |head, _| head), Some(1));
    }
}
