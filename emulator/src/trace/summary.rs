// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A trace in a table: how often each command came, how it ended, how long it took.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use fw_model::Overlay;
use serde_json::{Value, json};

use super::{Command, Unanswered};
use crate::{decode::Which, observe};

#[derive(Default)]
struct Row {
    errors: usize,
    unanswered: usize,
    took: Vec<u64>,
    own: Vec<u64>,
}

/// A row's name; answers, errors among them, commands without an answer; 50th and 99th percentile of the time
/// taken, and of our own time.
type Figures<'a> = (&'a str, [usize; 3], [u64; 4]);

/// What tells commands apart that wait for their answer: function, slot and when it came.
type Key = (u8, Option<u8>, u64);

/// Counts and times by command and register.
#[derive(Default)]
pub struct Summary {
    rows: BTreeMap<String, Row>,
    // The rows of those whose answer may still come.
    held: HashMap<Key, String>,
}

/// The smallest of the sorted values that so many percent of them do not exceed: the nearest rank.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let index = rank.saturating_sub(1);
    sorted.get(index).copied().unwrap_or(0)
}

fn key(c: &Command<'_>) -> Key {
    (c.function, c.via.slot(), c.submitted)
}

fn row_name(c: &Command<'_>, overlay: Option<&Overlay>) -> String {
    let n = observe::named(&c.seen(), overlay, Which::Set);
    match n.register {
        Some(register) => {
            let writes = Command::word(&c.inbox, 6) == 0;
            let what = if writes { "write" } else { "read" };
            format!("{} {register} {what}", n.command)
        }
        None => n.command,
    }
}

impl Summary {
    /// Adds a command.
    pub fn add(&mut self, c: &Command<'_>, overlay: Option<&Overlay>) {
        self.held.remove(&key(c));
        let row = self.rows.entry(row_name(c, overlay)).or_default();
        row.errors += usize::from(c.status() != Some(0));
        row.took.push(c.took());
        row.own.push(c.own);
    }

    /// Adds a command without an answer. One that may still get it counts at the end, if it has none then.
    pub fn add_unanswered(&mut self, u: &Unanswered<'_>, overlay: Option<&Overlay>) {
        let c = u.command();
        let name = row_name(&c, overlay);
        self.held.remove(&key(&c));
        if u.why.is_held() {
            self.held.insert(key(&c), name);
        } else {
            self.rows.entry(name).or_default().unanswered += 1;
        }
    }

    fn figures(&mut self) -> Vec<Figures<'_>> {
        for (_, name) in self.held.drain() {
            self.rows.entry(name).or_default().unanswered += 1;
        }
        let rows = self.rows.iter_mut().map(|(name, r)| {
            r.took.sort_unstable();
            r.own.sort_unstable();
            let times = [
                percentile(&r.took, 50),
                percentile(&r.took, 99),
                percentile(&r.own, 50),
                percentile(&r.own, 99),
            ];
            (name.as_str(), [r.took.len(), r.errors, r.unanswered], times)
        });
        let mut rows: Vec<_> = rows.collect();
        // The most frequent first.
        rows.sort_by(|a, b| b.1[0].cmp(&a.1[0]).then(a.0.cmp(b.0)));
        rows
    }

    /// The table.
    #[must_use]
    pub fn text(mut self) -> String {
        let rows = self.figures();
        let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0).max(7);
        let mut s = format!(
            "{:width$} {:>8} {:>7} {:>10} {:>14} {:>14} {:>11} {:>11}\n",
            "command", "count", "errors", "unanswered", "p50", "p99", "own p50", "own p99"
        );
        let us = |ns: u64| format!("{}.{:03} us", ns / 1000, ns % 1000);
        for (name, [count, errors, unanswered], times) in &rows {
            let [p50, p99, own50, own99] = times.map(us);
            let _ = writeln!(
                s,
                "{name:width$} {count:>8} {errors:>7} {unanswered:>10} {p50:>14} {p99:>14} {own50:>11} {own99:>11}"
            );
        }
        let [total, errors, unanswered] =
            [0, 1, 2].map(|i| rows.iter().map(|r| r.1[i]).sum::<usize>());
        let _ = writeln!(
            s,
            "{:width$} {total:>8} {errors:>7} {unanswered:>10}",
            "all"
        );
        s
    }

    /// The table as an array; times in nanoseconds.
    #[must_use]
    pub fn json(mut self) -> Value {
        let row = |(name, [count, errors, unanswered], [p50, p99, own50, own99]): Figures<'_>| {
            json!({
                "command": name, "count": count, "errors": errors,
                "unanswered": unanswered,
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
    use fw_model::Why;

    /// A command that was held counts once: as answered, or as not.
    #[test]
    fn what_is_held_counts_when_its_end_is_known() {
        let left = |submitted, why| Unanswered {
            function: 0,
            via: Via::Slot(1),
            submitted,
            at: submitted + 5,
            why,
            inbox: vec![0x08, 0x0d, 0, 0].into(),
        };
        let mut s = Summary::default();
        // Answered late, dropped by a reset, never answered, and lost.
        for submitted in 1..4 {
            s.add_unanswered(&left(submitted, Why::Delayed), None);
        }
        let answered = left(1, Why::Delayed);
        s.add(&answered.command(), None);
        s.add_unanswered(&left(2, Why::Reset), None);
        s.add_unanswered(&left(4, Why::Lost), None);
        let rows = s.json();
        assert_eq!(
            (&rows[0]["count"], &rows[0]["unanswered"]),
            (&json!(1), &json!(3))
        );
    }

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
            json!([{"command": "NOP", "count": 100, "errors": 3, "unanswered": 0, "p50_ns": 49, "p99_ns": 98,
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
