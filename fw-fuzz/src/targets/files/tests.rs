// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the targets of files begin with, and the largest numbers in them.

use super::*;

/// A seed that is refused at once, as after a change of a format, leaves its target without anything to do.
#[test]
fn what_the_files_targets_begin_with_is_read_to_its_end() {
    let content = |seed: &Vec<u8>| split(seed).1;
    let seeds = trace_seeds();
    assert_eq!(seeds.len(), usize::from(WAYS));
    for (n, seed) in seeds.iter().enumerate() {
        let path = file(&format!("seed-{n}"), &content(seed));
        let all: Result<Vec<_>, _> = Reader::open(&path).unwrap().collect();
        let all = all.unwrap();
        assert!(all.contains(&Entry::Lost { count: 3 }) && all.len() > 12);
        fs::remove_file(path).unwrap();
    }
    let seeds = record_seeds();
    assert!(seeds.len() > 10);
    let mut frames = 0;
    for seed in &seeds {
        let mut bytes = content(seed);
        let before = bytes.clone();
        sum_frames(&mut bytes);
        assert_eq!(bytes, before);
        let record = Record::open(&bytes).unwrap();
        Replay::new(profile(), &record.head).unwrap();
        frames += record.map(Result::unwrap).count();
    }
    assert!(frames > 3 * seeds.len(), "{frames}");
    for seed in card_seeds() {
        Card::load(profile(), &content(&seed)).unwrap();
    }
    for seed in profile_seeds() {
        Profile::parse(text(&seed), "seed").unwrap();
    }
    for seed in overlay_seeds() {
        Overlay::parse(text(&seed), "seed").unwrap();
    }
    for (n, seed) in fault_seeds().iter().enumerate() {
        let path = file(&format!("faults-{n}"), seed);
        assert!(!faults::read(&path).unwrap().is_empty());
        fs::remove_file(path).unwrap();
    }
    let dir = folder().join("state-of-a-seed");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("card"), content(&state_seeds()[0])).unwrap();
    let mut store = FileStore::open(&dir, false).unwrap();
    assert_eq!(store.load().unwrap().len(), 3);
}

/// Numbers are written seven bits a byte in these files: one of them may be the largest there is, wherever it stands.
fn with_largest(content: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let at = |at: usize| {
        let end = content[at..].iter().position(|b| b & 0x80 == 0)?;
        let (before, behind) = (&content[..at], &content[at + end + 1..]);
        let largest = [
            &[0xff, 0xff, 0x03][..],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ];
        Some(largest.map(|n| [before, n, behind].concat()))
    };
    (0..content.len()).filter_map(at).flatten()
}

#[test]
fn files_with_the_largest_number_anywhere_are_refused_or_worked_with() {
    let mut seeds = trace_seeds();
    let content = seeds.remove(0);
    let mut at = FILE_HEAD;
    // Each entry with its length as it is then.
    while let Some(len) = content[1 + at..].first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        let body = 1 + at + trace::ENTRY_HEAD;
        let (before, behind) = (&content[..1 + at], &content[body + len..]);
        let entry = &content[body..body + len];
        for (n, entry) in with_largest(entry).enumerate() {
            let head = trace::entry_head(entry.len());
            let mut input = [before, &head, &entry, behind].concat();
            input[0] = n as u8 % WAYS;
            trace(&input);
        }
        at += trace::ENTRY_HEAD + len;
    }
    for seed in card_seeds() {
        // All places of a small one, and some of the others.
        let step = if seed.len() < 4000 { 1 } else { 17 };
        let cards = with_largest(&seed[1..]).step_by(step);
        cards.for_each(|c| card(&[&[0], &c[..]].concat()));
    }
    let record_seed = &record_seeds()[1][1..];
    let mut frames = Vec::new();
    for_each_length(&mut record_seed.to_vec(), record::FRAME_HEAD, |frame| {
        frames.push(frame[record::FRAME_HEAD..].to_vec());
    });
    let head = record::sealed(&frames[0]);
    // The first is the head, with the card.
    for n in 1..frames.len() {
        for frame in with_largest(&frames[n]) {
            let mut input = [&[0], &record_seed[..FILE_HEAD], &head].concat();
            for (m, f) in frames.iter().enumerate().skip(1) {
                input.extend(record::sealed(if m == n { &frame } else { f }));
            }
            record(&input);
        }
    }
}

/// More than a number holds are missing in it, as it says.
#[test]
fn a_trace_of_the_largest_numbers_is_done_with_in_all_ways() {
    let lost = postcard::to_allocvec(&Entry::Lost { count: u64::MAX }).unwrap();
    let entry = [&trace::entry_head(lost.len())[..], &lost].concat();
    for mut seed in trace_seeds() {
        seed.extend(entry.repeat(2));
        trace(&seed);
    }
}

/// Changed bytes reach what lies behind lengths and checksums.
#[test]
fn heads_of_changed_content_are_made_right() {
    let seeds = record_seeds();
    let mut bytes = split(&seeds[0]).1;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(Record::open(&bytes).unwrap().any(|f| f.is_err()));
    sum_frames(&mut bytes);
    let damaged = |f: Result<_, _>| matches!(f, Err(record::Broken::Damaged(_)));
    let frames = Record::open(&bytes).unwrap();
    // `panicked` is the last byte: 1 is a bool as well.
    assert!(!frames.map(|f| f.map(drop)).any(damaged));
}
