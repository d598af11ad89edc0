// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vital product data capability: an address register with a flag, and a data register.
//!
//! A write of the address with the flag at 0 reads a dword, and the flag is 1 when it is there. The
//! image is read-only: a write is done (the flag goes to 0) and changes nothing.

/// Bytes of the capability.
pub const BYTES: usize = 8;

/// Address, with the flag in its highest bit.
const ADDRESS: usize = 2;
/// Data.
const DATA: usize = 4;
/// The flag.
const FLAG: u16 = 0x8000;

/// The capability's registers.
#[derive(Clone, Debug, Default)]
pub struct Vpd {
    image: Vec<u8>,
    address: u16,
    data: [u8; 4],
}

impl Vpd {
    /// With this image behind it.
    #[must_use]
    pub fn new(image: Vec<u8>) -> Self {
        Self {
            image,
            ..Self::default()
        }
    }

    /// The byte at `at` of the capability, 2 or above.
    pub fn read(&self, at: usize) -> u8 {
        match at {
            DATA.. => self.data.get(at - DATA).copied().unwrap_or(0),
            _ => self.address.to_le_bytes()[at & 1],
        }
    }

    /// Writes bytes from `at` of the capability on, 2 or above, as one access.
    pub fn write(&mut self, at: usize, data: &[u8]) {
        let mut address = self.address.to_le_bytes();
        let mut asked = false;
        for (at, b) in (at..BYTES).zip(data) {
            if at >= DATA {
                self.data[at - DATA] = *b;
            } else {
                address[at & 1] = *b;
                // The byte with the flag, the last one, is what starts an access.
                asked |= at == ADDRESS + 1;
            }
        }
        self.address = u16::from_le_bytes(address);
        if asked {
            self.address ^= FLAG;
            if self.address & FLAG != 0 {
                let from = usize::from(self.address & !FLAG & !3);
                self.data = [0, 1, 2, 3].map(|i| self.image.get(from + i).copied().unwrap_or(0));
            }
        }
    }

    /// Back to the state after power on.
    pub fn reset(&mut self) {
        (self.address, self.data) = (0, [0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Vpd {
        Vpd::new((1..=6).collect())
    }

    fn dword(v: &Vpd) -> [u8; 4] {
        [4, 5, 6, 7].map(|at| v.read(at))
    }

    #[test]
    fn an_address_gives_a_dword_and_the_flag() {
        let mut v = filled();
        v.write(2, &[0, 0]);
        assert_eq!((dword(&v), v.read(2), v.read(3)), ([1, 2, 3, 4], 0, 0x80));
        // Behind the end there are zeros; by bytes, the last one starts it.
        v.write(2, &[4]);
        assert_eq!(dword(&v), [1, 2, 3, 4]);
        v.write(3, &[0]);
        assert_eq!((dword(&v), v.read(2), v.read(3)), ([5, 6, 0, 0], 4, 0x80));
        v.write(2, &[0xfc, 0x7f]);
        assert_eq!(dword(&v), [0; 4]);
    }

    #[test]
    fn a_write_is_done_and_changes_nothing() {
        let mut v = filled();
        v.write(4, &[9; 4]);
        v.write(2, &[0, 0x80]);
        assert_eq!((v.read(3), dword(&v)), (0, [9; 4]));
        v.write(2, &[0, 0]);
        assert_eq!(dword(&v), [1, 2, 3, 4]);
        v.reset();
        assert_eq!((dword(&v), v.read(3)), ([0; 4], 0));
    }
}
