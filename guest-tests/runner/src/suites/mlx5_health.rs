// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the driver makes of firmware that is not well. The host says when it falls ill: between
//! these suites.

use crate::{
    check, fail,
    suites::{
        mlx5_probe::{self, first},
        mlx5_reload::replies,
        programs::{program, program_output, run_program},
    },
    test::{APPEAR, Ctx, Done, Suite, joined, test, wait_for},
};

/// The lines of the health buffer.
pub const BUFFER: &[&str] = &[
    "Health issue observed, ",
    "assert_var[",
    "assert_exit_ptr",
    "assert_callra",
    "fw_ver ",
    "time ",
    "hw_id ",
    "rfr ",
    "crr ",
    "severity ",
    "irisc_index ",
    "synd 0x",
    "ext_synd ",
];

/// The lines of a driver that resets failed firmware and recovers, but for the one that says why.
pub const RECOVERY: &[&str] = &[
    // If it falls into its error state just while it takes the firmware's trace.
    "FWTracer: Failed to arm tracer event -67",
    "mlx5_error_sw_reset",
    "Issuing FW Reset",
    "handling bad device here",
    // The driver looks before it resets the firmware.
    "Expected to see disabled NIC but it is full driver",
    "Skipping wait for vf pages stage",
    "starting health recovery flow",
    "health recovery succeeded",
];

/// The host has set syndrome 0x10, not fatal.
pub const SICK: Suite = Suite {
    name: "mlx5-sick",
    about: "a syndrome that is not fatal: reported by reporter fw, and everything goes on",
    subjects: mlx5_probe::SUBJECTS,
    expects: BUFFER,
    tests: &[
        test("reporter-fw-reports", 120, reports),
        test("reporter-fw-diagnoses", 60, diagnoses),
        test("rpcs-go-on", 60, goes_on),
    ],
};

/// The host has healed it.
pub const HEALED: Suite = Suite {
    name: "mlx5-healed",
    about: "the syndrome is gone",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[test("reporter-fw-is-silent", 60, silent)],
};

/// The host lets it fail for good.
pub const RECOVERS: Suite = Suite {
    name: "mlx5-recovers",
    about: "a fatal syndrome: dumped, reset and recovered by reporter fw_fatal",
    subjects: mlx5_probe::SUBJECTS,
    expects: &joined::<22>(&[BUFFER, &["Fatal error 5 detected"], RECOVERY]),
    tests: &[
        test("fw-fatal-recovers", 240, recovers),
        test("fw-fatal-has-dumped", 120, dumped),
        test("rpcs-go-on", 60, goes_on),
    ],
};

/// Before the host lets it fail again.
pub const ASKS_FIRST: Suite = Suite {
    name: "mlx5-asks-first",
    about: "reporter fw_fatal is not to recover by itself",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[test("auto-recover-off", 60, auto_recover_off)],
};

/// The host has let it fail.
pub const TOLD: Suite = Suite {
    name: "mlx5-told-to-recover",
    about: "a fatal syndrome that stays until devlink health recover",
    subjects: mlx5_probe::SUBJECTS,
    expects: RECOVERS.expects,
    tests: &[
        test("fw-fatal-waits", 120, waits),
        test("devlink-health-recover", 240, told),
        test("rpcs-go-on", 60, goes_on),
    ],
};

/// The line of a reporter's state.
pub fn state(reporter: &str) -> Done<String> {
    let (_, text) = program("devlink", &["health", "show", &first()?])?;
    let line = text
        .lines()
        .skip_while(|l| l.trim() != format!("reporter {reporter}"))
        .nth(1);
    match line {
        Some(line) => Ok(line.trim().to_owned()),
        None => fail!("there is no reporter {reporter} in {text}"),
    }
}

fn reports(ctx: &Ctx) -> Done {
    let line = wait_for("a report of reporter fw", APPEAR, || {
        let line = state("fw")?;
        Ok(line.contains(" error 1 ").then_some(line))
    })?;
    ctx.note(&line);
    Ok(())
}

fn diagnose(ctx: &Ctx) -> Done<String> {
    run_program(
        ctx,
        "devlink",
        &["health", "diagnose", &first()?, "reporter", "fw"],
    )
}

fn diagnoses(ctx: &Ctx) -> Done {
    let text = diagnose(ctx)?;
    check!(
        text.contains("Syndrome: 16") && text.contains("High temperature"),
        "another diagnosis"
    );
    Ok(())
}

fn silent(ctx: &Ctx) -> Done {
    check!(diagnose(ctx)?.contains("Syndrome: 0"), "still a syndrome");
    Ok(())
}

fn goes_on(_: &Ctx) -> Done {
    replies()?;
    Ok(())
}

fn recovers(ctx: &Ctx) -> Done {
    let line = wait_for("a recovery by reporter fw_fatal", 4 * APPEAR, || {
        let line = state("fw_fatal")?;
        let done = line.starts_with("state healthy error 1 recover 1");
        Ok(done.then_some(line))
    })?;
    ctx.note(&line);
    Ok(())
}

fn dumped(_: &Ctx) -> Done {
    let show = ["health", "dump", "show", &first()?, "reporter", "fw_fatal"];
    let (ok, text) = program("devlink", &show)?;
    check!(ok, "no dump: {}", text.trim());
    check!(text.contains("crdump_data:"), "the dump has no crdump_data");
    Ok(())
}

fn auto_recover_off(_: &Ctx) -> Done {
    let device = first()?;
    let set = ["health", "set", &device, "reporter", "fw_fatal"];
    program_output("devlink", &[&set[..], &["auto_recover", "false"]].concat())?;
    let line = state("fw_fatal")?;
    check!(line.contains(" auto_recover false "), "{line}");
    Ok(())
}

fn waits(ctx: &Ctx) -> Done {
    let line = wait_for("an error of reporter fw_fatal", 4 * APPEAR, || {
        let line = state("fw_fatal")?;
        Ok(line
            .starts_with("state error error 2 recover 1")
            .then_some(line))
    })?;
    ctx.note(&line);
    Ok(())
}

fn told(ctx: &Ctx) -> Done {
    let recover = ["health", "recover", &first()?, "reporter", "fw_fatal"];
    program_output("devlink", &recover)?;
    let line = state("fw_fatal")?;
    ctx.note(&line);
    check!(
        line.starts_with("state healthy error 2 recover 2"),
        "{line}"
    );
    Ok(())
}
