// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where an input begins to act: what was done before is set-up, which a fuzzer need not count.

use std::sync::OnceLock;

static HOOK: OnceLock<fn()> = OnceLock::new();

/// From now on `hook` is called when an input begins to act. The first one stays.
pub fn set_begin_hook(hook: fn()) {
    let _ = HOOK.set(hook);
}

/// The card is where the input begins: targets call it once they have brought it there, if they had to.
pub fn begins() {
    if let Some(hook) = HOOK.get() {
        hook();
    }
}
