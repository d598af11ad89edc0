// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reading a profile: its TOML, what it inherits, and its fields by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fwctl_proto::{
    cap_type,
    layout::{self, LayoutInfo, set_bits},
    mst::{self, nv},
    register,
};
use serde::Deserialize;

use super::{
    BUILTIN, CAP_PAGE_BYTES, Cap, Firmware, PageDemand, Pci, Profile, ProfileError, Timeouts, guid,
};
use crate::{
    FunctionId, firmware::flash::FromFactory, limits::MAX_FUNCTIONS, nv::NvStore, reg, settings,
    settings::InForce,
};

/// Profiles that inherit from one another, at most.
const MAX_DEPTH: usize = 4;

/// GUIDs and MAC addresses that a card was given: one for each function that it may have.
const ADDRESSES: u64 = MAX_FUNCTIONS as u64;

/// Key that names the profile whose fields are taken where this one has none.
const INHERITS: &str = "inherits";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    pci: Pci,
    firmware: FirmwareFile,
    #[serde(default)]
    pages: PageDemand,
    #[serde(default)]
    timeouts: Timeouts,
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
    #[serde(default)]
    without_registers: Vec<String>,
    /// Configuration items that nobody has set, by name.
    #[serde(default)]
    nv: BTreeMap<String, BTreeMap<String, u64>>,
    /// Every capability item is all ones before `nv` is looked at.
    #[serde(default)]
    all_nv_capabilities: bool,
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

impl Profile {
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
        let file = read(text).map_err(error)?;
        check_pci(&file.pci).map_err(error)?;
        file.pages.check().map_err(error)?;
        file.timeouts.check().map_err(error)?;
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
            let (id, layout, bytes) =
                register_layout(name).map_err(|w| error(format!("registers.{name}: {w}")))?;
            let mut image = vec![0u8; bytes];
            fill(&mut image, layout, fields).map_err(|w| error(format!("registers.{name}.{w}")))?;
            registers.insert(id, image.into_boxed_slice());
        }
        let mut without = BTreeSet::new();
        for name in &file.without_registers {
            let id = register::number(name).filter(|id| reg::find(*id).is_some());
            without.insert(id.ok_or_else(|| {
                error(format!(
                    "without_registers: the firmware has no register {name:?}"
                ))
            })?);
        }
        let mut items = BTreeMap::new();
        if file.all_nv_capabilities {
            for item in nv::ITEMS.iter().filter(|i| i.capability) {
                let ones = vec![0xff; item.layout.bytes()];
                items.insert((item.class, item.id), ones.into_boxed_slice());
            }
        }
        // The addresses that the card was made with.
        let mac = base_mac.iter().fold(0, |n, b| n << 8 | u64::from(*b));
        for (item, words) in [
            ("nv_base_mac_guid", [mac, guid(base_mac)]),
            ("nv_base_mac_guid_cap", [ADDRESSES << 16 | ADDRESSES, 0]),
        ] {
            if let Some(item) = nv::named(item) {
                let bytes = words.iter().flat_map(|w| w.to_be_bytes());
                let value: Box<[u8]> = bytes.take(item.layout.bytes()).collect();
                items.entry((item.class, item.id)).or_insert(value);
            }
        }
        for (name, fields) in &file.nv {
            let item = nv::named(name).ok_or_else(|| {
                error(format!(
                    "nv.{name}: there is no configuration item of this name"
                ))
            })?;
            let value = items
                .entry((item.class, item.id))
                .or_insert_with(|| vec![0; item.layout.bytes()].into_boxed_slice());
            fill(value, item.layout, fields).map_err(|w| error(format!("nv.{name}.{w}")))?;
        }
        let mut profile = Self {
            name: origin.into(),
            description: file.description,
            pci: file.pci,
            firmware,
            pages: file.pages,
            timeouts: file.timeouts,
            frequency_khz: file.frequency_khz,
            base_mac,
            caps,
            registers,
            without,
            nv: items,
            in_force: InForce::default(),
            factory: FromFactory::default(),
            overlay: None,
        };
        profile.in_force = settings::computed(&profile, &NvStore::default(), FunctionId(0));
        Ok(Arc::new(profile))
    }
}

/// Id, fields and length of a register: one that the model gives a meaning, or one of the tools'
/// database that it stores.
fn register_layout(name: &str) -> Result<(u16, &'static LayoutInfo, usize), &'static str> {
    let named = mst::REGISTERS.iter().find(|r| r.layout.name == name);
    let id = register::number(name).or(named.map(|r| r.id));
    let id = id.ok_or("there is no register of this name")?;
    match (reg::find(id), named) {
        (Some(r), known) => {
            let layout = r.layout.or(known.map(|k| k.layout));
            Ok((id, layout.ok_or("its fields are not known")?, r.bytes))
        }
        (None, Some(r)) => Ok((id, r.layout, r.layout.bytes())),
        (None, None) => Err("the firmware does not have it"),
    }
}

/// The text as a profile, with what it inherits.
fn read(text: &str) -> Result<File, String> {
    let at = |e: &toml::de::Error| {
        let start = e.span().map_or(0, |s| s.start.min(text.len()));
        let line = text[..start].matches('\n').count() + 1;
        format!("line {line}: {}", e.message())
    };
    let mut table: toml::Table = toml::from_str(text).map_err(|e| at(&e))?;
    if !table.contains_key(INHERITS) {
        return toml::from_str(text).map_err(|e| at(&e));
    }
    for _ in 0..MAX_DEPTH {
        let Some(parent) = table.remove(INHERITS) else {
            return File::deserialize(table).map_err(|e| e.message().to_owned());
        };
        let name = parent.as_str().unwrap_or_default();
        let known: Vec<&str> = Profile::names().collect();
        let (_, text) = BUILTIN.iter().find(|b| b.0 == name).ok_or_else(|| {
            format!(
                "{INHERITS}: there is no built-in profile {parent}; there are: {}",
                known.join(", ")
            )
        })?;
        let base: toml::Table = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        table = merge(base, table);
    }
    Err(format!(
        "{INHERITS}: more than {MAX_DEPTH} profiles in a row"
    ))
}

/// `over` on top of `base`: tables field by field, anything else as a whole.
fn merge(mut base: toml::Table, over: toml::Table) -> toml::Table {
    for (key, value) in over {
        let value = match (base.remove(&key), value) {
            (Some(toml::Value::Table(b)), toml::Value::Table(o)) => toml::Value::Table(merge(b, o)),
            (_, value) => value,
        };
        base.insert(key, value);
    }
    base
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

/// Type and layout of the capability page that profiles call `name`.
///
/// # Errors
/// There is none of this name, and which there are.
pub fn cap_layout(name: &str) -> Result<(u16, &'static LayoutInfo), String> {
    match cap_layouts().find(|c| c.1 == name) {
        Some((cap_type, _, layout)) => Ok((cap_type, layout)),
        None => {
            let known: Vec<_> = cap_layouts().map(|c| c.1).collect();
            let mut near = crate::nearest(name, known.iter().map(String::as_str));
            if near.is_empty() {
                near = format!("; there are: {}", known.join(", "));
            }
            Err(format!(
                "caps.{name}: there is no such capability page{near}"
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
        // The tools' database has flat names with dots and brackets in them.
        let flat = layout.fields.iter().find(|f| f.name == path);
        let flat = flat.filter(|f| f.nested.is_none() && f.count == 1);
        let place = flat.map(|f| (f.offset, f.width)).or_else(|| {
            let p = layout.field(path).filter(|p| p.info.nested.is_none())?;
            Some((p.offset, p.width))
        });
        let (offset, width) = place
            .filter(|p| p.1 <= 64)
            .ok_or_else(|| format!("{path}: {} has no such field", layout.name))?;
        if width < 64 && *value >> width != 0 {
            return Err(format!("{path}: {value} does not fit in {width} bits"));
        }
        set_bits(page, offset, width, *value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::CAP_GENERAL, *};

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
    fn a_profile_inherits_what_it_does_not_say() {
        let p = Profile::parse(
            "inherits = \"connectx7\"\ndescription = \"mine\"\n[firmware]\npsid = \"MINE\"\n\
             [caps.general]\nlog_max_eq = 3\n[registers.MFRL]\npci_reset_req_method = 1\n",
            "mine.toml",
        )
        .unwrap();
        let of = Profile::builtin("connectx7").unwrap();
        assert_eq!((&*p.description, &*p.firmware.psid), ("mine", "MINE"));
        assert_eq!(p.firmware.version, of.firmware.version);
        let (mine, theirs) = (p.cap(CAP_GENERAL).unwrap(), of.cap(CAP_GENERAL).unwrap());
        assert_eq!(mine.current[31] & 0xf, 3);
        assert_eq!(mine.current[32..], theirs.current[32..]);
        let refused = |text: &str| Profile::parse(text, "p").unwrap_err().what;
        assert!(refused("inherits = \"connectx\"\n").starts_with(
            "inherits: there is no built-in profile \"connectx\"; there are: connectx5, "
        ));
        let unknown = refused("inherits = \"minimal\"\ncolour = 1\n");
        assert!(unknown.contains("unknown field `colour`"), "{unknown}");
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
            "profile p.toml: caps.generel: there is no such capability page; did you mean general"
        ));
        assert!(refused("[caps.zzz]\n").starts_with(
            "profile p.toml: caps.zzz: there is no such capability page; there are: general,"
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
