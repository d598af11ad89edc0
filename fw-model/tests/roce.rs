// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! RoCE addresses, P_Keys, GIDs, the HCA vport context and the keys that need not be created.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{FunctionId, Input};
use fwctl_proto::opcode as op;

const BAD_PARAM: u8 = 3;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn indexed(opcode: u16, at: usize, index: u16, len: usize) -> Vec<u8> {
    let mut c = cmd(opcode, 0, len);
    c[at..at + 2].copy_from_slice(&index.to_be_bytes());
    c
}

#[test]
fn an_address_is_read_back_as_it_was_set_and_zeros_end_it() {
    let mut d = up();
    let mut set = indexed(op::SET_ROCE_ADDRESS, 8, 255, 48);
    set[16..48].copy_from_slice(&core::array::from_fn::<u8, 32, _>(|i| i as u8));
    d.ok(&set, 16);
    let query = indexed(op::QUERY_ROCE_ADDRESS, 8, 255, 16);
    assert_eq!(d.ok(&query, 48)[16..], set[16..]);
    let other = indexed(op::QUERY_ROCE_ADDRESS, 8, 254, 16);
    assert_eq!(d.ok(&other, 48)[16..], [0; 32]);
    set[16..48].fill(0);
    d.ok(&set, 16);
    assert_eq!(d.ok(&query, 48)[16..], [0; 32]);
    // roce_address_table_size is 256.
    let beyond = indexed(op::SET_ROCE_ADDRESS, 8, 256, 48);
    let r = d.exec(&beyond, 16);
    assert_eq!((r.status(), r.syndrome()), (BAD_PARAM, 0x00e9_0001));
}

#[test]
fn there_is_one_p_key_and_one_gid() {
    let mut d = up();
    for index in [0, 0xffff] {
        let key = d.ok(&indexed(op::QUERY_HCA_VPORT_PKEY, 14, index, 16), 20);
        assert_eq!(key[16..20], [0, 0, 0xff, 0xff]);
        let gid = d.ok(&indexed(op::QUERY_HCA_VPORT_GID, 14, index, 16), 32);
        assert_eq!(gid[12..14], [0, 1], "gids_num");
        // The link-local prefix, and 02:c9:07:00:00:00 as EUI-64.
        assert_eq!(gid[16..24], [0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
        assert_eq!(gid[24..32], [0, 0xc9, 7, 0xff, 0xfe, 0, 0, 0]);
    }
    for opcode in [op::QUERY_HCA_VPORT_PKEY, op::QUERY_HCA_VPORT_GID] {
        let r = d.exec(&indexed(opcode, 14, 1, 16), 32);
        assert_eq!((r.status(), r.syndrome()), (BAD_PARAM, 0x00e9_0001));
        let mut other = cmd(opcode, 0, 16);
        (other[8], other[11]) = (0x80, 1);
        let r = d.exec(&other, 32);
        assert_eq!((r.status(), r.syndrome()), (BAD_PARAM, 0x00e8_0001));
    }
}

#[test]
fn the_hca_vport_context_takes_selected_fields_and_follows_the_port() {
    let mut d = up();
    let query = cmd(op::QUERY_HCA_VPORT_CONTEXT, 0, 16);
    let before = d.ok(&query, 528);
    // port_physical_state LinkUp, port_state and vport_state active.
    assert_eq!((before[16 + 0x22] >> 4, before[16 + 0x23]), (5, 0x44));
    let mut modify = cmd(op::MODIFY_HCA_VPORT_CONTEXT, 0, 528);
    modify[19] = 0b101;
    modify[16 + 0x22] = 0x02;
    modify[16 + 0x30..16 + 0x38].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    modify[16 + 0x38..16 + 0x40].fill(9);
    d.ok(&modify, 16);
    let mut expected = before.clone();
    expected[16 + 0x22] |= 2;
    expected[16 + 0x30..16 + 0x38].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(d.ok(&query, 528), expected, "node GUID was not selected");
    modify[19] = 0x08;
    let r = d.exec(&modify, 16);
    assert_eq!((r.status(), r.syndrome()), (BAD_PARAM, 0x00e8_0002));
    d.submit(Input::Link {
        function: FunctionId(0),
        up: false,
    });
    let out = d.ok(&query, 528);
    assert_eq!((out[16 + 0x22] >> 4, out[16 + 0x23]), (3, 0x11));
}

#[test]
fn special_keys_are_not_those_of_created_keys() {
    let mut d = up();
    let out = d.ok(&cmd(op::QUERY_SPECIAL_CONTEXTS, 0, 16), 32);
    let mut seen = std::collections::BTreeSet::new();
    for at in (8..28).step_by(4) {
        let key = u32::from_be_bytes(out[at..at + 4].try_into().unwrap());
        // An index of 24 bits above 2^log_max_mkey, but for the one that drivers assume.
        assert!(key >> 8 > 1 << 20 || key == 0x100, "{key:#x}");
        assert!(seen.insert(key));
    }
}
