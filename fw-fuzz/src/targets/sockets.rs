// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A client that means no good on the sockets of both doors: messages with any length, number, payload and
//! file descriptors. The server runs in a thread of its own, as in the process; a client at a time.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use arbitrary::Unstructured;
use fw_model::{Card, CardOptions, EventPath, FunctionId, MemStore, Time};
use fwctl_emu::{
    clients::Clients,
    memory::Files,
    owner::Owner,
    pci::{self, config::ConfigSpace},
    virtio,
};
use fwctl_proto::{layout::Layout as _, layouts::InitialSeg, segment};
use vhost::vhost_user::message::FrontendReq;
use vhost_user_backend::VhostUserBackend as _;
use vmm_sys_util::{eventfd::EventFd, sock_ctrl_msg::ScmSocket as _};

use super::{Target, profile};
use crate::dictionary;

/// The target of the virtio door.
pub static VHOST_USER: Target = Target {
    name: "vhost-user",
    about: "messages of a vhost-user front-end, over a socket",
    max_len: 1024,
    hits: true,
    run: vhost_user,
    record: None,
    dictionary: vhost_words,
    seeds: vhost_seeds,
};

/// The target of the PCI door.
pub static VFIO_USER: Target = Target {
    name: "vfio-user",
    about: "messages of a vfio-user client, over a socket",
    max_len: 1024,
    hits: true,
    run: vfio_user,
    record: None,
    dictionary: vfio_words,
    seeds: vfio_seeds,
};

/// Bytes of the memory that a client shares.
const MEMORY: u64 = 64 << 10;
/// How long a server may take to let a client go.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most messages of an input.
const MAX_MESSAGES: usize = 32;

/// A server, and what its clients share with it.
struct Server {
    path: PathBuf,
    memory: File,
    event: EventFd,
}

impl Server {
    fn start(name: &str, vhost: bool) -> Mutex<Self> {
        let path = std::env::temp_dir().join(format!("fw-fuzz-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut card = Card::new(profile(), CardOptions::default(), &BTreeMap::new());
        let events = if vhost {
            EventPath::Channel
        } else {
            EventPath::EventQueues
        };
        card.add_function(events);
        let owner = Owner::new(card, Box::new(MemStore::default()));
        let clients = Clients::new(|| {});
        thread::spawn(move || {
            let f = FunctionId(0);
            if vhost {
                let _ = virtio::serve(&owner, f, "fuzz", listener, &clients, Files::Sealed);
            } else {
                let _ = pci::door::serve(owner, f, &listener, &clients, Files::Sealed);
            }
        });
        let memory = rustix::fs::memfd_create(
            "fw-fuzz",
            rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING,
        )
        .expect("memory");
        let memory = File::from(memory);
        memory.set_len(MEMORY).expect("memory");
        let seals = rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW;
        rustix::fs::fcntl_add_seals(&memory, seals).expect("seals");
        let event = EventFd::new(0).expect("an event");
        Mutex::new(Self {
            path,
            memory,
            event,
        })
    }

    /// A client that sends what `messages` makes, and goes; returns when the server has let it go.
    fn client(&self, mut messages: impl FnMut(&UnixStream, &Self)) {
        let mut stream = UnixStream::connect(&self.path).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        messages(&stream, self);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = [0; 4096];
        loop {
            match stream.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the server keeps a client that has gone")
                }
                // Reset: the server has closed what it had not read.
                Err(_) => return,
            }
        }
    }
}

fn send(stream: &UnixStream, bytes: &[u8], fds: &[RawFd]) -> bool {
    stream.send_with_fds(&[bytes], fds).is_ok()
}

/// Up to `most` bytes of the fuzzer's.
fn some(u: &mut Unstructured<'_>, most: usize) -> Vec<u8> {
    let n = usize::from(u.arbitrary::<u8>().unwrap_or(0))
        .min(most)
        .min(u.len());
    u.bytes(n).unwrap_or_default().to_vec()
}

/// Handles the messages of a vhost-user front-end.
pub fn vhost_user(data: &[u8]) {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start("vhost", true));
    let server = server.lock().unwrap_or_else(PoisonError::into_inner);
    server.client(|stream, server| {
        let mut u = Unstructured::new(data);
        for _ in 0..MAX_MESSAGES {
            if u.is_empty() || !vhost_message(&mut u, stream, server) {
                return;
            }
        }
    });
}

/// Requests of the protocol that carry a file descriptor besides memory.
const SET_MEM_TABLE: u32 = 5;
const SET_VRING: [u32; 3] = [12, 13, 14];

/// Sends one message; false if nobody takes it any more.
fn vhost_message(u: &mut Unstructured<'_>, stream: &UnixStream, server: &Server) -> bool {
    let request = u32::from(u.arbitrary::<u8>().unwrap_or(0)) % 48;
    let how: u8 = u.arbitrary().unwrap_or(0);
    let (payload, fds) = if request == SET_MEM_TABLE && how & 1 == 0 {
        // One region; every fourth is longer than its file.
        let behind = u64::from(how & 6 == 6);
        let mut p = vec![1, 0, 0, 0, 0, 0, 0, 0];
        for word in [0, MEMORY + behind, 0x7f00_0000_0000, 0] {
            p.extend(word.to_le_bytes());
        }
        (p, vec![server.memory.as_raw_fd()])
    } else if SET_VRING.contains(&request) && how & 1 == 0 {
        let index = u64::from(how >> 4 & 3);
        (index.to_le_bytes().to_vec(), vec![server.event.as_raw_fd()])
    } else {
        (some(u, 128), Vec::new())
    };
    let mut size = payload.len() as u32;
    if how & 6 == 6 {
        size = u.arbitrary().unwrap_or(0);
    }
    // Version 1; the reply-needed bit is the fuzzer's.
    let flags = if how & 0x0c == 0x0c {
        u.arbitrary().unwrap_or(0u32)
    } else {
        1 | u32::from(how & 8)
    };
    let mut message = Vec::with_capacity(12 + payload.len());
    for word in [request, flags, size] {
        message.extend(word.to_le_bytes());
    }
    message.extend(payload);
    send(stream, &message, &fds)
}

/// Every request that the protocol has, well formed and not; what the door offers.
fn vhost_words() -> Vec<Vec<u8>> {
    let requests = (0..=u8::MAX).filter(|n| FrontendReq::try_from(u32::from(*n)).is_ok());
    let mut all: Vec<_> = requests
        .flat_map(|n| [0, 1, 7, 9].map(|how| vec![n, how]))
        .collect();
    let owner = Owner::new(
        Card::new(profile(), CardOptions::default(), &BTreeMap::new()),
        Box::new(MemStore::default()),
    );
    let f = FunctionId(0);
    let door = virtio::Door::new(owner, f, "words", Clients::new(|| {}), Files::Sealed);
    let features = door.features();
    let each = (0..64).map(|n| features & 1 << n).filter(|b| *b != 0);
    let protocol = door.protocol_features().bits();
    all.extend(
        each.chain([features, protocol])
            .map(|w| w.to_le_bytes().to_vec()),
    );
    dictionary::unique(all)
}

fn vhost_seeds() -> Vec<Vec<u8>> {
    let queue = |n: u8| {
        let word = |request: u8, value: u32| {
            let mut m = vec![request, 1, 8, n, 0, 0, 0];
            m.extend(value.to_le_bytes());
            m
        };
        // SET_VRING_NUM, BASE; ADDR (flags and four addresses); KICK, CALL, ENABLE.
        let mut all = [word(8, 16), word(10, 0)].concat();
        all.extend([9, 1, 40, n, 0, 0, 0, 0, 0, 0, 0]);
        for part in [0u64, 0x2000, 0x1000, 0] {
            all.extend((0x7f00_0000_0000 + part + u64::from(n) * 0x4000).to_le_bytes());
        }
        all.extend([12, n << 4, 13, n << 4]);
        all.extend(word(18, 1));
        all
    };
    let mut whole = vec![1, 0, 0, 3, 0, 0, 15, 0, 0];
    // SET_FEATURES, SET_PROTOCOL_FEATURES, memory, both queues, config, reset.
    whole.extend([2, 1, 8, 0, 0, 0, 0x70, 1, 0, 0, 0]);
    whole.extend([16, 1, 8, 0x09, 0x22, 0, 0, 0, 0, 0, 0, 17, 0, 0, 5, 0]);
    whole.extend(queue(0));
    whole.extend(queue(1));
    whole.extend([24, 1, 44, 0, 0, 0, 0, 32, 0, 0, 0]);
    whole.extend([0; 36]);
    whole.extend([11, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 0]);
    vec![whole, vec![1, 0, 0]]
}

/// Handles the messages of a vfio-user client.
pub fn vfio_user(data: &[u8]) {
    static SERVER: OnceLock<Mutex<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start("vfio", false));
    let server = server.lock().unwrap_or_else(PoisonError::into_inner);
    server.client(|stream, server| {
        let mut u = Unstructured::new(data);
        let begin: u8 = u.arbitrary().unwrap_or(0);
        if begin & 1 == 0 && !hello(stream) {
            return;
        }
        for id in 1..MAX_MESSAGES as u16 {
            if u.is_empty() || !vfio_message(&mut u, id, stream, server) {
                return;
            }
        }
    });
}

/// A vfio-user message: id, command, size with the header, flags, error.
fn message(id: u16, command: u16, size: u32, payload: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(16 + payload.len());
    m.extend(id.to_le_bytes());
    m.extend(command.to_le_bytes());
    m.extend(size.to_le_bytes());
    m.extend([0; 8]);
    m.extend(payload);
    m
}

/// VERSION, with what QEMU says.
fn hello(stream: &UnixStream) -> bool {
    let mut payload = vec![0, 0, 1, 0];
    payload.extend(b"{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}\0");
    let m = message(0, 1, 16 + payload.len() as u32, &payload);
    send(stream, &m, &[])
}

const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;

/// Sends one message; false if nobody takes it any more.
fn vfio_message(u: &mut Unstructured<'_>, id: u16, stream: &UnixStream, server: &Server) -> bool {
    let command = u16::from(u.arbitrary::<u8>().unwrap_or(0)) % 20;
    let how: u8 = u.arbitrary().unwrap_or(0);
    let mut fds = Vec::new();
    let mut p: Vec<u8> = Vec::new();
    let word = |p: &mut Vec<u8>, v: u32| p.extend(v.to_le_bytes());
    let long = |p: &mut Vec<u8>, v: u64| p.extend(v.to_le_bytes());
    match command {
        DMA_MAP if how & 1 == 0 => {
            word(&mut p, 32);
            word(&mut p, 3);
            long(&mut p, 0);
            long(&mut p, u64::from(how >> 4) << 16);
            long(&mut p, MEMORY);
            fds.push(server.memory.as_raw_fd());
        }
        DMA_UNMAP if how & 1 == 0 => {
            word(&mut p, 24);
            word(&mut p, u32::from(how >> 1 & 3));
            long(&mut p, u64::from(how >> 4) << 16);
            long(&mut p, MEMORY);
        }
        SET_IRQS if how & 1 == 0 => {
            word(&mut p, 20);
            word(&mut p, 4 | 1 << (how >> 1 & 7));
            word(&mut p, u32::from(how >> 4 & 3));
            word(&mut p, u32::from(u.arbitrary::<u8>().unwrap_or(0)));
            word(&mut p, 1);
            fds.push(server.event.as_raw_fd());
        }
        REGION_READ | REGION_WRITE if how & 1 == 0 => {
            let region = if how & 2 == 0 { 7 } else { u32::from(how >> 5) };
            let at = u32::from(u.arbitrary::<u16>().unwrap_or(0));
            let data = some(u, 16);
            long(&mut p, u64::from(at));
            word(&mut p, region);
            word(&mut p, data.len() as u32);
            if command == REGION_WRITE {
                p.extend(data);
            }
        }
        _ => p = some(u, 96),
    }
    let mut size = 16 + p.len() as u32;
    if how & 6 == 6 {
        size = u32::from(u.arbitrary::<u16>().unwrap_or(0));
    }
    send(stream, &message(id, command, size, &p), &fds)
}

/// Every command that the server has, well formed and not; the places of the regions that mean something.
fn vfio_words() -> Vec<Vec<u8>> {
    let commands = pci::server::COMMANDS.iter();
    let mut all: Vec<_> = commands
        .flat_map(|n| [0, 1, 2, 6].map(|how| vec![*n as u8, how]))
        .collect();
    let segment = InitialSeg::INFO.fields.iter().map(|f| f.offset / 8);
    let driver = [
        segment::CMDQ_ADDR_L_SZ,
        segment::CMD_DBELL,
        segment::INITIALIZING,
        segment::HEALTH,
    ];
    let mut config = ConfigSpace::new(&profile());
    let mut next = [0x34];
    let mut capabilities = Vec::new();
    // A list in config space that ends with 0; it is ours, and ends.
    while capabilities.len() < 48 {
        config.read(u64::from(next[0]), &mut next, Time::ZERO);
        if next[0] == 0 {
            break;
        }
        capabilities.push(u32::from(next[0]));
        next[0] += 1;
    }
    let places = segment.chain(driver.map(|d| d as u32)).chain(capabilities);
    all.extend(
        places
            .filter_map(|p| u16::try_from(p).ok())
            .map(|p| p.to_le_bytes().to_vec()),
    );
    dictionary::unique(all)
}

fn vfio_seeds() -> Vec<Vec<u8>> {
    let mut whole = vec![0, 4, 1, 16, 16, 0, 0, 0];
    whole.extend([0; 12]);
    // Memory, an interrupt, the command register (memory and master), a doorbell, reset.
    whole.extend([2, 0, 8, 0x20, 0, 10, 0, 4, 0, 2, 6, 0]);
    whole.extend([
        10, 2, 0x18, 0, 4, 0, 0, 0, 1, 9, 0, 0, 0, 4, 0, 0, 0, 0, 13, 1, 0, 3, 0,
    ]);
    vec![whole, vec![0], vec![1, 1, 1, 0]]
}
