// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The string database: the formats of all lines, made from the opcode table.
//!
//! Only formats that mlx5_core takes are used: numbers (`%x`, `%d`), at most seven of them.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::table;

/// Where the database begins in the firmware's memory. Offset 0 holds a name, no format: drivers
/// take no string at the very base.
pub const BASE: u32 = 0x1000_0000;
/// Drivers read this much at a time, and 64 bytes of what is left.
const ALIGN: usize = 64;

/// Lines that are not about one opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// A command that has no row.
    UnknownCommand,
    /// A cable came or went.
    Cable,
    /// The health buffer says something else.
    Health,
    /// Core dump: how the firmware is.
    DumpHealth,
    /// Core dump: what a function holds.
    DumpFunction,
}

/// Classes of lines: bit numbers of SET_ITRACE's mask.
pub mod class {
    /// PHY_MANAGER: the port and its module.
    pub const PHY_MANAGER: u8 = 10;
    /// CMD_DRIVER: commands and their answers.
    pub const CMD_DRIVER: u8 = 20;
    /// MANAGEMENT: how the firmware is.
    pub const MANAGEMENT: u8 = 22;
}

/// Levels of lines, from the least.
pub mod level {
    /// As it should be.
    pub const INFO: u8 = 1;
    /// Something was refused.
    pub const WARNING: u8 = 2;
    /// Something failed.
    pub const ERROR: u8 = 3;
}

/// The lines: their classes, levels and formats. Whoever asked for a core dump gets all of it.
const LINES: &[(Line, u8, u8, &str)] = &[
    (
        Line::UnknownCommand,
        class::CMD_DRIVER,
        level::WARNING,
        "command 0x%x op_mod 0x%x uid %d status 0x%x syndrome 0x%x",
    ),
    (
        Line::Cable,
        class::PHY_MANAGER,
        level::INFO,
        "port of function %d: cable %d",
    ),
    (
        Line::Health,
        class::MANAGEMENT,
        level::ERROR,
        "health: syndrome 0x%x ext_synd 0x%x severity %d",
    ),
    (
        Line::DumpHealth,
        class::MANAGEMENT,
        level::ERROR,
        "core dump: syndrome 0x%x ext_synd 0x%x functions %d",
    ),
    (
        Line::DumpFunction,
        class::MANAGEMENT,
        level::ERROR,
        "core dump: function %d state %d issi %d pages %d uctx %d eqs %d objects %d",
    ),
];

/// The parameters of every command's line, behind its name.
const COMMAND: &str = " op_mod 0x%x uid %d status 0x%x syndrome 0x%x";

impl Line {
    /// Its class and its level.
    #[must_use]
    pub fn kind(self) -> (u8, u8) {
        let row = LINES.iter().find(|l| l.0 == self);
        row.map_or((class::MANAGEMENT, level::ERROR), |l| (l.1, l.2))
    }
}

/// The database and where each format is.
pub struct Strings {
    /// Its bytes: formats, each with a NUL behind it, filled up to 64.
    pub bytes: Vec<u8>,
    commands: BTreeMap<u16, u32>,
    lines: BTreeMap<Line, u32>,
}

impl Strings {
    fn new() -> Self {
        let mut all = Self {
            bytes: b"fwctl-emu\0".to_vec(),
            commands: BTreeMap::new(),
            lines: BTreeMap::new(),
        };
        for op in table::OPS {
            let name = fwctl_proto::opcode::name(op.opcode).unwrap_or("command");
            let at = all.add(&format!("{name}{COMMAND}"));
            all.commands.insert(op.opcode, at);
        }
        for (line, _, _, format) in LINES {
            let at = all.add(format);
            all.lines.insert(*line, at);
        }
        all.bytes.resize(all.bytes.len().next_multiple_of(ALIGN), 0);
        all
    }

    fn add(&mut self, format: &str) -> u32 {
        let at = BASE + self.bytes.len() as u32;
        self.bytes.extend_from_slice(format.as_bytes());
        self.bytes.push(0);
        at
    }

    /// Address of a command's format.
    #[must_use]
    pub fn command(&self, opcode: u16) -> Option<u32> {
        self.commands.get(&opcode).copied()
    }

    /// Address of another line's format.
    #[must_use]
    pub fn line(&self, line: Line) -> u32 {
        self.lines.get(&line).copied().unwrap_or(BASE)
    }
}

/// The database; it depends on the opcode table alone.
pub static STRINGS: LazyLock<Strings> = LazyLock::new(Strings::new);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_what_drivers_take_and_is_found() {
        let s = &STRINGS;
        assert_eq!(s.bytes.len() % ALIGN, 0);
        for (_, at) in s
            .commands
            .iter()
            .map(|(k, v)| (u32::from(*k), *v))
            .chain(s.lines.iter().map(|(k, v)| (*k as u32, *v)))
        {
            assert!(at > BASE);
            let text = &s.bytes[(at - BASE) as usize..];
            let text = &text[..text.iter().position(|b| *b == 0).unwrap()];
            let text = core::str::from_utf8(text).unwrap();
            assert!(text.len() < 200, "{text}");
            let specs: Vec<_> = text.split('%').skip(1).collect();
            assert!(specs.len() <= 7, "{text}");
            assert!(specs.iter().all(|p| p.starts_with(['x', 'd'])), "{text}");
        }
        assert_eq!(s.command(0x9999), None);
    }
}
