// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flow table entries and root tables. Tables and groups are objects of the common table.

use fwctl_proto::{
    layout::View,
    layouts::{
        DeleteFteIn, DestFormatStruct, FlowContext, QueryFteIn, SetFlowTableRootIn, SetFteIn,
    },
};

use super::{Ctx, Done, view};
use crate::{
    object::{Flow, KindId},
    syndrome::Syndrome,
};

/// Byte offset of the flow context in SET_FLOW_TABLE_ENTRY and in QUERY_FLOW_TABLE_ENTRY's outbox.
const CONTEXT: usize = 64;
/// Byte offset of the destination list in a flow context.
const DESTINATIONS: usize = 768;
/// Bytes of a destination.
const DESTINATION_BYTES: usize = 8;
/// Destinations that an entry may have.
const MAX_DESTINATIONS: u64 = 4096;
/// `destination_type`: flow table.
const DEST_TABLE: u64 = 1;
/// `destination_type`: TIR.
const DEST_TIR: u64 = 2;
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
    let known = ctx.f.objects.flows.contains_key(&key);
    match ctx.op_mod {
        ADD if known => return Err(Syndrome::ObjectField.into()),
        CHANGE if !known => return Err(Syndrome::ObjectUnknown.into()),
        ADD | CHANGE => {}
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    let c = v.sub(SetFteIn::FLOW_CONTEXT);
    let mut holds = vec![
        (KindId::FlowTable, table),
        (KindId::FlowGroup, c.get(FlowContext::GROUP_ID) as u32),
    ];
    let count = c.get(FlowContext::DESTINATION_LIST_SIZE);
    if count > MAX_DESTINATIONS {
        return Err(Syndrome::ObjectField.into());
    }
    for i in 0..count as usize {
        let at = CONTEXT + DESTINATIONS + i * DESTINATION_BYTES;
        let d: View<'_, DestFormatStruct> = view(ctx.inbox.get(at..).unwrap_or_default())?;
        let id = d.get(DestFormatStruct::DESTINATION_ID) as u32;
        match d.get(DestFormatStruct::DESTINATION_TYPE) {
            DEST_TABLE => holds.push((KindId::FlowTable, id)),
            DEST_TIR => holds.push((KindId::Tir, id)),
            _ => {}
        }
    }
    if holds
        .iter()
        .any(|(kind, id)| ctx.f.objects.get(*kind, *id).is_none())
    {
        return Err(Syndrome::ObjectReference.into());
    }
    if !known && ctx.f.objects.flows.len() >= crate::limits::MAX_OBJECTS {
        return Err(Syndrome::ObjectLimit.into());
    }
    for (kind, id) in &holds {
        ctx.f.objects.hold(*kind, *id);
    }
    let kept = ctx.inbox.get(16..).unwrap_or_default().into();
    if let Some(old) = ctx.f.objects.flows.insert(key, Flow { kept, holds }) {
        for (kind, id) in old.holds {
            ctx.f.objects.release(kind, id);
        }
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
    let flow = ctx
        .f
        .objects
        .flows
        .remove(&key)
        .ok_or(Syndrome::ObjectUnknown)?;
    for (kind, id) in flow.holds {
        ctx.f.objects.release(kind, id);
    }
    Ok(())
}

/// QUERY_FLOW_TABLE_ENTRY: the flow context as it was set.
pub fn query_fte(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryFteIn> = view(ctx.inbox)?;
    let key = (
        v.get(QueryFteIn::TABLE_ID) as u32,
        v.get(QueryFteIn::FLOW_INDEX) as u32,
    );
    let flow = ctx
        .f
        .objects
        .flows
        .get(&key)
        .ok_or(Syndrome::ObjectUnknown)?;
    let context = flow.kept.get(CONTEXT - 16..).unwrap_or_default();
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
    if ctx.f.objects.get(KindId::FlowTable, table).is_none() {
        return Err(Syndrome::ObjectReference.into());
    }
    match ctx.op_mod {
        CONNECT => {
            ctx.f.objects.roots.insert(table_type, table);
        }
        DISCONNECT => ctx.f.objects.roots.retain(|_, root| *root != table),
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    Ok(())
}
