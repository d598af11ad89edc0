// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Vital product data: what lspci, devlink and mstvpd show of the board. Format: PCI Local Bus 3.0,
//! appendix I.

use crate::Profile;

/// Large resource: identifier string.
const NAME: u8 = 0x82;
/// Large resource: read-only fields.
const READ_ONLY: u8 = 0x90;
/// Small resource: the end.
const END: u8 = 0x78;

/// The board's revision.
pub const REVISION: &str = "A0";

/// The serial number that all functions of a card share.
#[must_use]
pub fn serial_number(p: &Profile) -> String {
    let mac: String = p.mac_base().iter().map(|b| format!("{b:02X}")).collect();
    format!("EMU{mac}")
}

/// The part number: the PSID, which tells boards apart, and begins with the maker's name already.
#[must_use]
pub fn part_number(p: &Profile) -> String {
    let psid = &p.firmware.psid;
    format!("EMU-{}", psid.strip_prefix("EMU").unwrap_or(psid))
}

/// The whole image.
#[must_use]
pub fn image(p: &Profile) -> Vec<u8> {
    let mac: String = p.mac_base().iter().map(|b| format!("{b:02x}")).collect();
    let mut fields = Vec::new();
    for (keyword, text) in [
        (*b"PN", part_number(p)),
        (*b"EC", REVISION.into()),
        (*b"SN", serial_number(p)),
        // What tells cards apart for mlx5_core: a UUID of a vendor's own kind, without its dashes.
        (*b"V3", format!("{mac}80008000000000000000")),
    ] {
        field(&mut fields, keyword, text.as_bytes());
    }
    let mut v = Vec::new();
    resource(&mut v, NAME, short(&p.description).as_bytes());
    // The checksum's own field is one byte behind a head of three.
    let len = fields.len() + 4;
    v.push(READ_ONLY);
    v.extend_from_slice(&(len as u16).to_le_bytes());
    v.append(&mut fields);
    v.extend_from_slice(b"RV\x01");
    // All bytes up to here and this one add up to 0.
    let sum = v.iter().fold(0u8, |s, b| s.wrapping_add(*b));
    v.push(sum.wrapping_neg());
    v.push(END);
    v
}

/// As much of a description as a field of a board's label holds.
fn short(text: &str) -> &str {
    const MOST: usize = 200;
    let end = (0..=MOST.min(text.len())).rfind(|i| text.is_char_boundary(*i));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn resource(to: &mut Vec<u8>, tag: u8, data: &[u8]) {
    to.push(tag);
    to.extend_from_slice(&(data.len() as u16).to_le_bytes());
    to.extend_from_slice(data);
}

/// A field of at most 255 bytes.
fn field(to: &mut Vec<u8>, keyword: [u8; 2], data: &[u8]) {
    let data = data.get(..data.len().min(0xff)).unwrap_or_default();
    to.extend_from_slice(&keyword);
    to.push(data.len() as u8);
    to.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_fields_and_checksum() {
        let p = Profile::builtin("connectx7").unwrap();
        let v = image(&p);
        let name = usize::from(u16::from_le_bytes([v[1], v[2]]));
        assert_eq!((v[0], &v[3..3 + name]), (0x82, p.description.as_bytes()));
        let (mut at, mut fields) = (3 + name, vec![]);
        assert_eq!(v[at], 0x90);
        let end = at + 3 + usize::from(u16::from_le_bytes([v[at + 1], v[at + 2]]));
        at += 3;
        while at < end {
            let len = usize::from(v[at + 2]);
            fields.push((&v[at..at + 2], &v[at + 3..at + 3 + len]));
            at += 3 + len;
        }
        assert_eq!(&v[at..], [0x78]);
        let expected: &[(&[u8], &[u8])] = &[
            (b"PN", b"EMU-0000000007"),
            (b"EC", b"A0"),
            (b"SN", b"EMU02C907000000"),
            (b"V3", b"02c90700000080008000000000000000"),
        ];
        assert_eq!(&fields[..4], expected);
        let (last, checksum) = fields[4];
        assert_eq!((last, checksum.len(), fields.len()), (&b"RV"[..], 1, 5));
        let sum = v[..end].iter().fold(0u8, |s, b| s.wrapping_add(*b));
        assert_eq!(sum, 0);
    }

    #[test]
    fn a_long_description_is_cut_at_a_character() {
        assert_eq!(short(&"é".repeat(150)).len(), 200);
        assert_eq!(short(&format!("x{}", "é".repeat(150))).len(), 199);
        assert_eq!(short("ab"), "ab");
    }
}
