// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory behind a memory key: where the firmware may write what a driver asked for.

use fwctl_proto::{
    layout::{Field, Layout as _},
    layouts::{CreateMkeyIn, Mkc, Umem},
};

use super::{Bits, HEADER, KindId, Objects};

/// Byte offset of the context and of the translations in CREATE_MKEY.
const CTX: usize = CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY.byte();
const MTT: usize = CreateMkeyIn::BYTES;
/// Byte offset of the context and of the translations in CREATE_UMEM.
const UMEM_CTX: usize = super::kinds::CTX_EARLY;
const UMEM_MTT: usize = UMEM_CTX + Umem::BYTES;
/// `umem.log_page_size` counts from pages of 4 KiB.
const UMEM_LOG_PAGE: u64 = 12;
/// `create_mkey_in.mkey_umem_id` and `mkey_umem_offset`, as UCX's copy of mlx5_ifc.h has them; the kernel's has only
/// the bit that says that they are there.
pub(super) const UMEM_ID: Bits = Bits::new(0x320, 32);
const UMEM_OFFSET: Bits = Bits::new(0x340, 64);
pub(super) const UMEM_VALID: Bits = Bits::of(CreateMkeyIn::MKEY_UMEM_VALID);
/// `mkc.access_mode_1_0`: addresses are bus addresses; they are translated by a list of pages.
const ACCESS_PA: u64 = 0;
const ACCESS_MTT: u64 = 1;
/// Log2 of the smallest and largest page.
const LOG_PAGE: core::ops::RangeInclusive<u64> = 12..=40;

/// The memory of a key that may be written locally.
pub struct Region<'a> {
    mode: u64,
    start: u64,
    len: u64,
    pages: Pages<'a>,
}

/// Pages that a key's addresses are translated to.
#[derive(Clone, Copy)]
struct Pages<'a> {
    /// Their addresses, 8 bytes each. The low bits are permissions.
    list: &'a [u8],
    log_size: u64,
    /// Where in the first one the key begins.
    offset: u64,
}

impl<'a> Pages<'a> {
    /// Those in CREATE_MKEY itself, or of the user memory that it names instead.
    fn of(objects: &'a Objects, mkey: &'a [u8]) -> Option<Self> {
        let get = |field: Field<Mkc>| Bits::within(CTX, field).kept().get(mkey);
        let id = UMEM_ID.kept().get(mkey);
        let pages = if UMEM_VALID.kept().get(mkey) == 1 && id != 0 {
            let umem = &*objects.get(KindId::Umem, u32::try_from(id).ok()?)?.kept;
            let of = |field: Field<Umem>| Bits::within(UMEM_CTX, field).kept().get(umem);
            let offset = UMEM_OFFSET.kept().get(mkey);
            Self {
                list: umem.get(UMEM_MTT - HEADER..)?,
                log_size: of(Umem::LOG_PAGE_SIZE) + UMEM_LOG_PAGE,
                offset: of(Umem::PAGE_OFFSET).checked_add(offset)?,
            }
        } else {
            let log_size = get(Mkc::LOG_PAGE_SIZE);
            let mask = 1u64.checked_shl(log_size as u32)?.wrapping_sub(1);
            Self {
                list: mkey.get(MTT - HEADER..).unwrap_or_default(),
                log_size,
                offset: get(Mkc::START_ADDR) & mask,
            }
        };
        LOG_PAGE.contains(&pages.log_size).then_some(pages)
    }
}

impl<'a> Region<'a> {
    /// The memory of `mkey`, index and variant as a driver writes them into registers and WQEs.
    /// `None` if there is no such key, it does not allow the firmware to write, or its addresses
    /// are translated in another way than by a list of pages.
    #[must_use]
    pub fn of(objects: &'a Objects, mkey: u32) -> Option<Self> {
        let kept = &*objects.get(KindId::Mkey, mkey >> 8)?.kept;
        let get = |field: Field<Mkc>| Bits::within(CTX, field).kept().get(kept);
        let mode = get(Mkc::ACCESS_MODE_1_0) | get(Mkc::ACCESS_MODE_4_2) << 2;
        let usable = get(Mkc::MKEY_7_0) == u64::from(mkey & 0xff)
            && get(Mkc::FREE) == 0
            && get(Mkc::LW) == 1;
        let pages = match mode {
            ACCESS_PA => Pages {
                list: &[],
                log_size: 0,
                offset: 0,
            },
            ACCESS_MTT => Pages::of(objects, kept)?,
            _ => return None,
        };
        usable.then(|| Self {
            mode,
            start: get(Mkc::START_ADDR),
            len: if get(Mkc::LENGTH64) == 1 {
                u64::MAX
            } else {
                get(Mkc::LEN)
            },
            pages,
        })
    }

    /// Bytes that the key covers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// First address of the key's own space.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where `len` bytes from `addr` of the key's space on lie in guest memory, as address and
    /// length of each piece; `None` if they lie outside the key.
    #[must_use]
    pub fn pieces(&self, addr: u64, len: usize) -> Option<Vec<(u64, usize)>> {
        let offset = addr.checked_sub(self.start)?;
        let end = offset.checked_add(len as u64)?;
        if end > self.len {
            return None;
        }
        if self.mode == ACCESS_PA {
            addr.checked_add(len as u64)?;
            return Some(vec![(addr, len)]);
        }
        let Pages { list, log_size, .. } = self.pages;
        let page = 1u64 << log_size;
        let mut at = self.pages.offset.checked_add(offset)?;
        let mut left = len;
        let mut pieces = Vec::new();
        while left > 0 {
            let index = usize::try_from(at >> log_size).ok()?;
            let entry = list.get(index.checked_mul(8)?..)?.get(..8)?;
            let base = u64::from_be_bytes(entry.try_into().ok()?) & !(page - 1);
            let inside = at & (page - 1);
            let now = usize::try_from(page - inside).unwrap_or(left).min(left);
            pieces.push((base.checked_add(inside)?, now));
            at = at.checked_add(now as u64)?;
            left -= now;
        }
        Some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use fwctl_proto::layout::set_bits;

    use super::*;

    fn region(mode: u64, start: u64, len: u64, pages: &[u64]) -> Vec<u8> {
        let mut kept = vec![0u8; MTT - HEADER + pages.len() * 8];
        let mut set = |field: Field<Mkc>, v: u64| {
            let b = Bits::within(CTX, field).kept();
            set_bits(&mut kept, b.offset, b.width, v);
        };
        set(Mkc::ACCESS_MODE_1_0, mode);
        set(Mkc::START_ADDR, start);
        set(Mkc::LEN, len);
        set(Mkc::LOG_PAGE_SIZE, 12);
        for (n, page) in pages.iter().enumerate() {
            kept[MTT - HEADER + n * 8..][..8].copy_from_slice(&page.to_be_bytes());
        }
        kept
    }

    fn view(kept: &[u8], mode: u64, start: u64, len: u64) -> Region<'_> {
        Region {
            mode,
            start,
            len,
            pages: Pages {
                list: &kept[MTT - HEADER..],
                log_size: 12,
                offset: start & 0xfff,
            },
        }
    }

    #[test]
    fn pieces_follow_the_list_of_pages_and_end_with_the_key() {
        let kept = region(ACCESS_MTT, 0x7_0100, 0x1800, &[0xa000 | 3, 0x5000]);
        let r = view(&kept, ACCESS_MTT, 0x7_0100, 0x1800);
        assert_eq!(r.pieces(0x7_0100, 0x10), Some(vec![(0xa100, 0x10)]));
        assert_eq!(
            r.pieces(0x7_0f80, 0x100),
            Some(vec![(0xaf80, 0x80), (0x5000, 0x80)])
        );
        assert_eq!(r.pieces(0x7_1800, 0x100), Some(vec![(0x5800, 0x100)]));
        assert_eq!(r.pieces(0x7_1801, 0x100), None, "behind the key");
        assert_eq!(r.pieces(0x7_00ff, 1), None, "before it");
        assert_eq!(r.pieces(u64::MAX, 1), None);
        // A key that says more than its list has.
        let r = view(&kept, ACCESS_MTT, 0, 0x10_0000);
        assert_eq!(r.pieces(0x2000, 1), None);
    }

    #[test]
    fn bus_addresses_are_themselves() {
        let kept = region(ACCESS_PA, 0, 0, &[]);
        let r = view(&kept, ACCESS_PA, 0, u64::MAX);
        assert_eq!(r.pieces(0x1234_5678, 9), Some(vec![(0x1234_5678, 9)]));
        assert_eq!(r.pieces(u64::MAX - 3, 9), None);
    }
}
