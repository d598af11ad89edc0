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
    /// Multicast groups that QPs are attached to: QP number and GID.
    pub multicast: BTreeSet<(u32, [u8; 16])>,
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
