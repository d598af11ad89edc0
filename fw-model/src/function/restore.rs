// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks on a function that was read from a file, and what is counted anew then.

use super::{Function, MAX_EVENTS_WAITING, pages::PAGE_BYTES, pending::Origin, uctx::SHARED_UID};
use crate::{
    card::MAX_LATE,
    limits::{
        LOG_SLOTS, MAX_IN_FLIGHT, MAX_LOG_EQ_SIZE, MAX_MESSAGE, MAX_OBJECT_BYTES, MAX_OBJECTS,
    },
    mailbox,
    object::{KindId, kinds},
    profile::CAP_PAGE_BYTES,
    settings,
};

/// Shift of the largest page that an event queue may have: 12 and `log_page_size`.
const MAX_PAGE_SHIFT: u8 = 12 + 31;

impl Function {
    /// Makes a function that was read whole, or says what is wrong with it.
    ///
    /// # Errors
    /// What it holds that no function can hold.
    pub fn restore(&mut self) -> Result<(), &'static str> {
        self.check_queues()?;
        self.check_pending()?;
        if self.caps.values().any(|p| p.len() != CAP_PAGE_BYTES) {
            return Err("a capability page of another length");
        }
        if !self.pages.is_sound() {
            return Err("guest pages");
        }
        if self.uctx.uids().any(|uid| uid == 0 || uid == SHARED_UID) {
            return Err("a user context with a reserved uid");
        }
        let waiting = self.raised.len().max(self.notices.len());
        let waiting = waiting.max(self.generated.len());
        if waiting > MAX_EVENTS_WAITING {
            return Err("more events than may wait");
        }
        if self.late.len() > MAX_LATE {
            return Err("more interrupts than may be late");
        }
        self.work.retain(&self.objects);
        if self
            .work
            .completions
            .values()
            .any(|c| c.producer >> 24 != 0)
        {
            return Err("a completion queue with an impossible counter");
        }
        self.vport.check()?;
        self.registers.check()?;
        settings::check(&self.configured)?;
        self.icmd.check()?;
        self.dump.check()?;
        self.overlay.check()?;
        self.tables.check()?;
        if !self.objects.recount() {
            return Err("objects that share an id");
        }
        if kinds::ALL
            .iter()
            .any(|k| self.objects.count(k.id) > MAX_OBJECTS)
            || self.objects.flow_count() > MAX_OBJECTS
            || self.objects.bytes() > MAX_OBJECT_BYTES
        {
            return Err("more objects than a function has");
        }
        for (qpn, _) in self.tables.multicast.iter() {
            self.objects.hold(KindId::Qp, *qpn);
        }
        Ok(())
    }

    fn check_queues(&self) -> Result<(), &'static str> {
        for q in self.eqs.values() {
            let shift_ok = (12..=MAX_PAGE_SHIFT).contains(&q.page_shift);
            let size_ok = (1..=MAX_LOG_EQ_SIZE).contains(&q.log_size);
            if !shift_ok || !size_ok || q.context.len() > 64 || u64::from(q.offset) > PAGE_BYTES {
                return Err("an event queue of an impossible size");
            }
            let bytes = u64::from(q.offset) + (64 << q.log_size);
            let count = bytes.div_ceil(1 << q.page_shift);
            let fits = |p: &u64| p.checked_add(1 << q.page_shift).is_some();
            if q.pages.len() as u64 != count || !q.pages.iter().all(fits) {
                return Err("an event queue with impossible pages");
            }
            if (q.producer | q.consumer) >> 24 != 0 {
                return Err("an event queue with an impossible index");
            }
        }
        match self.cmd_eq {
            Some(n) if !self.eqs.contains_key(&n) => Err("a command event queue that is not there"),
            _ => Ok(()),
        }
    }

    fn check_pending(&self) -> Result<(), &'static str> {
        // The gateway has one of its own.
        if self.pending.len() > MAX_IN_FLIGHT + (1 << LOG_SLOTS) + 1 {
            return Err("more commands than may wait");
        }
        for p in &self.pending {
            if p.outbox.len() > MAX_MESSAGE || p.inbox.len() > MAX_MESSAGE {
                return Err("a command that is too long");
            }
            if let Origin::Slot { slot, taken, .. } = &p.origin
                && (slot >> LOG_SLOTS != 0
                    || taken.out_len != p.outbox.len()
                    || taken.blocks.len() != mailbox::blocks(taken.out_len))
            {
                return Err("a command whose answer does not fit its slot");
            }
        }
        Ok(())
    }
}
