// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The unmodified mlx5 drivers find a device.

use std::path::Path;

use crate::{
    check, check_eq, dmesg, fail, modules,
    sysfs::{self, BusDevice, VENDOR_MELLANOX},
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

/// Lines of these drivers count.
pub const SUBJECTS: dmesg::Subjects = &["mlx5", "fwctl"];

pub const SUITE: Suite = Suite {
    name: "mlx5-probe",
    about: "mlx5_core and mlx5_fwctl bind to the PCI function",
    subjects: SUBJECTS,
    expects: &[],
    tests: &[
        test("modules-load", 120, modules_load),
        test("core-bound", 120, core_bound),
        test("fwctl-bound", 120, fwctl_bound),
        test("fwctl-node", 120, fwctl_node),
        test("fwctl-parent-is-pci", 60, fwctl_parent),
        test("dmesg-clean-since-boot", 60, dmesg_clean),
    ],
};

/// The first function, as devlink calls it.
pub fn first() -> Done<String> {
    match functions()?.first() {
        Some(f) => Ok(format!("pci/{}", f.name)),
        None => crate::fail!("no function"),
    }
}

/// The mlx5 PCI functions of this guest.
pub fn functions() -> Done<Vec<BusDevice>> {
    let found = sysfs::pci_functions(VENDOR_MELLANOX);
    check!(
        !found.is_empty(),
        "no PCI function has the vendor {VENDOR_MELLANOX}"
    );
    Ok(found)
}

/// Waits until every function has a driver with a fwctl device on it.
pub fn wait_until_up() -> Done {
    for function in functions()? {
        wait_for(
            &format!("binding {} to mlx5_core", function.name),
            APPEAR,
            || Ok((function.driver().as_deref() == Some("mlx5_core")).then_some(())),
        )?;
        sysfs::wait_for_fwctl(&function.name)?;
    }
    Ok(())
}

fn modules_load(_: &Ctx) -> Done {
    for name in ["mlx5_core", "mlx5_fwctl"] {
        if !modules::is_loaded(name) {
            modules::load(name)?;
        }
    }
    Ok(())
}

fn core_bound(ctx: &Ctx) -> Done {
    for function in functions()? {
        wait_for(
            &format!("binding {} to a driver", function.name),
            APPEAR,
            || Ok(function.driver().map(drop)),
        )?;
        check_eq!(
            function.driver().as_deref(),
            Some("mlx5_core"),
            "driver of {}",
            function.name
        );
        ctx.note(format!(
            "{} {} {}",
            function.name,
            function.attribute("vendor")?,
            function.attribute("device")?
        ));
    }
    Ok(())
}

fn fwctl_bound(ctx: &Ctx) -> Done {
    for function in functions()? {
        let device = wait_for(
            &format!(
                "an auxiliary fwctl device with a driver on {}",
                function.name
            ),
            APPEAR,
            || {
                Ok(sysfs::bus_devices("auxiliary").into_iter().find(|d| {
                    d.name.starts_with("mlx5_core.fwctl.")
                        && d.parent().as_deref() == Some(&function.name)
                        && d.driver().is_some()
                }))
            },
        )?;
        let driver = device.driver().unwrap_or_default();
        check_eq!(driver, "mlx5_fwctl.mlx5_fwctl", "driver of {}", device.name);
        ctx.note(format!("{} on {}", device.name, function.name));
    }
    Ok(())
}

fn fwctl_node(ctx: &Ctx) -> Done {
    for function in functions()? {
        let entry = sysfs::wait_for_fwctl(&function.name)?;
        drop(entry.open()?);
        ctx.note(format!("{} is {}", entry.node.display(), entry.number));
    }
    check!(
        Path::new("/dev/fwctl/fwctl0").exists(),
        "there is no /dev/fwctl/fwctl0"
    );
    Ok(())
}

fn fwctl_parent(_: &Ctx) -> Done {
    for function in functions()? {
        let Some(entry) = sysfs::fwctl_on(&function.name)? else {
            fail!("no fwctl device has the parent {}", function.name)
        };
        check_eq!(
            entry.pci().map(|a| a.to_string()),
            Some(function.name.clone()),
            "parent of {}",
            entry.name
        );
        check_eq!(
            entry.driver.as_deref(),
            Some("mlx5_core"),
            "driver of the parent of {}",
            entry.name
        );
    }
    Ok(())
}

fn dmesg_clean(ctx: &Ctx) -> Done {
    clean_since_boot(ctx, SUBJECTS)
}

/// Fails if the log since boot has complaints, or does not reach back to the boot.
pub fn clean_since_boot(ctx: &Ctx, subjects: dmesg::Subjects) -> Done {
    let records = dmesg::Log::from_boot()
        .and_then(|mut log| log.read_new())
        .map_err(|e| format!("cannot read the kernel log: {e}"))?;
    check!(
        records.iter().any(|r| r.text.starts_with("Linux version ")),
        "the kernel log of {} lines does not reach back to the boot",
        records.len()
    );
    let complaints = dmesg::complaints(&records, subjects);
    for record in &complaints {
        ctx.note(format!("dmesg: {record}"));
    }
    check!(
        complaints.is_empty(),
        "{} of {} lines are complaints",
        complaints.len(),
        records.len()
    );
    Ok(())
}
