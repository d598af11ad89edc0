// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line of fwctl-emu.

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use fwctl_emu::{
    control,
    serve::{Door, Options, Transport, serve},
    socket::Place,
};

/// Exit code for what the caller got wrong: options, sockets, profiles.
const USAGE: u8 = 2;

/// An emulated firmware mailbox of a ConnectX-like (mlx5) device, to run next to QEMU.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage.\n\
        Log lines go to standard error; RUST_LOG chooses them (RUST_LOG=debug)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the functions of one card until SIGTERM.
    ///
    /// Each --vfio-user and --vhost-user is a function of the same card, numbered from 0 in the
    /// order in which they are given.
    #[command(after_help = "Examples:\n  \
        fwctl-emu serve --vfio-user /run/fw.sock\n  \
        qemu-system-x86_64 -M q35,memory-backend=mem \\\n    \
        -object memory-backend-memfd,id=mem,size=1G,share=on -m 1G \\\n    \
        -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":\"/run/fw.sock\"}}'\n\n  \
        fwctl-emu serve --vhost-user /run/fw.sock --profile minimal\n  \
        qemu-system-x86_64 … -chardev socket,id=c0,path=/run/fw.sock \\\n    \
        -device vhost-user-test-device-pci,chardev=c0,virtio-id=38,num_vqs=2,vq_size=256,config_size=32")]
    Serve(ServeArgs),
    /// Ask a running emulator through its control socket.
    Ctl {
        /// The socket that `serve --control` made.
        #[arg(long, value_name = "PATH")]
        control: PathBuf,
        /// Print JSON as it came.
        #[arg(long)]
        json: bool,
        /// What to ask: delay, event, functions, hang, health, link, page-demand, power-cycle,
        /// quit, save, start, temperature, version.
        query: String,
        /// Its arguments (page-demand function=0 count=16).
        #[arg(value_name = "NAME=VALUE")]
        arguments: Vec<String>,
    },
    /// Show what there is to choose from.
    List {
        /// profiles or commands.
        #[arg(value_parser = ["profiles", "commands"])]
        what: String,
    },
}

#[derive(clap::Args)]
struct ServeArgs {
    /// Serve a PCI function on this unix socket (a path, or fd:N for a listening socket that
    /// was passed in).
    #[arg(long, value_name = "PATH|fd:N")]
    vfio_user: Vec<Place>,
    /// Serve a virtio device on this unix socket (a path or fd:N).
    #[arg(long, value_name = "PATH|fd:N")]
    vhost_user: Vec<Place>,
    /// What the card is: a built-in profile (see `list profiles`) or a TOML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "connectx7")]
    profile: String,
    /// Keep the non-volatile configuration in this folder; without it, it is lost at the end.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Go on with a card that `ctl save` wrote: its functions, objects and configuration as they
    /// were.
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    /// Take queries as JSON lines on this unix socket.
    #[arg(long, value_name = "PATH|fd:N")]
    control: Option<Place>,
    /// Write "ready" to this file descriptor once all sockets listen.
    #[arg(long, value_name = "N")]
    ready_fd: Option<i32>,
    /// End with exit code 0 when the last client has gone.
    #[arg(long)]
    exit_with_client: bool,
    /// Seed of the card's random generator.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Log every command with its fields.
    #[arg(long)]
    log_commands: bool,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("info,vfio_user=warn"),
    )
    .format_timestamp_micros()
    .init();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match cli.command {
        Command::Serve(a) => run_serve(a, &matches),
        Command::Ctl {
            control,
            json,
            query,
            arguments,
        } => match control::ask(&control, &query, &arguments, json) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(e) => fail(1, &e),
        },
        Command::List { what } => {
            print!(
                "{}",
                if what == "profiles" {
                    list_profiles()
                } else {
                    list_commands()
                }
            );
            ExitCode::SUCCESS
        }
    }
}

/// The doors in the order of the command line.
fn doors(a: &ServeArgs, matches: &ArgMatches) -> Vec<Door> {
    let serve = matches.subcommand_matches("serve");
    let mut all = Vec::new();
    for (option, transport, places) in [
        ("vfio_user", Transport::VfioUser, &a.vfio_user),
        ("vhost_user", Transport::VhostUser, &a.vhost_user),
    ] {
        let at = serve
            .and_then(|m| m.indices_of(option))
            .into_iter()
            .flatten();
        all.extend(at.zip(places).map(|(index, at)| {
            (
                index,
                Door {
                    transport,
                    at: at.clone(),
                },
            )
        }));
    }
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, door)| door).collect()
}

fn run_serve(a: ServeArgs, matches: &ArgMatches) -> ExitCode {
    let options = Options {
        doors: doors(&a, matches),
        profile: a.profile,
        state: a.state,
        load: a.load,
        control: a.control,
        ready_fd: a.ready_fd,
        exit_with_client: a.exit_with_client,
        seed: a.seed,
        log_commands: a.log_commands,
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fwctl_emu::serve::Error::Usage(e)) => fail(USAGE, &e),
        Err(fwctl_emu::serve::Error::Failed(e)) => fail(1, &e),
    }
}

fn fail(code: u8, e: &anyhow::Error) -> ExitCode {
    eprintln!("fwctl-emu: {e:#}");
    ExitCode::from(code)
}

fn list_profiles() -> String {
    fw_model::Profile::names()
        .filter_map(|n| fw_model::Profile::builtin(n).ok())
        .map(|p| format!("{:<12} {}\n", p.name, p.description))
        .collect()
}

fn list_commands() -> String {
    fw_model::table::OPS
        .iter()
        .map(|o| {
            let name = fwctl_proto::opcode::name(o.opcode).unwrap_or("?");
            format!(
                "{:#06x} {name:<26} in {:>4} out {:>4} {:<11} {:<11} {:?}\n",
                o.opcode,
                o.in_len,
                o.out_len,
                format!("{:?}", o.needs),
                format!("{:?}", o.callers),
                o.evidence
            )
        })
        .collect()
}
