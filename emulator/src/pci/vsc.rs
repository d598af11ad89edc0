// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vendor-specific capability: a gateway in configuration space to the device's address
//! spaces. The gateway works (semaphore, ticket, space selection, address and flag); there is no
//! space behind it yet, so that every selection says "not supported" and every access fails.
//!
//! Registers as `mlx5/core/lib/pci_vsc.c` uses them, each a little-endian dword.

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
    address: u32,
    data: u32,
}

impl Gateway {
    /// The byte at `at` of the capability (4 to 0x18). Reading the counter's first byte gives the
    /// next ticket.
    pub fn read(&mut self, at: usize) -> u8 {
        let register = match at & !3 {
            CONTROL => self.control,
            COUNTER => {
                if at == COUNTER {
                    // Tickets are never 0: that stands for a free semaphore.
                    self.counter = self.counter.wrapping_add(1).max(1);
                }
                self.counter
            }
            SEMAPHORE => self.semaphore,
            ADDRESS => self.address,
            DATA => self.data,
            _ => 0,
        };
        register.to_le_bytes()[at & 3]
    }

    /// Writes bytes from `at` of the capability on, as one access.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        let mut at = at;
        let mut data = data;
        while !data.is_empty() && at < BYTES {
            let (register, from) = (at & !3, at & 3);
            let n = data.len().min(4 - from);
            self.write_register(register, from, &data[..n]);
            at += n;
            data = &data[n..];
        }
    }

    fn write_register(&mut self, register: usize, from: usize, data: &[u8]) {
        let merge = |old: u32| {
            let mut b = old.to_le_bytes();
            b[from..from + data.len()].copy_from_slice(data);
            u32::from_le_bytes(b)
        };
        match register {
            // The status bits stay 0: there is no such space.
            CONTROL => self.control = merge(self.control) & SPACE,
            SEMAPHORE => {
                let asked = merge(0);
                // Free for whoever comes first; only 0 frees it.
                if self.semaphore == 0 || asked == 0 {
                    self.semaphore = asked;
                }
            }
            ADDRESS => {
                let asked = merge(self.address);
                self.address = asked & ADDRESS_BITS | SYNDROME | (asked ^ FLAG) & FLAG;
                self.data = 0;
            }
            DATA => self.data = merge(self.data),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dword(g: &mut Gateway, at: usize) -> u32 {
        u32::from_le_bytes([g.read(at), g.read(at + 1), g.read(at + 2), g.read(at + 3)])
    }

    #[test]
    fn the_semaphore_is_taken_by_a_ticket_and_freed_by_zero() {
        let mut g = Gateway::default();
        assert_eq!(dword(&mut g, SEMAPHORE), 0);
        let (mine, theirs) = (dword(&mut g, COUNTER), dword(&mut g, COUNTER));
        assert!(mine != 0 && mine != theirs);
        g.write(SEMAPHORE, &mine.to_le_bytes());
        g.write(SEMAPHORE, &theirs.to_le_bytes());
        assert_eq!(dword(&mut g, SEMAPHORE), mine);
        g.write(SEMAPHORE, &[0; 4]);
        g.write(SEMAPHORE, &theirs.to_le_bytes());
        assert_eq!(dword(&mut g, SEMAPHORE), theirs);
    }

    #[test]
    fn a_space_reads_back_with_status_not_supported() {
        let mut g = Gateway::default();
        g.write(CONTROL, &0xf000_0007u32.to_le_bytes());
        assert_eq!(dword(&mut g, CONTROL), 7);
        g.write(CONTROL, &[2]);
        assert_eq!(dword(&mut g, CONTROL), 2);
    }

    #[test]
    fn an_access_ends_at_once_and_failed() {
        let mut g = Gateway::default();
        g.write(ADDRESS, &0x000f_0014u32.to_le_bytes());
        assert_eq!(
            dword(&mut g, ADDRESS),
            0x000f_0014 | FLAG | SYNDROME,
            "read done"
        );
        assert_eq!(dword(&mut g, DATA), 0);
        g.write(ADDRESS, &(0x14 | FLAG).to_le_bytes());
        assert_eq!(dword(&mut g, ADDRESS), 0x14 | SYNDROME, "write done");
    }
}
