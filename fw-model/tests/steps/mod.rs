// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Steps of a driver that means no good, for property tests.
#![allow(dead_code, clippy::unwrap_used)]

use fw_model::{Input, ResetKind, table::OPS};
use proptest::prelude::*;

use super::common::{Driver, Reply, cmd};

/// So many cases, or that many times `FWCTL_CASES`, which the full tier sets.
pub fn config(cases: u32) -> ProptestConfig {
    let times = std::env::var("FWCTL_CASES").ok();
    let times = times.and_then(|n| n.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: cases.saturating_mul(times),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// One step of a driver that means no good.
#[derive(Clone, Debug)]
pub enum Step {
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
    Delay {
        row: usize,
        nanos: u64,
    },
    Wait(u64),
    Demand(i32),
}

pub fn step() -> impl Strategy<Value = Step> {
    let small = prop_oneof![Just(0u32), Just(1), 0..80u32, any::<u32>()];
    prop_oneof![
        20 => (0..OPS.len(), 0..4u16, prop_oneof![4 => Just(0u16), 1 => 1..4u16], prop::collection::vec(small, 0..24), 0..1200usize, 8..5000usize)
            .prop_map(|(row, op_mod, uid, words, len, out_len)| Step::Command { row, op_mod, uid, words, len, out_len }),
        3 => Just(Step::BringUp),
        1 => (0..3u8).prop_map(Step::Reset),
        1 => (0..OPS.len(), 0..2000u64).prop_map(|(row, nanos)| Step::Delay { row, nanos }),
        2 => (0..3000u64).prop_map(Step::Wait),
        1 => (-9..9i32).prop_map(Step::Demand),
    ]
}

/// Lets a step happen; a command's reply comes back.
pub fn run(d: &mut Driver, s: &Step) -> Option<Reply> {
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
            return d.try_exec(&c, *out_len);
        }
        Step::BringUp => {
            // Whatever of it is refused: the sequence goes on from there.
            d.try_exec(&cmd(0x104, 0, 16), 12);
            for (op_mod, base) in [(1, 0x1_0000_0000u64), (2, 0x2_0000_0000)] {
                let out = d
                    .try_exec(&cmd(0x107, op_mod, 16), 16)
                    .map_or(vec![0; 16], |r| r.out);
                let n = u32::from_be_bytes(out[12..16].try_into().unwrap()).min(100);
                let mut give = cmd(0x108, 1, 16 + 8 * n as usize);
                give[12..16].copy_from_slice(&n.to_be_bytes());
                for i in 0..n as usize {
                    give[16 + 8 * i..][..8]
                        .copy_from_slice(&(base + i as u64 * 4096).to_be_bytes());
                }
                d.try_exec(&give, 16);
            }
            d.try_exec(&cmd(0x102, 0, 32), 16);
        }
        Step::Reset(kind) => {
            let kind = [ResetKind::Flr, ResetKind::Bus, ResetKind::ClientGone][usize::from(*kind)];
            d.submit(Input::Reset { function, kind });
            d.clear_queue();
        }
        Step::Delay { row, nanos } => d.submit(Input::Delay {
            opcode: OPS[*row].opcode,
            nanos: *nanos,
        }),
        Step::Wait(nanos) => {
            d.now.0 += nanos;
            d.poll();
        }
        Step::Demand(count) => d.submit(Input::PageDemand {
            function,
            count: *count,
        }),
    }
    None
}
