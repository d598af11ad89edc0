// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults: commands that are refused, lost, delayed or answered wrongly on purpose (docs/faults.md).
//! They act at three points, and no handler knows of them.

mod actions;
mod mutate;
mod parse;
mod reserved;

use core::time::Duration;

use fwctl_proto::{
    layout::{get_bits, set_bits},
    mst::nv::Type,
    opcode, register,
};
use serde::{Deserialize, Serialize};

use crate::{
    FunctionId,
    function::{State, eq::Telling},
    reg,
    time::Time,
};

pub use actions::{ACTIONS, Action, Point};
pub use parse::{BadFault, Message, Target, answer_field, message, register_field};

/// Faults that a card may have.
pub const MAX_FAULTS: usize = 256;

/// Events that one fault may raise at once.
pub const MAX_RAISED: u16 = 4096;
/// Bytes of a fault's text.
pub const MAX_TEXT: usize = 16 << 10;

/// Where ACCESS_REG has the register's id.
const REGISTER: u32 = 80;
/// Where the register itself lies in it.
const REGISTER_BYTE: u32 = reg::DATA as u32;
/// Where MNVDA has an item's type word and its data, in bits.
const ITEM_TYPE: u32 = (REGISTER_BYTE + 4) * 8;
const ITEM_DATA: u32 = (REGISTER_BYTE + 12) * 8;
/// Bytes of a status and its syndrome.
const STATUS_BYTES: usize = 8;

/// A field of a message: bit offset, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    offset: u32,
    width: u32,
}

/// Which commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct When {
    opcode: Option<u16>,
    register: Option<u16>,
    // Class and index of a configuration item.
    item: Option<(u8, u32)>,
    op_mod: Option<u16>,
    uid: Option<u16>,
    function: Option<u8>,
    state: Option<State>,
    fields: Vec<(Place, u64)>,
    nth: Option<u64>,
    percent: Option<u64>,
    // No command at all: after so many milliseconds.
    at: Option<u32>,
}

/// What fills an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fill {
    Zeros,
    Ones,
    Random,
}

/// What the firmware does besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// It raises an event of this type.
    Raise {
        /// The type.
        event_type: u8,
        /// So often.
        count: u16,
        /// Sub-type and data are random, else zero.
        random: bool,
    },
    /// It asks for pages, or gives some back.
    PageDemand(i32),
    /// The cable of the function's port is plugged or pulled.
    Cable(bool),
    /// It reports that something is wrong with it.
    Health {
        /// What.
        syndrome: u8,
        /// Only a reset helps.
        fatal: bool,
    },
    /// It executes no command any more, and its health counter stands.
    Hang,
    /// Its health counter stands.
    FrozenCounter,
    /// It says for so many milliseconds that it starts.
    Starting(u32),
    /// The function is pulled out of its slot.
    Removal,
    /// The emulator ends at once.
    Crash,
    /// The model fails, as by a bug.
    Panic,
    /// It writes to the address that the inbox has from this byte on.
    StrayWrite(u16),
}

/// What happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Then {
    status: Option<u8>,
    syndrome: u32,
    silent: bool,
    lost: bool,
    stop: bool,
    delay: Option<u64>,
    set: Vec<(Place, u64)>,
    fill: Option<Fill>,
    reserved: Option<Fill>,
    cut: Option<usize>,
    mutate: Option<u8>,
    twist: Twist,
    acts: Vec<Act>,
}

/// How a slot's answer differs from what it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twist {
    /// The entry says that the command was not delivered.
    pub delivery: Option<u8>,
    /// The entry has this token.
    pub token: Option<u8>,
    /// The entry's signature is wrong.
    pub signature: bool,
    /// The entry stays the firmware's.
    pub owner: bool,
    /// No event tells of it.
    pub no_event: bool,
    /// The event names this slot.
    pub other_slot: Option<u8>,
    /// It comes twice.
    pub twice: bool,
    /// What is wrong with the event, and with its interrupt.
    pub telling: Telling,
}

impl Twist {
    /// True if a byte is written that is not as it should be; what does not come is none.
    fn changes(&self) -> bool {
        let values = [
            self.delivery,
            self.token,
            self.other_slot,
            self.telling.event_type,
        ];
        let flags = [self.signature, self.owner, self.twice, self.telling.owner];
        values.iter().any(Option::is_some) || flags.contains(&true)
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its number.
    pub id: u32,
    /// As it was written.
    pub text: String,
    when: When,
    then: Then,
    /// How often it may still strike; `None` is for ever.
    pub left: Option<u64>,
    /// Commands that matched all but `nth` and `percent`.
    pub matched: u64,
    /// Commands that it struck, or how often it happened by itself.
    pub struck: u64,
    /// Of those, the ones after which its function sent another command: what the driver went on from.
    pub followed: u64,
    /// Strikes that changed a byte which a driver reads: of an answer that was given, of its entry, of an event.
    /// Not those that only refrain or take time. Counted since the card was made or loaded, as the next.
    #[serde(skip)]
    pub changed: u64,
    /// Of those, the ones after which another command came.
    #[serde(skip)]
    pub consumed: u64,
    // When it happens by itself.
    due: Option<Time>,
}

/// The faults of a card.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Faults {
    list: Vec<Fault>,
    last: u32,
    dice: u64,
}

/// What strikes one command.
#[derive(Clone, Debug, Default)]
pub struct Struck {
    /// It is not executed, and answered with this.
    pub refused: Option<(u8, u32)>,
    /// It is not executed.
    pub silent: bool,
    /// It is never answered.
    pub lost: bool,
    /// Its answer waits for somebody to look at it.
    pub stop: bool,
    /// It is answered so much later.
    pub delay: Duration,
    /// How its slot is answered.
    pub twist: Twist,
    /// What the firmware does besides, and for which fault.
    pub acts: Vec<(u32, Act)>,
    // Changes of the answer, and whose they are.
    replies: Vec<(u32, Then)>,
    // Faults that changed something besides.
    changed: Vec<u32>,
    dice: u64,
}

/// A number from a number: the same sequence for the same seed.
fn next(dice: &mut u64) -> u64 {
    // Zero would stay zero.
    *dice |= 1 << 63;
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice
}

fn later(now: Time, ms: u32) -> Time {
    now.after(Duration::from_millis(ms.into()))
}

impl When {
    fn holds(&self, function: FunctionId, state: State, inbox: &[u8]) -> bool {
        let word = |at| get_bits(inbox, at, 16) as u16;
        let is = |wanted: Option<u16>, at| wanted.is_none_or(|w| w == word(at));
        let register = |id| word(0) == opcode::ACCESS_REG && word(REGISTER) == id;
        let item = |key| {
            let t = Type::of(get_bits(inbox, ITEM_TYPE, 32) as u32);
            register(register::MNVDA) && (t.class, t.id) == key
        };
        is(self.opcode, 0)
            && is(self.uid, 16)
            && is(self.op_mod, 48)
            && self.at.is_none()
            && self.register.is_none_or(register)
            && self.item.is_none_or(item)
            && self.function.is_none_or(|f| f == function.0)
            && self.state.is_none_or(|s| s == state)
            && self
                .fields
                .iter()
                .all(|(p, v)| get_bits(inbox, p.offset, p.width) == *v)
    }
}

impl Fault {
    /// A fault from a line *when : then : times*.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadFault> {
        parse::line(text)
    }

    /// A fault from its parts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn of(when: &str, then: &str, times: Option<u64>) -> Result<Self, BadFault> {
        parse::parts(when, then, times)
    }

    /// The function that it concerns, if it is of one.
    #[must_use]
    pub fn function(&self) -> Option<u8> {
        let by_itself = self.when.at.map(|_| 0);
        self.when.function.or(by_itself)
    }

    /// Checks one that was read from a file: it is what its text says, so what that cannot say cannot be.
    ///
    /// # Errors
    /// Which it is, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("fault {} {:?}: {what}", self.id, self.text));
        let said = match Self::parse(&self.text) {
            Ok(said) => said,
            Err(e) => return wrong(&e.what),
        };
        if (&said.when, &said.then) != (&self.when, &self.then) {
            return wrong("it is another than its text says");
        }
        let more = match (said.left, self.left) {
            (Some(all), Some(left)) => left > all,
            (all, left) => all != left,
        };
        if more {
            return wrong("it is to strike more often than its text says");
        }
        if self.due.is_some() && self.when.at.is_none() {
            return wrong("it is due by itself, and its text gives no time");
        }
        if self.matched.max(self.struck).max(self.changed) > u64::MAX >> 1 {
            return wrong("it has struck more often than can be");
        }
        Ok(())
    }

    fn strikes(&mut self, dice: &mut u64, f: FunctionId, state: State, inbox: &[u8]) -> bool {
        if self.left == Some(0) || !self.when.holds(f, state, inbox) {
            return false;
        }
        self.matched += 1;
        let due = self.when.nth.is_none_or(|n| self.matched >= n)
            && self.when.percent.is_none_or(|p| next(dice) % 100 < p);
        if due {
            self.struck += 1;
            self.left = self.left.map(|n| n - 1);
        }
        due
    }
}

impl Faults {
    /// None yet; the seed is the card's.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            dice: seed,
            ..Self::default()
        }
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// Adds one, and gives it a number; `None` if there are [`MAX_FAULTS`] that may still strike. Of those that may
    /// not any more, the oldest makes room.
    pub fn add(&mut self, mut fault: Fault, now: Time) -> Option<u32> {
        if self.list.len() >= MAX_FAULTS {
            let used_up = self.list.iter().position(|f| f.left == Some(0))?;
            self.list.remove(used_up);
        }
        self.last = self.last.wrapping_add(1);
        fault.id = self.last;
        fault.due = fault.when.at.map(|ms| later(now, ms));
        self.list.push(fault);
        Some(self.last)
    }

    /// Forgets the one with a number, or all; how many that were.
    pub fn clear(&mut self, id: Option<u32>) -> usize {
        let before = self.list.len();
        self.list.retain(|f| id.is_some_and(|id| f.id != id));
        before - self.list.len()
    }

    /// When the next one happens by itself.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.list.iter().filter_map(|f| f.due).min()
    }

    /// What happens by itself now, and to which function.
    pub fn due(&mut self, now: Time) -> Vec<(FunctionId, Act)> {
        let mut all = Vec::new();
        for f in &mut self.list {
            let (Some(due), Some(ms)) = (f.due, f.when.at) else {
                continue;
            };
            if due > now {
                continue;
            }
            let function = FunctionId(f.when.function.unwrap_or(0));
            all.extend(f.then.acts.iter().map(|a| (function, *a)));
            f.struck += 1;
            f.left = f.left.map(|n| n.saturating_sub(1));
            // Counted from now, so that nothing is made up for.
            f.due = (f.left != Some(0)).then(|| later(now, ms));
        }
        all
    }

    /// What strikes a command that is about to be executed.
    pub fn strike(&mut self, f: FunctionId, state: State, inbox: &[u8]) -> Option<Struck> {
        if self.list.is_empty() {
            return None;
        }
        let mut all = Struck::default();
        let mut any = false;
        let dice = &mut self.dice;
        for fault in &mut self.list {
            fault.followed = fault.struck;
            fault.consumed = fault.changed;
            if fault.strikes(dice, f, state, inbox) {
                any = true;
                all.add(fault.id, &fault.then);
            }
        }
        all.dice = next(dice);
        any.then_some(all)
    }

    /// The command that was struck is through: counts the faults that changed what the driver reads of it.
    pub(crate) fn count_changes(&mut self, struck: &Struck) {
        for fault in self
            .list
            .iter_mut()
            .filter(|f| struck.changed.contains(&f.id))
        {
            fault.changed += 1;
        }
    }

    /// Bytes from the card's source of chance.
    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| (next(&mut self.dice) >> 32) as u8)
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// Which cannot be, and why.
    pub fn check(&self) -> Result<(), String> {
        if self.list.len() > MAX_FAULTS {
            return Err(format!("{} of them: at most {MAX_FAULTS}", self.list.len()));
        }
        self.list.iter().try_for_each(Fault::check)
    }
}

impl Struck {
    fn add(&mut self, id: u32, t: &Then) {
        if t.status.is_some() || t.twist.changes() {
            self.changed.push(id);
        }
        if let Some(status) = t.status {
            self.refused.get_or_insert((status, t.syndrome));
        }
        self.silent |= t.silent;
        self.lost |= t.lost || t.silent;
        self.stop |= t.stop;
        self.delay += Duration::from_millis(t.delay.unwrap_or(0));
        let (all, one) = (&mut self.twist, t.twist);
        all.delivery = all.delivery.or(one.delivery);
        all.token = all.token.or(one.token);
        all.other_slot = all.other_slot.or(one.other_slot);
        all.signature |= one.signature;
        all.owner |= one.owner;
        all.no_event |= one.no_event;
        all.twice |= one.twice;
        let (all, one) = (&mut all.telling, one.telling);
        all.owner |= one.owner;
        all.silent |= one.silent;
        all.event_type = all.event_type.or(one.event_type);
        all.late = all.late.or(one.late);
        all.more = all.more.saturating_add(one.more);
        self.acts.extend(t.acts.iter().map(|a| (id, *a)));
        let changes = [
            t.fill.is_some(),
            t.reserved.is_some(),
            t.cut.is_some(),
            t.mutate.is_some(),
        ];
        if changes.contains(&true) || !t.set.is_empty() {
            self.replies.push((id, t.clone()));
        }
    }

    /// True if the command is not executed.
    #[must_use]
    pub fn stops(&self) -> bool {
        self.silent || self.refused.is_some()
    }

    /// One of the acts of this fault wrote something that a driver reads.
    pub(crate) fn wrote(&mut self, fault: u32) {
        self.changed.push(fault);
    }

    /// What was changed is never seen.
    pub(crate) fn forget_changes(&mut self) {
        self.changed.clear();
    }

    /// Changes the outbox of the command in `inbox`.
    pub fn reply(&mut self, inbox: &[u8], outbox: &mut [u8]) {
        let with = |fill, dice: &mut u64| match fill {
            Fill::Zeros => 0,
            Fill::Ones => 0xff,
            Fill::Random => (next(dice) >> 32) as u8,
        };
        let dice = &mut self.dice;
        for (id, t) in &self.replies {
            let before = outbox.to_vec();
            if let (Some(fill), Some(body)) = (t.fill, outbox.get_mut(STATUS_BYTES..)) {
                body.fill_with(|| with(fill, dice));
            }
            if let Some(fill) = t.reserved {
                let named = reserved::named(inbox, outbox).unwrap_or_default();
                for (b, named) in outbox.iter_mut().zip(named) {
                    *b = *b & named | with(fill, dice) & !named;
                }
            }
            for (p, value) in &t.set {
                // A field behind the end of a short outbox is not there.
                if u64::from(p.offset) + u64::from(p.width) <= outbox.len() as u64 * 8 {
                    set_bits(outbox, p.offset, p.width, *value);
                }
            }
            if let Some(count) = t.mutate {
                mutate::mutate(inbox, outbox, count, dice);
            }
            if let Some(rest) = t.cut.and_then(|n| outbox.get_mut(n..)) {
                rest.fill(0);
            }
            if before != outbox {
                self.changed.push(*id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_from_a_file_is_what_its_text_says() {
        let parsed = |text| Fault::parse(text).expect("a fault");
        // As its text is kept, it is said again: with all that may be in it.
        for text in [
            "any : hang",
            "opcode=QUERY_HCA_CAP uid=3 nth=2 percent=50 state=up function=1 : status=BAD_PARAM syndrome=7 : 0",
            "register=MFRL op_mod=1 : set.reset_type=1 : times=9",
            "item=nv_global_pci_conf : set.total_vfs=3",
            "at=0 function=1 : raise=PORT_CHANGE count=4096 random-data health=1 fatal",
            "at=5 : starting=9 : 0",
            "any : late-interrupt=3 interrupts=2",
        ] {
            assert_eq!(parsed(text).check(), Ok(()), "{text}");
        }
        let wrong = |text, change: fn(&mut Fault)| {
            let mut fault = parsed(text);
            change(&mut fault);
            fault.check().expect_err("it cannot be")
        };
        let other = ": it is another than its text says";
        for change in [
            (|f| f.when.percent = Some(101)) as fn(&mut Fault),
            |f| f.when.nth = Some(0),
            |f| f.when.state = Some(State::Disabled),
            |f| f.when.at = Some(0),
            |f| f.then.delay = Some(u64::MAX),
            |f| f.then.cut = Some(usize::MAX),
            |f| f.then.twist.other_slot = Some(32),
            |f| f.then.acts = vec![Act::Hang; 17],
            |f| {
                let (offset, width) = (1 << 30, 64);
                f.when.fields.push((Place { offset, width }, 0));
            },
        ] {
            let what = wrong("any : delay=1", change);
            assert_eq!(what, format!("fault 0 \"any : delay=1 : times=1\"{other}"));
        }
        let said = |what: String| what.rsplit_once("\": ").expect("a text").1.to_owned();
        for (what, expected) in [
            (
                wrong("any : hang : 0", |f| f.left = Some(1)),
                "it is to strike more often than its text says",
            ),
            (
                wrong("any : hang : 2", |f| f.left = Some(3)),
                "it is to strike more often than its text says",
            ),
            (
                wrong("any : hang", |f| f.left = None),
                "it is to strike more often than its text says",
            ),
            (
                wrong("any : hang", |f| f.due = Some(Time::ZERO)),
                "it is due by itself, and its text gives no time",
            ),
            (
                wrong("any : hang", |f| f.matched = u64::MAX),
                "it has struck more often than can be",
            ),
            (
                wrong("any : hang", |f| f.changed = u64::MAX),
                "it has struck more often than can be",
            ),
            (
                wrong("any : hang", |f| f.text = "percent=101 : hang".into()),
                "percent=101: it is 1 to 100",
            ),
        ] {
            assert_eq!(said(what), expected);
        }
        // What has struck as often as it should is still one.
        let mut over = parsed("at=0 : hang");
        (over.left, over.struck) = (Some(0), 1);
        assert_eq!(over.check(), Ok(()));
    }

    #[test]
    fn a_text_ends_at_max_text() {
        let text = |len: usize| {
            let rest = "op_mod=1uid=1 : hang : times=1".len();
            format!("op_mod=1{}uid=1 : hang", " ".repeat(len - rest))
        };
        assert!(Fault::parse(&text(MAX_TEXT)).is_ok());
        let wrong = Fault::parse(&text(MAX_TEXT + 1)).expect_err("too long");
        assert_eq!(wrong.what, "it is longer than 16384 bytes");
    }
}
