// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults on the driver's side: what each leaves in the slot, in memory and in the event queue.

#![allow(clippy::unwrap_used)]

mod common;

use common::{CMDQ, Driver, cmd};
use fw_model::{
    Card, Effect, Input, MAX_LATE, Notice, ResetKind,
    fault::{Fault, MAX_FAULTS},
};
use fwctl_proto::{
    layout::{find, get_bits, set_bits},
    opcode as op,
};

const EQ_PAGE: u64 = 0x5_0000_0000;
const BAD_PARAM: u8 = 3;
const BAD_RES: u8 = 5;
const MS: u64 = 1_000_000;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn fault(d: &mut Driver, text: &str) {
    let fault = Fault::parse(text).unwrap();
    d.submit(Input::Fault(&fault));
}

/// A driver with one fault.
fn with(text: &str) -> Driver {
    let mut d = up();
    fault(&mut d, text);
    d
}

/// Protection domains that there are.
fn pds(d: &mut Driver) -> usize {
    d.card
        .report(d.f)
        .unwrap()
        .objects
        .get("pd")
        .copied()
        .unwrap_or(0)
}

fn alloc_pd() -> Vec<u8> {
    cmd(op::ALLOC_PD, 0, 16)
}

#[test]
fn a_refused_command_is_not_executed_and_the_next_one_is() {
    let mut d = with("opcode=ALLOC_PD : status=BAD_PARAM syndrome=0x1234");
    let r = d.exec(&alloc_pd(), 16);
    assert_eq!(
        (r.delivery, r.status(), r.syndrome()),
        (0, BAD_PARAM, 0x1234)
    );
    assert_eq!((pds(&mut d), &r.out[8..]), (0, &[0; 8][..]));
    assert_eq!(d.exec(&alloc_pd(), 16).status(), 0);
    assert_eq!(pds(&mut d), 1);
    let [f] = d.card.faults() else { panic!() };
    assert_eq!((f.matched, f.struck, f.left), (1, 1, Some(0)));
}

#[test]
fn what_must_hold_must_all_hold() {
    let mut d =
        with("opcode=NOP uid=0 function=0 state=up op_mod=3 nth=2 : status=BAD_RES : times=2");
    let statuses = |d: &mut Driver, op_mod: u16| -> Vec<u8> {
        (0..4)
            .map(|_| d.exec(&cmd(op::NOP, op_mod, 16), 16).status())
            .collect()
    };
    assert_eq!(statuses(&mut d, 0), [0; 4]);
    assert_eq!(statuses(&mut d, 3), [0, BAD_RES, BAD_RES, 0]);
    for never in [
        "uid=1",
        "function=1",
        "state=enabled",
        "opcode=QUERY_ADAPTER",
    ] {
        let mut d = with(&format!("{never} : status=BAD_RES : times=0"));
        assert_eq!(statuses(&mut d, 0), [0; 4], "{never}");
    }
    let mut d = with("register=MGIR : status=BAD_RES : times=0");
    let read = |id: u16| {
        let mut c = cmd(op::ACCESS_REG, 1, 16 + 160);
        c[10..12].copy_from_slice(&id.to_be_bytes());
        c
    };
    assert_eq!(d.exec(&read(0x9020), 176).status(), BAD_RES);
    assert_eq!(d.exec(&read(0x9028), 176).status(), 0);
    // A field of the inbox.
    let mut d = with("opcode=DEALLOC_PD pd=77 : status=BAD_RES syndrome=7 : times=0");
    let mut c = cmd(op::DEALLOC_PD, 0, 16);
    c[11] = 77;
    assert_eq!(d.exec(&c, 16).syndrome(), 7);
    c[11] = 78;
    assert_ne!(d.exec(&c, 16).syndrome(), 7);
}

#[test]
fn chance_follows_the_seed() {
    let run = || -> Vec<u8> {
        let mut d = with("opcode=NOP percent=30 : status=BAD_RES : times=0");
        (0..200)
            .map(|_| d.exec(&cmd(op::NOP, 0, 16), 16).status())
            .collect()
    };
    let first = run();
    assert_eq!(first, run());
    let struck = first.iter().filter(|s| **s != 0).count();
    assert!((30..90).contains(&struck), "{struck}");
}

#[test]
fn what_is_silent_was_never_executed_and_what_is_lost_was() {
    for (then, made) in [("silent", 0), ("lost", 1)] {
        let mut d = with(&format!("opcode=ALLOC_PD : {then}"));
        d.post(3, &alloc_pd(), 16);
        d.ring(1 << 3);
        d.now.0 += 3_600_000 * MS;
        d.poll();
        assert_eq!((d.reply(3, 16), pds(&mut d)), (None, made), "{then}");
        // Other slots go on, and the slot is not taken again.
        d.ring(1 << 3);
        assert_eq!(d.exec(&cmd(op::NOP, 0, 16), 16).status(), 0);
        assert_eq!(d.card.next_deadline(), None);
        let function = d.f;
        d.submit(Input::Reset {
            function,
            kind: ResetKind::Flr,
        });
        d.clear_queue();
        d.bring_up();
        d.post(3, &alloc_pd(), 16);
        d.ring(1 << 3);
        assert_eq!(d.reply(3, 16).unwrap().status(), 0, "{then}");
    }
}

#[test]
fn a_delay_holds_one_slot() {
    let mut d = with("opcode=NOP : delay=250");
    d.post(1, &cmd(op::NOP, 0, 16), 16);
    d.ring(2);
    assert_eq!(d.reply(1, 16), None);
    assert_eq!(d.exec(&cmd(op::NOP, 0, 16), 16).status(), 0);
    d.now.0 += 250 * MS - 1;
    d.poll();
    assert_eq!(d.reply(1, 16), None);
    d.now.0 += 1;
    d.poll();
    assert_eq!(d.reply(1, 16).unwrap().status(), 0);
}

#[test]
fn the_outbox_is_changed_where_it_is_said() {
    let query = cmd(op::QUERY_HCA_CAP, 1, 16);
    let log_max_eq = find("cmd_hca_cap").unwrap().field("log_max_eq").unwrap();
    let right = up().exec(&query, 4112).out;
    let read = |out: &[u8]| get_bits(&out[16..], log_max_eq.offset, log_max_eq.width);
    assert_eq!(read(&right), 6);
    // The union in the outbox has no field of that name: the capability's own layout has.
    let mut d = with("opcode=QUERY_HCA_CAP : fill=1");
    let out = d.exec(&query, 4112).out;
    assert_eq!(
        (&out[..8], out[8..].iter().all(|b| *b == 0xff)),
        (&[0; 8][..], true)
    );
    let mut d = with("opcode=QUERY_HCA_CAP : fill=0");
    assert_eq!(d.exec(&query, 4112).out, [0; 4112]);
    let mut d = with("opcode=QUERY_HCA_CAP : cut=100");
    let out = d.exec(&query, 4112).out;
    assert_eq!(out[..100], right[..100]);
    assert!(out[100..].iter().all(|b| *b == 0));
    let random = || {
        with("opcode=QUERY_HCA_CAP : fill=random")
            .exec(&query, 4112)
            .out
    };
    let out = random();
    assert_eq!(out, random(), "by the seed");
    assert!(out[8..].chunks(256).all(|c| c.iter().any(|b| *b != 0)) && out != right);
    let mut d = with("opcode=ALLOC_PD : set.pd=0x123456");
    let out = d.exec(&alloc_pd(), 16).out;
    assert_eq!(out[8..12], [0, 0x12, 0x34, 0x56]);
    // A short outbox does not have the field.
    let mut d = with("opcode=ALLOC_PD : set.pd=0x123456");
    assert_eq!(d.exec(&alloc_pd(), 8).out, [0; 8]);
    let mut d = with("register=MGIR : set.hw_info.device_id=0xabcd");
    let mut c = cmd(op::ACCESS_REG, 1, 16 + 160);
    c[10..12].copy_from_slice(&0x9020_u16.to_be_bytes());
    assert_eq!(d.exec(&c, 176).out[18..20], [0xab, 0xcd]);
}

/// A driver whose command event queue is armed on vector 2.
fn with_events(text: &str) -> Driver {
    let mut d = up();
    let out = d.ok(&cmd(op::ALLOC_UAR, 0, 16), 16);
    let uar = u32::from_be_bytes([0, out[9], out[10], out[11]]);
    d.guest.map(EQ_PAGE, 4096);
    let mut c = cmd(op::CREATE_EQ, 0, 272 + 8);
    set_bits(&mut c, 0x80 + 0x63, 5, 5);
    set_bits(&mut c, 0x80 + 0x68, 24, u64::from(uar));
    set_bits(&mut c, 0x80 + 0xb4, 12, 2);
    set_bits(&mut c, 0x2c0, 64, 1 << 0xa);
    c[272..280].copy_from_slice(&EQ_PAGE.to_be_bytes());
    let eqn = d.ok(&c, 16)[11];
    let value = (u32::from(eqn) << 24).to_be_bytes();
    let function = d.f;
    d.submit(Input::UarWrite {
        function,
        uar,
        offset: 0x40,
        data: &value,
    });
    fault(&mut d, text);
    d
}

/// NOP in slot 4: the entry's last four bytes, the slots that events name, interrupts.
fn nop(text: &str) -> ([u8; 4], Vec<u32>, usize) {
    let mut d = with_events(text);
    d.irqs.clear();
    d.post(4, &cmd(op::NOP, 0, 16), 16);
    d.ring(1 << 4);
    let entry = d.guest.bytes(CMDQ + 4 * 64 + 60, 4);
    let eqes = d.guest.bytes(EQ_PAGE, 4096);
    let named = eqes.chunks(64).filter(|e| e[1] == 0xa);
    let named = named.map(|e| u32::from_be_bytes(e[32..36].try_into().unwrap()));
    (entry.try_into().unwrap(), named.collect(), d.irqs.len())
}

#[test]
fn the_answer_of_a_slot_is_twisted() {
    let plain = nop("opcode=QUERY_ADAPTER : lost");
    let token = plain.0[0];
    assert_eq!(plain, ([token, 0, 0, 0], vec![1 << 4], 1));
    let (entry, events, _) = nop("opcode=NOP : delivery=TOK_ERR");
    // MLX5_CMD_DELIVERY_STAT_TOK_ERR is 2, above the owner bit.
    assert_eq!((entry[3], events), (2 << 1, vec![1 << 4]));
    let (entry, ..) = nop("opcode=NOP : token=0xee");
    assert_eq!(entry[0], 0xee);
    let (entry, events, _) = nop("opcode=NOP : owner");
    assert_eq!((entry[3] & 1, events), (1, vec![1 << 4]));
    let (entry, events, irqs) = nop("opcode=NOP : no-event");
    assert_eq!((entry[3], events, irqs), (0, vec![], 0));
    let (_, events, irqs) = nop("opcode=NOP : other-slot=9");
    assert_eq!((events, irqs), (vec![1 << 9], 1));
    let (entry, events, irqs) = nop("opcode=NOP : twice");
    assert_eq!((entry[3], events, irqs), (0, vec![1 << 4, 1 << 4], 1));
    // Several faults of one command all strike, and a delay keeps the twist.
    let mut d = with_events("opcode=NOP : delay=10");
    fault(&mut d, "any : token=0x77");
    d.post(4, &cmd(op::NOP, 0, 16), 16);
    d.ring(1 << 4);
    d.now.0 += 10 * MS;
    d.poll();
    assert_eq!(d.guest.bytes(CMDQ + 4 * 64 + 60, 1), [0x77]);
}

#[test]
fn they_are_counted_cleared_and_saved_and_outlive_the_card() {
    let mut d = up();
    for _ in 0..MAX_FAULTS + 3 {
        fault(&mut d, "opcode=NOP : lost");
    }
    assert_eq!(d.card.faults().len(), MAX_FAULTS);
    let first = d.card.faults()[0].id;
    d.submit(Input::ClearFaults(Some(first)));
    assert_eq!(d.card.faults().len(), MAX_FAULTS - 1);
    d.submit(Input::ClearFaults(Some(first)));
    d.submit(Input::ClearFaults(None));
    assert!(d.card.faults().is_empty());
    // Those that are used up make room, the oldest first, and no others do.
    for _ in 0..3 {
        fault(&mut d, "opcode=NOP : status=BAD_RES");
        d.exec(&cmd(op::NOP, 0, 16), 16);
    }
    let used_up = d.card.faults()[0].id;
    for _ in 0..MAX_FAULTS - 1 {
        fault(&mut d, "opcode=ALLOC_PD : lost : times=0");
    }
    let left: Vec<_> = d.card.faults().iter().map(|f| (f.id, f.left)).collect();
    assert_eq!(left.len(), MAX_FAULTS);
    assert_eq!(left[0], (used_up + 2, Some(0)));
    assert_eq!(left[1], (used_up + 3, None));
    fault(&mut d, "opcode=ALLOC_PD : lost : times=0");
    fault(&mut d, "opcode=ALLOC_PD : lost : times=0");
    let last = d.card.faults().last().map(|f| f.id);
    assert_eq!(last, Some(used_up + 2 + MAX_FAULTS as u32));
    d.submit(Input::ClearFaults(None));
    fault(&mut d, "opcode=NOP nth=2 : status=BAD_RES : times=0");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    let bytes = d.card.save().unwrap();
    let profile = fw_model::Profile::builtin("connectx7").unwrap();
    d.card = Card::load(profile, &bytes).unwrap();
    d.submit(Input::PowerCycle);
    d.now.0 += 1000 * MS;
    d.clear_queue();
    d.bring_up();
    assert_eq!(d.exec(&cmd(op::NOP, 0, 16), 16).status(), BAD_RES);
    // Nothing was sent that nobody asked for.
    assert!(!d.fx.iter().any(|e| matches!(e, Effect::Reply { .. })));
}

#[test]
fn an_event_has_a_wrong_owner_or_type() {
    let at = |text: &str, byte: usize| {
        let mut d = with_events(text);
        d.ok(&cmd(op::NOP, 0, 16), 16);
        (d.guest.bytes(EQ_PAGE, 64)[byte], d.irqs.clone())
    };
    // The first round of a queue: owner bit 0; type 0xa is MLX5_EVENT_TYPE_CMD.
    assert_eq!(at("opcode=NOP : delay=0", 63), (0, vec![2]));
    assert_eq!(at("opcode=NOP : event-owner", 63), (1, vec![2]));
    assert_eq!(at("opcode=NOP : event-owner", 1), (0xa, vec![2]));
    assert_eq!(at("opcode=NOP : event-type=PORT_CHANGE", 1), (9, vec![2]));
    assert_eq!(at("opcode=NOP : event-type=0xfe", 63), (0, vec![2]));
}

#[test]
fn an_interrupt_is_lost_repeated_or_late() {
    let mut d = with_events("opcode=NOP : no-interrupt");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    assert_eq!((d.guest.bytes(EQ_PAGE, 2)[1], d.irqs.len()), (0xa, 0));
    let mut d = with_events("opcode=NOP : interrupts=3");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    assert_eq!(d.irqs, [2; 4]);
    let mut d = with_events("opcode=NOP : late-interrupt=250 : times=2");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    assert_eq!((d.guest.bytes(EQ_PAGE, 2)[1], d.irqs.len()), (0xa, 0));
    assert_eq!(d.card.next_deadline().unwrap().0, d.now.0 + 250 * MS);
    d.now.0 += 250 * MS - 1;
    d.poll();
    assert_eq!(d.irqs.len(), 0);
    d.now.0 += 1;
    d.poll();
    assert_eq!(
        (d.irqs.as_slice(), d.card.next_deadline()),
        (&[2][..], None)
    );
    // A queue that is not armed has no interrupt that could be late.
    d.ok(&cmd(op::NOP, 0, 16), 16);
    assert_eq!(d.card.next_deadline(), None);
}

#[test]
fn a_late_interrupt_ends_with_a_reset() {
    let mut d = with_events("opcode=NOP : late-interrupt=250");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    let function = d.f;
    d.submit(Input::Reset {
        function,
        kind: ResetKind::Flr,
    });
    assert_eq!(d.card.next_deadline(), None);
}

#[test]
fn the_firmware_does_something_of_its_own() {
    // Types of EQEs: 0x9 port change, 0xb page request; the queue takes what its mask says.
    let events = |text: &str| {
        let mut d = with_events(text);
        d.ok(&cmd(op::NOP, 0, 16), 16);
        let eqes = d.guest.bytes(EQ_PAGE, 4096);
        let types = eqes.chunks(64).map(|e| e[1]).filter(|t| *t != 0);
        types.collect::<Vec<_>>()
    };
    // What it does comes before the answer's own event.
    assert_eq!(events("opcode=NOP : raise=CMD"), [0xa, 0xa]);
    assert_eq!(events("opcode=NOP : raise=0xa count=7"), [0xa; 8]);
    // A ring of 32 takes no more than that, however many are raised.
    assert_eq!(events("opcode=NOP : raise=CMD count=4096").len(), 32);
    let mut d = with("opcode=NOP : page-demand=5");
    let before = d.card.pages(d.f).unwrap().target;
    d.ok(&cmd(op::NOP, 0, 16), 16);
    assert_eq!(d.card.pages(d.f).unwrap().target, before + 5);
    // An address at byte 8; one that the inbox has no room for is none.
    let (addr, mut inbox) = (0x7_0000_0000_u64, cmd(op::NOP, 0, 16));
    inbox[8..].copy_from_slice(&addr.to_be_bytes());
    for (then, written) in [("stray-write=8", 0xdb), ("stray-write=9", 0)] {
        let mut d = with(&format!("opcode=NOP : {then}"));
        d.guest.map(addr, 4096);
        d.ok(&inbox, 16);
        assert_eq!(d.guest.bytes(addr, 64), [written; 64], "{then}");
        assert_eq!(d.guest.bytes(addr + 64, 64), [0; 64], "{then}");
    }
    // Health buffer: `rfr` is bit 31 of the dword at 0x238, the syndrome bits 16..24 of 0x23c.
    for (then, rfr) in [("health=HW_FATAL_ERR", 0), ("health=HW_FATAL_ERR fatal", 1)] {
        let mut d = with(&format!("opcode=NOP : {then}"));
        d.ok(&cmd(op::NOP, 0, 16), 16);
        // MLX5_INITIAL_SEG_HEALTH_SYNDROME_HW_ERR.
        assert_eq!(d.segment_read(0x23c) >> 16 & 0xff, 8);
        assert_eq!(d.segment_read(0x238) >> 31, rfr, "{then}");
        d.post(1, &cmd(op::NOP, 0, 16), 16);
        d.ring(2);
        assert_eq!(d.reply(1, 16).is_none(), rfr == 1, "{then}");
    }
}

#[test]
fn an_event_s_data_is_zero_or_random() {
    // EQE: sub-type at byte 3, data at 32..60.
    let data = |text: &str| {
        let mut d = with_events(text);
        d.ok(&cmd(op::NOP, 0, 16), 16);
        let eqe = d.guest.bytes(EQ_PAGE, 64);
        assert_eq!(eqe[1], 0xa, "it comes before the answer's own event");
        (eqe[3], eqe[32..60].to_vec())
    };
    let faults = |then: &str| format!("opcode=NOP : raise=CMD {then}");
    assert_eq!(data(&faults("count=1")), (0, vec![0; 28]));
    let random = data(&faults("random-data"));
    assert_ne!(random.1, [0; 28]);
    assert_eq!(data(&faults("random-data")), random, "the seed is the same");
}

#[test]
fn fields_of_an_answer_change_and_it_is_told_whether_the_driver_went_on() {
    let ask = |d: &mut Driver| d.exec(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    let right = ask(&mut up());
    let mut d = with("opcode=QUERY_ADAPTER : mutate=3");
    let counts = |d: &Driver| {
        let [f] = d.card.faults() else { panic!() };
        (f.struck, f.followed)
    };
    let wrong = ask(&mut d);
    assert_eq!((wrong.delivery, wrong.status()), (0, 0));
    assert_ne!(wrong.out, right.out);
    assert_eq!(wrong.out[..8], right.out[..8], "not status and syndrome");
    assert_eq!(counts(&d), (1, 0));
    assert_eq!(ask(&mut d).out, right.out);
    assert_eq!(counts(&d), (1, 1));
}

#[test]
fn the_firmware_stands_still() {
    // `health_counter`; its first byte is the syndrome.
    let counter = |d: &Driver| d.segment_read(0x1010) & 0xff_ffff;
    for (then, runs) in [("hang", false), ("frozen-counter", true)] {
        let mut d = with(&format!("opcode=NOP : {then}"));
        d.now.0 += 5000 * MS;
        d.ok(&cmd(op::NOP, 0, 16), 16);
        let before = counter(&d);
        d.now.0 += 5000 * MS;
        assert_eq!(counter(&d), before, "{then}");
        d.post(1, &cmd(op::NOP, 0, 16), 16);
        d.ring(2);
        assert_eq!(d.reply(1, 16).is_some(), runs, "{then}");
        // Only a reset of the host brings it to life.
        let function = d.f;
        d.submit(Input::Reset {
            function,
            kind: ResetKind::Bus,
        });
        assert_ne!(counter(&d), before, "{then}");
    }
    let mut d = with("opcode=NOP : starting=700");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    assert_eq!(d.segment_read(0x1fc) >> 31, 1);
    d.now.0 += 700 * MS;
    assert_eq!(d.segment_read(0x1fc) >> 31, 0);
}

#[test]
fn what_is_outside_the_model_is_asked_for() {
    let noticed = |text: &str| {
        let mut d = with(text);
        d.post(1, &cmd(op::NOP, 0, 16), 16);
        d.ring(2);
        let notice = d.fx.iter().find_map(|e| match e {
            Effect::Notice { notice, .. } => Some(*notice),
            _ => None,
        });
        (notice, d.card.report(d.f).unwrap().state)
    };
    assert_eq!(noticed("opcode=NOP : crash"), (Some(Notice::Crash), "up"));
    assert_eq!(
        noticed("opcode=NOP : removal"),
        (Some(Notice::Removal), "disabled")
    );
    assert_eq!(noticed("opcode=NOP : cable=0"), (None, "up"));
}

#[test]
fn only_so_many_interrupts_are_late() {
    let mut d = with_events("opcode=NOP : late-interrupt=1000 : times=0");
    let (eqn, uar) = (
        d.card.eqs(d.f)[0].eqn,
        d.card.objects(d.f, Some("uar"))[0].id,
    );
    for i in 0..MAX_LATE as u32 + 2 {
        let value = (u32::from(eqn) << 24 | i).to_be_bytes();
        let function = d.f;
        d.submit(Input::UarWrite {
            function,
            uar,
            offset: 0x40,
            data: &value,
        });
        d.ok(&cmd(op::NOP, 0, 16), 16);
    }
    assert_eq!(d.irqs.len(), 2, "more than that come at once");
    d.now.0 += 1000 * MS;
    d.poll();
    assert_eq!(d.irqs.len(), MAX_LATE + 2);
}

#[test]
fn reserved_bits_are_those_that_no_layout_names() {
    let query = cmd(op::QUERY_HCA_CAP, 1, 16);
    let right = up().exec(&query, 4112).out;
    let caps = find("cmd_hca_cap").unwrap().leaves();
    let named = |out: &[u8]| -> Vec<u64> {
        let read = |p: &fwctl_proto::layout::Leaf| get_bits(&out[16..], p.offset, p.width);
        caps.iter().map(read).collect()
    };
    for fill in ["1", "random", "0"] {
        let mut d = with(&format!("opcode=QUERY_HCA_CAP : reserved={fill}"));
        let out = d.exec(&query, 4112).out;
        // Status and syndrome too: their names hold.
        assert_eq!((out[0], &out[4..8]), (0, &[0; 4][..]), "{fill}");
        assert_eq!(named(&out), named(&right), "{fill}");
        if fill == "1" {
            // mlx5_ifc_query_hca_cap_out_bits: reserved_at_8[0x18], reserved_at_40[0x40].
            assert_eq!((&out[1..4], &out[8..16]), (&[0xff; 3][..], &[0xff; 8][..]));
        }
        assert_eq!(out == right, fill == "0", "{fill}");
    }
    // Of a register, the rest of its dwords: mlx5_ifc_paos_reg_bits has swid 8, local_port 8,
    // reserved 4, admin_status 4, reserved 4, oper_status 4; ase 1, ee 1, reserved 28, e 2.
    let mut c = cmd(op::ACCESS_REG, 1, 32);
    c[10..12].copy_from_slice(&0x5006_u16.to_be_bytes());
    c[17] = 1;
    let right = up().exec(&c, 32).out;
    let mut d = with("register=PAOS : reserved=1");
    let out = d.exec(&c, 32).out;
    let dword = |b: &[u8], at: usize| u32::from_be_bytes(b[at..at + 4].try_into().unwrap());
    assert_eq!(dword(&out, 16), dword(&right, 16) | 0x0000_f0f0);
    assert_eq!(dword(&out, 20), dword(&right, 20) | 0x3fff_fffc);
    // A refused command has them as well, and a short answer only its own.
    let mut d = with("opcode=DEALLOC_PD : reserved=1");
    let mut free = cmd(op::DEALLOC_PD, 0, 16);
    free[11] = 99;
    let r = d.exec(&free, 12);
    assert_eq!(r.status(), BAD_RES);
    assert_eq!(
        (&r.out[1..4], &r.out[8..12]),
        (&[0xff; 3][..], &[0xff; 4][..])
    );
}

#[test]
fn a_configuration_item_is_matched_and_changed_by_its_own_fields() {
    // MNVDA: its header's type word at byte 4, the data at byte 12 of the register.
    let item = fwctl_proto::mst::nv::named("nv_crypto_conf").unwrap();
    let word = u32::from(item.class) << 24 | item.id;
    let mnvda = |word: u32| {
        let mut c = cmd(op::ACCESS_REG, 1, 16 + 140);
        c[10..12].copy_from_slice(&0x9024_u16.to_be_bytes());
        c[16 + 2] = 8;
        c[20..24].copy_from_slice(&word.to_be_bytes());
        c
    };
    let policy = item.layout.field("crypto_policy").unwrap();
    let read = |out: &[u8]| get_bits(&out[28..], policy.offset, policy.width);
    let mut d = with("item=nv_crypto_conf : set.crypto_policy=2 : times=0");
    assert_eq!(read(&d.exec(&mnvda(word), 156).out), 2);
    // Another item is not struck.
    let other = fwctl_proto::mst::nv::named("nv_global_pci_conf").unwrap();
    let other = u32::from(other.class) << 24 | other.id;
    d.exec(&mnvda(other), 156);
    assert_eq!(d.card.faults()[0].struck, 1);
    // By a value that is written.
    let mut d = with("item=nv_crypto_conf crypto_policy=1 : status=BAD_PARAM : times=0");
    let mut write = |policy_is: u64| {
        let mut c = mnvda(word);
        c[7] = 0;
        set_bits(&mut c[28..], policy.offset, policy.width, policy_is);
        d.exec_any(&c, 156);
        d.card.faults()[0].struck
    };
    assert_eq!((write(2), write(1), write(0)), (0, 1, 1));
}

#[test]
fn what_happens_by_itself_happens_at_its_time() {
    let mut d = up();
    let before = d.card.pages(d.f).unwrap().target;
    let start = d.now.0;
    fault(&mut d, "at=500 : page-demand=3 : times=2");
    fault(&mut d, "at=0 : page-demand=100");
    let target = |d: &Driver| d.card.pages(d.f).unwrap().target - before;
    assert_eq!(target(&d), 0, "not before the card is polled");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let due = d.card.next_deadline().unwrap();
        // What else is due has no part in it.
        d.now = due.max(d.now);
        d.poll();
        seen.push((d.now.0 - start, target(&d)));
    }
    assert_eq!(seen, [(0, 100), (500 * MS, 103), (1000 * MS, 106)]);
    let left: Vec<_> = d.card.faults().iter().map(|f| (f.struck, f.left)).collect();
    assert_eq!(left, [(2, Some(0)), (1, Some(0))]);
    assert_eq!(d.card.next_deadline(), None);
    // No command is struck by it, and what was saved goes on.
    fault(&mut d, "at=10 : hang : times=0");
    d.ok(&cmd(op::NOP, 0, 16), 16);
    let profile = fw_model::Profile::builtin("connectx7").unwrap();
    d.card = Card::load(profile, &d.card.save().unwrap()).unwrap();
    d.now.0 += 10 * MS;
    d.poll();
    d.post(1, &cmd(op::NOP, 0, 16), 16);
    d.ring(2);
    assert!(d.reply(1, 16).is_none());
    assert!(d.card.next_deadline().unwrap().0 >= d.now.0 + 9 * MS);
    d.submit(Input::ClearFaults(None));
    assert_eq!(d.card.next_deadline(), None);
}
