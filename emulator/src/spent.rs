// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long inputs took, in buckets.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use fw_model::counters::Counters;
use fwctl_proto::opcode;

/// Upper ends of the buckets in nanoseconds; one more has what took longer.
const ENDS: [u64; 12] = [
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// How long commands with one opcode took: from when one was taken until it was answered, and the time that
/// this process spent on it. Of several behind one doorbell each has its share of that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Commands.
    pub count: u64,
    /// All together.
    pub sum: Duration,
    /// The longest.
    pub most: Duration,
}

impl Latency {
    /// On average.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let nanos = self.sum.as_nanos() / u128::from(self.count.max(1));
        Duration::from_nanos(nanos as u64)
    }
}

/// Latencies by opcode; those that have no name go together, so that a guest cannot make more.
#[derive(Clone, Debug, Default)]
pub struct Latencies(BTreeMap<Option<u16>, Latency>);

impl Latencies {
    /// Counts the commands that were answered since there were `before`; this process spent `own` on them.
    pub fn add(&mut self, counters: &Counters, before: u64, own: Duration) {
        let new = counters.total().saturating_sub(before);
        if new == 0 {
            return;
        }
        let share = Duration::from_nanos((own.as_nanos() / u128::from(new)) as u64);
        // Of more than are remembered, the last.
        for r in counters
            .recent()
            .rev()
            .take(usize::try_from(new).unwrap_or(usize::MAX))
        {
            let key = r.answer.opcode.filter(|n| opcode::name(*n).is_some());
            let l = self.0.entry(key).or_default();
            let took = r.completed.since(r.submitted) + share;
            l.count += 1;
            l.sum = l.sum.saturating_add(took);
            l.most = l.most.max(took);
        }
    }

    /// Those of an opcode; `None` for those without a name.
    #[must_use]
    pub fn of(&self, opcode: Option<u16>) -> Latency {
        let key = opcode.filter(|n| opcode::name(*n).is_some());
        self.0.get(&key).copied().unwrap_or_default()
    }

    /// Writes them as Prometheus' text format wants it.
    pub fn write(&self, text: &mut String) {
        const NAME: &str = "fwctl_emu_command_seconds";
        let name = |key: &Option<u16>| key.and_then(opcode::name).unwrap_or("other");
        let _ = write!(
            text,
            "# HELP {NAME} Time from when a command was taken until it was answered.\n# TYPE {NAME} summary\n"
        );
        for (key, l) in &self.0 {
            let label = format!("{{opcode=\"{}\"}}", name(key));
            let _ = writeln!(
                text,
                "{NAME}_sum{label} {}\n{NAME}_count{label} {}",
                l.sum.as_secs_f64(),
                l.count
            );
        }
        let _ = write!(
            text,
            "# HELP {NAME}_max The longest of them.\n# TYPE {NAME}_max gauge\n"
        );
        for (key, l) in &self.0 {
            let _ = writeln!(
                text,
                "{NAME}_max{{opcode=\"{}\"}} {}",
                name(key),
                l.most.as_secs_f64()
            );
        }
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    counts: [u64; ENDS.len() + 1],
    sum: Duration,
}

impl Spent {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = ENDS.partition_point(|end| *end < nanos);
        if let Some(n) = self.counts.get_mut(at) {
            *n += 1;
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// Writes it as Prometheus' text format wants it.
    pub fn write(&self, text: &mut String) {
        const NAME: &str = "fwctl_emu_input_seconds";
        let _ = write!(
            text,
            "# HELP {NAME} Time from when an input had its turn until its effects were carried out.\n\
             # TYPE {NAME} histogram\n"
        );
        let mut all = 0;
        let ends = ENDS.iter().map(|e| format!("{}", *e as f64 / 1e9));
        for (n, end) in self.counts.iter().zip(ends.chain(["+Inf".into()])) {
            all += n;
            let _ = writeln!(text, "{NAME}_bucket{{le=\"{end}\"}} {all}");
        }
        let _ = writeln!(
            text,
            "{NAME}_sum {}\n{NAME}_count {all}",
            self.sum.as_secs_f64()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_up() {
        let mut s = Spent::default();
        for nanos in [0, 500, 501, 3_000_000_000] {
            s.add(Duration::from_nanos(nanos));
        }
        let mut text = String::new();
        s.write(&mut text);
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines[0],
            "fwctl_emu_input_seconds_bucket{le=\"0.0000005\"} 2"
        );
        assert_eq!(
            lines[1],
            "fwctl_emu_input_seconds_bucket{le=\"0.000001\"} 3"
        );
        assert_eq!(lines[11], "fwctl_emu_input_seconds_bucket{le=\"1\"} 3");
        assert_eq!(lines[12], "fwctl_emu_input_seconds_bucket{le=\"+Inf\"} 4");
        assert_eq!(lines[13], "fwctl_emu_input_seconds_sum 3.000001001");
        assert_eq!(lines[14], "fwctl_emu_input_seconds_count 4");
    }
}
