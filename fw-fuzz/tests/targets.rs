// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every target over its seeds and some thousand inputs made from them: the part of fuzzing that runs
//! with every change.

use fw_fuzz::{
    panics::none_in,
    targets::{TARGETS, Target, find},
    trials::Inputs,
};
use fw_model::{
    Profile,
    record::Record,
    record::replay::{Reads, Replay},
};

/// Inputs of each target, seeds included; `FWCTL_CASES` times as many.
const INPUTS: usize = 3000;

fn inputs(t: &Target) -> usize {
    let slow = [
        "state",
        "trace",
        "faults",
        "vhost-user",
        "vfio-user",
        "profile",
        "control",
    ];
    let once = if slow.contains(&t.name) {
        SLOW_INPUTS
    } else {
        INPUTS
    };
    let times = std::env::var("FWCTL_CASES").ok();
    once * times.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Inputs of a target whose inputs take a file or a socket each.
const SLOW_INPUTS: usize = 400;

fn trial(t: &Target) {
    for (n, input) in Inputs::of(t, 1).take(inputs(t)).enumerate() {
        if let Err(what) = none_in(|| (t.run)(&input)) {
            panic!("target {}, input {n}: {what}: {input:02x?}", t.name);
        }
    }
}

#[test]
fn no_target_fails() {
    assert_eq!(TARGETS.len(), 17, "with those of the process");
    for t in TARGETS {
        trial(t);
    }
}

/// What is recorded of an input runs again as it was.
#[test]
fn records_of_inputs_replay() {
    for t in TARGETS {
        let Some(record) = t.record else { continue };
        for input in Inputs::of(t, 2).take(40) {
            let bytes = record(&input);
            let mut r = Record::open(&bytes).unwrap();
            let profile = Profile::parse(fw_fuzz::targets::PROFILE, &r.head.profile).unwrap();
            let mut replay = Replay::new(profile, &r.head).unwrap();
            let mut frames = 0;
            for frame in &mut r {
                let frame =
                    frame.unwrap_or_else(|e| panic!("{} {frames}: {e}, {input:02x?}", t.name));
                let done = replay.step(&frame, Reads::InOrder);
                assert_eq!(done.difference(&frame), None, "{} frame {frames}", t.name);
                frames += 1;
            }
            assert!(frames > 0, "{}: an empty record", t.name);
        }
    }
}

/// Seeds of the commands reach: most of them are executed, few are refused.
#[test]
fn seeds_reach_more_than_refusals() {
    let t = find("commands").unwrap();
    let record = t.record.unwrap();
    let (mut ok, mut all) = (0, 0);
    for seed in (t.seeds)() {
        let bytes = record(&seed);
        let r = Record::open(&bytes).unwrap();
        let last = r.filter_map(Result::ok).filter_map(|f| {
            f.effects.iter().find_map(|e| match e {
                fw_model::record::Happened::Reply { outbox, .. } => outbox.first().copied(),
                _ => None,
            })
        });
        for status in last {
            all += 1;
            ok += usize::from(status == 0);
        }
    }
    assert!(ok * 3 > all * 2, "{ok} of {all} commands succeed");
}
