// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands as text: one line per command, its fields by name.

use std::fmt::Write;

use fw_model::{Effects, Observed, syndrome::Syndrome};
use fwctl_proto::{
    cmdif::DeliveryStatus,
    layout::{self, get_bits},
    opcode, register,
    status::Status,
};

use crate::decode::{self, Message};

/// Fields shown per direction; more are counted.
const MAX_FIELDS: usize = 12;

/// Logs one command at level info, target `command`.
pub fn log(o: &Observed, fx: &Effects) {
    if log::log_enabled!(target: "command", log::Level::Info) {
        log::info!(target: "command", "{}", line(o, fx.bytes(o.inbox), fx.bytes(o.outbox)));
    }
}

/// One command in one line: function, slot, opcode, status, time, fields that are not zero.
#[must_use]
pub fn line(o: &Observed, inbox: &[u8], outbox: &[u8]) -> String {
    let op = get_bits(inbox, 0, 16) as u16;
    let uid = get_bits(inbox, 16, 16);
    let op_mod = get_bits(inbox, 48, 16);
    let name = opcode::name(op).map_or_else(|| format!("{op:#06x}"), str::to_owned);
    let mut s = format!("f{} ", o.function.0);
    if let Some(slot) = o.slot {
        let _ = write!(s, "slot {slot} ");
    }
    let _ = write!(s, "{name}");
    if name == "ACCESS_REG" {
        let id = get_bits(inbox, 0x50, 16) as u16;
        let reg = register::name(id).map_or_else(|| format!("{id:#06x}"), str::to_owned);
        let _ = write!(s, " {reg} {}", if op_mod == 0 { "write" } else { "read" });
    }
    let _ = write!(s, " op_mod={op_mod:#x}");
    if uid != 0 {
        let _ = write!(s, " uid={uid}");
    }
    let _ = write!(s, " in={} out={} -> ", inbox.len(), outbox.len());
    if o.delivery != 0 {
        let _ = write!(
            s,
            "not delivered: {}",
            DeliveryStatus::from_code(o.delivery).map_or("?", DeliveryStatus::name)
        );
        return s;
    }
    let status = outbox.first().copied().unwrap_or(0);
    match Status::from_code(status) {
        Some(known) => s.push_str(known.name()),
        None => drop(write!(s, "status {status:#x}")),
    }
    if status != 0 {
        let code = get_bits(outbox, 32, 32) as u32;
        let _ = write!(s, " syndrome {code:#x}");
        if let Some(known) = Syndrome::from_code(code) {
            let _ = write!(s, ": {}", known.text());
        }
    }
    let took = o.completed.since(o.submitted);
    if !took.is_zero() {
        let _ = write!(s, " after {took:?}");
    }
    if let Some(c) = layout::command(op) {
        let input = Message {
            layout: c.input,
            bytes: inbox,
        };
        show(&mut s, " | in", &decode::fields(input, None));
        if status == 0 {
            let output = Message {
                layout: c.output,
                bytes: outbox,
            };
            show(&mut s, " | out", &decode::fields(output, Some(input)));
        }
    }
    s
}

fn show(s: &mut String, title: &str, fields: &[String]) {
    let Some(shown) = fields
        .get(..fields.len().min(MAX_FIELDS))
        .filter(|f| !f.is_empty())
    else {
        return;
    };
    let _ = write!(s, "{title}: {}", shown.join(" "));
    if fields.len() > shown.len() {
        let _ = write!(s, " and {} more", fields.len() - shown.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::{FunctionId, Time};

    fn observed(delivery: u8) -> Observed {
        let mut fx = Effects::new();
        let none = fx.store(&[]);
        Observed {
            function: FunctionId(0),
            slot: Some(3),
            submitted: Time(0),
            completed: Time(0),
            delivery,
            inbox: none,
            outbox: none,
        }
    }

    #[test]
    fn a_command_reads_as_its_fields() {
        let mut inbox = [0u8; 16];
        inbox[..2].copy_from_slice(&[0x01, 0x0b]);
        inbox[11] = 1;
        assert_eq!(
            line(&observed(0), &inbox, &[0; 16]),
            "f0 slot 3 SET_ISSI op_mod=0x0 in=16 out=16 -> OK | in: current_issi=0x1"
        );
    }

    #[test]
    fn a_refusal_says_which_check_gave_it() {
        let mut inbox = [0u8; 16];
        inbox[..4].copy_from_slice(&[0x08, 0x0d, 0, 9]);
        let mut out = [0u8; 16];
        out[0] = 5;
        out[4..8].copy_from_slice(&0x00e0_0007u32.to_be_bytes());
        assert_eq!(
            line(&observed(0), &inbox, &out),
            "f0 slot 3 NOP op_mod=0x0 uid=9 in=16 out=16 -> BAD_RES syndrome 0xe00007: \
             The uid in the header is not a user context of this function."
        );
        assert!(line(&observed(2), &inbox, &[]).ends_with("-> not delivered: TOK_ERR"));
        assert!(line(&observed(0), &[], &[]).starts_with("f0 slot 3 0x0000 "));
    }
}
