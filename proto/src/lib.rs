// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Wire formats of the firmware mailbox: layouts, names and numbers, and no logic.
//!
//! The layouts come from fact files (`proto/facts/`), which `scripts/import-ifc` reads off the
//! kernel's `mlx5_ifc.h` and `scripts/gen-proto` turns into [`layouts`]. Bits that no field names
//! survive a round trip.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

extern crate alloc;

pub mod cap_type;
pub mod cmdif;
pub mod eqe;
pub mod event;
pub mod layout;
pub mod layouts;
pub mod mst;
pub mod opcode;
pub mod register;
pub mod segment;
pub mod status;
pub mod uar;
pub mod virtio;
pub mod wqe;
