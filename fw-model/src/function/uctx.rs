// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! User contexts: the uid that labels a DEVX or tools user and what it may do.

use std::collections::BTreeMap;

/// `uctx.cap` bit: raw packet transmit.
pub const CAP_RAW_TX: u32 = 0x1;
/// `uctx.cap` bit: internal device resources.
pub const CAP_INTERNAL_DEVICE_RESOURCES: u32 = 0x2;
/// `uctx.cap` bit: tools resources, which `mlx5_fwctl` asks for.
pub const CAP_TOOLS_RESOURCES: u32 = 0x4;

/// Header uid of resources that all user contexts of a function share
/// (`MLX5_SHARED_RESOURCE_UID`).
pub const SHARED_UID: u16 = 0xffff;

/// The kind of caller that a command's uid stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// uid 0: the driver itself.
    Kernel,
    /// A user context without the tools capability.
    Devx,
    /// A user context with it.
    Tools,
}

/// The user contexts of one function.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct UserContexts {
    caps: BTreeMap<u16, u32>,
    last: u16,
}

impl UserContexts {
    /// Number of them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.caps.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.caps.is_empty()
    }

    /// Makes one with `cap` and returns its uid: never 0, never [`SHARED_UID`], and not one that
    /// was in use a moment ago. `None` if there are `limit` already.
    pub fn create(&mut self, cap: u32, limit: usize) -> Option<u16> {
        if self.caps.len() >= limit.min(usize::from(SHARED_UID) - 1) {
            return None;
        }
        loop {
            self.last = if self.last >= SHARED_UID - 1 {
                1
            } else {
                self.last + 1
            };
            if let std::collections::btree_map::Entry::Vacant(e) = self.caps.entry(self.last) {
                e.insert(cap);
                return Some(self.last);
            }
        }
    }

    /// Ends one; false if there is none with this uid.
    pub fn destroy(&mut self, uid: u16) -> bool {
        self.caps.remove(&uid).is_some()
    }

    /// What kind of caller the uid in a command's header is, or `None` if there is none such.
    #[must_use]
    pub fn kind(&self, uid: u16) -> Option<CallerKind> {
        if uid == 0 || uid == SHARED_UID {
            return Some(CallerKind::Kernel);
        }
        let cap = self.caps.get(&uid)?;
        Some(if cap & CAP_TOOLS_RESOURCES == 0 {
            CallerKind::Devx
        } else {
            CallerKind::Tools
        })
    }

    /// All uids.
    pub fn uids(&self) -> impl Iterator<Item = u16> + '_ {
        self.caps.keys().copied()
    }

    /// The capabilities of a user context.
    #[must_use]
    pub fn cap(&self, uid: u16) -> Option<u32> {
        self.caps.get(&uid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_not_reused_at_once_and_never_zero() {
        let mut u = UserContexts::default();
        assert_eq!(u.create(4, 2), Some(1));
        assert!(u.destroy(1));
        assert_eq!(u.create(0, 2), Some(2));
        assert_eq!(u.create(0, 2), Some(3));
        assert_eq!(u.create(0, 2), None);
        assert!(!u.destroy(1));
        u.last = SHARED_UID - 1;
        assert!(u.destroy(2));
        assert_eq!(u.create(0, 2), Some(1));
        assert_eq!(
            (u.kind(0), u.kind(1), u.kind(7)),
            (Some(CallerKind::Kernel), Some(CallerKind::Devx), None)
        );
    }
}
