// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue as the crate keeps it, whose descriptors for signals hold up nobody: they are the client's, and
//! whoever waited for one would hold up the card. A client that gives another than an eventfd goes.
//!
//! The crate's own reads and writes of them block if the client wants it: they are not used.

use std::{
    cell::RefCell,
    fs::File,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::{
    raise::{self, Line},
    socket::signal,
};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Told why a client's descriptor is refused.
pub type Refused = Arc<dyn Fn(&io::Error) + Send + Sync>;

thread_local! {
    /// For the queues that this thread makes: the crate makes them, and hands on nothing of ours.
    static REFUSED: RefCell<Option<Refused>> = const { RefCell::new(None) };
}

/// Has the queues that `make` makes tell `refused`.
pub fn telling<T>(refused: Refused, make: impl FnOnce() -> T) -> T {
    REFUSED.set(Some(refused));
    let made = make();
    REFUSED.take();
    made
}

/// The crate's queue behind a lock.
#[derive(Clone)]
pub struct Vring {
    queue: VringMutex,
    refused: Option<Refused>,
    // What the crate waits at, once more: it does not lend its own.
    kick: Arc<Mutex<Option<File>>>,
    call: Arc<Mutex<Call>>,
}

/// How the driver is told.
#[derive(Default)]
struct Call {
    line: Line,
    eventfd: Option<Arc<File>>,
    // The client has held up the card with one: there is no other for it.
    over: bool,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vring {
    /// The file, if it can be used. One that cannot is closed here, without a lock.
    fn usable(&self, file: Option<File>) -> Option<File> {
        file.filter(|f| self.taken(signal(f)).is_some())
    }

    /// What there is; a client whose cannot be taken goes.
    fn taken<T>(&self, what: io::Result<T>) -> Option<T> {
        if let (Err(e), Some(refused)) = (&what, &self.refused) {
            refused(e);
        }
        what.ok()
    }
}

impl<'a> VringStateGuard<'a, Memory> for Vring {
    type G = MutexGuard<'a, VringState>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Vring {
    type G = MutexGuard<'a, VringState>;
}

impl VringT<Memory> for Vring {
    fn new(mem: Memory, max_queue_size: u16) -> Result<Self, Error> {
        Ok(Self {
            queue: VringMutex::new(mem, max_queue_size)?,
            refused: REFUSED.with_borrow(Clone::clone),
            kick: Arc::default(),
            call: Arc::default(),
        })
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, Memory>>::G {
        self.queue.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, Memory>>::G {
        self.queue.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.queue.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        let mut call = lock(&self.call);
        let call = &mut *call;
        let Some(eventfd) = &call.eventfd else {
            return Ok(());
        };
        if let Err(e) = call.line.raise(eventfd) {
            call.eventfd = None;
            call.over = true;
            self.taken::<()>(Err(io::Error::other(e)));
        }
        Ok(())
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.queue.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.queue.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.queue.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.queue.set_enabled(enabled);
    }

    fn set_queue_info(
        &self,
        desc_table: u64,
        avail_ring: u64,
        used_ring: u64,
    ) -> Result<(), Error> {
        self.queue.set_queue_info(desc_table, avail_ring, used_ring)
    }

    fn queue_next_avail(&self) -> u16 {
        self.queue.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.queue.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, idx: u16) {
        self.queue.set_queue_next_used(idx);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.queue.queue_used_idx()
    }

    fn set_queue_size(&self, num: u16) {
        self.queue.set_queue_size(num);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.queue.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.queue.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        let file = self.usable(file);
        let other = file.as_ref().map(File::try_clone);
        let other = other.and_then(|f| self.taken(f));
        let before = std::mem::replace(&mut *lock(&self.kick), other);
        self.queue.set_kick(file);
        drop(before);
    }

    fn read_kick(&self) -> io::Result<bool> {
        if let Some(kick) = &*lock(&self.kick) {
            // If the client took its own signal back: looking at the ring once more costs nothing.
            raise::take(kick)?;
        }
        Ok(self.queue.get_ref().is_enabled())
    }

    fn set_call(&self, file: Option<File>) {
        let file = self.usable(file).map(Arc::new);
        let mut call = lock(&self.call);
        let before = match call.over {
            true => file,
            false => std::mem::replace(&mut call.eventfd, file),
        };
        drop(call);
        drop(before);
    }

    fn set_err(&self, file: Option<File>) {
        self.queue.set_err(self.usable(file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        event::{EventfdFlags, eventfd},
        fs::{OFlags, fcntl_getfl, fcntl_setfl},
    };
    use std::{sync::mpsc::channel, thread, time::Duration};

    /// As between the moment in which it is polled and that in which it is read.
    #[test]
    fn a_kick_that_the_client_takes_back_is_not_waited_for() {
        let mem = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let vring = Vring::new(mem, 16).unwrap();
        let kick: File = eventfd(1, EventfdFlags::empty()).unwrap().into();
        vring.set_kick(Some(kick.try_clone().unwrap()));
        vring.set_enabled(true);
        let flags = fcntl_getfl(&kick).unwrap();
        fcntl_setfl(&kick, flags - OFlags::NONBLOCK).unwrap();
        assert!(vring.read_kick().unwrap());
        assert!(!raise::take(&kick).unwrap(), "it was not read");
        let (told, heard) = channel();
        thread::spawn(move || told.send(vring.read_kick().unwrap()));
        assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok(true));
    }
}
