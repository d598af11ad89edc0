// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The function's own virtual port: MAC, MTU, promiscuity, address lists, admin state.

/// Types of address lists: unicast, multicast, VLAN.
pub const LISTS: usize = 3;

/// A virtual port, as far as it differs from a fresh one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Vport {
    /// MAC address that MODIFY_NIC_VPORT_CONTEXT set.
    pub mac: Option<[u8; 6]>,
    /// MTU in bytes, 0 for the default.
    pub mtu: u16,
    /// promisc_uc, promisc_mc, promisc_all as bits 2, 1, 0.
    pub promisc: u8,
    /// Events asked for: the dword with `arm_change_event`.
    pub events: u32,
    /// RoCE enabled.
    pub roce: bool,
    /// disable_mc_local_lb and disable_uc_local_lb.
    pub local_lb: u8,
    /// Node GUID that was set.
    pub node_guid: Option<u64>,
    /// Port GUID that was set.
    pub port_guid: Option<u64>,
    /// min_wqe_inline_mode.
    pub min_inline: u8,
    /// Address lists as 8-byte entries, by type.
    pub lists: [Vec<u64>; LISTS],
    /// `vport_state_policy` of the HCA vport context.
    pub state_policy: u8,
    /// Admin state that MODIFY_VPORT_STATE set.
    pub admin_state: Option<u8>,
}

/// Entries of an address list: what `log_max_current_uc_list` can at most say.
pub const MAX_LIST: usize = 1 << 12;

impl Vport {
    /// Checks a vport that was read from a file.
    ///
    /// # Errors
    /// What it holds that no vport can hold.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.lists.iter().any(|l| l.len() > MAX_LIST) {
            return Err("an address list that is too long");
        }
        Ok(())
    }
}
