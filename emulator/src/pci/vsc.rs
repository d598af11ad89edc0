// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vendor-specific capability: a gateway in configuration space to the device's address
//! spaces, which are the model's (`fw_model::gateway`).
//!
//! Registers as `mlx5/core/lib/pci_vsc.c` uses them, each a little-endian dword.

use fw_model::{
    Time,
    gateway::{HELD_FOR, Place, Word},
};

/// The address spaces behind the gateway.
pub trait Spaces {
    /// Bytes of a space; `None` if there is none of this number.
    fn size(&self, space: u16) -> Option<u32>;
    /// Reads a dword, if there is one.
    fn read(&self, at: Place) -> Option<Word>;
    /// Writes a dword; false if that cannot be.
    fn write(&self, at: Place, value: u32) -> bool;
}

/// Bytes of the capability.
pub const BYTES: usize = 0x18;

/// Space selection and its status.
const CONTROL: usize = 0x04;
/// Ticket counter.
const COUNTER: usize = 0x08;
/// Semaphore.
const SEMAPHORE: usize = 0x0c;
/// Address, syndrome and flag.
const ADDRESS: usize = 0x10;
/// Data.
const DATA: usize = 0x14;

/// Control: the space.
const SPACE: u32 = 0xffff;
/// Control: the address register holds the space's size.
const SIZE_VALID: u32 = 1 << 28;
/// Control: the space is there.
const SUPPORTED: u32 = 1 << 29;
/// Control: why the last access failed, of 4 bits.
const CODE: u32 = 0xf << 24;
/// There is no such address.
const OUT_OF_RANGE: u32 = 3 << 24;
/// Address: the address itself, in dwords.
const ADDRESS_BITS: u32 = 0x3fff_fffc;
/// Address: the access failed.
const SYNDROME: u32 = 1 << 30;
/// Address: 1 asks for a write, 0 for a read; the opposite says that it is done.
const FLAG: u32 = 1 << 31;

/// The gateway of one function.
#[derive(Clone, Debug, Default)]
pub struct Gateway {
    control: u32,
    counter: u32,
    semaphore: u32,
    // When its holder last did something here.
    used: Time,
    address: u32,
    data: u32,
}

impl Gateway {
    /// The byte at `at` of the capability (4 to 0x18). Reading the counter's first byte gives the
    /// next ticket.
    pub fn read(&mut self, at: usize, now: Time) -> u8 {
        let register = match at & !3 {
            CONTROL => self.control,
            COUNTER => {
                if at == COUNTER {
                    // Tickets are never 0: that stands for a free semaphore.
                    self.counter = self.counter.wrapping_add(1).max(1);
                }
                self.counter
            }
            SEMAPHORE => self.holder(now),
            ADDRESS => self.address,
            DATA => self.data,
            _ => 0,
        };
        register.to_le_bytes()[at & 3]
    }

    /// Writes bytes from `at` of the capability on, as one access.
    pub fn write(&mut self, at: usize, data: &[u8], spaces: &dyn Spaces, now: Time) {
        let mut at = at;
        let mut data = data;
        while !data.is_empty() && at < BYTES {
            let (register, from) = (at & !3, at & 3);
            let n = data.len().min(4 - from);
            self.write_register(register, from, &data[..n], spaces, now);
            at += n;
            data = &data[n..];
        }
    }

    fn write_register(
        &mut self,
        register: usize,
        from: usize,
        data: &[u8],
        spaces: &dyn Spaces,
        now: Time,
    ) {
        let merge = |old: u32| {
            let mut b = old.to_le_bytes();
            b[from..from + data.len()].copy_from_slice(data);
            u32::from_le_bytes(b)
        };
        if matches!(register, CONTROL | ADDRESS | DATA) {
            self.used = now;
        }
        match register {
            // Without a space of this number the status bits stay 0.
            CONTROL => {
                self.control = merge(self.control) & SPACE;
                if let Some(size) = spaces.size(self.space()) {
                    self.control |= SUPPORTED | SIZE_VALID;
                    self.address = size;
                }
            }
            SEMAPHORE => {
                let asked = merge(0);
                // Free for whoever comes first; only 0 frees it.
                if self.holder(now) == 0 || asked == 0 {
                    self.semaphore = asked;
                    self.used = now;
                }
            }
            ADDRESS => {
                let asked = merge(self.address);
                if from + data.len() == 4 {
                    self.access(asked, spaces);
                } else {
                    // The byte with the flag, the last one, is what starts an access.
                    self.address = asked;
                }
            }
            DATA => self.data = merge(self.data),
            _ => {}
        }
    }

    /// Reads or writes the space, and says so.
    fn access(&mut self, asked: u32, spaces: &dyn Spaces) {
        let at = Place {
            space: self.space(),
            address: asked & ADDRESS_BITS,
        };
        let done = asked & FLAG ^ FLAG;
        let mut failed = false;
        self.address = at.address | done;
        if asked & FLAG != 0 {
            failed = !spaces.write(at, self.data);
        } else if let Some(word) = spaces.read(at) {
            self.data = word.value;
            self.address = word.next & ADDRESS_BITS | done;
        } else {
            self.data = 0;
            failed = true;
        }
        self.control &= !CODE;
        if failed {
            self.address |= SYNDROME;
            self.control |= OUT_OF_RANGE;
        }
    }

    /// Whose the gateway is; 0 if nobody's, or of somebody who left it alone for long.
    fn holder(&self, now: Time) -> u32 {
        if now.since(self.used) < HELD_FOR {
            self.semaphore
        } else {
            0
        }
    }

    fn space(&self) -> u16 {
        (self.control & SPACE) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Space 0xa has one dword, at 0x20; space 7 has two, at 0 and 8 of 16 bytes.
    #[derive(Default)]
    struct Two(Cell<u32>);

    impl Spaces for Two {
        fn size(&self, space: u16) -> Option<u32> {
            match space {
                0xa => Some(0x1000),
                7 => Some(16),
                _ => None,
            }
        }

        fn read(&self, Place { space, address }: Place) -> Option<Word> {
            let (value, next) = match (space, address) {
                (0xa, 0x20) => (self.0.get(), address),
                (7, 0) => (1, 8),
                (7, 8) => (2, 16),
                _ => return None,
            };
            Some(Word { value, next })
        }
        fn write(&self, Place { space, address }: Place, value: u32) -> bool {
            let there = (space, address) == (0xa, 0x20);
            if there {
                self.0.set(value);
            }
            there
        }
    }

    fn dword(g: &mut Gateway, at: usize) -> u32 {
        dword_at(g, at, Time::ZERO)
    }

    fn dword_at(g: &mut Gateway, at: usize, now: Time) -> u32 {
        u32::from_le_bytes(core::array::from_fn(|i| g.read(at + i, now)))
    }

    #[test]
    fn the_semaphore_is_taken_by_a_ticket_and_freed_by_zero() {
        let (mut g, s) = (Gateway::default(), Two::default());
        assert_eq!(dword(&mut g, SEMAPHORE), 0);
        let (mine, theirs) = (dword(&mut g, COUNTER), dword(&mut g, COUNTER));
        assert!(mine != 0 && mine != theirs);
        g.write(SEMAPHORE, &mine.to_le_bytes(), &s, Time::ZERO);
        g.write(SEMAPHORE, &theirs.to_le_bytes(), &s, Time::ZERO);
        assert_eq!(dword(&mut g, SEMAPHORE), mine);
        g.write(SEMAPHORE, &[0; 4], &s, Time::ZERO);
        g.write(SEMAPHORE, &theirs.to_le_bytes(), &s, Time::ZERO);
        assert_eq!(dword(&mut g, SEMAPHORE), theirs);
    }

    #[test]
    fn the_semaphore_of_an_idle_holder_is_free_again() {
        let (mut g, s) = (Gateway::default(), Two::default());
        let at = |millis: u64| Time(millis * 1_000_000);
        g.write(SEMAPHORE, &5u32.to_le_bytes(), &s, at(0));
        g.write(CONTROL, &[7], &s, at(900));
        assert_eq!(dword_at(&mut g, SEMAPHORE, at(1899)), 5);
        assert_eq!(dword_at(&mut g, SEMAPHORE, at(1900)), 0);
        g.write(SEMAPHORE, &6u32.to_le_bytes(), &s, at(1900));
        assert_eq!(dword_at(&mut g, SEMAPHORE, at(1900)), 6);
    }

    #[test]
    fn a_space_reads_back_with_its_status_and_size() {
        let (mut g, s) = (Gateway::default(), Two::default());
        g.write(CONTROL, &0xf000_0007u32.to_le_bytes(), &s, Time::ZERO);
        assert_eq!(dword(&mut g, CONTROL), 0x3000_0007);
        assert_eq!(dword(&mut g, ADDRESS), 16);
        g.write(CONTROL, &[4], &s, Time::ZERO);
        assert_eq!(dword(&mut g, CONTROL), 4, "there is none of this number");
    }

    #[test]
    fn words_are_written_read_and_scanned() {
        let (mut g, s) = (Gateway::default(), Two::default());
        g.write(CONTROL, &[0xa], &s, Time::ZERO);
        g.write(DATA, &0x1234u32.to_le_bytes(), &s, Time::ZERO);
        g.write(ADDRESS, &(0x20 | FLAG).to_le_bytes(), &s, Time::ZERO);
        assert_eq!(dword(&mut g, ADDRESS), 0x20, "write done");
        g.write(DATA, &[0; 4], &s, Time::ZERO);
        g.write(ADDRESS, &0x20u32.to_le_bytes(), &s, Time::ZERO);
        assert_eq!(dword(&mut g, ADDRESS), 0x20 | FLAG, "read done");
        assert_eq!(dword(&mut g, DATA), 0x1234);
        g.write(CONTROL, &[7], &s, Time::ZERO);
        g.write(ADDRESS, &[0; 4], &s, Time::ZERO);
        assert_eq!((dword(&mut g, ADDRESS), dword(&mut g, DATA)), (8 | FLAG, 1));
        g.write(ADDRESS, &8u32.to_le_bytes(), &s, Time::ZERO);
        assert_eq!(
            (dword(&mut g, ADDRESS), dword(&mut g, DATA)),
            (16 | FLAG, 2)
        );
    }

    #[test]
    fn an_address_written_in_bytes_is_one_access() {
        let (mut g, s) = (Gateway::default(), Two::default());
        g.write(CONTROL, &[7], &s, Time::ZERO);
        for at in 0..4 {
            g.write(ADDRESS + at, &[[8, 0, 0, 0][at]], &s, Time::ZERO);
        }
        assert_eq!(
            (dword(&mut g, ADDRESS), dword(&mut g, DATA)),
            (16 | FLAG, 2)
        );
    }

    #[test]
    fn an_access_to_nothing_ends_at_once_and_failed() {
        let (mut g, s) = (Gateway::default(), Two::default());
        g.write(ADDRESS, &0x000f_0014u32.to_le_bytes(), &s, Time::ZERO);
        let failed = 0x000f_0014 | FLAG | SYNDROME;
        assert_eq!(dword(&mut g, ADDRESS), failed, "read done");
        assert_eq!(dword(&mut g, DATA), 0);
        g.write(ADDRESS, &(0x14 | FLAG).to_le_bytes(), &s, Time::ZERO);
        assert_eq!(dword(&mut g, ADDRESS), 0x14 | SYNDROME, "write done");
        assert_eq!(dword(&mut g, CONTROL) >> 24 & 0xf, 3, "out of range");
        g.write(CONTROL, &[7], &s, Time::ZERO);
        g.write(ADDRESS, &[0; 4], &s, Time::ZERO);
        assert_eq!(dword(&mut g, CONTROL) >> 24 & 0xf, 0);
    }
}
