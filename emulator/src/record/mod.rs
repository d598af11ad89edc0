// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Records on disk: written while a card is served, run again without a guest (docs/record.md).

pub mod cli;
mod flight;
mod sides;

pub use flight::{Dumped, FlightRecorder, MAX_DUMPS};

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use fw_model::record::{self, Happening, Head};

use crate::contained::contained;

/// Frames that wait to be written; with more, the device waits.
pub const QUEUE: usize = 64;
/// Bytes of a record that is read.
pub const MAX_FILE: u64 = 4 << 30;
/// How long what was written may stay in memory.
const FLUSH: Duration = Duration::from_millis(200);

/// What a record is written to.
pub trait Disk: Write + Send + 'static {
    /// Returns when what was written is safe, if that can be had.
    ///
    /// # Errors
    /// It is not.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn sync(&self) -> io::Result<()> {
        match self.sync_data() {
            // Pipes and the like cannot be synced.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

/// The end of a queue whose other end is written to a file by a thread of its own. Dropping it ends
/// the file.
pub struct Recorder {
    queue: Option<SyncSender<Vec<u8>>>,
    writer: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Writes to a file that is empty. `failed` is called once if it cannot be written any more, be it by a
    /// panic of ours.
    ///
    /// # Errors
    /// The file cannot be written, or the thread not started.
    pub fn start(
        file: impl Disk,
        head: &Head,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        file.write_all(&record::head(head).map_err(io::Error::other)?)?;
        file.flush()?;
        let (queue, frames) = sync_channel(QUEUE);
        let writer = thread::Builder::new()
            .name("record".into())
            .spawn(move || {
                // Who is told that it failed finds that nothing is taken any more.
                if let Err(e) = contained(move || write(file, &frames)) {
                    failed(e);
                }
            })?;
        Ok(Self {
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// Puts a frame into the queue, when there is room. False if nothing can be written any more.
    pub fn put(&mut self, frame: &Happening<'_>) -> bool {
        let mut body = Vec::new();
        if frame.write(&mut body).is_err() {
            return false;
        }
        let queue = self.queue.as_ref();
        queue.is_some_and(|q| q.send(record::sealed(&body)).is_ok())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // It ends with the queue.
            let _ = writer.join();
        }
    }
}

fn write(mut file: BufWriter<impl Disk>, frames: &Receiver<Vec<u8>>) -> io::Result<()> {
    loop {
        match frames.recv_timeout(FLUSH) {
            Ok(bytes) => file.write_all(&bytes)?,
            Err(RecvTimeoutError::Timeout) => file.flush()?,
            Err(RecvTimeoutError::Disconnected) => {
                file.flush()?;
                return file.get_ref().sync();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::{
        Effects, GuestMemory, Time, Unmapped,
        record::{Noted, Notes, Record, Step},
    };
    use std::{
        io::Read as _,
        os::fd::OwnedFd,
        sync::atomic::{AtomicUsize, Ordering},
        time::Instant,
    };

    use crate::contained::{PANICKED, tests::Broken};

    /// Bytes that each frame holds, as what was read from guest memory.
    const DATA: usize = 16 << 10;
    /// Frames that the file of the test takes by itself: a pipe of 64 KiB, a buffer, one being written.
    const TAKEN: usize = 8;

    /// Guest memory full of sevens.
    struct Sevens;

    impl GuestMemory for Sevens {
        fn read(&self, _: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
            buf.fill(7);
            Ok(())
        }
    }

    fn head() -> Head {
        Head {
            program: String::new(),
            profile: String::new(),
            overlay: None,
            card: Vec::new(),
        }
    }

    /// Whoever waits for room in the queue is told, and so is whoever comes later.
    #[test]
    fn a_panic_of_the_writer_is_told_as_an_error_and_nobody_waits_for_it() {
        let (told, heard) = std::sync::mpsc::channel();
        let failed = move |e: io::Error| told.send(e.to_string()).unwrap();
        // The head is written.
        let mut recorder = Recorder::start(Broken(1), &head(), failed).unwrap();
        let (ends, end) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let (notes, effects) = (Notes::default(), Effects::new());
            let frame = Happening {
                at: Time::ZERO,
                step: &Step::Poll,
                reads: &notes,
                effects: &effects,
                from: 0,
                panicked: false,
            };
            while recorder.put(&frame) {}
            assert!(!recorder.put(&frame));
            drop(recorder);
            ends.send(()).unwrap();
        });
        let limit = Duration::from_secs(10);
        assert_eq!(heard.recv_timeout(limit), Ok(PANICKED.into()));
        end.recv_timeout(limit).unwrap();
        // It is told once.
        assert!(heard.recv_timeout(limit).is_err());
    }

    #[test]
    fn a_record_that_is_not_written_makes_the_device_wait_and_loses_nothing() {
        const FRAMES: usize = 3 * QUEUE;
        let (mut reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(writer));
        let mut recorder = Recorder::start(file, &head(), |e| panic!("{e}")).unwrap();
        let mut notes = Notes::default();
        Noted::new(&Sevens, &mut notes)
            .read(0, &mut vec![0; DATA])
            .unwrap();
        let effects = Effects::new();
        let frame = Happening {
            at: Time::ZERO,
            step: &Step::Poll,
            reads: &notes,
            effects: &effects,
            from: 0,
            panicked: false,
        };
        let put = AtomicUsize::new(0);
        thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..FRAMES {
                    assert!(recorder.put(&frame));
                    put.fetch_add(1, Ordering::SeqCst);
                }
                drop(recorder);
            });
            let end = Instant::now() + Duration::from_secs(10);
            while put.load(Ordering::SeqCst) < QUEUE {
                assert!(Instant::now() < end, "it waits too early");
                thread::sleep(Duration::from_millis(1));
            }
            // More than enough for the rest, if nothing held it.
            thread::sleep(Duration::from_millis(200));
            assert!(
                put.load(Ordering::SeqCst) <= QUEUE + TAKEN,
                "it does not wait"
            );
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            let frames = Record::open(&all).unwrap();
            assert_eq!(frames.map(Result::unwrap).count(), FRAMES);
        });
    }
}
