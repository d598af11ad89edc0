// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What becomes of a request and of its answer on their way.

use fwctl_proto::opcode as op;
use fwctl_uapi::{Errno, MAX_RPC_LEN, Malformed, Scope, mlx5};

use super::triggers;
use crate::{
    check, check_eq, fail,
    rpcs::{HCA_CAP_OUT, RPCS, named},
    suites::fwctl,
    test::{Ctx, Done},
    worker::difference,
};

pub fn uid_forced(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let other = ctx.open()?;
    let others = other.info()?.mlx5()?.uid as u16;
    for rpc in RPCS {
        let wanted = rpc.send(&device)?;
        for uid in fwctl::FOREIGN_UIDS.into_iter().chain([others]) {
            let mut inbox = rpc.inbox();
            inbox[2..4].copy_from_slice(&uid.to_be_bytes());
            let mut outbox = vec![0; rpc.out_len];
            let reply = device.rpc(rpc.scope, &inbox, &mut outbox)?;
            let found = &outbox[..reply.copied];
            // A uid that reached the firmware would be unknown to it, or the driver's.
            check!(
                found == wanted,
                "{} with uid {uid:#x}: {}",
                rpc.name,
                difference(&wanted, found)
            );
        }
    }
    Ok(())
}

pub fn errno_table(ctx: &Ctx) -> Done {
    fwctl::scope_unknown(ctx)?;
    fwctl::inbox_too_long(ctx)?;
    fwctl::outbox_too_long(ctx)?;
    fwctl::inbox_too_short(ctx)?;
    fwctl::outbox_too_short(ctx)?;
    let device = ctx.open()?;
    let mut nop = [0; mlx5::HEADER];
    nop.copy_from_slice(&mlx5::inbox(op::NOP, 0, mlx5::HEADER));
    for (which, wanted) in [
        (Malformed::UnknownNumber, Err(Errno::ENOTTY)),
        (Malformed::SizedNumber, Err(Errno::ENOTTY)),
        (Malformed::ShortStruct, Err(Errno::EINVAL)),
        (Malformed::LongZeros, Ok(())),
        (Malformed::LongGarbage, Err(Errno::E2BIG)),
        (Malformed::InfoFlags, Err(Errno::EOPNOTSUPP)),
        (Malformed::StructPointer, Err(Errno::EFAULT)),
        (Malformed::InPointer, Err(Errno::EFAULT)),
        (Malformed::OutPointer, Err(Errno::EFAULT)),
    ] {
        let found = device.malformed(which, Scope::DebugReadOnly, nop);
        check_eq!(found, wanted, "{which:?}");
    }
    Ok(())
}

pub fn buffers(ctx: &Ctx) -> Done {
    fwctl::inbox_longer(ctx)?;
    fwctl::outbox_shorter(ctx)?;
    fwctl::outbox_longer(ctx)?;
    let device = ctx.open()?;
    let rpc = named("query_hca_cap.general.max");
    let whole = rpc.send(&device)?;
    let mut long = rpc.inbox();
    // fwctl takes 2 MiB. A mailbox may be shorter: then the firmware's no is not fwctl's.
    for (in_len, out_len) in [
        (MAX_RPC_LEN / 4, HCA_CAP_OUT),
        (mlx5::HEADER, MAX_RPC_LEN / 4),
        (MAX_RPC_LEN, HCA_CAP_OUT),
        (mlx5::HEADER, MAX_RPC_LEN),
        (MAX_RPC_LEN, MAX_RPC_LEN),
    ] {
        let what = format!("an inbox of {in_len} and an outbox of {out_len} bytes");
        long.resize(in_len, 0);
        let mut outbox = vec![0xaa; out_len];
        match device.rpc(rpc.scope, &long, &mut outbox) {
            Ok(_) => {
                let found = &outbox[..HCA_CAP_OUT];
                check!(found == whole, "{what}: {}", difference(&whole, found));
                let rest = &outbox[HCA_CAP_OUT..];
                check!(
                    rest.iter().all(|b| *b == 0),
                    "{what}: bytes behind the reply"
                );
                ctx.note(format!("{what}: answered"));
            }
            Err(e) if e.errno() == Some(Errno::EMSGSIZE) || in_len.max(out_len) < MAX_RPC_LEN => {
                fail!("{what}: {e}")
            }
            Err(e) => ctx.note(format!("{what}: {e}")),
        }
    }
    // And the device goes on.
    check!(rpc.send(&device)? == whole, "another reply afterwards");
    Ok(())
}

pub fn firmware_status(ctx: &Ctx) -> Done {
    fwctl::firmware_refusal(ctx)?;
    if !ctx.triggers {
        ctx.note("one status alone: others need --triggers");
        return Ok(());
    }
    let device = ctx.open()?;
    for status in triggers::statuses() {
        let mut wanted = [0; mlx5::HEADER];
        wanted[0] = status.code();
        wanted[4..8].copy_from_slice(&triggers::syndrome(status).to_be_bytes());
        let found = triggers::pull(&device, triggers::REFUSED + u16::from(status.code()))?;
        check_eq!(found, wanted, "outbox with {}", status.name());
    }
    Ok(())
}

pub fn reserved_garbage(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    for rpc in RPCS {
        let wanted = rpc.send(&device)?;
        for byte in [0x01, 0xa5, 0xff] {
            let mut inbox = rpc.inbox();
            // reserved_at_20 of every command.
            inbox[4..6].fill(byte);
            // Bytes behind the command; NOP and QUERY_ISSI have nothing in their second half either.
            if matches!(rpc.name, "nop" | "query_issi") {
                inbox[8..].fill(byte);
                inbox.extend([byte; 48]);
            }
            let mut outbox = vec![0; rpc.out_len];
            let reply = device.rpc(rpc.scope, &inbox, &mut outbox)?;
            let found = &outbox[..reply.copied];
            check!(
                found == wanted,
                "{} with {byte:#x} in reserved fields: {}",
                rpc.name,
                difference(&wanted, found)
            );
        }
    }
    if ctx.triggers {
        let mut wanted = [0xff; mlx5::HEADER];
        wanted[..8].fill(0);
        check_eq!(
            triggers::pull(&device, triggers::ONES)?,
            wanted,
            "an outbox with ones in its reserved fields"
        );
    }
    Ok(())
}
