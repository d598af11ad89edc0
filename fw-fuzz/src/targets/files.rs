// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files: what the process reads that somebody else may have written. Checksums are made right first, or
//! nothing behind them would ever be reached.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use fw_model::{
    Batch, Card, EventPath, FunctionId, Overlay, Profile, Store as _,
    record::{
        Record,
        replay::{Reads, Replay},
    },
};
use fwctl_emu::{
    faults,
    store::FileStore,
    trace::{Entry, Reader, Recorder},
};

use super::{COMMANDS, Target, profile};
use crate::{Device, dictionary};

macro_rules! target {
    ($name:ident, $text:literal, $about:literal, $max:expr, $run:ident, $words:expr, $seeds:ident) => {
        /// The target.
        pub static $name: Target = Target {
            name: $text,
            about: $about,
            max_len: $max,
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
    Vec::new,
    state_seeds
);
target!(
    CARD,
    "card",
    "a saved card",
    16384,
    card,
    Vec::new,
    card_seeds
);
target!(
    TRACE,
    "trace",
    "a trace",
    8192,
    trace,
    Vec::new,
    trace_seeds
);
target!(
    RECORD,
    "record",
    "a record, and what it makes a card do",
    16384,
    record,
    Vec::new,
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
fn folder() -> &'static Path {
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
        let f = FunctionId(n);
        let _ = device.bring_to_enabled(f);
        device.command(
            f,
            &crate::command(fwctl_proto::opcode::TEARDOWN_HCA, 0, 16),
            16,
        );
        device.command(
            f,
            &crate::command(fwctl_proto::opcode::QUERY_HCA_CAP, 0, 16),
            4112,
        );
        device.command(
            f,
            &crate::command(fwctl_proto::opcode::DISABLE_HCA, 0, 16),
            16,
        );
    }
    device.now.0 = u64::MAX / 2;
    device.poll();
}

fn card_seeds() -> Vec<Vec<u8>> {
    let mut device = Device::of(profile(), &[EventPath::EventQueues, EventPath::Channel]);
    let mut seeds = vec![[&[0], &device.card.save().expect("saved")[..]].concat()];
    device.bring_up(FunctionId(0));
    for op in [0xa04, 0x800, 0x802, 0x80e, 0x816] {
        device.command(FunctionId(0), &crate::command(op, 0, 64), 16);
    }
    seeds.push([&[0], &device.card.save().expect("saved")[..]].concat());
    seeds
}

/// Handles a trace.
pub fn trace(data: &[u8]) {
    let path = file("trace", data);
    if let Ok(reader) = Reader::open(&path) {
        // The text of each entry, as `trace show` has it.
        for entry in reader.flatten() {
            assert!(!format!("{entry:?}").is_empty());
        }
    }
}

fn trace_seeds() -> Vec<Vec<u8>> {
    let path = folder().join("seed-trace");
    let head = Entry::Head {
        profile: "fuzz".into(),
        program: "0".into(),
    };
    let made = File::create(&path).and_then(|f| Recorder::start(f, String::new(), &head));
    let Ok(mut recorder) = made else {
        return Vec::new();
    };
    recorder.put(&Entry::Lost { count: 3 });
    recorder.put(&Entry::Event {
        at: 1,
        function: 0,
        event_type: 9,
        sub_type: 4,
        data: vec![0; 28].into(),
        lost: false,
    });
    drop(recorder);
    vec![fs::read(&path).expect("a trace")]
}

/// Steps of a record that are run.
const MAX_FRAMES: usize = 64;

/// Handles a record.
pub fn record(data: &[u8]) {
    let (how, mut bytes) = split(data);
    if how & 1 == 0 {
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

/// Frames of a record: length, CRC-32, content; behind a magic number and a version.
fn sum_frames(bytes: &mut [u8]) {
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 4) {
        let len = head
            .iter()
            .rev()
            .fold(0usize, |n, b| n << 8 | usize::from(*b));
        let Some(frame) = bytes
            .get_mut(at..)
            .and_then(|b| b.get_mut(..8usize.saturating_add(len)))
        else {
            return;
        };
        sum(frame, 4, 8);
        at += 8 + len;
    }
}

fn record_seeds() -> Vec<Vec<u8>> {
    let Some(make) = COMMANDS.record else {
        return Vec::new();
    };
    let all = (COMMANDS.seeds)();
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
            &crate::command(fwctl_proto::opcode::ENABLE_HCA, 0, 16),
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
        d.submit(fw_model::Input::Fault(fault));
    }
    for op in [0x104, 0x100, 0x107, 0x805, 0x80d] {
        d.now.0 += 1_000_000;
        d.submit_command(FunctionId(0), &crate::command(op, 0, 64), 256);
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
