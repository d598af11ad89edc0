// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A client of the PCI door that does nothing but wrong does not fill the log. Alone in its process: it is
//! the logger.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vfio_fixture;

use std::sync::atomic::{AtomicU32, Ordering};

use vfio_fixture::{Device, Raw};

/// `MAX_WARNINGS`, as docs/limits.md promises it.
const MOST: u32 = 16;
static WARNINGS: AtomicU32 = AtomicU32::new(0);

struct Counter;

impl log::Log for Counter {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            WARNINGS.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn refusals_are_warned_of_so_many_times_for_each_client() {
    log::set_logger(&Counter).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let device = Device::new();
    for client in 1..=2 {
        let mut raw = Raw::connect(device.path());
        for _ in 0..1000 {
            raw.message(0x7777, &[]);
            assert_eq!(raw.reply().unwrap().errno, 95);
        }
        assert_eq!(WARNINGS.load(Ordering::SeqCst), client * MOST);
    }
}
