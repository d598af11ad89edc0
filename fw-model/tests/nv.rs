// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration items as mstconfig and the kernel's nv_param.c read and set them. Types, lengths and
//! parameters are those of mstflint's database.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{EventPath, Input, Profile, reg::limits};
use fwctl_proto::{
    layout::{View, get_bits, set_bits},
    layouts::CmdHcaCap,
    mst::nv::{ITEMS, Item, named},
    opcode as op,
};

const READ: u16 = 1;
const WRITE: u16 = 0;
const MNVDA: u16 = 0x9024;
const MNVDI: u16 = 0x9025;
const MNVQC: u16 = 0x9030;
const MNVIA: u16 = 0x9033;
const MNVGC: u16 = 0x9034;
const MNVGN: u16 = 0x9035;
const HOST_ID_VALID: u16 = 1 << 9;
const NEXT: u8 = 0;
const CURRENT: u8 = 1;
const DEFAULT: u8 = 2;
const BAD_PARAM: u8 = 3;
const UNKNOWN: (u8, u32) = (BAD_PARAM, 0x00e6_0006);

fn up(profile: &str) -> Driver {
    let mut d = Driver::new(profile);
    d.bring_up();
    d
}

fn access(d: &mut Driver, id: u16, op_mod: u16, r: &[u8]) -> Result<Vec<u8>, (u8, u32)> {
    let mut c = cmd(op::ACCESS_REG, op_mod, 16);
    c[10..12].copy_from_slice(&id.to_be_bytes());
    c.extend_from_slice(r);
    let reply = d.exec_any(&c, c.len());
    match reply.status() {
        0 => Ok(reply.out[16..].to_vec()),
        s => Err((s, reply.syndrome())),
    }
}

/// The type word of an item of port 1, function 0, host 0 or module 0.
fn word(i: &Item) -> u32 {
    let port = if i.class == 1 { 1 << 16 } else { 0 };
    u32::from(i.class) << 24 | port | i.id
}

/// A header whose host and function count: host_id_valid is set.
fn header(mode: u8, length: usize, word: u32) -> Vec<u8> {
    let mut r = vec![0; 12];
    r[1] = mode << 6;
    r[2..4].copy_from_slice(&(length as u16 | HOST_ID_VALID).to_be_bytes());
    r[4..8].copy_from_slice(&word.to_be_bytes());
    r
}

/// Length and data of an item, as mstconfig asks: 256 bytes.
fn get(d: &mut Driver, mode: u8, word: u32) -> Result<(usize, Vec<u8>), (u8, u32)> {
    let mut r = header(mode, 256, word);
    r.resize(268, 0);
    let out = access(d, MNVDA, READ, &r)?;
    let length = get_bits(&out, 23, 9) as usize;
    Ok((length, out[12..].to_vec()))
}

fn set(d: &mut Driver, word: u32, value: &[u8]) -> Result<(), (u8, u32)> {
    let mut r = header(NEXT, value.len(), word);
    r.extend_from_slice(value);
    access(d, MNVDA, WRITE, &r).map(|_| ())
}

#[test]
fn every_item_is_there_with_its_length_and_version() {
    let mut d = up("connectx7");
    for i in ITEMS {
        let name = i.layout.name;
        let mut ask = vec![0; 8];
        ask[..4].copy_from_slice(&word(i).to_be_bytes());
        let q = access(&mut d, MNVQC, READ, &ask).unwrap();
        assert_eq!(q[..4], ask[..4], "{name}");
        if i.layout.bytes() > 256 {
            assert_eq!(
                (q[7], get(&mut d, NEXT, word(i))),
                (0, Err(UNKNOWN)),
                "{name}"
            );
            continue;
        }
        let can = 1 | u8::from(!i.capability) << 1;
        assert_eq!(q[7], i.version << 4 | can, "{name}");
        for mode in [NEXT, CURRENT, DEFAULT] {
            let (length, data) = get(&mut d, mode, word(i)).unwrap();
            assert_eq!(length, i.layout.bytes(), "{name}");
            assert_eq!(data.len(), 256);
        }
        let (_, mut own) = get(&mut d, NEXT, word(i)).unwrap();
        own.truncate(i.layout.bytes());
        let expected = if i.capability {
            Err((BAD_PARAM, 0x00e6_0002))
        } else {
            Ok(())
        };
        assert_eq!(set(&mut d, word(i), &own), expected, "{name}");
    }
}

/// What mlx5_core makes of a wrong version and a wrong length, and mstconfig over fwctl: its map of the
/// statuses of MNVDA has 2 for a version that is not supported, 3 for an unknown item, 8 for a limit, 0x50
/// for a length.
#[test]
fn wrong_versions_and_lengths_are_refused_and_change_nothing() {
    const LENGTH: (u8, u32) = (0x50, 0x00e6_0007);
    const VERSION: (u8, u32) = (2, 0x00e6_0018);
    let mut d = up("connectx7");
    let value = [0x80, 0, 0, 0, 0x80, 0, 0, 8, 0, 0, 0, 0];
    set(&mut d, 0x80, &value).unwrap();
    let send = |d: &mut Driver, version: u8, word, length, data: &[u8]| {
        let mut r = header(NEXT, length, word);
        r[2] |= version << 4;
        r.extend_from_slice(data);
        access(d, MNVDA, WRITE, &r).map(|_| ())
    };
    for version in [1, 5, 15] {
        assert_eq!(
            send(&mut d, version, 0x80, 12, &[0; 12]),
            Err(VERSION),
            "{version}"
        );
    }
    for length in [0, 1, 7, 11, 13, 16, 256, 511] {
        assert_eq!(
            send(&mut d, 0, 0x80, length, &[0; 256]),
            Err(LENGTH),
            "{length}"
        );
    }
    // More than the inbox carries.
    assert_eq!(send(&mut d, 0, 0x80, 12, &[0; 8]), Err(LENGTH));
    // nv_global_pci_conf is item 0x80 of class 0; neither 0xfff nor class 4 is there.
    for word in [0xfff, 0x0400_0080] {
        assert_eq!(
            send(&mut d, 0, word, 12, &[0; 12]),
            Err(UNKNOWN),
            "{word:#x}"
        );
    }
    assert_eq!(get(&mut d, NEXT, 0x80).unwrap().1[..12], value);
    // nv_sw_offload_conf has version 1: mstconfig sends 0, and mlx5_core what it read.
    for version in [0, 1] {
        assert_eq!(
            send(&mut d, version, 0x10a, 8, &[0; 8]),
            Ok(()),
            "{version}"
        );
    }
    assert_eq!(send(&mut d, 2, 0x10a, 8, &[0; 8]), Err(VERSION));
    // The beginning of an item, as of an older layout.
    assert_eq!(send(&mut d, 0, 0x80, 4, &[0x80, 0, 0, 0]), Ok(()));
    let (length, data) = get(&mut d, NEXT, 0x80).unwrap();
    assert_eq!(
        (length, &data[..12]),
        (4, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..])
    );
}

#[test]
fn what_is_set_is_there_at_the_next_boot_until_it_is_taken_back() {
    let mut d = up("connectx7");
    let item = named("nv_global_pci_conf").unwrap();
    let mut value = vec![0; item.layout.bytes()];
    for (name, v) in [("sriov_valid", 1), ("sriov_en", 1), ("total_vfs", 8)] {
        let f = item.layout.fields.iter().find(|f| f.name == name).unwrap();
        set_bits(&mut value, f.offset, f.width, v);
    }
    // Bit 31 of dword 0, bits 31 and 15:0 of dword 1.
    assert_eq!(value[..8], [0x80, 0, 0, 0, 0x80, 0, 0, 8]);
    let data = |d: &mut Driver, mode| get(d, mode, 0x80).unwrap().1[..12].to_vec();
    set(&mut d, 0x80, &value).unwrap();
    let zeros = vec![0; 12];
    assert_eq!(
        (data(&mut d, NEXT), data(&mut d, CURRENT)),
        (value.clone(), zeros.clone())
    );
    assert_eq!(data(&mut d, DEFAULT), zeros);
    let boot = |d: &mut Driver| {
        d.submit(Input::PowerCycle);
        d.now.0 += 1_000_000_000;
        d.clear_queue();
        d.bring_up();
    };
    boot(&mut d);
    assert_eq!(data(&mut d, CURRENT), value);
    access(&mut d, MNVDI, WRITE, &header(NEXT, 0, 0x80)).unwrap();
    assert_eq!(
        (data(&mut d, NEXT), data(&mut d, CURRENT)),
        (zeros.clone(), value.clone())
    );
    set(&mut d, 0x80, &value).unwrap();
    access(&mut d, MNVIA, WRITE, &[0; 8]).unwrap();
    assert_eq!(
        (data(&mut d, NEXT), data(&mut d, CURRENT)),
        (zeros.clone(), value)
    );
    boot(&mut d);
    assert_eq!(data(&mut d, CURRENT), zeros);
}

#[test]
fn what_is_not_there_is_refused() {
    let mut d = up("connectx7");
    for word in [
        0x0000_0000,
        0x00ff_ffff,
        0x2200_0080,
        // Port 0 and 2 of one; function 1, host 1, module 1.
        0x0100_0012,
        0x0102_0012,
        0x0300_0480,
        0x0304_0080,
        0x0900_4000 | ITEMS.iter().find(|i| i.class == 9).unwrap().id,
    ] {
        assert_eq!(get(&mut d, NEXT, word), Err(UNKNOWN), "{word:#x}");
        assert_eq!(set(&mut d, word, &[0; 4]), Err(UNKNOWN), "{word:#x}");
        let di = access(&mut d, MNVDI, WRITE, &header(NEXT, 0, word));
        assert_eq!(di, Err(UNKNOWN), "{word:#x}");
        let q = access(
            &mut d,
            MNVQC,
            READ,
            &[&word.to_be_bytes()[..], &[0; 4]].concat(),
        );
        // It has no host_id_valid: what it says is of the function that asks.
        let there = if word >> 24 == 3 {
            [0, 0, 0, 3]
        } else {
            [0; 4]
        };
        assert_eq!(q.unwrap()[4..], there, "{word:#x}");
    }
    assert_eq!(
        set(&mut d, 0x80, &[0; 16]),
        Err((0x50, 0x00e6_0007)),
        "12 bytes"
    );
    let field = Err((BAD_PARAM, 0x00e6_0004));
    assert_eq!(get(&mut d, 3, 0x80).map(|_| ()), field);
    let mut all_of_a_kind = [0; 8];
    all_of_a_kind[3] = 1;
    assert_eq!(
        access(&mut d, MNVIA, WRITE, &all_of_a_kind).map(|_| ()),
        field
    );
    let read_only = Err((BAD_PARAM, 0x00e6_0002));
    let cap = access(&mut d, MNVDI, WRITE, &header(NEXT, 0, 0x81));
    assert_eq!(cap.map(|_| ()), read_only);
}

#[test]
fn a_profile_says_what_nobody_has_set() {
    let text = "inherits = \"connectx7\"\n[nv.nv_global_pci_conf]\nsriov_en = 1\ntotal_vfs = 3\n";
    let mut d = Driver::of(Profile::parse(text, "mine").unwrap());
    d.bring_up();
    for mode in [NEXT, CURRENT, DEFAULT] {
        let (_, data) = get(&mut d, mode, 0x80).unwrap();
        assert_eq!(data[4..8], [0x80, 0, 0, 3], "{mode}");
    }
    // sriov_support, max_vfs_per_pf_valid, max_vfs_per_pf of connectx7.
    let (_, cap) = get(&mut d, NEXT, 0x81).unwrap();
    let item = named("nv_global_pci_cap").unwrap();
    let said = |name| {
        let f = item.layout.fields.iter().find(|f| f.name == name).unwrap();
        get_bits(&cap, f.offset, f.width)
    };
    assert_eq!(
        ["sriov_support", "max_vfs_per_pf_valid", "fpp_support"].map(said),
        [1, 1, 0]
    );
    assert_eq!(said("max_vfs_per_pf"), 127);
    set(&mut d, 0x80, &[0; 12]).unwrap();
    assert_eq!(get(&mut d, NEXT, 0x80).unwrap().1[..12], [0; 12]);
    assert_eq!(get(&mut d, DEFAULT, 0x80).unwrap().1[7], 3);
    let wrong = |t: &str| {
        let text = format!("inherits = \"connectx7\"\n{t}");
        Profile::parse(&text, "mine").unwrap_err().to_string()
    };
    assert!(
        wrong("[nv.nv_nothing]\nx = 1\n").contains("nv.nv_nothing: there is no configuration item")
    );
    assert!(wrong("[nv.nv_global_pci_conf]\nvfs = 1\n").contains("nv.nv_global_pci_conf."));
    let mut d = up("all-caps");
    let caps = ITEMS.iter().filter(|i| i.capability);
    for i in caps {
        let (length, data) = get(&mut d, NEXT, word(i)).unwrap();
        assert_eq!(data[..length], vec![0xff; length], "{}", i.layout.name);
    }
}

#[test]
fn the_registers_say_what_can_be_read() {
    let mut d = up("connectx7");
    let gc = access(&mut d, MNVGC, READ, &[0; 16]).unwrap();
    let what = "items of other hosts, current and factory settings";
    assert_eq!(gc[..4], [0, 0, 0, 7], "{what}");
}

#[test]
fn what_was_set_is_gone_through_one_by_one() {
    let mut d = up("connectx7");
    let next = |d: &mut Driver, pointer: u32| {
        let mut r = vec![0; 28 + 128];
        r[..4].copy_from_slice(&pointer.to_be_bytes());
        let out = access(d, MNVGN, READ, &r).unwrap();
        let item = &out[16..];
        let length = get_bits(item, 23, 9) as usize;
        let word = get_bits(item, 32, 32) as u32;
        (
            get_bits(&out, 0, 32) as u32,
            word,
            item[12..12 + length].to_vec(),
        )
    };
    assert_eq!(next(&mut d, 0), (0, 0, vec![]));
    set(&mut d, 0x0300_0080, &[5; 4]).unwrap();
    set(&mut d, 0x9b, &[7; 16]).unwrap();
    let mut all = Vec::new();
    let mut pointer = 0;
    loop {
        let (to, word, value) = next(&mut d, pointer);
        if to == 0 {
            break;
        }
        pointer = to;
        all.push((word, value));
    }
    assert_eq!(all, [(0x9b, vec![7; 16]), (0x0300_0080, vec![5; 4])]);
    assert_eq!(next(&mut d, u32::MAX).0, 0);
}

/// `tools_open_mnvgn` has 16 bytes, an item's header of 12 and 128 of data: more would overrun a tool.
#[test]
fn of_a_long_item_mnvgn_tells_the_beginning() {
    // nv_ls_nv_public_key_1: any bytes.
    const LONG: u32 = 0x19d;
    let mut d = up("connectx7");
    let value: Vec<u8> = (0..=255).collect();
    set(&mut d, LONG, &value).unwrap();
    for (asked, told) in [
        (28 + 128, 128),
        (28 + 256, 128),
        (28 + 64, 64),
        (28, 0),
        (16, 0),
    ] {
        let out = access(&mut d, MNVGN, READ, &vec![0; asked]).unwrap();
        assert_eq!(get_bits(&out, 0, 32) as u32, LONG, "{asked}");
        assert_eq!(get_bits(&out[16..], 23, 9), told, "{asked}");
        let data = out.get(28..28 + told as usize).unwrap_or_default();
        assert_eq!(data, &value[..told as usize], "{asked}");
        assert!(
            out.iter().skip(28 + told as usize).all(|b| *b == 0),
            "{asked}"
        );
    }
    assert_eq!(
        get(&mut d, NEXT, LONG).unwrap(),
        (256, value),
        "MNVDA tells all of it"
    );
}

/// `writer_id`, bits 20:16 of the first dword: 9 is mstconfig, 0xc its set_raw.
#[test]
fn who_set_an_item_is_remembered() {
    let mut d = up("connectx7");
    let writer = |d: &mut Driver| {
        let mut r = header(NEXT, 256, 0x80);
        r[1] |= 5;
        let read = access(d, MNVDA, READ, &[r, vec![0; 256]].concat()).unwrap();
        let next = access(d, MNVGN, READ, &[0; 156]).unwrap();
        (read[1] & 0x1f, next[17] & 0x1f)
    };
    assert_eq!(writer(&mut d).0, 0);
    for by in [9, 0xc, 0] {
        let mut r = header(NEXT, 12, 0x80);
        r[1] |= by;
        access(&mut d, MNVDA, WRITE, &[r, vec![0; 12]].concat()).unwrap();
        assert_eq!(writer(&mut d), (by, by));
    }
}

/// Classes 0x81, 0x43, 0x83 and 0xC3: all ports; all functions of a host, a function of all hosts, all
/// functions of all hosts.
#[test]
fn a_type_word_may_name_all_ports_or_functions() {
    let mut d = up("connectx7");
    d.card.add_function(EventPath::Channel).unwrap();
    let pf = |f: u32| 0x0300_0080 | f << 10;
    let zero = vec![0; 16];
    let both = |d: &mut Driver, a, b| [a, b].map(|w| get(d, NEXT, w).unwrap().1[..16].to_vec());
    for (n, class, sets) in [
        (1u8, 0x43u32, [true; 2]),
        (2, 0xc3, [true; 2]),
        (3, 0x83, [true, false]),
    ] {
        let all = class << 24 | 0x80;
        let value = vec![n; 16];
        set(&mut d, all, &value).unwrap();
        let expected = sets.map(|s| if s { value.clone() } else { zero.clone() });
        assert_eq!(both(&mut d, pf(0), pf(1)), expected, "{class:#x}");
        assert_eq!(get(&mut d, NEXT, all).unwrap().1[..16], value);
        access(&mut d, MNVDI, WRITE, &header(NEXT, 0, all)).unwrap();
        assert_eq!(
            both(&mut d, pf(0), pf(1)),
            [zero.clone(), zero.clone()],
            "{class:#x}"
        );
    }
    // Of all hosts the second function; there is no third, and no host 1.
    set(&mut d, 0x8300_0000 | 1 << 10 | 0x80, &[4; 16]).unwrap();
    assert_eq!(both(&mut d, pf(0), pf(1)), [zero, vec![4; 16]]);
    for none in [0x8300_0000 | 2 << 10 | 0x80, 0x4300_0000 | 1 << 18 | 0x80] {
        assert_eq!(set(&mut d, none, &[4; 16]), Err(UNKNOWN), "{none:#x}");
    }
    // nv_vpi_link_type of all ports: default_link_type InfiniBand, in bits 2 and 3.
    set(&mut d, 0x8100_0012, &[0, 0, 0, 4]).unwrap();
    for port in [1 << 16, 2 << 16] {
        assert_eq!(
            get(&mut d, NEXT, 0x0100_0012 | port).unwrap().1[..4],
            [0, 0, 0, 4]
        );
    }
}

/// The three columns of `mstconfig -e q` on a card that nobody has set anything on.
#[test]
fn on_a_fresh_card_all_three_values_are_the_same() {
    for profile in Profile::names() {
        let mut d = up(profile);
        for i in ITEMS.iter().filter(|i| i.layout.bytes() <= 256) {
            let [next, current, default] =
                [NEXT, CURRENT, DEFAULT].map(|mode| get(&mut d, mode, word(i)).unwrap());
            assert_eq!(next, default, "{profile} {}", i.layout.name);
            assert_eq!(current, default, "{profile} {}", i.layout.name);
        }
    }
}

/// nv_pf_pci_conf as devlink and mstconfig ask for it: class 3, no host_id_valid, no function.
#[test]
fn without_host_id_valid_an_item_is_the_asking_functions() {
    let mut d = up("connectx7");
    let first = d.f;
    let second = d.card.add_function(EventPath::EventQueues).unwrap();
    d.f = second;
    d.set_up_queue();
    d.bring_up();
    let pf = |f: u32| 0x0300_0080 | f << 10;
    let own = |word: u32| {
        let mut r = header(NEXT, 16, word);
        r[2] &= !2;
        r
    };
    let set_own = |d: &mut Driver, word, n: u8| {
        access(d, MNVDA, WRITE, &[own(word), vec![n; 16]].concat()).map(|_| ())
    };
    let both = |d: &mut Driver| [0, 1].map(|f| get(d, NEXT, pf(f)).unwrap().1[0]);
    // The numbers in the word mean nothing, also those of what there is not.
    for (f, n, word, expected) in [
        (second, 1, pf(0), [0, 1]),
        (first, 2, pf(0), [2, 1]),
        (first, 3, pf(1), [3, 1]),
        (second, 4, pf(200) | 63 << 18, [3, 4]),
    ] {
        d.f = f;
        set_own(&mut d, word, n).unwrap();
        assert_eq!(both(&mut d), expected, "{f:?} {word:#x}");
        let read = access(&mut d, MNVDA, READ, &[own(word), vec![0; 16]].concat()).unwrap();
        assert_eq!(read[..12], own(word)[..], "the header as it was sent");
        assert_eq!(read[12..], [n; 16]);
    }
    d.f = second;
    access(&mut d, MNVDI, WRITE, &own(pf(0))).unwrap();
    assert_eq!(both(&mut d), [3, 0]);
    // MNVQC has no host_id_valid, and says what the kind of item can do.
    for word in [pf(0), pf(200)] {
        let q = [&word.to_be_bytes()[..], &[0; 4]].concat();
        assert_eq!(access(&mut d, MNVQC, READ, &q).unwrap()[7] & 3, 3);
    }
    // MNVGN names the function: host_id_valid is set.
    set_own(&mut d, pf(0), 5).unwrap();
    let mut ask = vec![0; 172];
    ask[..4].copy_from_slice(&pf(0).to_be_bytes());
    let gn = access(&mut d, MNVGN, READ, &ask).unwrap();
    assert_eq!(gn[..4], pf(1).to_be_bytes());
    assert_eq!(gn[16..24], header(NEXT, 16, pf(1))[..8]);
}

/// Fields of the general capability page, current or at most.
fn caps(d: &mut Driver, op_mod: u16) -> [u64; 4] {
    let page = d.ok(&cmd(op::QUERY_HCA_CAP, op_mod, 16), 4112);
    let v = View::<CmdHcaCap>::new(&page[16..]).unwrap();
    [
        CmdHcaCap::UCTX_CAP,
        CmdHcaCap::LOG_MAX_UCTX,
        CmdHcaCap::ROCE,
        CmdHcaCap::PORT_TYPE,
    ]
    .map(|f| v.get(f))
}

/// Sets a parameter in the next-boot value that is there, as mstconfig does it.
fn change(d: &mut Driver, item: &str, parameter: &str, value: u64) {
    try_change(d, item, parameter, value).unwrap();
}

fn try_change(d: &mut Driver, item: &str, parameter: &str, value: u64) -> Result<(), (u8, u32)> {
    let item = named(item).unwrap();
    let field = item.layout.fields.iter().find(|f| f.name == parameter);
    let field = field.unwrap();
    let (length, mut data) = get(d, NEXT, word(item)).unwrap();
    data.truncate(length);
    set_bits(&mut data, field.offset, field.width, value);
    set(d, word(item), &data)
}

fn boot(d: &mut Driver) {
    d.submit(Input::PowerCycle);
    d.now.0 += 1_000_000_000;
    d.clear_queue();
    d.bring_up();
}

#[test]
fn virtual_functions_are_as_many_as_settings_and_card_allow() {
    let mut d = up("connectx7");
    // query_esw_functions_out: host_params_context is at byte 16, host_total_vfs at its byte 4.
    let total = |d: &mut Driver| {
        let out = d.ok(&cmd(op::QUERY_ESW_FUNCTIONS, 0, 16), 128);
        assert_eq!(out[16..20], [0; 4], "none is enabled");
        let shown = u16::from_be_bytes([out[20], out[21]]);
        assert_eq!(shown, d.card.total_vfs(d.f));
        shown
    };
    assert_eq!(total(&mut d), 0);
    change(&mut d, "nv_global_pci_conf", "total_vfs", 8);
    boot(&mut d);
    assert_eq!(total(&mut d), 0, "SRIOV_EN is not set");
    change(&mut d, "nv_global_pci_conf", "sriov_en", 1);
    assert_eq!(total(&mut d), 0, "not yet");
    boot(&mut d);
    assert_eq!(total(&mut d), 8);
    // nv_global_pci_cap.max_vfs_per_pf is 127.
    change(&mut d, "nv_global_pci_conf", "total_vfs", 127);
    boot(&mut d);
    assert_eq!(total(&mut d), 127);
    let layout_v1 = d.exec(&cmd(op::QUERY_ESW_FUNCTIONS, 1 << 14, 16), 128);
    assert_eq!(layout_v1.status(), 3, "BAD_PARAM");
}

/// As mlx5_core's devlink sets `total_vfs` and `enable_sriov`: PF_NUM_OF_VF_VALID of the card, then
/// total_vf and pf_total_vf_en of the function.
#[test]
fn each_function_may_have_a_number_of_its_own() {
    let mut d = up("connectx7");
    let total = |d: &Driver| d.card.total_vfs(d.f);
    for (parameter, value) in [
        ("sriov_valid", 1),
        ("sriov_en", 1),
        ("per_pf_total_vf", 1),
        ("total_vfs", 3),
    ] {
        change(&mut d, "nv_global_pci_conf", parameter, value);
    }
    change(&mut d, "nv_pf_pci_conf", "total_vf", 9);
    boot(&mut d);
    assert_eq!(total(&d), 0, "not enabled for this function");
    change(&mut d, "nv_pf_pci_conf", "pf_total_vf_en", 1);
    boot(&mut d);
    assert_eq!(total(&d), 9);
    change(&mut d, "nv_pf_pci_conf", "total_vf", 1000);
    boot(&mut d);
    assert_eq!(total(&d), 127, "max_vfs_per_pf");
    change(&mut d, "nv_global_pci_conf", "per_pf_total_vf", 0);
    boot(&mut d);
    assert_eq!(total(&d), 3);
}

/// `nv_base_mac_guid` and `nv_base_mac_guid_cap` as `mstflint q full` reads them: the address in the low
/// six bytes of the first two dwords, the GUID in the next two; GUIDs and addresses in halves of a dword.
#[test]
fn the_base_addresses_are_the_cards() {
    let mut d = up("connectx7");
    let mac = d.card.profile().mac_base();
    let guid = [
        mac[0] ^ 2,
        mac[1],
        mac[2],
        0xff,
        0xfe,
        mac[3],
        mac[4],
        mac[5],
    ];
    for mode in [NEXT, DEFAULT] {
        let (length, data) = get(&mut d, mode, 2).unwrap();
        assert_eq!(
            (length, &data[..16]),
            (16, &[&[0, 0], &mac[..], &guid[..]].concat()[..])
        );
        assert_eq!(
            get(&mut d, mode, 3).unwrap().1[..8],
            [0, 0, 0, 0, 0, 16, 0, 16]
        );
    }
}

/// Limits are those of mstflint's database: params.min_val, max_val and rule.
#[test]
fn values_that_the_database_rules_out_are_refused() {
    const RANGE: (u8, u32) = (8, 0x00e6_0017);
    let mut d = up("connectx7");
    let pci = "nv_global_pci_conf";
    // At most $nv_global_pci_cap.max_vfs_per_pf, which the profile says is 127.
    assert_eq!(try_change(&mut d, pci, "total_vfs", 128), Err(RANGE));
    assert_eq!(try_change(&mut d, pci, "total_vfs", 127), Ok(()));
    // 1 to 100.
    let (item, factor) = ("nv_roce_cc_ecn", "rpg_min_dec_fac");
    assert_eq!(try_change(&mut d, item, factor, 101), Err(RANGE));
    assert_eq!(try_change(&mut d, item, factor, 100), Ok(()));
    assert_eq!(try_change(&mut d, item, factor, 0), Err(RANGE));
    // A rule: ($partial_wr_cache_mode==2 && $nv_global_pci_cap.partial_wr_cache_mode_function==1),
    // and that capability is not the profile's.
    let mode = "partial_wr_cache_mode";
    assert_eq!(try_change(&mut d, pci, mode, 2), Err(RANGE));
    assert_eq!(try_change(&mut d, pci, mode, 1), Ok(()));
}

/// A parameter with a list of values has no others; what an item has already or has by default is the
/// card's own, and is taken whatever it is.
#[test]
fn values_that_the_database_does_not_list_are_refused() {
    const RANGE: (u8, u32) = (8, 0x00e6_0017);
    let mut d = up("connectx7");
    // DEVICE_DEFAULT, UNRESTRICTED, FIPS_LEVEL_2.
    let (item, policy) = ("nv_crypto_conf", "crypto_policy");
    for value in 0..=2 {
        assert_eq!(try_change(&mut d, item, policy, value), Ok(()), "{value}");
    }
    for value in [3, 7, 0xff] {
        assert_eq!(try_change(&mut d, item, policy, value), Err(RANGE));
    }
    // IB is 1 and ETH is 2.
    let (item, link) = ("nv_vpi_link_type", "default_link_type");
    for value in [0, 3] {
        assert_eq!(try_change(&mut d, item, link, value), Err(RANGE));
    }
    for value in [1, 2] {
        assert_eq!(try_change(&mut d, item, link, value), Ok(()));
    }
    // Of an array each element: DEVICE_DEFAULT, HOST_0 to HOST_7 (8), EMBEDDED_CPU (15).
    let item = named("nv_global_pci_conf_3").unwrap();
    let owner = item.layout.fields.iter().find(|f| f.name == "dport_owner");
    let owner = owner.unwrap();
    assert_eq!((owner.width, owner.count), (8, 16));
    for (value, result) in [(14, Err(RANGE)), (15, Ok(()))] {
        let mut data = vec![0; item.layout.bytes()];
        set_bits(&mut data, owner.offset + 15 * 8, 8, value);
        assert_eq!(set(&mut d, word(item), &data), result, "{value}");
    }
    // A card whose own value is not listed: others of the item can be set, and it can be had back.
    let text = "inherits = \"connectx7\"\n[nv.nv_crypto_conf]\ncrypto_policy = 9\n";
    let mut d = Driver::of(Profile::parse(text, "odd").unwrap());
    d.bring_up();
    let item = named("nv_crypto_conf").unwrap();
    let (length, mut own) = get(&mut d, NEXT, word(item)).unwrap();
    own.truncate(length);
    for (value, result) in [(9, Ok(())), (1, Ok(())), (9, Ok(())), (8, Err(RANGE))] {
        assert_eq!(try_change(&mut d, item.layout.name, policy, value), result);
    }
    // Less than the item: what is not sent is not looked at.
    assert_eq!(set(&mut d, word(item), &own[..4]), Ok(()));
}

/// The rules of total_vfs and sriov_en, and the intermediate result that they and the sizes of the UAR
/// BARs use: `log2((max_total_bar - log_pf_uar_bar_size^2) / total_vfs)` is at most max_total_bar.
#[test]
fn rules_over_intermediate_results_bind_too() {
    const RANGE: (u8, u32) = (8, 0x00e6_0017);
    let with = |cap: &str| {
        let text = format!("inherits = \"connectx7\"\n[nv.nv_global_pci_cap]\n{cap}");
        let mut d = Driver::of(Profile::parse(&text, "rules").unwrap());
        d.bring_up();
        d
    };
    let pci = "nv_global_pci_conf";
    // num_pfs * (num_pf_msix + total_vfs * num_vf_msix) <= max_total_msix.
    let mut d = with(
        "max_total_msix_valid = 1\nmax_total_msix = 100\nmax_num_pfs = 2\n\
         max_num_pf_msix = 63\nmax_num_vf_msix = 63",
    );
    change(&mut d, pci, "num_pfs", 1);
    change(&mut d, pci, "num_pf_msix", 20);
    change(&mut d, pci, "num_vf_msix", 10);
    assert_eq!(
        try_change(&mut d, pci, "total_vfs", 9),
        Err(RANGE),
        "20 + 9 * 10"
    );
    assert_eq!(
        try_change(&mut d, pci, "total_vfs", 8),
        Ok(()),
        "20 + 8 * 10"
    );
    // log2((2 - 0) / 1) is 1 and at most 2; of an unlimited one nothing is asked.
    let mut d = with("max_total_bar_valid = 1\nmax_total_bar = 2\nmax_log_pf_uar_bar_size = 10");
    change(&mut d, pci, "total_vfs", 1);
    assert_eq!(try_change(&mut d, pci, "sriov_en", 1), Ok(()));
    // 2 - 3^2 is below 0, of which there is no logarithm: nothing can be said.
    assert_eq!(try_change(&mut d, pci, "log_pf_uar_bar_size", 3), Ok(()));
    assert_eq!(
        try_change(&mut d, pci, "log_pf_uar_bar_size", 11),
        Err(RANGE),
        "max_val"
    );
}

/// mstconfig checks all limits of an item when it sets one parameter: what a card has by default must
/// keep to them, or nothing of the item can be set with it.
#[test]
fn the_defaults_of_cards_keep_to_the_limits() {
    // Of all-caps the least values are all ones too, and nothing keeps to those.
    let cards = |n: &&str| !["minimal", "all-caps"].contains(n);
    for name in Profile::names().filter(cards) {
        let p = Profile::builtin(name).unwrap();
        let value = |item: &Item, param: &str| {
            let f = item.layout.fields.iter().find(|f| f.name == param)?;
            let bytes = p.nv(item).unwrap_or(&[]);
            Some(get_bits(bytes, f.offset, f.width) as i64)
        };
        let broken: Vec<_> = ITEMS
            .iter()
            .filter(|i| !i.capability)
            .flat_map(|i| i.limits.iter().map(move |l| (i, l)))
            .filter(|(item, limit)| {
                let of = |other: Option<&str>, param: &str| match other {
                    None => value(item, param),
                    // A capability that the card does not state binds nothing.
                    Some(other) => {
                        let other = named(other)?;
                        let said = !other.capability || p.nv(other).is_some();
                        said.then(|| value(other, param))?
                    }
                };
                !limits::holds(limit, value(item, limit.param).unwrap(), &of)
            })
            .map(|(i, l)| format!("{}.{}", i.layout.name, l.param))
            .collect();
        assert_eq!(broken, Vec::<String>::new(), "{name}");
    }
}

/// `all_nv_capabilities`: what the profiles before it say is no less.
#[test]
fn all_capabilities_are_all_ones() {
    let p = Profile::builtin("all-caps").unwrap();
    for item in ITEMS.iter().filter(|i| i.capability) {
        let value = p.nv(item).unwrap();
        for f in item.layout.fields {
            let all = u64::MAX >> (64 - f.width);
            assert_eq!(get_bits(value, f.offset, f.width), all, "{}", f.name);
        }
    }
}

/// dce_tcp_g is at least 1, and 0 on a card whose profile says nothing of it: other parameters of the
/// item can be set all the same.
#[test]
fn a_value_that_stays_is_not_looked_at() {
    let mut d = up("minimal");
    let item = named("nv_roce_cc_ecn").unwrap();
    let (length, mut data) = get(&mut d, NEXT, word(item)).unwrap();
    data.truncate(length);
    let field = |name| item.layout.fields.iter().find(|f| f.name == name).unwrap();
    let (g, other) = (field("dce_tcp_g"), field("dce_tcp_rtt"));
    assert_eq!(get_bits(&data, g.offset, g.width), 0);
    set_bits(&mut data, other.offset, other.width, 7);
    set(&mut d, word(item), &data).unwrap();
    assert_eq!(get(&mut d, NEXT, word(item)).unwrap().1[..length], data);
}

#[test]
fn settings_change_capabilities_from_the_next_start_on() {
    let mut d = up("connectx7");
    let both = |d: &mut Driver| (caps(d, 1), caps(d, 0));
    let before = both(&mut d);
    let [uctx, log_uctx, roce, port] = before.0;
    assert!(uctx != 0 && log_uctx != 0 && roce == 1 && port == 1);
    change(&mut d, "nv_hca_conf", "roce_ctrl", 1);
    assert_eq!(both(&mut d), before, "not yet");
    boot(&mut d);
    let without_roce = [uctx, log_uctx, 0, port];
    assert_eq!(both(&mut d), (without_roce, without_roce));
    // A reset of the function alone changes nothing.
    change(&mut d, "nv_sw_offload_conf", "uctx_en", 0);
    let function = d.f;
    d.submit(Input::Reset {
        function,
        kind: fw_model::ResetKind::Flr,
    });
    d.clear_queue();
    d.bring_up();
    assert_eq!(caps(&mut d, 1), without_roce);
    change(&mut d, "nv_vpi_link_type", "default_link_type", 1);
    boot(&mut d);
    assert_eq!(both(&mut d), ([0; 4], [0; 4]));
    // Taken back, the profile's values are in force again.
    let mut all = vec![0; 8];
    all[3] = 0;
    access(&mut d, MNVIA, WRITE, &all).unwrap();
    boot(&mut d);
    assert_eq!(both(&mut d), before);
}
