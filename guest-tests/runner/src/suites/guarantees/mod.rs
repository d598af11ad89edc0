// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel promises of fwctl (Documentation/userspace-api/fwctl/fwctl.rst, the uAPI header and
//! mlx5_fwctl), a test for each promise. For each there is a mutant in guest-tests/mutants/: a patch of
//! the modules or faults of the firmware that break it, which the test must catch.
//!
//! Nothing here needs an emulated device but what says so ([`triggers`]).

mod configuration;
mod life;
mod opcodes;
mod requests;
mod scopes;
mod sharing;
pub mod triggers;
mod trouble;

use std::fmt::Write;

use crate::{
    suites::mlx5_probe,
    test::{Ctx, Done, Suite, Test, test},
};

pub use life::hold;

/// A promise.
struct Guarantee {
    /// Its test; the mutant's file has the same name.
    test: Test,
    /// What the kernel documents.
    promise: &'static str,
    /// How it is tested.
    how: &'static str,
    /// What the mutant does.
    mutant: &'static str,
}

const fn guarantee(
    name: &'static str,
    limit: u64,
    run: fn(&Ctx) -> Done,
    [promise, how, mutant]: [&'static str; 3],
) -> Guarantee {
    Guarantee {
        test: test(name, limit, run),
        promise,
        how,
        mutant,
    }
}

const fn tests<const N: usize>(of: &[Guarantee; N]) -> [Test; N] {
    let mut all = [of[0].test; N];
    let mut i = 0;
    while i < N {
        all[i] = of[i].test;
        i += 1;
    }
    all
}

/// Those that can be shown any number of times. The order matters to the mutants: each is tried with the
/// tests up to its own, and the last ones leave a broken device behind.
const REPEATABLE: [Guarantee; 17] = [
    guarantee(
        "taint-only-by-debug-write",
        120,
        scopes::taint_only_by_debug_write,
        [
            "Configuration and debug reading do not taint",
            "with fwctl loaded anew: RPCs at scopes 0 and 1, and refused ones; no line in the log, the taint unchanged",
            "the read-only scope taints too",
        ],
    ),
    guarantee(
        "scope-by-opcode",
        240,
        scopes::scope_by_opcode,
        [
            "Each RPC has a scope, and driver and firmware let through what belongs to it; nothing that makes objects",
            "every opcode up to 0xbff and from 0x8000 on, two op_mods, four scopes: EBADMSG or not, by a table of the driver's",
            "SET_DIAGNOSTIC_PARAMS passes at the read-only scope",
        ],
    ),
    guarantee(
        "taint-once",
        240,
        scopes::taint_once,
        [
            "The two debug-write scopes taint the kernel; it is said once",
            "with fwctl loaded anew: scope 2 first, then scope 3 first; one line, the bit, and no line more",
            "each RPC of these scopes is announced",
        ],
    ),
    guarantee(
        "full-needs-rawio",
        60,
        scopes::full_needs_rawio,
        [
            "Full access needs CAP_SYS_RAWIO, and it alone does",
            "NOP at scopes 2 and 3 with and without the capability",
            "no capability is asked for",
        ],
    ),
    guarantee(
        "uid-forced",
        60,
        requests::uid_forced,
        [
            "A user acts as himself: the driver writes the uid of his open file into each command",
            "every command with the uids of the driver, of another user, of nobody: the same answers",
            "the uid of the inbox is left as it is",
        ],
    ),
    guarantee(
        "errno-table",
        60,
        requests::errno_table,
        [
            "The error numbers of include/uapi/fwctl/fwctl.h, and structures that can grow",
            "wrong requests, each in one way: numbers, sizes, flags, pointers, lengths, scopes",
            "an unknown scope ends with EINVAL",
        ],
    ),
    guarantee(
        "buffers",
        120,
        requests::buffers,
        [
            "in_len and out_len are the caller's, up to 2 MiB; the answer is cut, its full length told, nothing is written behind it",
            "inboxes and outboxes shorter and longer than the command's, up to 2 MiB",
            "the limit is 1 MiB",
        ],
    ),
    guarantee(
        "firmware-status",
        60,
        requests::firmware_status,
        [
            "The driver delivers RPCs and answers, and does not interpret them",
            "an unknown capability; with triggers every status, each with a syndrome of its own: the bytes of the outbox",
            "a bit of the syndrome is inverted",
        ],
    ),
    guarantee(
        "reserved-garbage",
        60,
        requests::reserved_garbage,
        [
            "Deployed tools go on working: what is reserved is not looked at",
            "garbage in the reserved fields of inboxes changes no answer; with triggers, in an outbox it reaches the user",
            "a command with a reserved field is refused",
        ],
    ),
    guarantee(
        "concurrent-with-kernel",
        240,
        sharing::concurrent_with_kernel,
        [
            "What fwctl exposes can be shared with the kernel's own use of the device",
            "four processes compare each answer while the driver sends commands of its own",
            "answers go through one buffer",
        ],
    ),
    guarantee(
        "objects-of-others",
        60,
        sharing::objects_of_others,
        [
            "Debug reading may report on objects of other subsystems; no manipulation of the kernel's objects",
            "the driver's event queue can be queried; commands that make or destroy objects do not pass; the firmware refuses SET_HCA_CAP of the own function",
            "the firmware accepts SET_HCA_CAP of the own function",
        ],
    ),
    guarantee(
        "no-secrets",
        120,
        sharing::no_secrets,
        [
            "fwctl is no way to kernel internals, nor to what others keep secret",
            "marker bytes sent by another user do not show in any answer at scopes 0 and 1, of any length",
            "bytes of an earlier inbox are left behind a short answer",
        ],
    ),
    guarantee(
        "no-stray-dma",
        120,
        sharing::no_stray_dma,
        [
            "No DMA to or from arbitrary memory",
            "the address of a page that the device was not given, in every field of every command that reads: the page stays as it is",
            "the firmware writes to an address in the inbox",
        ],
    ),
    guarantee(
        "configuration-not-live",
        60,
        configuration::live_only_after_reset,
        [
            "Configuration becomes live at a function reset, not before",
            "an item set by MNVDA: next boot has it, the value in force and the capabilities do not",
            "the value in force reads as the new one",
        ],
    ),
    guarantee(
        "enodev-after-removal",
        120,
        life::enodev_after_removal,
        [
            "Unregistering does not wait for open files; afterwards every call on them ends with ENODEV",
            "two open files, the auxiliary device unbound and bound again: ENODEV before and after, a new file works",
            "the calls end with EIO",
        ],
    ),
    guarantee(
        "nothing-left-after-kill",
        240,
        life::nothing_left_after_kill,
        [
            "What a user allocated is freed when his file is closed, whoever closes it",
            "processes with 64 files each killed by SIGKILL in the middle of RPCs, until more user contexts were made than there can be",
            "a killed process leaves its user contexts",
        ],
    ),
    guarantee(
        "nothing-left-after-close",
        240,
        life::nothing_left_after_close,
        [
            "What a user allocated is freed when his file is closed",
            "more opens and closes than there can be user contexts, and half of them at once, twice",
            "close leaves the user context",
        ],
    ),
];

/// Those that take long: the firmware does not answer, or fails.
const SLOW: [Guarantee; 4] = [
    guarantee(
        "reset-handled",
        240,
        life::reset_handled,
        [
            "A driver may go while RPCs run; no call hangs, and the next driver works",
            "the function unbound and bound with RPCs in flight and files open: errors, ENODEV, the same answers as before",
            "the firmware refuses INIT_HCA from then on",
        ],
    ),
    guarantee(
        "timeout-handled",
        240,
        trouble::timeout_handled,
        [
            "An RPC cannot hang the system",
            "with triggers: a command that is answered after 70 s ends with ETIMEDOUT, the next ones of all users go well, the driver can be unbound",
            "a command that was not answered looks like one that was",
        ],
    ),
    guarantee(
        "health-failure-handled",
        300,
        trouble::health_failure_handled,
        [
            "The device comes back, and files of before are dead",
            "with triggers: the firmware fails for good, the driver resets it; ENODEV for the old file, the same answers for a new one",
            "the firmware refuses INIT_HCA after its reset",
        ],
    ),
    guarantee(
        "configuration-live-after-reset",
        300,
        trouble::configuration_live_after_reset,
        [
            "Configuration becomes live at a function reset",
            "with triggers: an item set by MNVDA is in force after a reset of the firmware",
            "the value in force stays the old one",
        ],
    ),
];

/// What cannot be undone: it comes last.
const LAST: [Guarantee; 1] = [guarantee(
    "lockdown-changes-nothing",
    60,
    scopes::lockdown_changes_nothing,
    [
        "All scopes but the full one are compatible with kernel lockdown; the full one asks for the capability, not for lockdown",
        "the verdicts of twelve requests before and after `integrity` is written to the lockdown file, and CAP_SYS_RAWIO again",
        "the full scope is refused under lockdown",
    ],
)];

/// Any number of times.
pub const SUITE: Suite = Suite {
    name: "guarantees",
    about: "what the kernel documents of fwctl, a line for each promise",
    subjects: mlx5_probe::SUBJECTS,
    expects: &["interface is down, NOP"],
    tests: &tests(&REPEATABLE),
};

/// With a device that is reset.
pub const TROUBLE: Suite = Suite {
    name: "guarantees-trouble",
    about: "what the kernel documents of fwctl, when the firmware or its driver goes away",
    subjects: mlx5_probe::SUBJECTS,
    expects: trouble::EXPECTED,
    tests: &tests(&SLOW),
};

/// Once for each boot, at the end.
pub const LOCKDOWN: Suite = Suite {
    name: "guarantees-lockdown",
    about: "what the kernel documents of fwctl, under kernel lockdown",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &tests(&LAST),
};

/// All of them with their suites.
fn all() -> impl Iterator<Item = (&'static str, &'static Guarantee)> {
    let of = |suite: &Suite, list: &'static [Guarantee]| {
        let name = suite.name;
        list.iter().map(move |g| (name, g))
    };
    of(&SUITE, &REPEATABLE)
        .chain(of(&TROUBLE, &SLOW))
        .chain(of(&LOCKDOWN, &LAST))
}

/// The table of docs/guarantees.md.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| guarantee | what the kernel documents | how it is tested | its mutant |\n|---|---|---|---|\n".to_owned();
    let mut last = "";
    for (suite, g) in all() {
        if suite != last {
            last = suite;
            let _ = writeln!(text, "| **suite {suite}** | | | |");
        }
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            g.test.name, g.promise, g.how, g.mutant
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn each_guarantee_has_its_mutant_and_each_mutant_its_guarantee() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mutants");
        let file = |e: std::io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        let files: Vec<String> = fs::read_dir(dir).unwrap().map(file).collect();
        let stem = |f: &str| {
            f.strip_suffix(".patch")
                .or_else(|| f.strip_suffix(".fault"))
                .unwrap_or_else(|| panic!("{f} is neither a patch nor a fault"))
                .to_owned()
        };
        let found: BTreeSet<String> = files.iter().map(|f| stem(f)).collect();
        let wanted: BTreeSet<String> = all().map(|(_, g)| g.test.name.to_owned()).collect();
        assert_eq!(found, wanted);
        assert_eq!(files.len(), found.len());
        assert!(wanted.len() >= 16);
    }

    #[test]
    fn the_page_is_not_stale() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guarantees.md");
        let page = fs::read_to_string(page).unwrap();
        assert!(page.ends_with(&markdown()), "run scripts/gen-docs");
    }
}
