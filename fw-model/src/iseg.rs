// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The initialization segment: the first 0x2010 bytes of BAR0 (`struct mlx5_init_seg`).
//!
//! Registers are big-endian dwords. Reads have no side effect and any width and alignment.

use fwctl_proto::segment;

use crate::{
    card::Shared,
    diagnostics,
    function::Function,
    limits::{LOG_SLOTS, LOG_STRIDE},
    profile::Profile,
    time::Time,
};

/// Bytes of the segment.
pub const SEGMENT_BYTES: u32 = segment::BYTES as u32;

// Offsets in a segment of a few KiB.
const FW_REV: u32 = segment::FW_REV as u32;
const CMDIF_REV_FW_SUB: u32 = segment::CMDIF_REV_FW_SUB as u32;
const CMDQ_ADDR_H: u32 = segment::CMDQ_ADDR_H as u32;
const CMDQ_ADDR_L_SZ: u32 = segment::CMDQ_ADDR_L_SZ as u32;
const CMD_DBELL: u32 = segment::CMD_DBELL as u32;
const TIMER_H: u32 = segment::INTERNAL_TIMER_H as u32;
const TIMER_L: u32 = segment::INTERNAL_TIMER_L as u32;
const HEALTH_COUNTER: u32 = segment::HEALTH_COUNTER as u32;
const INITIALIZING: u32 = segment::INITIALIZING as u32;
const CMD_EXEC_TO: u32 = segment::CMD_EXEC_TO as u32;
const CMD_Q_INIT_TO: u32 = segment::CMD_Q_INIT_TO as u32;
const HEALTH: u32 = segment::HEALTH as u32;
const HEALTH_END: u32 = HEALTH + segment::health::BYTES as u32;
const HEALTH_FW_VER: u32 = (segment::HEALTH + segment::health::FW_VER) as u32;
const HEALTH_HW_ID: u32 = (segment::HEALTH + segment::health::HW_ID) as u32;

/// Milliseconds per step of the health counter; a driver polls it every two seconds.
const HEALTH_STEP_MS: u64 = 10;

/// The dword at `offset` (a multiple of 4).
fn dword(f: &Function, s: &Shared, p: &Profile, offset: u32, now: Time) -> u32 {
    let [major, minor, sub] = s.firmware.running.version;
    match offset {
        FW_REV => u32::from(minor) << 16 | u32::from(major),
        CMDIF_REV_FW_SUB => u32::from(segment::CMDIF_REV) << 16 | u32::from(sub),
        CMDQ_ADDR_H => (f.segment.cmdq >> 32) as u32,
        CMDQ_ADDR_L_SZ => {
            (f.segment.cmdq as u32 & 0xffff_f000)
                | u32::from(nic_interface(f, s)) << segment::NIC_IFC_SHIFT
                | u32::from(LOG_SLOTS) << 4
                | u32::from(LOG_STRIDE)
        }
        TIMER_H => (ticks(p, now) >> 32) as u32,
        TIMER_L => ticks(p, now) as u32,
        HEALTH_COUNTER => {
            let count = s.health.counted(now).as_millis() / HEALTH_STEP_MS;
            u32::from(s.health.report.syndrome) << 24 | count as u32 & 0x00ff_ffff
        }
        INITIALIZING => {
            u32::from(now < s.health.ready) << segment::INITIALIZING_BIT
                | 1 << segment::FW_RESET_SUPPORTED_BIT
                | s.reset.segment_state() << segment::RESET_STATE_SHIFT
        }
        CMD_EXEC_TO => p.timeouts.command_ms,
        CMD_Q_INIT_TO => p.timeouts.init_ms,
        HEALTH_FW_VER => u32::from(major) << 24 | u32::from(minor as u8) << 16 | u32::from(sub),
        HEALTH_HW_ID => p.pci.hw_id,
        HEALTH..HEALTH_END => s.health.dword((offset - HEALTH) as usize),
        _ => 0,
    }
}

/// The interface mode as a driver sees it.
fn nic_interface(f: &Function, s: &Shared) -> u8 {
    if s.reset.resets_itself() {
        segment::nic_interface::SW_RESET
    } else {
        f.segment.nic_interface
    }
}

/// The free-running counter at the frequency that `device_frequency_khz` names.
pub(crate) fn ticks(p: &Profile, now: Time) -> u64 {
    diagnostics::clock(p.frequency_khz, now)
}

/// Fills `buf` from byte `offset` of the segment; bytes past its end are 0.
pub fn read(f: &Function, s: &Shared, p: &Profile, offset: u32, buf: &mut [u8], now: Time) {
    for (i, b) in buf.iter_mut().enumerate() {
        let at = u64::from(offset) + i as u64;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        *b = if at < SEGMENT_BYTES {
            dword(f, s, p, at & !3, now).to_be_bytes()[(at & 3) as usize]
        } else {
            0
        };
    }
}

/// The slots that [`write`] would tell of.
#[must_use]
pub fn rung(offset: u32, data: &[u8]) -> u32 {
    (CMD_DBELL..CMD_DBELL + 4).fold(0, |all, at| {
        let byte = at.checked_sub(offset).and_then(|i| data.get(i as usize));
        all << 8 | u32::from(byte.copied().unwrap_or(0))
    })
}

/// Writes `data` at byte `offset`; true if the command doorbell was written, with its value.
///
/// A write that covers part of a dword changes those bytes of it alone; for the doorbell the
/// other bytes count as 0.
pub fn write(f: &mut Function, offset: u32, data: &[u8]) -> Option<u32> {
    let mut doorbell: Option<u32> = None;
    let mut acknowledged = 0;
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
                let mode = u32::from(f.segment.nic_interface) << segment::NIC_IFC_SHIFT;
                let v = merge(f.segment.cmdq as u32 & 0xffff_f000 | mode);
                f.segment.cmdq = f.segment.cmdq & !0xffff_ffff | u64::from(v & 0xffff_f000);
                f.segment.nic_interface = (v >> segment::NIC_IFC_SHIFT & 7) as u8;
            }
            CMD_DBELL => doorbell = Some(merge(doorbell.unwrap_or(0))),
            INITIALIZING => {
                acknowledged = merge(acknowledged);
                if acknowledged >> segment::RESET_ACK_BIT & 1 == 1 {
                    f.segment.unloaded = true;
                }
            }
            _ => {}
        }
    }
    doorbell
}
