// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MTCAP and MTMP: temperatures, of the chip (sensor 0) and of each function's module (64 and on).

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{MtcapReg, MtmpReg},
    register,
};

use super::{module, put};
use crate::{
    cmd::{Ctx, Done, view, view_mut},
    syndrome::Syndrome,
};

/// The chip's own sensor.
pub const CHIP: u64 = 0;
/// Sensor of module 0.
pub const MODULE: u64 = 64;
/// The last sensor that a module can have.
pub const LAST_SENSOR: u64 = MODULE + 15;

/// MTCAP: one sensor in the chip.
pub fn read_mtcap(_: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let mut m: ViewMut<'_, MtcapReg> = view_mut(image)?;
    m.set(MtcapReg::SENSOR_COUNT, 1);
    m.set(MtcapReg::SENSOR_MAP, 1 << CHIP);
    // Only the tools know this field.
    put(image, register::MTCAP, "internal_sensor_count", [1]);
    Ok(())
}

/// MTMP: a sensor's temperature, in units of 1/8 degree.
pub fn read_mtmp(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let sensor = sensor(ctx, given)?;
    let mut m: ViewMut<'_, MtmpReg> = view_mut(image)?;
    let t = &ctx.shared.thermal;
    let own = m.get(MtmpReg::TEMP_THRESHOLD_HI);
    let threshold = if own == 0 { u64::from(t.warn) } else { own };
    m.set(MtmpReg::TEMP_THRESHOLD_HI, threshold);
    let (now, most, name) = if sensor == CHIP {
        (t.now, t.most, *b"asic\0\0\0\0")
    } else {
        let mut name = *b"module00";
        let n = (sensor - MODULE) as u8;
        name[6] += n / 10;
        name[7] += n % 10;
        (module::TEMPERATURE, module::TEMPERATURE, name)
    };
    m.set(MtmpReg::TEMPERATURE, u64::from(now));
    let most = if m.get(MtmpReg::MTE) == 1 { most } else { 0 };
    m.set(MtmpReg::MAX_TEMPERATURE, u64::from(most));
    let word = u64::from_be_bytes(name);
    m.set(MtmpReg::SENSOR_NAME_HI, word >> 32);
    m.set(MtmpReg::SENSOR_NAME_LO, word & 0xffff_ffff);
    Ok(())
}

/// MTMP: the highest temperature begins anew (`mtr`), and what is kept.
pub fn write_mtmp(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    let sensor = sensor(ctx, given)?;
    let v: View<'_, MtmpReg> = view(given)?;
    if v.get(MtmpReg::MTR) == 1 && sensor == CHIP {
        ctx.shared.thermal.most = ctx.shared.thermal.now;
    }
    Ok(())
}

/// The sensor that is meant, if there is one.
fn sensor(ctx: &Ctx<'_>, given: &[u8]) -> Result<u64, Syndrome> {
    let v = View::<MtmpReg>::new(given).ok_or(Syndrome::RegisterField)?;
    let sensor = v.get(MtmpReg::SENSOR_INDEX);
    let own = MODULE + u64::from(ctx.f.id.0);
    if sensor == CHIP || sensor == own {
        Ok(sensor)
    } else {
        Err(Syndrome::RegisterField)
    }
}
