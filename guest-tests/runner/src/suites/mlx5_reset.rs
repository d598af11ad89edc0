// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware is reset with the drivers' agreement.

use fwctl_proto::{layout::ViewMut, layouts::MfrlReg, opcode as op, register};
use fwctl_uapi::{Device, Scope, mlx5};

use crate::{
    check, check_eq, fail,
    rpcs::named,
    suites::{
        mlx5_probe::{self, clean_since_boot, first},
        mlx5_reload::{back, replies},
        programs::{program, program_output, run_program},
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

/// What the driver says at every reset that it is asked for: it announces each step as a warning.
pub const ANNOUNCED: &[&str] = &[
    "PCI Sync FW Update Reset Ack. Device reset is expected.",
    "Sync Reset now. Device is going to reset.",
    "Skipping wait for vf pages stage",
    // The tracer is armed again when the channel is gone.
    "FWTracer: Failed to arm tracer event -67",
    // The link toggle, in a port that cannot tell whether its link is up.
    "No PCI link reporting capability",
];

/// By the link's toggle, as devlink starts it.
pub const ACTIVATE: Suite = Suite {
    name: "mlx5-fw-activate",
    about: "devlink dev reload action fw_activate, and a driver that does not agree",
    subjects: mlx5_probe::SUBJECTS,
    expects: ANNOUNCED,
    tests: &[
        test("dmesg-clean-since-boot", 60, dmesg_clean),
        test("fw-activate-1", 240, activate),
        test("fw-activate-2", 240, activate),
        test("health-after", 60, healthy),
    ],
};

/// A driver that was told not to agree.
pub const REFUSE: Suite = Suite {
    name: "mlx5-fw-activate-refused",
    about: "enable_remote_dev_reset off: the driver refuses, and all goes on",
    subjects: mlx5_probe::SUBJECTS,
    expects: &["PCI Sync FW Update Reset Nack Sent"],
    tests: &[test("refused-by-parameter", 240, refuse)],
};

/// By a reset of the bus, as a tool starts it through fwctl: devlink holds the device's lock, which
/// the kernel's bus reset needs.
pub const HOT: Suite = Suite {
    name: "mlx5-hot-reset",
    about: "MFRL through fwctl: all drivers agree, and reset their bus",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[
        "PCI Sync FW Update Reset Ack. Device reset is expected.",
        "Sync Reset now. Device is going to reset.",
        // Announced before the reset, and armed again when the channel is gone.
        "FWTracer: Failed to arm tracer event -67",
        "Skipping wait for vf pages stage",
        // The PCI core announces its resets as warnings.
        ": resetting",
        ": reset done",
    ],
    tests: &[test("reset-by-fwctl", 240, hot_reset)],
};

fn dmesg_clean(ctx: &Ctx) -> Done {
    clean_since_boot(ctx, mlx5_probe::SUBJECTS)
}

/// The firmware starts again, and devlink waits until the driver is back.
pub fn fw_activate() -> Done {
    let reload = ["dev", "reload", &first()?, "action", "fw_activate"];
    program_output("devlink", &reload).map(drop)
}

fn activate(ctx: &Ctx) -> Done {
    let before = replies()?;
    let reload = ["dev", "reload", &first()?, "action", "fw_activate"];
    run_program(ctx, "devlink", &reload)?;
    back(&before)
}

fn healthy(ctx: &Ctx) -> Done {
    let text = run_program(ctx, "devlink", &["health", "show", &first()?])?;
    for reporter in ["reporter fw", "reporter fw_fatal"] {
        check!(
            text.lines()
                .skip_while(|l| l.trim() != reporter)
                .nth(1)
                .is_some_and(|l| l.trim().starts_with("state healthy error 0 recover 0")),
            "{reporter} is not healthy and untouched"
        );
    }
    Ok(())
}

fn refuse(ctx: &Ctx) -> Done {
    let before = replies()?;
    let set = |value| {
        let name = "enable_remote_dev_reset";
        let device = first()?;
        let arguments = [
            "dev", "param", "set", &device, "name", name, "value", value, "cmode", "runtime",
        ];
        run_program(ctx, "devlink", &arguments)
    };
    set("false")?;
    let reload = ["dev", "reload", &first()?, "action", "fw_activate"];
    let (ok, text) = program("devlink", &reload)?;
    ctx.note(&text);
    check!(!ok, "the reset was not refused");
    check!(
        text.contains("One of the hosts disabled reset"),
        "another reason than the driver's refusal"
    );
    set("true")?;
    back(&before)
}

/// `pci_reset_req_method`: a reset of the bus.
const BY_BUS: u64 = 1;

fn mfrl(device: &Device, write: bool, start: bool) -> Done<Vec<u8>> {
    const BYTES: usize = 8;
    let mut inbox = mlx5::inbox(op::ACCESS_REG, u16::from(!write), mlx5::HEADER + BYTES);
    inbox[10..12].copy_from_slice(&register::MFRL.to_be_bytes());
    let Some(mut v) = ViewMut::<MfrlReg>::new(&mut inbox[mlx5::HEADER..]) else {
        fail!("MFRL has no room")
    };
    v.set(MfrlReg::RESET_LEVEL, if write { 1 << 3 } else { 0 });
    v.set(MfrlReg::PCI_SYNC_FOR_FW_UPDATE_START, u64::from(start));
    let mut out = vec![0; mlx5::HEADER + BYTES];
    let scope = if write {
        Scope::DebugWriteFull
    } else {
        Scope::DebugReadOnly
    };
    device
        .rpc(scope, &inbox, &mut out)
        .map_err(|e| e.to_string())?;
    check_eq!(out[0], 0, "status of MFRL");
    Ok(out.split_off(mlx5::HEADER))
}

fn hot_reset(ctx: &Ctx) -> Done {
    let before = replies()?;
    let Some(function) = mlx5_probe::functions()?.into_iter().next() else {
        fail!("no function")
    };
    let device = sysfs::wait_for_fwctl(&function.name)?.open()?;
    let mut register = mfrl(&device, false, false)?;
    let method =
        ViewMut::<MfrlReg>::new(&mut register).map(|v| v.get(MfrlReg::PCI_RESET_REQ_METHOD));
    check_eq!(method, Some(BY_BUS), "pci_reset_req_method");
    mfrl(&device, true, true)?;
    // The device goes away under the open file, and comes back as another.
    wait_for("the end of the old device", APPEAR, || {
        Ok(named("nop").send(&device).is_err().then_some(()))
    })?;
    drop(device);
    ctx.note("the driver has left");
    let after = wait_for("the device that comes back", APPEAR, || Ok(replies().ok()))?;
    check!(
        after == before,
        "the device answers differently than before"
    );
    Ok(())
}
