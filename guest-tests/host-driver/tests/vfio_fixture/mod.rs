// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI door in this process, behind a real socket; drivers for it, and a client that says
//! what no good client says.
#![allow(dead_code)] // Each test file uses its part.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::{
        fd::RawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use fw_model::{
    Card, CardOptions, EventPath, FunctionId, Input, MemStore, NoMemory, card::FunctionReport,
    profile::Profile,
};
use fwctl_emu::{
    clients::{Clients, Slot},
    memory::Files,
    owner::Owner,
    pci,
};
use host_driver::{firmware::Firmware, pci::PciDriver};
use vmm_sys_util::sock_ctrl_msg::ScmSocket as _;

/// Longest wait for anything here.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The profile of the card.
pub const PROFILE: &str = "minimal";

/// A driver and its firmware.
pub type Driver = Firmware<PciDriver>;

/// A card with functions behind vfio-user sockets.
pub struct Device {
    owner: Arc<Owner>,
    paths: Vec<PathBuf>,
    clients: Clients,
}

impl Device {
    /// A card with one function.
    pub fn new() -> Self {
        Self::with_functions(1)
    }

    /// A card with one function that takes memory of any kind.
    pub fn trusting() -> Self {
        Self::serving(PROFILE, 1, Files::Any)
    }

    /// A card of a profile with one function.
    pub fn of_profile(profile: &str) -> Self {
        Self::serving(profile, 1, Files::Sealed)
    }

    /// Listens for each function. The threads that serve end with the process.
    pub fn with_functions(count: usize) -> Self {
        Self::serving(PROFILE, count, Files::Sealed)
    }

    fn serving(profile: &str, count: usize, files: Files) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let profile = Profile::builtin(profile).unwrap();
        let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let owner = Owner::new(card, Box::new(MemStore::default()));
        let clients = Clients::new(|| {});
        let mut paths = Vec::new();
        for _ in 0..count {
            let n = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("fwctl-vfio-{}-{n}", std::process::id()));
            let listener = UnixListener::bind(&path).unwrap();
            let function = owner.add_function(EventPath::EventQueues).unwrap();
            clients.add(function, &path.display().to_string(), "vfio-user");
            let (serving, clients) = (owner.clone(), clients.clone());
            std::thread::spawn(move || {
                pci::door::serve(serving, function, &listener, &clients, files)
            });
            paths.push(path);
        }
        Self {
            owner,
            paths,
            clients,
        }
    }

    /// Serves one more function, and calls `ended` when that ends.
    pub fn also_serve(&self, listener: UnixListener, ended: impl FnOnce() + Send + 'static) {
        let function = self.owner.add_function(EventPath::EventQueues).unwrap();
        self.clients.add(function, "one more", "vfio-user");
        let (serving, clients) = (self.owner.clone(), self.clients.clone());
        std::thread::spawn(move || {
            let served = pci::door::serve(serving, function, &listener, &clients, Files::Sealed);
            assert!(served.is_err());
            ended();
        });
    }

    /// The card is powered off and on.
    pub fn power_cycle(&self) {
        self.owner.submit(Input::PowerCycle, &NoMemory);
    }

    /// The first function's slot.
    pub fn slot(&self) -> Slot {
        self.clients.slot(FunctionId(0))
    }

    /// The first function's socket.
    pub fn path(&self) -> &Path {
        &self.paths[0]
    }

    /// A driver of the first function, ready for ENABLE_HCA.
    pub fn probe(&self) -> Driver {
        self.probe_function(0)
    }

    /// As [`Device::probe`].
    pub fn probe_function(&self, n: usize) -> Driver {
        Firmware::new(PciDriver::probe(&self.paths[n]).unwrap())
    }

    /// What the model says of a function.
    pub fn report_of(&self, n: u8) -> FunctionReport {
        self.owner
            .with_card(|card, _| card.report(FunctionId(n)))
            .unwrap()
    }

    /// What the model says of the first function.
    pub fn report(&self) -> FunctionReport {
        self.report_of(0)
    }

    /// True if the first function has a client.
    pub fn connected(&self) -> bool {
        self.clients.of(FunctionId(0)).unwrap().2
    }

    /// Waits until `what` holds.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for p in &self.paths {
            let _ = std::fs::remove_file(p);
        }
    }
}

/// A connection that sends whatever bytes it is told to.
pub struct Raw(UnixStream);

impl Raw {
    /// Connects and says nothing.
    pub fn connect(path: &Path) -> Self {
        let s = UnixStream::connect(path).unwrap();
        s.set_read_timeout(Some(LIMIT)).unwrap();
        s.set_write_timeout(Some(LIMIT)).unwrap();
        Self(s)
    }

    /// Sends bytes; a peer that hung up is fine.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends a message: 16-byte header (id, command, size, flags, errno), then `body`.
    pub fn message(&mut self, command: u16, body: &[u8]) {
        let b = message(command, 0, body);
        self.send(&b);
    }

    /// Sends a message with file descriptors.
    pub fn message_with(&mut self, command: u16, body: &[u8], fds: &[RawFd]) {
        self.send_with(&message(command, 0, body), fds);
    }

    /// Sends bytes with file descriptors; a peer that hung up is fine.
    pub fn send_with(&mut self, bytes: &[u8], fds: &[RawFd]) {
        let _ = self.0.send_with_fds(&[bytes], fds);
    }

    /// The reply, or `None` if the peer hung up.
    pub fn reply(&mut self) -> Option<Reply> {
        let mut h = [0u8; 16];
        self.0.read_exact(&mut h).ok()?;
        let field = |at: usize| u32::from_ne_bytes(h[at..at + 4].try_into().unwrap());
        let mut body = vec![0; field(4) as usize - 16];
        self.0.read_exact(&mut body).ok()?;
        Some(Reply {
            id: u16::from_ne_bytes([h[0], h[1]]),
            command: u16::from_ne_bytes([h[2], h[3]]),
            flags: field(8),
            errno: field(12) as i32,
            body,
        })
    }
}

/// A reply as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub id: u16,
    pub command: u16,
    pub flags: u32,
    pub errno: i32,
    pub body: Vec<u8>,
}

/// A message with id 7.
pub fn message(command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut b = 7u16.to_ne_bytes().to_vec();
    b.extend(command.to_ne_bytes());
    b.extend((16 + body.len() as u32).to_ne_bytes());
    b.extend(flags.to_ne_bytes());
    b.extend([0; 4]);
    b.extend(body);
    b
}

/// The body of a DMA map: readable and writable, from the file's start.
pub fn map(address: u64, size: u64) -> Vec<u8> {
    let mut b = 32u32.to_ne_bytes().to_vec();
    b.extend(3u32.to_ne_bytes());
    b.extend([0, address, size].map(u64::to_ne_bytes).as_flattened());
    b
}

/// The body of a DMA unmap.
pub fn unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    let mut b = 24u32.to_ne_bytes().to_vec();
    b.extend(flags.to_ne_bytes());
    b.extend([address, size].map(u64::to_ne_bytes).as_flattened());
    b
}

/// The body of SET_IRQS for the MSI-X vectors: eventfds that trigger.
pub fn set_irqs(start: u32, count: u32) -> Vec<u8> {
    [20u32, 0x24, 2, start, count]
        .map(u32::to_ne_bytes)
        .as_flattened()
        .to_vec()
}

/// File descriptors of this process.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The body of a region access message.
pub fn region_access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut b = offset.to_ne_bytes().to_vec();
    b.extend(region.to_ne_bytes());
    b.extend(count.to_ne_bytes());
    b
}

/// A 16-byte inbox with nothing but its header.
pub fn inbox(opcode: u16, op_mod: u16) -> [u8; 16] {
    let mut b = [0; 16];
    b[..2].copy_from_slice(&opcode.to_be_bytes());
    b[6..8].copy_from_slice(&op_mod.to_be_bytes());
    b
}
