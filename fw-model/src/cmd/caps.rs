// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QUERY_HCA_CAP and SET_HCA_CAP.

use fwctl_proto::{
    cap_type,
    layout::{View, get_bits},
    layouts::{QueryHcaCapIn, SetHcaCapIn},
};

use super::{Ctx, Done, view};
use crate::{
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
    other_function(
        ctx,
        v.get(QueryHcaCapIn::OTHER_FUNCTION),
        v.get(QueryHcaCapIn::FUNCTION_ID),
    )?;
    let cap_type = ctx.op_mod >> 1;
    let page = if ctx.op_mod & CURRENT == CURRENT {
        ctx.f.cap_page(ctx.profile, cap_type)
    } else {
        ctx.profile.cap(cap_type).map(|c| &*c.max)
    };
    let page = page.ok_or(()).or_else(|()| empty_page(cap_type))?;
    for (to, from) in out
        .get_mut(PAGE_OFFSET..)
        .unwrap_or_default()
        .chunks_mut(page.len())
        .take(1)
        .zip([page])
    {
        to.copy_from_slice(&from[..to.len()]);
    }
    Ok(())
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
    let (other, id) = (
        v.get(SetHcaCapIn::OTHER_FUNCTION),
        v.get(SetHcaCapIn::FUNCTION_ID),
    );
    if ctx.caller == CallerKind::Tools && other == 0 {
        // Tools may only prepare another function.
        return Err(Syndrome::CallerNotAllowed.into());
    }
    other_function(ctx, other, id)?;
    if ctx.f.state != State::Enabled {
        return Err(Syndrome::WrongState.into());
    }
    let cap_type = ctx.op_mod >> 1;
    let cap = ctx.profile.cap(cap_type).ok_or(Syndrome::CapTypeUnknown)?;
    let given = ctx.inbox.get(PAGE_OFFSET..).unwrap_or_default();
    let mut page: Box<[u8]> = cap.current.clone();
    let n = given.len().min(page.len());
    page[..n].copy_from_slice(&given[..n]);
    for field in cap.fields() {
        let (asked, current, max) = (
            get_bits(&page, field.offset, field.width),
            get_bits(&cap.current, field.offset, field.width),
            get_bits(&cap.max, field.offset, field.width),
        );
        if asked != current && asked > max {
            return Err(Syndrome::CapAboveMax.into());
        }
    }
    ctx.f.caps.insert(cap_type, page);
    Ok(())
}

/// There is one function in reach: the caller's own.
fn other_function(ctx: &Ctx<'_>, other: u64, id: u64) -> Done {
    if other == 0 {
        Ok(())
    } else {
        ctx.own_function(id)
    }
}
