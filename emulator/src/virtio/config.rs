// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device's config space.

/// The `size` bytes from `offset`. Exactly that many come back whatever is asked: a front-end
/// reads its own idea of the space's size in one go, and QEMU or cloud-hypervisor abort when they
/// get another number of bytes. What lies behind the fields is 0.
#[must_use]
pub fn read(config: &[u8], offset: u32, size: u32) -> Vec<u8> {
    let at = |i: u32| config.get(offset.checked_add(i)? as usize).copied();
    (0..size).map(|i| at(i).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn exactly_as_many_bytes_as_asked() {
        let config = [1, 2, 3, 4];
        assert_eq!(read(&config, 0, 4), [1, 2, 3, 4]);
        assert_eq!(read(&config, 1, 2), [2, 3]);
        assert_eq!(read(&config, 2, 4), [3, 4, 0, 0]);
        assert_eq!(read(&config, 4, 1), [0]);
        assert_eq!(read(&config, u32::MAX, 2), [0, 0]);
        assert!(read(&config, 0, 0).is_empty());
    }
}
