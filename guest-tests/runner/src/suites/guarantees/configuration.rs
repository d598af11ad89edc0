// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration items: what is set is kept for the next boot, and nothing is live before a reset.

use fwctl_proto::opcode as op;
use fwctl_uapi::{Device, Scope, mlx5};

use crate::{
    check, check_eq, fail,
    rpcs::named,
    suites::mlx5_reload,
    test::{Ctx, Done},
};

/// MNVDA and its bytes: a header of 12 and data of 256 (mlx5_ifc.h).
const MNVDA: u16 = 0x9024;
const BYTES: usize = 12 + 256;
/// Where it begins in ACCESS_REG, and where its data does.
const REGISTER: usize = 16;
const DATA: usize = REGISTER + 12;
/// The item SW_OFFLOAD_CONFIG (`MLX5_CLASS_0_CTRL_ID_NV_SW_OFFLOAD_CONFIG`); its first half word is
/// `ip_over_vxlan_port`, on which nothing here depends.
const SW_OFFLOAD_CONFIG: u32 = 0x10a;

/// Which value of an item.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// That of the next boot.
    Next = 0,
    /// The one in force.
    Current = 1,
}

fn inbox(which: Which, op_mod: u16) -> Vec<u8> {
    let mut inbox = mlx5::inbox(op::ACCESS_REG, op_mod, REGISTER + BYTES);
    inbox[10..12].copy_from_slice(&MNVDA.to_be_bytes());
    // access_mode: bits 8 and 9 of the register's first dword.
    inbox[REGISTER + 1] = (which as u8) << 6;
    inbox[REGISTER + 4..REGISTER + 8].copy_from_slice(&SW_OFFLOAD_CONFIG.to_be_bytes());
    inbox
}

fn ask(device: &Device, scope: Scope, inbox: &[u8]) -> Done<Vec<u8>> {
    let mut outbox = vec![0; inbox.len()];
    let reply = mlx5::exec(device, scope, inbox, &mut outbox)?;
    check_eq!(reply.copied, inbox.len(), "bytes of the answer");
    Ok(outbox)
}

/// The item's data.
fn item(device: &Device, which: Which) -> Done<Vec<u8>> {
    let reply = ask(device, Scope::DebugReadOnly, &inbox(which, 1))?;
    let length = usize::from(reply[REGISTER + 2] & 1) << 8 | usize::from(reply[REGISTER + 3]);
    check!((4..=256).contains(&length), "an item of {length} bytes");
    Ok(reply[DATA..DATA + length].to_vec())
}

/// The port number in it.
pub fn port(device: &Device, which: Which) -> Done<u16> {
    let data = item(device, which)?;
    Ok(u16::from_be_bytes([data[0], data[1]]))
}

/// Sets the port number for the next boot, at the scope of configuration.
pub fn set_port(device: &Device, port: u16) -> Done {
    let mut data = item(device, Which::Next)?;
    data[..2].copy_from_slice(&port.to_be_bytes());
    let mut write = inbox(Which::Next, 0);
    write[REGISTER + 2] |= (data.len() >> 8) as u8;
    write[REGISTER + 3] = data.len() as u8;
    write[DATA..DATA + data.len()].copy_from_slice(&data);
    ask(device, Scope::Configuration, &write)?;
    Ok(())
}

/// A port number that is neither of these.
pub fn another(ports: [u16; 2]) -> Done<u16> {
    match [0x1a2b, 0x1a2c, 0x1a2d]
        .into_iter()
        .find(|p| !ports.contains(p))
    {
        Some(port) => Ok(port),
        None => fail!("no port is left of {ports:x?}"),
    }
}

pub fn live_only_after_reset(ctx: &Ctx) -> Done {
    let device = ctx.open()?;
    let caps = named("query_hca_cap.general.cur").send(&device)?;
    let (next, current) = (port(&device, Which::Next)?, port(&device, Which::Current)?);
    let new = another([next, current])?;
    set_port(&device, new)?;
    let found = || -> Done {
        check_eq!(
            port(&device, Which::Next)?,
            new,
            "the value of the next boot"
        );
        check_eq!(
            port(&device, Which::Current)?,
            current,
            "the value in force"
        );
        // Neither does it become live with another user, nor when the driver comes anew.
        let other = ctx.open()?;
        check_eq!(
            port(&other, Which::Current)?,
            current,
            "the value in force for others"
        );
        check!(
            named("query_hca_cap.general.cur").send(&other)? == caps,
            "capabilities have changed"
        );
        mlx5_reload::replies().map(drop)
    }();
    set_port(&device, next)?;
    found?;
    check_eq!(
        port(&device, Which::Next)?,
        next,
        "the value of the next boot, put back"
    );
    Ok(())
}
