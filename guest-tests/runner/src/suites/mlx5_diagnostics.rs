// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Diagnostic parameters and counters over fwctl, in the bytes that the public tool mlx5ctl sends and reads
//! (proto/facts/diagnostics.toml). Which scope lets them through says the kernel's driver.

use fwctl_proto::{opcode as op, status::Status};
use fwctl_uapi::{Device, Scope, mlx5};

use crate::{
    check, check_eq,
    suites::mlx5_probe,
    test::{Ctx, Done, Suite, test},
};

pub const SUITE: Suite = Suite {
    name: "mlx5-diagnostics",
    about: "SET_DIAGNOSTIC_PARAMS, QUERY_DIAGNOSTIC_PARAMS and QUERY_DIAGNOSTIC_COUNTERS over fwctl",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("what-was-set-is-read-back", 60, read_back),
        test("a-sample-for-each-request", 60, samples),
        test("what-cannot-be-sampled-is-refused", 60, refused),
        test("setting-needs-debug-write", 60, scope),
    ],
};

/// Flags of `diagnostic_params_context`, its fifth byte: repetitive, clear, on_demand, enable.
const REPETITIVE: u8 = 0x40;
const CLEAR: u8 = 0x10;
const ON_DEMAND: u8 = 0x08;
const ENABLE: u8 = 0x04;
/// Counters that the profile's debug capability names.
const COUNTERS: [u16; 2] = [0x0402, 0x0403];
/// Bytes of the parameters, behind eight of opcode or status.
const CONTEXT: usize = 24;

/// Sends an inbox and gives the outbox of `len` bytes.
fn send(device: &Device, scope: Scope, inbox: &[u8], len: usize) -> Done<Vec<u8>> {
    // Whatever the firmware does not write must not be mistaken for an answer.
    let mut out = vec![0xa5; len];
    let reply = device.rpc(scope, inbox, &mut out)?;
    check_eq!(reply.copied, len, "bytes");
    Ok(out)
}

/// SET_DIAGNOSTIC_PARAMS.
fn set(flags: u8, log_samples: u8, log_period: u8, counters: &[u16]) -> Vec<u8> {
    let bytes = 8 + CONTEXT + 4 * counters.len();
    let mut inbox = mlx5::inbox(op::SET_DIAGNOSTIC_PARAMS, 0, bytes);
    inbox[9] = counters.len() as u8;
    inbox[11] = log_samples;
    inbox[12] = flags;
    inbox[15] = log_period;
    for (entry, id) in inbox[8 + CONTEXT..].chunks_exact_mut(4).zip(counters) {
        entry[2..].copy_from_slice(&id.to_be_bytes());
    }
    inbox
}

/// Takes parameters; the reply is sixteen zeros.
fn take(device: &Device, inbox: &[u8]) -> Done {
    let out = send(device, Scope::DebugWrite, inbox, 16)?;
    check_eq!(out, [0; 16], "SET_DIAGNOSTIC_PARAMS");
    Ok(())
}

/// QUERY_DIAGNOSTIC_PARAMS, with room for `counters`.
fn params(device: &Device, counters: usize) -> Done<Vec<u8>> {
    let inbox = mlx5::inbox(op::QUERY_DIAGNOSTIC_PARAMS, 0, mlx5::HEADER);
    let len = 8 + CONTEXT + 4 * counters;
    let out = send(device, Scope::DebugReadOnly, &inbox, len)?;
    check_eq!(out[..8], [0; 8], "status");
    Ok(out[8..].to_vec())
}

/// QUERY_DIAGNOSTIC_COUNTERS: `count` samples from the oldest on, of all counters.
fn counters(device: &Device, count: u8) -> Done<Vec<u8>> {
    let mut inbox = mlx5::inbox(op::QUERY_DIAGNOSTIC_COUNTERS, 0, mlx5::HEADER);
    inbox[9] = count;
    let len = 16 + usize::from(count) * COUNTERS.len() * 16;
    let out = send(device, Scope::DebugReadOnly, &inbox, len)?;
    check_eq!(out[..16], [0; 16], "head");
    Ok(out[16..].to_vec())
}

fn off(device: &Device) -> Done {
    take(device, &set(CLEAR, 0, 0, &[]))?;
    check_eq!(params(device, 0)?, [0; CONTEXT], "nothing is sampled");
    Ok(())
}

fn read_back(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    take(&device, &set(REPETITIVE | ENABLE | CLEAR, 3, 20, &COUNTERS))?;
    // `clear` is done and forgotten; behind the list is room that nobody fills.
    let wanted = [
        &[0, 2, 0, 3, REPETITIVE | ENABLE, 0, 0, 20][..],
        &[0; 16],
        &[0, 0, 0x04, 0x02, 0, 0, 0x04, 0x03],
        &[0; 4],
    ];
    check_eq!(params(&device, 3)?, wanted.concat(), "parameters");
    off(&device)
}

fn samples(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    take(&device, &set(ON_DEMAND | ENABLE | CLEAR, 1, 0, &COUNTERS))?;
    // A counter's id, the sample's number, the time, the value, which is zero: nothing waits here.
    let sample = |entry: &[u8], id: u16, number: u16| -> Done {
        check_eq!(entry[..2], id.to_be_bytes(), "counter_id");
        check_eq!(entry[2..4], number.to_be_bytes(), "sample_id");
        check_eq!(entry[8..], [0; 8], "value");
        Ok(())
    };
    let first = counters(&device, 2)?;
    sample(&first[..16], COUNTERS[0], 0)?;
    sample(&first[16..32], COUNTERS[1], 0)?;
    check_eq!(first[32..], [0; 32], "the sample to come");
    let second = counters(&device, 2)?;
    check_eq!(second[..32], first[..32], "the sample that is kept");
    sample(&second[32..48], COUNTERS[0], 1)?;
    sample(&second[48..], COUNTERS[1], 1)?;
    off(&device)
}

fn refused(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let good = set(REPETITIVE | ENABLE, 3, 20, &COUNTERS);
    take(&device, &good)?;
    let before = params(&device, 2)?;
    for (inbox, what) in [
        (
            set(REPETITIVE | ENABLE, 3, 20, &[0x7777]),
            "no such counter",
        ),
        (
            set(REPETITIVE | ENABLE, 8, 20, &COUNTERS),
            "above log_max_samples",
        ),
        (
            set(REPETITIVE | ENABLE, 3, 15, &COUNTERS),
            "below log_min_sample_period",
        ),
    ] {
        let out = send(&device, Scope::DebugWrite, &inbox, 16)?;
        check_eq!(out[0], Status::BAD_PARAM.code(), "{what}");
        check_eq!(params(&device, 2)?, before, "after {what}");
    }
    off(&device)
}

/// Linux, drivers/fwctl/mlx5/main.c: queries from debug-read-only on, the other from debug-write on.
fn scope(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let mut out = [0; 16];
    let inbox = set(CLEAR, 0, 0, &[]);
    for scope in [Scope::Configuration, Scope::DebugReadOnly] {
        let sent = device.rpc(scope, &inbox, &mut out);
        check!(sent.is_err(), "{scope:?} let SET_DIAGNOSTIC_PARAMS through");
    }
    off(&device)
}
