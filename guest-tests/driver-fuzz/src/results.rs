// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Results: a line of JSON for each case, so that a run goes on where it was stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::case::Case;

/// The file in the folder of results.
const FILE: &str = "results.jsonl";

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What the guest did.
    pub workload: String,
    /// Commands that a fault struck.
    pub struck: u64,
    /// Of those, the ones after which the driver sent another command.
    pub followed: u64,
    /// Strikes that changed a byte which the driver reads. Results before version 2 of the rule have neither
    /// this nor the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Of those, the ones after which the driver sent another command: it had consumed what was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed: Option<u64>,
    /// The driver consumed a changed byte; in older results, a fault struck it and it went on.
    pub counts: bool,
    /// The guest did all that it was told; without, it hung or died.
    pub answered: bool,
    /// What the kernel complained of.
    pub signature: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// What it was run with; older results do not say.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub with: Option<With>,
}

/// What a result depends on besides its seed. Results of several runs are merged by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct With {
    /// The guest's kernel, as `uname -r` says it.
    pub kernel: String,
    /// The emulator's version.
    pub version: String,
    /// Hash of what the case says ([`crate::case::Case::hash`]).
    pub case: String,
}

type Key = (u64, Option<With>);

#[derive(Debug)]
struct Inner {
    file: File,
    keys: BTreeSet<Key>,
    all: Vec<Outcome>,
}

/// The results of one folder.
#[derive(Debug)]
pub struct Results(Mutex<Inner>);

impl Results {
    /// Opens or begins the results of a folder.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds something else.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join(FILE);
        let mut all: Vec<Outcome> = Vec::new();
        let mut keys = BTreeSet::new();
        if path.exists() {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            for (n, line) in text.split_inclusive('\n').enumerate() {
                // A run that was killed may have left half a line at the end.
                if !line.ends_with('\n') {
                    fs::write(&path, &text[..text.len() - line.len()])?;
                    break;
                }
                let wrong = || format!("{}:{}", path.display(), n + 1);
                let one: Outcome = serde_json::from_str(line).with_context(wrong)?;
                // Results of several machines, one file after the other, may have one twice.
                if keys.insert((one.seed, one.with.clone())) {
                    all.push(one);
                }
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self(Mutex::new(Inner {
            file: file.with_context(|| path.display().to_string())?,
            keys,
            all,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a seed has a result with this, or one that does not say with what.
    pub fn has(&self, seed: u64, with: &With) -> bool {
        let keys = &self.inner().keys;
        keys.contains(&(seed, Some(with.clone()))) || keys.contains(&(seed, None))
    }

    /// Adds one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&self, outcome: Outcome) -> Result<()> {
        let mut inner = self.inner();
        writeln!(inner.file, "{}", serde_json::to_string(&outcome)?)?;
        inner.keys.insert((outcome.seed, outcome.with.clone()));
        inner.all.push(outcome);
        Ok(())
    }

    /// What was found, each with the least seed that shows it.
    pub fn signatures(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        for o in &self.inner().all {
            if let Some(s) = &o.signature {
                let seed = found.entry(s.clone()).or_insert(o.seed);
                *seed = o.seed.min(*seed);
            }
        }
        found
    }

    /// Counts, and what was found, as text.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        {
            let inner = self.inner();
            let count = |f: fn(&Outcome) -> bool| inner.all.iter().filter(|o| f(o)).count();
            let _ = writeln!(
                text,
                "{} cases, {} count, {} did not answer, {} with a complaint of the kernel",
                inner.all.len(),
                count(|o| o.counts),
                count(|o| !o.answered),
                count(|o| o.signature.is_some()),
            );
            let older = inner
                .all
                .iter()
                .filter(|o| o.counts && o.consumed.is_none());
            let mut by = [0; 3];
            older.for_each(|o| by[Case::of(o.seed).changes() as usize] += 1);
            let [all, some, none] = by;
            if all + some + none > 0 {
                let _ = writeln!(
                    text,
                    "  of these {} by the older rule (struck, and the driver went on): {all} with faults that change \
                     bytes only, {none} with such as change none, {some} with one of each",
                    all + some + none
                );
            }
        }
        for (s, seed) in self.signatures() {
            let n = self
                .inner()
                .all
                .iter()
                .filter(|o| o.signature.as_ref() == Some(&s))
                .count();
            let _ = writeln!(text, "  {n:5}  {s} (first seed {seed})");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outcome(seed: u64, signature: Option<&str>) -> Outcome {
        Outcome {
            seed,
            workload: "probe".into(),
            struck: 2,
            followed: 1,
            changed: Some(1),
            consumed: Some(1),
            counts: true,
            answered: true,
            signature: signature.map(Into::into),
            seconds: 1.5,
            with: Some(with()),
        }
    }

    fn with() -> With {
        With {
            kernel: "7.3.4".into(),
            version: "0.1.0".into(),
            case: "0".into(),
        }
    }

    #[test]
    fn what_is_done_is_known_after_a_kill_within_a_line() {
        let dir = std::env::temp_dir().join(format!("driver-fuzz-{}", std::process::id()));
        let results = Results::open(&dir).unwrap();
        results.add(outcome(7, None)).unwrap();
        results.add(outcome(3, Some("WARNING: x"))).unwrap();
        results.add(outcome(2, Some("WARNING: x"))).unwrap();
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 5]).unwrap();
        let again = Results::open(&dir).unwrap();
        assert!(again.has(7, &with()) && again.has(3, &with()) && !again.has(2, &with()));
        again.add(outcome(1, Some("WARNING: x"))).unwrap();
        let again = Results::open(&dir).unwrap();
        assert_eq!(again.signatures(), [("WARNING: x".to_owned(), 1)].into());
        assert!(
            again
                .summary()
                .starts_with("3 cases, 3 count, 0 did not answer, 2 with")
        );
        fs::write(&path, "no result\n").unwrap();
        let said = format!("{:#}", Results::open(&dir).unwrap_err());
        assert!(said.contains("results.jsonl:1"), "{said}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_was_run_with_something_else_is_another_result() {
        let dir = std::env::temp_dir().join(format!("driver-fuzz-with-{}", std::process::id()));
        let results = Results::open(&dir).unwrap();
        let other = With {
            kernel: "6.1.0".into(),
            ..with()
        };
        results.add(outcome(1, None)).unwrap();
        assert!(results.has(1, &with()) && !results.has(1, &other));
        results
            .add(Outcome {
                with: Some(other.clone()),
                ..outcome(1, None)
            })
            .unwrap();
        // Files of two machines, one behind the other: each result once.
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.repeat(2)).unwrap();
        let again = Results::open(&dir).unwrap();
        assert!(again.has(1, &other) && again.has(1, &with()));
        assert!(again.summary().starts_with("2 cases, 2 count"));
        fs::remove_dir_all(dir).unwrap();
    }

    /// Those that are kept in the repository; the kernel with KASAN ran before results said what was changed.
    #[test]
    fn kept_results_are_read_and_older_ones_counted_by_what_their_seeds_say() {
        let kept = [
            (
                "driver-fuzz",
                include_str!("../../../docs/results/driver-fuzz.jsonl"),
                false,
            ),
            (
                "kasan",
                include_str!("../../../docs/results/driver-fuzz-kasan.jsonl"),
                true,
            ),
        ];
        for (name, text, older) in kept {
            let dir =
                std::env::temp_dir().join(format!("driver-fuzz-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(FILE), text).unwrap();
            let results = Results::open(&dir).unwrap();
            let said = results.summary();
            println!("{name}: {said}");
            // No seed is kept twice, and no line is lost.
            let lines = text.lines().count();
            assert!(said.starts_with(&format!("{lines} cases, ")), "{said}");
            assert_eq!(said.contains(" by the older rule "), older, "{said}");
            assert_eq!(text.contains("\"consumed\":"), !older);
            // Who does not say what it was run with has run with anything.
            assert_eq!(results.has(1, &with()), older);
            fs::remove_dir_all(dir).unwrap();
        }
    }
}
