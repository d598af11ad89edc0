// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu explain`: a number or name that the firmware has used, in words.

use fw_model::{
    nearest, reg,
    syndrome::Syndrome,
    table::{self, Coverage},
};
use fwctl_proto::{
    event, layout, layout::LayoutInfo, mst, mst::nv, opcode, register, status::Status,
};

use crate::list::register_name;

/// What is known of `what`: a syndrome, opcode, status, register or event by name or number; the
/// numbers of several kinds overlap, so all that fit are told.
///
/// # Errors
/// A sentence if nothing is.
pub fn explain(what: &str) -> Result<String, String> {
    let number = number(what);
    let upper = what.to_ascii_uppercase();
    let mut parts: Vec<String> = Vec::new();
    let by_name = Syndrome::ALL
        .iter()
        .find(|s| s.name().eq_ignore_ascii_case(what));
    parts.extend(
        by_name
            .copied()
            .or_else(|| Syndrome::from_code(number?))
            .map(syndrome),
    );
    let found = opcode::number(&upper).or_else(|| u16::try_from(number?).ok());
    parts.extend(found.and_then(command));
    let found = register::number(&upper)
        .or_else(|| mst::named(&upper).map(|r| r.id))
        .or_else(|| u16::try_from(number?).ok());
    parts.extend(found.and_then(access_register));
    let found = event::number(&upper).or_else(|| u8::try_from(number?).ok());
    let name = |n| event::name(n).map(|name| (n, name));
    parts.extend(
        found
            .and_then(name)
            .map(|(n, name)| format!("event {name} ({n:#x})\n")),
    );
    parts.extend(status(&upper, number));
    parts.extend(configuration(what));
    if parts.is_empty() {
        return Err(format!(
            "{what}: no syndrome, opcode, status, register, event, configuration item or parameter \
             has this name or number{}",
            nearest(what, names())
        ));
    }
    Ok(parts.join("\n"))
}

/// Every name that there is something to tell about.
fn names() -> impl Iterator<Item = &'static str> {
    let opcodes = (0..=u16::MAX).filter_map(opcode::name);
    let registers = (0..=u16::MAX).filter_map(register::name);
    let tools = mst::REGISTERS.iter().map(|r| r.layout.name);
    let statuses = Status::ALL.iter().map(|s| s.name());
    let syndromes = Syndrome::ALL.iter().map(|s| s.name());
    let events = (0..=u8::MAX).filter_map(event::name);
    let items = nv::ITEMS.iter().map(|i| i.layout.name);
    let parameters = nv::ITEMS.iter().flat_map(|i| i.shown).copied();
    opcodes
        .chain(registers)
        .chain(tools)
        .chain(statuses)
        .chain(syndromes)
        .chain(events)
        .chain(items)
        .chain(parameters)
}

fn number(what: &str) -> Option<u32> {
    match what.strip_prefix("0x").or_else(|| what.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => what.parse().ok(),
    }
}

fn syndrome(s: Syndrome) -> String {
    format!(
        "syndrome {:#010x} {}: {}\n  comes with status {} ({:#x})\n",
        s.code(),
        s.name(),
        s.text(),
        s.status().name(),
        s.status().code()
    )
}

fn status(upper: &str, number: Option<u32>) -> Option<String> {
    let same = |s: &&Status| s.name() == upper || number == Some(u32::from(s.code()));
    let s = Status::ALL.iter().find(same)?;
    let mut text = format!("status {} ({:#x})\n", s.name(), s.code());
    for y in Syndrome::ALL
        .iter()
        .filter(|y| y.status().code() == s.code())
    {
        text += &format!("  {:#010x} {}\n", y.code(), y.text());
    }
    Some(text)
}

fn command(code: u16) -> Option<String> {
    let name = opcode::name(code)?;
    let mut text = format!("command {name} ({code:#x})\n");
    match table::find(code) {
        None => text += "  not in the table: BAD_OP\n",
        Some(o) => {
            text += &format!(
                "  {}: {}\n  states {:?}, callers {:?}, scope {:?}\n",
                o.coverage().name(),
                o.reason(),
                o.needs,
                o.callers,
                o.scope
            );
            if o.coverage() == Coverage::Implemented {
                text += &format!("  inbox {} bytes, outbox {} bytes\n", o.in_len, o.out_len);
            }
        }
    }
    let lower = name.to_ascii_lowercase();
    for side in ["in", "out"] {
        if let Some(l) = layout::find(&format!("{lower}_{side}")) {
            text += &fields(l);
        }
    }
    Some(text)
}

fn access_register(id: u16) -> Option<String> {
    let name = register_name(id)?;
    let mut text = format!("register {name} ({id:#x})\n");
    match (reg::find(id), mst::find(id)) {
        (None, None) => text += "  not in the register table: BAD_PARAM\n",
        (None, Some(r)) => {
            let kind = match reg::phy::meaning(id) {
                Some(_) => "a store of which some fields follow the model",
                None => "a mere store: nothing in the model follows it",
            };
            text += &format!("  {} bytes, {kind}\n", r.layout.bytes());
            text += &fields(r.layout);
        }
        (Some(r), _) => {
            text += &format!(
                "  {} bytes, {}\n",
                r.bytes,
                if r.can_write() {
                    "read and written"
                } else {
                    "read only"
                }
            );
            if !r.writable.is_empty() {
                text += &format!("  a write changes {}\n", r.writable.join(", "));
            }
            let layout = r.layout.or_else(|| mst::find(id).map(|r| r.layout));
            text += &layout.map(fields).unwrap_or_default();
        }
    }
    Some(text)
}

/// A configuration item by its name, or a parameter by the name that mstconfig gives it.
fn configuration(what: &str) -> Option<String> {
    let title = |i: &nv::Item| {
        let kind = if i.capability { " (a capability)" } else { "" };
        format!(
            "configuration item {}: class {}, id {:#x}, {} bytes, version {}{kind}\n",
            i.layout.name,
            i.class,
            i.id,
            i.layout.bytes(),
            i.version
        )
    };
    if let Some(item) = nv::named(&what.to_ascii_lowercase()) {
        return Some(title(item) + &fields(item.layout));
    }
    let upper = what.to_ascii_uppercase();
    nv::ITEMS.iter().find_map(|i| {
        let at = i.shown.iter().position(|n| *n == upper)?;
        let f = i.layout.fields.get(at)?;
        let (byte, bit) = (f.offset / 8, f.offset % 8);
        let mut text = format!(
            "parameter {upper}: {}.{}, byte {byte:#x} bit {bit}, {} bits\n",
            i.layout.name, f.name, f.width
        );
        for (value, name) in f.values.iter().flat_map(|v| v.values) {
            text += &format!("  {value:#x} {name}\n");
        }
        Some(text + &title(i))
    })
}

/// A layout's fields: byte and bit, width, name.
fn fields(l: &LayoutInfo) -> String {
    let mut text = format!("  {}:\n", l.name);
    for f in l.fields {
        let (byte, bit) = (f.offset / 8, f.offset % 8);
        let many = if f.count > 1 {
            format!(" × {}", f.count)
        } else {
            String::new()
        };
        text += &format!(
            "    {byte:#06x}.{bit} {:>4} bits {}{many}\n",
            f.width, f.name
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn a_name_with_a_slip_is_answered_with_what_was_meant() {
        for (what, meant) in [
            ("QUERY_HCA_CPA", "did you mean QUERY_HCA_CAP"),
            ("MGRI", "did you mean MGIR"),
            ("link_typ_p1", "did you mean LINK_TYPE"),
            ("BAD_PARM", "did you mean BAD_PARAM"),
        ] {
            let said = explain(what).unwrap_err();
            assert!(said.contains(meant), "{said}");
        }
        assert!(!explain("qqqqqq").unwrap_err().contains("mean"));
    }

    #[test]
    fn a_parameter_is_known_by_the_name_of_mstconfig() {
        let text = explain("sriov_en").unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(
            first,
            "parameter SRIOV_EN: nv_global_pci_conf.sriov_en, byte 0x4 bit 0, 1 bits"
        );
        assert_eq!(
            rest,
            "configuration item nv_global_pci_conf: class 0, id 0x80, 12 bytes, version 0\n"
        );
        let text = explain("LINK_TYPE").unwrap();
        assert!(text.contains("\n  0x1 IB\n  0x2 ETH\n"), "{text}");
        let item = explain("nv_global_pci_cap").unwrap();
        assert!(item.contains("(a capability)") && item.contains(" bits max_vfs_per_pf\n"));
    }

    #[test]
    fn a_register_of_the_tools_is_called_a_store() {
        let text = explain("PIPG").unwrap();
        assert!(
            text.starts_with("register PIPG (0x5017)\n  8 bytes, a mere store"),
            "{text}"
        );
        assert!(text.contains(" ipg_max_cap\n"));
    }

    #[test]
    fn every_syndrome_is_a_sentence() {
        let text = explain("0xe00003").unwrap();
        assert_eq!(
            text,
            "syndrome 0x00e00003 WrongState: The function is not in a state in which the command is \
             allowed.\n  comes with status BAD_SYS_STATE (0x4)\n"
        );
        assert_eq!(explain("wrongstate").unwrap(), text);
    }

    #[test]
    fn names_and_numbers_of_several_kinds() {
        let text = explain("0x9028").unwrap();
        assert!(text.starts_with("register MFRL (0x9028)\n  8 bytes, read and written\n"));
        assert!(text.contains("pci_reset_req_method"));
        let text = explain("query_hca_cap").unwrap();
        assert!(text.starts_with("command QUERY_HCA_CAP (0x100)\n  implemented: "));
        assert!(text.contains("    0x0008.0    1 bits other_function\n"));
        let text = explain("BAD_RES_STATE").unwrap();
        assert!(text.starts_with("status BAD_RES_STATE (0x9)\n"));
        assert!(text.contains("A reset of the firmware goes on already."));
        assert!(
            explain("no such")
                .unwrap_err()
                .starts_with("no such: no syndrome,")
        );
    }
}
