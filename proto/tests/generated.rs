// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The checked-in Rust is what the generator makes of the fact files.

use std::process::Command;

#[test]
fn the_generated_files_are_current() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/gen-proto");
    let mut python = Command::new("python3");
    if !python
        .args(["-c", "import tomllib"])
        .output()
        .is_ok_and(|o| o.status.success())
    {
        eprintln!("SKIP the_generated_files_are_current: no Python 3.11 or newer");
        return;
    }
    let done = Command::new(script).arg("--check").output().unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
