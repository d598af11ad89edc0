// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware's own lines, as unmodified mlx5_core shows them.

use std::fs;

use crate::{
    check,
    rpcs::named,
    suites::{
        mlx5_probe::{self, first},
        programs::program_output,
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

/// Where the guest has its tracefs.
const TRACING: &str = "/sys/kernel/tracing";

pub const SUITE: Suite = Suite {
    name: "mlx5-tracer",
    about: "the tracepoint mlx5_fw and the core dump of devlink health",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("tracepoint-names-the-command", 60, tracepoint),
        test("a-refusal-shows-its-syndrome", 60, refusal),
        test("reporter-fw-dumps", 60, dumps),
    ],
};

fn switch(on: &str) -> Done {
    let file = format!("{TRACING}/events/mlx5/mlx5_fw/enable");
    fs::write(&file, on).map_err(|e| format!("{file}: {e}"))?;
    Ok(())
}

/// Waits for a line of the tracepoint that holds `wanted`.
fn line(wanted: &str) -> Done<String> {
    wait_for(wanted, APPEAR, || {
        let file = format!("{TRACING}/trace");
        let all = fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
        let found = all
            .lines()
            .find(|l| l.contains("mlx5_fw: ") && l.contains(wanted));
        Ok(found.map(|l| l.trim().to_owned()))
    })
}

fn function() -> Done<String> {
    Ok(first()?.trim_start_matches("pci/").to_owned())
}

fn tracepoint(ctx: &Ctx) -> Done {
    switch("1")?;
    let pci = function()?;
    let device = sysfs::wait_for_fwctl(&pci)?.open()?;
    named("query_adapter").send(&device)?;
    let line = line("QUERY_ADAPTER op_mod 0x0 uid ")?;
    ctx.note(&line);
    check!(line.contains(&pci), "the line does not name the function");
    check!(
        line.contains(" 0 [0x10] ") && line.ends_with("status 0x0 syndrome 0x0"),
        "another event id, or a loss"
    );
    Ok(())
}

fn refusal(ctx: &Ctx) -> Done {
    let device = sysfs::wait_for_fwctl(&function()?)?.open()?;
    named("access_reg.unknown").send(&device)?;
    // The firmware's syndrome for a register that it does not have.
    let line = line("status 0x3 syndrome 0xe60001")?;
    ctx.note(&line);
    check!(
        line.contains(" ACCESS_REG op_mod 0x1 uid "),
        "another command"
    );
    switch("0")
}

fn dumps(ctx: &Ctx) -> Done {
    let show = ["health", "dump", "show", &first()?, "reporter", "fw"];
    let text = program_output("devlink", &show)?;
    ctx.note(format!("{} lines", text.lines().count()));
    for wanted in [
        "dump fw traces",
        "core dump: syndrome 0x0 ext_synd 0x0 functions 1",
        "QUERY_ADAPTER op_mod 0x0",
    ] {
        check!(text.contains(wanted), "the dump does not say {wanted:?}");
    }
    Ok(())
}
