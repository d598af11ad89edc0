// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Clients of the virtio door that come and go. Alone in its process: it counts open files.

mod vhost_fixture;

use vhost_fixture::{Device, open_files};

#[test]
fn each_client_finds_a_fresh_device_and_nothing_is_left_of_it() {
    let device = Device::new();
    // What the first two leave is what any client leaves.
    let mut after_two = 0;
    for i in 0..12 {
        let mut d = device.connect();
        if i == 2 {
            after_two = open_files();
        }
        if i > 2 {
            assert_eq!(open_files(), after_two, "client {i}");
        }
        assert_eq!(device.state(), "disabled", "client {i}");
        d.bring_up().unwrap();
        d.create_uctx(0).unwrap();
        drop(d);
        device.wait_for("disabled");
        assert_eq!(
            (device.report().uctx, device.report().pages),
            (0, 0),
            "client {i}"
        );
    }
}
