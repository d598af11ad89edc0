// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random sequences of commands: nothing panics, the same inputs give the same effects, a
//! refused command changes nothing, and page accounting closes to zero.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, Reply, cmd};
use fw_model::{Input, ResetKind, table::OPS};
use proptest::prelude::*;

/// One step of a driver that means no good.
#[derive(Clone, Debug)]
enum Step {
    Command {
        row: usize,
        op_mod: u16,
        uid: u16,
        words: Vec<u32>,
        len: usize,
        out_len: usize,
    },
    BringUp,
    Reset(u8),
    Demand(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let small = prop_oneof![Just(0u32), Just(1), 0..80u32, any::<u32>()];
    prop_oneof![
        20 => (0..OPS.len(), 0..4u16, prop_oneof![4 => Just(0u16), 1 => 1..4u16], prop::collection::vec(small, 0..24), 0..1200usize, 8..5000usize)
            .prop_map(|(row, op_mod, uid, words, len, out_len)| Step::Command { row, op_mod, uid, words, len, out_len }),
        3 => Just(Step::BringUp),
        1 => (0..3u8).prop_map(Step::Reset),
        1 => (-9..9i32).prop_map(Step::Demand),
    ]
}

fn run(d: &mut Driver, s: &Step) -> Option<Reply> {
    let function = d.f;
    match s {
        Step::Command {
            row,
            op_mod,
            uid,
            words,
            len,
            out_len,
        } => {
            let op = OPS[*row];
            let len = (*len).max(usize::from(op.in_len).saturating_sub(8)).max(16);
            let mut c = cmd(op.opcode, *op_mod, len);
            c[2..4].copy_from_slice(&uid.to_be_bytes());
            for (place, w) in c[8..].chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&w.to_be_bytes());
            }
            return Some(d.exec_any(&c, *out_len));
        }
        Step::BringUp => {
            // Whatever of it is refused: the sequence goes on from there.
            d.exec_any(&cmd(0x104, 0, 16), 12);
            for (op_mod, base) in [(1, 0x1_0000_0000u64), (2, 0x2_0000_0000)] {
                let out = d.exec_any(&cmd(0x107, op_mod, 16), 16).out;
                let n = u32::from_be_bytes(out[12..16].try_into().unwrap()).min(100);
                let mut give = cmd(0x108, 1, 16 + 8 * n as usize);
                give[12..16].copy_from_slice(&n.to_be_bytes());
                for i in 0..n as usize {
                    give[16 + 8 * i..][..8]
                        .copy_from_slice(&(base + i as u64 * 4096).to_be_bytes());
                }
                d.exec_any(&give, 16);
            }
            d.exec_any(&cmd(0x102, 0, 32), 16);
        }
        Step::Reset(kind) => {
            let kind = [ResetKind::Flr, ResetKind::Bus, ResetKind::ClientGone][usize::from(*kind)];
            d.submit(Input::Reset { function, kind });
            d.segment_write(0x14, &(common::CMDQ as u32).to_be_bytes());
        }
        Step::Demand(count) => d.submit(Input::PageDemand {
            function,
            count: *count,
        }),
    }
    None
}

/// The report without what a refusal may change: nothing.
fn state(d: &Driver) -> String {
    format!("{:?}", d.card.report(d.f))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_inputs_same_effects_and_refusals_change_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let (mut a, mut b) = (Driver::new("connectx7"), Driver::new("connectx7"));
        for s in &steps {
            let before = state(&a);
            let (ra, rb) = (run(&mut a, s), run(&mut b, s));
            prop_assert_eq!(&ra, &rb);
            prop_assert_eq!(state(&a), state(&b));
            if let Some(r) = ra && r.delivery == 0 && r.status() != 0 {
                prop_assert_eq!(before, state(&a), "{:?}", s);
                prop_assert!(r.out[8..].iter().all(|x| *x == 0), "a refusal carries nothing else");
            }
        }
    }

    #[test]
    fn after_a_teardown_nothing_is_left(steps in prop::collection::vec(step(), 1..60)) {
        let mut d = Driver::new("connectx7");
        for s in &steps {
            run(&mut d, s);
        }
        d.exec_any(&cmd(0x103, 0, 16), 16);
        let r = d.card.report(d.f).unwrap();
        prop_assert_eq!((r.objects.len(), r.uctx, r.eqs), (0, 0, 0));
        let mut take = cmd(0x108, 2, 16);
        take[12..16].copy_from_slice(&r.pages.to_be_bytes());
        d.exec_any(&take, 16 + 8 * r.pages as usize);
        d.exec_any(&cmd(0x105, 0, 16), 12);
        let r = d.card.report(d.f).unwrap();
        prop_assert_eq!((r.state, r.pages), ("disabled", 0));
        d.bring_up();
    }
}
