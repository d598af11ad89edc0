// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Registers without a row in the table: each is a store that keeps to what the tools' database says may
//! be done to its fields. What follows the model in some of them is in `phy.rs`.

use fwctl_proto::{
    layout::{FieldInfo, get_bits, set_bits},
    mst::{Access, Register},
};

use super::{READ, WRITE, phy};
use crate::{
    cmd::Ctx,
    limits::MAX_STORED_REGISTERS,
    syndrome::{Refusal, Syndrome},
};

/// A part of a register: its id, and an image with nothing but the index fields.
pub type Part = (u16, Box<[u8]>);

/// The index field that names a port; a function has one, which 0 names as well.
const PORT: &str = "local_port";

/// The fields of a register with one of these kinds of access.
fn fields<'a>(r: &'a Register, kinds: &'a [Access]) -> impl Iterator<Item = &'a FieldInfo> {
    let all = r.layout.fields.iter().zip(r.access);
    all.filter(|(_, a)| kinds.contains(a)).map(|(f, _)| f)
}

fn copy(f: &FieldInfo, from: &[u8], to: &mut [u8]) {
    for i in 0..f.count {
        let at = f.offset + i * f.width;
        set_bits(to, at, f.width, get_bits(from, at, f.width));
    }
}

/// True if a write changes anything.
#[must_use]
pub fn can_write(r: &Register) -> bool {
    use Access::{Operation, Rw, Unsaid, Wo};
    fields(r, &[Operation, Rw, Unsaid, Wo]).next().is_some()
}

/// Fields that may be written; those that are for writing only read as zero.
pub fn writable(r: &Register) -> impl Iterator<Item = &FieldInfo> {
    fields(r, &[Access::Rw, Access::Unsaid, Access::Wo])
}

/// Which part `given`, a register as it was sent, chooses; any number of a port is this one's.
pub(super) fn part(r: &Register, given: &[u8]) -> Box<[u8]> {
    let mut part = vec![0; r.layout.bytes()];
    for f in fields(r, &[Access::Index]) {
        copy(f, given, &mut part);
        if f.name == PORT {
            set_bits(&mut part, f.offset, f.width, 0);
        }
    }
    part.into_boxed_slice()
}

/// Reads or writes it; `given` is the register as it was sent, as long as its layout.
pub(super) fn access(ctx: &mut Ctx<'_>, r: &Register, given: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut ports = fields(r, &[Access::Index]).filter(|f| f.name == PORT);
    if ports.any(|f| get_bits(given, f.offset, f.width) > 1 || super::is_far_port(r.id, given)) {
        return Err(Syndrome::RegisterPort.into());
    }
    let meaning = phy::meaning(r.id);
    if let Some(m) = meaning {
        m.check(ctx, given)?;
    }
    let key = (r.id, part(r, given));
    let stored = &mut ctx.f.registers.stored;
    let kept = stored.get(&key).map(|b| &**b);
    let mut image = kept
        .or_else(|| ctx.profile.register(r.id))
        .map_or_else(|| vec![0; given.len()], <[u8]>::to_vec);
    match ctx.op_mod {
        READ => {}
        WRITE if can_write(r) => {
            let before = image.clone();
            for f in fields(r, &[Access::Rw, Access::Unsaid]) {
                copy(f, given, &mut image);
            }
            if let Some(m) = meaning {
                m.written(given, &before, &mut image)?;
            }
            if stored.len() >= MAX_STORED_REGISTERS && !stored.contains_key(&key) {
                return Err(Syndrome::RegisterLimit.into());
            }
            stored.insert(key, image.clone().into_boxed_slice());
        }
        WRITE => return Err(Syndrome::RegisterReadOnly.into()),
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    for f in fields(r, &[Access::Index, Access::Operation]) {
        copy(f, given, &mut image);
    }
    if let Some(m) = meaning {
        m.show(ctx, given, &mut image)?;
    }
    Ok(image)
}
