// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue as the crate keeps it, whose descriptors for signals never block: they are the client's, and
//! whoever waited for one would hold up the card. A client that gives another than an eventfd goes.

use std::{cell::RefCell, fs::File, io, sync::Arc};

use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::socket::signal;

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
}

impl Vring {
    /// The file, if it can be used. One that cannot is closed here, without a lock.
    fn usable(&self, file: Option<File>) -> Option<File> {
        file.filter(|f| {
            let done = signal(f);
            if let (Err(e), Some(refused)) = (&done, &self.refused) {
                refused(e);
            }
            done.is_ok()
        })
    }
}

impl<'a> VringStateGuard<'a, Memory> for Vring {
    type G = std::sync::MutexGuard<'a, VringState>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Vring {
    type G = std::sync::MutexGuard<'a, VringState>;
}

impl VringT<Memory> for Vring {
    fn new(mem: Memory, max_queue_size: u16) -> Result<Self, Error> {
        Ok(Self {
            queue: VringMutex::new(mem, max_queue_size)?,
            refused: REFUSED.with_borrow(Clone::clone),
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
        self.queue.signal_used_queue()
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
        self.queue.set_kick(self.usable(file));
    }

    fn read_kick(&self) -> io::Result<bool> {
        match self.queue.read_kick() {
            // The client took its own signal back: looking at the ring once more costs nothing.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                Ok(self.queue.get_ref().is_enabled())
            }
            other => other,
        }
    }

    fn set_call(&self, file: Option<File>) {
        self.queue.set_call(self.usable(file));
    }

    fn set_err(&self, file: Option<File>) {
        self.queue.set_err(self.usable(file));
    }
}
