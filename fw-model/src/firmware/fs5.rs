// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the FS5 format has besides what FS4 has: a header before the boot loader, with the length of what
//! is started, and a table of hashes behind it. Tools decide by the device which of the two formats they
//! expect there (`GetFwFormatFromHwDevID` of mstflint).

use super::{
    crc,
    fs4::{BOOT2_BYTES, BOOT2_POINTER, Bad, Image, Places, checked, lay, part, put, take},
};

/// Hardware ids of devices with this format: ConnectX-8, its PCIe switch, ConnectX-9.
pub const DEVICES: [u32; 3] = [0x21e, 0x222, 0x224];

/// Which pointer is whose.
const HEADER_POINTER: usize = 6;
const HASHES_POINTER: usize = 15;

/// Where this program puts what they point to.
const HEADER: usize = 0x1000;
const BOOT2: usize = HEADER + HEADER_BYTES;
const HASHES: usize = BOOT2 + BOOT2_BYTES;
pub(super) const PLACES: Places = Places {
    format: 2,
    boot2: BOOT2,
    toc: 0x4000,
    sections: 0x6000,
    more: &[(HEADER_POINTER, HEADER), (HASHES_POINTER, HASHES)],
};

/// The header of a boot component. Unlike all else its dwords are little-endian.
const HEADER_BYTES: usize = 0x2000;
const HEADER_MAGIC: [u8; 4] = *b"NVDA";
/// In the description of the first component: its bytes, with the hashes behind it.
const LENGTH: usize = 0x1ee0 + 4;

/// The table of hashes: its head with a checksum of its own, a list of 28 hashes of 64 bytes with 8 bytes
/// for each to find it, an empty dword, and the checksum of all.
const HASHES_HEAD: usize = 12;
const LIST_HEAD: usize = 16;
const MOST_HASHES: usize = 28;
const HASH_BYTES: usize = 64;
const HASHES_BYTES: usize = HASHES_HEAD + LIST_HEAD + MOST_HASHES * (8 + HASH_BYTES) + 8;
/// Bytes of it that its size does not count.
const UNCOUNTED: usize = 16;

/// Lays room for the header of a signature, which tools read behind an image before they burn it.
pub(super) fn build_end(image: &mut Vec<u8>) {
    image.resize(image.len() + HEADER_BYTES, 0xff);
}

/// Lays the header and the hashes, of which there are none: nothing here is signed.
pub(super) fn build(image: &mut Vec<u8>) {
    let mut header = vec![0; HEADER_BYTES];
    let length = (BOOT2_BYTES + HASHES_BYTES) as u32;
    for (at, bytes) in [(0, HEADER_MAGIC), (LENGTH, length.to_le_bytes())] {
        if let Some(place) = header.get_mut(at..at + 4) {
            place.copy_from_slice(&bytes);
        }
    }
    lay(image, HEADER, &header);

    let mut hashes = vec![0; HASHES_BYTES];
    put(&mut hashes, 4, 0, 32, (HASHES_BYTES - UNCOUNTED) as u64 / 4);
    let sum = crc::image(&hashes[..HASHES_HEAD - 4]);
    put(&mut hashes, HASHES_HEAD - 4, 0, 16, u64::from(sum));
    put(&mut hashes, HASHES_HEAD + 4, 16, 16, HASH_BYTES as u64);
    let sum = crc::image(&hashes[..HASHES_BYTES - 4]);
    put(&mut hashes, HASHES_BYTES - 4, 0, 16, u64::from(sum));
    lay(image, HASHES, &hashes);
}

/// Checks both.
pub(super) fn check<I: Image + ?Sized>(image: &I, targets: &[usize]) -> Result<(), Bad> {
    let target = |i: usize| targets.get(i).copied().ok_or(Bad::Format);
    let header = part(image, target(HEADER_POINTER)?, HEADER_BYTES)?;
    if !header.starts_with(&HEADER_MAGIC) {
        return Err(Bad::Format);
    }
    let length = header.get(LENGTH..).and_then(|r| r.first_chunk());
    let length = u32::from_le_bytes(*length.ok_or(Bad::Format)?) as usize;
    let hashes = target(HASHES_POINTER)?;
    let head = checked(image, hashes, HASHES_HEAD)?;
    let size = take(&head, 4, 0, 32) as usize;
    let size = size.saturating_mul(4).saturating_add(UNCOUNTED);
    checked(image, hashes, size)?;
    // Both stand behind each other.
    let boot2 = hashes.checked_sub(target(BOOT2_POINTER)?);
    if boot2.and_then(|b| b.checked_add(size)) != Some(length) {
        return Err(Bad::Format);
    }
    Ok(())
}
