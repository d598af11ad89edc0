// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a fault lets the firmware do besides answering: events, demands, failures of its own.

use core::time::Duration;

use fwctl_proto::eqe;

use super::Card;
use crate::{
    FunctionId,
    effect::{Effect, Effects, Notice, Order},
    fault::Act,
    function::{Function, eq::Event},
    health::Report,
    input::ResetKind,
    time::Time,
};

/// Interrupts of one function that can be late at one time; more are not late.
pub const MAX_LATE: usize = 256;
/// What a stray write leaves behind.
const STRAY: [u8; 64] = [0xdb; 64];

impl Card {
    /// Lets the firmware do something of its own on behalf of the function whose command `inbox` is.
    pub(super) fn act(
        &mut self,
        id: FunctionId,
        act: Act,
        inbox: &[u8],
        now: Time,
        fx: &mut Effects,
    ) {
        match act {
            Act::Raise {
                event_type,
                count,
                random,
            } => {
                for _ in 0..count {
                    let mut event = Event {
                        event_type,
                        sub_type: 0,
                        data: [0; eqe::DATA_BYTES],
                    };
                    if random {
                        [event.sub_type] = self.shared.faults.random();
                        event.data = self.shared.faults.random();
                    }
                    self.with(id, |f| {
                        f.raise(event);
                        f.deliver(fx);
                    });
                }
            }
            Act::PageDemand(count) => self.with(id, |f| {
                f.demand_pages(count);
                f.deliver(fx);
            }),
            Act::Cable(up) => self.link(id, up, fx),
            Act::Health { syndrome, fatal } => {
                let report = Report {
                    syndrome,
                    fatal,
                    ..Report::FAILED
                };
                self.report_health(report, now, fx);
            }
            Act::Hang => self.shared.health.hang(true, now),
            Act::FrozenCounter => self.shared.health.freeze(now),
            Act::Starting(ms) => {
                self.shared.health.ready = now.after(Duration::from_millis(u64::from(ms)));
            }
            Act::StrayWrite(at) => {
                let from = usize::from(at);
                if let Some(bytes) = inbox.get(from..).and_then(|b| b.first_chunk()) {
                    let addr = u64::from_be_bytes(*bytes);
                    fx.write(id, addr, &STRAY, Order::Relaxed);
                }
            }
            Act::Removal => {
                fx.push(Effect::Notice {
                    function: id,
                    notice: Notice::Removal,
                });
                self.reset(id, ResetKind::Bus, fx);
            }
            Act::Crash => fx.push(Effect::Notice {
                function: id,
                notice: Notice::Crash,
            }),
            // The one panic that is meant: whoever runs the model has to contain it.
            #[allow(clippy::panic)]
            Act::Panic => panic!("a fault lets the firmware model fail"),
        }
    }

    fn with(&mut self, id: FunctionId, act: impl FnOnce(&mut Function)) {
        if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
            act(f);
        }
    }
}

impl Function {
    /// Raises an interrupt so many milliseconds later.
    pub(super) fn interrupt_late(&mut self, vector: u16, ms: u32, now: Time, fx: &mut Effects) {
        if self.late.len() < MAX_LATE {
            let due = now.after(Duration::from_millis(u64::from(ms)));
            self.late.push((due, vector));
        } else {
            fx.push(Effect::Interrupt {
                function: self.id,
                vector,
            });
        }
    }

    /// Raises the interrupts that are due.
    pub(super) fn late_interrupts(&mut self, now: Time, fx: &mut Effects) {
        let function = self.id;
        self.late.retain(|(due, vector)| {
            let vector = *vector;
            if *due <= now {
                fx.push(Effect::Interrupt { function, vector });
            }
            *due > now
        });
    }
}
