// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The project's own files, for tests that compare documents with sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository's folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .into()
}

/// All Rust files in a folder and below it.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let each = |path: PathBuf| {
        if path.is_dir() {
            sources(&path)
        } else {
            vec![path]
        }
    };
    let all = entries.flat_map(each);
    all.filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .collect()
}
