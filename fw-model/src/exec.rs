// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Executing one command: the checks that hold for all of them, then its handler.

use fwctl_proto::layout::get_bits;

use crate::{
    cmd::{Ctx, Done},
    function::{Function, uctx::CallerKind},
    profile::{CAP_GENERAL, Profile},
    syndrome::{Refusal, Syndrome},
    table::{self, Callers},
};

/// Bytes of a status and its syndrome.
const STATUS_BYTES: usize = 8;

/// Executes the command in `ctx.inbox` and makes `outbox` its outbox of `out_len` bytes.
///
/// What the handler fills beyond `out_len` is cut; what it does not fill is zero, so that a
/// driver's reused mailbox shows nobody else's bytes.
pub fn run(ctx: &mut Ctx<'_>, out_len: usize, outbox: &mut Vec<u8>) {
    let opcode = get_bits(ctx.inbox, 0, 16) as u16;
    outbox.clear();
    let profile = ctx.profile;
    let row = profile.op(opcode);
    let room = row
        .map_or(STATUS_BYTES, |o| usize::from(o.out_len))
        .max(out_len);
    outbox.resize(room, 0);
    if let Err(refusal) = checked(ctx, row, outbox) {
        refuse(outbox, refusal);
    }
    outbox.truncate(out_len);
}

/// Makes `outbox` carry a refusal and nothing else.
pub fn refuse(outbox: &mut [u8], refusal: Refusal) {
    outbox.fill(0);
    status(outbox, refusal.status.code(), refusal.syndrome.code());
}

/// Sets the status and the syndrome of an outbox.
pub fn status(outbox: &mut [u8], status: u8, syndrome: u32) {
    if let Some(head) = outbox.get_mut(..STATUS_BYTES) {
        head[0] = status;
        head[4..].copy_from_slice(&syndrome.to_be_bytes());
    }
}

fn checked(ctx: &mut Ctx<'_>, row: Option<&table::Op>, out: &mut [u8]) -> Done {
    let op = row.ok_or(Syndrome::UnknownOpcode)?;
    ctx.uid = get_bits(ctx.inbox, 16, 16) as u16;
    ctx.op_mod = get_bits(ctx.inbox, 48, 16) as u16;
    if !ctx.gateway && !op.needs.allows(ctx.f.state) {
        return Err(Syndrome::WrongState.into());
    }
    ctx.caller = ctx.f.uctx.kind(ctx.uid).ok_or(Syndrome::NoSuchUid)?;
    let allowed = match op.callers {
        Callers::All => true,
        Callers::Kernel => ctx.caller == CallerKind::Kernel,
        Callers::KernelDevx => ctx.caller != CallerKind::Tools,
        Callers::KernelTools => ctx.caller != CallerKind::Devx,
    };
    if !allowed {
        return Err(Syndrome::CallerNotAllowed.into());
    }
    if ctx.inbox.len() < usize::from(op.in_len) {
        return Err(Syndrome::InboxTooShort.into());
    }
    op.action.run(ctx, out)
}

/// True if the driver switched command signatures on (`cmdif_checksum`).
#[must_use]
pub fn checksums(f: &Function, p: &Profile) -> bool {
    use fwctl_proto::{layout::View, layouts::CmdHcaCap};
    // Off until SET_HCA_CAP turns it on: a driver talks to a fresh function without.
    f.caps
        .get(&CAP_GENERAL)
        .or(None)
        .and_then(|page| View::<CmdHcaCap>::new(page))
        .is_some_and(|v| v.get(CmdHcaCap::CMDIF_CHECKSUM) != 0)
        && p.cap(CAP_GENERAL).is_some()
}
