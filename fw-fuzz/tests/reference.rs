// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware and the reference model agree on random sequences.

use fw_fuzz::reference::compare::Pair;

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
}
