// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sequences of commands and of everything else that happens to a card, made from a fuzzer's bytes.

use std::{collections::HashMap, sync::Arc};

use arbitrary::Unstructured;
use fw_model::{
    Bits, Caller, EventPath, FunctionId, Input, Profile, Report, ResetKind, Scope, fault::Fault,
    table,
};
use fwctl_proto::{
    layout::{get_bits, set_bits},
    layouts::{CreateEqOut, CreateUctxOut},
    opcode,
};

use crate::{
    Device, Kept,
    bytes::{byte, short},
    commands::{Commands, MAX_INBOX, MAX_OUTBOX, length},
    known::Known,
};

/// Most steps of a sequence.
pub const MAX_STEPS: usize = 16;
/// Functions of its card.
pub const FUNCTIONS: usize = 2;

/// States that the functions begin in: disabled, enabled, up, of each.
const BEGINS: usize = 3 * 3;

/// Kinds of steps: a step's first byte is below these.
mod kind {
    /// A command made from the tables.
    pub const MADE: u8 = 160;
    /// A command byte by byte.
    pub const RAW: u8 = 200;
    /// The first of the rest.
    pub const OTHER: u8 = RAW;
}

/// A step's second byte: for whom.
mod who {
    /// The second function.
    pub const FUNCTION: u8 = 0x01;
    /// How a uid is chosen, two bits.
    pub const UID_SHIFT: u8 = 1;
    /// Whether what the command is refused with is compared with what was before it.
    pub const COMPARE: u8 = 0x08;
    /// The scope of a user's request, two bits.
    pub const SCOPE_SHIFT: u8 = 4;
}

/// Runs sequences on a card with two functions, one with event queues and one with a channel.
#[derive(Debug)]
pub struct Sequence {
    commands: Commands,
    device: Device,
    known: [Known; FUNCTIONS],
    faults: Faults,
    /// What each first byte leads to.
    begins: [Option<Kept>; BEGINS],
}

impl Sequence {
    /// Sequences of these commands on a card of a profile.
    #[must_use]
    pub fn new(profile: Arc<Profile>, commands: Commands) -> Self {
        let paths = [EventPath::EventQueues, EventPath::Channel];
        Self {
            commands,
            device: Device::of(profile, &paths),
            known: core::array::from_fn(|_| Known::default()),
            faults: Faults::default(),
            begins: Default::default(),
        }
    }

    /// The card.
    pub fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// Lets the sequence happen that `data` says, from power on. The first byte chooses in which state
    /// the functions begin.
    ///
    /// # Panics
    /// If the firmware does what it must not; see [`Device`].
    pub fn run(&mut self, data: &[u8]) {
        let mut u = Unstructured::new(data);
        for known in &mut self.known {
            known.forget();
        }
        let begin = byte(&mut u);
        let states: [u8; FUNCTIONS] = core::array::from_fn(|n| (begin >> (2 * n) & 3).min(2));
        let kept = &mut self.begins[usize::from(states[0] + 3 * states[1])];
        self.device.renew_to(kept, |device| {
            for (f, state) in (0..).map(FunctionId).zip(states) {
                match state {
                    0 => {}
                    1 => {
                        device.bring_to_enabled(f);
                    }
                    _ => device.bring_up(f),
                }
            }
        });
        crate::begins();
        for _ in 0..MAX_STEPS {
            if u.is_empty() {
                break;
            }
            self.step(&mut u);
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) {
        self.device.now.0 += 1000;
        let what = byte(u);
        if what >= kind::OTHER {
            return self.other(what, u);
        }
        let who = byte(u);
        let n = usize::from(who & who::FUNCTION);
        let mut inbox = self.device.take_buffer();
        let out_len = if what < kind::MADE {
            self.commands.make(u, &self.known[n], &mut inbox)
        } else {
            raw(u, &mut inbox)
        };
        self.send(n, who, &mut inbox, out_len);
        self.device.return_buffer(inbox);
    }

    /// Sends a command and remembers what it made.
    fn send(&mut self, n: usize, who: u8, inbox: &mut [u8], out_len: u32) {
        let f = FunctionId(n as u8);
        let uid = self.known[n].uid(who >> 6);
        let mut caller = Caller::Driver;
        match who >> who::UID_SHIFT & 3 {
            1 if inbox.len() >= 4 => set_bits(inbox, 16, 16, u64::from(uid)),
            2 => {
                let scope = match who >> who::SCOPE_SHIFT & 3 {
                    0 => Scope::Configuration,
                    1 => Scope::DebugReadOnly,
                    2 => Scope::DebugWrite,
                    _ => Scope::DebugWriteFull,
                };
                caller = Caller::User { scope, uid };
            }
            _ => {}
        }
        let device = &mut self.device;
        if device.goes_wrong() {
            device.command_of(f, caller, inbox, out_len);
            return;
        }
        let before = (who & who::COMPARE != 0).then(|| {
            // What is due at this time happens before.
            device.poll();
            crate::check::looked_at(&device.card, f)
        });
        if device.command_of(f, caller, inbox, out_len) {
            if let Some(reply) = device.reply() {
                remember(&self.commands, &mut self.known[n], inbox, reply.outbox);
            }
        } else if let (Some(before), Some(_)) = (before, device.reply()) {
            let now = crate::check::looked_at(&device.card, f);
            assert!(before == now, "a refused command has changed something");
        }
    }

    /// What is not a command.
    fn other(&mut self, what: u8, u: &mut Unstructured<'_>) {
        let n = byte(u);
        let function = FunctionId(n & 1);
        let small = n >> 1;
        let device = &mut self.device;
        match what - kind::OTHER {
            0..=5 => {
                device.now.0 += 1 << (small % 40);
                device.poll();
            }
            6..=10 => {
                let data = u.arbitrary::<[u8; 4]>().unwrap_or_default();
                let offset = if small & 1 == 0 { 0x40 } else { 0x48 };
                let uar = u32::from(small >> 1);
                device.submit(Input::UarWrite {
                    function,
                    uar,
                    offset,
                    data: &data,
                });
            }
            11..=14 => {
                let data = u.arbitrary::<[u8; 8]>().unwrap_or_default();
                let offset = u32::from(short(u));
                let uar = 64 + u32::from(small);
                device.submit(Input::UarWrite {
                    function,
                    uar,
                    offset,
                    data: &data,
                });
            }
            15..=18 => {
                let offset = u32::from(short(u)) & 0x1fff;
                let data = u.arbitrary::<[u8; 4]>().unwrap_or_default();
                device.submit(Input::SegmentWrite {
                    function,
                    offset,
                    data: &data,
                });
                let mut word = [0; 4];
                device
                    .card
                    .read_segment(function, offset, &mut word, device.now);
            }
            19..=22 => device.submit(Input::PageDemand {
                function,
                count: i32::from(small) - 64,
            }),
            23..=25 => {
                let kinds = [
                    ResetKind::Flr,
                    ResetKind::Bus,
                    ResetKind::ClientGone,
                    ResetKind::Firmware,
                ];
                let kind = kinds[usize::from(small) % kinds.len()];
                device.submit(Input::Reset { function, kind });
            }
            26..=29 => {
                let row = usize::from(short(u)) % table::OPS.len();
                device.submit(Input::Delay {
                    opcode: table::OPS[row].opcode,
                    nanos: u64::from(small) * 100,
                });
            }
            30..=33 => device.submit(Input::Event {
                function,
                event_type: small,
                sub_type: byte(u),
                data: u.arbitrary().unwrap_or([0; 28]),
            }),
            34 | 35 => device.submit(Input::Link {
                function,
                up: small & 1 == 1,
            }),
            36 | 37 => device.submit(Input::Temperature {
                eighths: u.arbitrary().unwrap_or(0),
            }),
            38 => device.submit(Input::Health(Report {
                syndrome: small,
                ext_syndrome: 0,
                severity: small & 7,
                fatal: small & 0x10 != 0,
                cold: small & 0x20 != 0,
                vars: u.arbitrary().unwrap_or_default(),
            })),
            39 => device.submit(Input::Hang(small & 1 == 1)),
            40 => device.submit(Input::Start {
                nanos: u64::from(small) * 1000,
            }),
            41 => device.submit(Input::PowerCycle),
            42..=44 => device.submit(Input::SetCap {
                function,
                cap_type: u16::from(small),
                bits: bits(u),
            }),
            45..=47 => {
                let register = u.arbitrary().unwrap_or(0);
                device.submit(Input::SetRegister {
                    function,
                    register,
                    given: &[0; 256],
                    bits: bits(u),
                });
            }
            48 => device.submit(Input::FirmwareReset),
            49 => {
                if let Some(fault) = self.faults.one(u, small) {
                    device.submit(Input::Fault(fault));
                }
            }
            50 => {
                let one = (small & 1 == 0).then_some(u32::from(small >> 1));
                device.submit(Input::ClearFaults(one));
            }
            51 => device.submit(Input::Amend {
                stopped: u32::from(small & 3),
                offset: u32::from(short(u)),
                width: u32::from(byte(u) % 66),
                value: u.arbitrary().unwrap_or(0),
            }),
            52 => {
                let one = (small & 1 == 0).then_some(u32::from(small >> 1));
                device.submit(Input::Continue(one));
            }
            // The disk is full, or there is room again.
            53 => device.stores = small & 1 == 1,
            _ => {
                let page = byte(u);
                // As many as are asked for at most.
                device.give_pages(function, 1000 + u32::from(page), u32::from(small >> 1));
            }
        }
    }
}

/// Things that go wrong on purpose, of each kind that does not end the emulator. They are kept: to read one takes as
/// long as ten commands.
#[derive(Debug, Default)]
struct Faults(HashMap<(When, usize, u8), Option<Fault>>);

/// Which commands one strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum When {
    Opcode(u16),
    Percent(u8),
}

impl Faults {
    fn one(&mut self, u: &mut Unstructured<'_>, n: u8) -> Option<&Fault> {
        let row = usize::from(short(u)) % table::OPS.len();
        let when = match table::OPS[row].opcode {
            op if n & 0x40 == 0 && opcode::name(op).is_some() => When::Opcode(op),
            _ => When::Percent(1 + byte(u) % 100),
        };
        let then = usize::from(n & 0x3f) % THEN.len();
        let times = byte(u) & 7;
        let made = || {
            let when = match when {
                When::Opcode(op) => format!("opcode={}", opcode::name(op).unwrap_or_default()),
                When::Percent(n) => format!("any percent={n}"),
            };
            Fault::of(&when, THEN[then], Some(u64::from(times))).ok()
        };
        let kept = self.0.entry((when, then, times));
        kept.or_insert_with(made).as_ref()
    }
}

/// What may go wrong with a command (docs/faults.md).
const THEN: [&str; 30] = [
    "status=BAD_RES syndrome=7",
    "silent",
    "lost",
    "stop",
    "delay=1",
    "fill=0",
    "fill=random",
    "mutate=3",
    "reserved=1",
    "cut=9",
    "delivery=TOK_ERR",
    "token=7",
    "signature",
    "owner",
    "no-event",
    "other-slot=3",
    "twice",
    "event-owner",
    "event-type=CMD",
    "no-interrupt",
    "interrupts=2",
    "late-interrupt=1",
    "raise=PORT_CHANGE count=3 random-data",
    "page-demand=5",
    "hang",
    "frozen-counter",
    "starting=1",
    "stray-write=16",
    "cable=0",
    "removal",
];

fn bits(u: &mut Unstructured<'_>) -> Bits {
    Bits {
        offset: u32::from(short(u)),
        width: u32::from(byte(u) % 65),
        value: u.arbitrary().unwrap_or(0),
    }
}

/// A command as the bytes have it: its length (2, little-endian), the outbox's (2), and itself.
fn raw(u: &mut Unstructured<'_>, inbox: &mut Vec<u8>) -> u32 {
    let len = length(short(u), MAX_INBOX as u32) as usize;
    let out_len = length(short(u), MAX_OUTBOX);
    inbox.clear();
    let there = len.min(u.len());
    inbox.extend_from_slice(u.bytes(there).unwrap_or_default());
    inbox.resize(len, 0);
    out_len
}

/// Remembers what a command that succeeded has made.
pub(crate) fn remember(commands: &Commands, known: &mut Known, inbox: &[u8], outbox: &[u8]) {
    if let Some((kind, n)) = commands.made(inbox, outbox) {
        known.add(kind, n);
        return;
    }
    match get_bits(inbox, 0, 16) as u16 {
        opcode::CREATE_UCTX => {
            let f = CreateUctxOut::UID;
            known.add_uid(get_bits(outbox, f.offset(), f.width()) as u16);
        }
        opcode::CREATE_EQ => {
            let f = CreateEqOut::EQ_NUMBER;
            known.add_eq(get_bits(outbox, f.offset(), f.width()) as u32);
        }
        _ => {}
    }
}

/// A step of raw bytes as [`Sequence::run`] reads it: for seeds.
#[must_use]
pub fn raw_step(function: u8, inbox: &[u8], outbox_len: u32) -> Vec<u8> {
    let mut step = vec![kind::MADE, function & 1];
    step.extend((inbox.len() as u16).to_le_bytes());
    step.extend((outbox_len as u16).to_le_bytes());
    step.extend(inbox);
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command, targets, trials::Inputs};
    use fwctl_proto::register;

    const F: u8 = 0;

    fn sequence() -> Sequence {
        Sequence::new(targets::profile(), Commands::all())
    }

    /// A step that is no command: its number, what `small` is, and its bytes.
    fn other(number: u8, small: u8, more: &[u8]) -> Vec<u8> {
        [&[kind::OTHER + number, small << 1 | F], more].concat()
    }

    fn run(steps: &[Vec<u8>]) -> Sequence {
        let mut s = sequence();
        s.run(&[&[0x0a][..], &steps.concat()].concat());
        s
    }

    fn state(s: &mut Sequence) -> &'static str {
        s.device().card.report(FunctionId(F)).unwrap().state
    }

    /// What the inputs before have left is nowhere in what a card copies from the one that is kept.
    #[test]
    fn a_card_that_was_used_before_does_as_a_new_one_does() {
        let shown = |s: &mut Sequence| {
            let card = &s.device().card;
            (card.save().unwrap(), format!("{:?}", card.counters()))
        };
        let mut used = sequence();
        for input in Inputs::of(&targets::commands::COMMANDS, 1).take(1500) {
            used.run(&input);
            let mut new = sequence();
            new.run(&input);
            assert!(shown(&mut used) == shown(&mut new), "{input:x?}");
        }
    }

    #[test]
    fn every_fault_is_one() {
        let mut faults = Faults::default();
        // Twice, as they are kept.
        for n in [0..THEN.len() as u8, 0..THEN.len() as u8]
            .into_iter()
            .flatten()
        {
            let then = THEN[usize::from(n)];
            for (when, text) in [
                (
                    n,
                    format!(
                        "opcode={} : {then}",
                        opcode::name(table::OPS[5].opcode).unwrap()
                    ),
                ),
                (n | 0x40, format!("any percent=21 : {then}")),
            ] {
                let bytes: &[u8] = if when == n {
                    &[5, 0, 3]
                } else {
                    &[5, 0, 20, 3]
                };
                let f = faults.one(&mut Unstructured::new(bytes), when).unwrap();
                assert!(f.text.starts_with(&text), "{} {text}", f.text);
                assert_eq!(f.left, Some(3), "{}", f.text);
            }
        }
        assert_eq!(faults.0.len(), 2 * THEN.len());
        assert!(!THEN.contains(&"panic") && !THEN.contains(&"crash"));
    }

    #[test]
    fn the_firmware_is_reset_and_starts_again() {
        let mut s = run(&[]);
        assert_eq!(state(&mut s), "up");
        // 134 ms later.
        let mut s = run(&[other(48, 0, &[]), other(0, 27, &[])]);
        assert_eq!(state(&mut s), "disabled");
    }

    #[test]
    fn a_fault_strikes_is_amended_continued_and_cleared() {
        // Row of ALLOC_PD, any times.
        let row = table::OPS.iter().position(|o| o.opcode == opcode::ALLOC_PD);
        let row = (row.unwrap() as u16).to_le_bytes();
        let stop = THEN.iter().position(|t| *t == "stop").unwrap() as u8;
        let fault = other(49, stop, &[row[0], row[1], 3]);
        let pd = raw_step(F, &command(opcode::ALLOC_PD, 0, 16), 16);
        let mut s = run(&[fault.clone(), pd.clone()]);
        let card = &s.device().card;
        assert_eq!(card.stopped().len(), 1);
        assert_eq!(card.faults()[0].struck, 1);
        // Bit 0x48 of the outbox, 24 bits: the number.
        let amend = other(51, 1, &[0x48, 0, 24, 0xab, 0, 0, 0, 0, 0, 0, 0]);
        let mut s = run(&[fault.clone(), pd.clone(), amend.clone()]);
        assert_eq!(s.device().card.stopped()[0].outbox[9..12], [0, 0, 0xab]);
        let go = other(52, 1, &[]);
        let mut s = run(&[fault.clone(), pd.clone(), amend, go]);
        let d = s.device();
        assert!(d.card.stopped().is_empty());
        assert_eq!(d.reply().unwrap().outbox[9..12], [0, 0, 0xab]);
        let mut s = run(&[fault, other(50, 1, &[]), pd]);
        let d = s.device();
        assert!(d.card.faults().is_empty() && d.reply().unwrap().is_ok());
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        // MNVDA, written: SRIOV_EN's item, nv_global_pci_conf, is 0x80 of class 0, 12 bytes.
        let mut set = command(opcode::ACCESS_REG, 0, 16 + 16 + 12);
        set_bits(&mut set, 80, 16, u64::from(register::MNVDA));
        let at = 16 * 8;
        set_bits(&mut set, at, 32, 12);
        set_bits(&mut set, at + 32, 32, 0x80);
        let set = raw_step(F, &set, 64);
        let status = |steps: &[Vec<u8>]| {
            let mut s = run(steps);
            let items = s.device().card.items();
            let status = s.device().reply().and_then(|r| r.status());
            (status, items)
        };
        let (_, before) = status(&[]);
        let (stored, after) = status(std::slice::from_ref(&set));
        assert_eq!(stored, Some(0));
        assert_ne!(after, before, "the command does what it says");
        let (refused, _) = status(&[other(53, 0, &[]), set.clone()]);
        assert!(refused.is_some_and(|s| s != 0), "{refused:?}");
        let (again, _) = status(&[other(53, 0, &[]), other(53, 1, &[]), set]);
        assert_eq!(again, Some(0));
    }
}
