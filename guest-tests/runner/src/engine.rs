// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs the tests of a suite, each in a process of its own: a test that hangs in the kernel,
//! crashes or is killed is one failed line and not the end of the run.

use std::{
    io::{self, BufRead, BufReader, PipeReader, Write},
    os::unix::process::CommandExt,
    process::{Child, Command},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    dmesg,
    ktap::{Outcome, Report},
    test::{Ctx, Suite, Test, run_here},
};

/// How long a killed process may take to go.
const KILLED: Duration = Duration::from_secs(5);
/// Tests that may hang before the run is given up: what is stuck in the kernel seldom comes alone.
const HANGS_MAX: usize = 2;
/// Diagnostic lines that one test may print.
const LINES_MAX: usize = 2000;
/// Starts the line by which a test's process tells its outcome.
const VERDICT: &str = "@@verdict ";

/// Runs the suite, or some tests of it, and writes its report; true if nothing failed.
///
/// # Errors
/// Those of the writer.
pub fn run_suite(suite: &Suite, only: &[String], ctx: &Ctx, out: impl Write) -> io::Result<bool> {
    let tests: Vec<&Test> = suite
        .tests
        .iter()
        .filter(|t| only.is_empty() || only.iter().any(|name| name == t.name))
        .collect();
    let mut report = Report::start(out, tests.len())?;
    report.note(&format!("suite {}: {}", suite.name, suite.about))?;
    let mut hangs = 0;
    for test in tests {
        let start = Instant::now();
        let outcome = supervised(suite, test, ctx, &mut report)?;
        report.note(&format!("time {} ms", start.elapsed().as_millis()))?;
        hangs += usize::from(matches!(outcome, Outcome::Timeout(_)));
        report.result(test.name, &outcome)?;
        if hangs >= HANGS_MAX {
            report.bail_out(&format!(
                "{hangs} tests did not end; the rest would not tell more"
            ))?;
            break;
        }
    }
    report.finish()
}

/// Runs a test in this process and prints its verdict for [`run_suite`] on the other end.
///
/// # Errors
/// Those of standard output.
pub fn run_child(test: &Test, ctx: &Ctx) -> io::Result<()> {
    let (kind, why) = match run_here(test, ctx) {
        Outcome::Pass => ("pass", String::new()),
        Outcome::Skip(why) => ("skip", why),
        Outcome::Fail(why) => ("fail", why),
        Outcome::Timeout(_) => ("fail", "timeout".into()),
    };
    let mut out = io::stdout();
    // A reason of several lines stays one line here.
    writeln!(
        out,
        "{VERDICT}{kind} {}",
        why.replace('\\', "\\\\").replace('\n', "\\n")
    )?;
    out.flush()
}

fn verdict(line: &str) -> Option<Outcome> {
    let (kind, why) = line.strip_prefix(VERDICT)?.split_once(' ')?;
    let why = why.replace("\\n", "\n").replace("\\\\", "\\");
    match kind {
        "pass" => Some(Outcome::Pass),
        "skip" => Some(Outcome::Skip(why)),
        "fail" => Some(Outcome::Fail(why)),
        _ => None,
    }
}

/// Runs one test in a process and relays its diagnostics; then looks at the kernel log.
fn supervised<W: Write>(
    suite: &Suite,
    test: &Test,
    ctx: &Ctx,
    report: &mut Report<W>,
) -> io::Result<Outcome> {
    let mut log = match dmesg::Log::from_now() {
        Ok(log) => log,
        Err(e) => return Ok(Outcome::Fail(format!("cannot read the kernel log: {e}"))),
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(["test-process", suite.name, test.name]);
    if let Some(device) = &ctx.device {
        command.args(["--device", device]);
    }
    if ctx.triggers {
        command.arg("--triggers");
    }
    let outcome = match run_process(command, Duration::from_secs(test.limit), |line| {
        report.note(line)
    })? {
        Ended::Verdict(outcome) => outcome,
        Ended::Early(how) => Outcome::Fail(how),
        Ended::TimedOut => Outcome::Timeout(test.limit),
    };
    let complaints = match log.read_new() {
        Ok(records) => dmesg::complaints(&records, suite.subjects)
            .into_iter()
            .filter(|r| suite.expects.iter().all(|e| !r.text.contains(e)))
            .cloned()
            .collect::<Vec<_>>(),
        Err(e) => return Ok(Outcome::Fail(format!("cannot read the kernel log: {e}"))),
    };
    for record in &complaints {
        report.note(&format!("dmesg: {record}"))?;
    }
    Ok(match outcome {
        Outcome::Pass | Outcome::Skip(_) if !complaints.is_empty() => {
            Outcome::Fail(format!("{} complaints in the kernel log", complaints.len()))
        }
        outcome => outcome,
    })
}

/// How a test's process ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Verdict(Outcome),
    Early(String),
    TimedOut,
}

/// Runs `command` as the leader of a process group, gives each line it prints to `note`, and ends
/// the group if it does not end itself within `limit`.
fn run_process(
    mut command: Command,
    limit: Duration,
    mut note: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    let (lines, mut child) = match spawn(&mut command) {
        Ok(started) => started,
        Err(e) => {
            return Ok(Ended::Early(format!(
                "cannot start the test's process: {e}"
            )));
        }
    };
    // The child alone holds the pipe's other end from here on.
    drop(command);
    let mut ended = None;
    let mut printed = 0;
    let timed_out = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(outcome) = verdict(&line) {
                    ended = Some(outcome);
                    break false;
                }
                printed += 1;
                if printed <= LINES_MAX {
                    note(&line)?;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
        }
    };
    if printed > LINES_MAX {
        note(&format!("… {} lines more", printed - LINES_MAX))?;
    }
    let status = if timed_out {
        None
    } else {
        reap(&mut child, KILLED)
    };
    // Ends what the test left behind, and the test itself if it still runs.
    kill_group(&child);
    if status.is_none() && reap(&mut child, KILLED).is_none() {
        note("the process is stuck in the kernel: SIGKILL did not end it")?;
        return Ok(Ended::TimedOut);
    }
    Ok(match (timed_out, ended, status) {
        (true, ..) => Ended::TimedOut,
        (false, Some(outcome), _) => Ended::Verdict(outcome),
        (false, None, Some(how)) => {
            Ended::Early(format!("the test's process ended without a verdict: {how}"))
        }
        (false, None, None) => {
            Ended::Early("the test's process closed its output and went on".into())
        }
    })
}

fn spawn(command: &mut Command) -> io::Result<(mpsc::Receiver<String>, Child)> {
    let (reader, writer) = io::pipe()?;
    command
        .stdin(std::process::Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let child = command.spawn()?;
    let (tx, rx) = mpsc::channel();
    // Not joined: a process that is stuck in the kernel keeps the pipe open for ever.
    thread::Builder::new().spawn(move || relay(reader, &tx))?;
    Ok((rx, child))
}

fn relay(reader: PipeReader, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(reader).split(b'\n') {
        let Ok(line) = line else { return };
        if lines
            .send(String::from_utf8_lossy(&line).into_owned())
            .is_err()
        {
            return;
        }
    }
}

/// Waits for a process for a bounded time; `None` if it is still there.
pub fn reap(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

fn kill_group(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // ESRCH: nothing was left.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Ended, Vec<String>) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let ended = run_process(command, limit, |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        (ended.unwrap(), lines)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn verdicts_and_diagnostics_are_relayed() {
        let (ended, lines) = shell("echo one; echo two >&2; echo '@@verdict pass '", LONG);
        assert_eq!(ended, Ended::Verdict(Outcome::Pass));
        assert_eq!(lines, ["one", "two"]);
        let (ended, _) = shell("printf '%s\\n' '@@verdict fail a\\nb'", LONG);
        assert_eq!(ended, Ended::Verdict(Outcome::Fail("a\nb".into())));
        let (ended, _) = shell("echo '@@verdict skip no devlink'", LONG);
        assert_eq!(ended, Ended::Verdict(Outcome::Skip("no devlink".into())));
    }

    #[test]
    fn a_process_without_a_verdict_failed() {
        let (ended, _) = shell("exit 3", LONG);
        assert_eq!(
            ended,
            Ended::Early("the test's process ended without a verdict: exit status: 3".into())
        );
        let (ended, _) = shell("kill -SEGV $$", LONG);
        assert!(matches!(ended, Ended::Early(why) if why.contains("signal: 11")));
    }

    /// True once a process is gone, or dead and not yet reaped by whoever inherited it.
    fn dies(pid: &str) -> bool {
        let deadline = Instant::now() + LONG;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_hanging_process_is_ended_with_its_children() {
        let (ended, lines) = shell("sleep 1000 & echo $!; wait", Duration::from_secs(2));
        assert_eq!(ended, Ended::TimedOut);
        assert!(dies(&lines[0]));
    }

    #[test]
    fn what_a_test_leaves_behind_is_ended() {
        let script = "sleep 1000 >/dev/null 2>&1 & echo $!; echo '@@verdict pass '";
        let (ended, lines) = shell(script, LONG);
        assert_eq!(ended, Ended::Verdict(Outcome::Pass));
        assert!(dies(&lines[0]));
    }
}
