// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long inputs took, in buckets.

use std::{fmt::Write as _, time::Duration};

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
