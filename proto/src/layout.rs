// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Layouts: what a wire format's bits are called, and views that read and write them.
//!
//! Bits are counted as `mlx5_ifc.h` counts them: from the start of the layout, most significant
//! bit of each big-endian dword first. A field lies in one dword, or is 64 bits in two; wider ones
//! are arrays.
//!
//! Once [`View::new`] has checked the length, no accessor panics.

mod bits;
mod view;

use alloc::{format, string::String, vec::Vec};

pub use bits::{get_bits, set_bits};
pub use view::{ArrayField, Field, Layout, SubField, View, ViewMut};

/// What a layout is, as a table: for the decoder, for documents and for fuzzers.
#[derive(Debug)]
pub struct LayoutInfo {
    /// Name as in `mlx5_ifc.h`, without `mlx5_ifc_` and `_bits`.
    pub name: &'static str,
    /// Size in bits, without a variable tail.
    pub bits: u32,
    /// Its fields by offset; reserved ones are left out.
    pub fields: &'static [FieldInfo],
}

/// One field of a layout.
#[derive(Debug)]
pub struct FieldInfo {
    /// Name as in `mlx5_ifc.h`.
    pub name: &'static str,
    /// Bits from the start of the layout.
    pub offset: u32,
    /// Bits of one element.
    pub width: u32,
    /// Number of elements: 1 for a plain field, 0 for a tail of as many as there are.
    pub count: u32,
    /// The nested layout, if it is one.
    pub nested: Option<&'static LayoutInfo>,
    /// Names of its values, if they have names.
    pub values: Option<&'static EnumInfo>,
    /// The field of the same layout that holds the number of elements in use.
    pub counted_by: Option<&'static str>,
    /// Which layout lies here, if another field says so.
    pub variants: Option<&'static Variants>,
}

impl FieldInfo {
    /// The layout within this field of `l`, which begins at bit `base` of `bytes`: the one that another field
    /// selects, or the nested one. `None` for a plain field, and if nobody knows what was selected. `input` is
    /// the command that `bytes` answer, with its layout: it may be what selects.
    #[must_use]
    pub fn inner(
        &self,
        l: &LayoutInfo,
        base: u32,
        bytes: &[u8],
        input: Option<(&LayoutInfo, &[u8])>,
    ) -> Option<&'static LayoutInfo> {
        let Some(v) = self.variants else {
            return self.nested;
        };
        let selected = match v.selector.strip_prefix("in.") {
            Some(path) => {
                let (layout, bytes) = input?;
                let p = layout.field(path)?;
                get_bits(bytes, p.offset, p.width)
            }
            None => {
                let p = l.field(v.selector)?;
                get_bits(bytes, base.checked_add(p.offset)?, p.width)
            }
        };
        v.get(selected)
    }

    /// The same field, with names for its values.
    #[must_use]
    pub(crate) const fn values(self, values: &'static EnumInfo) -> Self {
        Self {
            values: Some(values),
            ..self
        }
    }

    /// The same field, counted by another one.
    #[must_use]
    pub(crate) const fn counted_by(self, name: &'static str) -> Self {
        Self {
            counted_by: Some(name),
            ..self
        }
    }

    /// The same field, with the layouts that may lie here.
    #[must_use]
    pub(crate) const fn variants(self, variants: &'static Variants) -> Self {
        Self {
            variants: Some(variants),
            ..self
        }
    }
}

/// The names of a field's values.
#[derive(Debug)]
pub struct EnumInfo {
    /// Prefix of the header's constants, or what the numbers are.
    pub name: &'static str,
    /// Number and name, by number.
    pub values: &'static [(u64, &'static str)],
}

impl EnumInfo {
    /// The name of `value`, or `None` if it has none.
    #[must_use]
    pub fn name_of(&self, value: u64) -> Option<&'static str> {
        let i = self.values.binary_search_by_key(&value, |v| v.0).ok()?;
        self.values.get(i).map(|v| v.1)
    }
}

/// The layouts that may lie at a field, and what selects one.
#[derive(Debug)]
pub struct Variants {
    /// Path of the selecting field from the layout that holds the field; `in.` leads from an
    /// outbox to the inbox of its command.
    pub selector: &'static str,
    /// How far the selector's value is shifted right before it is looked up.
    pub shift: u32,
    /// Value and layout, by value.
    pub arms: &'static [(u64, &'static LayoutInfo)],
}

impl Variants {
    /// The layout for a value of the selecting field, or `None` if none is known.
    #[must_use]
    pub fn get(&self, selected: u64) -> Option<&'static LayoutInfo> {
        let value = selected.checked_shr(self.shift)?;
        let i = self.arms.binary_search_by_key(&value, |a| a.0).ok()?;
        self.arms.get(i).map(|a| a.1)
    }
}

/// A command and its layouts.
#[derive(Debug)]
pub struct Command {
    /// Its opcode.
    pub opcode: u16,
    /// The opcode's name, as in [`crate::opcode`].
    pub name: &'static str,
    /// Its inbox.
    pub input: &'static LayoutInfo,
    /// Its outbox.
    pub output: &'static LayoutInfo,
}

/// The layouts of a command, or `None` if they are not known.
#[must_use]
pub fn command(opcode: u16) -> Option<&'static Command> {
    let all = crate::layouts::commands::COMMANDS;
    let i = all.binary_search_by_key(&opcode, |c| c.opcode).ok()?;
    all.get(i)
}

/// A plain field with its place in a whole layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its path, as [`LayoutInfo::field`] takes it.
    pub path: String,
    /// Bits from the start of the layout.
    pub offset: u32,
    /// Bits; at most 64.
    pub width: u32,
}

impl LayoutInfo {
    /// All plain fields of at most 64 bits, also those of nested layouts; arrays are left out.
    #[must_use]
    pub fn leaves(&'static self) -> Vec<Leaf> {
        let mut all = Vec::new();
        self.collect("", 0, &mut all);
        all
    }

    fn collect(&'static self, path: &str, base: u32, all: &mut Vec<Leaf>) {
        for f in self.fields.iter().filter(|f| f.count == 1) {
            let path = format!("{path}{}", f.name);
            let offset = base + f.offset;
            match f.nested {
                Some(nested) => nested.collect(&format!("{path}."), offset, all),
                None if f.width <= 64 => all.push(Leaf {
                    path,
                    offset,
                    width: f.width,
                }),
                None => {}
            }
        }
    }

    /// Size in bytes, without a variable tail.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.bits / 8) as usize
    }

    /// The field at a dotted path (`wq.log_wq_sz`) with its offset from the start of this layout.
    /// Elements of arrays are written `name[3]`.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<Place> {
        let (head, rest) = path
            .split_once('.')
            .map_or((path, None), |(h, r)| (h, Some(r)));
        let (name, index) = match head.split_once('[') {
            Some((n, i)) => (n, i.strip_suffix(']')?.parse::<u32>().ok()?),
            None => (head, 0),
        };
        let f = self.fields.iter().find(|f| f.name == name)?;
        if f.count != 0 && index >= f.count {
            return None;
        }
        let offset = f.offset.checked_add(index.checked_mul(f.width)?)?;
        match (rest, f.nested) {
            (None, _) => Some(Place {
                offset,
                width: f.width,
                info: f,
            }),
            (Some(rest), Some(inner)) => {
                let p = inner.field(rest)?;
                Some(Place {
                    offset: offset.checked_add(p.offset)?,
                    ..p
                })
            }
            (Some(_), None) => None,
        }
    }
}

/// Where a field found by name lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Bits from the start of the outermost layout.
    pub offset: u32,
    /// Bits of one element.
    pub width: u32,
    /// The field itself.
    pub info: &'static FieldInfo,
}

/// The layout with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static LayoutInfo> {
    crate::layouts::ALL
        .binary_search_by(|l| l.name.cmp(name))
        .ok()
        .and_then(|i| crate::layouts::ALL.get(i).copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{layouts::ALL, opcode};

    #[test]
    fn names_are_found_and_paths_add_up() {
        let l = find("create_eq_in").unwrap();
        assert_eq!(l.bits, 0x880);
        let p = l.field("eq_context_entry.log_eq_size").unwrap();
        assert_eq!((p.offset, p.width), (0x80 + 0x63, 5));
        assert_eq!(l.field("event_bitmask[1]").unwrap().offset, 0x2c0 + 0x40);
        assert!(l.field("event_bitmask[4]").is_none());
        assert!(l.field("event_bitmask[4294967296]").is_none());
        assert!(l.field("eq_context_entry.nothing").is_none());
        assert!(find("no_such_layout").is_none());
    }

    #[test]
    fn every_layout_is_found_by_its_name() {
        for l in ALL {
            assert!(core::ptr::eq(find(l.name).unwrap(), *l), "{}", l.name);
        }
    }

    /// The accessors and the decoder rely on it: no field leaves its layout, none but 64-bit
    /// ones cross a dword, nested layouts begin at a byte and have the size that is said.
    #[test]
    fn every_field_lies_in_its_layout() {
        for l in ALL {
            assert_eq!(l.bits % 8, 0, "{}", l.name);
            for f in l.fields {
                let end = f.offset + f.width * f.count;
                assert!(end <= l.bits, "{}.{} leaves it", l.name, f.name);
                if let Some(inner) = f.nested {
                    assert_eq!(f.offset % 8, 0, "{}.{}", l.name, f.name);
                    assert_eq!(f.width, inner.bits, "{}.{}", l.name, f.name);
                } else if f.width < 64 && f.count == 1 {
                    assert!(f.offset % 32 + f.width <= 32, "{}.{}", l.name, f.name);
                }
            }
        }
    }

    #[test]
    fn a_command_has_its_boxes() {
        let c = command(opcode::ACCESS_REG).unwrap();
        assert_eq!((c.opcode, c.name), (0x805, "ACCESS_REG"));
        assert_eq!(c.input.name, "access_register_in");
        assert_eq!(c.output.name, "access_register_out");
        assert!(command(0xffff).is_none());
    }

    /// A decoder tells commands and statuses apart before it knows the layout.
    #[test]
    fn every_command_begins_with_the_common_fields() {
        for c in crate::layouts::commands::COMMANDS {
            let at = |l: &LayoutInfo, f: &str| l.field(f).map(|p| (p.offset, p.width));
            assert_eq!(opcode::name(c.opcode), Some(c.name));
            assert_eq!(at(c.input, "opcode"), Some((0, 16)), "{}", c.name);
            let op_mod = at(c.input, "op_mod");
            assert!(matches!(op_mod, None | Some((48, 16))), "{}", c.name);
            // The header gives this outbox the fields of an inbox.
            if c.name != "QUERY_SCHEDULING_ELEMENT" {
                assert_eq!(at(c.output, "status"), Some((0, 8)), "{}", c.name);
                assert_eq!(at(c.output, "syndrome"), Some((32, 32)), "{}", c.name);
            }
        }
    }

    #[test]
    fn a_selector_picks_the_layout() {
        let caps = find("query_hca_cap_out").unwrap();
        let v = caps.field("capability").unwrap().info.variants.unwrap();
        assert_eq!(v.selector, "in.op_mod");
        // op_mod: cap type 0x20, current.
        assert_eq!(v.get(0x20 << 1 | 1).unwrap().name, "cmd_hca_cap_2");
        assert_eq!(v.get(0x7 << 1).unwrap().name, "flow_table_nic_cap");
        assert!(v.get(0xffff).is_none());
        let reg = find("access_register_in").unwrap();
        let v = reg.field("register_data").unwrap().info.variants.unwrap();
        assert_eq!(v.get(0x5004).unwrap().name, "ptys_reg");
        assert_eq!(v.get(0x9024).unwrap().name, "mnvda_reg");
        let pages = find("manage_pages_in").unwrap().field("pas").unwrap();
        assert_eq!(pages.info.counted_by, Some("input_num_entries"));
        let st = find("eqc").unwrap().field("st").unwrap().info.values;
        assert_eq!(st.unwrap().name_of(9), Some("ARMED"));
        assert_eq!(st.unwrap().name_of(8), None);
    }

    /// The lookups are binary searches.
    #[test]
    fn tables_are_sorted() {
        let up = |a: &[(u64, &str)]| a.is_sorted_by(|x, y| x.0 < y.0);
        for f in ALL.iter().flat_map(|l| l.fields) {
            assert!(f.values.is_none_or(|v| up(v.values)), "{}", f.name);
            let arms = f.variants.map_or(&[][..], |v| v.arms);
            assert!(arms.is_sorted_by(|x, y| x.0 < y.0), "{}", f.name);
        }
        let c = crate::layouts::commands::COMMANDS;
        assert!(c.is_sorted_by(|x, y| x.opcode < y.opcode));
    }
}
