// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What configuration items change: capabilities of a function and how many virtual functions it may
//! have, from the current values on, which are those of the last start of the firmware.

use std::collections::BTreeMap;

use fwctl_proto::{
    layout::{Field, ViewMut, get_bits},
    layouts::CmdHcaCap,
    mst::nv::{class, named},
};

use crate::{
    FunctionId,
    nv::NvStore,
    profile::{CAP_GENERAL, CAP_PAGE_BYTES, Profile},
};

/// A value of a parameter, and what it does to the general capability page.
pub struct Effect {
    /// The item.
    pub item: &'static str,
    /// The parameter.
    pub parameter: &'static str,
    /// The value.
    pub value: u64,
    /// Fields and the values that they then have, current and at most.
    pub sets: &'static [(Field<CmdHcaCap>, u64)],
    /// What it means.
    pub about: &'static str,
}

/// Every setting with an effect. An item without a value, which nobody has set and of which the
/// profile says nothing, has none.
pub static EFFECTS: &[Effect] = &[
    Effect {
        item: "nv_sw_offload_conf",
        parameter: "uctx_en",
        value: 0,
        sets: &[(CmdHcaCap::UCTX_CAP, 0), (CmdHcaCap::LOG_MAX_UCTX, 0)],
        about: "there are no user contexts: mlx5_fwctl finds no device",
    },
    Effect {
        item: "nv_hca_conf",
        parameter: "roce_ctrl",
        value: 1,
        sets: &[(CmdHcaCap::ROCE, 0)],
        about: "there is no RoCE: mlx5_ib has a port for raw packets alone, without GIDs",
    },
    Effect {
        item: "nv_vpi_link_type",
        parameter: "default_link_type",
        value: 1,
        sets: &[(CmdHcaCap::PORT_TYPE, 0)],
        about: "the port is an InfiniBand port: there is no netdev, and commands of InfiniBand are refused",
    },
];

/// A capability page that settings have changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Configured {
    /// Values after power on.
    pub current: Box<[u8]>,
    /// Largest values.
    pub max: Box<[u8]>,
}

/// What settings have changed of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InForce {
    /// Capability pages, by type.
    pub pages: BTreeMap<u16, Configured>,
    /// Virtual functions that it may have.
    pub total_vfs: u16,
}

/// The type word of an item of a function: of its port, of itself, or of the card.
fn word(item_class: u8, id: u32, function: FunctionId) -> u32 {
    let n = u32::from(function.0);
    let unit = match item_class {
        class::PORT => (n + 1) << 16,
        class::FUNCTION => n << 10,
        _ => 0,
    };
    u32::from(item_class) << 24 | unit | id
}

/// A parameter's current value for a function.
fn value(
    p: &Profile,
    nv: &NvStore,
    function: FunctionId,
    item: &str,
    parameter: &str,
) -> Option<u64> {
    let item = named(item)?;
    let f = item.layout.fields.iter().find(|f| f.name == parameter)?;
    let set = nv.current(word(item.class, item.id, function));
    let bytes = set.or_else(|| p.nv(item))?;
    Some(get_bits(bytes, f.offset, f.width))
}

/// How many virtual functions a function may have: SRIOV_EN, and NUM_OF_VFS or, where each function has
/// a number of its own (PF_NUM_OF_VF_VALID), PF_NUM_OF_VF; and what the card can.
fn total_vfs(p: &Profile, nv: &NvStore, function: FunctionId) -> u16 {
    const ITEM: &str = "nv_global_pci_conf";
    const OWN: &str = "nv_pf_pci_conf";
    const CAPABILITY: &str = "nv_global_pci_cap";
    let of = |item, parameter| value(p, nv, function, item, parameter).unwrap_or(0);
    if of(ITEM, "sriov_en") == 0 || of(CAPABILITY, "sriov_support") == 0 {
        return 0;
    }
    let own = of(ITEM, "per_pf_total_vf") != 0 && of(CAPABILITY, "per_pf_total_vf_supported") != 0;
    let wanted = match own {
        true if of(OWN, "pf_total_vf_en") == 0 => 0,
        true => of(OWN, "total_vf"),
        false => of(ITEM, "total_vfs"),
    };
    wanted.min(of(CAPABILITY, "max_vfs_per_pf")) as u16
}

/// What the current settings of a function are.
#[must_use]
pub fn in_force(p: &Profile, nv: &NvStore, function: FunctionId) -> InForce {
    // Most cards never have an item set, and a fuzzer makes a card for each of its inputs.
    if !nv.has_current() {
        return p.in_force().clone();
    }
    computed(p, nv, function)
}

/// As [`in_force`], from the items' values.
pub(crate) fn computed(p: &Profile, nv: &NvStore, function: FunctionId) -> InForce {
    InForce {
        pages: cap_pages(p, nv, function),
        total_vfs: total_vfs(p, nv, function),
    }
}

fn cap_pages(p: &Profile, nv: &NvStore, function: FunctionId) -> BTreeMap<u16, Configured> {
    let mut pages = BTreeMap::new();
    let in_force = |e: &&Effect| value(p, nv, function, e.item, e.parameter) == Some(e.value);
    for e in EFFECTS.iter().filter(in_force) {
        let Some(cap) = p.cap(CAP_GENERAL) else {
            break;
        };
        let page = pages.entry(CAP_GENERAL).or_insert_with(|| Configured {
            current: cap.current.clone(),
            max: cap.max.clone(),
        });
        for bytes in [&mut page.current, &mut page.max] {
            let Some(mut m) = ViewMut::<CmdHcaCap>::new(bytes) else {
                continue;
            };
            for (field, value) in e.sets {
                m.set(*field, *value);
            }
        }
    }
    pages
}

/// Checks what was read from a file.
///
/// # Errors
/// What there is that cannot be.
pub fn check(settings: &InForce) -> Result<(), &'static str> {
    let right = |c: &Configured| c.current.len() == CAP_PAGE_BYTES && c.max.len() == CAP_PAGE_BYTES;
    if settings.pages.values().all(right) {
        Ok(())
    } else {
        Err("a capability page of another length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effect_names_a_parameter_and_no_profile_has_it_in_force() {
        for e in EFFECTS {
            let item = named(e.item).unwrap();
            assert!(
                item.layout.fields.iter().any(|f| f.name == e.parameter),
                "{}.{}",
                e.item,
                e.parameter
            );
        }
        for name in Profile::names() {
            let p = Profile::builtin(name).unwrap();
            let none = in_force(&p, &NvStore::default(), FunctionId(0));
            assert_eq!(none, InForce::default(), "{name}");
        }
    }
}
