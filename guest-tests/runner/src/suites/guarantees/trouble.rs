// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Firmware that does not answer, and firmware that fails: by the commands of [`super::triggers`].

use std::time::{Duration, Instant};

use fwctl_proto::opcode as op;
use fwctl_uapi::{Device, Errno, Scope};

use super::{
    configuration::{self, Which},
    triggers,
};
use crate::{
    check_eq, fail,
    suites::{
        fwctl::send,
        mlx5_health::{BUFFER, RECOVERY},
        mlx5_probe, mlx5_reload,
    },
    sysfs,
    test::{APPEAR, Ctx, Done, joined, wait_for},
    worker::Reference,
};

/// What mlx5_core says of these troubles.
pub const EXPECTED: &[&str] = &joined::<26>(&[
    &[
        "No done completion",
        "Command completion arrived after timeout",
        "timeout. Will cause a leak of a command resource",
        "Fatal error ",
        "interface is down, NOP",
    ],
    BUFFER,
    RECOVERY,
]);

pub fn timeout_handled(ctx: &Ctx) -> Done {
    triggers::needed(ctx)?;
    let device = ctx.open()?;
    let other = ctx.open()?;
    let start = Instant::now();
    match triggers::pull(&device, triggers::LATE) {
        Err(e) if e.errno() == Some(Errno::ETIMEDOUT) => {}
        other => fail!("a command that is not answered in time: wanted ETIMEDOUT, found {other:?}"),
    }
    ctx.note(format!("after {} ms", start.elapsed().as_millis()));
    for (which, device) in [("that user", &device), ("another user", &other)] {
        let status = send(device, Scope::DebugReadOnly, op::NOP, 0)?.status;
        check_eq!(status, 0, "status of the next command of {which}");
    }
    // Its answer comes at last, and is nobody's.
    let late = Duration::from_millis(triggers::LATE_MS) + Duration::from_secs(2);
    std::thread::sleep(late.saturating_sub(start.elapsed()));
    drop((device, other));
    let before = mlx5_reload::replies()?;
    fresh_driver()?;
    mlx5_reload::back(&before)
}

/// A driver that has seen no trouble: devlink's reporters recover once in twenty minutes.
fn fresh_driver() -> Done {
    for function in mlx5_probe::functions()? {
        function.unbind("mlx5_core")?;
        function.bind("mlx5_core")?;
    }
    mlx5_probe::wait_until_up()
}

/// Lets the firmware fail, and waits until the driver has reset it and works again.
fn fails(ctx: &Ctx, held: &Device) -> Done {
    let entry = ctx.entry()?;
    // Its answer may be lost with the firmware.
    match triggers::pull(held, triggers::FATAL) {
        Ok(_) => {}
        Err(e) => ctx.note(format!("the last command: {e}")),
    }
    let mut seen: Vec<Errno> = Vec::new();
    wait_for("the end of the old device by ENODEV", 4 * APPEAR, || {
        if let Err(e) = send(held, Scope::DebugReadOnly, op::NOP, 0) {
            match e.errno() {
                Some(Errno::ENODEV) => return Ok(Some(())),
                Some(errno) if !seen.contains(&errno) => seen.push(errno),
                Some(_) => {}
                None => return Err(e.into()),
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        Ok(None)
    })?;
    ctx.note(format!("until then {seen:?}"));
    let parent = entry.parent_name().unwrap_or_default().to_owned();
    wait_for("a device that answers", 2 * APPEAR, || {
        let Some(Ok(device)) = sysfs::fwctl_on(&parent)?.map(|e| e.open()) else {
            return Ok(None);
        };
        Ok(send(&device, Scope::DebugReadOnly, op::NOP, 0).ok())
    })?;
    mlx5_probe::wait_until_up()
}

pub fn health_failure_handled(ctx: &Ctx) -> Done {
    triggers::needed(ctx)?;
    fresh_driver()?;
    let before = Reference::take(&ctx.open()?)?;
    fails(ctx, &ctx.open()?)?;
    mlx5_reload::back(&before)
}

pub fn configuration_live_after_reset(ctx: &Ctx) -> Done {
    triggers::needed(ctx)?;
    fresh_driver()?;
    let device = ctx.open()?;
    let (next, current) = (
        configuration::port(&device, Which::Next)?,
        configuration::port(&device, Which::Current)?,
    );
    let new = configuration::another([next, current])?;
    configuration::set_port(&device, new)?;
    fails(ctx, &device)?;
    let device = ctx.open()?;
    let found = configuration::port(&device, Which::Current)?;
    configuration::set_port(&device, next)?;
    check_eq!(
        found,
        new,
        "the value in force after a reset of the firmware"
    );
    Ok(())
}
