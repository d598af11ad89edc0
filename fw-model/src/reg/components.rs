// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MCQS and MCQI: which components the firmware has, and what is known of each. There is one, the
//! boot image; nothing is ever pending as long as none can be written.

use fwctl_proto::{
    layout::{Layout as _, View, ViewMut},
    layouts::{McqiCap, McqiReg, McqiVersion, McqsReg},
};

use crate::{
    cmd::{Ctx, Done, view, view_mut},
    syndrome::Syndrome,
};

/// `mcqs_reg.identifier` of the components, by index: the boot image (`MCQS_IDENTIFIER_BOOT_IMG`).
const COMPONENTS: &[u64] = &[1];
/// Index of the last component.
pub const LAST: u64 = COMPONENTS.len() as u64 - 1;
/// `component_status`: the component is there.
const PRESENT: u64 = 1;
/// Byte offset of the data in MCQI, and bytes of the register.
const DATA: usize = 24;
pub const MCQI_BYTES: usize = DATA + McqiVersion::BYTES;
/// `mcqi_reg.info_type`.
const CAPABILITIES: u64 = 0;
const VERSION: u64 = 1;
const ACTIVATION: u64 = 5;
/// Bytes of the answer to each.
const ACTIVATION_BYTES: usize = 4;
/// What one MCDA may carry, and its unit as a power of two.
const MCDA_BYTES: u64 = 128;
const LOG_MCDA_WORD: u64 = 2;
/// The boot image's room in flash.
const MAX_IMAGE: u64 = 16 << 20;

/// MCQS: a component and its state.
pub fn read_mcqs(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, McqsReg> = view(given)?;
    let index = v.get(McqsReg::COMPONENT_INDEX);
    let mut m: ViewMut<'_, McqsReg> = view_mut(image)?;
    let identifier = COMPONENTS.get(index as usize).copied();
    m.set(McqsReg::IDENTIFIER, identifier.unwrap_or(0));
    m.set(McqsReg::LAST_INDEX_FLAG, u64::from(index == LAST));
    m.set(McqsReg::COMPONENT_STATUS, PRESENT);
    Ok(())
}

/// MCQI: what can be done with a component, its version, or how it is activated.
pub fn read_mcqi(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, McqiReg> = view(given)?;
    let asked = v.get(McqiReg::DATA_SIZE) as usize;
    let from = v.get(McqiReg::OFFSET) as usize;
    let mut info = vec![0; MCQI_BYTES - DATA];
    let len = match v.get(McqiReg::INFO_TYPE) {
        CAPABILITIES => {
            let mut c: ViewMut<'_, McqiCap> = view_mut(&mut info)?;
            let known = 1 << CAPABILITIES | 1 << VERSION | 1 << ACTIVATION;
            c.set(McqiCap::SUPPORTED_INFO_BITMASK, known);
            c.set(McqiCap::MAX_COMPONENT_SIZE, MAX_IMAGE);
            c.set(McqiCap::LOG_MCDA_WORD_SIZE, LOG_MCDA_WORD);
            c.set(McqiCap::MCDA_MAX_WRITE_SIZE, MCDA_BYTES);
            c.set(McqiCap::MATCH_CHIP_ID, 1);
            c.set(McqiCap::MATCH_PSID, 1);
            McqiCap::BYTES
        }
        VERSION => {
            version(ctx, &mut info)?;
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

fn version(ctx: &Ctx<'_>, info: &mut [u8]) -> Done {
    let [major, minor, sub] = ctx.profile.firmware.version;
    let text = format!("{major}.{minor}.{sub}");
    let mut c: ViewMut<'_, McqiVersion> = view_mut(info)?;
    let word = u64::from(major) << 24 | u64::from(minor) << 16 | u64::from(sub);
    c.set(McqiVersion::VERSION, word);
    c.set(McqiVersion::VERSION_STRING_LENGTH, text.len() as u64);
    for (i, byte) in text.bytes().enumerate() {
        c.set_at(McqiVersion::VERSION_STRING, i, u64::from(byte));
    }
    Ok(())
}
