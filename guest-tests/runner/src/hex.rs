// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bytes as text, and a short stable name for many bytes.

use std::fmt::Write;

/// Bytes of a line of [`dump`].
const LINE: usize = 16;

/// Lower-case hex digits without separators.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
}

/// Reads hex digits; white space, `:` and `_` between bytes are allowed.
///
/// # Errors
/// A sentence that names the first character that is none, or an odd number of digits.
pub fn decode(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, ':' | '_'))
        .map(|c| {
            c.to_digit(16)
                .map(|d| d as u8)
                .ok_or_else(|| format!("{c:?} is not a hex digit"))
        })
        .collect::<Result<_, _>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("{} hex digits are no whole bytes", digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Lines of an offset and sixteen bytes, for at most `limit` bytes.
#[must_use]
pub fn dump(bytes: &[u8], limit: usize) -> Vec<String> {
    let shown = &bytes[..bytes.len().min(limit)];
    let mut lines: Vec<String> = shown
        .chunks(LINE)
        .enumerate()
        .map(|(i, chunk)| format!("{:04x}: {}", i * LINE, encode(chunk)))
        .collect();
    if shown.len() < bytes.len() {
        lines.push(format!("… {} bytes more", bytes.len() - shown.len()));
    }
    lines
}

/// FNV-1a, 64 bits: the digest by which replies are compared between two guests.
#[must_use]
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        assert_eq!(encode(&[0, 0xa5, 0xff]), "00a5ff");
        assert_eq!(decode("00 a5:FF"), Ok(vec![0, 0xa5, 0xff]));
        assert_eq!(decode("0"), Err("1 hex digits are no whole bytes".into()));
        assert_eq!(decode("0g"), Err("'g' is not a hex digit".into()));
    }

    #[test]
    fn dump_is_bounded() {
        assert_eq!(
            dump(&[1; 18], 17),
            [
                "0000: 01010101010101010101010101010101",
                "0010: 01",
                "… 1 bytes more"
            ]
        );
    }

    #[test]
    fn digest_is_fnv1a() {
        // Published vectors of FNV-1a 64.
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
