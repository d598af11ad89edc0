// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every kind of object by a table: made, queried back as written, ended, and then not there;
//! and what is particular to single kinds.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::syndrome::Syndrome;
use fwctl_proto::layout::{find, get_bits, set_bits};

const BAD_PARAM: u8 = 0x3;
const BAD_RES: u8 = 0x5;
const RES_BUSY: u8 = 0x6;
const LIM_ERR: u8 = 0x8;
const BAD_RES_STATE: u8 = 0x9;
const BAD_INP_LEN: u8 = 0x50;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn set(inbox: &mut [u8], layout: &str, field: &str, value: u64) {
    let p = find(layout).expect(layout).field(field).expect(field);
    set_bits(inbox, p.offset, p.width, value);
}

fn get(out: &[u8], layout: &str, field: &str) -> u64 {
    let p = find(layout).expect(layout).field(field).expect(field);
    get_bits(out, p.offset, p.width)
}

/// Opcodes of a kind with the layouts of their inboxes, the id's name in each, a field that is
/// written and read back, and the length of the inbox.
struct Row {
    create: (u16, &'static str, usize),
    destroy: (u16, &'static str, usize),
    /// Opcode, inbox and outbox layout, inbox length.
    query: Option<(u16, &'static str, &'static str, usize)>,
    id: &'static str,
    /// Fields to write: in the create command's layout, in the query's outbox, value.
    fields: &'static [(&'static str, &'static str, u64)],
    /// Fields that must have a value for the command to be taken.
    needs: &'static [(&'static str, u64)],
}

const ROWS: &[Row] = &[
    Row {
        create: (0x800, "alloc_pd", 16),
        destroy: (0x801, "dealloc_pd", 16),
        query: None,
        id: "pd",
        fields: &[],
        needs: &[],
    },
    Row {
        create: (0x802, "alloc_uar", 16),
        destroy: (0x803, "dealloc_uar", 16),
        query: None,
        id: "uar",
        fields: &[],
        needs: &[],
    },
    Row {
        create: (0x816, "alloc_transport_domain", 16),
        destroy: (0x817, "dealloc_transport_domain", 16),
        query: None,
        id: "transport_domain",
        fields: &[],
        needs: &[],
    },
    Row {
        create: (0x80e, "alloc_xrcd", 16),
        destroy: (0x80f, "dealloc_xrcd", 16),
        query: None,
        id: "xrcd",
        fields: &[],
        needs: &[],
    },
    Row {
        create: (0xa08, "create_umem", 48 + 16),
        destroy: (0xa0a, "destroy_umem", 16),
        query: None,
        id: "umem_id",
        fields: &[],
        needs: &[("umem.num_of_mtt", 2)],
    },
    Row {
        create: (0x500, "create_qp", 272),
        destroy: (0x501, "destroy_qp", 16),
        query: Some((0x50b, "query_qp_in", "query_qp_out", 16)),
        id: "qpn",
        fields: &[
            ("qpc.log_sq_size", "qpc.log_sq_size", 7),
            ("qpc.user_index", "qpc.user_index", 0xabcdef),
            ("qpc.q_key", "qpc.q_key", 0x8001_0000),
        ],
        needs: &[],
    },
    Row {
        create: (0x700, "create_srq", 272),
        destroy: (0x701, "destroy_srq", 16),
        query: Some((0x702, "query_srq_in", "query_srq_out", 16)),
        id: "srqn",
        fields: &[(
            "srq_context_entry.log_srq_size",
            "srq_context_entry.log_srq_size",
            9,
        )],
        needs: &[],
    },
    Row {
        create: (0x705, "create_xrc_srq", 272),
        destroy: (0x706, "destroy_xrc_srq", 16),
        query: Some((0x707, "query_xrc_srq_in", "query_xrc_srq_out", 16)),
        id: "xrc_srqn",
        fields: &[(
            "xrc_srq_context_entry.user_index",
            "xrc_srq_context_entry.user_index",
            0x1234,
        )],
        needs: &[],
    },
    Row {
        create: (0x717, "create_xrq", 336),
        destroy: (0x718, "destroy_xrq", 16),
        query: Some((0x719, "query_xrq_in", "query_xrq_out", 16)),
        id: "xrqn",
        fields: &[("xrq_context.user_index", "xrq_context.user_index", 0x77)],
        needs: &[],
    },
    Row {
        create: (0x710, "create_dct", 128),
        destroy: (0x711, "destroy_dct", 16),
        query: Some((0x713, "query_dct_in", "query_dct_out", 16)),
        id: "dctn",
        fields: &[(
            "dct_context_entry.dc_access_key",
            "dct_context_entry.dc_access_key",
            0x0102_0304_0506_0708,
        )],
        needs: &[],
    },
    Row {
        create: (0x90c, "create_rmp", 272),
        destroy: (0x90e, "destroy_rmp", 16),
        query: Some((0x90f, "query_rmp_in", "query_rmp_out", 16)),
        id: "rmpn",
        fields: &[
            ("ctx.wq.log_wq_sz", "rmp_context.wq.log_wq_sz", 5),
            ("ctx.state", "rmp_context.state", 1),
        ],
        needs: &[],
    },
    Row {
        create: (0x939, "alloc_flow_counter", 16),
        destroy: (0x93a, "dealloc_flow_counter", 16),
        query: Some((0x93b, "query_flow_counter_in", "query_flow_counter_out", 32)),
        id: "flow_counter_id",
        fields: &[],
        needs: &[],
    },
    Row {
        create: (0x93d, "alloc_packet_reformat_context", 36),
        destroy: (0x93e, "dealloc_packet_reformat_context", 16),
        query: Some((
            0x93f,
            "query_packet_reformat_context_in",
            "query_packet_reformat_context_out",
            36,
        )),
        id: "packet_reformat_id",
        fields: &[(
            "packet_reformat_context.reformat_type",
            "packet_reformat_context.reformat_type",
            4,
        )],
        needs: &[("packet_reformat_context.reformat_data_size", 2)],
    },
    Row {
        create: (0x940, "alloc_modify_header_context", 16 + 8),
        destroy: (0x941, "dealloc_modify_header_context", 16),
        query: None,
        id: "modify_header_id",
        fields: &[],
        needs: &[("num_of_actions", 1)],
    },
    Row {
        create: (0x782, "create_scheduling_element", 128),
        destroy: (0x783, "destroy_scheduling_element", 64),
        query: Some((
            0x784,
            "query_scheduling_element_in",
            "query_scheduling_element_out",
            64,
        )),
        id: "scheduling_element_id",
        fields: &[(
            "scheduling_context.bw_share",
            "scheduling_context.bw_share",
            42,
        )],
        needs: &[("scheduling_hierarchy", 3)],
    },
];

fn named(op: u16, layout: &str, id: &str, n: u64, len: usize) -> Vec<u8> {
    let mut c = cmd(op, 0, len);
    set(&mut c, layout, id, n);
    c
}

#[test]
fn every_kind_is_made_read_back_and_ended() {
    for row in ROWS {
        let mut d = up();
        let (opcode, name, len) = row.create;
        let layout = format!("{name}_in");
        let mut create = cmd(opcode, 0, len);
        for (field, value) in row.needs {
            set(&mut create, &layout, field, *value);
        }
        for (field, _, value) in row.fields {
            set(&mut create, &layout, field, *value);
        }
        let out = d.ok(&create, 64);
        let n = get(&out, &format!("{name}_out"), row.id);
        assert_ne!(n, 0, "{name}");
        let destroy = named(
            row.destroy.0,
            &format!("{}_in", row.destroy.1),
            row.id,
            n,
            row.destroy.2,
        );
        if let Some((opcode, input, output, len)) = row.query {
            let query = named(opcode, input, row.id, n, len);
            let out = d.ok(&query, 1024);
            for (_, field, value) in row.fields {
                assert_eq!(get(&out, output, field), *value, "{name} {field}");
            }
        }
        d.ok(&destroy, 64);
        let again = d.exec(&destroy, 64);
        assert_eq!(
            (again.status(), again.syndrome()),
            (BAD_RES, Syndrome::ObjectUnknown.code()),
            "{name}"
        );
        assert!(d.card.report(d.f).unwrap().objects.is_empty(), "{name}");
        let next = get(&d.ok(&create, 64), &format!("{name}_out"), row.id);
        assert_ne!(next, n, "{name}: an id must not be reused at once");
    }
}

fn create(d: &mut Driver, opcode: u16, name: &str, len: usize, fields: &[(&str, u64)]) -> u64 {
    let mut c = cmd(opcode, 0, len);
    for (f, v) in fields {
        set(&mut c, &format!("{name}_in"), f, *v);
    }
    let out = d.ok(&c, 64);
    get_bits(&out, 0x48, 24)
}

/// (opcode, required state of the QP, state after it) of a QP's life, by qpc.state's values.
const RST2INIT: u16 = 0x502;
const INIT2RTR: u16 = 0x503;
const RTR2RTS: u16 = 0x504;
const RTS2RTS: u16 = 0x505;
const SQERR2RTS: u16 = 0x506;
const TO_ERR: u16 = 0x507;
const TO_RST: u16 = 0x50a;
const SQD2RTS: u16 = 0x50c;
const INIT2INIT: u16 = 0x50e;

fn qp_state(d: &mut Driver, qpn: u64) -> u64 {
    let out = d.ok(&named(0x50b, "query_qp_in", "qpn", qpn, 16), 1024);
    get(&out, "query_qp_out", "qpc.state")
}

#[test]
fn a_queue_pair_takes_the_transitions_of_its_state_and_no_other() {
    // The InfiniBand specification's state diagram: reset, init, rtr, rts, error.
    let from = |state: u64| -> &'static [(u16, u64)] {
        match state {
            0 => &[(RST2INIT, 1), (TO_ERR, 6), (TO_RST, 0)],
            1 => &[(INIT2INIT, 1), (INIT2RTR, 2), (TO_ERR, 6), (TO_RST, 0)],
            2 => &[(RTR2RTS, 3), (TO_ERR, 6), (TO_RST, 0)],
            3 => &[(RTS2RTS, 3), (TO_ERR, 6), (TO_RST, 0)],
            _ => &[(TO_ERR, 6), (TO_RST, 0)],
        }
    };
    let way: [(u64, &[u16]); 5] = [
        (0, &[]),
        (1, &[RST2INIT]),
        (2, &[RST2INIT, INIT2RTR]),
        (3, &[RST2INIT, INIT2RTR, RTR2RTS]),
        (6, &[TO_ERR]),
    ];
    for (state, path) in way {
        for op in [
            RST2INIT, INIT2RTR, RTR2RTS, RTS2RTS, SQERR2RTS, TO_ERR, TO_RST, SQD2RTS, INIT2INIT,
        ] {
            let mut d = up();
            let qpn = create(&mut d, 0x500, "create_qp", 272, &[]);
            for step in path {
                d.ok(&named(*step, "rst2init_qp_in", "qpn", qpn, 272), 16);
            }
            assert_eq!(qp_state(&mut d, qpn), state);
            let r = d.exec(&named(op, "rst2init_qp_in", "qpn", qpn, 272), 16);
            match from(state).iter().find(|(o, _)| *o == op) {
                Some((_, to)) => {
                    assert_eq!(r.status(), 0, "{op:#x} from {state}");
                    assert_eq!(qp_state(&mut d, qpn), *to, "{op:#x} from {state}");
                }
                None => {
                    assert_eq!(
                        (r.status(), r.syndrome()),
                        (BAD_RES_STATE, Syndrome::ObjectState.code()),
                        "{op:#x} from {state}"
                    );
                    assert_eq!(qp_state(&mut d, qpn), state);
                }
            }
        }
    }
}

#[test]
fn a_transition_sets_its_fields_and_the_optional_ones_that_it_names() {
    let mut d = up();
    let qpn = create(&mut d, 0x500, "create_qp", 272, &[]);
    let mut c = named(RST2INIT, "rst2init_qp_in", "qpn", qpn, 272);
    set(&mut c, "rst2init_qp_in", "qpc.rwe", 1);
    set(&mut c, "rst2init_qp_in", "qpc.mtu", 5);
    d.ok(&c, 16);
    let mut c = named(INIT2RTR, "init2rtr_qp_in", "qpn", qpn, 272);
    set(&mut c, "init2rtr_qp_in", "qpc.remote_qpn", 0x1234);
    set(&mut c, "init2rtr_qp_in", "qpc.mtu", 3);
    set(&mut c, "init2rtr_qp_in", "qpc.q_key", 9);
    set(
        &mut c,
        "init2rtr_qp_in",
        "qpc.primary_address_path.rlid",
        0x77,
    );
    set(&mut c, "init2rtr_qp_in", "qpc.rre", 1);
    // MLX5_QP_OPTPAR_RRE.
    set(&mut c, "init2rtr_qp_in", "opt_param_mask", 1 << 1);
    d.ok(&c, 16);
    let out = d.ok(&named(0x50b, "query_qp_in", "qpn", qpn, 16), 1024);
    for (field, value) in [
        ("qpc.rwe", 1),
        ("qpc.mtu", 3),
        ("qpc.remote_qpn", 0x1234),
        ("qpc.q_key", 0),
        ("qpc.rre", 1),
        ("qpc.rae", 0),
        ("qpc.primary_address_path.rlid", 0x77),
    ] {
        assert_eq!(get(&out, "query_qp_out", field), value, "{field}");
    }
}

#[test]
fn a_shared_receive_queue_of_any_sort_is_held_by_its_number() {
    let mut d = up();
    let sorts = [
        (0x90c, 0x90e, "create_rmp", "destroy_rmp_in", "rmpn", 272),
        (
            0x705,
            0x706,
            "create_xrc_srq",
            "destroy_xrc_srq_in",
            "xrc_srqn",
            272,
        ),
        (0x717, 0x718, "create_xrq", "destroy_xrq_in", "xrqn", 336),
    ];
    let mut seen = Vec::new();
    for (make, end, name, end_layout, id, len) in sorts {
        let n = create(&mut d, make, name, len, &[]);
        assert!(!seen.contains(&n), "numbers of all sorts differ");
        seen.push(n);
        let qpn = create(
            &mut d,
            0x500,
            "create_qp",
            272,
            &[("qpc.rq_type", 1), ("qpc.srqn_rmpn_xrqn", n)],
        );
        let destroy = named(end, end_layout, id, n, 16);
        assert_eq!(d.exec(&destroy, 16).status(), RES_BUSY, "{name}");
        d.ok(&named(0x501, "destroy_qp_in", "qpn", qpn, 16), 16);
        d.ok(&destroy, 16);
    }
    let mut c = cmd(0x500, 0, 272);
    set(&mut c, "create_qp_in", "qpc.rq_type", 1);
    set(&mut c, "create_qp_in", "qpc.srqn_rmpn_xrqn", seen[0]);
    assert_eq!(d.exec(&c, 16).syndrome(), Syndrome::ObjectReference.code());
}

#[test]
fn counters_come_in_bulk_and_go_as_one() {
    let mut d = up();
    let mut bulk = cmd(0x939, 0, 16);
    // MLX5_FC_BULK_256_FCS.
    set(&mut bulk, "alloc_flow_counter_in", "flow_counter_bulk", 2);
    let a = get(
        &d.ok(&bulk, 16),
        "alloc_flow_counter_out",
        "flow_counter_id",
    );
    let one = get(
        &d.ok(&cmd(0x939, 0, 16), 16),
        "alloc_flow_counter_out",
        "flow_counter_id",
    );
    assert_eq!(one, a + 256);
    let query = |n: u64, count: u64| {
        let mut q = named(0x93b, "query_flow_counter_in", "flow_counter_id", n, 32);
        set(&mut q, "query_flow_counter_in", "num_of_counters", count);
        q
    };
    d.ok(&query(a, 256), 16 + 256 * 16);
    assert_eq!(
        d.exec(&query(a, 256), 16 + 255 * 16).syndrome(),
        Syndrome::OutboxTooShort.code()
    );
    assert_eq!(
        d.exec(&query(a + 256, 2), 64).syndrome(),
        Syndrome::ObjectUnknown.code()
    );
    let middle = named(
        0x93a,
        "dealloc_flow_counter_in",
        "flow_counter_id",
        a + 7,
        16,
    );
    assert_eq!(d.exec(&middle, 16).status(), BAD_RES);
    d.ok(
        &named(0x93a, "dealloc_flow_counter_in", "flow_counter_id", a, 16),
        16,
    );
    assert_eq!(d.exec(&query(a + 7, 1), 64).status(), BAD_RES);
}

#[test]
fn general_objects_have_a_type_and_keep_their_secrets() {
    let mut d = up();
    let head = |op: u16, obj_type: u64, id: u64, len: usize| {
        let mut c = cmd(op, 0, len);
        set(&mut c, "general_obj_in_cmd_hdr", "obj_type", obj_type);
        set(&mut c, "general_obj_in_cmd_hdr", "obj_id", id);
        c
    };
    // MLX5_GENERAL_OBJECT_TYPES_ENCRYPTION_KEY, with 0x5a in its key and its key size.
    let mut key = head(0xa00, 0xc, 0, 16 + 512);
    set(&mut key[16..], "encryption_key_obj", "key_size", 1);
    set(&mut key[16..], "encryption_key_obj", "key_purpose", 3);
    key[16 + 64..16 + 64 + 256].fill(0x5a);
    let n = get(&d.ok(&key, 16), "general_obj_out_cmd_hdr", "obj_id");
    let out = d.ok(&head(0xa02, 0xc, n, 16), 16 + 512);
    assert_eq!(get(&out[16..], "encryption_key_obj", "key_size"), 1);
    assert_eq!(get(&out[16..], "encryption_key_obj", "key_purpose"), 3);
    assert!(!out.contains(&0x5a), "a key is never read back");
    // Another type's command does not find it.
    for op in [0xa01, 0xa02, 0xa03] {
        let r = d.exec(&head(op, 0x24, n, 16), 16);
        assert_eq!(
            (r.status(), r.syndrome()),
            (BAD_RES, Syndrome::ObjectUnknown.code())
        );
    }
    let r = d.exec(&head(0xa00, 0x13, 0, 64), 16);
    assert_eq!(
        (r.status(), r.syndrome()),
        (BAD_PARAM, Syndrome::GeneralType.code()),
        "not in general_obj_types"
    );
    let mut change = head(0xa01, 0xc, n, 16 + 512);
    set(
        &mut change[16..],
        "encryption_key_obj",
        "modify_field_select",
        1,
    );
    set(&mut change[16..], "encryption_key_obj", "key_purpose", 4);
    d.ok(&change, 16);
    let out = d.ok(&head(0xa02, 0xc, n, 16), 16 + 512);
    assert_eq!(get(&out[16..], "encryption_key_obj", "key_purpose"), 4);
    d.ok(&head(0xa03, 0xc, n, 16), 16);
}

#[test]
fn what_a_flow_table_entry_does_is_held() {
    let mut d = up();
    let table = create(
        &mut d,
        0x930,
        "create_flow_table",
        64,
        &[("flow_table_context.log_size", 4)],
    );
    let group = create(
        &mut d,
        0x933,
        "create_flow_group",
        1024,
        &[
            ("table_id", table),
            ("start_flow_index", 2),
            ("end_flow_index", 5),
        ],
    );
    let counter = get(
        &d.ok(&cmd(0x939, 0, 16), 16),
        "alloc_flow_counter_out",
        "flow_counter_id",
    );
    let header = {
        let mut c = cmd(0x940, 0, 24);
        set(
            &mut c,
            "alloc_modify_header_context_in",
            "num_of_actions",
            1,
        );
        get(
            &d.ok(&c, 16),
            "alloc_modify_header_context_out",
            "modify_header_id",
        )
    };
    let mut fte = cmd(0x936, 0, 832 + 8);
    for (f, v) in [
        ("table_id", table),
        ("flow_index", 3),
        ("flow_context.group_id", group),
        // MLX5_FLOW_CONTEXT_ACTION_COUNT | ACTION_MOD_HDR.
        ("flow_context.action", 0x48),
        ("flow_context.modify_header_id", header),
        ("flow_context.flow_counter_list_size", 1),
    ] {
        set(&mut fte, "set_fte_in", f, v);
    }
    fte[832..836].copy_from_slice(&(counter as u32).to_be_bytes());
    d.ok(&fte, 16);
    let drop_counter = named(
        0x93a,
        "dealloc_flow_counter_in",
        "flow_counter_id",
        counter,
        16,
    );
    let drop_header = named(
        0x941,
        "dealloc_modify_header_context_in",
        "modify_header_id",
        header,
        16,
    );
    assert_eq!(d.exec(&drop_counter, 16).status(), RES_BUSY);
    assert_eq!(d.exec(&drop_header, 16).status(), RES_BUSY);
    for index in [1, 6] {
        set(&mut fte, "set_fte_in", "flow_index", index);
        assert_eq!(
            d.exec(&fte, 16).syndrome(),
            Syndrome::ObjectField.code(),
            "{index} lies outside the group"
        );
    }
    let mut query = cmd(0x935, 0, 64);
    set(&mut query, "query_flow_group_in", "table_id", table);
    set(&mut query, "query_flow_group_in", "group_id", group);
    let out = d.ok(&query, 1024);
    assert_eq!(get(&out, "query_flow_group_out", "start_flow_index"), 2);
    assert_eq!(get(&out, "query_flow_group_out", "end_flow_index"), 5);
    let mut drop_fte = cmd(0x938, 0, 64);
    set(&mut drop_fte, "delete_fte_in", "table_id", table);
    set(&mut drop_fte, "delete_fte_in", "flow_index", 3);
    d.ok(&drop_fte, 16);
    d.ok(&drop_counter, 16);
    d.ok(&drop_header, 16);
}

#[test]
fn fields_out_of_range_are_refused() {
    type Case = (u16, &'static str, usize, &'static [(&'static str, u64)], u8);
    let refused: &[Case] = &[
        // log_max_qp_sz is 15.
        (0x500, "create_qp_in", 272, &[("qpc.log_sq_size", 15)], 0),
        (0x500, "create_qp_in", 272, &[("qpc.log_rq_size", 15)], 0),
        // log_max_cq_sz is 22.
        (
            0x400,
            "create_cq_in",
            272,
            &[("cq_context.log_cq_size", 23)],
            BAD_PARAM,
        ),
        // log_max_wq_sz is 16.
        (
            0x908,
            "create_rq_in",
            272,
            &[("ctx.wq.log_wq_sz", 17)],
            BAD_PARAM,
        ),
        // A list that is not there, and one above the maximum.
        (
            0x916,
            "create_rqt_in",
            272,
            &[
                ("rqt_context.rqt_max_size", 8),
                ("rqt_context.rqt_actual_size", 1),
            ],
            BAD_INP_LEN,
        ),
        (
            0x916,
            "create_rqt_in",
            276,
            &[("rqt_context.rqt_actual_size", 1)],
            BAD_PARAM,
        ),
        // log_max_ft_size is 22.
        (
            0x930,
            "create_flow_table_in",
            64,
            &[("flow_table_context.log_size", 23)],
            BAD_PARAM,
        ),
        // No such hierarchy; one that qos does not offer.
        (
            0x782,
            "create_scheduling_element_in",
            128,
            &[("scheduling_hierarchy", 9)],
            BAD_PARAM,
        ),
        (
            0x782,
            "create_scheduling_element_in",
            128,
            &[("scheduling_hierarchy", 2)],
            BAD_PARAM,
        ),
        (0x940, "alloc_modify_header_context_in", 24, &[], BAD_PARAM),
        (
            0x940,
            "alloc_modify_header_context_in",
            24,
            &[("num_of_actions", 2)],
            BAD_INP_LEN,
        ),
        (
            0x940,
            "alloc_modify_header_context_in",
            512,
            &[("num_of_actions", 17)],
            BAD_PARAM,
        ),
        (
            0x93d,
            "alloc_packet_reformat_context_in",
            36,
            &[("packet_reformat_context.reformat_data_size", 3)],
            BAD_INP_LEN,
        ),
        (
            0x93d,
            "alloc_packet_reformat_context_in",
            1024,
            &[("packet_reformat_context.reformat_data_size", 513)],
            BAD_PARAM,
        ),
        (
            0xa08,
            "create_umem_in",
            48,
            &[("umem.num_of_mtt", 1)],
            BAD_INP_LEN,
        ),
        (0xa08, "create_umem_in", 48, &[], BAD_PARAM),
        // More counters than there are.
        (
            0x939,
            "alloc_flow_counter_in",
            16,
            &[("flow_counter_bulk_log_size", 31)],
            LIM_ERR,
        ),
        // A table that is not there.
        (
            0x933,
            "create_flow_group_in",
            1024,
            &[("table_id", 99)],
            BAD_RES,
        ),
    ];
    let mut d = up();
    for (op, layout, len, fields, status) in refused {
        let mut c = cmd(*op, 0, *len);
        for (f, v) in *fields {
            set(&mut c, layout, f, *v);
        }
        assert_eq!(d.exec(&c, 64).status(), *status, "{layout} {fields:?}");
    }
}

#[test]
fn small_tables_keep_what_they_are_given() {
    let mut d = up();
    // L2 table.
    let mut l2 = cmd(0x829, 0, 64);
    set(&mut l2, "set_l2_table_entry_in", "table_index", 5);
    set(&mut l2, "set_l2_table_entry_in", "vlan", 0x123);
    set(
        &mut l2,
        "set_l2_table_entry_in",
        "mac_address.mac_addr_31_0",
        0xdead_beef,
    );
    d.ok(&l2, 16);
    let query = named(0x82a, "query_l2_table_entry_in", "table_index", 5, 64);
    let out = d.ok(&query, 64);
    assert_eq!(get(&out, "query_l2_table_entry_out", "vlan"), 0x123);
    assert_eq!(
        get(
            &out,
            "query_l2_table_entry_out",
            "mac_address.mac_addr_31_0"
        ),
        0xdead_beef
    );
    let delete = named(0x82b, "delete_l2_table_entry_in", "table_index", 5, 64);
    d.ok(&delete, 16);
    assert_eq!(d.exec(&delete, 16).syndrome(), Syndrome::TableIndex.code());
    set(&mut l2, "set_l2_table_entry_in", "table_index", 1 << 10);
    assert_eq!(d.exec(&l2, 16).syndrome(), Syndrome::TableIndex.code());
    // VXLAN ports: max_vxlan_udp_ports is 8.
    let port = |op: u16, n: u64| named(op, "add_vxlan_udp_dport_in", "vxlan_udp_port", n, 16);
    for n in 0..8 {
        d.ok(&port(0x827, 4789 + n), 16);
    }
    assert_eq!(
        d.exec(&port(0x827, 1), 16).syndrome(),
        Syndrome::TableFull.code()
    );
    d.ok(&port(0x828, 4789), 16);
    assert_eq!(d.exec(&port(0x828, 4789), 16).status(), BAD_PARAM);
    // Multicast groups hold their QPs.
    let qpn = create(&mut d, 0x500, "create_qp", 272, &[]);
    let mut attach = named(0x806, "attach_to_mcg_in", "qpn", qpn, 32);
    attach[16] = 0xff;
    d.ok(&attach, 16);
    assert_eq!(
        d.exec(&attach, 16).syndrome(),
        Syndrome::MulticastMember.code()
    );
    let end = named(0x501, "destroy_qp_in", "qpn", qpn, 16);
    assert_eq!(d.exec(&end, 16).status(), RES_BUSY);
    attach[..2].copy_from_slice(&0x807u16.to_be_bytes());
    d.ok(&attach, 16);
    d.ok(&end, 16);
    // Wake-on-LAN: wol_g and wol_u are offered.
    let mut wol = cmd(0x830, 0, 16);
    set(&mut wol, "set_wol_rol_in", "wol_mode_valid", 1);
    set(&mut wol, "set_wol_rol_in", "wol_mode", 0x22);
    d.ok(&wol, 16);
    assert_eq!(
        get(
            &d.ok(&cmd(0x831, 0, 16), 16),
            "query_wol_rol_out",
            "wol_mode"
        ),
        0x22
    );
    set(&mut wol, "set_wol_rol_in", "wol_mode", 0x10);
    assert_eq!(d.exec(&wol, 16).syndrome(), Syndrome::WolMode.code());
}

#[test]
fn a_table_holds_the_table_that_it_misses_to() {
    let mut d = up();
    let a = create(&mut d, 0x930, "create_flow_table", 64, &[]);
    let b = create(&mut d, 0x930, "create_flow_table", 64, &[]);
    let mut m = cmd(0x93c, 0, 64);
    for (f, v) in [
        ("table_id", a),
        ("modify_field_select", 1),
        ("flow_table_context.table_miss_action", 1),
        ("flow_table_context.table_miss_id", b),
    ] {
        set(&mut m, "modify_flow_table_in", f, v);
    }
    d.ok(&m, 16);
    let end = |n| named(0x931, "destroy_flow_table_in", "table_id", n, 64);
    assert_eq!(d.exec(&end(b), 16).status(), RES_BUSY);
    set(
        &mut m,
        "modify_flow_table_in",
        "flow_table_context.table_miss_action",
        0,
    );
    d.ok(&m, 16);
    d.ok(&end(b), 16);
    d.ok(&end(a), 16);
}

#[test]
fn a_target_is_drained_before_it_ends() {
    let mut d = up();
    let n = create(&mut d, 0x710, "create_dct", 128, &[]);
    d.ok(&named(0x712, "drain_dct_in", "dctn", n, 16), 16);
    let out = d.ok(&named(0x713, "query_dct_in", "dctn", n, 16), 128);
    // MLX5_DCTC_STATE_DRAINED.
    assert_eq!(get(&out, "query_dct_out", "dct_context_entry.state"), 2);
    d.ok(&named(0x711, "destroy_dct_in", "dctn", n, 16), 16);
}
