// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line of the guest's test runner.

use std::{io, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use fwctl_uapi::{Scope, mlx5};
use guest_runner::{
    demo, engine, hex,
    suites::{self, SUITES, guarantees},
    test::{Ctx, Suite, find_device},
    worker,
};

/// Test runner and small tool for fwctl devices inside a guest.
///
/// Exit status: 0 when all is well, 1 when something failed, 2 for a wrong command line.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the fwctl devices.
    List,
    /// Print FWCTL_INFO.
    Info(Device),
    /// Print a device as an emulator's profile (`fwctl-emu profile capture`).
    Capture(Device),
    /// Open a device, print its information, send a few RPCs.
    Demo(Device),
    /// Send one RPC and print the answer.
    Rpc(Rpc),
    /// Run a suite and print KTAP.
    Suite {
        /// Name of the suite (see `suites`).
        name: String,
        /// Run this test alone; again for more.
        #[arg(long)]
        only: Vec<String>,
        /// So often, with a report for each run.
        #[arg(long, default_value_t = 1)]
        runs: u32,
        /// The device is an emulator that was started with the faults of `triggers`.
        #[arg(long)]
        triggers: bool,
        #[command(flatten)]
        device: Device,
    },
    /// Print the faults that some tests need (`fwctl-emu serve --fault LINE` each).
    Triggers,
    /// Print what fwctl guarantees, how it is tested and how that test is tested (docs/guarantees.md).
    Guarantees,
    /// List the suites, or the tests of one.
    Suites {
        /// Name of a suite.
        name: Option<String>,
    },
    /// One test, run by `suite`.
    #[command(hide = true)]
    TestProcess {
        suite: String,
        test: String,
        #[arg(long)]
        triggers: bool,
        #[command(flatten)]
        device: Device,
    },
    /// A process that is killed with many devices open.
    #[command(hide = true)]
    Holder {
        #[arg(long)]
        count: usize,
        #[command(flatten)]
        device: Device,
    },
    /// One process of a stress test.
    #[command(hide = true)]
    Worker {
        #[arg(long)]
        first: usize,
        #[arg(long)]
        count: u64,
        #[command(flatten)]
        device: Device,
    },
}

#[derive(Debug, clap::Args)]
struct Device {
    /// The device, such as fwctl0; the first one if not given.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

impl Device {
    fn name(&self) -> Option<&str> {
        self.device.as_deref()
    }
}

#[derive(Debug, clap::Args)]
struct Rpc {
    /// Opcode: a number (0x80d), or a name (NOP).
    #[arg(long, value_parser = parse_opcode)]
    opcode: u16,
    /// op_mod.
    #[arg(long, default_value = "0", value_parser = parse_number)]
    op_mod: u16,
    /// 0 to 3, configuration, debug-read-only, debug-write or debug-write-full.
    #[arg(long, default_value = "debug-read-only")]
    scope: Scope,
    /// Hex bytes of the inbox from offset 8 on, after opcode, uid and op_mod.
    #[arg(long = "in", value_name = "HEX", default_value = "", value_parser = parse_hex)]
    payload: Payload,
    /// Bytes of the outbox.
    #[arg(long, default_value_t = 4112)]
    out_len: usize,
    /// Send it so often, one after the other; the last reply is shown.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    #[command(flatten)]
    device: Device,
}

/// Bytes of an option, in one value for clap.
#[derive(Clone, Debug)]
struct Payload(Vec<u8>);

fn parse_hex(text: &str) -> Result<Payload, String> {
    hex::decode(text).map(Payload)
}

fn parse_number(text: &str) -> Result<u16, String> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .map_err(|_| format!("{text:?} is no number from 0 to 0xffff"))
}

fn parse_opcode(text: &str) -> Result<u16, String> {
    (0..=u16::MAX)
        .find(|n| fwctl_proto::opcode::name(*n).is_some_and(|name| name.eq_ignore_ascii_case(text)))
        .map_or_else(|| parse_number(text), Ok)
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("guest-runner: {e:#}");
            ExitCode::from(if e.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// The command line asks for something that there is not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn run(command: &Command) -> Result<bool> {
    match command {
        Command::List => demo::list()?,
        Command::Capture(device) => {
            print!(
                "{}",
                fwctl_uapi::capture::capture(&find_device(device.name())?)?
            );
        }
        Command::Info(device) => demo::info(device.name())?,
        Command::Demo(device) => return Ok(demo::run(device.name())?),
        Command::Rpc(rpc) => return send(rpc),
        Command::Suite {
            name,
            only,
            runs,
            triggers,
            device,
        } => {
            let suite = find_suite(name)?;
            for name in only {
                find_test(suite, name)?;
            }
            let ctx = Ctx {
                device: device.device.clone(),
                triggers: *triggers,
            };
            let mut good = true;
            for _ in 0..*runs {
                good &= engine::run_suite(suite, only, &ctx, io::stdout())
                    .context("cannot write the report")?;
            }
            return Ok(good);
        }
        Command::Triggers => print!("{}", guarantees::triggers::lines()),
        Command::Guarantees => print!("{}", guarantees::markdown()),
        Command::Holder { count, device } => guarantees::hold(device.name(), *count)?,
        Command::Suites { name: None } => SUITES.iter().for_each(|s| println!("{}", s.name)),
        Command::Suites { name: Some(name) } => find_suite(name)?
            .tests
            .iter()
            .for_each(|t| println!("{}", t.name)),
        Command::TestProcess {
            suite,
            test,
            triggers,
            device,
        } => {
            let test = find_test(find_suite(suite)?, test)?;
            engine::run_child(
                test,
                &Ctx {
                    device: device.device.clone(),
                    triggers: *triggers,
                },
            )?;
        }
        Command::Worker {
            first,
            count,
            device,
        } => {
            let end = worker::work(device.name(), *first, *count);
            println!("{}", worker::last_line(&end));
            return Ok(end.is_ok());
        }
    }
    Ok(true)
}

fn find_suite(name: &str) -> Result<&'static Suite, Usage> {
    suites::find(name)
        .ok_or_else(|| Usage(format!("no suite is called {name:?}; `suites` lists them")))
}

fn find_test(
    suite: &'static Suite,
    name: &str,
) -> Result<&'static guest_runner::test::Test, Usage> {
    let missing = || {
        Usage(format!(
            "suite {} has no test {name:?}; `suites {}` lists them",
            suite.name, suite.name
        ))
    };
    suite
        .tests
        .iter()
        .find(|t| t.name == name)
        .ok_or_else(missing)
}

fn send(rpc: &Rpc) -> Result<bool> {
    let device = find_device(rpc.device.name())?.open()?;
    let mut inbox = mlx5::inbox(rpc.opcode, rpc.op_mod, 8 + rpc.payload.0.len());
    inbox[8..8 + rpc.payload.0.len()].copy_from_slice(&rpc.payload.0);
    let mut outbox = vec![0; rpc.out_len];
    let mut reply = device.rpc(rpc.scope, &inbox, &mut outbox)?;
    for _ in 1..rpc.times {
        reply = device.rpc(rpc.scope, &inbox, &mut outbox)?;
    }
    println!("{} bytes, {} in the outbox", reply.len, reply.copied);
    outbox.truncate(reply.copied);
    println!("{}", mlx5::status(&outbox)?);
    hex::dump(&outbox, outbox.len())
        .iter()
        .for_each(|line| println!("{line}"));
    Ok(mlx5::status(&outbox)?.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn opcodes_by_name_and_number() {
        assert_eq!(parse_opcode("nop"), Ok(0x80d));
        assert_eq!(parse_opcode("QUERY_HCA_CAP"), Ok(0x100));
        assert_eq!(parse_opcode("0x10a"), Ok(0x10a));
        assert_eq!(parse_opcode("266"), Ok(0x10a));
        assert!(parse_opcode("0x10000").is_err());
        assert!(parse_opcode("NO_SUCH").is_err());
    }
}
