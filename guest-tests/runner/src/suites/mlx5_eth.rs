// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The Ethernet side of a profile that has one.

use std::{net::UdpSocket, path::PathBuf};

use fwctl_proto::{
    layout::View,
    layouts::{McamAccessReg, McamReg, McamRegMngAccessRegCapMask},
};
use fwctl_uapi::mlx5;

use crate::{
    check, check_eq, fail,
    rpcs::named,
    skip,
    suites::{
        mlx5_probe::{self, clean_since_boot},
        programs::{program, program_output, run_program},
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, read_file, test, wait_for, write_file},
};

pub const SUITE: Suite = Suite {
    name: "mlx5-eth",
    about: "a netdev with address, MTU and counters; devlink and ethtool know it",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("dmesg-clean-since-boot", 60, dmesg_clean),
        test("netdev-appears", 120, appears),
        test("netdev-address", 60, address),
        test("netdev-driver", 60, driver),
        test("netdev-mtu", 120, mtu),
        test("netdev-counters", 60, counters),
        test("ethtool-driver-info", 60, ethtool_info),
        test("ethtool-settings", 60, ethtool_settings),
        test("ethtool-statistics", 60, ethtool_statistics),
        test("devlink-dev-info", 60, devlink_info),
        test("devlink-port", 60, devlink_port),
    ],
};

/// What needs the work queues: the driver fills its receive queues through an internal send queue,
/// and frees what it has sent when the device completes it.
pub const LINK: Suite = Suite {
    name: "mlx5-link",
    about: "the netdev goes up, has a carrier and a speed, and goes down",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("netdev-up", 120, up),
        test("netdev-speed", 60, speed),
        test("ethtool-link-detected", 60, ethtool_link),
        test("netdev-counters", 60, counters),
        test("netdev-mtu-while-up", 180, mtu),
        test("netdev-sends", 120, sends),
        test("ethtool-module", 60, module),
        test("ethtool-fec", 60, fec),
    ],
};

/// The host has pulled the cable of a netdev that is up.
pub const UNPLUGGED: Suite = Suite {
    name: "mlx5-unplugged",
    about: "without a cable: no carrier, no module, and the reason",
    subjects: mlx5_probe::SUBJECTS,
    expects: &["Port module event[error]", "Link down"],
    tests: &[
        test("carrier-goes", 60, carrier_goes),
        test("ethtool-says-no-cable", 60, no_cable),
        test("no-module", 60, no_module),
    ],
};

/// The host has plugged it again.
pub const PLUGGED: Suite = Suite {
    name: "mlx5-plugged",
    about: "the cable is back: the carrier too, and the netdev goes down",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("carrier-comes", 60, carrier_comes),
        test("ethtool-link-detected", 60, ethtool_link),
        test("netdev-down", 120, down),
    ],
};

/// `IFF_UP` of the flags in sysfs.
const IFF_UP: u32 = 1;

/// The first netdev of the first function: its name and its folder in sysfs.
fn netdev() -> Done<(String, PathBuf)> {
    let functions = mlx5_probe::functions()?;
    wait_for("a netdev on an mlx5 function", APPEAR, || {
        Ok(functions.iter().find_map(|f| {
            let dir = f.dir().join("net");
            let name = sysfs::names(&dir).into_iter().next()?;
            Some((name.clone(), dir.join(name)))
        }))
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Done<T> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number").into())
}

fn appears(ctx: &Ctx) -> Done {
    let (name, _) = netdev()?;
    ctx.note(name);
    Ok(())
}

fn address(ctx: &Ctx) -> Done {
    let (_, dir) = netdev()?;
    let text = read_file(dir.join("address"))?;
    ctx.note(&text);
    let bytes = crate::hex::decode(&text)?;
    check_eq!(bytes.len(), 6, "bytes of the address");
    check!(bytes.iter().any(|b| *b != 0), "the address is zero");
    check_eq!(bytes[0] & 1, 0, "multicast bit of the address");
    // NET_ADDR_PERM: the address is the device's own and not a random one.
    check_eq!(
        read_file(dir.join("addr_assign_type"))?,
        "0",
        "addr_assign_type"
    );
    Ok(())
}

fn driver(_: &Ctx) -> Done {
    let (name, dir) = netdev()?;
    let link = std::fs::read_link(dir.join("device/driver"))
        .map_err(|e| format!("{name} has no driver: {e}"))?;
    check_eq!(
        link.file_name().and_then(|n| n.to_str()),
        Some("mlx5_core"),
        "driver of {name}"
    );
    check_eq!(
        read_file(dir.join("type"))?,
        "1",
        "ARPHRD_ETHER as the type of {name}"
    );
    Ok(())
}

fn mtu(_: &Ctx) -> Done {
    let (_, dir) = netdev()?;
    let file = dir.join("mtu");
    let before = read_file(&file)?;
    for mtu in ["1280", "9000", "1500"] {
        write_file(&file, mtu)?;
        check_eq!(read_file(&file)?, mtu, "mtu");
    }
    write_file(&file, &before)
}

fn flags(dir: &std::path::Path) -> Done<u32> {
    let text = read_file(dir.join("flags"))?;
    u32::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|_| format!("{text:?} are no flags").into())
}

fn up(_: &Ctx) -> Done {
    let (_, dir) = netdev()?;
    write_file(dir.join("flags"), &format!("{:#x}", flags(&dir)? | IFF_UP))?;
    wait_for("the carrier", APPEAR, || {
        Ok(
            (read_file(dir.join("carrier"))? == "1" && read_file(dir.join("operstate"))? == "up")
                .then_some(()),
        )
    })
}

fn speed(ctx: &Ctx) -> Done {
    let (_, dir) = netdev()?;
    let text = read_file(dir.join("speed"))?;
    ctx.note(format!("{text} Mb/s"));
    let speed: i64 = number(&text)?;
    check!(speed >= 1000, "speed {speed}");
    check_eq!(read_file(dir.join("duplex"))?, "full", "duplex");
    Ok(())
}

fn carrier(up: bool) -> Done {
    let (_, dir) = netdev()?;
    let wanted = if up { ("1", "up") } else { ("0", "down") };
    wait_for("the carrier to change", APPEAR, || {
        let now = (
            read_file(dir.join("carrier"))?,
            read_file(dir.join("operstate"))?,
        );
        Ok(((&*now.0, &*now.1) == wanted).then_some(()))
    })
}

fn carrier_goes(_: &Ctx) -> Done {
    carrier(false)
}

fn carrier_comes(_: &Ctx) -> Done {
    carrier(true)
}

fn no_cable(ctx: &Ctx) -> Done {
    let text = run_program(ctx, "ethtool", &[&netdev()?.0])?;
    check!(
        text.contains("Link detected: no (No cable)"),
        "another state of the link"
    );
    check!(text.contains("Speed: Unknown!"), "a speed without a link");
    Ok(())
}

fn no_module(ctx: &Ctx) -> Done {
    let (ok, text) = program("ethtool", &["-m", &netdev()?.0])?;
    ctx.note(text.trim());
    check!(!ok, "the EEPROM of a module that is not there");
    Ok(())
}

fn module(ctx: &Ctx) -> Done {
    let text = program_output("ethtool", &["-m", &netdev()?.0])?;
    for (name, value) in [
        ("Identifier", "0x11 (QSFP28)"),
        ("Connector", "0x23 (No separable connector)"),
        ("Vendor name", "FWCTL-EMU"),
        ("Vendor PN", "DAC-QSFP28-1M"),
    ] {
        let found = text.lines().find_map(|l| {
            let (n, v) = l.split_once(':')?;
            (n.trim() == name).then(|| v.trim())
        });
        check_eq!(found, Some(value), "{name}");
    }
    ctx.note(format!("{} lines", text.lines().count()));
    Ok(())
}

fn fec(ctx: &Ctx) -> Done {
    let (ok, text) = program("ethtool", &["--show-fec", &netdev()?.0])?;
    if !ok && text.contains("not supported") {
        skip!("this card has no PPLM");
    }
    ctx.note(text.trim());
    check!(text.contains("Active FEC encoding: RS"), "another FEC");
    Ok(())
}

fn counters(_: &Ctx) -> Done {
    let (_, dir) = netdev()?;
    for name in [
        "rx_packets",
        "tx_packets",
        "rx_errors",
        "tx_errors",
        "rx_dropped",
        "tx_dropped",
    ] {
        let _: u64 = number(&read_file(dir.join("statistics").join(name))?)?;
    }
    for name in ["rx_errors", "tx_errors"] {
        check_eq!(read_file(dir.join("statistics").join(name))?, "0", "{name}");
    }
    Ok(())
}

fn ethtool_info(ctx: &Ctx) -> Done {
    let text = run_program(ctx, "ethtool", &["-i", &netdev()?.0])?;
    check!(
        text.lines().any(|l| l == "driver: mlx5_core"),
        "ethtool -i names no mlx5_core"
    );
    check!(
        text.lines().any(|l| l
            .strip_prefix("firmware-version: ")
            .is_some_and(|v| v.contains('.'))),
        "ethtool -i shows no firmware version"
    );
    Ok(())
}

fn ethtool_settings(ctx: &Ctx) -> Done {
    let text = run_program(ctx, "ethtool", &[&netdev()?.0])?;
    check!(
        text.contains("Supported link modes:"),
        "ethtool shows no link modes"
    );
    Ok(())
}

fn ethtool_link(ctx: &Ctx) -> Done {
    let text = run_program(ctx, "ethtool", &[&netdev()?.0])?;
    check!(text.contains("Link detected: yes"), "no link");
    Ok(())
}

fn ethtool_statistics(ctx: &Ctx) -> Done {
    let (name, _) = netdev()?;
    let text = program_output("ethtool", &["-S", &name])?;
    ctx.note(format!("{} counters", text.lines().count()));
    check!(
        text.contains("rx_vport_unicast_packets"),
        "no vport counters"
    );
    Ok(())
}

fn devlink_info(ctx: &Ctx) -> Done {
    for function in mlx5_probe::functions()? {
        if !has_component_registers(&function.name)? {
            skip!("MCAM shows no MCQI and MCQS: the driver cannot ask for the firmware's versions");
        }
        let text = run_program(
            ctx,
            "devlink",
            &["dev", "info", &format!("pci/{}", function.name)],
        )?;
        check!(text.contains("driver mlx5_core"), "no driver");
        let version = text
            .lines()
            .find_map(|l| l.trim().strip_prefix("fw.version "));
        check!(
            version.is_some_and(|v| !v.starts_with("0.0.")),
            "firmware version {version:?}"
        );
        check!(text.contains("fw.psid"), "no PSID");
    }
    Ok(())
}

/// True if MCAM of the function says that the registers for firmware components are there. The
/// driver complains if it is asked for versions and they are not.
fn has_component_registers(pci: &str) -> Done<bool> {
    let reply = named("access_reg.mcam").send(&sysfs::wait_for_fwctl(pci)?.open()?)?;
    let Some(mcam) = View::<McamReg>::new(&reply[mlx5::HEADER..]) else {
        fail!("MCAM has {} bytes", reply.len())
    };
    let registers = mcam
        .sub(McamReg::MNG_ACCESS_REG_CAP_MASK)
        .sub(McamRegMngAccessRegCapMask::ACCESS_REGS);
    Ok(registers.flag(McamAccessReg::MCQI) && registers.flag(McamAccessReg::MCQS))
}

fn devlink_port(ctx: &Ctx) -> Done {
    let text = run_program(ctx, "devlink", &["port", "show"])?;
    let (name, _) = netdev()?;
    check!(
        text.contains(&format!("netdev {name}")),
        "no port has the netdev {name}"
    );
    Ok(())
}

/// More than a send queue has entries: the later ones need the completions of the earlier ones.
const DATAGRAMS: u64 = 3000;
/// A network for documentation (RFC 5737).
const OWN: &str = "192.0.2.1";
const EVERYONE: &str = "192.0.2.255:9";

fn sends(ctx: &Ctx) -> Done {
    let (name, dir) = netdev()?;
    let address = format!("{OWN}/24");
    let of = ["address", "add", &address, "broadcast", "+", "dev", &name];
    run_program(ctx, "ip", &of)?;
    let sent = || -> Done<u64> { number(&read_file(dir.join("statistics/tx_packets"))?) };
    let before = sent()?;
    let socket = UdpSocket::bind((OWN, 0)).map_err(|e| format!("bind {OWN}: {e}"))?;
    socket.set_broadcast(true).map_err(|e| e.to_string())?;
    socket
        .set_write_timeout(Some(APPEAR))
        .map_err(|e| e.to_string())?;
    for n in 0..DATAGRAMS {
        socket
            .send_to(&n.to_be_bytes(), EVERYONE)
            .map_err(|e| format!("datagram {n} of {DATAGRAMS}: {e}"))?;
    }
    wait_for("the counter of sent packets", APPEAR, || {
        Ok((sent()? >= before + DATAGRAMS).then_some(()))
    })?;
    run_program(ctx, "ip", &["address", "flush", "dev", &name])?;
    Ok(())
}

fn down(_: &Ctx) -> Done {
    let (_, dir) = netdev()?;
    write_file(dir.join("flags"), &format!("{:#x}", flags(&dir)? & !IFF_UP))?;
    check_eq!(flags(&dir)? & IFF_UP, 0, "IFF_UP");
    Ok(())
}

fn dmesg_clean(ctx: &Ctx) -> Done {
    clean_since_boot(ctx, mlx5_probe::SUBJECTS)
}
