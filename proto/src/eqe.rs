// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An entry of an event queue, in bytes: `struct mlx5_eqe` and `union ev_data` of `mlx5/device.h`.
//! [`crate::layouts::Eqe`] has its bits, and [`crate::event`] the types.

use crate::event;

/// Bytes of an entry.
pub const BYTES: usize = 64;
/// Its type: one byte.
pub const TYPE: usize = 1;
/// Its sub-type: one byte.
pub const SUB_TYPE: usize = 3;
/// Its data.
pub const DATA: usize = 32;
/// Bytes of data.
pub const DATA_BYTES: usize = 28;
/// Its signature: one byte.
pub const SIGNATURE: usize = 62;
/// Bit 0 is the owner, which changes with each turn of the ring.
pub const OWNER: usize = 63;

/// Names of sub-types by type and number (`MLX5_PORT_CHANGE_SUBTYPE_*` and the like of `mlx5/device.h`).
pub const SUB_TYPES: &[(u8, u8, &str)] = &[
    (event::PORT_CHANGE, 1, "DOWN"),
    (event::PORT_CHANGE, 4, "ACTIVE"),
    (event::PORT_CHANGE, 5, "INITIALIZED"),
    (event::PORT_CHANGE, 6, "LID"),
    (event::PORT_CHANGE, 7, "PKEY"),
    (event::PORT_CHANGE, 8, "GUID"),
    (event::PORT_CHANGE, 9, "CLIENT_REREG"),
    (event::PAGE_FAULT, 0, "WQE"),
    (event::PAGE_FAULT, 1, "RDMA"),
    (event::PAGE_FAULT, 2, "MEMORY"),
    (event::GENERAL_EVENT, 1, "DELAY_DROP_TIMEOUT"),
    (event::GENERAL_EVENT, 5, "PCI_POWER_CHANGE_EVENT"),
    (event::GENERAL_EVENT, 7, "FW_LIVE_PATCH_EVENT"),
    (event::GENERAL_EVENT, 8, "PCI_SYNC_FOR_FW_UPDATE_EVENT"),
    (event::DEVICE_TRACER, 0, "OWNERSHIP_CHANGE"),
    (event::DEVICE_TRACER, 1, "TRACES_AVAILABLE"),
    (event::DEVICE_TRACER, 2, "STRINGS_DB_UPDATE"),
];

/// The name of a sub-type, if it has one.
#[must_use]
pub fn sub_type_name(event_type: u8, sub_type: u8) -> Option<&'static str> {
    let known = SUB_TYPES
        .iter()
        .find(|s| (s.0, s.1) == (event_type, sub_type));
    known.map(|s| s.2)
}

/// What the data of each type holds, by byte from [`DATA`]; big-endian where it has several bytes.
pub mod data {
    /// `COMP`: the completion queue, a dword.
    pub const COMP_CQN: usize = 24;
    /// `CQ_ERROR`: the completion queue, a dword.
    pub const CQ_ERROR_CQN: usize = 0;
    /// `CQ_ERROR`: the syndrome, a byte.
    pub const CQ_ERROR_SYNDROME: usize = 11;
    /// Events of queues: what kind of queue, a byte.
    pub const QP_SRQ_TYPE: usize = 20;
    /// Events of queues: the queue, a dword.
    pub const QP_SRQ_N: usize = 24;
    /// `PORT_CHANGE`: the port in the high four bits of a byte. The sub-type says what happened.
    pub const PORT: usize = 8;
    /// `CMD`: a bit for each command entry that is done, a dword.
    pub const CMD_VECTOR: usize = 0;
    /// `PAGE_REQUEST`: [`EC_FUNCTION`] and [`RELEASE_ALL_PAGES`], two bytes.
    pub const PAGE_REQUEST_FLAGS: usize = 0;
    /// `PAGE_REQUEST`: the function, two bytes.
    pub const PAGE_REQUEST_FUNCTION: usize = 2;
    /// `PAGE_REQUEST`: pages wanted, a signed dword; those to take back are negative.
    pub const PAGE_REQUEST_PAGES: usize = 4;
    /// `PAGE_REQUEST`: the function belongs to the embedded CPU.
    pub const EC_FUNCTION: u16 = 0x8000;
    /// `PAGE_REQUEST`: all pages of the function are to be taken back.
    pub const RELEASE_ALL_PAGES: u16 = 0x4000;
    /// `NIC_VPORT_CHANGE`: the vport, two bytes.
    pub const VPORT: usize = 2;
    /// `PORT_MODULE_EVENT`: the module, a byte.
    pub const MODULE: usize = 1;
    /// `PORT_MODULE_EVENT`: its status, a byte.
    pub const MODULE_STATUS: usize = 3;
    /// `PORT_MODULE_EVENT`: what is wrong, a byte.
    pub const MODULE_ERROR_TYPE: usize = 6;
    /// `TEMP_WARN_EVENT`: sensors 127:64, eight bytes.
    pub const TEMP_WARN_MSB: usize = 0;
    /// `TEMP_WARN_EVENT`: sensors 63:0, eight bytes.
    pub const TEMP_WARN_LSB: usize = 8;
    /// `VHCA_STATE_CHANGE`: the function, two bytes.
    pub const VHCA_FUNCTION: usize = 2;
    /// `OBJECT_CHANGE`: type of the object, two bytes.
    pub const OBJECT_TYPE: usize = 2;
    /// `OBJECT_CHANGE`: the object, a dword.
    pub const OBJECT_ID: usize = 4;
    /// Firmware reset: its step in the low four bits of a byte (`enum sync_rst_state_type`).
    pub const SYNC_RESET_STATE: usize = 3;
}

#[cfg(test)]
mod tests {
    use super::{data::*, *};
    use crate::{
        layout::{Layout, LayoutInfo},
        layouts::{CompEvent, CqError, Eqe, PagesReqEvent, PortStateChangeEvent},
    };

    /// The driver's structures and `mlx5_ifc.h` say the same where both say something.
    #[test]
    fn the_layouts_agree() {
        let at = |l: &LayoutInfo, f: &str| l.field(f).map(|p| (p.offset / 8) as usize);
        assert_eq!(Eqe::BYTES, BYTES);
        assert_eq!(at(Eqe::INFO, "event_type"), Some(TYPE));
        assert_eq!(at(Eqe::INFO, "event_sub_type"), Some(SUB_TYPE));
        assert_eq!(at(Eqe::INFO, "event_data"), Some(DATA));
        assert_eq!(
            Eqe::INFO.field("event_data").unwrap().width,
            8 * DATA_BYTES as u32
        );
        assert_eq!(at(Eqe::INFO, "signature"), Some(SIGNATURE));
        assert_eq!(at(Eqe::INFO, "owner"), Some(OWNER));
        assert_eq!(at(CompEvent::INFO, "cq_number"), Some(COMP_CQN + 1));
        assert_eq!(at(CqError::INFO, "cqn"), Some(CQ_ERROR_CQN + 1));
        assert_eq!(at(CqError::INFO, "syndrome"), Some(CQ_ERROR_SYNDROME));
        assert_eq!(
            at(PagesReqEvent::INFO, "function_id"),
            Some(PAGE_REQUEST_FUNCTION)
        );
        assert_eq!(
            at(PagesReqEvent::INFO, "num_pages"),
            Some(PAGE_REQUEST_PAGES)
        );
        assert_eq!(at(PortStateChangeEvent::INFO, "port_num"), Some(PORT));
    }
}
