// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Non-volatile configuration: configuration items (TLVs) with a current and a next-boot value.
//!
//! An item that was never set has no value; it reads as zeros of the length asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    store::{Batch, Token},
    syndrome::Syndrome,
    unstored::Unstored,
};

/// Items that a card keeps.
pub const MAX_ITEMS: usize = 4096;
/// Bytes of an item's data: the room in MNVDA.
pub const MAX_ITEM_BYTES: usize = 256;
/// Where items lie in the card's store.
const PREFIX: &str = "nv/next/";
const CURRENT: &str = "nv/current/";
/// Who set the next-boot value: one byte.
const WRITER: &str = "nv/writer/";

/// Configuration items by their 32-bit type (class, index and parameter).
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct NvStore {
    next: BTreeMap<u32, Vec<u8>>,
    current: BTreeMap<u32, Vec<u8>>,
    /// `writer_id` of those who set next-boot values; none is 0, unspecified.
    writers: BTreeMap<u32, u8>,
    /// Next-boot values, and who set them, before changes that are not stored yet.
    unstored: Unstored<u32, (Vec<u8>, u8)>,
}

impl NvStore {
    /// The items of a card's store; at power on, next-boot values are the current ones. Keys that
    /// are not ours are left alone.
    #[must_use]
    pub fn load(stored: &BTreeMap<String, Vec<u8>>) -> Self {
        let next: BTreeMap<u32, Vec<u8>> = stored
            .iter()
            .filter_map(|(k, v)| Some((u32::from_str_radix(k.strip_prefix(PREFIX)?, 16).ok()?, v)))
            .filter(|(_, v)| v.len() <= MAX_ITEM_BYTES)
            .map(|(k, v)| (k, v.clone()))
            .take(MAX_ITEMS)
            .collect();
        let writers = stored.iter().filter_map(|(k, v)| {
            let item = u32::from_str_radix(k.strip_prefix(WRITER)?, 16).ok()?;
            let [writer] = v.as_slice() else { return None };
            next.contains_key(&item).then_some((item, *writer))
        });
        Self {
            writers: writers.collect(),
            current: Self::load_current(stored),
            next,
            unstored: Unstored::default(),
        }
    }

    /// A restart of the process is no power cycle: what was current stays so.
    fn load_current(stored: &BTreeMap<String, Vec<u8>>) -> BTreeMap<u32, Vec<u8>> {
        stored
            .iter()
            .filter_map(|(k, v)| Some((u32::from_str_radix(k.strip_prefix(CURRENT)?, 16).ok()?, v)))
            .filter(|(_, v)| v.len() <= MAX_ITEM_BYTES)
            .map(|(k, v)| (k, v.clone()))
            .take(MAX_ITEMS)
            .collect()
    }

    /// Checks items that were read from a file.
    ///
    /// # Errors
    /// What they hold that no item can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let bad = |items: &BTreeMap<u32, Vec<u8>>| {
            items.len() > MAX_ITEMS || items.values().any(|v| v.len() > MAX_ITEM_BYTES)
        };
        let stray = self.writers.keys().any(|i| !self.next.contains_key(i));
        if bad(&self.next) || bad(&self.current) || stray {
            return Err("configuration items");
        }
        let long = |(v, _): &(Vec<u8>, u8)| v.len() > MAX_ITEM_BYTES;
        if self.unstored.before().any(|(_, v)| v.is_some_and(long)) {
            return Err("configuration items");
        }
        self.unstored.check()
    }

    /// A batch with changes of these items has this token.
    pub(crate) fn waits_for(&mut self, token: Token) {
        self.unstored.waits_for(token);
    }

    /// A batch is stored; or it cannot be, and what it changed is as before.
    pub(crate) fn settled(&mut self, token: Token, stored: bool) {
        for (item, before) in self.unstored.settled(token, stored) {
            self.writers.remove(&item);
            let Some((value, writer)) = before else {
                self.next.remove(&item);
                continue;
            };
            self.next.insert(item, value);
            if writer != 0 {
                self.writers.insert(item, writer);
            }
        }
    }

    /// The next-boot value of an item.
    #[must_use]
    pub fn next(&self, item: u32) -> Option<&[u8]> {
        self.next.get(&item).map(Vec::as_slice)
    }

    /// `writer_id` of whoever set the next-boot value; 0 is unspecified.
    #[must_use]
    pub fn writer(&self, item: u32) -> u8 {
        self.writers.get(&item).copied().unwrap_or(0)
    }

    /// The first item behind `item` that has a next-boot value.
    #[must_use]
    pub fn next_behind(&self, item: u32) -> Option<(u32, &[u8])> {
        let from = item.checked_add(1)?;
        let (item, value) = self.next.range(from..).next()?;
        Some((*item, value))
    }

    /// The types of all items that have a value, in order.
    #[must_use]
    pub fn types(&self) -> BTreeSet<u32> {
        self.next
            .keys()
            .chain(self.current.keys())
            .copied()
            .collect()
    }

    /// Hashes all values.
    pub(crate) fn fingerprint(&self, to: &mut impl core::hash::Hasher) {
        use core::hash::Hash as _;
        self.next.hash(to);
        self.current.hash(to);
    }

    /// True if any item has a value in force.
    #[must_use]
    pub fn has_current(&self) -> bool {
        !self.current.is_empty()
    }

    /// The value in force.
    #[must_use]
    pub fn current(&self, item: u32) -> Option<&[u8]> {
        self.current.get(&item).map(Vec::as_slice)
    }

    /// Sets the next-boot value, by `writer` (`writer_id`, 0 is unspecified), and adds the change to
    /// `batch`.
    ///
    /// # Errors
    /// [`Syndrome::NvLength`], [`Syndrome::NvLimit`].
    pub fn set(
        &mut self,
        item: u32,
        value: &[u8],
        writer: u8,
        batch: &mut Batch,
    ) -> Result<(), Syndrome> {
        if value.len() > MAX_ITEM_BYTES {
            return Err(Syndrome::NvLength);
        }
        if !self.next.contains_key(&item) && self.next.len() >= MAX_ITEMS {
            return Err(Syndrome::NvLimit);
        }
        let before = self.next.insert(item, value.to_vec());
        self.remember(item, before);
        batch
            .puts
            .insert(format!("{PREFIX}{item:08x}"), Some(value.to_vec()));
        self.sign(item, writer, batch);
        Ok(())
    }

    /// Remembers the value that an item had before it is signed anew.
    fn remember(&mut self, item: u32, before: Option<Vec<u8>>) {
        let writer = self.writer(item);
        self.unstored
            .replaced(item, before.map(|value| (value, writer)));
    }

    /// Notes who set an item; 0 is nobody who is known.
    fn sign(&mut self, item: u32, writer: u8, batch: &mut Batch) {
        let before = match writer {
            0 => self.writers.remove(&item),
            _ => self.writers.insert(item, writer),
        };
        if before.unwrap_or(0) != writer || self.unstored.is_open(&item) {
            let value = (writer != 0).then(|| vec![writer]);
            batch.puts.insert(format!("{WRITER}{item:08x}"), value);
        }
    }

    /// True if there is room for the next-boot values of all these items.
    #[must_use]
    pub fn has_room(&self, items: &[u32]) -> bool {
        let new = items.iter().filter(|i| !self.next.contains_key(i));
        self.next.len() + new.count() <= MAX_ITEMS
    }

    /// Takes a next-boot value back and adds the change to `batch`.
    pub fn unset(&mut self, item: u32, batch: &mut Batch) {
        let before = self.next.remove(&item);
        if before.is_some() || self.unstored.is_open(&item) {
            self.remember(item, before);
            batch.puts.insert(format!("{PREFIX}{item:08x}"), None);
            self.sign(item, 0, batch);
        }
    }

    /// Takes all next-boot values back.
    pub fn unset_all(&mut self, batch: &mut Batch) {
        let mut items: BTreeSet<u32> = self.next.keys().copied().collect();
        items.extend(self.unstored.open());
        for item in items {
            self.unset(item, batch);
        }
    }

    /// The next-boot values become the current ones; `batch` gets the change.
    pub fn next_to_current(&mut self, batch: &mut Batch) {
        let key = |item: &u32| format!("{CURRENT}{item:08x}");
        for (item, value) in &self.next {
            if self.current.get(item) != Some(value) {
                batch.puts.insert(key(item), Some(value.clone()));
            }
        }
        for item in self.current.keys().filter(|i| !self.next.contains_key(i)) {
            batch.puts.insert(key(item), None);
        }
        self.current = self.next.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::apply;

    #[test]
    fn what_is_asked_for_again_before_it_is_stored_is_stored_again() {
        let mut nv = NvStore::load(&BTreeMap::new());
        nv.set(7, &[1; 4], 3, &mut Batch::default()).unwrap();
        nv.waits_for(Token(1));
        nv.settled(Token(1), true);
        let asked: [fn(&mut NvStore, &mut Batch); 3] = [
            |nv, b| nv.unset(7, b),
            |nv, b| nv.unset(7, b),
            NvStore::unset_all,
        ];
        for (i, ask) in (2..).zip(asked) {
            let mut batch = Batch::default();
            ask(&mut nv, &mut batch);
            let keys: Vec<_> = batch.puts.into_iter().collect();
            let none = |key: &str| (format!("{key}00000007"), None);
            assert_eq!(keys, [none(PREFIX), none(WRITER)], "{i}");
            nv.waits_for(Token(i));
        }
        // None of them can be stored: the item is as it was.
        for i in 2..5 {
            nv.settled(Token(i), false);
        }
        assert_eq!((nv.next(7), nv.writer(7)), (Some(&[1; 4][..]), 3));
        // What is stored already is not stored again.
        nv.unset(8, &mut Batch::default());
        let mut batch = Batch::default();
        nv.unset(8, &mut batch);
        assert!(batch.puts.is_empty());
    }

    #[test]
    fn next_becomes_current_only_when_told_and_survives_a_restart() {
        let mut stored = BTreeMap::new();
        let mut nv = NvStore::load(&stored);
        let mut batch = Batch::default();
        nv.set(0x80, &[1, 2], 9, &mut batch).unwrap();
        apply(&mut stored, &batch);
        let mut nv = NvStore::load(&stored);
        assert_eq!(
            (nv.next(0x80), nv.current(0x80)),
            (Some(&[1u8, 2][..]), None)
        );
        assert_eq!((nv.writer(0x80), nv.writer(0x81)), (9, 0));
        let mut batch = Batch::default();
        nv.next_to_current(&mut batch);
        apply(&mut stored, &batch);
        assert_eq!(NvStore::load(&stored).current(0x80), Some(&[1u8, 2][..]));
    }

    #[test]
    fn what_is_taken_back_is_gone_at_the_next_boot_and_stays_so() {
        let mut stored = BTreeMap::new();
        let mut nv = NvStore::load(&stored);
        let mut batch = Batch::default();
        nv.set(1, &[1], 9, &mut batch).unwrap();
        nv.set(2, &[2], 0, &mut batch).unwrap();
        nv.next_to_current(&mut batch);
        apply(&mut stored, &batch);
        let mut batch = Batch::default();
        nv.unset(1, &mut batch);
        nv.unset(3, &mut batch);
        apply(&mut stored, &batch);
        let mut nv = NvStore::load(&stored);
        assert_eq!((nv.next(1), nv.current(1)), (None, Some(&[1u8][..])));
        let mut batch = Batch::default();
        nv.next_to_current(&mut batch);
        apply(&mut stored, &batch);
        let mut nv = NvStore::load(&stored);
        assert_eq!((nv.current(1), nv.current(2)), (None, Some(&[2u8][..])));
        let mut batch = Batch::default();
        nv.unset_all(&mut batch);
        nv.next_to_current(&mut batch);
        apply(&mut stored, &batch);
        assert!(stored.is_empty());
    }

    #[test]
    fn foreign_keys_and_long_values_are_not_taken() {
        let mut stored = BTreeMap::new();
        stored.insert("nv/next/zz".into(), vec![1]);
        stored.insert("nv/next/00000001".into(), vec![0; MAX_ITEM_BYTES + 1]);
        stored.insert("nv/writer/00000001".into(), vec![9]);
        let mut nv = NvStore::load(&stored);
        assert_eq!((nv.next(1), nv.writer(1), nv.check()), (None, 0, Ok(())));
        assert_eq!(
            nv.set(1, &[0; 257], 0, &mut Batch::default()),
            Err(Syndrome::NvLength)
        );
    }
}
