// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user session as a virtual machine monitor holds it: shared memory, features, two
//! started queues. It knows nothing of what the queues carry, so that a benchmark can talk to a
//! backend that does nothing through the same code.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use vhost::{
    VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend as _,
        message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures},
    },
};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

use crate::sealed_file;
use crate::vhost_ring::{RING_BYTES, Ring, RingError};

/// Where guest memory begins; not 0, so that an address is never an offset by accident.
pub const MEMORY_BASE: u64 = 0x1_0000_0000;
/// Bytes of guest memory. It is sparse.
pub const MEMORY_BYTES: u64 = 64 << 20;
/// Where a test may put what it likes: behind the rings.
pub const FREE_BASE: u64 = MEMORY_BASE + 2 * RING_BYTES;

/// Number of the command queue.
pub const COMMAND_QUEUE: usize = 0;
/// Number of the event queue.
pub const EVENT_QUEUE: usize = 1;

/// `VIRTIO_F_VERSION_1`.
pub const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_INDIRECT_DESC`.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`.
pub const EVENT_IDX: u64 = 1 << 29;
/// `VHOST_USER_F_PROTOCOL_FEATURES`.
const PROTOCOL_FEATURES: u64 = 1 << 30;

/// How long the backend may take to answer a message.
const MESSAGE_LIMIT: Duration = Duration::from_secs(10);

/// What went wrong in a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The socket could not be connected, or shared memory not made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The backend refused or misread a message.
    #[error("{0}: {1}")]
    Message(&'static str, vhost::Error),
    /// Shared memory could not be mapped.
    #[error("shared memory: {0}")]
    Map(String),
    /// The backend lacks features that a driver needs.
    #[error("backend offers {offered:#x}, needed {needed:#x}")]
    Features {
        /// What it offers.
        offered: u64,
        /// What is missing among them.
        needed: u64,
    },
    /// A ring failed.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// What a session negotiates.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Entries of each queue.
    pub queue_size: u16,
    /// Ring features to accept, of [`INDIRECT_DESC`] and [`EVENT_IDX`].
    pub ring_features: u64,
    /// Bytes of config space, 0 for a backend without one.
    pub config_size: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_size: 256,
            ring_features: INDIRECT_DESC | EVENT_IDX,
            config_size: 32,
        }
    }
}

/// A connected backend with both queues started.
pub struct Session {
    frontend: Frontend,
    mem: Arc<GuestMemoryMmap>,
    options: Options,
    features: u64,
    /// The command queue.
    pub command: Ring,
    /// The event queue.
    pub event: Ring,
}

impl Session {
    /// Connects to the backend that listens at `path`, and starts both queues.
    ///
    /// # Errors
    /// What failed.
    pub fn connect(path: &Path, options: Options) -> Result<Self, SessionError> {
        let mem = Arc::new(shared_memory()?);
        let (frontend, features) = negotiate(path, &options)?;
        let event_idx = features & EVENT_IDX != 0;
        let ring = |at| Ring::new(mem.clone(), at, options.queue_size, event_idx);
        let command = ring(MEMORY_BASE)?;
        let event = ring(MEMORY_BASE + RING_BYTES)?;
        let mut session = Self {
            frontend,
            mem,
            options,
            features,
            command,
            event,
        };
        session.share_memory()?;
        session.start_queues()?;
        Ok(session)
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.mem
    }

    /// Features in force.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The frontend, for messages that this module does not know.
    pub fn frontend(&mut self) -> &mut Frontend {
        &mut self.frontend
    }

    /// Reads `len` bytes of config space from `offset`.
    ///
    /// # Errors
    /// The backend refused, or answered another number of bytes.
    pub fn config(&mut self, offset: u32, len: u32) -> Result<Vec<u8>, SessionError> {
        let room = vec![0u8; len as usize];
        self.frontend
            .get_config(offset, len, VhostUserConfigFlags::empty(), &room)
            .map(|(_, bytes)| bytes)
            .map_err(|e| SessionError::Message("GET_CONFIG", e))
    }

    /// Stops both queues, which is what a guest's device reset looks like from here.
    ///
    /// # Errors
    /// The backend refused.
    pub fn stop_queues(&mut self) -> Result<(), SessionError> {
        for q in [COMMAND_QUEUE, EVENT_QUEUE] {
            self.frontend
                .get_vring_base(q)
                .map_err(|e| SessionError::Message("GET_VRING_BASE", e))?;
        }
        Ok(())
    }

    /// Starts both queues again with empty rings, as a driver does after a reset.
    ///
    /// # Errors
    /// What failed.
    pub fn restart_queues(&mut self) -> Result<(), SessionError> {
        let event_idx = self.features & EVENT_IDX != 0;
        let size = self.options.queue_size;
        self.command = Ring::new(self.mem.clone(), MEMORY_BASE, size, event_idx)?;
        self.event = Ring::new(self.mem.clone(), MEMORY_BASE + RING_BYTES, size, event_idx)?;
        let features = self.features | PROTOCOL_FEATURES;
        self.frontend
            .set_features(features)
            .map_err(|e| SessionError::Message("SET_FEATURES", e))?;
        self.start_queues()
    }

    /// Tells the backend of guest memory (again).
    ///
    /// # Errors
    /// The backend refused.
    pub fn share_memory(&mut self) -> Result<(), SessionError> {
        let regions: Vec<_> = self
            .mem
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<_, _>>()
            .map_err(|e| SessionError::Message("SET_MEM_TABLE", e))?;
        self.frontend
            .set_mem_table(&regions)
            .map_err(|e| SessionError::Message("SET_MEM_TABLE", e))?;
        Ok(())
    }

    fn start_queues(&mut self) -> Result<(), SessionError> {
        for (index, ring) in [&self.command, &self.event].into_iter().enumerate() {
            let config = VringConfigData {
                queue_max_size: ring.size(),
                queue_size: ring.size(),
                flags: 0,
                desc_table_addr: ring.host_address(ring.table())?,
                used_ring_addr: ring.host_address(ring.used())?,
                avail_ring_addr: ring.host_address(ring.avail())?,
                log_addr: None,
            };
            let say = |what| move |e| SessionError::Message(what, e);
            let f = &mut self.frontend;
            f.set_vring_num(index, ring.size())
                .map_err(say("SET_VRING_NUM"))?;
            f.set_vring_base(index, 0).map_err(say("SET_VRING_BASE"))?;
            f.set_vring_addr(index, &config)
                .map_err(say("SET_VRING_ADDR"))?;
            f.set_vring_call(index, ring.call_fd())
                .map_err(say("SET_VRING_CALL"))?;
            f.set_vring_kick(index, ring.kick_fd())
                .map_err(say("SET_VRING_KICK"))?;
            f.set_vring_enable(index, true)
                .map_err(say("SET_VRING_ENABLE"))?;
        }
        Ok(())
    }
}

fn negotiate(path: &Path, options: &Options) -> Result<(Frontend, u64), SessionError> {
    let stream = connect(path)?;
    stream.set_read_timeout(Some(MESSAGE_LIMIT))?;
    stream.set_write_timeout(Some(MESSAGE_LIMIT))?;
    let mut f = Frontend::from_stream(stream, 2);
    let say = |what| move |e| SessionError::Message(what, e);
    f.set_owner().map_err(say("SET_OWNER"))?;
    let offered = f.get_features().map_err(say("GET_FEATURES"))?;
    let needed = VERSION_1 | PROTOCOL_FEATURES;
    if offered & needed != needed {
        return Err(SessionError::Features { offered, needed });
    }
    let mut wanted = VhostUserProtocolFeatures::REPLY_ACK;
    if options.config_size > 0 {
        wanted |= VhostUserProtocolFeatures::CONFIG;
    }
    let has = f
        .get_protocol_features()
        .map_err(say("GET_PROTOCOL_FEATURES"))?;
    if !has.contains(wanted) {
        return Err(SessionError::Features {
            offered: has.bits(),
            needed: wanted.bits(),
        });
    }
    // Not needed here; a test adds regions of memory with it.
    wanted |= has & VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    f.set_protocol_features(wanted)
        .map_err(say("SET_PROTOCOL_FEATURES"))?;
    // Every message is acknowledged from here on: a refusal is seen where it happens.
    f.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    let features = needed | offered & options.ring_features;
    f.set_features(features).map_err(say("SET_FEATURES"))?;
    Ok((f, features & !PROTOCOL_FEATURES))
}

/// Connects, giving a backend that has just let go of its last client time to listen again.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let end = Instant::now() + MESSAGE_LIMIT;
    loop {
        match UnixStream::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

fn shared_memory() -> Result<GuestMemoryMmap, SessionError> {
    let file = sealed_file(MEMORY_BYTES)?;
    let range = (
        GuestAddress(MEMORY_BASE),
        MEMORY_BYTES as usize,
        Some(FileOffset::new(file, 0)),
    );
    GuestMemoryMmap::from_ranges_with_files([range]).map_err(|e| SessionError::Map(e.to_string()))
}
