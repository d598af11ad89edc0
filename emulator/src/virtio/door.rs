// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vhost-user backend of one connection: kicks become inputs of the card.
//!
//! Nothing that a guest does makes `handle_event` fail: an error there would end the worker, and
//! with it the device. A chain that cannot be served is given back with a delivery status. A panic of ours
//! ends the client; the next one finds a fresh device.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use fw_model::{
    FunctionId, GuestMemory, Input, NoMemory, ResetKind, Unmapped,
    limits::{MAX_IN_FLIGHT, MAX_MESSAGE},
};
use fwctl_proto::virtio::{Config, DEVICE_TYPE_MLX5, Status};
use log::debug;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{ShutdownHandle, VhostUserBackend, VringT as _};
use virtio_queue::QueueT as _;
use vm_memory::{
    Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryBackend as _,
    GuestMemoryMmap, GuestMemoryRegion as _,
};
use vmm_sys_util::{
    epoll::EventSet,
    event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier},
};

use super::{
    COMMAND_QUEUE, EVENT_QUEUE, QUEUES,
    chain::{self, Chain, Table},
    config,
    limits::{MAX_QUEUE_SIZE, MAX_REGIONS, MAX_ROUND},
    request,
    rings::Rings,
    vring::Vring,
};
use crate::{clients::Clients, memory::Files, owner::Owner};

/// `VIRTIO_F_VERSION_1`.
const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_INDIRECT_DESC`.
const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`.
const EVENT_IDX: u64 = 1 << 29;
/// `VHOST_USER_F_PROTOCOL_FEATURES`.
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// What the config space says. The limits are the model's.
const CONFIG: Config = Config {
    device_type: DEVICE_TYPE_MLX5,
    max_in: MAX_MESSAGE as u32,
    max_out: MAX_MESSAGE as u32,
    max_in_flight: MAX_IN_FLIGHT as u32,
};

/// What a round works with. Who holds its lock knows that no round is being served.
#[derive(Default)]
struct Round {
    heads: Vec<u16>,
    chain: Chain,
    request: Vec<u8>,
    // Queues that the front-end has started.
    started: [bool; QUEUES],
    // One ran since the last reset.
    used: bool,
}

/// The backend of one connection.
pub struct Door {
    owner: Arc<Owner>,
    function: FunctionId,
    name: String,
    // What was checked of the memory that the crate maps: nothing here touches any other.
    mem: GuestMemoryAtomic<GuestMemoryMmap>,
    rings: Arc<Rings>,
    round: Mutex<Round>,
    // Taken before `round`: who waits for a round to end keeps the next one from beginning.
    gate: Mutex<()>,
    stopping: AtomicBool,
    spoken: AtomicBool,
    exit: AtomicI32,
    // How the connection is ended, and that it must be.
    connection: OnceLock<ShutdownHandle>,
    ended: AtomicBool,
    clients: Clients,
    files: Files,
}

impl Door {
    /// The door of `function` to a front-end that has just connected and shares such `files`.
    #[must_use]
    pub fn new(
        owner: Arc<Owner>,
        function: FunctionId,
        name: &str,
        clients: Clients,
        files: Files,
    ) -> Self {
        let mem = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        Self {
            owner,
            function,
            name: name.to_owned(),
            rings: Arc::new(Rings::new(mem.clone())),
            mem,
            round: Mutex::default(),
            gate: Mutex::default(),
            stopping: AtomicBool::new(false),
            spoken: AtomicBool::new(false),
            exit: AtomicI32::new(-1),
            connection: OnceLock::new(),
            ended: AtomicBool::new(false),
            clients,
            files,
        }
    }

    /// What carries out the function's effects.
    #[must_use]
    pub fn rings(&self) -> &Arc<Rings> {
        &self.rings
    }

    /// True if whoever connected spoke vhost-user, and did not only look whether someone listens.
    #[must_use]
    pub fn spoken(&self) -> bool {
        self.spoken.load(Ordering::Relaxed)
    }

    /// The front-end is connected; `connection` ends that if the door has to.
    pub fn connected(&self, connection: ShutdownHandle) {
        let connection = self.connection.get_or_init(|| connection);
        // The worker may have been faster.
        if self.ended.load(Ordering::SeqCst) {
            connection.shutdown();
        }
    }

    /// The door has failed, by a bug: nothing more is served, and the client goes.
    fn fail(&self) {
        log::error!("{}: the server failed; see above", self.name);
        self.end();
    }

    /// The client has given what cannot be taken: nothing more is served, and it goes.
    pub fn refuse(&self, why: &io::Error) {
        // What it has sent before it knows is still read.
        if !self.ended.load(Ordering::SeqCst) {
            log::warn!("{}: client dropped: {why}", self.name);
        }
        self.end();
    }

    fn end(&self) {
        self.stop();
        self.ended.store(true, Ordering::SeqCst);
        if let Some(connection) = self.connection.get() {
            connection.shutdown();
        }
    }

    /// No round begins any more. The worker can be joined.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Closes what the worker leaves open. Call it once the worker is gone.
    pub fn close(&self) {
        let fd = self.exit.swap(-1, Ordering::SeqCst);
        if fd >= 0 {
            // SAFETY: the crate took this eventfd out of its owner for its epoll set and keeps
            // no handle that would close it; the epoll set is gone with the worker, so that this
            // is the only owner.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }

    /// Lets `change` happen while no round is served.
    fn between_rounds(&self, change: impl FnOnce(&mut Round)) {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut self.round.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The next round; none once the door stops.
    fn next_round(&self) -> Option<MutexGuard<'_, Round>> {
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.stopping.load(Ordering::SeqCst)).then_some(round)
    }

    /// The driver reset the device. No round is being served.
    fn reset(&self) {
        self.rings.forget();
        self.owner.submit(
            Input::Reset {
                function: self.function,
                kind: ResetKind::Bus,
            },
            &NoMemory,
        );
        // Events of the life that is over.
        self.rings.forget();
        debug!("{}: device reset", self.name);
    }

    /// Serves the command queue until it is empty.
    fn commands(&self) {
        let mut found_nothing = false;
        while let Some(mut round) = self.next_round() {
            let Round {
                heads,
                chain,
                request,
                started,
                used,
            } = &mut *round;
            let mem = self.mem.memory();
            let Some(table) = self.rings.take(&mem, COMMAND_QUEUE, MAX_ROUND, heads) else {
                return;
            };
            started[COMMAND_QUEUE] = true;
            *used = true;
            self.rings.begin_round();
            for head in heads.iter() {
                self.command(&mem, table, *head, chain, request);
            }
            self.rings.end_round();
            if heads.len() < MAX_ROUND && !self.rings.listen(COMMAND_QUEUE) {
                return;
            }
            // The ring says that there are chains and gives none: it is broken, not busy.
            if found_nothing && heads.is_empty() {
                return;
            }
            found_nothing = heads.is_empty();
        }
    }

    /// Serves the event queue.
    fn events(&self, vring: &Vring) {
        let Some(mut round) = self.next_round() else {
            return;
        };
        let ready = vring.get_ref().get_queue().ready();
        if ready {
            round.started[EVENT_QUEUE] = true;
            round.used = true;
            self.rings.event_buffers();
        }
    }

    /// Serves one chain of the command queue.
    fn command(
        &self,
        mem: &GuestMemoryMmap,
        table: Table,
        head: u16,
        chain: &mut Chain,
        bytes: &mut Vec<u8>,
    ) {
        chain::walk(mem, table, head, chain);
        if let Some(fault) = chain.fault {
            debug!("{}: chain {head}: {fault}", self.name);
        }
        let refused = match request::read(mem, chain, bytes) {
            Err(status) => status,
            Ok(request) => match self.rings.keep(head, &mut chain.writable) {
                None => Status::Busy,
                Some(tag) => {
                    let input = Input::Command {
                        function: self.function,
                        tag,
                        caller: request.caller,
                        inbox: request.inbox,
                        outbox_len: request.outbox_len,
                    };
                    self.owner.submit(input, &View(mem));
                    return;
                }
            },
        };
        self.rings.refuse(head, &chain.writable, refused);
    }
}

/// Guest memory as the model reads it.
struct View<'a>(&'a GuestMemoryMmap);

impl GuestMemory for View<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        self.0
            .read_slice(buf, GuestAddress(addr))
            .map_err(|_| Unmapped)
    }
}

impl VhostUserBackend for Door {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        usize::from(MAX_QUEUE_SIZE)
    }

    fn features(&self) -> u64 {
        if !self.spoken.swap(true, Ordering::Relaxed) {
            self.clients.came(self.function);
        }
        VERSION_1 | INDIRECT_DESC | EVENT_IDX | PROTOCOL_FEATURES
    }

    fn acked_features(&self, features: u64) {
        self.rings.set_indirect(features & INDIRECT_DESC != 0);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        // MQ: without it QEMU asks for no more than one queue. Not STATUS and not INFLIGHT_SHMFD:
        // the crate does not answer them.
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn reset_device(&self) {
        self.between_rounds(|round| {
            round.started = [false; QUEUES];
            round.used = false;
            self.reset();
        });
    }

    fn set_event_idx(&self, _enabled: bool) {
        // The crate has told the queues.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        config::read(&CONFIG.to_bytes(), offset, size)
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> io::Result<()> {
        // Nothing in config space can be written by the driver; QEMU takes an error for its own.
        Ok(())
    }

    fn update_memory(&self, mem: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        let mem = mem.memory();
        if mem.num_regions() > MAX_REGIONS {
            let text = format!("more than {MAX_REGIONS} regions of guest memory");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        for region in mem.iter() {
            let Some(file) = region.file_offset() else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            self.files.check(file.file())?;
            // An access behind the file's end raises SIGBUS; its seal keeps the end where it is.
            let held = file.file().metadata()?;
            let behind = file.start().checked_add(region.len());
            if held.is_file() && behind.is_none_or(|b| b > held.len()) {
                let text = "a region of guest memory is longer than its file";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        let ours = self.mem.lock().unwrap_or_else(PoisonError::into_inner);
        ours.replace((*mem).clone());
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        let (consumer, notifier) =
            new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()?;
        self.exit.store(consumer.as_raw_fd(), Ordering::SeqCst);
        Some((consumer, notifier))
    }

    fn stop_vring(&self, queue: u32) -> io::Result<()> {
        let queue = queue as usize;
        self.between_rounds(|round| {
            if let Some(q) = round.started.get_mut(queue) {
                *q = false;
            }
            self.rings.stopped(queue);
            // QEMU has no other way to say that the driver reset the device.
            if round.started == [false; QUEUES] && std::mem::take(&mut round.used) {
                self.reset();
            }
        });
        Ok(())
    }

    fn handle_event(
        &self,
        event: u16,
        _set: EventSet,
        vrings: &[Vring],
        _thread: usize,
    ) -> io::Result<()> {
        let serve = || {
            self.rings.adopt(vrings);
            match usize::from(event) {
                COMMAND_QUEUE => self.commands(),
                EVENT_QUEUE => {
                    if let Some(vring) = vrings.get(EVENT_QUEUE) {
                        self.events(vring);
                    }
                }
                _ => {}
            }
        };
        if catch_unwind(AssertUnwindSafe(serve)).is_err() {
            self.fail();
        }
        Ok(())
    }
}
