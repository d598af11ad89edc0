// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state directory: what a card must not forget, in a journal that a crash at any point leaves
//! with the old or the new content (docs/state.md).

mod disk;
mod journal;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use fw_model::{Batch, Store, StoreError};
use rustix::fs::{FlockOperation, flock};

use self::{
    disk::{Disk, Folder},
    journal::{Changes, Damage, Read, apply, frames},
};

/// The content, the next one while it is written, and one that is damaged.
const CARD: &str = "card";
const NEW: &str = "card.new";
const DAMAGED: &str = "card.damaged";
/// A journal is written anew when it is longer than its content so many times, and than this.
const WASTE: usize = 4;
const MIN_WASTE: usize = 1 << 20;

/// A card's store on a disk.
#[derive(Debug)]
struct Journal<D> {
    disk: D,
    content: BTreeMap<String, Vec<u8>>,
    next: u64,
    end: usize,
    // What is on the disk is not known: nothing more is taken.
    broken: bool,
}

/// Why a journal is not opened.
#[derive(Debug)]
enum Unusable {
    Damaged(Damage),
    Failed(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(e: io::Error) -> Self {
        Self::Failed(e)
    }
}

impl<D: Disk> Journal<D> {
    /// Reads what is there. With `recover`, what is before a damaged place is taken.
    fn open(mut disk: D, recover: bool) -> Result<(Self, Option<Damage>), Unusable> {
        let bytes = disk.read(CARD)?;
        let (read, damage) = journal::read(bytes.as_deref().unwrap_or_default());
        if let Some(damage) = damage.clone().filter(|_| !recover) {
            return Err(Unusable::Damaged(damage));
        }
        let Read { content, next, end } = read;
        let mut journal = Self {
            disk,
            content,
            next,
            end,
            broken: false,
        };
        if damage.is_some() {
            journal.disk.rename(CARD, DAMAGED)?;
            journal.write_anew()?;
        } else if bytes.is_some_and(|b| b.len() > end) {
            // A record that was not finished: the next one must not be taken for a part of it.
            journal.disk.cut(CARD, end as u64)?;
            journal.disk.sync(CARD)?;
        }
        Ok((journal, damage))
    }

    fn commit(&mut self, changes: Changes) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        if self.end == 0 {
            // The first record of a file is its whole content.
            let before = self.content.clone();
            apply(&mut self.content, changes);
            return self.write_anew().inspect_err(|_| self.content = before);
        }
        let record = frames(self.next, &changes).map_err(io::Error::other)?;
        let written = self.disk.write(CARD, self.end as u64, &record);
        if let Err(e) = written.and_then(|()| self.disk.sync(CARD)) {
            let end = self.end as u64;
            let undone = self.disk.cut(CARD, end).and_then(|()| self.disk.sync(CARD));
            self.broken = undone.is_err();
            return Err(e);
        }
        self.end += record.len();
        self.next += 1;
        apply(&mut self.content, changes);
        let alive: usize = self.content.iter().map(|(k, v)| k.len() + v.len()).sum();
        if self.end > MIN_WASTE + WASTE * alive {
            // The journal is whole: that it could not be made shorter is no failure.
            if let Err(e) = self.write_anew() {
                log::warn!("the state could not be written anew: {e}");
            }
        }
        Ok(())
    }

    /// Writes the whole content as the first record of a new file.
    fn write_anew(&mut self) -> io::Result<()> {
        let all = self
            .content
            .iter()
            .map(|(k, v)| (k.clone(), Some(v.clone())));
        let record = frames(self.next, &all.collect()).map_err(io::Error::other)?;
        self.disk.cut(NEW, 0)?;
        self.disk.write(NEW, 0, &record)?;
        self.disk.sync(NEW)?;
        // If that fails, nobody knows which of the two files has the name.
        self.disk
            .rename(NEW, CARD)
            .inspect_err(|_| self.broken = true)?;
        self.end = record.len();
        self.next += 1;
        Ok(())
    }
}

/// Why a state directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file is damaged.
    #[error(transparent)]
    Damaged(StoreError),
    /// It cannot be used, or another process does.
    #[error(transparent)]
    Unusable(StoreError),
}

/// A card's store in a directory.
#[derive(Debug)]
pub struct FileStore {
    name: String,
    journal: Journal<Folder>,
    // Held as long as the store: one process per directory.
    _lock: File,
}

impl FileStore {
    /// Opens the store in `dir`, which is made if it is not there. With `recover`, what is before
    /// a damaged place is taken and the damaged file kept beside it.
    ///
    /// # Errors
    /// [`OpenError`] that names the file: not usable, in use by another process, damaged.
    pub fn open(dir: &Path, recover: bool) -> Result<Self, OpenError> {
        let name = dir.display().to_string();
        let error = |what: String| StoreError {
            what: format!("{name}: {what}"),
        };
        let fail = |what: String| OpenError::Unusable(error(what));
        fs::create_dir_all(dir).map_err(|e| fail(format!("cannot be made: {e}")))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|e| fail(format!("cannot be written: {e}")))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(fail(
                "another process uses it; choose another folder or end that process".into(),
            ));
        }
        let (journal, damage) = Journal::open(Folder::new(dir), recover).map_err(|e| match e {
            Unusable::Damaged(d) => OpenError::Damaged(error(format!(
                "file {CARD} is damaged: at byte {}: {}; restore it, remove it, or take what is \
                     before that place with --state-recover",
                d.at, d.what
            ))),
            Unusable::Failed(e) => fail(format!("file {CARD} cannot be used: {e}")),
        })?;
        if let Some(d) = damage {
            let whole = fs::metadata(dir.join(DAMAGED)).map_or(0, |m| m.len());
            log::warn!(
                "{name}: file {CARD} was damaged at byte {}: {}; what was before is in force, and the {} bytes \
                 from there on are dropped; the file is kept as {DAMAGED}",
                d.at,
                d.what,
                whole.saturating_sub(d.at as u64)
            );
        }
        Ok(Self {
            name,
            journal,
            _lock: lock,
        })
    }
}

impl Store for FileStore {
    fn load(&mut self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        Ok(self.journal.content.clone())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let committed = self.journal.commit(batch.puts.clone());
        committed.map_err(|e| StoreError {
            what: format!("{}: cannot be written: {e}", self.name),
        })
    }
}
