// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI door in this process, behind a real socket; drivers for it, and a client that says
//! what no good client says.
#![allow(dead_code)] // Each test file uses its part.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use fw_model::{
    Card, CardOptions, EventPath, FunctionId, MemStore, card::FunctionReport, profile::Profile,
};
use fwctl_emu::{
    clients::{Clients, Slot},
    owner::Owner,
    pci,
};
use host_driver::{firmware::Firmware, pci::PciDriver};

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

    /// Listens for each function. The threads that serve end with the process.
    pub fn with_functions(count: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let profile = Profile::builtin(PROFILE).unwrap();
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
            std::thread::spawn(move || pci::door::serve(serving, function, listener, &clients));
            paths.push(path);
        }
        Self {
            owner,
            paths,
            clients,
        }
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

    /// Sends a message: 16-byte header (id, command, size, flags, error), then `body`.
    pub fn message(&mut self, command: u16, body: &[u8]) {
        let mut b = Vec::new();
        b.extend(7u16.to_ne_bytes());
        b.extend(command.to_ne_bytes());
        b.extend((16 + body.len() as u32).to_ne_bytes());
        b.extend([0; 8]);
        b.extend(body);
        self.send(&b);
    }

    /// The flags of the reply's header, or `None` if the peer hung up.
    pub fn reply_flags(&mut self) -> Option<u32> {
        let mut h = [0u8; 16];
        self.0.read_exact(&mut h).ok()?;
        Some(u32::from_ne_bytes(h[8..12].try_into().unwrap()))
    }
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
