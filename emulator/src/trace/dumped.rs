// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu decode`: commands read back from hex, as `dump` and mlx5_core write it, and what they say.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::bail;
use fw_model::{Overlay, limits::MAX_MESSAGE, syndrome::Syndrome};
use fwctl_proto::{layout::get_bits, opcode, status::Status};

use super::filter::{parse_opcode, parse_register};
use crate::{
    decode::Which,
    observe::{self, Part, Seen},
    serve::overlay,
    usage::Usage,
};

/// Bytes of an opcode, with which an inbox begins.
const OPCODE: usize = 2;
/// Where the register of ACCESS_REG has its id in the inbox, and where it lies in both messages.
const REGISTER_ID: usize = 10;
const REGISTER: usize = 16;

/// What the text itself does not say.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Decode {
    /// The command, if the message does not say it: a name, or a number like 0x100.
    #[arg(long, value_name = "NAME|N", value_parser = parse_opcode)]
    opcode: Option<u16>,
    /// The message is an outbox, if no title in a dump says which it is.
    #[arg(long)]
    out: bool,
    /// op_mod of the command, for an outbox without its inbox.
    #[arg(long, value_name = "N", default_value_t = 0)]
    op_mod: u16,
    /// The register of ACCESS_REG, for an outbox without its inbox: a name, or a number like 0x9024.
    #[arg(long, value_name = "NAME|N", value_parser = parse_register)]
    register: Option<u16>,
    /// The overlay of the firmware: what that adds is decoded as well.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
}

/// A title in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Title {
    opcode: u16,
    is_outbox: bool,
}

/// A message of a text.
#[derive(Debug, PartialEq, Eq)]
struct Dumped {
    /// Its slot in the command queue; of plain digits none.
    slot: Option<u16>,
    title: Option<Title>,
    bytes: Vec<u8>,
}

/// What a line is.
enum Line<'a> {
    Title(u16, Title),
    /// Bytes of a slot's message, from this offset.
    At(u16, usize, &'a str),
    Digits(&'a str),
    Other,
}

fn line(text: &str) -> Result<Line<'_>, &'static str> {
    let text = text.trim();
    // "… cmd[0]: " is in front of all lines, but of those of old kernels.
    let slot = text.rsplit_once("cmd[").and_then(|(_, rest)| {
        let (slot, _) = rest.split_once("]: ")?;
        slot.parse().ok()
    });
    let slot = slot.unwrap_or(0);
    if let Some((_, title)) = text.split_once("dump command ") {
        // Entries and blocks of mailboxes have more in them than the message.
        let title = title
            .strip_prefix("data ")
            .ok_or("a dump of whole entries: mlx5_core dumps messages with debug_mask=1")?;
        return Ok(titled(title).map_or(Line::Other, |t| Line::Title(slot, t)));
    }
    let Some((head, words)) = text.rsplit_once(": ") else {
        let nothing = text.is_empty() || text.starts_with("cmd[");
        let digits = text.strip_prefix("0x").unwrap_or(text);
        return Ok(if nothing {
            Line::Other
        } else {
            Line::Digits(digits)
        });
    };
    let offset = head.rsplit([' ', ':']).next().unwrap_or_default();
    Ok(match usize::from_str_radix(offset, 16) {
        Ok(at) if offset.len() >= 3 => Line::At(slot, at, words),
        _ => Line::Other,
    })
}

/// "NOP(0x80d) INPUT" and the like.
fn titled(text: &str) -> Option<Title> {
    let (name, side) = text.rsplit_once(' ')?;
    let (_, number) = name.rsplit_once("(0x")?;
    Some(Title {
        opcode: u16::from_str_radix(number.strip_suffix(')')?, 16).ok()?,
        is_outbox: match side {
            "INPUT" => false,
            "OUTPUT" => true,
            _ => return None,
        },
    })
}

fn digits(words: &str) -> Option<Vec<u8>> {
    let all: String = words.split_whitespace().collect();
    if !all.is_ascii() || !all.len().is_multiple_of(2) {
        return None;
    }
    let byte = |i| u8::from_str_radix(all.get(i..i + 2)?, 16).ok();
    (0..all.len()).step_by(2).map(byte).collect()
}

/// The messages of a text in the order in which they begin: dumps with anything in front of their lines, or
/// digits alone. Messages of several slots may lie in between each other.
///
/// # Errors
/// The line that is neither, by its number.
fn messages(text: &str) -> Result<Vec<Dumped>, String> {
    // A log with dumps in it has other lines too, and may begin within a message.
    let is_log = text.contains("dump command ");
    let mut all: Vec<Dumped> = Vec::new();
    // The message of each slot that lines are added to.
    let mut open = BTreeMap::new();
    for (n, text) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}", n + 1);
        let (slot, at, words) = match line(text).map_err(wrong)? {
            Line::Title(slot, title) => {
                open.insert(Some(slot), all.len());
                all.push(Dumped {
                    slot: Some(slot),
                    title: Some(title),
                    bytes: Vec::new(),
                });
                continue;
            }
            Line::At(slot, at, words) => (Some(slot), Some(at), words),
            Line::Digits(words) if !is_log => (None, None, words),
            Line::Digits(_) | Line::Other => continue,
        };
        let Some(bytes) = digits(words) else {
            if is_log {
                continue;
            }
            return Err(wrong(&format!("{words:?} is not hex")));
        };
        let known = open.get(&slot).copied();
        // Without titles, a message ends where the next one begins.
        let ends = |i: usize| at == Some(0) && all[i].title.is_none() && !all[i].bytes.is_empty();
        let i = match known.filter(|i| !ends(*i)) {
            Some(i) => i,
            None if is_log && at != Some(0) => continue,
            None => {
                open.insert(slot, all.len());
                all.push(Dumped {
                    slot,
                    title: None,
                    bytes: Vec::new(),
                });
                all.len() - 1
            }
        };
        let message = &mut all[i].bytes;
        if let Some(at) = at.filter(|at| *at != message.len()) {
            let before = message.len();
            return Err(wrong(&format!(
                "offset {at:#x}, but {before:#x} bytes are before it"
            )));
        }
        message.extend(bytes);
        if message.len() > MAX_MESSAGE {
            return Err(wrong(&format!("more than {MAX_MESSAGE} bytes")));
        }
    }
    all.retain(|m| !m.bytes.is_empty());
    Ok(all)
}

/// A command as far as it was dumped.
#[derive(Debug, Default)]
struct Pair {
    /// What a title says.
    opcode: Option<u16>,
    inbox: Option<Vec<u8>>,
    outbox: Option<Vec<u8>>,
}

/// Inboxes with their outboxes: in a slot, the next message is the answer. Without titles they come in turn.
fn pairs(messages: Vec<Dumped>, all_out: bool) -> Vec<Pair> {
    let mut all: Vec<Pair> = Vec::new();
    let mut waiting: BTreeMap<Option<u16>, usize> = BTreeMap::new();
    for m in messages {
        let opcode = m.title.map(|t| t.opcode);
        let asked = waiting.remove(&m.slot);
        let is_outbox = m.title.map_or(all_out || asked.is_some(), |t| t.is_outbox);
        if !is_outbox {
            waiting.insert(m.slot, all.len());
            all.push(Pair {
                opcode,
                inbox: Some(m.bytes),
                outbox: None,
            });
            continue;
        }
        let asked = asked.and_then(|i| all.get_mut(i));
        match asked.filter(|c| c.opcode == opcode) {
            Some(c) => c.outbox = Some(m.bytes),
            None => all.push(Pair {
                opcode,
                inbox: None,
                outbox: Some(m.bytes),
            }),
        }
    }
    all
}

impl Decode {
    /// What the messages of a text say, a field in a line.
    ///
    /// # Errors
    /// What is missing or wrong, in a sentence. Of several commands each says that for itself.
    pub fn run(&self, text: &str) -> anyhow::Result<String> {
        let overlay = self.overlay.as_ref().map(|f| overlay(f)).transpose()?;
        self.told(text, overlay.as_deref())
    }

    fn told(&self, text: &str, overlay: Option<&Overlay>) -> anyhow::Result<String> {
        let all = pairs(messages(text).map_err(anyhow::Error::msg)?, self.out);
        match &all[..] {
            [] => bail!("there is nothing to decode"),
            [one] => self.command(one, overlay),
            many => {
                let told = |c| {
                    self.command(c, overlay)
                        .unwrap_or_else(|e| format!("{e}\n"))
                };
                Ok(many.iter().map(told).collect::<Vec<_>>().join("\n"))
            }
        }
    }

    fn command(&self, c: &Pair, overlay: Option<&Overlay>) -> anyhow::Result<String> {
        if c.inbox.as_ref().is_some_and(|i| i.len() < OPCODE) {
            bail!("an inbox of one byte: that is half an opcode");
        }
        let mut asked = match (&c.inbox, &c.outbox) {
            (Some(inbox), _) => inbox.clone(),
            (None, outbox) => self.asked(c.opcode, outbox.as_deref().unwrap_or_default())?,
        };
        if let (Some(op), None, Some(to)) = (self.opcode, c.opcode, asked.get_mut(..2)) {
            to.copy_from_slice(&op.to_be_bytes());
        }
        let seen = Seen::lone(&asked, c.outbox.as_deref().unwrap_or_default());
        let n = observe::named(&seen, overlay, Which::Set);
        let [input, output] = observe::messages(&seen, overlay);
        let (Some(input), Some(output)) = (input.last(), output.last()) else {
            let what = match n.command.starts_with("0x") {
                true => "is no opcode",
                false => "has no public layout",
            };
            bail!("{} {what}", n.command);
        };
        let names = [Some(n.command), n.register, n.item.map(str::to_owned)];
        let names: Vec<_> = names.into_iter().flatten().collect();
        let title = |part: &Part<'_>, bytes: &[u8]| {
            let (names, layout) = (names.join(" "), part.message.layout.name);
            format!("{names} {layout}, {} bytes\n", bytes.len())
        };
        let mut told = Vec::new();
        if let Some(inbox) = &c.inbox {
            let (uid, op_mod) = (get_bits(inbox, 16, 16), get_bits(inbox, 48, 16));
            let head = format!("{}uid={uid}\nop_mod={op_mod:#x}\n", title(input, inbox));
            told.push(head + &lines(&n.input));
        }
        if let Some(outbox) = &c.outbox {
            told.push(title(output, outbox) + &answered(outbox) + &lines(&n.output));
        }
        Ok(told.join("\n"))
    }

    /// The inbox that an outbox without one is taken to answer.
    fn asked(&self, titled: Option<u16>, outbox: &[u8]) -> Result<Vec<u8>, Usage> {
        let given = self
            .opcode
            .or_else(|| self.register.map(|_| opcode::ACCESS_REG));
        let op = titled
            .or(given)
            .ok_or_else(|| Usage("an outbox does not say its command: give --opcode".into()))?;
        let mut inbox = vec![0; REGISTER];
        inbox[..2].copy_from_slice(&op.to_be_bytes());
        inbox[6..8].copy_from_slice(&self.op_mod.to_be_bytes());
        match (op == opcode::ACCESS_REG, self.register) {
            (true, None) => {
                return Err(Usage(
                    "an outbox of ACCESS_REG does not say its register: give --register".into(),
                ));
            }
            (true, Some(id)) => {
                inbox[REGISTER_ID..REGISTER_ID + 2].copy_from_slice(&id.to_be_bytes());
                // What was asked for, as a configuration item's type, is in the answer too.
                inbox.extend(outbox.get(REGISTER..).unwrap_or_default());
            }
            (false, Some(_)) if titled.is_none() => {
                return Err(Usage("--register goes with ACCESS_REG alone".into()));
            }
            (false, _) => {}
        }
        Ok(inbox)
    }
}

/// How a command ended.
fn answered(outbox: &[u8]) -> String {
    let (status, syndrome) = (get_bits(outbox, 0, 8), get_bits(outbox, 32, 32) as u32);
    let known = u8::try_from(status).ok().and_then(Status::from_code);
    let mut text = match known {
        Some(s) => format!("status={}\n", s.name()),
        None => format!("status={status:#x}\n"),
    };
    let _ = match Syndrome::from_code(syndrome) {
        Some(known) => writeln!(text, "syndrome={syndrome:#x}: {}", known.text()),
        None => writeln!(text, "syndrome={syndrome:#x}"),
    };
    text
}

fn lines(fields: &[String]) -> String {
    fields.iter().map(|f| format!("{f}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::dump::hex;

    fn told(o: &Decode, text: &str) -> String {
        o.told(text, None).unwrap()
    }

    fn wrong(o: &Decode, text: &str) -> String {
        o.told(text, None).unwrap_err().to_string()
    }

    fn outbox() -> Decode {
        Decode {
            out: true,
            ..Decode::default()
        }
    }

    #[test]
    fn a_dump_is_read_back_with_what_the_kernel_puts_before_it() {
        let text = "[   12.3] mlx5_core 0000:01:00.0: dump_command:1:(pid 7): cmd[3]: start dump\n\
            [   12.3] cmd[3]: 000: 080d0000 00000000 00000000 00000001\n\
            [   12.3] cmd[3]: 010: 00000000 abcd0000 00000000 00000000\n\n";
        let all = messages(text).unwrap();
        let bytes = &all[0].bytes;
        assert_eq!(
            (all.len(), bytes.len(), bytes[15], bytes[20]),
            (1, 32, 1, 0xab)
        );
        let plain = messages("0x080d 0000\n01").unwrap();
        assert_eq!(plain[0].bytes, [8, 13, 0, 0, 1]);
        let o = Decode::default();
        let gap = wrong(&o, "cmd[0]: 010: 00000000\n");
        assert!(gap.starts_with("line 1: offset 0x10,"), "{gap}");
        assert_eq!(wrong(&o, "080d\nxyz0\n"), "line 2: \"xyz0\" is not hex");
        assert_eq!(wrong(&o, "123"), "line 1: \"123\" is not hex");
        assert_eq!(wrong(&o, "\n"), "there is nothing to decode");
        let entries = wrong(&o, "mlx5_core 0: cmd[1]: dump command NOP(0x80d) INPUT\n");
        assert!(
            entries.starts_with("line 1: ") && entries.contains("debug_mask=1"),
            "{entries}"
        );
    }

    #[test]
    fn a_message_is_told_by_its_fields() {
        let set_issi = "010b0000 00000000 00000001 00000000";
        let o = Decode::default();
        assert_eq!(
            told(&o, set_issi),
            "SET_ISSI set_issi_in, 16 bytes\nuid=0\nop_mod=0x0\ncurrent_issi=0x1\n"
        );
        let mut out = vec![0; 16 + 64];
        // cmd_hca_cap: log_max_eq is the low nibble of byte 31.
        out[16 + 31] = 6;
        let o = Decode {
            opcode: Some(0x100),
            op_mod: 1,
            ..outbox()
        };
        assert_eq!(
            told(&o, &hex(&out)),
            "QUERY_HCA_CAP query_hca_cap_out, 80 bytes\nstatus=OK\nsyndrome=0x0\n\
             capability.log_max_eq=0x6\n"
        );
        assert_eq!(
            told(&o, "05000000 00e00007"),
            "QUERY_HCA_CAP query_hca_cap_out, 8 bytes\nstatus=BAD_RES\nsyndrome=0xe00007: \
             The uid in the header is not a user context of this function.\n"
        );
        assert!(wrong(&outbox(), "00").ends_with("give --opcode"));
        assert_eq!(wrong(&Decode::default(), "ffff0000"), "0xffff is no opcode");
    }

    #[test]
    fn the_answer_of_a_register_is_told_if_its_register_is_given() {
        let of = |id| Decode {
            register: Some(id),
            ..outbox()
        };
        let head = "00000000 00000000 00000000 00000000\n";
        // paos_reg: local_port bits 8 to 15, admin_status bits 20 to 23, oper_status bits 28 to 31.
        let paos = format!("{head}00010101 00000000 00000000 00000000");
        assert_eq!(
            told(&of(0x5006), &paos),
            "ACCESS_REG PAOS access_register_out, 32 bytes\nstatus=OK\nsyndrome=0x0\n\
             register_data[0].local_port=0x1\nregister_data[0].admin_status=0x1\n\
             register_data[0].oper_status=0x1\n"
        );
        // Which item it is, its own header says: of class 0 index 0x80; sriov_en is bit 0 of dword 1.
        let mnvda = format!("{head}0000000c 00000080 00000000 00000000 80000005 00000000");
        assert_eq!(
            told(&of(0x9024), &mnvda),
            "ACCESS_REG MNVDA nv_global_pci_conf access_register_out, 40 bytes\nstatus=OK\nsyndrome=0x0\n\
             sriov_en=0x1\ntotal_vfs=0x5\n\
             configuration_item_header.length=0xc\n\
             configuration_item_header.type.configuration_item_type_class_global.parameter_index=0x80\n\
             configuration_item_header.type.configuration_item_type_class_per_host_pf.parameter_index=0x80\n"
        );
        // Of this one only the tools know the layout: serial_number is a text at its beginning.
        let msgi = format!("{head}41424344");
        let shown = told(&of(0x9021), &msgi);
        assert_eq!(
            shown,
            "ACCESS_REG MSGI access_register_out, 20 bytes\nstatus=OK\nsyndrome=0x0\n\
             serial_number[0]=0x41424344\n"
        );
        let o = Decode {
            opcode: Some(opcode::ACCESS_REG),
            ..outbox()
        };
        assert!(wrong(&o, &paos).ends_with("give --register"));
        let o = Decode {
            opcode: Some(opcode::NOP),
            ..of(0x5006)
        };
        assert!(wrong(&o, head).starts_with("--register goes with ACCESS_REG"));
    }

    /// Lines of a dump, as they come out of the kernel's log.
    fn dump(slot: u8, title: &str, rows: &[&str]) -> String {
        let before = format!("[ 7.1] mlx5_core 0000:01:00.0: cmd[{slot}]: ");
        let rows = rows.iter().enumerate();
        let rows: String = rows
            .map(|(i, row)| format!("[ 7.1] cmd[{slot}]: {:03x}: {row}\n", i * 16))
            .collect();
        let title = format!("dump command data {title}");
        format!("{before}start dump\n{before}{title}\n{rows}[ 7.1] \n{before}end dump\n")
    }

    const ZERO: &str = "00000000 00000000 00000000 00000000";
    const PAOS_IN: [&str; 2] = [
        "08050000 00000001 00005006 00000000",
        "00010000 00000000 00000000 00000000",
    ];

    #[test]
    fn each_command_of_a_log_is_told_with_its_answer() {
        let paos = dump(1, "ACCESS_REG(0x805) INPUT", &PAOS_IN);
        let up = [ZERO, "00010101 00000000 00000000 00000000"];
        let answer = dump(1, "ACCESS_REG(0x805) OUTPUT", &up);
        let nop = dump(
            0,
            "NOP(0x80d) INPUT",
            &["080d0009 00000000 00000000 00000000"],
        );
        let refused = dump(
            0,
            "NOP(0x80d) OUTPUT",
            &["05000000 00e00007 00000000 00000000"],
        );
        let odd = dump(
            0,
            "unknown command opcode(0xfff) INPUT",
            &["0fff0000 00000000 00000000 00000000"],
        );
        // The log begins within a message, and another driver writes to it too.
        let log = format!(
            "[ 7.0] cmd[1]: 010: 00000000 00000000 00000000 00000000\n[ 7.0] usb 1-1: address: 12\n\
             [ 7.0] 8021q\n{paos}{nop}{answer}[ 7.2] xhci 123: ready\n{refused}{odd}"
        );
        assert_eq!(
            told(&Decode::default(), &log),
            "ACCESS_REG PAOS access_register_in, 32 bytes\nuid=0\nop_mod=0x1\n\
             register_id=PAOS\nregister_data[0].local_port=0x1\n\
             \n\
             ACCESS_REG PAOS access_register_out, 32 bytes\nstatus=OK\nsyndrome=0x0\n\
             register_data[0].local_port=0x1\nregister_data[0].admin_status=0x1\n\
             register_data[0].oper_status=0x1\n\
             \n\
             NOP nop_in, 16 bytes\nuid=9\nop_mod=0x0\n\
             \n\
             NOP nop_out, 16 bytes\nstatus=BAD_RES\nsyndrome=0xe00007: \
             The uid in the header is not a user context of this function.\n\
             \n\
             0x0fff is no opcode\n"
        );
        // Lines alone: in turn.
        let rows = |text: &str| -> String {
            let rows = text.lines().filter(|l| l.contains(": 0"));
            rows.map(|l| format!("{l}\n")).collect()
        };
        let rows = rows(&paos) + &rows(&answer);
        let shown = told(&Decode::default(), &rows);
        assert!(
            shown.ends_with("register_data[0].oper_status=0x1\n"),
            "{shown}"
        );
        // A part of one is said.
        let (_, half) = paos.split_once("data ACC").unwrap();
        let gap = half.replace(": 000: ", ": 020: ");
        let said = wrong(
            &Decode::default(),
            &format!("cmd[1]: dump command data ACC{gap}"),
        );
        assert_eq!(said, "line 2: offset 0x20, but 0x0 bytes are before it");
    }

    #[test]
    fn an_answer_without_its_command_is_told_by_its_title() {
        let up = [ZERO, "00010101 00000000 00000000 00000000"];
        let answer = dump(1, "ACCESS_REG(0x805) OUTPUT", &up);
        assert!(wrong(&Decode::default(), &answer).ends_with("give --register"));
        let o = Decode {
            register: Some(0x5006),
            ..Decode::default()
        };
        let shown = told(&o, &answer);
        assert!(shown.ends_with(".oper_status=0x1\n"), "{shown}");
        // What another command of the slot asked for is not what it answers.
        let nop = dump(
            1,
            "NOP(0x80d) INPUT",
            &["080d0000 00000000 00000000 00000000"],
        );
        let shown = told(&o, &(nop + &answer));
        assert!(shown.ends_with(".oper_status=0x1\n"), "{shown}");
    }

    #[test]
    fn what_an_overlay_adds_is_told_too() {
        let text = include_str!("../../examples/widget.toml");
        let overlay = Overlay::parse(text, "widget.toml").unwrap();
        let shown = Decode::default().told("0bf00000 00000000 00000007 00000000", Some(&*overlay));
        let begins = "QUERY_WIDGET ";
        let shown = shown.unwrap();
        assert!(
            shown.starts_with(begins) && shown.ends_with("\nwidget_id=0x7\n"),
            "{shown}"
        );
    }
}
