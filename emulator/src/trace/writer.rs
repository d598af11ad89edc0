// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writing a trace without ever waiting for it.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{ENTRY_HEAD, Entry, MAGIC, QUEUE, VERSION, entry_head, packed};
use crate::contained::contained;

/// How long what was put may stay in memory.
const FLUSH: Duration = Duration::from_millis(200);
/// Bytes that are written at once even if they are younger: few enough to be still in a processor's cache.
const ENOUGH: usize = 256 << 10;

/// What is to be written: entries as they lie in the file.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Nothing more comes.
    closed: bool,
    /// Nothing more is written.
    failed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    // Wakes the writer: at the first bytes, when there are enough, and at the end.
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that holds it can panic half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of a queue whose other end is written to a file by a thread of its own. Dropping it ends
/// the file.
pub struct Recorder {
    name: String,
    shared: Arc<Shared>,
    // Since the last entry that was taken.
    lost: u64,
    writer: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Writes to a file that is empty and is called `name` in log lines.
    ///
    /// # Errors
    /// The file cannot be written, or the thread not started.
    pub fn start(
        mut file: impl Write + Send + 'static,
        name: String,
        head: &Entry<'_>,
    ) -> io::Result<Self> {
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        append(&mut bytes, head);
        file.write_all(&bytes)?;
        let shared = Arc::new(Shared::default());
        let (theirs, called) = (shared.clone(), name.clone());
        let writer = thread::Builder::new().name("trace".into()).spawn(move || {
            let mut bytes = Vec::new();
            // A panic of ours ends the trace, not the device.
            if let Err(e) = contained(|| write(&mut file, &theirs, &mut bytes)) {
                let mut queue = theirs.lock();
                queue.failed = true;
                let waiting = core::mem::take(&mut queue.bytes);
                drop(queue);
                let lost = entries(&bytes) + entries(&waiting);
                log::error!("the trace {called} ends here, up to {lost} entries are lost: {e}");
            }
        })?;
        Ok(Self {
            name,
            shared,
            lost: 0,
            writer: Some(writer),
        })
    }

    /// Puts an entry into the queue, or counts it as lost.
    pub fn put(&mut self, entry: &Entry<'_>) {
        let mut queue = self.shared.lock();
        if queue.failed {
            // The writer has said why.
            self.lost += 1;
            return;
        }
        let before = queue.bytes.len();
        if before >= QUEUE {
            self.lost += 1;
            return;
        }
        if self.lost > 0 {
            append(&mut queue.bytes, &Entry::Lost { count: self.lost });
        }
        append(&mut queue.bytes, entry);
        if queue.bytes.len() > QUEUE {
            queue.bytes.truncate(before);
            self.lost += 1;
            return;
        }
        self.lost = 0;
        let enough = before < ENOUGH && queue.bytes.len() >= ENOUGH;
        drop(queue);
        // Else it wakes by itself.
        if before == 0 || enough {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if self.lost > 0 && !queue.failed {
            append(&mut queue.bytes, &Entry::Lost { count: self.lost });
        }
        queue.closed = true;
        drop(queue);
        self.shared.wake.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        if self.lost > 0 && self.shared.lock().failed {
            let (name, lost) = (&self.name, self.lost);
            log::error!("the trace {name} lacks what came later: {lost} entries");
        }
    }
}

/// Where postcard puts what it writes: behind what is there, pieces of bytes as pieces.
struct Behind<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Behind<'_> {
    type Output = ();

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Adds an entry behind its length.
fn append(to: &mut Vec<u8>, entry: &Entry<'_>) {
    if let Entry::Command(c) = entry {
        return packed::append(to, c);
    }
    let from = to.len();
    to.extend_from_slice(&[0; ENTRY_HEAD]);
    // Memory is all that it takes.
    if postcard::serialize_with_flavor(entry, Behind(to)).is_err() {
        return to.truncate(from);
    }
    let len = to.len().saturating_sub(from + ENTRY_HEAD);
    if let Some(head) = to.get_mut(from..from + ENTRY_HEAD) {
        head.copy_from_slice(&entry_head(len));
    }
}

/// How many entries lie there.
fn entries(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((len, _)) = bytes.split_first_chunk() {
        let next = ENTRY_HEAD.saturating_add(u32::from_le_bytes(*len) as usize);
        bytes = bytes.get(next..).unwrap_or_default();
        count += 1;
    }
    count
}

/// Writes what comes until nothing more does. What is being written is in `bytes`.
fn write(file: &mut impl Write, shared: &Shared, bytes: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut queue = shared.lock();
        while queue.bytes.is_empty() && !queue.closed {
            queue = wait(shared, queue, None);
        }
        let until = Instant::now() + FLUSH;
        while queue.bytes.len() < ENOUGH && !queue.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = wait(shared, queue, Some(left));
        }
        core::mem::swap(bytes, &mut queue.bytes);
        let closed = queue.closed;
        drop(queue);
        file.write_all(bytes)?;
        bytes.clear();
        if closed {
            return Ok(());
        }
    }
}

fn wait<'a>(
    shared: &Shared,
    queue: MutexGuard<'a, Queue>,
    most: Option<Duration>,
) -> MutexGuard<'a, Queue> {
    let wake = &shared.wake;
    match most {
        None => wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
        Some(most) => {
            let waited = wake.wait_timeout(queue, most);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contained::tests::Broken, trace::Reader};
    use std::fs::File;
    use vmm_sys_util::tempdir::TempDir;

    fn note(at: u64) -> Entry<'static> {
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
            r.put(&note(at));
        }
        r.lost = 7;
        r.put(&note(4));
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

    /// Without a writer nobody empties the queue.
    #[test]
    fn a_full_queue_never_waits() {
        let shared = Arc::new(Shared::default());
        let mut r = Recorder {
            name: String::new(),
            shared: shared.clone(),
            lost: 0,
            writer: None,
        };
        let long = |at| Entry::Note {
            at,
            function: None,
            text: "x".repeat(QUEUE / 2 - 100),
        };
        for at in 0..5 {
            r.put(&long(at));
        }
        assert_eq!(r.lost, 3);
        assert!(shared.lock().bytes.len() <= QUEUE);
        let whole = core::mem::take(&mut shared.lock().bytes);
        r.put(&note(5));
        let mut expected = Vec::new();
        append(&mut expected, &Entry::Lost { count: 3 });
        append(&mut expected, &note(5));
        assert_eq!(shared.lock().bytes, expected);
        let mut expected = Vec::new();
        append(&mut expected, &long(0));
        append(&mut expected, &long(1));
        assert_eq!(whole, expected);
        // The writer has failed: nothing more is kept, and what comes is counted.
        shared.lock().failed = true;
        shared.lock().bytes.clear();
        for at in 6..9 {
            r.put(&note(at));
        }
        assert_eq!((r.lost, shared.lock().bytes.len()), (3, 0));
    }

    #[test]
    fn a_panic_of_the_writer_ends_the_trace_and_nothing_else() {
        // The head is written.
        let mut r = Recorder::start(Broken(1), String::new(), &note(0)).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let mut at = 0;
        while !r.shared.lock().failed {
            assert!(Instant::now() < end, "nobody says that it ended");
            at += 1;
            r.put(&note(at));
            thread::sleep(Duration::from_millis(1));
        }
        r.lost = 0;
        r.put(&note(1));
        r.put(&note(2));
        assert_eq!((r.lost, r.shared.lock().bytes.len()), (2, 0));
    }

    #[test]
    fn a_disk_that_is_full_ends_the_trace_and_nothing_else() {
        let mut r =
            Recorder::start(File::create("/dev/null").unwrap(), String::new(), &note(0)).unwrap();
        drop(r);
        // Every write to it fails with ENOSPC.
        assert!(
            Recorder::start(
                File::options().write(true).open("/dev/full").unwrap(),
                String::new(),
                &note(0)
            )
            .is_err()
        );
        let shared = Arc::new(Shared::default());
        r = Recorder {
            name: String::new(),
            shared: shared.clone(),
            lost: 0,
            writer: None,
        };
        r.put(&note(1));
        let mut full = File::create("/dev/full").unwrap();
        let mut lost = Vec::new();
        assert!(write(&mut full, &shared, &mut lost).is_err());
        assert_eq!(entries(&lost), 1);
        append(&mut lost, &note(2));
        assert_eq!(entries(&lost), 2);
    }
}
