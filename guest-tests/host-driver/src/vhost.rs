// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver of the virtio firmware-mailbox device: requests, responses and events on a
//! [`Session`], one at a time or many at once.

use std::{collections::HashMap, path::Path, time::Duration};

use fwctl_proto::virtio::{
    EVENT_BYTES, Event, REQUEST_HEADER_BYTES, RESPONSE_HEADER_BYTES, RequestHeader, ResponseHeader,
    SCOPE_DRIVER, Status,
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryError};

use crate::{
    mailbox::{Mailbox, MailboxError},
    vhost_ring::{Buffer, RingError, Used},
    vhost_session::{FREE_BASE, MEMORY_BASE, MEMORY_BYTES, Options, Session, SessionError},
};

/// Event buffers lie here.
const EVENTS: u64 = FREE_BASE;
/// Bytes for each of them.
const EVENT_STRIDE: u64 = 128;
/// Request and response buffers lie here, a slot for each request in flight.
const SLOTS: u64 = FREE_BASE + 0x10_0000;
/// Bytes of a slot: half for the request, half for the response.
const SLOT_BYTES: u64 = 0x4000;
/// Most slots: they end before what tests fill by hand.
const MAX_SLOTS: u64 = 384;
/// One message longer than a slot at a time: request here,
const BIG_REQUEST: u64 = FREE_BASE + 0x80_0000;
/// and response here.
const BIG_RESPONSE: u64 = FREE_BASE + 0xa0_0000;
/// Pages for the firmware begin here and end with guest memory.
const PAGES: u64 = MEMORY_BASE + (32 << 20);
/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// Shortest outbox that the device takes.
const MIN_OUTBOX: u32 = 16;

/// Longest wait for a response or an event.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What went wrong between driver and device.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// The session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Guest memory.
    #[error("guest memory: {0}")]
    Memory(#[from] GuestMemoryError),
    /// The device wrote less than it says, or more than there was room for.
    #[error("response of {0} bytes makes no sense")]
    Length(u32),
    /// More requests at once than there are slots.
    #[error("no free slot")]
    NoSlot,
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its header.
    pub header: ResponseHeader,
    /// The outbox: exactly as many bytes as the header says.
    pub outbox: Vec<u8>,
}

/// The driver.
pub struct VhostDriver {
    /// The session under it.
    pub session: Session,
    // Slot and room for the response, by head of the chain.
    in_flight: HashMap<u16, (u64, u32)>,
    free_slots: Vec<u64>,
    // Address of each posted event buffer, by head.
    event_buffers: HashMap<u16, u64>,
    next_page: u64,
}

impl VhostDriver {
    /// Connects to the device at `path` and starts its queues; no command is sent yet.
    ///
    /// # Errors
    /// See [`Session::connect`].
    pub fn connect(path: &Path, options: Options) -> Result<Self, VhostError> {
        let slots = u64::from(options.queue_size / 2).clamp(1, MAX_SLOTS);
        let free_slots = (0..slots).rev().map(|i| SLOTS + i * SLOT_BYTES).collect();
        let session = Session::connect(path, options)?;
        Ok(Self {
            session,
            in_flight: HashMap::new(),
            free_slots,
            event_buffers: HashMap::new(),
            next_page: PAGES,
        })
    }

    /// Makes a request available and returns the head of its chain; [`VhostDriver::kick`] tells
    /// the device.
    ///
    /// # Errors
    /// No slot or descriptor is free.
    pub fn send(
        &mut self,
        header: &RequestHeader,
        inbox: &[u8],
        out_len: u32,
    ) -> Result<u16, VhostError> {
        let request_len = (REQUEST_HEADER_BYTES + inbox.len()) as u64;
        let room = RESPONSE_HEADER_BYTES as u32 + out_len;
        let small = request_len <= SLOT_BYTES / 2 && u64::from(room) <= SLOT_BYTES / 2;
        let slot = if small {
            self.free_slots.pop().ok_or(VhostError::NoSlot)?
        } else {
            BIG_REQUEST
        };
        let response = if small {
            slot + SLOT_BYTES / 2
        } else {
            BIG_RESPONSE
        };
        let mem = self.session.memory();
        mem.write_slice(&header.to_bytes(), GuestAddress(slot))?;
        mem.write_slice(inbox, GuestAddress(slot + REQUEST_HEADER_BYTES as u64))?;
        let head = self.session.command.add(&[
            Buffer {
                addr: slot,
                len: request_len as u32,
                writable: false,
            },
            Buffer {
                addr: response,
                len: room,
                writable: true,
            },
        ])?;
        self.in_flight.insert(head, (slot, room));
        Ok(head)
    }

    /// Tells the device of new requests.
    ///
    /// # Errors
    /// The ring.
    pub fn kick(&mut self) -> Result<(), VhostError> {
        Ok(self.session.command.kick()?)
    }

    /// The next response, of whichever request.
    ///
    /// # Errors
    /// None came in time, or it makes no sense.
    pub fn receive(&mut self) -> Result<(u16, Response), VhostError> {
        let used = self.session.command.wait(ANSWER_LIMIT)?;
        Ok((used.head, self.response(used)?))
    }

    fn response(&mut self, used: Used) -> Result<Response, VhostError> {
        let (slot, room) = self
            .in_flight
            .remove(&used.head)
            .ok_or(VhostError::Length(used.len))?;
        let addr = if slot == BIG_REQUEST {
            BIG_RESPONSE
        } else {
            slot + SLOT_BYTES / 2
        };
        if slot != BIG_REQUEST {
            self.free_slots.push(slot);
        }
        let mut bytes = vec![0u8; room as usize];
        self.session
            .memory()
            .read_slice(&mut bytes, GuestAddress(addr))?;
        let header = ResponseHeader::parse(&bytes).ok_or(VhostError::Length(used.len))?;
        let end = RESPONSE_HEADER_BYTES + header.out_len as usize;
        if end != used.len as usize {
            return Err(VhostError::Length(used.len));
        }
        let outbox = bytes
            .get(RESPONSE_HEADER_BYTES..end)
            .ok_or(VhostError::Length(used.len))?
            .to_vec();
        Ok(Response { header, outbox })
    }

    /// One request and its response.
    ///
    /// # Errors
    /// See [`VhostDriver::receive`].
    pub fn call(
        &mut self,
        header: &RequestHeader,
        inbox: &[u8],
        out_len: u32,
    ) -> Result<Response, VhostError> {
        self.send(header, inbox, out_len)?;
        self.kick()?;
        self.receive().map(|(_, response)| response)
    }

    /// Posts `count` event buffers.
    ///
    /// # Errors
    /// The ring is full.
    pub fn post_events(&mut self, count: u16) -> Result<(), VhostError> {
        for _ in 0..count {
            // As many places as the ring has entries: one of them is free.
            let size = u64::from(self.session.event.size());
            let mut places = (0..size).map(|i| EVENTS + i * EVENT_STRIDE);
            let addr = places
                .find(|a| !self.event_buffers.values().any(|b| b == a))
                .ok_or(VhostError::NoSlot)?;
            let buffer = Buffer {
                addr,
                len: EVENT_BYTES as u32,
                writable: true,
            };
            let head = self.session.event.add(&[buffer])?;
            self.event_buffers.insert(head, addr);
        }
        Ok(self.session.event.kick()?)
    }

    /// The next event, waiting at most `limit`. Its buffer is not posted again.
    ///
    /// # Errors
    /// None came in time, or it makes no sense.
    pub fn event(&mut self, limit: Duration) -> Result<Event, VhostError> {
        let used = self.session.event.wait(limit)?;
        let addr = self.event_buffers.remove(&used.head);
        let mut bytes = [0u8; EVENT_BYTES];
        let (Some(addr), true) = (addr, used.len as usize == bytes.len()) else {
            return Err(VhostError::Length(used.len));
        };
        self.session
            .memory()
            .read_slice(&mut bytes, GuestAddress(addr))?;
        Ok(Event::from_bytes(&bytes))
    }
}

/// The header of the driver's own command.
#[must_use]
pub fn driver_request(in_len: u32, out_len: u32) -> RequestHeader {
    RequestHeader {
        scope: SCOPE_DRIVER,
        uid: 0,
        in_len,
        out_len,
    }
}

/// The header of a user's command.
#[must_use]
pub fn user_request(scope: u8, uid: u16, in_len: u32, out_len: u32) -> RequestHeader {
    RequestHeader {
        scope,
        uid,
        in_len,
        out_len,
    }
}

impl Mailbox for VhostDriver {
    fn exec(&mut self, inbox: &[u8], outbox: &mut [u8]) -> Result<(), MailboxError> {
        let len = |n: usize| u32::try_from(n).map_err(MailboxError::transport);
        let out_len = len(outbox.len())?.max(MIN_OUTBOX);
        let header = driver_request(len(inbox.len())?, out_len);
        let r = self
            .call(&header, inbox, out_len)
            .map_err(MailboxError::transport)?;
        if r.header.status != Status::Ok {
            return Err(MailboxError::Delivery(format!("{:?}", r.header.status)));
        }
        let answer = r.outbox.get(..outbox.len());
        let answer = answer.ok_or_else(|| MailboxError::Delivery("short outbox".into()))?;
        outbox.copy_from_slice(answer);
        Ok(())
    }

    fn page(&mut self) -> Option<u64> {
        let page = self.next_page;
        self.next_page = page
            .checked_add(PAGE_BYTES)
            .filter(|end| *end <= MEMORY_BASE + MEMORY_BYTES)?;
        Some(page)
    }
}
