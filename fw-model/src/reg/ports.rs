// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Registers of the physical port. A function has one port, number 1; 0 names it as well.

use fwctl_proto::{
    eqe, event,
    layout::{View, ViewMut, get_bits},
    layouts::{MlcrReg, PaosReg, PcmrReg, PmtuReg, PplmReg, PplrReg, PtysReg},
    register as id,
};

use crate::{
    cmd::{Ctx, Done, view, view_mut},
    function::{Function, eq::Event},
    syndrome::Syndrome,
};

/// Port loopback; its id is in the tools' database alone.
pub const PPLR: u16 = 0x5018;
/// The function's port.
const PORT: u8 = 1;
/// Largest MTU of the wire in bytes.
const MAX_MTU: u64 = 9978;
/// MTU of the wire after power on.
const DEFAULT_MTU: u64 = 1522;
/// Administrative and operational states of a port.
const UP: u64 = 1;
const DOWN: u64 = 2;
/// Administrative state: up until the link is lost. It is like [`UP`] here.
const UP_ONCE: u64 = 3;
/// Sub-types of `PORT_CHANGE` (`MLX5_PORT_CHANGE_SUBTYPE_*`).
const WENT_DOWN: u8 = 1;
const WENT_UP: u8 = 4;
/// `ptys_reg.an_status`: complete.
const AN_COMPLETE: u64 = 1;

/// True if a function's port is up: the driver wants it to be, and the cable is in.
#[must_use]
pub fn is_up(f: &Function, cable: bool) -> bool {
    let admin = f.registers.written(id::PAOS).and_then(View::<PaosReg>::new);
    cable && admin.is_none_or(|v| v.get(PaosReg::ADMIN_STATUS) != DOWN)
}

/// PPLR: a loopback that the port has.
pub fn write_pplr(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PplrReg> = view(given)?;
    let has: View<'_, PplrReg> = view(image)?;
    if v.get(PplrReg::LB_EN) & !has.get(PplrReg::LB_CAP) != 0 {
        return Err(Syndrome::RegisterField.into());
    }
    Ok(())
}

/// PPCNT can only be cleared; nothing passes the port, so that there is nothing to clear.
pub fn clear_ppcnt(_: &mut Ctx<'_>, given: &[u8], _: &mut [u8]) -> Done {
    /// `clr`.
    const CLEAR: u32 = 0x20;
    match get_bits(given, CLEAR, 1) {
        1 => Ok(()),
        _ => Err(Syndrome::RegisterReadOnly.into()),
    }
}

/// Tells the driver that its port went up or down.
pub fn changed(f: &mut Function, up: bool) {
    let mut data = [0; eqe::DATA_BYTES];
    data[eqe::data::PORT] = PORT << 4;
    f.raise(Event {
        event_type: event::PORT_CHANGE,
        sub_type: if up { WENT_UP } else { WENT_DOWN },
        data,
    });
}

/// True if the port of the function that was asked is up.
pub fn up(ctx: &Ctx<'_>) -> bool {
    is_up(ctx.f, ctx.shared.port(ctx.f.id).cable)
}

/// PTYS: what is in force is the best of what the driver wants, while there is a link.
pub fn read_ptys(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let up = up(ctx);
    let mut m: ViewMut<'_, PtysReg> = view_mut(image)?;
    let best = |modes: u64| {
        if modes == 0 || !up {
            0
        } else {
            1 << modes.ilog2()
        }
    };
    for (admin, oper) in [
        (PtysReg::ETH_PROTO_ADMIN, PtysReg::ETH_PROTO_OPER),
        (PtysReg::EXT_ETH_PROTO_ADMIN, PtysReg::EXT_ETH_PROTO_OPER),
    ] {
        let modes = m.get(admin);
        m.set(oper, best(modes));
    }
    m.set(PtysReg::AN_STATUS, if up { AN_COMPLETE } else { 0 });
    Ok(())
}

/// PTYS: of what is asked for, what the port can. A tool asks for all modes of a speed; one that it
/// cannot at all is refused.
pub fn write_ptys(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PtysReg> = view(given)?;
    let mut m: ViewMut<'_, PtysReg> = view_mut(image)?;
    for (cap, admin) in [
        (PtysReg::ETH_PROTO_CAPABILITY, PtysReg::ETH_PROTO_ADMIN),
        (
            PtysReg::EXT_ETH_PROTO_CAPABILITY,
            PtysReg::EXT_ETH_PROTO_ADMIN,
        ),
    ] {
        let can = v.get(admin) & m.get(cap);
        if can == 0 && v.get(admin) != 0 {
            return Err(Syndrome::RegisterField.into());
        }
        m.set(admin, can);
    }
    Ok(())
}

/// PMTU: what the port can, what it is set to, what is in force.
pub fn read_pmtu(_: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, PmtuReg> = view_mut(image)?;
    m.set(PmtuReg::MAX_MTU, MAX_MTU);
    if m.get(PmtuReg::ADMIN_MTU) == 0 {
        m.set(PmtuReg::ADMIN_MTU, DEFAULT_MTU);
    }
    let admin = m.get(PmtuReg::ADMIN_MTU);
    m.set(PmtuReg::OPER_MTU, admin);
    Ok(())
}

/// PMTU: sets the port's MTU.
pub fn write_pmtu(_: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    let v: View<'_, PmtuReg> = view(given)?;
    if v.get(PmtuReg::ADMIN_MTU) > MAX_MTU {
        return Err(Syndrome::RegisterField.into());
    }
    Ok(())
}

/// PAOS: the port is up as far as the driver wants it to be and the cable is in.
pub fn read_paos(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let oper = if up(ctx) { UP } else { DOWN };
    let mut m: ViewMut<'_, PaosReg> = view_mut(image)?;
    if m.get(PaosReg::ADMIN_STATUS) == 0 {
        m.set(PaosReg::ADMIN_STATUS, UP);
    }
    m.set(PaosReg::OPER_STATUS, oper);
    Ok(())
}

/// PAOS: sets the admin state, which may take the port up or down. Of the database's states 4 is for the
/// hardware to set, and 6 for ports that can sleep.
pub fn write_paos(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PaosReg> = view(given)?;
    let before = up(ctx);
    let mut m: ViewMut<'_, PaosReg> = view_mut(image)?;
    if v.flag(PaosReg::ASE) {
        let state = v.get(PaosReg::ADMIN_STATUS);
        if ![UP, DOWN, UP_ONCE].contains(&state) {
            return Err(Syndrome::RegisterField.into());
        }
        m.set(PaosReg::ADMIN_STATUS, state);
    }
    if v.flag(PaosReg::EE) {
        m.set(PaosReg::E, v.get(PaosReg::E));
    }
    let wanted = m.get(PaosReg::ADMIN_STATUS) != DOWN;
    let after = wanted && ctx.shared.port(ctx.f.id).cable;
    if after != before {
        changed(ctx.f, after);
    }
    Ok(())
}

/// PPLM: only error corrections that the port can may be asked for.
pub fn write_pplm(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PplmReg> = view(given)?;
    let m: ViewMut<'_, PplmReg> = view_mut(image)?;
    let pairs = [
        (
            PplmReg::FEC_OVERRIDE_CAP_10G_40G,
            PplmReg::FEC_OVERRIDE_ADMIN_10G_40G,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_25G,
            PplmReg::FEC_OVERRIDE_ADMIN_25G,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_50G,
            PplmReg::FEC_OVERRIDE_ADMIN_50G,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_100G,
            PplmReg::FEC_OVERRIDE_ADMIN_100G,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_56G,
            PplmReg::FEC_OVERRIDE_ADMIN_56G,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_50G_1X,
            PplmReg::FEC_OVERRIDE_ADMIN_50G_1X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_100G_2X,
            PplmReg::FEC_OVERRIDE_ADMIN_100G_2X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_200G_4X,
            PplmReg::FEC_OVERRIDE_ADMIN_200G_4X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_400G_8X,
            PplmReg::FEC_OVERRIDE_ADMIN_400G_8X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_100G_1X,
            PplmReg::FEC_OVERRIDE_ADMIN_100G_1X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_200G_2X,
            PplmReg::FEC_OVERRIDE_ADMIN_200G_2X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_400G_4X,
            PplmReg::FEC_OVERRIDE_ADMIN_400G_4X,
        ),
        (
            PplmReg::FEC_OVERRIDE_CAP_800G_8X,
            PplmReg::FEC_OVERRIDE_ADMIN_800G_8X,
        ),
    ];
    if pairs
        .iter()
        .any(|(cap, admin)| v.get(*admin) & !m.get(*cap) != 0)
    {
        return Err(Syndrome::RegisterField.into());
    }
    Ok(())
}

/// PCMR: checks can be turned on and off as far as the port can.
pub fn write_pcmr(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PcmrReg> = view(given)?;
    let m: ViewMut<'_, PcmrReg> = view_mut(image)?;
    let crc = v.flag(PcmrReg::RX_TS_OVER_CRC) && !m.flag(PcmrReg::RX_TS_OVER_CRC_CAP);
    let fcs = v.flag(PcmrReg::FCS_CHK) && !m.flag(PcmrReg::FCS_CAP);
    if crc || fcs {
        return Err(Syndrome::RegisterField.into());
    }
    Ok(())
}

/// MLCR: the port's light blinks as long as it was told to.
pub fn read_mlcr(_: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, MlcrReg> = view_mut(image)?;
    let duration = m.get(MlcrReg::BEACON_DURATION);
    m.set(MlcrReg::BEACON_REMAIN, duration);
    Ok(())
}
