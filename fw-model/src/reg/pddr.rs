// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! PDDR: how the port's link is, as mstlink and ethtool ask for it. All of it follows from the other
//! registers of the port and from its module.

use fwctl_proto::{
    layout::View,
    layouts::{PddrReg, PplmReg, PplrReg, PtysReg},
    register as id,
};

use super::{
    look, module,
    ports::{PPLR, up},
    put,
};
use crate::cmd::{Ctx, Done, view};

/// `page_select`.
const OPERATIONAL: u64 = 0;
const TROUBLESHOOTING: u64 = 1;
const PHY: u64 = 2;
const MODULE: u64 = 3;
/// Why there is no link: nothing; the port was closed by command; the cable is not plugged.
const NO_ISSUE: u64 = 0;
const CLOSED: u64 = 1;
const NO_CABLE: u64 = 1024;
/// `proto_active`: Ethernet.
const ETHERNET: u64 = 4;
/// `neg_mode_active`: by clause 73.
const CLAUSE_73: u64 = 2;
/// `phy_mngr_fsm_state`: closed, looking for a partner, link.
const DISABLED: u64 = 0;
const POLLING: u64 = 2;
const LINK: u64 = 3;
/// `cable_type`.
const ACTIVE: u64 = 1;
const OPTICAL: u64 = 2;
const PASSIVE_COPPER: u64 = 3;
const UNPLUGGED: u64 = 4;
/// `cable_identifier`.
const QSFP28: u64 = 0;
const QSFP_PLUS: u64 = 1;
/// `memory_map_compliance`: SFF-8636. That it is the number alone is assumed: there is room for four
/// characters.
const COMPLIANCE: u64 = u32::from_be_bytes(*b"8636") as u64;

/// Reads the page that is asked for.
pub fn read(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, PddrReg> = view(given)?;
    match v.get(PddrReg::PAGE_SELECT) {
        OPERATIONAL => operational(ctx, image)?,
        TROUBLESHOOTING => {
            const OPCODE: &str = "status_opcode.pddr_monitor_opcode_ext.monitor_opcode";
            set(image, "troubleshooting", OPCODE, cause(ctx));
        }
        PHY => set(image, "phy_info", "remote_device_type", 0),
        MODULE => module_info(ctx, image),
        _ => {}
    }
    Ok(())
}

/// Sets a field of a page.
fn set(image: &mut [u8], page: &str, field: &str, value: u64) {
    let name = match page {
        "module_info" => format!("page_data.pddr_module_info_ext.{field}"),
        _ => format!("page_data.pddr_{page}_page_ext.{field}"),
    };
    put(image, id::PDDR, &name, [value]);
}

fn cause(ctx: &Ctx<'_>) -> u64 {
    if !ctx.shared.port(ctx.f.id).cable {
        NO_CABLE
    } else if up(ctx) {
        NO_ISSUE
    } else {
        CLOSED
    }
}

/// Modes that a port can, shall have and has: those of the extended fields if the port has any (mstflint's
/// database, `cable_ext_eth_proto_cap`).
fn modes(ptys: &View<'_, PtysReg>) -> [u64; 3] {
    type R = PtysReg;
    let fields = if ptys.get(R::EXT_ETH_PROTO_CAPABILITY) == 0 {
        [
            R::ETH_PROTO_CAPABILITY,
            R::ETH_PROTO_ADMIN,
            R::ETH_PROTO_OPER,
        ]
    } else {
        [
            R::EXT_ETH_PROTO_CAPABILITY,
            R::EXT_ETH_PROTO_ADMIN,
            R::EXT_ETH_PROTO_OPER,
        ]
    };
    fields.map(|f| ptys.get(f))
}

fn operational(ctx: &mut Ctx<'_>, image: &mut [u8]) -> Done {
    const PAGE: &str = "operation_info";
    let ptys = look(ctx, id::PTYS)?;
    let ptys: View<'_, PtysReg> = view(&ptys)?;
    let pplm = look(ctx, id::PPLM)?;
    let pplm: View<'_, PplmReg> = view(&pplm)?;
    let is_up = up(ctx);
    let fsm = match cause(ctx) {
        NO_ISSUE => LINK,
        NO_CABLE => POLLING,
        _ => DISABLED,
    };
    set(image, PAGE, "phy_mngr_fsm_state", fsm);
    set(image, PAGE, "proto_active", ETHERNET);
    let pplr = look(ctx, PPLR)?;
    let pplr: View<'_, PplrReg> = view(&pplr)?;
    set(image, PAGE, "loopback_mode", pplr.get(PplrReg::LB_EN));
    let [can, wanted, active] = modes(&ptys);
    for (field, value) in [
        (
            "phy_manager_link_enabled.pddr_phy_manager_link_enabled_eth_ext.\
             phy_manager_link_eth_enabled",
            wanted,
        ),
        (
            "core_to_phy_link_enabled.pddr_c2p_link_enabled_eth_ext.\
             core_to_phy_link_eth_enabled",
            wanted,
        ),
        (
            "cable_proto_cap.pddr_cable_cap_eth_ext.cable_ext_eth_proto_cap",
            can,
        ),
    ] {
        set(image, PAGE, field, value);
    }
    if is_up {
        let field = "link_active.pddr_link_active_eth_ext.link_eth_active";
        set(image, PAGE, field, active);
        set(image, PAGE, "neg_mode_active", CLAUSE_73);
        // A mask there, a number here.
        let fec = pplm.get(PplmReg::FEC_MODE_ACTIVE).checked_ilog2();
        set(image, PAGE, "fec_mode_active", u64::from(fec.unwrap_or(0)));
    }
    Ok(())
}

/// The module, or that there is none.
fn module_info(ctx: &Ctx<'_>, image: &mut [u8]) {
    if ctx.shared.port(ctx.f.id).cable {
        from_eeprom(&module::eeprom(ctx.f.id, 0), image);
    } else {
        set(image, "module_info", "cable_type", UNPLUGGED);
    }
}

/// Fields that are bytes of the EEPROM (SFF-8636, lower half and page 0): first byte, number of bytes.
const OF_EEPROM: &[(&str, usize, usize)] = &[
    ("memory_map_rev", 1, 1),
    ("cable_breakout", 113, 1),
    ("connector_type", 130, 1),
    ("ethernet_compliance_code", 131, 1),
    ("nbr100", 140, 1),
    ("cable_length", 146, 1),
    ("cable_technology", 147, 1),
    ("vendor_name", 148, 16),
    ("ib_compliance_code", 164, 1),
    ("vendor_oui", 165, 3),
    ("vendor_pn", 168, 16),
    // To the right of its field, behind zeros.
    ("vendor_rev", 184, 2),
    // Of a copper cable, in dB at so many GHz.
    ("cable_attenuation_5g", 187, 1),
    ("cable_attenuation_7g", 188, 1),
    ("cable_attenuation_12g", 189, 1),
    ("ext_ethernet_compliance_code", 192, 1),
    ("vendor_sn", 196, 16),
    ("date_code.hi", 212, 4),
    ("date_code.lo", 216, 4),
    ("nbr250", 222, 1),
];

/// What an EEPROM says. The module has no laser, clock recovery or equalizer: their fields are 0.
fn from_eeprom(eeprom: &[u8], image: &mut [u8]) {
    const PAGE: &str = "module_info";
    /// SFF-8024: QSFP+.
    const QSFP_PLUS_ID: u8 = 0x0d;
    let at = |n: usize| eeprom.get(n).copied().unwrap_or(0);
    // Byte 220: the module measures its temperature, its voltage; received power is an average; it
    // measures the power that it sends.
    let measures = |bit: u8| at(220) >> bit & 1;
    let monitors = measures(5) | measures(4) << 1 | measures(2) << 2;
    let measured = [("temperature", 22, 5), ("voltage", 26, 4)];
    let measured = measured.into_iter().filter(|m| measures(m.2) == 1);
    let measured = measured.map(|(field, from, _)| (field, from, 2));
    for (field, from, len) in OF_EEPROM.iter().copied().chain(measured) {
        let bytes: Vec<u8> = (from..from + len).map(at).collect();
        let dwords = bytes.chunks(4);
        let dwords = dwords.map(|d| d.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        let name = format!("page_data.pddr_module_info_ext.{field}");
        put(image, id::PDDR, &name, dwords);
    }
    let identifier = match at(128) {
        QSFP_PLUS_ID => QSFP_PLUS,
        _ => QSFP28,
    };
    // The upper half of the technology's byte: lasers, unequalized and equalized copper, active copper.
    let kind = match at(147) >> 4 {
        0..=9 => OPTICAL,
        0xa | 0xb => PASSIVE_COPPER,
        _ => ACTIVE,
    };
    // Classes 1 to 4, 5 to 7, and 8, each in bits of its own.
    let power = match at(129) {
        b if b & 0x20 != 0 => 8,
        b if b & 3 != 0 => 4 + (b & 3),
        b => 1 + (b >> 6),
    };
    for (field, value) in [
        ("memory_map_compliance", COMPLIANCE),
        ("cable_identifier", identifier),
        ("cable_type", kind),
        ("cable_power_class", u64::from(power)),
        ("monitor_cap_mask", u64::from(monitors)),
        ("rx_power_type", u64::from(measures(3))),
    ] {
        set(image, PAGE, field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FunctionId;
    use fwctl_proto::layout::Layout;

    fn page(eeprom: &[u8]) -> Vec<u8> {
        let mut image = vec![0; PddrReg::BYTES];
        from_eeprom(eeprom, &mut image);
        image.split_off(8)
    }

    #[test]
    fn every_field_follows_its_byte_of_the_eeprom() {
        let mut eeprom = module::eeprom(FunctionId(0), 0);
        let before = page(&eeprom);
        // Byte of the EEPROM, and of `pddr_module_info` in mstflint's database.
        for (byte, at) in [
            (1, 0xab),
            (113, 0x1),
            (130, 0xb8),
            (131, 0x3),
            (140, 0x9d),
            (146, 0x5),
            (148, 0x14),
            (163, 0x23),
            (164, 0x9b),
            (165, 0xb9),
            (166, 0xba),
            (167, 0xbb),
            (168, 0x24),
            (183, 0x33),
            (184, 0x36),
            (185, 0x37),
            (187, 0xf),
            (188, 0xe),
            (189, 0xd),
            (192, 0x2),
            (196, 0x3c),
            (211, 0x4b),
            (212, 0xb0),
            (219, 0xb7),
            (222, 0x9c),
        ] {
            eeprom[byte] ^= 0x5a;
            let mut expected = before.clone();
            expected[at] ^= 0x5a;
            assert_eq!(page(&eeprom), expected, "byte {byte}");
            eeprom[byte] ^= 0x5a;
        }
    }

    #[test]
    fn kinds_of_modules_and_their_power() {
        let mut eeprom = module::eeprom(FunctionId(0), 0);
        let mut with = |byte: usize, value: u8, at: usize| {
            let was = std::mem::replace(&mut eeprom[byte], value);
            let found = page(&eeprom)[at];
            eeprom[byte] = was;
            found
        };
        // Active, optical, passive.
        assert_eq!([0xd0, 0x00, 0xb0].map(|t| with(147, t, 4) >> 4), [1, 2, 3]);
        assert_eq!([0x0d, 0x11].map(|i| with(128, i, 6)), [1, 0]);
        let classes = [0x00, 0x40, 0xc0, 0x01, 0xc3, 0x20];
        assert_eq!(classes.map(|c| with(129, c, 7)), [1, 2, 4, 5, 7, 8]);
        assert_eq!(&page(&eeprom)[0xac..0xb0], b"8636");
    }

    #[test]
    fn what_the_module_does_not_measure_is_not_told() {
        let mut eeprom = module::eeprom(FunctionId(0), 0);
        eeprom[22..24].copy_from_slice(&[35, 0x80]);
        eeprom[26..28].copy_from_slice(&[0x80, 0xe8]);
        let mut told = |byte: u8| {
            eeprom[220] = byte;
            let p = page(&eeprom);
            let measured: [u8; 4] = p[0x4c..0x50].try_into().unwrap();
            (measured, p[0x94] >> 4, p[0x9e])
        };
        assert_eq!(told(0), ([0; 4], 0, 0));
        assert_eq!(told(0x20), ([35, 0x80, 0, 0], 0, 1));
        assert_eq!(told(0x1c), ([0, 0, 0x80, 0xe8], 1, 6));
    }
}
