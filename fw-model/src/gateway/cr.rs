// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CR space: words of the device, most of which nobody gives a meaning.

use std::collections::BTreeMap;

use crate::{Batch, Card, Effects, Time, firmware::fs4::LOG_SLOT, limits::MAX_CR_WORDS};

use super::Word;

/// Bytes of the space: as far as the tools' lists of any of its devices go.
pub const BYTES: u32 = 0x400_0000;
/// Bytes of the part that is scanned for a crash dump: a driver allocates as much.
pub const SCAN_BYTES: u32 = 0x10_0000;

/// Device id, and its revision from bit 16 on.
const DEVICE_ID: u32 = 0xf_0014;
/// Health buffer.
const HEALTH: u32 = 0x0_0200;
/// Firmware version: major, minor, sub-minor, a word each.
const FIRMWARE: u32 = 0x0_0000;
/// A function: its state, resets, user contexts, event queues, pages, objects, commands not yet
/// answered.
const FUNCTIONS: u32 = 0x0_1000;
const FUNCTION_BYTES: u32 = 0x100;
/// Where in the flash the code lies that runs, and with which command of the flash chip it is read:
/// with ConnectX-7 and later, and before. A tool that finds it leaves the flash chip to the firmware.
const CODE: [(u32, u32, u32); 2] = [(0xf_0484, 0xf_0488, 24), (0xf_0408, 0xf_040c, 16)];
/// Read with an address of 4 bytes.
const FLASH_READ: u32 = 0x13;
/// Bit 31 says that the firmware does not run yet; where it lies depends on the device: ConnectX-6
/// to 7 and BlueField, ConnectX-5, ConnectX-8.
const STARTING: [u32; 3] = [0xb_5f04, 0xb_5e04, 0xa_0304];

/// Words that were written, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CrSpace(BTreeMap<u32, u32>);

impl CrSpace {
    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self) -> Result<(), &'static str> {
        let bad = |a: &u32| *a >= BYTES || !a.is_multiple_of(4);
        if self.0.len() > MAX_CR_WORDS || self.0.keys().any(bad) {
            return Err("a word of the device that is not there");
        }
        Ok(())
    }
}

impl Card {
    /// The word at an address.
    pub(super) fn cr_word(&self, address: u32, now: Time) -> u32 {
        if STARTING.contains(&address) {
            return u32::from(!self.shared.health.runs(now)) << 31;
        }
        if let Some(word) = self.shared.spi.read(&self.profile, address) {
            return word;
        }
        let given = self.words().get(&address).copied();
        given.unwrap_or_else(|| self.shared.cr.0.get(&address).copied().unwrap_or(0))
    }

    /// Keeps a word. What the model gives stays, and so does all else when there is no room.
    pub(super) fn write_cr(&mut self, address: u32, value: u32, fx: &mut Effects) {
        let mut batch = Batch::default();
        let (spi, flash) = (&mut self.shared.spi, &mut self.shared.firmware.flash);
        if spi.write(&self.profile, address, value, flash, &mut batch) {
            // The chip's own status is read before the tool goes on; by then it is stored.
            self.commit(batch, fx);
            return;
        }
        let cr = &mut self.shared.cr.0;
        if value == 0 {
            cr.remove(&address);
        } else if cr.len() < MAX_CR_WORDS || cr.contains_key(&address) {
            cr.insert(address, value);
        }
    }

    /// A word of the part that is scanned, and where the next one is.
    pub(super) fn scan(&self, address: u32) -> Word {
        let words = self.words();
        let mut behind = words.range(address + 4..).filter(|(_, v)| **v != 0);
        let next = behind.next().map(|(a, _)| *a);
        Word {
            value: words.get(&address).copied().unwrap_or(0),
            next: next.unwrap_or(SCAN_BYTES),
        }
    }

    /// Words that follow from the model's state, by address.
    fn words(&self) -> BTreeMap<u32, u32> {
        let p = &self.profile;
        let mut words = BTreeMap::from([(DEVICE_ID, p.pci.hw_id)]);
        let mut put = |at: u32, values: &[u32]| {
            let at = (0..).map(|i| at + 4 * i);
            words.extend(at.zip(values.iter().copied()));
        };
        let running = self.shared.firmware.running;
        put(FIRMWARE, &running.version.map(u32::from));
        for (offset, command, shift) in CODE {
            put(offset, &[u32::from(running.slot) << LOG_SLOT]);
            put(command, &[FLASH_READ << shift]);
        }
        let buffer: Vec<u32> = (0..16).map(|i| self.shared.health.dword(i * 4)).collect();
        put(HEALTH, &buffer);
        for (f, i) in self.functions.iter().zip(0..) {
            put(
                FUNCTIONS + i * FUNCTION_BYTES,
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
