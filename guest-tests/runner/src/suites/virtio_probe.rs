// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio_fwctl finds a device.

use std::path::Path;

use crate::{
    check, check_eq, dmesg, fail, modules,
    suites::mlx5_probe::clean_since_boot,
    sysfs::{self, BusDevice, VENDOR_VIRTIO},
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

/// Lines of these drivers count.
pub const SUBJECTS: dmesg::Subjects = &["virtio", "fwctl"];
/// The driver under test.
pub const DRIVER: &str = "virtio_fwctl";
/// The virtio device id, as sysfs prints it: 38.
const DEVICE_ID: &str = "0x0026";

pub const SUITE: Suite = Suite {
    name: "virtio-probe",
    about: "virtio_fwctl binds to the virtio device",
    subjects: SUBJECTS,
    expects: &[],
    tests: &[
        test("module-loads", 120, module_loads),
        test("driver-bound", 120, driver_bound),
        test("fwctl-node", 120, fwctl_node),
        test("fwctl-parent-is-pci", 60, fwctl_parent),
        test("dmesg-clean-since-boot", 60, dmesg_clean),
    ],
};

/// The virtio devices of the driver's id.
pub fn devices() -> Done<Vec<BusDevice>> {
    let found: Vec<BusDevice> = sysfs::bus_devices("virtio")
        .into_iter()
        .filter(|d| d.attribute("device").is_ok_and(|id| id == DEVICE_ID))
        .collect();
    check!(!found.is_empty(), "no virtio device has the id {DEVICE_ID}");
    Ok(found)
}

/// The name of the PCI function that a virtio device sits on.
pub fn pci_of(device: &BusDevice) -> Done<String> {
    device
        .parent()
        .ok_or_else(|| format!("{} has no parent", device.name).into())
}

fn module_loads(_: &Ctx) -> Done {
    if !modules::is_loaded(DRIVER) {
        modules::load(DRIVER)?;
    }
    Ok(())
}

fn driver_bound(ctx: &Ctx) -> Done {
    for device in devices()? {
        wait_for(
            &format!("binding {} to a driver", device.name),
            APPEAR,
            || Ok(device.driver().map(drop)),
        )?;
        check_eq!(
            device.driver().as_deref(),
            Some(DRIVER),
            "driver of {}",
            device.name
        );
        ctx.note(format!("{} on {}", device.name, pci_of(&device)?));
    }
    Ok(())
}

fn fwctl_node(ctx: &Ctx) -> Done {
    for device in devices()? {
        let entry = sysfs::wait_for_fwctl(&pci_of(&device)?)?;
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
    for device in devices()? {
        let pci = pci_of(&device)?;
        let Some(entry) = sysfs::fwctl_on(&pci)? else {
            fail!("no fwctl device has the parent {pci}")
        };
        check_eq!(
            entry.pci().map(|a| a.to_string()),
            Some(pci.clone()),
            "parent of {}",
            entry.name
        );
        let vendor = BusDevice {
            bus: "pci",
            name: pci,
        }
        .attribute("vendor")?;
        check_eq!(
            vendor,
            VENDOR_VIRTIO,
            "PCI vendor of the parent of {}",
            entry.name
        );
    }
    Ok(())
}

fn dmesg_clean(ctx: &Ctx) -> Done {
    clean_since_boot(ctx, SUBJECTS)
}
