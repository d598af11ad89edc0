// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The register table walked: every register × read, write, neither; ports, modules, temperatures.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{
    FunctionId, Input,
    reg::{REGISTERS, Register},
};
use fwctl_proto::{
    layout::{self, Layout, LayoutInfo, View, get_bits, set_bits},
    layouts::{MciaReg, MtmpReg, PaosReg, PddrReg, PmlpReg, PtysReg, QpdpmReg},
    mst, register as id,
};

const READ: u16 = 1;
const WRITE: u16 = 0;
const BAD_PARAM: u8 = 3;
/// The syndrome of a port that the function does not have.
const PORT: u32 = 0x00e6_0005;
const PORT_CHANGE: u8 = 9;
const TEMP_WARN: u8 = 0x17;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn access(id: u16, op_mod: u16, register: &[u8]) -> Vec<u8> {
    let mut c = cmd(0x805, op_mod, 16);
    c[10..12].copy_from_slice(&id.to_be_bytes());
    c.extend_from_slice(register);
    c
}

/// Status and syndrome, or the register.
fn try_register(d: &mut Driver, id: u16, op_mod: u16, r: &[u8]) -> Result<Vec<u8>, (u8, u32)> {
    let reply = d.exec_any(&access(id, op_mod, r), 16 + r.len());
    assert_eq!(reply.delivery, 0);
    match reply.status() {
        0 => Ok(reply.out[16..].to_vec()),
        status => Err((status, reply.syndrome())),
    }
}

fn read(d: &mut Driver, id: u16, r: &[u8]) -> Vec<u8> {
    try_register(d, id, READ, r).unwrap()
}

fn place(layout: &LayoutInfo, name: &str) -> (u32, u32) {
    let p = layout.field(name).unwrap();
    (p.offset, p.width * p.info.count.max(1))
}

/// `lp_msb`, where mstflint's database has it.
fn upper_port(register: u16) -> Option<(u32, u32)> {
    let mut fields = mst::find(register)?.layout.fields.iter();
    let f = fields.find(|f| f.name == "lp_msb")?;
    Some((f.offset, f.width))
}

fn ones(r: &mut [u8], (offset, width): (u32, u32)) {
    for bit in offset..offset + width {
        set_bits(r, bit, 1, 1);
    }
}

/// mlx5_core uses these if a bit of MCAM, PCAM or of the general capabilities says so (`mlx5_ifc.h`,
/// `MLX5_PPS_CAP`, `MLX5_BUFFER_SUPPORTED`); SBPR and SBCM go with PBMC.
#[test]
fn stores_are_hidden_from_the_driver() {
    // The groups' first registers; the bit of the first is the last of 128 from byte 8 on.
    let masks: [(u16, u16); 5] = [
        (0x907f, 0x9000),
        (0x907f, 0x9080),
        (0x907f, 0x9100),
        (0x907f, 0x9180),
        (0x507f, 0x5000),
    ];
    let hidden: [u16; 11] = [
        0x500b, 0x500c, 0x9052, 0x9053, 0x9055, 0x9155, 0x9156, 0x9180, 0x9181, 0x9182, 0x912a,
    ];
    let caps = ["pps", "pps_modify", "sbcam_reg"];
    for profile in [
        "connectx5",
        "connectx7",
        "connectx8",
        "bluefield3",
        "all-caps",
    ] {
        let mut d = Driver::new(profile);
        d.bring_up();
        let mut seen = 0;
        for (asks, first) in masks {
            let mut r = [0; 72];
            r[3] = ((first & 0x1ff) / 0x80) as u8;
            let mask = read(&mut d, asks, &r)[8..24].to_vec();
            for id in hidden
                .into_iter()
                .filter(|id| (first..first + 128).contains(id))
            {
                assert_eq!(
                    get_bits(&mask, u32::from(127 - (id - first)), 1),
                    0,
                    "{id:#x}"
                );
                seen += 1;
            }
        }
        assert_eq!(seen, hidden.len());
        let page = d.ok(&cmd(0x100, 1, 16), 4112);
        let layout = layout::find("cmd_hca_cap").unwrap();
        for cap in caps {
            let (offset, width) = place(layout, cap);
            assert_eq!(get_bits(&page[16..], offset, width), 0, "{profile}: {cap}");
        }
    }
}

#[test]
fn every_register_can_be_read_and_those_without_a_writable_field_not_be_written() {
    let mut d = up();
    // MCC and MCDA take what the state of an update says (firmware.rs).
    let state = [id::MCC, id::MCDA];
    let always = |r: &&Register| !state.contains(&r.id);
    for r in REGISTERS.iter().filter(always) {
        let mut zero = vec![0; r.bytes];
        if [id::MNVDA, 0x9025].contains(&r.id) {
            // An item that there is: nv_global_pci_conf.
            (zero[3], zero[7]) = (4, 0x80);
        }
        assert!(
            try_register(&mut d, r.id, READ, &zero).is_ok(),
            "{:#x}",
            r.id
        );
        let written = try_register(&mut d, r.id, WRITE, &zero);
        if !r.can_write() {
            assert_eq!(written, Err((BAD_PARAM, 0x00e6_0002)), "{:#x}", r.id);
        }
        let neither = try_register(&mut d, r.id, 2, &zero);
        assert_eq!(neither, Err((BAD_PARAM, 0x00e0_0002)), "{:#x}", r.id);
    }
    let none = try_register(&mut d, 0x1234, READ, &[0; 16]);
    assert_eq!(none, Err((BAD_PARAM, 0x00e6_0001)));
}

#[test]
fn a_write_changes_the_writable_fields_of_the_part_that_it_chooses_and_nothing_else() {
    for r in REGISTERS
        .iter()
        .filter(|r| r.kept && r.write.is_none() && r.read.is_none())
    {
        let layout = r.layout.unwrap();
        let mut d = up();
        let zero = vec![0; r.bytes];
        let mut expected = read(&mut d, r.id, &zero);
        let before = expected.clone();
        for name in r.writable {
            ones(&mut expected, place(layout, name));
        }
        let mut all = vec![0xff; r.bytes];
        for (name, _) in r.index {
            let (offset, width) = place(layout, name);
            set_bits(&mut all, offset, width, 0);
        }
        // It belongs to the number of the port.
        if let Some((offset, width)) = upper_port(r.id) {
            set_bits(&mut all, offset, width, 0);
        }
        for name in r.echo {
            ones(&mut expected, place(layout, name));
        }
        assert_eq!(try_register(&mut d, r.id, WRITE, &all).unwrap(), expected);
        for name in r.echo {
            let (offset, width) = place(layout, name);
            set_bits(&mut expected, offset, width, 0);
        }
        assert_eq!(read(&mut d, r.id, &zero), expected, "{:#x}", r.id);
        // Another part is as it was.
        for (name, most) in r
            .index
            .iter()
            .filter(|i| !i.0.ends_with("port") && i.0 != "port_number")
        {
            let (offset, width) = place(layout, name);
            let mut other = zero.clone();
            set_bits(&mut other, offset, width, *most);
            let mut untouched = before.clone();
            set_bits(&mut untouched, offset, width, *most);
            assert_eq!(read(&mut d, r.id, &other), untouched, "{:#x} {name}", r.id);
        }
    }
}

#[test]
fn an_index_past_its_end_is_refused_and_a_port_by_its_own_syndrome() {
    let mut d = up();
    for r in REGISTERS {
        for (name, most) in r.index {
            let (offset, width) = place(r.layout.unwrap(), name);
            if u64::from(width) < 64 && (most + 1) >> width == 0 {
                let mut beyond = vec![0; r.bytes];
                set_bits(&mut beyond, offset, width, most + 1);
                let port = name.ends_with("port") || *name == "port_number";
                let syndrome = if port { 0x00e6_0005 } else { 0x00e6_0004 };
                let found = try_register(&mut d, r.id, READ, &beyond);
                assert_eq!(found, Err((BAD_PARAM, syndrome)), "{:#x} {name}", r.id);
            }
        }
    }
}

#[test]
fn registers_longer_and_shorter_than_their_layout_are_read() {
    let mut d = up();
    let whole = read(&mut d, id::PTYS, &[0; 64]);
    assert_eq!(read(&mut d, id::PTYS, &[0; 16]), whole[..16]);
    let long = read(&mut d, id::PTYS, &[0; 1024]);
    assert_eq!((&long[..64], &long[64..]), (&whole[..], &[0; 960][..]));
}

fn port_state(d: &mut Driver) -> (u64, u64, u64, u64, u8) {
    let paos = read(d, id::PAOS, &[0; PaosReg::BYTES]);
    let mut ask = [0; PtysReg::BYTES];
    ask[3] = 4;
    let ptys = read(d, id::PTYS, &ask);
    let mut ask = [0; PddrReg::BYTES];
    ask[7] = 1;
    let pddr = read(d, id::PDDR, &ask);
    let vport = d.ok(&cmd(0x750, 0, 16), 16);
    (
        View::<PaosReg>::new(&paos)
            .unwrap()
            .get(PaosReg::OPER_STATUS),
        View::<PtysReg>::new(&ptys)
            .unwrap()
            .get(PtysReg::ETH_PROTO_OPER),
        View::<PtysReg>::new(&ptys).unwrap().get(PtysReg::AN_STATUS),
        get_bits(&pddr, 0x60, 32),
        vport[15] & 0xf,
    )
}

/// Event types and first bytes of what an armed queue for events `mask` got.
struct Events {
    page: u64,
    seen: u32,
}

impl Events {
    fn new(d: &mut Driver, mask: u64) -> Self {
        d.ok(&cmd(0x802, 0, 16), 16);
        let page = 0x700_0000;
        d.guest.map(page, 4 * 4096);
        let mut eq = cmd(0x301, 0, 304);
        eq[28..32].copy_from_slice(&(8u32 << 24 | 0x40).to_be_bytes());
        eq[88..96].copy_from_slice(&mask.to_be_bytes());
        for i in 0..4u64 {
            let at = 272 + 8 * i as usize;
            eq[at..at + 8].copy_from_slice(&(page + i * 4096).to_be_bytes());
        }
        d.ok(&eq, 16);
        Self { page, seen: 0 }
    }

    /// Type, sub-type and data of the next entry, if there is one.
    fn next(&mut self, d: &Driver) -> Option<(u8, u8, Vec<u8>)> {
        let e = d.guest.bytes(self.page + u64::from(self.seen) * 64, 64);
        if e[1] == 0 {
            return None;
        }
        self.seen += 1;
        Some((e[1], e[3], e[32..60].to_vec()))
    }
}

#[test]
fn the_link_goes_and_comes_with_an_event_and_every_register_agrees() {
    let mut d = up();
    let mut events = Events::new(&mut d, 1 << PORT_CHANGE);
    let there = (1, 0x0010_0000, 1, 0, 1);
    assert_eq!(port_state(&mut d), there);
    let link = |up| Input::Link {
        function: FunctionId(0),
        up,
    };
    d.submit(link(false));
    let (kind, sub, data) = events.next(&d).unwrap();
    // MLX5_PORT_CHANGE_SUBTYPE_DOWN, port 1 in the high half of byte 8.
    assert_eq!((kind, sub, data[8]), (PORT_CHANGE, 1, 0x10));
    assert_eq!(port_state(&mut d), (2, 0, 0, 1024, 0));
    d.submit(link(false));
    assert_eq!(events.next(&d), None, "no change, no event");
    d.submit(link(true));
    let (kind, sub, _) = events.next(&d).unwrap();
    assert_eq!((kind, sub), (PORT_CHANGE, 4));
    assert_eq!(port_state(&mut d), there);
    // The driver closes it: ase, admin_status down.
    let mut paos = [0; PaosReg::BYTES];
    paos[2] = 2;
    paos[4] = 0x80;
    try_register(&mut d, id::PAOS, WRITE, &paos).unwrap();
    assert_eq!(events.next(&d).unwrap().1, 1);
    assert_eq!(port_state(&mut d), (2, 0, 0, 1, 0), "closed by command");
    d.submit(link(false));
    d.submit(link(true));
    assert_eq!(events.next(&d), None, "the cable does not matter then");
    paos[2] = 1;
    try_register(&mut d, id::PAOS, WRITE, &paos).unwrap();
    assert_eq!(events.next(&d).unwrap().1, 4);
    assert_eq!(port_state(&mut d), there);
}

#[test]
fn the_chip_gets_hot_with_a_warning_and_cools_down() {
    let mut d = up();
    let mut events = Events::new(&mut d, 1 << TEMP_WARN);
    let mut mtmp = [0; MtmpReg::BYTES];
    let at = |d: &mut Driver, m: &[u8]| {
        let r = read(d, id::MTMP, m);
        let v = View::<MtmpReg>::new(&r).unwrap();
        (v.get(MtmpReg::TEMPERATURE), v.get(MtmpReg::MAX_TEMPERATURE))
    };
    assert_eq!(
        at(&mut d, &mtmp),
        (45 * 8, 0),
        "no maximum unless asked for"
    );
    // mte and mtr.
    mtmp[8] = 0xc0;
    try_register(&mut d, id::MTMP, WRITE, &mtmp).unwrap();
    d.submit(Input::Temperature { eighths: 104 * 8 });
    assert_eq!(events.next(&d), None);
    d.submit(Input::Temperature { eighths: 105 * 8 });
    let (kind, _, data) = events.next(&d).unwrap();
    assert_eq!(
        (kind, &data[..16]),
        (
            TEMP_WARN,
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..]
        )
    );
    d.submit(Input::Temperature { eighths: 50 * 8 });
    assert_eq!(events.next(&d).unwrap().2[..16], [0; 16]);
    assert_eq!(at(&mut d, &[0; MtmpReg::BYTES]), (50 * 8, 105 * 8));
    try_register(&mut d, id::MTMP, WRITE, &mtmp).unwrap();
    assert_eq!(at(&mut d, &[0; MtmpReg::BYTES]), (50 * 8, 50 * 8));
    // A sensor that is not there.
    mtmp = [0; MtmpReg::BYTES];
    mtmp[3] = 1;
    let none = try_register(&mut d, id::MTMP, READ, &mtmp);
    assert_eq!(none, Err((BAD_PARAM, 0x00e6_0004)));
}

#[test]
fn the_module_is_read_in_pieces_while_it_is_there() {
    let mut d = up();
    let pmlp = read(&mut d, id::PMLP, &[0; PmlpReg::BYTES]);
    // Four lanes; lane 3 has rx and tx lane 3 of module 0.
    assert_eq!((pmlp[3], &pmlp[16..20]), (4, &[3, 3, 0, 0][..]));
    let mcia = |d: &mut Driver, i2c: u8, from: u8, size: u8| {
        let mut ask = [0; MciaReg::BYTES];
        (ask[4], ask[7], ask[11]) = (i2c, from, size);
        let r = read(d, id::MCIA, &ask);
        (r[3], r[16..16 + usize::from(size)].to_vec())
    };
    assert_eq!(mcia(&mut d, 0x50, 148, 9), (0, b"FWCTL-EMU".to_vec()));
    assert_eq!(mcia(&mut d, 0x50, 254, 4), (0, vec![0; 4]), "past its end");
    assert_eq!(mcia(&mut d, 0x51, 0, 1), (4, vec![0]), "another address");
    d.submit(Input::Link {
        function: FunctionId(0),
        up: false,
    });
    assert_eq!(mcia(&mut d, 0x50, 0, 1), (1, vec![0]), "no module");
}

#[test]
fn modes_that_the_port_cannot_are_refused_and_change_nothing() {
    let mut d = up();
    let mut ptys = [0; PtysReg::BYTES];
    ptys[3] = 4;
    let before = read(&mut d, id::PTYS, &ptys);
    let mut write = ptys;
    write[24] = 0x80; // eth_proto_admin, bit 31
    let refused = try_register(&mut d, id::PTYS, WRITE, &write);
    assert_eq!(refused, Err((BAD_PARAM, 0x00e6_0004)));
    assert_eq!(read(&mut d, id::PTYS, &ptys), before);
    // All modes of 100 Gbit/s, as mstlink asks for them: bits 20 to 23, of which the port has one.
    write[24..28].copy_from_slice(&[0, 0xf0, 0, 0]);
    try_register(&mut d, id::PTYS, WRITE, &write).unwrap();
    assert_eq!(read(&mut d, id::PTYS, &ptys), before);
}

/// Offsets are those of the sub-nodes pddr_operation_info_page and pddr_module_info of mstflint's
/// database, behind the register's own two dwords.
#[test]
fn the_state_of_the_link_follows_port_and_module() {
    let mut d = up();
    let page = |d: &mut Driver, n: u8| {
        let mut ask = [0; 256];
        (ask[1], ask[7]) = (1, n);
        read(d, id::PDDR, &ask)[8..].to_vec()
    };
    let link = |d: &mut Driver, up: bool| {
        d.submit(Input::Link {
            function: FunctionId(0),
            up,
        });
    };
    // Ethernet by clause 73; active; admin, cable and active mode 100GBASE-CR4; RS-FEC.
    let operational = page(&mut d, 0);
    assert_eq!(operational[1], 0x42, "proto_active, neg_mode_active");
    assert_eq!(operational[4], 3, "phy_mngr_fsm_state");
    for at in [8, 12, 16, 20] {
        assert_eq!(operational[at..at + 4], [0, 0x10, 0, 0], "at {at:#x}");
    }
    assert_eq!(operational[0x1c..0x1e], [0, 2], "fec_mode_active");
    let module = page(&mut d, 3);
    // Passive copper, one metre; not equalized; who made it.
    assert_eq!((module[0], module[4], module[5]), (0xa0, 0x30, 1));
    assert_eq!(&module[0x14..0x24], b"FWCTL-EMU       ");
    assert_eq!(&module[0x34..0x38], b"\0\0A1");
    link(&mut d, false);
    let operational = page(&mut d, 0);
    assert_eq!(
        (operational[1], operational[4]),
        (0x40, 2),
        "it looks for a partner"
    );
    assert_eq!(operational[20..24], [0; 4], "no mode is active");
    assert_eq!(page(&mut d, 1)[6..8], [4, 0], "1024: no cable");
    assert_eq!(page(&mut d, 3)[4], 0x40, "unplugged");
    assert_eq!(page(&mut d, 7), [0; 248], "a page that there is not");
}

/// Cards of more than 100 Gb/s tell their modes as PTYS's extended fields do, of which 400GAUI-4 is bit 16
/// and 200GAUI-4 bit 12 (mlx5's `enum mlx5e_ext_link_mode`).
#[test]
fn cards_with_extended_modes_tell_those_of_their_link() {
    for (profile, modes, active) in [
        ("connectx8", 1 << 16 | 1 << 13 | 1 << 11, 1 << 16),
        ("bluefield3", 1 << 12 | 1 << 10 | 1 << 8, 1 << 12),
        ("connectx6dx", 1 << 20, 1 << 20),
    ] {
        let mut d = Driver::new(profile);
        d.bring_up();
        let mut ask = [0; 256];
        ask[1] = 1;
        let page = read(&mut d, id::PDDR, &ask)[8..].to_vec();
        // What PHY and port were told, what the cable can, what is active.
        let told = [8, 12, 16, 20].map(|at| get_bits(&page, at * 8, 32));
        assert_eq!(told, [modes, modes, modes, active], "{profile}");
    }
}

/// MPEIN's speeds are bits in mstflint's database: 8G (Gen3) is bit 2, 16G bit 4, 32G bit 5, Gen6 bit 6.
#[test]
fn the_link_to_the_host_has_the_speed_of_the_cards_generation() {
    for (profile, bit) in [
        ("connectx5", 2),
        ("connectx6dx", 4),
        ("connectx7", 5),
        ("bluefield3", 5),
        ("connectx8", 6),
    ] {
        let mut d = Driver::new(profile);
        d.bring_up();
        let mpein = read(&mut d, id::MPEIN, &[0; 48]);
        // link_speed_enabled and link_speed_active.
        let speeds = [0x50, 0x70].map(|at| get_bits(&mpein, at, 16));
        assert_eq!(speeds, [1 << bit; 2], "{profile}");
    }
}

/// mstlink's -m and --show_fec, and mstmget_temp, read PMAOS, PPLM, MTMP and MTCAP.
#[test]
fn an_older_card_has_a_module_sensors_and_error_correction() {
    let mut d = Driver::new("connectx5");
    d.bring_up();
    assert_eq!(read(&mut d, id::PMAOS, &[0; 16])[3], 1, "plugged");
    assert_eq!(read(&mut d, id::MTCAP, &[0; 16])[3], 1, "one sensor");
    let mtmp = read(&mut d, id::MTMP, &[0; MtmpReg::BYTES]);
    assert_eq!(get_bits(&mtmp, 0x30, 16), 45 * 8);
    let mut pplm = [0; 80];
    pplm[1] = 1;
    // fec_override_cap_100g: none, or Reed-Solomon.
    let pplm = read(&mut d, id::PPLM, &pplm);
    assert_eq!(get_bits(&pplm, 0x90, 4), 0x5);
}

/// mstflint's database has up, down by configuration and up once; 4 is for the hardware to set, and 6 for
/// ports that can sleep.
#[test]
fn a_port_takes_the_states_alone_that_there_are() {
    let mut d = up();
    let mut paos = [0; PaosReg::BYTES];
    for state in 0..16 {
        (paos[2], paos[4]) = (state, 0x80);
        let written = try_register(&mut d, id::PAOS, WRITE, &paos);
        let shown = read(&mut d, id::PAOS, &[0; PaosReg::BYTES])[2] & 0xf;
        if [1, 2, 3].contains(&state) {
            assert!(written.is_ok(), "{state}");
            assert_eq!(shown, state);
        } else {
            assert_eq!(written, Err((BAD_PARAM, 0x00e6_0004)), "{state}");
            // The last one that was taken.
            assert_eq!(shown, if state == 0 { 1 } else { 3 }, "{state}");
        }
        // Without ase nothing is asked for.
        paos[4] = 0;
        try_register(&mut d, id::PAOS, WRITE, &paos).unwrap();
    }
}

/// `lp_msb` is bits 8 and 9 of a port's number: port 257 is none of this function's.
#[test]
fn the_upper_bits_of_a_ports_number_count() {
    let mut d = up();
    let with_port = |r: &&mst::Register| r.layout.fields.iter().any(|f| f.name == "lp_msb");
    let mut seen = 0;
    for r in mst::REGISTERS.iter().filter(with_port) {
        let at = |name| {
            let mut all = r.layout.fields.iter();
            let f = all.find(|f| f.name == name).unwrap();
            (f.offset, f.width)
        };
        let (port, upper) = (at("local_port"), at("lp_msb"));
        for (number, msb, answer) in [(1, 0, true), (1, 1, false), (0, 1, false), (2, 0, false)] {
            let mut ask = vec![0; r.layout.bytes()];
            set_bits(&mut ask, port.0, port.1, number);
            set_bits(&mut ask, upper.0, upper.1, msb);
            let got = try_register(&mut d, r.id, READ, &ask);
            if answer {
                assert!(got.is_ok(), "{}: {got:?}", r.layout.name);
            } else {
                let refused = Err((BAD_PARAM, PORT));
                assert_eq!(got, refused, "{}: {number} {msb}", r.layout.name);
            }
        }
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn priorities_of_marked_dscps_alone_change() {
    let mut d = up();
    let mut w = [0; QpdpmReg::BYTES];
    // Entry 3 with its mark, entry 4 without.
    (w[4 + 6], w[4 + 7], w[4 + 9]) = (0x80, 5, 6);
    try_register(&mut d, id::QPDPM, WRITE, &w).unwrap();
    let r = read(&mut d, id::QPDPM, &[0; QpdpmReg::BYTES]);
    assert_eq!(r[4 + 6..4 + 10], [0, 5, 0, 0]);
}

#[test]
fn the_boot_image_has_a_version_and_can_be_asked_for_in_pieces() {
    let mut d = up();
    let mcqs = read(&mut d, id::MCQS, &[0; 16]);
    // Not the last one; identifier 1 is the boot image; it is there, and nothing is pending.
    assert_eq!((mcqs[0] >> 7, &mcqs[6..8]), (0, &[0, 1][..]));
    assert_eq!((mcqs[10] & 1, mcqs[11]), (0, 0x10));
    // The last one: congestion control (0xb), which is not there.
    let mut second = [0; 16];
    second[3] = 1;
    let mcqs = read(&mut d, id::MCQS, &second);
    assert_eq!((mcqs[0] >> 7, &mcqs[6..8], mcqs[11]), (1, &[0, 0xb][..], 0));
    let mcqi = |d: &mut Driver, info: u8, from: u8, size: u8| {
        let mut ask = [0; 148];
        (ask[11], ask[19], ask[23]) = (info, from, size);
        try_register(d, id::MCQI, READ, &ask)
    };
    let version = mcqi(&mut d, 1, 0, 124).unwrap();
    assert_eq!(version[12..16], [0, 0, 0, 124], "info_size");
    assert_eq!(version[28..32], [28, 43, 0x03, 0xf6]);
    // With the NUL that ends it: mstflint copies from a buffer of that length up to a NUL.
    assert_eq!(&version[24 + 32..24 + 32 + 11], b"28.43.1014\0");
    assert_eq!(version[24 + 3], 11, "version_string_length");
    let piece = mcqi(&mut d, 1, 4, 4).unwrap();
    assert_eq!((piece[23], &piece[24..28]), (4, &[28, 43, 0x03, 0xf6][..]));
    assert_eq!(piece[28..], [0; 120]);
    let caps = mcqi(&mut d, 0, 0, 20).unwrap();
    // Capabilities, version and activation method can be asked for; a slot of 16 MiB at most, without
    // the 64 KiB of the device's own data.
    assert_eq!(caps[24..28], [0, 0, 0, 0b10_0011]);
    assert_eq!(caps[32..36], [0, 0xff, 0, 0]);
    assert_eq!(mcqi(&mut d, 5, 0, 4).unwrap()[15], 4);
    assert_eq!(mcqi(&mut d, 2, 0, 4), Err((BAD_PARAM, 0x00e6_0004)));
}

#[test]
fn what_is_trusted_and_which_sensors_there_are() {
    let mut d = up();
    for (trust, ok) in [(1, true), (2, true), (3, false)] {
        let mut qpts = [0; 8];
        qpts[7] = trust;
        let written = try_register(&mut d, id::QPTS, WRITE, &qpts);
        assert_eq!(written.is_ok(), ok, "trust_state {trust}");
    }
    assert_eq!(read(&mut d, id::QPTS, &[0; 8])[7], 2);
    let mtcap = read(&mut d, id::MTCAP, &[0; 16]);
    assert_eq!((mtcap[3], &mtcap[8..]), (1, &[0, 0, 0, 0, 0, 0, 0, 1][..]));
    let mut module = [0; MtmpReg::BYTES];
    module[3] = 64;
    let r = read(&mut d, id::MTMP, &module);
    assert_eq!((&r[24..32], &r[6..8]), (&b"module00"[..], &[1, 0x18][..]));
}

/// Offsets are those of mstflint's database.
#[test]
fn the_card_says_who_it_is() {
    let mut d = up();
    let started = d.now;
    d.now.0 += 90 * 1_000_000_000;
    let m = read(&mut d, 0x9020, &[0; 160]);
    let bits = |at, width| get_bits(&m, at, width);
    assert_eq!(
        (bits(16, 16), bits(80, 16), bits(36, 12)),
        (0x1021, 0x218, 1)
    );
    assert_eq!((bits(144, 16), bits(160, 32)), (0x02c9, 0x0700_0000));
    assert_eq!(bits(224, 32), started.as_millis() / 1000 + 90, "uptime");
    // 28.43.1014: the last part does not fit a byte.
    assert_eq!(
        (bits(264, 8), bits(272, 8), bits(280, 8)),
        (28, 43, 1014 & 0xff)
    );
    assert_eq!(
        (bits(544, 32), bits(576, 32), bits(608, 32)),
        (28, 43, 1014)
    );
    assert_eq!(&m[48..64], b"EMU0000000007\0\0\0");
}

#[test]
fn strings_are_read_piece_by_piece() {
    let mut d = up();
    let ask = |kind: u8, from: u16, len: u16| {
        let mut r = [0; 24];
        r[3] = kind;
        r[8..10].copy_from_slice(&from.to_be_bytes());
        r[10..12].copy_from_slice(&len.to_be_bytes());
        r
    };
    let mut text = Vec::new();
    loop {
        let r = read(&mut d, 0x9064, &ask(1, text.len() as u16, 8));
        let total = usize::from(u16::from_be_bytes([r[6], r[7]]));
        text.extend_from_slice(&r[16..24]);
        if text.len() >= total {
            text.truncate(total);
            break;
        }
    }
    assert_eq!(text, b"EMU-0000000007\0", "the part number of its VPD");
    let none = read(&mut d, 0x9064, &ask(3, 0, 8));
    assert_eq!((none[3], none[7], &none[16..]), (3, 0, &[0; 8][..]));
    for wrong in [ask(9, 0, 8), ask(1, 20, 8), ask(1, 0, 9)] {
        let refused = try_register(&mut d, 0x9064, READ, &wrong);
        assert_eq!(refused, Err((BAD_PARAM, 0x00e6_0004)));
    }
}
