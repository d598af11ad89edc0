// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state directory: one checksummed file that is replaced whole, so that a crash at any
//! point leaves the old or the new content.
//!
//! The file is text: a header line with format version and checksum of the rest, then a line
//! `KEY HEX` per value, by key.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use fw_model::{Batch, Store, StoreError, store::apply};

/// First words of the file.
const MAGIC: &str = "fwctl-emu-state 1";
/// Name of the file in the directory.
const NAME: &str = "card";
/// Largest file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// A card's store in a directory.
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    map: BTreeMap<String, Vec<u8>>,
    // Held as long as the store: one process per directory.
    _lock: File,
}

impl FileStore {
    /// Opens the store in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError`] that names the file: not usable, in use by another process, damaged.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let fail = |what: String| StoreError {
            what: format!("{}: {what}", dir.display()),
        };
        fs::create_dir_all(dir).map_err(|e| fail(format!("cannot be made: {e}")))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|e| fail(format!("cannot be written: {e}")))?;
        // SAFETY: flock takes any open descriptor; `lock` is one.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(fail(
                "another process uses it; choose another folder or end that process".into(),
            ));
        }
        let map = match read(&dir.join(NAME)) {
            Ok(text) => parse(&text).map_err(|e| {
                fail(format!(
                    "file {NAME} is damaged: {e}; restore it or remove it"
                ))
            })?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(fail(format!("file {NAME} cannot be read: {e}"))),
        };
        Ok(Self {
            dir: dir.into(),
            map,
            _lock: lock,
        })
    }

    fn replace(&self, map: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        let part = self.dir.join("card.new");
        let mut f = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&part)?;
        f.write_all(print(map).as_bytes())?;
        f.sync_all()?;
        fs::rename(&part, self.dir.join(NAME))?;
        File::open(&self.dir)?.sync_all()
    }
}

impl Store for FileStore {
    fn load(&mut self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        Ok(self.map.clone())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut map = self.map.clone();
        apply(&mut map, batch);
        self.replace(&map).map_err(|e| StoreError {
            what: format!("{}: cannot be written: {e}", self.dir.display()),
        })?;
        self.map = map;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let f = File::open(path)?;
    if f.metadata()?.len() > MAX_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {MAX_BYTES} bytes"
        )));
    }
    let mut bytes = Vec::new();
    f.take(MAX_BYTES).read_to_end(&mut bytes)?;
    // What is not text fails the checksum and is reported as damage.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print(map: &BTreeMap<String, Vec<u8>>) -> String {
    let body: String = map
        .iter()
        .map(|(k, v)| format!("{k} {}\n", hex(v)))
        .collect();
    format!("{MAGIC} {:016x}\n{body}", fnv(body.as_bytes()))
}

/// The values of a file, or where and how it is damaged.
fn parse(text: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let (head, body) = text.split_once('\n').ok_or("at byte 0: no header line")?;
    let sum = head
        .strip_prefix(MAGIC)
        .ok_or_else(|| format!("at byte 0: it does not begin with {MAGIC:?}"))?;
    if u64::from_str_radix(sum.trim(), 16) != Ok(fnv(body.as_bytes())) {
        return Err(format!(
            "at byte {}: the checksum is not that of the content",
            MAGIC.len() + 1
        ));
    }
    let mut at = head.len() + 1;
    let mut map = BTreeMap::new();
    for line in body.lines() {
        let (k, v) = line
            .split_once(' ')
            .ok_or_else(|| format!("at byte {at}: no value"))?;
        map.insert(
            k.to_owned(),
            unhex(v).ok_or_else(|| format!("at byte {at}: not hexadecimal"))?,
        );
        at += line.len() + 1;
    }
    Ok(map)
}

/// FNV-1a, 64 bits: finds damage, not malice.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|d| Some((char::from(d[0]).to_digit(16)? << 4 | char::from(d[1]).to_digit(16)?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: &str, value: Option<&[u8]>) -> Batch {
        Batch {
            puts: [(key.to_owned(), value.map(<[u8]>::to_vec))].into(),
        }
    }

    #[test]
    fn what_was_committed_is_there_after_a_restart() {
        let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let mut s = FileStore::open(dir.as_path()).unwrap();
        s.commit(&batch("nv/a", Some(&[0, 0xff]))).unwrap();
        s.commit(&batch("nv/b", Some(&[]))).unwrap();
        s.commit(&batch("nv/c", Some(&[1]))).unwrap();
        s.commit(&batch("nv/c", None)).unwrap();
        let e = FileStore::open(dir.as_path()).unwrap_err().what;
        assert!(e.contains("another process uses it"), "{e}");
        drop(s);
        let all = FileStore::open(dir.as_path()).unwrap().load().unwrap();
        assert_eq!(
            all,
            [
                ("nv/a".to_owned(), vec![0, 0xff]),
                ("nv/b".to_owned(), vec![])
            ]
            .into()
        );
    }

    #[test]
    fn damage_at_any_byte_is_found() {
        let good = print(&[("nv/a".to_owned(), vec![1, 2, 3])].into()).into_bytes();
        assert!(parse(std::str::from_utf8(&good).unwrap()).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse(&String::from_utf8_lossy(&bad)).is_err(), "byte {at}");
            assert!(
                parse(&String::from_utf8_lossy(&good[..at])).is_err(),
                "cut at {at}"
            );
        }
    }
}
