// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries as text and as JSON.

use std::{fmt::Write as _, time::Duration};

use fw_model::{Overlay, ResetKind, Scope};
use fwctl_proto::{eqe, event};
use serde_json::{Map, Value, json};

use super::{
    Command, Entry, Via, dump, fields,
    inputs::{delivery_text, reset_text},
};
use crate::{
    decode::Which,
    observe::{self, ALL_FIELDS, Named, Seen},
};

/// How an entry is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line each.
    #[default]
    Text,
    /// A JSON object each, in a line.
    Json,
    /// Commands as mlx5_core dumps them for debugging.
    Mlx5,
}

impl Command<'_> {
    /// As the decoder takes it.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            function: self.function,
            slot: self.via.slot(),
            delivery: self.delivery,
            took: Duration::from_nanos(self.took()),
            inbox: &self.inbox,
            outbox: &self.outbox,
        }
    }
}

/// An entry in a line, with its time in seconds, and at most `fields` fields in each direction.
#[must_use]
pub fn text(e: &Entry<'_>, overlay: Option<&Overlay>, fields: usize) -> String {
    let mut s = String::new();
    if let Some(at) = e.at() {
        let _ = write!(s, "{:>6}.{:09} ", at / 1_000_000_000, at % 1_000_000_000);
    }
    s + &body(e, overlay, fields)
}

/// An entry without its time.
#[must_use]
pub fn body(e: &Entry<'_>, overlay: Option<&Overlay>, most: usize) -> String {
    let named = |list: Vec<String>| match list.is_empty() {
        true => String::new(),
        false => format!(": {}", list.join(" ")),
    };
    match e {
        Entry::Head { profile, program } => format!("profile {profile}, fwctl-emu {program}"),
        Entry::Command(c) => {
            let line = observe::line(&c.seen(), overlay, most);
            with_via(line, c.via, c.function)
        }
        Entry::Unanswered(u) => {
            let line = observe::unanswered(&u.command().seen(), u.why, overlay, most);
            with_via(line, u.via, u.function)
        }
        Entry::Event {
            function,
            event_type,
            sub_type,
            data,
            lost,
            ..
        } => {
            let name = event_name(*event_type);
            let lost = if *lost {
                ": lost, its queue is full"
            } else {
                ""
            };
            let known = fields::event(*event_type, data);
            let data = match known.is_empty() {
                true => format!("data {}", short(data)),
                false => known.join(" "),
            };
            let sub_type = fields::sub_type(*event_type, *sub_type);
            format!("f{function} event {name} sub_type {sub_type} {data}{lost}")
        }
        Entry::Interrupt {
            function, vector, ..
        } => format!("f{function} interrupt {vector}"),
        Entry::Segment {
            function,
            offset,
            data,
            ..
        } => format!(
            "f{function} segment {offset:#x} <- {}{}",
            dump::hex(data),
            named(fields::segment(*offset, data))
        ),
        Entry::Doorbell {
            function,
            page,
            offset,
            data,
            ..
        } => {
            let known = fields::doorbell(*offset, data);
            let known = known.map_or_else(String::new, |(name, list)| {
                format!(" {name}{}", named(list))
            });
            let data = dump::hex(data);
            format!("f{function} doorbell page {page} {offset:#x} <- {data}{known}")
        }
        Entry::Gateway {
            function,
            space,
            address,
            value,
            then,
            ..
        } => {
            let said = |v: u32| named(fields::word(*space, *address, v).unwrap_or_default());
            let then = match then {
                None => ", nothing lies there".into(),
                Some(t) if t == value => String::new(),
                Some(t) => format!(" and then {t:#010x}{}", said(*t)),
            };
            format!(
                "f{function} gateway {} {address:#x} <- {value:#010x}{}{then}",
                fields::space(*space),
                said(*value)
            )
        }
        Entry::Refused {
            function,
            scope,
            delivery,
            header,
            ..
        } => {
            let caller = scope.map_or("the driver".into(), |s| format!("scope {}", s.name()));
            let name = header_name(header, overlay);
            let (why, text) = (delivery.name(), delivery_text(*delivery));
            format!("f{function} {name} of {caller} was not executed: {why} ({text})")
        }
        Entry::Reset {
            function,
            kind,
            generation,
            ..
        } => match kind {
            Some(kind) => {
                let (kind, text) = (kind.name(), reset_text(*kind));
                format!("f{function} reset: {kind} ({text}), generation {generation}")
            }
            None => format!("f{function} begins anew, generation {generation}"),
        },
        Entry::Note { function, text, .. } => match function {
            Some(f) => format!("f{f} {text}"),
            None => format!("card {text}"),
        },
        Entry::Lost { count } => format!("{count} entries are missing here"),
    }
}

/// A command's line with how it came, where a slot would stand.
fn with_via(line: String, via: Via, function: u8) -> String {
    let via = match via {
        Via::Slot(_) => return line,
        Via::Channel(None) => "channel of the driver".to_owned(),
        Via::Channel(Some(s)) => format!("channel scope={}", s.name()),
        Via::Gateway => "gateway".to_owned(),
    };
    let function = format!("f{function} ");
    line.replacen(&function, &format!("{function}{via} "), 1)
}

fn event_name(n: u8) -> String {
    event::name(n).map_or_else(|| format!("{n:#x}"), str::to_owned)
}

/// The name of a command of which there is only the header.
fn header_name(header: &[u8], overlay: Option<&Overlay>) -> String {
    let seen = Seen {
        delivery: 1,
        ..Seen::lone(header, &[])
    };
    observe::named(&seen, overlay, Which::Set).command
}

/// Data without the zeros at its end.
fn short(data: &[u8]) -> String {
    let end = data.iter().rposition(|b| *b != 0).map_or(1, |i| i + 1);
    dump::hex(data.get(..end).unwrap_or_default())
}

/// `name=value` as members of an object.
fn members(fields: &[String]) -> Value {
    let pairs = fields.iter().filter_map(|f| f.split_once('='));
    let map: Map<String, Value> = pairs.map(|(n, v)| (n.to_owned(), v.into())).collect();
    Value::Object(map)
}

/// What a command asks for and who asks, answered or not.
fn asked(kind: &str, c: &Command<'_>, n: &Named) -> Value {
    json!({
        "kind": kind,
        "command": n.command,
        "register": n.register,
        "item": n.item,
        "op_mod": Command::word(&c.inbox, 6),
        "uid": c.uid(),
        "via": c.via.name(),
        "slot": c.via.slot(),
        "scope": c.via.scope().map(Scope::name),
        "in": members(&n.input),
    })
}

/// An entry as an object; with `raw`, a command's messages are there as digits too.
#[must_use]
pub fn json(e: &Entry<'_>, overlay: Option<&Overlay>, fields: usize, raw: bool) -> Value {
    let which = if fields == ALL_FIELDS {
        Which::All
    } else {
        Which::Every
    };
    let mut v = match e {
        Entry::Head { profile, program } => {
            json!({"kind": "head", "profile": profile, "program": program})
        }
        Entry::Command(c) => {
            let n = observe::named(&c.seen(), overlay, which);
            let mut v = asked("command", c, &n);
            v["status"] = n.status.into();
            v["syndrome"] = (u32::from(Command::word(&c.outbox, 4)) << 16
                | u32::from(Command::word(&c.outbox, 6)))
            .into();
            v["took_ns"] = c.took().into();
            v["own_ns"] = c.own.into();
            v["out"] = members(&n.output);
            v
        }
        Entry::Unanswered(u) => {
            let c = u.command();
            let mut v = asked("unanswered", &c, &observe::named(&c.seen(), overlay, which));
            v["why"] = u.why.name().into();
            v["held"] = u.why.is_held().into();
            v["waited_ns"] = c.took().into();
            v
        }
        Entry::Event {
            event_type,
            sub_type,
            data,
            lost,
            ..
        } => json!({
            "kind": "event",
            "event": event_name(*event_type),
            "sub_type": sub_type,
            "sub_type_name": eqe::sub_type_name(*event_type, *sub_type),
            "data": dump::hex(data),
            "fields": members(&fields::event(*event_type, data)),
            "lost": lost,
        }),
        Entry::Interrupt { vector, .. } => json!({"kind": "interrupt", "vector": vector}),
        Entry::Segment { offset, data, .. } => {
            json!({
                "kind": "segment",
                "offset": offset,
                "data": dump::hex(data),
                "fields": members(&fields::segment(*offset, data)),
            })
        }
        Entry::Doorbell {
            page, offset, data, ..
        } => json!({
            "kind": "doorbell",
            "page": page,
            "offset": offset,
            "data": dump::hex(data),
            "doorbell": fields::doorbell(*offset, data).map(|d| d.0),
            "fields": members(&fields::doorbell(*offset, data).map_or(Vec::new(), |d| d.1)),
        }),
        Entry::Gateway {
            space,
            address,
            value,
            then,
            ..
        } => {
            let said = |v: u32| fields::word(*space, *address, v).map(|f| members(&f));
            json!({
                "kind": "gateway",
                "space": fields::space(*space),
                "address": address,
                "value": value,
                "fields": said(*value),
                "then": then,
                "then_fields": then.and_then(said),
            })
        }
        Entry::Refused {
            scope,
            delivery,
            header,
            ..
        } => json!({
            "kind": "refused",
            "command": header_name(header, overlay),
            "uid": Command::word(header, 2),
            "scope": scope.map(Scope::name),
            "why": delivery.name(),
            "header": dump::hex(header),
        }),
        Entry::Reset {
            kind, generation, ..
        } => json!({
            "kind": "reset",
            "of": kind.map(ResetKind::name),
            "generation": generation,
        }),
        Entry::Note { text, .. } => json!({"kind": "note", "text": text}),
        Entry::Lost { count } => json!({"kind": "lost", "count": count}),
    };
    if let Value::Object(map) = &mut v {
        if let Some(at) = e.at() {
            map.insert("at_ns".into(), at.into());
        }
        if let Some(f) = e.function() {
            map.insert("function".into(), f.into());
        }
        match e {
            Entry::Command(c) if raw => {
                map.insert("inbox".into(), dump::hex(&c.inbox).into());
                map.insert("outbox".into(), dump::hex(&c.outbox).into());
            }
            Entry::Unanswered(u) if raw => {
                map.insert("inbox".into(), dump::hex(&u.inbox).into());
            }
            _ => {}
        }
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::Delivery;

    #[test]
    fn scopes_refusals_and_resets_have_one_name_in_lines_and_objects() {
        let refused = |scope, delivery| {
            let header = vec![8, 13, 0, 3].into();
            let e = Entry::Refused {
                at: 1,
                function: 1,
                scope,
                delivery,
                header,
            };
            (body(&e, None, 9), json(&e, None, 9, false))
        };
        let scopes = [
            "configuration",
            "debug-read-only",
            "debug-write",
            "debug-write-full",
        ];
        for (scope, name) in Scope::ALL.into_iter().zip(scopes) {
            let (line, object) = refused(Some(scope), Delivery::ScopeDenied);
            let said = "was not executed: scope-denied (its scope does not allow it)";
            assert_eq!(line, format!("f1 NOP of scope {name} {said}"));
            assert_eq!(
                object,
                json!({"kind": "refused", "command": "NOP", "uid": 3, "scope": name,
                       "why": "scope-denied", "header": "080d0003", "at_ns": 1, "function": 1})
            );
        }
        let refusals = [
            "executed",
            "too-short",
            "too-long",
            "scope-denied",
            "bad-uid",
            "busy",
            "reset",
        ];
        for (delivery, name) in Delivery::ALL.into_iter().zip(refusals) {
            let (line, object) = refused(None, delivery);
            let begins = format!("f1 NOP of the driver was not executed: {name} (");
            assert!(line.starts_with(&begins), "{line}");
            let found = (&object["why"], &object["scope"]);
            assert_eq!(found, (&json!(name), &Value::Null));
        }
        let resets = [
            ("flr", "function level reset"),
            ("bus", "bus reset"),
            ("client-gone", "its client has gone"),
            ("firmware", "the firmware starts anew"),
        ];
        for (kind, (name, text)) in ResetKind::ALL.into_iter().zip(resets) {
            let e = Entry::Reset {
                at: 0,
                function: 1,
                kind: Some(kind),
                generation: 2,
            };
            assert_eq!(
                body(&e, None, 9),
                format!("f1 reset: {name} ({text}), generation 2")
            );
            assert_eq!(json(&e, None, 9, false)["of"], name);
        }
        let c = Entry::Command(Command {
            function: 1,
            via: Via::Channel(Some(Scope::DebugWriteFull)),
            submitted: 0,
            completed: 0,
            own: 0,
            delivery: 0,
            inbox: vec![0x08, 0x0d, 0, 3, 0, 0, 0, 0].into(),
            outbox: vec![0; 8].into(),
        });
        assert_eq!(json(&c, None, 9, false)["scope"], "debug-write-full");
    }

    #[test]
    fn every_kind_of_entry_has_a_line_and_an_object() {
        let mut inbox = vec![0; 16];
        (inbox[0], inbox[1], inbox[11]) = (0x01, 0x0b, 1);
        let c = Entry::Command(Command {
            function: 1,
            via: Via::Slot(31),
            submitted: 1_000_000_000,
            completed: 1_002_000_000,
            own: 700,
            delivery: 0,
            inbox: inbox.into(),
            outbox: vec![0; 16].into(),
        });
        assert_eq!(
            text(&c, None, 9),
            "     1.002000000 f1 slot 31 SET_ISSI op_mod=0x0 in=16 out=16 -> OK after 2ms \
             | in: current_issi=0x1"
        );
        let shown = json(&c, None, 9, true);
        assert_eq!(shown["in"], json!({"current_issi": "0x1"}));
        assert_eq!(
            (&shown["own_ns"], &shown["at_ns"]),
            (&json!(700), &json!(1_002_000_000))
        );
        assert_eq!(shown["outbox"], "00".repeat(16));
        let e = Entry::Event {
            at: 5,
            function: 0,
            event_type: 9,
            sub_type: 4,
            data: [&[0; 8][..], &[0x10], &[0; 19]].concat().into(),
            lost: true,
        };
        assert_eq!(
            body(&e, None, 9),
            "f0 event PORT_CHANGE sub_type ACTIVE port_num=0x1: lost, its queue is full"
        );
        let channel = |via| {
            let c = Entry::Command(Command {
                function: 1,
                via,
                submitted: 0,
                completed: 0,
                own: 0,
                delivery: 0,
                inbox: vec![0x08, 0x0d, 0, 3, 0, 0, 0, 0].into(),
                outbox: vec![0; 8].into(),
            });
            body(&c, None, 9)
        };
        let rest = "NOP op_mod=0x0 uid=3 in=8 out=8 -> OK";
        assert_eq!(
            channel(Via::Channel(Some(Scope::DebugReadOnly))),
            format!("f1 channel scope=debug-read-only {rest}")
        );
        assert_eq!(
            channel(Via::Channel(None)),
            format!("f1 channel of the driver {rest}")
        );
        assert_eq!(channel(Via::Gateway), format!("f1 gateway {rest}"));
        let d = Entry::Doorbell {
            at: 0,
            function: 0,
            page: 2,
            offset: 0x40,
            data: vec![1, 2].into(),
        };
        assert_eq!(
            body(&d, None, 9),
            "f0 doorbell page 2 0x40 <- 0102 eq_arm_doorbell: eqn=0x1 consumer_index=0x20000"
        );
    }
}
