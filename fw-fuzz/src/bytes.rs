// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A fuzzer's bytes one by one. `Unstructured` gives the same, but by a copy to somewhere, which AddressSanitizer
//! looks at: forty for an input.

use arbitrary::Unstructured;

/// The next byte; 0 behind the last.
pub fn byte(u: &mut Unstructured<'_>) -> u8 {
    match u.bytes(1) {
        Ok([b]) => *b,
        _ => 0,
    }
}

/// The next two, little-endian.
pub fn short(u: &mut Unstructured<'_>) -> u16 {
    u16::from_le_bytes([byte(u), byte(u)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_arbitrary_gives() {
        for len in 0..4 {
            let bytes = &[0x12, 0x34, 0x56][..len];
            let (mut a, mut b) = (Unstructured::new(bytes), Unstructured::new(bytes));
            assert_eq!(short(&mut a), b.arbitrary::<u16>().unwrap());
            assert_eq!(byte(&mut a), b.arbitrary::<u8>().unwrap());
            assert_eq!(a.len(), b.len());
        }
    }
}
