// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The register file: one table of registers, and ACCESS_REG.
//!
//! A register's image is what the profile says, overlaid with what was written to this function.
//! Registers whose content follows the model's state have a function of their own.

mod nvda;
mod ports;

use std::collections::BTreeMap;

use fwctl_proto::{
    layout::{Layout, LayoutInfo, View},
    layouts::{
        AccessRegisterIn, DtorReg, McamReg, MpeinReg, PaosReg, PcamReg, PfccReg, PmtuReg, PpcntReg,
        PtysReg, QcamReg,
    },
    register as id,
};

use crate::{
    cmd::{Ctx, Done, view},
    syndrome::Syndrome,
};

/// ACCESS_REG op_mod: write.
const WRITE: u16 = 0;
/// ACCESS_REG op_mod: read.
const READ: u16 = 1;
/// Byte offset of the register in ACCESS_REG's inbox and outbox.
const DATA: usize = 16;
/// Bytes of HOST_ENDIANNESS (`struct mlx5_reg_host_endianness`).
const HOST_ENDIANNESS_BYTES: usize = 16;
/// Bytes of MNVDA: header and 64 dwords.
const MNVDA_BYTES: usize = 268;

/// Registers that differ from the profile, whole images by id.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct RegisterState {
    images: BTreeMap<u16, Box<[u8]>>,
}

impl RegisterState {
    /// Checks register images that were read from a file.
    ///
    /// # Errors
    /// What there is that no register can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let right = |id: u16, bytes: usize| find(id).is_some_and(|r| r.bytes == bytes);
        if self
            .images
            .iter()
            .all(|(id, image)| right(*id, image.len()))
        {
            Ok(())
        } else {
            Err("a register of another length")
        }
    }
}

/// Fills `image`, which holds the profile's and then the written content, for a read with `given`.
type Read = fn(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done;
/// Takes a written image; what it leaves in `image` is kept and returned.
type Write = fn(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done;

/// A register.
pub struct Register {
    /// Its id.
    pub id: u16,
    /// Its fields, if they are known.
    pub layout: Option<&'static LayoutInfo>,
    /// Bytes of its image.
    pub bytes: usize,
    /// What a read does beyond returning the image.
    pub read: Read,
    /// What a write does, or `None` if it cannot be written.
    pub write: Option<Write>,
}

const fn register<L: Layout>(id: u16, read: Read, write: Option<Write>) -> Register {
    Register {
        id,
        layout: Some(L::INFO),
        bytes: L::BYTES,
        read,
        write,
    }
}

/// Every register that the firmware knows.
pub static REGISTERS: &[Register] = &[
    register::<QcamReg>(id::QCAM, image, None),
    register::<PmtuReg>(id::PMTU, ports::read_pmtu, Some(ports::write_pmtu)),
    register::<PtysReg>(id::PTYS, ports::read_ptys, Some(ports::write_ptys)),
    register::<PaosReg>(id::PAOS, ports::read_paos, Some(ports::write_paos)),
    register::<PfccReg>(id::PFCC, ports::read, Some(ports::write_kept)),
    register::<PpcntReg>(id::PPCNT, ports::read_ppcnt, None),
    register::<PcamReg>(id::PCAM, image, None),
    Register {
        id: id::HOST_ENDIANNESS,
        layout: None,
        bytes: HOST_ENDIANNESS_BYTES,
        read: image,
        write: Some(keep),
    },
    Register {
        id: id::MNVDA,
        layout: None,
        bytes: MNVDA_BYTES,
        read: nvda::read,
        write: Some(nvda::write),
    },
    register::<MpeinReg>(id::MPEIN, image, None),
    register::<McamReg>(id::MCAM, read_mcam, None),
    register::<DtorReg>(id::DTOR, image, None),
];

/// The register with this id.
#[must_use]
pub fn find(id: u16) -> Option<&'static Register> {
    REGISTERS.iter().find(|r| r.id == id)
}

/// ACCESS_REG: reads or writes a register. The register part may be shorter or longer than the
/// image; what is missing reads as zero.
pub fn access(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, AccessRegisterIn> = view(ctx.inbox)?;
    let id = v.get(AccessRegisterIn::REGISTER_ID) as u16;
    let reg = find(id).ok_or(Syndrome::RegisterUnknown)?;
    let given = ctx.inbox.get(DATA..).unwrap_or_default();
    let mut image = vec![0; reg.bytes];
    match ctx.op_mod {
        READ => {
            load(ctx, reg, &mut image);
            (reg.read)(ctx, given, &mut image)?;
        }
        WRITE => {
            let write = reg.write.ok_or(Syndrome::RegisterReadOnly)?;
            load(ctx, reg, &mut image);
            write(ctx, given, &mut image)?;
        }
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    }
    for (to, from) in out.iter_mut().skip(DATA).zip(&image) {
        *to = *from;
    }
    Ok(())
}

/// The image as it is: written to this function, else the profile's, else zero.
fn load(ctx: &Ctx<'_>, reg: &Register, to: &mut [u8]) {
    let kept = ctx.f.registers.images.get(&reg.id).map(|b| &**b);
    let from = kept
        .or_else(|| ctx.profile.register(reg.id))
        .unwrap_or_default();
    for (t, f) in to.iter_mut().zip(from) {
        *t = *f;
    }
}

/// Keeps an image for this function.
fn store(ctx: &mut Ctx<'_>, id: u16, image: &[u8]) {
    ctx.f.registers.images.insert(id, image.into());
}

/// A read of the image alone.
#[allow(clippy::unnecessary_wraps)]
fn image(_ctx: &mut Ctx<'_>, _given: &[u8], _image: &mut [u8]) -> Done {
    Ok(())
}

/// A write that replaces the image.
#[allow(clippy::unnecessary_wraps)]
fn keep(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    for (to, from) in image.iter_mut().zip(given) {
        *to = *from;
    }
    store(ctx, id::HOST_ENDIANNESS, image);
    Ok(())
}

/// MCAM has a page of access bits per group of registers; the profile describes group 0.
fn read_mcam(_ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let group = View::<McamReg>::new(given).map_or(0, |v| v.get(McamReg::ACCESS_REG_GROUP));
    if group > 3 {
        return Err(Syndrome::RegisterField.into());
    }
    if group != 0 {
        image.fill(0);
    }
    let mut m: fwctl_proto::layout::ViewMut<'_, McamReg> = crate::cmd::view_mut(image)?;
    m.set(McamReg::ACCESS_REG_GROUP, group);
    Ok(())
}
