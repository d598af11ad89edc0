// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The drivers go and come back, and find the same device.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    check, fail, modules, skip,
    suites::mlx5_probe,
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

/// Runs a program of the guest and shows what it prints; skips the test by its name where there
/// is none.
pub fn run_program(ctx: &Ctx, program: &str, args: &[&str]) -> Done<String> {
    let out = program_output(program, args)?;
    for line in out.lines() {
        ctx.note(format!("{program}: {line}"));
    }
    Ok(out)
}

/// [`run_program`] without showing its output.
pub fn program_output(name: &str, args: &[&str]) -> Done<String> {
    let (ok, text) = program(name, args)?;
    check!(ok, "{name} {}: {}", args.join(" "), text.trim());
    Ok(text.trim().to_owned())
}

/// Runs a program of the guest: whether it ended well, and all that it printed.
pub fn program(name: &str, args: &[&str]) -> Done<(bool, String)> {
    let mut command = Command::new(name);
    let output = match command.args(args).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            skip!("{name} is not in this guest")
        }
        Err(e) => fail!("cannot run {name}: {e}"),
    };
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
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
