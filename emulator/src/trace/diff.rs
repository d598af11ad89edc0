// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two traces compared by what they say: without times, and with the numbers that differ from one run
//! to the next replaced by the order in which they came.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use fw_model::{Overlay, ResetKind, Why};
use similar::{ChangeTag, TextDiff};

use super::{Command, Entry, dump, show};
use crate::{decode::Which, observe};

/// Fields that hold a number which the firmware gave out, or an address in the guest.
const IDS: &[&str] = &[
    "uid",
    "pd",
    "cqn",
    "cqn_snd",
    "cqn_rcv",
    "qpn",
    "eq_number",
    "c_eqn_or_apu_element",
    "mkey_index",
    "mkey_7_0",
    "uar",
    "uar_page",
    "transport_domain",
    "tisn",
    "tirn",
    "rqn",
    "sqn",
    "rqtn",
    "rmpn",
    "srqn",
    "xrqn",
    "dctn",
    "xrcd",
    "table_id",
    "group_id",
    "flow_counter_id",
    "obj_id",
    "counter_set_id",
    "packet_reformat_id",
    "modify_header_id",
    "dbr_addr",
    "dbr_umem_id",
    "pas",
    "start_addr",
    "klm_pas_mtt",
    "pa_h",
    "pa_l",
    "mkey",
    "address",
];

/// Fields that differ from run to run: clocks, keys by chance, and slots.
const EACH_RUN: &[&str] = &[
    "time_h",
    "time_l",
    "current_timestamp31_0",
    "current_timestamp52_32",
    "rx_hash_toeplitz_key",
    "command_completion_vector",
];

/// Entries as lines that can be compared.
#[derive(Default)]
pub struct Lines {
    seen: HashMap<(String, String), usize>,
    counts: HashMap<String, usize>,
    text: String,
}

/// The last part of a path, without its index.
fn last(path: &str) -> &str {
    let name = path.rsplit('.').next().unwrap_or(path);
    name.split('[').next().unwrap_or(name)
}

/// `name=value` without a value that differs from run to run.
fn without_chance(field: &str) -> Cow<'_, str> {
    match field.split_once('=') {
        Some((path, _)) if EACH_RUN.contains(&last(path)) => format!("{path}=~").into(),
        _ => field.into(),
    }
}

impl Lines {
    /// A number by the order in which it came among those of its kind.
    fn order(&mut self, kind: &str, value: &str) -> usize {
        if let Some(n) = self.seen.get(&(kind.to_owned(), value.to_owned())) {
            return *n;
        }
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        let n = *count;
        self.seen.insert((kind.to_owned(), value.to_owned()), n);
        n
    }

    fn fields(&mut self, title: &str, fields: &[String]) {
        let _ = write!(self.text, " | {title}:");
        for f in fields {
            match f.split_once('=') {
                Some((path, value)) if IDS.contains(&last(path)) => {
                    let n = self.order(last(path), value);
                    let _ = write!(self.text, " {path}=#{n}");
                }
                _ => {
                    let _ = write!(self.text, " {}", without_chance(f));
                }
            }
        }
    }

    /// A command, and what is instead of its answer if it has none.
    fn command(&mut self, c: &Command<'_>, why: Option<Why>, overlay: Option<&Overlay>) {
        let n = observe::named(&c.seen(), overlay, Which::Every);
        let uid = match c.uid() {
            0 => 0,
            uid => self.order("uid", &uid.to_string()),
        };
        let _ = write!(self.text, "f{} {}", c.function, n.command);
        for name in n.register.as_deref().into_iter().chain(n.item) {
            let _ = write!(self.text, " {name}");
        }
        let _ = write!(
            self.text,
            " op_mod={:#x} uid=#{uid} in={}",
            Command::word(&c.inbox, 6),
            c.inbox.len(),
        );
        if let Some(why) = why {
            let _ = write!(self.text, " -> {}", observe::outcome(why));
        } else {
            let _ = write!(
                self.text,
                " out={} -> {} syndrome={:#x}{:04x}",
                c.outbox.len(),
                n.status,
                Command::word(&c.outbox, 4),
                Command::word(&c.outbox, 6),
            );
        }
        self.fields("in", &n.input);
        if why.is_none() {
            self.fields("out", &n.output);
        }
        for (title, rest) in ["in", "out"]
            .iter()
            .zip(observe::unnamed(&c.seen(), overlay))
        {
            for (i, dword) in rest.chunks(4).enumerate().filter(|(_, d)| **d != [0; 4]) {
                let _ = write!(
                    self.text,
                    " | {title}[{:#x}] unnamed: {}",
                    i * 4,
                    dump::hex(dword)
                );
            }
        }
    }

    /// Adds an entry. Writes to registers and doorbells are left out: they hold addresses and counters.
    pub fn add(&mut self, e: &Entry<'_>, overlay: Option<&Overlay>) {
        match e {
            Entry::Command(c) => self.command(c, None, overlay),
            Entry::Unanswered(u) => self.command(&u.command(), Some(u.why), overlay),
            Entry::Event { .. }
            | Entry::Refused { .. }
            | Entry::Note { .. }
            | Entry::Lost { .. } => {
                let body = show::body(e, None, usize::MAX);
                let words: Vec<_> = body.split(' ').map(without_chance).collect();
                self.text += &words.join(" ");
            }
            Entry::Reset { function, kind, .. } => {
                let kind = kind.map_or("it begins anew", ResetKind::name);
                let _ = write!(self.text, "f{function} reset: {kind}");
            }
            Entry::Head { .. }
            | Entry::Gateway { .. }
            | Entry::Interrupt { .. }
            | Entry::Segment { .. }
            | Entry::Doorbell { .. } => return,
        }
        self.text.push('\n');
    }
}

/// What differs, as a unified diff; empty if nothing does.
#[must_use]
pub fn unified(a: &Lines, b: &Lines, names: (&str, &str)) -> String {
    /// Lines around a difference.
    const AROUND: usize = 3;
    let diff = TextDiff::from_lines(&a.text, &b.text);
    if diff.iter_all_changes().all(|c| c.tag() == ChangeTag::Equal) {
        return String::new();
    }
    diff.unified_diff()
        .context_radius(AROUND)
        .header(names.0, names.1)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Via;
    use fwctl_proto::layouts::ALL;

    fn command(bytes: &[u8], out: &[u8], at: u64) -> Entry<'static> {
        Entry::Command(Command {
            function: 0,
            via: Via::Slot(at as u8),
            submitted: at,
            completed: at + 5,
            own: at,
            delivery: 0,
            inbox: bytes.to_vec().into(),
            outbox: out.to_vec().into(),
        })
    }

    /// ALLOC_PD gives a number, DEALLOC_PD names it.
    fn run(pd: u8, freed: u8, at: u64) -> Lines {
        let mut lines = Lines::default();
        let mut out = [0; 16];
        out[11] = pd;
        let mut alloc = [0; 16];
        alloc[..2].copy_from_slice(&[8, 0]);
        let mut free = [0; 16];
        (free[0], free[1], free[11]) = (8, 1, freed);
        for e in [command(&alloc, &out, at), command(&free, &[0; 16], at)] {
            lines.add(&e, None);
        }
        lines
    }

    #[test]
    fn numbers_and_times_do_not_matter_but_which_number_does() {
        let names = ("a", "b");
        assert_eq!(unified(&run(7, 7, 1), &run(9, 9, 100), names), "");
        let d = unified(&run(7, 7, 1), &run(7, 8, 1), names);
        assert!(d.starts_with("--- a\n+++ b\n"), "{d}");
        assert!(
            d.contains("-f0 DEALLOC_PD op_mod=0x0 uid=#0 in=16 out=16 -> OK"),
            "{d}"
        );
        assert!(d.contains("pd=#1\n") || d.contains("pd=#1 "), "{d}");
        assert!(d.contains("pd=#2"), "{d}");
    }

    /// One command.
    fn one(inbox: &[u8], outbox: &[u8]) -> Lines {
        let mut lines = Lines::default();
        lines.add(&command(inbox, outbox, 0), None);
        lines
    }

    /// A read of MNVDA of the item with this class and index, by this access mode.
    fn mnvda(class: u8, index: u8, access_mode: u8) -> Vec<u8> {
        let mut inbox = vec![0; 16 + 12 + 16];
        inbox[..8].copy_from_slice(&[8, 5, 0, 0, 0, 0, 0, 1]);
        inbox[10..12].copy_from_slice(&[0x90, 0x24]);
        // config_item: access_mode in bits 0x8..0xa, type from bit 0x20 on.
        inbox[17] = access_mode << 6;
        (inbox[20], inbox[23]) = (class, index);
        inbox
    }

    #[test]
    fn any_bit_that_differs_is_a_difference() {
        let names = ("a", "b");
        let inbox = mnvda(0, 0x80, 1);
        let mut outbox = inbox.clone();
        outbox[..16].fill(0);
        let same = unified(&one(&inbox, &outbox), &one(&inbox, &outbox), names);
        assert_eq!(same, "");
        for refused in [0, 3] {
            outbox[0] = refused;
            for bit in 0..inbox.len() * 8 {
                let flipped = |of: &[u8]| {
                    let mut bytes = of.to_vec();
                    bytes[bit / 8] ^= 0x80 >> (bit % 8);
                    bytes
                };
                let ours = one(&inbox, &outbox);
                // A uid is a number that the firmware gave out; which one does not matter.
                if !(16..32).contains(&bit) {
                    let d = unified(&ours, &one(&flipped(&inbox), &outbox), names);
                    assert_ne!(d, "", "bit {bit} of the inbox");
                }
                let d = unified(&ours, &one(&inbox, &flipped(&outbox)), names);
                assert_ne!(d, "", "bit {bit} of the outbox");
            }
        }
    }

    #[test]
    fn items_access_modes_and_lengths_are_told() {
        let shown = |inbox: &[u8], out: usize| one(inbox, &vec![0; out]).text;
        let text = shown(&mnvda(0, 0x80, 1), 44);
        assert!(
            text.contains(" ACCESS_REG MNVDA nv_global_pci_conf op_mod=0x1 "),
            "{text}"
        );
        assert!(
            text.contains("configuration_item_header.access_mode=0x1"),
            "{text}"
        );
        assert!(text.contains(" in=44 out=44 "), "{text}");
        assert!(shown(&mnvda(0, 0x80, 1), 48).contains(" in=44 out=48 "));
        // Bit 5 of the register's third dword is no field of config_item.
        let mut odd = mnvda(0, 0x80, 1);
        odd[24] = 4;
        let text = shown(&odd, 44);
        assert!(text.contains("in[0x18] unnamed: 04000000"), "{text}");
    }

    #[test]
    fn clocks_and_slots_do_not_matter() {
        // MRTC (0x902d): time_h in bytes 8 to 12 of the register; and of an event of commands, the slots.
        let mut inbox = vec![0; 32];
        inbox[..8].copy_from_slice(&[8, 5, 0, 0, 0, 0, 0, 1]);
        inbox[10..12].copy_from_slice(&[0x90, 0x2d]);
        let run = |time: u8, slot: u8| {
            let mut outbox = vec![0; 32];
            outbox[27] = time;
            let mut lines = one(&inbox, &outbox);
            let event = Entry::Event {
                at: 0,
                function: 0,
                event_type: 0xa,
                sub_type: 0,
                data: [&[0, 0, 0, slot][..], &[0; 24]].concat().into(),
                lost: false,
            };
            lines.add(&event, None);
            lines
        };
        let text = run(1, 1).text;
        assert!(
            text.contains(".time_h=~") && text.contains(" command_completion_vector=~"),
            "{text}"
        );
        assert_eq!(unified(&run(1, 1), &run(2, 8), ("a", "b")), "");
    }

    #[test]
    fn every_name_is_one_of_a_field() {
        for name in IDS.iter().chain(EACH_RUN) {
            let there = ALL.iter().any(|l| l.fields.iter().any(|f| f.name == *name));
            assert!(there, "{name}");
        }
    }
}
