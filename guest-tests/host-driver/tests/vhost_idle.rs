// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A ring that makes no sense costs no CPU. Alone in its process: it looks at the workers' time.

#![allow(clippy::unwrap_used)]

mod vhost_fixture;

use std::{fs, time::Duration};

use vhost_fixture::Device;
use vm_memory::{Bytes as _, GuestAddress};

/// Clock ticks (10 ms) that the workers of this process have used.
fn worker_ticks() -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        // comm is in parentheses; utime and stime are fields 14 and 15, counted from 1.
        let (comm, rest) = stat.split_once(") ").unwrap_or_default();
        if comm.ends_with("(vring_worker") {
            let field = |n: usize| rest.split(' ').nth(n - 3).unwrap().parse::<u64>().unwrap();
            sum += field(14) + field(15);
        }
    }
    sum
}

#[test]
fn a_broken_available_ring_is_left_alone() {
    let device = Device::new();
    let mut d = device.connect();
    let mem = d.mailbox.session.memory().clone();
    let session = &mut d.mailbox.session;
    for ring in [&mut session.command, &mut session.event] {
        mem.write_slice(&40_000u16.to_le_bytes(), GuestAddress(ring.avail() + 2))
            .unwrap();
        let before = worker_ticks();
        ring.kick_now().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let spent = worker_ticks() - before;
        assert!(spent <= 5, "{spent} ticks in 300 ms");
    }
}
