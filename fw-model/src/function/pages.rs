// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest pages that a driver gives to the firmware.

use crate::{copy::clone_by_fields, limits::MAX_PAGES, syndrome::Syndrome};

/// Bytes of a page, whatever the guest's own page size.
pub const PAGE_BYTES: u64 = 4096;

/// Pages of one function: what it holds and what it wants.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Pages {
    // In order, none twice: most come in order too, and none is looked for alone.
    held: Vec<u64>,
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

clone_by_fields!(Pages {
    held,
    boot,
    init,
    extra,
    grown,
    damaged
});

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
            held: Vec::new(),
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

    /// True if every page lies at a multiple of its size, and in its place in the list, and no more are wanted than a
    /// function may hold: one that was read may be any.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let wanted = [self.boot, self.init, self.extra, self.grown];
        self.held.len() <= MAX_PAGES
            && wanted.iter().all(|n| *n <= MAX_PAGES as u32)
            && self.in_order(0)
            && self.held.iter().all(|p| p.is_multiple_of(PAGE_BYTES))
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
    pub fn give(&mut self, list: impl Iterator<Item = u64>) -> Result<(), Syndrome> {
        let before = self.held.len();
        let given = self.add(list);
        if given.is_err() {
            self.held.truncate(before);
        } else if !self.in_order(before) {
            // Two runs, which it finds.
            self.held.sort();
        }
        given
    }

    /// Adds pages behind the others, in order if they can all be taken.
    fn add(&mut self, list: impl Iterator<Item = u64>) -> Result<(), Syndrome> {
        let before = self.held.len();
        for addr in list {
            if !addr.is_multiple_of(PAGE_BYTES) {
                return Err(Syndrome::PageNotAligned);
            }
            if self.held.len() >= MAX_PAGES {
                return Err(Syndrome::TooManyPages);
            }
            self.held.push(addr);
        }
        if self.in_order(before) {
            return Ok(());
        }
        let (held, new) = self.held.split_at_mut(before);
        new.sort_unstable();
        let twice = new.array_windows().any(|[a, b]| a == b);
        if twice || new.iter().any(|a| held.binary_search(a).is_ok()) {
            return Err(Syndrome::PageGivenTwice);
        }
        Ok(())
    }

    /// True if all from the last one before `from` on are in order and none is there twice.
    fn in_order(&self, from: usize) -> bool {
        let new = self.held.get(from.saturating_sub(1)..).unwrap_or_default();
        new.is_sorted_by(|a, b| a < b)
    }

    /// Gives back up to `count` pages, those with the highest addresses first, but keeps `keep`.
    pub fn take(&mut self, count: u32, keep: u32, mut each: impl FnMut(u64)) -> u32 {
        let n = count.min(self.held().saturating_sub(keep));
        for _ in 0..n {
            if let Some(addr) = self.held.pop() {
                each(addr);
            }
        }
        n
    }

    /// Forgets all pages, as a reset does: they are the driver's again.
    pub fn forget(&mut self) {
        self.held = Vec::new();
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
    fn pages_come_in_any_order_and_go_from_the_top() {
        let mut p = Pages::new(0, 0);
        for list in [
            [0x5000, 0x3000],
            [0x1000, 0x9000],
            [0xa000, 0xb000],
            [0x4000, 0],
        ] {
            p.give(list.into_iter()).unwrap();
            assert!(p.is_sound(), "{:x?}", p.held);
        }
        for page in [0x3000, 0, 0xb000, 0x4000] {
            let again = p.give([0x2000, page].into_iter());
            assert_eq!(again, Err(Syndrome::PageGivenTwice), "{page:x}");
        }
        let mut got = vec![];
        p.take(9, 0, |a| got.push(a));
        let all = [0xb000, 0xa000, 0x9000, 0x5000, 0x4000, 0x3000, 0x1000, 0];
        assert_eq!(got, all);
    }

    #[test]
    fn a_list_that_was_read_is_sound_or_not() {
        let read = |held: &[u64]| Pages {
            held: held.into(),
            ..Pages::default()
        };
        assert!(read(&[]).is_sound() && read(&[0, 0x1000]).is_sound());
        for bad in [
            &[0x800][..],
            &[0x1000, 0],
            &[0x1000, 0x1000],
            &[0, 0x1000, 0x1800],
        ] {
            assert!(!read(bad).is_sound(), "{bad:x?}");
        }
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
