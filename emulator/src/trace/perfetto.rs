// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A trace for ui.perfetto.dev: the JSON trace event format, a process for each function and a thread
//! for each slot.

use fw_model::Overlay;
use serde_json::{Value, json};

use super::{Entry, Unanswered, show};
use crate::{decode::Which, observe};

/// Threads of what has no slot.
const CHANNEL: u64 = 100;
const EVENTS: u64 = 101;

/// Microseconds.
#[allow(clippy::cast_precision_loss)]
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

/// An entry as an event; none for interrupts and for writes to registers.
#[must_use]
pub fn event(e: &Entry<'_>, overlay: Option<&Overlay>) -> Option<Value> {
    let function = e.function().unwrap_or(0);
    match e {
        Entry::Command(c) => {
            let n = observe::named(&c.seen(), overlay, Which::Set);
            let name = match &n.register {
                Some(r) => format!("{} {r}", n.command),
                None => n.command.clone(),
            };
            Some(json!({
                "name": name, "ph": "X", "pid": function,
                "tid": c.via.slot().map_or(CHANNEL, u64::from),
                "ts": us(c.submitted),
                // What takes no time is seen as well.
                "dur": us(c.took().max(1)),
                "args": {"status": n.status, "uid": c.uid(), "own_ns": c.own,
                         "in": n.input, "out": n.output},
            }))
        }
        Entry::Event { at, .. }
        | Entry::Reset { at, .. }
        | Entry::Refused { at, .. }
        | Entry::Unanswered(Unanswered { at, .. })
        | Entry::Note { at, .. } => Some(json!({
            "name": show::body(e, overlay, 0), "ph": "i", "s": "p",
            "pid": function, "tid": EVENTS, "ts": us(*at),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Command, Via};

    #[test]
    fn a_command_is_a_slice_of_its_slot() {
        let c = Entry::Command(Command {
            function: 1,
            via: Via::Slot(4),
            submitted: 2_000,
            completed: 5_500,
            own: 9,
            delivery: 0,
            inbox: [&[0x08, 0x0d][..], &[0; 14]].concat().into(),
            outbox: vec![0; 16].into(),
        });
        let v = event(&c, None).unwrap();
        assert_eq!(
            (
                &v["name"], &v["ph"], &v["pid"], &v["tid"], &v["ts"], &v["dur"]
            ),
            (
                &json!("NOP"),
                &json!("X"),
                &json!(1),
                &json!(4),
                &json!(2.0),
                &json!(3.5)
            )
        );
        assert_eq!(event(&Entry::Lost { count: 1 }, None), None);
    }
}
