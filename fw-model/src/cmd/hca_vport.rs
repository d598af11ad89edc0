// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The HCA vport context, P_Keys and GIDs of the function's vport. mlx5_ib asks for them on Ethernet
//! ports as well; there is one P_Key, the default one, and one GID, of the link-local prefix.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{
        HcaVportContext, ModifyHcaVportContextIn, QueryHcaVportContextIn, QueryHcaVportContextOut,
        QueryHcaVportGidIn, QueryHcaVportGidOut, QueryHcaVportPkeyIn,
    },
};

use super::{Ctx, Done, view, view_mut, vport::own_vport};
use crate::{FunctionId, profile::guid, reg, syndrome::Syndrome};

/// `field_select` of the context (`MLX5_HCA_VPORT_SEL_*`).
const PORT_GUID: u64 = 1 << 0;
const NODE_GUID: u64 = 1 << 1;
const STATE_POLICY: u64 = 1 << 2;
/// States of a port: down, active; and of its physical layer: disabled, link up.
const DOWN: u64 = 1;
const ACTIVE: u64 = 4;
const PHYSICAL_DISABLED: u64 = 3;
const PHYSICAL_UP: u64 = 5;
/// An index that asks for the whole table.
const WHOLE: u64 = 0xffff;
/// The default P_Key, of a full member.
const DEFAULT_PKEY: u16 = 0xffff;
/// Byte offset of the tables in the outboxes.
const TABLE: usize = 16;
/// The link-local prefix of a GID.
const PREFIX: u64 = 0xfe80_0000_0000_0000;

fn port_guid(ctx: &Ctx<'_>) -> u64 {
    let own = guid(ctx.profile.mac(ctx.f.id));
    ctx.f.vport.port_guid.unwrap_or(own)
}

fn port(number: u64) -> Done {
    if number > 1 {
        return Err(Syndrome::RegisterPort.into());
    }
    Ok(())
}

/// QUERY_HCA_VPORT_CONTEXT.
pub fn query(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryHcaVportContextIn> = view(ctx.inbox)?;
    port(v.get(QueryHcaVportContextIn::PORT_NUM))?;
    own_vport(
        v.get(QueryHcaVportContextIn::OTHER_VPORT),
        v.get(QueryHcaVportContextIn::VPORT_NUMBER),
    )?;
    let up = reg::is_up(ctx.f, ctx.shared.port(ctx.f.id).cable);
    let own = guid(ctx.profile.mac(ctx.f.id));
    let card = guid(ctx.profile.mac(FunctionId(0)));
    let mut o: ViewMut<'_, QueryHcaVportContextOut> = view_mut(out)?;
    let mut c = o.sub_mut(QueryHcaVportContextOut::HCA_VPORT_CONTEXT);
    let (physical, state) = if up {
        (PHYSICAL_UP, ACTIVE)
    } else {
        (PHYSICAL_DISABLED, DOWN)
    };
    c.set(HcaVportContext::PORT_PHYSICAL_STATE, physical);
    c.set(HcaVportContext::PORT_STATE, state);
    c.set(HcaVportContext::VPORT_STATE, state);
    let policy = u64::from(ctx.f.vport.state_policy);
    c.set(HcaVportContext::VPORT_STATE_POLICY, policy);
    c.set(HcaVportContext::SYSTEM_IMAGE_GUID, card);
    c.set(HcaVportContext::PORT_GUID, port_guid(ctx));
    let node = ctx.f.vport.node_guid.unwrap_or(own);
    c.set(HcaVportContext::NODE_GUID, node);
    Ok(())
}

/// MODIFY_HCA_VPORT_CONTEXT: the fields that `field_select` names.
pub fn modify(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ModifyHcaVportContextIn> = view(ctx.inbox)?;
    port(v.get(ModifyHcaVportContextIn::PORT_NUM))?;
    own_vport(
        v.get(ModifyHcaVportContextIn::OTHER_VPORT),
        v.get(ModifyHcaVportContextIn::VPORT_NUMBER),
    )?;
    let c = v.sub(ModifyHcaVportContextIn::HCA_VPORT_CONTEXT);
    let select = c.get(HcaVportContext::FIELD_SELECT);
    if select & !(PORT_GUID | NODE_GUID | STATE_POLICY) != 0 {
        return Err(Syndrome::VportField.into());
    }
    let p = &mut ctx.f.vport;
    if select & PORT_GUID != 0 {
        p.port_guid = Some(c.get(HcaVportContext::PORT_GUID));
    }
    if select & NODE_GUID != 0 {
        p.node_guid = Some(c.get(HcaVportContext::NODE_GUID));
    }
    if select & STATE_POLICY != 0 {
        p.state_policy = c.get(HcaVportContext::VPORT_STATE_POLICY) as u8;
    }
    Ok(())
}

/// QUERY_HCA_VPORT_PKEY: one entry of the table, or all.
pub fn query_pkey(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryHcaVportPkeyIn> = view(ctx.inbox)?;
    port(v.get(QueryHcaVportPkeyIn::PORT_NUM))?;
    own_vport(
        v.get(QueryHcaVportPkeyIn::OTHER_VPORT),
        v.get(QueryHcaVportPkeyIn::VPORT_NUMBER),
    )?;
    if ![0, WHOLE].contains(&v.get(QueryHcaVportPkeyIn::PKEY_INDEX)) {
        return Err(Syndrome::TableIndex.into());
    }
    // A dword, with the key in its low half.
    let to = out.get_mut(TABLE + 2..TABLE + 4);
    to.ok_or(Syndrome::OutboxTooShort)?
        .copy_from_slice(&DEFAULT_PKEY.to_be_bytes());
    Ok(())
}

/// QUERY_HCA_VPORT_GID: one entry of the table, or all.
pub fn query_gid(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryHcaVportGidIn> = view(ctx.inbox)?;
    port(v.get(QueryHcaVportGidIn::PORT_NUM))?;
    own_vport(
        v.get(QueryHcaVportGidIn::OTHER_VPORT),
        v.get(QueryHcaVportGidIn::VPORT_NUMBER),
    )?;
    if ![0, WHOLE].contains(&v.get(QueryHcaVportGidIn::GID_INDEX)) {
        return Err(Syndrome::TableIndex.into());
    }
    let guid = port_guid(ctx);
    let mut o: ViewMut<'_, QueryHcaVportGidOut> = view_mut(out)?;
    o.set(QueryHcaVportGidOut::GIDS_NUM, 1);
    let to = out.get_mut(TABLE..TABLE + 16);
    let to = to.ok_or(Syndrome::OutboxTooShort)?;
    to[..8].copy_from_slice(&PREFIX.to_be_bytes());
    to[8..].copy_from_slice(&guid.to_be_bytes());
    Ok(())
}
