// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two physical functions of one card, each behind a port of its own.

use std::collections::BTreeSet;

use fwctl_proto::{
    layout::View,
    layouts::{CmdHcaCap, NicVportContext, QueryNicVportContextOut},
    opcode as op, register,
};
use fwctl_uapi::{Device, Scope, mlx5};

use crate::{
    check, check_eq, fail,
    rpcs::named,
    suites::{
        mlx5_probe,
        mlx5_reload::{back, replies},
        programs::{program_output, run_program},
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, read_file, test, wait_for},
};

pub const SUITE: Suite = Suite {
    name: "mlx5-two-functions",
    about: "what two functions of a card share, and what each has for itself",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("two-functions", 60, two),
        test("addresses-differ", 60, addresses),
        test("vhca-ids-and-guids", 60, identities),
        test("configuration-is-shared", 60, configuration),
        test("configuration-of-each-function", 60, own_configuration),
    ],
};

pub const ACTIVATE: Suite = Suite {
    name: "mlx5-two-fw-activate",
    about: "fw_activate on one of two functions: both drivers agree and come back",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[
        "PCI Sync FW Update Reset Ack. Device reset is expected.",
        "Sync Reset now. Device is going to reset.",
        // Announced before the reset, and armed again when the channel is gone.
        "FWTracer: Failed to arm tracer event -67",
        "Skipping wait for vf pages stage",
        "No PCI link reporting capability",
    ],
    tests: &[test("both-come-back", 300, activate)],
};

fn devices() -> Done<Vec<Device>> {
    mlx5_probe::functions()?
        .iter()
        .map(|f| Ok(sysfs::wait_for_fwctl(&f.name)?.open()?))
        .collect()
}

fn two(_: &Ctx) -> Done {
    check_eq!(mlx5_probe::functions()?.len(), 2, "functions");
    mlx5_probe::wait_until_up()
}

fn addresses(ctx: &Ctx) -> Done {
    let mut seen = BTreeSet::new();
    for f in mlx5_probe::functions()? {
        let dir = f.dir().join("net");
        let name = wait_for("a netdev", APPEAR, || {
            Ok(sysfs::names(&dir).into_iter().next())
        })?;
        let address = read_file(dir.join(&name).join("address"))?;
        ctx.note(format!("{}: {name} {address}", f.name));
        check!(seen.insert(address), "two netdevs have one address");
    }
    Ok(())
}

/// vhca id, and GUIDs of the card and of the function.
fn identity(device: &Device) -> Done<(u64, u64, u64)> {
    let reply = named("query_hca_cap.general.cur").send(device)?;
    let Some(caps) = View::<CmdHcaCap>::new(&reply[mlx5::HEADER..]) else {
        fail!("a short capability page")
    };
    let mut out = vec![0; 272];
    let inbox = mlx5::inbox(op::QUERY_NIC_VPORT_CONTEXT, 0, mlx5::HEADER);
    device.rpc(Scope::DebugReadOnly, &inbox, &mut out)?;
    let Some(reply) = View::<QueryNicVportContextOut>::new(&out) else {
        fail!("a short vport context")
    };
    let context = reply.sub(QueryNicVportContextOut::NIC_VPORT_CONTEXT);
    Ok((
        caps.get(CmdHcaCap::VHCA_ID),
        context.get(NicVportContext::SYSTEM_IMAGE_GUID),
        context.get(NicVportContext::NODE_GUID),
    ))
}

fn identities(ctx: &Ctx) -> Done {
    let mut all: Vec<_> = devices()?.iter().map(identity).collect::<Done<_>>()?;
    // The guest's firmware chooses the order of its buses.
    all.sort_unstable();
    ctx.note(format!("{all:x?}"));
    let [(id0, card0, node0), (id1, card1, node1)] = all[..] else {
        fail!("{} functions", all.len())
    };
    check_eq!((id0, id1), (0, 1), "vhca ids");
    check_eq!(card0, card1, "system image GUIDs");
    check!(node0 != node1, "one node GUID for both");
    Ok(())
}

/// The type word of `nv_memic_conf` (class 0, id 6), an item of the card that no driver reads.
const ITEM: [u8; 4] = [0, 0, 0, 6];
/// Little endian, atomics off, 256 KB, log of the BAR's size.
const VALUE: [u8; 4] = [0, 1, 0x41, 0x10];
/// Bytes of MNVDA.
const MNVDA: usize = 268;

/// The type word of `nv_pf_pci_conf` (class 3, id 0x80), as mlx5_core asks for it: whose it is stays open.
const OWN: [u8; 4] = [3, 0, 0, 0x80];
/// pf_total_vf_en, and five of them.
const OWN_VALUE: [u8; 4] = [0, 0x40, 0, 5];

/// The first dword of an item: sets it, or reads the next-boot value.
fn mnvda(device: &Device, item: [u8; 4], value: Option<[u8; 4]>) -> Done<Vec<u8>> {
    let mut inbox = mlx5::inbox(
        op::ACCESS_REG,
        u16::from(value.is_none()),
        mlx5::HEADER + MNVDA,
    );
    inbox[10..12].copy_from_slice(&register::MNVDA.to_be_bytes());
    inbox[19] = 4;
    inbox[20..24].copy_from_slice(&item);
    if let Some(value) = value {
        inbox[28..32].copy_from_slice(&value);
    }
    let mut out = vec![0; mlx5::HEADER + MNVDA];
    let scope = if value.is_some() {
        Scope::DebugWriteFull
    } else {
        Scope::DebugReadOnly
    };
    device.rpc(scope, &inbox, &mut out)?;
    check_eq!(out[0], 0, "status of MNVDA");
    Ok(out[28..32].to_vec())
}

fn configuration(_: &Ctx) -> Done {
    let devices = devices()?;
    let [first, second] = &devices[..] else {
        fail!("{} functions", devices.len())
    };
    mnvda(first, ITEM, Some(VALUE))?;
    check_eq!(
        mnvda(second, ITEM, None)?,
        VALUE,
        "the item through the other function"
    );
    Ok(())
}

/// What one function sets of its own is not the other's.
fn own_configuration(_: &Ctx) -> Done {
    for devices in [devices()?, devices()?.into_iter().rev().collect()] {
        let [one, other] = &devices[..] else {
            fail!("{} functions", devices.len())
        };
        mnvda(one, OWN, Some(OWN_VALUE))?;
        check_eq!(mnvda(one, OWN, None)?, OWN_VALUE, "what was set");
        check_eq!(mnvda(other, OWN, None)?, [0; 4], "the other function's");
        mnvda(one, OWN, Some([0; 4]))?;
    }
    Ok(())
}

fn activate(ctx: &Ctx) -> Done {
    let before = replies()?;
    let functions = mlx5_probe::functions()?;
    let [first, second] = &functions[..] else {
        fail!("{} functions", functions.len())
    };
    let reload = [
        "dev",
        "reload",
        &format!("pci/{}", first.name),
        "action",
        "fw_activate",
    ];
    run_program(ctx, "devlink", &reload)?;
    // The other driver counts what was done to it.
    let show = ["-s", "dev", "show", &format!("pci/{}", second.name)];
    wait_for("the other function's reload", 4 * APPEAR, || {
        let text = program_output("devlink", &show)?;
        let remote = text.split("remote_reload:").nth(1).unwrap_or_default();
        let line = remote
            .lines()
            .skip_while(|l| l.trim() != "fw_activate:")
            .nth(1);
        let done = line.is_some_and(|l| l.trim().starts_with("unspecified 1 "));
        Ok(done.then_some(()))
    })
    .inspect_err(|_| {
        if let Ok(text) = program_output("devlink", &show) {
            ctx.note(text);
        }
    })?;
    back(&before)?;
    for f in &functions {
        named("nop").send(&sysfs::wait_for_fwctl(&f.name)?.open()?)?;
    }
    Ok(())
}
