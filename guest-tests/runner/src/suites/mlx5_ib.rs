// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! RoCE: unmodified mlx5_ib on the function's port.

use std::{fs, path::Path};

use crate::{
    check, check_eq, fail, modules,
    suites::{mlx5_probe, programs::run_program},
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, read_file, test, wait_for},
};

pub const SUITE: Suite = Suite {
    name: "mlx5-ib",
    about: "mlx5_ib loads; the port is active, has its GIDs and goes away",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("mlx5-ib-loads", 120, loads),
        test("rdma-link-is-active", 120, active),
        test("gids-follow-addresses", 120, gids),
        test("guids-are-those-of-the-port", 60, guids),
        test("mlx5-ib-unloads", 120, unloads),
    ],
};

/// Where the kernel shows its RDMA devices.
const CLASS: &str = "/sys/class/infiniband";
/// Networks for documentation (RFC 5737), and the GID of the first address in it.
const ADDRESS: &str = "198.51.100.7/24";
const GID: &str = "0000:0000:0000:0000:0000:ffff:c633:6407";

/// The RDMA devices, by name.
fn devices() -> Vec<String> {
    sysfs::names(Path::new(CLASS))
}

fn loads(ctx: &Ctx) -> Done {
    modules::load("mlx5_ib")?;
    let wanted = mlx5_probe::functions()?.len();
    wait_for("an RDMA device for each function", APPEAR, || {
        Ok((devices().len() == wanted).then_some(()))
    })?;
    ctx.note(devices().join(" "));
    Ok(())
}

/// The first netdev of each function.
fn netdevs() -> Done<Vec<String>> {
    let functions = mlx5_probe::functions()?;
    let first = |f: &sysfs::BusDevice| sysfs::names(&f.dir().join("net")).into_iter().next();
    Ok(functions.iter().filter_map(first).collect())
}

fn active(ctx: &Ctx) -> Done {
    for name in netdevs()? {
        run_program(ctx, "ip", &["link", "set", &name, "up"])?;
    }
    for device in devices() {
        let port = format!("{CLASS}/{device}/ports/1");
        wait_for("the port's state", APPEAR, || {
            Ok((read_file(format!("{port}/state"))? == "4: ACTIVE").then_some(()))
        })?;
        check_eq!(
            read_file(format!("{port}/phys_state"))?,
            "5: LinkUp",
            "phys_state"
        );
        check_eq!(
            read_file(format!("{port}/link_layer"))?,
            "Ethernet",
            "link_layer"
        );
        let rate = read_file(format!("{port}/rate"))?;
        let gigabits: Option<u32> = rate.split(' ').next().and_then(|n| n.parse().ok());
        check!(gigabits.is_some_and(|g| g >= 100), "rate {rate}");
    }
    let text = run_program(ctx, "rdma", &["link"])?;
    let lines = text
        .lines()
        .filter(|l| l.contains("state ACTIVE physical_state LINK_UP"));
    check_eq!(lines.count(), devices().len(), "active links");
    Ok(())
}

fn gids(ctx: &Ctx) -> Done {
    let Some(name) = netdevs()?.into_iter().next() else {
        fail!("no netdev")
    };
    run_program(ctx, "ip", &["address", "add", ADDRESS, "dev", &name])?;
    // Each address twice: RoCE version 1 and version 2.
    wait_for("the GIDs of the address", APPEAR, || {
        let mut count = 0;
        for device in devices() {
            for index in 0..16 {
                let file = format!("{CLASS}/{device}/ports/1/gids/{index}");
                count += usize::from(fs::read_to_string(file).is_ok_and(|g| g.trim() == GID));
            }
        }
        Ok((count == 2).then_some(()))
    })?;
    run_program(ctx, "ip", &["address", "flush", "dev", &name])?;
    Ok(())
}

/// The MAC addresses of the netdevs as EUI-64, written as GUIDs are.
fn addresses() -> Done<Vec<String>> {
    let mut all = Vec::new();
    for name in netdevs()? {
        let text = read_file(format!("/sys/class/net/{name}/address"))?;
        let bytes = crate::hex::decode(&text)?;
        let [a, b, c, d, e, f] = bytes[..] else {
            fail!("{text:?} is no MAC address")
        };
        let a = a ^ 2;
        all.push(format!("{a:02x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}"));
    }
    Ok(all)
}

fn guids(ctx: &Ctx) -> Done {
    let mut nodes = Vec::new();
    let mut cards = Vec::new();
    for device in devices() {
        nodes.push(read_file(format!("{CLASS}/{device}/node_guid"))?);
        cards.push(read_file(format!("{CLASS}/{device}/sys_image_guid"))?);
    }
    ctx.note(format!("node {nodes:?}, card {cards:?}"));
    nodes.sort();
    let mut expected = addresses()?;
    expected.sort();
    check_eq!(nodes, expected, "node GUIDs");
    check!(
        cards.iter().all(|c| *c == expected[0]),
        "system image GUIDs"
    );
    Ok(())
}

fn unloads(_: &Ctx) -> Done {
    modules::unload("mlx5_ib")?;
    check_eq!(devices(), Vec::<String>::new(), "RDMA devices");
    Ok(())
}
