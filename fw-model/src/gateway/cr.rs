// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CR space: words of the device, most of which nobody gives a meaning.

use std::collections::BTreeMap;

use crate::{
    Batch, Card, Effects, Time, firmware::fs4::LOG_SLOT, function::Function, limits::MAX_CR_WORDS,
};

use super::{Word, semaphore::FLASH};

/// Bytes of the space: as far as the tools' lists of any of its devices go.
pub const BYTES: u32 = 0x400_0000;
/// Bytes of the part that is scanned for a crash dump: a driver allocates as much.
pub const SCAN_BYTES: u32 = 0x10_0000;

/// Device id, and its revision from bit 16 on.
const DEVICE_ID: u32 = 0xf_0014;
/// Health buffer.
const HEALTH: u32 = 0x0_0200;
const HEALTH_END: u32 = HEALTH + 16 * 4;
/// Firmware version: major, minor, sub-minor, a word each.
const FIRMWARE: u32 = 0x0_0000;
const FIRMWARE_END: u32 = FIRMWARE + 3 * 4;
/// A function: its state, resets, user contexts, event queues, pages, objects, commands not yet
/// answered.
const FUNCTIONS: u32 = 0x0_1000;
const FUNCTION_BYTES: u32 = 0x100;
const FUNCTION_WORDS: u32 = 7;
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
        let written = || self.shared.cr.0.get(&address).copied();
        self.word(address).or_else(written).unwrap_or(0)
    }

    /// Keeps a word. What the model gives stays, and so does all else when there is no room.
    pub(super) fn write_cr(&mut self, address: u32, value: u32, now: Time, fx: &mut Effects) {
        let mut batch = Batch::default();
        let (spi, flash) = (&mut self.shared.spi, &mut self.shared.firmware.flash);
        if spi.write(&self.profile, address, value, flash, &mut batch) {
            self.shared.semaphores.renew(FLASH, now);
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
        let mut behind = self.addresses().filter(|a| *a > address);
        let next = behind.find(|a| self.word(*a).is_some_and(|v| v != 0));
        Word {
            value: self.word(address).unwrap_or(0),
            next: next.unwrap_or(SCAN_BYTES),
        }
    }

    /// A word that follows from the model's state; none where the model has nothing.
    fn word(&self, address: u32) -> Option<u32> {
        let running = self.shared.firmware.running;
        for (offset, command, shift) in CODE {
            match address {
                a if a == offset => return Some(u32::from(running.slot) << LOG_SLOT),
                a if a == command => return Some(FLASH_READ << shift),
                _ => {}
            }
        }
        match address {
            _ if !address.is_multiple_of(4) => None,
            DEVICE_ID => Some(self.profile.pci.hw_id),
            FIRMWARE..FIRMWARE_END => {
                let part = running.version.get((address - FIRMWARE) as usize / 4)?;
                Some(u32::from(*part))
            }
            HEALTH..HEALTH_END => Some(self.shared.health.dword((address - HEALTH) as usize)),
            FUNCTIONS.. => {
                let at = address - FUNCTIONS;
                let f = self.functions.get((at / FUNCTION_BYTES) as usize)?;
                function_word(f, at % FUNCTION_BYTES / 4)
            }
            _ => None,
        }
    }

    /// Where there are words that follow from the model's state, in order.
    fn addresses(&self) -> impl Iterator<Item = u32> {
        let functions = (FUNCTIONS..DEVICE_ID).step_by(FUNCTION_BYTES as usize);
        let functions = functions.take(self.functions.len());
        let mut code = CODE.map(|(offset, command, _)| [offset, command]);
        code.sort_unstable();
        (FIRMWARE..FIRMWARE_END)
            .chain(HEALTH..HEALTH_END)
            .step_by(4)
            .chain(functions.flat_map(|f| (f..f + 4 * FUNCTION_WORDS).step_by(4)))
            .chain([DEVICE_ID])
            .chain(code.into_iter().flatten())
    }
}

/// A word of a function.
fn function_word(f: &Function, index: u32) -> Option<u32> {
    Some(match index {
        0 => f.state as u32 + 1,
        1 => f.generation as u32,
        2 => f.uctx.len() as u32,
        3 => f.eqs.len() as u32,
        4 => f.pages.held(),
        5 => f.objects.counts().values().sum::<usize>() as u32,
        6 => f.pending.len() as u32,
        _ => return None,
    })
}
