// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card does to the world: ordered effects, with their bytes in one arena.

use core::ops::Range;

use crate::{
    card::FunctionId,
    firmware::fs4::Bad,
    function::eq::Event,
    store::{Batch, Token},
    time::Time,
};

/// How a write must appear to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Order {
    /// In any order with other relaxed writes.
    Relaxed,
    /// After every earlier write of the function is visible (a release fence, then the write).
    /// Ownership bytes are written so.
    Publish,
}

impl Order {
    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Publish => "publish",
        }
    }
}

/// How a command on a command channel was delivered; apart from the firmware's status, which is
/// in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Delivery {
    /// The firmware executed the command or refused it with a status in the outbox.
    Executed,
    /// The inbox is shorter than its 16-byte header, or the room for the outbox is.
    TooShort,
    /// The inbox or the outbox is longer than the channel's limit.
    TooLong,
    /// The opcode is not allowed at the request's scope.
    ScopeDenied,
    /// The user context does not exist.
    BadUid,
    /// As many commands as the function takes are in flight.
    Busy,
    /// The function was reset before the command ended.
    Reset,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Executed,
        Self::TooShort,
        Self::TooLong,
        Self::ScopeDenied,
        Self::BadUid,
        Self::Busy,
        Self::Reset,
    ];

    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::TooShort => "too-short",
            Self::TooLong => "too-long",
            Self::ScopeDenied => "scope-denied",
            Self::BadUid => "bad-uid",
            Self::Busy => "busy",
            Self::Reset => "reset",
        }
    }
}

/// A range of bytes in the arena of the [`Effects`] that an effect came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    start: u32,
    end: u32,
}

impl Bytes {
    /// Length in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One thing to carry out. Effects are carried out in their order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write bytes to guest memory. An address that is not mapped (any more) is skipped; the
    /// effects after it are carried out none the less.
    Write {
        /// The function whose guest memory it is.
        function: FunctionId,
        /// Guest-physical (bus) address.
        addr: u64,
        /// What to write.
        data: Bytes,
        /// How it must appear.
        order: Order,
    },
    /// Raise an interrupt.
    Interrupt {
        /// The function.
        function: FunctionId,
        /// Index in its MSI-X table.
        vector: u16,
    },
    /// A command of a command channel ended.
    Reply {
        /// The function.
        function: FunctionId,
        /// The tag of [`Input::Command`](crate::Input::Command).
        tag: u64,
        /// How it was delivered.
        delivery: Delivery,
        /// The outbox: exactly `outbox_len` bytes if executed, else empty.
        outbox: Bytes,
    },
    /// An event for a command channel's event queue.
    Event {
        /// The function.
        function: FunctionId,
        /// Event type as in an EQE (`enum mlx5_event`).
        event_type: u8,
        /// Event sub-type as in an EQE.
        sub_type: u8,
        /// The 28 bytes of event data of an EQE.
        data: Bytes,
    },
    /// Put a batch on stable storage, then answer with
    /// [`Input::Committed`](crate::Input::Committed).
    Commit {
        /// Names the batch in the answer.
        token: Token,
        /// What to store; all of it or nothing.
        batch: Batch,
    },
    /// Something that the operator of the emulator should know; the guest is not told.
    Notice {
        /// The function.
        function: FunctionId,
        /// What it is.
        notice: Notice,
    },
    /// A command ended; only while [`Card::set_observed`](crate::Card::set_observed) is on.
    Observed(Observed),
    /// A command was taken, or rung for, and is not answered; only while [`Effects::set_observed`] is on.
    Unanswered(Unanswered),
    /// An entry was written to an event queue, or lost for want of room; only while
    /// [`Effects::set_observed`] is on.
    Posted(Posted),
}

/// An entry of an event queue as an observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Posted {
    /// The function.
    pub function: FunctionId,
    /// The queue's interrupt vector.
    pub vector: u16,
    /// The queue was full: the event is lost.
    pub lost: bool,
    /// The event.
    pub event: Event,
}

/// What the model has noticed about its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Notice {
    /// So many pages came back from the firmware with another content than it had left in them:
    /// the driver, or somebody else, wrote to memory that it had given away.
    PagesDamaged(u64),
    /// The flash has no image that the firmware could start from; it goes on with what it was.
    NoImage(Bad),
    /// A breakpoint has stopped a command: the breakpoint's number, and the opcode.
    Stopped(u32, u16),
    /// A fault has pulled the function out of its slot.
    Removal,
    /// A fault ends the emulator.
    Crash,
}

impl core::fmt::Display for Notice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::PagesDamaged(n) => write!(
                f,
                "{n} pages that the firmware held were written to before it gave them back: \
                 the driver has used or freed them too early"
            ),
            Self::NoImage(bad) => write!(
                f,
                "the flash holds no image to start from ({bad}): the firmware goes on with the \
                 version that it had"
            ),
            Self::Stopped(number, opcode) => write!(
                f,
                "{} is stopped as number {number}; `ctl stopped` shows it",
                fwctl_proto::opcode::name(*opcode).unwrap_or("a command")
            ),
            Self::Removal => write!(f, "a fault has pulled it out of its slot"),
            Self::Crash => write!(f, "a fault ends the emulator as a crash would"),
        }
    }
}

/// One command as an observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The function.
    pub function: FunctionId,
    /// Slot in the command queue, or `None` on a command channel.
    pub slot: Option<u8>,
    /// When the firmware took the command.
    pub submitted: Time,
    /// When it answered.
    pub completed: Time,
    /// `delivery status` of the command entry (0 = delivered), or 0 on a channel.
    pub delivery: u8,
    /// The inbox as executed.
    pub inbox: Bytes,
    /// The outbox as answered.
    pub outbox: Bytes,
}

/// Why a command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Why {
    /// A fault has kept it from being executed.
    Silent,
    /// A fault has lost its answer.
    Lost,
    /// A breakpoint holds its answer.
    Stopped,
    /// Its answer is held back for a time.
    Delayed,
    /// Its answer waits for the drivers' agreement on a reset.
    Agreement,
    /// The firmware hangs, starts or has failed.
    NotRunning,
    /// A reset came before its answer.
    Reset,
    /// The model failed.
    Panic,
    /// The emulator ended before its answer.
    Crash,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Silent,
        Self::Lost,
        Self::Stopped,
        Self::Delayed,
        Self::Agreement,
        Self::NotRunning,
        Self::Reset,
        Self::Panic,
        Self::Crash,
    ];

    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::Stopped => "stopped",
            Self::Delayed => "delayed",
            Self::Agreement => "agreement",
            Self::NotRunning => "not-running",
            Self::Reset => "reset",
            Self::Panic => "panic",
            Self::Crash => "crash",
        }
    }

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Silent => "by a fault, and not executed",
            Self::Lost => "by a fault, and executed",
            Self::Stopped => "a breakpoint holds its answer",
            Self::Delayed => "its answer is held back for a time",
            Self::Agreement => "its answer waits for the drivers' agreement on a reset",
            Self::NotRunning => "the firmware does not run and has not executed it",
            Self::Reset => "a reset came before its answer",
            Self::Panic => "the firmware model failed",
            Self::Crash => "the emulator ended before its answer",
        }
    }

    /// True if the answer may still come.
    #[must_use]
    pub fn is_held(self) -> bool {
        matches!(self, Self::Stopped | Self::Delayed | Self::Agreement)
    }
}

/// A command without an answer as an observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    /// The function.
    pub function: FunctionId,
    /// Slot in the command queue, if it came that way.
    pub slot: Option<u8>,
    /// The tag of [`Input::Command`](crate::Input::Command), if it came that way.
    pub tag: Option<u64>,
    /// When it came.
    pub submitted: Time,
    /// Why.
    pub why: Why,
    /// The inbox.
    pub inbox: Bytes,
}

/// Effects in their order, and the bytes that they refer to. Reuse one: after the first few
/// commands it allocates no more.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    arena: Vec<u8>,
    observed: bool,
}

impl Effects {
    /// None, with no memory behind it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The effects in the order in which to carry them out.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Effect> + Clone {
        self.list.iter()
    }

    /// The bytes of `b`, which came from an effect in this list; empty for a foreign one.
    #[must_use]
    pub fn bytes(&self, b: Bytes) -> &[u8] {
        self.arena.get(b.range()).unwrap_or_default()
    }

    /// Whether events and commands without an answer are to be shown as well.
    pub fn set_observed(&mut self, on: bool) {
        self.observed = on;
    }

    /// Whether what no guest sees is to be shown.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        !cfg!(fwctl_emu_untraced) && self.observed
    }

    /// Shows an event, if that is wanted.
    pub(crate) fn posted(&mut self, p: Posted) {
        if self.is_observed() {
            self.push(Effect::Posted(p));
        }
    }

    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of effects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets all effects and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.arena.clear();
    }

    /// Forgets all effects but the first `len`. The bytes of the others stay until [`Effects::clear`].
    pub fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    /// Adds an effect at the end.
    pub fn push(&mut self, e: Effect) {
        self.list.push(e);
    }

    /// Copies `data` into the arena.
    pub fn store(&mut self, data: &[u8]) -> Bytes {
        let start = self.arena.len();
        self.arena.extend_from_slice(data);
        Self::span(start, self.arena.len())
    }

    /// `len` zero bytes in the arena, to be filled through [`Effects::bytes_mut`].
    pub fn zeroed(&mut self, len: usize) -> Bytes {
        let start = self.arena.len();
        self.arena.resize(start + len, 0);
        Self::span(start, self.arena.len())
    }

    /// The bytes of `b`, writable.
    pub fn bytes_mut(&mut self, b: Bytes) -> &mut [u8] {
        self.arena.get_mut(b.range()).unwrap_or_default()
    }

    /// The part of `b` from `from` to `to` (byte offsets in it), cut to what is there.
    #[must_use]
    pub fn part(b: Bytes, from: usize, to: usize) -> Bytes {
        let from = from.min(b.len());
        let to = to.clamp(from, b.len());
        Self::span(b.start as usize + from, b.start as usize + to)
    }

    /// Adds a guest memory write of `data`.
    pub fn write(&mut self, function: FunctionId, addr: u64, data: &[u8], order: Order) {
        let data = self.store(data);
        self.push(Effect::Write {
            function,
            addr,
            data,
            order,
        });
    }

    fn span(start: usize, end: usize) -> Bytes {
        // An arena is bounded by the limits on commands (limits.rs) to far less than 4 GiB.
        Bytes {
            start: start as u32,
            end: end as u32,
        }
    }
}
