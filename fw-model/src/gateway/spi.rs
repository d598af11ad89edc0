// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The flash chip's own gateway: words of CR space through which tools send SPI commands past the
//! firmware (`mstflint -ocr`).
//!
//! Where the words lie and what their bits are called differs by generation; names as in mstflint's
//! mflash. The lock bit reads as it was written: a read changes nothing here, so that it cannot be taken
//! by reading.

use serde::{Deserialize, Serialize};

use crate::{Profile, firmware::flash::Flash, reg::JEDEC_ID, store::Batch};

/// Bytes of the data words.
const DATA_BYTES: usize = 16;
/// Bits of the command word that all generations share: the chip's opcode, "go".
const OPCODE: u32 = 16;
const BUSY: u32 = 30;

/// Where a generation has its words, and the bits of its command word.
struct Layout {
    command: u32,
    address: u32,
    data: u32,
    size: Size,
    read: u32,
    command_phase: u32,
    address_phase: u32,
    data_phase: u32,
    hold: u32,
    long_address: u32,
}

/// Where the number of bytes is.
enum Size {
    /// Its logarithm, three bits of the command word from this one on.
    Log(u32),
    /// Five bits of the command word from this one on.
    Bits(u32),
    /// A word of its own.
    Word(u32),
}

/// ConnectX-5 and 6.
const FIFTH: Layout = Layout {
    command: 0xf_0400,
    address: 0xf_0404,
    data: 0xf_0410,
    size: Size::Log(8),
    read: 0,
    command_phase: 2,
    address_phase: 3,
    data_phase: 4,
    hold: 5,
    long_address: 14,
};
/// ConnectX-7, BlueField-3.
const SIXTH: Layout = Layout {
    address: 0xf_0420,
    size: Size::Bits(8),
    long_address: 15,
    ..FIFTH
};
/// ConnectX-8.
const SEVENTH: Layout = Layout {
    command: 0x8a_1000,
    address: 0x8a_103c,
    data: 0x8a_1010,
    size: Size::Word(0x8a_1044),
    read: 5,
    command_phase: 7,
    address_phase: 8,
    data_phase: 9,
    hold: 10,
    long_address: 15,
};

/// By the device's hardware id.
fn layout(p: &Profile) -> &'static Layout {
    match p.pci.hw_id {
        0x218 | 0x21c => &SIXTH,
        0x21e => &SEVENTH,
        _ => &FIFTH,
    }
}

/// Commands of the flash chip.
mod chip {
    pub const WRITE_STATUS: u8 = 0x01;
    pub const PROGRAM: [u8; 2] = [0x02, 0x12];
    pub const READ: [u8; 4] = [0x03, 0x13, 0x0b, 0x0c];
    pub const WRITE_DISABLE: u8 = 0x04;
    pub const READ_STATUS: u8 = 0x05;
    pub const WRITE_ENABLE: u8 = 0x06;
    pub const ERASE_4K: [u8; 2] = [0x20, 0x21];
    pub const ERASE_64K: [u8; 2] = [0xd8, 0xdc];
    pub const READ_ID: u8 = 0x9f;
    /// Commands whose address has four bytes whatever the gateway's bit says.
    pub const LONG_ADDRESS: [u8; 5] = [0x0c, 0x12, 0x13, 0x21, 0xdc];
}

/// Bits of the status register: a write is enabled; those that WRITE_STATUS sets.
const ENABLED: u8 = 1 << 1;
const KEPT: u8 = 0xfc;

/// The gateway's words, and the chip behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spi {
    command: u32,
    address: u32,
    size: u32,
    data: [u8; DATA_BYTES],
    /// Status register.
    status: u8,
    /// The command that goes on while the chip stays selected, and the next address.
    going_on: Option<(u8, u32)>,
}

impl Spi {
    /// The word at an address of CR space, if it is one of the gateway's.
    #[must_use]
    pub fn read(&self, p: &Profile, at: u32) -> Option<u32> {
        let l = layout(p);
        if at == l.command {
            return Some(self.command);
        }
        if at == l.address {
            return Some(self.address);
        }
        if matches!(l.size, Size::Word(w) if w == at) {
            return Some(self.size);
        }
        let i = at.checked_sub(l.data)? as usize;
        let bytes = self.data.get(i..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    /// Writes it; false if the word is none of the gateway's. What changes in the flash is in `batch`.
    pub fn write(
        &mut self,
        p: &Profile,
        at: u32,
        value: u32,
        flash: &mut Flash,
        batch: &mut Batch,
    ) -> bool {
        let l = layout(p);
        if at == l.command {
            self.command = value & !(1 << BUSY);
            if value >> BUSY & 1 == 1 {
                self.go(l, p, flash, batch);
            }
        } else if at == l.address {
            self.address = value;
        } else if matches!(l.size, Size::Word(w) if w == at) {
            self.size = value;
        } else {
            let place = at.checked_sub(l.data).map(|i| i as usize);
            let word = place.and_then(|i| self.data.get_mut(i..)?.first_chunk_mut());
            let Some(word) = word else {
                return false;
            };
            *word = value.to_be_bytes();
        }
        true
    }

    fn go(&mut self, l: &Layout, p: &Profile, flash: &mut Flash, batch: &mut Batch) {
        let bit = |n: u32| self.command >> n & 1 == 1;
        let size = match l.size {
            Size::Log(at) => 1 << (self.command >> at & 7),
            Size::Bits(at) => (self.command >> at & 0x1f) as usize,
            Size::Word(_) => self.size as usize,
        };
        let size = if bit(l.data_phase) {
            size.min(DATA_BYTES)
        } else {
            0
        };
        let long = chip::LONG_ADDRESS.contains(&((self.command >> OPCODE) as u8));
        // What an address has no room for is behind the end of the chip.
        let reached = long || bit(l.long_address) || self.address >> 24 == 0;
        let address = if reached { self.address } else { u32::MAX };
        let (read, hold) = (bit(l.read), bit(l.hold));
        let given = bit(l.address_phase).then_some(address);
        let (op, at) = match self.going_on {
            Some(going_on) if !bit(l.command_phase) => going_on,
            _ => ((self.command >> OPCODE) as u8, given.unwrap_or(0)),
        };
        let place = at as usize;
        let enabled = self.status & ENABLED != 0;
        let mut answer = [0; DATA_BYTES];
        match op {
            chip::WRITE_ENABLE => self.status |= ENABLED,
            chip::WRITE_DISABLE => self.status &= !ENABLED,
            chip::READ_ID => answer[..4].copy_from_slice(&(JEDEC_ID as u32).to_le_bytes()),
            chip::READ_STATUS => answer[0] = self.status,
            chip::WRITE_STATUS if enabled => self.status = self.data[0] & KEPT,
            _ if chip::READ.contains(&op) => {
                answer[..size].copy_from_slice(&flash.read(p, place, size));
            }
            _ if chip::PROGRAM.contains(&op) && enabled => {
                flash.program(p, place, &self.data[..size], batch);
                if !hold {
                    self.status &= !ENABLED;
                }
            }
            _ if chip::ERASE_4K.contains(&op) && enabled => {
                flash.erase(p, place & !0xfff, 0x1000, batch);
                self.status &= !ENABLED;
            }
            _ if chip::ERASE_64K.contains(&op) && enabled => {
                flash.erase(p, place & !0xffff, 0x1_0000, batch);
                self.status &= !ENABLED;
            }
            _ => {}
        }
        if read {
            self.data = answer;
        }
        self.going_on = hold.then_some((op, at.saturating_add(size as u32)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tool {
        p: std::sync::Arc<Profile>,
        spi: Spi,
        flash: Flash,
        batch: Batch,
    }

    impl Tool {
        fn write(&mut self, at: u32, value: u32) {
            let taken = self
                .spi
                .write(&self.p, at, value, &mut self.flash, &mut self.batch);
            assert!(taken, "{at:#x}");
        }

        fn read(&self, at: u32) -> u32 {
            self.spi.read(&self.p, at).unwrap()
        }
    }

    /// As mstflint reads the id, reads, erases and programs on a ConnectX-7 (sixth generation).
    #[test]
    fn the_flash_is_read_erased_and_programmed() {
        let mut t = Tool {
            p: Profile::builtin("connectx7").unwrap(),
            spi: Spi::default(),
            flash: Flash::default(),
            batch: Batch::default(),
        };
        // lock, busy; read, command and data phase, 4 bytes; READ_ID.
        t.write(0xf_0400, 0xc09f_0415);
        assert_eq!(t.read(0xf_0410), 0xc220_1900);
        assert_eq!(t.read(0xf_0400), 0x809f_0415, "not busy, locked");
        // The image's magic number: 4-byte address, all phases.
        let load = |t: &mut Tool, at: u32| {
            t.write(0xf_0420, at);
            t.write(0xf_0400, 0xc013_901d);
            t.read(0xf_0410)
        };
        assert_eq!(load(&mut t, 0), 0x4d54_4657);
        // Without WRITE_ENABLE nothing is erased.
        t.write(0xf_0420, 0);
        t.write(0xf_0400, 0xc021_800c);
        assert_eq!(load(&mut t, 0), 0x4d54_4657);
        t.write(0xf_0400, 0xc006_0004);
        t.write(0xf_0400, 0xc005_0415);
        assert_eq!(t.read(0xf_0410), 0x0200_0000, "enabled");
        t.write(0xf_0420, 0);
        t.write(0xf_0400, 0xc021_800c);
        assert_eq!(load(&mut t, 0), 0xffff_ffff);
        assert!(!t.batch.puts.is_empty());
        // Two blocks of 4 bytes in one page: the second goes on where the first ended.
        t.write(0xf_0400, 0xc006_0004);
        t.write(0xf_0410, 0x1122_3344);
        t.write(0xf_0420, 8);
        t.write(0xf_0400, 0xc012_843c);
        t.write(0xf_0410, 0x5566_7788);
        t.write(0xf_0400, 0xc000_0410);
        assert_eq!(load(&mut t, 8), 0x1122_3344);
        assert_eq!(load(&mut t, 12), 0x5566_7788);
        t.write(0xf_0400, 0xc005_0415);
        assert_eq!(t.read(0xf_0410), 0, "not enabled any more");
    }

    #[test]
    fn other_words_are_none_of_the_gateway() {
        let p = Profile::builtin("connectx8").unwrap();
        let mut spi = Spi::default();
        let (mut flash, mut batch) = (Flash::default(), Batch::default());
        for at in [0xf_0400, 0x8a_100c, 0x8a_1020, 0, u32::MAX - 3] {
            assert_eq!(spi.read(&p, at), None, "{at:#x}");
            assert!(!spi.write(&p, at, 1, &mut flash, &mut batch), "{at:#x}");
        }
        spi.write(&p, 0x8a_1044, u32::MAX, &mut flash, &mut batch);
        // As many bytes as there is room for.
        spi.write(&p, 0x8a_1000, 0xc013_83a0, &mut flash, &mut batch);
        assert_eq!(spi.read(&p, 0x8a_1010), Some(0x4d54_4657));
    }
}
