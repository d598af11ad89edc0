// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The process is killed at any moment, over and over: what was acknowledged is there afterwards, and
//! nothing is there that was not sent. Configuration items that are set and taken back (MNVDA, MNVDI,
//! MNVIA), a component that is activated (MCC), and the flash (MFBA), over a real socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;
mod stored;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use host_driver::{
    firmware::Firmware,
    mailbox::{Command, MailboxError},
    pci::PciDriver,
};
use process::{Emulator, Folder, LIMIT};
use rustix::process::Signal;
use stored::{HEAD, MNVDA, READ, Random, WRITE, access, item, one_number, stored_item, words};

const KILLS: u32 = 200;
/// A process is killed at the latest so many microseconds after it was brought up.
const LONGEST: u64 = 20_000;
const MNVDI: u16 = 0x9025;
const MNVIA: u16 = 0x9033;
const MFBA: u16 = 0x9011;
const MCC: u16 = 0x9062;
const MCDA: u16 = 0x9063;
/// Where in the flash the numbers go, behind the images.
const FLASH: u32 = 0x1f0_0000;
/// Index of the congestion control's component, and how many of its bytes are sent.
const CONGESTION: u32 = 1;
const ALGORITHM: usize = 64;

type Driver = Firmware<PciDriver>;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// MFBA of a dword; dwords go the other way round.
fn dword(n: u32, value: u32) -> Vec<u8> {
    let mut r = vec![0, 0, 0, 0, 0, 0, 0, 4];
    r.extend((FLASH + 4 * n).to_be_bytes());
    r.extend(value.to_le_bytes());
    r
}

/// MCC: an instruction about the congestion control's component.
fn mcc(what: u32, handle: u32) -> Command {
    let size = ALGORITHM as u32;
    access(
        MCC,
        WRITE,
        &words(&[what, CONGESTION, handle, 0, size, 0, 0, 0]),
    )
}

/// MCC's instructions.
const LOCK: u32 = 1;
const UPDATE: u32 = 3;
const VERIFY: u32 = 4;
const ACTIVATE: u32 = 6;
const READ_COMPONENT: u32 = 7;
const FORCE_RELEASE: u32 = 0xa;

/// MCDA of the whole component: how mstflint begins one, then dwords that are all `n`.
fn component(handle: u32, n: u32) -> Vec<u8> {
    let mut r = words(&[handle, 0, ALGORITHM as u32, 0, u32::MAX]);
    r.extend(n.to_be_bytes().repeat(ALGORITHM / 4 - 1));
    r
}

/// What is done as number `n`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Set(usize),
    Invalidate(usize),
    InvalidateAll,
    Program,
    Activate,
}

fn deed(n: u32) -> Deed {
    match n % 8 {
        0 => Deed::Set(0),
        2 | 6 => Deed::Set(1),
        4 => Deed::Invalidate(1),
        5 => Deed::Activate,
        // Now and then: else there would be little to take back.
        7 if n % 32 == 7 => Deed::InvalidateAll,
        _ => Deed::Program,
    }
}

/// The handle of the next update, which nobody else has.
fn free_handle(send: &mut impl FnMut(&Command) -> Option<Vec<u8>>) -> Option<u32> {
    send(&mcc(FORCE_RELEASE, 0))?;
    let out = send(&access(MCC, READ, &[0; 32]))?;
    Some(u32::from_be_bytes(out[HEAD + 8..HEAD + 12].try_into().unwrap()) & 0xff_ffff)
}

/// Does number `n`; the last command is the one that it is acknowledged by. `None` if there was no
/// answer to one.
fn act(n: u32, send: &mut impl FnMut(&Command) -> Option<Vec<u8>>) -> Option<()> {
    match deed(n) {
        Deed::Set(which) => send(&access(MNVDA, WRITE, &item(which, n)))?,
        Deed::Invalidate(which) => {
            let header = &item(which, 0)[..12];
            send(&access(MNVDI, WRITE, header))?
        }
        Deed::InvalidateAll => send(&access(MNVIA, WRITE, &[0; 8]))?,
        Deed::Program => send(&access(MFBA, WRITE, &dword(n, n)))?,
        Deed::Activate => {
            let handle = free_handle(send)?;
            send(&mcc(LOCK, handle))?;
            send(&mcc(UPDATE, handle))?;
            send(&access(MCDA, WRITE, &component(handle, n)))?;
            send(&mcc(VERIFY, handle))?;
            send(&mcc(ACTIVATE, handle))?
        }
    };
    Some(())
}

/// The component's number; 0 if there is none.
fn stored_component(d: &mut Driver) -> u32 {
    let mut send = |c: &Command| Some(d.ok(c).unwrap());
    let handle = free_handle(&mut send).unwrap();
    d.ok(&mcc(LOCK, handle)).unwrap();
    let there = d.ok(&mcc(READ_COMPONENT, handle)).is_ok();
    let number = there.then(|| {
        let ask = component(handle, 0);
        one_number(&d.ok(&access(MCDA, READ, &ask)).unwrap()[HEAD + 20..])
    });
    d.ok(&mcc(FORCE_RELEASE, 0)).unwrap();
    number.unwrap_or(0)
}

/// A dword of the flash, `None` if it is erased.
fn stored_dword(d: &mut Driver, n: u32) -> Option<u32> {
    let out = d.ok(&access(MFBA, READ, &dword(n, 0))).unwrap();
    let value = u32::from_le_bytes(out[HEAD + 12..].try_into().unwrap());
    (value != u32::MAX).then_some(value)
}

/// Does numbers from `first` on until the process is dead: the last, which was not acknowledged.
fn work(d: &mut Driver, first: u32, dead: &AtomicBool) -> u32 {
    for n in first.. {
        let mut send = |c: &Command| {
            let len = c.inbox().len();
            d.mailbox.post(0, c.inbox(), len).unwrap();
            let _ = d.mailbox.ring(1);
            let end = Instant::now() + LIMIT;
            loop {
                let over = dead.load(Ordering::Acquire);
                if let Some(a) = d.mailbox.answer(0, len).unwrap() {
                    assert_eq!((a.delivery, a.outbox[0]), (0, 0), "number {n}");
                    return Some(a.outbox);
                }
                if over {
                    return None;
                }
                assert!(Instant::now() < end, "number {n} is not answered");
            }
        };
        if act(n, &mut send).is_none() {
            return n;
        }
    }
    unreachable!("there are more numbers than time")
}

fn driver(socket: &Path) -> Result<Driver, MailboxError> {
    let mut d = Firmware::new(PciDriver::probe(socket)?);
    d.bring_up()?;
    Ok(d)
}

/// What must be there besides the flash: numbers, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stored {
    items: [u32; 2],
    component: u32,
}

impl Stored {
    fn of(d: &mut Driver) -> Self {
        Self {
            items: [0, 1].map(|i| stored_item(d, i)),
            component: stored_component(d),
        }
    }

    /// After number `n`.
    fn after(mut self, n: u32) -> Self {
        match deed(n) {
            Deed::Set(which) => self.items[which] = n,
            Deed::Invalidate(which) => self.items[which] = 0,
            Deed::InvalidateAll => self.items = [0; 2],
            Deed::Activate => self.component = n,
            Deed::Program => (),
        }
        self
    }
}

#[derive(Default)]
struct Known {
    stored: Stored,
    /// Numbers that are in the flash, and those that are not although they were sent.
    flash: BTreeMap<u32, bool>,
    /// What was in flight when the process died.
    cut: Vec<Deed>,
}

impl Known {
    /// Numbers up to `in_flight` are there, that one may be.
    fn check(&mut self, d: &mut Driver, first: u32, in_flight: u32) -> Result<(), String> {
        for n in first..in_flight {
            self.stored = self.stored.after(n);
            if deed(n) == Deed::Program {
                self.flash.insert(n, true);
            }
        }
        self.cut.push(deed(in_flight));
        let (found, next) = (Stored::of(d), self.stored.after(in_flight));
        if found != self.stored && found != next {
            return Err(format!("found {found:?}, not {:?}", self.stored));
        }
        self.stored = found;
        if deed(in_flight) == Deed::Program {
            self.flash
                .insert(in_flight, stored_dword(d, in_flight).is_some());
        }
        let recent = self.flash.range(in_flight.saturating_sub(60)..);
        for (n, there) in recent.chain(self.flash.range(..10)) {
            let found = stored_dword(d, *n);
            if found != there.then_some(*n) {
                return Err(format!("found {found:?} as number {n}"));
            }
        }
        // The next that would have been programmed.
        let later = (in_flight + 1..).find(|n| deed(*n) == Deed::Program);
        let next = later.and_then(|n| stored_dword(d, n));
        next.map_or(Ok(()), |n| Err(format!("found {n}, which was not sent")))
    }
}

#[test]
fn what_was_acknowledged_outlives_any_kill() {
    let folder = Folder::new();
    let (socket, state) = (folder.at("socket"), folder.at("state"));
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut known = Known::default();
    let (mut first, mut in_flight, mut most) = (1, 1, 0);
    for round in 0..=KILLS {
        let args = ["--vfio-user", text(&socket), "--state", text(&state)];
        let e = Emulator::start(&args);
        let mut d = driver(&socket).unwrap();
        if round > 0 {
            let right = known.check(&mut d, first, in_flight);
            assert_eq!(right, Ok(()), "life {round}, {first} to {in_flight}");
            first = in_flight + 1;
        }
        if round == KILLS {
            break;
        }
        let dead = AtomicBool::new(false);
        let wait = Duration::from_micros(random.below(LONGEST));
        in_flight = std::thread::scope(|s| {
            s.spawn(|| {
                std::thread::sleep(wait);
                e.signal(Signal::KILL);
                e.end();
                dead.store(true, Ordering::Release);
            });
            work(&mut d, first, &dead)
        });
        most = most.max(in_flight - first);
    }
    let cut = |of: fn(&Deed) -> bool| known.cut.iter().filter(|d| of(d)).count();
    println!(
        "{KILLS} kills, {in_flight} deeds, at most {most} in a life; died in {} sets, {} MNVDI, {} MNVIA, \
         {} updates, {} MFBA",
        cut(|d| matches!(d, Deed::Set(_))),
        cut(|d| matches!(d, Deed::Invalidate(_))),
        cut(|d| *d == Deed::InvalidateAll),
        cut(|d| *d == Deed::Activate),
        cut(|d| *d == Deed::Program),
    );
    assert!(in_flight > KILLS, "too slow to say anything");
    let files = fs::read_dir(&state).unwrap();
    let left: Vec<_> = files.map(|f| f.unwrap().file_name()).collect();
    assert!(left.len() <= 3, "files pile up: {left:?}");
}
