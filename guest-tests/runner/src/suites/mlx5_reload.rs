// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The drivers go and come back, and find the same device.

use std::{thread, time::Duration};

use crate::{
    check, fail, modules,
    suites::{mlx5_probe, programs::run_program},
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
    worker::{End, Reference, Workers},
};

pub const SUITE: Suite = Suite {
    name: "mlx5-reload",
    about: "rmmod and modprobe, unbind and bind, devlink dev reload",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("rmmod-modprobe-1", 240, rmmod_modprobe),
        test("rmmod-modprobe-2", 240, rmmod_modprobe),
        test("rmmod-modprobe-3", 240, rmmod_modprobe),
        test("fwctl-module-alone", 120, fwctl_alone),
        test("unbind-bind", 240, unbind_bind),
        test("unbind-with-rpcs-in-flight", 240, unbind_in_flight),
        test("devlink-dev-reload", 240, devlink_reload),
    ],
};

/// The replies of the first function's fwctl device.
pub fn replies() -> Done<Reference> {
    mlx5_probe::wait_until_up()?;
    let Some(function) = mlx5_probe::functions()?.into_iter().next() else {
        fail!("no function")
    };
    Reference::take(&sysfs::wait_for_fwctl(&function.name)?.open()?)
}

/// Everything is as before.
pub fn back(before: &Reference) -> Done {
    check!(
        replies()? == *before,
        "the device answers differently than before"
    );
    Ok(())
}

fn rmmod_modprobe(ctx: &Ctx) -> Done {
    let before = replies()?;
    let mut unloaded = modules::unload("mlx5_core")?;
    ctx.note(format!("unloaded {}", unloaded.join(" ")));
    check!(
        unloaded.iter().any(|m| m == "mlx5_fwctl"),
        "mlx5_fwctl was not among the users of mlx5_core"
    );
    for function in mlx5_probe::functions()? {
        check!(
            function.driver().is_none(),
            "{} still has a driver",
            function.name
        );
        check!(
            sysfs::fwctl_on(&function.name)?.is_none(),
            "{} still has a fwctl device",
            function.name
        );
    }
    unloaded.reverse();
    for module in unloaded {
        modules::load(&module)?;
    }
    back(&before)
}

fn fwctl_alone(_: &Ctx) -> Done {
    let before = replies()?;
    modules::unload("mlx5_fwctl")?;
    for function in mlx5_probe::functions()? {
        check!(
            sysfs::fwctl_on(&function.name)?.is_none(),
            "{} still has a fwctl device",
            function.name
        );
    }
    modules::load("mlx5_fwctl")?;
    back(&before)
}

fn unbind_bind(_: &Ctx) -> Done {
    let before = replies()?;
    for function in mlx5_probe::functions()? {
        function.unbind("mlx5_core")?;
        check!(
            function.driver().is_none(),
            "{} still has a driver",
            function.name
        );
        function.bind("mlx5_core")?;
    }
    back(&before)
}

fn unbind_in_flight(ctx: &Ctx) -> Done {
    let before = replies()?;
    for function in mlx5_probe::functions()? {
        let entry = sysfs::wait_for_fwctl(&function.name)?;
        let mut workers = Workers::start(8, &entry.name, 0, &before)?;
        workers.go()?;
        thread::sleep(Duration::from_millis(50));
        function.unbind("mlx5_core")?;
        report_ends(ctx, workers.join()?)?;
        function.bind("mlx5_core")?;
    }
    back(&before)
}

/// Notes how RPCs ended whose device went away, and fails for another end than that.
pub fn report_ends(ctx: &Ctx, ends: Vec<End>) -> Done {
    use fwctl_uapi::Errno;
    for (i, end) in ends.into_iter().enumerate() {
        match end {
            // ENXIO is mlx5_core's word for a command interface that is down.
            End::Refused(Errno::ENODEV | Errno::EIO | Errno::ENXIO | Errno::ECANCELED, _) => {}
            other => fail!("process {i}: wanted an end by ENODEV or EIO, found {other:?}"),
        }
        if let End::Refused(errno, n) = end {
            ctx.note(format!("process {i}: {n} right replies, then {errno}"));
        }
    }
    Ok(())
}

fn devlink_reload(ctx: &Ctx) -> Done {
    let before = replies()?;
    for function in mlx5_probe::functions()? {
        run_program(
            ctx,
            "devlink",
            &["dev", "reload", &format!("pci/{}", function.name)],
        )?;
        wait_for(
            &format!("{} after devlink dev reload", function.name),
            APPEAR,
            || Ok((function.driver().as_deref() == Some("mlx5_core")).then_some(())),
        )?;
    }
    back(&before)
}
