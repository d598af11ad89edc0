// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a command costs in time: by call and through the mailbox engine, with few objects and
//! with a million, and what an object costs in memory.
#![allow(missing_docs)] // criterion's macros make functions without any.

mod device;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use device::{Device, inbox};

const COUNTS: [usize; 3] = [10, 10_000, 1_000_000];

fn commands(c: &mut Criterion) {
    let nop = inbox(0x80d, 0, 16);
    let cap = inbox(0x100, 1, 16);
    let mut g = c.benchmark_group("by call");
    for objects in COUNTS {
        let mut d = Device::up();
        d.fill(objects);
        g.bench_function(BenchmarkId::new("NOP", objects), |b| {
            b.iter(|| d.call(&nop, 16));
        });
        g.bench_function(BenchmarkId::new("QUERY_HCA_CAP", objects), |b| {
            b.iter(|| d.call(&cap, 4112));
        });
        g.bench_function(BenchmarkId::new("ALLOC_PD and DEALLOC_PD", objects), |b| {
            let alloc = inbox(0x800, 0, 16);
            let mut free = inbox(0x801, 0, 16);
            b.iter(|| {
                let pd = d.call(&alloc, 16);
                free[8..12].copy_from_slice(&pd.to_be_bytes());
                d.call(&free, 16)
            });
        });
        g.bench_function(
            BenchmarkId::new("CREATE_MKEY and DESTROY_MKEY", objects),
            |b| {
                let create = inbox(0x200, 0, 80);
                let mut destroy = inbox(0x202, 0, 16);
                b.iter(|| {
                    let key = d.call(&create, 16);
                    destroy[8..12].copy_from_slice(&key.to_be_bytes());
                    d.call(&destroy, 16)
                });
            },
        );
    }
    g.finish();
    let mut g = c.benchmark_group("by mailbox");
    let mut d = Device::up();
    d.prepare(&nop, 16);
    g.bench_function("NOP", |b| b.iter(|| d.ring()));
    g.bench_function("NOP, flight recorder", |b| b.iter(|| d.ring_kept()));
    d.prepare(&cap, 4112);
    g.bench_function("QUERY_HCA_CAP, flight recorder", |b| {
        b.iter(|| d.ring_kept());
    });
    g.bench_function("QUERY_HCA_CAP", |b| b.iter(|| d.ring()));
    g.finish();
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|s| s.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

fn memory(_: &mut Criterion) {
    const COUNT: usize = 1_000_000;
    let mut d = Device::up();
    let before = resident();
    d.fill(COUNT);
    println!(
        "memory: {} bytes per memory key, 72 of them its context ({COUNT} of them)",
        resident().saturating_sub(before) / COUNT
    );
}

criterion_group!(benches, memory, commands);
criterion_main!(benches);
