// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long a queue may be that a front-end asks for.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vhost_fixture;

use fwctl_emu::virtio::limits::MAX_QUEUE_SIZE;
use vhost::VhostBackend as _;
use vhost_fixture::Device;

#[test]
fn a_queue_ends_at_max_queue_size() {
    let device = Device::new();
    let takes = |size: u16| {
        let mut d = device.connect();
        let f = d.mailbox.session.frontend();
        // It is told by an answer, or by the end of the connection before the next one.
        let taken = f.set_vring_num(0, size).is_ok() && f.get_features().is_ok();
        drop(d);
        device.wait_for("disabled");
        taken
    };
    assert!(takes(MAX_QUEUE_SIZE) && takes(16));
    for bad in [MAX_QUEUE_SIZE + 1, MAX_QUEUE_SIZE * 2, u16::MAX, 0] {
        assert!(!takes(bad), "{bad}");
    }
    device.connect().bring_up().unwrap();
}
