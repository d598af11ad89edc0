// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MGIR and MQIS: what the card is, as the vendor's tools ask for it.

use core::time::Duration;

use fwctl_proto::{layout::ViewMut, layouts::MpeinReg};

use super::put;
use crate::{
    cmd::{Ctx, Done, view_mut},
    syndrome::Syndrome,
    vpd,
};

/// Management general information.
pub const MGIR: u16 = 0x9020;
/// Bytes of MGIR.
pub const MGIR_BYTES: usize = 160;
/// Management query information strings.
pub const MQIS: u16 = 0x9064;
/// Bytes of MQIS: head, and a string of 8 bytes.
pub const MQIS_BYTES: usize = MQIS_STRING + 8;
const MQIS_STRING: usize = 16;
/// `info_type`.
const MODEL_NAME: u8 = 1;
const MODEL_DESCRIPTION: u8 = 2;
const DEVICE_VSD: u8 = 4;

/// MGIR: identity of chip and firmware, and for how long that runs.
#[allow(clippy::unnecessary_wraps)]
pub fn read_mgir(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let p = ctx.profile;
    let mut set = |name: &str, value: u64| put(image, MGIR, name, [value]);
    set("hw_info.device_id", u64::from(p.pci().device_id));
    set("hw_info.hw_dev_id", u64::from(p.pci().hw_id));
    // Each function has a port of its own.
    set("hw_info.num_ports", ctx.others.functions() as u64);
    let mac = p
        .mac(crate::FunctionId(0))
        .iter()
        .fold(0, |n, b| n << 8 | u64::from(*b));
    set("hw_info.manufacturing_base_mac_47_32", mac >> 32);
    set("hw_info.manufacturing_base_mac_31_0", mac & 0xffff_ffff);
    let up: Duration = ctx.now.since(ctx.shared.health.ready);
    set("hw_info.uptime", up.as_secs());
    let [major, minor, sub_minor] = ctx.shared.firmware.running.version.map(u64::from);
    set("fw_info.major", major);
    set("fw_info.minor", minor);
    // Bytes; what does not fit them stands in the extended fields.
    set("fw_info.sub_minor", sub_minor & 0xff);
    set("fw_info.extended_major", major);
    set("fw_info.extended_minor", minor);
    set("fw_info.extended_sub_minor", sub_minor);
    let psid = p.firmware.psid.bytes().map(u64::from);
    put(image, MGIR, "fw_info.psid", psid);
    Ok(())
}

/// MPEIN: how many functions the link to the host carries; the rest is the profile's.
pub fn read_mpein(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, MpeinReg> = view_mut(image)?;
    m.set(MpeinReg::NUM_OF_PFS, ctx.others.functions() as u64);
    m.set(MpeinReg::NUM_OF_VFS, u64::from(ctx.f.configured.total_vfs));
    Ok(())
}

/// MQIS: a piece of one of the card's strings. Its length counts the NUL behind it.
pub fn read_mqis(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let byte = |at: usize| given.get(at).copied().unwrap_or(0);
    let word = |at: usize| usize::from(u16::from_be_bytes([byte(at), byte(at + 1)]));
    let p = ctx.profile;
    let text = match byte(3) {
        MODEL_NAME => vpd::part_number(p),
        MODEL_DESCRIPTION => p.description.clone(),
        // Strings that vendors write; there are none.
        0..=DEVICE_VSD => String::new(),
        _ => return Err(Syndrome::RegisterField.into()),
    };
    let text = if text.is_empty() { text } else { text + "\0" };
    let (from, len) = (word(8), word(10));
    if from > text.len() || len > MQIS_BYTES - MQIS_STRING {
        return Err(Syndrome::RegisterField.into());
    }
    image.fill(0);
    put(image, MQIS, "info_type", [u64::from(byte(3))]);
    put(image, MQIS, "info_length", [text.len() as u64]);
    put(image, MQIS, "read_offset", [from as u64]);
    put(image, MQIS, "read_length", [len as u64]);
    let piece = text.bytes().skip(from).take(len).map(u64::from);
    put(image, MQIS, "info_string", piece);
    Ok(())
}
