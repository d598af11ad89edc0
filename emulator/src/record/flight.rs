// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The flight recorder as a process has it: always on, its follower in a thread of its own (docs/record.md).
//!
//! The follower never waits for a file, as the device may wait for the follower. Whoever asks for a dump
//! writes it himself; those after a panic are written by another thread.

use std::{
    cell::Cell,
    fs, io,
    path::{Path, PathBuf},
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
/// Names of dumps that may be there already, of other processes with our number: one more is not written.
pub const MAX_TAKEN: u32 = 1000;
/// Generations of frames that wait for the follower; with more, the device waits.
const ROOM: usize = 1;
/// Why there are no dumps any more.
const LOST: &str = "the flight recorder failed and has ended; the device goes on; this is a bug";

thread_local! {
    /// This thread panics where the model did, which was said when that happened.
    static FOLLOWS: Cell<bool> = const { Cell::new(false) };
}

/// A record's bytes and how many frames it has, or why there is none.
pub type Dumped = Result<(Vec<u8>, usize), String>;

/// The file of a dump after a panic.
type Made = io::Result<Box<dyn Disk>>;

enum Job {
    Follow(Frames),
    Dump { kept: [Frames; 2], to: To },
}

/// Who gets a dump.
enum To {
    /// Who asked.
    Asker(Sender<Dumped>),
    /// A file with this number.
    File(u32),
}

/// A card's flight recorder. Dropping it waits for what it still writes.
pub struct FlightRecorder {
    flight: Flight,
    jobs: Option<Sender<Job>>,
    // Taken for each generation that is to be followed, given back when the follower has begun with it.
    room: SyncSender<()>,
    // The follower, and who writes the dumps.
    workers: Vec<JoinHandle<()>>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    panics: u32,
}

impl FlightRecorder {
    /// Begins with `card` as it is. `head` is that of its dumps; those after a panic are written into
    /// `folder`.
    ///
    /// # Errors
    /// The card cannot be copied, or a thread not started.
    pub fn start(
        card: &Card,
        profile: Arc<Profile>,
        head: Head,
        folder: PathBuf,
    ) -> io::Result<Self> {
        let make = |name: &Path| Ok(Box::new(new_file(name)?) as _);
        Self::start_with(card, profile, head, folder, make)
    }

    /// The same with files of another kind.
    fn start_with(
        card: &Card,
        profile: Arc<Profile>,
        head: Head,
        folder: PathBuf,
        make: impl Fn(&Path) -> Made + Send + 'static,
    ) -> io::Result<Self> {
        let follower = Follower::new(card, profile).map_err(io::Error::other)?;
        let (jobs, todo) = channel();
        let (room, taken) = sync_channel(ROOM);
        // It holds no more than MAX_DUMPS.
        let (dumps, written) = channel();
        let spare = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let work = Work {
            follower: Ok(follower),
            head,
            taken,
            spare: spare.clone(),
            dumps,
        };
        quiet();
        let thread = |name: &str| thread::Builder::new().name(name.into());
        let workers = vec![
            thread("flight").spawn(move || work.run(&todo))?,
            thread("dumps").spawn(move || write(&folder, &written, make))?,
        ];
        Ok(Self {
            flight: Flight::default(),
            jobs: Some(jobs),
            room,
            workers,
            spare,
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
            // The follower lives as long as this does.
            let _ = self.room.send(());
            self.ask(Job::Follow(old));
        }
    }

    /// Has what is kept made a record, for whoever listens at what is returned.
    pub fn dump(&mut self) -> Receiver<Dumped> {
        let (told, heard) = channel();
        let kept = self.flight.kept();
        let to = To::Asker(told);
        self.ask(Job::Dump { kept, to });
        heard
    }

    /// The model has panicked: has what led to it written to a file, of a few.
    pub fn panicked(&mut self) {
        if self.panics >= MAX_DUMPS {
            log::error!("{MAX_DUMPS} dumps were written before: there is none of this one");
            return;
        }
        self.panics += 1;
        let kept = self.flight.kept();
        let to = To::File(self.panics);
        self.ask(Job::Dump { kept, to });
    }

    fn ask(&mut self, job: Job) {
        // The follower ends with the queue.
        let _ = self.jobs.as_ref().map(|j| j.send(job));
    }
}

impl Drop for FlightRecorder {
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
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

/// What the follower's thread has.
struct Work {
    follower: Result<Follower, &'static str>,
    head: Head,
    taken: Receiver<()>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    dumps: Sender<(u32, Dumped)>,
}

impl Work {
    /// Does the jobs. A panic of ours ends a dump, or all that come, and never the device.
    fn run(mut self, todo: &Receiver<Job>) {
        for job in todo {
            match job {
                Job::Follow(frames) => {
                    let _ = self.taken.recv();
                    self.follower = self
                        .follower
                        .and_then(|f| contain(f, |f| f.follow(&frames)));
                    if let Ok(used) = Arc::try_unwrap(frames) {
                        let mut all = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
                        if all.is_empty() {
                            all.push(used);
                        }
                    }
                }
                Job::Dump { kept, to } => {
                    let dumped = self.dump(&kept);
                    // Who asked may have gone, and who writes only ends after this.
                    let _ = match to {
                        To::Asker(told) => told.send(dumped).is_ok(),
                        To::File(number) => self.dumps.send((number, dumped)).is_ok(),
                    };
                }
            }
        }
    }

    fn dump(&self, kept: &[Frames]) -> Dumped {
        let follower = self.follower.as_ref().map_err(|e| (*e).to_owned())?;
        let record = || follower.record(self.head.clone(), kept);
        contained(|| record().map_err(io::Error::other)).map_err(|e| e.to_string())
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

/// Writes the dumps after panics into `folder`, each to its file.
fn write(folder: &Path, dumps: &Receiver<(u32, Dumped)>, make: impl Fn(&Path) -> Made) {
    let process = std::process::id();
    let name = |number| folder.join(format!("fwctl-emu-{process}-{number}.record"));
    for (first, dumped) in dumps {
        let mut number = first;
        let written = dumped.and_then(|(bytes, count)| {
            let mut file = contained(|| {
                loop {
                    match make(&name(number)) {
                        // In a container the next process is called as this one.
                        Err(e) if is_taken(&e) && number - first < MAX_TAKEN => number += 1,
                        made => return made,
                    }
                }
            })
            .map_err(|e| e.to_string())?;
            let write = || {
                file.write_all(&bytes)?;
                file.sync()
            };
            contained(write).map_err(|e| {
                // Half of it is of no use.
                let _ = fs::remove_file(name(number));
                e.to_string()
            })?;
            Ok(count)
        });
        let name = name(number);
        let name = name.display();
        match written {
            Ok(n) => log::error!(
                "the last {n} inputs up to there are in {name}: `fwctl-emu replay {name}` runs them again"
            ),
            Err(e) => log::error!("{name}: {e}: what led to it is lost"),
        }
    }
}

fn is_taken(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::AlreadyExists
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contained::tests::Broken;
    use fw_model::{
        Caller, CardOptions, Effects, FunctionId, Input, Time,
        record::{Notes, Record, Step, flight::GENERATION},
    };
    use std::{collections::BTreeMap, fs::File, io::Write, time::Duration};
    use vmm_sys_util::tempdir::TempDir;

    const LIMIT: Duration = Duration::from_secs(60);

    fn started(folder: &Path, make: impl Fn(&Path) -> Made + Send + 'static) -> FlightRecorder {
        let profile = Profile::builtin("minimal").unwrap();
        let card = Card::new(profile.clone(), CardOptions::default(), &BTreeMap::new());
        let head = Head {
            program: String::new(),
            profile: "minimal".into(),
            overlay: None,
            card: Vec::new(),
        };
        FlightRecorder::start_with(&card, profile, head, folder.into(), make).unwrap()
    }

    fn put(flight: &mut FlightRecorder) {
        put_step(flight, &Step::Poll);
    }

    fn put_step(flight: &mut FlightRecorder, step: &Step<'_>) {
        let (notes, effects) = (Notes::default(), Effects::new());
        flight.put(&Happening {
            at: Time::ZERO,
            step,
            reads: &notes,
            effects: &effects,
            from: 0,
            panicked: false,
        });
    }

    fn frames(record: &[u8]) -> usize {
        Record::open(record).unwrap().count()
    }

    #[test]
    fn a_panic_in_writing_a_dump_ends_that_dump_and_nothing_else() {
        let dir = TempDir::new().unwrap();
        let mut flight = started(dir.as_path(), |name| {
            let broken = name.to_str().is_some_and(|n| n.ends_with("-1.record"));
            Ok(if broken {
                Box::new(Broken(0))
            } else {
                Box::new(File::create(name)?)
            })
        });
        for count in 1..3 {
            put(&mut flight);
            flight.panicked();
            let dumped = flight.dump().recv_timeout(LIMIT).unwrap().unwrap();
            assert_eq!((frames(&dumped.0), dumped.1), (count, count));
        }
        drop(flight);
        let all: Vec<_> = fs::read_dir(dir.as_path()).unwrap().collect();
        assert_eq!(all.len(), 1);
        let bytes = fs::read(all[0].as_ref().unwrap().path()).unwrap();
        assert_eq!(frames(&bytes), 2);
    }

    /// A file on a disk that is full after some bytes.
    struct Full(File);

    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            match self.0.metadata()?.len() {
                0 => self.0.write(&buf[..8]),
                _ => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Full {
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_dump_takes_a_name_that_is_free_of_so_many() {
        let dir = TempDir::new().unwrap();
        let name = |n: u32| format!("fwctl-emu-{}-{n}.record", std::process::id());
        let path = |n| dir.as_path().join(name(n));
        let dumped = || {
            let mut flight = started(dir.as_path(), |name| Ok(Box::new(new_file(name)?)));
            put(&mut flight);
            flight.panicked();
            put(&mut flight);
            flight.panicked();
        };
        // Two processes with the same number.
        dumped();
        dumped();
        assert_eq!(names(dir.as_path()), [1, 2, 3, 4].map(name));
        let counts = [1, 2, 3, 4].map(|n| frames(&fs::read(path(n)).unwrap()));
        assert_eq!(counts, [1, 2, 1, 2]);
        // All are taken: what is there stays.
        for n in 5..=MAX_TAKEN + 3 {
            fs::write(path(n), b"x").unwrap();
        }
        fs::remove_file(path(4)).unwrap();
        dumped();
        assert_eq!(fs::read(path(MAX_TAKEN + 3)).unwrap(), b"x");
        let last = path(MAX_TAKEN + 4);
        assert!(path(4).exists() && !last.exists());
    }

    #[test]
    fn half_a_dump_is_removed() {
        let dir = TempDir::new().unwrap();
        let mut flight = started(dir.as_path(), |name| Ok(Box::new(Full(new_file(name)?))));
        flight.panicked();
        drop(flight);
        assert_eq!(names(dir.as_path()).len(), 0);
    }

    /// A disk on which nothing is ever done.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Stalled {
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_stalls_holds_up_neither_the_device_nor_who_asks_for_a_dump() {
        let (done, stall) = channel();
        let stall = Cell::new(Some(stall));
        let mut flight = started(Path::new(""), move |_| {
            // Those after the first find that the test is over.
            let stall = stall.take().unwrap_or_else(|| channel().1);
            Ok(Box::new(Stalled(stall)))
        });
        let (told, heard) = channel();
        let device = thread::spawn(move || {
            for _ in 0..=MAX_DUMPS {
                flight.panicked();
            }
            // More generations than wait for the follower, of long frames: of a function that there is not.
            let inbox = vec![0; GENERATION / 16];
            let step = Step::Input(Input::Command {
                function: FunctionId(0),
                tag: 0,
                caller: Caller::Driver,
                inbox: &inbox,
                outbox_len: 16,
            });
            (0..64).for_each(|_| put_step(&mut flight, &step));
            let dumped = flight.dump().recv_timeout(LIMIT).unwrap().unwrap();
            told.send(frames(&dumped.0)).unwrap();
            flight
        });
        let kept = heard.recv_timeout(LIMIT);
        drop(done);
        assert!(kept.is_ok_and(|n| n > 0), "the device waits for the disk");
        drop(device.join().unwrap());
    }

    #[test]
    fn a_follower_that_panics_by_itself_is_not_used_any_more() {
        assert_eq!(contain(1, |f| *f += 1), Ok(2));
        assert_eq!(contain(1, |_| panic!("meant")), Err(LOST));
        assert!(!FOLLOWS.get(), "later panics are told");
    }
}
