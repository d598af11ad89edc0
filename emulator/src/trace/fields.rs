// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What entries that are no commands say, by the names of their fields.

use fw_model::gateway;
use fwctl_proto::{
    eqe,
    layout::{Layout as _, LayoutInfo, get_bits},
    layouts::{Eqe, InitialSeg},
    uar,
};

use crate::decode::{self, Message, Which};

fn fields(layout: &'static LayoutInfo, bytes: &[u8]) -> Vec<String> {
    decode::fields(Message { layout, bytes }, None, Which::Set)
}

/// The data of an event that are not zero.
pub fn event(event_type: u8, data: &[u8]) -> Vec<String> {
    /// What the fields of the data are called in an entry.
    const IN_EQE: &str = "event_data.";
    let mut bytes = [0; eqe::BYTES];
    bytes[eqe::TYPE] = event_type;
    let room = &mut bytes[eqe::DATA..eqe::DATA + eqe::DATA_BYTES];
    for (to, from) in room.iter_mut().zip(data) {
        *to = *from;
    }
    let all = fields(Eqe::INFO, &bytes);
    let data = all.iter().filter_map(|f| f.strip_prefix(IN_EQE));
    data.map(str::to_owned).collect()
}

/// A sub-type by its name, or as a number.
pub fn sub_type(event_type: u8, sub_type: u8) -> String {
    let name = eqe::sub_type_name(event_type, sub_type);
    name.map_or_else(|| format!("{sub_type:#x}"), str::to_owned)
}

/// The fields of the initialization segment that a write covers.
pub fn segment(offset: u32, data: &[u8]) -> Vec<String> {
    let (from, bits) = (u64::from(offset) * 8, data.len() as u64 * 8);
    let all = InitialSeg::INFO.leaves().into_iter().filter_map(|leaf| {
        let at = u64::from(leaf.offset).checked_sub(from)?;
        let inside = at + u64::from(leaf.width) <= bits;
        let value = inside.then(|| get_bits(data, at as u32, leaf.width))?;
        Some(format!("{}={value:#x}", leaf.path))
    });
    all.collect()
}

/// The name of a doorbell and its fields that are not zero; none if no doorbell is known there.
pub fn doorbell(offset: u32, data: &[u8]) -> Option<(&'static str, Vec<String>)> {
    let layout = uar::doorbell(offset)?;
    Some((layout.name, fields(layout, data)))
}

/// The fields of a dword behind the gateway that are not zero, if it has fields.
pub fn word(space: u16, address: u32, value: u32) -> Option<Vec<String>> {
    let layout = gateway::word(space, address)?;
    Some(fields(layout, &value.to_be_bytes()))
}

/// The name of a space behind the gateway.
pub fn space(number: u16) -> String {
    gateway::find(number).map_or_else(|| format!("{number:#x}"), |s| s.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_command_has_names_too() {
        // PAGE_REQUEST: function in bytes 2 and 3, pages in bytes 4 to 7.
        assert_eq!(
            event(0xb, &[0, 0, 0, 1, 0, 0, 0, 9]),
            ["function_id=0x1", "num_pages=0x9"]
        );
        assert_eq!(event(0xff, &[1]), [""; 0]);
        // log_cmdq_size 5, log_cmdq_stride 6.
        assert_eq!(
            segment(0x14, &[0, 1, 0x20, 0x56]),
            [
                "cmdq_phy_addr_31_12=0x12",
                "nic_interface=0x0",
                "log_cmdq_size=0x5",
                "log_cmdq_stride=0x6"
            ]
        );
        assert_eq!(segment(u32::MAX, &[0; 8]), [""; 0]);
        let (name, fields) = doorbell(0x40, &[4, 0, 0, 7]).unwrap();
        assert_eq!(
            (name, fields.join(" ").as_str()),
            ("eq_arm_doorbell", "eqn=0x4 consumer_index=0x7")
        );
        assert_eq!(
            word(3, 0, 0x9001_0001).unwrap(),
            ["opcode=ACCESS_REGISTER", "busy=0x1"]
        );
        assert_eq!(word(3, 0x10_0000, 1), None);
    }
}
