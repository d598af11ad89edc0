// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Samples and what is told of them.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Requests of a turn in [`repeat`].
const TURN: usize = 1000;

/// What a run of requests took.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Requests measured.
    pub count: usize,
    /// Half of the requests took at most this long, in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 took at most this long, in nanoseconds.
    pub p99_ns: u64,
    /// The length of a turn divided by its requests, in nanoseconds: of the middle turn, so that
    /// one in which the machine did something else does not count.
    pub per_request_ns: f64,
    /// Requests per second, in the same turn.
    pub per_second: f64,
    /// Kicks (driver to device) per request, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kicks_per_request: Option<f64>,
    /// Calls (device to driver) per request, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_request: Option<f64>,
}

/// Collects one duration per request. Runs may be added to each other, so that what is compared
/// can take turns.
#[derive(Default)]
pub struct Samples {
    nanos: Vec<u64>,
    // Nanoseconds per request of each turn, and where the current one began in `nanos`.
    turns: Vec<f64>,
    begun: usize,
    /// Kicks in these runs.
    pub kicks: u64,
    /// Calls in these runs.
    pub calls: u64,
}

impl Samples {
    /// Room for `count` samples.
    pub fn new(count: usize) -> Self {
        Self {
            nanos: Vec::with_capacity(count),
            ..Self::default()
        }
    }

    /// Adds one that was part of a turn; [`Samples::turn`] ends the turn.
    pub fn add(&mut self, took: Duration) {
        self.nanos
            .push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Ends a turn that took so long.
    pub fn turn(&mut self, took: Duration) {
        let requests = self.nanos.len() - self.begun;
        if requests > 0 {
            self.turns.push(took.as_secs_f64() * 1e9 / requests as f64);
        }
        self.begun = self.nanos.len();
    }

    /// Adds what `step` takes, as a turn of its own.
    pub fn time<R>(&mut self, step: impl FnOnce() -> R) -> R {
        let from = Instant::now();
        let r = step();
        let took = from.elapsed();
        self.add(took);
        self.turn(took);
        r
    }

    /// What there is to tell; of signals too if there were `signals`.
    pub fn finish(self, signals: bool) -> Stats {
        let count = self.nanos.len().max(1) as f64;
        let mut s = summarise(self.nanos, self.turns);
        if signals {
            s.kicks_per_request = Some(self.kicks as f64 / count);
            s.calls_per_request = Some(self.calls as f64 / count);
        }
        s
    }
}

/// Runs `step` `count` times after `warm_up` unmeasured ones.
///
/// # Errors
/// The first error of `step`.
pub fn repeat(
    count: usize,
    warm_up: usize,
    mut step: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Stats> {
    for _ in 0..warm_up {
        step()?;
    }
    let mut samples = Samples::new(count);
    let mut last = Instant::now();
    let mut turn = last;
    for n in 1..=count {
        step()?;
        let now = Instant::now();
        samples.add(now - last);
        last = now;
        if n % TURN == 0 || n == count {
            samples.turn(now - turn);
            turn = now;
        }
    }
    Ok(samples.finish(false))
}

/// As [`repeat`] for steps much shorter than reading a clock: each sample is the mean of `batch`.
///
/// # Errors
/// The first error of `step`.
pub fn repeat_batched(
    samples: usize,
    batch: u32,
    mut step: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Stats> {
    for _ in 0..batch {
        step()?;
    }
    let mut all = Samples::new(samples);
    for _ in 0..samples {
        let from = Instant::now();
        for _ in 0..batch {
            step()?;
        }
        let mean = from.elapsed() / batch;
        all.add(mean);
        all.turn(mean);
    }
    let mut stats = all.finish(false);
    stats.count = samples * batch as usize;
    Ok(stats)
}

fn summarise(mut nanos: Vec<u64>, mut turns: Vec<f64>) -> Stats {
    nanos.sort_unstable();
    turns.sort_unstable_by(f64::total_cmp);
    let at = |p: usize| {
        let i = (nanos.len() * p / 100).min(nanos.len().saturating_sub(1));
        nanos.get(i).copied().unwrap_or(0)
    };
    let per_request_ns = turns.get(turns.len() / 2).copied().unwrap_or(0.0);
    Stats {
        count: nanos.len(),
        p50_ns: at(50),
        p99_ns: at(99),
        per_request_ns,
        per_second: 1e9 / per_request_ns.max(f64::MIN_POSITIVE),
        kicks_per_request: None,
        calls_per_request: None,
    }
}
