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
const ACTIVE: u64 = 3;
/// `cable_type`.
const PASSIVE_COPPER: u64 = 3;
const UNPLUGGED: u64 = 4;
/// `cable_identifier`: QSFP28.
const QSFP28: u64 = 0;

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

fn operational(ctx: &mut Ctx<'_>, image: &mut [u8]) -> Done {
    const PAGE: &str = "operation_info";
    let ptys = look(ctx, id::PTYS)?;
    let ptys: View<'_, PtysReg> = view(&ptys)?;
    let pplm = look(ctx, id::PPLM)?;
    let pplm: View<'_, PplmReg> = view(&pplm)?;
    let is_up = up(ctx);
    let fsm = match cause(ctx) {
        NO_ISSUE => ACTIVE,
        NO_CABLE => POLLING,
        _ => DISABLED,
    };
    set(image, PAGE, "phy_mngr_fsm_state", fsm);
    set(image, PAGE, "proto_active", ETHERNET);
    let pplr = look(ctx, PPLR)?;
    let pplr: View<'_, PplrReg> = view(&pplr)?;
    set(image, PAGE, "loopback_mode", pplr.get(PplrReg::LB_EN));
    let wanted = ptys.get(PtysReg::ETH_PROTO_ADMIN);
    let can = ptys.get(PtysReg::ETH_PROTO_CAPABILITY);
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
        let active = ptys.get(PtysReg::ETH_PROTO_OPER);
        let field = "link_active.pddr_link_active_eth_ext.link_eth_active";
        set(image, PAGE, field, active);
        set(image, PAGE, "neg_mode_active", CLAUSE_73);
        // A mask there, a number here.
        let fec = pplm.get(PplmReg::FEC_MODE_ACTIVE).checked_ilog2();
        set(image, PAGE, "fec_mode_active", u64::from(fec.unwrap_or(0)));
    }
    Ok(())
}

/// What the module's EEPROM says.
fn module_info(ctx: &Ctx<'_>, image: &mut [u8]) {
    const PAGE: &str = "module_info";
    if !ctx.shared.port(ctx.f.id).cable {
        return set(image, PAGE, "cable_type", UNPLUGGED);
    }
    let eeprom = module::eeprom(ctx.f.id, 0);
    let at = |n: usize| eeprom.get(n).copied().unwrap_or(0);
    set(image, PAGE, "cable_type", PASSIVE_COPPER);
    set(image, PAGE, "cable_identifier", QSFP28);
    // SFF-8636, page 0: length, technology, compliance, texts.
    set(image, PAGE, "cable_length", u64::from(at(146)));
    set(image, PAGE, "cable_technology", u64::from(at(147)));
    set(image, PAGE, "ethernet_compliance_code", u64::from(at(131)));
    set(
        image,
        PAGE,
        "ext_ethernet_compliance_code",
        u64::from(at(192)),
    );
    for (field, from, len) in [
        ("vendor_name", 148, 16),
        ("vendor_pn", 168, 16),
        ("vendor_rev", 184, 2),
        ("vendor_sn", 196, 16),
    ] {
        let mut text: Vec<u8> = (from..from + len).map(at).collect();
        text.resize(len.next_multiple_of(4), b' ');
        let dwords = text
            .chunks(4)
            .map(|d| d.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        let name = format!("page_data.pddr_module_info_ext.{field}");
        put(image, id::PDDR, &name, dwords);
    }
}
