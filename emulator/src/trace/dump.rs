// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages as hex: as mlx5_core prints them (`dump_command` in mlx5/core/cmd.c with its data mask).

use std::fmt::Write as _;

use fwctl_proto::opcode;

use super::Command;

/// Bytes of a line.
const LINE: usize = 16;

/// Bytes as digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// A message in lines of 16 bytes, each with its offset; what is missing of the last line is zero.
#[must_use]
pub fn lines(bytes: &[u8], prefix: &str) -> String {
    let mut s = String::new();
    for (i, line) in bytes.chunks(LINE).enumerate() {
        let mut all = [0; LINE];
        all[..line.len()].copy_from_slice(line);
        let words: Vec<_> = all.chunks(4).map(hex).collect();
        let _ = writeln!(s, "{prefix}{:03x}: {}", i * LINE, words.join(" "));
    }
    s
}

/// A command as mlx5_core dumps it, without the kernel's prefixes: the inbox when it is sent, the
/// outbox when it is answered.
#[must_use]
pub fn mlx5(c: &Command<'_>) -> String {
    let op = c.opcode();
    let name = opcode::name(op).unwrap_or("unknown command opcode");
    let slot = c.via.slot().unwrap_or(0);
    let mut s = String::new();
    for (title, bytes) in [("INPUT", &c.inbox), ("OUTPUT", &c.outbox)] {
        let _ = writeln!(s, "cmd[{slot}]: start dump");
        let _ = writeln!(s, "cmd[{slot}]: dump command data {name}({op:#x}) {title}");
        // The first 16 bytes lie in the command queue's entry, and are always there.
        let mut whole = bytes.to_vec();
        whole.resize(whole.len().max(LINE), 0);
        s += &lines(&whole, &format!("cmd[{slot}]: "));
        let _ = writeln!(s, "\ncmd[{slot}]: end dump");
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Via;

    fn nop() -> Command<'static> {
        Command {
            function: 0,
            via: Via::Slot(3),
            submitted: 0,
            completed: 0,
            own: 0,
            delivery: 0,
            inbox: [&[0x08, 0x0d][..], &[0; 18], &[0xab, 0xcd]].concat().into(),
            outbox: vec![0; 8].into(),
        }
    }

    #[test]
    fn a_dump_reads_as_the_drivers() {
        // The format strings are those of dump_command and dump_buf.
        let expected = "cmd[3]: start dump\n\
            cmd[3]: dump command data NOP(0x80d) INPUT\n\
            cmd[3]: 000: 080d0000 00000000 00000000 00000000\n\
            cmd[3]: 010: 00000000 abcd0000 00000000 00000000\n\
            \n\
            cmd[3]: end dump\n\
            cmd[3]: start dump\n\
            cmd[3]: dump command data NOP(0x80d) OUTPUT\n\
            cmd[3]: 000: 00000000 00000000 00000000 00000000\n\
            \n\
            cmd[3]: end dump\n";
        assert_eq!(mlx5(&nop()), expected);
    }
}
