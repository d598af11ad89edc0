// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Traces: what a card was told and what it did, in a file (docs/trace.md).

pub mod cli;
mod diff;
pub mod dump;
mod dumped;
mod fields;
mod filter;
mod inputs;
mod lua;
mod packed;
mod pcapng;
mod perfetto;
mod reader;
mod show;
mod summary;
mod tracer;
mod writer;

pub use dumped::Decode;
pub use filter::{Filter, parse_register};
pub use inputs::{event_text, words};
pub use reader::{Broken, Reader};
pub use tracer::Tracer;
pub use writer::Recorder;

use std::borrow::Cow;

use fw_model::{Delivery, ResetKind, Scope, Why, limits::MAX_MESSAGE};
use serde::{Deserialize, Serialize};

/// What a file begins with.
const MAGIC: &[u8; 8] = b"fwctltrc";
/// Version of the format.
pub const VERSION: u32 = 5;
/// Bytes of entries that wait to be written, at most.
pub const QUEUE: usize = 4 << 20;
/// Bytes before an entry, little-endian dwords: its length, and the same with every bit inverted, which tells a
/// length that was changed from a file that ends too early.
pub const ENTRY_HEAD: usize = 8;

/// What lies before an entry of so many bytes.
#[must_use]
pub fn entry_head(len: usize) -> [u8; ENTRY_HEAD] {
    (u64::from(!(len as u32)) << 32 | u64::from(len as u32)).to_le_bytes()
}

/// Bytes of an entry, at most: of a command with both messages as long as they may be, and what else there is of it.
pub const MAX_ENTRY: usize = 2 * MAX_MESSAGE + 4096;
// So that an empty queue takes any entry, behind one that says what is missing.
const _: () = assert!(ENTRY_HEAD + MAX_ENTRY + 64 <= QUEUE);

/// Bytes as one piece, owned when they were read.
mod bytes {
    use std::borrow::Cow;

    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(bytes, to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'static, [u8]>, D::Error> {
        serde_bytes::deserialize::<Vec<u8>, D>(from).map(Cow::Owned)
    }
}

/// One thing that happened. Times are the card's, in nanoseconds. Bytes are borrowed from where they
/// lie while it is written, and owned when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry<'a> {
    /// What is traced; the first entry.
    Head {
        /// Name or file of the profile.
        profile: String,
        /// Version of the program.
        program: String,
    },
    /// A command that has its answer. The writer packs it by itself.
    #[serde(skip_serializing, deserialize_with = "packed::deserialize")]
    Command(Command<'a>),
    /// An entry of an event queue, or an event on a command channel.
    Event {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// `enum mlx5_event`.
        event_type: u8,
        /// Its sub-type.
        sub_type: u8,
        /// Its data.
        #[serde(with = "bytes")]
        data: Cow<'a, [u8]>,
        /// The queue was full: the driver does not see it.
        lost: bool,
    },
    /// An interrupt was raised.
    Interrupt {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// MSI-X vector.
        vector: u16,
    },
    /// A write to the initialization segment.
    Segment {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// Byte offset.
        offset: u32,
        /// The bytes.
        #[serde(with = "bytes")]
        data: Cow<'a, [u8]>,
    },
    /// A write to a UAR page.
    Doorbell {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// The page.
        page: u32,
        /// Byte offset in it.
        offset: u32,
        /// The bytes.
        #[serde(with = "bytes")]
        data: Cow<'a, [u8]>,
    },
    /// A write behind the PCI gateway.
    Gateway {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// Number of the space.
        space: u16,
        /// Byte address in it.
        address: u32,
        /// The dword.
        value: u32,
        /// What the place held when the write was done; none if nothing lies there.
        then: Option<u32>,
    },
    /// A command of a command channel that the firmware did not execute.
    Refused {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// Scope of the request; none is the driver's own.
        scope: Option<Scope>,
        /// Why.
        delivery: Delivery,
        /// The first bytes of its inbox, as many as there were.
        #[serde(with = "bytes")]
        header: Cow<'a, [u8]>,
    },
    /// A function lost its state.
    Reset {
        /// When.
        at: u64,
        /// The function.
        function: u8,
        /// Who asked for it; none if the firmware did it by itself, or a command or the operator led to it.
        kind: Option<ResetKind>,
        /// How often it has begun anew.
        generation: u64,
    },
    /// Something that the operator did, or that the model has noticed.
    Note {
        /// When.
        at: u64,
        /// The function, if it concerns one.
        function: Option<u8>,
        /// What.
        text: String,
    },
    /// Here entries are missing: they came faster than they could be written.
    Lost {
        /// How many.
        count: u64,
    },
    /// A command that has no answer, or has none yet.
    Unanswered(Unanswered<'a>),
}

/// A command without an answer. If it gets one after all, a [`Command`] with the same `submitted` follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered<'a> {
    /// The function.
    pub function: u8,
    /// How it came.
    pub via: Via,
    /// When it came.
    pub submitted: u64,
    /// When this was known.
    pub at: u64,
    /// Why.
    pub why: Why,
    /// The inbox.
    #[serde(with = "bytes")]
    pub inbox: Cow<'a, [u8]>,
}

impl Unanswered<'_> {
    /// As a command, with no outbox.
    #[must_use]
    pub fn command(&self) -> Command<'_> {
        Command {
            function: self.function,
            via: self.via,
            submitted: self.submitted,
            completed: self.at,
            own: 0,
            delivery: 0,
            inbox: Cow::Borrowed(&self.inbox),
            outbox: Cow::Borrowed(&[]),
        }
    }
}

/// A command and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The function.
    pub function: u8,
    /// How it came.
    pub via: Via,
    /// When the firmware took it.
    pub submitted: u64,
    /// When it answered.
    pub completed: u64,
    /// What this process spent on it.
    pub own: u64,
    /// `delivery status` of the command entry.
    pub delivery: u8,
    /// The inbox.
    pub inbox: Cow<'a, [u8]>,
    /// The outbox.
    pub outbox: Cow<'a, [u8]>,
}

/// How a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// In this slot of the command queue.
    Slot(u8),
    /// On a command channel: the scope of the request; none is the driver's own.
    Channel(Option<Scope>),
    /// Through the PCI gateway.
    Gateway,
}

impl Via {
    /// Slot in the command queue, if it came that way.
    #[must_use]
    pub fn slot(self) -> Option<u8> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Channel(_) | Self::Gateway => None,
        }
    }

    /// What it was allowed to do, where that is known.
    #[must_use]
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Channel(scope) => scope,
            Self::Slot(_) | Self::Gateway => None,
        }
    }

    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Slot(_) => "slot",
            Self::Channel(_) => "channel",
            Self::Gateway => "gateway",
        }
    }
}

impl Command<'_> {
    /// A big-endian word of the inbox, 0 where it ends.
    fn word(bytes: &[u8], at: usize) -> u16 {
        let byte = |i: usize| bytes.get(i).copied().unwrap_or(0);
        u16::from_be_bytes([byte(at), byte(at + 1)])
    }

    /// Its opcode.
    #[must_use]
    pub fn opcode(&self) -> u16 {
        Self::word(&self.inbox, 0)
    }

    /// Who sent it.
    #[must_use]
    pub fn uid(&self) -> u16 {
        Self::word(&self.inbox, 2)
    }

    /// The firmware's status; `None` if it was not delivered.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        (self.delivery == 0).then(|| self.outbox.first().copied().unwrap_or(0))
    }

    /// From taken to answered.
    #[must_use]
    pub fn took(&self) -> u64 {
        self.completed.saturating_sub(self.submitted)
    }
}

impl Entry<'_> {
    /// When it happened, if it is a thing that happens.
    #[must_use]
    pub fn at(&self) -> Option<u64> {
        match self {
            Self::Command(c) => Some(c.completed),
            Self::Unanswered(u) => Some(u.at),
            Self::Event { at, .. }
            | Self::Interrupt { at, .. }
            | Self::Segment { at, .. }
            | Self::Doorbell { at, .. }
            | Self::Gateway { at, .. }
            | Self::Refused { at, .. }
            | Self::Reset { at, .. }
            | Self::Note { at, .. } => Some(*at),
            Self::Head { .. } | Self::Lost { .. } => None,
        }
    }

    /// The function that it concerns.
    #[must_use]
    pub fn function(&self) -> Option<u8> {
        match self {
            Self::Command(c) => Some(c.function),
            Self::Unanswered(u) => Some(u.function),
            Self::Event { function, .. }
            | Self::Interrupt { function, .. }
            | Self::Segment { function, .. }
            | Self::Doorbell { function, .. }
            | Self::Gateway { function, .. }
            | Self::Refused { function, .. }
            | Self::Reset { function, .. } => Some(*function),
            Self::Note { function, .. } => *function,
            Self::Head { .. } | Self::Lost { .. } => None,
        }
    }
}
