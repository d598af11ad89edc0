// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What happens by itself, told to every connection of the control socket.

use std::sync::{
    Arc, Mutex, PoisonError,
    mpsc::{Receiver, SyncSender, sync_channel},
};
use std::time::{SystemTime, UNIX_EPOCH};

use fw_model::{FunctionId, Notice};
use fwctl_proto::segment::health;
use serde_json::{Value, json};

use crate::owner::Told;

/// Events that wait for a connection that does not read; more are not told to it.
pub const MAX_UNREAD: usize = 256;

/// Connections that listen.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Listeners>>);

#[derive(Default)]
struct Listeners {
    all: Vec<(u64, SyncSender<Value>)>,
    // The number of the next one.
    next: u64,
}

/// A connection that listens. Dropping it ends what it is told.
pub struct Listening {
    events: Events,
    number: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.events.lock().all.retain(|l| l.0 != self.number);
    }
}

impl Events {
    /// A new listener, and what it is told.
    pub fn listen(&self) -> (Listening, Receiver<Value>) {
        let (to, from) = sync_channel(MAX_UNREAD);
        let mut listeners = self.lock();
        let number = listeners.next;
        listeners.next += 1;
        listeners.all.push((number, to));
        let events = self.clone();
        (Listening { events, number }, from)
    }

    /// How many listen.
    #[cfg(test)]
    pub fn listeners(&self) -> usize {
        self.lock().all.len()
    }

    /// Tells all listeners.
    pub fn tell(&self, event: &Value) {
        use std::sync::mpsc::TrySendError::Disconnected;
        self.lock()
            .all
            .retain(|l| !matches!(l.1.try_send(event.clone()), Err(Disconnected(_))));
    }

    /// Tells all listeners what has happened to the card.
    pub fn happened(&self, what: Told<'_>) {
        let (name, data) = match what {
            Told::Notice(f, notice) => {
                let (name, mut data) = noticed(notice);
                data["function"] = f.0.into();
                (name, data)
            }
            Told::Reset(f, generation) => (
                "RESET",
                json!({ "function": f.0, "generation": generation }),
            ),
            Told::Health(r) => {
                let known = health::SYNDROMES.iter().find(|s| s.0 == r.syndrome);
                let data = json!({
                    "syndrome": r.syndrome, "name": known.map(|s| s.1), "ext": r.ext_syndrome,
                    "severity": r.severity, "fatal": r.fatal, "cold": r.cold,
                });
                ("HEALTH", data)
            }
            Told::Panic(f) => ("PANIC", json!({ "function": f.map(|f| f.0) })),
        };
        self.event(name, &data);
    }

    /// Tells all listeners that a function's client came or went.
    pub fn client(&self, function: FunctionId, socket: &str, is_there: bool) {
        let name = if is_there {
            "CLIENT_CONNECTED"
        } else {
            "CLIENT_GONE"
        };
        self.event(name, &json!({ "function": function.0, "socket": socket }));
    }

    fn event(&self, name: &str, data: &Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let timestamp = json!({ "seconds": now.as_secs(), "microseconds": now.subsec_micros() });
        self.tell(&json!({ "event": name, "data": data, "timestamp": timestamp }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Listeners> {
        // A listener is added or dropped whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the model has noticed.
fn noticed(notice: &Notice) -> (&'static str, Value) {
    match notice {
        Notice::PagesDamaged(count) => ("PAGES_DAMAGED", json!({ "count": count })),
        Notice::NoImage(bad) => ("NO_IMAGE", json!({ "why": bad.to_string() })),
        Notice::Removal => ("REMOVAL", json!({})),
        Notice::Crash => ("CRASH", json!({})),
        Notice::Stopped(number, opcode) => {
            let name = fwctl_proto::opcode::name(*opcode);
            (
                "STOPPED",
                json!({ "id": number, "opcode": opcode, "command": name }),
            )
        }
    }
}

/// Every event: its name, its data, and when it is told.
pub const EVENTS: &[(&str, &str, &str)] = &[
    (
        "CLIENT_CONNECTED",
        "function, socket",
        "a client has connected to a function's socket",
    ),
    ("CLIENT_GONE", "function, socket", "it has gone"),
    ("CRASH", "function", "a fault ends the emulator"),
    (
        "HEALTH",
        "syndrome, name, ext, severity, fatal, cold",
        "what the firmware reports of its health is another; syndrome 0: nothing is wrong any more",
    ),
    (
        "NO_IMAGE",
        "function, why",
        "the flash has no image to start from",
    ),
    (
        "PAGES_DAMAGED",
        "function, count",
        "pages came back with another content",
    ),
    (
        "PANIC",
        "function",
        "the model has failed; null: all functions are reset",
    ),
    (
        "REMOVAL",
        "function",
        "a fault has pulled the function out of its slot",
    ),
    (
        "RESET",
        "function, generation",
        "the function has begun anew, for whatever reason",
    ),
    (
        "STOPPED",
        "function, id, opcode, command",
        "a breakpoint has stopped a command",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_is_told_no_more_than_the_limit_and_delays_nobody() {
        let all = Events::default();
        let (listening, lazy) = all.listen();
        let (_deaf, gone) = all.listen();
        drop(gone);
        for n in 0..2 * MAX_UNREAD {
            all.tell(&json!(n));
        }
        assert_eq!(all.listeners(), 1, "who is gone is forgotten");
        let told: Vec<_> = lazy.try_iter().collect();
        assert_eq!(told.len(), MAX_UNREAD);
        assert_eq!(told.first(), Some(&json!(0)));
        all.tell(&json!("again"));
        assert_eq!(lazy.try_recv(), Ok(json!("again")));
        drop(listening);
        assert_eq!(all.listeners(), 0);
        assert!(lazy.recv().is_err(), "there is no more");
    }
}
