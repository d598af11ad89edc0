// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a first user sees: a device, its information, some commands and their answers.

use fwctl_proto::opcode;
use fwctl_uapi::{DeviceEntry, Roots, mlx5};

use crate::{
    hex,
    rpcs::{RPCS, Rpc},
    test::{Done, find_device},
};

/// Bytes of a reply that are shown.
const SHOWN: usize = 48;
/// The commands of [`RPCS`] that are sent.
const SENT: &[&str] = &[
    "query_hca_cap.general.cur",
    "nop",
    "query_issi",
    "query_adapter",
    "query_hca_cap.unknown",
];

/// Prints a line for each fwctl device.
///
/// # Errors
/// Those of sysfs.
pub fn list() -> Done {
    for entry in Roots::system().devices()? {
        println!("{}", describe(&entry));
    }
    Ok(())
}

fn describe(entry: &DeviceEntry) -> String {
    format!(
        "{} {} parent {} ({}) driver {}",
        entry.node.display(),
        entry.number,
        entry.parent_name().unwrap_or("none"),
        entry.bus.as_deref().unwrap_or("no bus"),
        entry.driver.as_deref().unwrap_or("none")
    )
}

/// Prints FWCTL_INFO of a device.
///
/// # Errors
/// A failure if it cannot be opened or is not an mlx5 one.
pub fn info(device: Option<&str>) -> Done {
    let entry = find_device(device)?;
    println!("{}", describe(&entry));
    let info = entry.open()?.info()?;
    println!(
        "FWCTL_INFO device_type {} data {}",
        info.device_type,
        hex::encode(&info.data)
    );
    let mlx5 = info.mlx5()?;
    println!("  uid {} uctx_caps {:#x}", mlx5.uid, mlx5.uctx_caps);
    Ok(())
}

/// Prints the information and sends a few commands; true if all were answered as they should.
///
/// # Errors
/// A failure if the device cannot be used at all.
pub fn run(device: Option<&str>) -> Done<bool> {
    info(device)?;
    let device = find_device(device)?.open()?;
    let mut good = true;
    for rpc in RPCS.iter().filter(|r| SENT.contains(&r.name)) {
        println!("{} at scope {}", title(rpc), rpc.scope);
        match rpc.send(&device) {
            Err(e) => {
                println!("  {e}");
                good = false;
            }
            Ok(outbox) => {
                print_reply(&outbox);
                if let Err(why) = rpc.judge(&outbox) {
                    println!("  WRONG: {why}");
                    good = false;
                }
            }
        }
    }
    println!(
        "{}",
        if good {
            "demo: all is well"
        } else {
            "demo: something is wrong"
        }
    );
    Ok(good)
}

fn title(rpc: &Rpc) -> String {
    let name = opcode::name(rpc.opcode).unwrap_or("unknown");
    format!("{name} ({:#06x}) op_mod {:#x}", rpc.opcode, rpc.op_mod)
}

/// Prints an outbox: the verdict and the first bytes.
pub fn print_reply(outbox: &[u8]) {
    match mlx5::status(outbox) {
        Ok(status) => println!("  {status}, {} bytes", outbox.len()),
        Err(e) => println!("  {e}"),
    }
    for line in hex::dump(outbox, SHOWN) {
        println!("  {line}");
    }
}
