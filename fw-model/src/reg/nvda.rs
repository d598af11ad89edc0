// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MNVDA: reads and writes a configuration item.
//!
//! The layout is not in mlx5_ifc.h; the driver has it in `lib/nv_param.c`: a dword with access
//! mode (23:22), version (15:12) and length (8:0), the 32-bit type, and at byte 12 the data.

use fwctl_proto::layout::{get_bits, set_bits};

use crate::{
    cmd::{Ctx, Done},
    nv::MAX_ITEM_BYTES,
    syndrome::Syndrome,
};

/// Byte offset of the data.
const DATA: usize = 12;
/// `access_mode`: bits 8..10 from the start.
const ACCESS_MODE: (u32, u32) = (8, 2);
/// `length` in bytes: bits 23..32.
const LENGTH: (u32, u32) = (23, 9);
/// `type`: the second dword.
const TYPE: (u32, u32) = (32, 32);

const NEXT: u64 = 0;
const CURRENT: u64 = 1;
const DEFAULT: u64 = 2;

/// Reads an item; one that was never set reads as zeros.
pub fn read(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let item = get_bits(given, TYPE.0, TYPE.1) as u32;
    let value = match get_bits(given, ACCESS_MODE.0, ACCESS_MODE.1) {
        NEXT => ctx.shared.nv.next(item),
        CURRENT => ctx.shared.nv.current(item),
        DEFAULT => None,
        _ => return Err(Syndrome::RegisterField.into()),
    };
    header(given, image)?;
    if let Some(value) = value {
        set_bits(image, LENGTH.0, LENGTH.1, value.len() as u64);
        for (to, from) in image.iter_mut().skip(DATA).zip(value) {
            *to = *from;
        }
    }
    Ok(())
}

/// Sets an item's next-boot value; answered when it is stored.
pub fn write(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    if get_bits(given, ACCESS_MODE.0, ACCESS_MODE.1) != NEXT {
        return Err(Syndrome::RegisterField.into());
    }
    header(given, image)?;
    let length = get_bits(given, LENGTH.0, LENGTH.1) as usize;
    // What the inbox really carries: `given` is as long as the register.
    let carried = ctx.inbox.len().saturating_sub(super::DATA);
    let data = given
        .get(DATA..DATA + length)
        .filter(|_| carried >= DATA + length)
        .ok_or(Syndrome::NvLength)?;
    let item = get_bits(given, TYPE.0, TYPE.1) as u32;
    ctx.shared.nv.set(item, data, &mut ctx.batch)?;
    for (to, from) in image.iter_mut().skip(DATA).zip(data) {
        *to = *from;
    }
    Ok(())
}

fn header(given: &[u8], image: &mut [u8]) -> Done {
    if get_bits(given, LENGTH.0, LENGTH.1) as usize > MAX_ITEM_BYTES {
        return Err(Syndrome::NvLength.into());
    }
    for (to, from) in image.iter_mut().take(DATA).zip(given) {
        *to = *from;
    }
    Ok(())
}
