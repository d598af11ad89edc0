// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The emulator process: transports, timers, control socket and command line. It holds no firmware
//! behaviour: that is in the crate `fw-model`.

pub mod clients;
pub mod contained;
pub mod control;
pub mod decode;
pub mod explain;
pub mod faults;
pub mod files;
pub mod image;
pub mod list;
pub mod memory;
pub mod observe;
pub mod owner;
pub mod passed;
pub mod pci;
pub mod qmp;
pub mod raise;
pub mod record;
pub mod sandbox;
pub mod serve;
pub mod socket;
pub mod spent;
pub mod store;
pub mod top;
pub mod trace;
pub mod usage;
pub mod virtio;
