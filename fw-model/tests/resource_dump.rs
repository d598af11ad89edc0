// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! RESOURCE_DUMP as mlx5_core (rsc_dump.c, to memory) and mstresourcedump (inline) read it. Layouts are
//! those of mlx5_ifc.h.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::reg::resource_dump::MAX_DUMP;
use fwctl_proto::{
    layout::{View, ViewMut, get_bits, set_bits},
    layouts::{CreateMkeyIn, Mkc, ResourceDump},
    opcode as op,
};

const READ: u16 = 1;
const MENU: u16 = 0xffff;
const UNKNOWN: u32 = 0x13;
const NO_OBJECT: u32 = 2;
const TOO_LONG: u64 = 0x14;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn access(d: &mut Driver, r: &[u8]) -> Result<Vec<u8>, u32> {
    let mut c = cmd(op::ACCESS_REG, READ, 16);
    c[10..12].copy_from_slice(&0xc000u16.to_be_bytes());
    c.extend_from_slice(r);
    let reply = d.exec_any(&c, c.len());
    match reply.status() {
        0 => Ok(reply.out[16..].to_vec()),
        _ => Err(reply.syndrome()),
    }
}

fn request(kind: u16, index: u32, count: u16) -> [u8; 256] {
    let mut r = [0; 256];
    let mut m = ViewMut::<ResourceDump>::new(&mut r).unwrap();
    m.set(ResourceDump::INLINE_DUMP, 1);
    m.set(ResourceDump::SEGMENT_TYPE, kind.into());
    m.set(ResourceDump::INDEX1, index.into());
    m.set(ResourceDump::NUM_OF_OBJ1, count.into());
    r
}

/// A whole dump, piece by piece; the register goes back as it came.
fn dump(d: &mut Driver, kind: u16, index: u32, count: u16) -> Vec<u8> {
    let mut r = request(kind, index, count).to_vec();
    let mut all = Vec::new();
    for n in 1.. {
        r = access(d, &r).unwrap();
        let v = View::<ResourceDump>::new(&r).unwrap();
        assert_eq!(v.get(ResourceDump::SEQ_NUM), n & 0xf);
        let size = v.get(ResourceDump::SIZE) as usize;
        assert!((1..=208).contains(&size));
        all.extend_from_slice(&r[48..48 + size]);
        if v.get(ResourceDump::MORE_DUMP) == 0 {
            break;
        }
        assert_eq!(size, 208, "only the last piece is shorter");
    }
    all
}

/// Types and contents of the segments.
fn segments(dump: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut rest = dump;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let len = get_bits(rest, 0, 16) as usize * 4;
        assert!(len > 0);
        all.push((get_bits(rest, 16, 16) as u16, rest[4..len].to_vec()));
        rest = &rest[len..];
    }
    all
}

/// The menu: type and name of each record.
fn menu(d: &mut Driver) -> Vec<(u16, String)> {
    let all = segments(&dump(d, MENU, 0, 0));
    let types: Vec<u16> = all.iter().map(|s| s.0).collect();
    assert_eq!(types, [0xfffe, 0xfffa, 0xffff, 0xfffb]);
    let m = &all[2].1;
    let count = get_bits(m, 16, 16) as usize;
    assert_eq!(m.len(), 4 + 52 * count);
    let text = |b: &[u8]| String::from_utf8(b.split(|c| *c == 0).next().unwrap().to_vec());
    m[4..]
        .chunks(52)
        .map(|r| (get_bits(r, 16, 16) as u16, text(&r[4..20]).unwrap()))
        .collect()
}

fn mkey(d: &mut Driver) -> u32 {
    let pd = d.ok(&cmd(op::ALLOC_PD, 0, 16), 16);
    let pd = u64::from(u32::from_be_bytes(pd[8..12].try_into().unwrap()));
    let mut c = cmd(op::CREATE_MKEY, 0, 272);
    let mkc = CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY.byte();
    let mut m = ViewMut::<Mkc>::new(&mut c[mkc..]).unwrap();
    m.set(Mkc::LW, 1);
    m.set(Mkc::LR, 1);
    m.set(Mkc::PD, pd);
    m.set(Mkc::LENGTH64, 1);
    m.set(Mkc::QPN, 0xff_ffff);
    let out = d.ok(&c, 16);
    u32::from_be_bytes(out[8..12].try_into().unwrap()) << 8
}

#[test]
fn the_menu_names_what_the_driver_looks_for() {
    let mut d = up();
    let menu = menu(&mut d);
    // mlx5_rsc_sgmt_name.
    for name in ["PRM_QUERY_QP", "PRM_QUERY_CQ", "PRM_QUERY_MKEY"] {
        assert!(menu.iter().any(|r| r.1 == name), "{name}: {menu:?}");
    }
    let mut types: Vec<u16> = menu.iter().map(|r| r.0).collect();
    types.dedup();
    assert_eq!(types.len(), menu.len());
}

#[test]
fn names_are_whole_and_each_is_one_segment_s() {
    let mut menu = menu(&mut up());
    for (kind, name) in &menu {
        // The record has room for 16 bytes, of which one ends the text.
        assert!(name.len() <= 15, "{name}");
        assert!(name.starts_with("PRM_QUERY_"), "{kind:#x} {name}");
    }
    let all = menu.len();
    menu.sort_by(|a, b| a.1.cmp(&b.1));
    menu.dedup_by(|a, b| a.1 == b.1);
    assert_eq!(menu.len(), all, "names differ");
    menu.sort();
    menu.dedup_by_key(|r| r.0);
    assert_eq!(menu.len(), all, "types differ");
}

/// One object of each sort whose query is not that of a mere id at the usual place: what their query
/// commands say behind status and syndrome is what is dumped.
#[test]
fn queues_counters_entries_and_general_objects_are_dumped_too() {
    let mut d = up();
    let number = |out: &[u8]| u32::from_be_bytes(out[8..12].try_into().unwrap());
    let uar = number(&d.ok(&cmd(op::ALLOC_UAR, 0, 16), 16));
    let mut c = cmd(op::CREATE_EQ, 0, 280);
    c[28..32].copy_from_slice(&(5 << 24 | uar).to_be_bytes());
    c[272..280].copy_from_slice(&0x700_0000u64.to_be_bytes());
    let eq = number(&d.ok(&c, 16));
    let q_counter = number(&d.ok(&cmd(op::ALLOC_Q_COUNTER, 0, 16), 16));
    let flow_counter = number(&d.ok(&cmd(op::ALLOC_FLOW_COUNTER, 0, 16), 16));
    // An encryption key (type 0xc): size and purpose are bytes 10 and 11 of its body, its keys begin at 64.
    let mut c = cmd(op::CREATE_GENERAL_OBJECT, 0xc, 16 + 512);
    (c[16 + 10], c[16 + 11]) = (1, 3);
    c[16 + 64..16 + 320].fill(0x5a);
    let key = number(&d.ok(&c, 16));
    // A table of 64 entries, a group of all of them, and entries 5 and 9.
    let mut c = cmd(op::CREATE_FLOW_TABLE, 0, 64);
    set_bits(&mut c, 24 * 8 + 0x18, 8, 6);
    let table = number(&d.ok(&c, 16));
    let mut c = cmd(op::CREATE_FLOW_GROUP, 0, 1024);
    set_bits(&mut c, 0xa8, 24, u64::from(table));
    set_bits(&mut c, 0x120, 32, 63);
    let group = number(&d.ok(&c, 16));
    for flow in [5, 9] {
        let mut c = cmd(op::SET_FLOW_TABLE_ENTRY, 0, 832);
        set_bits(&mut c, 0xa8, 24, u64::from(table));
        set_bits(&mut c, 0x100, 32, flow);
        // flow_context.group_id
        set_bits(&mut c, 0x200 + 0x20, 32, u64::from(group));
        d.ok(&c, 16);
    }
    let asks = |opcode: u16, op_mod: u16, len: usize, at: (u32, u32), n: u32| {
        let mut c = cmd(opcode, op_mod, len);
        set_bits(&mut c, at.0, at.1, n.into());
        c
    };
    let mut entry = asks(op::QUERY_FLOW_TABLE_ENTRY, 0, 64, (0xa8, 24), table);
    set_bits(&mut entry, 0x100, 32, 9);
    let menu = menu(&mut d);
    for (name, (index1, index2), query, bytes) in [
        (
            "PRM_QUERY_EQ",
            (eq, 0),
            asks(op::QUERY_EQ, 0, 16, (0x58, 8), eq),
            272,
        ),
        (
            "PRM_QUERY_QCNT",
            (q_counter, 0),
            asks(op::QUERY_Q_COUNTER, 0, 32, (0xf8, 8), q_counter),
            256,
        ),
        (
            "PRM_QUERY_FCNT",
            (flow_counter, 0),
            asks(op::QUERY_FLOW_COUNTER, 0, 32, (0xe0, 32), flow_counter),
            32,
        ),
        (
            "PRM_QUERY_OBJ",
            (key, 0),
            asks(op::QUERY_GENERAL_OBJECT, 0xc, 16, (0x40, 32), key),
            16 + 512,
        ),
        ("PRM_QUERY_FTE", (table, 9), entry, 832),
    ] {
        let shown = d.ok(&query, bytes);
        let kind = menu.iter().find(|r| r.1 == name).expect(name).0;
        let mut r = request(kind, index1, 1);
        set_bits(&mut r, 0x60, 32, index2.into());
        let mut whole = Vec::new();
        let mut r = r.to_vec();
        loop {
            r = access(&mut d, &r).unwrap();
            let v = View::<ResourceDump>::new(&r).unwrap();
            whole.extend_from_slice(&r[48..48 + v.get(ResourceDump::SIZE) as usize]);
            if v.get(ResourceDump::MORE_DUMP) == 0 {
                break;
            }
        }
        let all = segments(&whole);
        assert_eq!(all.len(), 4, "{name}");
        let (got, content) = &all[2];
        assert_eq!(*got, kind, "{name}");
        let indices = [32, 64].map(|at| get_bits(content, at, 32) as u32);
        assert_eq!(indices, [index1, index2], "{name}");
        assert!(content[12..] == shown[8..], "{name}");
        assert!(!content.contains(&0x5a), "a key is never shown");
    }
    // All entries of all tables.
    let kind = menu.iter().find(|r| r.1 == "PRM_QUERY_FTE").unwrap().0;
    let mut r = request(kind, 0, 0xffff);
    let mut m = ViewMut::<ResourceDump>::new(&mut r).unwrap();
    m.set(ResourceDump::NUM_OF_OBJ2, 0xffff);
    m.set(ResourceDump::INLINE_DUMP, 0);
    m.set(ResourceDump::SIZE, 4096);
    m.set(ResourceDump::ADDRESS, 0x9_0000_0000);
    m.set(ResourceDump::MKEY, mkey(&mut d).into());
    d.guest.map(0x9_0000_0000, 4096);
    let out = access(&mut d, &r).unwrap();
    let size = View::<ResourceDump>::new(&out).unwrap();
    let size = size.get(ResourceDump::SIZE) as usize;
    let all = segments(&d.guest.bytes(0x9_0000_0000, size));
    let entries = all.iter().filter(|s| s.0 == kind);
    let entries: Vec<_> = entries.map(|s| get_bits(&s.1, 64, 32)).collect();
    assert_eq!(entries, [5, 9]);
}

#[test]
fn an_object_is_dumped_as_its_query_shows_it() {
    let mut d = up();
    let key = mkey(&mut d);
    let second = mkey(&mut d) >> 8;
    let kind = menu(&mut d);
    let kind = kind.iter().find(|r| r.1 == "PRM_QUERY_MKEY").unwrap().0;
    let mut query = cmd(op::QUERY_MKEY, 0, 16);
    set_bits(&mut query, 0x48, 24, u64::from(key >> 8));
    let shown = d.ok(&query, 272);
    let all = segments(&dump(&mut d, kind, key >> 8, 0));
    assert_eq!(all.len(), 4);
    let (got, content) = &all[2];
    assert_eq!(
        (*got, get_bits(content, 32, 32)),
        (kind, u64::from(key >> 8))
    );
    assert_eq!(content[12..12 + 264], shown[8..272]);
    // All of them, and those from an id on.
    let ids = |dump: &[u8]| -> Vec<u64> {
        let all = segments(dump);
        let own = all.iter().filter(|s| s.0 == kind);
        own.map(|s| get_bits(&s.1, 32, 32)).collect()
    };
    let both = [u64::from(key >> 8), u64::from(second)];
    assert_eq!(ids(&dump(&mut d, kind, 0, 0xffff)), both);
    assert_eq!(ids(&dump(&mut d, kind, key >> 8, 100)), both);
    assert_eq!(ids(&dump(&mut d, kind, second, 1)), both[1..]);
}

#[test]
fn what_there_is_not_is_an_error_in_the_dump() {
    let mut d = up();
    let kind = menu(&mut d)[0].0;
    for (kind, why) in [(kind, NO_OBJECT), (0x4242, UNKNOWN)] {
        let all = segments(&dump(&mut d, kind, 0x123, 0));
        let types: Vec<u16> = all.iter().map(|s| s.0).collect();
        assert_eq!(types, [0xfffe, 0xfffa, 0xfffc, 0xfffb]);
        assert_eq!(get_bits(&all[2].1, 16, 16), u64::from(why));
    }
}

#[test]
fn a_function_full_of_objects_is_dumped_up_to_the_limit() {
    let mut d = up();
    // Each is a segment of 4 + 12 + 264 bytes; a mebibyte is full before the last one.
    const SEGMENT: usize = 280;
    let keys = MAX_DUMP / SEGMENT + 10;
    let first = mkey(&mut d);
    for _ in 1..keys {
        mkey(&mut d);
    }
    let kind = menu(&mut d);
    let kind = kind.iter().find(|r| r.1 == "PRM_QUERY_MKEY").unwrap().0;
    let whole = dump(&mut d, kind, 0, 0xffff);
    assert!(whole.len() <= MAX_DUMP && whole.len() + 2 * SEGMENT > MAX_DUMP);
    let all = segments(&whole);
    let shown = all.iter().filter(|s| s.0 == kind).count();
    assert!(shown < keys && shown > keys - 20, "{shown} of {keys}");
    let (last, error) = (&all[all.len() - 1], &all[all.len() - 2]);
    assert_eq!((last.0, error.0), (0xfffb, 0xfffc));
    assert_eq!(get_bits(&error.1, 16, 16), TOO_LONG);
    // One of them is dumped as before.
    assert_eq!(segments(&dump(&mut d, kind, first >> 8, 1)).len(), 4);
}

#[test]
fn to_memory_as_the_driver_asks() {
    let mut d = up();
    let key = mkey(&mut d);
    const AT: u64 = 0x7_0000_0000;
    d.guest.map(AT, 4096);
    let inline = dump(&mut d, MENU, 0, 0);
    let mut r = request(MENU, 0, 0);
    {
        let mut m = ViewMut::<ResourceDump>::new(&mut r).unwrap();
        m.set(ResourceDump::INLINE_DUMP, 0);
        m.set(ResourceDump::MKEY, key.into());
        m.set(ResourceDump::SIZE, 4096);
        m.set(ResourceDump::ADDRESS, AT);
    }
    let out = access(&mut d, &r).unwrap();
    let v = View::<ResourceDump>::new(&out).unwrap();
    assert_eq!(v.get(ResourceDump::SIZE) as usize, inline.len());
    assert_eq!(v.get(ResourceDump::MORE_DUMP), 0);
    assert!(d.guest.bytes(AT, inline.len()) == inline);
    // A key that there is not; no room at all.
    let mut bad = r;
    ViewMut::<ResourceDump>::new(&mut bad)
        .unwrap()
        .set(ResourceDump::MKEY, 0x1234);
    assert_eq!(access(&mut d, &bad), Err(0x00e6_0016));
    ViewMut::<ResourceDump>::new(&mut r)
        .unwrap()
        .set(ResourceDump::SIZE, 3);
    let none = access(&mut d, &r).unwrap();
    let v = View::<ResourceDump>::new(&none).unwrap();
    assert_eq!(v.get(ResourceDump::SIZE), 0);
    assert_eq!(v.get(ResourceDump::MORE_DUMP), 1);
}

/// As mstresourcedump --mem does, built with libibverbs: user memory, and a key of it by
/// `mkey_umem_id`, which lies at byte 0x64 of CREATE_MKEY (UCX's copy of mlx5_ifc.h).
#[test]
fn to_user_memory_as_the_tool_asks() {
    const START: u64 = 0x5555_0000_0ff0;
    const PAGES: [u64; 2] = [0x7_0000_0000, 0x7_0001_2000];
    const OFFSET: usize = 0xff0;
    let mut d = up();
    let mut umem = cmd(op::CREATE_UMEM, 0, 16 + 32);
    umem[16 + 20..16 + 24].copy_from_slice(&(OFFSET as u32).to_be_bytes());
    umem[16 + 31] = 2; // num_of_mtt
    for page in PAGES {
        d.guest.map(page, 4096);
        // Read and write.
        umem.extend_from_slice(&(page | 3).to_be_bytes());
    }
    let umem = d.ok(&umem, 16);
    let umem = &umem[8..12];
    let pd = d.ok(&cmd(op::ALLOC_PD, 0, 16), 16);
    let pd = u64::from(u32::from_be_bytes(pd[8..12].try_into().unwrap()));
    let mut c = cmd(op::CREATE_MKEY, 0, 272);
    let mkc = CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY.byte();
    let mut m = ViewMut::<Mkc>::new(&mut c[mkc..]).unwrap();
    for (field, value) in [
        (Mkc::ACCESS_MODE_1_0, 1),
        (Mkc::LW, 1),
        (Mkc::LR, 1),
        (Mkc::PD, pd),
        (Mkc::QPN, 0xff_ffff),
        (Mkc::START_ADDR, START),
        (Mkc::LEN, 0x1000),
    ] {
        m.set(field, value);
    }
    c[12] |= 0x40; // mkey_umem_valid
    c[0x64..0x68].copy_from_slice(umem);
    let out = d.ok(&c, 16);
    let index = u32::from_be_bytes(out[8..12].try_into().unwrap());
    let inline = dump(&mut d, MENU, 0, 0);
    let mut r = request(MENU, 0, 0);
    let mut m = ViewMut::<ResourceDump>::new(&mut r).unwrap();
    m.set(ResourceDump::INLINE_DUMP, 0);
    m.set(ResourceDump::MKEY, u64::from(index) << 8);
    m.set(ResourceDump::SIZE, 0x1000);
    m.set(ResourceDump::ADDRESS, START);
    let out = access(&mut d, &r).unwrap();
    let v = View::<ResourceDump>::new(&out).unwrap();
    assert_eq!(v.get(ResourceDump::SIZE) as usize, inline.len());
    // 16 bytes at the end of the first page, and the second one.
    let mut written = d.guest.bytes(PAGES[0] + OFFSET as u64, 16);
    written.extend(d.guest.bytes(PAGES[1], inline.len() - 16));
    assert_eq!(written, inline);
    // As long as there is the key, its memory stays.
    let mut destroy = cmd(op::DESTROY_UMEM, 0, 16);
    destroy[8..12].copy_from_slice(umem);
    assert_ne!(d.exec_any(&destroy, 16).status(), 0);
    let mut key = cmd(op::DESTROY_MKEY, 0, 16);
    key[8..12].copy_from_slice(&index.to_be_bytes());
    d.ok(&key, 16);
    d.ok(&destroy, 16);
}

#[test]
fn another_dump_ends_the_one_before() {
    let mut d = up();
    let first = access(&mut d, &request(MENU, 0, 0)).unwrap();
    access(&mut d, &request(MENU, 0, 0)).unwrap();
    assert_eq!(access(&mut d, &first), Err(0x00e6_0015));
}
