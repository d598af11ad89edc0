// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What lies behind the PCI vendor-specific capability: address spaces with semaphores, a command
//! mailbox, words of the device, and those of them that a driver scans for a crash dump
//! (docs/gateway.md).

mod cr;
mod host_sync;
pub mod icmd;
pub(crate) mod semaphore;
pub mod spi;

use fwctl_proto::layout::LayoutInfo;

use crate::{Card, Effects, FunctionId, GuestMemory, Profile, Time, iseg};

pub use cr::CrSpace;
pub use host_sync::HostSync;
pub use semaphore::{HELD_FOR, Semaphores};

/// Numbers of the address spaces (`mlx5/core/lib/pci_vsc.h`, and those that the tools ask for).
pub mod space {
    /// The command mailbox, as tools that know extended mailboxes name it.
    pub const ICMD_EXT: u16 = 0x1;
    /// Words of the device.
    pub const CR: u16 = 0x2;
    /// The command mailbox.
    pub const ICMD: u16 = 0x3;
    /// The initialization segment, for drivers without a command queue.
    pub const SEGMENT: u16 = 0x4;
    /// Words of the device, for drivers without a command queue.
    pub const ND_CR: u16 = 0x6;
    /// The words worth dumping, in order (`MLX5_VSC_SPACE_SCAN_CRSPACE`).
    pub const SCAN: u16 = 0x7;
    /// Semaphores (`MLX5_SEMAPHORE_SPACE_DOMAIN`).
    pub const SEMAPHORES: u16 = 0xa;
    /// What has a number from here on belongs to the PCI core.
    pub const PCI_CORE: u16 = 0x100;
}

/// An address space.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// The space whose content it shows, by that one's number.
    pub shows: u16,
}

const fn own(number: u16, name: &'static str) -> Space {
    showing(number, name, number)
}

const fn showing(number: u16, name: &'static str, shows: u16) -> Space {
    Space {
        number,
        name,
        shows,
    }
}

/// Every space. Those of the PCI core are there if the profile says so; which of the others a tool takes
/// for the same is `swap_pci_address_space` of mstflint.
pub const SPACES: &[Space] = &[
    own(space::ICMD, "ICMD"),
    showing(space::ICMD_EXT, "ICMD_EXT", space::ICMD),
    own(space::CR, "CR"),
    own(space::SEGMENT, "SEGMENT"),
    showing(space::ND_CR, "ND_CR", space::CR),
    own(space::SCAN, "SCAN"),
    own(space::SEMAPHORES, "SEMAPHORES"),
    showing(0x101, "PCI_ICMD", space::ICMD),
    showing(0x102, "PCI_CR", space::CR),
    showing(0x103, "PCI_ALL_ICMD", space::ICMD),
    showing(0x107, "PCI_SCAN", space::SCAN),
    showing(0x10a, "PCI_SEMAPHORES", space::SEMAPHORES),
];

/// The space of this number.
#[must_use]
pub fn find(number: u16) -> Option<&'static Space> {
    SPACES.iter().find(|s| s.number == number)
}

/// What the dword at a place says, if it has fields.
#[must_use]
pub fn word(space: u16, address: u32) -> Option<&'static LayoutInfo> {
    let mailbox = find(space).is_some_and(|s| s.shows == space::ICMD);
    (mailbox && address == icmd::CONTROL).then_some(&icmd::CONTROL_WORD)
}

/// What a read of a space gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The dword.
    pub value: u32,
    /// The address that the gateway then names: the next one with content in a space that is
    /// scanned, else the same.
    pub next: u32,
}

/// A place behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Number of the space.
    pub space: u16,
    /// Byte address in it.
    pub address: u32,
}

/// A space whose content is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Icmd,
    Cr,
    Segment,
    Scan,
    Semaphores,
}

impl Content {
    fn of(number: u16, p: &Profile) -> Option<Self> {
        if number > space::PCI_CORE && !p.pci.pci_core_spaces {
            return None;
        }
        match find(number)?.shows {
            space::ICMD => Some(Self::Icmd),
            space::CR => Some(Self::Cr),
            space::SEGMENT => Some(Self::Segment),
            space::SCAN => Some(Self::Scan),
            space::SEMAPHORES => Some(Self::Semaphores),
            _ => None,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            Self::Icmd => icmd::SPACE_BYTES,
            Self::Cr => cr::BYTES,
            Self::Segment => iseg::SEGMENT_BYTES,
            Self::Scan => cr::SCAN_BYTES,
            Self::Semaphores => semaphore::BYTES,
        }
    }
}

impl Place {
    /// The content, if there is a dword there.
    fn content(self, p: &Profile) -> Option<Content> {
        let content = Content::of(self.space, p)?;
        let inside = self.address < content.bytes() && self.address.is_multiple_of(4);
        inside.then_some(content)
    }

    /// The same without writes, which change nothing there.
    fn changes(self, p: &Profile) -> Option<Content> {
        let content = self.content(p)?;
        (!matches!(content, Content::Scan | Content::Segment)).then_some(content)
    }
}

/// Bytes of an address space; `None` if a card has none of this number.
#[must_use]
pub fn size(space: u16, p: &Profile) -> Option<u32> {
    Content::of(space, p).map(Content::bytes)
}

/// True if a dword can be written there; CR space takes writes that change nothing.
#[must_use]
pub fn can_write(at: Place, p: &Profile) -> bool {
    at.changes(p).is_some()
}

impl Card {
    /// Reads a dword of a space as function `id` sees it; `None` if there is none.
    #[must_use]
    pub fn read_space(&self, id: FunctionId, at: Place, now: Time) -> Option<Word> {
        let f = self.functions.get(usize::from(id.0))?;
        let address = at.address;
        let value = match at.content(&self.profile)? {
            Content::Semaphores => self.shared.semaphores.holder(address, now),
            Content::Icmd => f.icmd.read(address),
            Content::Scan => return Some(self.scan(address)),
            Content::Segment => {
                let mut word = [0; 4];
                iseg::read(f, &self.shared, &self.profile, address, &mut word, now);
                u32::from_be_bytes(word)
            }
            Content::Cr => self.cr_word(address, now),
        };
        Some(Word {
            value,
            next: address,
        })
    }

    /// Writes a dword of a space.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn write_space(
        &mut self,
        id: FunctionId,
        at: Place,
        value: u32,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        let Some(f) = self.functions.get_mut(usize::from(id.0)) else {
            return;
        };
        match at.changes(&self.profile) {
            Some(Content::Semaphores) => self.shared.semaphores.write(at.address, value, now),
            Some(Content::Cr) => self.write_cr(at.address, value, now, fx),
            Some(Content::Icmd) => {
                self.shared.semaphores.renew(semaphore::ICMD, now);
                if f.icmd.write(at.address, value) {
                    self.run_icmd(id, now, mem, fx);
                }
            }
            Some(Content::Scan | Content::Segment) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CardOptions, EventPath, Input, NoMemory, Profile, Report, limits::MAX_CR_WORDS};
    use std::collections::BTreeMap;

    const F: FunctionId = FunctionId(0);

    fn card() -> Card {
        let profile = Profile::builtin("connectx7").unwrap();
        let mut c = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        c.add_function(EventPath::EventQueues);
        c
    }

    fn read(c: &Card, space: u16, address: u32, now: Time) -> Option<u32> {
        let word = c.read_space(F, Place { space, address }, now)?;
        Some(word.value)
    }

    fn write(c: &mut Card, space: u16, address: u32, value: u32, now: Time) {
        let input = Input::Gateway {
            function: F,
            at: Place { space, address },
            value,
        };
        c.submit(input, now, &NoMemory, &mut Effects::new());
    }

    #[test]
    fn a_semaphore_belongs_to_the_first_until_it_is_freed() {
        let mut c = card();
        let mut take = |value| {
            write(&mut c, space::SEMAPHORES, 0x20, value, Time::ZERO);
            read(&c, space::SEMAPHORES, 0x20, Time::ZERO).unwrap()
        };
        assert_eq!([take(7), take(9), take(0), take(9)], [7, 7, 0, 9]);
        for (space, address) in [(space::SEMAPHORES, 0x1000), (space::SCAN, 0x20), (4, 0)] {
            assert!(
                !can_write(Place { space, address }, c.profile()),
                "{space:#x}"
            );
        }
    }

    #[test]
    fn spaces_of_the_pci_core_show_the_same_on_cards_that_have_them() {
        let named = |n: u16| find(n).map(|s| s.shows);
        // `swap_pci_address_space` of mstflint.
        for (own, pci) in [(1, 0x101), (2, 0x102), (3, 0x103), (7, 0x107), (0xa, 0x10a)] {
            assert_eq!(named(own), named(pci), "{own:#x}");
        }
        let numbers: std::collections::BTreeSet<_> = SPACES.iter().map(|s| s.number).collect();
        assert_eq!(numbers.len(), SPACES.len());
        let mut eight = Card::new(
            Profile::builtin("connectx8").unwrap(),
            CardOptions::default(),
            &BTreeMap::new(),
        );
        eight.add_function(EventPath::EventQueues);
        let mut seven = card();
        for s in SPACES.iter().filter(|s| s.number > space::PCI_CORE) {
            let at = |c: &Card, n: u16| read(c, n, 0, Time::ZERO);
            assert_eq!(at(&seven, s.number), None, "{}", s.name);
            assert_eq!(size(s.number, seven.profile()), None);
            assert_eq!(at(&eight, s.number), at(&eight, s.shows), "{}", s.name);
            assert_eq!(
                size(s.number, eight.profile()),
                size(s.shows, eight.profile())
            );
        }
        for c in [&mut seven, &mut eight] {
            write(c, 0x10a, 0x40, 7, Time::ZERO);
        }
        let taken = |c: &Card| read(c, space::SEMAPHORES, 0x40, Time::ZERO);
        assert_eq!([taken(&seven), taken(&eight)], [Some(0), Some(7)]);
    }

    #[test]
    fn the_segment_is_that_of_bar_0_and_cannot_be_written() {
        let mut c = card();
        let word = |c: &Card, at| read(c, space::SEGMENT, at, Time::ZERO);
        // fw_rev_minor and _major, as big-endian dwords.
        assert_eq!(word(&c, 0), Some(43 << 16 | 28));
        assert_eq!(word(&c, iseg::SEGMENT_BYTES), None);
        let before = word(&c, 0x14);
        write(&mut c, space::SEGMENT, 0x14, 0xffff_ffff, Time::ZERO);
        assert_eq!(word(&c, 0x14), before);
        assert_eq!(
            read(&c, space::ND_CR, 0xf_0014, Time::ZERO),
            read(&c, space::CR, 0xf_0014, Time::ZERO)
        );
    }

    #[test]
    fn the_semaphore_of_a_holder_that_died_is_free_again() {
        let mut c = card();
        let at = |millis: u64| Time(millis * 1_000_000);
        write(&mut c, space::SEMAPHORES, 0, 7, at(0));
        write(&mut c, space::ICMD, 0x10_0000, 1, at(900));
        // Its holder wrote to the mailbox 999 ms ago.
        write(&mut c, space::SEMAPHORES, 0, 9, at(1899));
        assert_eq!(read(&c, space::SEMAPHORES, 0, at(1899)), Some(7));
        assert_eq!(read(&c, space::SEMAPHORES, 0, at(1900)), Some(0));
        write(&mut c, space::SEMAPHORES, 0, 9, at(1900));
        assert_eq!(read(&c, space::SEMAPHORES, 0, at(1900)), Some(9));
        // Others are kept for a minute.
        write(&mut c, space::SEMAPHORES, 0x20, 5, at(2000));
        assert_eq!(read(&c, space::SEMAPHORES, 0x20, at(61_999)), Some(5));
        assert_eq!(read(&c, space::SEMAPHORES, 0x20, at(62_000)), Some(0));
    }

    #[test]
    fn who_programs_the_flash_keeps_its_semaphore() {
        let at = |seconds: u64| Time(seconds * 1_000_000_000);
        let flash = semaphore::FLASH;
        // By the chip's own gateway, whose command word lies there on ConnectX-7.
        let mut c = card();
        write(&mut c, space::SEMAPHORES, flash, 5, at(0));
        write(&mut c, space::CR, 0xf_0400, 0, at(59));
        assert_eq!(read(&c, space::SEMAPHORES, flash, at(118)), Some(5));
        assert_eq!(read(&c, space::SEMAPHORES, flash, at(119)), Some(0));
        // What is over is not renewed; nor does another word of the device renew.
        write(&mut c, space::CR, 0xf_0400, 0, at(119));
        assert_eq!(read(&c, space::SEMAPHORES, flash, at(119)), Some(0));
        write(&mut c, space::SEMAPHORES, flash, 6, at(120));
        write(&mut c, space::CR, 0x10_0000, 1, at(150));
        assert_eq!(read(&c, space::SEMAPHORES, flash, at(180)), Some(0));
    }

    #[test]
    fn a_scan_visits_every_word_once_and_ends_at_the_size() {
        let mut c = card();
        let mut fx = Effects::new();
        c.submit(
            Input::Health(Report::FAILED),
            Time(5_000_000_000),
            &NoMemory,
            &mut fx,
        );
        let end = size(space::SCAN, c.profile()).unwrap();
        let (mut at, mut seen) = (0, BTreeMap::new());
        while at < end {
            let place = Place {
                space: space::SCAN,
                address: at,
            };
            let w = c.read_space(F, place, Time::ZERO).unwrap();
            assert!(w.next > at);
            seen.insert(at, w.value);
            at = w.next;
        }
        assert_eq!(at, end);
        // What is not 0: version, health, state of the function, ids and the code's place in the flash.
        let addresses: Vec<u32> = seen.keys().copied().collect();
        assert_eq!(
            addresses,
            [
                0, 4, 8, 0x22c, 0x238, 0x23c, 0x1000, 0xf_0014, 0xf_040c, 0xf_0488
            ]
        );
        assert_eq!(seen[&0x1000], 1, "disabled");
        // As CR space shows them.
        for (address, value) in &seen {
            assert_eq!(read(&c, space::CR, *address, Time::ZERO), Some(*value));
        }
        assert_eq!(seen[&0xf_0014], 0x218);
        assert_eq!(&[seen[&0], seen[&4], seen[&8]], &[28, 43, 1014]);
        // time 5 s, "reset needed" and severity 3, syndrome 1.
        assert_eq!(seen[&0x22c], 5);
        assert_eq!(seen[&0x238], 0x8b00_0000);
        assert_eq!(seen[&0x23c], 0x0001_0000);
    }

    #[test]
    fn words_of_the_device_are_kept_unless_the_model_gives_them() {
        let mut c = card();
        for (address, value) in [(0xf_0014, 1), (0x100_0000, 0xcafe), (0x3ff_fffc, 2)] {
            write(&mut c, space::CR, address, value, Time::ZERO);
        }
        let word = |c: &Card, at| read(c, space::CR, at, Time::ZERO);
        assert_eq!(word(&c, 0xf_0014), Some(0x218), "the device id");
        assert_eq!(word(&c, 0x100_0000), Some(0xcafe));
        assert_eq!(word(&c, 0x3ff_fffc), Some(2));
        assert_eq!(word(&c, 0x400_0000), None, "behind the end");
        assert_eq!(word(&c, 2), None, "not aligned");
        // The firmware runs: bit 31 of its word is 0; while it starts, 1.
        assert_eq!(word(&c, 0xb_5f04), Some(0));
        c.submit(
            Input::Start {
                nanos: 1_000_000_000,
            },
            Time::ZERO,
            &NoMemory,
            &mut Effects::new(),
        );
        assert_eq!(word(&c, 0xb_5f04), Some(0x8000_0000));
        c.submit(
            Input::PowerCycle,
            Time::ZERO,
            &NoMemory,
            &mut Effects::new(),
        );
        assert_eq!(word(&c, 0x100_0000), Some(0));
        // As many as there is room for; the next one is lost, and the others can still be changed.
        let at = |n: usize| 0x100_0000 + 4 * n as u32;
        for n in 0..=MAX_CR_WORDS {
            write(&mut c, space::CR, at(n), 1, Time::ZERO);
        }
        assert_eq!(word(&c, at(MAX_CR_WORDS - 1)), Some(1));
        assert_eq!(word(&c, at(MAX_CR_WORDS)), Some(0));
        write(&mut c, space::CR, at(0), 2, Time::ZERO);
        assert_eq!(word(&c, at(0)), Some(2));
    }
}
