// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver's side of a split virtqueue in memory that is shared with a vhost-user backend.
//!
//! A test may put any descriptor anywhere ([`Ring::put`], [`Ring::offer`]); the orderly way is
//! [`Ring::add`]. Signals are counted, so that a benchmark can print them per request.

use std::{
    io,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::{Duration, Instant},
};

use vm_memory::{
    Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryError, GuestMemoryMmap,
};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::{EFD_NONBLOCK, EventFd},
};

/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const INDIRECT: u16 = 4;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

/// Bytes from the start of the descriptor table to the end of the used ring, for up to 1024
/// entries: 16 KiB of descriptors, 2 KiB + 6 bytes of available ring, 8 KiB + 6 bytes of used ring.
pub const RING_BYTES: u64 = 0x8000;

/// Where the available ring lies from the start.
const AVAIL_OFFSET: u64 = 0x4000;
/// Where the used ring lies from the start.
const USED_OFFSET: u64 = 0x5000;

/// What went wrong on a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// An address of the ring itself is outside of the shared memory.
    #[error("ring memory: {0}")]
    Memory(#[from] GuestMemoryError),
    /// An eventfd or epoll call failed.
    #[error("ring signal: {0}")]
    Io(#[from] io::Error),
    /// No free descriptors.
    #[error("ring full")]
    Full,
    /// The device answered nothing in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The device's used ring makes no sense.
    #[error("used ring: {0}")]
    Used(&'static str),
}

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// The device writes it.
    pub writable: bool,
}

/// A chain that the device gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Head of the chain.
    pub head: u16,
    /// Bytes that the device says it wrote.
    pub len: u32,
}

/// The driver's side of one virtqueue.
pub struct Ring {
    mem: Arc<GuestMemoryMmap>,
    base: u64,
    size: u16,
    event_idx: bool,
    free: Vec<u16>,
    // Descriptors of each chain in flight, by head.
    held: Vec<Vec<u16>>,
    next_avail: u16,
    kicked: u16,
    last_used: u16,
    kick: EventFd,
    call: EventFd,
    epoll: Epoll,
    /// Kicks sent.
    pub kicks: u64,
    /// Times that a wait was ended by the device's call.
    pub calls: u64,
}

impl Ring {
    /// A ring of `size` entries (a power of two, at most 1024) at `base`, which is zeroed for
    /// [`RING_BYTES`].
    ///
    /// # Errors
    /// Memory outside of `mem`, or no file descriptors.
    pub fn new(
        mem: Arc<GuestMemoryMmap>,
        base: u64,
        size: u16,
        event_idx: bool,
    ) -> Result<Self, RingError> {
        mem.write_slice(&[0; RING_BYTES as usize], GuestAddress(base))?;
        let kick = EventFd::new(EFD_NONBLOCK)?;
        let call = EventFd::new(EFD_NONBLOCK)?;
        let epoll = Epoll::new()?;
        // Edge-triggered and never read: one call per wait, and a wait has a time limit.
        let events = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        epoll.ctl(
            ControlOperation::Add,
            std::os::fd::AsRawFd::as_raw_fd(&call),
            events,
        )?;
        Ok(Self {
            mem,
            base,
            size,
            event_idx,
            free: (0..size).rev().collect(),
            held: vec![Vec::new(); usize::from(size)],
            next_avail: 0,
            kicked: 0,
            last_used: 0,
            kick,
            call,
            epoll,
            kicks: 0,
            calls: 0,
        })
    }

    /// Entries.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// The device's eventfd to be told of new chains.
    #[must_use]
    pub fn kick_fd(&self) -> &EventFd {
        &self.kick
    }

    /// The eventfd through which the device tells of used chains.
    #[must_use]
    pub fn call_fd(&self) -> &EventFd {
        &self.call
    }

    /// Guest-physical address of the descriptor table.
    #[must_use]
    pub fn table(&self) -> u64 {
        self.base
    }

    /// Guest-physical address of the available ring.
    #[must_use]
    pub fn avail(&self) -> u64 {
        self.base + AVAIL_OFFSET
    }

    /// Guest-physical address of the used ring.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.base + USED_OFFSET
    }

    /// Writes descriptor `index` of the table at `table`, whatever it says.
    ///
    /// # Errors
    /// Memory.
    pub fn put(
        &self,
        table: u64,
        index: u16,
        addr: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) -> Result<(), RingError> {
        let raw = u128::from(addr)
            | u128::from(len) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        self.mem.write_slice(
            &raw.to_le_bytes(),
            GuestAddress(table + 16 * u64::from(index)),
        )?;
        Ok(())
    }

    /// Makes the chain at `head` available, whatever it is; [`Ring::kick`] tells the device.
    ///
    /// # Errors
    /// Memory.
    pub fn offer(&mut self, head: u16) -> Result<(), RingError> {
        let slot = u64::from(self.next_avail % self.size);
        self.mem.store(
            head.to_le(),
            GuestAddress(self.avail() + 4 + 2 * slot),
            Ordering::Relaxed,
        )?;
        self.next_avail = self.next_avail.wrapping_add(1);
        self.mem.store(
            self.next_avail.to_le(),
            GuestAddress(self.avail() + 2),
            Ordering::Release,
        )?;
        Ok(())
    }

    /// Makes a chain of `buffers` available and returns its head.
    ///
    /// # Errors
    /// [`RingError::Full`], or memory.
    pub fn add(&mut self, buffers: &[Buffer]) -> Result<u16, RingError> {
        if buffers.is_empty() || self.free.len() < buffers.len() {
            return Err(RingError::Full);
        }
        let rest = self.free.len() - buffers.len();
        let head = self.free[self.free.len() - 1];
        let mut list = std::mem::take(&mut self.held[usize::from(head)]);
        list.clear();
        list.extend(self.free.drain(rest..).rev());
        for (i, b) in buffers.iter().enumerate() {
            let next = list.get(i + 1).copied();
            let flags = if b.writable { WRITE } else { 0 } | if next.is_some() { NEXT } else { 0 };
            self.put(self.base, list[i], b.addr, b.len, flags, next.unwrap_or(0))?;
        }
        self.held[usize::from(head)] = list;
        self.offer(head)?;
        Ok(head)
    }

    /// Tells the device of the chains made available since the last kick, if it wants to know.
    ///
    /// # Errors
    /// Memory or the eventfd.
    pub fn kick(&mut self) -> Result<(), RingError> {
        fence(Ordering::SeqCst);
        let (old, new) = (self.kicked, self.next_avail);
        self.kicked = new;
        let wanted = if self.event_idx {
            let at = self.used() + 4 + 8 * u64::from(self.size);
            let event: u16 = u16::from_le(self.mem.load(GuestAddress(at), Ordering::Relaxed)?);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            let flags: u16 = u16::from_le(
                self.mem
                    .load(GuestAddress(self.used()), Ordering::Relaxed)?,
            );
            flags & NO_NOTIFY == 0
        };
        if wanted && old != new {
            self.kick_now()?;
        }
        Ok(())
    }

    /// Kicks the device whether it wants it or not.
    ///
    /// # Errors
    /// The eventfd.
    pub fn kick_now(&mut self) -> Result<(), RingError> {
        self.kicks += 1;
        self.kick.write(1)?;
        Ok(())
    }

    /// The next chain that the device gave back, if there is one; its descriptors are free again.
    ///
    /// # Errors
    /// Memory, or a used element that names no descriptor.
    pub fn pop(&mut self) -> Result<Option<Used>, RingError> {
        let idx: u16 = u16::from_le(
            self.mem
                .load(GuestAddress(self.used() + 2), Ordering::Acquire)?,
        );
        if idx == self.last_used {
            return Ok(None);
        }
        if idx.wrapping_sub(self.last_used) > self.size {
            return Err(RingError::Used("more elements than the ring has"));
        }
        let slot = u64::from(self.last_used % self.size);
        let mut raw = [0u8; 8];
        self.mem
            .read_slice(&mut raw, GuestAddress(self.used() + 4 + 8 * slot))?;
        let raw = u64::from_le_bytes(raw);
        let head =
            u16::try_from(raw & 0xffff_ffff).map_err(|_| RingError::Used("head out of range"))?;
        let list = self
            .held
            .get_mut(usize::from(head))
            .ok_or(RingError::Used("head out of range"))?;
        self.free.extend(list.drain(..).rev());
        self.last_used = self.last_used.wrapping_add(1);
        Ok(Some(Used {
            head,
            len: (raw >> 32) as u32,
        }))
    }

    /// Waits until the device gave a chain back, at most until `limit` from now.
    ///
    /// # Errors
    /// [`RingError::Timeout`], or what [`Ring::pop`] says.
    pub fn wait(&mut self, limit: Duration) -> Result<Used, RingError> {
        // The clock is read only when a wake-up brought nothing.
        let mut end = None;
        loop {
            if let Some(used) = self.pop()? {
                return Ok(used);
            }
            self.ask_for_call(true)?;
            if let Some(used) = self.pop()? {
                return Ok(used);
            }
            let left = match end {
                None => limit,
                Some(end) => Instant::saturating_duration_since(&end, Instant::now()),
            };
            if left.is_zero() {
                return Err(RingError::Timeout(limit));
            }
            let mut events = [EpollEvent::default()];
            match self.epoll.wait(
                i32::try_from(left.as_millis().max(1)).unwrap_or(i32::MAX),
                &mut events,
            ) {
                Ok(n) => self.calls += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
            if let Some(used) = self.pop()? {
                return Ok(used);
            }
            end.get_or_insert_with(|| Instant::now() + left);
        }
    }

    /// Asks the device to call for the next used chain, or not to call.
    ///
    /// # Errors
    /// Memory.
    pub fn ask_for_call(&self, wanted: bool) -> Result<(), RingError> {
        if self.event_idx {
            // Without a wish the index stays half a turn away.
            let event = if wanted {
                self.last_used
            } else {
                self.last_used.wrapping_sub(0x8000)
            };
            let at = self.avail() + 4 + 2 * u64::from(self.size);
            self.mem
                .store(event.to_le(), GuestAddress(at), Ordering::Relaxed)?;
        } else {
            let flags = if wanted { 0 } else { NO_INTERRUPT };
            self.mem
                .store(flags.to_le(), GuestAddress(self.avail()), Ordering::Relaxed)?;
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// The index up to which the device has been offered chains.
    #[must_use]
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Address of `addr` in this process, as vhost-user names ring addresses.
    ///
    /// # Errors
    /// Memory.
    pub fn host_address(&self, addr: u64) -> Result<u64, RingError> {
        Ok(self.mem.get_host_address(GuestAddress(addr))? as u64)
    }
}
