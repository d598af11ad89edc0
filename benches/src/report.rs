// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table on standard output and the JSON file.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use crate::{cpus::Placement, process::Memory, stats::Stats};

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Where the two sides ran; `None` for what has one side only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u16>,
    /// The numbers.
    #[serde(flatten)]
    pub stats: Stats,
    /// Nanoseconds per request above the do-nothing backend in the same place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_nothing_ns: Option<f64>,
}

impl Line {
    /// A line without a depth.
    pub fn plain(what: &str, placement: Option<Placement>, stats: Stats) -> Self {
        Self {
            what: what.to_owned(),
            placement,
            depth: None,
            stats,
            over_nothing_ns: None,
        }
    }
}

/// One number that has a goal.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// What it is.
    pub what: String,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// It should be at most this.
    pub at_most: f64,
    /// It is.
    pub met: bool,
}

impl Goal {
    /// A number that should be at most `at_most`.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str, at_most: f64) -> Self {
        Self {
            what: what.into(),
            value,
            unit,
            at_most,
            met: value <= at_most,
        }
    }
}

/// What a configuration cycle costs through QEMU's emulated processor and its socket, in microseconds,
/// and how many one plain `mstconfig query` by PCI address takes: measured with mstflint 4.33.
const QEMU_CYCLE_US: f64 = 110.0;
const QUERY_CYCLES: f64 = 500_000.0;

/// Our part of a configuration cycle of the guest.
#[derive(Debug, Serialize)]
pub struct Cycle {
    /// Where the two sides ran.
    pub placement: Placement,
    /// Nanoseconds of one access, with the socket there and back.
    pub access_ns: f64,
    /// Nanoseconds of processor time that the emulator spent on it.
    pub emulator_ns: f64,
}

impl Cycle {
    fn print(&self) {
        for (what, ns) in [
            ("access over the socket", self.access_ns),
            ("the emulator's processor time", self.emulator_ns),
        ] {
            println!(
                "{:<32} {:<9} {:>8.3} us {:>6.1} % {:>8.2} s of {:.0} s",
                what,
                self.placement.name(),
                ns / 1e3,
                100.0 * ns / 1e3 / QEMU_CYCLE_US,
                ns * QUERY_CYCLES / 1e9,
                QEMU_CYCLE_US * QUERY_CYCLES / 1e6,
            );
        }
    }
}

/// Everything that a run found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The machine: CPU model, number of CPUs, kernel.
    pub machine: Machine,
    /// Memory of the emulator while it listens and has no client.
    pub listening: Memory,
    /// Memory of the emulator while a client sends requests, without guest memory.
    pub serving: Memory,
    /// Numbers with goals.
    pub goals: Vec<Goal>,
    /// The table.
    pub lines: Vec<Line>,
    /// The gateway's part of a tool's time.
    pub cycles: Vec<Cycle>,
}

/// Where the run took place.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// CPUs that the run could use.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
}

impl Machine {
    /// This one; what cannot be read is empty.
    pub fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info
            .lines()
            .find_map(|l| l.strip_prefix("model name"))
            .unwrap_or_default();
        Self {
            cpu: cpu.trim_start_matches(['\t', ' ', ':']).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }
}

impl Report {
    /// Prints the table.
    pub fn print(&self) {
        println!(
            "{} x {}, Linux {}",
            self.machine.cpus, self.machine.cpu, self.machine.kernel
        );
        println!();
        println!(
            "{:<42} {:<9} {:>5} {:>10} {:>10} {:>10} {:>11} {:>6} {:>6} {:>9}",
            "what",
            "where",
            "depth",
            "p50 us",
            "p99 us",
            "us/req",
            "req/s",
            "kicks",
            "calls",
            "+nothing"
        );
        for l in &self.lines {
            let s = &l.stats;
            println!(
                "{:<42} {:<9} {:>5} {:>10.3} {:>10.3} {:>10.3} {:>11.0} {:>6} {:>6} {:>9}",
                l.what,
                l.placement.map_or("-", Placement::name),
                l.depth.map_or("-".to_owned(), |d| d.to_string()),
                s.p50_ns as f64 / 1e3,
                s.p99_ns as f64 / 1e3,
                s.per_request_ns / 1e3,
                s.per_second,
                ratio(s.kicks_per_request),
                ratio(s.calls_per_request),
                l.over_nothing_ns
                    .map_or("-".to_owned(), |n| format!("{:+.3}", n / 1e3)),
            );
        }
        println!();
        println!(
            "our share of a configuration cycle ({QEMU_CYCLE_US:.0} us through QEMU), and of the {QUERY_CYCLES:.0} of \
             one `mstconfig query` by PCI address"
        );
        self.cycles.iter().for_each(Cycle::print);
        println!();
        println!("{:<60} {:>10} {:>10}", "goal", "measured", "at most");
        for g in &self.goals {
            let met = if g.met { "" } else { "  MISSED" };
            println!(
                "{:<60} {:>7.2} {:<2} {:>7.2} {:<2}{met}",
                g.what, g.value, g.unit, g.at_most, g.unit
            );
        }
    }

    /// Writes the JSON file, making its folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }
}

fn ratio(r: Option<f64>) -> String {
    r.map_or("-".to_owned(), |r| format!("{r:.2}"))
}
