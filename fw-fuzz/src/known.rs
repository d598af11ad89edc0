// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver has got from the firmware: objects and user contexts.

use fw_model::object::{KindId, Target};

/// Objects that are remembered; of more, the latest.
const OBJECTS: usize = 32;
/// User contexts that are remembered.
const UIDS: usize = 4;

/// Objects and user contexts by their numbers. It does not allocate.
#[derive(Clone, Debug)]
pub struct Known {
    objects: [(KindId, u32); OBJECTS],
    count: usize,
    eq: u32,
    uids: [u16; UIDS],
    uid_count: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            objects: [(KindId::Uar, 0); OBJECTS],
            count: 0,
            eq: 0,
            uids: [0; UIDS],
            uid_count: 0,
        }
    }
}

impl Known {
    /// Forgets all of them.
    pub fn forget(&mut self) {
        self.count = 0;
        self.eq = 0;
        self.uid_count = 0;
    }

    /// Remembers an object.
    pub fn add(&mut self, kind: KindId, n: u32) {
        self.objects[self.count % OBJECTS] = (kind, n);
        self.count += 1;
    }

    /// Remembers an event queue.
    pub fn add_eq(&mut self, eqn: u32) {
        self.eq = eqn;
    }

    /// Remembers a user context.
    pub fn add_uid(&mut self, uid: u16) {
        self.uids[self.uid_count % UIDS] = uid;
        self.uid_count += 1;
    }

    /// The latest object that may stand at a reference.
    #[must_use]
    pub fn latest(&self, to: Target) -> Option<u32> {
        if to == Target::Eq {
            return (self.eq != 0).then_some(self.eq);
        }
        let there = self.count.min(OBJECTS);
        let back = |i: usize| self.objects[(self.count - 1 - i) % OBJECTS];
        let mut all = (0..there).map(back);
        let found = all.find(|(kind, n)| to.object(*n) == Some((*kind, *n)))?;
        Some(found.1)
    }

    /// The number of any object, or 0 if there is none.
    #[must_use]
    pub fn any(&self, n: u8) -> u32 {
        let there = self.count.min(OBJECTS);
        usize::from(n)
            .checked_rem(there)
            .map_or(0, |i| self.objects[i].1)
    }

    /// A user context, or 0 if there is none.
    #[must_use]
    pub fn uid(&self, n: u8) -> u16 {
        let there = self.uid_count.min(UIDS);
        usize::from(n)
            .checked_rem(there)
            .map_or(0, |i| self.uids[i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_a_kind_is_found() {
        let mut k = Known::default();
        assert_eq!(k.latest(Target::Object(KindId::Pd)), None);
        assert_eq!((k.any(3), k.uid(3)), (0, 0));
        k.add(KindId::Pd, 5);
        for n in 0..40 {
            k.add(KindId::Cq, 100 + n);
        }
        assert_eq!(k.latest(Target::Object(KindId::Cq)), Some(139));
        assert_eq!(k.latest(Target::Object(KindId::Pd)), None, "forgotten");
        k.add_uid(7);
        assert_eq!(k.uid(200), 7);
        k.add_eq(3);
        k.forget();
        let all = [Target::Object(KindId::Cq), Target::Eq].map(|t| k.latest(t));
        assert_eq!((all, k.any(1), k.uid(200)), ([None, None], 0, 0));
    }
}
