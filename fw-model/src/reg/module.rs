// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The pluggable module of a port: its lanes, whether it is there, and its EEPROM.
//!
//! Each function has a module of its number: a QSFP28 copper cable, as SFF-8636 describes one.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{Lane2ModuleMapping, MciaReg, PmaosReg, PmlpReg},
};

use crate::{
    FunctionId,
    cmd::{Ctx, Done, view, view_mut},
    syndrome::Syndrome,
};

/// Lanes of a port.
pub const LANES: u64 = 4;
/// Its temperature in units of 1/8 degree: 35 degrees.
pub const TEMPERATURE: u16 = 35 * 8;
/// `pmaos_reg.oper_status`: plugged and enabled, unplugged.
const PLUGGED: u64 = 1;
const UNPLUGGED: u64 = 2;
/// The address at which a QSFP module answers.
const I2C_ADDRESS: u64 = 0x50;
/// `mcia_reg.status`: there is no module; the address does not answer.
const NO_MODULE: u64 = 1;
const NO_ANSWER: u64 = 4;
/// Byte offset of the bytes in MCIA.
const DWORDS: usize = 16;
/// Bytes of a page of the EEPROM, with the lower half that all pages share.
const PAGE: usize = 256;

/// PMLP: the lanes of the port are those of its module.
pub fn read_pmlp(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let module = u64::from(ctx.f.id.0);
    let mut m: ViewMut<'_, PmlpReg> = view_mut(image)?;
    m.set(PmlpReg::WIDTH, LANES);
    let fields = [
        PmlpReg::LANE0_MODULE_MAPPING,
        PmlpReg::LANE1_MODULE_MAPPING,
        PmlpReg::LANE2_MODULE_MAPPING,
        PmlpReg::LANE3_MODULE_MAPPING,
    ];
    for (i, field) in fields.into_iter().enumerate() {
        let mut word = [0; 4];
        let mut lane: ViewMut<'_, Lane2ModuleMapping> = view_mut(&mut word)?;
        lane.set(Lane2ModuleMapping::RX_LANE, i as u64);
        lane.set(Lane2ModuleMapping::TX_LANE, i as u64);
        lane.set(Lane2ModuleMapping::MODULE, module);
        m.set(field, u64::from(u32::from_be_bytes(word)));
    }
    Ok(())
}

/// PMAOS: whether the module is there.
pub fn read_pmaos(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PmaosReg> = view(given)?;
    let there = own(ctx, v.get(PmaosReg::MODULE))?;
    let mut m: ViewMut<'_, PmaosReg> = view_mut(image)?;
    m.set(PmaosReg::ADMIN_STATUS, PLUGGED);
    let oper = if there { PLUGGED } else { UNPLUGGED };
    m.set(PmaosReg::OPER_STATUS, oper);
    Ok(())
}

/// MCIA: bytes of the module's EEPROM.
pub fn read_mcia(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, MciaReg> = view(given)?;
    let there = own(ctx, v.get(MciaReg::MODULE))?;
    let mut m: ViewMut<'_, MciaReg> = view_mut(image)?;
    let status = if !there {
        NO_MODULE
    } else if v.get(MciaReg::I2C_DEVICE_ADDRESS) != I2C_ADDRESS {
        NO_ANSWER
    } else {
        0
    };
    m.set(MciaReg::STATUS, status);
    let Some(data) = image.get_mut(DWORDS..) else {
        return Ok(());
    };
    data.fill(0);
    if status == 0 {
        let page = eeprom(ctx.f.id, v.get(MciaReg::PAGE_NUMBER));
        let from = v.get(MciaReg::DEVICE_ADDRESS) as usize;
        let size = v.get(MciaReg::SIZE) as usize;
        for (to, byte) in data.iter_mut().zip(page.iter().skip(from)).take(size) {
            *to = *byte;
        }
    }
    Ok(())
}

/// True if the function's own module is there.
pub fn own(ctx: &Ctx<'_>, module: u64) -> Result<bool, Syndrome> {
    if module == u64::from(ctx.f.id.0) {
        Ok(ctx.shared.port(ctx.f.id).cable)
    } else {
        Err(Syndrome::RegisterField)
    }
}

/// A page of the EEPROM: the lower half, and an upper half.
pub fn eeprom(f: FunctionId, page: u64) -> [u8; PAGE] {
    /// SFF-8024: QSFP28; no separable connector.
    const QSFP28: u8 = 0x11;
    const NO_CONNECTOR: u8 = 0x23;
    let mut b = [0; PAGE];
    b[0] = QSFP28;
    // Revision 2.5 and later; flat: there are no upper pages but page 0, no interrupt.
    b[1] = 0x07;
    b[2] = 0x06;
    b[22] = 35;
    if page != 0 {
        return b;
    }
    b[128] = QSFP28;
    // Power class 1.
    b[129] = 0x00;
    b[130] = NO_CONNECTOR;
    // Extended specification compliance in byte 192: 100GBASE-CR4.
    b[131] = 0x80;
    b[192] = 0x0b;
    // 25.5 GBd and above: 0xff and the rate in units of 250 MBd.
    b[140] = 0xff;
    b[222] = 103;
    // One meter of unequalized copper.
    b[146] = 1;
    b[147] = 0xa0;
    let mut text = |at: usize, len: usize, text: &str| {
        for (to, from) in b[at..at + len]
            .iter_mut()
            .zip(text.bytes().chain([b' '; 16]))
        {
            *to = from;
        }
    };
    text(148, 16, "FWCTL-EMU");
    text(168, 16, "DAC-QSFP28-1M");
    text(184, 2, "A1");
    text(196, 16, &format!("EMU{:05}", f.0));
    text(212, 8, "260101");
    let sum = |b: &[u8]| b.iter().fold(0u8, |s, x| s.wrapping_add(*x));
    b[191] = sum(&b[128..191]);
    b[223] = sum(&b[192..223]);
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eeprom_has_its_checksums_and_texts() {
        let b = eeprom(FunctionId(1), 0);
        assert_eq!(&b[148..164], b"FWCTL-EMU       ");
        assert_eq!(&b[196..212], b"EMU00001        ");
        let sum = |r: core::ops::Range<usize>| b[r].iter().fold(0u8, |s, x| s.wrapping_add(*x));
        assert_eq!((sum(128..191), sum(192..223)), (b[191], b[223]));
        assert_eq!(eeprom(FunctionId(1), 3)[128..], [0; 128]);
    }
}
