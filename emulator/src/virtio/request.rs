// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A chain becomes a request: copied once, and judged by the copy, as far as that needs no card.

use fw_model::{Caller, Scope, limits::MAX_MESSAGE};
use fwctl_proto::virtio::{
    REQUEST_HEADER_BYTES, RESPONSE_HEADER_BYTES, RequestHeader, SCOPE_DRIVER, Status,
};
use vm_memory::GuestMemoryMmap;

use super::{
    chain::{self, Chain},
    limits::MAX_REQUEST_BYTES,
};

/// Shortest inbox and outbox: their headers.
const MIN_MESSAGE: u32 = 16;

/// A request whose form is right.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who sends it.
    pub caller: Caller,
    /// The inbox.
    pub inbox: &'a [u8],
    /// Bytes of the outbox that are wanted, for which there is room.
    pub outbox_len: u32,
}

/// Copies the readable part of `chain` into `bytes` and reads the request in it.
///
/// # Errors
/// The delivery status that it gets.
pub fn read<'a>(
    mem: &GuestMemoryMmap,
    chain: &Chain,
    bytes: &'a mut Vec<u8>,
) -> Result<Request<'a>, Status> {
    if chain.fault.is_some() || chain.readable_bytes < REQUEST_HEADER_BYTES as u64 {
        return Err(Status::Malformed);
    }
    // Before anything is copied: this bounds what a guest can make us hold.
    if chain.readable_bytes > MAX_REQUEST_BYTES as u64 {
        return Err(Status::TooLong);
    }
    if !chain::gather(mem, &chain.readable, bytes) {
        return Err(Status::Malformed);
    }
    let header = RequestHeader::parse(bytes).ok_or(Status::Malformed)?;
    if header.in_len as usize > MAX_MESSAGE || header.out_len as usize > MAX_MESSAGE {
        return Err(Status::TooLong);
    }
    let caller = caller(&header).ok_or(Status::Malformed)?;
    if header.in_len < MIN_MESSAGE || header.out_len < MIN_MESSAGE {
        return Err(Status::Malformed);
    }
    let end = REQUEST_HEADER_BYTES + header.in_len as usize;
    let inbox = bytes
        .get(REQUEST_HEADER_BYTES..end)
        .ok_or(Status::Malformed)?;
    if chain.writable_bytes < RESPONSE_HEADER_BYTES as u64 + u64::from(header.out_len) {
        return Err(Status::NoRoom);
    }
    Ok(Request {
        caller,
        inbox,
        outbox_len: header.out_len,
    })
}

/// Who sends it; `None` for a scope that does not exist, or the driver with a user's uid.
fn caller(header: &RequestHeader) -> Option<Caller> {
    let scope = match header.scope {
        0 => Scope::Configuration,
        1 => Scope::DebugReadOnly,
        2 => Scope::DebugWrite,
        3 => Scope::DebugWriteFull,
        SCOPE_DRIVER if header.uid == 0 => return Some(Caller::Driver),
        _ => return None,
    };
    Some(Caller::User {
        scope,
        uid: header.uid,
    })
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes as _, GuestAddress};

    use super::{super::chain::Segment, *};

    /// What comes of a header, `inbox` bytes behind it and `room` bytes for the response.
    fn judged(header: RequestHeader, inbox: u32, room: u64) -> Result<(Caller, usize), Status> {
        let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        mem.write_slice(&header.to_bytes(), GuestAddress(0))
            .unwrap();
        let len = REQUEST_HEADER_BYTES as u32 + inbox;
        let chain = Chain {
            readable: vec![Segment {
                addr: GuestAddress(0),
                len,
            }],
            readable_bytes: len.into(),
            writable_bytes: room,
            ..Chain::default()
        };
        read(&mem, &chain, &mut Vec::new()).map(|r| (r.caller, r.inbox.len()))
    }

    fn header(scope: u8, uid: u16, in_len: u32, out_len: u32) -> RequestHeader {
        RequestHeader {
            scope,
            uid,
            in_len,
            out_len,
        }
    }

    #[test]
    fn who_sends_it_is_in_the_header() {
        assert_eq!(
            judged(header(0xff, 0, 16, 16), 16, 32),
            Ok((Caller::Driver, 16))
        );
        let user = Caller::User {
            scope: Scope::DebugWrite,
            uid: 7,
        };
        assert_eq!(judged(header(2, 7, 16, 16), 16, 32), Ok((user, 16)));
        assert_eq!(
            judged(header(0xff, 7, 16, 16), 16, 32),
            Err(Status::Malformed)
        );
        assert_eq!(judged(header(4, 7, 16, 16), 16, 32), Err(Status::Malformed));
    }

    #[test]
    fn lengths_are_held_against_each_other_and_the_limits() {
        let max = MAX_MESSAGE as u32;
        assert_eq!(
            judged(header(0xff, 0, 17, 16), 16, 32),
            Err(Status::Malformed)
        );
        assert_eq!(
            judged(header(0xff, 0, 15, 16), 16, 32),
            Err(Status::Malformed)
        );
        assert_eq!(
            judged(header(0xff, 0, 16, 15), 16, 32),
            Err(Status::Malformed)
        );
        assert_eq!(judged(header(0xff, 0, 16, 16), 16, 31), Err(Status::NoRoom));
        assert_eq!(
            judged(header(0xff, 0, 16, u32::MAX), 16, 32),
            Err(Status::TooLong)
        );
        assert_eq!(
            judged(header(0xff, 0, u32::MAX, 16), 16, 32),
            Err(Status::TooLong)
        );
        assert_eq!(
            judged(header(0xff, 0, max, max), max, 16 + u64::from(max)),
            Ok((Caller::Driver, MAX_MESSAGE))
        );
        assert_eq!(
            judged(header(0xff, 0, max, 16), max + 1, 32),
            Err(Status::TooLong)
        );
        // What lies behind the inbox is not looked at.
        assert_eq!(
            judged(header(0xff, 0, 16, 16), 20, 32),
            Ok((Caller::Driver, 16))
        );
    }
}
