// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory that a front-end of the virtio door shares. Alone in its process: it counts open files.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vhost_fixture;

use std::{fs::File, os::fd::AsRawFd as _};

use fwctl_emu::virtio::limits::MAX_REGIONS;
use fwctl_proto::opcode;
use host_driver::{mailbox::Command, sealed_file, vhost_session::MEMORY_BASE};
use vhost::{VhostBackend as _, VhostUserMemoryRegionInfo, vhost_user::VhostUserFrontend as _};
use vhost_fixture::{Device, Driver, open_files};

/// Bytes of a region here.
const BYTES: u64 = 0x1000;
/// Where they are for the guest: behind its memory.
const BEHIND: u64 = MEMORY_BASE + (1 << 30);

fn unsealed() -> File {
    let fd = rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, BYTES).unwrap();
    fd.into()
}

fn region(n: u64, file: &File) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: BEHIND + n * BYTES,
        memory_size: BYTES,
        userspace_addr: 0x7000_0000_0000 + n * BYTES,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    }
}

fn still_serves(d: &mut Driver) {
    assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
}

/// A driver of a device that is fresh and serves.
fn fresh(device: &Device) -> Driver {
    let mut d = device.connect();
    d.bring_up().unwrap();
    still_serves(&mut d);
    d
}

/// Everything here one after the other: open files are counted.
#[test]
fn memory_that_can_be_taken_away_or_is_in_too_many_pieces_ends_its_client() {
    let device = Device::new();
    let file = sealed_file(BYTES).unwrap();
    drop(fresh(&device));
    device.wait_for("disabled");
    let before = open_files();
    // While the queues run: added, and in place of all.
    let mut d = fresh(&device);
    let f = d.mailbox.session.frontend();
    f.add_mem_region(&region(0, &file)).unwrap();
    assert!(f.add_mem_region(&region(1, &unsealed())).is_err());
    assert!(f.get_features().is_err(), "it hung up");
    drop(d);
    device.wait_for("disabled");
    let mut d = fresh(&device);
    let f = d.mailbox.session.frontend();
    assert!(f.set_mem_table(&[region(0, &unsealed())]).is_err());
    drop(d);
    device.wait_for("disabled");
    // Longer than its file, which nobody can shrink: an access behind its end would kill us.
    for (size, offset) in [(4 * BYTES, 0), (BYTES, BYTES), (BYTES, 1)] {
        let mut d = fresh(&device);
        let f = d.mailbox.session.frontend();
        let long = VhostUserMemoryRegionInfo {
            memory_size: size,
            mmap_offset: offset,
            ..region(0, &file)
        };
        assert!(f.add_mem_region(&long).is_err(), "{size:#x} {offset:#x}");
        drop(d);
        device.wait_for("disabled");
    }
    // One region is the guest's own.
    let mut d = fresh(&device);
    for n in 1..MAX_REGIONS as u64 {
        let f = d.mailbox.session.frontend();
        f.add_mem_region(&region(n, &file)).unwrap();
    }
    still_serves(&mut d);
    let f = d.mailbox.session.frontend();
    assert!(f.add_mem_region(&region(0, &file)).is_err());
    drop(d);
    device.wait_for("disabled");
    drop(fresh(&device));
    device.wait_for("disabled");
    settles(before);
    // Who is trusted may share what he likes.
    let device = Device::trusting();
    let mut d = fresh(&device);
    let f = d.mailbox.session.frontend();
    f.add_mem_region(&region(0, &unsealed())).unwrap();
    still_serves(&mut d);
}

/// Waits until as many files are open as were before.
fn settles(files: usize) {
    let end = std::time::Instant::now() + vhost_fixture::LIMIT;
    while open_files() != files {
        assert!(
            std::time::Instant::now() < end,
            "{} open files",
            open_files()
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
