// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Send queues by their doorbells: what a driver posts is completed, with the bytes that
//! `struct mlx5_cqe64`, `mlx5/cq.h` and `mlx5/qp.h` say.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::Input;
use fwctl_proto::layout::{find, get_bits, set_bits};
use proptest::prelude::*;

const EQ: u64 = 0x5_0000_0000;
const CQ: u64 = 0x5_0000_1000;
const SQ: u64 = 0x5_0000_2000;
/// Doorbell records of both.
const CQ_RECORD: u64 = 0x5_0000_3000;
const SQ_RECORD: u64 = 0x5_0000_3040;
/// CQs of 4 and SQs of 8 entries.
const LOG_CQ: u64 = 2;
const LOG_SQ: u64 = 3;

/// Fields of an inbox by name.
fn fill(c: &mut [u8], layout: &str, fields: &[(&str, u64)]) {
    for (f, v) in fields {
        let p = find(layout).unwrap().field(f).expect(f);
        set_bits(c, p.offset, p.width, *v);
    }
}

struct Queues {
    d: Driver,
    uar: u64,
    cqn: u64,
    sqn: u64,
}

impl Queues {
    fn new(cq_fields: &[(&str, u64)]) -> Self {
        Self::with_cq_at(CQ, cq_fields)
    }

    /// The same with the completion queue's page at another address.
    fn with_cq_at(page: u64, cq_fields: &[(&str, u64)]) -> Self {
        let mut d = Driver::new("connectx7");
        d.bring_up();
        d.guest.map(EQ, 0x4000);
        let id = |out: &[u8]| get_bits(out, 0x48, 24);
        let uar = id(&d.ok(&cmd(0x802, 0, 16), 16));
        let mut eq = cmd(0x301, 0, 280);
        fill(
            &mut eq,
            "create_eq_in",
            &[
                ("eq_context_entry.log_eq_size", 5),
                ("eq_context_entry.uar_page", uar),
                ("eq_context_entry.intr", 7),
            ],
        );
        // MLX5_EVENT_TYPE_CQ_ERROR; completion events come whatever the mask says.
        set_bits(&mut eq, 0x2c0, 64, 1 << 4);
        eq[272..280].copy_from_slice(&EQ.to_be_bytes());
        let eqn = u64::from(d.ok(&eq, 16)[11]);
        let arm = (eqn as u32) << 24;
        let function = d.f;
        d.submit(Input::UarWrite {
            function,
            uar: uar as u32,
            offset: 0x40,
            data: &arm.to_be_bytes(),
        });
        let mut cq = cmd(0x400, 0, 280);
        fill(
            &mut cq,
            "create_cq_in",
            &[
                ("cq_context.log_cq_size", LOG_CQ),
                ("cq_context.uar_page", uar),
                ("cq_context.c_eqn_or_apu_element", eqn),
                ("cq_context.dbr_addr", CQ_RECORD),
            ],
        );
        fill(&mut cq, "create_cq_in", cq_fields);
        cq[272..280].copy_from_slice(&page.to_be_bytes());
        let cqn = id(&d.ok(&cq, 16));
        let mut sq = cmd(0x904, 0, 280);
        fill(
            &mut sq,
            "create_sq_in",
            &[
                ("ctx.cqn", cqn),
                ("ctx.wq.log_wq_sz", LOG_SQ),
                ("ctx.wq.log_wq_stride", 6),
                ("ctx.wq.uar_page", uar),
                ("ctx.wq.dbr_addr", SQ_RECORD),
            ],
        );
        sq[272..280].copy_from_slice(&SQ.to_be_bytes());
        let sqn = id(&d.ok(&sq, 16));
        let mut q = Self { d, uar, cqn, sqn };
        q.modify(0, 1);
        q
    }

    fn modify(&mut self, from: u64, to: u64) {
        let mut m = cmd(0x905, 0, 272);
        fill(
            &mut m,
            "modify_sq_in",
            &[("sqn", self.sqn), ("sq_state", from), ("ctx.state", to)],
        );
        self.d.ok(&m, 16);
    }

    fn state(&mut self) -> u64 {
        let mut c = cmd(0x907, 0, 16);
        fill(&mut c, "query_sq_in", &[("sqn", self.sqn)]);
        let p = find("query_sq_out").unwrap().field("sq_context.state");
        let p = p.unwrap();
        get_bits(&self.d.ok(&c, 272), p.offset, p.width)
    }

    /// The 16 bytes of `struct mlx5_wqe_ctrl_seg` at basic block `counter`.
    fn wqe(&self, counter: u16, opcode: u8, ds: u8, fm_ce_se: u8) {
        let mut seg = [0u8; 16];
        seg[..4].copy_from_slice(&(u32::from(counter) << 8 | u32::from(opcode)).to_be_bytes());
        seg[4..8].copy_from_slice(&((self.sqn as u32) << 8 | u32::from(ds)).to_be_bytes());
        seg[11] = fm_ce_se;
        let at = SQ + u64::from(counter % 8) * 64;
        self.d.guest.write(at, &seg);
    }

    fn write(&mut self, offset: u32, data: &[u8]) {
        let (function, uar) = (self.d.f, self.uar as u32);
        self.d.submit(Input::UarWrite {
            function,
            uar,
            offset,
            data,
        });
    }

    /// Posts up to `counter` and rings: `mlx5_write64` of the control segment's first half.
    fn ring(&mut self, counter: u16) {
        let record = u32::from(counter).to_be_bytes();
        self.d.guest.write(SQ_RECORD + 4, &record);
        let second = ((self.sqn as u32) << 8).to_be_bytes();
        self.write(0x800, &[&[0; 4][..], &second].concat());
    }

    fn cqe(&self, index: u64) -> Vec<u8> {
        self.d.guest.bytes(CQ + index * 64, 64)
    }

    fn seen(&self, counter: u32) {
        self.d.guest.write(CQ_RECORD, &counter.to_be_bytes());
    }

    fn arm(&mut self, seen: u32) {
        self.d.guest.write(CQ_RECORD + 4, &seen.to_be_bytes());
        let cqn = (self.cqn as u32).to_be_bytes();
        self.write(0x20, &[&seen.to_be_bytes()[..], &cqn].concat());
    }

    fn eqe(&self, index: u64) -> Vec<u8> {
        self.d.guest.bytes(EQ + index * 64, 64)
    }
}

const NOP: u8 = 0x00;
const SEND: u8 = 0x0a;
const UMR: u8 = 0x25;
const ALWAYS: u8 = 8;

/// There is no room for a completion behind the last address.
#[test]
fn a_completion_queue_may_lie_at_the_end_of_all_addresses() {
    for page in [u64::MAX, u64::MAX - 10, u64::MAX - 0xfff] {
        let mut q = Queues::with_cq_at(page, &[]);
        // An opcode that there is not: its completion is an error, and the queue's state too.
        q.wqe(0, 0x3f, 1, 8);
        q.ring(1);
        assert_eq!(q.d.ok(&cmd(0x100, 0, 16), 4112).len(), 4112);
    }
}

#[test]
fn a_completion_says_which_entry_of_which_queue() {
    let mut q = Queues::new(&[]);
    for i in 0..4 {
        q.d.guest.write(CQ + i * 64, &[0xf1; 64]);
    }
    q.wqe(0, UMR, 8, ALWAYS);
    q.ring(2);
    let c = q.cqe(0);
    let mut expected = [0u8; 64];
    // sop_drop_qpn, wqe_counter, op_own: MLX5_CQE_REQ, owner 0 in the first round.
    expected[56..60].copy_from_slice(&(u32::from(UMR) << 24 | q.sqn as u32).to_be_bytes());
    assert_eq!(c, expected);
    assert_eq!(q.cqe(1), [0xf1; 64], "one entry, one completion");
    // The next: of three basic blocks, counted from its first.
    q.wqe(2, SEND, 9, ALWAYS);
    q.ring(5);
    let c = q.cqe(1);
    assert_eq!(
        (c[56], &c[60..62], c[63]),
        (SEND, &2u16.to_be_bytes()[..], 0)
    );
}

#[test]
fn the_owner_bit_changes_with_each_round() {
    let mut q = Queues::new(&[]);
    for n in 0..12u16 {
        q.wqe(n, NOP, 1, ALWAYS);
        q.ring(n + 1);
        let c = q.cqe(u64::from(n % 4));
        assert_eq!(c[60..62], n.to_be_bytes());
        assert_eq!(u16::from(c[63] & 1), n / 4 % 2, "{n}");
        q.seen(u32::from(n) + 1);
    }
}

#[test]
fn only_who_asks_for_a_completion_gets_one() {
    let mut q = Queues::new(&[]);
    q.d.guest.write(CQ, &[0xf1; 128]);
    q.wqe(0, SEND, 2, 0);
    q.wqe(1, NOP, 1, ALWAYS);
    q.ring(2);
    assert_eq!(q.cqe(0)[60..62], 1u16.to_be_bytes());
    assert_eq!(q.cqe(1), [0xf1; 64]);
}

#[test]
fn an_armed_queue_tells_once() {
    let mut q = Queues::new(&[]);
    q.wqe(0, NOP, 1, ALWAYS);
    q.ring(1);
    assert_eq!((q.eqe(0), q.d.irqs.len()), (vec![0; 64], 0), "not armed");
    // Armed behind what is there: at once.
    q.arm(0);
    let e = q.eqe(0);
    assert_eq!((e[1], &e[56..60]), (0, &(q.cqn as u32).to_be_bytes()[..]));
    assert_eq!(q.d.irqs, [7]);
    // Armed at the end: with the next completion, and not with the one after it.
    q.arm(1);
    assert_eq!(q.eqe(1), [0; 64]);
    for n in 1..3 {
        q.wqe(n, NOP, 1, ALWAYS);
        q.ring(n + 1);
    }
    assert_eq!(q.eqe(1)[56..60], (q.cqn as u32).to_be_bytes());
    assert_eq!(q.eqe(2), [0; 64]);
}

#[test]
fn entries_of_128_bytes_have_the_completion_in_their_second_half() {
    let mut q = Queues::new(&[("cq_context.cqe_sz", 1)]);
    q.d.guest.write(CQ, &[0xee; 256]);
    q.wqe(0, NOP, 1, ALWAYS);
    q.ring(1);
    assert_eq!(q.cqe(0), [0xee; 64]);
    assert_eq!(q.cqe(1)[60..], [0, 0, 0, 0]);
    assert_eq!(q.cqe(2), [0xee; 64]);
}

#[test]
fn both_halves_of_a_doorbell_may_come_by_themselves() {
    let mut q = Queues::new(&[]);
    q.d.guest.write(CQ, &[0xf1; 64]);
    q.wqe(0, NOP, 1, ALWAYS);
    q.d.guest.write(SQ_RECORD + 4, &1u32.to_be_bytes());
    let second = ((q.sqn as u32) << 8).to_be_bytes();
    q.write(0x800, &[0; 4]);
    assert_eq!(q.cqe(0), [0xf1; 64], "the first half names no queue");
    // A wrong place, a wrong page, a byte.
    q.write(0x810, &[&[0; 4][..], &second].concat());
    q.uar += 1;
    q.write(0x804, &second);
    q.uar -= 1;
    q.write(0x807, &second[3..]);
    assert_eq!(q.cqe(0), [0xf1; 64]);
    q.write(0x804, &second);
    assert_eq!(q.cqe(0)[63], 0);
}

#[test]
fn what_cannot_be_read_or_done_fails_the_queue() {
    const SQ_ERR: u64 = 3;
    // Unknown opcode: MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR.
    let mut q = Queues::new(&[]);
    q.wqe(0, 0x77, 1, 0);
    q.wqe(1, NOP, 1, ALWAYS);
    q.ring(2);
    let c = q.cqe(0);
    assert_eq!((c[55], c[56], c[63]), (0x02, 0x77, 13 << 4));
    assert_eq!(q.state(), SQ_ERR);
    // What is posted to a queue that has failed is flushed: MLX5_CQE_SYNDROME_WR_FLUSH_ERR.
    q.ring(2);
    let c = q.cqe(1);
    assert_eq!((c[55], &c[60..62], c[63]), (0x05, &[0, 1][..], 13 << 4));
    // A reset begins anew, also with the counter.
    q.modify(3, 0);
    q.modify(0, 1);
    q.wqe(0, NOP, 1, ALWAYS);
    q.ring(1);
    let c = q.cqe(2);
    assert_eq!((&c[60..62], c[63]), (&[0, 0][..], 0));
}

#[test]
fn a_full_completion_queue_is_an_error_unless_it_says_otherwise() {
    let mut q = Queues::new(&[]);
    for n in 0..5 {
        q.wqe(n, NOP, 1, ALWAYS);
    }
    q.ring(5);
    let e = q.eqe(0);
    // struct mlx5_eqe_cq_err: the number, and syndrome 1 for an overrun.
    assert_eq!(
        (e[1], &e[32..36], e[43]),
        (4, &(q.cqn as u32).to_be_bytes()[..], 1)
    );
    assert_eq!(q.cqe(0)[60..62], [0, 0], "nothing was overwritten");
    let mut q = Queues::new(&[("cq_context.oi", 1)]);
    for n in 0..5 {
        q.wqe(n, NOP, 1, ALWAYS);
    }
    q.ring(5);
    assert_eq!(q.cqe(0)[60..62], [0, 4]);
}

#[test]
fn a_queue_that_is_not_ready_or_lies_about_its_memory_moves_nothing() {
    let mut q = Queues::new(&[]);
    q.modify(1, 0);
    q.d.guest.write(CQ, &[0xf1; 64]);
    q.wqe(0, NOP, 1, ALWAYS);
    q.ring(1);
    assert_eq!(q.cqe(0), [0xf1; 64]);
    // A ring of 2^16 entries in one page: what lies behind it cannot be read.
    let mut q = Queues::new(&[]);
    let mut sq = cmd(0x904, 0, 280);
    fill(
        &mut sq,
        "create_sq_in",
        &[
            ("ctx.cqn", q.cqn),
            ("ctx.wq.log_wq_sz", 16),
            ("ctx.wq.uar_page", q.uar),
            ("ctx.wq.dbr_addr", SQ_RECORD),
        ],
    );
    sq[272..280].copy_from_slice(&SQ.to_be_bytes());
    q.sqn = get_bits(&q.d.ok(&sq, 16), 0x48, 24);
    q.modify(0, 1);
    q.ring(0xffff);
    let c = q.cqe(0);
    // The first 64 are NOPs that ask for nothing; the next is not there.
    assert_eq!((c[55], &c[60..62]), (0x04, &64u16.to_be_bytes()[..]));
    assert_eq!(q.state(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_doorbell_and_no_memory_does_harm(
        fields in prop::collection::vec((0..8usize, any::<u64>()), 0..4),
        writes in prop::collection::vec((0..0x4000u64, prop::collection::vec(any::<u8>(), 1..64)), 0..20),
        bells in prop::collection::vec((0..0x1000u32, prop::collection::vec(any::<u8>(), 1..9), any::<bool>()), 1..20),
    ) {
        let mut q = Queues::new(&[]);
        let mut sq = cmd(0x904, 0, 280);
        fill(&mut sq, "create_sq_in", &[
            ("ctx.cqn", q.cqn),
            ("ctx.wq.uar_page", q.uar),
            ("ctx.wq.dbr_addr", SQ_RECORD),
        ]);
        let names = [
            "ctx.wq.log_wq_sz", "ctx.wq.log_wq_pg_sz", "ctx.wq.page_offset", "ctx.wq.dbr_addr",
            "ctx.wq.wq_umem_valid", "ctx.wq.log_wq_stride", "ctx.cqn", "ctx.wq.wq_type",
        ];
        for (i, v) in fields {
            fill(&mut sq, "create_sq_in", &[(names[i], v)]);
        }
        let r = q.d.exec(&sq, 16);
        if r.status() == 0 {
            q.sqn = get_bits(&r.out, 0x48, 24);
            q.modify(0, 1);
        }
        for (at, bytes) in writes {
            q.d.guest.write(EQ + at, &bytes);
        }
        for (offset, data, own) in bells {
            if own {
                q.ring(u16::from(data[0]));
                q.arm(u32::from(data[0]));
            } else {
                q.write(offset, &data);
            }
        }
        q.d.ok(&cmd(0x80d, 0, 16), 16);
    }
}
