// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reading a trace: an entry at a time, none trusted.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use super::{ENTRY_HEAD, Entry, MAGIC, MAX_ENTRY, VERSION};

/// Why a file is not read, or not further.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The operating system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is no trace")]
    NoTrace,
    /// It was written by another version.
    #[error(
        "this trace has format {0}, and only format {VERSION} is read: look at it with the fwctl-emu that wrote it"
    )]
    Version(u32),
    /// The process that wrote it was killed.
    #[error("it ends within an entry, at byte {0}: whoever wrote it was killed")]
    Cut(u64),
    /// Something that cannot be an entry.
    #[error("damaged at byte {0}")]
    Damaged(u64),
}

/// The entries of a file, in their order. After an error there are none.
pub struct Reader {
    file: BufReader<File>,
    at: u64,
    ended: bool,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, or is no trace of this version.
    pub fn open(path: &Path) -> Result<Self, Broken> {
        let mut file = BufReader::new(File::open(path)?);
        let mut head = [0; 12];
        file.read_exact(&mut head).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Broken::NoTrace,
            _ => e.into(),
        })?;
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Broken::NoTrace);
        }
        match version.try_into().map(u32::from_le_bytes) {
            Ok(VERSION) => Ok(Self {
                file,
                at: head.len() as u64,
                ended: false,
            }),
            Ok(other) => Err(Broken::Version(other)),
            Err(_) => Err(Broken::NoTrace),
        }
    }

    /// Reads so many bytes; `None` at the end of the file.
    fn take(&mut self, len: usize) -> Result<Option<Vec<u8>>, Broken> {
        let mut bytes = Vec::new();
        let wanted = (&mut self.file).take(len as u64);
        match io::Read::read_to_end(&mut { wanted }, &mut bytes)? {
            0 if len > 0 => Ok(None),
            n if n == len => Ok(Some(bytes)),
            _ => Err(Broken::Cut(self.at)),
        }
    }

    fn entry(&mut self) -> Result<Option<Entry<'static>>, Broken> {
        let Some(head) = self.take(ENTRY_HEAD)? else {
            return Ok(None);
        };
        let word = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
        let (len, inverted) = head.split_at(4);
        let (len, inverted) = (word(len), word(inverted));
        let is_changed = inverted != !len;
        let len = len as usize;
        if is_changed || !(1..=MAX_ENTRY).contains(&len) {
            return Err(Broken::Damaged(self.at));
        }
        let bytes = self.take(len)?.ok_or(Broken::Cut(self.at))?;
        let Ok((entry, [])) = postcard::take_from_bytes(&bytes) else {
            return Err(Broken::Damaged(self.at));
        };
        self.at += (ENTRY_HEAD + len) as u64;
        Ok(Some(entry))
    }
}

impl Iterator for Reader {
    type Item = Result<Entry<'static>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.entry().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Command, Recorder, Unanswered, Via};
    use fw_model::{Delivery, ResetKind, Scope, Why};
    use std::fs;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn any_cut_and_any_changed_byte_is_an_error_or_an_entry_and_never_a_panic() {
        let dir = TempDir::new().unwrap();
        let path = dir.as_path().join("t");
        let head = Entry::Head {
            profile: "minimal".into(),
            program: "0".into(),
        };
        let mut r = Recorder::start(File::create(&path).unwrap(), String::new(), &head).unwrap();
        r.put(&Entry::Lost { count: 1 << 40 });
        drop(r);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let end = match Reader::open(&path) {
                Err(e) => Some(e),
                Ok(r) => r.filter_map(Result::err).next(),
            };
            match (len, end) {
                (0..12, Some(Broken::NoTrace)) => {}
                // Nothing, or one entry, is a whole file.
                (12 | 31, None) => {}
                (13.., Some(Broken::Cut(at))) => assert!(at == 12 || at == 31, "{len}"),
                (_, other) => panic!("cut at {len}: {other:?}"),
            }
        }
        // Where lengths lie: no bit of them may look like a file that ends too early.
        let lengths = [12..20, 31..39];
        for bit in 0..whole.len() * 8 {
            let mut other = whole.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &other).unwrap();
            let Ok(r) = Reader::open(&path) else {
                assert!(bit < 12 * 8, "bit {bit}");
                continue;
            };
            let all: Vec<_> = r.collect();
            assert!(all.len() <= 3);
            if lengths.iter().any(|l| l.contains(&(bit / 8))) {
                let end = all.last();
                let damaged = matches!(end, Some(Err(Broken::Damaged(12 | 31))));
                assert!(damaged, "bit {bit}: {end:?}");
            }
        }
        fs::write(&path, [&MAGIC[..], &3u32.to_le_bytes()].concat()).unwrap();
        assert!(matches!(Reader::open(&path), Err(Broken::Version(3))));
    }

    /// One entry of each kind.
    fn every_kind() -> Vec<Entry<'static>> {
        let (at, function, data) = (1 << 33, 3, vec![7; 28].into());
        vec![
            Entry::Command(Command {
                function,
                via: Via::Channel(Some(Scope::DebugWrite)),
                submitted: at,
                completed: at + 5,
                own: 300,
                delivery: 0,
                inbox: vec![1; 300].into(),
                outbox: vec![2; 16].into(),
            }),
            Entry::Event {
                at,
                function,
                event_type: 9,
                sub_type: 4,
                data,
                lost: true,
            },
            Entry::Interrupt {
                at,
                function,
                vector: 300,
            },
            Entry::Segment {
                at,
                function,
                offset: 0x18,
                data: vec![0, 0, 0, 1].into(),
            },
            Entry::Doorbell {
                at,
                function,
                page: 2,
                offset: 0x40,
                data: vec![0; 8].into(),
            },
            Entry::Gateway {
                at,
                function,
                space: 3,
                address: 0,
                value: 0x9001_0001,
                then: Some(0x9001_0000),
            },
            Entry::Refused {
                at,
                function,
                scope: Some(Scope::Configuration),
                delivery: Delivery::ScopeDenied,
                header: vec![1; 3].into(),
            },
            Entry::Reset {
                at,
                function,
                kind: Some(ResetKind::Flr),
                generation: 2,
            },
            Entry::Note {
                at,
                function: None,
                text: "x".into(),
            },
            Entry::Lost { count: 5 },
            Entry::Unanswered(Unanswered {
                function,
                via: Via::Slot(31),
                submitted: at,
                at: at + 1,
                why: Why::Lost,
                inbox: vec![3; 20].into(),
            }),
        ]
    }

    #[test]
    fn a_file_cut_at_any_byte_gives_what_is_whole_and_says_where_it_ends() {
        let dir = TempDir::new().unwrap();
        let path = dir.as_path().join("t");
        let kinds = every_kind();
        let mut r =
            Recorder::start(File::create(&path).unwrap(), String::new(), &kinds[9]).unwrap();
        for e in &kinds {
            r.put(e);
        }
        drop(r);
        let whole = fs::read(&path).unwrap();
        // Where each entry ends.
        let mut ends = vec![12];
        while let Some(end) = ends.last().copied().filter(|e| *e < whole.len()) {
            let len = u32::from_le_bytes(whole[end..end + 4].try_into().unwrap());
            ends.push(end + ENTRY_HEAD + len as usize);
        }
        assert_eq!(ends.len(), kinds.len() + 2);
        for len in 12..=whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let before = ends.iter().rposition(|e| *e <= len).unwrap();
            let all: Vec<_> = Reader::open(&path).unwrap().collect();
            let read: Vec<_> = all.iter().filter_map(|e| e.as_ref().ok()).collect();
            let expected: Vec<_> = [&kinds[9]].into_iter().chain(&kinds).take(before).collect();
            assert_eq!(read, expected, "cut at {len}");
            match (all.last(), ends.contains(&len)) {
                (Some(Ok(_)) | None, true) => {}
                (Some(Err(Broken::Cut(at))), false) => assert_eq!(*at, ends[before] as u64),
                (other, _) => panic!("cut at {len}: {other:?}"),
            }
        }
    }
}
