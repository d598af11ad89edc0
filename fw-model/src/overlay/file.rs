// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Reading an overlay: its TOML, checked as a whole before anything of it counts.

use std::{collections::BTreeMap, sync::Arc};

use fwctl_proto::{
    layout::{FieldInfo, LayoutInfo, set_bits},
    opcode,
    status::Status,
};
use serde::Deserialize;

use super::{Command, MAX_BYTES, MAX_ENTRIES, Overlay, Refusal, Register, expr::Expr};
use crate::{
    input::Scope,
    reg,
    table::{self, Action, Callers, Evidence, Needs, Op, ScopeRule},
};

/// Bytes of a header.
const HEADER: usize = 16;

/// Why an overlay was not taken: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("overlay {origin}: {what}")]
pub struct OverlayError {
    /// The file.
    pub origin: String,
    /// What is wrong, with its place.
    pub what: String,
}

/// A field: name, offset in bits, width in bits, and "rw" if a register's can be written.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FieldFile {
    Plain(String, u32, u32),
    Marked(String, u32, u32, String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    bytes: usize,
    #[serde(default)]
    fields: Vec<FieldFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalFile {
    when: String,
    status: String,
    #[serde(default)]
    syndrome: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandFile {
    opcode: u16,
    name: String,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    states: States,
    #[serde(default)]
    callers: CallersFile,
    #[serde(default)]
    scope: ScopeFile,
    #[serde(rename = "in")]
    input: Side,
    out: Side,
    #[serde(default)]
    refuse: Vec<RefusalFile>,
    #[serde(default)]
    set: BTreeMap<String, Value>,
    #[serde(default)]
    reply: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterFile {
    id: u16,
    name: String,
    #[serde(default)]
    replace: bool,
    bytes: usize,
    fields: Vec<FieldFile>,
    #[serde(default)]
    values: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    command: Vec<CommandFile>,
    #[serde(default)]
    register: Vec<RegisterFile>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum States {
    Any,
    Enabled,
    EnabledOrUp,
    #[default]
    Up,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CallersFile {
    Kernel,
    KernelDevx,
    KernelTools,
    #[default]
    All,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ScopeFile {
    Never,
    Configuration,
    #[default]
    DebugReadOnly,
    DebugWrite,
    DebugWriteFull,
}

impl Overlay {
    /// An overlay from TOML text. `origin` names it in errors.
    ///
    /// # Errors
    /// [`OverlayError`]: the line for text that is no overlay, else the entry and its field.
    pub fn parse(text: &str, origin: &str) -> Result<Arc<Self>, OverlayError> {
        let error = |what: String| OverlayError {
            origin: origin.into(),
            what,
        };
        let file: File = toml::from_str(text).map_err(|e| {
            let start = e.span().map_or(0, |s| s.start.min(text.len()));
            let line = text[..start].matches('\n').count() + 1;
            error(format!("line {line}: {}", e.message()))
        })?;
        if file.command.len().max(file.register.len()) > MAX_ENTRIES {
            return Err(error(format!("more than {MAX_ENTRIES} entries")));
        }
        let mut overlay = Self {
            commands: Vec::new(),
            registers: Vec::new(),
            fingerprint: crc32fast::hash(text.as_bytes()),
        };
        for (i, c) in (0u16..).zip(&file.command) {
            let at = |w: String| error(format!("command {}: {w}", c.name));
            if overlay.command(c.opcode).is_some() {
                return Err(at(format!("{:#x} is there twice", c.opcode)));
            }
            overlay.commands.push(command(i, c).map_err(at)?);
        }
        for r in &file.register {
            let at = |w: String| error(format!("register {}: {w}", r.name));
            if overlay.register(r.id).is_some() {
                return Err(at(format!("{:#x} is there twice", r.id)));
            }
            overlay.registers.push(register(r).map_err(at)?);
        }
        Ok(Arc::new(overlay))
    }
}

fn command(index: u16, c: &CommandFile) -> Result<Command, String> {
    if let Some(name) = opcode::name(c.opcode).filter(|_| table::find(c.opcode).is_some())
        && !c.replace
    {
        return Err(format!(
            "{:#x} is {name} already; say replace = true if that is meant",
            c.opcode
        ));
    }
    let input = layout(&format!("{}_in", c.name.to_lowercase()), &c.input)?;
    let output = layout(&format!("{}_out", c.name.to_lowercase()), &c.out)?;
    let expr = |name: &str, v: &Value| match v {
        Value::Number(n) => Ok(Expr::number(*n)),
        Value::Text(text) => Expr::parse(text, input).map_err(|w| format!("{name}: {w}")),
    };
    let mut reply = Vec::new();
    for (name, value) in &c.reply {
        let place = output
            .field(name)
            .ok_or_else(|| format!("reply: the outbox has no field {name:?}"))?;
        reply.push((place.offset, place.width, expr(name, value)?));
    }
    let mut set = Vec::new();
    for (name, value) in &c.set {
        set.push((name.clone(), expr(name, value)?));
    }
    let mut refuse = Vec::new();
    for r in &c.refuse {
        let known = Status::ALL.iter().find(|s| s.name() == r.status);
        refuse.push(Refusal {
            when: Expr::parse(&r.when, input).map_err(|w| format!("refuse: {w}"))?,
            status: *known.ok_or_else(|| format!("refuse: there is no status {:?}", r.status))?,
            syndrome: r.syndrome,
        });
    }
    Ok(Command {
        op: Op {
            opcode: c.opcode,
            in_len: c.input.bytes as u16,
            out_len: c.out.bytes as u16,
            needs: match c.states {
                States::Any => Needs::Any,
                States::Enabled => Needs::Enabled,
                States::EnabledOrUp => Needs::EnabledOrUp,
                States::Up => Needs::Up,
            },
            callers: match c.callers {
                CallersFile::Kernel => Callers::Kernel,
                CallersFile::KernelDevx => Callers::KernelDevx,
                CallersFile::KernelTools => Callers::KernelTools,
                CallersFile::All => Callers::All,
            },
            scope: match c.scope {
                ScopeFile::Never => ScopeRule::Never,
                ScopeFile::Configuration => ScopeRule::From(Scope::Configuration),
                ScopeFile::DebugReadOnly => ScopeRule::From(Scope::DebugReadOnly),
                ScopeFile::DebugWrite => ScopeRule::From(Scope::DebugWrite),
                ScopeFile::DebugWriteFull => ScopeRule::From(Scope::DebugWriteFull),
            },
            action: Action::Overlay(index),
            evidence: Evidence::Assumed,
        },
        name: String::leak(c.name.clone()),
        input,
        output,
        refuse,
        set,
        reply,
    })
}

fn register(r: &RegisterFile) -> Result<Register, String> {
    if reg::find(r.id).is_some() && !r.replace {
        return Err(format!(
            "{:#x} is there already; say replace = true if that is meant",
            r.id
        ));
    }
    if r.bytes == 0 || r.bytes > MAX_BYTES {
        return Err(format!("{} bytes are not 1 to {MAX_BYTES}", r.bytes));
    }
    let layout = leaked(
        &format!("{}_reg", r.name.to_lowercase()),
        r.bytes,
        &r.fields,
        0,
    )?;
    let mut image = vec![0; r.bytes];
    for (name, value) in &r.values {
        let place = layout
            .field(name)
            .ok_or_else(|| format!("values: there is no field {name:?}"))?;
        if place.width < 64 && value >> place.width != 0 {
            return Err(format!(
                "values: {name}: {value} does not fit {} bits",
                place.width
            ));
        }
        set_bits(&mut image, place.offset, place.width, *value);
    }
    let writable = r.fields.iter().filter_map(|f| match f {
        FieldFile::Marked(_, offset, width, _) => Some((*offset, *width)),
        FieldFile::Plain(..) => None,
    });
    Ok(Register {
        id: r.id,
        name: String::leak(r.name.clone()),
        layout,
        writable: writable.collect(),
        image: image.into(),
    })
}

/// A layout behind a header.
fn layout(name: &str, side: &Side) -> Result<&'static LayoutInfo, String> {
    if !(HEADER..=MAX_BYTES).contains(&side.bytes) {
        return Err(format!(
            "{name}: {} bytes are not {HEADER} to {MAX_BYTES}",
            side.bytes
        ));
    }
    leaked(name, side.bytes, &side.fields, 64)
}

/// A layout that stays for the life of the process; fields begin at bit `from` or later.
fn leaked(
    name: &str,
    bytes: usize,
    fields: &[FieldFile],
    from: u32,
) -> Result<&'static LayoutInfo, String> {
    let bits = bytes as u32 * 8;
    let mut all = Vec::new();
    for f in fields {
        let (field, offset, width) = match f {
            FieldFile::Plain(n, o, w) => (n, *o, *w),
            FieldFile::Marked(n, o, w, mark) if mark == "rw" => (n, *o, *w),
            FieldFile::Marked(n, _, _, mark) => {
                return Err(format!("{name}.{n}: {mark:?} is not \"rw\""));
            }
        };
        let end = offset.checked_add(width).filter(|e| *e <= bits);
        // As in the headers: a field lies in one dword, or is two whole ones.
        let in_one = offset % 32 + width <= 32 || (width == 64 && offset.is_multiple_of(32));
        if width == 0 || width > 64 || offset < from || end.is_none() || !in_one {
            return Err(format!(
                "{name}.{field}: {width} bits at bit {offset} do not lie in one dword, or are not \
                 64 bits in two, between bit {from} and bit {bits}"
            ));
        }
        all.push(FieldInfo {
            name: String::leak(field.clone()),
            offset,
            width,
            count: 1,
            nested: None,
            values: None,
            counted_by: None,
            variants: None,
        });
    }
    Ok(Box::leak(Box::new(LayoutInfo {
        name: String::leak(name.to_owned()),
        bits,
        fields: Vec::leak(all),
    })))
}
