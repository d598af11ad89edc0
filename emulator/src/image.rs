// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Firmware images for a card: in the format that mstflint burns, or packed as MFA2 as
//! `devlink dev flash` takes it (`mlxfw_mfa2_format.h`).

use std::io;

use fw_model::{
    Profile,
    firmware::{
        BOOT_IMAGE,
        flash::{MAX_IMAGE, spec},
        fs4,
    },
};

/// An image of this version for a card.
#[must_use]
pub fn fs4(p: &Profile, version: [u16; 3]) -> Vec<u8> {
    let image = fs4::build(&spec(p, version));
    debug_assert!(image.len() <= MAX_IMAGE);
    image
}

const FINGERPRINT: &[u8; 16] = b"MLNX.MFA2.XZ.00!";
const COMPONENT_MAGIC: &[u8; 16] = b"#BIN.COMPONENT!#";
/// Types of TLVs.
const MULTI: u8 = 0x01;
const PACKAGE: u8 = 0x02;
const COMPONENT: u8 = 0x04;
const COMPONENT_POINTER: u8 = 0x22;
const PSID: u8 = 0x2a;
/// Everything begins at a multiple of this.
const ALIGN: usize = 4;

/// A TLV: version, type, length of its payload, payload, and bytes up to the next one.
fn tlv(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut t = vec![0, kind];
    t.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    t.extend_from_slice(payload);
    t.resize(t.len().next_multiple_of(ALIGN), 0);
    t
}

/// TLVs that belong together.
fn multi(children: &[Vec<u8>]) -> Vec<u8> {
    let inside = children.concat();
    let mut payload = (children.len() as u16).to_be_bytes().to_vec();
    payload.extend_from_slice(&(inside.len() as u16).to_be_bytes());
    let mut t = tlv(MULTI, &payload);
    t.extend_from_slice(&inside);
    t
}

/// A file with one image for the cards with one PSID.
///
/// # Errors
/// What the compression says.
pub fn mfa2(psid: &str, image: &[u8]) -> io::Result<Vec<u8>> {
    let content = [COMPONENT_MAGIC, image].concat();
    let mut packed = Vec::new();
    lzma_rs::xz_compress(&mut content.as_slice(), &mut packed)?;
    let word = |v: usize| (v as u32).to_be_bytes();
    let device = multi(&[
        tlv(PSID, psid.as_bytes()),
        // Storage, index of the component, address in it.
        tlv(COMPONENT_POINTER, &[0; 8]),
    ]);
    let mut descriptor = vec![0, 0];
    descriptor.extend_from_slice(&BOOT_IMAGE.to_be_bytes());
    descriptor.extend_from_slice(&[word(0), word(0), word(image.len())].concat());
    let component = multi(&[tlv(COMPONENT, &descriptor)]);
    let package = |block: usize| {
        let mut p = vec![0, 1, 0, 1];
        let sizes = [
            word(block),
            word(packed.len()),
            word(0),
            word(content.len()),
        ];
        p.extend_from_slice(&sizes.concat());
        // Compression: XZ; no data of the user.
        p.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
        multi(&[tlv(PACKAGE, &p)])
    };
    let head = |block| [&FINGERPRINT[..], &package(block), &device, &component].concat();
    let mut file = head(head(0).len());
    file.extend_from_slice(&packed);
    Ok(file)
}

/// A version as `28.44.1000`.
///
/// # Errors
/// What is wrong with it.
pub fn version(text: &str) -> Result<[u16; 3], String> {
    let no = |why| format!("{text:?} is no version: {why}, as in 28.44.1000");
    let parts: Vec<&str> = text.split('.').collect();
    let numbers = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    if parts.len() != 3 || !parts.iter().all(numbers) {
        return Err(no("three numbers"));
    }
    let parts: Result<Vec<u16>, _> = parts.into_iter().map(str::parse).collect();
    let three = parts.ok().and_then(|p| p.try_into().ok());
    three.ok_or_else(|| no("a number may be 65535 at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_laid_out_as_mlxfw_reads_it() {
        let image: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        let file = mfa2("EMU0000000007", &image).unwrap();
        assert_eq!(&file[..16], b"MLNX.MFA2.XZ.00!");
        // Package: a multi TLV with one child of 4 + 28 bytes.
        assert_eq!(file[16..24], [0, 1, 0, 4, 0, 1, 0, 32]);
        assert_eq!(file[24..32], [0, 2, 0, 28, 0, 1, 0, 1]);
        let word = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (block, packed, size) = (word(32), word(36), word(44));
        assert_eq!((block + packed, size), (file.len(), 16 + 1000));
        // Device: PSID of 13 characters in 4 + 16 bytes, and 4 + 8 for the component.
        assert_eq!(file[56..64], [0, 1, 0, 4, 0, 2, 0, 32]);
        assert_eq!(&file[64..68], [0, 0x2a, 0, 13]);
        assert_eq!(&file[68..81], b"EMU0000000007");
        assert_eq!(file[84..88], [0, 0x22, 0, 8]);
        let mut content = Vec::new();
        lzma_rs::xz_decompress(&mut &file[block..], &mut content).unwrap();
        assert_eq!(&content[..16], b"#BIN.COMPONENT!#");
        assert_eq!(content[16..], image);
    }

    #[test]
    fn versions_have_three_numbers() {
        assert_eq!(version("28.44.1000"), Ok([28, 44, 1000]));
        for bad in ["", "28.44", "28.44.1.0", "28.44.65536", "a.b.c"] {
            assert!(version(bad).is_err(), "{bad}");
        }
        let why = |text| version(text).unwrap_err();
        assert_eq!(
            why("28.70000.1"),
            "\"28.70000.1\" is no version: a number may be 65535 at most, as in 28.44.1000"
        );
        for bad in ["28.44", "+1.2.3", "28..1"] {
            assert!(why(bad).contains("three numbers"), "{bad}");
        }
    }
}
