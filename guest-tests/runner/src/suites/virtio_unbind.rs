// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! virtio_fwctl loses its device while RPCs are in flight, and gets it back.

use std::{thread, time::Duration};

use crate::{
    check, fail, modules,
    suites::{
        mlx5_reload::report_ends,
        virtio_probe::{self, DRIVER, devices, pci_of},
    },
    sysfs,
    test::{Ctx, Done, Suite, test},
    worker::{Reference, Workers},
};

pub const SUITE: Suite = Suite {
    name: "virtio-unbind",
    about: "unbind and bind with RPCs in flight, rmmod and modprobe",
    subjects: virtio_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("unbind-idle", 120, idle),
        test("unbind-with-rpcs-in-flight-1", 240, in_flight),
        test("unbind-with-rpcs-in-flight-2", 240, in_flight),
        test("unbind-with-rpcs-in-flight-3", 240, in_flight),
        test("unbind-with-open-file", 120, open_file),
        test("rmmod-modprobe", 120, rmmod_modprobe),
    ],
};

/// Processes with RPCs in flight.
const PROCESSES: usize = 8;

/// The replies of the device on a PCI function.
fn replies(pci: &str) -> Done<Reference> {
    Reference::take(&sysfs::wait_for_fwctl(pci)?.open()?)
}

fn back(pci: &str, before: &Reference) -> Done {
    check!(
        replies(pci)? == *before,
        "the device answers differently than before"
    );
    Ok(())
}

fn idle(_: &Ctx) -> Done {
    for device in devices()? {
        let pci = pci_of(&device)?;
        let before = replies(&pci)?;
        device.unbind(DRIVER)?;
        check!(
            device.driver().is_none(),
            "{} still has a driver",
            device.name
        );
        check!(
            sysfs::fwctl_on(&pci)?.is_none(),
            "{pci} still has a fwctl device"
        );
        device.bind(DRIVER)?;
        back(&pci, &before)?;
    }
    Ok(())
}

fn in_flight(ctx: &Ctx) -> Done {
    for device in devices()? {
        let pci = pci_of(&device)?;
        let before = replies(&pci)?;
        let entry = sysfs::wait_for_fwctl(&pci)?;
        let mut workers = Workers::start(PROCESSES, &entry.name, 0, &before)?;
        workers.go()?;
        thread::sleep(Duration::from_millis(50));
        device.unbind(DRIVER)?;
        report_ends(ctx, workers.join()?)?;
        device.bind(DRIVER)?;
        back(&pci, &before)?;
    }
    Ok(())
}

/// A file that was open when its device went away is dead and stays so; closing it is harmless.
fn open_file(_: &Ctx) -> Done {
    use fwctl_uapi::Errno;
    for device in devices()? {
        let pci = pci_of(&device)?;
        let before = replies(&pci)?;
        let orphan = sysfs::wait_for_fwctl(&pci)?.open()?;
        device.unbind(DRIVER)?;
        for when in ["without a driver", "with the driver back"] {
            match orphan.info() {
                Err(e) if e.errno() == Some(Errno::ENODEV) => {}
                other => {
                    fail!("FWCTL_INFO on an orphaned file {when}: wanted ENODEV, found {other:?}")
                }
            }
            if device.driver().is_none() {
                device.bind(DRIVER)?;
                back(&pci, &before)?;
            }
        }
        drop(orphan);
        back(&pci, &before)?;
    }
    Ok(())
}

fn rmmod_modprobe(_: &Ctx) -> Done {
    let Some(device) = devices()?.into_iter().next() else {
        fail!("no device")
    };
    let pci = pci_of(&device)?;
    let before = replies(&pci)?;
    modules::unload(DRIVER)?;
    check!(
        sysfs::fwctl_on(&pci)?.is_none(),
        "{pci} still has a fwctl device"
    );
    modules::load(DRIVER)?;
    back(&pci, &before)
}
