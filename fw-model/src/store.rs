// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What outlives the process: a small key-value store that takes whole batches.
//!
//! The model never waits for a disk. It emits [`Effect::Commit`](crate::Effect::Commit) with a
//! [`Batch`] and holds back what must not be acknowledged before the batch is stored; whoever
//! drives it stores the batch and answers with [`Input::Committed`](crate::Input::Committed).

use std::collections::BTreeMap;

/// Names a batch between the model and its driver; grows by one per batch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Token(pub u64);

/// Changes that are stored all together or not at all: a value per key, `None` to remove it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Batch {
    /// Key (a path of words with `/`) to its new value.
    pub puts: BTreeMap<String, Option<Vec<u8>>>,
}

/// Why a store did not take or give something: a fault of the host, never of the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state store: {what}")]
pub struct StoreError {
    /// What failed, where, and what to do.
    pub what: String,
}

/// Stable storage of one card.
pub trait Store {
    /// All keys and values as of the last commit.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read or are damaged.
    fn load(&mut self) -> Result<BTreeMap<String, Vec<u8>>, StoreError>;

    /// Stores `batch`. When this returns `Ok`, the batch survives a crash; on `Err` the old
    /// content does.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be stored.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;
}

/// A store in memory, for fuzzers, tests and a card without a state directory.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    map: BTreeMap<String, Vec<u8>>,
}

impl Store for MemStore {
    fn load(&mut self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        Ok(self.map.clone())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        apply(&mut self.map, batch);
        Ok(())
    }
}

/// Applies `batch` to `map`.
pub fn apply(map: &mut BTreeMap<String, Vec<u8>>, batch: &Batch) {
    for (key, value) in &batch.puts {
        match value {
            Some(v) => map.insert(key.clone(), v.clone()),
            None => map.remove(key),
        };
    }
}
