// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A disk that forgets, tears and reorders whatever was not synced when its power goes.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use super::Disk;

/// A number from a number: the same sequence for the same seed.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// From 0 to below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Clone)]
enum Pending {
    /// One sector, or a part of one at the end.
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// Files as they would be found after a power cut, and what is on its way to them.
#[derive(Clone, Default)]
pub struct Platter {
    synced: BTreeMap<String, Vec<u8>>,
    pending: Vec<(String, Pending)>,
    // Operations until the power goes.
    pub fuse: Option<u64>,
}

fn happen(file: &mut Vec<u8>, p: &Pending) {
    match p {
        Pending::Write(at, bytes) => {
            let end = at + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[*at..end].copy_from_slice(bytes);
        }
        Pending::Cut(len) => file.truncate(*len),
    }
}

impl Platter {
    /// Counts an operation; an error when the power is gone.
    fn tick(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => Err(io::Error::other("no power")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Power off and on: of what was not synced, anything may have happened, in any order.
    pub fn power_cycle(&mut self, dice: &mut Dice) {
        let mut pending = core::mem::take(&mut self.pending);
        while !pending.is_empty() {
            let (name, p) = pending.swap_remove(dice.roll(pending.len() as u64) as usize);
            if dice.roll(2) == 1 {
                happen(self.synced.entry(name).or_default(), &p);
            }
        }
        self.fuse = None;
    }
}

/// The disk.
#[derive(Clone)]
pub struct Unreliable(pub Rc<RefCell<Platter>>);

impl Disk for Unreliable {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let d = self.0.borrow();
        let mut file = d.synced.get(name).cloned();
        for (_, p) in d.pending.iter().filter(|(n, _)| n == name) {
            happen(file.get_or_insert_default(), p);
        }
        Ok(file)
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut d = self.0.borrow_mut();
        for (i, sector) in bytes.chunks(512).enumerate() {
            // Power may go between two sectors.
            d.tick()?;
            let p = Pending::Write(at as usize + i * 512, sector.to_vec());
            d.pending.push((name.into(), p));
        }
        Ok(())
    }

    fn cut(&mut self, name: &str, len: u64) -> io::Result<()> {
        let mut d = self.0.borrow_mut();
        d.tick()?;
        d.pending.push((name.into(), Pending::Cut(len as usize)));
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut d = self.0.borrow_mut();
        d.tick()?;
        let (now, rest) = d.pending.drain(..).partition(|(n, _)| n == name);
        let now: Vec<(String, Pending)> = now;
        d.pending = rest;
        let file = d.synced.entry(name.into()).or_default();
        now.iter().for_each(|(_, p)| happen(file, p));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut d = self.0.borrow_mut();
        d.tick()?;
        assert!(d.pending.iter().all(|(n, _)| n != from), "not synced");
        let file = d.synced.remove(from).unwrap_or_default();
        d.synced.insert(to.into(), file);
        d.pending.retain(|(n, _)| n != to);
        // It has happened, and yet the power may go before anybody hears of it.
        d.tick()
    }
}
