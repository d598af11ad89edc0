// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! ENABLE_HCA, the interface step, INIT_HCA, TEARDOWN_HCA, DISABLE_HCA.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{DisableHcaIn, EnableHcaIn, QueryIssiOut, SetIssiIn, TeardownHcaIn, TeardownHcaOut},
};

use super::{Ctx, Done, view, view_mut};
use crate::{function::State, syndrome::Syndrome};

/// Interface step sequence ids that the firmware speaks, a bit each: 0 and 1.
pub const SUPPORTED_ISSI: u32 = 0b11;

/// TEARDOWN_HCA profile: objects were destroyed by the driver.
const TEARDOWN_GRACEFUL: u64 = 0;
/// TEARDOWN_HCA profile: the driver destroys nothing.
const TEARDOWN_FORCE: u64 = 1;
/// TEARDOWN_HCA profile: as force, prepared for a fast unload.
const TEARDOWN_FAST: u64 = 2;

/// ENABLE_HCA: the function takes commands.
pub fn enable_hca(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, EnableHcaIn> = view(ctx.inbox)?;
    ctx.own_function(v.get(EnableHcaIn::FUNCTION_ID))?;
    ctx.f.state = State::Enabled;
    Ok(())
}

/// DISABLE_HCA: as after power on; pages that were not taken back are forgotten.
pub fn disable_hca(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DisableHcaIn> = view(ctx.inbox)?;
    ctx.own_function(v.get(DisableHcaIn::FUNCTION_ID))?;
    ctx.f.drop_objects();
    ctx.f.caps.clear();
    ctx.f.pages.forget();
    ctx.f.issi = 0;
    ctx.f.state = State::Disabled;
    Ok(())
}

/// QUERY_ISSI: the step in force and those on offer.
pub fn query_issi(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let mut o: ViewMut<'_, QueryIssiOut> = view_mut(out)?;
    o.set(QueryIssiOut::CURRENT_ISSI, u64::from(ctx.f.issi));
    o.set(QueryIssiOut::SUPPORTED_ISSI_DW0, u64::from(SUPPORTED_ISSI));
    Ok(())
}

/// SET_ISSI: chooses a step.
pub fn set_issi(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, SetIssiIn> = view(ctx.inbox)?;
    let issi = v.get(SetIssiIn::CURRENT_ISSI);
    if issi >= 32 || SUPPORTED_ISSI >> issi & 1 == 0 {
        return Err(Syndrome::IssiUnsupported.into());
    }
    ctx.f.issi = issi as u16;
    Ok(())
}

/// INIT_HCA: every command is allowed from now on.
pub fn init_hca(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    if ctx.f.pages.missing_init() > 0 {
        return Err(Syndrome::PagesMissing.into());
    }
    // Left over from a teardown that was forced.
    ctx.f.eqs.clear();
    ctx.f.cmd_eq = None;
    ctx.f.state = State::Up;
    Ok(())
}

/// TEARDOWN_HCA: what INIT_HCA began ends; all objects are gone, pages may be taken back. Event
/// queues that the driver has not destroyed carry the answer's event and nothing else.
pub fn teardown_hca(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, TeardownHcaIn> = view(ctx.inbox)?;
    let profile = v.get(TeardownHcaIn::PROFILE);
    if ![TEARDOWN_GRACEFUL, TEARDOWN_FORCE, TEARDOWN_FAST].contains(&profile) {
        return Err(Syndrome::BadTeardownProfile.into());
    }
    let queues = (core::mem::take(&mut ctx.f.eqs), ctx.f.cmd_eq);
    ctx.f.drop_objects();
    if profile != TEARDOWN_GRACEFUL {
        // The driver has destroyed nothing and waits for the completion's event; the queues go
        // with the next INIT_HCA, DISABLE_HCA or reset.
        (ctx.f.eqs, ctx.f.cmd_eq) = queues;
    }
    ctx.f.state = State::Enabled;
    // state 0: the teardown of the asked kind succeeded.
    let mut o: ViewMut<'_, TeardownHcaOut> = view_mut(out)?;
    o.set(TeardownHcaOut::STATE, 0);
    Ok(())
}
