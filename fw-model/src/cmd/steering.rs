// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flow table entries, root tables, flow counters. Tables, groups and the contexts of actions are
//! objects of the common table.

use fwctl_proto::{
    layout::View,
    layouts::{
        CreateFlowGroupIn, DeleteFteIn, DestFormatStruct, FlowContext, FlowCounterList,
        QueryFlowCounterIn, QueryFteIn, SetFlowTableRootIn, SetFteIn,
    },
};

use super::{Ctx, Done, view};
use crate::{
    object::{Bits, Flow, KindId},
    syndrome::{Refusal, Syndrome},
};

/// Bytes of SET_FLOW_TABLE_ENTRY that an entry does not keep.
const FTE_HEADER: usize = 16;
/// Byte offset of the flow context in SET_FLOW_TABLE_ENTRY and in QUERY_FLOW_TABLE_ENTRY's outbox.
const CONTEXT: usize = 64;
/// Byte offset of the destination list in a flow context.
const DESTINATIONS: usize = 768;
/// Bytes of a destination, of an extended one, and of an entry of the counter list behind them.
const DESTINATION_BYTES: usize = 8;
const EXTENDED_BYTES: usize = 16;
const COUNTER_BYTES: usize = 8;
/// Destinations, and counters, that an entry may have.
const MAX_LIST: u64 = 4096;
/// `destination_type`: flow table.
const DEST_TABLE: u64 = 1;
/// `destination_type`: TIR.
const DEST_TIR: u64 = 2;
/// `destination_type`: flow sampler, a general object.
const DEST_SAMPLER: u64 = 6;
/// Bits of `action` (`MLX5_FLOW_CONTEXT_ACTION_*`) that name a context.
const ACTION_PACKET_REFORMAT: u64 = 0x10;
const ACTION_MODIFY_HEADER: u64 = 0x40;
/// SET_FLOW_TABLE_ENTRY op_mod: a new entry.
const ADD: u16 = 0;
/// SET_FLOW_TABLE_ENTRY op_mod: change an entry.
const CHANGE: u16 = 1;
/// SET_FLOW_TABLE_ROOT op_mod: connect.
const CONNECT: u16 = 0;
/// SET_FLOW_TABLE_ROOT op_mod: disconnect.
const DISCONNECT: u16 = 1;

/// SET_FLOW_TABLE_ENTRY.
pub fn set_fte(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetFteIn> = view(ctx.inbox)?;
    let table = v.get(SetFteIn::TABLE_ID) as u32;
    let key = (table, v.get(SetFteIn::FLOW_INDEX) as u32);
    let known = ctx.f.objects.flow(key).map(|f| f.uid);
    match (ctx.op_mod, known) {
        (ADD, Some(_)) => return Err(Syndrome::ObjectField.into()),
        (CHANGE, None) => return Err(Syndrome::ObjectUnknown.into()),
        (CHANGE, Some(uid)) => ctx.may_change(uid)?,
        (ADD, None) => {}
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    let holds = held(ctx, &v)?;
    for (kind, id) in &holds {
        let o = ctx.f.objects.get(*kind, *id);
        ctx.may_use(o.ok_or(Syndrome::ObjectReference)?.uid)?;
    }
    in_group(ctx, table, &v)?;
    if known.is_none() && ctx.f.objects.flow_count() >= crate::limits::MAX_OBJECTS {
        return Err(Syndrome::ObjectLimit.into());
    }
    let kept: Box<[u8]> = ctx.inbox.get(FTE_HEADER..).unwrap_or_default().into();
    ctx.f.pages_for_objects()?;
    if ctx.f.objects.bytes() + kept.len() > crate::limits::MAX_OBJECT_BYTES {
        return Err(Syndrome::ObjectMemory.into());
    }
    let uid = known.unwrap_or(ctx.uid);
    ctx.f.objects.set_flow(key, Flow { uid, kept, holds });
    ctx.f.balance_pages();
    Ok(())
}

/// Everything that an entry refers to.
fn held(ctx: &Ctx<'_>, v: &View<'_, SetFteIn>) -> Result<Vec<(KindId, u32)>, Refusal> {
    let c = v.sub(SetFteIn::FLOW_CONTEXT);
    let mut holds = vec![
        (KindId::FlowTable, v.get(SetFteIn::TABLE_ID) as u32),
        (KindId::FlowGroup, c.get(FlowContext::GROUP_ID) as u32),
    ];
    let action = c.get(FlowContext::ACTION);
    if action & ACTION_PACKET_REFORMAT != 0 && !c.flag(FlowContext::EXTENDED_DESTINATION) {
        let id = c.get(FlowContext::PACKET_REFORMAT_ID) as u32;
        holds.push((KindId::PacketReformat, id));
    }
    if action & ACTION_MODIFY_HEADER != 0 {
        let id = c.get(FlowContext::MODIFY_HEADER_ID) as u32;
        holds.push((KindId::ModifyHeader, id));
    }
    let destinations = c.get(FlowContext::DESTINATION_LIST_SIZE);
    let counters = c.get(FlowContext::FLOW_COUNTER_LIST_SIZE);
    if destinations > MAX_LIST || counters > MAX_LIST {
        return Err(Syndrome::ObjectField.into());
    }
    let step = if c.flag(FlowContext::EXTENDED_DESTINATION) {
        EXTENDED_BYTES
    } else {
        DESTINATION_BYTES
    };
    let mut at = CONTEXT + DESTINATIONS;
    for _ in 0..destinations {
        let d: View<'_, DestFormatStruct> = view(ctx.inbox.get(at..).unwrap_or_default())?;
        let id = d.get(DestFormatStruct::DESTINATION_ID) as u32;
        match d.get(DestFormatStruct::DESTINATION_TYPE) {
            DEST_TABLE => holds.push((KindId::FlowTable, id)),
            DEST_TIR => holds.push((KindId::Tir, id)),
            DEST_SAMPLER => holds.push((KindId::General, id)),
            _ => {}
        }
        at += step;
    }
    for _ in 0..counters {
        let l: View<'_, FlowCounterList> = view(ctx.inbox.get(at..).unwrap_or_default())?;
        let id = l.get(FlowCounterList::FLOW_COUNTER_ID) as u32;
        holds.push((KindId::FlowCounter, id));
        at += COUNTER_BYTES;
    }
    Ok(holds)
}

/// The entry's index must lie in its group, and the group in its table.
fn in_group(ctx: &Ctx<'_>, table: u32, v: &View<'_, SetFteIn>) -> Done {
    let group = v.sub(SetFteIn::FLOW_CONTEXT).get(FlowContext::GROUP_ID) as u32;
    let kept = &ctx
        .f
        .objects
        .get(KindId::FlowGroup, group)
        .ok_or(Syndrome::ObjectReference)?
        .kept;
    let get = |field| Bits::of(field).kept().get(kept);
    let index = v.get(SetFteIn::FLOW_INDEX);
    if get(CreateFlowGroupIn::TABLE_ID) as u32 != table
        || index < get(CreateFlowGroupIn::START_FLOW_INDEX)
        || index > get(CreateFlowGroupIn::END_FLOW_INDEX)
    {
        return Err(Syndrome::ObjectField.into());
    }
    Ok(())
}

/// DELETE_FLOW_TABLE_ENTRY.
pub fn delete_fte(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DeleteFteIn> = view(ctx.inbox)?;
    let key = (
        v.get(DeleteFteIn::TABLE_ID) as u32,
        v.get(DeleteFteIn::FLOW_INDEX) as u32,
    );
    let uid = ctx.f.objects.flow(key).ok_or(Syndrome::ObjectUnknown)?.uid;
    ctx.may_change(uid)?;
    ctx.f.objects.remove_flow(key);
    ctx.f.balance_pages();
    Ok(())
}

/// QUERY_FLOW_TABLE_ENTRY: the flow context as it was set.
pub fn query_fte(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryFteIn> = view(ctx.inbox)?;
    let key = (
        v.get(QueryFteIn::TABLE_ID) as u32,
        v.get(QueryFteIn::FLOW_INDEX) as u32,
    );
    let flow = ctx.f.objects.flow(key).ok_or(Syndrome::ObjectUnknown)?;
    ctx.may_see(flow.uid)?;
    let context = flow.kept.get(CONTEXT - FTE_HEADER..).unwrap_or_default();
    for (to, b) in out.iter_mut().skip(CONTEXT).zip(context) {
        *to = *b;
    }
    Ok(())
}

/// SET_FLOW_TABLE_ROOT: where packets of a type enter.
pub fn set_root(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetFlowTableRootIn> = view(ctx.inbox)?;
    let table_type = v.get(SetFlowTableRootIn::TABLE_TYPE) as u8;
    let table = v.get(SetFlowTableRootIn::TABLE_ID) as u32;
    let uid = ctx
        .f
        .objects
        .get(KindId::FlowTable, table)
        .ok_or(Syndrome::ObjectReference)?
        .uid;
    ctx.may_change(uid)?;
    match ctx.op_mod {
        CONNECT => {
            ctx.f.objects.roots.insert(table_type, table);
        }
        DISCONNECT => ctx.f.objects.roots.retain(|_, root| *root != table),
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    Ok(())
}

/// QUERY_FLOW_COUNTER: packets and octets of one counter, or of `num_of_counters` in a row. All
/// are 0, as no packet ever moves.
pub fn query_counter(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    /// Bytes before the first counter, and of each counter.
    const COUNTERS: usize = 16;
    const EACH: usize = 16;
    let v: View<'_, QueryFlowCounterIn> = view(ctx.inbox)?;
    let first = v.get(QueryFlowCounterIn::FLOW_COUNTER_ID) as u32;
    let count = v.get(QueryFlowCounterIn::NUM_OF_COUNTERS).max(1) as u32;
    let objects = &ctx.f.objects;
    for n in [first, first.saturating_add(count - 1)] {
        let o = objects.get(KindId::FlowCounter, n);
        ctx.may_see(o.ok_or(Syndrome::ObjectUnknown)?.uid)?;
    }
    if out.len() < COUNTERS + count as usize * EACH {
        return Err(Syndrome::OutboxTooShort.into());
    }
    Ok(())
}
