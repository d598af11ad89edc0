// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signals from and to clients over their eventfds, which never block for long.
//!
//! An eventfd is open on the client's side too, with the same flags and the same counter: he can have a write
//! to it block, whatever we have set before. Reads are such as ask the kernel not to block. For writes there
//! is no such call; therefore each is published while it lasts, and a thread of the process takes the
//! counter back under one that does not end.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ReadWriteFlags, preadv2, write},
};

/// How long a client's eventfd may hold up who signals to it.
pub const MAX_RAISE: Duration = Duration::from_millis(100);
/// How often the watchdog looks while there are signals.
const STEP: Duration = Duration::from_millis(50);
/// How often it takes a counter back while a write waits: the client may fill it again.
const HELP_STEP: Duration = Duration::from_millis(1);

/// A client's eventfd was full, and a write to it blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its eventfd holds up the card")]
pub struct HeldUp;

/// Takes a signal back; false if there was none. Never blocks, whatever the eventfd's flags.
///
/// # Errors
/// What the system says.
pub fn take(eventfd: &File) -> io::Result<bool> {
    let mut count = [0; 8];
    // The offset of a file that has none.
    let got = preadv2(
        eventfd,
        &mut [IoSliceMut::new(&mut count)],
        u64::MAX,
        ReadWriteFlags::NOWAIT,
    );
    match got {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// One who signals, one signal after the other.
#[derive(Debug)]
pub struct Line(Arc<Slot>);

/// The write in progress.
type Slot = Mutex<Option<Write>>;

#[derive(Debug)]
struct Write {
    // Its number stays taken as long as the watchdog may read from it.
    eventfd: Arc<File>,
    // How long the watchdog has slept since it first found it. By no clock, which also counts while the
    // process is stopped.
    waited: Option<Duration>,
    helped: bool,
}

impl Default for Line {
    fn default() -> Self {
        let slot = Arc::default();
        let mut all = lock(&LINES);
        all.retain(|l| l.strong_count() > 0);
        all.push(Arc::downgrade(&slot));
        Self(slot)
    }
}

impl Line {
    /// Signals. One whose counter is full is signalled already.
    ///
    /// # Errors
    /// [`HeldUp`]: it took longer than [`MAX_RAISE`], by the client's fault.
    pub fn raise(&mut self, eventfd: &Arc<File>) -> Result<(), HeldUp> {
        let watchdog = match watchdog() {
            Ok(thread) => thread,
            Err(e) => {
                // A lost signal harms its client alone.
                log::error!("a client is not signalled: thread eventfds: {e}");
                return Ok(());
            }
        };
        *lock(&self.0) = Some(Write {
            eventfd: eventfd.clone(),
            waited: None,
            helped: false,
        });
        if PARKED.load(Ordering::SeqCst) && PARKED.swap(false, Ordering::SeqCst) {
            watchdog.unpark();
        }
        // It fails if it would block, unless the client has cleared O_NONBLOCK.
        let _ = write(eventfd, &1u64.to_ne_bytes());
        let over = lock(&self.0).take();
        match over {
            Some(Write { helped: true, .. }) => Err(HeldUp),
            _ => Ok(()),
        }
    }
}

/// All that live.
static LINES: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());
/// The watchdog has found nobody who signals, and waits for one.
static PARKED: AtomicBool = AtomicBool::new(false);

/// The one thread that watches, which the first signal starts.
fn watchdog() -> io::Result<&'static Thread> {
    static STARTED: OnceLock<Thread> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    if let Some(thread) = STARTED.get() {
        return Ok(thread);
    }
    let _one = lock(&STARTING);
    if let Some(thread) = STARTED.get() {
        return Ok(thread);
    }
    let named = thread::Builder::new().name("eventfds".into());
    let started = named.spawn(watch)?.thread().clone();
    Ok(STARTED.get_or_init(|| started))
}

fn watch() {
    let mut pause = STEP;
    loop {
        pause = match look(pause) {
            Found::HeldUp => HELP_STEP,
            Found::Signals => STEP,
            Found::Nothing => {
                PARKED.store(true, Ordering::SeqCst);
                // Whoever publishes a write after this look finds PARKED set: both take the write's lock.
                if nobody() {
                    thread::park();
                }
                PARKED.store(false, Ordering::SeqCst);
                STEP
            }
        };
        thread::sleep(pause);
    }
}

enum Found {
    Nothing,
    Signals,
    HeldUp,
}

fn nobody() -> bool {
    let all = lock(&LINES);
    let mut lines = all.iter().filter_map(Weak::upgrade);
    lines.all(|line| lock(&line).is_none())
}

/// Looks after each write in progress, `slept` after the last look; helps those that last too long.
fn look(slept: Duration) -> Found {
    let mut found = Found::Nothing;
    for line in lock(&LINES).iter().filter_map(Weak::upgrade) {
        let mut slot = lock(&line);
        let Some(write) = &mut *slot else { continue };
        let waited = write
            .waited
            .map_or(Duration::ZERO, |w| w.saturating_add(slept));
        write.waited = Some(waited);
        if !matches!(found, Found::HeldUp) {
            found = Found::Signals;
        }
        if waited >= MAX_RAISE && is_full(&write.eventfd) {
            write.helped = true;
            found = Found::HeldUp;
            if let Err(e) = take(&write.eventfd) {
                log::error!("an eventfd that holds up the card cannot be read: {e}");
            }
        }
    }
    found
}

/// True if a write of 1 would block: if not, it is not the client who delays it.
fn is_full(eventfd: &File) -> bool {
    let mut asked = [PollFd::new(eventfd, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let done = poll(&mut asked, Some(&now));
    let [asked] = asked;
    done.is_err() || !asked.revents().contains(PollFlags::OUT)
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::time::Instant;

    fn full(flags: EventfdFlags) -> Arc<File> {
        let fd = eventfd(0, flags).unwrap();
        write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        Arc::new(fd.into())
    }

    #[test]
    fn a_signal_ends_whatever_the_client_does_with_its_eventfd() {
        for flags in [EventfdFlags::empty(), EventfdFlags::SEMAPHORE] {
            let (one, other) = (full(flags), full(flags));
            let began = Instant::now();
            let raise = |fd| move || Line::default().raise(&fd);
            let both = [one, other].map(|fd| thread::spawn(raise(fd)));
            for waits in both {
                assert_eq!(waits.join().unwrap(), Err(HeldUp));
            }
            let took = began.elapsed();
            assert!((MAX_RAISE..MAX_RAISE * 10).contains(&took), "{took:?}");
        }
    }

    #[test]
    fn a_client_that_fills_it_again_holds_up_nobody_for_good() {
        let fd = full(EventfdFlags::empty());
        let fills = || {
            let fd = fd.clone();
            // Those that wait at the end do so until the process ends.
            thread::spawn(move || while write(&fd, &(u64::MAX - 1).to_ne_bytes()).is_ok() {})
        };
        let _fillers: Vec<_> = (0..8).map(|_| fills()).collect();
        assert_eq!(Line::default().raise(&fd), Err(HeldUp));
    }

    #[test]
    fn good_clients_are_signalled_and_their_signals_are_theirs() {
        let mut line = Line::default();
        let fd: Arc<File> = Arc::new(eventfd(0, EventfdFlags::empty()).unwrap().into());
        for _ in 0..1000 {
            assert_eq!(line.raise(&fd), Ok(()));
        }
        // The watchdog has slept meanwhile, and is woken.
        thread::sleep(STEP * 4);
        assert_eq!(line.raise(&fd), Ok(()));
        assert!(take(&fd).unwrap());
        assert!(!take(&fd).unwrap(), "and does not block");
        // Signalled already.
        assert_eq!(line.raise(&full(EventfdFlags::NONBLOCK)), Ok(()));
    }
}
