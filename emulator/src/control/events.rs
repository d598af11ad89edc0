// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What happens by itself, told to every connection of the control socket.

use std::sync::{
    Arc, Mutex, PoisonError,
    mpsc::{Receiver, SyncSender, sync_channel},
};
use std::time::{SystemTime, UNIX_EPOCH};

use fw_model::{FunctionId, Notice};
use serde_json::{Value, json};

/// Events that wait for a connection that does not read; more are not told to it.
pub const MAX_UNREAD: usize = 256;

/// Connections that listen.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<SyncSender<Value>>>>);

impl Events {
    /// A new listener; it ends with what is returned.
    pub fn listen(&self) -> Receiver<Value> {
        let (to, from) = sync_channel(MAX_UNREAD);
        self.lock().push(to);
        from
    }

    /// Tells all listeners.
    pub fn tell(&self, event: &Value) {
        use std::sync::mpsc::TrySendError::Disconnected;
        self.lock()
            .retain(|l| !matches!(l.try_send(event.clone()), Err(Disconnected(_))));
    }

    /// Tells all listeners what the model has noticed.
    pub fn notice(&self, function: FunctionId, notice: &Notice) {
        let (name, mut data) = match notice {
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
        };
        data["function"] = function.0.into();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let timestamp = json!({ "seconds": now.as_secs(), "microseconds": now.subsec_micros() });
        self.tell(&json!({ "event": name, "data": data, "timestamp": timestamp }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SyncSender<Value>>> {
        // A listener is added or dropped whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_is_told_no_more_than_the_limit_and_delays_nobody() {
        let all = Events::default();
        let (lazy, gone) = (all.listen(), all.listen());
        drop(gone);
        for n in 0..2 * MAX_UNREAD {
            all.tell(&json!(n));
        }
        assert_eq!(all.lock().len(), 1, "who is gone is forgotten");
        let told: Vec<_> = lazy.try_iter().collect();
        assert_eq!(told.len(), MAX_UNREAD);
        assert_eq!(told.first(), Some(&json!(0)));
        all.tell(&json!("again"));
        assert_eq!(lazy.try_recv(), Ok(json!("again")));
    }
}
