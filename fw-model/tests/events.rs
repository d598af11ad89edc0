// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Command completion events: when there is one, what it says, and the interrupt.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::Input;
use fwctl_proto::layout::set_bits;

const EQ_PAGE: u64 = 0x5_0000_0000;

/// Makes the command event queue with `log_eq_size` 5 on vector 2, as the driver's first EQ.
fn create_command_eq(d: &mut Driver) -> (u8, u32) {
    let out = d.ok(&cmd(0x802, 0, 16), 16);
    let uar = u32::from_be_bytes([0, out[9], out[10], out[11]]);
    d.guest.map(EQ_PAGE, 4096);
    let mut c = cmd(0x301, 0, 272 + 8);
    set_bits(&mut c, 0x80 + 0x63, 5, 5);
    set_bits(&mut c, 0x80 + 0x68, 24, u64::from(uar));
    set_bits(&mut c, 0x80 + 0xb4, 12, 2);
    set_bits(&mut c, 0x2c0, 64, 1 << 0xa);
    c[272..280].copy_from_slice(&EQ_PAGE.to_be_bytes());
    (d.ok(&c, 16)[11], uar)
}

fn arm(d: &mut Driver, eqn: u8, uar: u32, consumer: u32) {
    let value = (u32::from(eqn) << 24 | consumer).to_be_bytes();
    let function = d.f;
    d.submit(Input::UarWrite {
        function,
        uar,
        offset: 0x40,
        data: &value,
    });
}

#[test]
fn completions_come_only_between_the_queues_own_create_and_destroy() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let (eqn, uar) = create_command_eq(&mut d);
    assert_eq!(
        d.guest.bytes(EQ_PAGE, 64),
        [0; 64],
        "its own CREATE_EQ is polled for"
    );
    arm(&mut d, eqn, uar, 0);
    assert!(d.irqs.is_empty());
    d.post(9, &cmd(0x80d, 0, 16), 16);
    d.ring(1 << 9);
    let eqe = d.guest.bytes(EQ_PAGE, 64);
    assert_eq!(
        (eqe[1], &eqe[32..36], eqe[63]),
        (0x0a, &[0, 0, 2, 0][..], 0)
    );
    assert_eq!(d.irqs, [2]);
    d.ok(&cmd(0x80d, 0, 16), 16);
    assert_eq!(d.irqs, [2], "not armed: no second interrupt");
    assert_eq!(d.guest.bytes(EQ_PAGE + 64, 64)[1], 0x0a);
    let mut destroy = cmd(0x302, 0, 16);
    destroy[11] = eqn;
    let before = d.guest.bytes(EQ_PAGE, 4096);
    d.ok(&destroy, 16);
    assert_eq!(
        d.guest.bytes(EQ_PAGE, 4096),
        before,
        "its own DESTROY_EQ is polled for"
    );
    d.ok(&cmd(0x80d, 0, 16), 16);
    assert_eq!(d.guest.bytes(EQ_PAGE, 4096), before);
}

#[test]
fn a_doorbell_of_another_page_or_queue_moves_nothing() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let (eqn, uar) = create_command_eq(&mut d);
    arm(&mut d, eqn, uar + 1, 0);
    arm(&mut d, eqn + 1, uar, 0);
    d.ok(&cmd(0x80d, 0, 16), 16);
    assert!(d.irqs.is_empty());
    let function = d.f;
    for data in [&[0u8; 1][..], &[0; 2], &[0; 8]] {
        d.submit(Input::UarWrite {
            function,
            uar,
            offset: 0x40,
            data,
        });
    }
    assert!(d.irqs.is_empty());
}

#[test]
fn page_requests_tell_the_driver_and_the_books_follow() {
    let mut d = Driver::new("minimal");
    let function = d.f;
    d.submit(Input::PageDemand { function, count: 3 });
    assert!(
        d.fx.is_empty(),
        "a function that is not up asks for nothing"
    );
    d.bring_up();
    let out = d.ok(&cmd(0x802, 0, 16), 16);
    let mut c = cmd(0x301, 0, 272 + 8);
    set_bits(&mut c, 0x80 + 0x63, 5, 4);
    set_bits(&mut c, 0x80 + 0x68, 24, u64::from(out[11]));
    set_bits(&mut c, 0x2c0, 64, 1 << 0xb);
    c[272..280].copy_from_slice(&EQ_PAGE.to_be_bytes());
    d.guest.map(EQ_PAGE, 4096);
    d.ok(&c, 16);
    d.submit(Input::PageDemand { function, count: 3 });
    let eqe = d.guest.bytes(EQ_PAGE, 64);
    assert_eq!(
        (eqe[1], &eqe[32..40]),
        (0x0b, &[0, 0, 0, 0, 0, 0, 0, 3][..])
    );
    assert_eq!(d.give(3, 0x7_0000_0000), 3);
    let regular = |d: &mut Driver| d.ok(&cmd(0x107, 3, 16), 16)[12..16].to_vec();
    assert_eq!(regular(&mut d), 0u32.to_be_bytes());
    d.submit(Input::PageDemand {
        function,
        count: -2,
    });
    assert_eq!(d.guest.bytes(EQ_PAGE + 64 + 36, 4), (-2i32).to_be_bytes());
    assert_eq!(regular(&mut d), (-2i32).to_be_bytes());
    let mut take = cmd(0x108, 2, 16);
    take[15] = 9;
    let out = d.ok(&take, 16 + 72);
    assert_eq!(out[8..12], 2u32.to_be_bytes());
    d.submit(Input::PageDemand { function, count: 5 });
    d.ok(&cmd(0x108, 0, 16), 16);
    assert_eq!(
        regular(&mut d),
        0u32.to_be_bytes(),
        "the driver had none to give"
    );
}

#[test]
fn event_queues_that_cannot_work_are_refused() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let out = d.ok(&cmd(0x802, 0, 16), 16);
    let uar = u64::from(u32::from_be_bytes([0, out[9], out[10], out[11]]));
    let good = |pages: usize| {
        let mut c = cmd(0x301, 0, 272 + 8 * pages);
        set_bits(&mut c, 0x80 + 0x63, 5, 7);
        set_bits(&mut c, 0x80 + 0x68, 24, uar);
        c
    };
    let refused = |d: &mut Driver, c: &[u8]| d.exec(c, 16).syndrome();
    use fw_model::syndrome::Syndrome as S;
    assert_eq!(
        refused(&mut d, &good(1)),
        S::InboxTooShort.code(),
        "128 EQEs need two pages"
    );
    let mut c = good(2);
    set_bits(&mut c, 0x80 + 0x68, 24, uar + 1);
    assert_eq!(refused(&mut d, &c), S::EqUar.code());
    let mut c = good(2);
    set_bits(&mut c, 0x80 + 0x63, 5, 0);
    assert_eq!(refused(&mut d, &c), S::EqSize.code());
    let mut c = good(2);
    set_bits(&mut c, 0x80 + 0x63, 5, 19);
    assert_eq!(refused(&mut d, &c), S::EqSize.code());
    let mut c = good(2);
    set_bits(&mut c, 0x80 + 0xb4, 12, 8);
    assert_eq!(refused(&mut d, &c), S::EqVector.code());
    let mut c = good(2);
    c[272..280].copy_from_slice(&0x123u64.to_be_bytes());
    assert_eq!(refused(&mut d, &c), S::EqPageSize.code());
    let mut c = good(2);
    set_bits(&mut c, 0x2c0, 64, 1 << 0xa);
    d.ok(&c, 16);
    assert_eq!(refused(&mut d, &c), S::EqCommandTaken.code());
    for _ in 1..64 {
        d.ok(&good(2), 16);
    }
    assert_eq!(refused(&mut d, &good(2)), S::EqLimit.code());
}

#[test]
fn gen_eqe_puts_an_entry_into_one_queue_and_int_moderation_reads_back() {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d.ok(&cmd(0x802, 0, 16), 16);
    d.guest.map(0x700_0000, 4 * 4096);
    let mut eq = cmd(0x301, 0, 304);
    eq[28..32].copy_from_slice(&(8u32 << 24 | 0x40).to_be_bytes());
    for i in 0..4u64 {
        let at = 272 + 8 * i as usize;
        eq[at..at + 8].copy_from_slice(&(0x700_0000 + i * 4096).to_be_bytes());
    }
    let out = d.ok(&eq, 16);
    let mut generate = cmd(fwctl_proto::opcode::GEN_EQE, 0, 80);
    generate[11] = out[11];
    (generate[17], generate[19], generate[16 + 32]) = (0x22, 5, 0xaa);
    d.ok(&generate, 16);
    let entry = d.guest.bytes(0x700_0000, 64);
    assert_eq!(
        (entry[1], entry[3], entry[32], entry[63]),
        (0x22, 5, 0xaa, 0)
    );
    generate[11] = 0x7f;
    assert_eq!(d.exec(&generate, 16).syndrome(), 0x00e5_0002);
    let moderate = |op_mod, vector: u8, delay: u8| {
        let mut c = cmd(fwctl_proto::opcode::CONFIG_INT_MODERATION, op_mod, 16);
        (c[9], c[11]) = (delay, vector);
        c
    };
    assert_eq!(d.ok(&moderate(0, 63, 9), 16)[8..12], [0, 9, 0, 63]);
    assert_eq!(d.ok(&moderate(1, 63, 0), 16)[8..12], [0, 9, 0, 63]);
    assert_eq!(d.ok(&moderate(1, 62, 0), 16)[8..12], [0, 0, 0, 62]);
    assert_eq!(d.exec(&moderate(0, 64, 1), 16).syndrome(), 0x00e5_0004);
}

#[test]
fn a_vport_tells_once_of_what_it_was_asked_to_tell() {
    const NIC_VPORT_CHANGE: u8 = 0xd;
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d.ok(&cmd(0x802, 0, 16), 16);
    d.guest.map(0x700_0000, 4 * 4096);
    let mut eq = cmd(0x301, 0, 304);
    eq[28..32].copy_from_slice(&(8u32 << 24 | 0x40).to_be_bytes());
    eq[88..96].copy_from_slice(&(1u64 << NIC_VPORT_CHANGE).to_be_bytes());
    for i in 0..4u64 {
        let at = 272 + 8 * i as usize;
        eq[at..at + 8].copy_from_slice(&(0x700_0000 + i * 4096).to_be_bytes());
    }
    d.ok(&eq, 16);
    let types = |d: &Driver| [0u64, 64, 128].map(|at| d.guest.bytes(0x700_0000 + at, 64)[1]);
    // field_select in the dword at 12: change_event, promisc, mtu; the context begins at 256.
    let modify = |select: &str, fill: &dyn Fn(&mut [u8])| {
        let mut c = cmd(0x755, 0, 512);
        let l = fwctl_proto::layout::find("modify_nic_vport_context_in").unwrap();
        let p = l.field(&format!("field_select.{select}")).unwrap();
        set_bits(&mut c, p.offset, 1, 1);
        fill(&mut c[256..]);
        c
    };
    let arm = modify("change_event", &|c| {
        // arm_change_event, event_on_promisc_change.
        (c[4], c[7]) = (0x80, 0x08);
    });
    let mtu = modify("mtu", &|c| {
        c[0x26..0x28].copy_from_slice(&9000u16.to_be_bytes());
    });
    let promisc = |on: u8| modify("promisc", &move |c| c[0xf0] = on << 5);
    d.ok(&promisc(1), 16);
    assert_eq!(types(&d), [0; 3], "not armed");
    d.ok(&arm, 16);
    d.ok(&mtu, 16);
    d.ok(&promisc(1), 16);
    assert_eq!(types(&d), [0; 3], "another change, and none");
    d.ok(&promisc(0), 16);
    assert_eq!(types(&d), [NIC_VPORT_CHANGE, 0, 0]);
    d.ok(&promisc(1), 16);
    assert_eq!(types(&d), [NIC_VPORT_CHANGE, 0, 0], "once");
    d.ok(&arm, 16);
    d.ok(&promisc(0), 16);
    assert_eq!(types(&d), [NIC_VPORT_CHANGE, NIC_VPORT_CHANGE, 0]);
}
