// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What drivers and tools in guests said to the firmware, kept as text (`fw-fuzz/guests/`, written by scripts/gen-seeds).
//!
//! A line is a command, `command FUNCTION OUTBOX INBOX HEX`, with the lengths of both messages and the inbox without
//! its zeros at the end; or a word behind the PCI gateway, `word FUNCTION SPACE ADDRESS VALUE`. Numbers are
//! hexadecimal.

use std::fmt::Write as _;

use fw_model::gateway::Place;

use crate::{
    MAX_INBOX, MAX_OUTBOX,
    from_record::{Said, Sent, Word},
};

/// Each guest's, by what ran in it.
pub const GUESTS: &[(&str, &str)] = &[
    ("mlx5_core", include_str!("../guests/mlx5_core.txt")),
    ("mstflint", include_str!("../guests/mstflint.txt")),
    ("virtio_fwctl", include_str!("../guests/virtio_fwctl.txt")),
];

/// Seeds of a target from all of them.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let each = |g: &(&str, &str)| read(g.1).unwrap_or_default().seeds(target);
    GUESTS.iter().flat_map(each).collect()
}

/// As text, without what is said again; such as is polled for comes by hundreds.
#[must_use]
pub fn text(said: &Said) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut known = std::collections::HashSet::new();
    let mut line = |l: String| {
        if known.insert(l.clone()) {
            lines.push(l);
        }
    };
    for c in &said.commands {
        let whole = &c.inbox[..c.inbox.len().min(MAX_INBOX)];
        let used = whole.iter().rposition(|b| *b != 0).map_or(0, |n| n + 1);
        let mut text = format!(
            "command {:x} {:x} {:x} ",
            c.function,
            c.outbox_len.min(MAX_OUTBOX),
            whole.len()
        );
        for b in &whole[..used] {
            let _ = write!(text, "{b:02x}");
        }
        line(text);
    }
    for w in &said.words {
        let Place { space, address } = w.at;
        line(format!(
            "word {:x} {space:x} {address:x} {:x}",
            w.function, w.value
        ));
    }
    lines.join("\n") + "\n"
}

/// What a text says; none if a line says nothing of the kind.
#[must_use]
pub fn read(text: &str) -> Option<Said> {
    let mut said = Said::default();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || u32::from_str_radix(words.next()?, 16).ok();
        let function = u8::try_from(number()?).ok()?;
        match kind {
            "command" => {
                let (outbox_len, len) = (number()?, number()? as usize);
                let mut inbox = Vec::new();
                for pair in words.next()?.as_bytes().chunks(2) {
                    let pair = core::str::from_utf8(pair).ok()?;
                    inbox.push(u8::from_str_radix(pair, 16).ok()?);
                }
                inbox.resize(len.min(MAX_INBOX), 0);
                said.commands.push(Sent {
                    function,
                    inbox,
                    outbox_len,
                });
            }
            "word" => {
                let space = u16::try_from(number()?).ok()?;
                let at = Place {
                    space,
                    address: number()?,
                };
                let value = number()?;
                said.words.push(Word {
                    function,
                    at,
                    value,
                });
            }
            _ => return None,
        }
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fwctl_proto::{layout::get_bits, opcode};

    #[test]
    fn what_is_written_is_read_again() {
        for (name, given) in GUESTS {
            let said = read(given).unwrap();
            let lines = given.split_inclusive('\n').filter(|l| !l.starts_with('#'));
            assert_eq!(text(&said), lines.collect::<String>(), "{name}");
        }
        let twice = "command 0 10 10 0102\nword 1 2 f0014 1\n".repeat(2);
        assert_eq!(text(&read(&twice).unwrap()).len() * 2, twice.len());
        for bad in [
            "",
            "command",
            "command 0 10 10 0g",
            "word 0 10000 0 0",
            "words 0 0 0 0",
        ] {
            let none = read(&format!("{bad}\n"));
            assert!(none.is_none(), "{bad}");
        }
    }

    /// They are what they are called.
    #[test]
    fn guests_said_what_they_are_there_for() {
        let said = |n: usize| read(GUESTS[n].1).unwrap();
        let has = |s: &Said, op: u16| {
            let is = |c: &Sent| get_bits(&c.inbox, 0, 16) as u16 == op;
            s.commands.iter().any(is)
        };
        let driver = said(0);
        for op in [
            opcode::ENABLE_HCA,
            opcode::MANAGE_PAGES,
            opcode::INIT_HCA,
            opcode::CREATE_EQ,
            opcode::CREATE_UCTX,
        ] {
            assert!(has(&driver, op), "{op:x}");
        }
        assert!(said(1).words.len() > 20);
        assert!(has(&said(2), opcode::CREATE_UCTX));
    }

    /// By a card that is up; what brings it up is refused then, and what names an object by the number of another run.
    #[test]
    fn many_of_their_commands_are_carried_out() {
        let (mut done, mut all) = (0, 0);
        let mut device = crate::Device::of(
            crate::targets::profile(),
            &[fw_model::EventPath::EventQueues],
        );
        let f = fw_model::FunctionId(0);
        device.bring_up(f);
        for c in &read(GUESTS[0].1).unwrap().commands {
            all += 1;
            done += u32::from(device.command(f, &c.inbox, c.outbox_len));
        }
        assert!(done * 3 > all, "{done} of {all}");
    }
}
