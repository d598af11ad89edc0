// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Capabilities and registers that are set from outside.

use fw_model::{
    Bits, Card, Input, NoMemory,
    fault::{Target, register_field},
    profile,
};
use fwctl_proto::layout::get_bits;
use serde_json::{Value, json};

use super::{
    Arguments, Wrong, bad,
    command::{REGISTER_BYTE, register_read},
    function, text, text_if, word,
};
use crate::control::Server;

/// The argument `value`, for a field.
fn bits(a: &Arguments, path: &str, t: Target) -> Result<Bits, Wrong> {
    let value = t.value(path, &word(a, "value")?).map_err(bad)?;
    let (offset, width) = (t.offset, t.width);
    Ok(Bits {
        offset,
        width,
        value,
    })
}

/// Sets a field of a capability page.
pub(super) fn capability(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let function = function(s, a)?;
    let kind = match a.get("type") {
        None => "general",
        Some(_) => text(a, "type")?,
    };
    let (cap_type, layout) = profile::cap_layout(kind).map_err(bad)?;
    let path = text(a, "field")?;
    let field = layout.field(path).filter(|p| p.info.nested.is_none());
    let field = field.ok_or_else(|| {
        let names = layout.fields.iter().map(|f| f.name);
        let meant = fw_model::nearest(path, names);
        bad(format!("{path}: no field of {}{meant}", layout.name))
    })?;
    let target = Target {
        offset: field.offset,
        width: field.width,
        field: field.info,
    };
    let bits = bits(a, path, target)?;
    let known = |c: &Card, _| c.profile().cap(cap_type).is_some();
    if !s.owner.with_card(known) {
        return Err(format!("the profile has no {kind} capabilities").into());
    }
    let input = Input::SetCap {
        function,
        cap_type,
        bits,
    };
    s.owner.submit(input, &NoMemory);
    Ok(json!({}))
}

/// Sets a field of a register; an error if it does not show there, as it follows from something else.
pub(super) fn register(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let function = function(s, a)?;
    let name = word(a, "name")?;
    let path = text(a, "field")?;
    let (register, m) = register_read(&name, text_if(a, "at")?)?;
    let (_, target) = register_field(&format!("{register:#x}"), path).map_err(bad)?;
    let bits = bits(a, path, target)?;
    let disabled = |c: &Card, _| c.report(function).is_some_and(|r| r.state == "disabled");
    if s.owner.with_card(disabled) {
        return Err(format!(
            "function {} is disabled: it has no registers before its driver sends ENABLE_HCA",
            function.0
        )
        .into());
    }
    let input = Input::SetRegister {
        function,
        register,
        given: m.inbox.get(REGISTER_BYTE..).unwrap_or_default(),
        bits,
    };
    s.owner.submit(input, &NoMemory);
    let reads = |c: &Card, now| {
        let out = c.tried(function, &m.inbox, m.out_len, now)?;
        (out.first() == Some(&0))
            .then(|| get_bits(out.get(REGISTER_BYTE..)?, target.offset, target.width).into())
    };
    match s.owner.with_card(reads).flatten() {
        Some(v) if v == bits.value => Ok(json!({})),
        Some(v) => Err(format!(
            "it reads as {v:#x}, which follows from something else; a fault can change what is read: \
             when='register={name}' then='set.{path}={:#x}'",
            bits.value
        )
        .into()),
        None => Err("it is set, but cannot be read now".into()),
    }
}
