// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Measures what a command costs in the model and over each transport, beside the floors of the
//! machine in the same run, and prints one table. `scripts/bench` builds and runs it.
mod commands;
mod cpus;
mod floors;
mod load;
mod model;
mod nothing;
mod process;
mod report;
mod run;
mod stats;
mod trace;
mod vfio;
mod vhost;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Benchmarks of fwctl-emu: one run, one table, one JSON file.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// The emulator to measure.
    #[arg(long, value_name = "FILE")]
    emulator: Option<PathBuf>,
    /// Where the JSON goes.
    #[arg(long, value_name = "FILE", default_value = "target/bench/bench.json")]
    json: PathBuf,
    /// Profile of the card.
    #[arg(long, value_name = "NAME", default_value = "connectx7")]
    profile: String,
    /// A tenth of the requests: to see that everything runs, not to quote.
    #[arg(long)]
    quick: bool,
}

/// What this program is when it starts itself again.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    #[command(name = floors::EVENTFD_PEER, hide = true)]
    EventfdPeer,
    #[command(name = floors::SOCKET_PEER, hide = true)]
    SocketPeer,
    #[command(name = nothing::ROLE, hide = true)]
    Nothing { path: PathBuf },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.role {
        Some(Role::EventfdPeer) => floors::eventfd_peer(),
        Some(Role::SocketPeer) => floors::socket_peer(),
        Some(Role::Nothing { path }) => nothing::serve(&path),
        None => run::all(&run::Plan {
            emulator: options.emulator,
            profile: options.profile,
            json: options.json,
            scale: if options.quick { 1 } else { 10 },
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}
