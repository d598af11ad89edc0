// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QUERY_HCA_CAP and SET_HCA_CAP.

use fwctl_proto::{
    cap_type,
    layout::{View, ViewMut, get_bits},
    layouts::{CmdHcaCap, QueryHcaCapIn, SetHcaCapIn},
};

use super::{Ctx, Done, view};
use crate::{
    FunctionId,
    function::{State, uctx::CallerKind},
    profile::CAP_PAGE_BYTES,
    syndrome::Syndrome,
};

/// Byte offset of the capability page in both outbox and inbox.
const PAGE_OFFSET: usize = 16;
/// Bit 0 of QUERY_HCA_CAP's op_mod: the current values; else the maximum.
const CURRENT: u16 = 1;

/// QUERY_HCA_CAP: a capability page, current or maximum. op_mod is the type and that choice.
pub fn query(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryHcaCapIn> = view(ctx.inbox)?;
    let whose = whose(
        ctx,
        &Named {
            other: v.flag(QueryHcaCapIn::OTHER_FUNCTION),
            embedded: v.flag(QueryHcaCapIn::EC_VF_FUNCTION),
            by_vhca: v.flag(QueryHcaCapIn::FUNCTION_ID_TYPE),
            id: v.get(QueryHcaCapIn::FUNCTION_ID),
        },
    )?;
    let (id, op_mod, profile) = (whose.unwrap_or(ctx.f.id), ctx.op_mod, ctx.profile);
    let cap_type = op_mod >> 1;
    let function = match whose {
        None => &*ctx.f,
        Some(id) => ctx.others.get_mut(id).ok_or(Syndrome::OtherFunction)?,
    };
    let page = if op_mod & CURRENT == CURRENT {
        function.cap_page(profile, cap_type)
    } else {
        function.limits(profile, cap_type).map(|(_, max)| max)
    };
    let page = page.ok_or(()).or_else(|()| empty_page(cap_type))?;
    let Some(to) = out.get_mut(PAGE_OFFSET..) else {
        return Ok(());
    };
    let n = to.len().min(page.len());
    to[..n].copy_from_slice(&page[..n]);
    if cap_type == cap_type::GENERAL
        && let Some(mut v) = ViewMut::<CmdHcaCap>::new(to)
    {
        v.set(CmdHcaCap::VHCA_ID, vhca_id(id));
    }
    Ok(())
}

/// The number of a function among all that the card could have; docs/lifecycle.md has the others.
#[must_use]
pub fn vhca_id(id: FunctionId) -> u64 {
    u64::from(id.0)
}

/// A type that the interface knows and the profile says nothing about offers nothing.
fn empty_page(cap_type: u16) -> Result<&'static [u8], Syndrome> {
    static NOTHING: [u8; CAP_PAGE_BYTES] = [0; CAP_PAGE_BYTES];
    match cap_type::name(cap_type) {
        Some(_) => Ok(&NOTHING),
        None => Err(Syndrome::CapTypeUnknown),
    }
}

/// SET_HCA_CAP: the driver's choice of capabilities; each field at most its maximum.
pub fn set(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetHcaCapIn> = view(ctx.inbox)?;
    let whose = whose(
        ctx,
        &Named {
            other: v.flag(SetHcaCapIn::OTHER_FUNCTION),
            embedded: v.flag(SetHcaCapIn::EC_VF_FUNCTION),
            by_vhca: v.flag(SetHcaCapIn::FUNCTION_ID_TYPE),
            id: v.get(SetHcaCapIn::FUNCTION_ID),
        },
    )?;
    if ctx.caller == CallerKind::Tools && whose.is_none() {
        // Tools may only prepare another function.
        return Err(Syndrome::CallerNotAllowed.into());
    }
    let function = match whose {
        None if ctx.f.state == State::Enabled => &mut *ctx.f,
        None => return Err(Syndrome::WrongState.into()),
        // Its driver has not seen them yet.
        Some(id) => match ctx.others.get_mut(id) {
            Some(f) if f.state != State::Up => f,
            Some(_) => return Err(Syndrome::WrongState.into()),
            None => return Err(Syndrome::OtherFunction.into()),
        },
    };
    let cap_type = ctx.op_mod >> 1;
    let cap = ctx.profile.cap(cap_type).ok_or(Syndrome::CapTypeUnknown)?;
    let given = ctx.inbox.get(PAGE_OFFSET..).unwrap_or_default();
    let (current, max) = function
        .limits(ctx.profile, cap_type)
        .ok_or(Syndrome::CapTypeUnknown)?;
    let mut page: Box<[u8]> = current.into();
    let n = given.len().min(page.len());
    page[..n].copy_from_slice(&given[..n]);
    if cap_type == cap_type::GENERAL
        && let Some(mut v) = ViewMut::<CmdHcaCap>::new(&mut page)
    {
        // Who the function is cannot be chosen.
        v.set(CmdHcaCap::VHCA_ID, 0);
    }
    for field in cap.fields() {
        let (asked, current, max) = (
            get_bits(&page, field.offset, field.width),
            get_bits(current, field.offset, field.width),
            get_bits(max, field.offset, field.width),
        );
        if asked != current && asked > max {
            return Err(Syndrome::CapAboveMax.into());
        }
    }
    function.caps.insert(cap_type, page);
    Ok(())
}

/// A function as an inbox names it.
struct Named {
    other: bool,
    embedded: bool,
    by_vhca: bool,
    id: u64,
}

/// The function that is meant; `None` for the caller's own. By function id that is the only one, as
/// there are no virtual functions; by vhca id all functions of the card are in reach of one that
/// manages them, but not of a DEVX context.
fn whose(ctx: &Ctx<'_>, named: &Named) -> Result<Option<FunctionId>, Syndrome> {
    if !named.other {
        return Ok(None);
    }
    if named.embedded {
        return Err(Syndrome::OtherFunction);
    }
    if !named.by_vhca {
        return if named.id == 0 {
            Ok(None)
        } else {
            Err(Syndrome::OtherFunction)
        };
    }
    if named.id == vhca_id(ctx.f.id) {
        return Ok(None);
    }
    let manages = ctx.general_cap(CmdHcaCap::VHCA_RESOURCE_MANAGER) != 0;
    match u8::try_from(named.id) {
        Ok(id) if manages && ctx.caller != CallerKind::Devx => Ok(Some(FunctionId(id))),
        _ => Err(Syndrome::OtherFunction),
    }
}
