// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands on the function's small tables: multicast groups, the L2 table, RoCE addresses, VXLAN
//! ports, packet pacing rates, wake-on-LAN.

use fwctl_proto::{
    cap_type,
    layout::{View, ViewMut},
    layouts::{
        AddVxlanUdpDportIn, AttachToMcgIn, CmdHcaCap, ConfigIntModerationIn,
        ConfigIntModerationOut, DeleteL2TableEntryIn, DeleteVxlanUdpDportIn,
        PerProtocolNetworkingOffloadCaps, QosCap, QueryL2TableEntryIn, QueryRoceAddressIn,
        QueryWolRolOut, RoceCap, SetL2TableEntryIn, SetPpRateLimitIn, SetWolRolIn,
    },
};

use super::{Ctx, Done, view, view_mut};
use crate::{
    limits::MAX_OBJECTS,
    object::KindId,
    syndrome::{Refusal, Syndrome},
};

/// Byte offset of the GID in ATTACH_TO_MCG and DETACH_FROM_MCG, and its length.
const GID: core::ops::Range<usize> = 16..32;
/// The address in SET_ROCE_ADDRESS and QUERY_ROCE_ADDRESS.
const ROCE: core::ops::Range<usize> = 16..48;
/// Byte offset from which an L2 table entry reads back: the dword of `silent_mode`.
const L2_FIELDS: usize = 28;
/// Byte offset of the context in SET_PP_RATE_LIMIT.
const RATE: usize = 16;

/// The QP and the group of an attach or detach command; the QP must be the caller's.
fn member(ctx: &Ctx<'_>) -> Result<(u32, [u8; 16]), Refusal> {
    let v: View<'_, AttachToMcgIn> = view(ctx.inbox)?;
    let qpn = v.get(AttachToMcgIn::QPN) as u32;
    let o = ctx.f.objects.get(KindId::Qp, qpn);
    ctx.may_change(o.ok_or(Syndrome::ObjectUnknown)?.uid)?;
    let gid = ctx.inbox.get(GID).and_then(|g| g.try_into().ok());
    Ok((qpn, gid.ok_or(Syndrome::InboxTooShort)?))
}

/// ATTACH_TO_MCG: a QP joins a multicast group of at most `max_qp_mcg` QPs.
pub fn attach(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let (qpn, gid) = member(ctx)?;
    let groups = 1usize << ctx.general_cap(CmdHcaCap::LOG_MAX_MCG);
    let members = ctx.general_cap(CmdHcaCap::MAX_QP_MCG) as usize;
    let all = &ctx.f.tables.multicast;
    let in_group = all.in_group(&gid);
    if all.contains(&(qpn, gid)) {
        return Err(Syndrome::MulticastMember.into());
    }
    let most = groups.saturating_mul(members.max(1)).min(MAX_OBJECTS);
    if in_group >= members || all.len() >= most {
        return Err(Syndrome::TableFull.into());
    }
    ctx.f.tables.multicast.insert((qpn, gid));
    ctx.f.objects.hold(KindId::Qp, qpn);
    Ok(())
}

/// DETACH_FROM_MCG.
pub fn detach(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let member = member(ctx)?;
    if !ctx.f.tables.multicast.remove(&member) {
        return Err(Syndrome::MulticastMember.into());
    }
    ctx.f.objects.release(KindId::Qp, member.0);
    Ok(())
}

/// The index of a RoCE address, which must lie in the table.
fn roce_index(ctx: &Ctx<'_>) -> Result<u16, Refusal> {
    let v: View<'_, QueryRoceAddressIn> = view(ctx.inbox)?;
    let index = v.get(QueryRoceAddressIn::ROCE_ADDRESS_INDEX);
    let size = ctx
        .cap_view::<RoceCap>(cap_type::ROCE)
        .map_or(0, |c| c.get(RoceCap::ROCE_ADDRESS_TABLE_SIZE));
    if index >= size {
        return Err(Syndrome::TableIndex.into());
    }
    Ok(index as u16)
}

/// SET_ROCE_ADDRESS: a GID with its MAC address, VLAN and version; all zeros end it.
pub fn set_roce_address(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let index = roce_index(ctx)?;
    let address = ctx.inbox.get(ROCE).ok_or(Syndrome::InboxTooShort)?;
    if address.iter().all(|b| *b == 0) {
        ctx.f.tables.roce.remove(&index);
    } else {
        ctx.f.tables.roce.insert(index, address.into());
    }
    Ok(())
}

/// QUERY_ROCE_ADDRESS: an address as it was set, or zeros.
pub fn query_roce_address(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let index = roce_index(ctx)?;
    let to = out.get_mut(ROCE).ok_or(Syndrome::OutboxTooShort)?;
    if let Some(address) = ctx.f.tables.roce.get(&index) {
        to.copy_from_slice(address);
    }
    Ok(())
}

/// SET_L2_TABLE_ENTRY: a MAC address of the function, at an index below 2^`log_max_l2_table`.
pub fn set_l2(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetL2TableEntryIn> = view(ctx.inbox)?;
    let index = v.get(SetL2TableEntryIn::TABLE_INDEX) as u32;
    if index >= 1 << ctx.general_cap(CmdHcaCap::LOG_MAX_L2_TABLE) {
        return Err(Syndrome::TableIndex.into());
    }
    let fields = ctx.inbox.get(L2_FIELDS..64).unwrap_or_default();
    let entries = &mut ctx.f.tables.l2;
    if entries.len() >= MAX_OBJECTS && !entries.contains_key(&index) {
        return Err(Syndrome::TableFull.into());
    }
    entries.insert(index, fields.into());
    Ok(())
}

/// QUERY_L2_TABLE_ENTRY: an entry as it was set.
pub fn query_l2(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryL2TableEntryIn> = view(ctx.inbox)?;
    let index = v.get(QueryL2TableEntryIn::TABLE_INDEX) as u32;
    let entry = ctx.f.tables.l2.get(&index).ok_or(Syndrome::TableIndex)?;
    for (to, b) in out.iter_mut().skip(L2_FIELDS).zip(entry.iter()) {
        *to = *b;
    }
    Ok(())
}

/// DELETE_L2_TABLE_ENTRY.
pub fn delete_l2(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DeleteL2TableEntryIn> = view(ctx.inbox)?;
    let index = v.get(DeleteL2TableEntryIn::TABLE_INDEX) as u32;
    let old = ctx.f.tables.l2.remove(&index);
    old.map(|_| ()).ok_or_else(|| Syndrome::TableIndex.into())
}

/// ADD_VXLAN_UDP_DPORT: up to `max_vxlan_udp_ports`.
pub fn add_vxlan(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, AddVxlanUdpDportIn> = view(ctx.inbox)?;
    let port = v.get(AddVxlanUdpDportIn::VXLAN_UDP_PORT) as u16;
    let limit = ctx
        .cap_view::<PerProtocolNetworkingOffloadCaps>(cap_type::ETHERNET_OFFLOADS)
        .map_or(0, |c| {
            c.get(PerProtocolNetworkingOffloadCaps::MAX_VXLAN_UDP_PORTS)
        });
    let ports = &mut ctx.f.tables.vxlan;
    if !ports.contains(&port) && ports.len() as u64 >= limit {
        return Err(Syndrome::TableFull.into());
    }
    ports.insert(port);
    Ok(())
}

/// DELETE_VXLAN_UDP_DPORT.
pub fn delete_vxlan(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DeleteVxlanUdpDportIn> = view(ctx.inbox)?;
    let port = v.get(DeleteVxlanUdpDportIn::VXLAN_UDP_PORT) as u16;
    if !ctx.f.tables.vxlan.remove(&port) {
        return Err(Syndrome::TableIndex.into());
    }
    Ok(())
}

/// SET_PP_RATE_LIMIT: a rate at an index below `packet_pacing_rate_table_size`; rate 0 frees it.
pub fn set_rate(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetPpRateLimitIn> = view(ctx.inbox)?;
    let index = v.get(SetPpRateLimitIn::RATE_LIMIT_INDEX) as u16;
    let size = ctx
        .cap_view::<QosCap>(cap_type::QOS)
        .map_or(0, |c| c.get(QosCap::PACKET_PACING_RATE_TABLE_SIZE));
    if u64::from(index) >= size {
        return Err(Syndrome::TableIndex.into());
    }
    let rate = ctx.inbox.get(RATE..).unwrap_or_default();
    if rate.iter().take(4).all(|b| *b == 0) {
        ctx.f.tables.rates.remove(&index);
    } else {
        let kept = rate.get(..48).unwrap_or(rate);
        ctx.f.tables.rates.insert(index, kept.into());
    }
    Ok(())
}

/// The wake-on-LAN modes that the capabilities offer, as bits of `wol_mode`.
fn wol_offered(ctx: &Ctx<'_>) -> u8 {
    [
        (CmdHcaCap::WOL_S, 0x40),
        (CmdHcaCap::WOL_G, 0x20),
        (CmdHcaCap::WOL_A, 0x10),
        (CmdHcaCap::WOL_B, 0x08),
        (CmdHcaCap::WOL_M, 0x04),
        (CmdHcaCap::WOL_U, 0x02),
        (CmdHcaCap::WOL_P, 0x01),
    ]
    .into_iter()
    .filter(|(field, _)| ctx.general_cap(*field) != 0)
    .fold(0, |all, (_, bit)| all | bit)
}

/// SET_WOL_ROL: modes that the `wol_…` and `rol_…` capabilities offer.
pub fn set_wol(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetWolRolIn> = view(ctx.inbox)?;
    let (wol, rol) = (
        v.get(SetWolRolIn::WOL_MODE) as u8,
        v.get(SetWolRolIn::ROL_MODE) as u8,
    );
    if v.flag(SetWolRolIn::WOL_MODE_VALID) && wol & !wol_offered(ctx) != 0 {
        return Err(Syndrome::WolMode.into());
    }
    let rol_offered = ctx.general_cap(CmdHcaCap::ROL_G) << 1 | ctx.general_cap(CmdHcaCap::ROL_S);
    if v.flag(SetWolRolIn::ROL_MODE_VALID) && u64::from(rol) & !rol_offered != 0 {
        return Err(Syndrome::WolMode.into());
    }
    if v.flag(SetWolRolIn::WOL_MODE_VALID) {
        ctx.f.tables.wol = wol;
    }
    if v.flag(SetWolRolIn::ROL_MODE_VALID) {
        ctx.f.tables.rol = rol;
    }
    Ok(())
}

/// QUERY_WOL_ROL.
pub fn query_wol(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let mut o: ViewMut<'_, QueryWolRolOut> = view_mut(out)?;
    o.set(QueryWolRolOut::WOL_MODE, u64::from(ctx.f.tables.wol));
    o.set(QueryWolRolOut::ROL_MODE, u64::from(ctx.f.tables.rol));
    Ok(())
}

/// CONFIG_INT_MODERATION: the least time between two interrupts of a vector. op_mod 0 sets it, 1
/// reads it back; interrupts are never held back here.
pub fn moderate(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, ConfigIntModerationIn> = view(ctx.inbox)?;
    let vector = v.get(ConfigIntModerationIn::INT_VECTOR) as u16;
    if vector >= ctx.profile.pci.msix_vectors {
        return Err(Syndrome::EqVector.into());
    }
    match ctx.op_mod {
        0 => {
            let delay = v.get(ConfigIntModerationIn::MIN_DELAY) as u16;
            ctx.f.tables.moderation.insert(vector, delay);
        }
        1 => {}
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    let delay = ctx.f.tables.moderation.get(&vector).copied().unwrap_or(0);
    let mut o: ViewMut<'_, ConfigIntModerationOut> = view_mut(out)?;
    o.set(ConfigIntModerationOut::MIN_DELAY, u64::from(delay));
    o.set(ConfigIntModerationOut::INT_VECTOR, u64::from(vector));
    Ok(())
}
