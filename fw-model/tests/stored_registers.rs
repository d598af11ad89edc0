// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Registers that are mere stores, walked: each field keeps to the access that the tools' database
//! gives it.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{Card, Profile, limits::MAX_STORED_REGISTERS, reg};
use fwctl_proto::{
    layout::{get_bits, set_bits},
    mst::{Access, REGISTERS, Register, named},
    opcode as op,
};

const READ: u16 = 1;
const WRITE: u16 = 0;
const BAD_PARAM: u8 = 3;
const NO_RES: u8 = 0xf;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn access(d: &mut Driver, id: u16, op_mod: u16, r: &[u8]) -> Result<Vec<u8>, (u8, u32)> {
    let mut c = cmd(op::ACCESS_REG, op_mod, 16);
    c[10..12].copy_from_slice(&id.to_be_bytes());
    c.extend_from_slice(r);
    let reply = d.exec(&c, c.len());
    match reply.status() {
        0 => Ok(reply.out[16..].to_vec()),
        s => Err((s, reply.syndrome())),
    }
}

/// Those that are nothing but stores; tests/phy.rs has the others.
fn stored() -> impl Iterator<Item = &'static Register> {
    let model = |id| reg::find(id).is_some() || reg::phy::meaning(id).is_some();
    REGISTERS.iter().filter(move |r| !model(r.id))
}

/// Every bit that a field with this access has.
fn mask(r: &Register, wanted: impl Fn(Access) -> bool) -> Vec<u8> {
    let mut bits = vec![0; r.layout.bytes()];
    for (f, a) in r.layout.fields.iter().zip(r.access) {
        for bit in f.offset..f.offset + f.width * f.count {
            if wanted(*a) {
                set_bits(&mut bits, bit, 1, 1);
            }
        }
    }
    bits
}

fn or(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a | b).collect()
}

#[test]
fn each_field_keeps_to_its_access() {
    use Access::{Index, Operation, Ro, Rw, Unsaid};
    let mut d = up();
    let profile = Profile::builtin("connectx7").unwrap();
    let mut count = 0;
    for r in stored() {
        let (name, zero) = (r.layout.name, vec![0; r.layout.bytes()]);
        let fresh = profile.register(r.id).map_or(zero.clone(), <[u8]>::to_vec);
        assert_eq!(
            access(&mut d, r.id, READ, &zero),
            Ok(fresh.clone()),
            "{name}"
        );
        // Index fields stay 0, so that both look at one part.
        let mut ones = mask(r, |a| a != Index);
        let index = mask(r, |a| a == Index);
        for (o, i) in ones.iter_mut().zip(&index) {
            *o &= !i;
        }
        let kept = mask(r, |a| matches!(a, Rw | Unsaid));
        let kept: Vec<u8> = kept.iter().zip(&index).map(|(k, i)| k & !i).collect();
        let operation = mask(r, |a| a == Operation);
        let written = access(&mut d, r.id, WRITE, &ones);
        if r.access.iter().all(|a| matches!(a, Ro | Index)) {
            assert_eq!(written, Err((BAD_PARAM, 0x00e6_0002)), "{name}");
        } else {
            let fixed = mask(r, |a| matches!(a, Ro));
            let fixed: Vec<u8> = fresh.iter().zip(&fixed).map(|(f, m)| f & m).collect();
            let kept = or(&kept, &fixed);
            let echo: Vec<u8> = operation.iter().zip(&ones).map(|(o, w)| o & w).collect();
            assert_eq!(written, Ok(or(&kept, &echo)), "{name}");
            assert_eq!(access(&mut d, r.id, READ, &zero), Ok(kept), "{name}");
        }
        let neither = access(&mut d, r.id, 2, &zero);
        assert_eq!(neither, Err((BAD_PARAM, 0x00e0_0002)), "{name}");
        count += 1;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn parts_are_apart_and_a_port_has_two_names() {
    let mut d = up();
    // SLTP: local_port and lane choose a part.
    let r = named("SLTP").unwrap();
    let place = |name: &str| r.layout.fields.iter().find(|f| f.name == name).unwrap();
    let image = |port: u64, lane: u64, policy: u64| {
        let mut b = vec![0; r.layout.bytes()];
        for (name, v) in [("local_port", port), ("lane", lane), ("tx_policy", policy)] {
            set_bits(&mut b, place(name).offset, place(name).width, v);
        }
        b
    };
    let get = |d: &mut Driver, port, lane| {
        let out = access(d, r.id, READ, &image(port, lane, 0)).unwrap();
        let f = place("tx_policy");
        get_bits(&out, f.offset, f.width)
    };
    access(&mut d, r.id, WRITE, &image(1, 2, 1)).unwrap();
    assert_eq!((get(&mut d, 1, 2), get(&mut d, 0, 2)), (1, 1));
    assert_eq!(get(&mut d, 1, 3), 0);
    let other = access(&mut d, r.id, READ, &image(2, 2, 0));
    assert_eq!(other, Err((BAD_PARAM, 0x00e6_0005)));
    // It is part of what a saved card holds.
    let bytes = d.card.save().unwrap();
    d.card = Card::load(Profile::builtin("connectx7").unwrap(), &bytes).unwrap();
    assert_eq!(get(&mut d, 1, 2), 1);
}

#[test]
fn there_is_an_end_to_what_is_kept() {
    let mut d = up();
    let r = named("MPECS").unwrap();
    let (f, _) = (r.layout.fields.iter().zip(r.access))
        .filter(|(_, a)| **a == Access::Index)
        .max_by_key(|(f, _)| f.width)
        .unwrap();
    assert!(f.width >= 13, "{}.{}", r.layout.name, f.name);
    let image = |n: usize| {
        let mut b = vec![0; r.layout.bytes()];
        set_bits(&mut b, f.offset, f.width, n as u64);
        b
    };
    for n in 0..MAX_STORED_REGISTERS {
        access(&mut d, r.id, WRITE, &image(n)).unwrap();
    }
    let one_more = access(&mut d, r.id, WRITE, &image(MAX_STORED_REGISTERS));
    assert_eq!(one_more, Err((NO_RES, 0x00e6_000e)));
    assert!(access(&mut d, r.id, WRITE, &image(7)).is_ok());
}

#[test]
fn any_length_is_taken_as_tools_send_it() {
    let mut d = up();
    let r = named("MGIR").unwrap();
    for len in [0, 4, 160, 1024] {
        let out = access(&mut d, r.id, READ, &vec![0; len]).unwrap();
        assert_eq!(out.len(), len);
    }
}
