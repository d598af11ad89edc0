// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory for fuzzing: one piece from address 0 on, quick to make empty again.

use core::cell::{Cell, RefCell};

use fw_model::{GuestMemory, Unmapped};

/// Bytes of a guest's memory, from address 0 on; nothing else is mapped.
pub const GUEST_BYTES: usize = 64 << 10;

/// Bytes that are made zero together.
const PART: usize = GUEST_BYTES / 32;

/// Memory of a guest.
#[derive(Debug)]
pub struct Guest {
    bytes: RefCell<Box<[u8]>>,
    /// Parts that were written, a bit each.
    dirty: Cell<u32>,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            bytes: RefCell::new(vec![0; GUEST_BYTES].into_boxed_slice()),
            dirty: Cell::new(0),
        }
    }
}

impl Guest {
    /// Writes `data` at `addr`; false, and nothing is written, if not all of it is mapped.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        let Some(range) = range(addr, data.len()) else {
            return false;
        };
        if data.is_empty() {
            return true;
        }
        for part in range.start / PART..=(range.end - 1) / PART {
            self.dirty.set(self.dirty.get() | 1 << part);
        }
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        true
    }

    /// Nothing was written since it was all zero.
    pub fn is_clear(&self) -> bool {
        self.dirty.get() == 0
    }

    /// All zero again.
    pub fn clear(&self) {
        let dirty = self.dirty.replace(0);
        if dirty == 0 {
            return;
        }
        let mut bytes = self.bytes.borrow_mut();
        for (i, part) in bytes.chunks_exact_mut(PART).enumerate() {
            if dirty >> i & 1 == 1 {
                part.fill(0);
            }
        }
    }
}

impl GuestMemory for Guest {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let range = range(addr, buf.len()).ok_or(Unmapped)?;
        buf.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }
}

/// The bytes of a range that is mapped.
fn range(addr: u64, len: usize) -> Option<core::ops::Range<usize>> {
    let from = usize::try_from(addr).ok()?;
    let to = from.checked_add(len)?;
    (to <= GUEST_BYTES).then_some(from..to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_until_it_is_cleared() {
        let g = Guest::default();
        let end = GUEST_BYTES as u64;
        assert!(g.write(PART as u64 - 2, b"over"));
        assert!(g.write(end - 1, b"x") && !g.write(end - 1, b"xy") && !g.write(u64::MAX, b"xy"));
        let mut b = [0; 4];
        assert_eq!(g.read(PART as u64 - 2, &mut b), Ok(()));
        assert_eq!(&b, b"over");
        assert_eq!(g.read(end - 3, &mut b), Err(Unmapped));
        g.clear();
        assert_eq!(g.read(PART as u64 - 2, &mut b), Ok(()));
        assert_eq!(b, [0; 4]);
        assert_eq!(g.read(end - 4, &mut b), Ok(()));
        assert_eq!(b, [0; 4]);
    }
}
