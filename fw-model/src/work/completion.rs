// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Completion queues: CQEs, arming, overrun.

use fwctl_proto::{
    eqe, event,
    layout::{Field, get_bits},
    layouts::Cqc,
    wqe::{cqe, record},
};

use super::{
    Ring,
    ring::{Pages, put},
};
use crate::{
    effect::{Effects, Order},
    function::{Function, eq::Event},
    iseg,
    object::{Bits, KindId},
};

/// Byte offsets of the context and of the page list in CREATE_CQ.
const CTX: usize = 16;
const PAS: usize = 272;
/// Counters are modulo 2^24.
const COUNTER: u32 = 0x00ff_ffff;
/// `cqe_sz`: entries of 64 bytes; anything else has 128.
const CQE_64: u64 = 0;
/// `MLX5_CQ_ERROR_SYNDROME_CQ_OVERRUN`.
const OVERRUN: u8 = 1;

/// What is to be said of a WQE.
pub(super) struct Done {
    /// The work queue.
    pub(super) queue: u32,
    /// Opcode of the WQE.
    pub(super) opcode: u8,
    /// Counter of its first basic block.
    pub(super) counter: u16,
    /// Why it has failed (`MLX5_CQE_SYNDROME_*`), or `None`.
    pub(super) failed: Option<u8>,
}

/// Fields of a completion queue's context.
struct Cq {
    log_size: u32,
    stride: u64,
    record: u64,
    eqn: u8,
    ignores_overrun: bool,
}

fn context(f: &Function, cqn: u32) -> Option<Cq> {
    let kept = &f.objects.get(KindId::Cq, cqn)?.kept;
    let get = |field: Field<Cqc>| Bits::within(CTX, field).kept().get(kept);
    Some(Cq {
        log_size: get(Cqc::LOG_CQ_SIZE) as u32,
        stride: if get(Cqc::CQE_SZ) == CQE_64 { 64 } else { 128 },
        record: get(Cqc::DBR_ADDR),
        eqn: get(Cqc::C_EQN_OR_APU_ELEMENT) as u8,
        ignores_overrun: get(Cqc::OI) != 0,
    })
}

/// Writes the completion of a WQE, its owner byte last, and tells the driver if it asked for it.
pub(super) fn post(f: &mut Function, cqn: u32, done: &Done, ring: &Ring<'_>, fx: &mut Effects) {
    let Some(cq) = context(f, cqn) else { return };
    let mut state = f.work.completions.get(&cqn).copied().unwrap_or_default();
    if state.failed {
        return;
    }
    let behind = consumer(&cq, ring).map(|c| state.producer.wrapping_sub(c) & COUNTER);
    if !cq.ignores_overrun && behind.is_none_or(|n| n >= 1 << cq.log_size) {
        state.failed = true;
        f.work.completions.insert(cqn, state);
        overrun(f, cqn, fx);
        return;
    }
    let index = u64::from(state.producer & ((1 << cq.log_size) - 1));
    let half = cq.stride - cqe::BYTES as u64;
    let at = address(f, cqn, index * cq.stride + half);
    // A page may lie at the end of all addresses.
    let Some(at) = at.filter(|at| at.checked_add(cqe::BYTES as u64).is_some()) else {
        return;
    };
    let mut entry = [0u8; cqe::BYTES];
    let ticks = iseg::ticks(ring.profile, ring.now);
    put(&mut entry, cqe::SOP_DROP_QPN, 8, u64::from(done.opcode));
    put(&mut entry, cqe::SOP_DROP_QPN + 1, 24, u64::from(done.queue));
    put(&mut entry, cqe::WQE_COUNTER, 16, u64::from(done.counter));
    let kind = match done.failed {
        Some(syndrome) => {
            entry[cqe::SYNDROME] = syndrome;
            cqe::REQ_ERR
        }
        None => {
            put(&mut entry, cqe::TIMESTAMP, 64, ticks);
            cqe::REQ
        }
    };
    let owner = (state.producer >> cq.log_size & 1) as u8;
    fx.write(f.id, at, &entry[..cqe::OP_OWN], Order::Relaxed);
    let last = [kind << 4 | owner];
    fx.write(f.id, at + cqe::OP_OWN as u64, &last, Order::Publish);
    state.producer = state.producer.wrapping_add(1) & COUNTER;
    let tell = core::mem::take(&mut state.armed);
    f.work.completions.insert(cqn, state);
    if tell {
        notify(f, cqn, cq.eqn, fx);
    }
}

/// The driver asks for an event at the next completion behind those that it has seen.
pub(super) fn arm(f: &mut Function, cqn: u32, page: u32, ring: &Ring<'_>, fx: &mut Effects) {
    let Some(cq) = context(f, cqn) else { return };
    let own = f.objects.get(KindId::Cq, cqn).map(|o| {
        let uar = Bits::within(CTX, Cqc::UAR_PAGE).kept();
        get_bits(&o.kept, uar.offset, uar.width) as u32
    });
    if own != Some(page) {
        return;
    }
    let mut armed = [0; 4];
    let at = cq.record.saturating_add(record::ARM);
    if ring.mem.read(at, &mut armed).is_err() {
        return;
    }
    let seen = u32::from_be_bytes(armed) & COUNTER;
    let state = f.work.completions.entry(cqn).or_default();
    state.armed = state.producer == seen;
    if !state.armed {
        notify(f, cqn, cq.eqn, fx);
    }
}

fn consumer(cq: &Cq, ring: &Ring<'_>) -> Option<u32> {
    let mut counter = [0; 4];
    let at = cq.record.checked_add(record::SET_CI)?;
    ring.mem.read(at, &mut counter).ok()?;
    Some(u32::from_be_bytes(counter) & COUNTER)
}

fn address(f: &Function, cqn: u32, at: u64) -> Option<u64> {
    let kept = &f.objects.get(KindId::Cq, cqn)?.kept;
    let get = |field: Field<Cqc>| Bits::within(CTX, field).kept().get(kept);
    let pages = Pages::new(kept, PAS, get(Cqc::LOG_PAGE_SIZE), get(Cqc::PAGE_OFFSET), 0)?;
    pages.address(at)
}

/// A completion event on the queue's own event queue, whatever that one's mask says.
fn notify(f: &mut Function, cqn: u32, eqn: u8, fx: &mut Effects) {
    let mut data = [0; eqe::DATA_BYTES];
    put(&mut data, eqe::data::COMP_CQN, 32, u64::from(cqn));
    let event = Event {
        event_type: event::COMP,
        sub_type: 0,
        data,
    };
    let id = f.id;
    if let Some(q) = f.eqs.get_mut(&eqn) {
        q.post(id, &event, fx);
    }
}

fn overrun(f: &mut Function, cqn: u32, fx: &mut Effects) {
    let mut data = [0; eqe::DATA_BYTES];
    put(&mut data, eqe::data::CQ_ERROR_CQN, 32, u64::from(cqn));
    data[eqe::data::CQ_ERROR_SYNDROME] = OVERRUN;
    f.raise(Event {
        event_type: event::CQ_ERROR,
        sub_type: 0,
        data,
    });
    f.deliver(fx);
}
