// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A card with nothing around it: inputs go in, effects are carried out in memory, and what a
//! firmware must never do is checked on the way.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use fw_model::{
    Caller, Card, CardOptions, Delivery, Effect, Effects, EventPath, FunctionId, GuestMemory,
    Input, Profile, ProfileError, Time, Token,
    record::{self, Frame, Happened, Head, Noted, Notes, Step},
};
use fwctl_proto::{layout::set_bits, opcode, status::Status};

use crate::guest::Guest;

/// Where the pages lie that [`Device::bring_up`] gives to the firmware: not in the guest's memory,
/// so that their marks go nowhere.
const PAGES: u64 = 1 << 32;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// How a command on a command channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// How it was delivered.
    pub delivery: Delivery,
    /// The outbox; empty unless it was executed.
    pub outbox: &'a [u8],
}

impl Reply<'_> {
    /// The firmware's status (`enum` of `MLX5_CMD_STAT_*`); none if it was not executed.
    #[must_use]
    pub fn status(&self) -> Option<u8> {
        self.outbox.first().copied()
    }

    /// True if it was executed and succeeded.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.delivery == Delivery::Executed && self.status() == Some(0)
    }
}

/// A state that a [`Device`] was brought to, to be had again by [`Device::renew_to`].
#[derive(Debug)]
pub struct Kept {
    card: Card,
    now: Time,
    tag: u64,
    stores: bool,
}

/// A card and its guest's memory. Its inputs can be kept as a record, for `fwctl-emu replay`.
#[derive(Debug)]
pub struct Device {
    profile: Arc<Profile>,
    functions: Vec<EventPath>,
    /// The card.
    pub card: Card,
    /// The memory of its guest.
    pub guest: Guest,
    /// What followed from the last input.
    pub fx: Effects,
    /// The time of the next input.
    pub now: Time,
    /// Whether batches are stored: if not, each ends as on a disk that is full.
    pub stores: bool,
    tag: u64,
    inbox: Vec<u8>,
    record: Option<Recording>,
}

impl Device {
    /// A card of a built-in profile with these functions, just powered.
    ///
    /// # Errors
    /// [`ProfileError`] if there is no such profile.
    pub fn new(profile: &str, functions: &[EventPath]) -> Result<Self, ProfileError> {
        Ok(Self::of(Profile::builtin(profile)?, functions))
    }

    /// A card of a profile with these functions, just powered.
    #[must_use]
    pub fn of(profile: Arc<Profile>, functions: &[EventPath]) -> Self {
        let card = Card::new(profile.clone(), CardOptions::default(), &BTreeMap::new());
        let mut device = Self {
            profile,
            functions: functions.to_vec(),
            card,
            guest: Guest::default(),
            fx: Effects::new(),
            now: Time::ZERO,
            stores: true,
            tag: 0,
            inbox: Vec::new(),
            record: None,
        };
        device.add_functions();
        device
    }

    /// A card that there is already. [`Device::renew`] makes one without functions of it.
    #[must_use]
    pub fn with_card(card: Card) -> Self {
        let profile = card.profile().clone();
        let now = card.time();
        let mut device = Self::of(profile, &[]);
        device.card = card;
        device.now = now;
        device
    }

    /// Powered anew, with empty memory: as [`Device::of`] made it.
    pub fn renew(&mut self) {
        let options = CardOptions::default();
        self.card
            .renew(self.profile.clone(), options, &BTreeMap::new());
        self.guest.clear();
        self.fx.clear();
        self.now = Time::ZERO;
        self.stores = true;
        self.tag = 0;
        if let Some(r) = &mut self.record {
            r.bytes = (r.begin)(&self.card);
        }
        self.add_functions();
    }

    /// Powered anew, and what `bring` does; when that was done once, as it was afterwards: `kept` is empty before the
    /// first time, and must always come with the same `bring`. While a record is kept all is done each time.
    pub fn renew_to(&mut self, kept: &mut Option<Kept>, bring: impl FnOnce(&mut Self)) {
        if let (Some(k), None) = (&*kept, &self.record) {
            self.card.become_like(&k.card);
            self.guest.clear();
            self.fx.clear();
            (self.now, self.tag, self.stores) = (k.now, k.tag, k.stores);
            return;
        }
        self.renew();
        bring(self);
        if self.record.is_none() {
            assert!(self.guest.is_clear(), "what was written is not kept");
            *kept = Some(Kept {
                card: self.card.clone(),
                now: self.now,
                tag: self.tag,
                stores: self.stores,
            });
        }
    }

    fn add_functions(&mut self) {
        for i in 0..self.functions.len() {
            let events = self.functions[i];
            self.step(&Step::Add(events));
        }
    }

    /// The card's profile.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// From the next [`Device::renew`] on, what happens is kept as a record.
    pub fn set_record(&mut self) {
        self.record = Some(Recording {
            bytes: Vec::new(),
            begin,
            happen: noted,
        });
    }

    /// What was recorded since the last [`Device::renew`]; empty if nothing is to be.
    #[must_use]
    pub fn record(&self) -> &[u8] {
        self.record.as_ref().map_or(&[], |r| &r.bytes)
    }

    /// A function is brought up as mlx5_core does it: ENABLE_HCA, pages, INIT_HCA.
    ///
    /// # Panics
    /// If the firmware refuses that.
    pub fn bring_up(&mut self, f: FunctionId) {
        let enabled = self.bring_to_enabled(f);
        let up = enabled && self.made(f, opcode::INIT_HCA, 0, 32, |_| {});
        assert!(up, "function {} is not brought up", f.0);
    }

    /// ENABLE_HCA and all pages; false if the firmware refuses that.
    pub fn bring_to_enabled(&mut self, f: FunctionId) -> bool {
        let (boot, init) = (self.profile.pages.boot, self.profile.pages.init);
        self.made(f, opcode::ENABLE_HCA, 0, 16, |_| {}) && self.give_pages(f, 0, boot + init)
    }

    /// MANAGE_PAGES: gives `count` pages, the first of which is number `first` of the function's;
    /// true if the firmware took them.
    pub fn give_pages(&mut self, f: FunctionId, first: u32, count: u32) -> bool {
        let len = 16 + 8 * count as usize;
        self.made(f, opcode::MANAGE_PAGES, 1, len, |inbox| {
            set_bits(inbox, 0x60, 32, u64::from(count));
            for (place, n) in inbox[16..]
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(u64::from(first)..)
            {
                let page = PAGES * (u64::from(f.0) + 1) + n * PAGE;
                *place = page.to_be_bytes();
            }
        })
    }

    /// A command with an inbox of `len` bytes, made in the memory of the one before; true if it succeeded.
    fn made(
        &mut self,
        f: FunctionId,
        opcode: u16,
        op_mod: u16,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        let mut inbox = self.take_buffer();
        command_in(&mut inbox, opcode, op_mod, len);
        fill(&mut inbox);
        let ok = self.command(f, &inbox, 16);
        self.return_buffer(inbox);
        ok
    }

    /// A command of the driver's; true if it succeeded at once. [`Device::reply`] has its outbox.
    pub fn command(&mut self, f: FunctionId, inbox: &[u8], outbox_len: u32) -> bool {
        self.command_of(f, Caller::Driver, inbox, outbox_len)
    }

    /// A command over the function's command channel; true if it succeeded at once. Its answer is checked,
    /// unless something was told to go wrong.
    pub fn command_of(
        &mut self,
        function: FunctionId,
        caller: Caller,
        inbox: &[u8],
        outbox_len: u32,
    ) -> bool {
        // This command may be the last that a fault strikes.
        let goes_wrong = self.goes_wrong();
        self.send(function, caller, inbox, outbox_len);
        if !goes_wrong {
            self.check_reply(inbox, outbox_len);
        }
        self.reply().is_some_and(|r| r.is_ok())
    }

    /// True if a fault may strike: any answer may be wrong, and what it names may not be there.
    #[must_use]
    pub fn goes_wrong(&self) -> bool {
        self.card.faults().iter().any(|f| f.left != Some(0))
    }

    fn send(&mut self, function: FunctionId, caller: Caller, inbox: &[u8], outbox_len: u32) {
        self.tag += 1;
        self.submit(Input::Command {
            function,
            tag: self.tag,
            caller,
            inbox,
            outbox_len,
        });
    }

    /// What the last command was answered with; none if it is not answered yet.
    #[must_use]
    pub fn reply(&self) -> Option<Reply<'_>> {
        self.fx.iter().find_map(|e| match e {
            Effect::Reply {
                tag,
                delivery,
                outbox,
                ..
            } if *tag == self.tag => Some(Reply {
                delivery: *delivery,
                outbox: self.fx.bytes(*outbox),
            }),
            _ => None,
        })
    }

    /// What holds for every answer: an executed command fills its outbox, and a refusal has a known
    /// status and nothing behind its syndrome.
    ///
    /// # Panics
    /// If it does not hold.
    fn check_reply(&self, inbox: &[u8], outbox_len: u32) {
        let Some(r) = self.reply() else { return };
        if r.delivery != Delivery::Executed {
            assert!(r.outbox.is_empty(), "{:?} with an outbox", r.delivery);
            return;
        }
        let op = inbox.get(..2).unwrap_or_default();
        assert_eq!(r.outbox.len(), outbox_len as usize, "outbox of {op:02x?}");
        let status = r.status().unwrap_or(0);
        assert!(
            Status::from_code(status).is_some(),
            "status {status:#x} of {op:02x?}"
        );
        let rest = r.outbox.get(8..).unwrap_or_default();
        assert!(
            status == 0 || is_zero(rest),
            "a refusal of {op:02x?} says more than its syndrome"
        );
    }

    /// Lets `input` happen and carries out what follows; batches are stored at once, or fail at once
    /// ([`Device::stores`]).
    pub fn submit(&mut self, input: Input<'_>) {
        self.fx.clear();
        self.step(&Step::of(input));
        // A batch that was stored may let another one follow; each has its token.
        let mut done = 0;
        while let Some((at, token)) = self.next_commit(done) {
            done = at + 1;
            self.step(&Step::Input(Input::Committed {
                token,
                stored: self.stores,
            }));
        }
    }

    /// Lets the card do what is due.
    pub fn poll(&mut self) {
        self.fx.clear();
        self.step(&Step::Poll);
    }

    fn next_commit(&self, from: usize) -> Option<(usize, Token)> {
        let commit = |(i, e): (usize, &Effect)| match e {
            Effect::Commit { token, .. } => Some((i, *token)),
            _ => None,
        };
        self.fx.iter().enumerate().skip(from).find_map(commit)
    }

    /// As [`Device::submit`], with other memory than the guest's, which gets no writes.
    pub fn submit_with(&mut self, input: Input<'_>, mem: &dyn GuestMemory) {
        self.fx.clear();
        happen(
            &mut self.card,
            &mut self.record,
            &Step::of(input),
            self.now,
            mem,
            &mut self.fx,
        );
    }

    fn step(&mut self, step: &Step<'_>) {
        let from = self.fx.len();
        let (card, fx) = (&mut self.card, &mut self.fx);
        happen(card, &mut self.record, step, self.now, &self.guest, fx);
        for e in fx.iter().skip(from) {
            if let Effect::Write { addr, data, .. } = e {
                self.guest.write(*addr, fx.bytes(*data));
            }
        }
    }

    /// Room for an inbox, kept from one command to the next.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.inbox)
    }

    /// Gives it back.
    pub fn return_buffer(&mut self, buffer: Vec<u8>) {
        self.inbox = buffer;
    }
}

/// A record that is being made. What makes it is called through pointers, so that a fuzz target that
/// makes none is linked without it: what saves a card has half of all code that would be counted.
#[derive(Debug)]
struct Recording {
    bytes: Vec<u8>,
    begin: fn(&Card) -> Vec<u8>,
    happen: fn(&mut Card, &mut Vec<u8>, &Step<'_>, Time, &dyn GuestMemory, &mut Effects),
}

/// Lets a step happen, and keeps it if there is a record.
fn happen(
    card: &mut Card,
    record: &mut Option<Recording>,
    step: &Step<'_>,
    at: Time,
    mem: &dyn GuestMemory,
    fx: &mut Effects,
) {
    match record {
        // As `Step::happen`, but for what loads a card: a fifth of the code that would be counted.
        None => match step {
            Step::Add(events) => drop(card.add_function(*events)),
            Step::Poll => card.poll(at, fx),
            Step::Input(input) => card.submit(*input, at, mem, fx),
            Step::Fault(fault) => card.submit(Input::Fault(fault), at, mem, fx),
            Step::Load(_) => unreachable!("a device is not given a saved card"),
        },
        Some(r) => (r.happen)(card, &mut r.bytes, step, at, mem, fx),
    }
}

/// What a record begins with.
fn begin(card: &Card) -> Vec<u8> {
    let head = Head {
        program: env!("CARGO_PKG_VERSION").into(),
        profile: card.profile().name.clone(),
        overlay: None,
        card: card.save().expect("a card without functions is saved"),
    };
    record::head(&head).expect("a head is written")
}

/// Lets a step happen and adds it to a record; a panic goes on once it is there.
fn noted(
    card: &mut Card,
    record: &mut Vec<u8>,
    step: &Step<'_>,
    at: Time,
    mem: &dyn GuestMemory,
    fx: &mut Effects,
) {
    let from = fx.len();
    let mut notes = Notes::default();
    let noted = Noted::new(mem, &mut notes);
    let ended = catch_unwind(AssertUnwindSafe(|| step.happen(card, at, &noted, fx)));
    let panicked = ended.is_err();
    let frame = Frame {
        at,
        step: step.clone(),
        reads: notes.reads(),
        effects: if panicked {
            Vec::new()
        } else {
            Happened::since(fx, from)
        },
        panicked,
    };
    record.extend(record::framed(&frame).expect("a frame is written"));
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

/// True if there are zeros alone; eight at a time, as outboxes are long.
fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|w| u64::from_ne_bytes(*w) == 0) && rest.iter().all(|b| *b == 0)
}

/// An inbox of `len` bytes with opcode and op_mod.
#[must_use]
pub fn command(opcode: u16, op_mod: u16, len: usize) -> Vec<u8> {
    let mut inbox = Vec::new();
    command_in(&mut inbox, opcode, op_mod, len);
    inbox
}

fn command_in(inbox: &mut Vec<u8>, opcode: u16, op_mod: u16, len: usize) {
    inbox.clear();
    inbox.resize(len, 0);
    set_bits(inbox, 0, 16, u64::from(opcode));
    set_bits(inbox, 48, 16, u64::from(op_mod));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::{Unmapped, fault::Fault, record::Record};

    /// Memory that makes whoever reads it panic, as a fault of the model would.
    struct Broken;

    impl GuestMemory for Broken {
        fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Unmapped> {
            panic!("found something");
        }
    }

    #[test]
    fn a_record_ends_with_the_step_that_panicked() {
        let mut d = Device::new("connectx7", &[EventPath::EventQueues]).unwrap();
        d.set_record();
        d.renew();
        d.bring_up(FunctionId(0));
        let doorbell = Input::SegmentWrite {
            function: FunctionId(0),
            offset: 0x18,
            data: &[0, 0, 0, 1],
        };
        let end = catch_unwind(AssertUnwindSafe(|| d.submit_with(doorbell, &Broken)));
        assert!(end.is_err());
        let frames: Vec<_> = Record::open(d.record())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let panicked: Vec<_> = frames.iter().map(|f| f.panicked).collect();
        // A function, ENABLE_HCA, pages, INIT_HCA, the doorbell.
        assert_eq!(panicked, [false, false, false, false, true]);
    }

    #[test]
    fn a_renewed_device_shows_nothing_of_what_was() {
        let paths = [EventPath::EventQueues, EventPath::Channel];
        let mut d = Device::new("connectx7", &paths).unwrap();
        for f in [0, 1].map(FunctionId) {
            d.bring_up(f);
            assert!(d.command(f, &command(opcode::CREATE_UCTX, 0, 64), 16));
            d.give_pages(f, 1000, 3);
        }
        d.submit(Input::Hang(true));
        d.renew();
        let fresh = Device::new("connectx7", &paths).unwrap();
        assert_eq!(d.card.save(), fresh.card.save());
        assert_eq!(d.card.counters().answered().count(), 0);
        assert_eq!(d.card.counters().recent().count(), 0);
        assert_eq!((d.now, d.tag), (fresh.now, fresh.tag));
        assert!(d.command(FunctionId(0), &command(opcode::ENABLE_HCA, 0, 16), 16));
    }

    #[test]
    fn a_device_that_is_brought_to_a_state_again_is_the_same_without_doing_it_again() {
        let paths = [EventPath::EventQueues, EventPath::Channel];
        let mut d = Device::new("connectx7", &paths).unwrap();
        let times = std::cell::Cell::new(0);
        let bring = |d: &mut Device| {
            times.set(times.get() + 1);
            d.now.0 = 5;
            d.bring_up(FunctionId(1));
        };
        let mut kept = None;
        let seen = |d: &Device| (d.card.save().unwrap(), d.now, d.tag, d.stores);
        d.renew_to(&mut kept, bring);
        let first = seen(&d);
        assert!(d.command(FunctionId(1), &command(opcode::ALLOC_PD, 0, 16), 16));
        (d.now.0, d.stores) = (9, false);
        d.guest.write(0, &[1]);
        d.renew_to(&mut kept, bring);
        assert!(seen(&d) == first && times.get() == 1);
        assert!(d.fx.is_empty() && d.guest.is_clear());
        // A record has all of it.
        d.set_record();
        d.renew_to(&mut kept, bring);
        assert!(seen(&d) == first && times.get() == 2);
        assert!(Record::open(d.record()).unwrap().count() > 4);
    }

    #[test]
    fn an_answer_that_goes_wrong_on_purpose_is_no_finding() {
        let mut d = Device::new("connectx7", &[EventPath::Channel]).unwrap();
        d.bring_up(FunctionId(0));
        let fault = Fault::parse("opcode=MANAGE_PAGES : fill=1 set.status=3 : times=1").unwrap();
        d.submit(Input::Fault(&fault));
        assert!(!d.give_pages(FunctionId(0), 1000, 1), "struck");
        assert!(d.give_pages(FunctionId(0), 2000, 1), "and checked again");
    }
}
