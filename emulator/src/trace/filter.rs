// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which entries are looked at.

use fw_model::{Overlay, Scope, nearest};
use fwctl_proto::{
    layout::{FieldInfo, get_bits},
    layouts,
    mst::{self, nv},
    opcode, register,
    status::Status,
};

use super::{Command, Entry, Via};
use crate::{decode, list::register_name, observe};

/// What kinds of entries there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Commands and their answers.
    Command,
    /// Events.
    Event,
    /// Interrupts.
    Interrupt,
    /// Writes to the initialization segment.
    Segment,
    /// Writes to UAR pages.
    Doorbell,
    /// Writes behind the PCI gateway.
    Gateway,
    /// Commands of a command channel that were not executed.
    Refused,
    /// Commands without an answer.
    Unanswered,
    /// Resets of functions.
    Reset,
    /// What the operator did, and what the model noticed.
    Note,
}

/// A status to be looked for, or to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    // None is what was not delivered.
    status: Option<u8>,
    not: bool,
    // False: commands without an answer, which have no status.
    answered: bool,
}

/// Which message a field is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    In,
    Out,
    Either,
}

/// A scope to be looked for; none is the driver's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeWanted(Option<Scope>);

/// A field's value to be looked for, or to be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldWanted {
    side: Side,
    path: String,
    value: String,
    not: bool,
}

/// Options that choose entries. An entry must meet all that are given; those of commands are met by
/// commands alone.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Commands with this opcode: a name, or a number like 0x100.
    #[arg(long, value_name = "NAME|N", value_parser = parse_opcode)]
    pub opcode: Option<u16>,
    /// Accesses to this register: a name, or a number like 0x9024.
    #[arg(long, value_name = "NAME|N", value_parser = parse_register)]
    pub register: Option<u16>,
    /// Commands with this status; with != in front of it, those with another: '!=ok'. `none`: those without an
    /// answer, which no other status chooses.
    #[arg(long, value_name = "[!=]NAME|N", value_parser = parse_status)]
    pub status: Option<Wanted>,
    /// Commands of this user context; 0 is the driver.
    #[arg(long, value_name = "N")]
    pub uid: Option<u16>,
    /// Commands of a channel with this scope: configuration, debug-read-only, debug-write, debug-write-full, or
    /// none for the driver's own. May be given several times.
    #[arg(long, value_name = "SCOPE", value_parser = parse_scope)]
    pub scope: Vec<ScopeWanted>,
    /// Commands with this value in a field, by its path as `trace show` writes it: 'log_max_eq=6',
    /// 'in.op_mod=1', 'out.syndrome!=0', 'capability.port_type=1'; a value is a number or its name.
    /// Without in. or out. either message may have it. May be given several times: all must hold.
    #[arg(long, value_name = "[in.|out.]PATH[!]=VALUE", value_parser = parse_field)]
    pub field: Vec<FieldWanted>,
    /// What concerns this function.
    #[arg(long, value_name = "N")]
    pub function: Option<u8>,
    /// Entries of this kind (may be given several times).
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<Kind>,
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn named(text: &str, name: impl Fn(u16) -> Option<&'static str>) -> Option<u16> {
    let known = |n: &u16| name(*n).is_some_and(|k| k.eq_ignore_ascii_case(text));
    let number = || number(text).and_then(|n| u16::try_from(n).ok());
    (0..=u16::MAX).find(known).or_else(number)
}

/// An opcode by name or number.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn parse_opcode(text: &str) -> Result<u16, String> {
    named(text, opcode::name).ok_or_else(|| {
        let meant = nearest(text, (0..=u16::MAX).filter_map(opcode::name));
        format!("{text:?} is no opcode{meant}; `fwctl-emu list commands` shows them")
    })
}

/// A register by name or number.
///
/// # Errors
/// What is wrong with it, and what may have been meant.
pub fn parse_register(text: &str) -> Result<u16, String> {
    let found = register::number(&text.to_ascii_uppercase()).or_else(|| named(text, register_name));
    found.ok_or_else(|| {
        let meant = nearest(text, (0..=u16::MAX).filter_map(register_name));
        format!("{text:?} is no register{meant}; `fwctl-emu list registers` shows them")
    })
}

fn parse_scope(text: &str) -> Result<ScopeWanted, String> {
    let named = |s: &Scope| s.name().eq_ignore_ascii_case(text);
    match Scope::ALL.into_iter().find(named) {
        Some(s) => Ok(ScopeWanted(Some(s))),
        None if text.eq_ignore_ascii_case("none") => Ok(ScopeWanted(None)),
        None => {
            let names = Scope::ALL.map(Scope::name);
            let meant = nearest(text, names);
            let all = names.join(", ");
            Err(format!(
                "{text:?} is no scope{meant}; there are {all}, none"
            ))
        }
    }
}

fn parse_field(text: &str) -> Result<FieldWanted, String> {
    let wrong = || format!("{text:?}: it is PATH=VALUE or PATH!=VALUE");
    let (path, value) = text.split_once('=').ok_or_else(wrong)?;
    let (path, not) = match path.strip_suffix('!') {
        Some(path) => (path, true),
        None => (path, false),
    };
    let (side, path) = match (path.strip_prefix("in."), path.strip_prefix("out.")) {
        (Some(path), _) => (Side::In, path),
        (_, Some(path)) => (Side::Out, path),
        _ => (Side::Either, path),
    };
    if path.is_empty() || value.is_empty() {
        return Err(wrong());
    }
    Ok(FieldWanted {
        side,
        path: path.into(),
        value: value.into(),
        not,
    })
}

/// The header of a message: its fields by name, with bit offset and width.
const IN_HEADER: [(&str, u32, u32); 3] = [("opcode", 0, 16), ("uid", 16, 16), ("op_mod", 48, 16)];
const OUT_HEADER: [(&str, u32, u32); 2] = [("status", 0, 8), ("syndrome", 32, 32)];

/// All fields that there are, without those of an overlay.
fn fields() -> impl Iterator<Item = &'static FieldInfo> {
    let tables = layouts::ALL.iter().copied();
    let tools = mst::REGISTERS.iter().map(|r| r.layout);
    let items = nv::ITEMS.iter().map(|i| i.layout);
    tables.chain(tools).chain(items).flat_map(|l| l.fields)
}

fn field_names() -> impl Iterator<Item = &'static str> {
    let header = IN_HEADER.iter().chain(&OUT_HEADER).map(|h| h.0);
    fields().map(|f| f.name).chain(header)
}

/// A part of a path without its index.
fn plain(part: &str) -> &str {
    part.split('[').next().unwrap_or(part)
}

impl FieldWanted {
    /// Checks that there may be such a field.
    ///
    /// # Errors
    /// There is none, and what may have been meant.
    fn check(&self, overlay: Option<&Overlay>) -> Result<(), String> {
        // The names of the tools' registers have dots in them.
        let last = plain(self.path.rsplit('.').next().unwrap_or(&self.path));
        let known = |n: &str| plain(n) == last || n.rsplit('.').next() == Some(last);
        let added = overlay.into_iter().flat_map(Overlay::layouts);
        let fields = fields().chain(added.flat_map(|l| l.fields));
        let found: Vec<_> = fields.filter(|f| known(f.name)).collect();
        let in_header = IN_HEADER.iter().chain(&OUT_HEADER).any(|h| known(h.0));
        if found.is_empty() && !in_header {
            let meant = nearest(last, field_names());
            return Err(format!(
                "--field {}: no message has a field {last}{meant}",
                self.path
            ));
        }
        let mut names: Vec<_> = found.iter().flat_map(|f| f.values).collect();
        let mut names: Vec<&str> = names
            .drain(..)
            .flat_map(|e| e.values)
            .map(|v| v.1)
            .collect();
        if last == "status" {
            names.extend(Status::ALL.iter().map(|s| s.name()));
        }
        if number(&self.value).is_some()
            || names.iter().any(|n| n.eq_ignore_ascii_case(&self.value))
        {
            return Ok(());
        }
        Err(format!(
            "--field {}={}: it is no number and no value of such a field{}",
            self.path,
            self.value,
            nearest(&self.value, names)
        ))
    }

    fn is(&self, f: Option<&FieldInfo>, v: u64) -> bool {
        let name = f.and_then(|f| f.values).and_then(|e| e.name_of(v));
        let named = name.is_some_and(|n| n.eq_ignore_ascii_case(&self.value));
        named || number(&self.value) == Some(v)
    }

    fn takes(&self, c: &Command<'_>, overlay: Option<&Overlay>) -> bool {
        let seen = c.seen();
        let header = |side: Side, all: &[(&str, u32, u32)], bytes: &[u8]| {
            let wanted = self.side == side || self.side == Side::Either;
            let found = all.iter().find(|h| wanted && h.0 == self.path);
            found.map(|h| get_bits(bytes, h.1, h.2))
        };
        let in_header = header(Side::In, &IN_HEADER, &c.inbox);
        // What is not answered has none.
        let out = OUT_HEADER.get(..if c.outbox.is_empty() { 0 } else { 2 });
        let out_header = || header(Side::Out, out.unwrap_or_default(), &c.outbox);
        let found = in_header.or_else(out_header);
        if let Some(v) = found {
            let named = self.path == "status"
                && Status::from_code(v as u8)
                    .is_some_and(|s| s.name().eq_ignore_ascii_case(&self.value));
            return (named || self.is(None, v)) != self.not;
        }
        let [input, output] = observe::messages(&seen, overlay);
        let look = |side: Side, parts: &[observe::Part<'_>]| {
            let wanted = self.side == side || self.side == Side::Either;
            let mut all = parts.iter().filter(|_| wanted);
            all.find_map(|m| decode::find(m.message, m.inbox, &self.path))
        };
        // A refused command's outbox says nothing.
        let answered = c.status() == Some(0) && !c.outbox.is_empty();
        let all = [
            look(Side::In, &input),
            look(Side::Out, &output).filter(|_| answered),
        ];
        let mut there = all.iter().flatten().peekable();
        // A command without the field is neither.
        there.peek().is_some() && there.any(|(f, v, _)| self.is(Some(f), *v)) != self.not
    }
}

fn parse_status(text: &str) -> Result<Wanted, String> {
    let (not, name) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.strip_prefix('=').unwrap_or(rest)),
        None => (false, text),
    };
    if name.eq_ignore_ascii_case("none") {
        return Ok(Wanted {
            status: None,
            not: true,
            answered: not,
        });
    }
    let mut all = Status::ALL.iter();
    let known = all.find(|s| s.name().eq_ignore_ascii_case(name));
    let status = known
        .map(|s| s.code())
        .or_else(|| u8::try_from(number(name)?).ok());
    let status = status.ok_or_else(|| {
        let names: Vec<_> = Status::ALL.iter().map(|s| s.name()).collect();
        let meant = nearest(name, names.iter().copied());
        format!(
            "{name:?} is no status{meant}; there are {}, none",
            names.join(", ")
        )
    })?;
    Ok(Wanted {
        status: Some(status),
        not,
        answered: true,
    })
}

impl Filter {
    /// Checks what only an overlay can tell.
    ///
    /// # Errors
    /// A field that no message has, and what may have been meant.
    pub fn check(&self, overlay: Option<&Overlay>) -> Result<(), String> {
        self.field.iter().try_for_each(|f| f.check(overlay))
    }

    /// True if an entry is to be looked at.
    #[must_use]
    pub fn matches(&self, entry: &Entry<'_>, overlay: Option<&Overlay>) -> bool {
        let kind = match entry {
            Entry::Head { .. } => return false,
            // That something is missing is always said.
            Entry::Lost { .. } => return true,
            Entry::Command(_) => Kind::Command,
            Entry::Event { .. } => Kind::Event,
            Entry::Interrupt { .. } => Kind::Interrupt,
            Entry::Segment { .. } => Kind::Segment,
            Entry::Doorbell { .. } => Kind::Doorbell,
            Entry::Gateway { .. } => Kind::Gateway,
            Entry::Refused { .. } => Kind::Refused,
            Entry::Unanswered(_) => Kind::Unanswered,
            Entry::Reset { .. } => Kind::Reset,
            Entry::Note { .. } => Kind::Note,
        };
        let right = (self.kind.is_empty() || self.kind.contains(&kind))
            && self.function.is_none_or(|f| entry.function() == Some(f));
        let of_commands = self.opcode.is_some()
            || self.register.is_some()
            || self.status.is_some()
            || self.uid.is_some()
            || !self.scope.is_empty()
            || !self.field.is_empty();
        right
            && match entry {
                Entry::Command(c) => {
                    let status = |w: Wanted| w.answered && (c.status() == w.status) != w.not;
                    self.takes(c, overlay) && self.status.is_none_or(status)
                }
                Entry::Unanswered(u) => {
                    let status = |w: Wanted| !w.answered;
                    self.takes(&u.command(), overlay) && self.status.is_none_or(status)
                }
                // Of these there is a header.
                Entry::Refused { header, scope, .. }
                    if self.status.is_none() && self.field.is_empty() =>
                {
                    self.register.is_none()
                        && self.has(Some(*scope))
                        && self.opcode.is_none_or(|o| Command::word(header, 0) == o)
                        && self.uid.is_none_or(|u| Command::word(header, 2) == u)
                }
                _ => !of_commands,
            }
    }

    /// True if what came on a channel with this scope is to be looked at, or what did not come on one.
    fn has(&self, scope: Option<Option<Scope>>) -> bool {
        self.scope.is_empty() || scope.is_some_and(|s| self.scope.contains(&ScopeWanted(s)))
    }

    fn takes(&self, c: &Command<'_>, overlay: Option<&Overlay>) -> bool {
        /// Where ACCESS_REG has the register's id.
        const REGISTER: usize = 10;
        let register =
            || (c.opcode() == opcode::ACCESS_REG).then(|| Command::word(&c.inbox, REGISTER));
        let scope = match c.via {
            Via::Channel(scope) => Some(scope),
            Via::Slot(_) | Via::Gateway => None,
        };
        self.has(scope)
            && self.opcode.is_none_or(|o| c.opcode() == o)
            && self.register.is_none_or(|r| register() == Some(r))
            && self.uid.is_none_or(|u| c.uid() == u)
            && self.field.iter().all(|f| f.takes(c, overlay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Via;

    fn command(opcode: u16, uid: u16, status: u8, delivery: u8) -> Entry<'static> {
        let mut inbox = vec![0; 24];
        inbox[..2].copy_from_slice(&opcode.to_be_bytes());
        inbox[2..4].copy_from_slice(&uid.to_be_bytes());
        inbox[10..12].copy_from_slice(&0x9024_u16.to_be_bytes());
        Entry::Command(Command {
            function: 1,
            via: Via::Channel(None),
            submitted: 0,
            completed: 0,
            own: 0,
            delivery,
            inbox: inbox.into(),
            outbox: vec![status; 16].into(),
        })
    }

    #[test]
    fn each_option_chooses() {
        let all = [
            command(0x100, 0, 0, 0),
            command(0x805, 3, 5, 0),
            command(0x805, 3, 0, 2),
            Entry::Interrupt {
                at: 0,
                function: 0,
                vector: 0,
            },
            Entry::Lost { count: 1 },
        ];
        let taken = |f: &Filter| -> Vec<usize> {
            (0..all.len())
                .filter(|i| f.matches(&all[*i], None))
                .collect()
        };
        let none = Filter::default();
        assert_eq!(taken(&none), [0, 1, 2, 3, 4]);
        let with = |change: &dyn Fn(&mut Filter)| {
            let mut f = none.clone();
            change(&mut f);
            taken(&f)
        };
        assert_eq!(with(&|f| f.opcode = Some(0x805)), [1, 2, 4]);
        assert_eq!(with(&|f| f.register = Some(0x9024)), [1, 2, 4]);
        assert_eq!(with(&|f| f.uid = Some(0)), [0, 4]);
        assert_eq!(with(&|f| f.function = Some(0)), [3, 4]);
        assert_eq!(
            with(&|f| f.scope = vec![parse_scope("none").unwrap()]),
            [0, 1, 2, 4]
        );
        assert_eq!(with(&|f| f.kind = vec![Kind::Interrupt]), [3, 4]);
        let status = |text: &str| with(&|f| f.status = Some(parse_status(text).unwrap()));
        assert_eq!(status("ok"), [0, 4]);
        assert_eq!(status("!=OK"), [1, 2, 4], "what was not delivered as well");
        assert_eq!(status("BAD_RES"), [1, 4]);
        assert_eq!(status("!0x5"), [0, 2, 4]);
    }

    #[test]
    fn a_scope_chooses_what_came_on_a_channel() {
        let via = |via| match command(0x80d, 0, 0, 0) {
            Entry::Command(c) => Entry::Command(Command { via, ..c }),
            other => other,
        };
        let all = [
            via(Via::Slot(0)),
            via(Via::Channel(None)),
            via(Via::Channel(Some(Scope::Configuration))),
            via(Via::Channel(Some(Scope::DebugWrite))),
            Entry::Refused {
                at: 0,
                function: 3,
                scope: Some(Scope::Configuration),
                delivery: fw_model::Delivery::ScopeDenied,
                header: vec![0; 16].into(),
            },
        ];
        let with = |names: &[&str]| -> Vec<usize> {
            let scope = names.iter().map(|n| parse_scope(n).unwrap()).collect();
            let f = Filter {
                scope,
                ..Filter::default()
            };
            let takes = |i: &usize| f.matches(&all[*i], None);
            (0..all.len()).filter(takes).collect()
        };
        assert_eq!(with(&["configuration"]), [2, 4]);
        assert_eq!(with(&["none", "DEBUG-WRITE"]), [1, 3]);
        let said = parse_scope("debug-writ").unwrap_err();
        assert!(said.contains("did you mean debug-write"), "{said}");
    }

    #[test]
    fn names_and_numbers_are_taken_and_others_refused_with_what_there_is() {
        assert_eq!(parse_opcode("query_hca_cap"), Ok(0x100));
        assert_eq!(parse_opcode("0x101"), Ok(0x101));
        assert_eq!(parse_register("mfrl"), Ok(0x9028));
        assert_eq!(parse_register("PIPG"), Ok(0x5017));
        assert!(parse_opcode("NOPE").unwrap_err().contains("list commands"));
        let said = parse_opcode("QUERY_HCA_CPA").unwrap_err();
        assert!(said.contains("did you mean QUERY_HCA_CAP"), "{said}");
        let said = parse_register("MGRI").unwrap_err();
        assert!(said.contains("did you mean MGIR"), "{said}");
        let said = parse_status("BAD_PARM").unwrap_err();
        assert!(said.contains("did you mean BAD_PARAM"), "{said}");
        assert!(parse_status("fine").unwrap_err().contains("BAD_RES_STATE"));
    }
    #[test]
    fn a_field_chooses_by_its_value_or_its_name() {
        let ask = |op_mod: u8, value: u8, status: u8| {
            let mut inbox = vec![0; 16];
            (inbox[0], inbox[7]) = (1, op_mod);
            let mut outbox = vec![0; 4112];
            // cmd_hca_cap: log_max_eq is the low nibble of byte 31.
            (outbox[0], outbox[16 + 31]) = (status, value);
            Entry::Command(Command {
                function: 0,
                via: Via::Slot(0),
                submitted: 0,
                completed: 0,
                own: 0,
                delivery: 0,
                inbox: inbox.into(),
                outbox: outbox.into(),
            })
        };
        // The third answers with another page, the fourth is refused, the fifth is no QUERY_HCA_CAP.
        let all = [
            ask(1, 6, 0),
            ask(1, 7, 0),
            ask(3, 6, 0),
            ask(1, 6, 3),
            command(0x805, 3, 0, 0),
        ];
        let with = |fields: &[&str]| -> Vec<usize> {
            let field = fields.iter().map(|f| parse_field(f).unwrap()).collect();
            let f = Filter {
                field,
                ..Filter::default()
            };
            assert_eq!(f.check(None), Ok(()));
            (0..all.len())
                .filter(|i| f.matches(&all[*i], None))
                .collect()
        };
        assert_eq!(with(&["capability.log_max_eq=6"]), [0]);
        assert_eq!(with(&["out.capability.log_max_eq!=0x6"]), [1]);
        assert_eq!(with(&["in.capability.log_max_eq=6"]), [0; 0]);
        assert_eq!(with(&["in.op_mod=1", "opcode=0x100"]), [0, 1, 3]);
        assert_eq!(with(&["op_mod!=1"]), [2, 4]);
        assert_eq!(with(&["out.status=BAD_PARAM"]), [3]);
        assert_eq!(with(&["uid=3"]), [4]);
        for (text, said) in [
            ("log_max_eq", "it is PATH=VALUE"),
            ("=1", "it is PATH=VALUE"),
            ("in.=1", "it is PATH=VALUE"),
            ("uid=", "it is PATH=VALUE"),
        ] {
            assert!(parse_field(text).unwrap_err().contains(said), "{text}");
        }
        for (text, said) in [
            ("in.register_id=MNVDAA", "did you mean MNVDA"),
            ("out.status=BAD_RESS", "did you mean BAD_RES"),
            (
                "log_max_eq=many",
                "it is no number and no value of such a field",
            ),
        ] {
            let wrong = parse_field(text).unwrap().check(None).unwrap_err();
            assert!(wrong.contains(said), "{wrong}");
        }
        for right in ["in.register_id=mnvda", "status=bad_res", "log_max_eq=0x6"] {
            assert_eq!(parse_field(right).unwrap().check(None), Ok(()));
        }
        let wrong = parse_field("capability.log_max_eqq=1").unwrap();
        let said = wrong.check(None).unwrap_err();
        assert!(
            said.starts_with(
                "--field capability.log_max_eqq: no message has a field log_max_eqq; did"
            ) && said.contains("log_max_eq"),
            "{said}"
        );
    }

    #[test]
    fn a_field_of_a_configuration_item_is_one_of_the_message() {
        let mut inbox = vec![0; 40];
        (inbox[0], inbox[1]) = (0x08, 0x05);
        (inbox[10], inbox[11]) = (0x90, 0x24);
        (inbox[19], inbox[23]) = (12, 0x80);
        // Bit 31 of dword 1: nv_global_pci_conf.sriov_en.
        inbox[32] = 0x80;
        let c = Command {
            function: 0,
            via: Via::Gateway,
            submitted: 0,
            completed: 0,
            own: 0,
            delivery: 0,
            inbox: inbox.into(),
            outbox: vec![0; 40].into(),
        };
        let takes = |text: &str| parse_field(text).unwrap().takes(&c, None);
        assert!(takes("in.sriov_en=1") && takes("sriov_en=1") && takes("out.sriov_en=0"));
        assert!(!takes("in.sriov_en=0") && !takes("log_max_eq=0"));
    }
}
