// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a store needs of a disk, and the disk that a folder is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// A few files. Until [`Disk::sync`] returns, a write or a cut may have happened in part, in any
/// order, or not at all.
pub trait Disk {
    /// The whole of a file; `None` if there is none.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Writes into a file, which is made if it is not there.
    ///
    /// # Errors
    /// What the system says.
    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file off.
    ///
    /// # Errors
    /// What the system says.
    fn cut(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// What was written to a file stays.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// A file gets another name, in place of the file that has it; that stays.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
}

/// A folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // The file that was written last.
    open: Option<(String, File)>,
}

impl Folder {
    /// An existing folder.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            open: None,
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        let is_open = self.open.as_ref().is_some_and(|(n, _)| n == name);
        if !is_open {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(self.path.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::Error::other("no file")),
        }
    }
}

impl Disk for Folder {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(f) => f,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if file.metadata()?.len() > MAX_BYTES {
            let text = format!("it is larger than {MAX_BYTES} bytes");
            return Err(io::Error::other(text));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, at)
    }

    fn cut(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.file(name)?.set_len(len)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        // Neither name means the file that is open any more.
        self.open = None;
        fs::rename(self.path.join(from), self.path.join(to))?;
        File::open(&self.path)?.sync_all()
    }
}
