// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio door in this process, behind a real socket, and a driver for it.

// Each test program uses its part of this; a failure here is a failure of the test.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    os::unix::net::UnixListener,
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
use fwctl_emu::{clients::Clients, memory::Files, owner::Owner, virtio};
use fwctl_proto::virtio::{CONFIG_BYTES, RESPONSE_HEADER_BYTES, ResponseHeader, Status};
use host_driver::{firmware::Firmware, vhost::VhostDriver, vhost_session::Options};
use vm_memory::{Bytes as _, GuestAddress};

/// Longest wait for anything here.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Room for the outbox of most commands.
pub const OUT: u32 = 16;
/// The profile of the card.
pub const PROFILE: &str = "minimal";

/// The config space as docs/virtio-fwctl.md says: magic, version 1, mlx5, 1 MiB and 4 KiB each way,
/// 256 requests.
pub const CONFIG: [u8; CONFIG_BYTES] = [
    b'F', b'W', b'C', b'T', 1, 0, 0, 0, 1, 0, 0, 0, 0, 0x10, 0x10, 0, 0, 0x10, 0x10, 0, 0, 1, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0,
];

/// A driver and its firmware.
pub type Driver = Firmware<VhostDriver>;

/// A card with one function behind a vhost-user socket.
pub struct Device {
    owner: Arc<Owner>,
    function: FunctionId,
    path: PathBuf,
}

impl Device {
    /// Listens. The thread that serves ends with the process.
    pub fn new() -> Self {
        Self::serving(Files::Sealed)
    }

    /// As [`Device::new`], and takes memory of any kind.
    pub fn trusting() -> Self {
        Self::serving(Files::Any)
    }

    fn serving(files: Files) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fwctl-vhost-{}-{n}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let card = Card::new(
            Profile::builtin(PROFILE).unwrap(),
            CardOptions::default(),
            &BTreeMap::new(),
        );
        let owner = Owner::new(card, Box::new(MemStore::default()));
        let function = owner.add_function(EventPath::Channel).unwrap();
        let clients = Clients::new(|| {});
        let name = path.display().to_string();
        clients.add(function, &name, "vhost-user");
        let serving = owner.clone();
        std::thread::spawn(move || {
            virtio::serve(&serving, function, &name, listener, &clients, files)
        });
        Self {
            owner,
            function,
            path,
        }
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A driver that has started the queues and said nothing yet.
    pub fn connect(&self) -> Driver {
        self.connect_with(Options::default())
    }

    /// As [`Device::connect`].
    pub fn connect_with(&self, options: Options) -> Driver {
        Firmware::new(VhostDriver::connect(&self.path, options).unwrap())
    }

    /// What the model says of the function.
    pub fn report(&self) -> FunctionReport {
        self.owner
            .with_card(|card, _| card.report(self.function))
            .unwrap()
    }

    /// The firmware asks for pages, which is an event; as if an operator had told it to.
    pub fn demand_pages(&self, count: i32) {
        let function = self.function;
        self.owner
            .submit(Input::PageDemand { function, count }, &NoMemory);
    }

    /// The function's state.
    pub fn state(&self) -> &'static str {
        self.report().state
    }

    /// Waits until the function is in a state.
    pub fn wait_for(&self, state: &str) {
        let end = Instant::now() + LIMIT;
        while self.state() != state {
            assert!(
                Instant::now() < end,
                "still {} instead of {state}",
                self.state()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A 16-byte inbox with nothing but its header.
pub fn inbox(opcode: u16, op_mod: u16) -> [u8; 16] {
    let mut b = [0; 16];
    b[..2].copy_from_slice(&opcode.to_be_bytes());
    b[6..8].copy_from_slice(&op_mod.to_be_bytes());
    b
}

/// File descriptors of this process.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The status in the response at `addr`.
pub fn status_of(d: &Driver, addr: u64) -> Status {
    let mut b = [0u8; RESPONSE_HEADER_BYTES];
    d.mailbox
        .session
        .memory()
        .read_slice(&mut b, GuestAddress(addr))
        .unwrap();
    ResponseHeader::parse(&b).unwrap().status
}
