// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The two ioctls of `include/uapi/fwctl/fwctl.h`, and the only unsafe code of this crate.

#![allow(unsafe_code)]

use std::{fs::File, os::fd::AsRawFd};

use crate::Errno;

/// Longest inbox and outbox that the fwctl core takes, in bytes; longer ones get `EMSGSIZE`
/// (`MAX_RPC_LEN` of `drivers/fwctl/main.c`).
pub const MAX_RPC_LEN: usize = 2 << 20;

/// `FWCTL_TYPE`: the ioctl type byte.
const FWCTL_TYPE: u32 = 0x9a;
/// `FWCTL_INFO`, made by `_IO`: no direction and no size.
const FWCTL_INFO: u32 = FWCTL_TYPE << 8;
/// `FWCTL_RPC`.
const FWCTL_RPC: u32 = FWCTL_TYPE << 8 | 1;

/// `struct fwctl_info`.
#[repr(C)]
struct FwctlInfo {
    size: u32,
    flags: u32,
    out_device_type: u32,
    device_data_len: u32,
    out_device_data: u64,
}

/// `struct fwctl_rpc`.
#[repr(C)]
struct FwctlRpc {
    size: u32,
    scope: u32,
    in_len: u32,
    out_len: u32,
    input: u64,
    output: u64,
}

const _: () = assert!(size_of::<FwctlInfo>() == 24 && align_of::<FwctlInfo>() == 8);
const _: () = assert!(size_of::<FwctlRpc>() == 32 && align_of::<FwctlRpc>() == 8);

/// FWCTL_INFO: fills `data`, zero-padded, and returns the device type and the length of what the
/// driver has, which may be longer than `data`. The kernel reports length 0 for an empty `data`.
pub fn info(file: &File, data: &mut [u8]) -> Result<(u32, u32), Errno> {
    let mut cmd = FwctlInfo {
        size: size_of::<FwctlInfo>() as u32,
        flags: 0,
        out_device_type: 0,
        device_data_len: u32::try_from(data.len()).map_err(|_| Errno::EMSGSIZE)?,
        out_device_data: data.as_mut_ptr() as u64,
    };
    // SAFETY: `cmd` is a live struct fwctl_info whose size field holds its size, so the kernel
    // reads and writes inside it; out_device_data points to `device_data_len` writable bytes,
    // borrowed mutably until the call has returned.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), FWCTL_INFO.into(), &raw mut cmd) };
    if rc < 0 {
        return Err(Errno::of(&std::io::Error::last_os_error()));
    }
    Ok((cmd.out_device_type, cmd.device_data_len))
}

/// FWCTL_RPC: sends `inbox` and returns the full length of the answer, of which the kernel has
/// copied what fits into `outbox`.
pub fn rpc(file: &File, scope: u32, inbox: &[u8], outbox: &mut [u8]) -> Result<u32, Errno> {
    let mut cmd = FwctlRpc {
        size: size_of::<FwctlRpc>() as u32,
        scope,
        in_len: u32::try_from(inbox.len()).map_err(|_| Errno::EMSGSIZE)?,
        out_len: u32::try_from(outbox.len()).map_err(|_| Errno::EMSGSIZE)?,
        input: inbox.as_ptr() as u64,
        output: outbox.as_mut_ptr() as u64,
    };
    // SAFETY: `cmd` is a live struct fwctl_rpc whose size field holds its size; `input` points to
    // `in_len` readable bytes that the kernel only reads, `output` to `out_len` writable bytes of
    // which it writes at most that many; both are borrowed until the call has returned, and no
    // driver keeps the addresses (the core copies both buffers itself).
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), FWCTL_RPC.into(), &raw mut cmd) };
    if rc < 0 {
        return Err(Errno::of(&std::io::Error::last_os_error()));
    }
    Ok(cmd.out_len)
}

/// A request that no sound program makes, to see what the kernel says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// An ioctl number behind those that there are.
    UnknownNumber,
    /// FWCTL_RPC with a direction and a size in its number, which it does not have.
    SizedNumber,
    /// A structure that is shorter than its first version.
    ShortStruct,
    /// A structure longer than the kernel's, zero behind the fields that it knows: from a newer
    /// program, and right.
    LongZeros,
    /// The same with a byte behind them that is not zero.
    LongGarbage,
    /// FWCTL_INFO with a flag.
    InfoFlags,
    /// A structure at an address that is not mapped.
    StructPointer,
    /// An inbox at an address that is not mapped.
    InPointer,
    /// An outbox at an address that is not mapped.
    OutPointer,
}

/// An address in the first page, which no program of ours maps.
const UNMAPPED: u64 = 8;
/// A structure longer than the kernel's.
const LONG: usize = size_of::<FwctlRpc>() + 8;

/// Sends FWCTL_RPC (or FWCTL_INFO) at `scope` with a 16-byte `inbox`, wrong in one way.
pub fn malformed(file: &File, which: Malformed, scope: u32, inbox: [u8; 16]) -> Result<(), Errno> {
    let mut outbox = [0u8; 16];
    let mut cmd = [0u8; LONG];
    let size = match which {
        Malformed::ShortStruct => size_of::<FwctlRpc>() - 1,
        Malformed::LongZeros | Malformed::LongGarbage => LONG,
        Malformed::InfoFlags => size_of::<FwctlInfo>(),
        _ => size_of::<FwctlRpc>(),
    };
    cmd[LONG - 1] = u8::from(which == Malformed::LongGarbage);
    let mut word = |at: usize, n: u32| cmd[at..at + 4].copy_from_slice(&n.to_ne_bytes());
    word(0, size as u32);
    if which == Malformed::InfoFlags {
        word(4, 1);
    } else {
        word(4, scope);
        word(8, inbox.len() as u32);
        word(12, outbox.len() as u32);
        let mut pointer = |at: usize, n: u64| cmd[at..at + 8].copy_from_slice(&n.to_ne_bytes());
        let or = |wrong, right| if which == wrong { UNMAPPED } else { right };
        pointer(16, or(Malformed::InPointer, inbox.as_ptr() as u64));
        pointer(24, or(Malformed::OutPointer, outbox.as_mut_ptr() as u64));
    }
    let number = match which {
        Malformed::UnknownNumber => FWCTL_TYPE << 8 | 0x7f,
        Malformed::SizedNumber => 3 << 30 | (size_of::<FwctlRpc>() as u32) << 16 | FWCTL_RPC,
        Malformed::InfoFlags => FWCTL_INFO,
        _ => FWCTL_RPC,
    };
    let cmd = if which == Malformed::StructPointer {
        UNMAPPED
    } else {
        cmd.as_mut_ptr() as u64
    };
    // SAFETY: the size field never exceeds the LONG bytes of `cmd`; its pointers are those of
    // `inbox` and `outbox` with their lengths, all alive until the call has returned, or an address
    // in the first page, where the kernel finds nothing to read or write.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), number.into(), cmd) };
    if rc < 0 {
        return Err(Errno::of(&std::io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        // _IO(0x9A, 0) and _IO(0x9A, 1): no direction, no size.
        assert_eq!((FWCTL_INFO, FWCTL_RPC), (0x9a00, 0x9a01));
        assert_eq!(std::mem::offset_of!(FwctlInfo, out_device_data), 16);
        assert_eq!(std::mem::offset_of!(FwctlRpc, input), 16);
        assert_eq!(std::mem::offset_of!(FwctlRpc, output), 24);
    }

    #[test]
    fn another_file_is_not_a_fwctl_device() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(info(&null, &mut [0; 8]), Err(Errno::ENOTTY));
        assert_eq!(rpc(&null, 0, &[0; 16], &mut [0; 16]), Err(Errno::ENOTTY));
        assert_eq!(rpc(&null, 0, &[], &mut []), Err(Errno::ENOTTY));
        for which in [Malformed::StructPointer, Malformed::LongGarbage] {
            assert_eq!(malformed(&null, which, 0, [0; 16]), Err(Errno::ENOTTY));
        }
    }
}
