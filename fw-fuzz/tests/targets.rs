// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every target over its seeds and some thousand inputs made from them: the part of fuzzing that runs
//! with every change.

use fw_fuzz::{
    Device, command,
    dictionary::MAX_WORD,
    panics::none_in,
    targets::{TARGETS, Target, find, profile},
    trials::Inputs,
};
use fw_model::{
    Effect, EventPath, FunctionId, Profile,
    record::Record,
    record::replay::{Reads, Replay},
};

use fwctl_proto::{opcode, register};

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

/// Each target has words of its language, none longer than libFuzzer takes, and each of its own is in a seed.
#[test]
fn every_target_has_words_and_seeds() {
    for t in TARGETS {
        let words = (t.dictionary)();
        assert!(words.len() > 10, "{}: {} words", t.name, words.len());
        let long = words.iter().find(|w| w.is_empty() || w.len() > MAX_WORD);
        assert_eq!(long, None, "{}", t.name);
        let seeds = t.all_seeds();
        assert!(!seeds.is_empty(), "{}", t.name);
        // Else they are words of nothing.
        let has = |word: &[u8]| {
            let mut all = seeds.iter();
            all.any(|s| s.windows(word.len()).any(|w| w == word))
        };
        let used = words.iter().filter(|w| has(w)).count();
        assert!(used >= 3, "{}: {used} of {}", t.name, words.len());
    }
}

/// What a card stores has keys that the dictionary of the state file has.
#[test]
fn keys_of_the_state_are_words_of_it() {
    let words = (find("state").unwrap().dictionary)();
    let mut d = Device::of(profile(), &[EventPath::Channel]);
    let f = FunctionId(0);
    d.bring_up(f);
    // ACCESS_REG, MNVDA: nv_global_pci_conf, 12 bytes; docs/configuration.md.
    let mut set = command(opcode::ACCESS_REG, 0, 16 + 16 + 12);
    set[10..12].copy_from_slice(&register::MNVDA.to_be_bytes());
    set[16..20].copy_from_slice(&12u32.to_be_bytes());
    set[20..24].copy_from_slice(&0x80u32.to_be_bytes());
    d.command(f, &set, 64);
    let keys: Vec<&String> =
        d.fx.iter()
            .filter_map(|e| match e {
                Effect::Commit { batch, .. } => Some(batch.puts.keys()),
                _ => None,
            })
            .flatten()
            .collect();
    assert!(!keys.is_empty());
    for key in keys {
        assert!(words.iter().any(|w| w == key.as_bytes()), "{key}");
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
    for seed in t.all_seeds() {
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
