// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line of the driver fuzzer: cases by seed, each in a guest of its own (docs/driver-fuzzing.md).

use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser};

use driver_fuzz::{
    case::Case,
    guest::{Machine, Snapshot},
    results::{Outcome, Results},
    run::{Done, MAX_KEPT, Paths, keep, run, with},
};

/// Fuzzes mlx5_core in guests: every case is a seed, and says of itself what goes wrong.
///
/// Exit status: 0 when no case found anything new, 1 when one did or something failed, 2 for wrong usage.
#[derive(Debug, Parser)]
#[command(version)]
enum Cli {
    /// Run cases.
    Run(Options),
    /// Print what results say.
    Summary {
        /// Folder of results.
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// Program that is QEMU; it is given options after its own.
    #[arg(long)]
    qemu: PathBuf,
    /// File with QEMU's options for the machine, one a line.
    #[arg(long)]
    machine: PathBuf,
    /// The emulator.
    #[arg(long)]
    emulator: PathBuf,
    /// Profile of the card.
    #[arg(long)]
    profile: PathBuf,
    /// Folder for sockets and snapshots; its path is short.
    #[arg(long)]
    session: PathBuf,
    /// Folder for results and findings. Seeds that have results there are not run again.
    #[arg(long)]
    out: PathBuf,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many seeds.
    #[arg(long, default_value_t = 100)]
    cases: u64,
    /// So many guests at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Run the seed alone, whatever the results say; keep it, and print it and its console.
    #[arg(long)]
    only: bool,
    /// No case begins when so many seconds have passed.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Run(options) => go(&options),
        Cli::Summary { out } => Results::open(&out).map(|results| {
            print!("{}", results.summary());
            true
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("driver-fuzz: {e:#}");
            ExitCode::from(1)
        }
    }
}

fn go(cli: &Options) -> Result<bool> {
    let machine = Machine::new(&cli.qemu, &cli.machine)?;
    let results = Results::open(&cli.out)?;
    let known = results.signatures();
    let snapshot = Snapshot::make(&machine, &cli.session).context("no guest to start from")?;
    let paths = Paths {
        emulator: cli.emulator.clone(),
        profile: cli.profile.clone(),
        session: cli.session.clone(),
        out: cli.out.clone(),
    };
    if cli.only {
        return only(cli.seed, &machine, &snapshot, &paths);
    }
    let seeds = cli.seed..cli.seed.saturating_add(cli.cases);
    let failed = all(cli, seeds, &machine, &snapshot, &paths, &results);
    let new: BTreeMap<_, _> = results
        .signatures()
        .into_iter()
        .filter(|(s, _)| !known.contains_key(s))
        .collect();
    print!("{}", results.summary());
    for (signature, seed) in &new {
        println!("new: {signature} (seed {seed})");
    }
    if let Some(e) = failed {
        bail!("{e}");
    }
    Ok(new.is_empty())
}

fn only(seed: u64, machine: &Machine, snapshot: &Snapshot, paths: &Paths) -> Result<bool> {
    let case = Case::of(seed);
    println!("{case}");
    let done = run(&case, 0, machine, snapshot, paths)?;
    tell_kept(&done, paths)?;
    println!("{}", done.console);
    println!("{}", serde_json::to_string_pretty(&done.outcome)?);
    Ok(done.outcome.signature.is_none())
}

/// Runs all seeds that have no result; what stopped it early.
fn all(
    cli: &Options,
    seeds: Range<u64>,
    machine: &Machine,
    snapshot: &Snapshot,
    paths: &Paths,
    results: &Results,
) -> Option<String> {
    /// Cases without a verdict of the guest, one after the other, after which something else is wrong.
    const MAX_BROKEN: u64 = 5;
    let start = Instant::now();
    let until = cli.seconds.map(|s| start + Duration::from_secs(s));
    let next = AtomicU64::new(seeds.start);
    let broken = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let worker = |job: usize| {
        while until.is_none_or(|t| Instant::now() < t) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || broken.load(Ordering::Relaxed) >= MAX_BROKEN {
                return;
            }
            let case = Case::of(seed);
            if results.has(seed, &with(&case, snapshot)) {
                continue;
            }
            let done = run(&case, job, machine, snapshot, paths);
            let written = done.and_then(|d| {
                tell(&d.outcome);
                let found = d.outcome.signature.as_ref();
                if !d.outcome.answered
                    || found.is_some_and(|s| !results.signatures().contains_key(s))
                {
                    tell_kept(&d, paths)?;
                }
                results.add(d.outcome)
            });
            match written {
                Ok(()) => broken.store(0, Ordering::Relaxed),
                Err(e) => {
                    eprintln!("driver-fuzz: seed {seed}: {e:#}");
                    if broken.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_BROKEN {
                        let e = format!("{MAX_BROKEN} cases in a row did not run; the last: {e:#}");
                        if let Ok(mut f) = failure.lock() {
                            f.get_or_insert(e);
                        }
                    }
                }
            }
        }
    };
    thread::scope(|s| {
        for job in 0..cli.jobs.max(1) {
            s.spawn(move || worker(job));
        }
    });
    failure.into_inner().ok().flatten()
}

/// Keeps a case, or says that it does not.
fn tell_kept(done: &Done, paths: &Paths) -> Result<()> {
    if !keep(done, paths)? {
        let seed = done.outcome.seed;
        eprintln!(
            "driver-fuzz: seed {seed}: {MAX_KEPT} findings are kept already; --only {seed} --out DIR keeps it"
        );
    }
    Ok(())
}

fn tell(o: &Outcome) {
    let counts = if o.counts { "counts" } else { "does not count" };
    let found = o.signature.as_deref().unwrap_or("nothing found");
    println!(
        "seed {}: {} struck, {} consumed, {counts}, {:.1} s: {found}",
        o.seed,
        o.struck,
        o.consumed.unwrap_or(0),
        o.seconds
    );
}
