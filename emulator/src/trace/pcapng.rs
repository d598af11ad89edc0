// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A trace for Wireshark: pcapng (draft-ietf-opsawg-pcapng) with a packet for each entry, of link type
//! USER0. What is in a packet only the dissector of [`super::lua`] knows; all numbers are big-endian:
//!
//! | byte | what |
//! |---|---|
//! | 0 | version of this format, 1 |
//! | 1 | kind of entry, from 1 in the order of [`KINDS`] |
//! | 2 | function; 0xff: the whole card |
//! | 3 | how a command came: its slot, 0x80 a channel, 0x81 the gateway; else 0xff |
//! | command | 4 scope (0 none, else from 1), 5 delivery, 8 time taken and 16 own time in ns (8 bytes each), 24 and 28 lengths of inbox and outbox as they are here (4 each), 32 both |
//! | event | 4 type, 5 sub-type, 6 lost, 8 data |
//! | interrupt | 4 vector (2) |
//! | segment | 4 offset (4), 8 data |
//! | doorbell | 4 page (4), 8 offset (4), 12 data |
//! | gateway | 4 space (2), 6 something lies there, 8 address, 12 value, 16 value afterwards (4 each) |
//! | refused | 4 scope, 5 why, from 0 in the order of `Delivery`, 8 the header |
//! | reset | 4 kind (0 none, else from 1), 8 generation (8) |
//! | note, head | 4 text |
//! | lost | 8 count (8) |
//! | unanswered | 4 scope, 5 why, from 0 in the order of `Why`, 8 time waited in ns (8), 16 the inbox |

use std::io::{self, Write};

use super::{Entry, Via, show};

/// Link type for what has none (`LINKTYPE_USER0`).
const USER0: u16 = 147;
const VERSION: u8 = 1;
/// Bytes of a message that are kept: Wireshark takes no packet of more than 256 KiB (`WTAP_MAX_PACKET_SIZE_STANDARD`),
/// and reads nothing behind one. The original length that a packet says is that of the whole.
const KEPT: usize = (1 << 17) - 32;
/// How a command came, where that is no slot.
pub const CHANNEL: u8 = 0x80;
/// See [`CHANNEL`].
pub const GATEWAY: u8 = 0x81;
const NONE: u8 = 0xff;

/// Names of the kinds, from number 1.
pub const KINDS: &[&str] = &[
    "command",
    "event",
    "interrupt",
    "segment",
    "doorbell",
    "gateway",
    "refused",
    "reset",
    "note",
    "head",
    "lost",
    "unanswered",
];

/// Writes the section header and the one interface, whose times are in nanoseconds.
///
/// # Errors
/// Those of `to`.
pub fn begin(to: &mut dyn Write) -> io::Result<()> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const ORDER: u32 = 0x1a2b_3c4d;
    const TSRESOL: u16 = 9;
    let mut body = ORDER.to_le_bytes().to_vec();
    // Version 1.0, and a section of unknown length.
    body.extend([1, 0, 0, 0]);
    body.extend([0xff; 8]);
    block(to, SECTION, &body)?;
    let mut body = USER0.to_le_bytes().to_vec();
    // No snap length; then the option "10^-9 s", and the end of options.
    body.extend([0; 6]);
    body.extend(TSRESOL.to_le_bytes());
    body.extend([1, 0, 9, 0, 0, 0]);
    body.extend([0; 4]);
    block(to, INTERFACE, &body)
}

/// Writes an entry; `at` is its time in nanoseconds.
///
/// # Errors
/// Those of `to`.
pub fn entry(to: &mut dyn Write, at: u64, e: &Entry<'_>) -> io::Result<()> {
    const ENHANCED_PACKET: u32 = 6;
    let packet = packet(e);
    let len = packet.len() as u32;
    let whole = len + cut(e) as u32;
    let mut body = Vec::with_capacity(packet.len() + 24);
    for word in [0, (at >> 32) as u32, at as u32, len, whole] {
        body.extend(word.to_le_bytes());
    }
    body.extend(packet);
    block(to, ENHANCED_PACKET, &body)
}

/// A block: its type and length, its body up to whole dwords, its length again.
fn block(to: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let pad = body.len().next_multiple_of(4) - body.len();
    let len = (12 + body.len() + pad) as u32;
    to.write_all(&kind.to_le_bytes())?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(body)?;
    to.write_all(&[0; 3][..pad])?;
    to.write_all(&len.to_le_bytes())
}

/// What is kept of a message.
fn kept(message: &[u8]) -> &[u8] {
    message.get(..KEPT).unwrap_or(message)
}

/// How many bytes of an entry are not.
fn cut(e: &Entry<'_>) -> usize {
    let cut = |message: &[u8]| message.len().saturating_sub(KEPT);
    match e {
        Entry::Command(c) => cut(&c.inbox) + cut(&c.outbox),
        Entry::Unanswered(u) => cut(&u.inbox),
        _ => 0,
    }
}

fn came_by(via: Via) -> u8 {
    match via {
        Via::Slot(slot) => slot,
        Via::Channel(_) => CHANNEL,
        Via::Gateway => GATEWAY,
    }
}

fn packet(e: &Entry<'_>) -> Vec<u8> {
    let function = e.function().unwrap_or(NONE);
    let mut p = vec![VERSION, 0, function, NONE];
    let (kind, body): (&str, Vec<u8>) = match e {
        Entry::Command(c) => {
            p[3] = came_by(c.via);
            let scope = c.via.scope().map_or(0, |s| s as u8 + 1);
            let mut b = vec![scope, c.delivery, 0, 0];
            b.extend(c.took().to_be_bytes());
            b.extend(c.own.to_be_bytes());
            let both = [kept(&c.inbox), kept(&c.outbox)];
            b.extend(both.iter().flat_map(|m| (m.len() as u32).to_be_bytes()));
            b.extend(both.concat());
            ("command", b)
        }
        Entry::Event {
            event_type,
            sub_type,
            data,
            lost,
            ..
        } => {
            let head = [*event_type, *sub_type, u8::from(*lost), 0];
            ("event", [&head, &data[..]].concat())
        }
        Entry::Interrupt { vector, .. } => ("interrupt", vector.to_be_bytes().to_vec()),
        Entry::Segment { offset, data, .. } => {
            ("segment", [&offset.to_be_bytes(), &data[..]].concat())
        }
        Entry::Doorbell {
            page, offset, data, ..
        } => {
            let (page, offset) = (page.to_be_bytes(), offset.to_be_bytes());
            ("doorbell", [&page, &offset, &data[..]].concat())
        }
        Entry::Gateway {
            space,
            address,
            value,
            then,
            ..
        } => {
            let mut b = space.to_be_bytes().to_vec();
            b.extend([u8::from(then.is_some()), 0]);
            for word in [*address, *value, then.unwrap_or(0)] {
                b.extend(word.to_be_bytes());
            }
            ("gateway", b)
        }
        Entry::Refused {
            scope,
            delivery,
            header,
            ..
        } => {
            let head = [scope.map_or(0, |s| s as u8 + 1), *delivery as u8, 0, 0];
            ("refused", [&head, &header[..]].concat())
        }
        Entry::Reset {
            kind, generation, ..
        } => {
            let head = [kind.map_or(0, |k| k as u8 + 1), 0, 0, 0];
            ("reset", [&head[..], &generation.to_be_bytes()].concat())
        }
        Entry::Note { text, .. } => ("note", text.clone().into_bytes()),
        Entry::Head { .. } => ("head", show::body(e, None, 0).into_bytes()),
        Entry::Unanswered(u) => {
            p[3] = came_by(u.via);
            let scope = u.via.scope().map_or(0, |s| s as u8 + 1);
            let waited = u.command().took().to_be_bytes();
            let head = [scope, u.why as u8, 0, 0];
            ("unanswered", [&head[..], &waited, kept(&u.inbox)].concat())
        }
        Entry::Lost { count } => ("lost", [&[0; 4][..], &count.to_be_bytes()].concat()),
    };
    let number = KINDS.iter().position(|k| *k == kind);
    p[1] = number.map_or(0, |n| n as u8 + 1);
    p.extend(body);
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Command;

    /// By hand from the draft.
    #[test]
    fn blocks_are_those_of_the_draft() {
        let mut to = Vec::new();
        begin(&mut to).unwrap();
        let section = [
            0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 0xff, 0xff,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 28, 0, 0, 0,
        ];
        let interface = [
            1, 0, 0, 0, 32, 0, 0, 0, 147, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0,
            32, 0, 0, 0,
        ];
        assert_eq!(to, [&section[..], &interface].concat());
        let mut to = Vec::new();
        let e = Entry::Interrupt {
            at: 0,
            function: 2,
            vector: 0x103,
        };
        entry(&mut to, 0x1_0000_0002, &e).unwrap();
        let packet = [
            6, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0, 6, 0, 0, 0, 1,
            3, 2, 0xff, 1, 3, 0, 0, 40, 0, 0, 0,
        ];
        assert_eq!(to, packet);
    }

    #[test]
    fn a_command_has_its_header_and_both_messages() {
        let c = Entry::Command(Command {
            function: 1,
            via: Via::Channel(Some(fw_model::Scope::DebugWrite)),
            submitted: 10,
            completed: 15,
            own: 0x1234,
            delivery: 0,
            inbox: vec![8, 0xd].into(),
            outbox: vec![9].into(),
        });
        let p = packet(&c);
        assert_eq!(p[..8], [1, 1, 1, 0x80, 3, 0, 0, 0]);
        assert_eq!(p[8..16], 5u64.to_be_bytes());
        assert_eq!(p[16..24], 0x1234u64.to_be_bytes());
        assert_eq!(p[24..], [0, 0, 0, 2, 0, 0, 0, 1, 8, 0xd, 9]);
    }
}
