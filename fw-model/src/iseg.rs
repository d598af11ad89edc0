// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The initialization segment: the first 0x2010 bytes of BAR0 (`struct mlx5_init_seg`).
//!
//! Registers are big-endian dwords. Reads have no side effect and any width and alignment.

use crate::{
    function::Function,
    limits::{LOG_SLOTS, LOG_STRIDE},
    profile::Profile,
    time::Time,
};

/// Bytes of the segment.
pub const SEGMENT_BYTES: u32 = 0x2010;

/// Interface revision that drivers expect (`CMD_IF_REV`).
pub const CMDIF_REV: u32 = 5;

/// `cmdq_addr_h`.
pub const CMDQ_ADDR_H: u32 = 0x10;
/// `cmdq_addr_l_sz`.
pub const CMDQ_ADDR_L_SZ: u32 = 0x14;
/// `cmd_dbell`.
pub const CMD_DBELL: u32 = 0x18;
/// `initializing`.
pub const INITIALIZING: u32 = 0x1fc;
/// `health`.
pub const HEALTH: u32 = 0x200;
/// `internal_timer_h`.
pub const TIMER_H: u32 = 0x1000;
/// `internal_timer_l`.
pub const TIMER_L: u32 = 0x1004;
/// `health_counter`.
pub const HEALTH_COUNTER: u32 = 0x1010;

/// Milliseconds per step of the health counter; a driver polls it every two seconds.
const HEALTH_STEP_MS: u64 = 10;

/// The dword at `offset` (a multiple of 4).
fn dword(f: &Function, p: &Profile, offset: u32, now: Time) -> u32 {
    let [major, minor, sub] = p.firmware.version;
    match offset {
        0x0 => u32::from(minor) << 16 | u32::from(major),
        0x4 => CMDIF_REV << 16 | u32::from(sub),
        CMDQ_ADDR_H => (f.segment.cmdq >> 32) as u32,
        CMDQ_ADDR_L_SZ => {
            (f.segment.cmdq as u32 & 0xffff_f000)
                | u32::from(f.segment.nic_interface) << 8
                | u32::from(LOG_SLOTS) << 4
                | u32::from(LOG_STRIDE)
        }
        TIMER_H => (ticks(p, now) >> 32) as u32,
        TIMER_L => ticks(p, now) as u32,
        HEALTH_COUNTER => (now.as_millis() / HEALTH_STEP_MS) as u32 & 0x00ff_ffff,
        // health.fw_ver and health.hw_id, as a healthy function shows them.
        0x230 => u32::from(major) << 24 | u32::from(minor as u8) << 16 | u32::from(sub),
        0x234 => p.pci.hw_id,
        _ => 0,
    }
}

/// The free-running counter at the frequency that `device_frequency_khz` names.
fn ticks(p: &Profile, now: Time) -> u64 {
    (u128::from(now.0) * u128::from(p.frequency_khz) / 1_000_000) as u64
}

/// Fills `buf` from byte `offset` of the segment; bytes past its end are 0.
pub fn read(f: &Function, p: &Profile, offset: u32, buf: &mut [u8], now: Time) {
    for (i, b) in buf.iter_mut().enumerate() {
        let at = u64::from(offset) + i as u64;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        *b = if at < SEGMENT_BYTES {
            dword(f, p, at & !3, now).to_be_bytes()[(at & 3) as usize]
        } else {
            0
        };
    }
}

/// Writes `data` at byte `offset`; true if the command doorbell was written, with its value.
///
/// A write that covers part of a dword changes those bytes of it alone; for the doorbell the
/// other bytes count as 0.
pub fn write(f: &mut Function, p: &Profile, offset: u32, data: &[u8], now: Time) -> Option<u32> {
    let mut doorbell: Option<u32> = None;
    for (i, b) in data.iter().enumerate() {
        let Some(at) = offset.checked_add(i as u32) else {
            break;
        };
        let shift = 24 - 8 * (at & 3);
        let merge = |old: u32| old & !(0xff << shift) | u32::from(*b) << shift;
        match at & !3 {
            CMDQ_ADDR_H => {
                let high = merge((f.segment.cmdq >> 32) as u32);
                f.segment.cmdq = u64::from(high) << 32 | f.segment.cmdq & 0xffff_ffff;
            }
            CMDQ_ADDR_L_SZ => {
                let v = merge(dword(f, p, CMDQ_ADDR_L_SZ, now));
                f.segment.cmdq = f.segment.cmdq & !0xffff_ffff | u64::from(v & 0xffff_f000);
                f.segment.nic_interface = (v >> 8 & 7) as u8;
            }
            CMD_DBELL => doorbell = Some(merge(doorbell.unwrap_or(0))),
            _ => {}
        }
    }
    doorbell
}
