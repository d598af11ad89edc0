// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The register file: one table of registers, and ACCESS_REG.
//!
//! A register's image is what the profile says, overlaid with what was written to this function,
//! overlaid with what follows from the model's state. Which fields choose a part of a register and
//! which can be written stands in its row. What the tools know and the table does not is a store
//! ([`stored`]).

mod clock;
mod components;
mod flash;
pub mod identity;
pub mod limits;
pub mod masks;
mod module;
mod nvda;
mod pddr;
pub mod phy;
mod ports;
mod qos;
mod reset;
pub mod resource_dump;
mod rows;
pub mod segments;
pub mod stored;
mod thermal;
mod tracer;
mod update;

use std::collections::BTreeMap;

use fwctl_proto::{
    layout::{Layout, LayoutInfo, View, get_bits, set_bits},
    layouts::AccessRegisterIn,
    mst,
};

use crate::{
    card::Bits,
    cmd::{Ctx, Done, view},
    function::Function,
    limits::MAX_STORED_REGISTERS,
    overlay,
    profile::Profile,
    syndrome::{Refusal, Syndrome},
};

pub use clock::Clock;
pub use flash::JEDEC_ID;
pub use ports::{changed, is_up};
pub use rows::REGISTERS;
pub use thermal::CHIP as CHIP_SENSOR;

/// ACCESS_REG op_mod: write.
const WRITE: u16 = 0;
/// ACCESS_REG op_mod: read.
const READ: u16 = 1;
/// Byte offset of the register in ACCESS_REG's inbox and outbox.
pub const DATA: usize = 16;
/// Bits that a field which chooses a part may have.
const INDEX_BITS: u32 = 16;

/// Registers that differ from the profile: whole images by id and by the part that its row's
/// [`Register::index`] chooses.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct RegisterState {
    images: BTreeMap<(u16, u64), Box<[u8]>>,
    /// Registers that are mere stores.
    stored: BTreeMap<stored::Part, Box<[u8]>>,
}

impl RegisterState {
    /// Checks register images that were read from a file.
    ///
    /// # Errors
    /// What there is that no register can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let right = |id: u16, bytes: usize| find(id).is_some_and(|r| r.bytes == bytes);
        let same = |id: u16, part: usize, image: usize| {
            part == image && mst::find(id).is_some_and(|r| r.layout.bytes() == image)
        };
        let stored = &self.stored;
        if self.images.iter().all(|((id, _), i)| right(*id, i.len()))
            && stored.len() <= MAX_STORED_REGISTERS
            && stored
                .iter()
                .all(|((id, p), i)| same(*id, p.len(), i.len()))
        {
            Ok(())
        } else {
            Err("a register of another length")
        }
    }

    /// What was written to a register that has one part.
    #[must_use]
    pub fn written(&self, id: u16) -> Option<&[u8]> {
        self.images.get(&(id, 0)).map(|b| &**b)
    }
}

/// What a read or a write does besides what the row says. `given` is the register as it was sent,
/// as long as the image.
type Hook = fn(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done;

/// A register.
#[derive(Clone, Copy)]
pub struct Register {
    /// Its id.
    pub id: u16,
    /// Its name, if neither the kernel's header nor the tools' database has one.
    pub name: Option<&'static str>,
    /// Its fields, if they are known.
    pub layout: Option<&'static LayoutInfo>,
    /// Bytes of its image.
    pub bytes: usize,
    /// Fields that choose a part of it, each with its largest value.
    pub index: &'static [(&'static str, u64)],
    /// Fields that come back as they were sent.
    pub echo: &'static [&'static str],
    /// Fields that a write changes.
    pub writable: &'static [&'static str],
    /// Fills in what follows from the model's state.
    pub read: Option<Hook>,
    /// Checks a write whose fields are in the image, and does what it does.
    pub write: Option<Hook>,
    /// A write is kept.
    pub kept: bool,
}

impl Register {
    const fn new(id: u16, layout: Option<&'static LayoutInfo>, bytes: usize) -> Self {
        Self {
            id,
            name: None,
            layout,
            bytes,
            index: &[],
            echo: &[],
            writable: &[],
            read: None,
            write: None,
            kept: false,
        }
    }

    const fn of<L: Layout>(id: u16) -> Self {
        Self::new(id, Some(L::INFO), L::BYTES)
    }

    const fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    const fn index(mut self, index: &'static [(&'static str, u64)]) -> Self {
        self.index = index;
        self
    }

    const fn echo(mut self, echo: &'static [&'static str]) -> Self {
        self.echo = echo;
        self
    }

    const fn writable(mut self, writable: &'static [&'static str]) -> Self {
        self.writable = writable;
        self.kept = true;
        self
    }

    const fn read(mut self, hook: Hook) -> Self {
        self.read = Some(hook);
        self
    }

    const fn write(mut self, hook: Hook) -> Self {
        self.write = Some(hook);
        self
    }

    /// True if it can be written.
    #[must_use]
    pub fn can_write(&self) -> bool {
        self.kept || self.write.is_some()
    }

    /// Offset and width in bits of the fields called `name`.
    fn place(&self, name: &str) -> Option<(u32, u32)> {
        let p = self.layout?.field(name)?;
        Some((p.offset, p.width * p.info.count.max(1)))
    }

    /// Copies the named fields.
    fn copy(&self, names: &[&str], from: &[u8], to: &mut [u8]) {
        for (mut offset, width) in names.iter().filter_map(|n| self.place(n)) {
            let end = offset + width;
            while offset < end {
                let step = (end - offset).min(32);
                set_bits(to, offset, step, get_bits(from, offset, step));
                offset += step;
            }
        }
    }

    /// Which part `given` chooses.
    fn part(&self, given: &[u8]) -> Result<u64, Syndrome> {
        let mut key = 0;
        for (name, most) in self.index {
            let value = self.place(name).map_or(0, |(o, w)| get_bits(given, o, w));
            let is_port = matches!(*name, "local_port" | "port_number");
            if value > *most || is_port && is_far_port(self.id, given) {
                return Err(if is_port {
                    Syndrome::RegisterPort
                } else {
                    Syndrome::RegisterField
                });
            }
            // A function has one port, which 0 names as well.
            let value = if is_port { 0 } else { value };
            key = key << INDEX_BITS | value;
        }
        Ok(key)
    }
}

/// True if `lp_msb`, which only the tools' database has of most registers, makes a port's number more than
/// a byte's: a function has one port.
fn is_far_port(register: u16, given: &[u8]) -> bool {
    take(given, register, "lp_msb") != 0
}

/// The register with this id that the model gives a meaning.
#[must_use]
pub fn find(id: u16) -> Option<&'static Register> {
    REGISTERS.iter().find(|r| r.id == id)
}

/// ACCESS_REG: reads or writes a register. The register part may be shorter or longer than the
/// image; what is missing reads as zero.
pub fn access(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, AccessRegisterIn> = view(ctx.inbox)?;
    let id = v.get(AccessRegisterIn::REGISTER_ID) as u16;
    let profile = ctx.profile;
    if let Some(added) = profile.overlay.as_deref().and_then(|o| o.register(id)) {
        return overlay::access(added, ctx, out);
    }
    if !profile.has_register(id) {
        return Err(Syndrome::RegisterUnknown.into());
    }
    let Some(reg) = find(id) else {
        let reg = mst::find(id).ok_or(Syndrome::RegisterUnknown)?;
        let given = sent(ctx.inbox, reg.layout.bytes());
        let image = stored::access(ctx, reg, &given)?;
        give(out, &image);
        return Ok(());
    };
    let given = sent(ctx.inbox, reg.bytes);
    let part = reg.part(&given)?;
    let mut image = load(ctx, reg, part);
    let names: Vec<&str> = reg.index.iter().map(|i| i.0).collect();
    reg.copy(&names, &given, &mut image);
    reg.copy(reg.echo, &given, &mut image);
    match ctx.op_mod {
        READ => {}
        WRITE if reg.can_write() => {
            reg.copy(reg.writable, &given, &mut image);
            if let Some(write) = reg.write {
                write(ctx, &given, &mut image)?;
            }
            if reg.kept {
                let kept = image.clone().into_boxed_slice();
                ctx.f.registers.images.insert((reg.id, part), kept);
            }
        }
        WRITE => return Err(Syndrome::RegisterReadOnly.into()),
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    if let Some(read) = reg.read {
        read(ctx, &given, &mut image)?;
    }
    give(out, &image);
    Ok(())
}

/// Sets bits of a register, whatever a driver may write: of the part that `given` chooses. A register
/// that there is not, and one part more than may be kept, are left alone.
pub(crate) fn set(f: &mut Function, p: &Profile, id: u16, given: &[u8], bits: Bits) {
    let state = &mut f.registers;
    let of_profile = |bytes| {
        p.register(id)
            .map_or_else(|| vec![0; bytes], <[u8]>::to_vec)
    };
    match find(id) {
        Some(reg) => {
            let mut whole = vec![0; reg.bytes];
            whole
                .iter_mut()
                .zip(given)
                .for_each(|(to, from)| *to = *from);
            let Ok(part) = reg.part(&whole) else { return };
            let room = state.images.len() < MAX_STORED_REGISTERS;
            let kept = state.images.get(&(id, part)).map(|b| b.to_vec());
            if room || kept.is_some() {
                let mut image = kept.unwrap_or_else(|| of_profile(reg.bytes));
                bits.set(&mut image);
                state.images.insert((id, part), image.into());
            }
        }
        None => {
            let Some(reg) = mst::find(id) else { return };
            let key = (id, stored::part(reg, given));
            let room = state.stored.len() < MAX_STORED_REGISTERS;
            let kept = state.stored.get(&key).map(|b| b.to_vec());
            if room || kept.is_some() {
                let mut image = kept.unwrap_or_else(|| of_profile(reg.layout.bytes()));
                bits.set(&mut image);
                state.stored.insert(key, image.into());
            }
        }
    }
}

/// The register part of an inbox, as long as the register: what is missing is zero.
fn sent(inbox: &[u8], bytes: usize) -> Vec<u8> {
    let mut given = vec![0; bytes];
    for (to, from) in given.iter_mut().zip(inbox.iter().skip(DATA)) {
        *to = *from;
    }
    given
}

/// Puts a register into an outbox.
fn give(out: &mut [u8], image: &[u8]) {
    for (to, from) in out.iter_mut().skip(DATA).zip(image) {
        *to = *from;
    }
}

/// The image as it is: written to this function, else the profile's, else zero.
fn load(ctx: &Ctx<'_>, reg: &Register, part: u64) -> Vec<u8> {
    let kept = ctx.f.registers.images.get(&(reg.id, part)).map(|b| &**b);
    let from = kept.or_else(|| ctx.profile.register(reg.id));
    from.map_or_else(|| vec![0; reg.bytes], <[u8]>::to_vec)
}

/// The image of another register as a read of its only part gives it.
fn look(ctx: &mut Ctx<'_>, id: u16) -> Result<Vec<u8>, Refusal> {
    let reg = find(id).ok_or(Syndrome::RegisterUnknown)?;
    let mut image = load(ctx, reg, 0);
    if let Some(read) = reg.read {
        let given = vec![0; reg.bytes];
        read(ctx, &given, &mut image)?;
    }
    Ok(image)
}

/// Sets a field of a register that the tools' database describes; of an array its elements from the
/// first on.
fn put(image: &mut [u8], register: u16, name: &str, values: impl IntoIterator<Item = u64>) {
    let fields = mst::find(register).map_or(&[][..], |r| r.layout.fields);
    if let Some(f) = fields.iter().find(|f| f.name == name) {
        for (i, v) in (0..f.count).zip(values) {
            set_bits(image, f.offset + i * f.width, f.width, v);
        }
    }
}

/// A field of a register that the tools' database describes, of an array its first element.
fn take(image: &[u8], register: u16, name: &str) -> u64 {
    let fields = mst::find(register).map_or(&[][..], |r| r.layout.fields);
    let field = fields.iter().find(|f| f.name == name);
    field.map_or(0, |f| get_bits(image, f.offset, f.width))
}
