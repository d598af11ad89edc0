// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random sequences of commands: nothing panics, the same inputs give the same effects, a
//! refused command changes nothing, and page accounting closes to zero.

#![allow(clippy::unwrap_used)]

mod common;

mod steps;

use common::{Driver, cmd};
use proptest::prelude::*;
use steps::{config, run, step};

/// The report without what a refusal may change: nothing.
fn state(d: &Driver) -> String {
    format!("{:?}", d.card.report(d.f))
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn same_inputs_same_effects_and_refusals_change_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let (mut a, mut b) = (Driver::new("connectx7"), Driver::new("connectx7"));
        for s in &steps {
            let before = state(&a);
            let (ra, rb) = (run(&mut a, s), run(&mut b, s));
            prop_assert_eq!(&ra, &rb);
            prop_assert_eq!(state(&a), state(&b));
            if let Some(r) = ra && r.delivery == 0 && r.status() != 0 {
                prop_assert_eq!(before, state(&a), "{:?}", s);
                prop_assert!(r.out[8..].iter().all(|x| *x == 0), "a refusal carries nothing else");
            }
        }
    }

    #[test]
    fn after_a_teardown_nothing_is_left(steps in prop::collection::vec(step(), 1..60)) {
        let mut d = Driver::new("connectx7");
        for s in &steps {
            run(&mut d, s);
        }
        d.settle();
        d.exec_any(&cmd(0x103, 0, 16), 16);
        let r = d.card.report(d.f).unwrap();
        prop_assert_eq!((r.objects.len(), r.uctx, r.eqs), (0, 0, 0));
        let mut take = cmd(0x108, 2, 16);
        take[12..16].copy_from_slice(&r.pages.to_be_bytes());
        d.exec_any(&take, 16 + 8 * r.pages as usize);
        d.exec_any(&cmd(0x105, 0, 16), 12);
        let r = d.card.report(d.f).unwrap();
        prop_assert_eq!((r.state, r.pages), ("disabled", 0));
        d.bring_up();
    }
}
