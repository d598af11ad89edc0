// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Names by content: the same on every machine and with every compiler.

/// FNV-1a of 64 bits, as published. It tells inputs apart; who wants two of one name finds them.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fold = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_authors_vectors_hold() {
        let all = [&b""[..], b"a", b"foobar"].map(super::hash);
        assert_eq!(
            all,
            [
                0xcbf2_9ce4_8422_2325,
                0xaf63_dc4c_8601_ec8c,
                0x8594_4171_f739_67e8
            ]
        );
    }
}
