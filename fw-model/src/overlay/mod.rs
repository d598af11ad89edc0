// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Overlays: commands and registers that a TOML file adds, to try what a firmware could have without
//! writing Rust. docs/overlays.md has the format.
//!
//! An overlay is read once, for the life of the process: its layouts are leaked, so that decoders
//! treat them as built-in ones.

mod expr;
mod file;

use std::collections::BTreeMap;

use fwctl_proto::{
    layout::{LayoutInfo, get_bits, set_bits},
    status::Status,
};
use serde::{Deserialize, Serialize};

use crate::{
    cmd::{Ctx, Done},
    syndrome::Syndrome,
    table::Op,
};

use self::expr::Expr;
pub use self::file::OverlayError;

/// Commands, and registers, that one overlay may add.
pub const MAX_ENTRIES: usize = 256;
/// Bytes of an overlay's register, and of a command's inbox or outbox.
pub const MAX_BYTES: usize = 4096;
/// Where a register starts in ACCESS_REG.
const REGISTER: usize = 16;
/// ACCESS_REG op_mod: write.
const WRITE: u16 = 0;

/// Why a command refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    when: Expr,
    status: Status,
    syndrome: u32,
}

/// A command that an overlay adds.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its row of the opcode table.
    pub op: Op,
    /// Its name.
    pub name: &'static str,
    /// Its inbox.
    pub input: &'static LayoutInfo,
    /// Its outbox.
    pub output: &'static LayoutInfo,
    refuse: Vec<Refusal>,
    set: Vec<(String, Expr)>,
    // Offset and width of the field.
    reply: Vec<(u32, u32, Expr)>,
}

/// A register that an overlay adds.
#[derive(Clone, Debug)]
pub struct Register {
    /// Its id.
    pub id: u16,
    /// Its name.
    pub name: &'static str,
    /// Its fields.
    pub layout: &'static LayoutInfo,
    // Offset and width of the fields that can be written.
    writable: Vec<(u32, u32)>,
    image: Box<[u8]>,
}

/// What a file adds.
#[derive(Clone, Debug)]
pub struct Overlay {
    commands: Vec<Command>,
    registers: Vec<Register>,
    fingerprint: u32,
}

/// Two overlays of one text are equal.
impl PartialEq for Overlay {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Overlay {}

/// What a function's overlay remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayState {
    /// Variables, by name.
    vars: BTreeMap<String, u64>,
    /// Registers that were written, by id.
    images: BTreeMap<u16, Box<[u8]>>,
}

impl OverlayState {
    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What it holds that no function can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let long = |i: &[u8]| i.len() > MAX_BYTES;
        if self.images.len() > MAX_ENTRIES || self.images.values().any(|i| long(i)) {
            return Err("more of an overlay's registers than there can be");
        }
        if self.vars.len() > MAX_ENTRIES * MAX_ENTRIES {
            return Err("more of an overlay's variables than there can be");
        }
        Ok(())
    }
}

impl Overlay {
    /// The layouts of all that it adds.
    pub fn layouts(&self) -> impl Iterator<Item = &'static LayoutInfo> + '_ {
        let commands = self.commands.iter().flat_map(|c| [c.input, c.output]);
        commands.chain(self.registers.iter().map(|r| r.layout))
    }

    /// All its commands.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// All its registers.
    #[must_use]
    pub fn registers(&self) -> &[Register] {
        &self.registers
    }

    /// The command with this opcode.
    #[must_use]
    pub fn command(&self, opcode: u16) -> Option<&Command> {
        self.commands.iter().find(|c| c.op.opcode == opcode)
    }

    /// The register with this id.
    #[must_use]
    pub fn register(&self, id: u16) -> Option<&Register> {
        self.registers.iter().find(|r| r.id == id)
    }

    /// Ids of all registers.
    pub fn register_ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.registers.iter().map(|r| r.id)
    }

    /// A checksum of its text.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint
    }
}

/// Executes an overlay's command: refusals in their order, then variables, then the reply, each from
/// the values of before.
///
/// # Errors
/// [`Syndrome::Internal`] if the overlay is gone, which cannot be.
pub fn run(index: u16, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let overlay = ctx.profile.overlay.as_deref().ok_or(Syndrome::Internal)?;
    let command = overlay.commands.get(usize::from(index));
    let command = command.ok_or(Syndrome::Internal)?;
    let vars = &ctx.f.overlay.vars;
    for r in &command.refuse {
        if r.when.value(ctx.inbox, vars) != 0 {
            out[0] = r.status.code();
            out[4..8].copy_from_slice(&r.syndrome.to_be_bytes());
            return Ok(());
        }
    }
    for (offset, width, expr) in &command.reply {
        set_bits(out, *offset, *width, expr.value(ctx.inbox, vars));
    }
    let set: Vec<_> = command
        .set
        .iter()
        .map(|(name, expr)| (name.clone(), expr.value(ctx.inbox, vars)))
        .collect();
    ctx.f.overlay.vars.extend(set);
    Ok(())
}

/// ACCESS_REG on an overlay's register.
///
/// # Errors
/// [`Syndrome::RegisterReadOnly`] if no field can be written.
pub fn access(r: &Register, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let kept = ctx.f.overlay.images.get(&r.id);
    let mut image = kept.unwrap_or(&r.image).clone();
    if ctx.op_mod == WRITE {
        if r.writable.is_empty() {
            return Err(Syndrome::RegisterReadOnly.into());
        }
        let mut given = vec![0; image.len()];
        for (to, from) in given.iter_mut().zip(ctx.inbox.iter().skip(REGISTER)) {
            *to = *from;
        }
        for (offset, width) in &r.writable {
            set_bits(
                &mut image,
                *offset,
                *width,
                get_bits(&given, *offset, *width),
            );
        }
        ctx.f.overlay.images.insert(r.id, image.clone());
    } else if ctx.op_mod != 1 {
        return Err(Syndrome::UnsupportedOpMod.into());
    }
    for (to, from) in out.iter_mut().skip(REGISTER).zip(&image) {
        *to = *from;
    }
    Ok(())
}
