// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu list`: what there is, from the tables that the firmware itself reads.

use fw_model::{
    Profile, fault,
    gateway::icmd::{self, Command},
    profile::{CAP_GENERAL, Pci},
    reg::{
        self, REGISTERS,
        segments::{SEGMENTS, Segment},
    },
    table::{Coverage, OPS, Op},
};
use fwctl_proto::{
    cap_type,
    layout::{View, get_bits},
    layouts::CmdHcaCap,
    mst, opcode, register,
};
use serde_json::{Value, json};

use crate::{
    control::{Answer, EVENTS, VERBS, Verb},
    faults::{self, Scenario},
};

/// How a list is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for a reader.
    Text,
    /// One JSON array.
    Json,
    /// A table for docs/.
    Markdown,
}

/// Name of a command; every row of the table has one.
fn name(o: &Op) -> &'static str {
    opcode::name(o.opcode).unwrap_or("?")
}

/// Bytes of inbox and outbox; for what is refused nobody looks at them.
fn lengths(o: &Op) -> Option<(u16, u16)> {
    (o.coverage() == Coverage::Implemented).then_some((o.in_len, o.out_len))
}

fn json_of(o: &Op) -> Value {
    let lengths = lengths(o);
    json!({
        "opcode": o.opcode,
        "name": name(o),
        "in_len": lengths.map(|l| l.0),
        "out_len": lengths.map(|l| l.1),
        "states": o.needs.name(),
        "callers": o.callers.name(),
        "scope": o.scope.name(),
        "coverage": o.coverage().name(),
        "evidence": o.evidence.name(),
        "reason": o.reason(),
    })
}

/// Commands by opcode.
fn commands() -> Vec<&'static Op> {
    let mut all: Vec<&Op> = OPS.iter().collect();
    all.sort_by_key(|o| o.opcode);
    all
}

/// The opcode table.
#[must_use]
pub fn list_commands(format: Format) -> String {
    let all = commands();
    match format {
        Format::Json => lines(&all.iter().map(|o| json_of(o)).collect::<Vec<_>>()),
        Format::Text => {
            let line = |o: &&Op| {
                let (i, out) = lengths(o).map_or(("-".into(), "-".into()), |(i, o)| {
                    (i.to_string(), o.to_string())
                });
                format!(
                    "{:#06x} {:<34} in {i:>4} out {out:>4} {:<13} {:<12} {:<11} {}\n",
                    o.opcode,
                    name(o),
                    o.needs.name(),
                    o.callers.name(),
                    o.coverage().name(),
                    o.reason()
                )
            };
            let count = |c| all.iter().filter(|o| o.coverage() == c).count();
            let sum = format!(
                "{} commands: {} implemented, {} refused, {} gaps\n",
                all.len(),
                count(Coverage::Implemented),
                count(Coverage::Refused),
                count(Coverage::Gap)
            );
            all.iter().map(line).chain([sum]).collect()
        }
        Format::Markdown => {
            let mut text = String::from(
                "| opcode | name | inbox | outbox | states | callers | scope | coverage | why |\n\
                 |---|---|---|---|---|---|---|---|---|\n",
            );
            for o in &all {
                let (i, out) = lengths(o).map_or((String::new(), String::new()), |(i, o)| {
                    (i.to_string(), o.to_string())
                });
                text += &format!(
                    "| {:#06x} | {} | {i} | {out} | {} | {} | {} | {} | {} |\n",
                    o.opcode,
                    name(o),
                    o.needs.name(),
                    o.callers.name(),
                    o.scope.name(),
                    o.coverage().name(),
                    o.reason()
                );
            }
            text
        }
    }
}

/// A register as it is listed.
struct Row {
    id: u16,
    name: &'static str,
    bytes: usize,
    writes: bool,
    /// Fields that choose a part.
    index: Vec<&'static str>,
    /// Fields that may be written.
    written: Vec<&'static str>,
    fields: usize,
    /// Where its content comes from.
    content: &'static str,
}

/// Every register: those of the table, and the tools' that are mere stores.
fn registers() -> Vec<Row> {
    let table = REGISTERS.iter().map(|r| Row {
        id: r.id,
        name: register_name(r.id).unwrap_or("?"),
        bytes: r.bytes,
        writes: r.can_write(),
        index: r.index.iter().map(|i| i.0).collect(),
        written: r.writable.to_vec(),
        fields: r.layout.map_or(0, |l| l.fields.len()),
        content: if r.read.is_some() || r.write.is_some() {
            "model"
        } else {
            "profile"
        },
    });
    let tools = mst::REGISTERS.iter().filter(|r| reg::find(r.id).is_none());
    let tools = tools.map(|r| {
        let fields = r.layout.fields.iter().zip(r.access);
        let index = fields.filter(|(_, a)| **a == mst::Access::Index);
        Row {
            id: r.id,
            name: r.layout.name,
            bytes: r.layout.bytes(),
            writes: reg::stored::can_write(r),
            index: index.map(|(f, _)| f.name).collect(),
            written: reg::stored::writable(r).map(|f| f.name).collect(),
            fields: r.layout.fields.len(),
            content: match reg::phy::meaning(r.id) {
                Some(_) => "partial",
                None => "store",
            },
        }
    });
    let mut all: Vec<_> = table.chain(tools).collect();
    all.sort_by_key(|r| r.id);
    all
}

/// The name of a register: as the kernel has it, else as the tools have it.
#[must_use]
pub fn register_name(id: u16) -> Option<&'static str> {
    register::name(id)
        .or_else(|| mst::find(id).map(|r| r.layout.name))
        .or_else(|| reg::find(id)?.name)
}

/// The register that is listed with a name, in capitals or not.
#[must_use]
pub fn register_number(name: &str) -> Option<u16> {
    let named = |r: &Row| r.name.eq_ignore_ascii_case(name);
    registers().into_iter().find(named).map(|r| r.id)
}

/// The register table.
#[must_use]
pub fn list_registers(format: Format) -> String {
    let access = |r: &Row| if r.writes { "RW" } else { "RO" };
    let all = registers();
    match format {
        Format::Json => lines(
            &all.iter()
                .map(|r| {
                    json!({
                        "id": r.id,
                        "name": r.name,
                        "bytes": r.bytes,
                        "access": access(r),
                        "index": r.index,
                        "writable": r.written,
                        "content": r.content,
                    })
                })
                .collect::<Vec<_>>(),
        ),
        Format::Text => all
            .iter()
            .map(|r| {
                format!(
                    "{:#06x} {:<29} {:>4} bytes {} {:<7} {:>3} fields {}\n",
                    r.id,
                    r.name,
                    r.bytes,
                    access(r),
                    r.content,
                    r.fields,
                    r.index.join(", ")
                )
            })
            .collect(),
        Format::Markdown => {
            let mut text = String::from(
                "| id | name | bytes | access | content | chosen by | written fields |\n\
                 |---|---|---|---|---|---|---|\n",
            );
            for r in &all {
                // The database says it of the others; here they would be most of the page.
                let written = match reg::find(r.id) {
                    Some(_) => r.written.join(", "),
                    None => String::new(),
                };
                text += &format!(
                    "| {:#06x} | {} | {} | {} | {} | {} | {written} |\n",
                    r.id,
                    r.name,
                    r.bytes,
                    access(r),
                    r.content,
                    r.index.join(", "),
                );
            }
            text
        }
    }
}

/// What RESOURCE_DUMP can show: the segments of its menu.
#[must_use]
pub fn list_segments(format: Format) -> String {
    let command = |s: &Segment| opcode::name(s.opcode).unwrap_or_default();
    let indices = |s: &Segment| core::iter::once(s.indices.0).chain(s.indices.1);
    let joined = |s: &Segment| indices(s).collect::<Vec<_>>().join(", ");
    match format {
        Format::Json => {
            let row = |s: &Segment| {
                let index: Vec<_> = indices(s).collect();
                json!({"id": s.id, "name": s.name, "command": command(s), "index": index})
            };
            lines(&SEGMENTS.iter().map(row).collect::<Vec<_>>())
        }
        Format::Text => {
            let row = |s: &Segment| {
                let (name, command) = (s.name, command(s));
                format!("{:#06x} {name:<15} {command:<29} {}\n", s.id, joined(s))
            };
            SEGMENTS.iter().map(row).collect()
        }
        Format::Markdown => {
            let head = "| type | name | command | index |\n|---|---|---|---|\n".to_owned();
            let row = |s: &Segment| {
                let (name, command) = (s.name, command(s));
                format!("| {:#06x} | {name} | {command} | {} |\n", s.id, joined(s))
            };
            core::iter::once(head)
                .chain(SEGMENTS.iter().map(row))
                .collect()
        }
    }
}

/// The built-in profiles.
#[must_use]
pub fn list_profiles(format: Format) -> String {
    let all: Vec<_> = Profile::names()
        .filter_map(|n| Profile::builtin(n).ok())
        .collect();
    match format {
        Format::Json => lines(
            &all.iter()
                .map(|p| {
                    let Pci {
                        vendor_id,
                        device_id,
                        ..
                    } = p.pci;
                    json!({
                        "name": p.name,
                        "description": p.description,
                        "pci": format!("{vendor_id:04x}:{device_id:04x}"),
                        "firmware": version(p),
                        "psid": p.firmware.psid,
                    })
                })
                .collect::<Vec<_>>(),
        ),
        Format::Text => all
            .iter()
            .map(|p| format!("{:<12} {}\n", p.name, p.description))
            .collect(),
        Format::Markdown => {
            let mut text = String::from(
                "| name | what it is | PCI id | firmware | PSID |\n|---|---|---|---|---|\n",
            );
            for p in &all {
                text += &format!(
                    "| {} | {} | {:04x}:{:04x} | {} | {} |\n",
                    p.name,
                    p.description,
                    p.pci.vendor_id,
                    p.pci.device_id,
                    version(p),
                    p.firmware.psid
                );
            }
            text
        }
    }
}

fn version(p: &Profile) -> String {
    let [major, minor, sub] = p.firmware.version;
    format!("{major}.{minor}.{sub}")
}

/// Everything that a profile says, with the fields that are not 0.
#[must_use]
pub fn show_profile(p: &Profile) -> String {
    let pci = &p.pci;
    let mut text = format!(
        "{}: {}\nPCI {:04x}:{:04x}, subsystem {:04x}:{:04x}, {} MSI-X vectors, BAR0 of {} bytes\n\
         firmware {}, PSID {}, {} boot pages, {} init pages\n",
        p.name,
        p.description,
        pci.vendor_id,
        pci.device_id,
        pci.subsystem_vendor_id,
        pci.subsystem_id,
        pci.msix_vectors,
        1u64 << pci.log_bar0,
        version(p),
        p.firmware.psid,
        p.pages.boot,
        p.pages.init
    );
    for &(number, name) in cap_type::ALL {
        let Some(cap) = p.cap(number) else { continue };
        text += &format!("[caps.{}]\n", name.to_ascii_lowercase());
        for (field, value, max) in cap.values() {
            text += &if value == max {
                format!("{field} = {value:#x}\n")
            } else {
                format!("{field} = {value:#x} # at most {max:#x}\n")
            };
        }
    }
    for (id, image) in p.registers() {
        let here = reg::find(id).and_then(|r| r.layout);
        let Some(layout) = here.or_else(|| mst::find(id).map(|r| r.layout)) else {
            continue;
        };
        text += &format!("[registers.{}]\n", register_name(id).unwrap_or("?"));
        for f in layout.leaves() {
            let value = get_bits(image, f.offset, f.width);
            if value != 0 {
                text += &format!("{} = {value:#x}\n", f.path);
            }
        }
    }
    let uctx = p
        .cap(CAP_GENERAL)
        .and_then(|c| View::<CmdHcaCap>::new(&c.current));
    let tools = uctx.is_some_and(|v| v.get(CmdHcaCap::UCTX_CAP) & 4 != 0);
    text += if tools {
        "# fwctl users get tools resources.\n"
    } else {
        "# fwctl users are plain DEVX contexts.\n"
    };
    text
}

/// The commands of the mailbox behind the PCI gateway.
#[must_use]
pub fn list_icmds(format: Format) -> String {
    let all = icmd::COMMANDS;
    match format {
        Format::Json => {
            let row = |c: &Command| json!({"opcode": c.opcode, "name": c.name, "about": c.about});
            lines(&all.iter().map(row).collect::<Vec<_>>())
        }
        Format::Text => all
            .iter()
            .map(|c| format!("{:#06x} {:<20} {}\n", c.opcode, c.name, c.about))
            .collect(),
        Format::Markdown => {
            let head = "| opcode | name | what it does |\n|---|---|---|\n".to_owned();
            let row = |c: &Command| format!("| {:#06x} | {} | {} |\n", c.opcode, c.name, c.about);
            core::iter::once(head).chain(all.iter().map(row)).collect()
        }
    }
}

/// The ready lists of faults.
#[must_use]
pub fn list_scenarios(format: Format) -> String {
    // A test rules out that one is wrong.
    let all = faults::scenarios().unwrap_or_default();
    match format {
        Format::Json => {
            let row = |s: &Scenario| json!({"name": s.name, "about": s.about, "faults": s.faults});
            lines(&all.iter().map(row).collect::<Vec<_>>())
        }
        Format::Text => {
            let fault = |f: &String| format!("    {f}\n");
            let row = |s: &Scenario| {
                let faults: String = s.faults.iter().map(fault).collect();
                format!("{}: {}\n{faults}", s.name, s.about)
            };
            all.iter().map(row).collect()
        }
        Format::Markdown => {
            let head = "| name | what goes wrong |\n|---|---|\n".to_owned();
            let row = |s: &Scenario| format!("| `{}` | {} |\n", s.name, s.about);
            core::iter::once(head).chain(all.iter().map(row)).collect()
        }
    }
}

/// What a fault may do.
#[must_use]
pub fn list_actions(format: Format) -> String {
    match format {
        Format::Json => {
            let row = |a: &fault::Action| json!({"name": a.name, "value": a.value, "point": a.point.name(), "about": a.about});
            lines(&fault::ACTIONS.iter().map(row).collect::<Vec<_>>())
        }
        Format::Text => {
            let row =
                |a: &fault::Action| format!("{:<24} {:<8} {}\n", a.form(), a.point.name(), a.about);
            fault::ACTIONS.iter().map(row).collect()
        }
        Format::Markdown => {
            let head = "| then | at which point | what happens |\n|---|---|---|\n".to_owned();
            let row = |a: &fault::Action| {
                let form = a.form().replace('|', "\\|");
                format!("| `{form}` | {} | {} |\n", a.point.name(), a.about)
            };
            core::iter::once(head)
                .chain(fault::ACTIONS.iter().map(row))
                .collect()
        }
    }
}

/// The commands of the control socket.
#[must_use]
pub fn list_verbs(format: Format) -> String {
    match format {
        Format::Json => {
            let arguments = |v: &Verb| {
                let all = v.arguments.iter();
                all.map(|(name, form, about)| json!({"name": name, "value": form, "about": about}))
                    .collect::<Vec<_>>()
            };
            let row =
                |v: &Verb| json!({"name": v.name, "about": v.about, "arguments": arguments(v)});
            lines(&VERBS.iter().map(row).collect::<Vec<_>>())
        }
        Format::Text => {
            let row = |v: &Verb| format!("{:<16} {}\n", v.name, v.about);
            VERBS.iter().map(row).collect()
        }
        Format::Markdown => {
            let arguments = |v: &Verb| {
                let cell = |(name, form, about): &(&str, &str, &str)| {
                    format!("`{name}={}`: {about}", form.replace('|', "\\|"))
                };
                v.arguments
                    .iter()
                    .map(cell)
                    .collect::<Vec<_>>()
                    .join("<br>")
            };
            let answer = |v: &Verb| match v.answer {
                Answer::Nothing => "`{}`".to_owned(),
                Answer::Object(names) => format!("an object: {}", names.join(", ")),
                Answer::Rows(names) => format!("a list of objects: {}", names.join(", ")),
                Answer::Text(what) => format!("a text: {what}"),
            };
            let row = |v: &Verb| {
                format!(
                    "| `{}` | {} | {} | {} |\n",
                    v.name,
                    v.about,
                    arguments(v),
                    answer(v)
                )
            };
            let head =
                "| command | what it does | arguments | answer |\n|---|---|---|---|\n".to_owned();
            let events = "\nEvents:\n\n| event | data | when |\n|---|---|---|\n".to_owned();
            let event = |(name, data, when): &(&str, &str, &str)| {
                format!("| `{name}` | {data} | {when} |\n")
            };
            core::iter::once(head)
                .chain(VERBS.iter().map(row))
                .chain([events])
                .chain(EVENTS.iter().map(event))
                .collect()
        }
    }
}

/// A JSON array with a line for each element.
fn lines(all: &[Value]) -> String {
    let rows: Vec<String> = all.iter().map(|v| format!("  {v}")).collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_write_changes_is_said_of_mere_stores_too() {
        let all: Vec<Value> = serde_json::from_str(&list_registers(Format::Json)).unwrap();
        let written = |name: &str| {
            let row = all.iter().find(|r| r["name"] == name).unwrap();
            row["writable"].clone()
        };
        // The table's row, and the fields that are RW or WO in the tools' database.
        assert_eq!(written("PMTU"), json!(["admin_mtu"]));
        assert_eq!(written("UNIT_PERF_COUNTERS_GLOBAL_CTRL"), json!(["cmd"]));
    }

    #[test]
    fn a_command_s_rules_have_the_names_that_an_overlay_s_file_has() {
        let shown = |n| json_of(fw_model::table::find(n).unwrap());
        let rules = |n| {
            let v = shown(n);
            ["states", "callers", "scope", "evidence"].map(|k| v[k].as_str().unwrap().to_owned())
        };
        assert_eq!(
            rules(opcode::QUERY_PAGES),
            ["enabled-or-up", "kernel-tools", "debug-read-only", "driver"]
        );
        assert_eq!(
            rules(opcode::ENABLE_HCA),
            ["disabled", "kernel", "never", "driver"]
        );
        let access = shown(opcode::ACCESS_REG);
        assert_eq!(
            access["scope"],
            "configuration to write, debug-read-only to read"
        );
        let text = list_commands(Format::Text);
        let line = text.lines().find(|l| l.contains(" QUERY_PAGES ")).unwrap();
        assert!(
            line.contains(" enabled-or-up kernel-tools implemented "),
            "{line}"
        );
    }
}
