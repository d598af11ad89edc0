// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What one function of a card may ask of another.

#![allow(clippy::unwrap_used)]

mod common;

use common::{cmd, pair::Pair};
use fw_model::{Caller, Delivery, FunctionId, Input, ResetKind, Scope};
use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{CmdHcaCap, QueryHcaCapIn},
    opcode as op,
};

const BAD_OP: u8 = 2;
const BAD_PARAM: u8 = 3;
const BAD_SYS_STATE: u8 = 4;
const TOOLS: u8 = 4;

/// A query or a setting for the function with a vhca id.
fn other(mut c: Vec<u8>, id: u16, by_vhca: bool) -> Vec<u8> {
    let mut v = ViewMut::<QueryHcaCapIn>::new(&mut c).unwrap();
    v.set(QueryHcaCapIn::OTHER_FUNCTION, 1);
    v.set(QueryHcaCapIn::FUNCTION_ID_TYPE, u64::from(by_vhca));
    v.set(QueryHcaCapIn::FUNCTION_ID, u64::from(id));
    c
}

fn status(p: &mut Pair, f: u8, inbox: &[u8], out: u32) -> (u8, Vec<u8>) {
    p.send(f, 0, inbox, out);
    let (_, delivery, out) = p.replies.pop().unwrap();
    assert_eq!(delivery, Delivery::Executed);
    (out[0], out)
}

fn uctx(p: &mut Pair, f: u8, caps: u8) -> u16 {
    let mut c = cmd(op::CREATE_UCTX, 0, 64);
    c[19] = caps;
    let out = p.ok(f, &c, 16);
    u16::from_be_bytes([out[10], out[11]])
}

fn as_user(p: &mut Pair, f: u8, uid: u16, inbox: &[u8], out: u32) -> (u8, Vec<u8>) {
    p.submit(Input::Command {
        function: FunctionId(f),
        tag: 0,
        caller: Caller::User {
            scope: Scope::DebugWriteFull,
            uid,
        },
        inbox,
        outbox_len: out,
    });
    let (_, delivery, out) = p.replies.pop().unwrap();
    assert_eq!(delivery, Delivery::Executed);
    (out[0], out)
}

fn caps(set: u64) -> Vec<u8> {
    let mut c = cmd(op::SET_HCA_CAP, 0, 4112);
    let mut v = ViewMut::<CmdHcaCap>::new(&mut c[16..]).unwrap();
    v.set(CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_EVENT, set);
    c
}

#[test]
fn a_manager_sees_another_function_by_its_vhca_id_and_a_devx_context_does_not() {
    let mut p = Pair::new("");
    let query = cmd(op::QUERY_HCA_CAP, 1, 16);
    let vhca = |out: &[u8]| {
        let v = View::<CmdHcaCap>::new(&out[16..]).unwrap();
        v.get(CmdHcaCap::VHCA_ID)
    };
    assert_eq!(vhca(&p.ok(1, &query, 4112)), 1);
    let (ok, out) = status(&mut p, 1, &other(query.clone(), 0, true), 4112);
    assert_eq!((ok, vhca(&out)), (0, 0));
    assert_eq!(
        status(&mut p, 1, &other(query.clone(), 1, true), 4112).0,
        0,
        "itself"
    );
    assert_eq!(
        status(&mut p, 1, &other(query.clone(), 2, true), 4112).0,
        BAD_PARAM
    );
    assert_eq!(
        status(&mut p, 1, &other(query.clone(), 0, false), 4112).0,
        0,
        "itself"
    );
    assert_eq!(
        status(&mut p, 1, &other(query.clone(), 1, false), 4112).0,
        BAD_PARAM
    );
    let tools = uctx(&mut p, 0, TOOLS);
    let devx = uctx(&mut p, 0, 0);
    let ask = other(query, 1, true);
    assert_eq!(as_user(&mut p, 0, tools, &ask, 4112).0, 0);
    assert_eq!(as_user(&mut p, 0, devx, &ask, 4112).0, BAD_PARAM);
    let mut alone = Pair::new("[caps.general]\nvhca_resource_manager = 0\n");
    assert_eq!(status(&mut alone, 0, &ask, 4112).0, BAD_PARAM);
}

#[test]
fn tools_set_capabilities_of_another_function_that_is_not_up_and_never_their_own() {
    let mut p = Pair::new("");
    let tools = uctx(&mut p, 0, TOOLS);
    for own in [caps(0), other(caps(0), 0, true), other(caps(0), 0, false)] {
        assert_eq!(as_user(&mut p, 0, tools, &own, 16).0, BAD_OP);
    }
    let set = other(caps(1), 1, true);
    assert_eq!(
        as_user(&mut p, 0, tools, &set, 16).0,
        BAD_SYS_STATE,
        "it is up"
    );
    p.submit(Input::Reset {
        function: FunctionId(1),
        kind: ResetKind::Flr,
    });
    assert_eq!(as_user(&mut p, 0, tools, &set, 16).0, 0);
    p.ok(1, &cmd(op::ENABLE_HCA, 0, 16), 16);
    let out = p.ok(1, &cmd(op::QUERY_HCA_CAP, 1, 16), 4112);
    let v = View::<CmdHcaCap>::new(&out[16..]).unwrap();
    assert_eq!(v.get(CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_EVENT), 1);
}
