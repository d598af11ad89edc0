// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Traces: what a card was told and what it did, in a file (docs/trace.md).

pub mod cli;
mod diff;
pub mod dump;
mod filter;
pub mod inputs;
mod perfetto;
mod reader;
mod show;
mod summary;
mod writer;

pub use dump::decode;
pub use filter::{Filter, parse_opcode};
pub use reader::{Broken, Reader};
pub use writer::Recorder;

use serde::{Deserialize, Serialize};

/// What a file begins with.
const MAGIC: &[u8; 8] = b"fwctltrc";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Entries that wait to be written, at most.
pub const QUEUE: usize = 8192;
/// Bytes of an entry, at most.
pub const MAX_ENTRY: usize = 1 << 20;

/// One thing that happened. Times are the card's, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// What is traced; the first entry.
    Head {
        /// Name or file of the profile.
        profile: String,
        /// Version of the program.
        program: String,
    },
    /// A command that has its answer.
    Command(Command),
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
        data: Vec<u8>,
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
        data: Vec<u8>,
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
        data: Vec<u8>,
    },
    /// A reset of a function, or something that the operator did.
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
}

/// A command and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The function.
    pub function: u8,
    /// Slot in the command queue; none on a command channel and through the PCI gateway.
    pub slot: Option<u8>,
    /// When the firmware took it.
    pub submitted: u64,
    /// When it answered.
    pub completed: u64,
    /// What this process spent on it.
    pub own: u64,
    /// `delivery status` of the command entry.
    pub delivery: u8,
    /// The inbox.
    pub inbox: Vec<u8>,
    /// The outbox.
    pub outbox: Vec<u8>,
}

impl Command {
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

impl Entry {
    /// When it happened, if it is a thing that happens.
    #[must_use]
    pub fn at(&self) -> Option<u64> {
        match self {
            Self::Command(c) => Some(c.completed),
            Self::Event { at, .. }
            | Self::Interrupt { at, .. }
            | Self::Segment { at, .. }
            | Self::Doorbell { at, .. }
            | Self::Note { at, .. } => Some(*at),
            Self::Head { .. } | Self::Lost { .. } => None,
        }
    }

    /// The function that it concerns.
    #[must_use]
    pub fn function(&self) -> Option<u8> {
        match self {
            Self::Command(c) => Some(c.function),
            Self::Event { function, .. }
            | Self::Interrupt { function, .. }
            | Self::Segment { function, .. }
            | Self::Doorbell { function, .. } => Some(*function),
            Self::Note { function, .. } => *function,
            Self::Head { .. } | Self::Lost { .. } => None,
        }
    }
}
