// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Panics that somebody caught. The process contains them, each in its place, so that a target returns as if
//! nothing had been; libFuzzer aborts at any of them, and whoever runs a target without it asks here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Runs `f` and says how many panics there were meanwhile, in any thread, caught or not.
///
/// # Errors
/// There were some; what they said is on standard error.
pub fn none_in(f: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            COUNT.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
    });
    let from = COUNT.load(Ordering::SeqCst);
    let end = catch_unwind(AssertUnwindSafe(f));
    match (COUNT.load(Ordering::SeqCst) - from, end) {
        (0, Ok(())) => Ok(()),
        (n, Ok(())) => Err(format!("{n} panics, all of them contained")),
        (n, Err(_)) => Err(format!("{n} panics")),
    }
}
