// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The flight recorder as a process has it: always on, its follower in a thread of its own, its dumps
//! in files (docs/record.md).

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, Once, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use crate::control::new_file;
use fw_model::{
    Card, Profile,
    record::{
        Happening, Head,
        flight::{Flight, Follower, Frames},
    },
};

/// Dumps that panics of the model lead to, at most; those that are asked for are not counted.
pub const MAX_DUMPS: u32 = 8;
/// Jobs that wait for the follower; with more, the device waits.
const JOBS: usize = 1;
/// The follower's thread. It panics where the model did, which was said when that happened.
const THREAD: &str = "flight";

enum Job {
    Follow(Frames),
    Dump {
        kept: [Frames; 2],
        name: PathBuf,
        // Already made, or to be made by its name.
        file: Option<File>,
        // Who asked; nobody after a panic.
        told: Option<Sender<Dumped>>,
    },
}

/// How many frames a dump has, or why there is none.
pub type Dumped = Result<usize, String>;

/// A card's flight recorder. Dropping it waits for what it still writes.
pub struct FlightRecorder {
    flight: Flight,
    jobs: Option<SyncSender<Job>>,
    worker: Option<JoinHandle<()>>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    folder: PathBuf,
    panics: u32,
}

impl FlightRecorder {
    /// Begins with `card` as it is. `head` is that of its dumps; those after a panic are written into
    /// `folder`.
    ///
    /// # Errors
    /// The card cannot be copied, or the thread not started.
    pub fn start(
        card: &Card,
        profile: Arc<Profile>,
        head: Head,
        folder: PathBuf,
    ) -> io::Result<Self> {
        let follower = Follower::new(card, profile).map_err(io::Error::other)?;
        let (jobs, todo) = sync_channel(JOBS);
        let spare = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let back = spare.clone();
        quiet();
        let worker = thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || work(follower, &head, &todo, &back))?;
        Ok(Self {
            flight: Flight::default(),
            jobs: Some(jobs),
            worker: Some(worker),
            spare,
            folder,
            panics: 0,
        })
    }

    /// Keeps a frame. It may have to wait for the follower, if that gets no time at all.
    pub fn put(&mut self, frame: &Happening<'_>) {
        let spare = || {
            let mut all = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            all.pop().unwrap_or_default()
        };
        if let Some(old) = self.flight.put(frame, spare) {
            self.ask(Job::Follow(old));
        }
    }

    /// Writes what is kept to a file that is empty, for whoever listens at what is returned.
    pub fn dump(&mut self, file: File) -> Receiver<Dumped> {
        let (told, heard) = channel();
        let kept = self.flight.kept();
        self.ask(Job::Dump {
            kept,
            name: PathBuf::new(),
            file: Some(file),
            told: Some(told),
        });
        heard
    }

    /// The model has panicked: writes what led to it to a file, of a few.
    pub fn panicked(&mut self) {
        if self.panics >= MAX_DUMPS {
            log::error!("{MAX_DUMPS} dumps were written before: there is none of this one");
            return;
        }
        self.panics += 1;
        let name = format!("fwctl-emu-{}-{}.record", std::process::id(), self.panics);
        let kept = self.flight.kept();
        self.ask(Job::Dump {
            kept,
            name: self.folder.join(name),
            file: None,
            told: None,
        });
    }

    fn ask(&mut self, job: Job) {
        // Without a worker, which has ended by a bug, there are no dumps; the device goes on.
        let _ = self.jobs.as_ref().map(|j| j.send(job));
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take() {
            // It ends with the queue; a panic of its own would have no one to be told to.
            let _ = worker.join();
        }
    }
}

/// Lets the follower's thread panic without a word.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if thread::current().name() != Some(THREAD) {
                before(info);
            }
        }));
    });
}

fn work(mut follower: Follower, head: &Head, todo: &Receiver<Job>, spare: &Mutex<Vec<Vec<u8>>>) {
    for job in todo {
        match job {
            Job::Follow(frames) => {
                follower.follow(&frames);
                if let Ok(used) = Arc::try_unwrap(frames) {
                    let mut all = spare.lock().unwrap_or_else(PoisonError::into_inner);
                    if all.is_empty() {
                        all.push(used);
                    }
                }
            }
            Job::Dump {
                kept,
                name,
                file,
                told,
            } => {
                let file = file.map_or_else(|| new_file(&name), Ok);
                let done = file.and_then(|f| write(&follower, head, &kept, f));
                let (name, done) = (name.display(), done.map_err(|e| e.to_string()));
                match (told, done) {
                    (Some(told), done) => {
                        let _ = told.send(done);
                    }
                    (None, Ok(n)) => log::error!(
                        "the last {n} inputs up to there are in {name}: `fwctl-emu replay {name}` runs \
                         them again"
                    ),
                    (None, Err(e)) => log::error!("{name}: {e}: what led to it is lost"),
                }
            }
        }
    }
}

fn write(follower: &Follower, head: &Head, kept: &[Frames], mut file: File) -> io::Result<usize> {
    let record = follower.record(head.clone(), kept);
    let (bytes, count) = record.map_err(io::Error::other)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    Ok(count)
}
