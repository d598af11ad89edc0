// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Entries as text and as JSON.

use std::{fmt::Write as _, time::Duration};

use fw_model::Overlay;
use fwctl_proto::event;
use serde_json::{Map, Value, json};

use super::{Command, Entry, dump};
use crate::observe::{self, Seen};

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

impl Command {
    /// As the decoder takes it.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            function: self.function,
            slot: self.slot,
            delivery: self.delivery,
            took: Duration::from_nanos(self.took()),
            inbox: &self.inbox,
            outbox: &self.outbox,
        }
    }
}

/// An entry in a line, with its time in seconds, and at most `fields` fields in each direction.
#[must_use]
pub fn text(e: &Entry, overlay: Option<&Overlay>, fields: usize) -> String {
    let mut s = String::new();
    if let Some(at) = e.at() {
        let _ = write!(s, "{:>6}.{:09} ", at / 1_000_000_000, at % 1_000_000_000);
    }
    s + &body(e, overlay, fields)
}

/// An entry without its time.
#[must_use]
pub fn body(e: &Entry, overlay: Option<&Overlay>, fields: usize) -> String {
    match e {
        Entry::Head { profile, program } => format!("profile {profile}, fwctl-emu {program}"),
        Entry::Command(c) => observe::line(&c.seen(), overlay, fields),
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
            let data = short(data);
            format!("f{function} event {name} sub_type {sub_type:#x} data {data}{lost}")
        }
        Entry::Interrupt {
            function, vector, ..
        } => format!("f{function} interrupt {vector}"),
        Entry::Segment {
            function,
            offset,
            data,
            ..
        } => format!("f{function} segment {offset:#x} <- {}", dump::hex(data)),
        Entry::Doorbell {
            function,
            page,
            offset,
            data,
            ..
        } => {
            let data = dump::hex(data);
            format!("f{function} doorbell page {page} {offset:#x} <- {data}")
        }
        Entry::Note { function, text, .. } => match function {
            Some(f) => format!("f{f} {text}"),
            None => format!("card {text}"),
        },
        Entry::Lost { count } => format!("{count} entries are missing here"),
    }
}

fn event_name(n: u8) -> String {
    event::name(n).map_or_else(|| format!("{n:#x}"), str::to_owned)
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

/// An entry as an object; with `raw`, a command's messages are there as digits too.
#[must_use]
pub fn json(e: &Entry, overlay: Option<&Overlay>, raw: bool) -> Value {
    let mut v = match e {
        Entry::Head { profile, program } => {
            json!({"kind": "head", "profile": profile, "program": program})
        }
        Entry::Command(c) => {
            let n = observe::named(&c.seen(), overlay);
            json!({
                "kind": "command",
                "command": n.command,
                "register": n.register,
                "item": n.item,
                "op_mod": Command::word(&c.inbox, 6),
                "uid": c.uid(),
                "slot": c.slot,
                "status": n.status,
                "syndrome": u32::from(Command::word(&c.outbox, 4)) << 16
                    | u32::from(Command::word(&c.outbox, 6)),
                "took_ns": c.took(),
                "own_ns": c.own,
                "in": members(&n.input),
                "out": members(&n.output),
            })
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
            "data": dump::hex(data),
            "lost": lost,
        }),
        Entry::Interrupt { vector, .. } => json!({"kind": "interrupt", "vector": vector}),
        Entry::Segment { offset, data, .. } => {
            json!({"kind": "segment", "offset": offset, "data": dump::hex(data)})
        }
        Entry::Doorbell {
            page, offset, data, ..
        } => json!({
            "kind": "doorbell",
            "page": page,
            "offset": offset,
            "data": dump::hex(data),
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
        if let (true, Entry::Command(c)) = (raw, e) {
            map.insert("inbox".into(), dump::hex(&c.inbox).into());
            map.insert("outbox".into(), dump::hex(&c.outbox).into());
        }
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_has_a_line_and_an_object() {
        let mut inbox = vec![0; 16];
        (inbox[0], inbox[1], inbox[11]) = (0x01, 0x0b, 1);
        let c = Entry::Command(Command {
            function: 1,
            slot: Some(31),
            submitted: 1_000_000_000,
            completed: 1_002_000_000,
            own: 700,
            delivery: 0,
            inbox,
            outbox: vec![0; 16],
        });
        assert_eq!(
            text(&c, None, 9),
            "     1.002000000 f1 slot 31 SET_ISSI op_mod=0x0 in=16 out=16 -> OK after 2ms \
             | in: current_issi=0x1"
        );
        let shown = json(&c, None, true);
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
            data: [&[0; 8][..], &[0x10], &[0; 19]].concat(),
            lost: true,
        };
        assert_eq!(
            body(&e, None, 9),
            "f0 event PORT_CHANGE sub_type 0x4 data 000000000000000010: lost, its queue is full"
        );
        let d = Entry::Doorbell {
            at: 0,
            function: 0,
            page: 2,
            offset: 0x40,
            data: vec![1, 2],
        };
        assert_eq!(body(&d, None, 9), "f0 doorbell page 2 0x40 <- 0102");
    }
}
