// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MFRL: which resets of the firmware there are, and the handshake of one.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::MfrlReg,
};

use crate::{
    card::reset::Asked,
    cmd::{Ctx, Done, view, view_mut},
    syndrome::Syndrome,
};

/// `pci_sync_for_fw_update_resp`: the driver agrees.
const ACK: u64 = 1;
/// It refuses.
const NACK: u64 = 2;

/// What the profile offers, and how the last reset went.
pub fn read(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, MfrlReg> = view_mut(image)?;
    m.set(MfrlReg::RESET_STATE, ctx.shared.reset.outcome as u64);
    Ok(())
}

/// Begins a reset, or answers one. Without either it asks for a reset at the next power cycle,
/// which resets anyway.
pub fn write(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, MfrlReg> = view(given)?;
    let offered = {
        let m: ViewMut<'_, MfrlReg> = view_mut(image)?;
        m.get(MfrlReg::RESET_LEVEL)
    };
    let asked = v.get(MfrlReg::RESET_LEVEL);
    if asked & !offered != 0 {
        return Err(Syndrome::RegisterField.into());
    }
    match v.get(MfrlReg::PCI_SYNC_FOR_FW_UPDATE_RESP) {
        0 => {}
        ACK => ctx.shared.reset.ask(Asked::Answer(ctx.f.id, true))?,
        NACK => ctx.shared.reset.ask(Asked::Answer(ctx.f.id, false))?,
        _ => return Err(Syndrome::RegisterField.into()),
    }
    if v.flag(MfrlReg::PCI_SYNC_FOR_FW_UPDATE_START) {
        ctx.shared.reset.ask(Asked::Start)?;
        ctx.held = true;
    }
    read(ctx, given, image)
}
