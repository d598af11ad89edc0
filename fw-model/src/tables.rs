// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Small tables of a function that are no objects: their entries have no ids of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits::MAX_OBJECTS;

/// Bytes of the longest entry.
const MAX_ENTRY: usize = 64;

/// The small tables of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Multicast groups that QPs are attached to.
    pub multicast: Multicast,
    /// L2 table: SET_L2_TABLE_ENTRY without its header, by index.
    pub l2: BTreeMap<u32, Box<[u8]>>,
    /// UDP destination ports that carry VXLAN.
    pub vxlan: BTreeSet<u16>,
    /// Packet pacing rates: `set_pp_rate_limit_context` by index.
    pub rates: BTreeMap<u16, Box<[u8]>>,
    /// RoCE addresses (GIDs): `roce_addr_layout` by index.
    pub roce: BTreeMap<u16, Box<[u8]>>,
    /// Least time between two interrupts (`min_delay`) by vector, as far as it was set.
    pub moderation: BTreeMap<u16, u16>,
    /// Wake-on-LAN mode (`wol_mode`).
    pub wol: u8,
    /// Remote on/off mode (`rol_mode`).
    pub rol: u8,
}

/// Members of multicast groups: QP number and GID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Members", into = "Members")]
pub struct Multicast {
    members: Members,
    // How many each group has: to count them takes as long as there are members of all groups.
    groups: BTreeMap<[u8; 16], usize>,
}

type Members = BTreeSet<(u32, [u8; 16])>;

impl From<Members> for Multicast {
    fn from(members: Members) -> Self {
        let mut groups = BTreeMap::new();
        for (_, gid) in &members {
            *groups.entry(*gid).or_default() += 1;
        }
        Self { members, groups }
    }
}

impl From<Multicast> for Members {
    fn from(m: Multicast) -> Self {
        m.members
    }
}

impl Multicast {
    /// Members of all groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if no group has a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Members of a group.
    #[must_use]
    pub fn in_group(&self, gid: &[u8; 16]) -> usize {
        self.groups.get(gid).copied().unwrap_or(0)
    }

    /// True if a QP is in a group.
    #[must_use]
    pub fn contains(&self, member: &(u32, [u8; 16])) -> bool {
        self.members.contains(member)
    }

    /// Each member.
    pub fn iter(&self) -> impl Iterator<Item = &(u32, [u8; 16])> {
        self.members.iter()
    }

    /// Lets a QP join a group.
    pub fn insert(&mut self, member: (u32, [u8; 16])) {
        if self.members.insert(member) {
            *self.groups.entry(member.1).or_default() += 1;
        }
    }

    /// Lets a QP leave a group; false if it was not in it.
    pub fn remove(&mut self, member: &(u32, [u8; 16])) -> bool {
        let was_there = self.members.remove(member);
        if was_there && let Some(n) = self.groups.get_mut(&member.1) {
            *n -= 1;
            if *n == 0 {
                self.groups.remove(&member.1);
            }
        }
        was_there
    }

    /// Lets all QPs leave that are not kept.
    pub fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let gone = self.members.iter().filter(|(qpn, _)| !keep(*qpn));
        for member in gone.copied().collect::<Vec<_>>() {
            self.remove(&member);
        }
    }
}

impl Tables {
    /// Checks tables that were read from a file.
    ///
    /// # Errors
    /// What they hold that no table can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let long = |e: &[u8]| e.len() > MAX_ENTRY;
        let small = self.rates.values().chain(self.roce.values());
        if self.l2.values().chain(small).any(|e| long(e)) {
            return Err("a table entry that is too long");
        }
        if self.multicast.len() > MAX_OBJECTS || self.l2.len() > MAX_OBJECTS {
            return Err("more table entries than a function has");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_by_their_group() {
        let mut m = Multicast::default();
        let gid = |n| [n; 16];
        for (qpn, n) in [(1, 5), (2, 5), (2, 6), (2, 6), (3, 5)] {
            m.insert((qpn, gid(n)));
        }
        let groups = |m: &Multicast| [5, 6, 7].map(|n| m.in_group(&gid(n)));
        assert_eq!((groups(&m), m.len()), ([3, 1, 0], 4));
        assert_eq!(Multicast::from(Members::from(m.clone())), m);
        m.retain(|qpn| qpn != 2);
        assert!(m.remove(&(3, gid(5))) && !m.remove(&(3, gid(5))));
        assert_eq!(groups(&m), [1, 0, 0]);
        assert_eq!(m.groups.len(), 1);
    }

    #[test]
    fn an_entry_ends_at_max_entry() {
        let of = |bytes: usize| Tables {
            l2: BTreeMap::from([(3, vec![0; bytes].into())]),
            ..Tables::default()
        };
        assert_eq!(of(MAX_ENTRY).check(), Ok(()));
        let long = Err("a table entry that is too long");
        assert_eq!(of(MAX_ENTRY + 1).check(), long);
        let rate = Tables {
            rates: BTreeMap::from([(3, vec![0; MAX_ENTRY + 1].into())]),
            ..Tables::default()
        };
        assert_eq!(rate.check(), long);
    }
}
