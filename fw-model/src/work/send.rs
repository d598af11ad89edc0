// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Send queues: WQEs from guest memory, done as they are seen.

use fwctl_proto::{
    layout::{Field, Layout as _},
    layouts::{CreateQpIn, CreateSqIn, Qpc, Sqc, Wq},
    wqe::{BASIC_BLOCK, DATA_SEGMENT, OPCODES, control, cqe, record},
};

use super::{
    Ring,
    completion::{self, Done},
    ring::{Pages, take},
};
use crate::{
    diagnostics::clock,
    effect::Effects,
    function::Function,
    object::{Bits, KindId},
};

/// Byte offset of the context in CREATE_SQ, and of the work queue in it.
const SQ: usize = CreateSqIn::CTX.byte();
const SQ_WQ: usize = SQ + Sqc::WQ.byte();
/// Byte offset of the page list in CREATE_SQ and in CREATE_QP.
const SQ_PAS: usize = SQ_WQ + Wq::BYTES;
const QP_PAS: usize = CreateQpIn::BYTES;
/// Byte offset of the context in CREATE_QP.
const QP: usize = CreateQpIn::QPC.byte();
/// `sqc.state`: ready, error. `qpc.state`: ready to send, error.
const SQ_RDY: u64 = 1;
const SQ_ERR: u64 = 3;
const QP_RTS: u64 = 3;
const QP_SQER: u64 = 4;
/// `qpc.rq_type`: the receive queue lies in the same memory, before the send queue.
const OWN_RQ: u64 = 0;

/// A send queue as its create command describes it.
struct Queue<'a> {
    pages: Pages<'a>,
    log_size: u32,
    record: u64,
    cqn: u32,
    uar: u64,
    ready: bool,
    failed: bool,
}

fn queue(kind: KindId, kept: &[u8]) -> Option<Queue<'_>> {
    if kind == KindId::Sq {
        let wq = |field: Field<Wq>| Bits::within(SQ_WQ, field).kept().get(kept);
        let sq = |field: Field<Sqc>| Bits::within(SQ, field).kept().get(kept);
        if wq(Wq::WQ_UMEM_VALID) | wq(Wq::DBR_UMEM_VALID) != 0 {
            return None;
        }
        let state = sq(Sqc::STATE);
        return Some(Queue {
            pages: Pages::new(kept, SQ_PAS, wq(Wq::LOG_WQ_PG_SZ), wq(Wq::PAGE_OFFSET), 0)?,
            log_size: wq(Wq::LOG_WQ_SZ) as u32,
            record: wq(Wq::DBR_ADDR),
            cqn: sq(Sqc::CQN) as u32,
            uar: wq(Wq::UAR_PAGE),
            ready: state == SQ_RDY,
            failed: state == SQ_ERR,
        });
    }
    let qp = |field: Field<Qpc>| Bits::within(QP, field).kept().get(kept);
    if Bits::of(CreateQpIn::WQ_UMEM_VALID).kept().get(kept) != 0 || qp(Qpc::NO_SQ) != 0 {
        return None;
    }
    let receive = if qp(Qpc::RQ_TYPE) == OWN_RQ {
        (DATA_SEGMENT as u64) << (qp(Qpc::LOG_RQ_SIZE) + qp(Qpc::LOG_RQ_STRIDE))
    } else {
        0
    };
    let state = qp(Qpc::STATE);
    Some(Queue {
        pages: Pages::new(
            kept,
            QP_PAS,
            qp(Qpc::LOG_PAGE_SIZE),
            qp(Qpc::PAGE_OFFSET),
            receive,
        )?,
        log_size: qp(Qpc::LOG_SQ_SIZE) as u32,
        record: qp(Qpc::DBR_ADDR),
        cqn: qp(Qpc::CQN_SND) as u32,
        uar: qp(Qpc::UAR_PAGE),
        ready: state == QP_RTS,
        failed: state == QP_SQER,
    })
}

/// Does everything that the driver has posted to a queue since the last doorbell: at most as many
/// basic blocks as the ring has.
pub(super) fn run(f: &mut Function, n: u32, page: u32, ring: &Ring<'_>, fx: &mut Effects) {
    let kinds = [KindId::Sq, KindId::Qp];
    let Some(kind) = kinds.into_iter().find(|k| f.objects.get(*k, n).is_some()) else {
        return;
    };
    let mut done = f.work.sent.get(&(kind, n)).copied().unwrap_or(0);
    let mut completions = Vec::new();
    let mut entries = 0;
    let mut fails = false;
    let Some(cqn) = f
        .objects
        .get(kind, n)
        .and_then(|o| queue(kind, &o.kept))
        .filter(|q| q.uar == u64::from(page) && (q.ready || q.failed))
        .and_then(|q| {
            let mut posted = [0; 4];
            let at = q.record.checked_add(record::SEND)?;
            ring.mem.read(at, &mut posted).ok()?;
            let posted = u32::from_be_bytes(posted) as u16;
            let size = 1u32 << q.log_size.min(16);
            let mut left = u32::from(posted.wrapping_sub(done)).min(size);
            while left > 0 && !fails {
                let (blocks, c) = entry(&q, n, done, size, ring);
                fails = c.as_ref().is_some_and(|c| c.failed.is_some()) && !q.failed;
                completions.extend(c);
                done = done.wrapping_add(blocks as u16);
                entries += 1;
                left = left.saturating_sub(blocks);
            }
            Some(q.cqn)
        })
    else {
        return;
    };
    f.work.sent.insert((kind, n), done);
    let clock = clock(ring.profile.frequency_khz, ring.now);
    f.diagnostics.catch_up(clock);
    f.diagnostics.transmitted = f.diagnostics.transmitted.wrapping_add(entries);
    if fails {
        fail(f, kind, n);
    }
    for c in completions {
        completion::post(f, cqn, &c, ring, fx);
    }
}

/// One WQE: how many basic blocks it has, and its completion if there is to be one.
fn entry(q: &Queue<'_>, n: u32, counter: u16, size: u32, ring: &Ring<'_>) -> (u32, Option<Done>) {
    let mut seg = [0u8; control::BYTES];
    let index = u64::from(u32::from(counter) & (size - 1));
    let read = q
        .pages
        .address(index * BASIC_BLOCK as u64)
        .and_then(|at| ring.mem.read(at, &mut seg).ok());
    let opcode = seg[control::OPCODE];
    let done = |failed| {
        Some(Done {
            queue: n,
            opcode,
            counter,
            failed,
        })
    };
    if q.failed {
        return (blocks(&seg), done(Some(cqe::WR_FLUSH_ERR)));
    }
    if read.is_none() {
        return (1, done(Some(cqe::LOCAL_PROT_ERR)));
    }
    if OPCODES.iter().all(|o| o.0 != opcode) {
        return (1, done(Some(cqe::LOCAL_QP_OP_ERR)));
    }
    let wanted = seg[control::FM_CE_SE] & control::CQ_UPDATE != 0;
    (blocks(&seg), wanted.then(|| done(None)).flatten())
}

fn blocks(seg: &[u8]) -> u32 {
    let ds = take(seg, control::QPN_DS, 32) as u32 & control::DS_MASK;
    (ds * DATA_SEGMENT as u32)
        .div_ceil(BASIC_BLOCK as u32)
        .max(1)
}

/// Puts a queue into its error state.
fn fail(f: &mut Function, kind: KindId, n: u32) {
    let (at, state) = if kind == KindId::Sq {
        (Bits::within(SQ, Sqc::STATE), SQ_ERR)
    } else {
        (Bits::within(QP, Qpc::STATE), QP_SQER)
    };
    f.objects.set_field(kind, n, at, state);
}
