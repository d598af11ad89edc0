// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where the two sides of a benchmark run. A wake-up on another CPU costs more than everything
//! else, so that a number without its placement says nothing.

use std::process::{Child, Command};

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Where the peer of the measuring thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On the same CPU.
    SameCpu,
    /// On another one.
    TwoCpus,
}

impl Placement {
    /// As the table prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SameCpu => "same CPU",
            Self::TwoCpus => "two CPUs",
        }
    }
}

/// The CPUs of a run: the first two that this process may use.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    mine: usize,
    other: Option<usize>,
}

impl Cpus {
    /// Finds them and pins this thread to the first.
    ///
    /// # Errors
    /// The affinity cannot be read or set.
    pub fn pin() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|c| allowed.is_set(*c));
        let mine = usable.next().context("no CPU to run on")?;
        let cpus = Self {
            mine,
            other: usable.next(),
        };
        cpus.here(mine)?;
        Ok(cpus)
    }

    /// The placements that this machine has.
    pub fn placements(&self) -> Vec<Placement> {
        match self.other {
            Some(_) => vec![Placement::SameCpu, Placement::TwoCpus],
            None => vec![Placement::SameCpu],
        }
    }

    /// Starts `command` placed so; this thread stays where it is.
    ///
    /// # Errors
    /// It cannot be started or pinned.
    pub fn spawn(&self, placement: Placement, command: &mut Command) -> anyhow::Result<Child> {
        let cpu = match placement {
            Placement::SameCpu => self.mine,
            Placement::TwoCpus => self.other.context("there is one CPU only")?,
        };
        // A child inherits the affinity of the thread that starts it.
        self.here(cpu)?;
        let child = command
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()));
        self.here(self.mine)?;
        child
    }

    fn here(&self, cpu: usize) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).with_context(|| format!("pin to CPU {cpu}"))
    }
}

/// A process that ends with its owner.
pub struct Peer(Child);

impl Peer {
    /// Takes charge of `child`.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
