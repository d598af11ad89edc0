// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a command lies in a trace: nearly all entries are commands, and what a trace costs is to write them. So it is
//! in three pieces: what there is but the messages, at fixed places, and each message without the zeros at its end,
//! as most of a long answer is zeros.

use std::borrow::Cow;

use fw_model::{Scope, limits::MAX_MESSAGE};
use serde::{Deserialize, Deserializer, de::Error};
use serde_bytes::ByteBuf;

use super::{Command, ENTRY_HEAD, Via, entry_head};

/// The numbers of a command, little-endian.
const HEAD: usize = 36;

/// Kinds of [`Via`].
mod kind {
    pub const SLOT: u8 = 0;
    pub const DRIVER: u8 = 1;
    pub const USER: u8 = 2;
    pub const GATEWAY: u8 = 3;
}

/// Number of [`Entry::Command`](super::Entry::Command) among the entries.
const VARIANT: u8 = 1;
/// What comes before the messages: the head of an entry, which entry it is, and the numbers behind their length.
const BEFORE: usize = ENTRY_HEAD + 2 + HEAD;

/// Adds a command behind its length, as postcard would write it: by hand, since what a trace costs is this.
pub fn append(to: &mut Vec<u8>, c: &Command<'_>) {
    let messages = [&c.inbox, &c.outbox].map(|m| without_zeros(m));
    let pieces: usize = messages.iter().map(|m| varint(m.len()).1 + m.len()).sum();
    let len = BEFORE - ENTRY_HEAD + pieces;
    let mut before = [0; BEFORE];
    let (entry, rest) = before.split_at_mut(ENTRY_HEAD);
    entry.copy_from_slice(&entry_head(len));
    let (which, numbers) = rest.split_at_mut(2);
    which.copy_from_slice(&[VARIANT, HEAD as u8]);
    numbers.copy_from_slice(&head(c));
    to.reserve(ENTRY_HEAD + len);
    to.extend_from_slice(&before);
    for m in messages {
        let (bytes, used) = varint(m.len());
        to.extend(bytes.into_iter().take(used));
        to.extend_from_slice(m);
    }
}

/// A length as postcard writes it, seven bits a byte, and how many bytes that are.
fn varint(len: usize) -> ([u8; 3], usize) {
    const { assert!(MAX_MESSAGE < 1 << 21) };
    const MORE: u8 = 0x80;
    let byte = |n: usize| (len >> (7 * n)) as u8;
    match len {
        0..0x80 => ([byte(0), 0, 0], 1),
        0x80..0x4000 => ([byte(0) | MORE, byte(1), 0], 2),
        _ => ([byte(0) | MORE, byte(1) | MORE, byte(2)], 3),
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Command<'static>, D::Error> {
    let (head, inbox, outbox) = <(ByteBuf, ByteBuf, ByteBuf)>::deserialize(from)?;
    command(&head, inbox.into_vec(), outbox.into_vec())
        .ok_or_else(|| D::Error::custom("this is no command"))
}

#[inline]
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

/// A message up to its last word that is not zero; what does not fill a word at its begin stays.
fn without_zeros(message: &[u8]) -> &[u8] {
    if message.len() < SHORT {
        return message;
    }
    let (rest, words) = message.as_rchunks::<8>();
    let end = rest.len() + there(words) * 8;
    message.get(..end).unwrap_or_default()
}

/// How many words there are up to the last that is not zero.
fn there(words: &[[u8; 8]]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is built for.
        return unsafe { there_avx2(words) };
    }
    there_by_any(words)
}

/// With registers twice as wide, which nearly halves what a long answer costs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn there_avx2(words: &[[u8; 8]]) -> usize {
    there_by_any(words)
}

/// Zeros are looked for from the end, many at once as long as there are only such.
#[inline(always)]
fn there_by_any(words: &[[u8; 8]]) -> usize {
    const STEP: usize = 32;
    let mut rest = words;
    while let Some((before, step)) = rest.split_last_chunk::<STEP>() {
        if step.iter().fold(0, |a, w| a | u64::from_ne_bytes(*w)) != 0 {
            break;
        }
        rest = before;
    }
    let last = rest.iter().rposition(|w| u64::from_ne_bytes(*w) != 0);
    last.map_or(0, |i| i + 1)
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
    use crate::trace::Entry;
    use fw_model::limits::MAX_MESSAGE;

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
        let mut bytes = vec![0xee];
        append(&mut bytes, c);
        let (head, entry) = bytes.split_at(1 + ENTRY_HEAD);
        assert_eq!(head[0], 0xee, "what was there stays");
        assert_eq!(head[1..], entry_head(entry.len()));
        let (read, rest) = postcard::take_from_bytes::<Entry>(entry).unwrap();
        assert_eq!((read, rest), (Entry::Command(c.clone()), &[][..]));
        entry.len()
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
        // Which entry it is, the numbers behind their length, and two lengths.
        let bare = 1 + 1 + HEAD + 1 + 1;
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
            let words = message.as_rchunks().1;
            assert_eq!(there(words), there_by_any(words));
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
