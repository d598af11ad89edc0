// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings in guest memory, as a create command describes them.

use fwctl_proto::layout::{get_bits, set_bits};

use crate::object::HEADER;

/// Pages have at least this many bytes, as a logarithm.
const PAGE_SHIFT: u8 = 12;
/// A page offset counts in 64ths of a page, and never beyond the first page.
const OFFSET_STEP: u64 = 64;

/// A ring of entries in pages that a create command lists.
pub(super) struct Pages<'a> {
    /// The list: guest addresses of 8 bytes each.
    list: &'a [u8],
    /// Log2 of the bytes of a page.
    shift: u8,
    /// Byte offset of entry 0 from the start of the first page.
    start: u64,
}

impl<'a> Pages<'a> {
    /// Pages listed from command byte `at` on, of 2^(12 + `log_page`) bytes; `page_offset` as in
    /// contexts, and `skip` bytes behind it. `None` if no guest address has such a page.
    pub(super) fn new(
        kept: &'a [u8],
        at: usize,
        log_page: u64,
        page_offset: u64,
        skip: u64,
    ) -> Option<Self> {
        let shift = PAGE_SHIFT.checked_add(u8::try_from(log_page).ok()?)?;
        Some(Self {
            list: kept.get(at - HEADER..)?,
            shift: (shift < 52).then_some(shift)?,
            start: page_offset * OFFSET_STEP + skip,
        })
    }

    /// Guest address of byte `at` of the ring; `None` behind the last page.
    pub(super) fn address(&self, at: u64) -> Option<u64> {
        let at = self.start.checked_add(at)?;
        let page = usize::try_from(at >> self.shift).ok()?;
        let entry = self.list.get(page.checked_mul(8)?..)?.get(..8)?;
        let base = u64::from_be_bytes(entry.try_into().ok()?);
        base.checked_add(at & ((1 << self.shift) - 1))
    }
}

/// Bytes in which fields of a CQE are set by bit, as layouts are.
pub(super) fn put(buf: &mut [u8], byte: usize, width: u32, value: u64) {
    set_bits(buf, byte as u32 * 8, width, value);
}

/// A big-endian field of bytes.
pub(super) fn take(buf: &[u8], byte: usize, width: u32) -> u64 {
    get_bits(buf, byte as u32 * 8, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lies_in_its_page_behind_the_offset() {
        let mut kept = vec![0u8; 8 + 16];
        kept[8..16].copy_from_slice(&0x1_0000u64.to_be_bytes());
        kept[16..24].copy_from_slice(&0x9_0000u64.to_be_bytes());
        let p = Pages::new(&kept, 16, 0, 2, 0x100).unwrap();
        assert_eq!(p.address(0), Some(0x1_0180));
        assert_eq!(p.address(0x1000), Some(0x9_0180));
        assert_eq!(p.address(0x2000), None);
        assert_eq!(p.address(u64::MAX), None);
        assert!(Pages::new(&kept, 16, 60, 0, 0).is_none());
        assert!(Pages::new(&kept, 900, 0, 0, 0).is_none());
    }
}
