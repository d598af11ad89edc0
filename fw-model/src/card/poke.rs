// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Looking and changing from outside: a command tried on a copy, a capability or a register set.

use fwctl_proto::layout::set_bits;

use super::{Card, Via};
use crate::{
    FunctionId, NoMemory, effect::Effects, fault::Faults, function::Function, limits::MAX_MESSAGE,
    profile::CAP_PAGE_BYTES, reg, settings::Configured, time::Time,
};

/// Bits of something, and their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bits {
    /// First bit.
    pub offset: u32,
    /// Number of bits, at most 64.
    pub width: u32,
    /// The value.
    pub value: u64,
}

impl Bits {
    /// Sets them; nothing if they are not all there.
    pub(crate) fn set(self, bytes: &mut [u8]) {
        let end = u64::from(self.offset) + u64::from(self.width);
        if (1..=64).contains(&self.width) && end <= bytes.len() as u64 * 8 {
            set_bits(bytes, self.offset, self.width, self.value);
        }
    }
}

impl Card {
    /// What the firmware would answer to a command that the driver sent now: the outbox. It is
    /// executed on a copy of the card without its faults, and no guest memory is there. `None` for a
    /// function that there is not, or a message that is too long.
    #[must_use]
    pub fn tried(
        &self,
        id: FunctionId,
        inbox: &[u8],
        out_len: usize,
        now: Time,
    ) -> Option<Vec<u8>> {
        if inbox.len().max(out_len) > MAX_MESSAGE || inbox.len() < 16 || out_len < 16 {
            return None;
        }
        let mut copy = Self::load(self.profile.clone(), &self.save().ok()?).ok()?;
        copy.functions.get(usize::from(id.0))?;
        copy.shared.faults = Faults::default();
        let (mut outbox, mut fx) = (Vec::new(), Effects::new());
        let mut inbox = inbox.to_vec();
        let via = Via::Slot;
        copy.execute(
            id,
            &mut inbox,
            via,
            out_len,
            &mut outbox,
            now,
            &NoMemory,
            &mut fx,
        );
        Some(outbox)
    }

    /// Sets bits of a function's capability page, current and maximum, until the firmware starts again.
    pub(super) fn set_cap(&mut self, id: FunctionId, cap_type: u16, bits: Bits) {
        let Some(f) = self.functions.get_mut(usize::from(id.0)) else {
            return;
        };
        let Some(cap) = self.profile.cap(cap_type) else {
            return;
        };
        let page = f.configured.pages.entry(cap_type);
        let page = page.or_insert_with(|| Configured {
            current: cap.current.clone(),
            max: cap.max.clone(),
        });
        debug_assert_eq!(page.current.len(), CAP_PAGE_BYTES);
        for bytes in [&mut page.current, &mut page.max] {
            bits.set(bytes);
        }
        // What the driver has chosen already.
        if let Some(chosen) = f.caps.get_mut(&cap_type) {
            bits.set(chosen);
        }
    }

    /// Sets bits of a function's register, whatever a driver could write there. `given` chooses the
    /// part: a register with its index fields.
    pub(super) fn set_register(&mut self, id: FunctionId, register: u16, given: &[u8], bits: Bits) {
        let profile = self.profile.clone();
        let set = |f: &mut Function| reg::set(f, &profile, register, given, bits);
        if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
            set(f);
        }
    }
}
