// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Breakpoints: answers that wait until somebody has looked at them, and maybe changed them.

use fwctl_proto::layout::{get_bits, set_bits};

use super::{Card, FunctionId};
use crate::{
    effect::{Effect, Effects, Notice, Why},
    fault::Twist,
    function::pending::{Origin, Pending, Wait},
    time::Time,
};

/// A command that a breakpoint has stopped: executed, and not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Stopped<'a> {
    /// Its number.
    pub number: u32,
    /// The function.
    pub function: FunctionId,
    /// Slot in the command queue, if it came that way.
    pub slot: Option<u8>,
    /// When the command was taken.
    pub since: Time,
    /// The inbox.
    pub inbox: &'a [u8],
    /// The outbox, as it would be answered.
    pub outbox: &'a [u8],
}

/// What happens to an answer.
pub(crate) struct After {
    /// How its slot is answered.
    pub twist: Twist,
    /// Not before this time.
    pub due: Time,
    /// The command itself waits for something.
    waits: bool,
    /// A breakpoint's number.
    pub stopped: Option<u32>,
    /// The command was not executed and is never answered.
    silent: bool,
}

impl After {
    /// Why it is not given at `now`, as an observer is told; what is stored at once is not told of.
    pub fn why(&self, wait: Option<Wait>, now: Time) -> Option<Why> {
        match wait {
            Some(Wait::Lost) if self.silent => Some(Why::Silent),
            Some(Wait::Lost) => Some(Why::Lost),
            Some(Wait::Firmware) => Some(Why::NotRunning),
            _ if self.stopped.is_some() => Some(Why::Stopped),
            Some(Wait::Agreement) => Some(Why::Agreement),
            _ if self.due > now => Some(Why::Delayed),
            Some(Wait::Stored(_)) | None => None,
        }
    }

    /// The command of `inbox`, submitted at `now`, as it is held until it may be answered.
    pub fn pending(
        &self,
        origin: Origin,
        now: Time,
        wait: Option<Wait>,
        inbox: &[u8],
        outbox: &[u8],
    ) -> Pending {
        Pending {
            origin,
            submitted: now,
            due: self.due,
            wait,
            stopped: self.stopped,
            inbox: inbox.to_vec(),
            outbox: outbox.to_vec(),
        }
    }

    /// True if it is not given at `now`.
    pub fn holds(&self, now: Time) -> bool {
        self.waits || self.due > now || self.stopped.is_some()
    }
}

impl Card {
    /// What happens to the answer of the command in `inbox`, which was just executed.
    pub(crate) fn after(
        &mut self,
        id: FunctionId,
        inbox: &[u8],
        wait: Option<Wait>,
        now: Time,
        fx: &mut Effects,
    ) -> After {
        let mut struck = self.struck.take().unwrap_or_default();
        if struck.lost {
            struck.forget_changes();
        }
        for (fault, act) in core::mem::take(&mut struck.acts) {
            let from = fx.len();
            self.act(id, act, inbox, now, fx);
            let mut new = fx.iter().skip(from);
            if new.any(|e| matches!(e, Effect::Write { .. } | Effect::Event { .. })) {
                struck.wrote(fault);
            }
        }
        self.shared.faults.count_changes(&struck);
        let due = self.due(inbox, now).after(struck.delay);
        let stopped = struck.stop.then(|| {
            self.shared.last_stop = self.shared.last_stop.wrapping_add(1);
            let opcode = get_bits(inbox, 0, 16) as u16;
            let number = self.shared.last_stop;
            fx.push(Effect::Notice {
                function: id,
                notice: Notice::Stopped(number, opcode),
            });
            number
        });
        After {
            twist: struck.twist,
            due,
            waits: wait.is_some(),
            stopped,
            silent: struck.silent,
        }
    }

    /// Commands that a breakpoint has stopped, in the order in which that happened.
    #[must_use]
    pub fn stopped(&self) -> Vec<Stopped<'_>> {
        let all = self.functions.iter();
        let all = all.flat_map(|f| f.pending.iter().map(|p| (f.id, p)));
        let mut all: Vec<_> = all
            .filter_map(|(function, p)| {
                let slot = match p.origin {
                    Origin::Slot { slot, .. } => Some(slot),
                    Origin::Channel { .. } | Origin::Gateway => None,
                };
                Some(Stopped {
                    number: p.stopped?,
                    function,
                    slot,
                    since: p.submitted,
                    inbox: &p.inbox,
                    outbox: &p.outbox,
                })
            })
            .collect();
        all.sort_by_key(|s| s.number);
        all
    }

    /// Sets a field of an answer that a breakpoint holds.
    pub(super) fn amend(&mut self, number: u32, offset: u32, width: u32, value: u64) {
        let end = u64::from(offset) + u64::from(width);
        let pending = self.functions.iter_mut().flat_map(|f| &mut f.pending);
        for p in pending.filter(|p| p.stopped == Some(number)) {
            if (1..=64).contains(&width) && end <= p.outbox.len() as u64 * 8 {
                set_bits(&mut p.outbox, offset, width, value);
            }
        }
    }

    /// Answers what a breakpoint holds, or what all do.
    pub(super) fn go_on(&mut self, number: Option<u32>, now: Time, fx: &mut Effects) {
        for i in 0..self.functions.len() {
            for p in &mut self.functions[i].pending {
                if number.is_none() || p.stopped == number {
                    p.stopped = None;
                }
            }
            self.answer_due(i, now, fx);
        }
    }
}
