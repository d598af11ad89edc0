// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Runs the corpora in the folder FWCTL_FUZZ_CORPUS, a folder for each target, for a tool that counts lines
//! (scripts/fuzz --coverage). Without it there is nothing to do.

use std::{fs, path::Path};

use fw_fuzz::{panics::none_in, targets::TARGETS};

#[test]
fn corpora_run() {
    let Ok(folder) = std::env::var("FWCTL_FUZZ_CORPUS") else {
        return;
    };
    for t in TARGETS {
        let Ok(files) = fs::read_dir(Path::new(&folder).join(t.name)) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            let input = fs::read(&path).unwrap();
            let ran = none_in(|| (t.run)(&input));
            assert_eq!(ran, Ok(()), "{}", path.display());
        }
    }
}
