// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The journal that a state file is: records of changes, cut into frames (docs/state.md).

use std::collections::BTreeMap;

/// Changes of one record, or a whole content.
pub type Changes = BTreeMap<String, Option<Vec<u8>>>;

/// Bytes of a frame: a disk's sector.
pub const FRAME: usize = 512;
/// Bytes before the content of a frame.
const HEAD: usize = 20;
const CONTENT: usize = FRAME - HEAD;
const VERSION: u8 = 1;
/// Largest number of a record in a file: there are as many left to write, so that none overflows.
const MAX_NUMBER: u64 = u64::MAX / 2;

/// Where a journal stops making sense, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Byte offset.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The content.
    pub content: BTreeMap<String, Vec<u8>>,
    /// Number of the next record.
    pub next: u64,
    /// Where the next record goes: behind the last whole one.
    pub end: usize,
}

/// The frames of a record.
///
/// # Errors
/// If the changes cannot be encoded.
pub fn frames(number: u64, changes: &Changes) -> Result<Vec<u8>, postcard::Error> {
    let content = postcard::to_allocvec(changes)?;
    let pieces: Vec<&[u8]> = content.chunks(CONTENT).collect();
    let mut out = Vec::with_capacity(pieces.len() * FRAME);
    for (i, piece) in pieces.iter().enumerate() {
        let mut f = [0; FRAME];
        f[4..12].copy_from_slice(&number.to_le_bytes());
        f[12..16].copy_from_slice(&(i as u32).to_le_bytes());
        f[16..18].copy_from_slice(&(piece.len() as u16).to_le_bytes());
        f[18] = u8::from(i + 1 == pieces.len());
        f[19] = VERSION;
        f[HEAD..HEAD + piece.len()].copy_from_slice(piece);
        let sum = crc32fast::hash(&f[4..]);
        f[..4].copy_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(&f);
    }
    Ok(out)
}

/// A sound frame.
struct Frame<'a> {
    record: u64,
    index: u32,
    content: &'a [u8],
    last: bool,
}

fn frame(bytes: &[u8]) -> Result<Frame<'_>, &'static str> {
    let number = |at: usize, n: usize| {
        let mut b = [0; 8];
        b[..n].copy_from_slice(&bytes[at..at + n]);
        u64::from_le_bytes(b)
    };
    if number(0, 4) != u64::from(crc32fast::hash(&bytes[4..])) {
        return Err("a checksum is wrong");
    }
    if bytes[19] != VERSION {
        return Err("the format has another version");
    }
    let len = number(16, 2) as usize;
    let content = bytes.get(HEAD..HEAD + len).ok_or("a length is wrong")?;
    Ok(Frame {
        record: number(4, 8),
        index: number(12, 4) as u32,
        content,
        last: bytes[18] != 0,
    })
}

/// Reads a journal. With damage, also what was read before it.
pub fn read(bytes: &[u8]) -> (Read, Option<Damage>) {
    let mut read = Read::default();
    // What was read of a record, and how many frames.
    let (mut record, mut index) = (Vec::new(), 0);
    let mut at = 0;
    let gap = loop {
        let Some(raw) = bytes.get(at..at + FRAME) else {
            // Cut off: what is left was never synced.
            break at;
        };
        if raw.iter().all(|b| *b == 0) {
            break at;
        }
        let damage = move |what| Some(Damage { at, what });
        let f = match frame(raw) {
            Ok(f) => f,
            Err(what) => return (read, damage(what)),
        };
        if f.record > MAX_NUMBER {
            return (read, damage("a record's number is too large"));
        }
        if at == 0 {
            read.next = f.record;
        }
        if (f.record, f.index) != (read.next, index) {
            return (read, damage("a record is missing"));
        }
        record.extend_from_slice(f.content);
        index += 1;
        at += FRAME;
        if f.last {
            let Ok(changes) = postcard::from_bytes::<Changes>(&record) else {
                return (read, damage("a record cannot be read"));
            };
            apply(&mut read.content, changes);
            read.next += 1;
            read.end = at;
            record.clear();
            index = 0;
        }
    };
    // Behind a gap may lie other frames of the record that was not finished, and nothing else.
    let rest = bytes.get(gap..).unwrap_or_default();
    for (i, raw) in rest.chunks_exact(FRAME).enumerate() {
        if raw.iter().all(|b| *b == 0) {
            continue;
        }
        let at = gap + i * FRAME;
        match frame(raw) {
            Ok(f) if f.record == read.next => {}
            Ok(_) => {
                let what = "there are records behind a gap";
                return (read, Some(Damage { at: gap, what }));
            }
            Err(what) => return (read, Some(Damage { at, what })),
        }
    }
    (read, None)
}

/// Makes changes.
pub fn apply(content: &mut BTreeMap<String, Vec<u8>>, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(v) => {
                content.insert(key, v);
            }
            None => {
                content.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, value: &[u8]) -> Changes {
        [(key.to_owned(), Some(value.to_vec()))].into()
    }

    /// Three records; the second one has three frames.
    fn three() -> Vec<u8> {
        let mut j = frames(7, &change("a", &[1])).unwrap();
        j.extend(frames(8, &change("b", &[2; 1100])).unwrap());
        j.extend(frames(9, &change("a", &[3])).unwrap());
        assert_eq!(j.len(), 5 * FRAME);
        j
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (read, damage) = read(&three());
        assert_eq!(damage, None);
        assert_eq!((read.next, read.end), (10, 5 * FRAME));
        assert_eq!(read.content["a"], [3]);
        assert_eq!(read.content["b"], [2; 1100]);
    }

    #[test]
    fn a_changed_byte_anywhere_is_found_and_what_is_before_it_kept() {
        let good = three();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let (kept, damage) = read(&bad);
            let frame = at / FRAME;
            assert_eq!(damage.unwrap().at, frame * FRAME, "byte {at}");
            assert_eq!(kept.end, [0, 1, 1, 1, 4][frame] * FRAME, "byte {at}");
        }
    }

    /// Found by scripts/fuzz.
    #[test]
    fn the_last_number_that_there_is_is_no_number_of_a_record() {
        let (kept, damage) = read(&frames(MAX_NUMBER, &change("a", &[1])).unwrap());
        assert_eq!((kept.next, damage), (MAX_NUMBER + 1, None));
        for number in [MAX_NUMBER + 1, u64::MAX] {
            let (kept, damage) = read(&frames(number, &change("a", &[1])).unwrap());
            assert_eq!(damage.unwrap().what, "a record's number is too large");
            assert_eq!(kept, Read::default());
        }
    }

    #[test]
    fn a_record_that_was_not_finished_is_dropped_and_one_that_is_missing_is_not() {
        let good = three();
        for cut in 4 * FRAME..5 * FRAME {
            let (kept, damage) = read(&good[..cut]);
            assert_eq!((kept.end, damage), (4 * FRAME, None), "cut at {cut}");
        }
        // Any frames of the second record did not reach the disk, and there is no third one.
        for missing in 1..8u8 {
            let mut torn = good[..4 * FRAME].to_vec();
            for f in (0..3).filter(|f| missing >> f & 1 == 1) {
                torn[(1 + f) * FRAME..(2 + f) * FRAME].fill(0);
            }
            let (kept, damage) = read(&torn);
            assert_eq!((kept.end, damage), (FRAME, None), "missing {missing:#b}");
            assert_eq!((kept.next, &kept.content["a"][..]), (8, &[1][..]));
        }
        // A record is not there at all, or one of its frames, or two frames changed places.
        let without = |from: usize, to: usize| {
            let mut j = good.clone();
            j.drain(from * FRAME..to * FRAME);
            j
        };
        let mut swapped = good.clone();
        swapped[FRAME..3 * FRAME].rotate_left(FRAME);
        for bad in [without(1, 4), without(2, 3), swapped] {
            let (_, damage) = read(&bad);
            assert_eq!(damage.unwrap().what, "a record is missing");
        }
        // Behind a record that is not whole there is another one: that cannot be.
        let mut bad = good.clone();
        bad[2 * FRAME..3 * FRAME].fill(0);
        let (kept, damage) = read(&bad);
        assert_eq!((kept.end, damage.unwrap().at), (FRAME, 2 * FRAME));
    }
}
