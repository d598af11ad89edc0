// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A trace in a table: how often each command came, how it ended, how long it took.

use std::{collections::BTreeMap, fmt::Write as _};

use fw_model::Overlay;
use serde_json::{Value, json};

use super::Command;
use crate::{decode::Which, observe};

#[derive(Default)]
struct Row {
    errors: usize,
    took: Vec<u64>,
    own: Vec<u64>,
}

/// A row's name, count, errors; 50th and 99th percentile of the time taken, and of our own time.
type Figures<'a> = (&'a str, usize, usize, [u64; 4]);

/// Counts and times by command and register.
#[derive(Default)]
pub struct Summary {
    rows: BTreeMap<String, Row>,
}

/// The smallest of the sorted values that so many percent of them do not exceed: the nearest rank.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let index = rank.saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}

impl Summary {
    /// Adds a command.
    pub fn add(&mut self, c: &Command<'_>, overlay: Option<&Overlay>) {
        let n = observe::named(&c.seen(), overlay, Which::Set);
        let name = match n.register {
            Some(register) => {
                let writes = Command::word(&c.inbox, 6) == 0;
                let what = if writes { "write" } else { "read" };
                format!("{} {register} {what}", n.command)
            }
            None => n.command,
        };
        let row = self.rows.entry(name).or_default();
        row.errors += usize::from(c.status() != Some(0));
        row.took.push(c.took());
        row.own.push(c.own);
    }

    fn figures(&mut self) -> Vec<Figures<'_>> {
        let rows = self.rows.iter_mut().map(|(name, r)| {
            r.took.sort_unstable();
            r.own.sort_unstable();
            let times = [
                percentile(&r.took, 50),
                percentile(&r.took, 99),
                percentile(&r.own, 50),
                percentile(&r.own, 99),
            ];
            (name.as_str(), r.took.len(), r.errors, times)
        });
        let mut rows: Vec<_> = rows.collect();
        // The most frequent first.
        rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        rows
    }

    /// The table.
    #[must_use]
    pub fn text(mut self) -> String {
        let rows = self.figures();
        let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0).max(7);
        let mut s = format!(
            "{:width$} {:>8} {:>7} {:>14} {:>14} {:>11} {:>11}\n",
            "command", "count", "errors", "p50", "p99", "own p50", "own p99"
        );
        let us = |ns: u64| format!("{}.{:03} us", ns / 1000, ns % 1000);
        for (name, count, errors, times) in &rows {
            let [p50, p99, own50, own99] = times.map(us);
            let _ = writeln!(
                s,
                "{name:width$} {count:>8} {errors:>7} {p50:>14} {p99:>14} {own50:>11} {own99:>11}"
            );
        }
        let total: usize = rows.iter().map(|r| r.1).sum();
        let errors: usize = rows.iter().map(|r| r.2).sum();
        let _ = writeln!(s, "{:width$} {total:>8} {errors:>7}", "all");
        s
    }

    /// The table as an array; times in nanoseconds.
    #[must_use]
    pub fn json(mut self) -> Value {
        let row = |(name, count, errors, [p50, p99, own50, own99]): Figures<'_>| {
            json!({
                "command": name, "count": count, "errors": errors,
                "p50_ns": p50, "p99_ns": p99, "own_p50_ns": own50, "own_p99_ns": own99,
            })
        };
        self.figures().into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Via;

    #[test]
    fn counts_errors_and_percentiles() {
        let mut s = Summary::default();
        for n in 0..100u64 {
            let mut inbox = vec![0; 16];
            (inbox[0], inbox[1]) = (0x08, 0x0d);
            s.add(
                &Command {
                    function: 0,
                    via: Via::Channel(None),
                    submitted: 0,
                    completed: 99 - n,
                    own: n * 1000,
                    delivery: 0,
                    inbox: inbox.into(),
                    outbox: vec![u8::from(n < 3); 16].into(),
                },
                None,
            );
        }
        assert_eq!(
            s.json(),
            json!([{"command": "NOP", "count": 100, "errors": 3, "p50_ns": 49, "p99_ns": 98,
                    "own_p50_ns": 49_000, "own_p99_ns": 98_000}])
        );
        assert_eq!((percentile(&[], 50), percentile(&[7], 99)), (0, 7));
        // Of few commands the slowest is the 99th percentile, and no value is between two that there are.
        let both = |sorted| (percentile(sorted, 50), percentile(sorted, 99));
        assert_eq!(both(&[7]), (7, 7));
        assert_eq!(both(&[1, 9]), (1, 9));
        assert_eq!(both(&[1, 5, 9]), (5, 9));
    }
}
