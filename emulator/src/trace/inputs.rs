// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Inputs of a card as entries of a trace.

use std::time::Duration;

use fw_model::{Bits, Caller, Delivery, Input, ResetKind, Time, profile, reg};
use fwctl_proto::{
    cap_type, event,
    layout::{LayoutInfo, get_bits},
    mst, opcode,
    segment::health,
};

use super::{Entry, dump::hex, fields};
use crate::list::register_name;

/// The entry of an input; none for what is told when it has happened: commands, the gateway's words,
/// resets.
#[must_use]
pub fn entry<'a>(input: &Input<'a>, now: Time) -> Option<Entry<'a>> {
    let at = now.0;
    Some(match input {
        Input::SegmentWrite {
            function,
            offset,
            data,
        } => Entry::Segment {
            at,
            function: function.0,
            offset: *offset,
            data: (*data).into(),
        },
        Input::UarWrite {
            function,
            uar,
            offset,
            data,
        } => Entry::Doorbell {
            at,
            function: function.0,
            page: *uar,
            offset: *offset,
            data: (*data).into(),
        },
        Input::PageDemand { .. }
        | Input::Event { .. }
        | Input::SetCap { .. }
        | Input::SetRegister { .. }
        | Input::Link { .. }
        | Input::Fault(_)
        | Input::Delay { .. }
        | Input::ClearFaults(_)
        | Input::Amend { .. }
        | Input::Continue(_)
        | Input::Health(_)
        | Input::Temperature { .. }
        | Input::Hang(_)
        | Input::Start { .. }
        | Input::FirmwareReset
        | Input::PowerCycle => Entry::Note {
            at,
            function: input.function().map(|f| f.0),
            text: words(input),
        },
        Input::Command { .. }
        | Input::Gateway { .. }
        | Input::Reset { .. }
        | Input::Committed { .. } => return None,
    })
}

/// The field that lies at a bit of a layout, or where it lies.
fn field(l: Option<&'static LayoutInfo>, bits: &Bits) -> String {
    let leaves = l.map(LayoutInfo::leaves).unwrap_or_default();
    let found = leaves.into_iter().find(|p| p.offset == bits.offset);
    found.map_or_else(
        || format!("bits {:#x} to {:#x}", bits.offset, bits.offset + bits.width),
        |p| p.path,
    )
}

fn or_number(name: Option<&str>, n: u16) -> String {
    name.map_or_else(|| format!("{n:#x}"), str::to_owned)
}

/// An event by its names, with the fields of its data that are not zero.
#[must_use]
pub fn event_text(event_type: u8, sub_type: u8, data: &[u8]) -> String {
    let name = or_number(event::name(event_type), event_type.into());
    let known = fields::event(event_type, data).join(" ");
    let sub_type = fields::sub_type(event_type, sub_type);
    let text = format!("event {name} sub_type {sub_type} {known}");
    text.trim_end().to_owned()
}

/// An input in words, without its function.
#[must_use]
pub fn words(input: &Input<'_>) -> String {
    match input {
        Input::SegmentWrite { offset, data, .. } => {
            format!(
                "{} is written at {offset:#x} of the initialization segment",
                hex(data)
            )
        }
        Input::UarWrite {
            uar, offset, data, ..
        } => {
            format!("{} is written at {offset:#x} of UAR page {uar}", hex(data))
        }
        Input::Command {
            tag, caller, inbox, ..
        } => {
            let name = opcode::name(get_bits(inbox, 0, 16) as u16);
            let name = or_number(name, get_bits(inbox, 0, 16) as u16);
            let who = match caller {
                Caller::Driver => "the driver".to_owned(),
                Caller::User { scope, uid } => {
                    format!("user context {uid}, scope {}", scope.name())
                }
            };
            format!("request {tag} of {who}: {name}")
        }
        Input::Reset { kind, .. } => format!("reset: {}", reset_text(*kind)),
        Input::Committed { token, stored } => {
            let how = if *stored { "stored" } else { "not stored" };
            format!("batch {} is {how}", token.0)
        }
        Input::PageDemand { count, .. } => match count {
            0.. => format!("the firmware asks for {count} pages"),
            _ => format!("the firmware gives {} pages back", count.unsigned_abs()),
        },
        Input::Delay { opcode, nanos } => {
            let name = or_number(opcode::name(*opcode), *opcode);
            match nanos {
                0 => format!("answers to {name} come at once again"),
                n => format!(
                    "answers to {name} come {:?} later",
                    Duration::from_nanos(*n)
                ),
            }
        }
        Input::Fault(f) => format!("fault: {}", f.text),
        Input::ClearFaults(Some(id)) => format!("fault {id} is forgotten"),
        Input::ClearFaults(None) => "all faults are forgotten".into(),
        Input::Amend {
            stopped,
            offset,
            width,
            value,
        } => format!(
            "bits {offset:#x} to {:#x} of the answer of stopped command {stopped} become {value:#x}",
            offset + width
        ),
        Input::Continue(Some(id)) => format!("stopped command {id} is answered"),
        Input::Continue(None) => "all stopped commands are answered".into(),
        Input::Event {
            event_type,
            sub_type,
            data,
            ..
        } => format!(
            "the operator raises {}",
            event_text(*event_type, *sub_type, data)
        ),
        Input::Gateway { at, value, .. } => format!(
            "{value:#010x} is written at {:#x} of space {} behind the gateway",
            at.address,
            fields::space(at.space)
        ),
        Input::Link { up, .. } => {
            format!("the cable is {}", if *up { "plugged" } else { "pulled" })
        }
        Input::Temperature { eighths } => {
            format!("the chip has {} degrees Celsius", f64::from(*eighths) / 8.0)
        }
        Input::Health(r) if r.syndrome == 0 => "the firmware finds nothing wrong any more".into(),
        Input::Health(r) => {
            let known = health::SYNDROMES
                .iter()
                .find(|s| s.0 == r.syndrome)
                .map(|s| s.1);
            let name = or_number(known, r.syndrome.into());
            let wants = [
                (r.fatal, ", asks for a reset"),
                (r.cold, ", asks for a power cycle"),
            ];
            let wants: String = wants.iter().filter(|w| w.0).map(|w| w.1).collect();
            format!(
                "the firmware reports {name}, extended {:#x}, severity {}{wants}",
                r.ext_syndrome, r.severity
            )
        }
        Input::Hang(true) => "the firmware hangs".into(),
        Input::Hang(false) => "the firmware hangs no more".into(),
        Input::Start { nanos } => format!(
            "the firmware starts, for {:?}",
            Duration::from_nanos(*nanos)
        ),
        Input::PowerCycle => "the power goes off and on".into(),
        Input::FirmwareReset => "the firmware resets itself".into(),
        Input::SetCap { cap_type, bits, .. } => {
            let known = cap_type::ALL.iter().find(|c| c.0 == *cap_type);
            let name = known.map_or_else(|| format!("{cap_type:#x}"), |c| c.1.to_ascii_lowercase());
            let layout = profile::cap_layout(&name).ok().map(|c| c.1);
            format!(
                "the operator sets capability {name}.{} to {:#x}",
                field(layout, bits),
                bits.value
            )
        }
        Input::SetRegister { register, bits, .. } => {
            let layout = reg::find(*register).and_then(|r| r.layout);
            let layout = layout.or_else(|| mst::find(*register).map(|r| r.layout));
            let name = or_number(register_name(*register), *register);
            format!(
                "the operator sets register {name}.{} to {:#x}",
                field(layout, bits),
                bits.value
            )
        }
    }
}

/// Why a command of a channel was not executed.
#[must_use]
pub fn delivery_text(d: Delivery) -> &'static str {
    match d {
        Delivery::Executed => "it was executed",
        Delivery::TooShort => "inbox or outbox is too short",
        Delivery::TooLong => "inbox or outbox is too long",
        Delivery::ScopeDenied => "its scope does not allow it",
        Delivery::BadUid => "there is no such user context",
        Delivery::Busy => "too many commands are in flight",
        Delivery::Reset => "the function was reset",
    }
}

/// What a reset is.
#[must_use]
pub fn reset_text(k: ResetKind) -> &'static str {
    match k {
        ResetKind::Flr => "function level reset",
        ResetKind::Bus => "bus reset",
        ResetKind::ClientGone => "its client has gone",
        ResetKind::Firmware => "the firmware starts anew",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::{FunctionId, Report, fault::Fault};

    #[test]
    fn what_the_operator_does_is_told_in_words() {
        let function = FunctionId(1);
        let mut data = [0; 28];
        data[8] = 0x10;
        let link_event = Input::Event {
            function,
            event_type: 9,
            sub_type: 4,
            data,
        };
        let fault = Fault::parse("any : lost").unwrap();
        let reports = Report {
            syndrome: 1,
            severity: 3,
            fatal: true,
            ..Report::default()
        };
        // log_max_qp of cmd_hca_cap: bits 0x9b to 0xa0. admin_status of PAOS: bits 0x14 to 0x18 (paos_reg).
        let log_max_qp = Bits {
            offset: 0x9b,
            width: 5,
            value: 3,
        };
        let admin_status = Bits {
            offset: 0x14,
            width: 4,
            value: 1,
        };
        for (input, said) in [
            (
                Input::PageDemand { function, count: 5 },
                "f1 the firmware asks for 5 pages",
            ),
            (
                Input::PageDemand {
                    function,
                    count: -5,
                },
                "f1 the firmware gives 5 pages back",
            ),
            (
                Input::Delay {
                    opcode: 0x80d,
                    nanos: 2_000_000,
                },
                "card answers to NOP come 2ms later",
            ),
            (
                Input::Delay {
                    opcode: 0x80d,
                    nanos: 0,
                },
                "card answers to NOP come at once again",
            ),
            (Input::Fault(&fault), "card fault: any : lost : times=1"),
            (Input::ClearFaults(None), "card all faults are forgotten"),
            (Input::ClearFaults(Some(3)), "card fault 3 is forgotten"),
            (
                Input::Amend {
                    stopped: 2,
                    offset: 0x50,
                    width: 16,
                    value: 7,
                },
                "card bits 0x50 to 0x60 of the answer of stopped command 2 become 0x7",
            ),
            (
                Input::Continue(None),
                "card all stopped commands are answered",
            ),
            (
                Input::Continue(Some(2)),
                "card stopped command 2 is answered",
            ),
            (
                link_event,
                "f1 the operator raises event PORT_CHANGE sub_type ACTIVE port_num=0x1",
            ),
            (
                Input::Link {
                    function,
                    up: false,
                },
                "f1 the cable is pulled",
            ),
            (
                Input::Temperature { eighths: 340 },
                "card the chip has 42.5 degrees Celsius",
            ),
            (
                Input::Health(reports),
                "card the firmware reports FW_INTERNAL_ERR, extended 0x0, severity 3, asks for a reset",
            ),
            (
                Input::Health(Report::default()),
                "card the firmware finds nothing wrong any more",
            ),
            (Input::Hang(true), "card the firmware hangs"),
            (
                Input::Start {
                    nanos: 5_000_000_000,
                },
                "card the firmware starts, for 5s",
            ),
            (Input::PowerCycle, "card the power goes off and on"),
            (Input::FirmwareReset, "card the firmware resets itself"),
            (
                Input::SetCap {
                    function,
                    cap_type: 0,
                    bits: log_max_qp,
                },
                "f1 the operator sets capability general.log_max_qp to 0x3",
            ),
            (
                Input::SetRegister {
                    function,
                    register: 0x5006,
                    given: &[],
                    bits: admin_status,
                },
                "f1 the operator sets register PAOS.admin_status to 0x1",
            ),
        ] {
            let entry = entry(&input, Time(0)).unwrap();
            assert_eq!(crate::trace::show::body(&entry, None, 9), said);
        }
    }
}
