// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The registers that the tool in this guest knows, by its own database: versions differ.

use std::fs;

use fwctl_proto::mst::{Access, REGISTERS, Register};

use crate::{
    check, skip,
    suites::programs::{is_old, tool_version},
    test::Done,
};

/// The version whose database the facts are of.
pub const VERSION: &str = "4.33.0";

/// What scripts/expected-registers makes of the tool's database, as a file in the guest.
const EXPECTED: &str = "/files/expected-registers";

/// A register that the tool knows.
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its fields that can be written, by their whole names; of an array the first element.
    pub writable: Vec<String>,
}

/// The registers that this tool knows: those of [`EXPECTED`], or of the facts where that file is not
/// there and the tool is of their version.
pub fn known() -> Done<Vec<Known>> {
    let Ok(text) = fs::read_to_string(EXPECTED) else {
        let version = tool_version()?;
        if version != VERSION {
            skip!(
                "the facts are those of {VERSION}, this is {version}, and there is no {EXPECTED}"
            );
        }
        return Ok(REGISTERS.iter().map(fact).collect());
    };
    let of_line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let name = words.next()?;
        let writable = words.collect();
        Some(Known { name, writable })
    };
    Ok(text.lines().filter_map(of_line).collect())
}

/// A register of the facts.
pub fn fact(r: &Register) -> Known {
    let fields = r.layout.fields.iter().zip(r.access);
    let writable = fields.filter(|(_, a)| **a == Access::Rw);
    let array = |count| if count == 1 { "" } else { "[0]" };
    Known {
        name: r.layout.name.to_owned(),
        writable: writable
            .map(|(f, _)| format!("{}{}", f.name, array(f.count)))
            .collect(),
    }
}

/// True if this tool lets a field of a register be written, by the name that mstreg prints. Those of our
/// tables are all in 4.33's database; an older one lacks some.
pub fn has_field(register: &str, name: &str) -> Done<bool> {
    let all = known()?;
    let found = all.iter().find(|r| r.name == register);
    let has = found.is_some_and(|r| r.writable.iter().any(|f| is_printed_as(f, name)));
    check!(
        has || is_old()?,
        "the database has no {register}.{name} that can be written"
    );
    Ok(has)
}

/// True if mstreg prints a field of the database by a name: an element of an array with its index in
/// brackets, a field of such an element with the index behind it.
fn is_printed_as(field: &str, name: &str) -> bool {
    let bare = |name: &str| name.split('[').next().unwrap_or("").to_owned();
    let last = printed(field);
    bare(last) == bare(name) || field.contains("[0].") && name == format!("{last}_0")
}

/// The index by which mstreg finds a configuration item of the card: 4.31 calls one of its fields read-only.
pub fn item_index(id: u32, access_mode: u8) -> Done<String> {
    let host = if is_old()? { "" } else { ",host_id_valid=0" };
    Ok(format!(
        "type_class=0,parameter_index={id:#x},access_mode={access_mode}{host}"
    ))
}

/// The last part of a field's name, which is all that mstreg prints of it.
pub fn printed(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_mstreg_prints() {
        assert!(is_printed_as("page_data.a_ext.temperature", "temperature"));
        assert!(is_printed_as("node_description[0]", "node_description[0]"));
        assert!(is_printed_as("dscp[0]", "dscp[3]"));
        assert!(is_printed_as("bin_range[0].low_val", "low_val_0"));
        assert!(!is_printed_as("bin_range[0].high_val", "low_val_0"));
        assert!(!is_printed_as("low_val", "low_val_0"));
    }

    #[test]
    fn the_facts_are_known_by_whole_names() {
        let pphcr = REGISTERS
            .iter()
            .find(|r| r.layout.name == "PPHCR")
            .map(fact);
        let writable = pphcr.map_or(Vec::new(), |r| r.writable);
        assert!(writable.iter().any(|f| f == "bin_range[0].low_val"));
        let node = REGISTERS
            .iter()
            .find(|r| r.layout.name == "SET_NODE")
            .map(fact);
        assert_eq!(
            node.map_or(Vec::new(), |r| r.writable),
            ["node_description[0]"]
        );
    }
}
