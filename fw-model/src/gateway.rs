// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What lies behind the PCI vendor-specific capability: address spaces that all functions of a
//! card share. There are the semaphores, and the space that a driver scans for a crash dump.

use std::collections::BTreeMap;

use crate::{Card, Input};

/// Semaphores (`MLX5_SEMAPHORE_SPACE_DOMAIN`).
pub const SEMAPHORES: u16 = 0xa;
/// The words of the device worth dumping, in order (`MLX5_VSC_SPACE_SCAN_CRSPACE`).
pub const SCAN: u16 = 0x7;

/// Bytes of the space of semaphores, one in each dword.
const SEMAPHORE_BYTES: u32 = 0x1000;
/// Bytes of the device's own address space.
const CR_BYTES: u32 = 0x10_0000;

/// Addresses in the device's own space.
mod cr {
    /// Device id, and its revision from bit 16 on.
    pub const DEVICE_ID: u32 = 0xf_0014;
    /// Health buffer.
    pub const HEALTH: u32 = 0x0_0200;
    /// Firmware version: major, minor, sub-minor, a word each.
    pub const FIRMWARE: u32 = 0x0_0000;
    /// A function: its state, resets, user contexts, event queues, pages, objects, commands not yet
    /// answered.
    pub const FUNCTIONS: u32 = 0x0_1000;
    pub const FUNCTION_BYTES: u32 = 0x100;
}

/// The semaphores that are taken, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Semaphores(BTreeMap<u32, u32>);

impl Semaphores {
    /// A write: an owner takes a free one, 0 frees it; what is taken stays so. False if there is
    /// none at this address.
    pub fn write(&mut self, address: u32, value: u32) -> bool {
        if address >= SEMAPHORE_BYTES || !address.is_multiple_of(4) {
            return false;
        }
        if value == 0 {
            self.0.remove(&address);
        } else {
            self.0.entry(address).or_insert(value);
        }
        true
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self) -> Result<(), &'static str> {
        let bad = |(a, v): (&u32, &u32)| *a >= SEMAPHORE_BYTES || !a.is_multiple_of(4) || *v == 0;
        if self.0.iter().any(bad) {
            return Err("a semaphore that is not there");
        }
        Ok(())
    }
}

/// What a read of a space gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The dword.
    pub value: u32,
    /// The address that the gateway then names: the next one with content in a space that is
    /// scanned, else the same.
    pub next: u32,
}

impl Card {
    /// Bytes of an address space; `None` if there is none of this number.
    #[must_use]
    pub fn space(&self, space: u16) -> Option<u32> {
        match space {
            SEMAPHORES => Some(SEMAPHORE_BYTES),
            SCAN => Some(CR_BYTES),
            _ => None,
        }
    }

    /// Reads a dword of a space; `None` if there is none at `address`.
    #[must_use]
    pub fn read_space(&self, space: u16, address: u32) -> Option<Word> {
        let size = self.space(space)?;
        if address >= size || !address.is_multiple_of(4) {
            return None;
        }
        if space == SEMAPHORES {
            let value = self.shared.semaphores.0.get(&address).copied();
            return Some(Word {
                value: value.unwrap_or(0),
                next: address,
            });
        }
        let words = self.words();
        let next = words.range(address + 4..).next().map(|(a, _)| *a);
        Some(Word {
            value: words.get(&address).copied().unwrap_or(0),
            next: next.unwrap_or(size),
        })
    }

    /// Words of the device's own space that are not 0, by address.
    fn words(&self) -> BTreeMap<u32, u32> {
        let p = &self.profile;
        let mut words = BTreeMap::from([(cr::DEVICE_ID, p.pci.hw_id)]);
        let mut put = |at: u32, values: &[u32]| {
            let at = (0..).map(|i| at + 4 * i);
            words.extend(at.zip(values.iter().copied()).filter(|(_, v)| *v != 0));
        };
        put(cr::FIRMWARE, &p.firmware.version.map(u32::from));
        let buffer: Vec<u32> = (0..16).map(|i| self.shared.health.dword(i * 4)).collect();
        put(cr::HEALTH, &buffer);
        for (f, i) in self.functions.iter().zip(0..) {
            put(
                cr::FUNCTIONS + i * cr::FUNCTION_BYTES,
                &[
                    f.state as u32 + 1,
                    f.generation as u32,
                    f.uctx.len() as u32,
                    f.eqs.len() as u32,
                    f.pages.held(),
                    f.objects.counts().values().sum::<usize>() as u32,
                    f.pending.len() as u32,
                ],
            );
        }
        words
    }
}

/// A write to a space as an input; `None` where nothing can be written.
#[must_use]
pub fn write(space: u16, address: u32, value: u32) -> Option<Input<'static>> {
    (space == SEMAPHORES && address < SEMAPHORE_BYTES && address.is_multiple_of(4))
        .then_some(Input::Semaphore { address, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CardOptions, Effects, EventPath, NoMemory, Profile, Report, Time};

    fn card() -> Card {
        let profile = Profile::builtin("connectx7").unwrap();
        let mut c = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        c.add_function(EventPath::EventQueues);
        c
    }

    #[test]
    fn a_semaphore_belongs_to_the_first_until_it_is_freed() {
        let mut c = card();
        let mut fx = Effects::new();
        let mut write = |value| {
            let input = write(SEMAPHORES, 0x20, value).unwrap();
            c.submit(input, Time::ZERO, &NoMemory, &mut fx);
            c.read_space(SEMAPHORES, 0x20).unwrap().value
        };
        assert_eq!([write(7), write(9), write(0), write(9)], [7, 7, 0, 9]);
        assert!(super::write(SEMAPHORES, 0x1000, 1).is_none());
        assert!(super::write(SCAN, 0x20, 1).is_none());
    }

    #[test]
    fn a_scan_visits_every_word_once_and_ends_at_the_size() {
        let mut c = card();
        let mut fx = Effects::new();
        c.submit(
            Input::Health(Report::FAILED),
            Time(5_000_000_000),
            &NoMemory,
            &mut fx,
        );
        let size = c.space(SCAN).unwrap();
        let (mut at, mut seen) = (0, BTreeMap::new());
        while at < size {
            let w = c.read_space(SCAN, at).unwrap();
            assert!(w.next > at);
            seen.insert(at, w.value);
            at = w.next;
        }
        assert_eq!(at, size);
        assert_eq!(seen[&0xf_0014], 0x218);
        assert_eq!(&[seen[&0], seen[&4], seen[&8]], &[28, 43, 1014]);
        // time 5 s, "reset needed" and severity 3, syndrome 1.
        assert_eq!(seen[&0x22c], 5);
        assert_eq!(seen[&0x238], 0x8b00_0000);
        assert_eq!(seen[&0x23c], 0x0001_0000);
    }
}
