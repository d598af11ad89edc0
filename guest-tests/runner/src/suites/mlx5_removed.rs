// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A function that is pulled out of its slot, and put back. The host does both: between these suites.

use std::{fs, path::Path};

use crate::{
    check, check_eq, fail,
    suites::{
        mlx5_health::state,
        mlx5_probe::{self, functions, wait_until_up},
        mlx5_reload::replies,
    },
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

/// What the driver says of it; it takes its time, so that some of it may come when the function is back.
const GONE: &[&str] = &[
    "Fatal error 1 detected",
    "PCI slot is unavailable",
    "crdump: failed to lock vsc gw err -16",
    "handling bad device here",
    "mlx5_error_sw_reset",
    "NIC IFC still 7 after",
    "Skipping wait for vf pages stage",
    "device is being removed, stop waiting for PCI",
    "health recovery flow aborted, PCI reads still not working",
    "interface is down, NOP",
];

/// The host has pulled it.
pub const REMOVED: Suite = Suite {
    name: "mlx5-removed",
    about: "a function that is gone: all ones, noticed by the driver, an error for each RPC",
    subjects: mlx5_probe::SUBJECTS,
    expects: GONE,
    tests: &[
        test("config-space-reads-as-ones", 60, ones),
        test("reporter-fw-fatal-notices", 240, noticed),
        test("rpcs-end-with-an-error", 120, refused),
    ],
};

/// The host has put it back.
pub const PUT_BACK: Suite = Suite {
    name: "mlx5-put-back",
    about: "the function that was gone is removed, found again, and works",
    subjects: mlx5_probe::SUBJECTS,
    expects: GONE,
    tests: &[
        test("remove-and-rescan", 240, rescanned),
        test("rpcs-go-on", 60, works),
    ],
};

fn ones(_: &Ctx) -> Done {
    let all = functions()?;
    let Some(f) = all.first() else {
        fail!("no function")
    };
    let path = f.dir().join("config");
    match fs::read(&path) {
        Ok(bytes) => check_eq!(bytes.get(..4), Some(&[0xff; 4][..]), "vendor and device"),
        Err(e) => fail!("{}: {e}", path.display()),
    }
    Ok(())
}

fn noticed(ctx: &Ctx) -> Done {
    let line = wait_for("a report of reporter fw_fatal", 4 * APPEAR, || {
        let line = state("fw_fatal")?;
        Ok(line.contains(" error 1 ").then_some(line))
    })?;
    ctx.note(&line);
    Ok(())
}

fn refused(_: &Ctx) -> Done {
    check!(replies().is_err(), "a function that is gone answers");
    Ok(())
}

fn write(path: &Path) -> Done {
    match fs::write(path, "1") {
        Ok(()) => Ok(()),
        Err(e) => fail!("{}: {e}", path.display()),
    }
}

fn rescanned(_: &Ctx) -> Done {
    for f in functions()? {
        write(&f.dir().join("remove"))?;
    }
    write(Path::new("/sys/bus/pci/rescan"))?;
    wait_until_up()
}

fn works(_: &Ctx) -> Done {
    replies()?;
    Ok(())
}
