// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Time as the model sees it: part of every input, never read from a clock.

use core::time::Duration;

/// Nanoseconds since the card was powered; monotonic, chosen by whoever drives the model.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The moment at which the card was powered.
    pub const ZERO: Self = Self(0);

    /// This time and `d` later; saturates at the end of the range (584 years).
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// The time from `earlier` to this one; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the card was powered.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}
