// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu explain`: a number or name that the firmware has used, in words.

use fw_model::{
    Profile, fault, gateway, nearest, reg, settings,
    syndrome::Syndrome,
    table::{self, Action, Coverage, Op, Why},
};
use fwctl_proto::{
    cap_type,
    cmdif::DeliveryStatus,
    event,
    layout::{self, FieldInfo, Layout as _, LayoutInfo},
    layouts::{self, Eqe},
    mst::{self, Access, nv},
    opcode, register,
    segment::health,
    status::Status,
};

use crate::{
    faults,
    list::{register_name, register_number},
};

/// Places that are told of a name that many fields have.
const MOST: usize = 12;

/// What is known of `what`: anything that the tables name, by name or number; the numbers of several
/// kinds overlap, so all that fit are told.
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
    let found = register_number(what)
        .or_else(|| register::number(&upper))
        .or_else(|| u16::try_from(number?).ok());
    parts.extend(found.and_then(access_register));
    let found = event::number(&upper).or_else(|| u8::try_from(number?).ok());
    parts.extend(found.and_then(an_event));
    parts.extend(status(&upper, number));
    parts.extend(health_syndrome(&upper, number));
    parts.extend(delivery(&upper, number));
    parts.extend(icmd(&upper, number));
    parts.extend(configuration(what, number));
    parts.extend(action(what));
    let ready = faults::scenarios().unwrap_or_default().into_iter();
    parts.extend(ready.filter(|r| r.name == what).map(|r| {
        let faults: String = r.faults.iter().map(|f| format!("  {f}\n")).collect();
        format!("ready list of faults {}: {}\n{faults}", r.name, r.about)
    }));
    // What many layouts may have comes last, and not for a number.
    if number.is_none() {
        let capability = capability(what);
        // A capability is a field too, and is told once.
        if capability.is_empty() && parts.is_empty() {
            parts.extend(named_field(what));
        }
        parts.extend(capability);
        parts.extend(layout::find(&what.to_ascii_lowercase()).map(a_layout));
        parts.extend(named_values(what));
    }
    if parts.is_empty() {
        return Err(format!(
            "{what}: no syndrome, opcode, status, register, event, configuration item, parameter, \
             capability, field, value or fault has this name or number{}",
            nearest(what, names())
        ));
    }
    Ok(parts.join("\n"))
}

/// Every name that there is something to tell about.
fn names() -> impl Iterator<Item = &'static str> {
    let opcodes = (0..=u16::MAX).filter_map(opcode::name);
    let registers = (0..=u16::MAX).filter_map(register_name);
    let statuses = Status::ALL.iter().map(|s| s.name());
    let syndromes = Syndrome::ALL.iter().map(|s| s.name());
    let events = (0..=u8::MAX).filter_map(event::name);
    let items = nv::ITEMS.iter().map(|i| i.layout.name);
    let parameters = nv::ITEMS.iter().flat_map(|i| i.shown).copied();
    let healths = health::SYNDROMES.iter().map(|s| s.1);
    let deliveries = (0..=u8::MAX).filter_map(DeliveryStatus::from_code);
    let icmds = gateway::icmd::COMMANDS.iter().map(|c| c.name);
    let actions = fault::ACTIONS.iter().map(|a| a.name);
    let ready = faults::scenarios().unwrap_or_default().into_iter();
    let layouts = layouts::ALL.iter();
    let fields = layouts.clone().flat_map(|l| l.fields).map(|f| f.name);
    opcodes
        .chain(registers)
        .chain(statuses)
        .chain(syndromes)
        .chain(events)
        .chain(items)
        .chain(parameters)
        .chain(healths)
        .chain(deliveries.map(DeliveryStatus::name))
        .chain(icmds)
        .chain(actions)
        .chain(ready.map(|r| r.name))
        .chain(layouts.map(|l| l.name))
        .chain(fields)
}

fn an_event(n: u8) -> Option<String> {
    let mut text = format!("event {} ({n:#x})\n", event::name(n)?);
    let data = Eqe::INFO.fields.iter().find_map(|f| f.variants)?;
    text += &data.get(n.into()).map(fields).unwrap_or_default();
    Some(text)
}

fn health_syndrome(upper: &str, number: Option<u32>) -> Option<String> {
    let all = health::SYNDROMES.iter();
    let (code, name) = all
        .copied()
        .find(|s| s.1 == upper || number == Some(s.0.into()))?;
    Some(format!(
        "health syndrome {name} ({code:#x})\n  in the health buffer, byte {:#x} of the initialization \
         segment; `ctl health` or a fault health={name} reports it\n",
        health::SYND + fwctl_proto::segment::HEALTH
    ))
}

fn delivery(upper: &str, number: Option<u32>) -> Option<String> {
    let known = |n: u8| DeliveryStatus::from_code(n).map(|d| (n, d));
    let mut all = (0..=u8::MAX).filter_map(known);
    let (n, d) = all.find(|(n, d)| d.name() == upper || number == Some((*n).into()))?;
    Some(format!(
        "delivery status {} ({n:#x})\n  in the last byte of a command entry: the command was {}\n",
        d.name(),
        if n == 0 { "executed" } else { "not executed" }
    ))
}

fn icmd(upper: &str, number: Option<u32>) -> Option<String> {
    let all = gateway::icmd::COMMANDS;
    let c = all
        .iter()
        .find(|c| c.name == upper || number == Some(c.opcode.into()))?;
    Some(format!(
        "command {} ({:#x}) of the mailbox behind the PCI gateway\n  {}\n",
        c.name, c.opcode, c.about
    ))
}

fn action(what: &str) -> Option<String> {
    let word = what.trim_end_matches('=');
    let mut all = fault::ACTIONS.iter();
    let a = all.find(|a| a.name.eq_ignore_ascii_case(word))?;
    Some(format!(
        "action {} of a fault (docs/faults.md)\n  at the point {}: {}\n",
        a.form(),
        a.point.name(),
        a.about
    ))
}

/// A capability by its name, or as PAGE.NAME.
fn capability(what: &str) -> Vec<String> {
    let lower = what.to_ascii_lowercase();
    let (page, field) = lower
        .split_once('.')
        .map_or((None, lower.as_str()), |(p, f)| (Some(p), f));
    let mut all = Vec::new();
    for &(number, name) in cap_type::ALL {
        let Some(l) = capability_page(number) else {
            continue;
        };
        if page.is_some_and(|p| p != l.name && !p.eq_ignore_ascii_case(name)) {
            continue;
        }
        let Some(p) = l.field(field).filter(|p| p.info.nested.is_none()) else {
            continue;
        };
        let mut text = format!("capability {field} of page {name} ({number:#x})\n");
        let at = (p.offset, p.width);
        text += &format!("  {}: {}", l.name, place(p.info, at));
        text += &values(p.info);
        for profile in Profile::names().filter_map(|n| Profile::builtin(n).ok()) {
            let known = profile.cap(number).and_then(|c| {
                let mut all = c.values().into_iter();
                all.find(|(n, ..)| *n == field).map(|(_, v, max)| (v, max))
            });
            text += &match known {
                None => continue,
                Some((v, max)) if v == max => format!("  profile {}: {v:#x}\n", profile.name),
                Some((v, max)) => format!("  profile {}: {v:#x}, at most {max:#x}\n", profile.name),
            };
        }
        let path = format!("{}.{field}", l.name);
        let refused = |o: &&Op| matches!(o.action, Action::Refuse(Why::Cap(c)) if c == path);
        for o in table::OPS.iter().filter(refused) {
            let command = opcode::name(o.opcode).unwrap_or("?");
            text += &format!("  {command} is refused, as no profile has it\n");
        }
        all.push(text);
    }
    all
}

/// The layout of a capability page.
fn capability_page(number: u16) -> Option<&'static LayoutInfo> {
    let reply = layout::command(opcode::QUERY_HCA_CAP)?.output;
    let pages = reply.fields.iter().find_map(|f| f.variants)?;
    // op_mod holds the page's number above the bit that says which values are asked for.
    pages.get(u64::from(number) << pages.shift)
}

/// A field by its name, or as LAYOUT.NAME, of any layout.
fn named_field(what: &str) -> Option<String> {
    let of_tools = mst::REGISTERS.iter().map(|r| r.layout);
    let all = || layouts::ALL.iter().copied().chain(of_tools.clone());
    let dotted = what.split_once('.').and_then(|(l, path)| {
        let l = all().find(|i| i.name.eq_ignore_ascii_case(l))?;
        Some((l, l.fields.iter().find(|f| f.name == path)?))
    });
    let found: Vec<_> = match dotted {
        Some(one) => vec![one],
        None => all()
            .flat_map(|l| l.fields.iter().map(move |f| (l, f)))
            .filter(|(_, f)| f.name.eq_ignore_ascii_case(what))
            .collect(),
    };
    let mut text = format!("field {}\n", found.first()?.1.name);
    for (l, f) in found.iter().take(MOST) {
        text += &format!(
            "  {}: {}{}",
            l.name,
            place(f, (f.offset, f.width)),
            values(f)
        );
    }
    if found.len() > MOST {
        text += &format!("  and {} more\n", found.len() - MOST);
    }
    Some(text)
}

/// A named value of a field, as those of MCC.error_code.
fn named_values(what: &str) -> Option<String> {
    let of_tools = mst::REGISTERS.iter().map(|r| r.layout);
    let all = layouts::ALL.iter().copied().chain(of_tools);
    let mut lines = Vec::new();
    for l in all {
        for f in l.fields {
            for (n, name) in f.values.iter().flat_map(|v| v.values) {
                if name.eq_ignore_ascii_case(what) {
                    lines.push(format!("  {n:#x} of {}.{}\n", l.name, f.name));
                }
            }
        }
    }
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("  and of {more} more\n"));
    }
    (!lines.is_empty()).then(|| format!("value {what}\n{}", lines.concat()))
}

fn a_layout(l: &'static LayoutInfo) -> String {
    format!("layout {}: {} bytes\n{}", l.name, l.bytes(), fields(l))
}

/// Where a field lies, and how wide it is.
fn place(f: &FieldInfo, (offset, width): (u32, u32)) -> String {
    let many = if f.count > 1 {
        format!(" × {}", f.count)
    } else {
        String::new()
    };
    format!(
        "byte {:#x} bit {}, {width} bits{many}\n",
        offset / 8,
        offset % 8
    )
}

fn values(f: &FieldInfo) -> String {
    let all = f.values.iter().flat_map(|v| v.values);
    all.map(|(value, name)| format!("  {value:#x} {name}\n"))
        .collect()
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
                "  {}: {}\n  states {}, callers {}, scope {}\n  evidence {}\n",
                o.coverage().name(),
                o.reason(),
                o.needs.name(),
                o.callers.name(),
                o.scope.name(),
                o.evidence.name()
            );
            if o.coverage() == Coverage::Implemented {
                text += &format!("  inbox {} bytes, outbox {} bytes\n", o.in_len, o.out_len);
            }
        }
    }
    if let Some(c) = layout::command(code) {
        text += &fields(c.input);
        text += &fields(c.output);
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
            text += "  evidence: the tools' register database\n";
            text += &accesses(r);
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
            if !r.index.is_empty() {
                let index: Vec<_> = r.index.iter().map(|i| i.0).collect();
                text += &format!("  {} choose a part of it\n", index.join(", "));
            }
            text += &match (r.layout, mst::find(id)) {
                (Some(l), _) => fields(l),
                (None, Some(r)) => accesses(r),
                (None, None) => String::new(),
            };
        }
    }
    Some(text)
}

/// The fields of a register of the tools, with what may be done to them. A field that all arms of a union have
/// is one line.
fn accesses(r: &mst::Register) -> String {
    let mut text = format!("  {}:\n", r.layout.name);
    let all: Vec<_> = r.layout.fields.iter().zip(r.access).collect();
    for arms in all.chunk_by(|(a, _), (b, _)| same_in_two_arms(a, b)) {
        let Some((f, access)) = arms.first() else {
            continue;
        };
        let access = match access {
            Access::Ro => "RO",
            Access::Rw => "RW",
            Access::Wo => "WO",
            Access::Index => "INDEX",
            Access::Operation => "OP",
            Access::Unsaid => "-",
        };
        text += &match arms.len() {
            1 => field(f, f.name, &format!(" {access}")),
            n => {
                let name = above(f.name).map_or_else(
                    || f.name.into(),
                    |(union, leaf)| format!("{union}.*.{leaf} ({n} arms)"),
                );
                field(f, &name, &format!(" {access}"))
            }
        };
    }
    text
}

/// What a path to a field in an arm of a union begins with, and the field's own name.
fn above(path: &str) -> Option<(&str, &str)> {
    let (arm, leaf) = path.rsplit_once('.')?;
    Some((arm.rsplit_once('.')?.0, leaf))
}

fn same_in_two_arms(a: &FieldInfo, b: &FieldInfo) -> bool {
    let place = |f: &FieldInfo| (f.offset, f.width, f.count);
    place(a) == place(b) && above(a.name).is_some_and(|n| above(b.name) == Some(n))
}

/// What the database rules out, and whether something in the model follows a parameter.
fn bounds(i: &nv::Item, param: &str) -> String {
    let mut text = String::new();
    for l in i.limits.iter().filter(|l| l.param == param) {
        let all = [
            ("at least", l.min),
            ("at most", l.max),
            ("must not be 0:", l.rule),
        ];
        for (what, rule) in all.iter().filter(|r| !r.1.is_empty()) {
            text += &format!("  {what} {rule}\n");
        }
    }
    let effects = settings::EFFECTS.iter();
    for e in effects.filter(|e| (e.item, e.parameter) == (i.layout.name, param)) {
        text += &format!("  at {:#x} {}\n", e.value, e.about);
    }
    text
}

/// A configuration item by its name or its type word, or a parameter by the name that mstconfig gives it.
fn configuration(what: &str, number: Option<u32>) -> Option<String> {
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
    let by_number = || nv::Type::of(number?).item();
    if let Some(item) = nv::named(&what.to_ascii_lowercase()).or_else(by_number) {
        let mut text = title(item) + &fields(item.layout);
        for f in item.layout.fields {
            let bounds = bounds(item, f.name);
            if !bounds.is_empty() {
                text += &format!("  {}:\n{}", f.name, bounds.replace("  ", "    "));
            }
        }
        return Some(text);
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
        text += &values(f);
        text += &bounds(i, f.name);
        Some(text + &title(i))
    })
}

/// A layout's fields: byte and bit, width, name.
fn fields(l: &LayoutInfo) -> String {
    let all = l.fields.iter().map(|f| field(f, f.name, ""));
    [format!("  {}:\n", l.name)]
        .into_iter()
        .chain(all)
        .collect()
}

fn field(f: &FieldInfo, name: &str, more: &str) -> String {
    let (byte, bit) = (f.offset / 8, f.offset % 8);
    let many = if f.count > 1 {
        format!(" × {}", f.count)
    } else {
        String::new()
    };
    format!(
        "    {byte:#06x}.{bit} {:>4} bits{more} {name}{many}\n",
        f.width
    )
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
            ("hung-firmwar", "did you mean hung-firmware"),
            ("cmd_hca_cpa", "did you mean cmd_hca_cap"),
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
        // A rule of the database, over a capability of the card and over other parameters.
        assert!(
            rest.starts_with("  must not be 0: (($nv_global_pci_cap.max_total_msix_valid==0)"),
            "{rest}"
        );
        assert!(
            rest.ends_with(
                "\nconfiguration item nv_global_pci_conf: class 0, id 0x80, 12 bytes, version 0\n"
            ),
            "{rest}"
        );
        let text = explain("LINK_TYPE").unwrap();
        assert!(text.contains("\n  0x1 IB\n  0x2 ETH\n"), "{text}");
        let item = explain("nv_global_pci_cap").unwrap();
        assert!(item.contains("(a capability)") && item.contains(" bits max_vfs_per_pf\n"));
    }

    #[test]
    fn every_register_that_is_listed_is_explained() {
        let json = crate::list::list_registers(crate::list::Format::Json);
        let all: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert!(all.len() > 180);
        for r in all {
            let (name, id) = (r["name"].as_str().unwrap(), r["id"].as_u64().unwrap());
            // The kernel's name comes first, where it has one of its own.
            let start = format!(" ({id:#x})\n");
            for name in [name.to_owned(), name.to_lowercase()] {
                let text = explain(&name).unwrap();
                assert!(
                    text.starts_with("register ") && text.contains(&start),
                    "{name}: {text}"
                );
            }
        }
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

    fn told(what: &str, lines: &[&str]) {
        let text = explain(what).unwrap();
        for line in lines {
            assert!(text.contains(line), "{what}: {line}: {text}");
        }
    }

    #[test]
    fn a_capability_is_told_with_its_page_and_what_profiles_say() {
        // cmd_hca_cap: bits 0xfc..0x100.
        told(
            "log_max_eq",
            &[
                "capability log_max_eq of page GENERAL (0x0)\n",
                "  cmd_hca_cap: byte 0x1f bit 4, 4 bits\n",
                "  profile connectx7: 0x",
            ],
        );
        assert_eq!(
            explain("cmd_hca_cap.log_max_eq").unwrap(),
            explain("GENERAL.log_max_eq").unwrap()
        );
        told(
            "EQC.log_eq_size",
            &["field log_eq_size\n", "  eqc: byte 0xc bit 3, 5 bits\n"],
        );
        told("eqc", &["layout eqc: 64 bytes\n"]);
    }

    #[test]
    fn a_parameter_is_told_with_its_bounds() {
        // From the database, as proto/facts/mst/nv.toml has it.
        told(
            "MEMIC_SIZE_LIMIT",
            &[
                "  at most $nv_memic_cap.max_memic_size_limit\n",
                "  0x1 256KB\n",
            ],
        );
        told("UCTX_EN", &["  at 0x0 there are no user contexts"]);
        // Class 3 (a function's), index 0x80: mlx5/core/lib/nv_param.c.
        told(
            "0x03000080",
            &["configuration item nv_pf_pci_conf: class 3, id 0x80"],
        );
    }

    #[test]
    fn everything_else_that_has_a_name_is_told() {
        told(
            "HW_FATAL_ERR",
            &[
                "health syndrome HW_FATAL_ERR (0x8)\n",
                "health=HW_FATAL_ERR",
            ],
        );
        told("TOK_ERR", &["delivery status TOK_ERR (0x2)\n"]);
        told(
            "GET_FW_INFO",
            &["(0x8007) of the mailbox behind the PCI gateway\n"],
        );
        told(
            "PAGE_REQUEST",
            &["event PAGE_REQUEST (0xb)\n", " bits num_pages\n"],
        );
        told(
            "late-interrupt",
            &[
                "action late-interrupt=MS of a fault",
                "at the point effects",
            ],
        );
        told("set.FIELD", &["at the point reply"]);
        told(
            "silent-init",
            &["ready list of faults silent-init: ", "INIT_HCA"],
        );
        told("NOP", &["  evidence "]);
        told("PIPG", &[" RO ", " INDEX "]);
        // Every kind of item has a class in the same place; the database says it of each kind.
        told(
            "MNVDA",
            &[
                "    0x0004.0    8 bits INDEX configuration_item_header.type.*.type_class (8 arms)\n",
            ],
        );
    }
}
