// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was there before changes that are not stored yet: it is there again if they cannot be stored.

use std::collections::{BTreeMap, VecDeque};

use crate::store::Token;

/// Changes that are remembered: the flash has as many pages. Of more than that the oldest cannot be taken
/// back any more.
pub const MAX_UNSTORED: usize = 1 << 17;

/// Keys and their values before; none of those that had none.
type Before<K, V> = BTreeMap<K, Option<V>>;

/// Values that were replaced, by the batch that they wait for.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(bound(
    serialize = "K: Ord + serde::Serialize, V: serde::Serialize",
    deserialize = "K: Ord + serde::Deserialize<'de>, V: serde::Deserialize<'de>"
))]
pub struct Unstored<K, V> {
    // Of the batch that is being made, which has no token yet.
    fresh: Before<K, V>,
    waiting: VecDeque<(Token, Before<K, V>)>,
    // Of all that wait.
    changes: usize,
}

impl<K, V> Default for Unstored<K, V> {
    fn default() -> Self {
        Self {
            fresh: BTreeMap::new(),
            waiting: VecDeque::new(),
            changes: 0,
        }
    }
}

impl<K: Ord, V> Unstored<K, V> {
    /// A key's value was replaced, in the batch that is being made.
    pub fn replaced(&mut self, key: K, before: Option<V>) {
        self.fresh.entry(key).or_insert(before);
    }

    /// True if a change of this key is not stored yet. Whoever asks for the same once more must have it stored, too:
    /// the first may fail.
    #[must_use]
    pub fn is_open(&self, key: &K) -> bool {
        self.waiting.iter().any(|(_, b)| b.contains_key(key))
    }

    /// Keys whose changes are not stored yet.
    pub fn open(&self) -> impl Iterator<Item = &K> {
        self.waiting.iter().flat_map(|(_, b)| b.keys())
    }

    /// The batch is made, and this is its token.
    pub fn waits_for(&mut self, token: Token) {
        if self.fresh.is_empty() {
            return;
        }
        let batch = core::mem::take(&mut self.fresh);
        self.changes += batch.len();
        self.waiting.push_back((token, batch));
        while self.changes > MAX_UNSTORED {
            let oldest = self.waiting.pop_front();
            self.changes -= oldest.map_or(self.changes, |(_, b)| b.len());
        }
    }

    /// A batch is stored, or cannot be. What is to be put back is returned: nothing of what a later batch
    /// has replaced again, which is what that one puts back if it fails as well.
    #[must_use]
    pub fn settled(&mut self, token: Token, stored: bool) -> Vec<(K, Option<V>)> {
        let Some(at) = self.waiting.iter().position(|(t, _)| *t == token) else {
            return Vec::new();
        };
        let Some((_, before)) = self.waiting.remove(at) else {
            return Vec::new();
        };
        self.changes -= before.len();
        if stored {
            return Vec::new();
        }
        let mut back = Vec::new();
        for (key, value) in before {
            let later = self.waiting.iter_mut().skip(at).map(|(_, b)| b);
            let mut later = later.chain([&mut self.fresh]);
            match later.find_map(|b| b.get_mut(&key)) {
                Some(place) => *place = value,
                None => back.push((key, value)),
            }
        }
        back
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// That it is more than can be.
    pub fn check(&self) -> Result<(), &'static str> {
        let all: usize = self.waiting.iter().map(|(_, b)| b.len()).sum();
        if all > MAX_UNSTORED || all != self.changes || !self.fresh.is_empty() {
            return Err("changes that are not stored");
        }
        Ok(())
    }

    /// All that may be put back.
    pub fn before(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        let all = self.waiting.iter().flat_map(|(_, b)| b);
        all.map(|(k, v)| (k, v.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two batches that change the same key, from 0 to 1 to 2, and what is there in the end.
    fn ends(first: (u64, bool), second: (u64, bool)) -> Option<u8> {
        let mut u = Unstored::default();
        let mut now = Some(2);
        u.replaced("a", Some(0));
        u.replaced("a", Some(9));
        u.waits_for(Token(1));
        u.replaced("a", Some(1));
        u.waits_for(Token(2));
        for (token, stored) in [first, second] {
            for (key, value) in u.settled(Token(token), stored) {
                assert_eq!(key, "a");
                now = value;
            }
        }
        assert!(u.waiting.is_empty());
        now
    }

    #[test]
    fn what_is_there_is_what_was_stored_last() {
        assert_eq!(ends((1, true), (2, true)), Some(2));
        assert_eq!(ends((1, true), (2, false)), Some(1));
        assert_eq!(ends((1, false), (2, true)), Some(2));
        assert_eq!(ends((1, false), (2, false)), Some(0));
        assert_eq!(ends((2, false), (1, true)), Some(1));
        assert_eq!(ends((2, false), (1, false)), Some(0));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut u = Unstored::default();
        for (token, keys) in [(1, 0..1), (2, 1..MAX_UNSTORED - 1), (3, 0..2)] {
            keys.for_each(|n| u.replaced(n, Some(token)));
            u.waits_for(Token(token));
            assert_eq!(u.check(), Ok(()));
        }
        assert_eq!(u.settled(Token(1), false), []);
        let second = u.settled(Token(2), false);
        assert_eq!(
            second.len(),
            MAX_UNSTORED - 3,
            "all but the one that was replaced again"
        );
        assert_eq!(u.settled(Token(3), false), [(0, Some(3)), (1, Some(2))]);
        assert_eq!((u.changes, u.check()), (0, Ok(())));
    }
}
