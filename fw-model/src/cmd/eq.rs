// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CREATE_EQ, DESTROY_EQ, QUERY_EQ, GEN_EQE.

use fwctl_proto::{
    eqe, event,
    layout::{View, ViewMut},
    layouts::{
        CmdHcaCap, CreateEqIn, CreateEqOut, DestroyEqIn, Eqc, GenEqeIn, QueryEqIn, QueryEqOut,
    },
};

use super::{Ctx, Done, view, view_mut};
use crate::{
    function::eq::{EQE_BYTES, Eq, Event},
    limits::MAX_LOG_EQ_SIZE,
    object,
    syndrome::Syndrome,
};

/// Byte offset of the page list in CREATE_EQ's inbox.
const PAS_OFFSET: usize = 272;
/// Byte offset and length of the context in CREATE_EQ's inbox and QUERY_EQ's outbox.
const CONTEXT: core::ops::Range<usize> = 16..80;
/// Byte offset of the entry in GEN_EQE's inbox.
const GENERATED: usize = 16;
/// Pages have at least the adapter's page size.
const ADAPTER_PAGE_SHIFT: u8 = 12;
/// Largest `log_page_size` above it that fits a guest address.
const MAX_LOG_PAGE: u64 = 31;
/// `eqc.st`: armed, and not armed.
const STATE_ARMED: u64 = 0x9;
const STATE_FIRED: u64 = 0xa;

/// CREATE_EQ.
pub fn create(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, CreateEqIn> = view(ctx.inbox)?;
    let c = v.sub(CreateEqIn::EQ_CONTEXT_ENTRY);
    let limit = eq_limit(ctx);
    if ctx.f.eqs.len() >= limit {
        return Err(Syndrome::EqLimit.into());
    }
    let log_size = c.get(Eqc::LOG_EQ_SIZE) as u8;
    let log_max = ctx.general_cap(CmdHcaCap::LOG_MAX_EQ_SZ) as u8;
    if log_size == 0 || log_size > log_max.min(MAX_LOG_EQ_SIZE) {
        return Err(Syndrome::EqSize.into());
    }
    let vector = c.get(Eqc::INTR) as u16;
    if vector >= ctx.profile.pci.msix_vectors {
        return Err(Syndrome::EqVector.into());
    }
    let uar_page = c.get(Eqc::UAR_PAGE) as u32;
    if !ctx.f.objects.exists(&object::UAR, uar_page) {
        return Err(Syndrome::EqUar.into());
    }
    let log_page = c.get(Eqc::LOG_PAGE_SIZE);
    if log_page > MAX_LOG_PAGE {
        return Err(Syndrome::EqPageSize.into());
    }
    let page_shift = ADAPTER_PAGE_SHIFT + log_page as u8;
    let offset = c.get(Eqc::PAGE_OFFSET) as u32 * EQE_BYTES;
    let bytes = u64::from(offset) + (u64::from(EQE_BYTES) << log_size);
    let count = bytes.div_ceil(1 << page_shift) as usize;
    let list = ctx.inbox.get(PAS_OFFSET..).unwrap_or_default();
    if list.len() / 8 < count {
        return Err(Syndrome::InboxTooShort.into());
    }
    let pages: Vec<u64> = (0..count).map_while(|i| v.at(CreateEqIn::PAS, i)).collect();
    // The last page must not end past the address space.
    let fits = |p: &u64| p.is_multiple_of(4096) && p.checked_add(1 << page_shift).is_some();
    if pages.len() != count || !pages.iter().all(fits) {
        return Err(Syndrome::EqPageSize.into());
    }
    let mut mask = [0u64; 4];
    for (i, word) in mask.iter_mut().enumerate() {
        *word = v.at(CreateEqIn::EVENT_BITMASK, i).unwrap_or(0);
    }
    let takes_commands = mask[usize::from(event::CMD) / 64] >> (event::CMD % 64) & 1 == 1;
    if takes_commands && ctx.f.cmd_eq.is_some() {
        return Err(Syndrome::EqCommandTaken.into());
    }
    let context = ctx.inbox.get(CONTEXT).unwrap_or_default().into();
    let armed = c.get(Eqc::ST) == STATE_ARMED;
    let eqn = free_eqn(ctx).ok_or(Syndrome::EqLimit)?;
    ctx.f.last_eqn = eqn;
    ctx.f.eqs.insert(
        eqn,
        Eq {
            uid: ctx.uid,
            log_size,
            vector,
            uar_page,
            mask,
            pages,
            page_shift,
            offset,
            context,
            producer: 0,
            consumer: 0,
            armed,
            dropped: 0,
        },
    );
    if takes_commands {
        ctx.f.cmd_eq = Some(eqn);
    }
    let mut o: ViewMut<'_, CreateEqOut> = view_mut(out)?;
    o.set(CreateEqOut::EQ_NUMBER, u64::from(eqn));
    Ok(())
}

/// DESTROY_EQ.
pub fn destroy(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DestroyEqIn> = view(ctx.inbox)?;
    let eqn = v.get(DestroyEqIn::EQ_NUMBER) as u8;
    let q = ctx.f.eqs.get(&eqn).ok_or(Syndrome::EqUnknown)?;
    ctx.may_change(q.uid)?;
    if ctx.f.objects.refers_to_eq(eqn) {
        return Err(Syndrome::ObjectBusy.into());
    }
    ctx.f.eqs.remove(&eqn);
    if ctx.f.cmd_eq == Some(eqn) {
        ctx.f.cmd_eq = None;
    }
    Ok(())
}

/// QUERY_EQ: the context as given, with its counters and state.
pub fn query(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryEqIn> = view(ctx.inbox)?;
    let eqn = v.get(QueryEqIn::EQ_NUMBER) as u8;
    let q = ctx.f.eqs.get(&eqn).ok_or(Syndrome::EqUnknown)?;
    ctx.may_see(q.uid)?;
    for (to, b) in out.iter_mut().skip(CONTEXT.start).zip(&q.context) {
        *to = *b;
    }
    let mut o: ViewMut<'_, QueryEqOut> = view_mut(out)?;
    // There is room for the first of the four words alone.
    o.set(QueryEqOut::EVENT_BITMASK, q.mask[0]);
    let mut c = o.sub_mut(QueryEqOut::EQ_CONTEXT_ENTRY);
    c.set(Eqc::ST, if q.armed { STATE_ARMED } else { STATE_FIRED });
    c.set(Eqc::CONSUMER_COUNTER, u64::from(q.consumer));
    c.set(Eqc::PRODUCER_COUNTER, u64::from(q.producer));
    Ok(())
}

/// The number of event queues: `max_num_eqs` if the profile has it, else 2^`log_max_eq`.
fn eq_limit(ctx: &Ctx<'_>) -> usize {
    let n = match ctx.general_cap(CmdHcaCap::MAX_NUM_EQS) {
        0 => 1 << ctx.general_cap(CmdHcaCap::LOG_MAX_EQ).min(7),
        n => n,
    };
    (n as usize).min(usize::from(u8::MAX))
}

/// The next number that is free, so that one is not reused at once. 0 is never given out.
fn free_eqn(ctx: &Ctx<'_>) -> Option<u8> {
    (1..=u8::MAX)
        .map(|step| ctx.f.last_eqn.wrapping_add(step))
        .find(|n| *n != 0 && !ctx.f.eqs.contains_key(n))
}

/// GEN_EQE: puts an entry into one of the caller's event queues, as if the firmware had raised it.
pub fn generate(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, GenEqeIn> = view(ctx.inbox)?;
    let number = v.get(GenEqeIn::EQ_NUMBER) as u8;
    let owner = ctx.f.eqs.get(&number).ok_or(Syndrome::EqUnknown)?.uid;
    ctx.may_change(owner)?;
    let entry = ctx.inbox.get(GENERATED..GENERATED + eqe::BYTES);
    let entry = entry.ok_or(Syndrome::InboxTooShort)?;
    let mut data = [0; eqe::DATA_BYTES];
    data.copy_from_slice(&entry[eqe::DATA..eqe::DATA + eqe::DATA_BYTES]);
    let event = Event {
        event_type: entry[eqe::TYPE],
        sub_type: entry[eqe::SUB_TYPE],
        data,
    };
    ctx.f.generate(number, event);
    Ok(())
}
