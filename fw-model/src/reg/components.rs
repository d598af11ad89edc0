// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MCQS and MCQI: which components the firmware has, and what is known of each.

use fwctl_proto::{
    layout::{Layout as _, View, ViewMut},
    layouts::{McqiCap, McqiReg, McqiVersion, McqsReg},
};

use super::update::MCDA_DATA;
use crate::{
    cmd::{Ctx, Done, view, view_mut},
    firmware::{BOOT_IMAGE, COMPONENTS, Kind, version_word},
    syndrome::Syndrome,
};

/// Index of the last component.
pub const LAST: u64 = COMPONENTS.len() as u64 - 1;
/// `component_status`: the component is there.
const PRESENT: u64 = 1;
/// `component_update_state`.
const IN_PROGRESS: u64 = 1;
const ACTIVE_PENDING_RESET: u64 = 4;
/// Byte offset of the data in MCQI, and bytes of the register.
const DATA: usize = 24;
pub const MCQI_BYTES: usize = DATA + McqiVersion::BYTES;
/// `mcqi_reg.info_type`.
const CAPABILITIES: u64 = 0;
const VERSION: u64 = 1;
const ACTIVATION: u64 = 5;
/// Bytes of the answer to each.
const ACTIVATION_BYTES: usize = 4;
/// Unit of what one MCDA carries, as a power of two.
const LOG_MCDA_WORD: u64 = 2;

/// MCQS: a component and its state.
pub fn read_mcqs(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, McqsReg> = view(given)?;
    let index = v.get(McqsReg::COMPONENT_INDEX) as u16;
    let kind = kind(index)?;
    let fw = &ctx.shared.firmware;
    let is_boot = index == BOOT_IMAGE;
    let there = is_boot || fw.components.contains_key(&kind.identifier);
    let state = if fw.update.incoming() == Some(index) {
        IN_PROGRESS
    } else if is_boot && fw.pending(ctx.profile).is_some() {
        ACTIVE_PENDING_RESET
    } else {
        0
    };
    let mut m: ViewMut<'_, McqsReg> = view_mut(image)?;
    m.set(McqsReg::IDENTIFIER, u64::from(kind.identifier));
    m.set(
        McqsReg::LAST_INDEX_FLAG,
        u64::from(u64::from(index) == LAST),
    );
    m.set(McqsReg::COMPONENT_STATUS, if there { PRESENT } else { 0 });
    m.set(McqsReg::COMPONENT_UPDATE_STATE, state);
    Ok(())
}

fn kind(index: u16) -> Result<&'static Kind, Syndrome> {
    let known = COMPONENTS.get(usize::from(index));
    known.ok_or(Syndrome::UpdateComponent)
}

/// MCQI: what can be done with a component, its version, or how it is activated.
pub fn read_mcqi(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, McqiReg> = view(given)?;
    let asked = v.get(McqiReg::DATA_SIZE) as usize;
    let from = v.get(McqiReg::OFFSET) as usize;
    let mut info = vec![0; MCQI_BYTES - DATA];
    let index = v.get(McqiReg::COMPONENT_INDEX) as u16;
    let kind = kind(index)?;
    let pending = v.get(McqiReg::READ_PENDING_COMPONENT) == 1;
    let len = match v.get(McqiReg::INFO_TYPE) {
        CAPABILITIES => {
            let mut c: ViewMut<'_, McqiCap> = view_mut(&mut info)?;
            let known = 1 << CAPABILITIES | 1 << VERSION | 1 << ACTIVATION;
            c.set(McqiCap::SUPPORTED_INFO_BITMASK, known);
            c.set(McqiCap::MAX_COMPONENT_SIZE, kind.most as u64);
            c.set(McqiCap::LOG_MCDA_WORD_SIZE, LOG_MCDA_WORD);
            c.set(McqiCap::MCDA_MAX_WRITE_SIZE, MCDA_DATA as u64);
            c.set(McqiCap::RD_EN, 1);
            let boot = u64::from(index == BOOT_IMAGE);
            c.set(McqiCap::MATCH_CHIP_ID, boot);
            c.set(McqiCap::MATCH_PSID, boot);
            McqiCap::BYTES
        }
        VERSION => {
            if index == BOOT_IMAGE {
                version(ctx, pending, &mut info)?;
            }
            McqiVersion::BYTES
        }
        ACTIVATION => ACTIVATION_BYTES,
        _ => return Err(Syndrome::RegisterField.into()),
    };
    let mut m: ViewMut<'_, McqiReg> = view_mut(image)?;
    m.set(McqiReg::INFO_SIZE, len as u64);
    m.set(
        McqiReg::DATA_SIZE,
        asked.min(len.saturating_sub(from)) as u64,
    );
    let data = info.iter().take(len).skip(from).take(asked);
    for (to, byte) in image.iter_mut().skip(DATA).zip(data) {
        *to = *byte;
    }
    Ok(())
}

/// The version that runs, or the one that is to.
fn version(ctx: &Ctx<'_>, pending: bool, info: &mut [u8]) -> Done {
    let fw = &ctx.shared.firmware;
    let next = pending.then(|| fw.pending(ctx.profile)).flatten();
    let version = next.unwrap_or(fw.running).version;
    let [major, minor, sub] = version;
    let text = format!("{major}.{minor}.{sub}");
    let mut c: ViewMut<'_, McqiVersion> = view_mut(info)?;
    c.set(McqiVersion::VERSION, u64::from(version_word(version)));
    // With the NUL: mstflint allocates so much and copies up to the NUL.
    c.set(McqiVersion::VERSION_STRING_LENGTH, text.len() as u64 + 1);
    for (i, byte) in text.bytes().enumerate() {
        c.set_at(McqiVersion::VERSION_STRING, i, u64::from(byte));
    }
    Ok(())
}
