// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a command lies in a trace: nearly all entries are commands, and what a trace costs is to write them. So it is
//! in three pieces: what there is but the messages, at fixed places, and each message without the zeros at its end,
//! as most of a long answer is zeros.

use std::borrow::Cow;

use fw_model::{Scope, limits::MAX_MESSAGE};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_bytes::{ByteBuf, Bytes};

use super::{Command, Via};

/// The numbers of a command, little-endian.
const HEAD: usize = 36;

/// Kinds of [`Via`].
mod kind {
    pub const SLOT: u8 = 0;
    pub const DRIVER: u8 = 1;
    pub const USER: u8 = 2;
    pub const GATEWAY: u8 = 3;
}

pub fn serialize<S: Serializer>(c: &Command<'_>, to: S) -> Result<S::Ok, S::Error> {
    let head = head(c);
    let pieces = (
        Bytes::new(&head),
        Bytes::new(without_zeros(&c.inbox)),
        Bytes::new(without_zeros(&c.outbox)),
    );
    pieces.serialize(to)
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Command<'static>, D::Error> {
    let (head, inbox, outbox) = <(ByteBuf, ByteBuf, ByteBuf)>::deserialize(from)?;
    command(&head, inbox.into_vec(), outbox.into_vec())
        .ok_or_else(|| D::Error::custom("this is no command"))
}

fn head(c: &Command<'_>) -> [u8; HEAD] {
    let (kind, number) = match c.via {
        Via::Slot(slot) => (kind::SLOT, slot),
        Via::Channel(None) => (kind::DRIVER, 0),
        Via::Channel(Some(scope)) => (kind::USER, scope as u8),
        Via::Gateway => (kind::GATEWAY, 0),
    };
    let mut head = [0; HEAD];
    let (numbers, rest) = head.split_at_mut(4);
    numbers.copy_from_slice(&[c.function, kind, number, c.delivery]);
    let (times, lengths) = rest.split_at_mut(24);
    for (to, n) in times
        .chunks_exact_mut(8)
        .zip([c.submitted, c.completed, c.own])
    {
        to.copy_from_slice(&n.to_le_bytes());
    }
    for (to, m) in lengths.chunks_exact_mut(4).zip([&c.inbox, &c.outbox]) {
        to.copy_from_slice(&(m.len() as u32).to_le_bytes());
    }
    head
}

/// `None` if it is none.
fn command(head: &[u8], inbox: Vec<u8>, outbox: Vec<u8>) -> Option<Command<'static>> {
    let head: &[u8; HEAD] = head.try_into().ok()?;
    let ([function, kind, number, delivery], rest) = head.split_first_chunk()?;
    let (times, lengths) = rest.split_at_checked(24)?;
    let mut times = times.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b));
    let mut lengths = lengths
        .as_chunks()
        .0
        .iter()
        .map(|b| u32::from_le_bytes(*b) as usize);
    let via = match (*kind, *number) {
        (kind::SLOT, slot) => Via::Slot(slot),
        (kind::DRIVER, 0) => Via::Channel(None),
        (kind::USER, n) => Via::Channel(Some(*Scope::ALL.iter().find(|s| **s as u8 == n)?)),
        (kind::GATEWAY, 0) => Via::Gateway,
        _ => return None,
    };
    Some(Command {
        function: *function,
        via,
        submitted: times.next()?,
        completed: times.next()?,
        own: times.next()?,
        delivery: *delivery,
        inbox: with_zeros(inbox, lengths.next()?)?,
        outbox: with_zeros(outbox, lengths.next()?)?,
    })
}

/// Shorter messages are kept whole: it would cost more to look.
const SHORT: usize = 64;

/// A message up to its last word that is not zero; what does not fill a word at its begin stays. Zeros are looked
/// for from the end, many at once as long as there are only such.
fn without_zeros(message: &[u8]) -> &[u8] {
    const STEP: usize = 32;
    if message.len() < SHORT {
        return message;
    }
    let (rest, words) = message.as_rchunks::<8>();
    let is_zero = |words: &[[u8; 8]]| words.iter().fold(0, |a, w| a | u64::from_ne_bytes(*w)) == 0;
    let (few, steps) = words.as_rchunks::<STEP>();
    let zeros = steps.iter().rev().take_while(|s| is_zero(*s)).count();
    let there = few.len() + (steps.len() - zeros) * STEP;
    let words = words.get(..there).unwrap_or_default();
    let last = words.iter().rposition(|w| u64::from_ne_bytes(*w) != 0);
    let end = rest.len() + last.map_or(0, |i| (i + 1) * 8);
    message.get(..end).unwrap_or_default()
}

/// A message as long as it was; `None` if none is.
fn with_zeros(mut message: Vec<u8>, len: usize) -> Option<Cow<'static, [u8]>> {
    if len > MAX_MESSAGE || message.len() > len {
        return None;
    }
    message.resize(len, 0);
    Some(Cow::Owned(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::limits::MAX_MESSAGE;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Packed(#[serde(with = "super")] Command<'static>);

    fn with(via: Via, inbox: &[u8], outbox: &[u8]) -> Command<'static> {
        Command {
            function: 1,
            via,
            submitted: 2,
            completed: 1 << 40,
            own: u64::MAX,
            delivery: 4,
            inbox: inbox.to_vec().into(),
            outbox: outbox.to_vec().into(),
        }
    }

    fn there_and_back(c: &Command<'static>) -> usize {
        let bytes = postcard::to_extend(&Packed(c.clone()), Vec::new()).unwrap();
        assert_eq!(postcard::from_bytes::<Packed>(&bytes).unwrap().0, *c);
        bytes.len()
    }

    #[test]
    fn a_command_comes_back_however_it_came() {
        let scopes = Scope::ALL.map(|s| Via::Channel(Some(s)));
        let vias = [
            Via::Slot(0),
            Via::Slot(31),
            Via::Channel(None),
            Via::Gateway,
        ];
        for via in vias.into_iter().chain(scopes) {
            there_and_back(&with(via, &[1, 2, 3], &[4]));
        }
    }

    /// The format: whoever changes it changes its version.
    #[test]
    fn the_numbers_lie_where_they_lay() {
        let times = |head: &mut Vec<u8>| {
            head.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
            head.extend([0xff; 8]);
            head.extend([3, 0, 0, 0, 0x10, 0x10, 0, 0]);
        };
        for (via, kind, number) in [
            (Via::Slot(31), 0, 31),
            (Via::Channel(None), 1, 0),
            (Via::Channel(Some(Scope::Configuration)), 2, 0),
            (Via::Channel(Some(Scope::DebugReadOnly)), 2, 1),
            (Via::Channel(Some(Scope::DebugWrite)), 2, 2),
            (Via::Channel(Some(Scope::DebugWriteFull)), 2, 3),
            (Via::Gateway, 3, 0),
        ] {
            let mut wanted = vec![1, kind, number, 4];
            times(&mut wanted);
            let found = head(&with(via, &[1, 2, 3], &[0; 0x1010]));
            assert_eq!(found[..], wanted, "{via:?}");
        }
    }

    #[test]
    fn zeros_at_the_end_take_no_room_and_come_back() {
        // Three lengths and the numbers.
        let bare = 1 + HEAD + 1 + 1;
        assert_eq!(there_and_back(&with(Via::Gateway, &[], &[])), bare);
        for (len, last, kept) in [
            (16, 0, 16),
            (63, 0, 63),
            (64, 0, 0),
            (65, 0, 1),
            (65, 2, 9),
            (255, 0, 7),
            (255, 8, 15),
            (256, 256, 256),
            (300, 4, 4),
            (300, 45, 52),
            (4112, 0, 0),
            (4112, 232, 232),
            (4112, 4112, 4112),
        ] {
            let mut message = vec![0; len];
            if let Some(b) = usize::checked_sub(last, 1).and_then(|i| message.get_mut(i)) {
                *b = 7;
            }
            let more = usize::from(kept > 127);
            let wanted = bare + kept + more;
            let found = there_and_back(&with(Via::Slot(1), &[], &message));
            assert_eq!(found, wanted, "an outbox of {len} with {last}");
            let found = there_and_back(&with(Via::Slot(1), &message, &[]));
            assert_eq!(found, wanted, "an inbox of {len} with {last}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        let good = head(&with(Via::Slot(3), &[1], &[2, 0]));
        let reads = |head: &[u8], inbox: &[u8]| command(head, inbox.into(), vec![2]).is_some();
        assert!(reads(&good, &[1]));
        assert!(!reads(&good[1..], &[1]), "a head of another length");
        assert!(!reads(&good, &[1, 2]), "more bytes than the inbox has");
        for (kind, number) in [
            (kind::DRIVER, 1),
            (kind::USER, 4),
            (kind::GATEWAY, 1),
            (4, 0),
        ] {
            let mut bad = good;
            bad[1..3].copy_from_slice(&[kind, number]);
            assert!(!reads(&bad, &[1]), "it came by {kind} {number}");
        }
        for at in [HEAD - 8, HEAD - 4] {
            for (len, ok) in [(MAX_MESSAGE, true), (MAX_MESSAGE + 1, false), (0, false)] {
                let mut long = good;
                long[at..at + 4].copy_from_slice(&(len as u32).to_le_bytes());
                assert_eq!(reads(&long, &[1]), ok, "{len} at {at}");
            }
        }
    }
}
