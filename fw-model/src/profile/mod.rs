// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Profiles: what a card is. TOML that compiles once into immutable pages which all cards share.

mod file;
pub use file::cap_layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fwctl_proto::{
    cap_type,
    layout::{self, FieldInfo, LayoutInfo},
    mst::nv::Item,
};
use serde::Deserialize;

use crate::{
    FunctionId, Overlay,
    firmware::{flash::FromFactory, update::MAX_STEP},
    limits::MAX_PAGES,
    settings::InForce,
    table,
};

/// Capability type of the general page.
pub const CAP_GENERAL: u16 = cap_type::GENERAL;
/// Bytes of a capability page in QUERY_HCA_CAP's outbox.
pub const CAP_PAGE_BYTES: usize = 4096;

/// Names and texts of the built-in profiles.
const BUILTIN: &[(&str, &str)] = &[
    ("connectx5", include_str!("../../profiles/connectx5.toml")),
    (
        "connectx6dx",
        include_str!("../../profiles/connectx6dx.toml"),
    ),
    ("connectx7", include_str!("../../profiles/connectx7.toml")),
    ("connectx8", include_str!("../../profiles/connectx8.toml")),
    ("bluefield3", include_str!("../../profiles/bluefield3.toml")),
    ("minimal", include_str!("../../profiles/minimal.toml")),
    ("all-caps", include_str!("../../profiles/all-caps.toml")),
];

/// Why a profile was not taken: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {origin}: {what}")]
pub struct ProfileError {
    /// File or built-in name.
    pub origin: String,
    /// What is wrong, with its place.
    pub what: String,
}

/// What configuration space shows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pci {
    /// Vendor id.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor_id: u16,
    /// Subsystem id.
    pub subsystem_id: u16,
    /// Device id of the virtual functions.
    #[serde(default = "vf_device_id")]
    pub vf_device_id: u16,
    /// Revision id.
    #[serde(default)]
    pub revision: u8,
    /// Class code, 24 bits.
    pub class: u32,
    /// Entries of the MSI-X table, 1 to 2048.
    pub msix_vectors: u16,
    /// Log2 of the bytes of BAR0.
    pub log_bar0: u8,
    /// Hardware id that the health buffer and the tools read.
    pub hw_id: u32,
    /// The gateway has the spaces of the PCI core, 0x101 to 0x10a.
    #[serde(default)]
    pub pci_core_spaces: bool,
}

/// ConnectX family mlx5Gen virtual function.
fn vf_device_id() -> u16 {
    0x101e
}

impl Pci {
    /// UAR pages (4 KiB) that BAR0 has room for.
    #[must_use]
    pub fn bar0_pages(&self) -> u32 {
        1 << (self.log_bar0 - 12)
    }
}

/// What configuration space shows; the name that the emulator uses.
pub type PciIds = Pci;

/// Which firmware runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Major, minor, sub-minor.
    pub version: [u16; 3],
    /// Board id, at most 16 characters.
    pub psid: String,
}

/// Guest pages that the firmware asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageDemand {
    /// At boot.
    pub boot: u32,
    /// In addition for INIT_HCA.
    pub init: u32,
}

impl PageDemand {
    pub(super) fn check(self) -> Result<(), String> {
        for (name, pages) in [("boot", self.boot), ("init", self.init)] {
            if pages as usize > MAX_PAGES / 2 {
                return Err(format!("pages.{name}: {pages} is above {}", MAX_PAGES / 2));
            }
        }
        Ok(())
    }
}

/// Times that the initialization segment names, and how long the firmware takes; milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// How long a driver should wait for a command.
    pub command_ms: u32,
    /// How long a driver should wait for the firmware to start.
    pub init_ms: u32,
    /// How long the firmware takes to start again after a reset.
    pub start_ms: u32,
    /// How long a step of a firmware update takes: the states INITIALIZE, VERIFY and ACTIVATE of MCC.
    pub update_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            command_ms: 60_000,
            init_ms: 2_000,
            start_ms: 50,
            update_ms: 0,
        }
    }
}

impl Timeouts {
    /// What the segment has room for (20 bits).
    const MOST: u32 = (1 << 20) - 1;

    pub(super) fn check(self) -> Result<(), String> {
        for (name, ms) in [
            ("command_ms", self.command_ms),
            ("init_ms", self.init_ms),
            ("start_ms", self.start_ms),
        ] {
            if ms > Self::MOST {
                return Err(format!("timeouts.{name}: {ms} is above {}", Self::MOST));
            }
        }
        if self.update() > MAX_STEP {
            let most = MAX_STEP.as_millis();
            return Err(format!(
                "timeouts.update_ms: {} is above {most}",
                self.update_ms
            ));
        }
        Ok(())
    }

    /// How long a step of a firmware update takes.
    #[must_use]
    pub fn update(self) -> Duration {
        Duration::from_millis(self.update_ms.into())
    }
}

/// A capability page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cap {
    /// Values after power on.
    pub current: Box<[u8]>,
    /// Largest values that SET_HCA_CAP may choose.
    pub max: Box<[u8]>,
    layout: &'static str,
}

impl Cap {
    /// The page's plain fields of at most 64 bits, with offsets in the page.
    pub fn fields(&self) -> impl Iterator<Item = &'static FieldInfo> {
        layout::find(self.layout)
            .map_or(&[][..], |l| l.fields)
            .iter()
            .filter(|f| f.nested.is_none() && f.count == 1 && f.width <= 64)
    }
}

impl Cap {
    /// The fields that are not 0, by their path, with their current and their largest value.
    #[must_use]
    pub fn values(&self) -> Vec<(String, u64, u64)> {
        let leaves = layout::find(self.layout).map(LayoutInfo::leaves);
        let leaves = leaves.unwrap_or_default().into_iter();
        let both = leaves.map(|l| {
            let get = |page: &[u8]| layout::get_bits(page, l.offset, l.width);
            (l.path, get(&self.current), get(&self.max))
        });
        both.filter(|v| (v.1, v.2) != (0, 0)).collect()
    }
}

/// A card as it leaves the factory; immutable and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Built-in name or file.
    pub name: String,
    /// One line.
    pub description: String,
    /// Configuration space.
    pub pci: Pci,
    /// Firmware identity.
    pub firmware: Firmware,
    /// Page demand.
    pub pages: PageDemand,
    /// Times.
    pub timeouts: Timeouts,
    /// Clock of the free-running timer in kHz.
    pub frequency_khz: u32,
    base_mac: [u8; 6],
    // Dense by type up to general_2: the lookup is on the path of QUERY_HCA_CAP.
    caps: Vec<Option<Cap>>,
    registers: BTreeMap<u16, Box<[u8]>>,
    without: BTreeSet<u16>,
    nv: BTreeMap<(u8, u32), Box<[u8]>>,
    // What follows from `nv` as long as no item is set.
    in_force: InForce,
    // What the flash of every card begins with.
    pub(crate) factory: FromFactory,
    /// What an overlay adds to the firmware.
    pub overlay: Option<Arc<Overlay>>,
}

/// The EUI-64 of a MAC address.
#[must_use]
pub fn guid(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

impl Profile {
    /// Names of the built-in profiles.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|b| b.0)
    }

    /// The same card with an overlay.
    #[must_use]
    pub fn with_overlay(&self, overlay: Arc<Overlay>) -> Arc<Self> {
        Arc::new(Self {
            overlay: Some(overlay),
            ..self.clone()
        })
    }

    /// The row of a command: the overlay's, or the table's.
    #[must_use]
    pub fn op(&self, opcode: u16) -> Option<&table::Op> {
        let added = self.overlay.as_deref().and_then(|o| o.command(opcode));
        added.map(|c| &c.op).or_else(|| table::find(opcode))
    }

    /// A checksum of everything that a card takes from its profile: saved cards name it.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut h = crc32fast::Hasher::new();
        let head = (&self.pci, &self.firmware, &self.pages, &self.timeouts);
        h.update(&self.frequency_khz.to_le_bytes());
        h.update(format!("{head:?}{:?}", self.base_mac).as_bytes());
        for (i, cap) in self.caps.iter().enumerate() {
            if let Some(c) = cap {
                h.update(&(i as u64).to_le_bytes());
                h.update(&c.current);
                h.update(&c.max);
            }
        }
        if let Some(o) = &self.overlay {
            h.update(&o.fingerprint().to_le_bytes());
        }
        for id in &self.without {
            h.update(&id.to_le_bytes());
        }
        for ((class, id), value) in &self.nv {
            h.update(&[*class]);
            h.update(&id.to_le_bytes());
            h.update(value);
        }
        for (id, image) in &self.registers {
            h.update(&id.to_le_bytes());
            h.update(image);
        }
        h.finalize()
    }

    /// A built-in profile.
    ///
    /// # Errors
    /// [`ProfileError`] that lists the names, if there is none called `name`.
    pub fn builtin(name: &str) -> Result<Arc<Self>, ProfileError> {
        let Some((_, text)) = BUILTIN.iter().find(|b| b.0 == name) else {
            let known: Vec<_> = Self::names().collect();
            return Err(ProfileError {
                origin: name.into(),
                what: format!(
                    "there is no built-in profile of this name; there are: {}",
                    known.join(", ")
                ),
            });
        };
        Self::parse(text, name)
    }

    /// A capability page; `None` if the card has none of this type.
    #[must_use]
    pub fn cap(&self, cap_type: u16) -> Option<&Cap> {
        self.caps.get(usize::from(cap_type))?.as_ref()
    }

    /// True unless the profile says that the card lacks this register.
    #[must_use]
    pub fn has_register(&self, id: u16) -> bool {
        !self.without.contains(&id)
    }

    /// The image of a register after power on, if it is not zero.
    #[must_use]
    pub fn register(&self, id: u16) -> Option<&[u8]> {
        self.registers.get(&id).map(|r| &**r)
    }

    /// The images of all registers that are not zero after power on, by id.
    pub fn registers(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.registers.iter().map(|(id, image)| (*id, &**image))
    }

    /// The value of a configuration item that nobody has set, if it is not zero.
    #[must_use]
    pub fn nv(&self, item: &Item) -> Option<&[u8]> {
        self.nv.get(&(item.class, item.id)).map(|v| &**v)
    }

    /// What the settings of a function are that nobody has changed.
    #[must_use]
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// The MAC address that the functions count up from.
    #[must_use]
    pub fn mac_base(&self) -> [u8; 6] {
        self.base_mac
    }

    /// The MAC address of a function: the base address counted up.
    #[must_use]
    pub fn mac(&self, function: FunctionId) -> [u8; 6] {
        let mut m = self.base_mac;
        let low = u16::from_be_bytes([m[4], m[5]]).wrapping_add(u16::from(function.0));
        [m[4], m[5]] = low.to_be_bytes();
        m
    }

    /// Configuration space.
    #[must_use]
    pub fn pci(&self) -> &Pci {
        &self.pci
    }
}
