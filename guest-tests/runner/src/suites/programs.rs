// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Programs of the guest, and the card as the vendor's tools are told of it.

use std::process::{Command, Stdio};

use crate::{
    check, check_eq, fail, skip,
    suites::mlx5_probe,
    test::{Ctx, Done, read_file},
};

/// What `--device` says for the PCI address of the first function.
pub const PCI: &str = "pci";

/// The card's name for the vendor's tools: `--device`, or the fwctl device that they know. They look
/// for the name below /dev/fwctl.
///
/// # Errors
/// A failure if the card is to be reached by its PCI address and there is none.
pub fn tool_device(ctx: &Ctx) -> Done<String> {
    match ctx.device.as_deref() {
        None => Ok("fwctl0".into()),
        Some(PCI) => bdf(),
        Some(name) => Ok(name.into()),
    }
}

/// True if the tools are to go through the gateway in configuration space.
#[must_use]
pub fn over_pci(ctx: &Ctx) -> bool {
    ctx.device.as_deref() == Some(PCI)
}

/// The first function's PCI address.
///
/// # Errors
/// A failure if there is no function.
pub fn bdf() -> Done<String> {
    let functions = mlx5_probe::functions()?;
    let Some(first) = functions.first() else {
        fail!("no function")
    };
    Ok(first.name.clone())
}

/// What the scenario says of the tools' version, as a file in the guest.
const VERSION: &str = "/files/version";

/// The version that the tools themselves say, as 4.33.0.
///
/// # Errors
/// A failure if they say none.
pub fn tool_version() -> Done<String> {
    let text = program_output("mstreg", &["-v"])?;
    let said = text.split("mstflint ").nth(1);
    let version = said.and_then(|s| s.split(|c: char| c != '.' && !c.is_ascii_digit()).next());
    match version {
        Some(version) if !version.is_empty() => Ok(version.to_owned()),
        _ => fail!("no version: {text}"),
    }
}

/// True for 4.31, whose messages and database differ from those of 4.33.
///
/// # Errors
/// As [`tool_version`].
pub fn is_old() -> Done<bool> {
    Ok(tool_version()?.starts_with("4.31."))
}

/// The tools are those that the scenario says: what the archive gives is not always what was asked for.
pub fn is_the_version(ctx: &Ctx) -> Done {
    let claimed = read_file(VERSION)?;
    ctx.note(&claimed);
    check_eq!(tool_version()?, claimed, "mstflint");
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
    let (code, text) = program_code(name, args)?;
    Ok((code == Some(0), text))
}

/// Runs a program of the guest: its exit code, `None` if a signal ended it, and all that it printed.
pub fn program_code(name: &str, args: &[&str]) -> Done<(Option<i32>, String)> {
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
    Ok((output.status.code(), text))
}
