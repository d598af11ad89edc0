// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Breakpoints: stop commands, show them, change their answers, go on.

use fw_model::{
    Card, FunctionId, Input, NoMemory, Stopped, Time,
    fault::{Fault, answer_field},
};
use serde_json::{Value, json};

use super::{Arguments, Wrong, add_fault, bad, fewer, number, text, times, word};
use crate::{
    control::Server,
    decode::Which,
    observe::{self, Seen},
};

/// Stops commands once they are executed, before they are answered.
pub(super) fn break_at(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let times = times(a)?.unwrap_or(0);
    let fault = Fault::of(text(a, "when")?, "stop", Some(times));
    let fault = fault.map_err(|e| bad(e.to_string()))?;
    add_fault(s, &fault)
}

fn seen<'a>(p: &Stopped<'a>, now: Time) -> Seen<'a> {
    Seen {
        function: p.function.0,
        slot: p.slot,
        delivery: 0,
        took: now.since(p.since),
        inbox: p.inbox,
        outbox: p.outbox,
    }
}

/// What is stopped, decoded.
pub(super) fn stopped(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    let all = |c: &Card, now: Time| {
        let overlay = c.profile().overlay.clone();
        let row = |p: Stopped<'_>| {
            let seen = seen(&p, now);
            let n = observe::named(&seen, overlay.as_deref(), Which::All);
            json!({
                "id": p.number,
                "function": p.function.0,
                "slot": p.slot,
                "command": n.command,
                "register": n.register,
                "item": n.item,
                "status": n.status,
                "in": n.input,
                "out": n.output,
                "waited_ms": seen.took.as_millis() as u64,
            })
        };
        c.stopped().into_iter().map(row).collect()
    };
    Ok(s.owner.with_card(all))
}

/// The number of a command that is stopped.
fn id(s: &Server, a: &Arguments) -> Result<u32, Wrong> {
    let id = u32::try_from(number(a, "id")?).ok();
    let known = |c: &Card, _| c.stopped().iter().any(|p| Some(p.number) == id);
    id.filter(|_| s.owner.with_card(known))
        .ok_or_else(|| "no command is stopped with this number; `stopped` shows them".into())
}

/// Sets a field of a stopped command's answer.
pub(super) fn amend(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = id(s, a)?;
    let path = text(a, "field")?;
    let place = |c: &Card, now: Time| {
        let overlay = c.profile().overlay.clone();
        let all = c.stopped();
        let p = all.iter().find(|p| p.number == id)?;
        let seen = seen(p, now);
        // As `stopped` writes it, or as faults do.
        let found = observe::answer_field(&seen, overlay.as_deref(), path);
        let found = found.map_or_else(|| answer_field(p.inbox, path), Ok);
        Some((found, p.outbox.len()))
    };
    let (place, len) = s
        .owner
        .with_card(place)
        .ok_or("it is not stopped any more")?;
    let place = place.map_err(bad)?;
    let value = place.value(path, &word(a, "value")?).map_err(bad)?;
    let (offset, width) = (place.offset, place.width);
    if u64::from(offset) + u64::from(width) > len as u64 * 8 {
        return Err(format!("{path}: the answer is only {len} bytes long").into());
    }
    let amend = Input::Amend {
        stopped: id,
        offset,
        width,
        value,
    };
    // The input knows bits alone.
    let text = format!("the operator sets {path} of stopped command {id} to {value:#x}");
    s.owner.tell(None, text);
    s.owner.submit(amend, &NoMemory);
    Ok(json!({}))
}

/// Answers one stopped command, or all.
pub(super) fn go_on(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let number = if a.contains_key("id") {
        Some(id(s, a)?)
    } else {
        None
    };
    let input = Input::Continue(number);
    Ok(json!({ "continued": fewer(s, input, |c| c.stopped().len()) }))
}

/// Answers a stopped command, and stops the next one of its function.
pub(super) fn step(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = id(s, a)?;
    let of = |c: &Card, _| {
        let all = c.stopped();
        all.iter().find(|p| p.number == id).map(|p| p.function)
    };
    let FunctionId(f) = s.owner.with_card(of).ok_or("it is not stopped any more")?;
    let when = format!("function={f}");
    let next = Fault::of(&when, "stop", Some(1)).map_err(|e| e.to_string())?;
    add_fault(s, &next)?;
    s.owner.submit(Input::Continue(Some(id)), &NoMemory);
    Ok(json!({}))
}
