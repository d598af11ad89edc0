// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files: what the process reads that somebody else may have written. Checksums are made right first, or
//! nothing behind them would ever be reached.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use clap::Parser as _;
use fw_model::{
    Batch, Caller, Card, EventPath, FunctionId, Input, MemStore, NoMemory, Overlay, Profile,
    ResetKind, Scope, Store as _,
    fault::Fault,
    gateway::{Place, space},
    record::{
        self, Record,
        replay::{Reads, Replay},
    },
    save,
};
use fwctl_emu::{
    faults,
    owner::Owner,
    store::FileStore,
    trace::{self, Broken, Entry, Reader, Recorder},
};
use fwctl_proto::{mst, opcode};

use super::{COMMANDS, Target, profile};
use crate::{Device, dictionary, guests};

macro_rules! target {
    ($name:ident, $text:literal, $about:literal, $max:expr, $run:ident, $words:expr, $seeds:ident) => {
        /// The target.
        pub static $name: Target = Target {
            name: $text,
            about: $about,
            max_len: $max,
            hits: true,
            run: $run,
            record: None,
            dictionary: $words,
            seeds: $seeds,
        };
    };
}

target!(
    STATE,
    "state",
    "the journal of a state directory",
    8192,
    state,
    state_words,
    state_seeds
);
target!(
    CARD,
    "card",
    "a saved card",
    16384,
    card,
    card_words,
    card_seeds
);
target!(
    TRACE,
    "trace",
    "a trace",
    8192,
    trace,
    trace_words,
    trace_seeds
);
target!(
    RECORD,
    "record",
    "a record, and what it makes a card do",
    16384,
    record,
    record_words,
    record_seeds
);
target!(
    PROFILE,
    "profile",
    "a profile",
    4096,
    profiles,
    profile_words,
    profile_seeds
);
target!(
    OVERLAY,
    "overlay",
    "an overlay",
    4096,
    overlay,
    overlay_words,
    overlay_seeds
);
target!(
    FAULTS,
    "faults",
    "a list of faults",
    4096,
    fault_list,
    fault_words,
    fault_seeds
);

/// A folder of this process, in memory where there is such a place.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() {
            shm.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let dir = base.join(format!("fw-fuzz-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder for files");
        dir
    })
}

/// A file with this content; threads have one each.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let path = folder().join(format!("{name}-{thread}"));
    fs::write(&path, content).expect("a file is written");
    path
}

/// Writes the CRC-32 of `bytes[from..]` at `at`.
fn sum(bytes: &mut [u8], at: usize, from: usize) {
    let sum = crc32fast::hash(bytes.get(from..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Bytes of a frame of a state file.
const FRAME: usize = 512;

/// Handles a state file.
pub fn state(data: &[u8]) {
    let (how, mut content) = split(data);
    if how & 1 == 0 {
        for frame in content.chunks_exact_mut(FRAME) {
            if frame.iter().any(|b| *b != 0) {
                sum(frame, 0, 4);
            }
        }
    }
    let dir = file("state", &[]);
    let _ = fs::remove_file(&dir);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a state directory");
    fs::write(dir.join("card"), &content).expect("a state file");
    if let Ok(mut store) = FileStore::open(&dir, how & 2 != 0) {
        let before = store.load().expect("loaded");
        // What was read makes a card, and the store goes on.
        let card = Card::new(profile(), fw_model::CardOptions::default(), &before);
        drop(card);
        let batch = Batch {
            puts: [("fuzz".to_owned(), Some(vec![1; 600]))].into(),
        };
        store.commit(&batch).expect("stored");
        let now = store.load().expect("loaded");
        assert_eq!(now.get("fuzz").map(Vec::len), Some(600));
        drop(store);
        let mut again = FileStore::open(&dir, false).expect("a file that was just written");
        assert_eq!(again.load().expect("loaded"), now);
    }
    let _ = fs::remove_dir_all(&dir);
}

/// The first byte says how the rest is taken.
fn split(data: &[u8]) -> (u8, Vec<u8>) {
    match data.split_first() {
        Some((how, rest)) => (*how, rest.to_vec()),
        None => (0, Vec::new()),
    }
}

fn state_seeds() -> Vec<Vec<u8>> {
    let dir = folder().join("seed");
    let mut store = FileStore::open(&dir, false).expect("a state directory");
    for (key, len) in [
        ("nv/next/00000080", 8),
        ("flash/00000", 256),
        ("nv/current/00000080", 8),
    ] {
        let batch = Batch {
            puts: [(key.to_owned(), Some(vec![0x5a; len]))].into(),
        };
        store.commit(&batch).expect("stored");
    }
    drop(store);
    let content = fs::read(dir.join("card")).expect("a state file");
    let _ = fs::remove_dir_all(&dir);
    vec![[&[0], &content[..]].concat(), vec![0]]
}

/// What a card keeps in it: configuration items and pieces of flash, by their keys; and the store's own marks.
fn state_words() -> Vec<Vec<u8>> {
    let items = mst::nv::ITEMS.iter();
    let keys = items.flat_map(|i| {
        let word = u32::from(i.class) << 24 | i.id;
        ["next", "current", "writer"].map(|at| format!("nv/{at}/{word:08x}").into_bytes())
    });
    let pieces = (0..16).map(|n| format!("flash/{n:05x}").into_bytes());
    dictionary::unique(keys.chain(pieces).collect())
}

/// Bytes before the content of a saved card: magic, version, checksum.
const CARD_HEAD: usize = 16;

/// Handles a saved card.
pub fn card(data: &[u8]) {
    let (how, mut bytes) = split(data);
    if how & 1 == 0 {
        sum(&mut bytes, CARD_HEAD - 4, CARD_HEAD);
    }
    let Ok(card) = Card::load(profile(), &bytes) else {
        return;
    };
    // What is loaded works, and is saved again.
    crate::check::saves_and_loads(&card, &profile());
    let mut device = Device::with_card(card);
    for n in 0..2 {
        works(&mut device, FunctionId(n));
    }
    device.now.0 = u64::MAX / 2;
    device.poll();
    for kind in [ResetKind::Bus, ResetKind::ClientGone, ResetKind::Firmware] {
        let function = FunctionId(0);
        device.submit(Input::Reset { function, kind });
    }
    device.submit(Input::PowerCycle);
}

/// Whatever counts something in a card does.
fn works(device: &mut Device, function: FunctionId) {
    // More than a queue of two entries holds.
    for event_type in [9, 4, 9, 0xb, 9] {
        device.submit(Input::Event {
            function,
            event_type,
            sub_type: 1,
            data: [0; 28],
        });
    }
    let data = [0, 1, 0, 0, 0, 0, 0, 0];
    for (uar, offset) in [(0, 0x40), (1, 0x48), (64, 0x800), (65, 0xa00)] {
        device.submit(Input::UarWrite {
            function,
            uar,
            offset,
            data: if offset < 0x800 { &data[..4] } else { &data },
        });
    }
    for count in [i32::MIN, i32::MAX, 1] {
        device.submit(Input::PageDemand { function, count });
    }
    let _ = device.bring_to_enabled(function);
    // An item that is set is stored.
    let mut set = crate::command(opcode::ACCESS_REG, 0, 16 + 12 + 8);
    set[10..12].copy_from_slice(&fwctl_proto::register::MNVDA.to_be_bytes());
    set[16..28].copy_from_slice(&[0, 0, 0, 8, 0, 0, 0, 0x80, 0, 0, 0, 0]);
    device.command(function, &set, 64);
    for (op, op_mod, len) in [
        (opcode::ALLOC_PD, 0, 16),
        (opcode::CREATE_UCTX, 0, 64),
        (opcode::GEN_EQE, 0, 80),
        (opcode::QUERY_DIAGNOSTIC_COUNTERS, 1, 32),
        (opcode::DEALLOC_PD, 0, 16),
        (opcode::TEARDOWN_HCA, 0, 16),
        (opcode::QUERY_HCA_CAP, 0, 4112),
        (opcode::DISABLE_HCA, 0, 16),
    ] {
        device.command(function, &crate::command(op, op_mod, len), 4112);
    }
    let kind = ResetKind::Flr;
    device.submit(Input::Reset { function, kind });
}

fn card_seeds() -> Vec<Vec<u8>> {
    let mut device = Device::of(profile(), &[EventPath::EventQueues, EventPath::Channel]);
    let mut seeds = vec![[&[0], &device.card.save().expect("saved")[..]].concat()];
    device.bring_up(FunctionId(0));
    for op in [0xa04, 0x800, 0x802, 0x80e, 0x816] {
        device.command(FunctionId(0), &crate::command(op, 0, 64), 16);
    }
    // A queue of two entries, in a page of its own, for all events.
    let mut queue = crate::command(opcode::CREATE_EQ, 0, 272 + 8);
    queue[28..32].copy_from_slice(&(1u32 << 24 | 0x40).to_be_bytes());
    queue[88..96].fill(0xff);
    queue[272..].copy_from_slice(&(1u64 << 40).to_be_bytes());
    device.command(FunctionId(0), &queue, 16);
    seeds.push([&[0], &device.card.save().expect("saved")[..]].concat());
    // As drivers and tools left it; and something goes wrong with the next command.
    for (_, text) in guests::GUESTS {
        device.renew();
        device.bring_up(FunctionId(0));
        for c in &guests::read(text).unwrap_or_default().commands {
            device.command(FunctionId(0), &c.inbox, c.outbox_len);
        }
        if let Ok(fault) = Fault::of("any percent=50", "status=BAD_RES", Some(4)) {
            device.submit(Input::Fault(&fault));
        }
        seeds.push([&[0], &device.card.save().expect("saved")[..]].concat());
    }
    seeds
}

fn card_words() -> Vec<Vec<u8>> {
    let mut all = dictionary::encoded();
    all.push(save::MAGIC.to_vec());
    all.push(save::VERSION.to_le_bytes().to_vec());
    dictionary::unique(all)
}

/// `fwctl-emu trace …`, with its options.
#[derive(clap::Parser)]
struct Trace {
    #[command(subcommand)]
    what: trace::cli::Command,
}

/// Bytes before the first entry of a trace, and before the first frame of a record: magic, version.
const FILE_HEAD: usize = 12;

/// What is done with a trace, by the first byte.
const WAYS: u8 = 10;

/// Handles a trace: shown in each way, counted, exported, or compared with itself.
pub fn trace(data: &[u8]) {
    let (how, mut content) = split(data);
    if how < LENGTHS_ARE_ITS_OWN {
        for_each_length(&mut content, trace::ENTRY_HEAD, |entry| {
            let (head, body) = entry.split_at_mut(trace::ENTRY_HEAD);
            head.copy_from_slice(&trace::entry_head(body.len()));
        });
    }
    let mut path = file("trace", &content);
    // A cut is told on standard error, which a million inputs would fill.
    let last = Reader::open(&path).ok().and_then(Iterator::last);
    if let Some(Err(Broken::Cut(at))) = last {
        content.truncate(at as usize);
        path = file("trace", &content);
    }
    let path = path.to_str().expect("a path of this program");
    let exported = format!("{path}-exported");
    let ways: [&[&str]; WAYS as usize] = [
        &["show"],
        &["show", "--full", "--raw"],
        &["show", "--format", "json"],
        &["show", "--format", "mlx5"],
        &["summary"],
        &["summary", "--json"],
        &["show", "--field", "out.status!=0"],
        &["diff"],
        &["export", "--perfetto", &exported],
        &["export", "--pcapng", &exported],
    ];
    let way = ways[usize::from(how) % ways.len()];
    let mut words = vec!["trace"];
    words.extend(way);
    words.push(path);
    if way == ["diff"] {
        words.push(path);
    }
    let cli = Trace::try_parse_from(words).expect("a command line of this program");
    let mut out = Vec::new();
    let done = trace::cli::run(&cli.what, &mut out);
    if way == ["diff"] {
        assert!(!matches!(done, Ok(false)), "a trace differs from itself");
    }
}

/// From this first byte on, an input's lengths and checksums stay as they are.
const LENGTHS_ARE_ITS_OWN: u8 = 0x80;

/// Calls `each` with what each length in `bytes` says, behind the file's head: `head` bytes, which begin with it as a
/// little-endian dword, and so many more.
fn for_each_length(bytes: &mut [u8], head: usize, mut each: impl FnMut(&mut [u8])) {
    let mut rest = bytes.get_mut(FILE_HEAD..).unwrap_or_default();
    while let Some(len) = rest.first_chunk::<4>() {
        let len = head.saturating_add(u32::from_le_bytes(*len) as usize);
        let Some((piece, next)) = rest.split_at_mut_checked(len) else {
            return;
        };
        each(piece);
        rest = next;
    }
}

/// What each kind of entry begins with, with its length; and what stands in them.
fn trace_words() -> Vec<Vec<u8>> {
    let mut all = dictionary::encoded();
    for mut seed in trace_seeds() {
        let content = &mut seed[1..];
        all.push(content[..FILE_HEAD].to_vec());
        for_each_length(content, trace::ENTRY_HEAD, |entry| {
            all.push(entry[..entry.len().min(dictionary::MAX_WORD)].to_vec());
        });
    }
    dictionary::unique(all)
}

/// Traces of what happens to a card: each kind of entry, and commands from power on.
fn trace_seeds() -> Vec<Vec<u8>> {
    let path = folder().join("seed-trace");
    let head = Entry::Head {
        profile: "fuzz".into(),
        program: "0".into(),
    };
    let f = FunctionId(0);
    let mut card = Card::new(
        profile(),
        fw_model::CardOptions::default(),
        &Default::default(),
    );
    card.add_function(EventPath::Channel);
    card.add_function(EventPath::EventQueues);
    let made = File::create(&path).and_then(|f| Recorder::start(f, String::new(), &head));
    let Ok(recorder) = made else {
        return Vec::new();
    };
    let owner = Owner::new(card, Box::new(MemStore::default()));
    owner.trace(recorder);
    let submit = |input: Input<'_>| owner.submit(input, &NoMemory);
    let ask = |function, caller, inbox: &[u8]| {
        submit(Input::Command {
            function,
            tag: 1,
            caller,
            inbox,
            outbox_len: 128,
        });
    };
    for (op, op_mod) in [
        (opcode::ENABLE_HCA, 0),
        (opcode::QUERY_ISSI, 0),
        (opcode::QUERY_PAGES, 1),
        (opcode::ALLOC_PD, 0),
    ] {
        ask(f, Caller::Driver, &crate::command(op, op_mod, 16));
    }
    let scope = Scope::Configuration;
    ask(
        f,
        Caller::User { scope, uid: 9 },
        &crate::command(opcode::NOP, 0, 16),
    );
    let mut register = crate::command(opcode::ACCESS_REG, 1, 64);
    register[10..12].copy_from_slice(&fwctl_proto::register::PAOS.to_be_bytes());
    ask(f, Caller::Driver, &register);
    let g = FunctionId(1);
    let data = [0, 0, 0, 1];
    submit(Input::SegmentWrite {
        function: g,
        offset: 0x18,
        data: &data,
    });
    submit(Input::UarWrite {
        function: g,
        uar: 5,
        offset: 0x40,
        data: &data,
    });
    let at = Place {
        space: space::ICMD,
        address: 0,
    };
    submit(Input::Gateway {
        function: g,
        at,
        value: 0x9001_0001,
    });
    submit(Input::Event {
        function: f,
        event_type: 9,
        sub_type: 4,
        data: [0; 28],
    });
    submit(Input::Link {
        function: f,
        up: false,
    });
    submit(Input::Reset {
        function: f,
        kind: ResetKind::Flr,
    });
    owner.end_trace();
    let mut bytes = fs::read(&path).expect("a trace");
    // What was lost, which nothing can be made to lose here.
    let lost = postcard::to_allocvec(&Entry::Lost { count: 3 }).expect("an entry");
    bytes.extend(trace::entry_head(lost.len()));
    bytes.extend(lost);
    (0..WAYS).map(|how| [&[how], &bytes[..]].concat()).collect()
}

/// Steps of a record that are run.
const MAX_FRAMES: usize = 64;

/// Handles a record.
pub fn record(data: &[u8]) {
    let (how, mut bytes) = split(data);
    if how < LENGTHS_ARE_ITS_OWN {
        sum_frames(&mut bytes);
    }
    let Ok(mut record) = Record::open(&bytes) else {
        return;
    };
    let Ok(mut replay) = Replay::new(profile(), &record.head) else {
        return;
    };
    for frame in record.by_ref().take(MAX_FRAMES) {
        let Ok(frame) = frame else { return };
        let done = replay.step(&frame, Reads::ByPlace);
        assert!(!done.panicked, "a record makes the model panic");
        let _ = done.difference(&frame);
    }
}

/// Makes the heads of a record's frames right: what stands behind the length follows from it and the content.
fn sum_frames(bytes: &mut [u8]) {
    for_each_length(bytes, record::FRAME_HEAD, |frame| {
        let (head, body) = frame.split_at_mut(record::FRAME_HEAD);
        head.copy_from_slice(&record::frame_head(body));
    });
}

fn record_words() -> Vec<Vec<u8>> {
    let mut all = dictionary::encoded();
    all.push(record::MAGIC.to_vec());
    for seed in record_seeds() {
        if let Ok(r) = Record::open(&seed[1..]) {
            // What each kind of step begins with.
            let steps = r
                .flatten()
                .filter_map(|f| postcard::to_allocvec(&f.step).ok());
            all.extend(steps.map(|s| s[..s.len().min(2)].to_vec()));
        }
    }
    dictionary::unique(all)
}

fn record_seeds() -> Vec<Vec<u8>> {
    let Some(make) = COMMANDS.record else {
        return Vec::new();
    };
    let all = COMMANDS.all_seeds();
    all.iter()
        .step_by(10)
        .map(|s| [&[0], &make(s)[..]].concat())
        .collect()
}

fn text(data: &[u8]) -> &str {
    core::str::from_utf8(data).unwrap_or_default()
}

/// Handles a profile.
pub fn profiles(data: &[u8]) {
    if let Ok(p) = Profile::parse(text(data), "fuzz") {
        let mut d = Device::of(p.clone(), &[EventPath::EventQueues]);
        d.command(
            FunctionId(0),
            &crate::command(opcode::ENABLE_HCA, 0, 16),
            16,
        );
        crate::check::saves_and_loads(&d.card, &p);
        drop(fwctl_emu::pci::config::ConfigSpace::new(&p));
    }
}

fn profile_words() -> Vec<Vec<u8>> {
    let mut all = dictionary::words(super::PROFILE);
    for seed in profile_seeds() {
        all.extend(dictionary::words(text(&seed)));
    }
    dictionary::unique(all)
}

fn profile_seeds() -> Vec<Vec<u8>> {
    let own = r#"inherits = "connectx7"
base_mac = "02:00:00:00:00:01"
without_registers = ["PAOS"]
[pci]
vendor_id = 0x15b3
device_id = 0x1021
subsystem_vendor_id = 0x15b3
subsystem_id = 1
class = 0x020000
msix_vectors = 8
log_bar0 = 20
hw_id = 0x218
[firmware]
version = "1.2.3"
psid = "FUZZ"
[timeouts]
command_ms = 100
[caps.general]
log_max_pd = 3
[caps_max.general]
log_max_pd = 4
[nv.nv_global_pci_cap]
max_vfs_per_pf = 2
[registers.PTYS]
proto_mask = 4
"#;
    vec![super::PROFILE.into(), own.into()]
}

/// Handles an overlay.
pub fn overlay(data: &[u8]) {
    let Ok(overlay) = Overlay::parse(text(data), "fuzz") else {
        return;
    };
    let p = profile().with_overlay(overlay);
    let mut d = Device::of(p, &[EventPath::Channel]);
    d.bring_up(FunctionId(0));
    for op in [0xb00, 0xb01, 0xfff, 0x1000, 0x8000, 0xd00] {
        d.command(FunctionId(0), &crate::command(op, 0, 128), 128);
    }
}

/// The example that docs/overlays.md names.
const OVERLAY_EXAMPLE: &str = include_str!("../../../emulator/examples/widget.toml");

fn overlay_words() -> Vec<Vec<u8>> {
    dictionary::words(OVERLAY_EXAMPLE)
}

fn overlay_seeds() -> Vec<Vec<u8>> {
    vec![OVERLAY_EXAMPLE.into()]
}

/// Handles a list of faults.
pub fn fault_list(data: &[u8]) {
    let path = file("faults.toml", data);
    let Ok(all) = faults::read(&path) else {
        return;
    };
    let mut d = Device::of(profile(), &[EventPath::Channel]);
    // That fault lets the model panic, which is what it is for.
    for fault in all.iter().filter(|f| !f.text.contains("panic")) {
        d.submit(Input::Fault(fault));
    }
    for op in [0x104, 0x100, 0x107, 0x805, 0x80d] {
        d.now.0 += 1_000_000;
        d.command(FunctionId(0), &crate::command(op, 0, 64), 256);
        d.poll();
    }
    crate::check::saves_and_loads(&d.card, &profile());
}

fn fault_words() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = fault_seeds()
        .iter()
        .flat_map(|s| dictionary::words(text(s)))
        .collect();
    all.extend(dictionary::names());
    dictionary::unique(all)
}

fn fault_seeds() -> Vec<Vec<u8>> {
    let Ok(all) = faults::scenarios() else {
        return Vec::new();
    };
    let list = |s: &faults::Scenario| {
        let one = |f: &String| {
            let mut parts = f.split(" : ");
            let (when, then) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            format!("[[fault]]\nwhen = \"{when}\"\nthen = \"{then}\"\ntimes = 2\n")
        };
        s.faults.iter().map(one).collect::<String>().into_bytes()
    };
    all.iter().map(list).collect()
}

#[cfg(test)]
mod tests;
