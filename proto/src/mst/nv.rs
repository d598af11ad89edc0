// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration items (TLVs) as mstflint's database describes them, and the 32-bit types that name
//! them in MNVDA and its like.

use crate::layout::LayoutInfo;

pub use super::items::ITEMS;

/// A kind of configuration item.
#[derive(Debug)]
pub struct Item {
    /// Its class (`configuration_item_type_class_*`).
    pub class: u8,
    /// Its index in the class.
    pub id: u32,
    /// It says what the card can do, and cannot be set.
    pub capability: bool,
    /// Version of its layout.
    pub version: u8,
    /// Its parameters.
    pub layout: &'static LayoutInfo,
    /// What mstconfig calls each parameter; empty if it does not show it.
    pub shown: &'static [&'static str],
    /// What the values of parameters are bound by.
    pub limits: &'static [Limit],
}

/// What a parameter's value is bound by: expressions over parameters, `$param` of the same item and
/// `$item.param` of others; empty if there is none.
#[derive(Debug)]
pub struct Limit {
    /// The parameter.
    pub param: &'static str,
    /// The least value.
    pub min: &'static str,
    /// The largest value.
    pub max: &'static str,
    /// What must not be 0.
    pub rule: &'static str,
    /// `$_name=expression`: an intermediate result that the others use.
    pub define: &'static str,
}

/// Classes of items: what a type word holds besides the index.
pub mod class {
    /// The card.
    pub const GLOBAL: u8 = 0;
    /// A physical port, from 1.
    pub const PORT: u8 = 1;
    /// A function of a host.
    pub const FUNCTION: u8 = 3;
    /// A file.
    pub const FILE: u8 = 6;
    /// A host.
    pub const HOST: u8 = 7;
    /// A module.
    pub const MODULE: u8 = 9;
}

/// Bits of a class that name several at once, of the classes that have units or functions.
pub mod every {
    /// All ports, or all hosts.
    pub const UNIT: u8 = 0x80;
    /// All functions of a host.
    pub const FUNCTION: u8 = 0x40;
}

/// A type word taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// The class.
    pub class: u8,
    /// Which of port, host and function are all that there are ([`every`]); their numbers mean nothing.
    pub all: u8,
    /// Index in the class.
    pub id: u32,
    /// Port or module.
    pub unit: u16,
    /// Host.
    pub host: u8,
    /// Function of the host.
    pub function: u8,
}

impl Type {
    /// Takes a type word apart. An unknown class keeps its 24 bits as the index.
    #[must_use]
    pub fn of(word: u32) -> Self {
        let bits = |low: u32, width: u32| word >> low & ((1 << width) - 1);
        let (class, all) = match bits(24, 8) as u8 {
            byte @ 0x81 => (class::PORT, byte & every::UNIT),
            byte @ (0x43 | 0x83 | 0xc3) => {
                (class::FUNCTION, byte & (every::UNIT | every::FUNCTION))
            }
            class => (class, 0),
        };
        let whole = Self {
            class,
            all,
            id: bits(0, 24),
            unit: 0,
            host: 0,
            function: 0,
        };
        match class {
            class::PORT => Self {
                id: bits(0, 16),
                unit: bits(16, 8) as u16,
                ..whole
            },
            class::FUNCTION => Self {
                id: bits(0, 10),
                host: bits(18, 6) as u8,
                function: bits(10, 8) as u8,
                ..whole
            },
            class::HOST => Self {
                id: bits(0, 18),
                host: bits(18, 6) as u8,
                ..whole
            },
            class::MODULE => Self {
                id: bits(0, 14),
                unit: bits(14, 10) as u16,
                ..whole
            },
            _ => whole,
        }
    }

    /// The type word; numbers that do not fit are cut.
    #[must_use]
    pub fn word(self) -> u32 {
        let bits = |v: u32, low: u32, width: u32| (v & ((1 << width) - 1)) << low;
        let top = bits(u32::from(self.class | self.all), 24, 8);
        let (unit, host) = (u32::from(self.unit), u32::from(self.host));
        top | match self.class {
            class::PORT => bits(unit, 16, 8) | bits(self.id, 0, 16),
            class::FUNCTION => {
                bits(host, 18, 6) | bits(u32::from(self.function), 10, 8) | bits(self.id, 0, 10)
            }
            class::HOST => bits(host, 18, 6) | bits(self.id, 0, 18),
            class::MODULE => bits(unit, 14, 10) | bits(self.id, 0, 14),
            _ => bits(self.id, 0, 24),
        }
    }

    /// The kind of item that it names.
    #[must_use]
    pub fn item(self) -> Option<&'static Item> {
        let key = |i: &Item| (i.class, i.id);
        let at = ITEMS
            .binary_search_by_key(&(self.class, self.id), key)
            .ok()?;
        ITEMS.get(at)
    }
}

/// The kind of item with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Item> {
    ITEMS.iter().find(|i| i.layout.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_lies_in_its_item() {
        assert!(ITEMS.is_sorted_by(|a, b| (a.class, a.id) < (b.class, b.id)));
        assert_eq!(ITEMS.len(), 185);
        for i in ITEMS {
            let l = i.layout;
            assert_eq!(l.fields.len(), i.shown.len(), "{}", l.name);
            for f in l.fields {
                assert!(
                    f.offset + f.width * f.count <= l.bits,
                    "{}.{}",
                    l.name,
                    f.name
                );
                assert!(f.width <= 64, "{}.{}", l.name, f.name);
            }
        }
        let shown = ITEMS.iter().flat_map(|i| i.shown);
        assert_eq!(shown.filter(|n| !n.is_empty()).count(), 873);
    }

    /// Numbers of `mlx5/core/lib/nv_param.c`.
    #[test]
    fn type_words_name_items() {
        let name = |w| Type::of(w).item().map(|i| i.layout.name);
        assert_eq!(name(0x80), Some("nv_global_pci_conf"));
        assert_eq!(name(0x81), Some("nv_global_pci_cap"));
        assert_eq!(name(0x10a), Some("nv_sw_offload_conf"));
        assert_eq!(name(0x0300_0080), Some("nv_pf_pci_conf"));
        assert_eq!(name(0x0ff0_0080), None);
        let t = Type::of(0x0300_0000 | 2 << 18 | 1 << 10 | 0x80);
        assert_eq!((t.host, t.function, t.id), (2, 1, 0x80));
        let t = Type::of(0x0102_0012);
        assert_eq!((t.class, t.unit, t.id), (1, 2, 0x12));
        for i in ITEMS {
            let word = u32::from(i.class) << 24 | i.id;
            assert_eq!(Type::of(word).word(), word, "{}", i.layout.name);
        }
        for word in [
            0x0102_0012,
            0x0308_0480,
            0x0704_0001,
            0x0900_4001,
            0x0f12_3456,
        ] {
            assert_eq!(Type::of(word).word(), word, "{word:#x}");
        }
        // All ports; all functions of a host, a function of all hosts, all functions of all hosts.
        for (byte, class, all) in [
            (0x81, 1, 0x80),
            (0x43, 3, 0x40),
            (0x83, 3, 0x80),
            (0xc3, 3, 0xc0),
        ] {
            let t = Type::of(byte << 24 | 0x12);
            assert_eq!((t.class, t.all, t.id), (class, all, 0x12), "{byte:#x}");
        }
        assert_eq!(Type::of(0x8000_0080).item().map(|i| i.id), None);
        assert_eq!(named("nv_global_pci_conf").unwrap().id, 0x80);
    }
}
