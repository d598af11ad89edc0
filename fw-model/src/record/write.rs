// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Frames written while things happen: the bytes of a [`Frame`](super::Frame), made without one, so
//! that no memory is taken for each.

use core::{cell::RefCell, ops::Range};

use postcard::ser_flavors::Flavor;
use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use super::{Read, Step};
use crate::{
    Batch, Delivery, Effect, Effects, FunctionId, GuestMemory, Order, Time, Token, Unmapped,
};

/// What was read from guest memory. Reuse one: after the first few commands it allocates no more.
#[derive(Debug, Default)]
pub struct Notes {
    list: Vec<Note>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Note {
    addr: u64,
    len: u32,
    // In the bytes; none if it was not mapped.
    data: Option<Range<usize>>,
}

impl Notes {
    /// Forgets all and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// What was read, in order.
    #[must_use]
    pub fn reads(&self) -> Vec<Read> {
        let of = |n: &Note| Read {
            addr: n.addr,
            len: n.len,
            data: self.data(n).map(<[u8]>::to_vec),
        };
        self.list.iter().map(of).collect()
    }

    fn data(&self, n: &Note) -> Option<&[u8]> {
        self.bytes.get(n.data.clone()?)
    }
}

/// Guest memory whose reads are noted.
pub struct Noted<'a> {
    mem: &'a dyn GuestMemory,
    notes: RefCell<&'a mut Notes>,
}

impl<'a> Noted<'a> {
    /// Notes what is read from `mem`, behind what is noted already.
    #[must_use]
    pub fn new(mem: &'a dyn GuestMemory, notes: &'a mut Notes) -> Self {
        let notes = RefCell::new(notes);
        Self { mem, notes }
    }
}

impl GuestMemory for Noted<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let done = self.mem.read(addr, buf);
        let mut notes = self.notes.borrow_mut();
        let from = notes.bytes.len();
        if done.is_ok() {
            notes.bytes.extend_from_slice(buf);
        }
        let note = Note {
            addr,
            len: buf.len() as u32,
            data: done.is_ok().then(|| from..from + buf.len()),
        };
        notes.list.push(note);
        done
    }

    fn peek(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        self.mem.peek(addr, buf)
    }
}

/// What happened, to be written as a [`Frame`](super::Frame).
#[derive(Clone, Copy, Debug)]
pub struct Happening<'a> {
    /// When.
    pub at: Time,
    /// What.
    pub step: &'a Step<'a>,
    /// What was read for it.
    pub reads: &'a Notes,
    /// What followed: these, from number `from` on.
    pub effects: &'a Effects,
    /// See there.
    pub from: usize,
    /// The model panicked.
    pub panicked: bool,
}

impl Happening<'_> {
    /// Appends the frame's bytes to `to`.
    ///
    /// # Errors
    /// What the encoder says; there is no frame that it cannot write.
    pub fn write(&self, to: &mut Vec<u8>) -> Result<(), postcard::Error> {
        let frame = Written {
            at: self.at,
            step: self.step,
            reads: Reads(self.reads),
            effects: Followed(self.effects, self.from),
            panicked: self.panicked,
        };
        postcard::serialize_with_flavor(&frame, Tail(to))
    }
}

/// The end of bytes that there are. Twice as fast as postcard's own way to append, which goes through an
/// iterator for each number.
struct Tail<'a>(&'a mut Vec<u8>);

impl Flavor for Tail<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

// The fields of `Frame`, in its order; a test holds them together.
#[derive(Serialize)]
struct Written<'a> {
    at: Time,
    step: &'a Step<'a>,
    reads: Reads<'a>,
    effects: Followed<'a>,
    panicked: bool,
}

/// Bytes that are written as one piece, which postcard does not do for a slice of numbers.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(self.0)
    }
}

struct Reads<'a>(&'a Notes);

impl Serialize for Reads<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let all = self.0.list.iter();
        s.collect_seq(all.map(|n| (n.addr, n.len, self.0.data(n).map(Raw))))
    }
}

// The variants of `Happened`, in its order.
#[derive(Serialize)]
enum Follows<'a> {
    Write {
        function: FunctionId,
        addr: u64,
        data: Raw<'a>,
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
        outbox: Raw<'a>,
    },
    Event {
        function: FunctionId,
        event_type: u8,
        sub_type: u8,
        data: Raw<'a>,
    },
    Commit {
        token: Token,
        batch: &'a Batch,
    },
    Notice {
        function: FunctionId,
        text: String,
    },
}

impl<'a> Follows<'a> {
    fn of(fx: &'a Effects, e: &'a Effect) -> Option<Self> {
        let bytes = |b| Raw(fx.bytes(b));
        Some(match e {
            Effect::Write {
                function,
                addr,
                data,
                order,
            } => Self::Write {
                function: *function,
                addr: *addr,
                data: bytes(*data),
                order: *order,
            },
            Effect::Interrupt { function, vector } => Self::Interrupt {
                function: *function,
                vector: *vector,
            },
            Effect::Reply {
                function,
                tag,
                delivery,
                outbox,
            } => Self::Reply {
                function: *function,
                tag: *tag,
                delivery: *delivery,
                outbox: bytes(*outbox),
            },
            Effect::Event {
                function,
                event_type,
                sub_type,
                data,
            } => Self::Event {
                function: *function,
                event_type: *event_type,
                sub_type: *sub_type,
                data: bytes(*data),
            },
            Effect::Commit { token, batch } => Self::Commit {
                token: *token,
                batch,
            },
            Effect::Notice { function, notice } => Self::Notice {
                function: *function,
                text: notice.to_string(),
            },
            Effect::Observed(_) | Effect::Unanswered(_) | Effect::Posted(_) => return None,
        })
    }
}

struct Followed<'a>(&'a Effects, usize);

impl Serialize for Followed<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let shown = |e: &&Effect| Follows::of(self.0, e).is_some();
        let count = self.0.iter().skip(self.1).filter(shown).count();
        let mut all = s.serialize_seq(Some(count))?;
        for e in self.0.iter().skip(self.1) {
            if let Some(f) = Follows::of(self.0, e) {
                all.serialize_element(&f)?;
            }
        }
        all.end()
    }
}
