// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The initialization segment and the health buffer in it, in bytes: `struct mlx5_init_seg` and
//! `struct health_buffer` of `mlx5/device.h`. All of it is big-endian.
//!
//! [`crate::layouts::InitialSeg`] has the bits of the first 0x1000 bytes as the PRM names them, and
//! the driver's structure has what lies between them and behind them; both are right.

/// Bytes of the segment.
pub const BYTES: usize = 0x2010;

/// Minor version in the high half, major in the low half (`fw_rev`).
pub const FW_REV: usize = 0x0;
/// Revision of the command interface in the high half, sub-minor version in the low half
/// (`cmdif_rev_fw_sub`).
pub const CMDIF_REV_FW_SUB: usize = 0x4;
/// The revision that drivers expect (`CMD_IF_REV` of `mlx5/core/cmd.c`).
pub const CMDIF_REV: u16 = 5;
/// Address of the command queue, bits 63:32.
pub const CMDQ_ADDR_H: usize = 0x10;
/// Address of the command queue, bits 31:12; log2 of its entries in bits 7:4 and log2 of their
/// distance in bits 3:0. The interface mode is in bits 9:8 ([`NIC_IFC_SHIFT`]).
pub const CMDQ_ADDR_L_SZ: usize = 0x14;
/// Where [`CMDQ_ADDR_L_SZ`] has the interface mode (`MLX5_NIC_IFC_OFFSET`).
pub const NIC_IFC_SHIFT: u32 = 8;
/// Values of the interface mode (`MLX5_INITIAL_SEG_NIC_INTERFACE_*`).
pub mod nic_interface {
    /// The driver has all of the function.
    pub const FULL_DRIVER: u8 = 0;
    /// Nobody has: after a teardown, and after a reset of the firmware.
    pub const DISABLED: u8 = 1;
    /// Written: reset the firmware. Read: it is being reset.
    pub const SW_RESET: u8 = 7;
}
/// Doorbell: a bit for each command entry.
pub const CMD_DBELL: usize = 0x18;
/// Bit 31 is set while the firmware starts.
pub const INITIALIZING: usize = 0x1fc;
/// The bit of [`INITIALIZING`] that says so.
pub const INITIALIZING_BIT: u32 = 31;
/// The bit of [`INITIALIZING`] that says that a firmware reset is supported
/// (`MLX5_FW_RESET_SUPPORTED_OFFSET`).
pub const FW_RESET_SUPPORTED_BIT: u32 = 30;
/// Where [`INITIALIZING`] has the state of a firmware reset, four bits
/// (`MLX5_RST_STATE_BIT_NUM`).
pub const RESET_STATE_SHIFT: u32 = 12;
/// [`RESET_STATE_SHIFT`]: the driver is to toggle the link, or to reset the bus
/// (`MLX5_FW_RST_STATE_TOGGLE_REQ`).
pub const RESET_STATE_TOGGLE: u32 = 4;
/// A driver writes this bit of [`INITIALIZING`] when it has unloaded for a firmware reset
/// (`MLX5_RST_ACK_BIT_NUM`).
pub const RESET_ACK_BIT: u32 = 22;
/// The health buffer, [`health::BYTES`] long.
pub const HEALTH: usize = 0x200;
/// Timeout of a command in milliseconds; counts only if [`CMD_Q_INIT_TO`] is not 0.
pub const CMD_EXEC_TO: usize = 0xff8;
/// Timeout of the command queue's initialization in milliseconds; 0 says that the segment has no
/// timeouts.
pub const CMD_Q_INIT_TO: usize = 0xffc;
/// Free-running counter, bits 63:32.
pub const INTERNAL_TIMER_H: usize = 0x1000;
/// Free-running counter, bits 31:0.
pub const INTERNAL_TIMER_L: usize = 0x1004;
/// Health counter in bits 23:0, health syndrome in bits 31:24.
pub const HEALTH_COUNTER: usize = 0x1010;
/// Real time in seconds.
pub const REAL_TIME_H: usize = 0x1040;
/// Nanoseconds of the real time.
pub const REAL_TIME_L: usize = 0x1044;
/// A clock of 64 bits.
pub const IEEE1588_CLK: usize = 0x2000;
/// The kind of that clock.
pub const IEEE1588_CLK_TYPE: usize = 0x2008;
/// Clears the legacy interrupt.
pub const CLR_INTX: usize = 0x200c;

/// The health buffer, by byte from its start.
pub mod health {
    /// Bytes of the buffer.
    pub const BYTES: usize = 0x40;
    /// Variables of the assertion, a dword each.
    pub const ASSERT_VAR: usize = 0x0;
    /// Number of those variables.
    pub const ASSERT_VARS: usize = 6;
    /// Where the assertion ended.
    pub const ASSERT_EXIT_PTR: usize = 0x20;
    /// From where it was called.
    pub const ASSERT_CALLRA: usize = 0x24;
    /// When, in seconds.
    pub const TIME: usize = 0x2c;
    /// Firmware version: 8 bits major, 8 bits minor, 16 bits sub-minor.
    pub const FW_VER: usize = 0x30;
    /// Which device it is.
    pub const HW_ID: usize = 0x34;
    /// [`RFR`], [`CRR`], [`SEVERITY_VALID`], severity (bits 2:0, as syslog counts it): one byte.
    pub const RFR_SEVERITY: usize = 0x38;
    /// Which of the processors it was: one byte.
    pub const IRISC_INDEX: usize = 0x3c;
    /// Syndrome: one byte, of [`SYNDROMES`].
    pub const SYND: usize = 0x3d;
    /// Extended syndrome: two bytes.
    pub const EXT_SYND: usize = 0x3e;

    /// Bits of [`RFR_SEVERITY`]: the firmware asks for a reset, or for a cold one; the severity
    /// is there.
    pub const RFR: u8 = 1 << 7;
    /// See [`RFR`].
    pub const CRR: u8 = 1 << 6;
    /// See [`RFR`].
    pub const SEVERITY_VALID: u8 = 1 << 3;

    /// What can be wrong (`MLX5_INITIAL_SEG_HEALTH_SYNDROME_*`); 0 is nothing.
    pub const SYNDROMES: &[(u8, &str)] = &[
        (0x01, "FW_INTERNAL_ERR"),
        (0x07, "DEAD_IRISC"),
        (0x08, "HW_FATAL_ERR"),
        (0x09, "FW_CRC_ERR"),
        (0x0a, "ICM_FETCH_PCI_ERR"),
        (0x0b, "ICM_PAGE_ERR"),
        (0x0c, "ASYNCHRONOUS_EQ_BUF_OVERRUN"),
        (0x0d, "EQ_IN_ERR"),
        (0x0e, "EQ_INV"),
        (0x0f, "FFSER_ERR"),
        (0x10, "HIGH_TEMP_ERR"),
        (0x12, "ICM_PCI_POISONED_ERR"),
        (0x13, "TRUST_LOCKDOWN_ERR"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layout::Layout,
        layouts::{HealthBuffer, InitialSeg},
    };

    /// The two descriptions of the segment say the same where both say something.
    #[test]
    fn the_layout_agrees() {
        let byte = |f: &str| InitialSeg::INFO.field(f).unwrap().offset as usize / 8;
        assert_eq!(byte("fw_rev_minor"), FW_REV);
        assert_eq!(byte("cmd_interface_rev"), CMDIF_REV_FW_SUB);
        assert_eq!(byte("cmdq_phy_addr_63_32"), CMDQ_ADDR_H);
        assert_eq!(byte("cmdq_phy_addr_31_12"), CMDQ_ADDR_L_SZ);
        assert_eq!(byte("command_doorbell_vector"), CMD_DBELL);
        assert_eq!(byte("initializing"), INITIALIZING);
        assert_eq!(byte("health_buffer"), HEALTH);
        assert_eq!(byte("health_counter") & !3, HEALTH_COUNTER);
        let place = InitialSeg::INFO.field("nic_interface").unwrap();
        assert_eq!(32 - place.offset % 32 - place.width, NIC_IFC_SHIFT);
        assert_eq!(HealthBuffer::BYTES, health::BYTES);
        let byte = |f: &str| HealthBuffer::INFO.field(f).unwrap().offset as usize / 8;
        assert_eq!(byte("assert_existptr"), health::ASSERT_EXIT_PTR);
        assert_eq!(byte("assert_callra"), health::ASSERT_CALLRA);
        assert_eq!(byte("time"), health::TIME);
        assert_eq!(byte("fw_version"), health::FW_VER);
        assert_eq!(byte("hw_id"), health::HW_ID);
        assert_eq!(byte("severity"), health::RFR_SEVERITY);
        assert_eq!(byte("irisc_index"), health::IRISC_INDEX);
        assert_eq!(byte("synd"), health::SYND);
        assert_eq!(byte("ext_synd"), health::EXT_SYND);
    }
}
