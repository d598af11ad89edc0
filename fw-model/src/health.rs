// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The health of the firmware, which all functions of a card share: what the health buffer shows,
//! and whether commands are executed at all.

use core::time::Duration;

use fwctl_proto::segment::health;

use crate::time::Time;

/// What the firmware says is wrong (`struct health_buffer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// One of [`health::SYNDROMES`]; 0 is nothing.
    pub syndrome: u8,
    /// More about it.
    pub ext_syndrome: u16,
    /// How bad it is, as syslog counts: 0 emergency … 7 debug.
    pub severity: u8,
    /// Only a reset of the firmware helps ("rfr"): it executes no command any more.
    pub fatal: bool,
    /// Only a power cycle does ("crr").
    pub cold: bool,
    /// The variables of the assertion.
    pub vars: [u32; health::ASSERT_VARS],
}

/// Syslog's "error".
const SEVERITY_ERROR: u8 = 3;

impl Report {
    /// The firmware failed for good: an assertion of its own.
    pub const FAILED: Self = Self {
        syndrome: 0x01,
        ext_syndrome: 0,
        severity: SEVERITY_ERROR,
        fatal: true,
        cold: false,
        vars: [0; health::ASSERT_VARS],
    };
}

/// How the firmware is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Health {
    /// What it reports.
    pub report: Report,
    /// When it reported that.
    reported: Time,
    /// It hangs since then: no command is executed and the counter stands.
    hangs: Option<Time>,
    /// The counter stands since then, whatever the rest does.
    frozen: Option<Time>,
    /// It starts, and is ready then.
    pub ready: Time,
    /// Commands of command channels wait for it.
    pub awaited: bool,
}

impl Health {
    /// Something is wrong, or no more if the syndrome is 0.
    pub fn set(&mut self, report: Report, now: Time) {
        self.report = report;
        self.reported = now;
        if report.fatal {
            self.hangs.get_or_insert(now);
        } else {
            self.hangs = None;
        }
    }

    /// The firmware hangs, or goes on. One that failed for good does not.
    pub fn hang(&mut self, on: bool, now: Time) {
        if on {
            self.hangs.get_or_insert(now);
        } else if !self.report.fatal {
            self.hangs = None;
        }
    }

    /// The health counter stands from now on, and commands are executed none the less.
    pub fn freeze(&mut self, now: Time) {
        self.frozen.get_or_insert(now);
    }

    /// As after a start that ends at `ready`.
    pub fn restart(&mut self, ready: Time) {
        *self = Self {
            ready,
            awaited: self.awaited,
            ..Self::default()
        };
    }

    /// True if commands are executed.
    #[must_use]
    pub fn runs(&self, now: Time) -> bool {
        self.hangs.is_none() && now >= self.ready
    }

    /// When commands that wait can be given back, if a start ends then.
    #[must_use]
    pub fn deadline(&self, now: Time) -> Option<Time> {
        (self.awaited && self.ready > now).then_some(self.ready)
    }

    /// The time that the health counter shows.
    #[must_use]
    pub fn counted(&self, now: Time) -> Time {
        let stood = self.hangs.into_iter().chain(self.frozen).min();
        stood.unwrap_or(now)
    }

    /// For how long the firmware has been there since it started.
    #[must_use]
    pub fn uptime(&self, now: Time) -> Duration {
        self.counted(now).since(self.ready)
    }

    /// The dword at byte `at` of the health buffer; identity is filled in elsewhere.
    #[must_use]
    pub fn dword(&self, at: usize) -> u32 {
        let r = &self.report;
        if r.syndrome == 0 {
            return 0;
        }
        match at {
            health::TIME => (self.reported.as_millis() / 1000) as u32,
            health::RFR_SEVERITY => {
                let flag = |on: bool, bit: u8| if on { bit } else { 0 };
                let severity = r.severity & 7 | health::SEVERITY_VALID;
                let byte = flag(r.fatal, health::RFR) | flag(r.cold, health::CRR) | severity;
                u32::from(byte) << 24
            }
            health::IRISC_INDEX => u32::from(r.syndrome) << 16 | u32::from(r.ext_syndrome),
            _ if at < health::ASSERT_VARS * 4 => r.vars.get(at / 4).copied().unwrap_or(0),
            _ => 0,
        }
    }
}
