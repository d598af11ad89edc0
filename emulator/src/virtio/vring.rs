// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A queue as the crate keeps it, whose descriptors for signals never block: they are the client's, and
//! whoever waited for one would hold up the card.

use std::{fs::File, io};

use log::debug;
use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::Error;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::socket::never_block;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// The crate's queue behind a lock.
#[derive(Clone)]
pub struct Vring(VringMutex);

/// The file, unless it cannot be kept from blocking.
fn made_not_to_block(file: Option<File>) -> Option<File> {
    file.filter(|f| {
        let done = never_block(f);
        if let Err(e) = &done {
            debug!("a descriptor for signals cannot be used: {e}");
        }
        done.is_ok()
    })
}

impl<'a> VringStateGuard<'a, Memory> for Vring {
    type G = std::sync::MutexGuard<'a, VringState>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Vring {
    type G = std::sync::MutexGuard<'a, VringState>;
}

impl VringT<Memory> for Vring {
    fn new(mem: Memory, max_queue_size: u16) -> Result<Self, Error> {
        VringMutex::new(mem, max_queue_size).map(Self)
    }

    fn get_ref(&self) -> <Self as VringStateGuard<'_, Memory>>::G {
        self.0.get_ref()
    }

    fn get_mut(&self) -> <Self as VringStateMutGuard<'_, Memory>>::G {
        self.0.get_mut()
    }

    fn add_used(&self, desc_index: u16, len: u32) -> Result<(), Error> {
        self.0.add_used(desc_index, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.0.signal_used_queue()
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.0.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.0.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.0.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.0.set_enabled(enabled);
    }

    fn set_queue_info(
        &self,
        desc_table: u64,
        avail_ring: u64,
        used_ring: u64,
    ) -> Result<(), Error> {
        self.0.set_queue_info(desc_table, avail_ring, used_ring)
    }

    fn queue_next_avail(&self) -> u16 {
        self.0.queue_next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.0.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, idx: u16) {
        self.0.set_queue_next_used(idx);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.0.queue_used_idx()
    }

    fn set_queue_size(&self, num: u16) {
        self.0.set_queue_size(num);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.0.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.0.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        self.0.set_kick(made_not_to_block(file));
    }

    fn read_kick(&self) -> io::Result<bool> {
        match self.0.read_kick() {
            // The client took its own signal back: looking at the ring once more costs nothing.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(self.0.get_ref().is_enabled()),
            other => other,
        }
    }

    fn set_call(&self, file: Option<File>) {
        self.0.set_call(made_not_to_block(file));
    }

    fn set_err(&self, file: Option<File>) {
        self.0.set_err(made_not_to_block(file));
    }
}
