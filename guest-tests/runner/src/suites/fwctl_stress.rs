// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Many users at once, many opens, and users that die in the middle of a command.

use std::{path::Path, thread, time::Duration};

use crate::{
    check_eq, fail, sysfs,
    test::{Ctx, Done, Suite, test},
    worker::{End, Reference, Workers},
};

pub const SUITE: Suite = Suite {
    name: "fwctl-stress",
    about: "8 processes at once, 1000 opens, SIGKILL in the middle of RPCs",
    subjects: &["fwctl", "mlx5", "virtio"],
    expects: &[],
    tests: &[
        test("rpcs-from-8-processes", 300, rpcs_at_once),
        test("open-close-1000", 300, open_close),
        test("open-64-at-once", 120, open_at_once),
        test("sigkill-in-rpc", 120, sigkill),
        test("exit-with-rpcs-of-others", 120, others_go_on),
        test("replies-unchanged", 60, unchanged),
    ],
};

/// Processes at once.
const PROCESSES: usize = 8;
/// RPCs of each.
const RPCS_EACH: u64 = 1000;
/// How long a killed process may take to go: its RPC has to come back first.
const DEATH: Duration = Duration::from_secs(60);

fn rpcs_at_once(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let reference = Reference::take(&entry.open()?)?;
    let mut workers = Workers::start(PROCESSES, &entry.name, RPCS_EACH, &reference)?;
    workers.go()?;
    for (i, end) in workers.join()?.into_iter().enumerate() {
        check_eq!(end, End::Right(RPCS_EACH), "end of process {i}");
    }
    ctx.note(format!(
        "{} RPCs, every reply equal to the reference",
        PROCESSES as u64 * RPCS_EACH
    ));
    Ok(())
}

fn open_close(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let before = open_files();
    for i in 0..1000 {
        let device = entry.open()?;
        if i % 100 == 0 {
            device.info()?.mlx5()?;
        }
    }
    check_eq!(open_files(), before, "open files of this process");
    Ok(())
}

fn open_files() -> usize {
    sysfs::names(Path::new("/proc/self/fd")).len()
}

fn open_at_once(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let mut uids = Vec::new();
    let mut devices = Vec::new();
    for i in 0..64 {
        let device = entry.open().map_err(|e| format!("open number {i}: {e}"))?;
        uids.push(device.info()?.mlx5()?.uid);
        devices.push(device);
    }
    uids.sort_unstable();
    uids.dedup();
    check_eq!(uids.len(), 64, "different uids");
    Ok(())
}

fn sigkill(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let reference = Reference::take(&entry.open()?)?;
    for pause in [1, 20, 100] {
        let mut workers = Workers::start(PROCESSES, &entry.name, 0, &reference)?;
        workers.go()?;
        thread::sleep(Duration::from_millis(pause));
        workers.kill(DEATH)?;
    }
    let after = Reference::take(&entry.open()?)?;
    if after != reference {
        fail!("replies differ after the processes were killed");
    }
    Ok(())
}

/// One user is killed while the others go on and must not notice.
fn others_go_on(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let reference = Reference::take(&entry.open()?)?;
    let mut stay = Workers::start(PROCESSES / 2, &entry.name, RPCS_EACH / 4, &reference)?;
    let mut die = Workers::start(PROCESSES / 2, &entry.name, 0, &reference)?;
    die.go()?;
    stay.go()?;
    thread::sleep(Duration::from_millis(20));
    die.kill(DEATH)?;
    for (i, end) in stay.join()?.into_iter().enumerate() {
        check_eq!(
            end,
            End::Right(RPCS_EACH / 4),
            "end of process {i}, which nobody killed"
        );
    }
    Ok(())
}

fn unchanged(ctx: &Ctx) -> Done {
    let entry = ctx.entry()?;
    let first = Reference::take(&entry.open()?)?;
    let second = Reference::take(&entry.open()?)?;
    check_eq!(first, second, "replies to two users");
    Ok(())
}
