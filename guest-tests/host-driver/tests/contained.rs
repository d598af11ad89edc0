// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A panic of ours, outside of the model, ends one client of a door, one request or one connection of the
//! control socket: what is behind goes on. The panics are those of callbacks, as a bug would be in their place.

#![allow(clippy::unwrap_used)] // A failing helper fails its test.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fw_model::{
    Caller, Card, CardOptions, Delivery, EventPath, FunctionId, Input, MemStore, NoMemory, Order,
    fault::Fault, profile::Profile,
};
use fwctl_emu::{
    clients::Clients,
    control::{Events, MAX_CONNECTIONS, Server},
    memory::Files,
    owner::{Owner, Sink, Told},
    pci, virtio,
};
use fwctl_proto::opcode;
use host_driver::{
    firmware::Firmware,
    mailbox::Command,
    pci::PciDriver,
    vhost::{VhostDriver, driver_request},
    vhost_session::Options,
};
use serde_json::{Value, json};

/// Longest wait for anything here.
const LIMIT: Duration = Duration::from_secs(10);
const F: FunctionId = FunctionId(0);

/// A card with one function behind a socket, whose callbacks panic when they are told to.
struct Device {
    owner: Arc<Owner>,
    path: PathBuf,
    // Panics when the function is pulled, and when the last client goes, if this says so.
    at_removal: Arc<AtomicBool>,
    at_last_gone: Arc<AtomicBool>,
}

/// The owner of a card with one function.
fn owner(events: EventPath) -> Arc<Owner> {
    let profile = Profile::builtin("minimal").unwrap();
    let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
    let owner = Owner::new(card, Box::new(MemStore::default()));
    assert_eq!(owner.add_function(events), Some(F));
    owner
}

/// A door that fails when it must answer.
struct Failing;

impl Sink for Failing {
    fn write(&self, _: u64, _: &[u8], _: Order) {}

    fn interrupt(&self, _: u16) {}

    fn reply(&self, _: u64, _: Delivery, _: &[u8]) {
        panic!("on purpose: reply");
    }

    fn event(&self, _: u8, _: u8, _: &[u8]) {}
}

impl Device {
    fn new(events: EventPath) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fwctl-contained-{}-{n}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let owner = owner(events);
        let (at_removal, at_last_gone) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (removal, last_gone) = (at_removal.clone(), at_last_gone.clone());
        owner.watch(Box::new(move |what| {
            let Told::Notice(_, notice) = what else {
                return;
            };
            assert!(!removal.load(Ordering::SeqCst), "on purpose: {notice}");
        }));
        let clients = Clients::new(move || {
            assert!(!last_gone.swap(false, Ordering::SeqCst), "on purpose");
        });
        let name = path.display().to_string();
        clients.add(F, &name, "one");
        let serving = owner.clone();
        thread::spawn(move || match events {
            EventPath::EventQueues => {
                pci::door::serve(serving, F, &listener, &clients, Files::Sealed)
            }
            EventPath::Channel => {
                virtio::serve(&serving, F, &name, listener, &clients, Files::Sealed)
            }
        });
        Self {
            owner,
            path,
            at_removal,
            at_last_gone,
        }
    }

    fn wait_for(&self, state: &str) {
        let end = Instant::now() + LIMIT;
        let now = || self.owner.with_card(|c, _| c.report(F)).unwrap().state;
        while now() != state {
            assert!(Instant::now() < end, "still {}", now());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next QUERY_ISSI makes the door's own thread panic.
    fn arm(&self) {
        let fault = Fault::parse("opcode=QUERY_ISSI : removal : times=1").unwrap();
        self.owner.submit(Input::Fault(&fault), &NoMemory);
        self.at_removal.store(true, Ordering::SeqCst);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn pci(path: &Path) -> Firmware<PciDriver> {
    Firmware::new(PciDriver::probe(path).unwrap())
}

fn vhost(path: &Path) -> Firmware<VhostDriver> {
    Firmware::new(VhostDriver::connect(path, Options::default()).unwrap())
}

#[test]
fn a_panic_of_the_pci_door_ends_its_client_alone() {
    let device = Device::new(EventPath::EventQueues);
    let mut d = pci(&device.path);
    d.bring_up().unwrap();
    device.arm();
    let inbox = Command::new(opcode::QUERY_ISSI);
    d.mailbox.post(0, inbox.inbox(), 16).unwrap();
    // The write of the doorbell has no answer: the connection ends.
    assert!(d.mailbox.ring(1).is_err() || d.mailbox.segment(0x238).is_err());
    device.at_removal.store(false, Ordering::SeqCst);
    device.wait_for("disabled");
    let mut d = pci(&device.path);
    d.bring_up().unwrap();
    // A panic when the client has gone, too.
    device.at_last_gone.store(true, Ordering::SeqCst);
    drop(d);
    device.wait_for("disabled");
    pci(&device.path).bring_up().unwrap();
    assert!(
        !device.at_last_gone.load(Ordering::SeqCst),
        "it has panicked"
    );
}

#[test]
fn a_panic_of_the_virtio_door_ends_its_client_alone() {
    let device = Device::new(EventPath::Channel);
    let mut d = vhost(&device.path);
    d.bring_up().unwrap();
    device.arm();
    let request = driver_request(16, 16);
    let inbox = Command::new(opcode::QUERY_ISSI);
    d.mailbox.send(&request, inbox.inbox(), 16).unwrap();
    d.mailbox.kick().unwrap();
    // The client hears of it by the end of its connection.
    let end = Instant::now() + LIMIT;
    while d.mailbox.session.config(0, 32).is_ok() {
        assert!(Instant::now() < end, "it is served on");
    }
    device.at_removal.store(false, Ordering::SeqCst);
    device.wait_for("disabled");
    drop(d);
    let mut d = vhost(&device.path);
    d.bring_up().unwrap();
    device.at_last_gone.store(true, Ordering::SeqCst);
    drop(d);
    device.wait_for("disabled");
    vhost(&device.path).bring_up().unwrap();
    assert!(
        !device.at_last_gone.load(Ordering::SeqCst),
        "it has panicked"
    );
}

/// A connection to the control socket, and what greets it.
fn connect(path: &Path) -> (BufReader<UnixStream>, String) {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = BufReader::new(stream);
    let mut greeting = String::new();
    stream.read_line(&mut greeting).unwrap();
    (stream, greeting)
}

#[test]
fn a_panic_of_a_control_connection_ends_that_alone() {
    let path = std::env::temp_dir().join(format!("fwctl-contained-{}", std::process::id()));
    let owner = owner(EventPath::Channel);
    let listener = UnixListener::bind(&path).unwrap();
    let server = Arc::new(Server {
        owner: owner.clone(),
        clients: Clients::new(|| {}),
        events: Events::default(),
        quit: Box::new(|| panic!("on purpose: quit")),
        quitting: false.into(),
        stored: false,
    });
    thread::spawn(move || server.serve(&listener));
    // While a verb runs: an answer with the id of its request, and the connection goes on.
    let fault = Fault::parse("any : stop").unwrap();
    owner.submit(Input::Fault(&fault), &NoMemory);
    let enable = Command::new(opcode::ENABLE_HCA);
    let stopped = Input::Command {
        function: F,
        tag: 1,
        caller: Caller::Driver,
        inbox: enable.inbox(),
        outbox_len: 16,
    };
    owner.submit(stopped, &NoMemory);
    owner.attach(F, Arc::new(Failing));
    let (mut c, _) = connect(&path);
    let mut ask = |line: &str| {
        writeln!(c.get_mut(), "{line}").unwrap();
        let mut answer = String::new();
        c.read_line(&mut answer).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let answer = ask(r#"{"execute":"continue","id":7}"#);
    let desc = "the emulator failed over this command, and its log says where; this is a bug";
    let want = json!({"error": {"class": "GenericError", "desc": desc}, "id": 7});
    assert_eq!(answer, want);
    let answer = ask(r#"{"execute":"functions","id":8}"#);
    assert!(answer["id"] == 8 && answer["return"].is_array(), "{answer}");
    // Its end is seen, so that its place is free.
    c.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    c.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    // `quit` panics outside of any verb: these connections end, more often than there may be connections.
    for round in 0..3 {
        let all: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect(&path)).collect();
        for (mut c, greeting) in all {
            assert!(
                greeting.starts_with("{\"fwctl-emu\":"),
                "{round}: {greeting}"
            );
            writeln!(c.get_mut(), r#"{{"execute":"quit"}}"#).unwrap();
            let mut rest = String::new();
            c.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "{\"return\":{}}\n");
        }
    }
    let _ = std::fs::remove_file(&path);
}
