// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Running a record again.

use core::cell::{Cell, RefCell};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fwctl_proto::cmdif::ENTRY_BYTES;

use super::{Frame, Happened, Head, Noted, Notes, Read, Step};
use crate::{
    Card, Effect, Effects, GuestMemory, Input, Profile, Unmapped,
    mailbox::{Taken, take},
    save::LoadError,
};

/// A command that ended in a frame: both messages.
pub type Command = (Vec<u8>, Vec<u8>);

/// What a frame did this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What followed.
    pub effects: Vec<Happened>,
    /// It panicked.
    pub panicked: bool,
    /// The first read that was not the recorded one: what was asked for (address, bytes).
    pub strange_read: Option<(u64, u32)>,
    /// Recorded reads that nobody asked for.
    pub unread: usize,
    /// Commands that were answered.
    pub commands: Vec<Command>,
    /// If it panicked, the inboxes of the commands that it had read; the last one is what it panicked in.
    pub taken: Vec<Vec<u8>>,
}

/// Where a frame did not do what is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It read guest memory at another place, or more of it: place, bytes.
    Read(u64, u32),
    /// It read less of guest memory: so many recorded reads were left.
    Unread(usize),
    /// It panicked and had not, or the other way round.
    Panic {
        /// In the record.
        recorded: bool,
    },
    /// The effect of this number is another: the recorded one, and the one of now.
    Effect {
        /// From 0.
        number: usize,
        /// Recorded.
        recorded: Option<Box<Happened>>,
        /// Now.
        now: Option<Box<Happened>>,
    },
}

impl Done {
    /// The first difference to what is recorded.
    #[must_use]
    pub fn difference(&self, recorded: &Frame<'_>) -> Option<Difference> {
        if self.panicked != recorded.panicked {
            return Some(Difference::Panic {
                recorded: recorded.panicked,
            });
        }
        if let Some((addr, len)) = self.strange_read {
            return Some(Difference::Read(addr, len));
        }
        let (a, b) = (&recorded.effects, &self.effects);
        if let Some(number) = (0..a.len().max(b.len())).find(|n| a.get(*n) != b.get(*n)) {
            let boxed = |side: &[Happened]| side.get(number).cloned().map(Box::new);
            return Some(Difference::Effect {
                number,
                recorded: boxed(a),
                now: boxed(b),
            });
        }
        (self.unread > 0).then_some(Difference::Unread(self.unread))
    }
}

/// How reads are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// One after the other, as they are recorded.
    InOrder,
    /// By place: the last recorded read of the same place and length.
    ByPlace,
}

/// Guest memory that has what a frame's reads found.
pub(super) struct Recorded<'a> {
    reads: &'a [Read],
    how: Reads,
    next: Cell<usize>,
    strange: RefCell<Option<(u64, u32)>>,
}

impl<'a> Recorded<'a> {
    pub fn of(frame: &'a Frame<'_>, how: Reads) -> Self {
        Self {
            reads: &frame.reads,
            how,
            next: Cell::new(0),
            strange: RefCell::new(None),
        }
    }
}

impl GuestMemory for Recorded<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let len = buf.len() as u32;
        let same = |r: &&Read| (r.addr, r.len) == (addr, len);
        let found = match self.how {
            Reads::InOrder => self.reads.get(self.next.get()).filter(same),
            Reads::ByPlace => self.reads.iter().rev().find(same),
        };
        let Some(found) = found else {
            self.strange.borrow_mut().get_or_insert((addr, len));
            return Err(Unmapped);
        };
        self.next.set(self.next.get() + 1);
        let data = found.data.as_ref().ok_or(Unmapped)?;
        if data.len() == buf.len() {
            buf.copy_from_slice(data);
        }
        Ok(())
    }
}

/// A card that is told what is recorded.
#[derive(Debug)]
pub struct Replay {
    card: Card,
    fx: Effects,
}

impl Replay {
    /// The card as a record begins.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn new(profile: Arc<Profile>, head: &Head) -> Result<Self, LoadError> {
        let mut card = Card::load(profile, &head.card)?;
        card.set_observed(true);
        Ok(Self {
            card,
            fx: Effects::new(),
        })
    }

    /// Lets a frame happen.
    pub fn step(&mut self, frame: &Frame<'_>, how: Reads) -> Done {
        let mem = Recorded::of(frame, how);
        let mut done = self.happen(frame, &mem);
        done.unread = frame.reads.len().saturating_sub(mem.next.get());
        done.strange_read = mem.strange.take();
        done
    }

    /// Lets a frame happen, and makes it what happened: with what it reads now, found by place.
    pub fn record(&mut self, frame: &mut Frame<'_>) {
        let mem = Recorded::of(frame, Reads::ByPlace);
        let mut notes = Notes::default();
        let done = self.happen(frame, &Noted::new(&mem, &mut notes));
        frame.reads = notes.reads();
        frame.effects = done.effects;
        frame.panicked = done.panicked;
    }

    fn happen(&mut self, frame: &Frame<'_>, mem: &dyn GuestMemory) -> Done {
        let (card, fx, at) = (&mut self.card, &mut self.fx, frame.at);
        fx.clear();
        let run = || frame.step.happen(card, at, mem, fx);
        let panicked = catch_unwind(AssertUnwindSafe(run)).is_err();
        if panicked {
            self.fx.clear();
        }
        let taken = if panicked { taken(frame) } else { Vec::new() };
        let commands = self.fx.iter().filter_map(|e| match e {
            Effect::Observed(o) => {
                let bytes = |b| self.fx.bytes(b).to_vec();
                Some((bytes(o.inbox), bytes(o.outbox)))
            }
            _ => None,
        });
        Done {
            commands: commands.collect(),
            taken,
            effects: Happened::since(&self.fx, 0),
            panicked,
            strange_read: None,
            unread: 0,
        }
    }
}

/// The inboxes of a frame: what came over a channel, or lies in the entries that it read.
fn taken(frame: &Frame<'_>) -> Vec<Vec<u8>> {
    if let Step::Input(Input::Command { inbox, .. }) = &frame.step {
        return vec![inbox.to_vec()];
    }
    let mem = Recorded::of(frame, Reads::ByPlace);
    let entries = frame.reads.iter().filter(|r| r.len as usize == ENTRY_BYTES);
    let inbox = |r: &Read| {
        let mut t = Taken::default();
        take(&mem, r.addr, false, &mut t).ok().map(|()| t.inbox)
    };
    entries.filter_map(inbox).collect()
}
