// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The process is killed at any moment, over and over: what was acknowledged is there afterwards, and
//! nothing is there that was not sent. Configuration items (MNVDA) and the flash (MFBA), over a real
//! socket.
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
use stored::{HEAD, MNVDA, READ, Random, WRITE, access, item, stored_item};

const KILLS: u32 = 200;
/// A process is killed at the latest so many microseconds after it was brought up.
const LONGEST: u64 = 20_000;
const MFBA: u16 = 0x9011;
/// Where in the flash the numbers go, behind the images.
const FLASH: u32 = 0x1f0_0000;

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

/// What is written as number `n`: an item, or a dword of the flash.
fn write(n: u32) -> Command {
    if n.is_multiple_of(2) {
        access(MNVDA, WRITE, &item(n))
    } else {
        access(MFBA, WRITE, &dword(n, n))
    }
}

/// A dword of the flash, `None` if it is erased.
fn stored_dword(d: &mut Driver, n: u32) -> Option<u32> {
    let out = d.ok(&access(MFBA, READ, &dword(n, 0))).unwrap();
    let value = u32::from_le_bytes(out[HEAD + 12..].try_into().unwrap());
    (value != u32::MAX).then_some(value)
}

/// Sends numbers from `first` on until the process is dead: the last, which was not acknowledged.
fn send(d: &mut Driver, first: u32, dead: &AtomicBool) -> u32 {
    for n in first.. {
        let c = write(n);
        let len = c.inbox().len();
        d.mailbox.post(0, c.inbox(), len).unwrap();
        let _ = d.mailbox.ring(1);
        let end = Instant::now() + LIMIT;
        loop {
            let over = dead.load(Ordering::Acquire);
            if let Some(a) = d.mailbox.answer(0, len).unwrap() {
                assert_eq!((a.delivery, a.outbox[0]), (0, 0), "number {n}");
                break;
            }
            if over {
                return n;
            }
            assert!(Instant::now() < end, "number {n} is not answered");
        }
    }
    unreachable!("there are more numbers than time")
}

fn driver(socket: &Path) -> Result<Driver, MailboxError> {
    let mut d = Firmware::new(PciDriver::probe(socket)?);
    d.bring_up()?;
    Ok(d)
}

/// What must be there.
#[derive(Default)]
struct Known {
    item: u32,
    /// Numbers that are in the flash, and those that are not although they were sent.
    flash: BTreeMap<u32, bool>,
}

impl Known {
    /// Numbers up to `acknowledged` are there, `in_flight` may be.
    fn check(&mut self, d: &mut Driver, first: u32, in_flight: u32) -> Result<(), String> {
        for n in first..in_flight {
            if n.is_multiple_of(2) {
                self.item = n;
            } else {
                self.flash.insert(n, true);
            }
        }
        let item = stored_item(d);
        if item != self.item && !(item == in_flight && in_flight.is_multiple_of(2)) {
            return Err(format!("found item {item}, not {}", self.item));
        }
        self.item = item;
        if !in_flight.is_multiple_of(2) {
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
        let next = stored_dword(d, (in_flight + 1) | 1);
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
            send(&mut d, first, &dead)
        });
        most = most.max(in_flight - first);
    }
    println!("{KILLS} kills, {in_flight} writes, at most {most} in a life");
    assert!(in_flight > 2 * KILLS, "too slow to say anything");
    let files = fs::read_dir(&state).unwrap();
    let left: Vec<_> = files.map(|f| f.unwrap().file_name()).collect();
    assert!(left.len() <= 3, "files pile up: {left:?}");
}
