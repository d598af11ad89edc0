// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A front-end whose descriptors for signals would block whoever uses them: nobody waits for it.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vhost_fixture;

use std::{sync::mpsc::channel, thread, time::Duration};

use fwctl_proto::opcode;
use host_driver::vhost::driver_request;
use vhost::VhostBackend as _;
use vhost_fixture::{Device, LIMIT, inbox};
use vmm_sys_util::eventfd::EventFd;

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
