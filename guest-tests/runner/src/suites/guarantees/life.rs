// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What begins with an open file and ends with it, and what ends before it.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use fwctl_proto::{layout::View, layouts::CmdHcaCap, opcode as op};
use fwctl_uapi::{Device, Errno, Error, Scope, mlx5};

use crate::{
    check, check_eq,
    engine::reap,
    fail,
    rpcs::named,
    suites::{fwctl::send, mlx5_probe, mlx5_reload},
    sysfs,
    test::{APPEAR, Ctx, Done, find_device, wait_for},
    worker::Workers,
};

/// Devices that a process has open when it is killed.
const HELD: usize = 64;
/// How long a killed process may take to go.
const DEATH: Duration = Duration::from_secs(60);

/// User contexts that there can be at one time.
fn limit(ctx: &Ctx) -> Done<usize> {
    let reply = named("query_hca_cap.general.cur").send(&ctx.open()?)?;
    let Some(caps) = View::<CmdHcaCap>::new(&reply[mlx5::HEADER..]) else {
        fail!("no capability page")
    };
    let log = caps.get(CmdHcaCap::LOG_MAX_UCTX);
    check!(
        (1..=12).contains(&log),
        "log_max_uctx {log} is too many to try"
    );
    Ok(1 << log)
}

/// Keeps devices open, says so, and sends commands until it is killed.
///
/// # Errors
/// A failure if one cannot be opened or a command fails.
pub fn hold(device: Option<&str>, count: usize) -> Done {
    let entry = find_device(device)?;
    let held: Result<Vec<Device>, Error> = (0..count).map(|_| entry.open()).collect();
    let held = held?;
    println!("held");
    io::stdout().flush()?;
    for device in held.iter().cycle() {
        send(device, Scope::DebugReadOnly, op::NOP, 0)?;
    }
    Ok(())
}

pub fn nothing_left_after_kill(ctx: &Ctx) -> Done {
    let rounds = limit(ctx)? / HELD + 2;
    let entry = ctx.entry()?;
    for round in 0..rounds {
        let mut child = Command::new("/proc/self/exe")
            .args([
                "holder",
                "--device",
                &entry.name,
                "--count",
                &HELD.to_string(),
            ])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let read = match child.stdout.take() {
            Some(out) => BufReader::new(out).read_line(&mut line),
            None => Ok(0),
        };
        // In the middle of a command, whatever it said.
        thread::sleep(Duration::from_millis(1 + round as u64 % 7));
        child.kill()?;
        check!(
            reap(&mut child, DEATH).is_some(),
            "a process does not die of SIGKILL"
        );
        read?;
        check_eq!(
            line.trim(),
            "held",
            "process {round} of {rounds} with {HELD} devices"
        );
    }
    Ok(())
}

pub fn nothing_left_after_close(ctx: &Ctx) -> Done {
    let most = limit(ctx)?;
    let entry = ctx.entry()?;
    for i in 0..most + 16 {
        let device = entry
            .open()
            .map_err(|e| format!("open {i} of {most}: {e}"))?;
        if i % 64 == 0 {
            device.info()?.mlx5()?;
        }
    }
    // As many as there can be, and all of them go.
    let all: Vec<Device> = (0..most / 2)
        .map(|_| entry.open())
        .collect::<Result<_, _>>()?;
    drop(all);
    let again: Vec<Device> = (0..most / 2)
        .map(|_| entry.open())
        .collect::<Result<_, _>>()?;
    check_eq!(again.len(), most / 2, "devices open at once");
    Ok(())
}

/// Checks that every call on a device whose driver is gone says so.
fn is_dead(device: &Device) -> Done {
    let rpc = send(device, Scope::DebugReadOnly, op::NOP, 0).map(drop);
    let info = device.info().map(drop);
    for (what, result) in [("FWCTL_RPC", rpc), ("FWCTL_INFO", info)] {
        match result {
            Err(e) if e.errno() == Some(Errno::ENODEV) => {}
            other => fail!("{what}: wanted ENODEV, found {other:?}"),
        }
    }
    Ok(())
}

pub fn enodev_after_removal(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let auxiliary = sysfs::bus_devices("auxiliary").into_iter().find(|d| {
        d.name.starts_with("mlx5_core.fwctl.") && d.parent().as_deref() == entry.parent_name()
    });
    let Some(auxiliary) = auxiliary else {
        fail!("{} is no auxiliary device of mlx5_core", entry.name)
    };
    let Some(driver) = auxiliary.driver() else {
        fail!("{} has no driver", auxiliary.name)
    };
    let mut open = vec![entry.open()?, entry.open()?];
    auxiliary.unbind(&driver)?;
    let found = open.iter().try_for_each(is_dead);
    let again = entry.open().map(drop);
    // One is closed while there is no driver, one when there is again.
    open.pop();
    auxiliary.bind(&driver)?;
    found?;
    check!(again.is_err(), "the device can be opened without a driver");
    let parent = entry.parent_name().unwrap_or_default().to_owned();
    let back = sysfs::wait_for_fwctl(&parent)?;
    open.iter().try_for_each(is_dead)?;
    drop(open);
    send(&back.open()?, Scope::DebugReadOnly, op::NOP, 0)?;
    Ok(())
}

pub fn reset_handled(ctx: &Ctx) -> Done {
    let before = mlx5_reload::replies()?;
    for function in mlx5_probe::functions()? {
        let entry = sysfs::wait_for_fwctl(&function.name)?;
        let held = entry.open()?;
        let mut workers = Workers::start(4, &entry.name, 0, &before)?;
        workers.go()?;
        thread::sleep(Duration::from_millis(50));
        // The driver leaves, which disables the function, and enables it anew.
        function.unbind("mlx5_core")?;
        let ends = workers.join();
        let dead = is_dead(&held);
        function.bind("mlx5_core")?;
        mlx5_reload::report_ends(ctx, ends?)?;
        dead?;
    }
    wait_for("a fwctl device after the reset", APPEAR, || {
        Ok(ctx.entry().ok().map(drop))
    })?;
    mlx5_reload::back(&before)
}
