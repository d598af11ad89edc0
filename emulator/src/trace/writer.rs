// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writing a trace without ever waiting for it.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Entry, MAGIC, QUEUE, VERSION};

/// How long what was written may stay in memory.
const FLUSH: Duration = Duration::from_millis(200);

/// The end of a queue whose other end is written to a file by a thread of its own. Dropping it ends
/// the file.
pub struct Recorder {
    queue: Option<SyncSender<Entry>>,
    lost: u64,
    writer: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Writes to a file that is empty and is called `name` in log lines.
    ///
    /// # Errors
    /// The file cannot be written, or the thread not started.
    pub fn start(file: File, name: String, head: &Entry) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        put(&mut file, head)?;
        file.flush()?;
        let (queue, entries) = sync_channel(QUEUE);
        let writer = thread::Builder::new().name("trace".into()).spawn(move || {
            if let Err(e) = write(file, &entries) {
                log::error!("the trace {name} ends here: {e}");
            }
        })?;
        Ok(Self {
            queue: Some(queue),
            lost: 0,
            writer: Some(writer),
        })
    }

    /// Puts an entry into the queue, or counts it as lost.
    pub fn put(&mut self, entry: Entry) {
        let Some(queue) = &self.queue else { return };
        let send = |entry| match queue.try_send(entry) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(()),
        };
        let told = match self.lost {
            0 => Ok(true),
            count => send(Entry::Lost { count }),
        };
        let sent = match told {
            Ok(true) => {
                self.lost = 0;
                send(entry)
            }
            other => other,
        };
        match sent {
            Ok(true) => {}
            Ok(false) => self.lost += 1,
            // The writer has said why.
            Err(()) => self.queue = None,
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let (Some(queue), 1..) = (&self.queue, self.lost) {
            // The writer empties the queue: this waits for it, at the end of everything.
            let _ = queue.send(Entry::Lost { count: self.lost });
        }
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn put(file: &mut BufWriter<File>, entry: &Entry) -> io::Result<()> {
    let bytes = postcard::to_allocvec(entry).map_err(io::Error::other)?;
    file.write_all(&(bytes.len() as u32).to_le_bytes())?;
    file.write_all(&bytes)
}

fn write(mut file: BufWriter<File>, entries: &Receiver<Entry>) -> io::Result<()> {
    let mut dirty = false;
    loop {
        let next = if dirty {
            entries.recv_timeout(FLUSH)
        } else {
            entries.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(entry) => {
                put(&mut file, &entry)?;
                dirty = true;
            }
            Err(RecvTimeoutError::Timeout) => {
                file.flush()?;
                dirty = false;
            }
            Err(RecvTimeoutError::Disconnected) => return file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Reader;
    use vmm_sys_util::tempdir::TempDir;

    fn note(at: u64) -> Entry {
        Entry::Note {
            at,
            function: None,
            text: "x".into(),
        }
    }

    #[test]
    fn what_was_put_is_read_and_what_was_not_is_counted() {
        let dir = TempDir::new().unwrap();
        let path = dir.as_path().join("t");
        let mut r = Recorder::start(File::create(&path).unwrap(), String::new(), &note(0)).unwrap();
        for at in 1..=3 {
            r.put(note(at));
        }
        r.lost = 7;
        r.put(note(4));
        r.lost = 2;
        drop(r);
        let all: Result<Vec<_>, _> = Reader::open(&path).unwrap().collect();
        let lost = |count| Entry::Lost { count };
        let expected = [
            note(0),
            note(1),
            note(2),
            note(3),
            lost(7),
            note(4),
            lost(2),
        ];
        assert_eq!(all.unwrap(), expected);
    }

    #[test]
    fn a_full_queue_never_waits() {
        let (queue, entries) = sync_channel(2);
        let mut r = Recorder {
            queue: Some(queue),
            lost: 0,
            writer: None,
        };
        for at in 0..5 {
            r.put(note(at));
        }
        assert_eq!(r.lost, 3);
        assert_eq!((entries.recv(), entries.recv()), (Ok(note(0)), Ok(note(1))));
        r.put(note(5));
        assert_eq!(entries.recv(), Ok(Entry::Lost { count: 3 }));
        assert_eq!(entries.recv(), Ok(note(5)));
        // The writer has gone: nothing more is kept.
        drop(entries);
        r.put(note(6));
        assert!(r.queue.is_none());
    }
}
