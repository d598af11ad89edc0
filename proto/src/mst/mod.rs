// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the vendor's tools know: registers and configuration items as mstflint's databases describe
//! them.
//!
//! A register's fields are listed flat, those of nested layouts and of all arms of a union by their
//! paths, so that a field name may hold dots.

mod items;
pub mod nv;
mod registers;

use crate::layout::LayoutInfo;

pub use registers::REGISTERS;

/// What may be done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Ro,
    /// It is read and written.
    Rw,
    /// It is written, and reads as zero.
    Wo,
    /// It chooses what is read or written.
    Index,
    /// It says how a read or write is to be done.
    Operation,
    /// The database does not say.
    Unsaid,
}

/// A register.
#[derive(Debug)]
pub struct Register {
    /// Its id.
    pub id: u16,
    /// Its fields; the layout's name is the register's.
    pub layout: &'static LayoutInfo,
    /// What may be done to each field.
    pub access: &'static [Access],
}

/// The register with this id.
#[must_use]
pub fn find(id: u16) -> Option<&'static Register> {
    let i = REGISTERS.binary_search_by_key(&id, |r| r.id).ok()?;
    REGISTERS.get(i)
}

/// The register with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Register> {
    REGISTERS.iter().find(|r| r.layout.name == name)
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    /// Accessors rely on it: no field leaves its register, none but arrays crosses a dword.
    #[test]
    fn every_field_lies_in_its_register() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.id < b.id));
        for r in REGISTERS {
            let l = r.layout;
            assert_eq!(l.bits % 32, 0, "{}", l.name);
            assert_eq!(l.fields.len(), r.access.len(), "{}", l.name);
            for f in l.fields {
                assert!(
                    f.offset + f.width * f.count <= l.bits,
                    "{}.{}",
                    l.name,
                    f.name
                );
                assert!(f.width <= 64, "{}.{}", l.name, f.name);
                if f.count == 1 && f.width <= 32 {
                    assert!(f.offset % 32 + f.width <= 32, "{}.{}", l.name, f.name);
                }
            }
        }
    }

    /// Wider in one of the two, or of another length.
    const DIFFER: &[&str] = &[
        "qtct.tclass",
        "pipg.ipg",
        "pplr.lb_cap",
        "pplr.lb_en",
        "sltp.status",
        "mfrl.pci_sync_for_fw_update_start",
        "mcda.data",
    ];

    /// The kernel's header and the tools' database are two sources for the same registers.
    #[test]
    fn the_kernel_and_the_tools_agree_where_both_name_a_field() {
        let mut both = 0;
        let mut differ = Vec::new();
        for r in REGISTERS {
            let name = r.layout.name.to_ascii_lowercase();
            let Some(kernel) = crate::layout::find(&format!("{name}_reg")) else {
                continue;
            };
            for f in r.layout.fields.iter().filter(|f| !f.name.contains('.')) {
                let Some(p) = kernel.field(f.name).filter(|p| p.info.nested.is_none()) else {
                    continue;
                };
                both += 1;
                if (p.offset, p.width * p.info.count.max(1)) != (f.offset, f.width * f.count.max(1))
                {
                    differ.push(format!("{name}.{}", f.name));
                }
            }
        }
        assert!(both > 150, "{both}");
        assert_eq!(differ, DIFFER);
    }

    #[test]
    fn registers_are_found() {
        let r = find(0x9020).unwrap();
        assert_eq!((r.layout.name, r.layout.bytes()), ("MGIR", 160));
        assert_eq!(named("MGIR").unwrap().id, 0x9020);
        assert!(find(1).is_none() && named("mgir").is_none());
    }
}
