// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Firmware images in the FS4 format, and in FS5, which has more before its boot loader (`fs5.rs`): made
//! from what a card is, and read back with every checksum checked. Offsets and widths are those of the
//! tools' image layouts.

use std::borrow::Cow;

use fwctl_proto::layout::{get_bits, set_bits};

use super::{crc, fs5};

/// An image begins with this.
pub const MAGIC: [u8; 16] = [
    0x4d, 0x54, 0x46, 0x57, 0xab, 0xcd, 0xef, 0x00, 0xfa, 0xde, 0x12, 0x34, 0x56, 0x78, 0xde, 0xad,
];
/// Log2 of the bytes that an image may have.
pub const LOG_SLOT: u32 = 24;
/// Bytes of an erase sector, to which tables are aligned.
pub const SECTOR: usize = 0x1000;
/// Longest PSID.
const PSID_BYTES: usize = 16;

/// Where the pointers are that the hardware reads, and how many of 8 bytes.
const POINTERS: usize = 0x18;
const POINTER_COUNT: usize = 16;
/// Which pointer is whose.
pub(super) const BOOT2_POINTER: usize = 1;
const TOC_POINTER: usize = 2;
const TOOLS_POINTER: usize = 3;
const INFO_POINTER: usize = 10;

/// Where this program puts what they point to.
const TOOLS: usize = 0x500;
const TOOLS_BYTES: usize = 64;
const BOOT2_DWORDS: usize = 0x100;
/// The boot loader has four dwords more than its size says.
pub(super) const BOOT2_BYTES: usize = (BOOT2_DWORDS + 4) * 4;

/// What differs by format: its number, where this program puts things, and more pointers.
pub(super) struct Places {
    pub format: u8,
    pub boot2: usize,
    pub toc: usize,
    pub sections: usize,
    pub more: &'static [(usize, usize)],
}

const PLACES: Places = Places {
    format: 1,
    boot2: 0x1000,
    toc: 0x2000,
    sections: 0x4000,
    more: &[],
};

/// Head and entry of a table of contents.
const TOC_ROW: usize = 32;
const ITOC_SIGNATURE: u32 = 0x4954_4f43;
const DTOC_SIGNATURE: u32 = 0x4454_4f43;
const TOC_SIGNATURE: [u32; 3] = [0x0408_1516, 0x2342_cafa, 0xbaca_fe00];
/// Rows that are read at most.
const MAX_SECTIONS: usize = 64;

/// Types of sections.
pub mod section {
    /// Code.
    pub const MAIN_CODE: u8 = 0x3;
    /// What the image is.
    pub const IMAGE_INFO: u8 = 0x10;
    /// What the manufacturer wrote.
    pub const MFG_INFO: u8 = 0xe0;
    /// What the owner may change.
    pub const DEV_INFO: u8 = 0xe1;
    /// Behind the last one.
    pub const END: u8 = 0xff;
}

/// How a section is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Its checksum stands in its row.
    InRow = 0,
    /// Its last dword is its checksum.
    InSection = 2,
}

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Major, minor, sub-minor.
    pub version: [u16; 3],
    /// Board id.
    pub psid: String,
}

/// What an image is made for.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// What it says of itself.
    pub info: Info,
    /// PCI vendor and device id, subsystem's vendor and device id.
    pub pci: [u16; 4],
    /// Id of the chip.
    pub hw_id: u32,
    /// The product's part number, which tools show.
    pub name: String,
    /// In a sentence.
    pub description: &'a str,
}

/// Why an image is not taken.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize,
)]
pub enum Bad {
    /// It is none, or not whole.
    #[error("it is not an FS4 or FS5 firmware image")]
    Format,
    /// A part is not what it was when the image was made.
    #[error("the checksum of the part at {0:#x} is wrong")]
    Checksum(usize),
}

/// Bits of a record: byte offset of its dword, lowest bit, width.
pub(super) fn put(record: &mut [u8], dword: usize, low: u32, width: u32, value: u64) {
    set_bits(record, dword as u32 * 8 + 32 - low - width, width, value);
}

pub(super) fn take(record: &[u8], dword: usize, low: u32, width: u32) -> u64 {
    get_bits(record, dword as u32 * 8 + 32 - low - width, width)
}

fn text(record: &mut [u8], at: usize, most: usize, value: &str) {
    for (to, from) in record.iter_mut().skip(at).zip(value.bytes().take(most)) {
        *to = from;
    }
}

/// IMAGE_INFO.
fn image_info(s: &Spec<'_>) -> Vec<u8> {
    let mut r = vec![0; 1024];
    put(&mut r, 0, 8, 1, 1); // mcc_en
    // Version 0.2 of this record: tools know no other major one, and from .2 on the texts.
    put(&mut r, 0, 16, 8, 2);
    let [major, minor, sub] = s.info.version.map(u64::from);
    put(&mut r, 4, 16, 16, major);
    put(&mut r, 8, 16, 16, minor);
    put(&mut r, 8, 0, 16, sub);
    // A day that every version has: 1 January 2026.
    put(&mut r, 0x10, 16, 16, 0x2026);
    put(&mut r, 0x10, 8, 8, 1);
    put(&mut r, 0x10, 0, 8, 1);
    let [vendor, device, sub_vendor, subsystem] = s.pci.map(u64::from);
    put(&mut r, 0x1c, 0, 16, vendor);
    put(&mut r, 0x1c, 16, 16, device);
    put(&mut r, 0x20, 0, 16, sub_vendor);
    put(&mut r, 0x20, 16, 16, subsystem);
    text(&mut r, 0x24, PSID_BYTES, &s.info.psid);
    put(&mut r, 0x34, 0, 16, vendor);
    put(&mut r, 0x108, 0, 8, u64::from(LOG_SLOT)); // log_step
    put(&mut r, 0x10c, 0, 32, 1 << LOG_SLOT); // max_size
    put(&mut r, 0x118, 0, 32, u64::from(s.hw_id));
    if is_fs5(s) {
        let end = fs5::PLACES.sections + r.len() + CODE_BYTES;
        put(&mut r, 0x12c, 0, 32, end as u64); // burn_image_size
    }
    text(&mut r, 0x1d0, 256, s.description);
    text(&mut r, 0x340, 64, &s.name);
    text(&mut r, 0x380, 128, &s.name);
    r
}

fn row(kind: u8, at: usize, data: &[u8], check: Check) -> [u8; TOC_ROW] {
    let mut r = [0; TOC_ROW];
    put(&mut r, 0, 24, 8, u64::from(kind));
    put(&mut r, 0, 2, 22, data.len() as u64 / 4);
    put(&mut r, 0x14, 2, 29, at as u64 / 4);
    if check == Check::InRow {
        put(&mut r, 0x18, 0, 16, u64::from(crc::image(data)));
    }
    put(&mut r, 0x18, 16, 3, check as u64);
    let sum = crc::image(&r[..TOC_ROW - 4]);
    put(&mut r, 0x1c, 0, 16, u64::from(sum));
    r
}

fn toc_head(signature: u32) -> [u8; TOC_ROW] {
    let mut r = [0; TOC_ROW];
    put(&mut r, 0, 0, 32, u64::from(signature));
    for (i, s) in TOC_SIGNATURE.iter().enumerate() {
        put(&mut r, 4 + 4 * i, 0, 32, u64::from(*s));
    }
    put(&mut r, 0x10, 0, 8, 1);
    put(&mut r, 0x10, 24, 8, 1);
    let sum = crc::image(&r[..TOC_ROW - 4]);
    put(&mut r, 0x1c, 0, 16, u64::from(sum));
    r
}

/// Lays `data` at `at`; bytes between are as after an erase.
pub(super) fn lay(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if image.len() < end {
        image.resize(end, 0xff);
    }
    if let Some(place) = image.get_mut(at..end) {
        place.copy_from_slice(data);
    }
}

fn is_fs5(s: &Spec<'_>) -> bool {
    fs5::DEVICES.contains(&s.hw_id)
}

/// Bytes of the stand-in for code.
const CODE_BYTES: usize = 0x1_0000;

/// An image.
#[must_use]
pub fn build(spec: &Spec<'_>) -> Vec<u8> {
    let places = if is_fs5(spec) { &fs5::PLACES } else { &PLACES };
    let mut image = Vec::new();
    lay(&mut image, 0, &MAGIC);
    let mut format = [0; POINTERS - MAGIC.len()];
    put(&mut format, 0, 24, 8, u64::from(places.format)); // image_format_version
    lay(&mut image, MAGIC.len(), &format);
    for i in 0..POINTER_COUNT {
        let target = match i {
            BOOT2_POINTER => places.boot2,
            TOC_POINTER => places.toc,
            TOOLS_POINTER => TOOLS,
            INFO_POINTER => places.sections,
            _ => {
                let more = places.more.iter().find(|(n, _)| *n == i);
                more.map_or(0, |(_, at)| *at)
            }
        };
        let mut p = [0; 8];
        put(&mut p, 0, 0, 32, target as u64);
        let sum = crc::pointer(&p[..6]);
        put(&mut p, 4, 0, 16, u64::from(sum));
        lay(&mut image, POINTERS + 8 * i, &p);
    }

    let mut tools = [0; TOOLS_BYTES];
    put(&mut tools, 0, 8, 8, 1); // major
    put(&mut tools, 4, 8, 8, 1); // bin_ver_major
    put(&mut tools, 4, 16, 16, u64::from(LOG_SLOT));
    let sum = crc::image(&tools[..TOOLS_BYTES - 4]);
    put(&mut tools, TOOLS_BYTES - 4, 0, 16, u64::from(sum));
    lay(&mut image, TOOLS, &tools);

    // The last dword of the boot loader is its checksum.
    let mut boot2 = vec![0; BOOT2_BYTES];
    put(&mut boot2, 4, 0, 32, BOOT2_DWORDS as u64);
    let last = boot2.len() - 4;
    let sum = crc::image(&boot2[..last]);
    put(&mut boot2, last, 0, 16, u64::from(sum));
    if is_fs5(spec) {
        fs5::build(&mut image);
    }
    lay(&mut image, places.boot2, &boot2);

    let code: Vec<u8> = pattern(spec).take(CODE_BYTES).collect();
    let info = image_info(spec);
    lay(&mut image, places.toc, &toc_head(ITOC_SIGNATURE));
    let mut at = places.sections;
    let sections = [(section::IMAGE_INFO, info), (section::MAIN_CODE, code)];
    for (i, (kind, data)) in sections.iter().enumerate() {
        let r = row(*kind, at, data, Check::InRow);
        lay(&mut image, places.toc + TOC_ROW * (1 + i), &r);
        lay(&mut image, at, data);
        at += data.len();
    }
    if is_fs5(spec) {
        fs5::build_end(&mut image);
    }
    image
}

/// What stands where code would: different for each version.
fn pattern(spec: &Spec<'_>) -> impl Iterator<Item = u8> {
    let v = spec.info.version.map(u32::from);
    let mut x = 0x9e37_79b9 ^ v[0] << 20 ^ v[1] << 10 ^ v[2];
    core::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x as u8
    })
}

/// The device's own data for the end of a flash: what lies from `from` on to its end.
#[must_use]
pub fn device_area(psid: &str, mac: u64, guid: u64, from: usize, end: usize) -> Vec<u8> {
    const GUIDS: usize = 0x20;
    let uids = |r: &mut [u8]| {
        for (at, uid) in [(GUIDS, guid), (GUIDS + 0x10, mac)] {
            put(r, at, 0, 8, 16); // num_allocated
            put(r, at, 8, 8, 1); // step
            put(r, at + 8, 0, 32, uid >> 32);
            put(r, at + 12, 0, 32, uid & 0xffff_ffff);
        }
    };
    let mut mfg = vec![0; 320];
    text(&mut mfg, 0, PSID_BYTES, psid);
    put(&mut mfg, 0x1c, 24, 8, 1);
    uids(&mut mfg);
    let mut dev = vec![0; 512];
    for (i, s) in [0x6d44_6576, 0x496e_666f, 0x2342_cafa, 0xbaca_fe00]
        .iter()
        .enumerate()
    {
        put(&mut dev, 4 * i, 0, 32, *s);
    }
    put(&mut dev, 0x10, 8, 8, 2);
    put(&mut dev, 0x6c, 0, 16, 0x15b3);
    uids(&mut dev);
    // A second copy that is not in force has no signature.
    let mut spare = dev.clone();
    spare[..16].fill(0);
    for r in [&mut dev, &mut spare] {
        let last = r.len() - 4;
        let sum = crc::image(&r[..last]);
        put(r, last, 0, 16, u64::from(sum));
    }
    let mut area = vec![0xff; end - from];
    let toc = end - SECTOR;
    let mut rows = vec![toc_head(DTOC_SIGNATURE)];
    for (i, (kind, data, check)) in [
        (section::DEV_INFO, dev, Check::InSection),
        (section::DEV_INFO, spare, Check::InSection),
        (section::MFG_INFO, mfg, Check::InRow),
    ]
    .into_iter()
    .enumerate()
    {
        let at = from + SECTOR * i;
        rows.push(row(kind, at, &data, check));
        lay(&mut area, at - from, &data);
    }
    lay(&mut area, toc - from, &rows.concat());
    area
}

/// Where an image lies: in memory, or in a flash, of which no more is read than what is looked at.
pub trait Image {
    /// Bytes of it.
    fn bytes(&self) -> usize;
    /// So many from an address on; both are within it.
    fn read(&self, at: usize, len: usize) -> Cow<'_, [u8]>;
}

impl<T: AsRef<[u8]> + ?Sized> Image for T {
    fn bytes(&self) -> usize {
        self.as_ref().len()
    }

    fn read(&self, at: usize, len: usize) -> Cow<'_, [u8]> {
        self.as_ref()[at..at + len].into()
    }
}

/// Bytes of an image.
pub(super) fn part<I: Image + ?Sized>(
    image: &I,
    at: usize,
    len: usize,
) -> Result<Cow<'_, [u8]>, Bad> {
    let end = at.checked_add(len).ok_or(Bad::Format)?;
    let is_there = end <= image.bytes();
    is_there.then(|| image.read(at, len)).ok_or(Bad::Format)
}

/// Bytes of which the last dword holds the checksum of the rest.
pub(super) fn checked<I: Image + ?Sized>(
    image: &I,
    at: usize,
    len: usize,
) -> Result<Cow<'_, [u8]>, Bad> {
    let p = part(image, at, len)?;
    let body = len.checked_sub(4).ok_or(Bad::Format)?;
    if u64::from(crc::image(&p[..body])) == take(&p, body, 0, 16) {
        Ok(p)
    } else {
        Err(Bad::Checksum(at))
    }
}

/// Reads an image; what is behind its last section does not matter.
///
/// # Errors
/// [`Bad`].
pub fn parse<I: Image + ?Sized>(image: &I) -> Result<Info, Bad> {
    let part = |at, len| part(image, at, len);
    let checked = |at, len| checked(image, at, len);
    if part(0, MAGIC.len())?[..] != MAGIC {
        return Err(Bad::Format);
    }
    let mut targets = [0; POINTER_COUNT];
    for (i, target) in targets.iter_mut().enumerate() {
        let at = POINTERS + 8 * i;
        let p = part(at, 8)?;
        if u64::from(crc::pointer(&p[..6])) != take(&p, 4, 0, 16) {
            return Err(Bad::Checksum(at));
        }
        *target = take(&p, 0, 0, 32) as usize;
    }
    if take(&part(MAGIC.len(), 4)?, 0, 24, 8) == u64::from(fs5::PLACES.format) {
        fs5::check(image, &targets)?;
    }
    checked(targets[TOOLS_POINTER], TOOLS_BYTES)?;
    let boot2 = targets[BOOT2_POINTER];
    let size = take(&part(boot2, 8)?, 4, 0, 32) as usize;
    checked(boot2, size.saturating_add(4).saturating_mul(4))?;
    let toc = targets[TOC_POINTER];
    let head = checked(toc, TOC_ROW)?;
    if take(&head, 0, 0, 32) != u64::from(ITOC_SIGNATURE) {
        return Err(Bad::Format);
    }
    let mut info = None;
    // Sections do not lie in each other: to check them takes no longer than the image is long.
    let mut room = image.bytes();
    for i in 1..=MAX_SECTIONS {
        let at = toc + TOC_ROW * i;
        let kind = take(&part(at, 4)?, 0, 24, 8) as u8;
        if kind == section::END {
            return info.ok_or(Bad::Format);
        }
        let r = checked(at, TOC_ROW)?;
        let (size, place) = (take(&r, 0, 2, 22) as usize, take(&r, 0x14, 2, 29) as usize);
        let (len, place) = (size * 4, place * 4);
        let data = part(place, len)?;
        room = room.checked_sub(len).ok_or(Bad::Format)?;
        let check = take(&r, 0x18, 16, 3);
        let in_row = check == Check::InRow as u64;
        if in_row && u64::from(crc::image(&data)) != take(&r, 0x18, 0, 16) {
            return Err(Bad::Checksum(place));
        }
        if check == Check::InSection as u64 {
            checked(place, len)?;
        }
        if kind == section::IMAGE_INFO {
            info = Some(read_info(&data)?);
        }
    }
    Err(Bad::Format)
}

fn read_info(r: &[u8]) -> Result<Info, Bad> {
    let psid = r.get(0x24..0x24 + PSID_BYTES).ok_or(Bad::Format)?;
    let psid = psid.split(|b| *b == 0).next().unwrap_or_default();
    let field = |dword, low| take(r, dword, low, 16) as u16;
    Ok(Info {
        version: [field(4, 16), field(8, 16), field(8, 0)],
        psid: String::from_utf8_lossy(psid).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec<'static> {
        Spec {
            info: Info {
                version: [28, 44, 1000],
                psid: "FWE0000000007".into(),
            },
            pci: [0x15b3, 0x1021, 0x15b3, 1],
            hw_id: 0x218,
            name: "x".into(),
            description: "y",
        }
    }

    #[test]
    fn what_was_built_is_read_back() {
        let image = build(&spec());
        assert_eq!(parse(&image), Ok(spec().info));
    }

    fn fs5_spec() -> Spec<'static> {
        Spec {
            hw_id: 0x21e,
            ..spec()
        }
    }

    #[test]
    fn a_device_that_reads_fs5_gets_it() {
        let good = build(&fs5_spec());
        assert_eq!(parse(&good), Ok(spec().info));
        assert_eq!((build(&spec())[16], good[16]), (1, 2), "format");
        let word = |at: usize| u32::from_be_bytes(*good[at..].first_chunk().unwrap()) as usize;
        // By mstflint's fs5_image_layout: pointers 1, 6 and 15; magic and length of the header.
        let [boot2, header, hashes] = [1, 6, 15].map(|i| word(0x18 + 8 * i));
        assert_eq!(
            (boot2, &good[header..header + 4]),
            (header + 0x2000, &b"NVDA"[..])
        );
        let length = u32::from_le_bytes(*good[header + 0x1ee4..].first_chunk().unwrap());
        let size = word(hashes + 4) * 4 + 16;
        assert_eq!(length as usize, hashes - boot2 + size);
        // IMAGE_INFO says how long the image is; behind it is as much as a header, without a magic.
        let end = word(word(0x18 + 80) + 0x12c);
        assert_eq!(good[end..], [0xff; 0x2000]);
        // A byte of the magic, the length, the boot loader, the hashes and their ends; the places' pointers.
        for at in [
            header,
            header + 0x1ee4,
            boot2 + 9,
            hashes + 5,
            hashes + 9,
            hashes + 40,
            hashes + size - 1,
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(parse(&bad).is_err(), "{at:#x}");
        }
        for pointer in [1, 6, 15] {
            for target in [0, 8, u32::MAX] {
                let mut bad = good.clone();
                let at = 0x18 + 8 * pointer;
                bad[at..at + 4].copy_from_slice(&target.to_be_bytes());
                let sum = crc::pointer(&bad[at..at + 6]).to_be_bytes();
                bad[at + 6..at + 8].copy_from_slice(&sum);
                assert!(parse(&bad).is_err(), "{pointer} {target:#x}");
            }
        }
    }

    #[test]
    fn damage_anywhere_that_matters_is_found() {
        let good = build(&spec());
        let end = good.len();
        // A byte of each part: magic, pointer, tools area, boot loader, table, row, code, info.
        for at in [0, 0x18, 0x501, 0x1010, 0x2001, 0x2021, 0x4000, end - 100] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(parse(&bad).is_err(), "{at:#x}");
        }
        for cut in [0, 15, 0x90, 0x530, 0x1100, 0x2010, 0x2070, end - 1] {
            assert!(parse(&good[..cut]).is_err(), "{cut:#x}");
        }
        // Pointers and sizes at their largest.
        for at in [0x18 + 8, 0x18 + 16, 0x18 + 24] {
            let mut bad = good.clone();
            bad[at..at + 4].fill(0xff);
            let sum = crc::pointer(&bad[at..at + 6]).to_be_bytes();
            bad[at + 6..at + 8].copy_from_slice(&sum);
            assert_eq!(parse(&bad), Err(Bad::Format), "{at:#x}");
        }
    }
}
