// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Records: everything that happened to a card, with every byte that it read from guest memory, and
//! what it made of it. A record runs again without a guest (`replay`) and shrinks (`minimize`).
//!
//! This module has the data and their bytes; who keeps them in a file is somebody else's business.

pub mod flight;
pub mod minimize;
pub mod replay;
mod write;

pub use write::{Happening, Noted, Notes};

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Card, Delivery, Effect, Effects, EventPath, FunctionId, GuestMemory, Input, Order, Time,
    Token, fault::Fault,
};

/// The first bytes of a record.
pub const MAGIC: &[u8; 8] = b"fwctlrec";
/// The version that is written, and the only one that is read. It also changes with [`Input`], with
/// [`Happened`] and with the format of saved cards.
pub const VERSION: u32 = 3;
/// Bytes of one frame; more are a damaged file. The largest doorbell brings 32 commands of 2 MiB.
pub const MAX_FRAME: usize = 256 << 20;
/// Bytes before a frame, little-endian dwords: its length, the same with every bit inverted, and its CRC-32.
/// The second tells a length that was changed from a file that ends too early.
pub const FRAME_HEAD: usize = 12;

/// What a record begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the program that made it.
    pub program: String,
    /// The profile: a built-in name, or the file.
    pub profile: String,
    /// The overlay's file.
    pub overlay: Option<String>,
    /// The card as it was ([`Card::save`](crate::Card::save)).
    pub card: Vec<u8>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step<'a> {
    /// A function was added.
    Add(EventPath),
    /// A deadline had come.
    Poll,
    /// An input.
    #[serde(borrow)]
    Input(Input<'a>),
    /// [`Input::Fault`].
    Fault(Box<Fault>),
    /// The card became a saved one ([`Card::replace`]).
    Load(Vec<u8>),
}

impl<'a> Step<'a> {
    /// That of an input.
    #[must_use]
    pub fn of(input: Input<'a>) -> Self {
        match input {
            Input::Fault(f) => Self::Fault(Box::new(f.clone())),
            other => Self::Input(other),
        }
    }

    /// Lets it happen to `card` and appends what follows to `fx`.
    pub fn happen(&self, card: &mut Card, at: Time, mem: &dyn GuestMemory, fx: &mut Effects) {
        match self {
            Self::Add(events) => {
                card.add_function(*events);
            }
            Self::Poll => card.poll(at, fx),
            Self::Input(input) => card.submit(*input, at, mem, fx),
            // One that is no card's changes nothing.
            Self::Load(saved) => drop(card.replace(saved, at, fx)),
            Self::Fault(fault) => card.submit(Input::Fault(fault), at, mem, fx),
        }
    }
}

/// A read from guest memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// From where.
    pub addr: u64,
    /// How many bytes.
    pub len: u32,
    /// What was there; none if it was not mapped.
    pub data: Option<Vec<u8>>,
}

/// An effect with its bytes. What only observers see is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // as in `Effect`
pub enum Happened {
    Write {
        function: FunctionId,
        addr: u64,
        data: Vec<u8>,
        order: Order,
    },
    Interrupt {
        function: FunctionId,
        vector: u16,
    },
    Reply {
        function: FunctionId,
        tag: u64,
        delivery: Delivery,
        outbox: Vec<u8>,
    },
    Event {
        function: FunctionId,
        event_type: u8,
        sub_type: u8,
        data: Vec<u8>,
    },
    Commit {
        token: Token,
        batch: Batch,
    },
    Notice {
        function: FunctionId,
        text: String,
    },
}

impl Happened {
    /// What is to be recorded of `fx` from its effect number `from` on, in its order.
    pub fn since(fx: &Effects, from: usize) -> Vec<Self> {
        let bytes = |b| fx.bytes(b).to_vec();
        let of = |e: &Effect| match e {
            Effect::Write {
                function,
                addr,
                data,
                order,
            } => Some(Self::Write {
                function: *function,
                addr: *addr,
                data: bytes(*data),
                order: *order,
            }),
            Effect::Interrupt { function, vector } => Some(Self::Interrupt {
                function: *function,
                vector: *vector,
            }),
            Effect::Reply {
                function,
                tag,
                delivery,
                outbox,
            } => Some(Self::Reply {
                function: *function,
                tag: *tag,
                delivery: *delivery,
                outbox: bytes(*outbox),
            }),
            Effect::Event {
                function,
                event_type,
                sub_type,
                data,
            } => Some(Self::Event {
                function: *function,
                event_type: *event_type,
                sub_type: *sub_type,
                data: bytes(*data),
            }),
            Effect::Commit { token, batch } => Some(Self::Commit {
                token: *token,
                batch: batch.clone(),
            }),
            Effect::Notice { function, notice } => Some(Self::Notice {
                function: *function,
                text: notice.to_string(),
            }),
            Effect::Observed(_) | Effect::Unanswered(_) | Effect::Posted(_) => None,
        };
        fx.iter().skip(from).filter_map(of).collect()
    }
}

/// A step and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame<'a> {
    /// When.
    pub at: Time,
    /// What.
    #[serde(borrow)]
    pub step: Step<'a>,
    /// What was read for it, in order.
    pub reads: Vec<Read>,
    /// What followed.
    pub effects: Vec<Happened>,
    /// The model panicked.
    pub panicked: bool,
}

/// Why bytes are not a record, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// They do not begin as a record does.
    #[error("this is not a record: it does not begin with \"fwctlrec\"")]
    NotARecord,
    /// Written by another version of the program.
    #[error(
        "the record has format {0}, and only format {VERSION} is read: replay it with the fwctl-emu that \
         wrote it"
    )]
    Version(u32),
    /// The file ends within a frame.
    #[error("the record ends within a frame, at byte {0}: what recorded was killed")]
    Cut(u64),
    /// Bytes changed.
    #[error("the record is damaged at byte {0}")]
    Damaged(u64),
    /// A fault that the grammar does not let be.
    #[error("the record holds a fault that cannot be, at byte {0}: {1}")]
    Fault(u64, String),
}

/// A record's beginning as bytes.
///
/// # Errors
/// What the encoder says; there is no head that it cannot write.
pub fn head(head: &Head) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = Vec::from(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(framed(head)?);
    Ok(bytes)
}

/// A frame, or anything else, behind its length and checksum.
///
/// # Errors
/// What the encoder says; there is no frame that it cannot write.
pub fn framed<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    Ok(sealed(&postcard::to_allocvec(value)?))
}

/// Bytes of a frame behind their length and checksum.
#[must_use]
pub fn sealed(body: &[u8]) -> Vec<u8> {
    [&frame_head(body)[..], body].concat()
}

/// What lies before a frame.
#[must_use]
pub fn frame_head(body: &[u8]) -> [u8; FRAME_HEAD] {
    let len = body.len() as u32;
    let mut head = [0; FRAME_HEAD];
    for (place, word) in head
        .chunks_exact_mut(4)
        .zip([len, !len, crc32fast::hash(body)])
    {
        place.copy_from_slice(&word.to_le_bytes());
    }
    head
}

/// A record's frames, as bytes that are whole.
#[derive(Debug)]
pub struct Record<'a> {
    /// What it begins with.
    pub head: Head,
    rest: &'a [u8],
    at: u64,
}

impl<'a> Record<'a> {
    /// Reads the beginning of `bytes`.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn open(bytes: &'a [u8]) -> Result<Self, Broken> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(Broken::NotARecord)?;
        let cut = Broken::Cut(bytes.len() as u64);
        let (version, rest) = rest.split_first_chunk().ok_or(cut)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(Broken::Version(version));
        }
        let mut record = Self {
            head: Head {
                program: String::new(),
                profile: String::new(),
                overlay: None,
                card: Vec::new(),
            },
            rest,
            at: (MAGIC.len() + 4) as u64,
        };
        let at = record.at;
        let body = record.body().ok_or(Broken::Cut(at))??;
        record.head = postcard::from_bytes(body).map_err(|_| Broken::Damaged(at))?;
        Ok(record)
    }

    /// The next frame's bytes.
    fn body(&mut self) -> Option<Result<&'a [u8], Broken>> {
        let at = self.at;
        if self.rest.is_empty() {
            return None;
        }
        let word = |i: usize| {
            let b = self.rest.get(i..i + 4).and_then(|b| b.try_into().ok());
            b.map(u32::from_le_bytes)
        };
        let (Some(len), Some(inverted), Some(sum)) = (word(0), word(4), word(8)) else {
            self.rest = &[];
            return Some(Err(Broken::Cut(at)));
        };
        let is_changed = inverted != !len;
        let len = len as usize;
        if is_changed || len > MAX_FRAME {
            self.rest = &[];
            return Some(Err(Broken::Damaged(at)));
        }
        let Some(body) = self.rest.get(FRAME_HEAD..FRAME_HEAD + len) else {
            self.rest = &[];
            return Some(Err(Broken::Cut(at)));
        };
        self.rest = &self.rest[FRAME_HEAD + len..];
        self.at += (FRAME_HEAD + len) as u64;
        if crc32fast::hash(body) != sum {
            self.rest = &[];
            return Some(Err(Broken::Damaged(at)));
        }
        Some(Ok(body))
    }
}

impl<'a> Iterator for Record<'a> {
    type Item = Result<Frame<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let body = match self.body()? {
            Ok(body) => body,
            Err(e) => return Some(Err(e)),
        };
        let frame = postcard::from_bytes(body).map_err(|_| Broken::Damaged(at));
        let frame = frame.and_then(|frame: Frame<'_>| match &frame.step {
            Step::Fault(f) => f.check().map_err(|e| Broken::Fault(at, e)).map(|()| frame),
            _ => Ok(frame),
        });
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}
