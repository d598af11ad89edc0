// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects through their commands: made, read back as written, changed, referred to, ended.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::syndrome::Syndrome;
use fwctl_proto::layout::{find, get_bits, set_bits};

const BAD_RES: u8 = 0x5;
const RES_BUSY: u8 = 0x6;
const LIM_ERR: u8 = 0x8;
const BAD_RES_STATE: u8 = 0x9;
const BAD_PARAM: u8 = 0x3;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

/// Sets a field of an inbox by its layout's and its own name.
fn set(inbox: &mut [u8], layout: &str, field: &str, value: u64) {
    let p = find(layout).expect(layout).field(field).expect(field);
    set_bits(inbox, p.offset, p.width, value);
}

fn get(out: &[u8], layout: &str, field: &str) -> u64 {
    let p = find(layout).expect(layout).field(field).expect(field);
    get_bits(out, p.offset, p.width)
}

/// The 24-bit id in byte 9 of most create commands' outboxes.
fn id(out: &[u8]) -> u64 {
    get_bits(out, 0x48, 24)
}

fn with_id(opcode: u16, id: u64, len: usize) -> Vec<u8> {
    let mut c = cmd(opcode, 0, len);
    set_bits(&mut c, 0x48, 24, id);
    c
}

fn alloc(d: &mut Driver, opcode: u16) -> u64 {
    let out = d.ok(&cmd(opcode, 0, 16), 16);
    id(&out)
}

fn create_eq(d: &mut Driver, uar: u64) -> u64 {
    let mut c = cmd(0x301, 0, 272 + 8);
    set(&mut c, "create_eq_in", "eq_context_entry.log_eq_size", 4);
    set(&mut c, "create_eq_in", "eq_context_entry.uar_page", uar);
    c[272..280].copy_from_slice(&0x5_0000_0000u64.to_be_bytes());
    let out = d.ok(&c, 16);
    get(&out, "create_eq_out", "eq_number")
}

fn create_cq(d: &mut Driver, eqn: u64, uar: u64) -> u64 {
    let mut c = cmd(0x400, 0, 272 + 8);
    set(
        &mut c,
        "create_cq_in",
        "cq_context.c_eqn_or_apu_element",
        eqn,
    );
    set(&mut c, "create_cq_in", "cq_context.uar_page", uar);
    let out = d.ok(&c, 16);
    id(&out)
}

#[test]
fn ids_are_not_reused_at_once_and_begin_behind_the_reserved_ones() {
    let mut d = up();
    let a = alloc(&mut d, 0x800);
    d.ok(&with_id(0x801, a, 16), 16);
    let b = alloc(&mut d, 0x800);
    assert!(a != 0 && b != a);
    assert_eq!(d.exec(&with_id(0x801, a, 16), 16).status(), BAD_RES);
    assert_eq!(alloc(&mut d, 0x802), 64, "UAR pages begin at 64");
}

#[test]
fn what_is_referred_to_stays_until_nobody_refers_to_it() {
    let mut d = up();
    let (pd, uar) = (alloc(&mut d, 0x800), alloc(&mut d, 0x802));
    let eqn = create_eq(&mut d, uar);
    let cqn = create_cq(&mut d, eqn, uar);
    let mut rq = cmd(0x908, 0, 280);
    set(&mut rq, "create_rq_in", "ctx.cqn", cqn);
    set(&mut rq, "create_rq_in", "ctx.wq.pd", pd);
    let rqn = id(&d.ok(&rq, 16));
    for (opcode, n) in [(0x401, cqn), (0x801, pd)] {
        let r = d.exec(&with_id(opcode, n, 16), 16);
        assert_eq!(
            (r.status(), r.syndrome()),
            (RES_BUSY, Syndrome::ObjectBusy.code()),
            "{opcode:#x}"
        );
    }
    let mut destroy_eq = cmd(0x302, 0, 16);
    set(&mut destroy_eq, "destroy_eq_in", "eq_number", eqn);
    assert_eq!(d.exec(&destroy_eq, 16).status(), RES_BUSY);
    d.ok(&with_id(0x90a, rqn, 16), 16);
    d.ok(&with_id(0x401, cqn, 16), 16);
    d.ok(&destroy_eq, 16);
    d.ok(&with_id(0x801, pd, 16), 16);
    set(&mut rq, "create_rq_in", "ctx.cqn", cqn);
    let r = d.exec(&rq, 16);
    assert_eq!(
        (r.status(), r.syndrome()),
        (BAD_RES, Syndrome::ObjectReference.code())
    );
}

#[test]
fn a_work_queue_goes_through_its_states_and_no_other_way() {
    let mut d = up();
    let uar = alloc(&mut d, 0x802);
    let eqn = create_eq(&mut d, uar);
    let cqn = create_cq(&mut d, eqn, uar);
    let mut create = cmd(0x904, 0, 280);
    set(&mut create, "create_sq_in", "ctx.cqn", cqn);
    set(&mut create, "create_sq_in", "ctx.wq.log_wq_sz", 7);
    let sqn = id(&d.ok(&create, 16));
    // (from, to, expected status); states: 0 reset, 1 ready, 3 error.
    for (from, to, status) in [
        (1, 1, BAD_RES_STATE),
        (0, 1, 0),
        (0, 1, BAD_RES_STATE),
        (1, 3, 0),
        (3, 1, BAD_RES_STATE),
        (3, 0, 0),
        (0, 2, BAD_RES_STATE),
    ] {
        let mut m = with_id(0x905, sqn, 272);
        set(&mut m, "modify_sq_in", "sq_state", from);
        set(&mut m, "modify_sq_in", "ctx.state", to);
        assert_eq!(d.exec(&m, 16).status(), status, "{from} -> {to}");
    }
    let out = d.ok(&with_id(0x907, sqn, 16), 272);
    assert_eq!(get(&out, "query_sq_out", "sq_context.wq.log_wq_sz"), 7);
    assert_eq!(get(&out, "query_sq_out", "sq_context.cqn"), cqn);
    assert_eq!(get(&out, "query_sq_out", "sq_context.state"), 0);
}

#[test]
fn a_modify_mask_lets_only_its_fields_through() {
    let mut d = up();
    let td = alloc(&mut d, 0x816);
    let mut create = cmd(0x900, 0, 272);
    set(&mut create, "create_tir_in", "ctx.transport_domain", td);
    set(&mut create, "create_tir_in", "ctx.rx_hash_fn", 2);
    let tirn = id(&d.ok(&create, 16));
    let mut m = with_id(0x901, tirn, 272);
    set(&mut m, "modify_tir_in", "ctx.self_lb_block", 3);
    set(&mut m, "modify_tir_in", "ctx.rx_hash_fn", 1);
    d.ok(&m, 16);
    let unchanged = d.ok(&with_id(0x903, tirn, 16), 272);
    assert_eq!(
        get(&unchanged, "query_tir_out", "tir_context.self_lb_block"),
        0
    );
    set(&mut m, "modify_tir_in", "bitmask.self_lb_en", 1);
    d.ok(&m, 16);
    let out = d.ok(&with_id(0x903, tirn, 16), 272);
    assert_eq!(get(&out, "query_tir_out", "tir_context.self_lb_block"), 3);
    assert_eq!(get(&out, "query_tir_out", "tir_context.rx_hash_fn"), 2);
    assert_eq!(
        get(&out, "query_tir_out", "tir_context.transport_domain"),
        td
    );
}

#[test]
fn an_rqt_grows_with_its_list() {
    let mut d = up();
    let uar = alloc(&mut d, 0x802);
    let eqn = create_eq(&mut d, uar);
    let cqn = create_cq(&mut d, eqn, uar);
    let mut rq = cmd(0x908, 0, 272);
    set(&mut rq, "create_rq_in", "ctx.cqn", cqn);
    let rqns: Vec<u64> = (0..3).map(|_| id(&d.ok(&rq, 16))).collect();
    assert_eq!(rqns, [1, 2, 3]);
    let mut create = cmd(0x916, 0, 272 + 4);
    set(&mut create, "create_rqt_in", "rqt_context.rqt_max_size", 64);
    set(
        &mut create,
        "create_rqt_in",
        "rqt_context.rqt_actual_size",
        1,
    );
    create[272..276].copy_from_slice(&3u32.to_be_bytes());
    let rqtn = id(&d.ok(&create, 16));
    let mut m = with_id(0x917, rqtn, 272 + 12);
    set(&mut m, "modify_rqt_in", "bitmask.rqn_list", 1);
    set(&mut m, "modify_rqt_in", "ctx.rqt_actual_size", 3);
    for i in 0..3u32 {
        m[272 + 4 * i as usize..][..4].copy_from_slice(&(i + 1).to_be_bytes());
    }
    d.ok(&m, 16);
    let out = d.ok(&with_id(0x919, rqtn, 16), 272 + 12);
    assert_eq!(get(&out, "query_rqt_out", "rqt_context.rqt_actual_size"), 3);
    assert_eq!(get(&out, "query_rqt_out", "rqt_context.rqt_max_size"), 64);
    assert_eq!(out[272..284], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    assert_eq!(
        d.exec(&with_id(0x90a, 2, 16), 16).status(),
        RES_BUSY,
        "the table leads to it"
    );
    m[272 + 4..276 + 4].copy_from_slice(&9u32.to_be_bytes());
    assert_eq!(d.exec(&m, 16).status(), BAD_RES, "there is no such queue");
}

#[test]
fn flow_steering_holds_together_and_comes_apart_in_order() {
    let mut d = up();
    let mut table = cmd(0x930, 0, 64);
    set(
        &mut table,
        "create_flow_table_in",
        "flow_table_context.log_size",
        6,
    );
    let table_id = id(&d.ok(&table, 16));
    let mut group = cmd(0x933, 0, 1024);
    set(&mut group, "create_flow_group_in", "table_id", table_id);
    set(&mut group, "create_flow_group_in", "end_flow_index", 63);
    let group_id = id(&d.ok(&group, 16));
    let mut fte = cmd(0x936, 0, 832);
    set(&mut fte, "set_fte_in", "table_id", table_id);
    set(&mut fte, "set_fte_in", "flow_index", 5);
    set(&mut fte, "set_fte_in", "flow_context.group_id", group_id);
    set(&mut fte, "set_fte_in", "flow_context.flow_tag", 0xabc);
    d.ok(&fte, 16);
    assert_eq!(d.exec(&fte, 16).status(), BAD_PARAM, "the index is taken");
    let mut query = cmd(0x937, 0, 64);
    set(&mut query, "query_fte_in", "table_id", table_id);
    set(&mut query, "query_fte_in", "flow_index", 5);
    let out = d.ok(&query, 832);
    assert_eq!(get(&out, "query_fte_out", "flow_context.flow_tag"), 0xabc);
    let mut drop_group = cmd(0x934, 0, 64);
    set(
        &mut drop_group,
        "destroy_flow_group_in",
        "group_id",
        group_id,
    );
    let mut drop_table = cmd(0x931, 0, 64);
    set(
        &mut drop_table,
        "destroy_flow_table_in",
        "table_id",
        table_id,
    );
    assert_eq!(d.exec(&drop_group, 16).status(), RES_BUSY);
    assert_eq!(d.exec(&drop_table, 16).status(), RES_BUSY);
    let mut drop_fte = cmd(0x938, 0, 64);
    set(&mut drop_fte, "delete_fte_in", "table_id", table_id);
    set(&mut drop_fte, "delete_fte_in", "flow_index", 5);
    d.ok(&drop_fte, 16);
    assert_eq!(d.exec(&drop_fte, 16).status(), BAD_RES);
    d.ok(&drop_group, 16);
    d.ok(&drop_table, 16);
    assert!(d.card.report(d.f).unwrap().objects.is_empty());
}

#[test]
fn limits_come_from_the_capability_page() {
    let mut d = up();
    // log_max_transport_domain of the profile is 8.
    for _ in 0..256 {
        alloc(&mut d, 0x816);
    }
    let r = d.exec(&cmd(0x816, 0, 16), 16);
    assert_eq!(
        (r.status(), r.syndrome()),
        (LIM_ERR, Syndrome::ObjectLimit.code())
    );
    assert_eq!(d.card.report(d.f).unwrap().objects["transport_domain"], 256);
}

#[test]
fn the_end_of_a_user_context_takes_its_objects_along() {
    let mut d = up();
    let uctx = cmd(0xa04, 0, 64);
    let out = d.ok(&uctx, 16);
    let uid = get(&out, "create_uctx_out", "uid") as u16;
    let mut pd = cmd(0x800, 0, 16);
    pd[2..4].copy_from_slice(&uid.to_be_bytes());
    let n = id(&d.ok(&pd, 16));
    let mut other = d.ok(&uctx, 16);
    let stranger = get(&other, "create_uctx_out", "uid") as u16;
    other = with_id(0x801, n, 16);
    other[2..4].copy_from_slice(&stranger.to_be_bytes());
    let r = d.exec(&other, 16);
    assert_eq!(
        (r.status(), r.syndrome()),
        (BAD_RES, Syndrome::NotOwner.code())
    );
    let mut destroy = cmd(0xa06, 0, 16);
    set(&mut destroy, "destroy_uctx_in", "uid", u64::from(uid));
    d.ok(&destroy, 16);
    assert!(d.card.report(d.f).unwrap().objects.is_empty());
    assert_eq!(d.exec(&destroy, 16).status(), BAD_RES);
}

/// Found by the reference model of fw-fuzz.
#[test]
fn a_queue_is_still_stopped_when_what_it_refers_to_went_with_its_user_context() {
    let mut d = up();
    let out = d.ok(&cmd(0xa04, 0, 64), 16);
    let uid = get(&out, "create_uctx_out", "uid");
    let mut pd = cmd(0x800, 0, 16);
    set(&mut pd, "alloc_pd_in", "uid", uid);
    let pd = id(&d.ok(&pd, 16));
    let mut rmp = cmd(0x90c, 0, 272);
    set(&mut rmp, "create_rmp_in", "ctx.wq.pd", pd);
    let rmp = id(&d.ok(&rmp, 16));
    let mut destroy = cmd(0xa06, 0, 16);
    set(&mut destroy, "destroy_uctx_in", "uid", uid);
    d.ok(&destroy, 16);
    // To ready, and to error.
    for (from, to) in [(0, 1), (1, 3)] {
        let mut modify = with_id(0x90d, rmp, 272);
        set(&mut modify, "modify_rmp_in", "rmp_state", from);
        set(&mut modify, "modify_rmp_in", "ctx.state", to);
        d.ok(&modify, 16);
    }
    d.ok(&with_id(0x90e, rmp, 16), 16);
}

#[test]
fn the_nic_vport_context_reads_back_as_written() {
    let mut d = up();
    let out = d.ok(&cmd(0x754, 0, 16), 272);
    // base_mac of the profile.
    assert_eq!(
        get(
            &out,
            "query_nic_vport_context_out",
            "nic_vport_context.permanent_address.mac_addr_47_32"
        ),
        0x02c9
    );
    assert_eq!(
        get(&out, "query_nic_vport_context_out", "nic_vport_context.mtu"),
        1500
    );
    let mut m = cmd(0x755, 0, 512 + 16);
    set(
        &mut m,
        "modify_nic_vport_context_in",
        "field_select.addresses_list",
        1,
    );
    set(&mut m, "modify_nic_vport_context_in", "field_select.mtu", 1);
    set(
        &mut m,
        "modify_nic_vport_context_in",
        "nic_vport_context.mtu",
        9000,
    );
    set(
        &mut m,
        "modify_nic_vport_context_in",
        "nic_vport_context.promisc_all",
        1,
    );
    set(
        &mut m,
        "modify_nic_vport_context_in",
        "nic_vport_context.allowed_list_size",
        2,
    );
    m[512..528].copy_from_slice(&[0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 9, 9, 9, 9, 9, 9]);
    d.ok(&m, 16);
    let out = d.ok(&cmd(0x754, 0, 16), 272 + 16);
    assert_eq!(
        get(&out, "query_nic_vport_context_out", "nic_vport_context.mtu"),
        9000
    );
    assert_eq!(
        get(
            &out,
            "query_nic_vport_context_out",
            "nic_vport_context.promisc_all"
        ),
        0,
        "not selected"
    );
    assert_eq!(
        get(
            &out,
            "query_nic_vport_context_out",
            "nic_vport_context.allowed_list_size"
        ),
        2
    );
    assert_eq!(out[272..288], m[512..528]);
    set(
        &mut m,
        "modify_nic_vport_context_in",
        "nic_vport_context.allowed_list_size",
        3,
    );
    assert_eq!(
        d.exec(&m, 16).status(),
        0x50,
        "fewer addresses than it counts"
    );
}

#[test]
fn port_registers_follow_what_is_written() {
    let mut d = up();
    let reg = |id: u16, op_mod: u16, len: usize| {
        let mut c = cmd(0x805, op_mod, 16 + len);
        c[10..12].copy_from_slice(&id.to_be_bytes());
        c[17] = 1;
        c
    };
    let mut pmtu = reg(0x5003, 0, 16);
    set_bits(&mut pmtu[16..], 0x40, 16, 9022);
    d.ok(&pmtu, 32);
    let out = d.ok(&reg(0x5003, 1, 16), 32);
    assert_eq!(
        (
            get_bits(&out[16..], 0x40, 16),
            get_bits(&out[16..], 0x60, 16)
        ),
        (9022, 9022)
    );
    set_bits(&mut pmtu[16..], 0x40, 16, 9979);
    assert_eq!(d.exec(&pmtu, 32).status(), BAD_PARAM, "above max_mtu");
    let mut paos = reg(0x5006, 0, 16);
    set_bits(&mut paos[16..], 0x14, 4, 2);
    set_bits(&mut paos[16..], 0x20, 1, 1);
    d.ok(&paos, 32);
    let out = d.ok(&reg(0x5006, 1, 16), 32);
    assert_eq!(get_bits(&out[16..], 0x1c, 4), 2, "down as asked");
    let mut other = reg(0x5006, 1, 16);
    other[17] = 2;
    let r = d.exec(&other, 32);
    assert_eq!(
        (r.status(), r.syndrome()),
        (BAD_PARAM, Syndrome::RegisterPort.code())
    );
    assert_eq!(
        d.exec(&reg(0x1234, 1, 16), 32).syndrome(),
        Syndrome::RegisterUnknown.code()
    );
    assert_eq!(
        d.exec(&reg(0x507f, 0, 80), 96).syndrome(),
        Syndrome::RegisterReadOnly.code()
    );
    assert_eq!(
        d.exec(&reg(0x5006, 7, 16), 32).syndrome(),
        Syndrome::UnsupportedOpMod.code()
    );
}
