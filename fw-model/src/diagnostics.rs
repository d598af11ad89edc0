// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Diagnostic counters: which are sampled, how often, and what was sampled.
//!
//! Nothing runs between two inputs, so no counter changes there: the samples that were due since the
//! last look are all taken then, with the values that the counters had all the while.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Work queue entries that were done (TX packets).
pub const TRANSMITTED: u16 = 0x2006;

/// What SET_DIAGNOSTIC_PARAMS asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Log2 of how many samples are kept.
    pub log_samples: u8,
    /// Log2 of the device clocks between two samples.
    pub log_period: u8,
    /// Sampling stops when all are taken.
    pub single: bool,
    /// The oldest sample makes room for a new one.
    pub repetitive: bool,
    /// The counters of a sample are read at one moment; here they always are.
    pub sync: bool,
    /// A sample is taken when one is asked for, and only then.
    pub on_demand: bool,
    /// Sampling goes on.
    pub enable: bool,
    /// Ids of the counters, in the order of a sample.
    pub counters: Vec<u16>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Counts samples since they were cleared, modulo 2^16.
    pub id: u16,
    /// Lower half of the device's clock.
    pub clock: u32,
    /// A value for each counter.
    pub values: Vec<u64>,
}

/// A function's diagnostic counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// What is sampled.
    pub params: Params,
    /// The oldest first.
    samples: VecDeque<Sample>,
    /// Device clock when sampling began.
    began: u64,
    /// Samples taken since.
    taken: u64,
    /// Work queue entries done since the function's last reset.
    pub transmitted: u64,
}

impl Diagnostics {
    /// Takes new parameters at device clock `now`; `clear` forgets the samples taken before.
    pub fn set(&mut self, params: Params, clear: bool, now: u64) {
        // Samples of other counters mean nothing beside those of these.
        if clear || params.counters != self.params.counters {
            self.samples.clear();
            self.taken = 0;
        }
        self.began = now;
        self.params = params;
        // The first sample is due one period from now, whatever was taken before.
        self.taken = if self.samples.is_empty() {
            0
        } else {
            self.taken
        };
        self.limit();
    }

    fn keep(&self) -> usize {
        1 << self.params.log_samples.min(16)
    }

    fn limit(&mut self) {
        while self.samples.len() > self.keep() {
            self.samples.pop_front();
        }
    }

    fn value(&self, counter: u16) -> u64 {
        match counter {
            TRANSMITTED => self.transmitted,
            // Nothing waits for anything here, and nothing is received.
            _ => 0,
        }
    }

    fn take(&mut self, clock: u64) {
        let counters = self.params.counters.iter();
        let values = counters.map(|c| self.value(*c)).collect();
        self.samples.push_back(Sample {
            id: self.taken as u16,
            clock: clock as u32,
            values,
        });
        self.taken = self.taken.wrapping_add(1);
        self.limit();
    }

    /// Takes the samples that are due at device clock `now`, before a counter changes.
    pub fn catch_up(&mut self, now: u64) {
        if !self.params.enable || self.params.on_demand {
            return;
        }
        let period = 1u64 << self.params.log_period.min(63);
        let keep = self.keep();
        let due = now.saturating_sub(self.began) / period;
        // What would only make room for others again is skipped.
        let skip = if self.params.single {
            0
        } else {
            due.saturating_sub(keep as u64)
        };
        self.taken = self.taken.wrapping_add(skip);
        for n in skip..due {
            if self.params.single && self.samples.len() >= keep {
                break;
            }
            self.take(self.began + (n + 1) * period);
        }
        self.began += due * period;
    }

    /// The samples at device clock `now`, the oldest first.
    pub fn samples(&mut self, now: u64) -> &VecDeque<Sample> {
        self.catch_up(now);
        let full = self.params.single && self.samples.len() >= self.keep();
        if self.params.enable && self.params.on_demand && !full {
            self.take(now);
        }
        &self.samples
    }
}

/// The device's clock, `frequency_khz` fast.
#[must_use]
pub fn clock(frequency_khz: u32, now: Time) -> u64 {
    (u128::from(now.0) * u128::from(frequency_khz) / 1_000_000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(f: impl FnOnce(&mut Params)) -> Params {
        let mut p = Params {
            log_samples: 2,
            log_period: 4,
            enable: true,
            counters: vec![TRANSMITTED],
            ..Params::default()
        };
        f(&mut p);
        p
    }

    fn seen(d: &mut Diagnostics, now: u64) -> Vec<(u16, u32, u64)> {
        let samples = d.samples(now).iter();
        samples.map(|s| (s.id, s.clock, s.values[0])).collect()
    }

    #[test]
    fn a_ring_holds_the_last_samples() {
        let mut d = Diagnostics::default();
        d.set(params(|p| p.repetitive = true), true, 100);
        assert_eq!(seen(&mut d, 115), []);
        assert_eq!(seen(&mut d, 116), [(0, 116, 0)]);
        d.catch_up(133);
        d.transmitted = 7;
        let all = [(1, 132, 0), (2, 148, 7), (3, 164, 7), (4, 180, 7)];
        assert_eq!(seen(&mut d, 195), all);
        // After a long time: no loop over what nobody would see.
        let last = seen(&mut d, 100 + 16 * (1 << 50));
        assert_eq!((last.len(), last[3].2), (4, 7));
        assert_eq!(last[3].0, ((1u64 << 50) - 1) as u16);
    }

    #[test]
    fn single_ends_when_full_and_clear_begins_anew() {
        let mut d = Diagnostics::default();
        d.set(params(|p| p.single = true), true, 0);
        let all = [(0, 16, 0), (1, 32, 0), (2, 48, 0), (3, 64, 0)];
        assert_eq!(seen(&mut d, 1 << 60), all);
        d.set(Params::default(), true, 1 << 60);
        assert_eq!(d.samples(1 << 61).len(), 0);
    }

    #[test]
    fn on_demand_takes_one_when_asked() {
        let mut d = Diagnostics::default();
        d.set(params(|p| p.on_demand = true), true, 0);
        d.transmitted = 3;
        assert_eq!(seen(&mut d, 5), [(0, 5, 3)]);
        d.transmitted = 4;
        assert_eq!(seen(&mut d, 900), [(0, 5, 3), (1, 900, 4)]);
    }
}
