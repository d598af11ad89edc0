// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a user shares with the kernel and with other users, and what he does not get at.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use fwctl_proto::opcode as op;
use fwctl_uapi::{Device, Errno, Scope, mlx5};

use super::opcodes;
use crate::{
    check, check_eq, fail,
    rpcs::{HCA_CAP_OUT, RPCS, named},
    skip,
    suites::fwctl::{refused, send},
    sysfs,
    test::{Ctx, Done},
    worker::{End, Reference, Workers},
};

/// Processes and commands of each beside the kernel's commands.
const PROCESSES: usize = 4;
const RPCS_EACH: u64 = 150;
/// Users that come and go meanwhile: each is a CREATE_UCTX and a DESTROY_UCTX of the driver's.
const USERS: usize = 50;

pub fn concurrent_with_kernel(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let reference = Reference::take(&entry.open()?)?;
    let mut workers = Workers::start(PROCESSES, &entry.name, RPCS_EACH, &reference)?;
    workers.go()?;
    let mut read = 0;
    for _ in 0..USERS {
        let device = entry.open()?;
        device.info()?.mlx5()?;
        // Where there is one, mlx5_core asks the firmware for the temperature.
        let sensors = sysfs::names(Path::new("/sys/class/hwmon"));
        for sensor in sensors {
            let file = format!("/sys/class/hwmon/{sensor}/temp1_input");
            read += usize::from(fs::read_to_string(file).is_ok());
        }
    }
    for (i, end) in workers.join()?.into_iter().enumerate() {
        check_eq!(end, End::Right(RPCS_EACH), "end of process {i}");
    }
    ctx.note(format!("{USERS} users came and went, {read} temperatures"));
    Ok(())
}

/// The first event queue of the driver that the firmware shows, by its number.
fn drivers_eq(device: &Device) -> Done<(u8, Vec<u8>)> {
    for eqn in 0..=u8::MAX {
        let outbox = query_eq(device, eqn)?;
        if outbox[0] == 0 {
            return Ok((eqn, outbox));
        }
    }
    fail!("no event queue can be queried, and the driver has some")
}

fn query_eq(device: &Device, eqn: u8) -> Done<Vec<u8>> {
    let mut inbox = mlx5::inbox(op::QUERY_EQ, 0, mlx5::HEADER);
    inbox[11] = eqn;
    // struct query_eq_out.
    let mut outbox = vec![0; 272];
    device.rpc(Scope::DebugReadOnly, &inbox, &mut outbox)?;
    Ok(outbox)
}

pub fn objects_of_others(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let (eqn, _) = drivers_eq(&device)?;
    ctx.note(format!("event queue {eqn} is the driver's"));
    // What would change it or make another does not pass at any scope.
    for opcode in [
        op::CREATE_EQ,
        op::DESTROY_EQ,
        op::CREATE_MKEY,
        op::DESTROY_MKEY,
    ] {
        for at in Scope::ALL {
            let mut inbox = mlx5::inbox(opcode, 0, 64);
            inbox[11] = eqn;
            let sent = device.rpc(at, &inbox, &mut [0; 64]);
            refused(&format!("{opcode:#x} at {at}"), sent, Errno::EBADMSG)?;
        }
    }
    check_eq!(
        query_eq(&device, eqn)?[0],
        0,
        "status of its query afterwards"
    );
    // SET_HCA_CAP passes the driver; the firmware lets tools set no capability of their own function.
    let cur = named("query_hca_cap.general.cur");
    let before = cur.send(&device)?;
    let mut inbox = mlx5::inbox(op::SET_HCA_CAP, 0, HCA_CAP_OUT);
    inbox[mlx5::HEADER..].copy_from_slice(&before[mlx5::HEADER..]);
    let mut outbox = [0; 16];
    device.rpc(Scope::Configuration, &inbox, &mut outbox)?;
    check!(
        !mlx5::status(&outbox)?.is_ok(),
        "SET_HCA_CAP of the own function is not refused"
    );
    check!(cur.send(&device)? == before, "capabilities have changed");
    Ok(())
}

/// What nobody else must come to know.
const SECRET: [u8; 16] = *b"Kept-From-Users!";

fn leaks(bytes: &[u8]) -> bool {
    // Half of it would be as bad.
    let (first, second) = SECRET.split_at(8);
    bytes.windows(8).any(|w| w == first || w == second)
}

pub fn no_secrets(ctx: &Ctx) -> Done {
    let secret: Vec<u8> = SECRET.iter().copied().cycle().take(8192).collect();
    // It goes through the kernel's buffers and the firmware's mailboxes, and stays in our memory.
    let owner = ctx.open()?;
    for _ in 0..16 {
        for (opcode, scope) in [(op::NOP, 1), (op::QUERY_HCA_CAP, 0), (op::QUERY_ISSI, 1)] {
            let mut inbox = mlx5::inbox(opcode, 0, mlx5::HEADER);
            inbox.extend_from_slice(&secret);
            owner.rpc(Scope::from_raw(scope), &inbox, &mut [0; 16])?;
        }
    }
    let user = ctx.open()?;
    for at in [Scope::Configuration, Scope::DebugReadOnly] {
        for out_len in [mlx5::HEADER, 512, HCA_CAP_OUT, 16 << 10] {
            for opcode in opcodes::reads().chain([op::NOP]) {
                if !opcodes::least(opcode, 0).allows(at) {
                    continue;
                }
                let mut outbox = vec![0; out_len];
                user.rpc(at, &mlx5::inbox(opcode, 0, 64), &mut outbox)?;
                check!(
                    !leaks(&outbox),
                    "{opcode:#x} at {at} shows what another user sent"
                );
            }
        }
    }
    for rpc in RPCS {
        check!(
            !leaks(&rpc.send(&user)?),
            "{} shows what another user sent",
            rpc.name
        );
    }
    let info = user.info()?;
    check!(
        !leaks(&info.data),
        "FWCTL_INFO shows what another user sent"
    );
    check!(leaks(&secret), "the test finds nothing");
    Ok(())
}

/// A page of ours.
const PAGE: usize = 4096;

/// The bus address of a page of this process, if the kernel tells and there is no IOMMU between.
fn address(page: &[u8]) -> Done<u64> {
    let map = File::open("/proc/self/pagemap")?;
    let mut entry = [0; 8];
    map.read_exact_at(&mut entry, page.as_ptr() as u64 / PAGE as u64 * 8)?;
    let entry = u64::from_ne_bytes(entry);
    let frame = entry & ((1 << 55) - 1);
    if entry >> 63 == 0 || frame == 0 {
        skip!("the kernel does not tell where a page lies (CAP_SYS_ADMIN)");
    }
    Ok(frame * PAGE as u64)
}

/// Registers whose fields are numbers of objects, addresses or lengths: MCAM, PCAM, QCAM, RESOURCE_DUMP,
/// MTRC_CAP, MTRC_CONF, MTRC_STDB, MTRC_CTRL, CORE_DUMP.
const REGISTERS: [u16; 9] = [
    0x907f, 0x507f, 0x4019, 0xc000, 0x9040, 0x9041, 0x9042, 0x9043, 0x910e,
];

pub fn no_stray_dma(ctx: &Ctx) -> Done {
    if fs::read_dir("/sys/class/iommu").is_ok_and(|mut d| d.next().is_some()) {
        skip!("there is an IOMMU, which is what keeps a device in its pages");
    }
    let mut memory = vec![0u8; 3 * PAGE];
    memory.fill(0x5e);
    let start = memory.as_ptr().align_offset(PAGE);
    let page = &memory[start..start + PAGE];
    let at = address(page)?;
    ctx.note(format!(
        "a page at {at:#x}, which nobody gave to the device"
    ));
    let device = ctx.open()?;
    let before = page.to_vec();
    let registers = REGISTERS.map(|r| (op::ACCESS_REG, Some(r)));
    let commands = opcodes::reads().map(|o| (o, None));
    for (opcode, register) in commands.chain(registers) {
        let op_mod = u16::from(register.is_some());
        let mut inbox = mlx5::inbox(opcode, op_mod, 256);
        // Its address, wherever an address, a key or a length may be looked for.
        for slot in inbox[8..].chunks_exact_mut(8) {
            slot.copy_from_slice(&at.to_be_bytes());
        }
        if let Some(r) = register {
            inbox[8..16].fill(0);
            inbox[10..12].copy_from_slice(&r.to_be_bytes());
        }
        // Whatever the firmware says to that, it says it in the outbox.
        device.rpc(Scope::DebugReadOnly, &inbox, &mut [0; 512])?;
        // A byte that the compiler does not expect to change.
        let now = std::hint::black_box(page).to_vec();
        check!(
            now == before,
            "{opcode:#x} (register {register:x?}) wrote to a page that was not given"
        );
    }
    check_eq!(address(page)?, at, "the page's address afterwards");
    check_eq!(
        send(&device, Scope::DebugReadOnly, op::NOP, 0)?.status,
        0,
        "status of the next command"
    );
    Ok(())
}
