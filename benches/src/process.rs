// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The emulator as a process: how long it takes to listen, and how much memory it holds.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use serde::Serialize;

use crate::cpus::{Cpus, Peer, Placement};

/// Which emulator to start.
#[derive(Clone, Copy)]
pub struct Emulator<'a> {
    /// Its program.
    pub program: &'a Path,
    /// Profile of its card.
    pub profile: &'a str,
}

/// An emulator that listens.
pub struct Running {
    peer: Peer,
    /// From starting the process to its word that it listens.
    pub ready_after: Duration,
}

impl Emulator<'_> {
    /// Starts it with one function per door (option and path) and waits until all listen.
    ///
    /// # Errors
    /// It cannot be started, or ends without listening.
    pub fn start(
        &self,
        cpus: &Cpus,
        placement: Placement,
        doors: &[(&str, &Path)],
    ) -> anyhow::Result<Running> {
        let mut command = Command::new(self.program);
        command.args(["serve", "--profile", self.profile]);
        for (option, path) in doors {
            command.arg(option).arg(path);
        }
        command
            .args(["--ready-fd", "1"])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = cpus.spawn(placement, &mut command)?;
        let out = child.stdout.take().context("no standard output")?;
        let peer = Peer::new(child);
        let mut line = String::new();
        BufReader::new(out)
            .read_line(&mut line)
            .context("wait for the emulator")?;
        let ready_after = start.elapsed();
        ensure!(
            line == "ready\n",
            "{} serve: said {line:?} instead of being ready",
            self.program.display()
        );
        Ok(Running { peer, ready_after })
    }
}

impl Running {
    /// Memory that it holds, without shared guest memory.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(self.peer.id())
    }

    /// Processor time that its threads have had.
    ///
    /// # Errors
    /// It is gone.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.peer.id()));
        let mut nanos = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("read {}", tasks.display()))? {
            let path = task?.path().join("schedstat");
            // A thread may have ended since.
            let Ok(text) = fs::read_to_string(path) else {
                continue;
            };
            let first = text.split_ascii_whitespace().next();
            nanos += first.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }
}

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident set, shared files included.
    #[serde(rename = "rss_kib")]
    pub rss: u64,
    /// Resident set, what is shared counted by its share.
    #[serde(rename = "pss_kib")]
    pub pss: u64,
}

impl Memory {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/smaps"));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    /// Adds up all mappings but those of a memfd, which are guest memory.
    fn parse(smaps: &str) -> Self {
        let mut sum = Self::default();
        let mut guest = false;
        for line in smaps.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            if !first.ends_with(':') {
                guest = line.contains("/memfd:");
            } else if !guest {
                let mut kib = || {
                    words
                        .next()
                        .and_then(|w| w.parse::<u64>().ok())
                        .unwrap_or(0)
                };
                match first {
                    "Rss:" => sum.rss += kib(),
                    "Pss:" => sum.pss += kib(),
                    _ => {}
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn guest_memory_does_not_count() {
        let smaps = "1000-2000 r-xp 00000000 fe:00 12 /usr/bin/x\nRss:  8 kB\nPss:  4 kB\nPss_Dirty: 9 kB\n\
            2000-3000 rw-s 00000000 00:01 7 /memfd:guest (deleted)\nRss: 100 kB\nPss: 50 kB\n\
            3000-4000 rw-p 00000000 00:00 0\nRss: 2 kB\nPss: 2 kB\n";
        assert_eq!(Memory::parse(smaps), Memory { rss: 10, pss: 6 });
    }
}
