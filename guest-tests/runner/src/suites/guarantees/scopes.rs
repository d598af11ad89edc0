// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a scope allows, and what it costs.

use std::{fs, path::Path};

use fwctl_proto::opcode as op;
use fwctl_uapi::{Device, Errno, Error, Scope};

use super::opcodes::{self, Least};
use crate::{
    check, check_eq, dmesg, fail, modules, skip,
    suites::{
        fwctl::{refused, scope_full_needs_rawio, send},
        mlx5_probe,
    },
    test::{Ctx, Done, read_file, write_file},
};

/// `TAINT_FWCTL` of include/linux/panic.h, as a bit of /proc/sys/kernel/tainted.
const TAINT_FWCTL: u32 = 19;
/// What fwctl says when somebody first asks for one of the debug-write scopes.
const ANNOUNCED: &str = "has requested full access to the physical device";
/// The kernel's lockdown state (securityfs).
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

pub fn scope_by_opcode(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let mut wrong = Vec::new();
    let mut sent = 0;
    for opcode in opcodes::swept() {
        for op_mod in [0, 1] {
            let least = opcodes::least(opcode, op_mod);
            // What may change the card is sent to an emulated one alone.
            if matches!(least, Least::From(_)) && !opcodes::only_reads(opcode) && !ctx.triggers {
                continue;
            }
            for at in Scope::ALL {
                let allowed = least.allows(at);
                let denied = match send(&device, at, opcode, op_mod) {
                    Ok(_) => false,
                    Err(e) if e.errno() == Some(Errno::EBADMSG) => true,
                    Err(e) => fail!("{opcode:#x} op_mod {op_mod} at {at}: {e}"),
                };
                sent += 1;
                if denied == allowed {
                    let word = if allowed { "refused" } else { "let through" };
                    wrong.push(format!("{opcode:#x} op_mod {op_mod} at {at} is {word}"));
                }
            }
        }
    }
    ctx.note(format!("{sent} combinations of opcode, op_mod and scope"));
    check!(
        wrong.is_empty(),
        "{} wrong, the first: {}",
        wrong.len(),
        wrong[..wrong.len().min(4)].join("; ")
    );
    Ok(())
}

fn is_tainted() -> Done<bool> {
    let text = read_file("/proc/sys/kernel/tainted")?;
    match text.parse::<u64>() {
        Ok(bits) => Ok(bits >> TAINT_FWCTL & 1 == 1),
        Err(_) => fail!("/proc/sys/kernel/tainted says {text:?}"),
    }
}

/// A fwctl that has told nobody yet: its module is loaded anew.
fn fresh() -> Done<dmesg::Log> {
    if !modules::is_loaded("fwctl") {
        skip!("fwctl is built into this kernel: it speaks once for each boot");
    }
    if Path::new(LOCKDOWN).exists() && !read_file(LOCKDOWN)?.contains("[none]") {
        skip!("the kernel is locked down: modules cannot be loaded any more");
    }
    modules::unload("fwctl")?;
    modules::load("mlx5_fwctl")?;
    mlx5_probe::wait_until_up()?;
    Ok(dmesg::Log::from_now()?)
}

fn announced(log: &mut dmesg::Log) -> Done<usize> {
    let lines = log.read_new()?;
    Ok(lines.iter().filter(|r| r.text.contains(ANNOUNCED)).count())
}

fn nop(device: &Device, at: Scope) -> Done {
    check_eq!(
        send(device, at, op::NOP, 0)?.status,
        0,
        "status of NOP at {at}"
    );
    Ok(())
}

pub fn taint_only_by_debug_write(ctx: &Ctx) -> Done {
    let mut log = fresh()?;
    let before = is_tainted()?;
    let device = ctx.open()?;
    check_eq!(
        send(&device, Scope::Configuration, op::QUERY_ADAPTER, 0)?.status,
        0,
        "status of QUERY_ADAPTER"
    );
    nop(&device, Scope::DebugReadOnly)?;
    // What the driver refuses at these scopes, and what fwctl refuses.
    for at in [Scope::Configuration, Scope::DebugReadOnly] {
        refused(
            "CREATE_EQ",
            send(&device, at, op::CREATE_EQ, 0),
            Errno::EBADMSG,
        )?;
    }
    let unknown = send(&device, Scope::Other(4), op::NOP, 0);
    check!(unknown.is_err(), "a scope that there is not is let through");
    check_eq!(announced(&mut log)?, 0, "lines in the kernel log");
    check_eq!(is_tainted()?, before, "the kernel's taint");
    ctx.note(format!("tainted before: {before}"));
    Ok(())
}

pub fn taint_once(ctx: &Ctx) -> Done {
    for first in [Scope::DebugWrite, Scope::DebugWriteFull] {
        let mut log = fresh()?;
        let device = ctx.open()?;
        nop(&device, first)?;
        check_eq!(
            announced(&mut log)?,
            1,
            "lines in the kernel log after {first}"
        );
        check!(is_tainted()?, "the kernel is not tainted after {first}");
        for at in [Scope::DebugWrite, Scope::DebugWriteFull, first] {
            nop(&device, at)?;
            nop(&ctx.open()?, at)?;
        }
        check_eq!(announced(&mut log)?, 0, "more lines after {first}");
    }
    Ok(())
}

pub fn full_needs_rawio(ctx: &Ctx) -> Done {
    nop(&ctx.open()?, Scope::DebugWriteFull)?;
    scope_full_needs_rawio(ctx)
}

/// What each scope says to the same command.
fn verdicts(ctx: &Ctx) -> Done<Vec<Result<u8, Option<Errno>>>> {
    let device = ctx.open()?;
    let verdict = |r: Result<fwctl_uapi::mlx5::Status, Error>| match r {
        Ok(status) => Ok(status.status),
        Err(e) => Err(e.errno()),
    };
    let opcodes = [op::NOP, op::QUERY_HCA_CAP, op::CREATE_EQ];
    let each = |at| opcodes.map(|o| verdict(send(&device, at, o, 0)));
    Ok(Scope::ALL.into_iter().flat_map(each).collect())
}

pub fn lockdown_changes_nothing(ctx: &Ctx) -> Done {
    if !Path::new(LOCKDOWN).exists() {
        skip!("this kernel has no {LOCKDOWN}, or securityfs is not mounted");
    }
    let before = verdicts(ctx)?;
    check_eq!(
        before.iter().filter(|v| v.is_ok()).count(),
        7,
        "commands let through"
    );
    if fs::read_to_string(LOCKDOWN)?.contains("[none]") {
        write_file(LOCKDOWN, "integrity")?;
    }
    let state = read_file(LOCKDOWN)?;
    ctx.note(&state);
    check!(
        !state.contains("[none]"),
        "the kernel is not locked down: {state}"
    );
    check_eq!(verdicts(ctx)?, before, "the verdicts under lockdown");
    nop(&ctx.open()?, Scope::DebugWriteFull)?;
    scope_full_needs_rawio(ctx)
}
