// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which entries are looked at.

use fwctl_proto::{opcode, register, status::Status};

use super::{Command, Entry};
use crate::list::register_name;

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
    /// Resets, and what the operator did.
    Note,
}

/// A status to be looked for, or to be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    status: u8,
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
    /// Commands with this status; with != in front of it, those with another: '!=ok'.
    #[arg(long, value_name = "[!=]NAME|N", value_parser = parse_status)]
    pub status: Option<Wanted>,
    /// Commands of this user context; 0 is the driver.
    #[arg(long, value_name = "N")]
    pub uid: Option<u16>,
    /// What concerns this function.
    #[arg(long, value_name = "N")]
    pub function: Option<u8>,
    /// Entries of this kind (may be given several times).
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<Kind>,
}

fn number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn named(text: &str, name: impl Fn(u16) -> Option<&'static str>) -> Option<u16> {
    let known = |n: &u16| name(*n).is_some_and(|k| k.eq_ignore_ascii_case(text));
    (0..=u16::MAX).find(known).or_else(|| number(text))
}

/// An opcode by name or number.
///
/// # Errors
/// What is wrong with it.
pub fn parse_opcode(text: &str) -> Result<u16, String> {
    named(text, opcode::name)
        .ok_or_else(|| format!("{text:?} is no opcode; `fwctl-emu list commands` shows them"))
}

fn parse_register(text: &str) -> Result<u16, String> {
    register::number(&text.to_ascii_uppercase())
        .or_else(|| named(text, register_name))
        .ok_or_else(|| format!("{text:?} is no register; `fwctl-emu list registers` shows them"))
}

fn parse_status(text: &str) -> Result<Wanted, String> {
    let (not, name) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.strip_prefix('=').unwrap_or(rest)),
        None => (false, text),
    };
    let mut all = Status::ALL.iter();
    let known = all.find(|s| s.name().eq_ignore_ascii_case(name));
    let status = known
        .map(|s| s.code())
        .or_else(|| u8::try_from(number(name)?).ok());
    let status = status.ok_or_else(|| {
        let names: Vec<_> = Status::ALL.iter().map(|s| s.name()).collect();
        format!("{name:?} is no status; there are {}", names.join(", "))
    })?;
    Ok(Wanted { status, not })
}

impl Filter {
    /// True if an entry is to be looked at.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        let kind = match entry {
            Entry::Head { .. } => return false,
            // That something is missing is always said.
            Entry::Lost { .. } => return true,
            Entry::Command(_) => Kind::Command,
            Entry::Event { .. } => Kind::Event,
            Entry::Interrupt { .. } => Kind::Interrupt,
            Entry::Segment { .. } => Kind::Segment,
            Entry::Doorbell { .. } => Kind::Doorbell,
            Entry::Note { .. } => Kind::Note,
        };
        let right = (self.kind.is_empty() || self.kind.contains(&kind))
            && self.function.is_none_or(|f| entry.function() == Some(f));
        let of_commands = self.opcode.is_some()
            || self.register.is_some()
            || self.status.is_some()
            || self.uid.is_some();
        right
            && match entry {
                Entry::Command(c) => self.takes(c),
                _ => !of_commands,
            }
    }

    fn takes(&self, c: &Command) -> bool {
        /// Where ACCESS_REG has the register's id.
        const REGISTER: usize = 10;
        let register =
            || (c.opcode() == opcode::ACCESS_REG).then(|| Command::word(&c.inbox, REGISTER));
        self.opcode.is_none_or(|o| c.opcode() == o)
            && self.register.is_none_or(|r| register() == Some(r))
            && self.uid.is_none_or(|u| c.uid() == u)
            && self
                .status
                .is_none_or(|w| (c.status() == Some(w.status)) != w.not)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(opcode: u16, uid: u16, status: u8, delivery: u8) -> Entry {
        let mut inbox = vec![0; 24];
        inbox[..2].copy_from_slice(&opcode.to_be_bytes());
        inbox[2..4].copy_from_slice(&uid.to_be_bytes());
        inbox[10..12].copy_from_slice(&0x9024_u16.to_be_bytes());
        Entry::Command(Command {
            function: 1,
            slot: None,
            submitted: 0,
            completed: 0,
            own: 0,
            delivery,
            inbox,
            outbox: vec![status; 16],
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
        let taken =
            |f: &Filter| -> Vec<usize> { (0..all.len()).filter(|i| f.matches(&all[*i])).collect() };
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
        assert_eq!(with(&|f| f.kind = vec![Kind::Interrupt]), [3, 4]);
        let status = |text: &str| with(&|f| f.status = Some(parse_status(text).unwrap()));
        assert_eq!(status("ok"), [0, 4]);
        assert_eq!(status("!=OK"), [1, 2, 4], "what was not delivered as well");
        assert_eq!(status("BAD_RES"), [1, 4]);
        assert_eq!(status("!0x5"), [0, 2, 4]);
    }

    #[test]
    fn names_and_numbers_are_taken_and_others_refused_with_what_there_is() {
        assert_eq!(parse_opcode("query_hca_cap"), Ok(0x100));
        assert_eq!(parse_opcode("0x101"), Ok(0x101));
        assert_eq!(parse_register("mfrl"), Ok(0x9028));
        assert_eq!(parse_register("PIPG"), Ok(0x5017));
        assert!(parse_opcode("NOPE").unwrap_err().contains("list commands"));
        assert!(parse_status("fine").unwrap_err().contains("BAD_RES_STATE"));
    }
}
