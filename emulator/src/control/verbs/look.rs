// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queries: what a card holds and what it would answer. None of them changes anything.

use core::time::Duration;

use fw_model::{
    Card, FunctionId, ItemReport, ObjectReport, Time,
    counters::{Answered, Recent},
    fault::Message,
    nearest,
};
use fwctl_proto::{cmdif::DeliveryStatus, event, mst::nv::Type, opcode, status::Status};
use serde_json::{Value, json};

use super::{Arguments, Wrong, bad, command, function, no_function, number, text, text_if, word};
use crate::{
    control::Server,
    decode::{self, Which},
    observe::{self, Seen},
    spent::Latencies,
};

/// Objects that one answer shows.
pub(super) const MAX_ROWS: usize = 10_000;

/// The argument `function`, or the first one.
fn which(s: &Server, a: &Arguments) -> Result<FunctionId, Wrong> {
    if a.contains_key("function") {
        function(s, a)
    } else {
        Ok(FunctionId(0))
    }
}

/// Event queues.
pub(super) fn eqs(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = which(s, a)?;
    let name = |t: &u8| event::name(*t).map_or_else(|| format!("{t:#04x}"), str::to_owned);
    let rows = s.owner.with_card(|c, _| c.eqs(id)).into_iter().map(|q| {
        let types: Vec<_> = q.types.iter().map(name).collect();
        json!({
            "eqn": q.eqn, "uid": q.uid, "size": q.size, "vector": q.vector,
            "producer": q.producer, "consumer": q.consumer, "armed": q.armed,
            "dropped": q.dropped, "commands": q.commands, "types": types,
        })
    });
    Ok(rows.collect())
}

/// User contexts.
pub(super) fn uctx(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = which(s, a)?;
    let row = |u: fw_model::UctxReport| json!({"uid": u.uid, "cap": u.cap, "objects": u.objects});
    let all = s.owner.with_card(|c, _| c.uctx(id));
    Ok(all.into_iter().map(row).collect())
}

/// Guest pages.
pub(super) fn pages(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = which(s, a)?;
    let p = s.owner.with_card(|c, _| c.pages(id));
    let p = p.ok_or("there is no such function")?;
    Ok(json!({
        "held": p.held, "boot": p.boot, "init": p.init, "target": p.target, "for_objects": p.grown,
        "damaged": p.damaged,
    }))
}

/// Objects of a kind, or all.
pub(super) fn objects(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = which(s, a)?;
    let kind = match a.get("kind") {
        None => None,
        Some(_) => {
            let kind = text(a, "kind")?;
            if !Card::kinds().any(|k| k == kind) {
                let meant = nearest(kind, Card::kinds());
                let all: Vec<_> = Card::kinds().collect();
                let all = all.join(", ");
                return Err(bad(format!(
                    "there is no kind {kind:?}{meant}; there are: {all}"
                )));
            }
            Some(kind)
        }
    };
    let count = |name| match a.contains_key(name) {
        true => usize::try_from(number(a, name)?).map_err(|_| bad(format!("{name:?} is negative"))),
        false => Ok(0),
    };
    let skip = count("skip")?;
    let all = s.owner.with_card(|c, _| c.objects(id, kind));
    let row = |o: &ObjectReport| {
        json!({
            "kind": o.kind, "id": o.id, "index": o.index, "uid": o.uid, "ids": o.span,
            "users": o.users, "bytes": o.bytes,
        })
    };
    Ok(all.iter().skip(skip).take(MAX_ROWS).map(row).collect())
}

/// What the stores of an item are called, with their access modes in MNVDA.
const STORES: [(&str, u8); 3] = [("default", 2), ("current", 1), ("next", 0)];

/// A configuration item in each store, as a read of MNVDA tells it.
fn one_item(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = which(s, a)?;
    let name = text(a, "item")?;
    let at = text_if(a, "at")?;
    let rows = STORES.iter().map(|(store, mode)| {
        let answer = run(s, id, &command::item_read(name, *mode, at)?)?;
        let fields = answer["out"].as_array().into_iter().flatten();
        // Without those of the register that the item lies in.
        let is_header = |f: &Value| {
            let name = f.as_str().unwrap_or_default();
            let of = ["configuration_item_header.", "register_id=", "argument="];
            of.iter().any(|o| name.starts_with(o))
        };
        let fields: Vec<_> = fields.filter(|f| !is_header(f)).cloned().collect();
        Ok(json!({"store": store, "item": answer["item"], "status": answer["status"], "value": fields}))
    });
    rows.collect()
}

/// Configuration items that were set, decoded; or one of them.
pub(super) fn config(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    if a.contains_key("item") {
        return one_item(s, a);
    }
    let row = |i: ItemReport| {
        let item = Type::of(i.item).item();
        let shown = |v: &Option<Vec<u8>>| -> Vec<String> {
            let (Some(bytes), Some(item)) = (v, item) else {
                return v.iter().map(|v| format!("hex={}", hex(v))).collect();
            };
            let layout = item.layout;
            decode::fields(decode::Message { layout, bytes }, None, Which::Set)
        };
        json!({
            "type": format!("{:#010x}", i.item),
            "item": item.map(|i| i.layout.name),
            "set": [i.current.is_some(), i.next.is_some()],
            "current": shown(&i.current),
            "next": shown(&i.next),
        })
    };
    let all = s.owner.with_card(|c, _| c.items());
    Ok(all.into_iter().map(row).map(flat).collect())
}

/// `set` as a word.
fn flat(mut row: Value) -> Value {
    let both = [&row["set"][0], &row["set"][1]].map(|b| b == &Value::Bool(true));
    row["set"] = match both {
        [true, true] => "both",
        [true, false] => "current",
        _ => "next",
    }
    .into();
    row
}

/// What a command would be answered.
pub(super) fn attempt(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let given = text(a, "command")?;
    if given.trim().is_empty() {
        return Err(a.missing("command"));
    }
    let m = command::tried(given)?;
    run(s, FunctionId(m.function), &m)
}

/// What a register reads as.
pub(super) fn register(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = which(s, a)?;
    let (_, m) = command::register_read(&word(a, "name")?, text_if(a, "at")?)?;
    run(s, id, &m)
}

/// Executes a command on a copy of the card.
fn run(s: &Server, id: FunctionId, m: &Message) -> Result<Value, Wrong> {
    let answer = |c: &Card, now: Time| match c.tried(id, &m.inbox, m.out_len, now) {
        Some(out) => Ok((out, c.profile().overlay.clone())),
        None => Err(no_function(c.functions().count())),
    };
    let (out, overlay) = s.owner.with_card(answer)?;
    let seen = Seen {
        function: id.0,
        ..Seen::lone(&m.inbox, &out)
    };
    let n = observe::named(&seen, overlay.as_deref(), Which::All);
    let syndrome = observe::syndrome(&seen);
    // Of a refusal the rest of the outbox says nothing.
    let raw = syndrome.is_none().then(|| hex(&out));
    Ok(json!({
        "command": n.command,
        "register": n.register,
        "item": n.item,
        "status": n.status,
        "syndrome": syndrome,
        "out": n.output,
        "raw": raw,
    }))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The names of what answers are counted by.
pub(super) fn names(a: &Answered) -> (String, String) {
    let opcode = match a.opcode {
        None => "other".to_owned(),
        Some(n) => opcode::name(n).map_or_else(|| format!("{n:#06x}"), str::to_owned),
    };
    let status = match (a.delivery, Status::from_code(a.status)) {
        (0, Some(s)) => s.name().to_owned(),
        (0, None) => format!("{:#04x}", a.status),
        (d, _) => match DeliveryStatus::from_code(d) {
            Some(s) => format!("delivery {}", s.name()),
            None => format!("delivery {d:#04x}"),
        },
    };
    (opcode, status)
}

/// Answers by function, opcode and status; how long is by opcode alone.
pub(super) fn counters(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    let all = |c: &Card, _| c.counters().answered().collect::<Vec<_>>();
    let all = s.owner.with_card(all);
    let micros = |d: Duration| (d.as_secs_f64() * 1e7).round() / 10.0;
    let rows = |latencies: &Latencies| {
        let row = |(a, n): &(Answered, u64)| {
            let (command, status) = names(a);
            let l = latencies.of(a.opcode);
            json!({
                "function": a.function.0, "command": command, "status": status, "count": n,
                "mean_us": micros(l.mean()), "most_us": micros(l.most),
            })
        };
        all.iter().map(row).collect()
    };
    Ok(s.owner.latencies(rows))
}

/// The last commands, the oldest first.
pub(super) fn recent(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    let all = |c: &Card, _| c.counters().recent().copied().collect::<Vec<_>>();
    let row = |r: &Recent| {
        let (command, status) = names(&r.answer);
        json!({
            "at": format!("{:.6}", r.submitted.0 as f64 / 1e9),
            "function": r.answer.function.0,
            "slot": r.slot,
            "uid": r.uid,
            "command": command,
            "op_mod": r.op_mod,
            "status": status,
            "syndrome": format!("{:#x}", r.syndrome),
            "held_us": r.completed.since(r.submitted).as_micros() as u64,
        })
    };
    Ok(s.owner.with_card(all).iter().map(row).collect())
}
