// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front-end whose descriptors for signals would block whoever uses them: nobody waits for it.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vhost_fixture;

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use fwctl_proto::opcode;
use host_driver::vhost::driver_request;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vhost::VhostBackend as _;
use vhost_fixture::{Device, LIMIT, inbox};
use vmm_sys_util::{eventfd::EventFd, sock_ctrl_msg::ScmSocket as _};

/// Messages of vhost-user that bring a descriptor for a queue's signals.
const SET_VRING: [(&str, u32); 3] = [("kick", 12), ("call", 13), ("err", 14)];

/// Sends a descriptor for signals of queue 0, and says whether the connection ends.
fn ends(device: &Device, request: u32, fd: RawFd) -> bool {
    let mut stream = UnixStream::connect(device.path()).unwrap();
    // The version of the protocol, and the body's length.
    let header = [request, 1, 8].map(u32::to_ne_bytes);
    let message = [header.as_flattened(), &[0; 8]].concat();
    stream.send_with_fd(&*message, fd).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    matches!(stream.read(&mut [0; 64]), Ok(0))
}

/// Of any other kind, even its closing may take as long as somebody else likes.
#[test]
fn a_descriptor_for_signals_that_is_no_eventfd_ends_the_client() {
    let device = Device::new();
    let (_reader, pipe) = io::pipe().unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let file = host_driver::sealed_file(4096).unwrap();
    let event = EventFd::new(0).unwrap();
    for (what, request) in SET_VRING {
        for other in [pipe.as_raw_fd(), socket.as_raw_fd(), file.as_raw_fd()] {
            assert!(ends(&device, request, other), "{what}");
        }
        assert!(!ends(&device, request, event.as_raw_fd()), "{what}");
    }
    // The next one finds a device that works.
    device.connect().bring_up().unwrap();
}

#[test]
fn a_call_descriptor_that_is_full_holds_up_nobody() {
    let device: &'static Device = Box::leak(Box::new(Device::new()));
    let mut d = device.connect();
    d.bring_up().unwrap();
    let full = EventFd::new(0).unwrap();
    full.write(u64::MAX - 1).unwrap();
    let session = &mut d.mailbox.session;
    session.frontend().set_vring_call(0, &full).unwrap();
    session.command.ask_for_call(true).unwrap();
    let nop = inbox(opcode::NOP, 0);
    d.mailbox.send(&driver_request(16, 16), &nop, 16).unwrap();
    d.mailbox.kick().unwrap();
    // Answered, and the signal of it tried.
    thread::sleep(Duration::from_millis(300));
    let (tx, rx) = channel();
    thread::spawn(move || {
        device.demand_pages(1);
        tx.send(device.report().state)
    });
    assert!(
        rx.recv_timeout(LIMIT).is_ok(),
        "the card waits for a client"
    );
}

/// The same eventfd, which blocks from now on whoever has it: its flags are shared.
fn blocking(event: &EventFd) -> File {
    let (here, there) = UnixStream::pair().unwrap();
    here.send_with_fd(&[0][..], event.as_raw_fd()).unwrap();
    let same = there.recv_with_fd(&mut [0]).unwrap().1.unwrap();
    let flags = fcntl_getfl(&same).unwrap();
    fcntl_setfl(&same, flags - OFlags::NONBLOCK).unwrap();
    same
}

/// Waits until the answer comes from a thread of its own: the card may be held up for good.
fn soon<T: Send + 'static>(what: &str, ask: impl FnOnce() -> T + Send + 'static) -> T {
    let (tx, rx) = channel();
    thread::spawn(move || tx.send(ask()));
    let answer = rx.recv_timeout(LIMIT / 4);
    answer.unwrap_or_else(|_| panic!("the card waits for a client: {what}"))
}

#[test]
fn a_client_that_has_our_signals_block_goes_and_the_next_is_served() {
    let device: &'static Device = Box::leak(Box::new(Device::new()));
    let mut d = device.connect();
    d.bring_up().unwrap();
    let full = EventFd::new(0).unwrap();
    let session = &mut d.mailbox.session;
    session.frontend().set_vring_call(0, &full).unwrap();
    session.command.ask_for_call(true).unwrap();
    // Answered once the descriptor is taken.
    session.frontend().get_features().unwrap();
    let _same = blocking(&full);
    full.write(u64::MAX - 1).unwrap();
    let nop = inbox(opcode::NOP, 0);
    d.mailbox.send(&driver_request(16, 16), &nop, 16).unwrap();
    d.mailbox.kick().unwrap();
    thread::sleep(Duration::from_millis(50));
    soon("the card", || device.demand_pages(1));
    soon("the client", || device.wait_for("disabled"));
    soon("the next", || device.connect().bring_up().unwrap());
    drop(d);
}
