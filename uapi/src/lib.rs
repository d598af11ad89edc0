// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Safe access to the Linux fwctl subsystem (`include/uapi/fwctl/fwctl.h`): enumerate the
//! devices, ask one for its FWCTL_INFO, send it RPCs.
//!
//! A fwctl device passes firmware commands of one user through the driver, which checks each
//! against a [`Scope`]. The buffers have the format of the device's type; for
//! [`DeviceType::MLX5`] they are raw mlx5 inboxes and outboxes, and [`mlx5`] reads their headers.
//!
//! Failures are told apart by who said no, see [`Error`]: sysfs or the device node, the kernel
//! (with its [`Errno`]), the delivery (an answer that is no answer), or the firmware (status and
//! syndrome).
//!
//! ```no_run
//! use fwctl_uapi::{Roots, Scope, mlx5};
//!
//! fn main() -> Result<(), fwctl_uapi::Error> {
//!     for entry in Roots::system().devices()? {
//!         println!("{} on {}", entry.name, entry.parent_name().unwrap_or("?"));
//!         let device = entry.open()?;
//!         let info = device.info()?.mlx5()?;
//!         println!("uid {} caps {:#x}", info.uid, info.uctx_caps);
//!
//!         // QUERY_HCA_CAP, current general capabilities (op_mod = type << 1 | current).
//!         let inbox = mlx5::inbox(0x100, 1, 16);
//!         let mut outbox = vec![0; 4112];
//!         let reply = mlx5::exec(&device, Scope::Configuration, &inbox, &mut outbox)?;
//!         println!("{} bytes", reply.copied);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! Linux only. Nothing here retries: a firmware command is not idempotent in general.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

pub mod capture;
mod device;
mod errno;
mod error;
mod ioctl;
pub mod mlx5;
mod sysfs;

pub use device::{Device, DeviceType, Info, Reply, Scope};
pub use errno::Errno;
pub use error::Error;
pub use ioctl::{MAX_RPC_LEN, Malformed};
pub use sysfs::{DeviceEntry, DeviceNumber, PciAddress, Roots};
