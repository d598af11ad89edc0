// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages as hex: as mlx5_core prints them (`dump_command` in mlx5/core/cmd.c with its data mask),
//! and back.

use std::fmt::Write as _;

use fwctl_proto::{
    layout::{self, get_bits},
    opcode,
};

use super::Command;
use crate::decode::{self, Message, Which};

/// Bytes of a line.
const LINE: usize = 16;
/// Bytes that a message may have, far above those of any command.
const MAX_MESSAGE: usize = 1 << 20;

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

/// The bytes of a dump: lines as above with anything in front of them, or digits alone.
///
/// # Errors
/// The line that is neither, by its number.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        let words = match line.rsplit_once(": ") {
            // "cmd[0]: 010: 00000000 …", but no title.
            Some((head, words)) => {
                let offset = head.rsplit([' ', ':']).next().unwrap_or_default();
                match usize::from_str_radix(offset, 16) {
                    Ok(at) if offset.len() >= 3 && at == bytes.len() => words,
                    Ok(at) if offset.len() >= 3 => {
                        return Err(format!(
                            "line {}: offset {at:#x}, but {:#x} bytes are before it",
                            n + 1,
                            bytes.len()
                        ));
                    }
                    _ => continue,
                }
            }
            None if line.starts_with("cmd[") || line.is_empty() => continue,
            None => line.strip_prefix("0x").unwrap_or(line),
        };
        let digits: String = words.split_whitespace().collect();
        let wrong = || format!("line {}: {words:?} is not hex", n + 1);
        if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
            return Err(wrong());
        }
        for i in (0..digits.len()).step_by(2) {
            bytes.push(u8::from_str_radix(&digits[i..i + 2], 16).map_err(|_| wrong())?);
        }
        if bytes.len() > MAX_MESSAGE {
            return Err(format!("line {}: more than {MAX_MESSAGE} bytes", n + 1));
        }
    }
    if bytes.is_empty() {
        return Err("there is nothing to decode".into());
    }
    Ok(bytes)
}

/// What a message says, a field in a line. An outbox needs its command's opcode, and its op_mod
/// where that says what the outbox holds.
///
/// # Errors
/// What is missing or wrong, in a sentence.
pub fn decode(
    text: &str,
    opcode_given: Option<u16>,
    op_mod: u16,
    is_outbox: bool,
) -> Result<String, String> {
    let bytes = parse(text)?;
    let op = match (opcode_given, is_outbox) {
        (Some(op), _) => op,
        (None, false) => get_bits(&bytes, 0, 16) as u16,
        (None, true) => return Err("an outbox does not say its command: give --opcode".into()),
    };
    let name = opcode::name(op).ok_or_else(|| format!("{op:#x} is no opcode"))?;
    let layouts = layout::command(op).ok_or_else(|| format!("{name} has no public layout"))?;
    let mut inbox = vec![0; 16];
    inbox[..2].copy_from_slice(&op.to_be_bytes());
    inbox[6..8].copy_from_slice(&op_mod.to_be_bytes());
    let input = Message {
        layout: layouts.input,
        bytes: if is_outbox { &inbox } else { &bytes },
    };
    let message = if is_outbox {
        Message {
            layout: layouts.output,
            bytes: &bytes,
        }
    } else {
        input
    };
    let mut s = format!("{name} {}, {} bytes\n", message.layout.name, bytes.len());
    if is_outbox {
        let status = get_bits(&bytes, 0, 8);
        let syndrome = get_bits(&bytes, 32, 32);
        let _ = writeln!(s, "status={status:#x}\nsyndrome={syndrome:#x}");
    } else {
        let (uid, op_mod) = (get_bits(&bytes, 16, 16), get_bits(&bytes, 48, 16));
        let _ = writeln!(s, "uid={uid}\nop_mod={op_mod:#x}");
    }
    for field in decode::fields(message, Some(input), Which::Set) {
        let _ = writeln!(s, "{field}");
    }
    Ok(s)
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

    #[test]
    fn a_dump_is_parsed_back_with_what_the_kernel_puts_before_it() {
        let text = "[   12.3] mlx5_core 0000:01:00.0: dump_command:1:(pid 7): cmd[3]: start dump\n\
            [   12.3] cmd[3]: 000: 080d0000 00000000 00000000 00000001\n\
            [   12.3] cmd[3]: 010: 00000000 abcd0000 00000000 00000000\n\n";
        let bytes = parse(text).unwrap();
        assert_eq!((bytes.len(), bytes[15], bytes[20]), (32, 1, 0xab));
        assert_eq!(parse("0x080d 0000\n01").unwrap(), [8, 13, 0, 0, 1]);
        let gap = parse("cmd[0]: 010: 00000000\n").unwrap_err();
        assert!(gap.starts_with("line 1: offset 0x10,"), "{gap}");
        assert_eq!(
            parse("080d\nxyz0\n").unwrap_err(),
            "line 2: \"xyz0\" is not hex"
        );
        assert!(parse("\n").is_err() && parse("123").is_err());
    }

    #[test]
    fn a_message_is_told_by_its_fields() {
        let set_issi = "010b0000 00000000 00000001 00000000";
        assert_eq!(
            decode(set_issi, None, 0, false).unwrap(),
            "SET_ISSI set_issi_in, 16 bytes\nuid=0\nop_mod=0x0\ncurrent_issi=0x1\n"
        );
        let mut out = vec![0; 16 + 64];
        // cmd_hca_cap: log_max_eq is the low nibble of byte 31.
        out[16 + 31] = 6;
        let text = decode(&hex(&out), Some(0x100), 1, true).unwrap();
        assert!(text.contains("\ncapability.log_max_eq=0x6\n"), "{text}");
        let unsaid = decode("00", None, 0, true).unwrap_err();
        assert!(unsaid.contains("--opcode"), "{unsaid}");
        assert!(decode("ffff0000", None, 0, false).is_err());
    }
}
