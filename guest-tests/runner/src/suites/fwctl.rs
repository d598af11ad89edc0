// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! FWCTL_INFO and FWCTL_RPC as `drivers/fwctl/main.c` and `mlx5_fwctl` define them; the same on
//! each transport.

use fwctl_proto::{layout::View, layouts::CmdHcaCap, opcode as op};
use fwctl_uapi::{Device, DeviceType, Errno, Error, MAX_RPC_LEN, Scope, mlx5};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::{
    check, check_eq, fail, hex,
    rpcs::{HCA_CAP_OUT, OWN, RPCS, named},
    test::{Ctx, Done, Suite, test},
    worker::difference,
};

pub const SUITE: Suite = Suite {
    name: "fwctl",
    about: "FWCTL_INFO, FWCTL_RPC, scopes, lengths and errors",
    subjects: &["fwctl", "mlx5"],
    expects: &[],
    tests: &[
        test("device-node", 60, device_node),
        test("info", 60, info),
        test("info-uid-per-open", 60, uid_per_open),
        test("query-hca-cap", 60, query_hca_cap),
        test("rpc-digests", 120, digests),
        test("scope-configuration", 60, scope_configuration),
        test("scope-debug-read-only", 60, scope_debug_read_only),
        test("scope-debug-write", 60, scope_debug_write),
        test("scope-access-reg", 60, scope_access_reg),
        test("scope-unknown", 60, scope_unknown),
        test("scope-full-needs-rawio", 60, scope_full_needs_rawio),
        test("opcode-never-allowed", 60, opcode_never),
        test("firmware-refusal", 60, firmware_refusal),
        test("inbox-too-long", 60, inbox_too_long),
        test("outbox-too-long", 60, outbox_too_long),
        test("inbox-too-short", 60, inbox_too_short),
        test("outbox-too-short", 60, outbox_too_short),
        test("inbox-longer-than-command", 60, inbox_longer),
        test("outbox-shorter-than-reply", 60, outbox_shorter),
        test("outbox-longer-than-reply", 60, outbox_longer),
        test("uid-forced", 60, uid_forced),
    ],
};

/// `MLX5_UCTX_OBJECT_CAP_TOOLS_RESOURCES` of `mlx5_fwctl`.
pub(super) const TOOLS_RESOURCES: u32 = 0x4;
/// uids that are none of the caller's: the driver's own, likely another user's, unused, shared.
pub(super) const FOREIGN_UIDS: [u16; 4] = [0, 1, 0x7777, 0xffff];

/// Checks that the kernel refuses with `errno`.
pub(super) fn refused<T: std::fmt::Debug>(
    what: &str,
    result: Result<T, Error>,
    errno: Errno,
) -> Done {
    match result {
        Err(e) if e.errno() == Some(errno) => Ok(()),
        Err(e) => fail!("{what}: wanted {errno}, found: {e}"),
        Ok(reply) => fail!("{what}: wanted {errno}, found {reply:?}"),
    }
}

/// A header-only RPC; returns the firmware's verdict.
pub(super) fn send(
    device: &Device,
    scope: Scope,
    opcode: u16,
    op_mod: u16,
) -> Result<mlx5::Status, Error> {
    let mut outbox = [0; 256];
    let reply = device.rpc(
        scope,
        &mlx5::inbox(opcode, op_mod, mlx5::HEADER),
        &mut outbox,
    )?;
    mlx5::status(&outbox[..reply.copied])
}

fn device_node(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    drop(entry.open()?);
    check!(
        entry.pci().is_some(),
        "the parent of {} is {:?}, not a PCI device",
        entry.name,
        entry.parent
    );
    Ok(())
}

fn info(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let info = device.info()?;
    check_eq!(info.device_type, DeviceType::MLX5, "device type");
    check_eq!(info.data.len(), 8, "bytes of struct fwctl_info_mlx5");
    let mlx5 = info.mlx5()?;
    ctx.note(format!("uid {} caps {:#x}", mlx5.uid, mlx5.uctx_caps));
    check!(
        (1..0xffff).contains(&mlx5.uid),
        "uid {} is none of a user context",
        mlx5.uid
    );
    check_eq!(
        mlx5.uctx_caps & TOOLS_RESOURCES,
        TOOLS_RESOURCES,
        "TOOLS_RESOURCES in the capabilities"
    );
    check_eq!(device.info()?, info, "FWCTL_INFO a second time");
    Ok(())
}

fn uid_per_open(ctx: &Ctx) -> Done {
    let mut devices = Vec::new();
    let mut uids = Vec::new();
    for _ in 0..8 {
        let device = ctx.open()?;
        uids.push(device.info()?.mlx5()?.uid);
        devices.push(device);
    }
    let mut sorted = uids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    check_eq!(sorted.len(), uids.len(), "different uids among {uids:?}");
    Ok(())
}

fn query_hca_cap(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let max = named("query_hca_cap.general.max").send(&device)?;
    let cur = named("query_hca_cap.general.cur").send(&device)?;
    for (which, reply) in [("max", &max), ("cur", &cur)] {
        check_eq!(reply.len(), HCA_CAP_OUT, "length of {which}");
        check_eq!(
            mlx5::status(reply)?,
            mlx5::Status {
                status: 0,
                syndrome: 0
            },
            "status of {which}"
        );
        let Some(caps) = View::<CmdHcaCap>::new(&reply[mlx5::HEADER..]) else {
            fail!("{which} has no capability page")
        };
        let uctx = caps.get(CmdHcaCap::UCTX_CAP) as u32;
        check_eq!(
            uctx & TOOLS_RESOURCES,
            TOOLS_RESOURCES,
            "TOOLS_RESOURCES in uctx_cap of {which}"
        );
        check!(
            caps.get(CmdHcaCap::MAX_NUM_EQS) != 0 || caps.get(CmdHcaCap::LOG_MAX_EQ) != 0,
            "{which} allows no event queue"
        );
    }
    Ok(())
}

fn digests(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let mut wrong = Vec::new();
    for rpc in RPCS {
        match rpc.send(&device) {
            Err(e) => wrong.push(format!("{}: {e}", rpc.name)),
            Ok(reply) => {
                let head = hex::encode(&reply[..reply.len().min(16)]);
                let digest = hex::fnv1a64(&reply);
                let what = if rpc.name.starts_with(OWN) {
                    "own"
                } else {
                    "digest"
                };
                ctx.note(format!(
                    "{what} {} len={} head={head} fnv1a64={digest:016x}",
                    rpc.name,
                    reply.len()
                ));
                wrong.extend(rpc.judge(&reply).err());
            }
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn scope_configuration(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let at = Scope::Configuration;
    for opcode in [op::QUERY_HCA_CAP, op::QUERY_ADAPTER] {
        check_eq!(
            send(&device, at, opcode, 0)?.status,
            0,
            "status of {opcode:#x}"
        );
    }
    for opcode in [
        op::QUERY_ISSI,
        op::NOP,
        op::QUERY_PAGES,
        op::SET_DIAGNOSTIC_PARAMS,
    ] {
        refused(
            &format!("{opcode:#x} at configuration"),
            send(&device, at, opcode, 1),
            Errno::EBADMSG,
        )?;
    }
    Ok(())
}

fn scope_debug_read_only(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let at = Scope::DebugReadOnly;
    for opcode in [op::QUERY_HCA_CAP, op::QUERY_ISSI, op::NOP] {
        check_eq!(
            send(&device, at, opcode, 0)?.status,
            0,
            "status of {opcode:#x}"
        );
    }
    refused(
        "SET_DIAGNOSTIC_PARAMS",
        send(&device, at, op::SET_DIAGNOSTIC_PARAMS, 0),
        Errno::EBADMSG,
    )
}

fn scope_debug_write(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    for at in [Scope::DebugWrite, Scope::DebugWriteFull] {
        check_eq!(
            send(&device, at, op::NOP, 0)?.status,
            0,
            "status of NOP at {at}"
        );
        check_eq!(
            send(&device, at, op::QUERY_HCA_CAP, 0)?.status,
            0,
            "status of QUERY_HCA_CAP at {at}"
        );
        // The driver lets it through; what the firmware says depends on the card.
        ctx.note(format!(
            "SET_DIAGNOSTIC_PARAMS at {at}: {}",
            send(&device, at, op::SET_DIAGNOSTIC_PARAMS, 0)?
        ));
    }
    Ok(())
}

fn scope_access_reg(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let read = named("access_reg.mcam");
    refused(
        "a register read at configuration",
        read.send_at(&device, Scope::Configuration),
        Errno::EBADMSG,
    )?;
    for at in [
        Scope::DebugReadOnly,
        Scope::DebugWrite,
        Scope::DebugWriteFull,
    ] {
        read.judge(&read.send_at(&device, at)?)?;
    }
    // A write passes the driver at configuration scope; the firmware knows no such register.
    let mut write = *named("access_reg.unknown");
    write.op_mod = 0;
    write.judge(&write.send_at(&device, Scope::Configuration)?)?;
    Ok(())
}

pub(super) fn scope_unknown(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    for raw in [4, 0x100, u32::MAX] {
        let at = Scope::from_raw(raw);
        refused(
            &format!("scope {raw}"),
            send(&device, at, op::QUERY_HCA_CAP, 0),
            Errno::EOPNOTSUPP,
        )?;
    }
    Ok(())
}

pub(super) fn scope_full_needs_rawio(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let failed = |e: rustix::io::Errno| {
        format!(
            "cannot change the capabilities: {}",
            std::io::Error::from(e)
        )
    };
    let mut sets = capabilities(None).map_err(failed)?;
    check!(
        sets.effective.contains(CapabilitySet::SYS_RAWIO),
        "the runner itself has no CAP_SYS_RAWIO"
    );
    sets.effective -= CapabilitySet::SYS_RAWIO;
    set_capabilities(None, sets).map_err(failed)?;
    refused(
        "NOP at scope 3",
        send(&device, Scope::DebugWriteFull, op::NOP, 0),
        Errno::EPERM,
    )?;
    check_eq!(
        send(&device, Scope::DebugWrite, op::NOP, 0)?.status,
        0,
        "status of NOP at scope 2"
    );
    Ok(())
}

fn opcode_never(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let never = [
        0,
        op::TEARDOWN_HCA,
        op::MANAGE_PAGES,
        op::CREATE_EQ,
        op::CREATE_UCTX,
        op::DESTROY_UCTX,
        0xffff,
    ];
    for opcode in never {
        for at in Scope::ALL {
            refused(
                &format!("{opcode:#x} at {at}"),
                send(&device, at, opcode, 0),
                Errno::EBADMSG,
            )?;
        }
    }
    Ok(())
}

pub(super) fn firmware_refusal(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let rpc = named("query_hca_cap.unknown");
    let mut outbox = vec![0; rpc.out_len];
    match mlx5::exec(&device, rpc.scope, &rpc.inbox(), &mut outbox) {
        Err(Error::Firmware {
            opcode,
            op_mod,
            status,
        }) => {
            check_eq!(
                (opcode, op_mod),
                (rpc.opcode, rpc.op_mod),
                "command in the error"
            );
            check_eq!(status.status, rpc.status.code(), "status");
            check!(status.syndrome != 0, "a refusal has no syndrome");
        }
        other => fail!("wanted a refusal by the firmware, found {other:?}"),
    }
    check!(
        outbox[8..].iter().all(|b| *b == 0),
        "a refusal carries data"
    );
    // And the next command is served.
    check_eq!(
        send(&device, Scope::DebugReadOnly, op::NOP, 0)?.status,
        0,
        "status of the next command"
    );
    Ok(())
}

pub(super) fn inbox_too_long(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let inbox = mlx5::inbox(op::NOP, 0, MAX_RPC_LEN + 1);
    refused(
        "2 MiB + 1",
        device.rpc(Scope::DebugReadOnly, &inbox, &mut [0; 16]),
        Errno::EMSGSIZE,
    )
}

pub(super) fn outbox_too_long(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let mut outbox = vec![0; MAX_RPC_LEN + 1];
    refused(
        "2 MiB + 1",
        device.rpc(
            Scope::DebugReadOnly,
            &mlx5::inbox(op::NOP, 0, 16),
            &mut outbox,
        ),
        Errno::EMSGSIZE,
    )
}

pub(super) fn inbox_too_short(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let inbox = mlx5::inbox(op::NOP, 0, mlx5::HEADER);
    for len in [0, 1, 15] {
        let result = device.rpc(Scope::DebugReadOnly, &inbox[..len], &mut [0; 16]);
        refused(&format!("an inbox of {len} bytes"), result, Errno::EMSGSIZE)?;
    }
    Ok(())
}

pub(super) fn outbox_too_short(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let inbox = mlx5::inbox(op::NOP, 0, mlx5::HEADER);
    let mut outbox = [0; 16];
    for len in [0, 1, 15] {
        let result = device.rpc(Scope::DebugReadOnly, &inbox, &mut outbox[..len]);
        refused(
            &format!("an outbox of {len} bytes"),
            result,
            Errno::EMSGSIZE,
        )?;
    }
    Ok(())
}

pub(super) fn inbox_longer(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    for len in [17, 64, 528, 529, 8192] {
        let mut outbox = [0xaa; 16];
        let reply = device.rpc(
            Scope::DebugReadOnly,
            &mlx5::inbox(op::NOP, 0, len),
            &mut outbox,
        )?;
        check_eq!(
            (reply.len, outbox),
            (16, [0; 16]),
            "NOP with an inbox of {len} bytes"
        );
    }
    Ok(())
}

pub(super) fn outbox_shorter(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let rpc = named("query_hca_cap.general.max");
    let whole = rpc.send(&device)?;
    for len in [16, 17, 256, 528, 529, HCA_CAP_OUT - 1] {
        let mut outbox = vec![0xaa; len + 64];
        let reply = device.rpc(rpc.scope, &rpc.inbox(), &mut outbox[..len])?;
        check!(
            reply.len >= len,
            "out_len {} for an outbox of {len} bytes",
            reply.len
        );
        check_eq!(reply.copied, len, "bytes copied");
        check!(
            outbox[..len] == whole[..len],
            "{len} bytes: {}",
            difference(&whole[..len], &outbox[..len])
        );
        check!(
            outbox[len..].iter().all(|b| *b == 0xaa),
            "the kernel wrote behind an outbox of {len} bytes"
        );
    }
    Ok(())
}

pub(super) fn outbox_longer(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let rpc = named("query_hca_cap.general.max");
    let whole = rpc.send(&device)?;
    for len in [HCA_CAP_OUT + 1, 8192, 64 << 10] {
        let mut outbox = vec![0xaa; len];
        let reply = device.rpc(rpc.scope, &rpc.inbox(), &mut outbox)?;
        check!(
            (HCA_CAP_OUT..=len).contains(&reply.len),
            "out_len {} for an outbox of {len} bytes and a reply of {HCA_CAP_OUT}",
            reply.len
        );
        let got = &outbox[..HCA_CAP_OUT];
        check!(got == whole, "{len} bytes: {}", difference(&whole, got));
        check!(
            outbox[HCA_CAP_OUT..reply.copied].iter().all(|b| *b == 0),
            "bytes behind the reply are not zero"
        );
    }
    Ok(())
}

fn uid_forced(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let rpc = named("query_issi");
    let wanted = rpc.send(&device)?;
    rpc.judge(&wanted)?;
    for uid in FOREIGN_UIDS {
        let mut inbox = rpc.inbox();
        inbox[2..4].copy_from_slice(&uid.to_be_bytes());
        let mut outbox = vec![0; rpc.out_len];
        device.rpc(rpc.scope, &inbox, &mut outbox)?;
        // Were the uid let through, the firmware would refuse those that it does not know.
        check!(
            outbox == wanted,
            "uid {uid:#x} in the inbox: {}",
            difference(&wanted, &outbox)
        );
        check_eq!(inbox[2..4], uid.to_be_bytes(), "uid in the caller's buffer");
    }
    Ok(())
}
