// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Semaphores behind the gateway, one in each dword: whoever writes to a free one has it.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::Time;

/// Bytes of the space.
pub const BYTES: u32 = 0x1000;
/// The semaphore of the command mailbox.
pub const ICMD: u32 = 0;
/// The semaphore of the flash, which tools hold while they program it.
pub const FLASH: u32 = 0x10;

/// How long an idle holder keeps the gateway and its command mailbox: shorter than anyone who
/// waits for them keeps trying.
pub const HELD_FOR: Duration = Duration::from_secs(1);
/// How long a holder keeps any other semaphore.
const OTHERS_HELD_FOR: Duration = Duration::from_secs(60);

/// Who has a semaphore, and when he last used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Held {
    by: u32,
    used: Time,
}

/// The semaphores that are taken, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Semaphores(BTreeMap<u32, Held>);

impl Semaphores {
    /// Who has it; 0 for nobody.
    #[must_use]
    pub fn holder(&self, address: u32, now: Time) -> u32 {
        let most = if address == ICMD {
            HELD_FOR
        } else {
            OTHERS_HELD_FOR
        };
        let held = self.0.get(&address);
        held.filter(|h| now.since(h.used) < most)
            .map_or(0, |h| h.by)
    }

    /// A write: takes a free one, 0 frees it; what is taken stays so.
    pub fn write(&mut self, address: u32, value: u32, now: Time) {
        if value == 0 {
            self.0.remove(&address);
        } else if self.holder(address, now) == 0 {
            let held = Held {
                by: value,
                used: now,
            };
            self.0.insert(address, held);
        }
    }

    /// Its holder is at work. Who uses what it guards has it, as far as can be known: uses do not say who
    /// they are.
    pub fn renew(&mut self, address: u32, now: Time) {
        if self.holder(address, now) == 0 {
            return;
        }
        if let Some(h) = self.0.get_mut(&address) {
            h.used = now;
        }
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self) -> Result<(), &'static str> {
        let bad = |(a, h): (&u32, &Held)| *a >= BYTES || !a.is_multiple_of(4) || h.by == 0;
        if self.0.iter().any(bad) {
            return Err("a semaphore that is not there");
        }
        Ok(())
    }
}
