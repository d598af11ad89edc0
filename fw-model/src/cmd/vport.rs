// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The NIC vport context, vport state and counters. A function has its own vport, number 0.

use fwctl_proto::{
    eqe, event,
    layout::{View, ViewMut},
    layouts::{
        MacAddressLayout, ModifyNicVportContextIn, ModifyNicVportFieldSelect as Select,
        ModifyVportStateIn, NicVportContext, QueryNicVportContextIn, QueryNicVportContextOut,
        QueryQCounterIn, QueryVnicEnvIn, QueryVportCounterIn, QueryVportStateIn,
        QueryVportStateOut,
    },
};

use super::{Ctx, Done, view, view_mut};
use crate::{
    FunctionId,
    function::eq::Event,
    object::KindId,
    profile::guid,
    reg,
    syndrome::Syndrome,
    vport::{LISTS, MAX_LIST, Vport},
};

/// `arm_change_event` in the dword of events.
const ARMED: u32 = 1 << 31;
/// MTU of a fresh vport, in bytes.
const DEFAULT_MTU: u16 = 1500;
/// `admin_state`: down, whatever the uplink is.
const ADMIN_DOWN: u8 = 0;
/// `admin_state`: follow the uplink.
const ADMIN_AUTO: u8 = 2;

/// QUERY_NIC_VPORT_CONTEXT.
pub fn query_nic(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryNicVportContextIn> = view(ctx.inbox)?;
    own_vport(
        v.get(QueryNicVportContextIn::OTHER_VPORT),
        v.get(QueryNicVportContextIn::VPORT_NUMBER),
    )?;
    let list_type = v.get(QueryNicVportContextIn::ALLOWED_LIST_TYPE) as usize;
    let list = ctx
        .f
        .vport
        .lists
        .get(list_type)
        .ok_or(Syndrome::VportField)?;
    let p = &ctx.f.vport;
    let mac = p.mac.unwrap_or_else(|| ctx.profile.mac(ctx.f.id));
    let own = guid(ctx.profile.mac(ctx.f.id));
    let mut o: ViewMut<'_, QueryNicVportContextOut> = view_mut(out)?;
    let mut c = o.sub_mut(QueryNicVportContextOut::NIC_VPORT_CONTEXT);
    c.set(
        NicVportContext::MTU,
        u64::from(if p.mtu == 0 { DEFAULT_MTU } else { p.mtu }),
    );
    let card = guid(ctx.profile.mac(FunctionId(0)));
    c.set(NicVportContext::SYSTEM_IMAGE_GUID, card);
    c.set(NicVportContext::PORT_GUID, p.port_guid.unwrap_or(own));
    c.set(NicVportContext::NODE_GUID, p.node_guid.unwrap_or(own));
    c.set(NicVportContext::PROMISC_UC, u64::from(p.promisc >> 2 & 1));
    c.set(NicVportContext::PROMISC_MC, u64::from(p.promisc >> 1 & 1));
    c.set(NicVportContext::PROMISC_ALL, u64::from(p.promisc & 1));
    c.set(NicVportContext::ROCE_EN, u64::from(p.roce));
    c.set(
        NicVportContext::MIN_WQE_INLINE_MODE,
        u64::from(p.min_inline),
    );
    c.set(
        NicVportContext::DISABLE_MC_LOCAL_LB,
        u64::from(p.local_lb >> 1 & 1),
    );
    c.set(
        NicVportContext::DISABLE_UC_LOCAL_LB,
        u64::from(p.local_lb & 1),
    );
    c.set(NicVportContext::ALLOWED_LIST_TYPE, list_type as u64);
    c.set(NicVportContext::ALLOWED_LIST_SIZE, list.len() as u64);
    let mut address = c.sub_mut(NicVportContext::PERMANENT_ADDRESS);
    let word = mac.iter().fold(0u64, |w, b| w << 8 | u64::from(*b));
    address.set(MacAddressLayout::MAC_ADDR_47_32, word >> 32);
    address.set(MacAddressLayout::MAC_ADDR_31_0, word & 0xffff_ffff);
    let events = p.events.to_be_bytes();
    // arm_change_event and the event_on_… bits are the second dword.
    if let Some(place) = c.raw_mut().get_mut(4..8) {
        place.copy_from_slice(&events);
    }
    for (i, entry) in list.iter().enumerate() {
        c.set_at(NicVportContext::CURRENT_UC_MAC_ADDRESS, i, *entry);
    }
    Ok(())
}

/// MODIFY_NIC_VPORT_CONTEXT: the fields that `field_select` names.
pub fn modify_nic(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ModifyNicVportContextIn> = view(ctx.inbox)?;
    own_vport(
        v.get(ModifyNicVportContextIn::OTHER_VPORT),
        v.get(ModifyNicVportContextIn::VPORT_NUMBER),
    )?;
    let select = v.sub(ModifyNicVportContextIn::FIELD_SELECT);
    let c = v.sub(ModifyNicVportContextIn::NIC_VPORT_CONTEXT);
    let mut p = ctx.f.vport.clone();
    if select.flag(Select::MTU) {
        p.mtu = c.get(NicVportContext::MTU) as u16;
    }
    if select.flag(Select::PROMISC) {
        p.promisc = (c.get(NicVportContext::PROMISC_UC) << 2
            | c.get(NicVportContext::PROMISC_MC) << 1
            | c.get(NicVportContext::PROMISC_ALL)) as u8;
    }
    if select.flag(Select::CHANGE_EVENT) {
        p.events = fwctl_proto::layout::get_bits(c.raw(), 32, 32) as u32;
    }
    if select.flag(Select::ROCE_EN) {
        p.roce = c.flag(NicVportContext::ROCE_EN);
    }
    if select.flag(Select::DISABLE_UC_LOCAL_LB) {
        p.local_lb = p.local_lb & 2 | c.get(NicVportContext::DISABLE_UC_LOCAL_LB) as u8;
    }
    if select.flag(Select::DISABLE_MC_LOCAL_LB) {
        p.local_lb = p.local_lb & 1 | (c.get(NicVportContext::DISABLE_MC_LOCAL_LB) as u8) << 1;
    }
    if select.flag(Select::NODE_GUID) {
        p.node_guid = Some(c.get(NicVportContext::NODE_GUID));
    }
    if select.flag(Select::PORT_GUID) {
        p.port_guid = Some(c.get(NicVportContext::PORT_GUID));
    }
    if select.flag(Select::MIN_INLINE) {
        p.min_inline = c.get(NicVportContext::MIN_WQE_INLINE_MODE) as u8;
    }
    if select.flag(Select::PERMANENT_ADDRESS) {
        let a = c.sub(NicVportContext::PERMANENT_ADDRESS);
        let mut mac = [0; 6];
        mac.copy_from_slice(a.raw().get(2..8).ok_or(Syndrome::InboxTooShort)?);
        p.mac = Some(mac);
    }
    if select.flag(Select::ADDRESSES_LIST) {
        let list_type = c.get(NicVportContext::ALLOWED_LIST_TYPE) as usize;
        let count = c.get(NicVportContext::ALLOWED_LIST_SIZE) as usize;
        if list_type >= LISTS || count > MAX_LIST {
            return Err(Syndrome::VportField.into());
        }
        let list: Vec<u64> = (0..count)
            .map_while(|i| c.at(NicVportContext::CURRENT_UC_MAC_ADDRESS, i))
            .collect();
        if list.len() != count {
            return Err(Syndrome::InboxTooShort.into());
        }
        p.lists[list_type] = list;
    }
    if !select.flag(Select::CHANGE_EVENT) {
        change_event(ctx, &mut p);
    }
    ctx.f.vport = p;
    Ok(())
}

/// Raises NIC_VPORT_CHANGE if something changes that was asked for: once, until it is armed anew.
fn change_event(ctx: &mut Ctx<'_>, new: &mut Vport) {
    let old = &ctx.f.vport;
    // The second dword of the context, bit by bit: UC, MC and VLAN lists, promiscuity, MTU.
    let changed = [
        old.lists[0] != new.lists[0],
        old.lists[1] != new.lists[1],
        old.lists[2] != new.lists[2],
        old.promisc != new.promisc,
        old.mtu != new.mtu,
    ];
    let asked = (0..)
        .zip(changed)
        .any(|(bit, c)| c && new.events >> bit & 1 == 1);
    if !asked || new.events & ARMED == 0 {
        return;
    }
    new.events &= !ARMED;
    // Vport 0: the function's own.
    ctx.f.raise(Event {
        event_type: event::NIC_VPORT_CHANGE,
        sub_type: 0,
        data: [0; eqe::DATA_BYTES],
    });
}

/// QUERY_VPORT_STATE.
pub fn query_state(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryVportStateIn> = view(ctx.inbox)?;
    own_vport(
        v.get(QueryVportStateIn::OTHER_VPORT),
        v.get(QueryVportStateIn::VPORT_NUMBER),
    )?;
    let admin = ctx.f.vport.admin_state.unwrap_or(ADMIN_AUTO);
    let up = match admin {
        ADMIN_DOWN => false,
        ADMIN_AUTO => reg::is_up(ctx.f, ctx.shared.port(ctx.f.id).cable),
        _ => true,
    };
    let mut o: ViewMut<'_, QueryVportStateOut> = view_mut(out)?;
    o.set(QueryVportStateOut::ADMIN_STATE, u64::from(admin));
    o.set(QueryVportStateOut::STATE, u64::from(up));
    Ok(())
}

/// MODIFY_VPORT_STATE.
pub fn modify_state(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ModifyVportStateIn> = view(ctx.inbox)?;
    own_vport(
        v.get(ModifyVportStateIn::OTHER_VPORT),
        v.get(ModifyVportStateIn::VPORT_NUMBER),
    )?;
    let admin = v.get(ModifyVportStateIn::ADMIN_STATE) as u8;
    if admin > ADMIN_AUTO {
        return Err(Syndrome::VportField.into());
    }
    ctx.f.vport.admin_state = Some(admin);
    Ok(())
}

/// QUERY_VPORT_COUNTER: all zero, as no packet ever moves.
pub fn query_counter(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, QueryVportCounterIn> = view(ctx.inbox)?;
    own_vport(
        v.get(QueryVportCounterIn::OTHER_VPORT),
        v.get(QueryVportCounterIn::VPORT_NUMBER),
    )
}

/// QUERY_Q_COUNTER: all zero, but only for a set that exists.
pub fn query_q_counter(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, QueryQCounterIn> = view(ctx.inbox)?;
    let id = v.get(QueryQCounterIn::COUNTER_SET_ID) as u32;
    let owner = ctx
        .f
        .objects
        .get(KindId::QCounter, id)
        .ok_or(Syndrome::ObjectUnknown)?
        .uid;
    ctx.may_see(owner)
}

pub(super) fn own_vport(other: u64, number: u64) -> Done {
    if other == 0 || number == 0 {
        Ok(())
    } else {
        Err(Syndrome::VportUnknown.into())
    }
}

/// QUERY_VNIC_ENV: diagnostic statistics; nothing that they count ever happens.
pub fn query_vnic_env(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, QueryVnicEnvIn> = view(ctx.inbox)?;
    own_vport(
        v.get(QueryVnicEnvIn::OTHER_VPORT),
        v.get(QueryVnicEnvIn::VPORT_NUMBER),
    )
}
