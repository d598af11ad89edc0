// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware and the reference model agree on random sequences, and have nothing in common.

use std::{fs, path::Path};

use fw_fuzz::compare::Pair;

const SEQUENCES: u64 = 5_000;

#[test]
fn both_models_agree() {
    let times = std::env::var("FWCTL_CASES").ok();
    let times: u64 = times.and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut pair = Pair::new().unwrap();
    for seed in 0..SEQUENCES * times {
        if let Err(what) = pair.sequence(seed) {
            panic!("sequence {seed}: {what}");
        }
    }
    let (ok, all) = pair.executed;
    assert!(
        ok * 3 > all,
        "only {ok} of {all} commands succeed: nothing much is compared"
    );
    assert!(pair.resets > SEQUENCES / 8, "{}", pair.resets);
}

/// Most lines of the reference model, and what it may use besides the standard library.
const MAX_LINES: usize = 1000;
const USES: [&str; 4] = ["core", "std", "fwctl_proto", "super"];

#[test]
fn the_reference_is_small_and_shares_nothing_with_the_firmware() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reference");
    let mut lines = 0;
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        lines += text.lines().count();
        files += 1;
        let name = path.display();
        // Not in words either, as a path in an expression.
        assert!(
            !text.contains("fw_model") && !text.contains("crate::Device"),
            "{name}"
        );
        for line in text.lines() {
            let Some(used) = line.trim_start().strip_prefix("use ") else {
                continue;
            };
            let first = used.split([':', ';']).next().unwrap();
            assert!(
                USES.contains(&first)
                    || used.starts_with("objects::")
                    || used.starts_with("Life::")
                    || used.starts_with("Who::"),
                "{name}: {line}"
            );
        }
    }
    assert!(
        files >= 2 && (500..=MAX_LINES).contains(&lines),
        "{lines} lines"
    );
}
