// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! CREATE_UCTX and DESTROY_UCTX.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{CmdHcaCap, CreateUctxIn, CreateUctxOut, DestroyUctxIn, Uctx},
};

use super::{Ctx, Done, view, view_mut};
use crate::syndrome::Syndrome;

/// CREATE_UCTX: a new uid with the capabilities that it asks for.
pub fn create(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, CreateUctxIn> = view(ctx.inbox)?;
    let cap = v.sub(CreateUctxIn::UCTX).get(Uctx::CAP) as u32;
    let offered = ctx.general_cap(CmdHcaCap::UCTX_CAP) as u32;
    if cap & !offered != 0 {
        return Err(Syndrome::UctxCap.into());
    }
    let limit = 1usize << ctx.general_cap(CmdHcaCap::LOG_MAX_UCTX).min(16);
    let uid = ctx.f.uctx.create(cap, limit).ok_or(Syndrome::UctxLimit)?;
    let mut o: ViewMut<'_, CreateUctxOut> = view_mut(out)?;
    o.set(CreateUctxOut::UID, u64::from(uid));
    Ok(())
}

/// DESTROY_UCTX: ends a uid and everything that it made.
pub fn destroy(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DestroyUctxIn> = view(ctx.inbox)?;
    let uid = v.get(DestroyUctxIn::UID) as u16;
    if !ctx.f.uctx.destroy(uid) {
        return Err(Syndrome::UctxUnknown.into());
    }
    ctx.f.drop_uid(uid);
    Ok(())
}
