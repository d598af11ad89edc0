// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest pages that a driver gives to the firmware.

use std::collections::BTreeSet;

use crate::{limits::MAX_PAGES, syndrome::Syndrome};

/// Bytes of a page, whatever the guest's own page size.
pub const PAGE_BYTES: u64 = 4096;

/// Pages of one function: what it holds and what it wants.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Pages {
    held: BTreeSet<u64>,
    /// Wanted before SET_HCA_CAP.
    pub boot: u32,
    /// Wanted in addition before INIT_HCA.
    pub init: u32,
    /// Wanted in addition while the function is up; events ask for them.
    pub extra: u32,
    /// How many of `extra` are for objects.
    pub grown: u32,
    /// Pages that came back with another content than the firmware had left in them.
    pub damaged: u64,
}

/// The first bytes of a page that the firmware holds: a mark and the page's own address.
#[must_use]
pub fn mark(addr: u64) -> [u8; MARK_BYTES] {
    let mut m = *b"fwctlemu\0\0\0\0\0\0\0\0";
    m[8..].copy_from_slice(&addr.to_be_bytes());
    m
}

/// Bytes of a page's mark.
pub const MARK_BYTES: usize = 16;

/// Pages that objects grow and shrink by.
const BATCH: u32 = 64;
/// A driver that owes more pages than this gets no further object.
const MAX_OWED: u32 = 1024;

impl Pages {
    /// None held; `boot` and `init` pages wanted.
    #[must_use]
    pub fn new(boot: u32, init: u32) -> Self {
        Self {
            held: BTreeSet::new(),
            boot,
            init,
            extra: 0,
            grown: 0,
            damaged: 0,
        }
    }

    /// How many pages to ask for, or to give back if it is negative, when contexts take `bytes`;
    /// 0 as long as what was asked for is about right. What INIT_HCA got serves the first ones.
    #[must_use]
    pub fn for_objects(&self, bytes: usize) -> i32 {
        let pages = (bytes as u64).div_ceil(PAGE_BYTES) as u32;
        let wanted = pages.saturating_sub(self.init).div_ceil(BATCH) * BATCH;
        // Objects that come and go at a border must not make pages do so too.
        if wanted > self.grown || self.grown >= wanted + 2 * BATCH {
            wanted as i32 - self.grown as i32
        } else {
            0
        }
    }

    /// True if the driver has not given what it was asked for, by far.
    #[must_use]
    pub fn owed(&self) -> bool {
        self.target().saturating_sub(self.held()) > MAX_OWED
    }

    /// Number of pages held.
    #[must_use]
    pub fn held(&self) -> u32 {
        // MAX_PAGES bounds it.
        self.held.len() as u32
    }

    /// True if every page lies at a multiple of its size.
    #[must_use]
    pub fn aligned(&self) -> bool {
        self.held.iter().all(|p| p.is_multiple_of(PAGE_BYTES))
    }

    /// Boot pages that are still missing.
    #[must_use]
    pub fn missing_boot(&self) -> u32 {
        self.boot.saturating_sub(self.held())
    }

    /// Boot and init pages that are still missing.
    #[must_use]
    pub fn missing_init(&self) -> u32 {
        (self.boot + self.init).saturating_sub(self.held())
    }

    /// Pages that an up function needs in all.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.boot
            .saturating_add(self.init)
            .saturating_add(self.extra)
    }

    /// Pages that an up function misses, or has too many if it is negative.
    #[must_use]
    pub fn balance(&self) -> i32 {
        let miss = i64::from(self.target()) - i64::from(self.held());
        i32::try_from(miss).unwrap_or(if miss < 0 { i32::MIN } else { i32::MAX })
    }

    /// Asks for `count` pages more, or fewer if it is negative.
    pub fn demand(&mut self, count: i32) {
        self.extra = self
            .extra
            .saturating_add_signed(count)
            .min(MAX_PAGES as u32);
    }

    /// The driver has none to give: what is missing is not wanted any more.
    pub fn cannot_give(&mut self) {
        self.extra = self
            .held()
            .saturating_sub(self.boot.saturating_add(self.init))
            .min(self.extra);
        self.grown = self.grown.min(self.extra);
    }

    /// Takes all pages of a list or, if one of them is refused, none.
    ///
    /// # Errors
    /// [`Syndrome::PageNotAligned`], [`Syndrome::PageGivenTwice`], [`Syndrome::TooManyPages`].
    pub fn give(&mut self, list: impl Iterator<Item = u64> + Clone) -> Result<(), Syndrome> {
        let mut taken = 0;
        let mut refused = None;
        for addr in list.clone() {
            let why = if !addr.is_multiple_of(PAGE_BYTES) {
                Some(Syndrome::PageNotAligned)
            } else if self.held.len() >= MAX_PAGES {
                Some(Syndrome::TooManyPages)
            } else if !self.held.insert(addr) {
                Some(Syndrome::PageGivenTwice)
            } else {
                None
            };
            if why.is_some() {
                refused = why;
                break;
            }
            taken += 1;
        }
        let Some(why) = refused else { return Ok(()) };
        for addr in list.take(taken) {
            self.held.remove(&addr);
        }
        Err(why)
    }

    /// Gives back up to `count` pages, those with the highest addresses first, but keeps `keep`.
    pub fn take(&mut self, count: u32, keep: u32, mut each: impl FnMut(u64)) -> u32 {
        let n = count.min(self.held().saturating_sub(keep));
        for _ in 0..n {
            if let Some(addr) = self.held.pop_last() {
                each(addr);
            }
        }
        n
    }

    /// Forgets all pages, as a reset does: they are the driver's again.
    pub fn forget(&mut self) {
        self.held = BTreeSet::new();
        self.extra = 0;
        self.grown = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_list_leaves_nothing_behind() {
        let mut p = Pages::new(2, 3);
        assert_eq!(p.give([0x1000, 0x2000].into_iter()), Ok(()));
        assert_eq!(
            p.give([0x3000, 0x1000].into_iter()),
            Err(Syndrome::PageGivenTwice)
        );
        assert_eq!(
            p.give([0x3000, 0x3000].into_iter()),
            Err(Syndrome::PageGivenTwice)
        );
        assert_eq!(
            p.give([0x3000, 0x4001].into_iter()),
            Err(Syndrome::PageNotAligned)
        );
        assert_eq!((p.held(), p.missing_boot(), p.missing_init()), (2, 0, 3));
    }

    #[test]
    fn take_keeps_what_is_needed_and_never_invents() {
        let mut p = Pages::new(1, 0);
        p.give([0x1000, 0x2000, 0x3000].into_iter()).unwrap();
        let mut got = vec![];
        assert_eq!(p.take(9, 1, |a| got.push(a)), 2);
        assert_eq!(got, [0x3000, 0x2000]);
        assert_eq!(p.take(9, 0, |a| got.push(a)), 1);
        assert_eq!(p.take(9, 0, |a| got.push(a)), 0);
    }
}
