// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! docs/hardening.md lists all unsafe code of the process, with a test for each place.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod sources;

use std::{collections::BTreeMap, fs};

use sources::{repository, sources};

/// Uses of the word in code: not in comments, nor as part of another word.
fn count(text: &str) -> usize {
    let code = text.lines().map(|l| l.split("//").next().unwrap_or(""));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.flat_map(|l| l.split(|c| !is_word(c)))
        .filter(|w| *w == "unsafe")
        .count()
}

#[test]
fn each_unsafe_has_a_row_and_each_row_a_test() {
    let repo = repository();
    let src = repo.join("emulator/src");
    let mut found = BTreeMap::new();
    for file in sources(&src) {
        let n = count(&fs::read_to_string(&file).unwrap());
        if n > 0 {
            let name = file.strip_prefix(&src).unwrap().display().to_string();
            found.insert(name, n);
        }
    }
    let text = fs::read_to_string(repo.join("docs/hardening.md")).unwrap();
    let (_, section) = text.split_once("\n## Unsafe code\n").unwrap();
    let mut listed = BTreeMap::new();
    let rows = section.lines().filter(|l| l.starts_with("| ")).skip(1);
    for row in rows {
        let [_, file, function, why, test, _] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let file = file.trim();
        *listed.entry(file.to_owned()).or_insert(0) += 1;
        let name = function.trim().trim_matches('`');
        let code = fs::read_to_string(src.join(file)).unwrap();
        assert!(code.contains(&format!("fn {name}(")), "{row}");
        assert!(why.trim().len() > 10, "{row}");
        let (path, name) = test.trim().split_once(' ').unwrap();
        let name = name.trim_matches('`');
        let tests = fs::read_to_string(repo.join(path)).unwrap();
        assert!(
            tests.contains(&format!("#[test]\nfn {name}()"))
                || tests.contains(&format!("    #[test]\n    fn {name}()")),
            "{row}"
        );
    }
    assert_eq!(listed, found);
}

/// No other crate of the process has any: the compiler says so.
#[test]
fn the_other_crates_forbid_it() {
    for file in [
        "fw-model/src/lib.rs",
        "proto/src/lib.rs",
        "fw-fuzz/src/lib.rs",
    ] {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file}");
    }
}
