// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A card: its functions, and the order in which things happen to them.

mod acts;
mod answer;
pub mod counters;
mod fingerprint;
mod inspect;
mod poke;
pub mod reset;
mod stop;
mod tracing;

use std::{collections::BTreeMap, sync::Arc};

use fwctl_proto::{eqe, event, layout::get_bits, segment, uar};

use crate::{
    GuestMemory,
    cmd::{Ctx, Others},
    copy::clone_by_fields,
    effect::{Delivery, Effect, Effects, Order, Unanswered, Why},
    exec,
    fault::{Fault, Faults, Struck},
    firmware::Firmware,
    function::{
        Function,
        eq::{Event, Telling},
        pages,
        pending::{Origin, Pending, Wait},
    },
    gateway::{CrSpace, HostSync, Semaphores, spi::Spi},
    health::{Health, Report},
    input::{Caller, EventPath, Input, ResetKind},
    iseg,
    limits::{
        LOG_SLOTS, LOG_STRIDE, MAX_DELAY_NANOS, MAX_DELAYS, MAX_FUNCTIONS, MAX_IN_FLIGHT,
        MAX_MESSAGE,
    },
    mailbox::{self, Answer, Skip, Taken},
    memory::Peeked,
    nv::NvStore,
    profile::Profile,
    reg::{self, Clock},
    settings,
    store::Batch,
    table,
    time::Time,
    tracer::{Tracer, strings::Line},
    work,
};

use self::{
    answer::{How, answer_slot, completion_event},
    counters::Counters,
    reset::Reset,
    tracing::health_words,
};

pub use acts::MAX_LATE;
pub(crate) use answer::{Ended, Outbox};
pub use inspect::{EqReport, FunctionReport, ItemReport, ObjectReport, PagesReport, UctxReport};
pub use poke::Bits;
pub use stop::Stopped;

/// A function of a card, counted from 0 in the order in which they were added.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct FunctionId(pub u8);

/// The way on which a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The driver, who says himself for whom.
    Slot,
    /// A user context.
    User(u16),
    /// The PCI gateway, whatever the driver is doing.
    Gateway,
}

/// How a card differs from another of the same profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct CardOptions {
    /// Seed of the card's random generator.
    pub seed: u64,
}

/// What the functions of a card have in common.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Shared {
    /// The non-volatile configuration.
    pub nv: NvStore,
    /// Seed of the card.
    pub seed: u64,
    /// When the last thing happened.
    pub time: Time,
    /// Opcodes whose answers are held back, and for how many nanoseconds.
    pub delays: Vec<(u16, u64)>,
    /// What is outside each function's port.
    pub ports: Vec<Port>,
    /// How warm the chip is.
    pub thermal: Thermal,
    /// How the firmware is.
    pub health: Health,
    /// Semaphores behind the PCI gateway.
    pub semaphores: Semaphores,
    /// Words of the device that were written through it.
    pub cr: CrSpace,
    /// How far the hosts agree on a reset.
    pub sync: HostSync,
    /// Flash, images and their update.
    pub firmware: Firmware,
    /// The reset of the firmware that goes on.
    pub reset: Reset,
    /// The firmware tracer.
    pub tracer: Tracer,
    /// The real time clock.
    pub clock: Clock,
    /// What goes wrong on purpose.
    pub faults: Faults,
    last_token: u64,
    /// The flash chip's gateway.
    pub spi: Spi,
    /// Number of the last command that a breakpoint stopped.
    last_stop: u32,
}

clone_by_fields!(Shared {
    nv,
    seed,
    time,
    delays,
    ports,
    thermal,
    health,
    semaphores,
    cr,
    sync,
    firmware,
    reset,
    tracer,
    clock,
    faults,
    last_token,
    spi,
    last_stop
});

/// What is outside a port; no reset of the card changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Port {
    /// A cable is in, and somebody at its other end.
    pub cable: bool,
}

/// Temperatures in units of 1/8 degree Celsius.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Thermal {
    /// Now.
    pub now: u16,
    /// The highest since the driver asked for it anew.
    pub most: u16,
    /// From here on it is a warning.
    pub warn: u16,
}

impl Default for Thermal {
    fn default() -> Self {
        Self {
            now: 45 * 8,
            most: 45 * 8,
            warn: 105 * 8,
        }
    }
}

impl Shared {
    /// What is outside a function's port.
    #[must_use]
    pub fn port(&self, id: FunctionId) -> Port {
        let known = self.ports.get(usize::from(id.0));
        known.copied().unwrap_or(Port { cable: true })
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What it holds that no card can hold.
    pub fn check(&self, functions: usize) -> Result<(), &'static str> {
        self.reset.check(functions)?;
        self.semaphores.check()?;
        self.cr.check()?;
        self.firmware.check(self.time)?;
        self.tracer.check(functions)?;
        if self.ports.len() != functions {
            return Err("not a port for each function");
        }
        if self.delays.len() > MAX_DELAYS || self.delays.iter().any(|d| d.1 > MAX_DELAY_NANOS) {
            return Err("answers held back for too long");
        }
        self.nv.check()
    }
}

/// A card. One owner gives it all inputs of all functions, so that they have one order.
#[derive(Clone, Debug)]
pub struct Card {
    pub(crate) profile: Arc<Profile>,
    pub(crate) functions: Vec<Function>,
    pub(crate) shared: Shared,
    observed: bool,
    pub(crate) counters: Counters,
    // What strikes the command that is being executed.
    pub(crate) struck: Option<Struck>,
    // Memory that commands use one after the other, kept so that none of them allocates.
    taken: Taken,
    outbox: Vec<u8>,
}

impl Card {
    /// A card that was just powered. `stored` is the content of its store.
    #[must_use]
    pub fn new(
        profile: Arc<Profile>,
        options: CardOptions,
        stored: &BTreeMap<String, Vec<u8>>,
    ) -> Self {
        let firmware = Firmware::load(&profile, stored);
        Self {
            profile,
            functions: Vec::new(),
            shared: Shared {
                nv: NvStore::load(stored),
                firmware,
                seed: options.seed,
                time: Time::ZERO,
                delays: Vec::new(),
                ports: Vec::new(),
                thermal: Thermal::default(),
                health: Health::default(),
                semaphores: Semaphores::default(),
                cr: CrSpace::default(),
                sync: HostSync::default(),
                reset: Reset::default(),
                tracer: Tracer::default(),
                clock: Clock::default(),
                faults: Faults::new(options.seed),
                last_token: 0,
                spi: Spi::default(),
                last_stop: 0,
            },
            observed: false,
            counters: Counters::default(),
            struck: None,
            taken: Taken::default(),
            outbox: Vec::new(),
        }
    }

    /// The card becomes one that was just powered, as [`Card::new`] makes it, and goes on with the memory
    /// that it has: a fuzzer makes a card for each input, and most of what that costs is the heap's.
    pub fn renew(
        &mut self,
        profile: Arc<Profile>,
        options: CardOptions,
        stored: &BTreeMap<String, Vec<u8>>,
    ) {
        let mut old = core::mem::replace(self, Self::new(profile, options, stored));
        old.functions.clear();
        old.shared.ports.clear();
        self.functions = old.functions;
        self.shared.ports = old.shared.ports;
        old.counters.become_like(&Counters::default());
        self.counters = old.counters;
        self.taken = old.taken;
        self.outbox = old.outbox;
    }

    /// The card becomes a copy of another one, in the memory that it has, as far as that is easy to say: a fuzzer does
    /// it for each input.
    pub fn become_like(&mut self, other: &Self) {
        let Self {
            profile,
            functions,
            shared,
            observed,
            counters,
            struck,
            taken: _,
            outbox: _,
        } = other;
        if !Arc::ptr_eq(&self.profile, profile) {
            self.profile.clone_from(profile);
        }
        self.functions.clone_from(functions);
        self.shared.clone_from(shared);
        self.observed = *observed;
        self.counters.become_like(counters);
        self.struck.clone_from(struck);
    }

    /// A card with this state, which was checked.
    pub(crate) fn restored(
        profile: Arc<Profile>,
        functions: Vec<Function>,
        shared: Shared,
    ) -> Self {
        Self {
            profile,
            functions,
            shared,
            observed: false,
            counters: Counters::default(),
            struck: None,
            taken: Taken::default(),
            outbox: Vec::new(),
        }
    }

    /// Adds a function; `None` if the card has [`MAX_FUNCTIONS`].
    pub fn add_function(&mut self, events: EventPath) -> Option<FunctionId> {
        if self.functions.len() >= MAX_FUNCTIONS {
            return None;
        }
        let id = FunctionId(self.functions.len() as u8);
        self.shared.ports.push(Port { cable: true });
        let mut f = Function::new(id, events, &self.profile);
        f.configured = settings::in_force(&self.profile, &self.shared.nv, id);
        self.functions.push(f);
        Some(id)
    }

    /// How many virtual functions a function may have: what its settings were when the firmware
    /// started.
    #[must_use]
    pub fn total_vfs(&self, id: FunctionId) -> u16 {
        let f = self.functions.get(usize::from(id.0));
        f.map_or(0, |f| f.configured.total_vfs)
    }

    /// What goes wrong on purpose.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        self.shared.faults.list()
    }

    /// What it has answered.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The card's profile.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// All functions.
    pub fn functions(&self) -> impl Iterator<Item = FunctionId> + '_ {
        self.functions.iter().map(|f| f.id)
    }

    /// How a function's events reach its driver.
    #[must_use]
    pub fn events(&self, id: FunctionId) -> Option<EventPath> {
        self.functions.get(usize::from(id.0)).map(|f| f.events)
    }

    /// When the last input or poll was: a card that was saved and loaded goes on from there.
    #[must_use]
    pub fn time(&self) -> Time {
        self.shared.time
    }

    /// Emit [`Effect::Observed`] for each command from now on, or no more.
    pub fn set_observed(&mut self, on: bool) {
        self.observed = on;
    }

    /// Fills `buf` from byte `offset` of the function's initialization segment.
    pub fn read_segment(&self, id: FunctionId, offset: u32, buf: &mut [u8], now: Time) {
        match self.functions.get(usize::from(id.0)) {
            Some(f) => iseg::read(f, &self.shared, &self.profile, offset, buf, now),
            None => buf.fill(0),
        }
    }

    /// Lets `input` happen at `now` and appends what follows from it to `fx`.
    ///
    /// `mem` is the memory of the guest that the input came from. An input for a function that
    /// does not exist changes nothing.
    pub fn submit(&mut self, input: Input<'_>, now: Time, mem: &dyn GuestMemory, fx: &mut Effects) {
        self.shared.time = now;
        self.happen(input, now, mem, fx);
        self.settle(now, fx);
    }

    fn happen(&mut self, input: Input<'_>, now: Time, mem: &dyn GuestMemory, fx: &mut Effects) {
        match input {
            Input::SegmentWrite {
                function,
                offset,
                data,
            } => {
                let Some(f) = self.functions.get_mut(usize::from(function.0)) else {
                    return;
                };
                if let Some(slots) = iseg::write(f, offset, data) {
                    self.doorbell(function, slots, now, mem, fx);
                }
            }
            Input::UarWrite {
                function,
                uar,
                offset,
                data,
            } => {
                let Some(f) = self.functions.get_mut(usize::from(function.0)) else {
                    return;
                };
                let ring = work::Ring {
                    profile: &self.profile,
                    now,
                    mem,
                };
                if !eq_doorbell(f, uar, offset, data, fx) {
                    work::doorbell(f, uar, offset, data, &ring, fx);
                }
            }
            Input::Command {
                function,
                tag,
                caller,
                inbox,
                outbox_len,
            } => {
                self.channel(function, tag, caller, inbox, outbox_len, now, mem, fx);
            }
            Input::Delay { opcode, nanos } => {
                self.shared.delays.retain(|(op, _)| *op != opcode);
                if nanos > 0 && self.shared.delays.len() < MAX_DELAYS {
                    self.shared
                        .delays
                        .push((opcode, nanos.min(MAX_DELAY_NANOS)));
                }
            }
            Input::Fault(fault) => {
                self.shared.faults.add(fault.clone(), now);
            }
            Input::Amend {
                stopped,
                offset,
                width,
                value,
            } => self.amend(stopped, offset, width, value),
            Input::SetCap {
                function,
                cap_type,
                bits,
            } => self.set_cap(function, cap_type, bits),
            Input::SetRegister {
                function,
                register,
                given,
                bits,
            } => self.set_register(function, register, given, bits),
            Input::Continue(number) => self.go_on(number, now, fx),
            Input::ClearFaults(id) => {
                self.shared.faults.clear(id);
            }
            Input::Event {
                function,
                event_type,
                sub_type,
                data,
            } => {
                if let Some(f) = self.functions.get_mut(usize::from(function.0)) {
                    f.raise(Event {
                        event_type,
                        sub_type,
                        data,
                    });
                    f.deliver(fx);
                }
            }
            Input::Reset { function, kind } => {
                self.reset(function, kind, fx);
                self.rebooted(function, kind, now, fx);
            }
            Input::Committed { token, stored } => self.committed(token, stored, now, fx),
            Input::PageDemand { function, count } => {
                if let Some(f) = self.functions.get_mut(usize::from(function.0)) {
                    f.demand_pages(count);
                    f.deliver(fx);
                }
            }
            Input::PowerCycle => {
                self.restart(now, fx);
                for f in &mut self.functions {
                    f.segment.nic_interface = segment::nic_interface::FULL_DRIVER;
                }
            }
            Input::FirmwareReset => {
                // One function asks for all.
                if let Some(f) = self.functions.first_mut() {
                    f.segment.nic_interface = segment::nic_interface::SW_RESET;
                }
            }
            Input::Gateway {
                function,
                at,
                value,
            } => self.write_space(function, at, value, now, mem, fx),
            Input::Link { function, up } => self.link(function, up, fx),
            Input::Temperature { eighths } => self.temperature(eighths, fx),
            Input::Health(report) => self.report_health(report, now, fx),
            Input::Hang(on) => self.shared.health.hang(on, now),
            Input::Start { nanos } => {
                let nanos = nanos.min(MAX_DELAY_NANOS);
                self.shared.health.ready = now.after(core::time::Duration::from_nanos(nanos));
            }
        }
    }

    /// The firmware finds something wrong with itself, or nothing any more.
    fn report_health(&mut self, report: Report, now: Time, fx: &mut Effects) {
        self.shared.health.set(report, now);
        self.trace(FunctionId(0), Line::Health, &health_words(report), fx);
    }

    /// The cable of a function's port is plugged or pulled.
    fn link(&mut self, id: FunctionId, up: bool, fx: &mut Effects) {
        let n = usize::from(id.0);
        let (Some(f), Some(port)) = (self.functions.get_mut(n), self.shared.ports.get_mut(n))
        else {
            return;
        };
        let before = reg::is_up(f, port.cable);
        port.cable = up;
        let after = reg::is_up(f, up);
        if before != after {
            reg::changed(f, after);
            f.deliver(fx);
        }
        self.trace(id, Line::Cable, &[u32::from(id.0), u32::from(up)], fx);
    }

    /// The chip becomes warmer or colder; crossing the threshold is a warning to all functions,
    /// or the end of one.
    fn temperature(&mut self, eighths: u16, fx: &mut Effects) {
        let t = &mut self.shared.thermal;
        let crossed = (t.now >= t.warn) != (eighths >= t.warn);
        t.now = eighths;
        t.most = t.most.max(eighths);
        if !crossed {
            return;
        }
        let mut data = [0; eqe::DATA_BYTES];
        let at = eqe::data::TEMP_WARN_LSB;
        let sensors = u64::from(eighths >= t.warn) << reg::CHIP_SENSOR;
        data[at..at + 8].copy_from_slice(&sensors.to_be_bytes());
        for f in &mut self.functions {
            f.raise(Event {
                event_type: event::TEMP_WARN_EVENT,
                sub_type: 0,
                data,
            });
            f.deliver(fx);
        }
    }

    /// Does what is due at `now`.
    pub fn poll(&mut self, now: Time, fx: &mut Effects) {
        self.shared.time = now;
        for i in 0..self.functions.len() {
            self.answer_due(i, now, fx);
        }
        for f in &mut self.functions {
            f.late_interrupts(now, fx);
        }
        for (id, act) in self.shared.faults.due(now) {
            self.act(id, act, &[], now, fx);
        }
        self.settle(now, fx);
    }

    /// When to call [`Card::poll`] next; `None` if nothing waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.functions
            .iter()
            .flat_map(|f| &f.pending)
            .filter(|p| p.is_free())
            .map(|p| p.due)
            .chain(self.functions.iter().flat_map(|f| &f.late).map(|l| l.0))
            .chain(self.shared.faults.deadline())
            .chain(self.shared.reset.deadline())
            .chain(self.shared.health.deadline(self.shared.time))
            .chain(self.trace_deadline())
            .min()
    }

    fn doorbell(
        &mut self,
        id: FunctionId,
        slots: u32,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        for slot in 0..1u8 << LOG_SLOTS {
            if slots >> slot & 1 == 1 {
                self.slot(id, slot, now, mem, fx);
            }
        }
    }

    /// Takes the command of one slot, executes it and answers it if it is due.
    fn slot(
        &mut self,
        id: FunctionId,
        slot: u8,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        let Some(f) = self.functions.get_mut(usize::from(id.0)) else {
            return;
        };
        let busy = |p: &Pending| matches!(p.origin, Origin::Slot { slot: s, .. } if s == slot);
        if f.pending.iter().any(busy) {
            return;
        }
        // Firmware that does not run never sees the doorbell.
        if !self.shared.health.runs(now) {
            return self.not_taken(id, slot, now, mem, fx);
        }
        let entry = f.segment.cmdq.wrapping_add(u64::from(slot) << LOG_STRIDE);
        let checksum = exec::checksums(f, &self.profile);
        let eq = f.cmd_eq;
        let mut taken = core::mem::take(&mut self.taken);
        match mailbox::take(mem, entry, checksum, &mut taken) {
            Err(Skip::NotOwned) => {}
            Err(Skip::Bad(status)) => {
                let answer = Answer {
                    function: id,
                    entry,
                    taken: &taken,
                    checksum,
                };
                answer.publish(status.code(), fx);
                if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
                    completion_event(f, eq, slot, Telling::default(), now, fx);
                }
                self.ended(
                    Ended {
                        function: id,
                        slot: Some(slot),
                        submitted: now,
                        completed: now,
                        delivery: status.code(),
                        inbox: &taken.inbox,
                        outbox: Outbox::new(&[]),
                    },
                    fx,
                );
            }
            Ok(()) => {
                let mut outbox = core::mem::take(&mut self.outbox);
                let wait = self.execute(
                    id,
                    &mut taken.inbox,
                    Via::Slot,
                    taken.out_len,
                    &mut outbox,
                    now,
                    mem,
                    fx,
                );
                let after = self.after(id, &taken.inbox, wait, now, fx);
                if after.holds(now) {
                    let origin = Origin::Slot {
                        slot,
                        entry,
                        taken: Taken {
                            inbox: Vec::new(),
                            ..taken.clone()
                        },
                        checksum,
                        eq,
                        twist: after.twist,
                    };
                    let pending = after.pending(origin, now, wait, &taken.inbox, &outbox);
                    self.hold(id, pending, after.why(wait, now), fx);
                } else if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
                    let bytes = fx.store(&outbox);
                    let how = How {
                        slot,
                        entry,
                        checksum,
                        eq,
                        twist: after.twist,
                        now,
                    };
                    answer_slot(f, how, &taken, bytes, fx);
                    let delivery = after.twist.delivery.unwrap_or(0);
                    self.ended(
                        Ended {
                            function: id,
                            slot: Some(slot),
                            submitted: now,
                            completed: now,
                            delivery,
                            inbox: &taken.inbox,
                            outbox: Outbox::stored(&outbox, bytes),
                        },
                        fx,
                    );
                }
                self.outbox = outbox;
            }
        }
        self.taken = taken;
    }

    /// Shows a command that firmware which does not run leaves in its slot, if that is wanted.
    #[cold]
    #[inline(never)]
    fn not_taken(
        &self,
        function: FunctionId,
        slot: u8,
        submitted: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        if !fx.is_observed() {
            return;
        }
        if let Some(inbox) = self.in_slot(function, slot, mem) {
            let inbox = fx.store(&inbox);
            fx.push(Effect::Unanswered(Unanswered {
                function,
                slot: Some(slot),
                tag: None,
                submitted,
                why: Why::NotRunning,
                inbox,
            }));
        }
    }

    /// The inbox of the command that lies in a slot and was not taken yet.
    fn in_slot(&self, id: FunctionId, slot: u8, mem: &dyn GuestMemory) -> Option<Vec<u8>> {
        let f = self.functions.get(usize::from(id.0))?;
        let busy = |p: &Pending| matches!(p.origin, Origin::Slot { slot: s, .. } if s == slot);
        if f.pending.iter().any(busy) {
            return None;
        }
        let entry = f.segment.cmdq.wrapping_add(u64::from(slot) << LOG_STRIDE);
        let mut taken = Taken::default();
        let checksum = exec::checksums(f, &self.profile);
        mailbox::take(&Peeked(mem), entry, checksum, &mut taken).ok()?;
        Some(taken.inbox)
    }

    /// The commands that `input` brings and that are not taken: slots, none for a channel, and inboxes. For an
    /// observer who wants to know what a step was about that did not come to its end.
    #[must_use]
    pub fn brought(
        &self,
        input: &Input<'_>,
        mem: &dyn GuestMemory,
    ) -> Vec<(FunctionId, Option<u8>, Vec<u8>)> {
        match input {
            Input::SegmentWrite {
                function,
                offset,
                data,
            } => {
                let slots = iseg::rung(*offset, data);
                let rung = (0..1u8 << LOG_SLOTS).filter(|s| slots >> s & 1 == 1);
                rung.filter_map(|s| Some((*function, Some(s), self.in_slot(*function, s, mem)?)))
                    .collect()
            }
            Input::Command {
                function, inbox, ..
            } => vec![(*function, None, inbox.to_vec())],
            _ => Vec::new(),
        }
    }

    /// Executes a command that came over a command channel.
    #[allow(clippy::too_many_arguments)]
    fn channel(
        &mut self,
        id: FunctionId,
        tag: u64,
        caller: Caller,
        inbox: &[u8],
        outbox_len: u32,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        let Some(f) = self.functions.get(usize::from(id.0)) else {
            return;
        };
        let out_len = outbox_len as usize;
        if let Err(delivery) = at_the_door(f, &self.profile, caller, inbox, out_len) {
            let outbox = fx.store(&[]);
            fx.push(Effect::Reply {
                function: id,
                tag,
                delivery,
                outbox,
            });
            return;
        }
        if !self.shared.health.runs(now) {
            // Nobody answers before it runs again, and then only that it did not.
            self.shared.health.awaited = true;
            let pending = Pending {
                origin: Origin::Channel { tag },
                submitted: now,
                due: now,
                wait: Some(Wait::Firmware),
                stopped: None,
                inbox: inbox.to_vec(),
                outbox: Vec::new(),
            };
            return self.hold(id, pending, Some(Why::NotRunning), fx);
        }
        let mut taken = core::mem::take(&mut self.taken);
        taken.inbox.clear();
        taken.inbox.extend_from_slice(inbox);
        let via = match caller {
            Caller::Driver => Via::Slot,
            Caller::User { uid, .. } => Via::User(uid),
        };
        let mut outbox = core::mem::take(&mut self.outbox);
        let wait = self.execute(
            id,
            &mut taken.inbox,
            via,
            out_len,
            &mut outbox,
            now,
            mem,
            fx,
        );
        let after = self.after(id, &taken.inbox, wait, now, fx);
        if after.holds(now) {
            let origin = Origin::Channel { tag };
            let pending = after.pending(origin, now, wait, &taken.inbox, &outbox);
            self.hold(id, pending, after.why(wait, now), fx);
        } else if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
            let bytes = fx.store(&outbox);
            fx.push(Effect::Reply {
                function: id,
                tag,
                delivery: Delivery::Executed,
                outbox: bytes,
            });
            f.deliver(fx);
            let outbox = Outbox::stored(&outbox, bytes);
            self.ended(
                Ended {
                    function: id,
                    slot: None,
                    submitted: now,
                    completed: now,
                    delivery: 0,
                    inbox: &taken.inbox,
                    outbox,
                },
                fx,
            );
        }
        self.outbox = outbox;
        self.taken = taken;
    }

    /// Runs the checks and the handler. The outbox is then complete; a token says what it must
    /// wait for.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn execute(
        &mut self,
        id: FunctionId,
        inbox: &mut [u8],
        via: Via,
        out_len: usize,
        outbox: &mut Vec<u8>,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) -> Option<Wait> {
        let here = usize::from(id.0);
        let (before, rest) = self.functions.split_at_mut_checked(here)?;
        let (f, behind) = rest.split_first_mut()?;
        if let (Via::User(uid), Some(field)) = (via, inbox.get_mut(2..4)) {
            field.copy_from_slice(&uid.to_be_bytes());
        }
        let mut struck = self.shared.faults.strike(id, f.state, inbox);
        if let Some(s) = struck.as_ref().filter(|s| s.stops()) {
            outbox.clear();
            outbox.resize(out_len, 0);
            let (status, syndrome) = s.refused.unwrap_or_default();
            exec::status(outbox, status, syndrome);
            let wait = s.lost.then_some(Wait::Lost);
            self.struck = struck;
            return wait;
        }
        let mut ctx = Ctx {
            f,
            others: Others { before, behind },
            shared: &mut self.shared,
            profile: &self.profile,
            now,
            caller: crate::function::uctx::CallerKind::Kernel,
            uid: 0,
            op_mod: 0,
            inbox,
            out_len,
            batch: Batch::default(),
            held: false,
            mem,
            marks: Vec::new(),
            writes: Vec::new(),
            gateway: via == Via::Gateway,
        };
        exec::run(&mut ctx, out_len, outbox);
        let lost = struck.as_mut().is_some_and(|s| {
            s.reply(ctx.inbox, outbox);
            s.lost
        });
        let batch = core::mem::take(&mut ctx.batch);
        let held = ctx.held;
        for (addr, bytes) in core::mem::take(&mut ctx.writes) {
            fx.write(id, addr, &bytes, Order::Relaxed);
        }
        for addr in core::mem::take(&mut ctx.marks) {
            fx.write(id, addr, &pages::mark(addr), Order::Relaxed);
        }
        if self.shared.tracer.dump {
            self.core_dump(fx);
        }
        self.struck = struck;
        let stored = self.commit(batch, fx).map(Wait::Stored);
        if lost {
            return Some(Wait::Lost);
        }
        stored.or(held.then_some(Wait::Agreement))
    }

    /// When the command in `inbox` is to be answered.
    pub(crate) fn due(&self, inbox: &[u8], now: Time) -> Time {
        if self.shared.delays.is_empty() {
            return now;
        }
        let opcode = get_bits(inbox, 0, 16) as u16;
        let delay = self.shared.delays.iter().find(|(op, _)| *op == opcode);
        delay.map_or(now, |(_, nanos)| {
            now.after(core::time::Duration::from_nanos(*nanos))
        })
    }

    fn reset(&mut self, id: FunctionId, kind: ResetKind, fx: &mut Effects) {
        if matches!(kind, ResetKind::Bus | ResetKind::ClientGone) {
            // As far as a card can tell, its host was reset.
            self.shared.health.restart(self.shared.health.ready);
        }
        let Some(f) = self.functions.get_mut(usize::from(id.0)) else {
            return;
        };
        f.abandon(fx);
        f.reset(&self.profile);
    }
}

/// The checks of a command channel's door: lengths, scope, user context, room.
fn at_the_door(
    f: &Function,
    profile: &Profile,
    caller: Caller,
    inbox: &[u8],
    out_len: usize,
) -> Result<(), Delivery> {
    if inbox.len() < 16 || out_len < 16 {
        return Err(Delivery::TooShort);
    }
    if inbox.len() > MAX_MESSAGE || out_len > MAX_MESSAGE {
        return Err(Delivery::TooLong);
    }
    if f.pending.len() >= MAX_IN_FLIGHT {
        return Err(Delivery::Busy);
    }
    if let Caller::User { scope, uid } = caller {
        let opcode = get_bits(inbox, 0, 16) as u16;
        let op_mod = get_bits(inbox, 48, 16) as u16;
        let rule = profile
            .op(opcode)
            .map_or(table::ScopeRule::Never, |o| o.scope);
        if !rule.allows(scope, op_mod) {
            return Err(Delivery::ScopeDenied);
        }
        if f.uctx.cap(uid).is_none() {
            return Err(Delivery::BadUid);
        }
    }
    Ok(())
}

/// An event queue doorbell; false if it is another one.
fn eq_doorbell(f: &mut Function, page: u32, offset: u32, data: &[u8], fx: &mut Effects) -> bool {
    let Ok(raw) = <[u8; 4]>::try_from(data) else {
        return false;
    };
    if offset != uar::EQ_ARM && offset != uar::EQ_CONSUMER {
        return false;
    }
    let value = u32::from_be_bytes(raw);
    let id = f.id;
    if let Some(q) = f.eqs.get_mut(&((value >> 24) as u8))
        && q.uar_page == page
    {
        q.doorbell(id, value & 0x00ff_ffff, offset == uar::EQ_ARM, fx);
    }
    true
}
