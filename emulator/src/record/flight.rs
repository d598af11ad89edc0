// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The flight recorder as a process has it: always on, its follower in a thread of its own, its dumps
//! in files (docs/record.md).

use std::{
    cell::Cell,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, Once, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::Disk;
use crate::{contained::contained, control::new_file};
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
/// Why there are no dumps any more.
const LOST: &str = "the flight recorder failed and has ended; the device goes on; this is a bug";

thread_local! {
    /// This thread panics where the model did, which was said when that happened.
    static FOLLOWS: Cell<bool> = const { Cell::new(false) };
}

enum Job {
    Follow(Frames),
    Dump {
        kept: [Frames; 2],
        name: PathBuf,
        // Already made, or to be made by its name.
        file: Option<Box<dyn Disk>>,
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
            .name("flight".into())
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
    pub fn dump(&mut self, file: impl Disk) -> Receiver<Dumped> {
        let (told, heard) = channel();
        let kept = self.flight.kept();
        self.ask(Job::Dump {
            kept,
            name: PathBuf::new(),
            file: Some(Box::new(file)),
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
        // The worker ends with the queue.
        let _ = self.jobs.as_ref().map(|j| j.send(job));
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take() {
            // Its panics are contained.
            let _ = worker.join();
        }
    }
}

/// Lets a thread that follows panic without a word.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !FOLLOWS.get() {
                before(info);
            }
        }));
    });
}

/// Does the jobs. A panic of ours ends a dump, or all that come, and never the device.
fn work(follower: Follower, head: &Head, todo: &Receiver<Job>, spare: &Mutex<Vec<Vec<u8>>>) {
    let mut follower = Ok(follower);
    for job in todo {
        match job {
            Job::Follow(frames) => {
                follower = follower.and_then(|f| contain(f, |f| f.follow(&frames)));
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
                let done = follower.as_ref().map_err(|e| (*e).to_owned());
                let done = done.and_then(|follower| {
                    let write = || {
                        let file = file.map_or_else(|| Ok(Box::new(new_file(&name)?) as _), Ok);
                        file.and_then(|f| write(follower, head, &kept, f))
                    };
                    contained(write).map_err(|e| e.to_string())
                });
                let name = name.display();
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

/// Lets it follow; one that panicked outside of the model is not what the card was any more.
fn contain<F>(mut follower: F, follow: impl FnOnce(&mut F)) -> Result<F, &'static str> {
    FOLLOWS.set(true);
    let done = contained(|| {
        follow(&mut follower);
        Ok(())
    });
    FOLLOWS.set(false);
    done.map(|()| follower).map_err(|_| {
        log::error!("{LOST}");
        LOST
    })
}

fn write(
    follower: &Follower,
    head: &Head,
    kept: &[Frames],
    mut file: Box<dyn Disk>,
) -> io::Result<usize> {
    let record = follower.record(head.clone(), kept);
    let (bytes, count) = record.map_err(io::Error::other)?;
    file.write_all(&bytes)?;
    file.sync()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contained::{PANICKED, tests::Broken};
    use fw_model::{
        CardOptions, Effects, Time,
        record::{Notes, Record, Step},
    };
    use std::{collections::BTreeMap, fs::File, time::Duration};
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn a_panic_in_a_dump_ends_that_dump_and_nothing_else() {
        let dir = TempDir::new().unwrap();
        let profile = Profile::builtin("minimal").unwrap();
        let card = Card::new(profile.clone(), CardOptions::default(), &BTreeMap::new());
        let head = Head {
            program: String::new(),
            profile: "minimal".into(),
            overlay: None,
            card: Vec::new(),
        };
        let mut flight = FlightRecorder::start(&card, profile, head, dir.as_path().into()).unwrap();
        let limit = Duration::from_secs(10);
        let (notes, effects) = (Notes::default(), Effects::new());
        for count in 1..3 {
            flight.put(&Happening {
                at: Time::ZERO,
                step: &Step::Poll,
                reads: &notes,
                effects: &effects,
                from: 0,
                panicked: false,
            });
            let heard = flight.dump(Broken(0));
            assert_eq!(heard.recv_timeout(limit), Ok(Err(PANICKED.into())));
            let file = dir.as_path().join("dump");
            let heard = flight.dump(File::create(&file).unwrap());
            assert_eq!(heard.recv_timeout(limit), Ok(Ok(count)));
            let bytes = std::fs::read(&file).unwrap();
            assert_eq!(Record::open(&bytes).unwrap().count(), count);
        }
    }

    #[test]
    fn a_follower_that_panics_by_itself_is_not_used_any_more() {
        assert_eq!(contain(1, |f| *f += 1), Ok(2));
        assert_eq!(contain(1, |_| panic!("meant")), Err(LOST));
        assert!(!FOLLOWS.get(), "later panics are told");
    }
}
