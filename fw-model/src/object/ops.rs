// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Create, destroy, modify and query, for objects of every kind.

use fwctl_proto::layout::set_bits;

use super::{
    FIRST_UAR, HEADER, Kind, Limit, Modify, Object, general,
    states::{self, opt_params, opt_paths},
};
use crate::{
    cmd::{Ctx, Done},
    limits::{MAX_OBJECT_BYTES, MAX_OBJECTS},
    syndrome::Syndrome,
};

/// The largest number of ids of a kind, and the ids that they may have.
fn bounds(kind: &Kind, ctx: &Ctx<'_>) -> (usize, u32, u32) {
    let (first, last) = kind.ids;
    let (count, first, last) = match kind.limit {
        Limit::Log(field) => (1 << ctx.general_cap(field).min(24), first, last),
        Limit::Count(n) => (n, first, last),
        Limit::Caps(f) => (f(ctx), first, last),
        Limit::Uars => {
            let pages = ctx.profile.pci.bar0_pages();
            (
                pages.saturating_sub(FIRST_UAR),
                FIRST_UAR,
                pages.saturating_sub(1),
            )
        }
    };
    ((count as usize).min(MAX_OBJECTS), first, last)
}

/// Makes an object.
///
/// # Errors
/// Refused with nothing changed: [`Syndrome::ObjectLimit`], [`Syndrome::ObjectMemory`],
/// [`Syndrome::ObjectReference`], [`Syndrome::NotOwner`], and what the kind's own check says.
pub fn create(kind: &'static Kind, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    if ctx.op_mod != 0 && !kind.typed {
        return Err(Syndrome::UnsupportedOpMod.into());
    }
    if kind.typed {
        general::advertised(ctx)?;
    }
    let (limit, first, last) = bounds(kind, ctx);
    let span = (kind.span)(ctx.inbox);
    if ctx.f.objects.count(kind.id) >= limit || span as usize > limit {
        return Err(Syndrome::ObjectLimit.into());
    }
    let keeps = kind.context.is_some() || !kind.refs.is_empty();
    let kept = ctx.inbox.get(HEADER..).filter(|_| keeps);
    let mut kept: Box<[u8]> = kept.unwrap_or_default().into();
    if matches!(kind.modify, Modify::Transitions(_)) {
        states::enter(&mut kept, states::RST);
    }
    ctx.f.pages_for_objects()?;
    if ctx.f.objects.bytes() + kept.len() > MAX_OBJECT_BYTES {
        return Err(Syndrome::ObjectMemory.into());
    }
    (kind.check)(ctx, ctx.inbox.get(HEADER..).unwrap_or_default())?;
    check_references(kind, ctx, &kept, &[])?;
    let id = ctx
        .f
        .objects
        .next_id(kind.id, first, last, span)
        .ok_or(Syndrome::ObjectLimit)?;
    let object = Object {
        uid: ctx.uid,
        subtype: if kind.typed { ctx.op_mod } else { 0 },
        span,
        users: 0,
        kept,
    };
    ctx.f.objects.insert(kind, id, object);
    set_bits(out, kind.id_out.offset, kind.id_out.width, u64::from(id));
    ctx.f.balance_pages();
    Ok(())
}

/// What an object refers to is there and the caller may use it. What it has referred to `before` is not
/// looked at: it may have gone with its user context, and a driver must still be able to stop a queue.
fn check_references(kind: &Kind, ctx: &Ctx<'_>, kept: &[u8], before: &[u8]) -> Done {
    for (to, n) in kind.references(kept) {
        if kind.references(before).any(|r| r == (to, n)) {
            continue;
        }
        let uid = match to.object(n) {
            Some((id, n)) => ctx.f.objects.get(id, n).map(|o| o.uid),
            None => u8::try_from(n)
                .ok()
                .and_then(|n| ctx.f.eqs.get(&n))
                .map(|q| q.uid),
        };
        ctx.may_use(uid.ok_or(Syndrome::ObjectReference)?)?;
    }
    Ok(())
}

/// The id in a destroy, modify or query command, if there is such an object.
fn named<'a>(kind: &Kind, ctx: &'a Ctx<'_>) -> Result<(u32, &'a Object), Syndrome> {
    let n = kind.id_in.get(ctx.inbox) as u32;
    let o = ctx
        .f
        .objects
        .get(kind.id, n)
        .filter(|o| !kind.typed || o.subtype == ctx.op_mod)
        .ok_or(Syndrome::ObjectUnknown)?;
    Ok((n, o))
}

/// Ends an object.
///
/// # Errors
/// [`Syndrome::ObjectUnknown`] (also for an id in the midst of a bulk allocation),
/// [`Syndrome::NotOwner`], [`Syndrome::ObjectBusy`].
pub fn destroy(kind: &'static Kind, ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let (n, o) = named(kind, ctx)?;
    ctx.may_change(o.uid)?;
    if o.users > 0 {
        return Err(Syndrome::ObjectBusy.into());
    }
    if ctx.f.objects.get_mut(kind.id, n).is_none() {
        return Err(Syndrome::ObjectUnknown.into());
    }
    ctx.f.objects.remove(kind, n);
    ctx.f.work.forget(kind.id, n);
    ctx.f.balance_pages();
    Ok(())
}

/// Changes an object.
///
/// # Errors
/// [`Syndrome::ObjectUnknown`], [`Syndrome::NotOwner`], [`Syndrome::ObjectState`],
/// [`Syndrome::ObjectReference`], and what the kind's own check says.
pub fn modify(kind: &'static Kind, ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    if ctx.op_mod != 0 && !kind.typed {
        return Err(Syndrome::UnsupportedOpMod.into());
    }
    let (n, o) = named(kind, ctx)?;
    ctx.may_change(o.uid)?;
    let mut new = o.kept.to_vec();
    // A queue that is reset begins anew.
    let mut reset = false;
    let apply = |new: &mut Vec<u8>, changes: &[super::Change]| {
        for c in changes.iter().filter(|c| c.mask.get(ctx.inbox) != 0) {
            for &field in c.fields {
                let k = field.kept();
                set_bits(new, k.offset, k.width, field.get(ctx.inbox));
            }
            for &(from, to) in c.bytes {
                replace(new, ctx.inbox, from, to);
            }
        }
    };
    match kind.modify {
        Modify::Never => return Err(Syndrome::UnknownOpcode.into()),
        Modify::WorkQueue { from, to, changes } => {
            let k = to.kept();
            let asked = to.get(ctx.inbox);
            if from.get(ctx.inbox) != k.get(&o.kept) || !states::work_queue(k.get(&o.kept), asked) {
                return Err(Syndrome::ObjectState.into());
            }
            set_bits(&mut new, k.offset, k.width, asked);
            reset = asked == states::WQ_RST;
            apply(&mut new, changes);
        }
        Modify::Fields(changes) => apply(&mut new, changes),
        Modify::Transitions(list) => {
            let t = states::transition(list, ctx.inbox, &o.kept)?;
            for &field in t.sets.iter().chain(opt_params(t, ctx.inbox)) {
                let k = field.kept();
                set_bits(&mut new, k.offset, k.width, field.get(ctx.inbox));
            }
            for (from, to) in t.bytes.iter().copied().chain(opt_paths(t, ctx.inbox)) {
                replace(&mut new, ctx.inbox, from, to);
            }
            states::enter(&mut new, t.to);
            reset = t.to == states::RST;
        }
        Modify::Replace(from) => replace(&mut new, ctx.inbox, from, usize::MAX),
    }
    (kind.check)(ctx, &new)?;
    check_references(kind, ctx, &new, &o.kept)?;
    if ctx.f.objects.bytes() - o.kept.len() + new.len() > MAX_OBJECT_BYTES {
        return Err(Syndrome::ObjectMemory.into());
    }
    ctx.f.objects.replace(kind, n, new);
    if reset {
        ctx.f.work.forget(kind.id, n);
    }
    Ok(())
}

/// Copies bytes `from..to` of a command into what is kept; an open end (`usize::MAX`) also makes
/// the kept part as long as the command.
fn replace(kept: &mut Vec<u8>, inbox: &[u8], from: usize, to: usize) {
    let end = to.min(inbox.len());
    let Some(given) = inbox.get(from..end) else {
        return;
    };
    let at = from - HEADER;
    if to == usize::MAX || kept.len() < at + given.len() {
        kept.resize(at + given.len(), 0);
    }
    if let Some(place) = kept.get_mut(at..at + given.len()) {
        place.copy_from_slice(given);
    }
}

/// Reads an object back: its context as it was created and modified.
///
/// # Errors
/// [`Syndrome::ObjectUnknown`], [`Syndrome::NotOwner`].
pub fn query(kind: &'static Kind, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let (n, o) = named(kind, ctx)?;
    ctx.may_see(o.uid)?;
    if kind.typed {
        set_bits(out, kind.id_out.offset, kind.id_out.width, u64::from(n));
    }
    let Some((from, at)) = kind.context else {
        return Ok(());
    };
    let context = o.kept.get(from - HEADER..).unwrap_or_default();
    let room = out.get_mut(at..).unwrap_or_default();
    for (to, b) in room.iter_mut().zip(context) {
        *to = *b;
    }
    (kind.hide)(o, room);
    Ok(())
}
