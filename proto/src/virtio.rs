// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The wire format of the virtio firmware mailbox device, little-endian; docs/virtio-fwctl.md
//! specifies it.

/// Virtio device id until one is assigned (that of the parameter server, which no driver binds).
pub const DEVICE_ID: u32 = 38;
/// Number of the command queue.
pub const COMMAND_QUEUE: u16 = 0;
/// Number of the event queue.
pub const EVENT_QUEUE: u16 = 1;
/// Number of queues.
pub const QUEUES: usize = 2;

/// First four bytes of the config space: "FWCT".
pub const MAGIC: u32 = u32::from_le_bytes(*b"FWCT");
/// Version of this format.
pub const VERSION: u32 = 1;
/// `device_type` of an mlx5 firmware (`FWCTL_DEVICE_TYPE_MLX5`).
pub const DEVICE_TYPE_MLX5: u32 = 1;

/// Bytes of the config space.
pub const CONFIG_BYTES: usize = 32;
/// Bytes of a request's header.
pub const REQUEST_HEADER_BYTES: usize = 24;
/// Bytes of a response's header.
pub const RESPONSE_HEADER_BYTES: usize = 16;
/// Bytes of an event.
pub const EVENT_BYTES: usize = 48;

/// `scope` of the driver's own commands; 0 to 3 are those of `enum fwctl_rpc_scope`.
pub const SCOPE_DRIVER: u8 = 0xff;

/// Bit of [`Event`]'s flags byte: events were lost right before this one.
pub const EVENT_OVERFLOW: u8 = 1;

/// The device's config space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which firmware it is: [`DEVICE_TYPE_MLX5`].
    pub device_type: u32,
    /// Longest inbox in bytes.
    pub max_in: u32,
    /// Longest outbox in bytes.
    pub max_out: u32,
    /// Requests that the device takes at a time.
    pub max_in_flight: u32,
}

impl Config {
    /// The config space as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; CONFIG_BYTES] {
        let words = [
            MAGIC,
            VERSION,
            self.device_type,
            self.max_in,
            self.max_out,
            self.max_in_flight,
        ];
        let mut b = [0; CONFIG_BYTES];
        for (place, word) in b.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        b
    }

    /// Reads a config space; `None` if its magic or version is another.
    #[must_use]
    pub fn from_bytes(b: &[u8; CONFIG_BYTES]) -> Option<Self> {
        if u32_at(b, 0) != MAGIC || u32_at(b, 4) != VERSION {
            return None;
        }
        Some(Self {
            device_type: u32_at(b, 8),
            max_in: u32_at(b, 12),
            max_out: u32_at(b, 16),
            max_in_flight: u32_at(b, 20),
        })
    }
}

/// The header before an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// [`SCOPE_DRIVER`] or a `enum fwctl_rpc_scope`.
    pub scope: u8,
    /// The user context that the command belongs to; 0 for the driver's own.
    pub uid: u16,
    /// Bytes of the inbox behind this header.
    pub in_len: u32,
    /// Bytes of the outbox that are wanted.
    pub out_len: u32,
}

impl RequestHeader {
    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; REQUEST_HEADER_BYTES] {
        let mut b = [0; REQUEST_HEADER_BYTES];
        b[0] = self.scope;
        b[2..4].copy_from_slice(&self.uid.to_le_bytes());
        b[4..8].copy_from_slice(&self.in_len.to_le_bytes());
        b[8..12].copy_from_slice(&self.out_len.to_le_bytes());
        b
    }

    /// Reads a header; `None` if there are too few bytes, or a reserved one is not 0.
    #[must_use]
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b: &[u8; REQUEST_HEADER_BYTES] = b.get(..REQUEST_HEADER_BYTES)?.try_into().ok()?;
        if b[1] != 0 || b[12..].iter().any(|r| *r != 0) {
            return None;
        }
        Some(Self {
            scope: b[0],
            uid: u16::from_le_bytes([b[2], b[3]]),
            in_len: u32_at(b, 4),
            out_len: u32_at(b, 8),
        })
    }
}

macro_rules! statuses {
    ($($(#[$m:meta])* $name:ident = $code:literal;)*) => {
        /// How a request was delivered; apart from the firmware's status, which is in the outbox.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Status {
            $($(#[$m])* $name = $code,)*
        }

        impl Status {
            /// The status with this number.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

statuses! {
    /// The firmware executed the command or refused it with a status in the outbox.
    Ok = 0;
    /// The request cannot be read: its header, its lengths or its descriptors.
    Malformed = 1;
    /// The inbox or the outbox is longer than the config space allows.
    TooLong = 2;
    /// The writable part has no room for the outbox that is wanted.
    NoRoom = 3;
    /// The opcode is not allowed at the request's scope.
    ScopeDenied = 4;
    /// The user context does not exist.
    BadUid = 5;
    /// As many requests as the device takes are in flight.
    Busy = 6;
    /// The device was reset before the command ended.
    Reset = 7;
}

/// The header before an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// How the request was delivered.
    pub status: Status,
    /// Bytes of the outbox behind this header; 0 unless the status is `Ok`.
    pub out_len: u32,
}

impl ResponseHeader {
    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; RESPONSE_HEADER_BYTES] {
        let mut b = [0; RESPONSE_HEADER_BYTES];
        b[0] = self.status as u8;
        b[4..8].copy_from_slice(&self.out_len.to_le_bytes());
        b
    }

    /// Reads a header; `None` if there are too few bytes, or its status is unknown.
    #[must_use]
    pub fn parse(b: &[u8]) -> Option<Self> {
        let b: &[u8; RESPONSE_HEADER_BYTES] = b.get(..RESPONSE_HEADER_BYTES)?.try_into().ok()?;
        Some(Self {
            status: Status::from_code(b[0])?,
            out_len: u32_at(b, 4),
        })
    }
}

/// An event, as the device writes it into a buffer of the event queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts events since the device was reset, lost ones included.
    pub sequence: u64,
    /// Events were lost right before this one.
    pub overflow: bool,
    /// Event type as in an mlx5 EQE.
    pub event_type: u8,
    /// Event sub-type as in an mlx5 EQE.
    pub sub_type: u8,
    /// The event data of an mlx5 EQE.
    pub data: [u8; 28],
}

impl Event {
    /// The event as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; EVENT_BYTES] {
        let mut b = [0; EVENT_BYTES];
        b[..8].copy_from_slice(&self.sequence.to_le_bytes());
        b[8] = if self.overflow { EVENT_OVERFLOW } else { 0 };
        b[9] = self.event_type;
        b[10] = self.sub_type;
        b[16..44].copy_from_slice(&self.data);
        b
    }

    /// Reads an event.
    #[must_use]
    pub fn from_bytes(b: &[u8; EVENT_BYTES]) -> Self {
        let mut data = [0; 28];
        data.copy_from_slice(&b[16..44]);
        Self {
            sequence: u64::from(u32_at(b, 4)) << 32 | u64::from(u32_at(b, 0)),
            overflow: b[8] & EVENT_OVERFLOW != 0,
            event_type: b[9],
            sub_type: b[10],
            data,
        }
    }
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    b.iter()
        .skip(at)
        .take(4)
        .rev()
        .fold(0, |v, b| v << 8 | u32::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_space_is_as_specified() {
        let c = Config {
            device_type: 1,
            max_in: 0x0010_1000,
            max_out: 0x0010_1001,
            max_in_flight: 256,
        };
        let b = c.to_bytes();
        assert_eq!(&b[..4], b"FWCT");
        assert_eq!(
            b[4..24],
            [
                1, 0, 0, 0, 1, 0, 0, 0, 0, 0x10, 0x10, 0, 1, 0x10, 0x10, 0, 0, 1, 0, 0
            ]
        );
        assert_eq!(b[24..], [0; 8]);
        assert_eq!(Config::from_bytes(&b), Some(c));
        let mut other = b;
        other[4] = 2;
        assert_eq!(Config::from_bytes(&other), None);
    }

    #[test]
    fn a_request_is_as_specified() {
        let h = RequestHeader {
            scope: 2,
            uid: 0x0102,
            in_len: 16,
            out_len: 0x1010,
        };
        let b = h.to_bytes();
        assert_eq!(b[..12], [2, 0, 2, 1, 16, 0, 0, 0, 0x10, 0x10, 0, 0]);
        assert_eq!(RequestHeader::parse(&b), Some(h));
        assert_eq!(RequestHeader::parse(&b[..23]), None);
        for reserved in [1, 12, 23] {
            let mut bad = b;
            bad[reserved] = 1;
            assert_eq!(RequestHeader::parse(&bad), None, "byte {reserved}");
        }
    }

    #[test]
    fn a_response_is_as_specified() {
        let h = ResponseHeader {
            status: Status::ScopeDenied,
            out_len: 0x0403_0201,
        };
        let b = h.to_bytes();
        assert_eq!(b, [4, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ResponseHeader::parse(&b), Some(h));
        assert_eq!(ResponseHeader::parse(&[8; 16]), None);
    }

    #[test]
    fn an_event_is_as_specified() {
        let e = Event {
            sequence: 0x0102_0304_0506_0708,
            overflow: true,
            event_type: 0xb,
            sub_type: 9,
            data: [7; 28],
        };
        let b = e.to_bytes();
        assert_eq!(b[..12], [8, 7, 6, 5, 4, 3, 2, 1, 1, 0xb, 9, 0]);
        assert_eq!((b[15], b[16], b[43], b[44]), (0, 7, 7, 0));
        assert_eq!(Event::from_bytes(&b), e);
    }
}
