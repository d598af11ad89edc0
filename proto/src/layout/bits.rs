// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bits of big-endian dwords, as `MLX5_GET` and `MLX5_SET` of `mlx5/device.h` count them.

/// Bits of a dword from bit `offset` on.
#[inline]
const fn room(offset: u32) -> u32 {
    32 - (offset & 31)
}

/// Reads `width` bits at bit `offset`; what lies outside `buf` reads as 0, and so does a width of
/// 0 or of more than 64.
#[must_use]
#[inline]
pub fn get_bits(buf: &[u8], offset: u32, width: u32) -> u64 {
    let room = room(offset);
    if width == 0 || width > room {
        return get_wide(buf, offset, width);
    }
    let Some(dword) = dword(buf, offset) else {
        return 0;
    };
    u64::from(dword >> (room - width)) & mask(width)
}

/// A field of several dwords, most significant first.
fn get_wide(buf: &[u8], offset: u32, width: u32) -> u64 {
    if width > 64 {
        return 0;
    }
    let (mut at, mut left, mut value) = (offset, width, 0);
    while left != 0 {
        let n = room(at).min(left);
        value = value << n | get_bits(buf, at, n);
        at = at.saturating_add(n);
        left -= n;
    }
    value
}

/// Writes the low `width` bits of `value` at bit `offset`; what lies outside `buf` is dropped, and
/// so is a width of 0 or of more than 64.
#[inline]
pub fn set_bits(buf: &mut [u8], offset: u32, width: u32, value: u64) {
    let room = room(offset);
    if width == 0 || width > room {
        set_wide(buf, offset, width, value);
        return;
    }
    let below = room - width;
    let m = (mask(width) as u32) << below;
    let Some(old) = dword(buf, offset) else {
        return;
    };
    let new = old & !m | ((value as u32) << below) & m;
    let at = (offset / 32 * 4) as usize;
    let bytes = new.to_be_bytes();
    for (to, from) in buf.iter_mut().skip(at).zip(bytes) {
        *to = from;
    }
}

fn set_wide(buf: &mut [u8], offset: u32, width: u32, value: u64) {
    if width > 64 {
        return;
    }
    let (mut at, mut left) = (offset, width);
    while left != 0 {
        let n = room(at).min(left);
        left -= n;
        set_bits(buf, at, n, value >> left);
        at = at.saturating_add(n);
    }
}

#[inline]
fn mask(width: u32) -> u64 {
    if width >= 32 {
        0xffff_ffff
    } else {
        (1 << width) - 1
    }
}

/// The dword that bit `offset` is in. At the end of a buffer that is not a multiple of four bytes
/// the missing bytes count as 0.
#[inline]
fn dword(buf: &[u8], offset: u32) -> Option<u32> {
    let at = (offset / 32 * 4) as usize;
    if let Some(b) = buf.get(at..at + 4) {
        return b.try_into().ok().map(u32::from_be_bytes);
    }
    let rest = buf.get(at..).filter(|r| !r.is_empty())?;
    let mut b = [0; 4];
    for (to, from) in b.iter_mut().zip(rest) {
        *to = *from;
    }
    Some(u32::from_be_bytes(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_are_counted_from_the_most_significant() {
        // MLX5_SET(cmd_in, in, opcode, 0x301) puts 03 01 first; op_mod is the last 16 bits of
        // the second dword.
        let mut b = [0u8; 12];
        set_bits(&mut b, 0, 16, 0x301);
        set_bits(&mut b, 48, 16, 0xabcd);
        set_bits(&mut b, 0x43, 5, 0b1_0101);
        assert_eq!(b, [3, 1, 0, 0, 0, 0, 0xab, 0xcd, 0b0001_0101, 0, 0, 0]);
        set_bits(&mut b, 32, 64, 0x0102_0304_0506_0708);
        assert_eq!(b, [3, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(get_bits(&b, 32, 64), 0x0102_0304_0506_0708);
        assert_eq!(get_bits(&b, 40, 24), 0x02_0304);
        assert_eq!(get_bits(&b, 0x1f, 2), 0);
        assert_eq!(get_bits(&b, 16, 40), 0x00_0001_0203);
    }

    #[test]
    fn a_value_is_cut_to_the_width() {
        let mut b = [0u8; 4];
        set_bits(&mut b, 8, 4, 0xfff5);
        assert_eq!(b, [0, 0x50, 0, 0]);
    }

    #[test]
    fn outside_reads_as_zero_and_is_not_written() {
        let mut b = [0xffu8; 6];
        assert_eq!(get_bits(&b, 64, 32), 0);
        assert_eq!(get_bits(&b, 32, 32), 0xffff_0000);
        assert_eq!(get_bits(&b, u32::MAX, 64), 0);
        set_bits(&mut b, 32, 32, 0);
        set_bits(&mut b, 96, 64, 0);
        assert_eq!(b, [0xff, 0xff, 0xff, 0xff, 0, 0]);
        for width in [0, 65, u32::MAX] {
            assert_eq!(get_bits(&b, 0, width), 0);
            set_bits(&mut b, 0, width, 0);
        }
        assert_eq!(b, [0xff, 0xff, 0xff, 0xff, 0, 0]);
    }

    /// One bit at a time, as the header counts: slow and plain.
    fn bit(b: &[u8], at: usize) -> u64 {
        b.get(at / 8)
            .map_or(0, |x| u64::from(x >> (7 - at % 8) & 1))
    }

    proptest! {
        #[test]
        fn reads_are_those_of_single_bits(
            b in proptest::collection::vec(any::<u8>(), 0..24),
            offset in 0u32..200,
            width in 1u32..=64,
        ) {
            let plain = (0..width).fold(0, |v, i| v << 1 | bit(&b, (offset + i) as usize));
            prop_assert_eq!(get_bits(&b, offset, width), plain);
        }

        #[test]
        fn a_write_changes_its_bits_alone(
            b in proptest::collection::vec(any::<u8>(), 0..24),
            offset in 0u32..200,
            width in 1u32..=64,
            value: u64,
        ) {
            let mut after = b.clone();
            set_bits(&mut after, offset, width, value);
            for at in 0..b.len() * 8 {
                let i = at.wrapping_sub(offset as usize);
                let want = if i < width as usize {
                    value >> (width as usize - 1 - i) & 1
                } else {
                    bit(&b, at)
                };
                prop_assert_eq!(bit(&after, at), want, "bit {}", at);
            }
        }

        #[test]
        fn nothing_panics(
            mut b in proptest::collection::vec(any::<u8>(), 0..24),
            offset: u32,
            width: u32,
            value: u64,
        ) {
            let before = b.clone();
            set_bits(&mut b, offset, width, value);
            let _ = get_bits(&b, offset, width);
            prop_assert!(offset < 192 || b == before);
        }
    }
}
