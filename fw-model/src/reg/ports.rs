// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Registers of the physical port. A function has one port, number 1; 0 names it as well.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{PaosReg, PfccReg, PmtuReg, PpcntReg, PtysReg},
    register as id,
};

use super::store;
use crate::{
    cmd::{Ctx, Done, view, view_mut},
    syndrome::Syndrome,
};

/// The function's port.
const PORT: u64 = 1;
/// `local_port` lies in byte 1 of every port register.
const LOCAL_PORT_BYTE: usize = 1;
/// Largest MTU of the wire in bytes.
const MAX_MTU: u64 = 9978;
/// MTU of the wire after power on.
const DEFAULT_MTU: u64 = 1522;
/// Administrative and operational states of a port.
const UP: u64 = 1;
const DOWN: u64 = 2;

fn port(given: &[u8], image: &mut [u8]) -> Done {
    let local = given.get(LOCAL_PORT_BYTE).copied().unwrap_or(0);
    if u64::from(local) > PORT {
        return Err(Syndrome::RegisterPort.into());
    }
    if let Some(b) = image.get_mut(LOCAL_PORT_BYTE) {
        *b = local;
    }
    Ok(())
}

/// A read of the image.
pub fn read(_ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    port(given, image)
}

/// PTYS: the protocol asked for comes back as asked.
pub fn read_ptys(_ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PtysReg> = view(given)?;
    let mut m: ViewMut<'_, PtysReg> = view_mut(image)?;
    m.set(PtysReg::PROTO_MASK, v.get(PtysReg::PROTO_MASK));
    port(given, image)
}

/// PFCC: pause settings are kept as written.
pub fn write_kept(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let _: View<'_, PfccReg> = view(given)?;
    for (to, from) in image.iter_mut().zip(given) {
        *to = *from;
    }
    port(given, image)?;
    store(ctx, id::PFCC, image);
    Ok(())
}

/// PTYS: the admin fields may be written; capabilities and what is in force may not.
pub fn write_ptys(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PtysReg> = view(given)?;
    let mut m: ViewMut<'_, PtysReg> = view_mut(image)?;
    let (cap, admin) = (
        m.get(PtysReg::ETH_PROTO_CAPABILITY),
        v.get(PtysReg::ETH_PROTO_ADMIN),
    );
    let (ext_cap, ext) = (
        m.get(PtysReg::EXT_ETH_PROTO_CAPABILITY),
        v.get(PtysReg::EXT_ETH_PROTO_ADMIN),
    );
    if admin & !cap != 0 || ext & !ext_cap != 0 {
        return Err(Syndrome::RegisterField.into());
    }
    m.set(PtysReg::ETH_PROTO_ADMIN, admin);
    m.set(PtysReg::EXT_ETH_PROTO_ADMIN, ext);
    m.set(PtysReg::AN_DISABLE_ADMIN, v.get(PtysReg::AN_DISABLE_ADMIN));
    port(given, image)?;
    store(ctx, id::PTYS, image);
    Ok(())
}

/// PMTU: what the port can, what it is set to, what is in force.
pub fn read_pmtu(_ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, PmtuReg> = view_mut(image)?;
    m.set(PmtuReg::MAX_MTU, MAX_MTU);
    if m.get(PmtuReg::ADMIN_MTU) == 0 {
        m.set(PmtuReg::ADMIN_MTU, DEFAULT_MTU);
    }
    let admin = m.get(PmtuReg::ADMIN_MTU);
    m.set(PmtuReg::OPER_MTU, admin);
    port(given, image)
}

/// PMTU: sets the port's MTU.
pub fn write_pmtu(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PmtuReg> = view(given)?;
    let asked = v.get(PmtuReg::ADMIN_MTU);
    if asked > MAX_MTU {
        return Err(Syndrome::RegisterField.into());
    }
    let mut m: ViewMut<'_, PmtuReg> = view_mut(image)?;
    m.set(PmtuReg::ADMIN_MTU, asked);
    read_pmtu(ctx, given, image)?;
    store(ctx, id::PMTU, image);
    Ok(())
}

/// PAOS: the port is up as far as the driver wants it to be: the cable is always in.
pub fn read_paos(_ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, PaosReg> = view_mut(image)?;
    if m.get(PaosReg::ADMIN_STATUS) == 0 {
        m.set(PaosReg::ADMIN_STATUS, UP);
    }
    let oper = if m.get(PaosReg::ADMIN_STATUS) == UP {
        UP
    } else {
        DOWN
    };
    m.set(PaosReg::OPER_STATUS, oper);
    port(given, image)
}

/// PAOS: sets the admin state.
pub fn write_paos(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PaosReg> = view(given)?;
    let mut m: ViewMut<'_, PaosReg> = view_mut(image)?;
    if v.flag(PaosReg::ASE) {
        m.set(PaosReg::ADMIN_STATUS, v.get(PaosReg::ADMIN_STATUS));
    }
    if v.flag(PaosReg::EE) {
        m.set(PaosReg::E, v.get(PaosReg::E));
    }
    read_paos(ctx, given, image)?;
    store(ctx, id::PAOS, image);
    Ok(())
}

/// PPCNT: every counter is zero, as no packet ever moves; the group comes back as asked.
pub fn read_ppcnt(_ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PpcntReg> = view(given)?;
    let mut m: ViewMut<'_, PpcntReg> = view_mut(image)?;
    m.set(PpcntReg::GRP, v.get(PpcntReg::GRP));
    m.set(PpcntReg::PRIO_TC, v.get(PpcntReg::PRIO_TC));
    port(given, image)
}
