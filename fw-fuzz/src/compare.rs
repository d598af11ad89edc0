// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random sequences for both models: the firmware's and the reference.

use std::sync::Arc;

use fw_model::{EventPath, FunctionId, Input, Profile, ProfileError, ResetKind};
use fwctl_proto::{
    layout::set_bits,
    layouts::{
        CreateUctxIn, DestroyUctxIn, EnableHcaIn, ManagePagesIn, QueryHcaCapOut, SetIssiIn,
        TeardownHcaIn, Uctx,
    },
    opcode,
};

use crate::{
    Device, command,
    reference::{
        Answer, Reference, SHARED,
        objects::{KINDS, Role, role},
    },
    trials::Random,
};

/// Steps of a sequence.
pub const STEPS: usize = 24;
/// The profile of the compared card.
const PROFILE: &str = include_str!("../profiles/reference.toml");
/// Room for every outbox; QUERY_ISSI's and the queries' are the longest.
const OUTBOX: u32 = 288;

/// A card and what is expected of it.
#[derive(Debug)]
pub struct Pair {
    device: Device,
    reference: Reference,
    fresh: Reference,
    steps: Vec<Step>,
    /// Resets so far.
    pub resets: u64,
    /// Commands that succeeded so far, and all.
    pub executed: (u64, u64),
}

const F: FunctionId = FunctionId(0);

/// A way to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    Function(ResetKind),
    Power,
    Firmware,
}

/// All of them.
const RESETS: [Reset; 6] = [
    Reset::Function(ResetKind::Flr),
    Reset::Function(ResetKind::Bus),
    Reset::Function(ResetKind::ClientGone),
    Reset::Function(ResetKind::Firmware),
    Reset::Power,
    Reset::Firmware,
];
/// How long a firmware that was reset is given to start, in steps of so many nanoseconds.
const STARTING_STEPS: usize = 4;
const STARTING_NANOS: u64 = 1_000_000_000;

/// What was done, to be told.
#[derive(Clone, Debug)]
enum Step {
    Command(Vec<u8>),
    Reset(Reset),
}

impl Pair {
    /// A card that was just powered, and its reference.
    ///
    /// # Errors
    /// None: the profile is a part of this program.
    ///
    /// # Panics
    /// If the card does not say what it is.
    pub fn new() -> Result<Self, ProfileError> {
        let profile: Arc<Profile> = Profile::parse(PROFILE, "reference.toml")?;
        let (boot, init) = (profile.pages.boot, profile.pages.init);
        let mut device = Device::of(profile, &[EventPath::Channel]);
        // What a driver asks for: the current values of the general capabilities.
        assert!(device.command(F, &command(opcode::ENABLE_HCA, 0, 16), 16));
        assert!(device.command(F, &command(opcode::QUERY_HCA_CAP, 1, 16), 4112));
        let outbox = device.reply().expect("answered").outbox;
        let at = QueryHcaCapOut::CAPABILITY.byte();
        let fresh = Reference::new(&outbox[at..], boot, init);
        Ok(Self {
            device,
            reference: fresh.clone(),
            fresh,
            steps: Vec::new(),
            resets: 0,
            executed: (0, 0),
        })
    }

    /// One sequence from power on.
    ///
    /// # Errors
    /// What they do not agree on, and the sequence up to there.
    pub fn sequence(&mut self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        self.device.renew();
        self.reference = self.fresh.clone();
        self.steps.clear();
        // Most sequences begin with a function that is up.
        if random.below(8) != 0 {
            self.bring_up()?;
        }
        for _ in 0..STEPS {
            if random.below(64) == 0 {
                self.reset(RESETS[random.below(RESETS.len())]);
                continue;
            }
            let inbox = self.inbox(&mut random);
            self.step(&inbox)?;
        }
        self.end()
    }

    /// All ways in which a function begins anew; docs/lifecycle.md has a row for each.
    fn reset(&mut self, reset: Reset) {
        match reset {
            Reset::Function(kind) => self.device.submit(Input::Reset { function: F, kind }),
            Reset::Power => self.device.submit(Input::PowerCycle),
            Reset::Firmware => self.device.submit(Input::FirmwareReset),
        }
        if !matches!(reset, Reset::Function(_)) {
            // It starts, and executes nothing meanwhile.
            for _ in 0..STARTING_STEPS {
                self.device.now.0 += STARTING_NANOS;
                self.device.poll();
            }
        }
        self.reference.reset();
        self.steps.push(Step::Reset(reset));
        self.resets += 1;
    }

    fn bring_up(&mut self) -> Result<(), String> {
        let count = self.fresh.boot + self.fresh.init;
        self.step(&command(opcode::ENABLE_HCA, 0, 16))?;
        self.step(&give((1..=u64::from(count)).map(|n| n << 12)))?;
        self.step(&command(opcode::INIT_HCA, 0, 16))
    }

    fn step(&mut self, inbox: &[u8]) -> Result<(), String> {
        self.steps.push(Step::Command(inbox.to_vec()));
        let ok = self.device.command(F, inbox, OUTBOX);
        self.executed.0 += u64::from(ok);
        self.executed.1 += 1;
        let outbox = self.device.reply().map_or(&[][..], |r| r.outbox);
        let agreed = self.reference.agrees(Answer { inbox, outbox });
        agreed.map_err(|d| self.told(&d.0))
    }

    /// What is left is the same.
    fn end(&self) -> Result<(), String> {
        let report = self.device.card.report(F);
        let (objects, uctx, pages) = self.reference.counts();
        let is = report.map(|r| (r.objects.values().sum(), r.uctx, r.pages as usize));
        if is != Some((objects, uctx, pages)) {
            let should = (objects, uctx, pages);
            return Err(self.told(&format!(
                "objects, user contexts and pages are {is:?}, and they should be {should:?}"
            )));
        }
        for kind in KINDS {
            let all = self.device.card.objects(F, Some(kind.name));
            let is: Vec<_> = all.iter().map(|o| (o.id, o.uid)).collect();
            let should = self.reference.all(kind.name);
            if is != should {
                let name = kind.name;
                return Err(self.told(&format!("of {name} there are {is:x?}, not {should:x?}")));
            }
        }
        Ok(())
    }

    fn told(&self, what: &str) -> String {
        let mut text = format!("step {}: {what}\n", self.steps.len());
        for s in &self.steps {
            let line = match s {
                Step::Reset(how) => format!("  reset: {how:?}\n"),
                Step::Command(s) => {
                    let name = opcode::name(u16::from_be_bytes([s[0], s[1]])).unwrap_or("?");
                    format!("  {name} {:02x?}\n", &s[..s.len().min(64)])
                }
            };
            text.push_str(&line);
        }
        text
    }

    /// The next command: mostly one that makes sense.
    fn inbox(&self, r: &mut Random) -> Vec<u8> {
        let mut inbox = match r.below(20) {
            0 => self.life(r),
            1 | 2 => self.pages(r),
            3 => self.issi(r),
            4 | 5 => self.uctx(r),
            _ => self.object(r),
        };
        if r.below(3) == 0 {
            let uids = self.reference.uids();
            let uid = match r.below(8) {
                0 => SHARED,
                1 => r.number() as u16,
                n => uids.get(n % uids.len().max(1)).copied().unwrap_or(0),
            };
            set_bits(&mut inbox, 16, 16, u64::from(uid));
        }
        if r.below(48) == 0 {
            // Too short, or an op_mod that there is not.
            if r.below(2) == 0 {
                inbox.truncate(16.max(inbox.len() - 16));
            } else {
                set_bits(&mut inbox, 48, 16, r.number() & 3);
            }
        }
        inbox
    }

    fn life(&self, r: &mut Random) -> Vec<u8> {
        let all = [
            opcode::ENABLE_HCA,
            opcode::INIT_HCA,
            opcode::TEARDOWN_HCA,
            opcode::DISABLE_HCA,
            opcode::NOP + 0x4000,
        ];
        let op = all[r.below(all.len())];
        let mut inbox = command(op, 0, 16);
        match op {
            opcode::TEARDOWN_HCA => put(&mut inbox, TeardownHcaIn::PROFILE, r.below(4) as u64),
            opcode::ENABLE_HCA | opcode::DISABLE_HCA if r.below(4) == 0 => {
                put(&mut inbox, EnableHcaIn::FUNCTION_ID, 1);
            }
            _ => {}
        }
        inbox
    }

    fn pages(&self, r: &mut Random) -> Vec<u8> {
        match r.below(4) {
            0 => command(opcode::QUERY_PAGES, r.below(5) as u16, 16),
            1 => {
                let mut inbox = command(opcode::MANAGE_PAGES, 2, 16);
                put(
                    &mut inbox,
                    ManagePagesIn::INPUT_NUM_ENTRIES,
                    r.below(40) as u64,
                );
                inbox
            }
            2 => command(opcode::MANAGE_PAGES, 0, 16),
            _ => {
                let count = r.below(6);
                let odd = u64::from(r.below(16) == 0);
                let mut inbox = give((0..count).map(|_| ((r.below(64) as u64) << 12) + odd));
                if r.below(16) == 0 {
                    put(
                        &mut inbox,
                        ManagePagesIn::INPUT_NUM_ENTRIES,
                        count as u64 + 1,
                    );
                }
                inbox
            }
        }
    }

    fn issi(&self, r: &mut Random) -> Vec<u8> {
        if r.below(2) == 0 {
            return command(opcode::QUERY_ISSI, 0, 16);
        }
        let mut inbox = command(opcode::SET_ISSI, 0, 16);
        put(&mut inbox, SetIssiIn::CURRENT_ISSI, r.below(3) as u64);
        inbox
    }

    fn uctx(&self, r: &mut Random) -> Vec<u8> {
        if r.below(3) != 0 {
            let mut inbox = command(opcode::CREATE_UCTX, 0, 64);
            let cap = [0, 1, 4, 5, 2][r.below(5)];
            let at = CreateUctxIn::UCTX.byte() as u32 * 8 + Uctx::CAP.offset();
            set_bits(&mut inbox, at, Uctx::CAP.width(), cap);
            return inbox;
        }
        let mut inbox = command(opcode::DESTROY_UCTX, 0, 16);
        let uids = self.reference.uids();
        let uid = uids.get(r.below(uids.len())).copied().unwrap_or(7);
        put(&mut inbox, DestroyUctxIn::UID, u64::from(uid));
        inbox
    }

    fn object(&self, r: &mut Random) -> Vec<u8> {
        let kind = r.below(KINDS.len());
        let k = &KINDS[kind];
        let wanted = match r.below(8) {
            0..=3 => Some(k.create),
            4 => k.query,
            5 => k.modify,
            _ => Some(k.destroy),
        };
        let op = wanted.unwrap_or(k.create);
        let long = matches!(role(op), Some((_, Role::Create | Role::Modify)));
        let mut inbox = command(op, 0, if long { k.in_len } else { 16 });
        if op == k.create {
            for place in k.places() {
                if let Some((at, width, value)) = place.only_if {
                    let value = if r.below(2) == 0 { value } else { 0 };
                    set_bits(&mut inbox, at, width, value);
                }
                if r.below(3) != 0 {
                    let n = self.number(r, place.kind);
                    set_bits(&mut inbox, place.at, 24, u64::from(n));
                }
            }
            return inbox;
        }
        k.put_number(&mut inbox, self.number(r, kind));
        if Some(op) == k.modify {
            let state = |r: &mut Random| [0, 1, 3, 1, 0, 2][r.below(6)];
            let (from, to) = (state(r), state(r));
            k.put_states(&mut inbox, from, to);
        }
        inbox
    }

    /// The number of an object of a kind: mostly of one that there is.
    fn number(&self, r: &mut Random, kind: usize) -> u32 {
        let all: Vec<u32> = self.reference.numbers(kind).collect();
        let there = all.get(r.below(all.len())).copied();
        match (there, r.below(24)) {
            (_, 0) | (None, 1..4) => r.number() as u32 & 0xff_ffff,
            (Some(n), _) => n,
            (None, _) => 0,
        }
    }
}

fn put<L>(inbox: &mut [u8], f: fwctl_proto::layout::Field<L>, value: u64) {
    set_bits(inbox, f.offset(), f.width(), value);
}

/// MANAGE_PAGES that gives these.
fn give(pages: impl Iterator<Item = u64>) -> Vec<u8> {
    let list: Vec<u8> = pages.flat_map(u64::to_be_bytes).collect();
    let mut inbox = command(opcode::MANAGE_PAGES, 1, 16);
    put(
        &mut inbox,
        ManagePagesIn::INPUT_NUM_ENTRIES,
        (list.len() / 8) as u64,
    );
    inbox.extend(list);
    inbox
}
