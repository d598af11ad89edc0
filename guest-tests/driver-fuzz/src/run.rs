// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One case: an emulator with its faults, a restored guest, the function plugged into it, the workload,
//! and what the kernel and the emulator say afterwards.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use fwctl_emu::control;
use serde_json::Value;

use crate::{
    case::Case,
    guest::{Guest, Machine, Snapshot, end},
    results::{Outcome, With},
    verdict,
};

/// How long the emulator may take to serve.
const READY: Duration = Duration::from_secs(20);
/// How long the workload may take: a driver's time-outs are 3 s in the fuzzer's profile, and the kernel
/// complains of a task that is blocked for 30 s.
const WORKLOAD: Duration = Duration::from_secs(75);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The emulator.
    pub emulator: PathBuf,
    /// Profile of the card.
    pub profile: PathBuf,
    /// Folder for sockets.
    pub session: PathBuf,
    /// Folder for findings.
    pub out: PathBuf,
}

/// A case that was run.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// What the guest's kernel printed.
    pub console: String,
    /// The folder with its logs and its record.
    pub folder: PathBuf,
}

/// The emulator of one case; it ends with this value.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn serve(case: &Case, paths: &Paths, folder: &Path) -> Result<Emulator> {
    let mut command = Command::new(&paths.emulator);
    command
        .arg("serve")
        .arg("--vfio-user")
        .arg(folder.join("fw"));
    command.arg("--control").arg(folder.join("ctl"));
    command.arg("--profile").arg(&paths.profile);
    command.arg("--record").arg(folder.join("record"));
    command.args(["--ready-fd", "1", "--seed", &case.seed.to_string()]);
    for fault in &case.faults {
        command.args(["--fault", fault]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(File::create(folder.join("emulator.log"))?);
    let mut emulator = Emulator(command.spawn().context("the emulator")?);
    let output = emulator.0.stdout.take();
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = output.map(|o| BufReader::new(o.take(64)).read_line(&mut line));
        // Nobody waits for it any more if it is late.
        let _ = tell.send(matches!(read, Some(Ok(n)) if n > 0));
    });
    match told.recv_timeout(READY) {
        Ok(true) => Ok(emulator),
        _ => bail!("the emulator does not serve; emulator.log says why"),
    }
}

/// What all faults have done: strikes, those after which the driver went on, those that changed a byte, those of
/// which it was consumed.
fn strikes(folder: &Path) -> Result<[u64; 4]> {
    let text = control::ask(&folder.join("ctl"), "faults", Vec::new(), true)?;
    let all: Value = serde_json::from_str(&text)?;
    let sum = |key: &str| {
        let rows = all.as_array().into_iter().flatten();
        rows.filter_map(|r| r[key].as_u64()).sum()
    };
    Ok(["struck", "followed", "changed", "consumed"].map(sum))
}

/// What a result of this case depends on.
#[must_use]
pub fn with(case: &Case, snapshot: &Snapshot) -> With {
    With {
        kernel: snapshot.kernel.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        case: case.hash(),
    }
}

/// Runs a case in a folder of job number `job`.
///
/// # Errors
/// Emulator or guest do not start: that says nothing of the driver.
pub fn run(
    case: &Case,
    job: usize,
    machine: &Machine,
    snapshot: &Snapshot,
    paths: &Paths,
) -> Result<Done> {
    let start = Instant::now();
    let folder = paths.session.join(format!("c{job}"));
    // It may be left from the case before.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("case"), format!("{case}\n"))?;
    let emulator = serve(case, paths, &folder)?;
    let mut guest = Guest::restore(machine, snapshot, &folder)?;
    guest.plug(&folder.join("fw"))?;
    let command = format!("sh /files/workload {}", case.workload);
    let answered = guest.run(&command, WORKLOAD).is_ok();
    let [struck, followed, changed, consumed] = strikes(&folder)?;
    let console = guest.console();
    drop(guest);
    drop(emulator);
    let outcome = Outcome {
        seed: case.seed,
        workload: case.workload.into(),
        struck,
        followed,
        changed: Some(changed),
        consumed: Some(consumed),
        counts: consumed > 0,
        answered,
        signature: verdict::signature(&console),
        seconds: start.elapsed().as_secs_f64(),
        with: Some(with(case, snapshot)),
    };
    Ok(Done {
        outcome,
        console,
        folder,
    })
}

/// Findings that are kept whole.
pub const MAX_KEPT: usize = 200;

/// Keeps the logs and the record of a case, under the seed. False if there are [`MAX_KEPT`] already, and this is
/// none of them.
///
/// # Errors
/// They cannot be copied.
pub fn keep(done: &Done, paths: &Paths) -> Result<bool> {
    keep_in(
        &paths.out.join("findings"),
        done.outcome.seed,
        &done.folder,
        MAX_KEPT,
    )
}

fn keep_in(findings: &Path, seed: u64, folder: &Path, most: usize) -> Result<bool> {
    fs::create_dir_all(findings)?;
    let to = findings.join(seed.to_string());
    if !to.exists() && fs::read_dir(findings)?.count() >= most {
        return Ok(false);
    }
    fs::create_dir_all(&to)?;
    for name in ["case", "record", "console.log", "emulator.log", "qemu.log"] {
        let from = folder.join(name);
        if from.exists() {
            fs::copy(&from, to.join(name)).with_context(|| from.display().to_string())?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn so_many_findings_are_kept_whole_and_no_more_is_begun() {
        let dir = std::env::temp_dir().join(format!("driver-fuzz-keep-{}", std::process::id()));
        let (case, findings) = (dir.join("c0"), dir.join("findings"));
        fs::create_dir_all(&case).unwrap();
        fs::write(case.join("console.log"), "first").unwrap();
        let keep = |seed| keep_in(&findings, seed, &case, 3).unwrap();
        assert_eq!([5, 6, 7, 8].map(keep), [true, true, true, false]);
        assert!(!findings.join("8").exists());
        assert_eq!(fs::read_dir(&findings).unwrap().count(), 3);
        // One that is there is renewed.
        fs::write(case.join("console.log"), "again").unwrap();
        assert!(keep(6));
        let text = fs::read_to_string(findings.join("6/console.log")).unwrap();
        assert_eq!(text, "again");
        fs::remove_dir_all(dir).unwrap();
    }
}
