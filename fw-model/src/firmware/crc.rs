// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The two checksums of a firmware image, both of the polynomial 0x100b.

const POLYNOMIAL: u16 = 0x100b;

/// What eight bits that leave the register at its top change in it.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// The checksum of tables, sections and the boot loader: over big-endian dwords, that is over the
/// bytes in order.
#[must_use]
pub fn image(bytes: &[u8]) -> u16 {
    let all = bytes.iter().chain(&[0; 2]);
    let crc = all.fold(0xffff_u16, |crc, b| {
        let out = usize::from(crc >> 8);
        (crc << 8 | u16::from(*b)) ^ TABLE.get(out).copied().unwrap_or(0)
    });
    !crc
}

/// The checksum of a pointer that the hardware reads: reflected, its first two bytes inverted, and
/// with its bytes swapped at the end.
#[must_use]
pub fn pointer(bytes: &[u8]) -> u16 {
    const REFLECTED: u16 = POLYNOMIAL.reverse_bits();
    let mut crc = 0xffff_u16;
    for (i, b) in bytes.iter().enumerate() {
        crc ^= u16::from(if i < 2 { !b } else { *b });
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= REFLECTED;
            }
        }
    }
    crc.swap_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_device_toc_has_the_checksum_that_tools_give_it() {
        // Signature, layout version 1, version 1; its last dword is 0xbd90 on every such device.
        let header = [
            0x44, 0x54, 0x4f, 0x43, 0x04, 0x08, 0x15, 0x16, 0x23, 0x42, 0xca, 0xfa, 0xba, 0xca,
            0xfe, 0x00, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(image(&header), 0xbd90);
        // Of nothing at all, as tools know it.
        assert_eq!(image(&[]), 0x0955);
    }
}
