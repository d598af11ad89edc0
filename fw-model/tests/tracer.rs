// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware tracer, read as mlx5_core's fw_tracer.c reads it: strings through MTRC_STDB, blocks
//! of 32 entries from memory.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd, pair::Pair};
use fw_model::{
    Card, Input, Report,
    gateway::{Place, space},
};
use fwctl_proto::{
    layout::{find, get_bits, set_bits},
    opcode as op, register as id,
};

const EQ: u64 = 0x5_0000_0000;
/// The trace buffer: two pages, the second before the first.
const BUFFER: [u64; 2] = [0x5_0020_1000, 0x5_0020_0000];
/// Where the memory key says that it begins.
const START: u64 = 0x77_0000_0000;
const EVENT: u8 = 0x26;
const BAD_PARAM: u8 = 3;
const BAD_RES_STATE: u8 = 9;
const MS: u64 = 1_000_000;

fn put(c: &mut [u8], layout: &str, fields: &[(&str, u64)]) {
    for (f, v) in fields {
        let p = find(layout).unwrap().field(f).expect(f);
        set_bits(c, p.offset, p.width, *v);
    }
}

fn access(id: u16, op_mod: u16, layout: &str, fields: &[(&str, u64)], len: usize) -> Vec<u8> {
    let mut c = cmd(op::ACCESS_REG, op_mod, 16 + len);
    c[10..12].copy_from_slice(&id.to_be_bytes());
    put(&mut c[16..], layout, fields);
    c
}

/// A driver with a trace buffer.
struct Traced {
    d: Driver,
    uar: u64,
    eqn: u64,
    mkey: u64,
    /// What mlx5_core keeps: strings, its place in the buffer, the last time.
    base: u64,
    strings: Vec<u8>,
    block: u64,
    last: u64,
    events: usize,
}

impl Traced {
    /// Everything that mlx5_fw_tracer_init does but the start.
    fn new() -> Self {
        let mut d = Driver::new("connectx7");
        d.now.0 = 5_000 * MS;
        d.bring_up();
        d.guest.map(EQ, 4096);
        for page in BUFFER {
            d.guest.map(page, 4096);
        }
        let number = |out: &[u8]| get_bits(out, 0x48, 24);
        let uar = number(&d.ok(&cmd(op::ALLOC_UAR, 0, 16), 16));
        let mut eq = cmd(op::CREATE_EQ, 0, 280);
        put(
            &mut eq,
            "create_eq_in",
            &[
                ("eq_context_entry.log_eq_size", 6),
                ("eq_context_entry.uar_page", uar),
                ("eq_context_entry.intr", 1),
            ],
        );
        set_bits(&mut eq, 0x2c0, 64, 1 << EVENT);
        eq[272..].copy_from_slice(&EQ.to_be_bytes());
        let eqn = u64::from(d.ok(&eq, 16)[11]);
        let mut t = Self {
            d,
            uar,
            eqn,
            mkey: 0,
            base: 0,
            strings: Vec::new(),
            block: 0,
            last: 0,
            events: 0,
        };
        t.mkey = t.create_mkey(8192, 1);
        t.read_strings();
        t
    }

    fn create_mkey(&mut self, len: u64, lw: u64) -> u64 {
        let mut c = cmd(op::CREATE_MKEY, 0, 272 + 16);
        put(
            &mut c,
            "create_mkey_in",
            &[
                ("translations_octword_actual_size", 1),
                ("memory_key_mkey_entry.access_mode_1_0", 1),
                ("memory_key_mkey_entry.lr", 1),
                ("memory_key_mkey_entry.lw", lw),
                ("memory_key_mkey_entry.qpn", 0xff_ffff),
                ("memory_key_mkey_entry.mkey_7_0", 0x42),
                ("memory_key_mkey_entry.log_page_size", 12),
                ("memory_key_mkey_entry.translations_octword_size", 1),
                ("memory_key_mkey_entry.start_addr", START),
                ("memory_key_mkey_entry.len", len),
            ],
        );
        c[272..280].copy_from_slice(&BUFFER[0].to_be_bytes());
        c[280..288].copy_from_slice(&BUFFER[1].to_be_bytes());
        (get_bits(&self.d.ok(&c, 16), 0x48, 24) << 8) | 0x42
    }

    fn register(&mut self, c: &[u8]) -> Result<Vec<u8>, (u8, u32)> {
        let r = self.d.exec(c, c.len());
        match r.status() {
            0 => Ok(r.out[16..].to_vec()),
            s => Err((s, r.syndrome())),
        }
    }

    fn read_strings(&mut self) {
        let cap = access(id::MTRC_CAP, 1, "mtrc_cap", &[], 128);
        let cap = self.register(&cap).unwrap();
        // trace_to_memory; one database; its address and size.
        assert_eq!((cap[0] & 0x40, cap[3] & 0xf), (0x40, 1));
        self.base = get_bits(&cap, 0x80, 32);
        let size = get_bits(&cap, 0xa8, 24);
        let mut offset = 0;
        while offset < size {
            let read = if size - offset >= 256 { 256 } else { 64 };
            let fields = [("read_size", read), ("start_offset", offset)];
            let c = access(id::MTRC_STDB, 0, "mtrc_stdb", &fields, 8 + 256);
            let out = self.register(&c).unwrap();
            self.strings.extend(&out[8..8 + read as usize]);
            offset += read;
        }
        assert_eq!(offset, size, "a multiple of 64");
    }

    fn own(&mut self, on: u64) -> bool {
        let c = access(id::MTRC_CAP, 0, "mtrc_cap", &[("trace_owner", on)], 128);
        self.register(&c).unwrap()[0] & 0x80 != 0
    }

    fn conf(&mut self, mkey: u64, log: u64) -> Result<Vec<u8>, (u8, u32)> {
        let fields = [
            ("trace_mode", 1),
            ("log_trace_buffer_size", log),
            ("trace_mkey", mkey),
        ];
        let c = access(id::MTRC_CONF, 0, "mtrc_conf", &fields, 128);
        self.register(&c)
    }

    fn ctrl(&mut self, select: u64, status: u64, arm: u64) -> Result<Vec<u8>, (u8, u32)> {
        let fields = [
            ("modify_field_select", select),
            ("trace_status", status),
            ("arm_event", arm),
        ];
        let c = access(id::MTRC_CTRL, 0, "mtrc_ctrl", &fields, 64);
        self.register(&c)
    }

    fn started() -> Self {
        let mut t = Self::new();
        assert!(t.own(1));
        let mkey = t.mkey;
        t.conf(mkey, 1).unwrap();
        t.ctrl(1, 1, 1).unwrap();
        t
    }

    fn wait(&mut self, ms: u64) {
        self.d.now.0 += ms * MS;
        self.d.poll();
    }

    /// DEVICE_TRACER events since the last look, by sub-type.
    fn told(&mut self) -> Vec<u8> {
        let mut subs = Vec::new();
        loop {
            let at = EQ + (self.events as u64 % 64) * 64;
            let e = self.d.guest.bytes(at, 64);
            if e[1] != EVENT || e[63] & 1 != ((self.events / 64) & 1) as u8 {
                break;
            }
            subs.push(e[3]);
            self.events += 1;
        }
        let consumer = ((self.eqn << 24) | self.events as u64) as u32;
        let (function, uar) = (self.d.f, self.uar as u32);
        self.d.submit(Input::UarWrite {
            function,
            uar,
            offset: 0x48,
            data: &consumer.to_be_bytes(),
        });
        subs
    }

    /// The lines of all blocks that are new, with their time, and their event id with "lost" above
    /// it: mlx5_fw_tracer_handle_traces.
    fn lines(&mut self) -> Vec<(u64, u64, String)> {
        let mut all = Vec::new();
        loop {
            let page = BUFFER[((self.block / 16) % 2) as usize];
            let b = self.d.guest.bytes(page + self.block % 16 * 256, 256);
            let e: Vec<u64> = b
                .chunks(8)
                .map(|c| u64::from_be_bytes(c.try_into().unwrap()))
                .collect();
            let time = |e: u64| ((e >> 32 & 0x1fff) << 40) | ((e & 0xffff_ffff) << 8) | e >> 56;
            let block_time = if e[31] >> 48 & 0xff == 0xff {
                time(e[31])
            } else {
                0
            };
            if block_time <= self.last {
                return all;
            }
            let mut open: Option<(u64, u64, Vec<u64>)> = None;
            let mut ready: Vec<(u64, String)> = Vec::new();
            for e in e {
                let kind = e >> 48 & 0xff;
                if kind == 0xff {
                    if e >> 45 & 4 == 0 {
                        for (head, text) in ready.drain(..) {
                            let (stamp, low) = (time(e), head >> 56 & 0x7f);
                            let high = if low < stamp & 0x7f { stamp } else { stamp - 1 };
                            let at = (high & !0x7f) | low;
                            all.push((at, (head >> 48 & 0xff) | (head >> 63) << 8, text));
                        }
                    }
                    continue;
                }
                let value = e & 0xffff_ffff;
                if e >> 32 & 7 == 0 {
                    assert!(open.is_none(), "a line was not finished");
                    open = Some((e, value, Vec::new()));
                } else {
                    let o = open.as_mut().unwrap();
                    assert_eq!(o.0 >> 35 & 0x1fff, e >> 35 & 0x1fff, "tmsn");
                    o.2.push(value);
                }
                let (head, string, params) = open.as_ref().unwrap();
                let text = self.format(*string, params);
                if let Some(text) = text {
                    ready.push((*head, text));
                    open = None;
                }
            }
            assert!(open.is_none() && ready.is_empty());
            self.last = block_time;
            self.block += 1;
        }
    }

    /// The text, once all parameters are there.
    fn format(&self, string: u64, params: &[u64]) -> Option<String> {
        assert!(string > self.base);
        let text = &self.strings[(string - self.base) as usize..];
        let end = text.iter().position(|b| *b == 0).unwrap();
        let text = core::str::from_utf8(&text[..end]).unwrap();
        let mut parts = text.split('%');
        let mut all = parts.next().unwrap().to_owned();
        let mut values = params.iter();
        for p in parts {
            let v = values.next()?;
            match p.as_bytes()[0] {
                b'x' => all += &format!("{v:x}"),
                b'd' => all += &format!("{v}"),
                c => panic!("%{c}"),
            }
            all += &p[1..];
        }
        Some(all)
    }

    fn texts(&mut self) -> Vec<String> {
        self.lines().into_iter().map(|l| l.2).collect()
    }
}

#[test]
fn each_command_is_a_line_with_its_time() {
    let mut t = Traced::started();
    // One tick is 6.4 ns; the low 7 bits of a time come from the line itself.
    t.d.now.0 += 12_345;
    let ticks = t.d.now.0 * 156_250 / 1_000_000;
    t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    let refused = t.d.exec(&cmd(0x9999, 7, 16), 16);
    let mut bad = cmd(op::DEALLOC_PD, 0, 16);
    bad[2..4].copy_from_slice(&9u16.to_be_bytes());
    t.d.exec(&bad, 16);
    assert_eq!(t.told(), [], "nothing goes out at once");
    assert_eq!(t.texts(), Vec::<String>::new());
    t.wait(10);
    assert_eq!(t.told(), [1]);
    let lines = t.lines();
    assert_eq!((lines[0].0, lines[0].1), (ticks, 0x10));
    let texts: Vec<_> = lines.into_iter().map(|l| l.2).collect();
    assert_eq!(
        texts,
        [
            "QUERY_ADAPTER op_mod 0x0 uid 0 status 0x0 syndrome 0x0".to_owned(),
            format!(
                "command 0x9999 op_mod 0x7 uid 0 status 0x{:x} syndrome 0x{:x}",
                refused.status(),
                refused.syndrome()
            ),
            "DEALLOC_PD op_mod 0x0 uid 9 status 0x5 syndrome 0xe00007".to_owned(),
        ]
    );
    // Without arming there is no second event, and arming then tells at once.
    t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    t.wait(10);
    assert_eq!((t.told(), t.lines().len()), (vec![], 1));
    t.ctrl(0, 0, 1).unwrap();
    assert_eq!(t.told(), [1]);
    // Nothing is new, not even that the tracer was armed: there is no second event for that.
    t.ctrl(0, 0, 1).unwrap();
    t.wait(1000);
    assert_eq!((t.told(), t.lines().len()), (vec![], 0));
}

#[test]
fn classes_and_levels_are_chosen_through_the_gateway() {
    let mut t = Traced::started();
    let itrace = |t: &mut Traced, words: [u32; 2]| {
        for (address, value) in [
            (0x10_0000, words[0]),
            (0x10_0004, words[1]),
            (0, 0xf003 << 16 | 1),
        ] {
            let at = Place {
                space: space::ICMD,
                address,
            };
            let function = t.d.f;
            t.d.submit(Input::Gateway {
                function,
                at,
                value,
            });
            if address == 0 {
                let word = t.d.card.read_space(function, at, t.d.now).unwrap();
                assert_eq!(word.value, 0xf003 << 16, "status 0, not busy");
            }
        }
    };
    let ask = |t: &mut Traced| {
        t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
        t.d.exec(&cmd(0x9999, 7, 16), 16);
        t.wait(10);
        t.texts().len()
    };
    assert_eq!(ask(&mut t), 2);
    // Delay 5, level 2: what was refused.
    itrace(&mut t, [u32::MAX, 5 << 16 | 2]);
    assert_eq!(ask(&mut t), 1);
    // All classes but CMD_DRIVER.
    itrace(&mut t, [!(1 << 20), 0]);
    assert_eq!(ask(&mut t), 0);
    itrace(&mut t, [1 << 20, 0]);
    assert_eq!(ask(&mut t), 2);
}

#[test]
fn many_lines_fill_blocks_and_go_round() {
    let mut t = Traced::started();
    for n in 0..500u16 {
        t.d.exec(&cmd(op::QUERY_ADAPTER, n, 16), 272);
        if n % 10 == 9 {
            t.wait(10);
            let lines = t.texts();
            assert_eq!(lines.len(), 10);
            let mine = format!("QUERY_ADAPTER op_mod 0x{n:x} uid 0");
            assert!(lines[9].starts_with(&mine), "{}", lines[9]);
        }
    }
    assert!(t.block > 32, "the buffer has 32 blocks");
    // A block that is full goes out without waiting.
    for _ in 0..6 {
        t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    }
    assert_eq!(t.lines().len(), 5);
}

#[test]
fn the_buffer_must_be_the_owners_and_writable() {
    let mut t = Traced::new();
    let (mkey, not_owned) = (t.mkey, (BAD_RES_STATE, 0x00e6_000c));
    assert_eq!(t.conf(mkey, 1), Err(not_owned));
    assert_eq!(t.ctrl(1, 1, 1), Err(not_owned));
    assert!(t.own(1));
    let memory = (BAD_PARAM, 0x00e6_000d);
    assert_eq!(t.ctrl(1, 1, 1), Err(memory), "on without a buffer");
    assert_eq!(t.conf(mkey, 2), Err(memory), "longer than the key");
    assert_eq!(t.conf(mkey ^ 1, 1), Err(memory), "another variant");
    let read_only = t.create_mkey(8192, 0);
    assert_eq!(t.conf(read_only, 1), Err(memory));
    let field = (BAD_PARAM, 0x00e6_0004);
    assert_eq!(t.conf(mkey, 11), Err(field));
    assert_eq!(t.ctrl(1, 2, 0), Err(field));
    let far = [("read_size", 256), ("start_offset", 0xffff_ff00)];
    let c = access(id::MTRC_STDB, 0, "mtrc_stdb", &far, 8 + 256);
    assert_eq!(t.register(&c), Err(field));
    let other = [("read_size", 64), ("string_db_index", 1)];
    let c = access(id::MTRC_STDB, 0, "mtrc_stdb", &other, 8 + 256);
    assert_eq!(t.register(&c), Err(field));
    t.conf(mkey, 1).unwrap();
    let c = access(id::MTRC_CONF, 1, "mtrc_conf", &[], 128);
    let out = t.register(&c).unwrap();
    assert_eq!(
        (out[3] & 0xf, out[7], get_bits(&out, 0x40, 32)),
        (1, 1, mkey)
    );
    assert!(!t.own(0));
    assert_eq!(t.ctrl(1, 0, 0), Err(not_owned));
}

#[test]
fn a_key_that_goes_costs_lines_and_that_is_told() {
    let mut t = Traced::started();
    let mut c = cmd(op::DESTROY_MKEY, 0, 16);
    set_bits(&mut c, 0x48, 24, t.mkey >> 8);
    t.d.ok(&c, 16);
    t.wait(10);
    assert_eq!((t.told(), t.lines().len()), (vec![], 0));
    t.mkey = t.create_mkey(8192, 1);
    let mkey = t.mkey;
    t.conf(mkey, 1).unwrap();
    t.ctrl(1, 1, 1).unwrap();
    // A new buffer is filled from its beginning.
    t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    t.wait(10);
    let lines = t.lines();
    assert_eq!((lines.len(), lines[0].1), (1, 0x110), "lost");
    t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    t.wait(10);
    assert_eq!(t.lines()[0].1, 0x10);
}

#[test]
fn a_core_dump_is_there_before_its_command_ends() {
    let mut t = Traced::started();
    t.d.submit(Input::Health(Report {
        syndrome: 0x10,
        severity: 4,
        ..Report::default()
    }));
    let c = access(id::CORE_DUMP, 0, "core_dump_reg", &[], 64);
    t.register(&c).unwrap();
    let objects: usize = t.d.card.report(t.d.f).unwrap().objects.values().sum();
    let pages = t.d.card.report(t.d.f).unwrap().pages;
    assert_eq!(
        t.texts(),
        [
            "health: syndrome 0x10 ext_synd 0x0 severity 4".to_owned(),
            "core dump: syndrome 0x10 ext_synd 0x0 functions 1".to_owned(),
            format!(
                "core dump: function 0 state 2 issi 1 pages {pages} uctx 0 eqs 1 objects {objects}"
            ),
        ]
    );
    let fields = [("core_dump_type", 1)];
    let c = access(id::CORE_DUMP, 0, "core_dump_reg", &fields, 64);
    assert_eq!(t.register(&c), Err((BAD_PARAM, 0x00e6_0004)));
    assert!(!t.own(0));
    let c = access(id::CORE_DUMP, 0, "core_dump_reg", &[], 64);
    assert_eq!(t.register(&c), Err((BAD_RES_STATE, 0x00e6_000c)));
}

#[test]
fn firmware_that_failed_says_nothing_more() {
    let mut t = Traced::started();
    t.d.ok(&cmd(op::QUERY_ADAPTER, 0, 16), 272);
    t.d.submit(Input::Health(Report::FAILED));
    t.wait(1000);
    assert_eq!((t.told(), t.lines().len()), (vec![], 0));
    assert_eq!(t.d.card.next_deadline(), None);
}

#[test]
fn one_function_has_it_and_the_other_is_told_when_it_comes_free() {
    let mut p = Pair::new("");
    let own = |on| access(id::MTRC_CAP, 0, "mtrc_cap", &[("trace_owner", on)], 128);
    let owns = |out: Vec<u8>| out[16] & 0x80 != 0;
    assert!(owns(p.ok(0, &own(1), 144)));
    assert!(!owns(p.ok(1, &own(1), 144)));
    assert!(!owns(p.ok(1, &own(0), 144)), "not its own to give back");
    assert!(owns(p.ok(0, &own(1), 144)), "still there");
    assert_eq!(p.events, []);
    p.ok(0, &own(0), 144);
    assert_eq!(
        p.events.drain(..).collect::<Vec<_>>(),
        [(1, EVENT, 0, vec![0; 28])]
    );
    assert!(owns(p.ok(1, &own(1), 144)));
    // A function that goes without giving it back.
    p.ok(1, &cmd(op::TEARDOWN_HCA, 0, 16), 16);
    assert_eq!(
        p.events.drain(..).collect::<Vec<_>>(),
        [(0, EVENT, 0, vec![0; 28])]
    );
    assert!(owns(p.ok(0, &own(1), 144)));
}

#[test]
fn a_card_that_is_saved_in_the_middle_of_a_block_goes_on() {
    let mut t = Traced::started();
    t.d.ok(&cmd(op::QUERY_ADAPTER, 1, 16), 272);
    let bytes = t.d.card.save().unwrap();
    t.d.card = Card::load(fw_model::Profile::builtin("connectx7").unwrap(), &bytes).unwrap();
    t.d.ok(&cmd(op::QUERY_ADAPTER, 2, 16), 272);
    t.wait(10);
    assert_eq!(t.told(), [1]);
    let texts = t.texts();
    assert!(texts[0].contains("op_mod 0x1 ") && texts[1].contains("op_mod 0x2 "));
}
