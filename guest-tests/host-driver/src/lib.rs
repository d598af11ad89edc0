// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver without a guest: the whole bring-up over real sockets.

use std::{fs::File, io};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

pub mod eq;
pub mod firmware;
pub mod mailbox;
pub mod pci;
pub mod vhost;
pub mod vhost_ring;
pub mod vhost_session;

/// Guest memory as QEMU's memory-backend-memfd makes it: of `bytes`, which nobody can change any more.
///
/// # Errors
/// What the system says.
pub fn sealed_file(bytes: u64) -> io::Result<File> {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let file = File::from(fd);
    file.set_len(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}
