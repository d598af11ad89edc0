// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The whole run, step by step, with a line of progress for each.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use fw_model::profile::Profile;

use crate::{
    commands::{MEASURED, inbox},
    cpus::{Cpus, Placement},
    floors, model,
    process::Emulator,
    report::{Goal, Line, Machine, Report},
    stats::Samples,
    trace, vfio, vhost,
};

/// Goals of the project; docs/benchmarks.md says where they come from.
const START_MS: f64 = 10.0;
const RSS_MIB: f64 = 8.0;
const CREATE_RESET_US: f64 = 2.0;
const OVER_NOTHING_US: f64 = 1.0;
const TRACE_NS: f64 = 150.0;
const TRACE_PERCENT: f64 = 5.0;

/// Starts of the emulator; their median counts.
const STARTS: usize = 11;

/// What to do.
pub struct Plan {
    /// The emulator's program.
    pub emulator: Option<PathBuf>,
    /// Profile of the card that is measured by call.
    pub profile: String,
    /// Where the JSON goes.
    pub json: PathBuf,
    /// Tenths of the full number of requests.
    pub scale: usize,
}

/// Runs everything.
///
/// # Errors
/// Something could not be measured; nothing is written then.
pub fn all(plan: &Plan) -> anyhow::Result<()> {
    let program = plan.emulator.as_deref().context("--emulator is missing")?;
    ensure!(program.is_file(), "{}: no such program", program.display());
    let emulator = &Emulator {
        program,
        profile: &plan.profile,
    };
    // Before pinning, which hides the other CPUs.
    let mut report = Report {
        machine: Machine::here(),
        ..Report::default()
    };
    let cpus = Cpus::pin()?;
    let folder = Folder::new()?;
    start(&mut report, emulator, &cpus, &folder.0)?;
    in_process(&mut report, plan, &folder.0)?;
    for placement in cpus.placements() {
        progress(&format!("floors, {}", placement.name()));
        let line = |what: &str, stats| Line::plain(what, Some(placement), stats);
        report.lines.push(line(
            "floor: eventfd there and back",
            floors::eventfd_ping(&cpus, placement, 2_000 * plan.scale)?,
        ));
        report.lines.push(line(
            "floor: unix socket there and back",
            floors::socket_ping(&cpus, placement, 2_000 * plan.scale)?,
        ));
        progress(&format!("vhost-user, {}", placement.name()));
        let (lines, memory) =
            vhost::measure(&cpus, placement, emulator, &folder.0, 10_000 * plan.scale)?;
        goals_of(&lines, placement, &mut report.goals);
        report.lines.extend(lines);
        report.serving = memory;
        progress(&format!("vhost-user with a trace, {}", placement.name()));
        for (without, with) in
            vhost::traced(&cpus, placement, emulator, &folder.0, 5_000 * plan.scale)?
        {
            let ns = |l: &Line| l.stats.p50_ns as f64;
            let percent = (ns(&with) / ns(&without) - 1.0) * 100.0;
            let what = format!("a trace adds to {}, {}", without.what, placement.name());
            report
                .goals
                .push(Goal::new(what, percent, "%", TRACE_PERCENT));
            report.lines.extend([without, with]);
        }
        progress(&format!("vfio-user, {}", placement.name()));
        let (lines, cycle) =
            vfio::measure(&cpus, placement, emulator, &folder.0, 2_000 * plan.scale)?;
        report.lines.extend(lines);
        report.cycles.push(cycle);
    }
    let serving = report.serving.rss as f64 / 1024.0;
    report.goals.push(Goal::new(
        "resident memory while serving, guest memory apart",
        serving,
        "MiB",
        RSS_MIB,
    ));
    report.print();
    report.write(&plan.json)?;
    eprintln!("bench: wrote {}", plan.json.display());
    Ok(())
}

fn start(
    report: &mut Report,
    emulator: &Emulator<'_>,
    cpus: &Cpus,
    folder: &Path,
) -> anyhow::Result<()> {
    progress("start of the emulator");
    let path = folder.join("start.sock");
    let mut times = Samples::new(STARTS);
    for _ in 0..STARTS {
        let e = emulator.start(cpus, Placement::SameCpu, &[("--vhost-user", &path)])?;
        times.add(e.ready_after);
        times.turn(e.ready_after);
        report.listening = e.memory()?;
        drop(e);
        // It was killed, so that its socket is still there.
        let _ = std::fs::remove_file(&path);
    }
    let stats = times.finish(false);
    report.goals.push(Goal::new(
        "start to listening",
        stats.p50_ns as f64 / 1e6,
        "ms",
        START_MS,
    ));
    report
        .lines
        .push(Line::plain("start to listening", None, stats));
    report.goals.push(Goal::new(
        "resident memory while listening",
        report.listening.rss as f64 / 1024.0,
        "MiB",
        RSS_MIB,
    ));
    Ok(())
}

fn in_process(report: &mut Report, plan: &Plan, folder: &Path) -> anyhow::Result<()> {
    progress("model");
    let profile =
        Profile::builtin(&plan.profile).with_context(|| format!("profile {}", plan.profile))?;
    let create = model::create(&profile, 500 * plan.scale)?;
    let reset = model::reset(&profile, 5_000 * plan.scale)?;
    report.goals.push(Goal::new(
        "create a device",
        create.p50_ns as f64 / 1e3,
        "us",
        CREATE_RESET_US,
    ));
    report.goals.push(Goal::new(
        "reset a device",
        reset.p50_ns as f64 / 1e3,
        "us",
        CREATE_RESET_US,
    ));
    report
        .lines
        .push(Line::plain("create a device", None, create));
    report
        .lines
        .push(Line::plain("reset a device", None, reset));
    for c in &MEASURED {
        let s = model::command(
            &profile,
            &inbox(c.opcode, c.op_mod),
            c.outbox_len,
            500 * plan.scale,
        )?;
        report
            .lines
            .push(Line::plain(&format!("by call, {}", c.name), None, s));
    }
    progress("trace");
    for (without, with, over) in trace::in_process(&profile, folder, 500 * plan.scale)? {
        let what = format!("a trace adds to {}", without.what);
        report.goals.push(Goal::new(what, over, "ns", TRACE_NS));
        report.lines.extend([without, with]);
    }
    Ok(())
}

fn goals_of(lines: &[Line], placement: Placement, goals: &mut Vec<Goal>) {
    if placement != Placement::SameCpu {
        return;
    }
    for l in lines.iter().filter(|l| l.what.ends_with("NOP")) {
        if let (Some(over), Some(depth)) = (l.over_nothing_ns, l.depth) {
            let what = format!("NOP over the do-nothing backend, same CPU, depth {depth}");
            goals.push(Goal::new(what, over / 1e3, "us", OVER_NOTHING_US));
        }
    }
}

fn progress(what: &str) {
    eprintln!("bench: {what}");
}

/// A folder of its own for sockets, gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("fwctl-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is no harm; it is named after the process.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
