// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line of fwctl-emu.

use std::{
    io::{self, BufWriter, Read as _, Write as _, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    builder::PossibleValuesParser,
};
use fw_model::{Profile, fault::Fault};
use fwctl_emu::{
    control::{self, Argument, VERBS, argument},
    explain::explain,
    faults, image,
    list::{self, Format},
    memory::Files,
    record, sandbox,
    serve::{Door, Options, Transport, profile, serve},
    socket::Place,
    top, trace,
    usage::Usage,
};
use fwctl_uapi::{Roots, capture::capture};

/// Characters that `decode` reads, at most.
const MAX_DUMP: u64 = 8 << 20;
/// Exit codes: something failed; the command line itself is wrong.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// An emulated firmware mailbox of a ConnectX-like (mlx5) device, to run next to QEMU.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 success; 1 failure, also a file that cannot be read or written, a difference that \
        was found, or what the device's state does not allow; 2 wrong usage of the command line.\n\
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
    Serve(Box<ServeArgs>),
    /// Ask or steer a running emulator through its control socket.
    #[command(after_help = control::help())]
    Ctl {
        /// The socket that `serve --control` made.
        #[arg(long, value_name = "PATH")]
        control: PathBuf,
        /// Print JSON as it came.
        #[arg(long)]
        json: bool,
        /// What to ask or do (see below).
        #[arg(value_parser = PossibleValuesParser::new(VERBS.iter().map(|v| v.name)),
              hide_possible_values = true)]
        query: String,
        /// Its arguments.
        #[arg(value_name = "NAME=VALUE", value_parser = argument)]
        arguments: Vec<Argument>,
    },
    /// Watch a running emulator: functions, command rates, last commands, faults. `q` ends it.
    Top(top::Top),
    /// Show what there is: profiles, commands, registers, icmds, scenarios, actions of faults
    /// or verbs of `ctl`.
    List {
        /// What.
        what: What,
        /// As a JSON array.
        #[arg(long, conflicts_with = "markdown")]
        json: bool,
        /// As a table in Markdown; docs/ is made with it.
        #[arg(long)]
        markdown: bool,
    },
    /// Show everything that a profile says.
    Show {
        #[command(subcommand)]
        what: Show,
    },
    /// Make a profile of a device.
    Profile {
        #[command(subcommand)]
        what: ProfileCommand,
    },
    /// Tell what a number or name of the firmware means.
    #[command(after_help = "Examples:\n  \
        fwctl-emu explain 0xe00003        a syndrome, as mlx5_core prints it\n  \
        fwctl-emu explain BAD_RES_STATE   a status, and which checks give it\n  \
        fwctl-emu explain RST2INIT_QP     a command: layout, states, callers\n  \
        fwctl-emu explain MFRL            a register\n  \
        fwctl-emu explain SRIOV_EN        a parameter of mstconfig: values, ranges, rules\n  \
        fwctl-emu explain log_max_eq      a capability, and what the profiles say\n  \
        fwctl-emu explain HW_FATAL_ERR    a health syndrome")]
    Explain {
        /// A syndrome, opcode, status, register, event, configuration item, parameter, capability, health
        /// syndrome, delivery status, command of the gateway, action of a fault, field, layout or value.
        #[arg(value_parser = said)]
        what: String,
    },
    /// Write a firmware image for a card, to be burnt onto it.
    ///
    /// `mstflint -i FILE burn` takes it as it is, `devlink dev flash` packed with --mfa2. What it
    /// holds instead of code is a pattern (docs/firmware-update.md).
    Image {
        /// The card: a built-in profile, or a TOML file.
        #[arg(long, value_name = "NAME", default_value = "connectx7")]
        profile: String,
        /// The image's version, as in 28.44.1000.
        #[arg(long, value_parser = image::version)]
        version: [u16; 3],
        /// Pack it as MFA2.
        #[arg(long)]
        mfa2: bool,
        /// Where to.
        file: PathBuf,
    },
    /// Look at a trace that `serve --trace` wrote (docs/trace.md).
    Trace {
        #[command(subcommand)]
        what: trace::cli::Command,
    },
    /// Run a record that `serve --record` wrote again, without a guest (docs/record.md). Exit code 1 if
    /// anything is not as recorded.
    #[command(after_help = "Examples:\n  \
        fwctl-emu replay fw.record\n  \
        fwctl-emu replay fw.record --minimize short.record")]
    Replay(record::cli::Replay),
    /// Decode commands from standard input: dumps of mlx5_core or of `trace show --format mlx5`, or one
    /// message as hex.
    #[command(after_help = "Examples:\n  \
        echo 010b0000 00000000 00000001 00000000 | fwctl-emu decode\n  \
        dmesg | fwctl-emu decode        what mlx5_core dumped with debug_mask=1\n  \
        echo 00000000 00000000 00000000 00000000 00010101 | fwctl-emu decode --out --register PAOS")]
    Decode(trace::Decode),
    /// Print a script that completes this command line in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder.
        dir: PathBuf,
    },
}

/// What can be listed.
#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    Profiles,
    Commands,
    Registers,
    /// What RESOURCE_DUMP can show.
    Segments,
    /// Commands of the mailbox behind the PCI gateway.
    Icmds,
    /// Ready lists of faults for `serve --faults`.
    Scenarios,
    /// What a fault may do.
    Actions,
    /// Commands of the control socket, for `ctl`.
    Verbs,
}

#[derive(Subcommand)]
enum Show {
    /// A built-in profile, or a TOML file.
    Profile {
        /// Its name (see `list profiles`) or file.
        #[arg(value_name = "NAME|FILE")]
        name: String,
    },
}

#[derive(Subcommand)]
enum ProfileCommand {
    /// Read a profile off a device of this machine, real or emulated, through its fwctl device.
    ///
    /// It reads capabilities, registers and identity, and changes nothing. The result holds the
    /// port's MAC address and the board's id.
    Capture {
        /// The device (default: the first one).
        #[arg(long, value_name = "fwctlN")]
        device: Option<String>,
        /// Where to write (default: standard output).
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
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
    /// Add the commands and registers of this TOML file to the firmware (docs/overlays.md).
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// Keep configuration and flash in this folder; without it, they are lost at the end.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// If the file in that folder is damaged, go on with what is before the damage; the damaged file
    /// is kept beside it (docs/state.md).
    #[arg(long, requires = "state")]
    state_recover: bool,
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
    /// Let something go wrong: 'WHEN : THEN', or 'WHEN : THEN : times=N' (docs/faults.md); may be given
    /// several times.
    #[arg(long, value_name = "FAULT", value_parser = Fault::parse)]
    fault: Vec<Fault>,
    /// Let what is in this TOML file go wrong, or a ready list of faults (docs/faults.md, `list
    /// scenarios`).
    #[arg(long, value_name = "NAME|FILE")]
    faults: Option<PathBuf>,
    /// Write everything that happens to this file, for `fwctl-emu trace` (docs/trace.md).
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Record everything that happens to this file, for `fwctl-emu replay` (docs/record.md). Nothing
    /// happens that cannot be recorded.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// If the firmware's model fails, write what led to it into this folder, for `fwctl-emu replay`
    /// (default: that of --save-dir, else that of --state, else one of this user's for temporary files).
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Let the virtual machine stand while a command is stopped at a breakpoint (docs/debugging.md): the
    /// socket of QEMU's `-qmp unix:SOCKET,server=on,wait=off`.
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,
    /// Take guest memory whose file can be made shorter. A virtual machine monitor that does so ends
    /// this process (docs/hardening.md).
    #[arg(long)]
    allow_unsealed: bool,
    /// Let `ctl save` make files in this folder too, if the path is one of the emulator's side
    /// (docs/saved-cards.md).
    #[arg(long, value_name = "DIR")]
    save_dir: Option<PathBuf>,
    /// What the process may still do once it serves: no network, no new files outside the state directory,
    /// few system calls (docs/hardening.md). Without this option, as much as the kernel can enforce; with
    /// `enforce`, nothing is served if it cannot; `log` lets all system calls happen and has the kernel log
    /// the others.
    #[arg(long, value_name = "MODE")]
    sandbox: Option<sandbox::Mode>,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_timestamp_micros()
        .init();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match cli.command {
        Command::Serve(a) => run_serve(*a, &matches),
        Command::Ctl {
            control,
            json,
            query,
            arguments,
        } => told(control::ask(&control, &query, arguments, json)),
        Command::Top(t) => told(top::top(&t)),
        Command::List {
            what,
            json,
            markdown,
        } => {
            let format = match (json, markdown) {
                (true, _) => Format::Json,
                (_, true) => Format::Markdown,
                _ => Format::Text,
            };
            let list = match what {
                What::Profiles => list::list_profiles,
                What::Commands => list::list_commands,
                What::Registers => list::list_registers,
                What::Segments => list::list_segments,
                What::Icmds => list::list_icmds,
                What::Scenarios => list::list_scenarios,
                What::Actions => list::list_actions,
                What::Verbs => list::list_verbs,
            };
            told(Ok(list(format)))
        }
        Command::Show {
            what: Show::Profile { name },
        } => told(profile(&name).map(|p| list::show_profile(&p))),
        Command::Profile {
            what: ProfileCommand::Capture { device, output },
        } => match (captured(device.as_deref()), output) {
            (Ok(text), Some(file)) => match std::fs::write(&file, text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => fail(&anyhow::anyhow!("{}: {e}", file.display())),
            },
            (text, _) => told(text),
        },
        Command::Image {
            profile: name,
            version,
            mfa2,
            file,
        } => match profile(&name) {
            Err(e) => fail(&e),
            Ok(p) => match write_image(&p, version, mfa2, &file) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => fail(&anyhow::anyhow!("{}: {e}", file.display())),
            },
        },
        Command::Trace { what } => {
            let mut out = BufWriter::new(stdout().lock());
            let done = trace::cli::run(&what, &mut out);
            match done.and_then(|same| out.flush().map(|()| same).context("standard output")) {
                Ok(same) => ExitCode::from(u8::from(!same)),
                // A reader that has seen enough may close the pipe.
                Err(e) if closed(&e) => ExitCode::SUCCESS,
                Err(e) => fail(&e),
            }
        }
        Command::Replay(what) => {
            let mut out = BufWriter::new(stdout().lock());
            let done = record::cli::run(&what, &mut out);
            match done.and_then(|same| out.flush().map(|()| same).context("standard output")) {
                Ok(same) => ExitCode::from(u8::from(!same)),
                Err(e) if closed(&e) => ExitCode::SUCCESS,
                Err(e) => fail(&e),
            }
        }
        Command::Decode(what) => told(decoded(&what)),
        Command::Explain { what } => told(explain(&what).map_err(anyhow::Error::msg)),
        Command::Completions { shell } => told(Ok(control::script(shell, Cli::command()))),
        Command::Man { dir } => match clap_mangen::generate_to(Cli::command(), &dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => fail(&anyhow::anyhow!("{}: {e}", dir.display())),
        },
    }
}

/// What standard input says.
fn decoded(what: &trace::Decode) -> anyhow::Result<String> {
    let text = io::read_to_string(io::stdin().take(MAX_DUMP + 1)).context("standard input")?;
    let told = what.run(&text)?;
    anyhow::ensure!(
        text.len() as u64 <= MAX_DUMP,
        "standard input: more than {MAX_DUMP} bytes"
    );
    Ok(told)
}

fn write_image(p: &Profile, version: [u16; 3], mfa2: bool, file: &Path) -> io::Result<()> {
    let mut bytes = image::fs4(p, version);
    if mfa2 {
        bytes = image::mfa2(&p.firmware.psid, &bytes)?;
    }
    std::fs::write(file, bytes)
}

/// The profile of a fwctl device.
fn captured(device: Option<&str>) -> anyhow::Result<String> {
    let roots = Roots::system();
    let entry = match device {
        Some(name) => roots
            .device(name)?
            .ok_or_else(|| anyhow::anyhow!("there is no fwctl device {name}"))?,
        None => roots.devices()?.into_iter().next().ok_or_else(|| {
            anyhow::anyhow!("there is no fwctl device: is the module mlx5_fwctl loaded?")
        })?,
    };
    Ok(capture(&entry)?)
}

fn closed(e: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    e.downcast_ref::<io::Error>().is_some_and(broken)
}

/// Prints a text, or says why there is none.
fn told(text: anyhow::Result<String>) -> ExitCode {
    match text {
        // A reader that has seen enough may close the pipe.
        Ok(text) => match stdout().write_all(text.as_bytes()) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                fail(&anyhow::anyhow!(e).context("standard output"))
            }
            _ => ExitCode::SUCCESS,
        },
        Err(e) => fail(&e),
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
    let mut faults = a.fault.clone();
    match a.faults.as_deref().map(faults::read).transpose() {
        Ok(more) => faults.extend(more.unwrap_or_default()),
        Err(e) => return fail(&e),
    }
    let doors = doors(&a, matches);
    let function = |f: &Fault| f.function().map(usize::from);
    if let Some(f) = faults
        .iter()
        .find(|f| function(f).is_some_and(|n| n >= doors.len()))
    {
        let text = &f.text;
        let known = doors.len();
        let e = Usage::of(format!(
            "fault {text:?}: there are {known} functions, from 0"
        ));
        return fail(&e);
    }
    let options = Options {
        doors,
        profile: a.profile,
        overlay: a.overlay,
        state: a.state,
        state_recover: a.state_recover,
        load: a.load,
        control: a.control,
        ready_fd: a.ready_fd,
        exit_with_client: a.exit_with_client,
        seed: a.seed,
        log_commands: a.log_commands,
        trace: a.trace,
        record: a.record,
        dump_dir: a.dump_dir,
        qmp: a.qmp,
        save_dir: a.save_dir,
        sandbox: a.sandbox,
        files: if a.allow_unsealed {
            Files::Any
        } else {
            Files::Sealed
        },
        faults,
    };
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&e),
    }
}

/// A word that is more than blanks.
fn said(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("it is empty: give a name or a number, as BAD_RES_STATE or 0xe00003"),
        word => Ok(word.to_owned()),
    }
}

fn fail(e: &anyhow::Error) -> ExitCode {
    eprintln!("fwctl-emu: {e:#}");
    let is_usage = e.downcast_ref::<Usage>().is_some();
    ExitCode::from(if is_usage { USAGE } else { FAILED })
}
