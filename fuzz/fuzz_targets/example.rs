// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A target as a user of the library writes one, for commands of his own choice. It is none of `scripts/fuzz --list`.
#![no_main]

use fw_fuzz::{Commands, Sequence, kept};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let make = || {
        let profile = fw_model::Profile::builtin("connectx7").expect("a profile");
        let names = ["CREATE_UCTX", "DESTROY_UCTX", "ALLOC_PD", "DEALLOC_PD"];
        Sequence::new(profile, Commands::only(&names).expect("commands"))
    };
    kept(make, |sequence| sequence.run(data));
});
