// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One emulator for long: many commands, clients that go and clients that are killed, on both doors, and
//! control connections. It must hold no more memory and no more files than before, and lose nothing that it
//! acknowledged; then the same of emulators that are killed.
//!
//! How long is said by SOAK_SESSIONS and SOAK_COMMANDS; scripts/scenarios/soak runs the full form.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;
mod stored;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use fw_model::record::flight::GENERATION;
use fwctl_proto::{opcode, virtio::Status};
use host_driver::{
    firmware::Firmware,
    mailbox::{Command as FwCommand, Mailbox},
    pci::{COMMAND_SLOTS, PciDriver},
    vhost::{VhostDriver, driver_request},
    vhost_session,
};
use process::{Control, Emulator, Folder, LIMIT};
use rustix::process::Signal;
use stored::{MNVDA, Random, WRITE, access, item, stored_item};

/// Tells the test that is called again as a client what to do: door, socket, commands, last number.
const CLIENT: &str = "SOAK_CLIENT";
/// By how much resident memory may grow after the first quarter, apart from large buffers.
const GROWTH: u64 = 64 << 10;
/// How often memory is looked at.
const LOOKS: u64 = 20;
/// The C library takes a mapping for each buffer of this size or more, and all else from one heap that it gives
/// back at once. By itself it puts them where there is room, and so memory grows and shrinks in leaps of buffers.
const LARGE: u64 = 1 << 20;
const ALLOCATOR: [(&str, &str); 4] = [
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_TRIM_THRESHOLD_", "0"),
    ("MALLOC_TOP_PAD_", "0"),
];
/// The flight recorder's buffers come and go as the thread that follows the card gets its time: by no more than so
/// many of them.
const BUFFERS: u64 = 4 * GENERATION as u64;
/// Commands between two numbers that are stored.
const BATCHES: u64 = 50;
/// A client or an emulator is killed at the latest so many microseconds after the first number of its life.
const LONGEST: u64 = 20_000;
const DOORS: [&str; 2] = ["vfio-user", "vhost-user"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

/// A driver that sends many commands at once.
trait Batch: Mailbox + Sized {
    /// Sends NOPs, and returns how many once all are answered rightly.
    fn batch(&mut self) -> u64;
}

/// A NOP.
fn nop() -> [u8; 16] {
    let mut inbox = [0; 16];
    inbox[..2].copy_from_slice(&opcode::NOP.to_be_bytes());
    inbox
}

impl Batch for PciDriver {
    fn batch(&mut self) -> u64 {
        // The last slot is the pages'.
        let slots = COMMAND_SLOTS - 1;
        for slot in 0..slots {
            self.post(slot, &nop(), 16).unwrap();
        }
        self.ring((1 << slots) - 1).unwrap();
        for slot in 0..slots {
            let a = self.wait(slot, 16).unwrap();
            assert_eq!((a.delivery, a.outbox), (0, vec![0; 16]));
        }
        slots as u64
    }
}

impl Batch for VhostDriver {
    fn batch(&mut self) -> u64 {
        const MANY: u64 = 64;
        for _ in 0..MANY {
            self.send(&driver_request(16, 16), &nop(), 16).unwrap();
        }
        self.kick().unwrap();
        for _ in 0..MANY {
            let r = self.receive().unwrap().1;
            assert_eq!((r.header.status, r.outbox), (Status::Ok, vec![0; 16]));
        }
        MANY
    }
}

/// Makes a user context with objects in it, and ends it; how many commands that takes.
fn objects<M: Mailbox>(d: &mut Firmware<M>) -> u64 {
    let uid = d.create_uctx(0).unwrap();
    let make = |d: &mut Firmware<M>, opcode| {
        let out = d.ok(&FwCommand::new(opcode).uid(uid)).unwrap();
        u32::from_be_bytes([0, out[9], out[10], out[11]])
    };
    let pd = make(d, opcode::ALLOC_PD);
    // The firmware ends what the context still has.
    make(d, opcode::ALLOC_TRANSPORT_DOMAIN);
    let dealloc = FwCommand::new(opcode::DEALLOC_PD).uid(uid);
    d.ok(&dealloc.set("pd", pd.into())).unwrap();
    d.destroy_uctx(uid).unwrap();
    5
}

/// What a client does: `found` the number that is stored, then NOPs, objects, and now and then a new number,
/// told on standard output once it is acknowledged. It ends after so many commands; 0 is never.
fn client<M: Batch>(mailbox: M, commands: u64) {
    let mut d = Firmware::new(mailbox);
    d.bring_up().unwrap();
    let mut n = stored_item(&mut d, 0);
    println!("\nfound {n}");
    let mut done = 0;
    while commands == 0 || done < commands {
        n += 1;
        println!("sends {n}");
        d.ok(&access(MNVDA, WRITE, &item(0, n))).unwrap();
        println!("has {n}");
        let mut batches = 0;
        while batches < BATCHES && (commands == 0 || done < commands) {
            done += d.mailbox.batch() + objects(&mut d);
            batches += 1;
        }
        println!("did {done}");
    }
}

/// Called by the other test in a process of its own; alone it does nothing.
#[test]
fn inside() {
    let Ok(what) = std::env::var(CLIENT) else {
        return;
    };
    let (door, rest) = what.split_once(' ').unwrap();
    let (commands, path) = rest.split_once(' ').unwrap();
    let (path, commands) = (Path::new(path), commands.parse().unwrap());
    if door == DOORS[0] {
        client(PciDriver::probe(path).unwrap(), commands);
    } else {
        let options = vhost_session::Options::default();
        client(VhostDriver::connect(path, options).unwrap(), commands);
    }
}

/// A client in a process of its own.
struct Client {
    child: Child,
    // Of a thread that reads what it says, so that a wait for it can end.
    lines: Receiver<String>,
}

/// What a client said.
#[derive(Debug, Default)]
struct Said {
    found: Option<u32>,
    sent: u32,
    acknowledged: u32,
    done: u64,
}

impl Client {
    fn start(door: usize, socket: &Path, commands: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["inside", "--exact", "--nocapture", "--test-threads=1"])
            .env(
                CLIENT,
                format!("{} {commands} {}", DOORS[door], socket.display()),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Reads what it says, up to and with the line that `is_last`; false if it ends before that.
    fn read(&mut self, said: &mut Said, is_last: impl Fn(&str) -> bool) -> bool {
        loop {
            let line = match self.lines.recv_timeout(LIMIT) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => panic!("a client says nothing: {said:?}"),
            };
            if let Some((word, number)) = line.trim().split_once(' ') {
                match (word, number.parse::<u32>()) {
                    ("found", Ok(n)) => said.found = Some(n),
                    ("sends", Ok(n)) => said.sent = n,
                    ("has", Ok(n)) => said.acknowledged = n,
                    ("did", Ok(n)) => said.done = n.into(),
                    _ => {}
                }
            }
            if is_last(&line) {
                return true;
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    fn ended_well(&mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers that may be stored: the last that was acknowledged, and one that was sent after it.
struct Known {
    low: u32,
    high: u32,
}

impl Known {
    fn add(&mut self, said: &Said) {
        let found = said.found.expect("it says what it found");
        assert!(
            (self.low..=self.high).contains(&found),
            "found {found}, not {} to {}",
            self.low,
            self.high
        );
        self.low = found.max(said.acknowledged);
        self.high = self.low.max(said.sent);
    }
}

/// Bytes that a process holds in memory.
#[derive(Clone, Copy, Debug)]
struct Resident {
    /// In large buffers: anonymous mappings of [`LARGE`] or more.
    large: u64,
    /// In all else.
    rest: u64,
}

impl Resident {
    fn of(pid: u32) -> Self {
        let mut found = Self { large: 0, rest: 0 };
        let (mut is_large, mut is_code) = (false, false);
        for line in fs::read_to_string(format!("/proc/{pid}/smaps"))
            .unwrap()
            .lines()
        {
            let words: Vec<_> = line.split_whitespace().collect();
            if let Some((from, to)) = words[0].split_once('-') {
                let [from, to] = [from, to].map(|a| u64::from_str_radix(a, 16).unwrap());
                // One without a file and without a name, as [heap] is.
                is_large = words.len() == 5 && to - from >= LARGE;
                // The program's: it comes 64 KiB at a time when some of it runs first, and has an end.
                is_code =
                    words[1].starts_with("r-") && words.len() == 6 && words[5].starts_with('/');
            } else if words[0] == "Rss:" && !is_code {
                let bytes = words[1].parse::<u64>().unwrap() << 10;
                *(if is_large {
                    &mut found.large
                } else {
                    &mut found.rest
                }) += bytes;
            }
        }
        found
    }
}

/// Threads of a process.
fn tasks(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Open files of a process.
fn files(pid: u32) -> usize {
    links(pid).len()
}

/// What they are. The state file comes and goes: after it was written anew it is opened with the next change.
fn links(pid: u32) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let link = |e: std::io::Result<fs::DirEntry>| {
        let path = e.ok()?.path();
        let to = fs::read_link(&path).ok()?;
        if to.ends_with("state/card") {
            return None;
        }
        Some(format!("{:?} {}", path.file_name()?, to.display()))
    };
    all.filter_map(link).collect()
}

/// Waits until no function has a client, and as many files are open as `files` says.
fn settle(control: &mut Control, pid: u32, want: Option<usize>) {
    let end = Instant::now() + LIMIT;
    loop {
        let gone = control.functions().iter().all(|f| f["connected"] == false);
        let open = files(pid);
        if gone && want.is_none_or(|w| w == open) {
            return;
        }
        assert!(
            Instant::now() < end,
            "{open} files open, not {want:?}; gone: {gone}; {:?}",
            links(pid)
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// One that cannot connect: nobody waits for what it would say.
#[test]
fn a_client_that_ends_is_noticed() {
    let folder = Folder::new();
    let mut c = Client::start(0, &folder.at("nobody"), 0);
    let mut said = Said::default();
    assert!(!c.read(&mut said, |l| l.starts_with("has")));
    assert!(!c.ended_well() && said.found.is_none());
}

/// Files that are open once no function has a client and nothing is being closed any more.
fn stable(control: &mut Control, pid: u32) -> usize {
    /// Looks, a millisecond each, that must find the same.
    const QUIET: usize = 200;
    settle(control, pid, None);
    let end = Instant::now() + LIMIT;
    let (mut open, mut same) = (files(pid), 0);
    while same < QUIET {
        assert!(Instant::now() < end, "files come and go without a client");
        thread::sleep(Duration::from_millis(1));
        let now = files(pid);
        same = if now == open { same + 1 } else { 0 };
        open = now;
    }
    open
}

#[test]
fn nothing_grows_and_nothing_is_lost() {
    let sessions = setting("SOAK_SESSIONS", 40);
    // A quarter fills what the flight recorder keeps.
    let commands = setting("SOAK_COMMANDS", 400_000);
    let folder = Folder::new();
    let sockets = [folder.at("a"), folder.at("b")];
    let (control, state) = (folder.at("control"), folder.at("state"));
    let text = |p: &Path| p.to_str().unwrap().to_owned();
    let args = [
        "--vfio-user".to_owned(),
        text(&sockets[0]),
        "--vhost-user".to_owned(),
        text(&sockets[1]),
        "--control".to_owned(),
        text(&control),
        "--state".to_owned(),
        text(&state),
        "--profile".to_owned(),
        "minimal".to_owned(),
    ];
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut known = Known { low: 0, high: 0 };
    let mut done = 0;

    // Clients come and go, or are killed.
    let e = Emulator::start_with(&args, &ALLOCATOR);
    let mut asks = Control::greeted(&control);
    let (mut before, mut killed, mut memory) = (None, 0, Vec::new());
    let mut threads = 0;
    for session in 0..sessions {
        if session == sessions / 4 {
            before = Some(stable(&mut asks, e.pid()));
            threads = tasks(e.pid());
        }
        if session >= sessions / 4 && session % (sessions / LOOKS) == 0 {
            memory.push(Resident::of(e.pid()));
        }
        let door = (session % 2) as usize;
        let kill = session / 2 % 2 == 1;
        let left = (commands.saturating_sub(done)).div_ceil(sessions - session);
        let mut c = Client::start(door, &sockets[door], if kill { 0 } else { left.max(1) });
        let mut said = Said::default();
        // Control connections come and go as well: one stays as long as the client, and reads no events.
        drop(Control::connect(&control));
        let mut other = Control::greeted(&control);
        other.functions();
        if kill {
            let mut lives = c.read(&mut said, |l| l.starts_with("has"));
            // In the full form, also these do their part.
            while lives && said.done < left {
                lives = c.read(&mut said, |l| l.starts_with("did"));
            }
            assert!(
                lives,
                "session {session}: it ended before it was killed: {said:?}"
            );
            thread::sleep(Duration::from_micros(random.below(LONGEST)));
            c.kill();
            killed += 1;
        }
        c.read(&mut said, |_| false);
        assert!(kill || c.ended_well(), "session {session}: {said:?}");
        known.add(&said);
        done += said.done;
        drop(other);
        asks = Control::greeted(&control);
        settle(&mut asks, e.pid(), before);
    }
    stable(&mut asks, e.pid());
    assert_eq!(tasks(e.pid()), threads, "threads are left");
    memory.push(Resident::of(e.pid()));
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    println!(
        "{sessions} sessions, {killed} clients killed, {done} commands, {} numbers: resident {first:?} after a quarter, \
         {last:?} at the end; {} files",
        known.low,
        before.unwrap()
    );
    assert!(done >= commands);
    // AddressSanitizer keeps what was freed for a while.
    if std::env::var_os("ASAN_OPTIONS").is_none() {
        assert!(last.rest < first.rest + GROWTH, "{memory:?}");
        assert!(last.large < first.large + BUFFERS, "{memory:?}");
    }
    drop(asks);
    e.signal(Signal::TERM);
    assert_eq!(e.end().0.code(), Some(0));

    // Emulators are killed under a client.
    for round in 0..sessions / 4 {
        let door = (round % 2) as usize;
        let e = Emulator::start(&args);
        let mut c = Client::start(door, &sockets[door], 0);
        let mut said = Said::default();
        let lives = c.read(&mut said, |l| l.starts_with("has"));
        assert!(lives, "round {round}: {said:?}");
        thread::sleep(Duration::from_micros(random.below(LONGEST)));
        e.signal(Signal::KILL);
        e.end();
        // It waits for an answer that does not come.
        thread::sleep(Duration::from_millis(5));
        c.kill();
        c.read(&mut said, |_| false);
        known.add(&said);
    }
    println!("{} emulators killed, {} numbers", sessions / 4, known.low);
}
