// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Events that wait for a buffer of the driver.

use std::collections::VecDeque;

use fwctl_proto::virtio::{EVENT_BYTES, Event};
use vm_memory::GuestMemoryMmap;

use super::{
    chain::{self, Chain},
    limits::MAX_EVENT_BACKLOG,
};

/// Bytes of an event's data: those of an EQE.
const DATA_BYTES: usize = 28;

/// An event that waits.
struct Waiting {
    sequence: u64,
    // Events were lost right before this one.
    overflow: bool,
    event_type: u8,
    sub_type: u8,
    data: [u8; DATA_BYTES],
}

/// The events of a function that no buffer took yet.
#[derive(Default)]
pub struct Backlog {
    waiting: VecDeque<Waiting>,
    next: u64,
    overflow: bool,
}

impl Backlog {
    /// True if none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets all; the next one is number 0 again.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.next = 0;
        self.overflow = false;
    }

    /// Adds an event; one that finds no room is lost, which the next one delivered tells.
    pub fn push(&mut self, event_type: u8, sub_type: u8, data: &[u8]) {
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        if self.waiting.len() >= MAX_EVENT_BACKLOG {
            self.overflow = true;
            return;
        }
        let overflow = std::mem::take(&mut self.overflow);
        let mut e = Waiting {
            sequence,
            overflow,
            event_type,
            sub_type,
            data: [0; DATA_BYTES],
        };
        for (to, from) in e.data.iter_mut().zip(data) {
            *to = *from;
        }
        self.waiting.push_back(e);
    }

    /// Writes the oldest event into `buffer` and returns the bytes written; 0 and the event stays
    /// if it is no buffer for events.
    pub fn deliver(&mut self, mem: &GuestMemoryMmap, buffer: &Chain) -> u32 {
        if buffer.fault.is_some() || buffer.writable_bytes < EVENT_BYTES as u64 {
            return 0;
        }
        let Some(e) = self.waiting.pop_front() else {
            return 0;
        };
        let event = Event {
            sequence: e.sequence,
            overflow: e.overflow,
            event_type: e.event_type,
            sub_type: e.sub_type,
            data: e.data,
        };
        chain::scatter(mem, &buffer.writable, &[&event.to_bytes()])
    }
}
