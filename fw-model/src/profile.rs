// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Profiles: what a card is. TOML that compiles once into immutable pages which all cards share.

use std::{collections::BTreeMap, sync::Arc};

use fwctl_proto::{
    cap_type,
    layout::{self, FieldInfo, LayoutInfo, set_bits},
    register,
};
use serde::Deserialize;

use crate::{FunctionId, reg};

/// Capability type of the general page.
pub const CAP_GENERAL: u16 = cap_type::GENERAL;
/// Bytes of a capability page in QUERY_HCA_CAP's outbox.
pub const CAP_PAGE_BYTES: usize = 4096;

const BUILTIN: &[(&str, &str)] = &[
    ("connectx7", include_str!("../profiles/connectx7.toml")),
    ("minimal", include_str!("../profiles/minimal.toml")),
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    pci: Pci,
    firmware: FirmwareFile,
    #[serde(default)]
    pages: PageDemand,
    #[serde(default = "default_mac")]
    base_mac: String,
    #[serde(default = "default_frequency")]
    frequency_khz: u32,
    #[serde(default)]
    caps: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(default)]
    caps_max: BTreeMap<String, BTreeMap<String, u64>>,
    #[serde(default)]
    registers: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirmwareFile {
    version: String,
    psid: String,
}

fn default_mac() -> String {
    "02:c9:00:00:00:00".into()
}

/// 156.25 MHz, the clock of ConnectX-4 and later.
fn default_frequency() -> u32 {
    156_250
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
    /// Clock of the free-running timer in kHz.
    pub frequency_khz: u32,
    base_mac: [u8; 6],
    // Dense by type up to general_2: the lookup is on the path of QUERY_HCA_CAP.
    caps: Vec<Option<Cap>>,
    registers: BTreeMap<u16, Box<[u8]>>,
}

impl Profile {
    /// Names of the built-in profiles.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|b| b.0)
    }

    /// A checksum of everything that a card takes from its profile: saved cards name it.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut h = crc32fast::Hasher::new();
        let head = (&self.pci, &self.firmware, &self.pages, self.frequency_khz);
        h.update(format!("{head:?}{:?}", self.base_mac).as_bytes());
        for (i, cap) in self.caps.iter().enumerate() {
            if let Some(c) = cap {
                h.update(&(i as u64).to_le_bytes());
                h.update(&c.current);
                h.update(&c.max);
            }
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

    /// A profile from TOML text. `origin` names it in errors.
    ///
    /// # Errors
    /// [`ProfileError`] with the line for text that is not a profile, and with the field for one
    /// that is unknown or a value that does not fit it.
    pub fn parse(text: &str, origin: &str) -> Result<Arc<Self>, ProfileError> {
        let error = |what: String| ProfileError {
            origin: origin.into(),
            what,
        };
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |s| {
                text[..s.start.min(text.len())].matches('\n').count() + 1
            });
            error(format!("line {line}: {}", e.message()))
        })?;
        check_pci(&file.pci).map_err(error)?;
        let firmware = firmware(&file.firmware).map_err(error)?;
        let base_mac = mac(&file.base_mac).map_err(error)?;
        let mut caps: Vec<Option<Cap>> = Vec::new();
        for (name, fields) in &file.caps {
            let (cap_type, layout) = cap_layout(name).map_err(error)?;
            let mut page = vec![0u8; CAP_PAGE_BYTES];
            fill(&mut page, layout, fields).map_err(|w| error(format!("caps.{name}.{w}")))?;
            let index = usize::from(cap_type);
            if caps.len() <= index {
                caps.resize(index + 1, None);
            }
            let max = page.clone().into_boxed_slice();
            caps[index] = Some(Cap {
                current: page.into(),
                max,
                layout: layout.name,
            });
        }
        for (name, fields) in &file.caps_max {
            let (cap_type, layout) = cap_layout(name).map_err(error)?;
            let Some(Some(cap)) = caps.get_mut(usize::from(cap_type)) else {
                return Err(error(format!("caps_max.{name}: there is no caps.{name}")));
            };
            fill(&mut cap.max, layout, fields)
                .map_err(|w| error(format!("caps_max.{name}.{w}")))?;
        }
        let mut registers = BTreeMap::new();
        for (name, fields) in &file.registers {
            let id = register::number(name).ok_or_else(|| {
                error(format!(
                    "registers.{name}: there is no register of this name"
                ))
            })?;
            let r = reg::find(id)
                .ok_or_else(|| error(format!("registers.{name}: the firmware does not have it")))?;
            let layout = r
                .layout
                .ok_or_else(|| error(format!("registers.{name}: its fields are not known")))?;
            let mut image = vec![0u8; r.bytes];
            fill(&mut image, layout, fields).map_err(|w| error(format!("registers.{name}.{w}")))?;
            registers.insert(id, image.into_boxed_slice());
        }
        Ok(Arc::new(Self {
            name: origin.into(),
            description: file.description,
            pci: file.pci,
            firmware,
            pages: file.pages,
            frequency_khz: file.frequency_khz,
            base_mac,
            caps,
            registers,
        }))
    }

    /// A capability page; `None` if the card has none of this type.
    #[must_use]
    pub fn cap(&self, cap_type: u16) -> Option<&Cap> {
        self.caps.get(usize::from(cap_type))?.as_ref()
    }

    /// The image of a register after power on, if it is not zero.
    #[must_use]
    pub fn register(&self, id: u16) -> Option<&[u8]> {
        self.registers.get(&id).map(|r| &**r)
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

fn check_pci(p: &Pci) -> Result<(), String> {
    /// BAR0 holds at least the initialization segment, the MSI-X table and a few UAR pages.
    const LOG_BAR0: core::ops::RangeInclusive<u8> = 20..=30;
    if !(1..=2048).contains(&p.msix_vectors) {
        return Err(format!(
            "pci.msix_vectors: {} is not in 1..=2048",
            p.msix_vectors
        ));
    }
    if !LOG_BAR0.contains(&p.log_bar0) {
        return Err(format!("pci.log_bar0: {} is not in 20..=30", p.log_bar0));
    }
    if p.class > 0x00ff_ffff {
        return Err(format!("pci.class: {:#x} has more than 24 bits", p.class));
    }
    Ok(())
}

fn firmware(f: &FirmwareFile) -> Result<Firmware, String> {
    let parts: Vec<u16> = f.version.split('.').map_while(|p| p.parse().ok()).collect();
    let version = <[u16; 3]>::try_from(parts)
        .ok()
        .filter(|_| f.version.split('.').count() == 3)
        .ok_or_else(|| format!("firmware.version: {:?} is not MAJOR.MINOR.SUB", f.version))?;
    if f.psid.is_empty() || f.psid.len() > 16 || !f.psid.is_ascii() {
        return Err(format!(
            "firmware.psid: {:?} is not 1 to 16 ASCII characters",
            f.psid
        ));
    }
    Ok(Firmware {
        version,
        psid: f.psid.clone(),
    })
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|p| {
            (p.len() == 2)
                .then(|| u8::from_str_radix(p, 16).ok())
                .flatten()
        })
        .collect();
    bytes
        .and_then(|b| <[u8; 6]>::try_from(b).ok())
        .filter(|m| m[0] & 1 == 0)
        .ok_or_else(|| {
            format!("base_mac: {text:?} is not a unicast MAC address like 02:c9:00:00:00:00")
        })
}

/// The capability types that have a layout.
fn cap_layouts() -> impl Iterator<Item = (u16, String, &'static LayoutInfo)> {
    let variants = layout::find("query_hca_cap_out")
        .and_then(|l| l.field("capability"))
        .and_then(|p| p.info.variants);
    cap_type::ALL.iter().filter_map(move |&(number, name)| {
        // The selecting op_mod carries the type above a bit that says current or maximum.
        let layout = variants?.get(u64::from(number) << 1)?;
        Some((number, name.to_ascii_lowercase(), layout))
    })
}

fn cap_layout(name: &str) -> Result<(u16, &'static LayoutInfo), String> {
    match cap_layouts().find(|c| c.1 == name) {
        Some((cap_type, _, layout)) => Ok((cap_type, layout)),
        None => {
            let known: Vec<_> = cap_layouts().map(|c| c.1).collect();
            Err(format!(
                "caps.{name}: there is no such capability page; there are: {}",
                known.join(", ")
            ))
        }
    }
}

/// Sets fields of a page by name; the error begins with the field's name.
fn fill(
    page: &mut [u8],
    layout: &LayoutInfo,
    fields: &BTreeMap<String, u64>,
) -> Result<(), String> {
    for (path, value) in fields {
        let place = layout
            .field(path)
            .filter(|p| p.info.nested.is_none() && p.width <= 64)
            .ok_or_else(|| format!("{path}: {} has no such field", layout.name))?;
        if place.width < 64 && *value >> place.width != 0 {
            return Err(format!(
                "{path}: {value} does not fit in {} bits",
                place.width
            ));
        }
        set_bits(page, place.offset, place.width, *value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "description = \"x\"\n[pci]\nvendor_id = 0x15b3\ndevice_id = 0x1021\n\
        subsystem_vendor_id = 1\nsubsystem_id = 2\nclass = 0x20000\nmsix_vectors = 8\nlog_bar0 = 20\n\
        hw_id = 0x218\n[firmware]\nversion = \"28.43.1014\"\npsid = \"EMU\"\n";

    fn refused(more: &str) -> String {
        Profile::parse(&format!("{SMALL}{more}"), "p.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_built_in_profile_compiles() {
        for name in Profile::names() {
            let p = Profile::builtin(name).unwrap();
            assert_eq!(p.name, name);
            assert!(p.cap(CAP_GENERAL).is_some());
        }
    }

    #[test]
    fn fields_land_where_the_header_puts_them() {
        let p = Profile::parse(
            &format!("{SMALL}[caps.general]\nlog_max_eq = 7\n[caps_max.general]\nlog_max_eq = 9\n"),
            "p",
        )
        .unwrap();
        let c = p.cap(CAP_GENERAL).unwrap();
        // log_max_eq: bits 0xfc..0x100 of cmd_hca_cap, the low nibble of byte 31.
        assert_eq!((c.current[31], c.max[31]), (7, 9));
    }

    #[test]
    fn errors_name_what_and_where() {
        assert_eq!(
            refused("[caps.general]\nno_such = 1\n"),
            "profile p.toml: caps.general.no_such: cmd_hca_cap has no such field"
        );
        assert_eq!(
            refused("[caps.general]\nlog_max_eq = 16\n"),
            "profile p.toml: caps.general.log_max_eq: 16 does not fit in 4 bits"
        );
        assert!(refused("[caps.generel]\n").starts_with(
            "profile p.toml: caps.generel: there is no such capability page; there are: general,"
        ));
        assert_eq!(
            refused("[registers.NOPE]\n"),
            "profile p.toml: registers.NOPE: there is no register of this name"
        );
        assert!(refused("colour = 1\n").contains("line 14: unknown field `colour`"));
        let bad = SMALL.replace("28.43.1014", "28.43");
        assert_eq!(
            Profile::parse(&bad, "p").unwrap_err().to_string(),
            "profile p: firmware.version: \"28.43\" is not MAJOR.MINOR.SUB"
        );
        let bad = SMALL.replace("msix_vectors = 8", "msix_vectors = 0");
        assert_eq!(
            Profile::parse(&bad, "p").unwrap_err().to_string(),
            "profile p: pci.msix_vectors: 0 is not in 1..=2048"
        );
    }
}
