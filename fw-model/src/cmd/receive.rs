// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Arming shared receive queues, and draining dynamically connected targets.

use fwctl_proto::{
    event,
    layout::View,
    layouts::{ArmDctIn, ArmRqIn, ArmXrcSrqIn, ArmXrqIn, Dctc, DrainDctIn, Srqc, Wq, XrcSrqc},
};

use super::{Ctx, Done, view};
use crate::{
    function::eq::Event,
    object::{Bits, KindId},
    syndrome::Syndrome,
};

/// ARM_RQ op_mods: a shared receive queue, one with tag matching.
const ARM_SRQ: u16 = 1;
const ARM_XRQ: u16 = 2;
/// ARM_XRC_SRQ op_mod.
const ARM_XRC_SRQ: u16 = 1;
/// Byte offset of the context in the commands of shared receive queues, and of the work queue in
/// an XRQ's.
const CTX: usize = 16;
const XRQ_WQ: usize = CTX + 128;
/// `dctc.state`: drained.
const DRAINED: u64 = 2;
/// Byte offset of `dctn` in the event data (`struct mlx5_eqe_dct`).
const EVENT_DCTN: usize = 24;

/// Sets the limit at which the queue would raise an event. None ever does, as nothing is received.
fn arm(ctx: &mut Ctx<'_>, kind: KindId, n: u64, at: Bits, lwm: u64) -> Done {
    let n = n as u32;
    let o = ctx.f.objects.get(kind, n).ok_or(Syndrome::ObjectUnknown)?;
    ctx.may_change(o.uid)?;
    ctx.f.objects.set_field(kind, n, at, lwm);
    Ok(())
}

/// ARM_RQ.
pub fn arm_rq(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ArmRqIn> = view(ctx.inbox)?;
    let (n, lwm) = (v.get(ArmRqIn::SRQ_NUMBER), v.get(ArmRqIn::LWM));
    match ctx.op_mod {
        ARM_SRQ => arm(ctx, KindId::Srq, n, Bits::within(CTX, Srqc::LWM), lwm),
        ARM_XRQ => arm(ctx, KindId::Xrq, n, Bits::within(XRQ_WQ, Wq::LWM), lwm),
        _ => Err(Syndrome::UnsupportedOpMod.into()),
    }
}

/// ARM_XRC_SRQ.
pub fn arm_xrc_srq(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ArmXrcSrqIn> = view(ctx.inbox)?;
    if ctx.op_mod != ARM_XRC_SRQ {
        return Err(Syndrome::UnsupportedOpMod.into());
    }
    let (n, lwm) = (v.get(ArmXrcSrqIn::XRC_SRQN), v.get(ArmXrcSrqIn::LWM));
    arm(ctx, KindId::XrcSrq, n, Bits::within(CTX, XrcSrqc::LWM), lwm)
}

/// ARM_XRQ.
pub fn arm_xrq(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ArmXrqIn> = view(ctx.inbox)?;
    let (n, lwm) = (v.get(ArmXrqIn::XRQN), v.get(ArmXrqIn::LWM));
    arm(ctx, KindId::Xrq, n, Bits::within(XRQ_WQ, Wq::LWM), lwm)
}

/// DRAIN_DCT: nothing is ever in flight, so the target is drained at once; the driver waits for
/// the event that says so before it destroys it.
pub fn drain_dct(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, DrainDctIn> = view(ctx.inbox)?;
    let n = v.get(DrainDctIn::DCTN) as u32;
    let o = ctx.f.objects.get(KindId::Dct, n);
    ctx.may_change(o.ok_or(Syndrome::ObjectUnknown)?.uid)?;
    let state = Bits::within(CTX, Dctc::STATE);
    ctx.f.objects.set_field(KindId::Dct, n, state, DRAINED);
    let mut data = [0; fwctl_proto::eqe::DATA_BYTES];
    data[EVENT_DCTN..].copy_from_slice(&n.to_be_bytes());
    ctx.f.raise(Event {
        event_type: event::DCT_DRAINED,
        sub_type: 0,
        data,
    });
    Ok(())
}

/// ARM_DCT_FOR_KEY_VIOLATION: asks for an event that never comes, as nothing is received.
pub fn arm_dct(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let v: View<'_, ArmDctIn> = view(ctx.inbox)?;
    let n = v.get(ArmDctIn::DCT_NUMBER) as u32;
    let o = ctx.f.objects.get(KindId::Dct, n);
    ctx.may_change(o.ok_or(Syndrome::ObjectUnknown)?.uid)
}
