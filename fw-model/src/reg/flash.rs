// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MFPA, MFBA and MFBE: the flash itself, read, programmed and erased (docs/firmware-update.md).

use fwctl_proto::{layout::get_bits, mst};

use super::put;
use crate::{
    cmd::{Ctx, Done},
    firmware::{
        flash::{FLASH_BYTES, SLOT_BYTES, SLOTS},
        fs4::SECTOR,
    },
    gateway::semaphore::FLASH,
    syndrome::Syndrome,
};

/// Flash parameters.
pub const MFPA: u16 = 0x9010;
/// Bytes of MFPA.
pub const MFPA_BYTES: usize = 32;
/// Flash block access.
pub const MFBA: u16 = 0x9011;
/// Bytes of MFBA.
pub const MFBA_BYTES: usize = DATA + 256;
/// Flash block erase.
pub const MFBE: u16 = 0x9012;
/// Bytes of MFBE.
pub const MFBE_BYTES: usize = 12;
/// Byte offset of the data in MFBA.
const DATA: usize = 12;

/// The flash chip: one of Macronix with 256 Mbit.
pub const JEDEC_ID: u64 = 0x19_20c2;

fn field(given: &[u8], register: u16, name: &str) -> u64 {
    let fields = mst::find(register).map_or(&[][..], |r| r.layout.fields);
    let found = fields.iter().find(|f| f.name == name);
    found.map_or(0, |f| get_bits(given, f.offset, f.width))
}

/// There is one flash chip.
fn chip(given: &[u8], register: u16) -> Done {
    if field(given, register, "fs") == 0 {
        Ok(())
    } else {
        Err(Syndrome::RegisterField.into())
    }
}

/// MFPA: what flash there is.
pub fn read_mfpa(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    chip(given, MFPA)?;
    let next = ctx.shared.firmware.flash.next_slot(ctx.profile);
    let boot = usize::from(next.unwrap_or(0)) * SLOT_BYTES;
    for (name, value) in [
        ("boot_address", boot as u64),
        ("add_cap_32b", 1),
        ("flash_num", 1),
        ("jedec_id", JEDEC_ID),
        ("sector_size", SECTOR as u64 / 1024),
        ("block_alignment", 0),
        ("block_size", 8),
        ("bulk_64kb_erase_en", 1),
    ] {
        put(image, MFPA, name, [value]);
    }
    Ok(())
}

/// The register has the flash's dwords with their last byte first.
pub fn swapped(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(4)
        .flat_map(|d| d.iter().rev().copied())
        .collect()
}

/// Management firmware activate image.
pub const MFAI: u16 = 0x9029;
/// Bytes of MFAI.
pub const MFAI_BYTES: usize = 16;

/// MFAI: a tool says which slot is to start next. Which one does follows from the mark that it then
/// writes into that slot, so that the two never disagree.
pub fn write_mfai(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    /// `use_address` in the first dword, and the address behind it.
    const USE_ADDRESS: u32 = 1;
    const ADDRESS: u32 = 32;
    let at = get_bits(given, ADDRESS, 32) as usize;
    let is_slot = (0..SLOTS).any(|s| usize::from(s) * SLOT_BYTES == at);
    if get_bits(given, USE_ADDRESS, 1) != 1 || !is_slot {
        return Err(Syndrome::RegisterField.into());
    }
    for (to, from) in image.iter_mut().zip(given) {
        *to = *from;
    }
    Ok(())
}

/// Who comes through the gateway has taken the flash's semaphore there.
fn in_use(ctx: &mut Ctx<'_>) {
    if ctx.gateway {
        ctx.shared.semaphores.renew(FLASH, ctx.now);
    }
}

/// Where an MFBA is, and how long.
fn range(given: &[u8]) -> Result<(usize, usize), Syndrome> {
    let at = field(given, MFBA, "address") as usize;
    let size = field(given, MFBA, "size") as usize;
    let end = at.checked_add(size);
    let inside = end.is_some_and(|e| e <= FLASH_BYTES);
    if inside && size <= MFBA_BYTES - DATA && size.is_multiple_of(4) {
        Ok((at, size))
    } else {
        Err(Syndrome::RegisterField)
    }
}

/// MFBA: reads bytes.
pub fn read_mfba(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    chip(given, MFBA)?;
    in_use(ctx);
    let (at, size) = range(given)?;
    let bytes = ctx.shared.firmware.flash.read(ctx.profile, at, size);
    for (to, from) in image.iter_mut().zip(given.iter().take(DATA)) {
        *to = *from;
    }
    put(image, MFBA, "add_cap_32b", [1]);
    for (to, from) in image.iter_mut().skip(DATA).zip(swapped(&bytes)) {
        *to = from;
    }
    Ok(())
}

/// MFBA: programs bytes; answered when they are stored.
pub fn write_mfba(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    chip(given, MFBA)?;
    in_use(ctx);
    let (at, size) = range(given)?;
    let carried = ctx.inbox.len().saturating_sub(super::DATA);
    let data = given.get(DATA..DATA + size);
    let data = data.filter(|_| carried >= DATA + size);
    let data = data.ok_or(Syndrome::RegisterField)?;
    let data = swapped(data);
    let flash = &mut ctx.shared.firmware.flash;
    flash.program(ctx.profile, at, &data, &mut ctx.batch);
    Ok(())
}

/// MFBE: erases a sector, or a block of 64 KiB.
pub fn write_mfbe(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    chip(given, MFBE)?;
    in_use(ctx);
    let len = if field(given, MFBE, "bulk_64kb_erase") == 1 {
        64 << 10
    } else if field(given, MFBE, "bulk_32kb_erase") == 1 {
        32 << 10
    } else {
        SECTOR
    };
    let at = field(given, MFBE, "address") as usize;
    if !at.is_multiple_of(len) || at >= FLASH_BYTES {
        return Err(Syndrome::RegisterField.into());
    }
    let flash = &mut ctx.shared.firmware.flash;
    flash.erase(ctx.profile, at, len, &mut ctx.batch);
    for (to, from) in image.iter_mut().zip(given) {
        *to = *from;
    }
    Ok(())
}
