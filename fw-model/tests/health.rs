// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the health buffer shows, and what firmware that is not well does. Offsets and numbers are
//! those of `struct health_buffer` and `struct mlx5_init_seg`.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{Input, Report, ResetKind, Time};

fn read(d: &Driver, offset: u32) -> u32 {
    d.segment_read(offset)
}

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.now = Time(3_000_000_000);
    d.bring_up();
    d
}

const SICK: Report = Report {
    syndrome: 0x10,
    ext_syndrome: 0x1234,
    severity: 4,
    fatal: false,
    cold: true,
    vars: [1, 2, 3, 4, 5, 6],
};

#[test]
fn a_syndrome_fills_the_buffer_and_commands_go_on() {
    let mut d = up();
    assert_eq!(read(&d, 0x238), 0);
    d.submit(Input::Health(SICK));
    for i in 0..6 {
        assert_eq!(read(&d, 0x200 + 4 * i), i + 1, "assert_var[{i}]");
    }
    assert_eq!(read(&d, 0x22c), 3, "time in seconds");
    assert_eq!(read(&d, 0x230), 0x1c2b_03f6, "fw_ver 28.43.1014");
    assert_eq!(read(&d, 0x234), 0x218, "hw_id");
    // crr, valid, severity 4.
    assert_eq!(read(&d, 0x238), 0x4c00_0000);
    assert_eq!(read(&d, 0x23c), 0x0010_1234);
    assert_eq!(read(&d, 0x1010) >> 24, 0x10);
    d.ok(&cmd(0x80d, 0, 16), 16);
    d.submit(Input::Health(Report::default()));
    assert_eq!((read(&d, 0x238), read(&d, 0x23c)), (0, 0));
}

#[test]
fn a_fatal_syndrome_stops_commands_and_the_counter_until_a_reset() {
    let mut d = up();
    d.submit(Input::Health(Report {
        fatal: true,
        ..SICK
    }));
    assert_eq!(read(&d, 0x238) >> 31, 1, "rfr");
    let count = read(&d, 0x1010);
    d.now.0 += 5_000_000_000;
    assert_eq!(read(&d, 0x1010), count);
    d.post(0, &cmd(0x80d, 0, 16), 16);
    d.ring(1);
    assert_eq!(d.reply(0, 16), None);
    d.submit(Input::Hang(false));
    d.ring(1);
    assert_eq!(d.reply(0, 16), None, "it does not get better by itself");
    let (function, kind) = (d.f, ResetKind::Flr);
    d.submit(Input::Reset { function, kind });
    assert_eq!(read(&d, 0x238) >> 31, 1, "nor by a reset of one function");
    let kind = ResetKind::Bus;
    d.submit(Input::Reset { function, kind });
    assert_eq!(read(&d, 0x238), 0);
    d.clear_queue();
    d.bring_up();
}

#[test]
fn a_hang_ends() {
    let mut d = up();
    d.submit(Input::Hang(true));
    let count = read(&d, 0x1010);
    d.now.0 += 1_000_000_000;
    d.post(0, &cmd(0x80d, 0, 16), 16);
    d.ring(1);
    assert_eq!((d.reply(0, 16), read(&d, 0x1010)), (None, count));
    d.submit(Input::Hang(false));
    d.ring(1);
    assert_eq!(d.reply(0, 16).unwrap().status(), 0);
    assert_ne!(read(&d, 0x1010), count);
}

#[test]
fn firmware_that_starts_executes_nothing() {
    let mut d = up();
    d.submit(Input::Start { nanos: 2_000_000 });
    assert_eq!(read(&d, 0x1fc) >> 31, 1);
    d.post(0, &cmd(0x80d, 0, 16), 16);
    d.ring(1);
    assert_eq!(d.reply(0, 16), None);
    d.now.0 += 2_000_000;
    assert_eq!(read(&d, 0x1fc) >> 31, 0);
    d.ring(1);
    assert_eq!(d.reply(0, 16).unwrap().status(), 0);
}

#[test]
fn after_a_forced_teardown_the_answer_still_has_its_event() {
    for (profile, told) in [(0u8, false), (1, true), (2, true)] {
        let mut d = up();
        d.ok(&cmd(0x802, 0, 16), 16);
        let mut eq = cmd(0x301, 0, 304);
        // log_eq_size 8, uar 0x40, one vector; the command event alone.
        eq[16 + 12..16 + 16].copy_from_slice(&(8u32 << 24 | 0x40).to_be_bytes());
        eq[0x50 + 14..0x50 + 16].fill(0);
        eq[0x58 + 6] = 0x04;
        for i in 0..4u64 {
            let at = 272 + 8 * i as usize;
            let page = 0x700_0000 + i * 4096;
            d.guest.map(page, 4096);
            eq[at..at + 8].copy_from_slice(&page.to_be_bytes());
        }
        d.ok(&eq, 16);
        // Armed, as a driver does it (offset 0x40 of the UAR page, EQ 1).
        let eqn = d.card.report(d.f).unwrap().eqs;
        assert_eq!(eqn, 1);
        d.submit(Input::UarWrite {
            function: d.f,
            uar: 0x40,
            offset: 0x40,
            data: &(1u32 << 24).to_be_bytes(),
        });
        d.irqs.clear();
        let mut teardown = cmd(0x103, 0, 16);
        teardown[11] = profile;
        d.ok(&teardown, 16);
        assert_eq!(!d.irqs.is_empty(), told, "profile {profile}");
        // A driver that arms only now, for the entry that it has not seen, is told as well.
        d.irqs.clear();
        d.submit(Input::UarWrite {
            function: d.f,
            uar: 0x40,
            offset: 0x40,
            data: &(1u32 << 24).to_be_bytes(),
        });
        assert_eq!(!d.irqs.is_empty(), told, "profile {profile}");
        assert_eq!(d.card.report(d.f).unwrap().objects.len(), 0);
        d.bring_up_again();
        assert_eq!(d.card.report(d.f).unwrap().eqs, 0, "gone with INIT_HCA");
    }
}

#[test]
fn a_command_on_a_channel_waits_for_firmware_that_runs_and_is_told_that_it_did_not() {
    use common::pair::{ANSWER, Pair};
    use fw_model::Delivery;
    let mut p = Pair::new("");
    p.submit(Input::Hang(true));
    p.send(0, ANSWER, &cmd(0x80d, 0, 16), 16);
    p.later(1_000);
    assert!(p.replies.is_empty());
    assert_eq!(p.card.next_deadline(), None, "nothing is due");
    p.submit(Input::Hang(false));
    assert_eq!(p.replies.pop(), Some((ANSWER, Delivery::Reset, vec![])));
    p.submit(Input::Start { nanos: 5_000_000 });
    p.send(1, ANSWER, &cmd(0x80d, 0, 16), 16);
    assert_eq!(p.card.next_deadline(), Some(Time(p.now.0 + 5_000_000)));
    p.later(5);
    assert_eq!(p.replies.pop(), Some((ANSWER, Delivery::Reset, vec![])));
    assert_eq!(p.card.next_deadline(), None);
    p.ok(1, &cmd(0x80d, 0, 16), 16);
}
