// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a command costs in instructions, which no other process on the machine disturbs.
// What gungraun's macros make.
#![allow(missing_docs, unused_qualifications)]

mod device;
mod owned;

use std::hint::black_box;

use device::{Device, inbox};
use gungraun::{library_benchmark, library_benchmark_group, main};
use owned::{Owned, owned};

fn ready(opcode: u16, op_mod: u16, out: u32) -> (Device, Vec<u8>, u32) {
    let mut d = Device::up();
    let command = inbox(opcode, op_mod, 16);
    // Once, so that buffers have their size.
    d.call(&command, out);
    (d, command, out)
}

/// Reads a register whose second dword is given.
fn register(id: u16, len: usize, second: u32) -> (Device, Vec<u8>, u32) {
    let mut d = Device::up();
    let mut command = inbox(0x805, 1, 16 + len);
    command[10..12].copy_from_slice(&id.to_be_bytes());
    command[20..24].copy_from_slice(&second.to_be_bytes());
    let out = command.len() as u32;
    d.call(&command, out);
    (d, command, out)
}

// What mstconfig sends for each item: nv_global_pci_conf, of class 0.
#[library_benchmark]
#[bench::nop(ready(0x80d, 0, 16))]
#[bench::query_hca_cap(ready(0x100, 1, 4112))]
#[bench::query_adapter(ready(0x101, 0, 272))]
#[bench::mnvda(register(0x9024, 268, 0x80))]
#[bench::mnvqc(register(0x9030, 8, 0x80))]
fn by_call((mut d, command, out): (Device, Vec<u8>, u32)) -> (Device, u32) {
    let id = black_box(d.call(&command, out));
    (d, id)
}

fn posted(opcode: u16, op_mod: u16, out: u32) -> Device {
    let (mut d, command, out) = ready(opcode, op_mod, out);
    d.prepare(&command, out);
    d.ring();
    d
}

#[library_benchmark]
#[bench::nop(posted(0x80d, 0, 16))]
#[bench::query_hca_cap(posted(0x100, 1, 4112))]
fn by_mailbox(mut d: Device) -> Device {
    d.ring();
    d
}

// NOP given to the owner of a card; `scripts/bench --instructions` counts it a second time with a build
// that cannot trace.
#[library_benchmark]
#[bench::nop(owned(false))]
#[bench::nop_traced(owned(true))]
fn by_owner(o: Owned) -> Owned {
    o.nop();
    o
}

fn kept(opcode: u16, op_mod: u16, out: u32) -> Device {
    let mut d = posted(opcode, op_mod, out);
    d.ring_kept();
    d
}

#[library_benchmark]
#[bench::nop(kept(0x80d, 0, 16))]
#[bench::query_hca_cap(kept(0x100, 1, 4112))]
fn with_flight_recorder(mut d: Device) -> Device {
    d.ring_kept();
    d
}

library_benchmark_group!(
    name = commands,
    benchmarks = [by_call, by_mailbox, with_flight_recorder]
);
library_benchmark_group!(name = owner, benchmarks = by_owner);
main!(library_benchmark_groups = [commands, owner]);
