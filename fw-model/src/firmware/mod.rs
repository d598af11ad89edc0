// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The firmware as a thing that is stored, started and replaced (docs/firmware-update.md).

pub mod crc;
pub mod flash;
pub mod fs4;
mod fs5;
pub mod update;

use std::{borrow::Cow, collections::BTreeMap};

use self::{
    flash::{Flash, MAX_IMAGE},
    fs4::{Bad, MAGIC},
    update::{Component, Rejected, Update},
};
use fwctl_proto::{
    layout::get_bits,
    mst::nv::{Item, named},
};

use crate::{
    Time,
    nv::NvStore,
    profile::Profile,
    store::{Batch, Token},
    unstored::Unstored,
};

/// Where it is stored which image runs.
const RUNNING: &str = "firmware/running";
/// Where components besides the boot image are stored.
const COMPONENT: &str = "component/";

/// A kind of component.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `mcqs_reg.identifier`.
    pub identifier: u16,
    /// What it is.
    pub name: &'static str,
    /// Most bytes.
    pub most: usize,
}

/// Components by their index.
pub static COMPONENTS: &[Kind] = &[
    Kind {
        identifier: 0x1,
        name: "BOOT_IMG",
        most: MAX_IMAGE,
    },
    Kind {
        identifier: 0xb,
        name: "CC_ALGO",
        most: 64 << 10,
    },
];
/// Index of the boot image.
pub const BOOT_IMAGE: u16 = 0;
/// How a congestion control algorithm begins in its file, and as mstflint sends it.
const ALGORITHM_MAGIC: [[u8; 4]; 2] = [[0xcc, 0x00, 0xcc, 0x01], [0xff; 4]];
/// The item that says which versions must not be burned.
const FORBIDDEN: &str = "nv_forbidden_versions";

/// The image that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    /// The slot that it was read from.
    pub slot: u8,
    /// Its version.
    pub version: [u16; 3],
}

/// See the module's text.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Firmware {
    /// Where images are.
    pub flash: Flash,
    /// Who is changing them, and how far he is.
    pub update: Update,
    /// What runs.
    pub running: Running,
    /// Components besides the boot image, by identifier.
    pub components: BTreeMap<u16, Vec<u8>>,
    // Components before changes that are not stored yet.
    unstored: Unstored<u16, Vec<u8>>,
}

impl Firmware {
    /// As a card's store has it. What ran when the process ended runs: that was no restart of the
    /// firmware.
    #[must_use]
    pub fn load(p: &Profile, stored: &BTreeMap<String, Vec<u8>>) -> Self {
        let running = stored.get(RUNNING).and_then(|v| {
            let [slot @ (0 | 1), rest @ ..] = v.as_slice() else {
                return None;
            };
            let [a, b, c, d, e, f] = *rest else {
                return None;
            };
            let words = [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
            Some(Running {
                slot: *slot,
                version: words,
            })
        });
        let components = stored.iter().filter_map(|(k, v)| {
            let id = u16::from_str_radix(k.strip_prefix(COMPONENT)?, 16).ok()?;
            let kind = COMPONENTS.iter().find(|c| c.identifier == id)?;
            (v.len() <= kind.most).then(|| (id, v.clone()))
        });
        Self {
            flash: Flash::load(stored),
            update: Update::default(),
            running: running.unwrap_or(Running {
                slot: 0,
                version: p.firmware.version,
            }),
            components: components.collect(),
            unstored: Unstored::default(),
        }
    }

    /// A batch with changes of the firmware has this token.
    pub(crate) fn waits_for(&mut self, token: Token) {
        self.flash.waits_for(token);
        self.unstored.waits_for(token);
        self.update.waits_for(token);
    }

    /// A batch is stored; or it cannot be, and what it changed is as before.
    pub(crate) fn settled(&mut self, token: Token, stored: bool) {
        self.flash.settled(token, stored);
        self.update.settled(token, stored);
        for (id, before) in self.unstored.settled(token, stored) {
            match before {
                Some(data) => self.components.insert(id, data),
                None => self.components.remove(&id),
            };
        }
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self, now: Time) -> Result<(), &'static str> {
        self.flash.check()?;
        self.update.check(MAX_IMAGE, now)?;
        let known = |id: &u16| COMPONENTS.iter().find(|c| c.identifier == *id);
        let fits = |(id, v): (&u16, &Vec<u8>)| known(id).is_some_and(|k| v.len() <= k.most);
        if self.running.slot > 1 || !self.components.iter().all(fits) {
            return Err("a firmware component that there is not");
        }
        let long = |(id, v): (&u16, Option<&Vec<u8>>)| {
            known(id).is_none_or(|k| v.is_some_and(|v| v.len() > k.most))
        };
        if self.unstored.before().any(long) {
            return Err("a firmware component that there is not");
        }
        self.unstored.check()
    }

    /// What starts next, if it is not what runs.
    #[must_use]
    pub fn pending(&self, p: &Profile) -> Option<Running> {
        let slot = self.flash.next_slot(p)?;
        let next = Running {
            slot,
            version: self.flash.info(p, slot).ok()?.version,
        };
        (next != self.running).then_some(next)
    }

    /// The firmware starts anew, from the image that is marked. An error says why it cannot, and
    /// then it goes on with the version it had.
    ///
    /// # Errors
    /// [`Bad`].
    pub fn start(&mut self, p: &Profile, batch: &mut Batch) -> Result<(), Bad> {
        self.update = Update::default();
        let slot = self.flash.next_slot(p).ok_or(Bad::Format)?;
        let info = self.flash.info(p, slot)?;
        let next = Running {
            slot,
            version: info.version,
        };
        if next != self.running {
            self.running = next;
            let version = next.version.iter().flat_map(|v| v.to_be_bytes());
            let value = core::iter::once(slot).chain(version).collect();
            batch.puts.insert(RUNNING.into(), Some(value));
        }
        Ok(())
    }

    /// Whether a component that was downloaded is taken. An older image is, as a card does it, unless
    /// `nv_forbidden_versions` names it.
    #[must_use]
    pub fn judge(p: &Profile, nv: &NvStore, c: &Component) -> Rejected {
        if c.index != BOOT_IMAGE {
            let known = ALGORITHM_MAGIC.iter().any(|m| c.data.starts_with(m));
            return if known {
                Rejected::No
            } else {
                Rejected::BadFormat
            };
        }
        match fs4::parse(&with_magic(&c.data)) {
            Err(Bad::Format) => Rejected::BadFormat,
            Err(Bad::Checksum(_)) => Rejected::Digest,
            Ok(info) if info.psid != p.firmware.psid => Rejected::NotApplicable,
            Ok(info) if is_forbidden(p, nv, info.version) => Rejected::ForbiddenVersion,
            Ok(_) => Rejected::No,
        }
    }

    /// ACTIVATE: what was verified becomes what starts next. False if there is nothing. It is verified still if
    /// it cannot be stored.
    pub fn activate(&mut self, p: &Profile, batch: &mut Batch) -> bool {
        let staged = core::mem::take(&mut self.update.staged);
        for c in &staged {
            if c.index == BOOT_IMAGE {
                let slot = 1 - self.running.slot;
                let at = usize::from(slot) * flash::SLOT_BYTES;
                self.flash.replace(p, at, &with_magic(&c.data), batch);
                self.mark(p, 1 - slot, false, batch);
            } else if let Some(kind) = COMPONENTS.get(usize::from(c.index)) {
                let key = format!("{COMPONENT}{:x}", kind.identifier);
                batch.puts.insert(key, Some(c.data.clone()));
                let data = c.data.clone();
                let before = self.components.insert(kind.identifier, data);
                self.unstored.replaced(kind.identifier, before);
            }
        }
        let any = !staged.is_empty();
        self.update.activate(staged);
        if batch.puts.is_empty() {
            self.update.activated();
        }
        any
    }

    /// MIRC: what runs starts next as well. False if it does already.
    pub fn reactivate(&mut self, p: &Profile, batch: &mut Batch) -> bool {
        let slot = self.running.slot;
        if self.flash.next_slot(p) == Some(slot) && self.flash.is_stored() {
            return false;
        }
        self.mark(p, slot, true, batch);
        self.mark(p, 1 - slot, false, batch);
        true
    }

    /// Whether a slot is one to start from.
    fn mark(&mut self, p: &Profile, slot: u8, on: bool, batch: &mut Batch) {
        let at = usize::from(slot) * flash::SLOT_BYTES;
        let magic = if on { MAGIC } else { [0; MAGIC.len()] };
        if on || self.flash.is_marked(p, slot) || self.flash.is_open(at) {
            self.flash.replace(p, at, &magic, batch);
        }
    }
}

/// An image as it is burnt: tools that hand it to the firmware leave the magic to it, and send ff there.
fn with_magic(data: &[u8]) -> Cow<'_, [u8]> {
    match data.strip_prefix(&[0xff; MAGIC.len()]) {
        Some(rest) => [&MAGIC, rest].concat().into(),
        None => data.into(),
    }
}

/// The dword in which firmware tells a version (`mcqi_version.version`).
#[must_use]
pub fn version_word(version: [u16; 3]) -> u32 {
    let [major, minor, sub] = version.map(u32::from);
    major << 24 | minor << 16 | sub
}

/// True if the settings in force rule a version out. How they write one is not public: taken to be as
/// in MCQI. 0 says nothing.
fn is_forbidden(p: &Profile, nv: &NvStore, version: [u16; 3]) -> bool {
    let Some(item) = named(FORBIDDEN) else {
        return false;
    };
    let Some(value) = nv.current(item.id).or_else(|| p.nv(item)) else {
        return false;
    };
    let words = |name: &str| elements(item, value, name);
    let word = u64::from(version_word(version));
    words("min_allowed_fw_version").any(|least| word < least)
        || words("forbidden_fw_version").any(|f| f != 0 && f == word)
}

/// The elements of a parameter in an item's value.
fn elements<'a>(
    item: &'static Item,
    value: &'a [u8],
    name: &str,
) -> impl Iterator<Item = u64> + use<'a> {
    let field = item.layout.fields.iter().find(|f| f.name == name);
    field.into_iter().flat_map(move |f| {
        (0..f.count.max(1)).map(move |i| get_bits(value, f.offset + i * f.width, f.width))
    })
}
