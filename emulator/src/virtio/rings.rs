// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What replies and events touch: the used rings, the chains that wait, the event backlog.
//!
//! This is the function's [`Sink`]: it is called with the owner's lock held, from whatever thread
//! gave the card an input, and never calls the owner. Lock order: round, owner, rings, queue.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
    time::Duration,
};

use fw_model::{Delivery, Order};
use fwctl_proto::virtio::{RESPONSE_HEADER_BYTES, ResponseHeader, Status};
use log::debug;
use vhost_user_backend::VringT as _;
use virtio_queue::{QueueOwnedT as _, QueueT as _};
use vm_memory::{
    Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap,
};

use super::{
    COMMAND_QUEUE, EVENT_QUEUE, QUEUES,
    chain::{self, Chain, Segment, Table},
    events::Backlog,
    held::Held,
    limits::{MAX_BAD_BUFFERS, MAX_HELD, MAX_ROUND},
    vring::Vring,
};
use crate::owner::Sink;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;

/// Pause of who goes through a driver's bad buffers.
const TURN: Duration = Duration::from_micros(100);

/// Everything behind the lock.
struct State {
    held: Held,
    backlog: Backlog,
    // Used for one event buffer after the other.
    buffer: Chain,
    heads: Vec<u16>,
    // Used elements that the driver was not told of yet, by queue.
    untold: [bool; QUEUES],
}

/// The rings of one connection.
pub struct Rings {
    mem: GuestMemoryAtomic<GuestMemoryMmap>,
    vrings: OnceLock<Vec<Vring>>,
    indirect: AtomicBool,
    // A round is being served: its end tells the driver.
    in_round: AtomicBool,
    state: Mutex<State>,
}

impl Rings {
    /// Rings in `mem`; nothing is started.
    #[must_use]
    pub fn new(mem: GuestMemoryAtomic<GuestMemoryMmap>) -> Self {
        let state = State {
            held: Held::new(MAX_HELD),
            backlog: Backlog::default(),
            buffer: Chain::default(),
            heads: Vec::new(),
            untold: [false; QUEUES],
        };
        Self {
            mem,
            vrings: OnceLock::new(),
            indirect: AtomicBool::new(false),
            in_round: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is behind the lock is whole between any two of its steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues, as the crate hands them to each event: the same ones every time.
    pub fn adopt(&self, vrings: &[Vring]) {
        self.vrings.get_or_init(|| vrings.to_vec());
    }

    fn vring(&self, queue: usize) -> Option<&Vring> {
        self.vrings.get()?.get(queue)
    }

    /// What the driver accepted of indirect descriptors.
    pub fn set_indirect(&self, on: bool) {
        self.indirect.store(on, Ordering::Relaxed);
    }

    /// From here to [`Rings::end_round`] replies are put into the used ring and nobody is told.
    pub fn begin_round(&self) {
        self.in_round.store(true, Ordering::Release);
    }

    /// Tells the driver of what the round answered, once per queue and only if it asked for it.
    pub fn end_round(&self) {
        self.in_round.store(false, Ordering::Release);
        self.tell(&mut self.lock());
    }

    /// Takes the heads of up to `limit` chains of a queue, and says where their descriptors are;
    /// `None` if the queue does not run.
    pub fn take(
        &self,
        mem: &GuestMemoryMmap,
        queue: usize,
        limit: usize,
        heads: &mut Vec<u16>,
    ) -> Option<Table> {
        heads.clear();
        let mut vring = self.vring(queue)?.get_mut();
        if !vring.is_enabled() || !vring.get_queue().ready() {
            return None;
        }
        // Not the crate's own calls on the vring: they reach into memory that nobody has checked.
        let q = vring.get_queue_mut();
        // It only saves kicks.
        let _ = q.disable_notification(mem);
        match q.iter(mem) {
            Ok(available) => heads.extend(available.take(limit).map(|c| c.head_index())),
            Err(e) => debug!("queue {queue}: available ring: {e}"),
        }
        let indirect = self.indirect.load(Ordering::Relaxed);
        Some(Table {
            addr: GuestAddress(q.desc_table()),
            size: q.size(),
            indirect,
        })
    }

    /// Asks for a kick at the next chain; true if chains came before that was asked.
    pub fn listen(&self, queue: usize) -> bool {
        let mem = self.mem.memory();
        self.vring(queue).is_some_and(|v| {
            let more = v.get_mut().get_queue_mut().enable_notification(&*mem);
            matches!(more, Ok(true))
        })
    }

    /// Keeps a chain until its reply; `None` if too many wait.
    pub fn keep(&self, head: u16, writable: &mut Vec<Segment>) -> Option<u64> {
        self.lock().held.keep(head, writable)
    }

    /// Gives a chain back with a delivery status and no outbox; with nothing if it has no room
    /// for a response header.
    pub fn refuse(&self, head: u16, writable: &[Segment], status: Status) {
        let mem = self.mem.memory();
        let mut s = self.lock();
        let room: u64 = writable.iter().map(|w| u64::from(w.len)).sum();
        let len = if room < RESPONSE_HEADER_BYTES as u64 {
            0
        } else {
            chain::scatter(
                &mem,
                writable,
                &[&ResponseHeader { status, out_len: 0 }.to_bytes()],
            )
        };
        self.give_back(&mut s, COMMAND_QUEUE, head, len);
    }

    /// A queue stopped: what waits for it waits no more, and when this returns nothing of it is
    /// being written to guest memory.
    pub fn stopped(&self, queue: usize) {
        let mut s = self.lock();
        if queue == COMMAND_QUEUE {
            s.held.drop_all();
        }
        if let Some(untold) = s.untold.get_mut(queue) {
            *untold = false;
        }
    }

    /// Nobody waits any more and no event is kept: the device was reset.
    pub fn forget(&self) {
        let mut s = self.lock();
        s.held.drop_all();
        s.backlog.reset();
        s.untold = [false; QUEUES];
    }

    /// The driver posted event buffers: fills them as far as events wait.
    pub fn event_buffers(&self) {
        for _ in 0..MAX_ROUND {
            let mut s = self.lock();
            let more = self.deliver(&mut s);
            self.tell(&mut s);
            drop(s);
            if !more {
                break;
            }
            // Who unlocks and locks again at once leaves the owner no turn.
            thread::sleep(TURN);
        }
        self.listen(EVENT_QUEUE);
    }

    /// Moves events from the backlog into posted buffers, and asks for a kick if some wait still. True if the
    /// driver has posted so many bad ones that it is not done: the owner waits meanwhile.
    fn deliver(&self, s: &mut State) -> bool {
        let mem = self.mem.memory();
        let mut bad = 0;
        let mut found_nothing = false;
        while !s.backlog.is_empty() {
            if bad >= MAX_BAD_BUFFERS {
                return self.listen(EVENT_QUEUE);
            }
            let Some(table) = self.take(&mem, EVENT_QUEUE, 1, &mut s.heads) else {
                break;
            };
            let Some(head) = s.heads.pop() else {
                // If the ring says that there are buffers and gives none, it is broken, not busy.
                if !self.listen(EVENT_QUEUE) || found_nothing {
                    break;
                }
                found_nothing = true;
                continue;
            };
            chain::walk(&mem, table, head, &mut s.buffer);
            let len = s.backlog.deliver(&mem, &s.buffer);
            bad += usize::from(len == 0);
            self.give_back(s, EVENT_QUEUE, head, len);
        }
        false
    }

    fn give_back(&self, s: &mut State, queue: usize, head: u16, len: u32) {
        let Some(vring) = self.vring(queue) else {
            return;
        };
        let mut vring = vring.get_mut();
        if !vring.get_queue().ready() {
            return;
        }
        match vring
            .get_queue_mut()
            .add_used(&*self.mem.memory(), head, len)
        {
            Ok(()) => s.untold[queue] = true,
            Err(e) => debug!("queue {queue}: used ring: {e}"),
        }
    }

    fn tell(&self, s: &mut State) {
        let mem = self.mem.memory();
        for queue in 0..QUEUES {
            if !std::mem::take(&mut s.untold[queue]) {
                continue;
            }
            let Some(vring) = self.vring(queue) else {
                continue;
            };
            if let Err(e) = signal(vring, &mem) {
                debug!("queue {queue}: cannot signal: {e}");
            }
        }
    }
}

/// Signals used buffers if the driver asked for it.
fn signal(vring: &Vring, mem: &GuestMemoryMmap) -> io::Result<()> {
    let mut locked = vring.get_mut();
    let wanted = locked.get_queue_mut().needs_notification(mem);
    if !wanted.map_err(io::Error::other)? {
        return Ok(());
    }
    let q = locked.get_queue();
    if !q.event_idx_enabled() {
        // The crate does not look at the flag that stands in for the event index.
        let at = GuestAddress(q.avail_ring());
        let flags: u16 = mem.load(at, Ordering::Relaxed).map_err(io::Error::other)?;
        if u16::from_le(flags) & NO_INTERRUPT != 0 {
            return Ok(());
        }
    }
    drop(locked);
    // The crate's own would wait as long as the client likes.
    vring.signal_used_queue()
}

/// The status on the wire of a delivery in the model.
fn status(delivery: Delivery) -> Status {
    match delivery {
        Delivery::Executed => Status::Ok,
        Delivery::TooShort => Status::Malformed,
        Delivery::TooLong => Status::TooLong,
        Delivery::ScopeDenied => Status::ScopeDenied,
        Delivery::BadUid => Status::BadUid,
        Delivery::Busy => Status::Busy,
        Delivery::Reset => Status::Reset,
    }
}

impl Sink for Rings {
    fn write(&self, addr: u64, data: &[u8], order: Order) {
        if order == Order::Publish {
            fence(Ordering::Release);
        }
        if self
            .mem
            .memory()
            .write_slice(data, GuestAddress(addr))
            .is_err()
        {
            debug!("write of {} bytes to {addr:#x}: not mapped", data.len());
        }
    }

    fn interrupt(&self, vector: u16) {
        // Event queues of the function have no interrupt here: events come on the event queue.
        debug!("interrupt {vector} has no vector on virtio");
    }

    fn reply(&self, tag: u64, delivery: Delivery, outbox: &[u8]) {
        let mem = self.mem.memory();
        let mut s = self.lock();
        let out_len = u32::try_from(outbox.len()).unwrap_or(u32::MAX);
        let header = ResponseHeader {
            status: status(delivery),
            out_len,
        }
        .to_bytes();
        let ended = s.held.end(tag, |head, writable| {
            (head, chain::scatter(&mem, writable, &[&header, outbox]))
        });
        if let Some((head, len)) = ended {
            self.give_back(&mut s, COMMAND_QUEUE, head, len);
        }
    }

    fn event(&self, event_type: u8, sub_type: u8, data: &[u8]) {
        let mut s = self.lock();
        s.backlog.push(event_type, sub_type, data);
        self.deliver(&mut s);
    }

    fn flush(&self) {
        if !self.in_round.load(Ordering::Acquire) {
            self.tell(&mut self.lock());
        }
    }
}
