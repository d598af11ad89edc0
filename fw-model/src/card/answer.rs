// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Answers: at once or later, in a slot or on a channel, with what follows them.

use fwctl_proto::{eqe, event};

use super::Card;
use crate::{
    FunctionId,
    effect::{Bytes, Delivery, Effect, Effects, Observed, Why},
    exec,
    fault::Twist,
    function::{
        Function,
        eq::{Event, Telling},
        pending::{Origin, Pending, Wait},
    },
    mailbox::{Answer, Taken},
    store::{Batch, Token},
    syndrome::Syndrome,
    time::Time,
};

impl Card {
    /// Asks for a batch to be stored; `None` if there is nothing in it.
    pub(crate) fn commit(&mut self, batch: Batch, fx: &mut Effects) -> Option<Token> {
        if batch.puts.is_empty() {
            return None;
        }
        // One that was read may be any.
        self.shared.last_token = self.shared.last_token.wrapping_add(1);
        let token = Token(self.shared.last_token);
        self.shared.nv.waits_for(token);
        self.shared.firmware.waits_for(token);
        fx.push(Effect::Commit { token, batch });
        Some(token)
    }

    /// Keeps an answer, and shows why if that is wanted.
    pub(crate) fn hold(&mut self, id: FunctionId, p: Pending, why: Option<Why>, fx: &mut Effects) {
        if let Some(why) = why {
            p.unanswered(id, why, fx);
        }
        if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
            f.pending.push(p);
        }
    }

    /// Shows, as ended by `why`, the commands that would still be answered: for one who knows that they will not be.
    pub fn show_waiting(&self, why: Why, fx: &mut Effects) {
        for f in &self.functions {
            let left = f.pending.iter().filter(|p| p.wait != Some(Wait::Lost));
            left.for_each(|p| p.unanswered(f.id, why, fx));
        }
    }

    /// Answers what is due, in the order in which it was taken.
    pub(super) fn answer_due(&mut self, index: usize, now: Time, fx: &mut Effects) {
        loop {
            let Some(f) = self.functions.get_mut(index) else {
                return;
            };
            let ready = |p: &Pending| p.is_free() && p.due <= now;
            let Some(at) = f.pending.iter().position(ready) else {
                return;
            };
            let p = f.pending.remove(at);
            let id = f.id;
            let bytes = fx.store(&p.outbox);
            let mut delivery = 0;
            let slot = match &p.origin {
                Origin::Slot {
                    slot,
                    entry,
                    taken,
                    checksum,
                    eq,
                    twist,
                } => {
                    let how = How {
                        slot: *slot,
                        entry: *entry,
                        checksum: *checksum,
                        eq: *eq,
                        twist: *twist,
                        now,
                    };
                    delivery = twist.delivery.unwrap_or(0);
                    answer_slot(f, how, taken, bytes, fx);
                    Some(*slot)
                }
                Origin::Channel { tag } => {
                    fx.push(Effect::Reply {
                        function: id,
                        tag: *tag,
                        delivery: Delivery::Executed,
                        outbox: bytes,
                    });
                    f.deliver(fx);
                    None
                }
                Origin::Gateway => {
                    f.icmd.answer(&p.outbox);
                    f.deliver(fx);
                    None
                }
            };
            self.ended(
                Ended {
                    function: id,
                    slot,
                    submitted: p.submitted,
                    completed: now,
                    delivery,
                    inbox: &p.inbox,
                    outbox: Outbox::stored(&p.outbox, bytes),
                },
                fx,
            );
        }
    }

    pub(super) fn committed(&mut self, token: Token, stored: bool, now: Time, fx: &mut Effects) {
        self.shared.nv.settled(token, stored);
        self.shared.firmware.settled(token, stored);
        for i in 0..self.functions.len() {
            for p in &mut self.functions[i].pending {
                if p.wait == Some(Wait::Stored(token)) {
                    p.wait = None;
                    if !stored {
                        exec::refuse(&mut p.outbox, Syndrome::StoreFailed.into());
                    }
                }
            }
            self.answer_due(i, now, fx);
        }
    }

    /// A command has its answer: says so to whoever listens.
    pub(crate) fn ended(&mut self, e: Ended<'_>, fx: &mut Effects) {
        // Asked first, so that a command that nobody observes keeps nothing for it.
        if !cfg!(fwctl_emu_untraced) && self.observed {
            self.observed(e, fx);
        } else {
            self.counted(&e, fx);
        }
    }

    fn counted(&mut self, e: &Ended<'_>, fx: &mut Effects) {
        let (inbox, outbox) = (e.inbox, e.outbox.bytes);
        let times = (e.submitted, e.completed);
        self.counters
            .count(e.function, e.slot, times, e.delivery, inbox, outbox);
        self.trace_command(e.function, inbox, outbox, fx);
    }

    #[cold]
    #[inline(never)]
    fn observed(&mut self, e: Ended<'_>, fx: &mut Effects) {
        self.counted(&e, fx);
        let inbox = fx.store(e.inbox);
        let Outbox { bytes, stored } = e.outbox;
        let outbox = stored.unwrap_or_else(|| fx.store(bytes));
        fx.push(Effect::Observed(Observed {
            function: e.function,
            slot: e.slot,
            submitted: e.submitted,
            completed: e.completed,
            delivery: e.delivery,
            inbox,
            outbox,
        }));
    }
}

/// A command that has its answer.
#[derive(Clone, Copy)]
pub(crate) struct Ended<'a> {
    /// Who sent it.
    pub function: FunctionId,
    /// Its slot, if it came by one.
    pub slot: Option<u8>,
    /// When it came.
    pub submitted: Time,
    /// When it was answered.
    pub completed: Time,
    /// Its delivery status.
    pub delivery: u8,
    /// What it said.
    pub inbox: &'a [u8],
    /// Its answer.
    pub outbox: Outbox<'a>,
}

/// An outbox as a command has it in the end.
#[derive(Clone, Copy)]
pub(crate) struct Outbox<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The same, if they lie among the effects already.
    pub stored: Option<Bytes>,
}

impl<'a> Outbox<'a> {
    /// One that lies among the effects.
    pub fn stored(bytes: &'a [u8], at: Bytes) -> Self {
        Self {
            bytes,
            stored: Some(at),
        }
    }

    /// One that does not.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            stored: None,
        }
    }
}

/// How a slot is answered.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// The slot.
    pub slot: u8,
    /// Guest address of its entry.
    pub entry: u64,
    /// Signatures are to be computed.
    pub checksum: bool,
    /// The event queue for the completion, if it existed when the command came.
    pub eq: Option<u8>,
    /// What a fault changes.
    pub twist: Twist,
    /// The time.
    pub now: Time,
}

/// Writes a slot's answer and tells the command event queue, if it was there before the command
/// and still is: its own CREATE_EQ and DESTROY_EQ are polled for.
pub(super) fn answer_slot(
    f: &mut Function,
    how: How,
    taken: &Taken,
    outbox: Bytes,
    fx: &mut Effects,
) {
    let twist = how.twist;
    for _ in 0..=u8::from(twist.twice) {
        Answer {
            function: f.id,
            entry: how.entry,
            taken,
            checksum: how.checksum,
        }
        .delivered(outbox, twist, fx);
        if !twist.no_event {
            let slot = twist.other_slot.unwrap_or(how.slot);
            completion_event(f, how.eq, slot, twist.telling, how.now, fx);
        }
    }
    f.deliver(fx);
}

pub(super) fn completion_event(
    f: &mut Function,
    eq: Option<u8>,
    slot: u8,
    telling: Telling,
    now: Time,
    fx: &mut Effects,
) {
    let (Some(before), Some(queue)) = (eq, f.cmd_eq) else {
        return;
    };
    if before != queue {
        return;
    }
    let mut data = [0; eqe::DATA_BYTES];
    let at = eqe::data::CMD_VECTOR;
    data[at..at + 4].copy_from_slice(&(1u32 << slot).to_be_bytes());
    let event = Event {
        event_type: event::CMD,
        sub_type: 0,
        data,
    };
    let function = f.id;
    let Some(q) = f.eqs.get_mut(&queue) else {
        return;
    };
    let vector = q.vector;
    if let Some(vector) = q
        .put(function, &event, telling, fx)
        .filter(|_| !telling.silent)
    {
        match telling.late {
            Some(ms) => f.interrupt_late(vector, ms, now, fx),
            None => fx.push(Effect::Interrupt { function, vector }),
        }
    }
    for _ in 0..telling.more {
        fx.push(Effect::Interrupt { function, vector });
    }
}
