// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Work queues: what a driver posts to a send queue is read from guest memory and completed.
//!
//! No packet is sent: a send WQE is done as soon as it is seen. Drivers also post work for
//! themselves, and wait for it: mlx5e fills its receive queues through NOP and UMR WQEs on an
//! internal queue. docs/work-queues.md says what is done and what is not.

mod completion;
mod ring;
mod send;

use std::collections::BTreeMap;

use fwctl_proto::wqe::uar;
use serde::{Deserialize, Serialize};

use crate::{
    GuestMemory,
    effect::Effects,
    function::{Function, State},
    object::{KindId, Objects},
    profile::Profile,
    time::Time,
};

/// Where a completion queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completions {
    /// CQEs written so far, modulo 2^24.
    pub producer: u32,
    /// The driver asked for an event at the next CQE.
    pub armed: bool,
    /// It overran: nothing is written any more.
    pub failed: bool,
}

/// How far each queue is; queues that were never used have no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Basic blocks done, modulo 2^16, by queue.
    pub sent: BTreeMap<(KindId, u32), u16>,
    /// By completion queue.
    pub completions: BTreeMap<u32, Completions>,
}

impl Work {
    /// Forgets queues that are gone.
    pub fn retain(&mut self, objects: &Objects) {
        self.sent
            .retain(|(kind, n), _| objects.get(*kind, *n).is_some());
        self.completions
            .retain(|n, _| objects.get(KindId::Cq, *n).is_some());
    }

    /// A queue begins anew, or is gone.
    pub fn forget(&mut self, kind: KindId, n: u32) {
        self.sent.remove(&(kind, n));
        if kind == KindId::Cq {
            self.completions.remove(&n);
        }
    }
}

/// What a doorbell needs besides its function.
pub struct Ring<'a> {
    /// The card's profile, for its clock.
    pub profile: &'a Profile,
    /// When the doorbell was rung.
    pub now: Time,
    /// The guest's memory.
    pub mem: &'a dyn GuestMemory,
}

/// A write of 4 or 8 bytes to a UAR page that is no event queue's doorbell. A register of two
/// dwords takes effect with its second, which names the queue; what the first says is read from
/// the queue's doorbell record, where the driver has put it before.
pub fn doorbell(
    f: &mut Function,
    page: u32,
    offset: u32,
    data: &[u8],
    ring: &Ring<'_>,
    fx: &mut Effects,
) {
    if f.state != State::Up {
        return;
    }
    let second = match (offset & 7, data) {
        (0, [.., a, b, c, d]) if data.len() == 8 => [*a, *b, *c, *d],
        (4, [a, b, c, d]) => [*a, *b, *c, *d],
        _ => return,
    };
    let second = u32::from_be_bytes(second);
    match offset & !7 {
        uar::CQ => completion::arm(f, second & 0x00ff_ffff, page, ring, fx),
        at if at >= uar::SEND && at % uar::SEND_STRIDE == 0 => {
            send::run(f, second >> 8, page, ring, fx);
        }
        _ => {}
    }
}
