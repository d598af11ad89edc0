// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! File descriptors that come with messages of the PCI door. Alone in its process: it counts open files.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vfio_fixture;

use std::{
    io,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
};

use fwctl_emu::pci::{dma::MAX_FILES, message::MAX_FDS};
use vfio_fixture::{Device, Raw, map, open_files, region_access, set_irqs};
use vmm_sys_util::eventfd::EventFd;

const DMA_MAP: u16 = 2;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const DMA_READ: u16 = 11;
const EINVAL: i32 = 22;
// Indexes of interrupts.
const MSIX: u32 = 2;
const ERR: u32 = 3;

#[test]
fn descriptors_from_a_client_are_bounded_and_closed() {
    let device = Device::new();
    let file = host_driver::sealed_file(1 << 20).unwrap();
    let fd = file.as_raw_fd();
    let mut raw = Raw::connect(device.path());
    raw.message(REGION_READ, &region_access(7, 0, 4));
    assert_eq!(raw.reply().unwrap().errno, 0);
    let before = open_files();
    // What no command needs is closed.
    for _ in 0..100 {
        raw.message_with(REGION_READ, &region_access(7, 0, 4), &[fd; MAX_FDS]);
        assert_eq!(raw.reply().unwrap().errno, 0);
        raw.message_with(DMA_READ, &[0; 16], &[fd; MAX_FDS]);
        assert_ne!(raw.reply().unwrap().errno, 0);
        raw.message_with(DMA_MAP, &map(0x1000, 0x1000), &[fd; 2]);
        assert_eq!(raw.reply().unwrap().errno, EINVAL, "two files for a range");
        raw.message_with(SET_IRQS, &set_irqs(0, 3), &[fd; 2]);
        assert_eq!(raw.reply().unwrap().errno, EINVAL, "two eventfds for three");
    }
    assert_eq!(open_files(), before);
    // Interrupts are eventfds and nothing else: of others, also their closing may take long.
    let event = EventFd::new(0).unwrap();
    let (_reader, pipe) = io::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let others = [fd, pipe.as_raw_fd(), socket.as_raw_fd()];
    // Those that this test has open.
    let before = before + 5;
    for other in others {
        for index in [MSIX, ERR] {
            let mut irqs = set_irqs(0, 2);
            irqs[8..12].copy_from_slice(&index.to_ne_bytes());
            raw.message_with(SET_IRQS, &irqs, &[event.as_raw_fd(), other]);
            assert_eq!(raw.reply().unwrap().errno, EINVAL);
        }
    }
    assert_eq!(open_files(), before);
    // Eventfds take the place of those before, as many as the profile has vectors.
    for _ in 0..100 {
        raw.message_with(SET_IRQS, &set_irqs(0, 8), &[event.as_raw_fd(); 8]);
        assert_eq!(raw.reply().unwrap().errno, 0);
    }
    assert_eq!(open_files(), before + 8);
    // One file is one descriptor, however many ranges it has; of many files there is an end.
    for i in 0..1000 {
        raw.message_with(DMA_MAP, &map(i << 20, 1 << 20), &[fd]);
        assert_eq!(raw.reply().unwrap().errno, 0);
    }
    assert_eq!(open_files(), before + 8 + 1);
    for i in 1..=MAX_FILES as u64 {
        let other = host_driver::sealed_file(1 << 20).unwrap();
        raw.message_with(
            DMA_MAP,
            &map(1 << 40 | i << 20, 1 << 20),
            &[other.as_raw_fd()],
        );
        let want = if i == MAX_FILES as u64 { EINVAL } else { 0 };
        assert_eq!(raw.reply().unwrap().errno, want, "file {i}");
    }
    assert_eq!(open_files(), before + 8 + MAX_FILES);
    // Too many with one message, at once or byte by byte, end the client.
    raw.message_with(REGION_READ, &region_access(7, 0, 4), &[fd; MAX_FDS + 1]);
    assert_eq!(raw.reply(), None);
    drop(raw);
    device.wait_until("its client is gone", |d| !d.connected());
    let mut raw = Raw::connect(device.path());
    for byte in [7, 0, 9] {
        raw.send_with(&[byte], &[fd; MAX_FDS / 2]);
    }
    assert_eq!(raw.reply(), None);
    drop(raw);
    device.probe().bring_up().unwrap();
    device.wait_until("its client is gone", |d| !d.connected());
    // All but the connection that was counted at first, at either end.
    assert_eq!(open_files(), before - 2);
}
