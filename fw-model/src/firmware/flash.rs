// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The card's flash: NOR with two slots for images and the device's own data at its end. What is
//! kept is how it differs from what the factory wrote.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::fs4::{self, Info, MAGIC};
use crate::{
    FunctionId,
    profile::{Profile, guid},
    store::{Batch, Token},
    unstored::Unstored,
    vpd,
};

/// Bytes of the flash.
pub const FLASH_BYTES: usize = 32 << 20;
/// Bytes of a slot.
pub const SLOT_BYTES: usize = 1 << fs4::LOG_SLOT;
/// Slots.
pub const SLOTS: u8 = 2;
/// Bytes of the device's own data at the end.
const DEVICE_BYTES: usize = 0x1_0000;
/// Most bytes of an image.
pub const MAX_IMAGE: usize = SLOT_BYTES - DEVICE_BYTES;
/// Bytes of a page, which is what is kept.
const PAGE: usize = 256;
/// What a byte is after an erase.
const ERASED: u8 = 0xff;
/// Where pages lie in the card's store.
const PREFIX: &str = "flash/";

/// What the factory wrote.
#[derive(Debug)]
struct Factory {
    image: Vec<u8>,
    device: Vec<u8>,
}

/// What the factory wrote to the cards of a profile: made when it is first read, and then for all of them.
/// It follows from the profile, so that it tells no two of them apart.
#[derive(Clone, Debug, Default)]
pub struct FromFactory(OnceLock<Arc<Factory>>);

impl PartialEq for FromFactory {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for FromFactory {}

/// The flash.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Flash {
    pages: BTreeMap<u32, Box<[u8]>>,
    /// Pages before changes that are not stored yet; none is as the factory left it.
    unstored: Unstored<u32, Box<[u8]>>,
    /// What each slot holds, once somebody has asked: to read an image may take a hundred milliseconds.
    #[serde(skip)]
    read: [OnceLock<Result<Info, fs4::Bad>>; SLOTS as usize],
}

/// What an image for this card is made for.
#[must_use]
pub fn spec(p: &Profile, version: [u16; 3]) -> fs4::Spec<'_> {
    let pci = p.pci();
    fs4::Spec {
        info: Info {
            version,
            psid: p.firmware.psid.clone(),
        },
        pci: [
            pci.vendor_id,
            pci.device_id,
            pci.subsystem_vendor_id,
            pci.subsystem_id,
        ],
        hw_id: pci.hw_id,
        name: vpd::part_number(p),
        description: &p.description,
    }
}

fn factory(p: &Profile) -> &Factory {
    p.factory.0.get_or_init(|| {
        let mac = p.mac(FunctionId(0));
        let guid = guid(mac);
        let mac = mac.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        let from = FLASH_BYTES - DEVICE_BYTES;
        Arc::new(Factory {
            image: fs4::build(&spec(p, p.firmware.version)),
            device: fs4::device_area(&p.firmware.psid, mac, guid, from, FLASH_BYTES),
        })
    })
}

impl Flash {
    /// The flash of a card's store; keys that are not ours are left alone.
    #[must_use]
    pub fn load(stored: &BTreeMap<String, Vec<u8>>) -> Self {
        let pages = stored.iter().filter_map(|(k, v)| {
            let page = u32::from_str_radix(k.strip_prefix(PREFIX)?, 16).ok()?;
            let fits = v.len() == PAGE && (page as usize) < FLASH_BYTES / PAGE;
            fits.then(|| (page, v.clone().into_boxed_slice()))
        });
        Self {
            pages: pages.collect(),
            ..Self::default()
        }
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What it holds that no flash can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let last = FLASH_BYTES / PAGE - 1;
        let all_right = self.pages.keys().all(|n| *n as usize <= last)
            && self.pages.values().all(|p| p.len() == PAGE);
        let mut before = self.unstored.before();
        let right = before.all(|(n, p)| *n as usize <= last && p.is_none_or(|p| p.len() == PAGE));
        if !all_right || !right {
            return Err("a page of the flash that is not there");
        }
        self.unstored.check()
    }

    /// A batch with changes of pages has this token.
    pub(crate) fn waits_for(&mut self, token: Token) {
        self.unstored.waits_for(token);
    }

    /// True if no change waits to be stored.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.unstored.open().next().is_none()
    }

    /// True if a change of what is at `at` waits to be stored.
    #[must_use]
    pub fn is_open(&self, at: usize) -> bool {
        self.unstored.is_open(&((at / PAGE) as u32))
    }

    /// A batch is stored; or it cannot be, and its pages are as before.
    pub(crate) fn settled(&mut self, token: Token, stored: bool) {
        for (page, before) in self.unstored.settled(token, stored) {
            self.changes(page);
            match before {
                Some(content) => self.pages.insert(page, content),
                None => self.pages.remove(&page),
            };
        }
    }

    /// What the factory wrote from an address on, and where its part of the flash ends; between them it is erased.
    fn factory_from(p: &Profile, at: usize) -> (&[u8], usize) {
        let f = factory(p);
        let device = FLASH_BYTES - DEVICE_BYTES;
        let (part, begin, end) = if at < device {
            (&f.image, 0, device)
        } else {
            (&f.device, device, FLASH_BYTES)
        };
        (part.get(at - begin..).unwrap_or_default(), end)
    }

    /// A page as the factory left it, as far as it was written; erased behind that.
    fn factory_page(p: &Profile, page: u32) -> &[u8] {
        let (there, _) = Self::factory_from(p, page as usize * PAGE);
        there.get(..PAGE).unwrap_or(there)
    }

    fn page(&self, p: &Profile, page: u32) -> Box<[u8]> {
        let kept = self.pages.get(&page).cloned();
        kept.unwrap_or_else(|| {
            let mut content = Self::factory_page(p, page).to_vec();
            content.resize(PAGE, ERASED);
            content.into_boxed_slice()
        })
    }

    /// A page is about to be another one.
    fn changes(&mut self, page: u32) {
        if let Some(read) = self.read.get_mut(page as usize * PAGE / SLOT_BYTES) {
            *read = OnceLock::new();
        }
    }

    fn put(&mut self, p: &Profile, page: u32, content: Box<[u8]>, batch: &mut Batch) {
        self.changes(page);
        let key = || format!("{PREFIX}{page:05x}");
        let factory = content.strip_prefix(Self::factory_page(p, page));
        if factory.is_some_and(|rest| rest.iter().all(|b| *b == ERASED)) {
            let before = self.pages.remove(&page);
            if before.is_some() || self.unstored.is_open(&page) {
                self.unstored.replaced(page, before);
                batch.puts.insert(key(), None);
            }
        } else if self.pages.get(&page) != Some(&content) || self.unstored.is_open(&page) {
            batch.puts.insert(key(), Some(content.to_vec()));
            let before = self.pages.insert(page, content);
            self.unstored.replaced(page, before);
        }
    }

    /// Reads bytes; behind the end is as after an erase.
    #[must_use]
    pub fn read(&self, p: &Profile, at: usize, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        while out.len() < len && at + out.len() < FLASH_BYTES {
            let here = at + out.len();
            let page = (here / PAGE) as u32;
            // A page that was written, or all up to the next one.
            let (there, end) = match self.pages.range(page..).next() {
                Some((n, kept)) if *n == page => {
                    let there = kept.get(here % PAGE..).unwrap_or_default();
                    (there, here + there.len())
                }
                next => {
                    let (there, end) = Self::factory_from(p, here);
                    let next = next.map_or(end, |(n, _)| *n as usize * PAGE);
                    (there, end.min(next))
                }
            };
            let end = len.min(end - at);
            let wanted = there.get(..end - out.len()).unwrap_or(there);
            out.extend_from_slice(wanted);
            out.resize(end, ERASED);
        }
        out.resize(len, ERASED);
        out
    }

    /// Changes bytes by `f(old, new)`; what is behind the end is dropped.
    fn change(
        &mut self,
        p: &Profile,
        at: usize,
        data: &[u8],
        batch: &mut Batch,
        f: impl Fn(u8, u8) -> u8,
    ) {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|r| !r.is_empty()) {
            let here = at + done;
            if here >= FLASH_BYTES {
                return;
            }
            let number = (here / PAGE) as u32;
            let mut page = self.page(p, number);
            let places = page.get_mut(here % PAGE..).unwrap_or_default();
            for (to, from) in places.iter_mut().zip(rest) {
                *to = f(*to, *from);
            }
            done += places.len().min(rest.len());
            self.put(p, number, page, batch);
        }
    }

    /// Programs bytes: bits can only become 0.
    pub fn program(&mut self, p: &Profile, at: usize, data: &[u8], batch: &mut Batch) {
        self.change(p, at, data, batch, |old, new| old & new);
    }

    /// Replaces bytes, as the firmware does with an erase of its own.
    pub fn replace(&mut self, p: &Profile, at: usize, data: &[u8], batch: &mut Batch) {
        self.change(p, at, data, batch, |_, new| new);
    }

    /// Erases bytes.
    pub fn erase(&mut self, p: &Profile, at: usize, len: usize, batch: &mut Batch) {
        let end = at.saturating_add(len).min(FLASH_BYTES);
        let mut here = at;
        while here < end {
            let number = (here / PAGE) as u32;
            let next = (here - here % PAGE + PAGE).min(end);
            if !self.is_erased(p, number) || self.unstored.is_open(&number) {
                let mut page = self.page(p, number);
                if let Some(bytes) = page.get_mut(here % PAGE..here % PAGE + (next - here)) {
                    bytes.fill(ERASED);
                }
                self.put(p, number, page, batch);
            }
            here = next;
        }
    }

    fn is_erased(&self, p: &Profile, page: u32) -> bool {
        let content = match self.pages.get(&page) {
            Some(kept) => kept,
            None => Self::factory_page(p, page),
        };
        content.iter().all(|b| *b == ERASED)
    }

    /// True if a slot says that it holds an image.
    #[must_use]
    pub fn is_marked(&self, p: &Profile, slot: u8) -> bool {
        if self.is_untouched(slot) {
            return slot == 0;
        }
        self.read(p, usize::from(slot) * SLOT_BYTES, MAGIC.len()) == MAGIC
    }

    /// True if a slot is as the factory left it: an image in the first one, nothing in the second. Nearly
    /// every start of the firmware finds it so, and need not read a whole image.
    fn is_untouched(&self, slot: u8) -> bool {
        let page = |slot: usize| (slot * SLOT_BYTES / PAGE) as u32;
        let slot = usize::from(slot);
        self.pages
            .range(page(slot)..page(slot + 1))
            .next()
            .is_none()
    }

    /// The slot with the image that starts next; the first one if both say that they have one.
    #[must_use]
    pub fn next_slot(&self, p: &Profile) -> Option<u8> {
        (0..SLOTS).find(|s| self.is_marked(p, *s))
    }

    /// What the image in a slot says of itself, if it is sound.
    ///
    /// # Errors
    /// [`fs4::Bad`].
    pub fn info(&self, p: &Profile, slot: u8) -> Result<Info, fs4::Bad> {
        if self.is_untouched(slot) {
            return match slot {
                0 => Ok(spec(p, p.firmware.version).info),
                _ => Err(fs4::Bad::Format),
            };
        }
        let parse = || {
            fs4::parse(&InSlot {
                flash: self,
                profile: p,
                from: usize::from(slot) * SLOT_BYTES,
                bytes: self.used(p, slot),
            })
        };
        let read = self.read.get(usize::from(slot));
        read.map_or_else(parse, |known| known.get_or_init(parse).clone())
    }

    /// A slot's bytes up to the last page with content.
    #[must_use]
    pub fn slot(&self, p: &Profile, slot: u8) -> Vec<u8> {
        self.read(p, usize::from(slot) * SLOT_BYTES, self.used(p, slot))
    }

    /// Bytes of a slot up to the last page with content.
    fn used(&self, p: &Profile, slot: u8) -> usize {
        let from = usize::from(slot) * SLOT_BYTES;
        let first = (from / PAGE) as u32;
        let behind = ((from + MAX_IMAGE) / PAGE) as u32;
        let last = self.pages.range(first..behind).next_back();
        let kept = last.map_or(0, |(n, _)| (*n as usize + 1) * PAGE - from);
        let factory = if slot == 0 { factory(p).image.len() } else { 0 };
        kept.max(factory)
    }
}

/// An image in a slot.
struct InSlot<'a> {
    flash: &'a Flash,
    profile: &'a Profile,
    from: usize,
    bytes: usize,
}

impl fs4::Image for InSlot<'_> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read(&self, at: usize, len: usize) -> Cow<'_, [u8]> {
        self.flash.read(self.profile, self.from + at, len).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::apply;

    #[test]
    fn nor_bits_become_zero_until_they_are_erased() {
        let p = Profile::builtin("connectx7").unwrap();
        let mut f = Flash::default();
        let mut b = Batch::default();
        let at = SLOT_BYTES + 0x2fe;
        f.program(&p, at, &[0xf0, 0x0f, 0xaa, 0x55], &mut b);
        f.program(&p, at, &[0x3c; 4], &mut b);
        assert_eq!(f.read(&p, at - 1, 6), [0xff, 0x30, 0x0c, 0x28, 0x14, 0xff]);
        assert_eq!(b.puts.len(), 2, "two pages");
        let mut stored = BTreeMap::new();
        apply(&mut stored, &b);
        assert_eq!(Flash::load(&stored).pages, f.pages);
        let mut b = Batch::default();
        f.erase(&p, SLOT_BYTES, fs4::SECTOR, &mut b);
        apply(&mut stored, &b);
        assert!(stored.is_empty(), "as the factory left it");
        assert_eq!(f.read(&p, at, 4), [0xff; 4]);
    }

    #[test]
    fn what_a_slot_holds_is_read_anew_when_it_is_changed() {
        let p = Profile::builtin("connectx7").unwrap();
        let mut f = Flash::default();
        let image = f.slot(&p, 0);
        let holds_an_image = |f: &Flash| {
            let info = f.info(&p, 1);
            assert_eq!(info, fs4::parse(&f.slot(&p, 1)));
            info.is_ok()
        };
        assert!(!holds_an_image(&f));
        f.program(&p, SLOT_BYTES, &image, &mut Batch::default());
        assert!(holds_an_image(&f));
        f.waits_for(Token(1));
        f.settled(Token(1), true);
        f.program(&p, SLOT_BYTES + 0x20, &[0; 4], &mut Batch::default());
        assert!(!holds_an_image(&f));
        f.waits_for(Token(2));
        f.settled(Token(2), false);
        assert!(holds_an_image(&f), "the change could not be stored");
    }

    #[test]
    fn the_factory_wrote_an_image_of_the_profile_s_version() {
        let p = Profile::builtin("connectx7").unwrap();
        let mut f = Flash::default();
        assert_eq!(f.next_slot(&p), Some(0));
        assert_eq!(f.info(&p, 0).unwrap().version, p.firmware.version);
        assert_eq!(f.info(&p, 1), Err(fs4::Bad::Format));
        // What is known without reading is what reading finds.
        for slot in 0..SLOTS {
            assert_eq!(f.info(&p, slot), fs4::parse(&f.slot(&p, slot)));
            let start = f.read(&p, usize::from(slot) * SLOT_BYTES, MAGIC.len());
            assert_eq!(f.is_marked(&p, slot), start == MAGIC);
        }
        // Erased, the factory's image does not come back.
        let mut b = Batch::default();
        f.erase(&p, 0, fs4::SECTOR, &mut b);
        // The page with magic and pointers, and that with the tools area.
        assert_eq!((f.next_slot(&p), b.puts.len()), (None, 2));
        // The end of the flash is the end.
        f.program(&p, FLASH_BYTES - 1, &[0, 0], &mut b);
        assert_eq!(f.read(&p, FLASH_BYTES - 1, 3), [0, 0xff, 0xff]);
    }

    /// An erase looks at pages before it writes them: it must leave and store what writing each byte would.
    #[test]
    fn an_erase_is_as_if_each_byte_was_written() {
        let p = Profile::builtin("connectx7").unwrap();
        let mut f = Flash::default();
        let mut b = Batch::default();
        let slot = SLOT_BYTES + 0x1000;
        f.program(&p, slot + 5, &[0x11; 2 * PAGE], &mut b);
        f.program(&p, 0x2000, &[0; PAGE], &mut b);
        // Written and erased again, and neither is stored.
        f.waits_for(Token(1));
        f.replace(&p, slot + 3 * PAGE, &[0x22; 9], &mut b);
        f.waits_for(Token(2));
        f.erase(&p, slot + 3 * PAGE, PAGE, &mut b);
        f.waits_for(Token(3));
        let ranges = [
            (0, 0x1_0000),
            (0x2000 + 7, PAGE),
            (slot, 0x1000),
            (slot + PAGE - 1, 2),
            (slot + 3 * PAGE, PAGE),
            (slot + 0x1000, 0x1000),
            (FLASH_BYTES - DEVICE_BYTES, DEVICE_BYTES),
            (FLASH_BYTES - 3, 9),
            (FLASH_BYTES, 1),
            (slot, 0),
        ];
        for (at, len) in ranges {
            let (mut erased, mut written) = (f.clone(), f.clone());
            let (mut puts, mut wanted) = (Batch::default(), Batch::default());
            erased.erase(&p, at, len, &mut puts);
            written.replace(&p, at, &vec![ERASED; len], &mut wanted);
            assert_eq!(puts.puts, wanted.puts, "{at:#x} {len:#x}");
            assert_eq!(erased.pages, written.pages, "{at:#x} {len:#x}");
        }
    }

    #[test]
    fn a_long_read_is_what_each_byte_is() {
        let p = Profile::builtin("connectx7").unwrap();
        let mut f = Flash::default();
        let image = f.slot(&p, 0).len();
        let device = FLASH_BYTES - DEVICE_BYTES;
        let mut b = Batch::default();
        let places = [
            3 * PAGE,
            image - 1,
            image + 5 * PAGE,
            device - 2,
            FLASH_BYTES - 7,
        ];
        for (place, value) in places.into_iter().zip(1..) {
            f.replace(&p, place, &[value; 3], &mut b);
        }
        // From before the first change to behind the last byte, by what lies around each of them.
        let pages = |at: usize| (at / PAGE - 2) * PAGE..(at / PAGE + 3) * PAGE;
        for place in places {
            let all = pages(place);
            let byte = |at: usize| match (at < FLASH_BYTES, (at / PAGE) as u32) {
                (true, page) => f.page(&p, page)[at % PAGE],
                (false, _) => 0xff,
            };
            let wanted: Vec<u8> = all.clone().map(byte).collect();
            assert_eq!(f.read(&p, all.start, all.len()), wanted, "{place:#x}");
            for skip in [1, PAGE - 1, PAGE, PAGE + 9] {
                let found = f.read(&p, all.start + skip, all.len() - 2 * skip);
                assert_eq!(
                    found,
                    wanted[skip..wanted.len() - skip],
                    "{place:#x}+{skip}"
                );
            }
            let around = f.read(&p, place, 3.min(FLASH_BYTES - place));
            assert!(around.iter().all(|b| *b > 0 && *b < 6), "{around:x?}");
        }
    }
}
