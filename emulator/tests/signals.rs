// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A client whose eventfd blocks whoever signals to it, with a process of its own in its sandbox.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    thread,
    time::{Duration, Instant},
};

use host_driver::{firmware::Firmware, pci::PciDriver};
use process::{Control, Emulator, Folder, LIMIT};
use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::Signal,
};
use vmm_sys_util::sock_ctrl_msg::ScmSocket as _;

/// An eventfd for an MSI-X vector.
const WIRE: u32 = 0x24;
/// The client raises a vector.
const TRIGGER: u32 = 0x21;

/// SET_IRQS of vfio-user for the first vectors.
fn set_irqs(flags: u32, count: u32) -> Vec<u8> {
    let command = 8u32 << 16;
    let header = [command, 36, 0, 0];
    let body = [20, flags, 2, 0, count];
    let dwords = header.iter().chain(&body);
    dwords.flat_map(|d| d.to_ne_bytes()).collect()
}

/// A client whose eventfd for two vectors is wired and full, and blocks.
fn wired(path: &std::path::Path) -> (UnixStream, File) {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let event: File = eventfd(0, EventfdFlags::empty()).unwrap().into();
    let message = set_irqs(WIRE, 2);
    let fds = [event.as_raw_fd(); 2];
    client.send_with_fds(&[&*message], &fds).unwrap();
    let mut reply = [0; 16];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[12..], [0; 4]);
    // What the emulator has set is the client's too.
    let flags = fcntl_getfl(&event).unwrap();
    assert!(flags.contains(OFlags::NONBLOCK));
    fcntl_setfl(&event, flags - OFlags::NONBLOCK).unwrap();
    (&event).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    (client, event)
}

#[test]
fn a_client_whose_eventfd_blocks_us_is_dropped_and_the_next_is_served() {
    let folder = Folder::new();
    let (socket, control) = (folder.at("s"), folder.at("c"));
    let e = Emulator::start(&[
        "--vfio-user",
        socket.to_str().unwrap(),
        "--control",
        control.to_str().unwrap(),
    ]);
    let (mut client, event) = wired(&socket);
    let began = Instant::now();
    // Once and again: what is said after the first is not done.
    for _ in 0..50 {
        client.write_all(&set_irqs(TRIGGER, 2)).unwrap();
        let _ = (&event).write(&0u64.to_ne_bytes());
    }
    let mut rest = Vec::new();
    // Reset if not all was read.
    let _ = client.read_to_end(&mut rest);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(Control::greeted(&control).functions().len(), 1);
    let mut next = Firmware::new(PciDriver::probe(&socket).unwrap());
    next.bring_up().unwrap();
    drop(next);
    e.signal(Signal::TERM);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(0), "{log}");
    let said = "function 0: client dropped: its eventfd holds up the card";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert!(!log.contains("broke the protocol"), "{log}");
}

#[test]
fn a_signal_that_blocks_does_not_keep_the_process_from_its_end() {
    let folder = Folder::new();
    let socket = folder.at("s");
    let e = Emulator::start(&["--vfio-user", socket.to_str().unwrap()]);
    let (mut client, _event) = wired(&socket);
    client.write_all(&set_irqs(TRIGGER, 1)).unwrap();
    thread::sleep(Duration::from_millis(20));
    e.signal(Signal::TERM);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(0), "{log}");
}
