// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Events of the virtio door over its socket.

#![allow(clippy::unwrap_used)]

mod vhost_fixture;

use fwctl_proto::{event, virtio::Event};
use vhost_fixture::{Device, LIMIT};

/// The page request event for `count` pages (`struct mlx5_eqe_page_req`: num_pages at byte 4).
fn page_request(sequence: u64, overflow: bool, count: i32) -> Event {
    let mut data = [0; 28];
    data[4..8].copy_from_slice(&count.to_be_bytes());
    Event {
        sequence,
        overflow,
        event_type: event::PAGE_REQUEST,
        sub_type: 0,
        data,
    }
}

#[test]
fn a_page_request_wakes_the_driver_and_is_served() {
    let device = Device::new();
    let mut d = device.connect();
    d.mailbox.post_events(4).unwrap();
    d.bring_up().unwrap();
    let before = device.report().pages;
    device.demand_pages(5);
    assert_eq!(d.mailbox.event(LIMIT).unwrap(), page_request(0, false, 5));
    // 3: pages that an up function wants.
    assert_eq!(d.give_wanted(3).unwrap(), 5);
    assert_eq!(device.report().pages, before + 5);
    device.demand_pages(-5);
    assert_eq!(d.mailbox.event(LIMIT).unwrap(), page_request(1, false, -5));
}

#[test]
fn events_wait_for_buffers_and_a_loss_is_told() {
    // docs/virtio-fwctl.md asks for 16 at least; emulator::virtio::limits::MAX_EVENT_BACKLOG.
    const KEPT: i32 = 64;
    let device = Device::new();
    let mut d = device.connect();
    d.bring_up().unwrap();
    for count in 1..=KEPT + 10 {
        device.demand_pages(count);
    }
    d.mailbox.post_events(100).unwrap();
    for count in 1..=KEPT {
        let expected = page_request(count as u64 - 1, false, count);
        assert_eq!(d.mailbox.event(LIMIT).unwrap(), expected);
    }
    device.demand_pages(1000);
    assert_eq!(
        d.mailbox.event(LIMIT).unwrap(),
        page_request(KEPT as u64 + 10, true, 1000)
    );
    device.demand_pages(1001);
    assert_eq!(
        d.mailbox.event(LIMIT).unwrap(),
        page_request(KEPT as u64 + 11, false, 1001)
    );
}

#[test]
fn numbers_begin_again_after_a_reset_and_old_events_are_gone() {
    let device = Device::new();
    let mut d = device.connect();
    d.bring_up().unwrap();
    device.demand_pages(1);
    device.demand_pages(2);
    d.mailbox.session.stop_queues().unwrap();
    d.mailbox.session.restart_queues().unwrap();
    d.held.clear();
    d.bring_up().unwrap();
    d.mailbox.post_events(2).unwrap();
    device.demand_pages(3);
    assert_eq!(d.mailbox.event(LIMIT).unwrap(), page_request(0, false, 3));
}
