// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest pages: the mark that the firmware leaves in them, the demand that grows with objects,
//! and every way of giving and taking that a driver should not try.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{Effect, Input, Notice, syndrome::Syndrome};
use fwctl_proto::layout::{find, set_bits};

const BASE: u64 = 0x1_0000_0000;

/// A function with 16 boot and 32 init pages in memory that is there.
fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.guest.map(BASE, 64 * 4096);
    d.guest.map(0x2_0000_0000, 64 * 4096);
    d.bring_up();
    d
}

fn give(pages: &[u64]) -> Vec<u8> {
    let mut c = cmd(0x108, 1, 16 + 8 * pages.len());
    c[12..16].copy_from_slice(&(pages.len() as u32).to_be_bytes());
    for (place, p) in c[16..].chunks_exact_mut(8).zip(pages) {
        place.copy_from_slice(&p.to_be_bytes());
    }
    c
}

/// Takes `n` pages back: how many came, and which.
fn take(d: &mut Driver, n: u32) -> Vec<u64> {
    let mut c = cmd(0x108, 2, 16);
    c[12..16].copy_from_slice(&n.to_be_bytes());
    let out = d.ok(&c, 16 + 8 * n as usize);
    let count = u32::from_be_bytes(out[8..12].try_into().unwrap());
    out[16..]
        .chunks_exact(8)
        .take(count as usize)
        .map(|b| u64::from_be_bytes(b.try_into().unwrap()))
        .collect()
}

fn notices(d: &Driver) -> Vec<Notice> {
    d.fx.iter()
        .filter_map(|e| match e {
            Effect::Notice { notice, .. } => Some(*notice),
            _ => None,
        })
        .collect()
}

#[test]
fn a_page_that_was_written_to_is_noticed_when_it_goes_back() {
    let mut d = up();
    let extra = [0x3_0000_0000, 0x3_0000_1000, 0x3_0000_2000];
    d.guest.map(extra[0], 3 * 4096);
    d.ok(&give(&extra), 16);
    let mark = d.guest.bytes(extra[1], 16);
    assert_eq!(mark[8..], extra[1].to_be_bytes(), "the page's own address");
    assert_eq!(take(&mut d, 1), [extra[2]]);
    assert_eq!(
        (notices(&d), d.card.report(d.f).unwrap().pages_damaged),
        (vec![], 0)
    );
    // The driver frees a page that is the firmware's, and somebody else uses it.
    d.guest.write(extra[1], &[0x55]);
    let mut c = cmd(0x108, 2, 16);
    c[12..16].copy_from_slice(&2u32.to_be_bytes());
    d.ok(&c, 32);
    assert_eq!(notices(&d), [Notice::PagesDamaged(1)]);
    assert_eq!(d.card.report(d.f).unwrap().pages_damaged, 1);
}

#[test]
fn what_is_given_or_taken_wrongly_changes_nothing() {
    let mut d = up();
    let held = d.card.report(d.f).unwrap().pages;
    assert_eq!(held, 48);
    for (list, syndrome) in [
        (vec![BASE], Syndrome::PageGivenTwice),
        (vec![0x7000_0000, 0x7000_0000], Syndrome::PageGivenTwice),
        (vec![0x7000_0000, 0x7000_1001], Syndrome::PageNotAligned),
    ] {
        assert_eq!(d.exec(&give(&list), 16).syndrome(), syndrome.code());
        assert_eq!(d.card.report(d.f).unwrap().pages, held);
    }
    // An up function keeps what it needs.
    assert!(take(&mut d, 48).is_empty());
    let mut short = give(&[0x7000_0000]);
    short[12..16].copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(
        d.exec(&short, 16).syndrome(),
        Syndrome::InboxTooShort.code()
    );
    let mut c = cmd(0x108, 2, 16);
    c[12..16].copy_from_slice(&2u32.to_be_bytes());
    assert_eq!(
        d.exec(&c, 16).syndrome(),
        Syndrome::OutboxTooShort.code(),
        "no room for the list"
    );
    assert_eq!(
        d.exec(&cmd(0x108, 9, 16), 16).syndrome(),
        Syndrome::UnsupportedOpMod.code()
    );
}

/// The page count of each page request that is in the event queue's page, in order.
fn requests(d: &Driver, eq: u64) -> Vec<i32> {
    d.guest
        .bytes(eq, 4096)
        .chunks_exact(64)
        .filter(|e| e[1] == 0xb)
        .map(|e| i32::from_be_bytes(e[36..40].try_into().unwrap()))
        .collect()
}

#[test]
fn demand_grows_and_shrinks_with_objects() {
    const EQ: u64 = 0x5_0000_0000;
    let mut d = up();
    d.guest.map(EQ, 4096);
    let uar = {
        let out = d.ok(&cmd(0x802, 0, 16), 16);
        u64::from(u32::from_be_bytes([0, out[9], out[10], out[11]]))
    };
    let mut c = cmd(0x301, 0, 272 + 8);
    let place = |f: &str| find("create_eq_in").unwrap().field(f).unwrap();
    for (f, v) in [
        ("eq_context_entry.log_eq_size", 5),
        ("eq_context_entry.uar_page", uar),
    ] {
        set_bits(&mut c, place(f).offset, place(f).width, v);
    }
    // MLX5_EVENT_TYPE_PAGE_REQUEST.
    set_bits(&mut c, 0x2c0, 64, 1 << 0xb);
    c[272..280].copy_from_slice(&EQ.to_be_bytes());
    d.ok(&c, 16);
    // RQTs of 64 KiB: the 32 init pages carry two of them, a batch of 64 pages four more.
    let create = cmd(0x916, 0, 1 << 16);
    let mut ids = Vec::new();
    for _ in 0..8 {
        let out = d.ok(&create, 16);
        ids.push(u32::from_be_bytes([0, out[9], out[10], out[11]]));
    }
    assert_eq!(requests(&d, EQ), [64, 64]);
    for n in ids {
        let mut end = cmd(0x918, 0, 16);
        set_bits(&mut end, 0x48, 24, u64::from(n));
        d.ok(&end, 16);
    }
    assert_eq!(
        requests(&d, EQ),
        [64, 64, -128],
        "not before 128 are too many"
    );
    let out = d.ok(&cmd(0x107, 3, 16), 16);
    assert_eq!(out[12..16], 0i32.to_be_bytes(), "nothing is owed any more");
}

#[test]
fn a_held_answer_keeps_its_slot_and_lets_others_pass() {
    let mut d = up();
    d.submit(Input::Delay {
        opcode: 0x101,
        nanos: 5_000,
    });
    d.post(1, &cmd(0x101, 0, 16), 272);
    d.post(2, &cmd(0x80d, 0, 16), 16);
    d.ring(0b110);
    assert_eq!(d.reply(1, 272), None, "held");
    assert_eq!(d.reply(2, 16).unwrap().status(), 0, "out of order");
    let due = d.card.next_deadline().unwrap();
    assert_eq!(due.0, d.now.0 + 5_000);
    d.now = fw_model::Time(due.0 - 1);
    d.poll();
    assert_eq!(d.reply(1, 272), None);
    d.now = due;
    d.poll();
    let r = d.reply(1, 272).unwrap();
    assert_eq!((r.delivery, r.status()), (0, 0));
    assert_eq!(d.card.next_deadline(), None);
    d.submit(Input::Delay {
        opcode: 0x101,
        nanos: 0,
    });
    d.ok(&cmd(0x101, 0, 16), 272);
}

/// Their sum is computed, and a driver is told it as a signed number.
#[test]
fn a_profile_wants_no_more_pages_than_a_function_may_hold() {
    let most = fw_model::limits::MAX_PAGES / 2;
    for (name, pages) in [("boot", most + 1), ("init", u32::MAX as usize)] {
        let text = format!("inherits = \"connectx7\"\n[pages]\n{name} = {pages}");
        let why = fw_model::Profile::parse(&text, "hungry").unwrap_err();
        assert_eq!(why.what, format!("pages.{name}: {pages} is above {most}"));
    }
    let text = format!("inherits = \"connectx7\"\n[pages]\nboot = {most}\ninit = {most}");
    fw_model::Profile::parse(&text, "hungry").unwrap();
}
