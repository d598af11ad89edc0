// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands as text: one line per command, its fields by name.

use std::{fmt::Write, time::Duration};

use fw_model::{
    Effects, Observed, Overlay, Time, Unanswered, Why, fault::Target, reg, syndrome::Syndrome,
};
use fwctl_proto::{
    cmdif::DeliveryStatus,
    layout::{self, Layout as _, LayoutInfo, get_bits, set_bits},
    layouts::MnvdaReg,
    mst::{self, nv, nv::Type},
    opcode, register,
    status::Status,
};

use crate::{
    decode::{self, Message, Which},
    list::register_name,
};

/// Where a register lies in ACCESS_REG.
const REGISTER: usize = 16;
/// Where MNVDA has an item's type word and its data.
const ITEM_TYPE: usize = REGISTER + 4;
const ITEM_DATA: usize = REGISTER + 12;
/// Fields shown per direction; more are counted.
pub const MAX_FIELDS: usize = 12;
/// As many fields as there are, also those that are zero.
pub const ALL_FIELDS: usize = usize::MAX;

/// Logs one command at level info, target `command`. What an overlay adds is decoded as well.
pub fn log(o: &Observed, fx: &Effects, overlay: Option<&Overlay>) {
    if log::log_enabled!(target: "command", log::Level::Info) {
        let text = line(&Seen::of(o, fx), overlay, MAX_FIELDS);
        log::info!(target: "command", "{text}");
    }
}

/// Logs a command that has no answer, in the same way.
#[cold]
pub fn log_unanswered(u: &Unanswered, fx: &Effects, now: Time, overlay: Option<&Overlay>) {
    if log::log_enabled!(target: "command", log::Level::Info) {
        let seen = Seen {
            function: u.function.0,
            slot: u.slot,
            took: now.since(u.submitted),
            ..Seen::lone(fx.bytes(u.inbox), &[])
        };
        let text = unanswered(&seen, u.why, overlay, MAX_FIELDS);
        log::info!(target: "command", "{text}");
    }
}

/// A command and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The function.
    pub function: u8,
    /// Slot in the command queue, if it came that way.
    pub slot: Option<u8>,
    /// `delivery status` of the command entry.
    pub delivery: u8,
    /// How long it took.
    pub took: Duration,
    /// The inbox.
    pub inbox: &'a [u8],
    /// The outbox.
    pub outbox: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Messages of which nothing else is known: as if delivered at once to function 0, and from no slot.
    #[must_use]
    pub fn lone(inbox: &'a [u8], outbox: &'a [u8]) -> Self {
        Self {
            function: 0,
            slot: None,
            delivery: 0,
            took: Duration::ZERO,
            inbox,
            outbox,
        }
    }

    fn of(o: &Observed, fx: &'a Effects) -> Self {
        Self {
            function: o.function.0,
            slot: o.slot,
            delivery: o.delivery,
            took: o.completed.since(o.submitted),
            inbox: fx.bytes(o.inbox),
            outbox: fx.bytes(o.outbox),
        }
    }

    fn opcode(&self) -> u16 {
        get_bits(self.inbox, 0, 16) as u16
    }

    fn op_mod(&self) -> u16 {
        get_bits(self.inbox, 48, 16) as u16
    }

    fn status(&self) -> u8 {
        self.outbox.first().copied().unwrap_or(0)
    }
}

/// A command by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The opcode's name, or its number.
    pub command: String,
    /// The register's name, or its number, of ACCESS_REG.
    pub register: Option<String>,
    /// The configuration item of MNVDA.
    pub item: Option<&'static str>,
    /// The status' name, or why it was not delivered.
    pub status: String,
    /// Fields of the inbox as `name=value`.
    pub input: Vec<String>,
    /// Fields of the outbox, of a command that succeeded.
    pub output: Vec<String>,
}

/// A command by its names; what an overlay adds is decoded as well.
#[must_use]
pub fn named(seen: &Seen<'_>, overlay: Option<&Overlay>, which: Which) -> Named {
    let (op, inbox) = (seen.opcode(), seen.inbox);
    let added = overlay.and_then(|v| v.command(op));
    let name = added.map(|c| c.name).or_else(|| opcode::name(op));
    let mut named = Named {
        command: name.map_or_else(|| format!("{op:#06x}"), str::to_owned),
        register: None,
        item: None,
        status: status(seen),
        input: Vec::new(),
        output: Vec::new(),
    };
    if op == opcode::ACCESS_REG {
        let id = get_bits(inbox, 0x50, 16) as u16;
        let added = overlay.and_then(|v| v.register(id));
        let reg = added.map(|r| r.name).or_else(|| register_name(id));
        named.register = Some(reg.map_or_else(|| format!("{id:#06x}"), str::to_owned));
        named.item = item(inbox).map(|i| i.layout.name);
    }
    if seen.delivery == 0 {
        let list = |parts: &[Part<'_>]| {
            let all = parts.iter();
            all.flat_map(|m| decode::fields(m.message, m.inbox, which))
                .collect()
        };
        let [input, output] = messages(seen, overlay);
        named.input = list(&input);
        if seen.status() == 0 {
            named.output = list(&output);
        }
    }
    named
}

/// What is in the messages of a command besides the fields that [`named`] tells, all else zero: bits that no
/// layout names, the whole outbox of a refused command, and all if there is no layout.
#[must_use]
pub fn unnamed(seen: &Seen<'_>, overlay: Option<&Overlay>) -> [Vec<u8>; 2] {
    let [input, output] = messages(seen, overlay);
    let output = if seen.status() == 0 { output } else { vec![] };
    let rest = |bytes: &[u8], parts: &[Part<'_>], header: &[(u32, u32)]| {
        let mut left = bytes.to_vec();
        for (at, width) in header {
            set_bits(&mut left, *at, *width, 0);
        }
        for p in parts {
            let left = left.get_mut(p.at..).unwrap_or_default();
            decode::clear(p.message, p.inbox, left);
        }
        left
    };
    [
        // opcode, uid and op_mod; status and syndrome.
        rest(seen.inbox, &input, &[(0, 16), (16, 16), (48, 16)]),
        rest(seen.outbox, &output, &[(0, 8), (32, 32)]),
    ]
}

/// The configuration item that an ACCESS_REG of MNVDA is about.
fn item(inbox: &[u8]) -> Option<&'static nv::Item> {
    let word = || get_bits(inbox, ITEM_TYPE as u32 * 8, 32) as u32;
    let mnvda = get_bits(inbox, 0, 16) as u16 == opcode::ACCESS_REG
        && get_bits(inbox, 0x50, 16) as u16 == register::MNVDA;
    mnvda.then(|| Type::of(word()).item()).flatten()
}

/// A part of a message that is decoded, and the inbox that says what an outbox holds.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The message, or the register or configuration item in it.
    pub message: Message<'a>,
    /// The whole inbox.
    pub inbox: Option<Message<'a>>,
    /// Where it begins in the whole message, in bytes.
    at: usize,
}

/// What is decoded of a command's inbox and outbox, what matters most first; nothing if no layout is known.
#[must_use]
pub fn messages<'a>(seen: &Seen<'a>, overlay: Option<&Overlay>) -> [Vec<Part<'a>>; 2] {
    let (op, inbox) = (seen.opcode(), seen.inbox);
    let added = overlay.and_then(|v| v.command(op));
    let known = layout::command(op);
    let whole = added
        .map(|c| [c.input, c.output])
        .or_else(|| known.map(|c| [c.input, c.output]));
    // What lies behind the command's header, and where, from the inside out.
    let mut inner: Vec<(&'static LayoutInfo, usize)> = Vec::new();
    if op == opcode::ACCESS_REG {
        let id = get_bits(inbox, 0x50, 16) as u16;
        let added = overlay.and_then(|v| v.register(id));
        // What the kernel's header knows, its command's layout shows.
        let store = mst::find(id).filter(|_| reg::find(id).is_none_or(|r| r.layout.is_none()));
        let layout = added.map(|r| r.layout).or(store.map(|r| r.layout));
        if let Some(item) = item(inbox) {
            inner = vec![(item.layout, ITEM_DATA), (MnvdaReg::INFO, REGISTER)];
        } else if let Some(l) = layout {
            inner = vec![(l, REGISTER)];
        }
    }
    let parts = |side: usize, bytes: &'a [u8]| {
        let mut all = Vec::new();
        // Each part ends where the one within it begins.
        let mut end = bytes.len();
        for (layout, at) in &inner {
            let bytes = bytes.get(*at..end).unwrap_or_default();
            let message = Message { layout, bytes };
            let (inbox, at) = (None, *at);
            all.push(Part { message, inbox, at });
            end = end.min(at);
        }
        if let Some(both) = whole {
            let (layout, bytes) = (both[side], bytes.get(..end).unwrap_or_default());
            let message = Message { layout, bytes };
            let input = Message {
                layout: both[0],
                bytes: inbox,
            };
            let (inbox, at) = (Some(input), 0);
            all.push(Part { message, inbox, at });
        }
        all
    };
    [parts(0, inbox), parts(1, seen.outbox)]
}

/// The field of the outbox with this path, as [`named`] writes it.
#[must_use]
pub fn answer_field(seen: &Seen<'_>, overlay: Option<&Overlay>, path: &str) -> Option<Target> {
    let [_, output] = messages(seen, overlay);
    output.iter().find_map(|m| {
        let (field, _, at) = decode::find(m.message, m.inbox, path)?;
        Some(Target {
            offset: m.at as u32 * 8 + at,
            width: field.width,
            field,
        })
    })
}

fn status(seen: &Seen<'_>) -> String {
    if seen.delivery != 0 {
        let known = DeliveryStatus::from_code(seen.delivery);
        return format!("not delivered: {}", known.map_or("?", DeliveryStatus::name));
    }
    let status = seen.status();
    match Status::from_code(status) {
        Some(known) => known.name().into(),
        None => format!("status {status:#x}"),
    }
}

/// What was asked, up to the length of the inbox; and the command by its names.
fn asked(seen: &Seen<'_>, overlay: Option<&Overlay>, max: usize) -> (String, Named) {
    let which = if max == ALL_FIELDS {
        Which::All
    } else {
        Which::Set
    };
    let n = named(seen, overlay, which);
    let (uid, op_mod) = (get_bits(seen.inbox, 16, 16), seen.op_mod());
    let mut s = format!("f{} ", seen.function);
    if let Some(slot) = seen.slot {
        let _ = write!(s, "slot {slot} ");
    }
    let _ = write!(s, "{}", n.command);
    if let Some(register) = &n.register {
        let item = n.item.map_or(String::new(), |i| format!(" {i}"));
        let what = if op_mod == 0 { "write" } else { "read" };
        let _ = write!(s, " {register}{item} {what}");
    }
    let _ = write!(s, " op_mod={op_mod:#x}");
    if uid != 0 {
        let _ = write!(s, " uid={uid}");
    }
    let _ = write!(s, " in={}", seen.inbox.len());
    (s, n)
}

/// Why a command has no answer, in words.
#[must_use]
pub fn outcome(why: Why) -> String {
    let what = if why.is_held() { "held" } else { "unanswered" };
    format!("{what}: {} ({})", why.name(), why.text())
}

/// A command without an answer, in one line as [`line`].
#[must_use]
pub fn unanswered(seen: &Seen<'_>, why: Why, overlay: Option<&Overlay>, max: usize) -> String {
    let (mut s, n) = asked(seen, overlay, max);
    let _ = write!(s, " -> {}", outcome(why));
    if !seen.took.is_zero() {
        let _ = write!(s, " after {:?}", seen.took);
    }
    show(&mut s, " | in", &n.input, max);
    s
}

/// The syndrome of a command that was refused, with what it means.
#[must_use]
pub fn syndrome(seen: &Seen<'_>) -> Option<String> {
    if seen.status() == 0 {
        return None;
    }
    let code = get_bits(seen.outbox, 32, 32) as u32;
    Some(match Syndrome::from_code(code) {
        Some(known) => format!("{code:#x}: {}", known.text()),
        None => format!("{code:#x}"),
    })
}

/// One command in one line: function, slot, opcode, status, time, fields that are not zero, at most
/// `max` of them in each direction; with [`ALL_FIELDS`] those that are zero too.
#[must_use]
pub fn line(seen: &Seen<'_>, overlay: Option<&Overlay>, max: usize) -> String {
    let (mut s, n) = asked(seen, overlay, max);
    let _ = write!(s, " out={} -> {}", seen.outbox.len(), n.status);
    if seen.delivery != 0 {
        return s;
    }
    if let Some(why) = syndrome(seen) {
        let _ = write!(s, " syndrome {why}");
    }
    if !seen.took.is_zero() {
        let _ = write!(s, " after {:?}", seen.took);
    }
    show(&mut s, " | in", &n.input, max);
    show(&mut s, " | out", &n.output, max);
    s
}

fn show(s: &mut String, title: &str, fields: &[String], max: usize) {
    let Some(shown) = fields
        .get(..fields.len().min(max))
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

    fn line(delivery: u8, inbox: &[u8], outbox: &[u8], overlay: Option<&Overlay>) -> String {
        let seen = Seen {
            slot: Some(3),
            delivery,
            ..Seen::lone(inbox, outbox)
        };
        super::line(&seen, overlay, MAX_FIELDS)
    }

    #[test]
    fn a_command_reads_as_its_fields() {
        let mut inbox = [0u8; 16];
        inbox[..2].copy_from_slice(&[0x01, 0x0b]);
        inbox[11] = 1;
        assert_eq!(
            line(0, &inbox, &[0; 16], None),
            "f0 slot 3 SET_ISSI op_mod=0x0 in=16 out=16 -> OK | in: current_issi=0x1"
        );
    }

    #[test]
    fn all_fields_are_those_that_are_zero_too() {
        let inbox = [0x01, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let seen = Seen::lone(&inbox, &[0; 16]);
        let shown = |most| super::line(&seen, None, most);
        assert!(shown(ALL_FIELDS).ends_with("| in: current_issi=0x0"));
        assert!(shown(MAX_FIELDS).ends_with("-> OK"));
    }

    #[test]
    fn what_an_overlay_adds_reads_as_built_in() {
        let text = include_str!("../examples/widget.toml");
        let overlay = Overlay::parse(text, "widget.toml").unwrap();
        let mut inbox = [0u8; 16];
        (inbox[0], inbox[1], inbox[11]) = (0x0b, 0xf0, 7);
        let mut out = [0u8; 32];
        (out[19], out[24]) = (7, 2);
        assert_eq!(
            line(0, &inbox, &out, Some(&*overlay)),
            "f0 slot 3 QUERY_WIDGET op_mod=0x0 in=16 out=32 -> OK | in: widget_id=0x7 \
             | out: widget_id=0x7 state=0x2"
        );
        let mut inbox = [0u8; 24];
        (inbox[0], inbox[1], inbox[7]) = (0x08, 0x05, 1);
        (inbox[10], inbox[11]) = (0x90, 0xf0);
        let mut out = [0u8; 24];
        (out[16], out[17]) = (1, 7);
        assert_eq!(
            line(0, &inbox, &out, Some(&*overlay)),
            "f0 slot 3 ACCESS_REG MWDG read op_mod=0x1 in=24 out=24 -> OK \
             | in: register_id=0x90f0 | out: speed=0x1 most=0x7"
        );
    }

    #[test]
    fn a_register_of_the_tools_reads_by_their_names() {
        let mut inbox = [0u8; 24];
        (inbox[0], inbox[1]) = (0x08, 0x05);
        (inbox[10], inbox[11]) = (0x50, 0x17);
        inbox[17] = 1;
        assert_eq!(
            line(0, &inbox, &[0; 24], None),
            "f0 slot 3 ACCESS_REG PIPG write op_mod=0x0 in=24 out=24 -> OK | in: local_port=0x1 \
             register_id=0x5017"
        );
    }

    #[test]
    fn a_configuration_item_reads_by_its_parameters() {
        let mut inbox = [0u8; 40];
        (inbox[0], inbox[1]) = (0x08, 0x05);
        (inbox[10], inbox[11]) = (0x90, 0x24);
        inbox[23] = 0x80;
        // Bits 31 and 15:0 of dword 1.
        (inbox[32], inbox[35]) = (0x80, 8);
        // Of the header: access_mode in bits 0x8..0xa, writer_id in 0xb..0x10, length in 0x17..0x20.
        (inbox[17], inbox[19]) = (0x4c, 12);
        const HEADER: &str = "configuration_item_header.";
        let shown = line(0, &inbox, &[0; 40], None).replace(HEADER, "");
        let begins = "f0 slot 3 ACCESS_REG MNVDA nv_global_pci_conf write op_mod=0x0 in=40 out=40 -> OK \
                      | in: sriov_en=0x1 total_vfs=0x8 access_mode=0x1 writer_id=0xc length=0xc ";
        assert!(shown.starts_with(begins), "{shown}");
        assert!(shown.ends_with(" register_id=MNVDA"), "{shown}");
    }

    #[test]
    fn a_refusal_says_which_check_gave_it() {
        let mut inbox = [0u8; 16];
        inbox[..4].copy_from_slice(&[0x08, 0x0d, 0, 9]);
        let mut out = [0u8; 16];
        out[0] = 5;
        out[4..8].copy_from_slice(&0x00e0_0007u32.to_be_bytes());
        assert_eq!(
            line(0, &inbox, &out, None),
            "f0 slot 3 NOP op_mod=0x0 uid=9 in=16 out=16 -> BAD_RES syndrome 0xe00007: \
             The uid in the header is not a user context of this function."
        );
        assert!(line(2, &inbox, &[], None).ends_with("-> not delivered: TOK_ERR"));
        assert!(line(0, &[], &[], None).starts_with("f0 slot 3 0x0000 "));
    }
}
