// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MFRL and MROQ: which resets of the firmware there are, and the handshake of one.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{CmdHcaCap, MfrlReg},
    register,
};

use super::put;
use crate::{
    card::reset::Asked,
    cmd::{Ctx, Done, view, view_mut},
    profile::CAP_GENERAL,
    syndrome::{Refusal, Syndrome},
};

/// `pci_sync_for_fw_update_resp`: the driver agrees.
const ACK: u64 = 1;
/// It refuses.
const NACK: u64 = 2;
/// `reset_level`: of the whole chip, when all drivers agree.
const TOGETHER: u64 = 1 << 3;
/// At the next reboot of the host.
const AT_REBOOT: u64 = 1 << 6;
/// `pci_reset_req_method`: by toggling the link, or by a reset of the bus.
const LINK: u64 = 0;
const BUS: u64 = 1;

/// Management reset options query.
pub const MROQ: u16 = 0x902f;
/// Bytes of MROQ.
pub const MROQ_BYTES: usize = 32;
/// MROQ's `pci_sync_for_fw_update_start`: a bit for the drivers being asked (MFRL). Nobody else can
/// be: a link that a tool disables in QEMU tells the device nothing.
const BY_DRIVERS: u64 = 1 << 1;

/// What the profile offers, and how the last reset went.
pub fn read(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, MfrlReg> = view_mut(image)?;
    m.set(MfrlReg::RESET_STATE, ctx.shared.reset.outcome as u64);
    if ctx.shared.reset.is_hot() {
        m.set(MfrlReg::PCI_RESET_REQ_METHOD, BUS);
    }
    Ok(())
}

/// True if drivers may be asked for a reset of the bus.
fn bus_resets(ctx: &Ctx<'_>) -> bool {
    let page = ctx.profile.cap(CAP_GENERAL);
    page.and_then(|c| View::<CmdHcaCap>::new(&c.max))
        .is_some_and(|v| v.flag(CmdHcaCap::PCIE_RESET_USING_HOTRESET_METHOD))
}

/// True if the card resets after its drivers have been asked.
///
/// # Errors
/// Those of a read of MFRL.
pub fn asks_drivers(ctx: &mut Ctx<'_>) -> Result<bool, Refusal> {
    let mfrl = super::look(ctx, register::MFRL)?;
    let v: View<'_, MfrlReg> = view(&mfrl)?;
    Ok(v.get(MfrlReg::RESET_LEVEL) & TOGETHER != 0)
}

/// How a reset of a type can be asked for: nothing is of types that the card does not have.
pub fn read_mroq(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let mfrl = super::look(ctx, register::MFRL)?;
    let v: View<'_, MfrlReg> = view(&mfrl)?;
    let asked = super::take(given, MROQ, "reset_type");
    put(image, MROQ, "reset_type", [asked]);
    let offered = v.get(MfrlReg::RESET_TYPE).checked_shr(asked as u32);
    if offered.unwrap_or(0) & 1 == 0 {
        return Ok(());
    }
    let methods = 1 << LINK | u64::from(bus_resets(ctx)) << BUS;
    put(image, MROQ, "pci_reset_req_method", [methods]);
    put(image, MROQ, "pci_sync_for_fw_update_start", [BY_DRIVERS]);
    put(image, MROQ, "query_is_valid", [1]);
    put(image, MROQ, "reset_trigger", [v.get(MfrlReg::RESET_LEVEL)]);
    Ok(())
}

/// Begins a reset, or answers one. Without either it asks for a reset at the next reboot, or power cycle
/// (which resets anyway).
pub fn write(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, MfrlReg> = view(given)?;
    let offered = {
        let m: ViewMut<'_, MfrlReg> = view_mut(image)?;
        m.get(MfrlReg::RESET_LEVEL)
    };
    // mstconfig asks for levels 3 and 6 in one, whatever the card offers: it gets what there is.
    let given_levels = v.get(MfrlReg::RESET_LEVEL);
    let asked = given_levels & offered;
    let starts = v.flag(MfrlReg::PCI_SYNC_FOR_FW_UPDATE_START);
    if given_levels != 0 && asked == 0 || starts && given_levels & !offered & TOGETHER != 0 {
        return Err(Syndrome::RegisterField.into());
    }
    match v.get(MfrlReg::PCI_SYNC_FOR_FW_UPDATE_RESP) {
        0 => {}
        ACK => ctx.shared.reset.ask(Asked::Answer(ctx.f.id, true))?,
        NACK => ctx.shared.reset.ask(Asked::Answer(ctx.f.id, false))?,
        _ => return Err(Syndrome::RegisterField.into()),
    }
    if starts {
        let hot = match v.get(MfrlReg::PCI_RESET_REQ_METHOD) {
            LINK => false,
            BUS if bus_resets(ctx) => true,
            _ => return Err(Syndrome::RegisterField.into()),
        };
        ctx.shared.reset.ask(Asked::Start { hot })?;
        ctx.held = true;
    }
    if asked & AT_REBOOT != 0 {
        ctx.shared.reset.at_reboot = true;
    }
    read(ctx, given, image)
}
