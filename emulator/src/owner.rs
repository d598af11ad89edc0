// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The one owner of a card: all inputs of all doors get their order here, and all effects are
//! carried out here, in theirs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fw_model::{
    Card, Delivery, Effect, Effects, EventPath, FunctionId, GuestMemory, Input, NoMemory, Notice,
    Order, Report, ResetKind, Store, Time, Token, Unanswered, Why,
    record::{Happening, Noted, Notes, Step},
    save::LoadError,
};

use crate::{
    observe,
    record::{self, Dumped, FlightRecorder},
    spent::{Latencies, Spent},
    trace::{Recorder, Tracer},
};

/// A door's side of one function: where effects go. Called with the owner's lock held, in the
/// order of the effects; must not call the [`Owner`].
pub trait Sink: Send + Sync {
    /// Writes guest memory; an address that is not mapped is skipped.
    fn write(&self, addr: u64, data: &[u8], order: Order);
    /// Raises an interrupt.
    fn interrupt(&self, vector: u16);
    /// Answers a command of a command channel.
    fn reply(&self, tag: u64, delivery: Delivery, outbox: &[u8]);
    /// Delivers an event of a command channel.
    fn event(&self, event_type: u8, sub_type: u8, data: &[u8]);
    /// The last effect of an input was carried out.
    fn flush(&self) {}
}

/// What happens by itself.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// The model has noticed something.
    Notice(FunctionId, &'a Notice),
    /// A function has begun anew: its generation.
    Reset(FunctionId, u64),
    /// What the firmware reports of its health is another.
    Health(Report),
    /// The model has failed; none if all functions are concerned.
    Panic(Option<FunctionId>),
}

/// Told what happens, with the owner's lock held.
pub type Watch = Box<dyn Fn(Told<'_>) + Send>;

struct Inner {
    card: Card,
    fx: Effects,
    sinks: Vec<Option<Arc<dyn Sink>>>,
    store: Box<dyn Store + Send>,
    stop: bool,
    logged: bool,
    trace: Option<Tracer>,
    record: Option<record::Recorder>,
    flight: Option<FlightRecorder>,
    // What the step that now happens has read.
    notes: Notes,
    // What happens cannot be recorded any more: nothing happens.
    dead: bool,
    // Who is told what the model notices; must not call the owner.
    watch: Option<Watch>,
    // What it was told last.
    generations: Vec<u64>,
    health: Report,
    spent: Spent,
    latencies: Latencies,
}

/// See the module's text.
pub struct Owner {
    inner: Mutex<Inner>,
    // Wakes the timer when there is an earlier deadline or an end.
    timer: Condvar,
    start: Instant,
    // Nanoseconds by which the card's clock is ahead of the time since then.
    ahead: AtomicU64,
    // Held by who waits for a dump.
    dumping: Mutex<()>,
}

impl Owner {
    /// Takes a card and its store. Starts no thread.
    #[must_use]
    pub fn new(card: Card, store: Box<dyn Store + Send>) -> Arc<Self> {
        let passed = Duration::from_nanos(card.time().0);
        let functions = card.functions().count();
        let inner = Inner {
            card,
            fx: Effects::new(),
            sinks: core::iter::repeat_with(|| None).take(functions).collect(),
            store,
            stop: false,
            logged: false,
            trace: None,
            record: None,
            flight: None,
            notes: Notes::default(),
            dead: false,
            watch: None,
            generations: Vec::new(),
            health: Report::default(),
            spent: Spent::default(),
            latencies: Latencies::default(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            timer: Condvar::new(),
            start: Instant::now()
                .checked_sub(passed)
                .unwrap_or_else(Instant::now),
            ahead: AtomicU64::new(0),
            dumping: Mutex::default(),
        })
    }

    /// Adds a function; `None` if the card has as many as it may.
    pub fn add_function(&self, events: EventPath) -> Option<FunctionId> {
        let mut i = self.lock();
        let now = self.now();
        let id = i.card.add_function(events)?;
        i.sinks.push(None);
        i.note(&Step::Add(events), now);
        Some(id)
    }

    /// Effects of `f` go to `sink` from now on.
    pub fn attach(&self, f: FunctionId, sink: Arc<dyn Sink>) {
        if let Some(s) = self.lock().sinks.get_mut(usize::from(f.0)) {
            *s = Some(sink);
        }
    }

    /// Effects of `f` go nowhere from now on.
    pub fn detach(&self, f: FunctionId) {
        if let Some(s) = self.lock().sinks.get_mut(usize::from(f.0)) {
            *s = None;
        }
    }

    /// Lets something happen and carries out what follows.
    pub fn submit(&self, input: Input<'_>, mem: &dyn GuestMemory) {
        self.happen(&mut self.lock(), input, mem);
    }

    /// Lets something happen, and says what it did: `after` is given what `before` has seen of the card, and
    /// nothing else happens in between.
    pub fn submit_and_see<B, R>(
        &self,
        input: Input<'_>,
        mem: &dyn GuestMemory,
        before: impl FnOnce(&Card) -> B,
        after: impl FnOnce(B, &Card) -> R,
    ) -> R {
        let mut i = self.lock();
        let seen = before(&i.card);
        self.happen(&mut i, input, mem);
        after(seen, &i.card)
    }

    #[inline]
    fn happen(&self, i: &mut Inner, input: Input<'_>, mem: &dyn GuestMemory) {
        if i.dead {
            return;
        }
        let began = Instant::now();
        let now = self.now();
        i.fx.clear();
        let answered = i.card.counters().total();
        // The one place where a command asks whether it is traced.
        let took = if !cfg!(fwctl_emu_untraced) && i.trace.is_some() {
            i.traced(&input, now, began, mem)
        } else {
            i.contain(now, &Step::of(input), mem);
            i.changed();
            i.carry_out::<false>(now, began)
        };
        i.spent.add(took);
        i.answered(answered, took);
        if i.card.next_deadline().is_some() {
            self.timer.notify_one();
        }
    }

    /// Becomes a saved card. Its clock goes on from where the later of both was.
    ///
    /// # Errors
    /// It is not one that this card can become; nothing has changed.
    pub fn load(&self, saved: Vec<u8>) -> Result<(), LoadError> {
        let mut i = self.lock();
        let then = i.card.loadable(&saved)?.time();
        let ahead = then.since(self.now()).as_nanos() as u64;
        self.ahead.fetch_add(ahead, Ordering::AcqRel);
        let now = self.now();
        if !i.dead {
            i.fx.clear();
            let began = Instant::now();
            if let Some(t) = &mut i.trace {
                t.note(None, "the operator loads a saved card".into(), now);
            }
            i.contain(now, &Step::Load(saved), &NoMemory);
            i.changed();
            i.happened(None, now);
            i.carry_out::<true>(now, began);
        }
        self.timer.notify_one();
        Ok(())
    }

    /// Reads the card.
    pub fn with_card<R>(&self, f: impl FnOnce(&Card, Time) -> R) -> R {
        let i = self.lock();
        f(&i.card, self.now())
    }

    /// Reads the card if nobody else uses it now.
    pub fn try_with_card<R>(&self, f: impl FnOnce(&Card, Time) -> R) -> Option<R> {
        let i = match self.inner.try_lock() {
            Ok(i) => i,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(f(&i.card, self.now()))
    }

    /// Shows how long commands took.
    pub fn latencies<R>(&self, f: impl FnOnce(&Latencies) -> R) -> R {
        f(&self.lock().latencies)
    }

    /// Shows how long inputs took.
    pub fn spent<R>(&self, f: impl FnOnce(&Spent) -> R) -> R {
        f(&self.lock().spent)
    }

    /// Have every command logged.
    pub fn log_commands(&self) {
        let mut i = self.lock();
        i.logged = true;
        i.card.set_observed(true);
        i.fx.set_observed(true);
    }

    /// Have everything traced.
    pub fn trace(&self, recorder: Recorder) {
        let mut i = self.lock();
        i.trace = Some(Tracer::new(recorder, &i.card));
        i.card.set_observed(true);
        i.fx.set_observed(true);
    }

    /// Tells `watch` from now on what happens. It must not call the owner.
    pub fn watch(&self, watch: Watch) {
        let mut i = self.lock();
        i.generations = i
            .card
            .functions()
            .filter_map(|f| i.card.generation(f))
            .collect();
        i.health = i.card.health();
        i.watch = Some(watch);
    }

    /// Has the trace tell something that no input does.
    pub fn tell(&self, function: Option<FunctionId>, text: String) {
        let now = self.now();
        if let Some(t) = &mut self.lock().trace {
            t.note(function, text, now);
        }
    }

    /// Have everything recorded, from now on. `make` gets the card as it is.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn record<E>(
        &self,
        make: impl FnOnce(&Card) -> Result<record::Recorder, E>,
    ) -> Result<(), E> {
        let mut i = self.lock();
        i.record = Some(make(&i.card)?);
        Ok(())
    }

    /// Have what happens kept for a while, from now on. `make` gets the card as it is.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn keep<E>(&self, make: impl FnOnce(&Card) -> Result<FlightRecorder, E>) -> Result<(), E> {
        let mut i = self.lock();
        i.flight = Some(make(&i.card)?);
        Ok(())
    }

    /// A record of what was kept, and how many inputs that are.
    ///
    /// # Errors
    /// Nothing is kept.
    pub fn dump(&self) -> Dumped {
        // One at a time, so that the device never waits for many of them.
        let _turn = self.dumping.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = self.lock().flight.as_mut().map(FlightRecorder::dump);
        // Without the lock: the device goes on meanwhile.
        let heard = heard.ok_or("nothing is kept")?;
        heard.recv().map_err(|_| "nothing is kept any more")?
    }

    /// Ends the flight recorder: its dumps are written when this returns.
    pub fn end_flight(&self) {
        let flight = self.lock().flight.take();
        drop(flight);
    }

    /// Ends the record: it is written when this returns.
    pub fn end_record(&self) {
        let record = self.lock().record.take();
        drop(record);
    }

    /// Ends the trace: what there is of it is written when this returns.
    pub fn end_trace(&self) {
        let trace = self.lock().trace.take();
        drop(trace);
    }

    /// Polls the card at its deadlines until [`Owner::stop`]; a thread's whole life.
    pub fn run_timer(&self) {
        /// Without a deadline the timer sleeps this long at a time.
        const IDLE: Duration = Duration::from_secs(3600);
        /// The pause when a poll did not get further.
        const BREATH: Duration = Duration::from_millis(1);
        let mut i = self.lock();
        while !i.stop && !i.dead {
            let now = self.now();
            let wait = match i.card.next_deadline() {
                Some(at) if at <= now => {
                    i.fx.clear();
                    let (began, answered) = (Instant::now(), i.card.counters().total());
                    i.contain(now, &Step::Poll, &NoMemory);
                    i.changed();
                    i.happened(None, now);
                    let took = i.carry_out::<true>(now, began);
                    i.answered(answered, took);
                    match i.card.next_deadline() {
                        // A model that failed would be due again at once: leave the lock to others.
                        Some(again) if again <= at => BREATH,
                        _ => continue,
                    }
                }
                Some(at) => at.since(now),
                None => IDLE,
            };
            i = self
                .timer
                .wait_timeout(i, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends [`Owner::run_timer`].
    pub fn stop(&self) {
        self.lock().stop = true;
        self.timer.notify_all();
    }

    /// The card's time.
    pub fn now(&self) -> Time {
        let ahead = Duration::from_nanos(self.ahead.load(Ordering::Acquire));
        Time::ZERO.after(self.start.elapsed() + ahead)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held was contained, or came from a sink after its effect:
        // the card is whole either way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Runs the model; a panic in it ends that input, and what it was for starts anew: its function, or
    /// all of them if nobody can tell whose state it was.
    #[inline]
    fn contain(&mut self, now: Time, step: &Step<'_>, mem: &dyn GuestMemory) {
        if !self.run(step, now, mem) {
            self.broke(now, step, mem);
        }
    }

    /// The model has panicked.
    #[cold]
    #[inline(never)]
    fn broke(&mut self, now: Time, step: &Step<'_>, mem: &dyn GuestMemory) {
        let (function, tag) = match step {
            Step::Input(Input::Command { function, tag, .. }) => (Some(*function), Some(*tag)),
            Step::Input(input) => (input.function(), None),
            _ => (None, None),
        };
        if let Some(flight) = &mut self.flight {
            flight.panicked();
        }
        if let Some(watch) = &self.watch {
            watch(Told::Panic(function));
        }
        self.failed(function, tag, now, step, mem);
        let lost: Vec<FunctionId> = match function {
            Some(f) => vec![f],
            None => self.card.functions().collect(),
        };
        // A driver over PCI polls the health buffer and resets the firmware; one behind a command
        // channel sees its commands end.
        let mut polled = false;
        for function in lost {
            log::error!(
                "function {}: the firmware model failed; the function is reset and its driver is \
                 told; this is a bug",
                function.0
            );
            let reset = Input::Reset {
                function,
                kind: ResetKind::Bus,
            };
            let ok = self.run(&Step::of(reset), now, &NoMemory);
            polled |= ok && self.card.events(function) == Some(EventPath::EventQueues);
        }
        if polled {
            let failed = Input::Health(Report::FAILED);
            self.run(&Step::of(failed), now, &NoMemory);
        }
        // Whoever waits for this command must not wait for his time-out.
        if let (Some(function), Some(tag)) = (function, tag) {
            let outbox = self.fx.store(&[]);
            self.fx.push(Effect::Reply {
                function,
                tag,
                delivery: Delivery::Reset,
                outbox,
            });
        }
    }

    /// Tells observers that the model has failed, and in which commands.
    fn failed(
        &mut self,
        function: Option<FunctionId>,
        tag: Option<u64>,
        now: Time,
        step: &Step<'_>,
        mem: &dyn GuestMemory,
    ) {
        if !self.fx.is_observed() {
            return;
        }
        if let Some(t) = &mut self.trace {
            let text = "the firmware model failed; this is a bug, or a fault's doing";
            t.note(function, text.into(), now);
        }
        let Step::Input(input) = step else { return };
        let card = &self.card;
        // It may be the memory that fails.
        let brought = catch_unwind(AssertUnwindSafe(|| card.brought(input, mem)));
        for (function, slot, inbox) in brought.unwrap_or_default() {
            let inbox = self.fx.store(&inbox);
            self.fx.push(Effect::Unanswered(Unanswered {
                function,
                slot,
                tag,
                submitted: now,
                why: Why::Panic,
                inbox,
            }));
        }
    }

    /// A fault ends the process: what follows of `last`, nobody sees any more. What led to it shall be there, and
    /// the commands that it leaves without an answer.
    #[cold]
    #[inline(never)]
    fn crashed(&self, trace: Option<Tracer>, last: &Effect, (now, took): (Time, Duration)) {
        let fx = &self.fx;
        let mut trace = trace;
        let until = fx.iter().take_while(|e| !core::ptr::eq(*e, last)).count() + 1;
        if let Some(t) = &mut trace {
            t.effects(fx.iter().take(until), fx, now, took);
        }
        for e in fx.iter().skip(until) {
            let left = match e {
                Effect::Observed(o) => Unanswered {
                    function: o.function,
                    slot: o.slot,
                    tag: None,
                    submitted: o.submitted,
                    why: Why::Crash,
                    inbox: o.inbox,
                },
                Effect::Unanswered(u) => *u,
                // Whose it would have been.
                Effect::Reply {
                    delivery: Delivery::Executed,
                    ..
                } => {
                    if let Some(t) = &mut trace {
                        t.effects([e], fx, now, took);
                    }
                    continue;
                }
                _ => continue,
            };
            self.left(&mut trace, left, fx, now);
        }
        // And those that have waited: for what they wrote to be stored, for their time, for somebody.
        let mut waited = Effects::new();
        waited.set_observed(true);
        self.card.show_waiting(Why::Crash, &mut waited);
        for e in waited.iter() {
            if let Effect::Unanswered(u) = e {
                self.left(&mut trace, *u, &waited, now);
            }
        }
    }

    /// Tells of a command that the end of the process leaves without an answer.
    fn left(&self, trace: &mut Option<Tracer>, u: Unanswered, fx: &Effects, now: Time) {
        self.unanswered(&u, fx, now);
        if let Some(t) = trace {
            t.effects([&Effect::Unanswered(u)], fx, now, Duration::ZERO);
        }
    }

    /// Logs a command without an answer.
    fn unanswered(&self, u: &Unanswered, fx: &Effects, now: Time) {
        if self.logged {
            let overlay = self.card.profile().overlay.as_deref();
            observe::log_unanswered(u, fx, now, overlay);
        }
    }

    /// Lets one step happen, adds what follows to `fx`, and records it. False if the model panicked:
    /// nothing follows then.
    fn run(&mut self, step: &Step<'_>, now: Time, mem: &dyn GuestMemory) -> bool {
        let (card, fx) = (&mut self.card, &mut self.fx);
        let from = fx.len();
        self.notes.clear();
        let is_kept = self.record.is_some() || self.flight.is_some();
        let ok = if !is_kept {
            catch_unwind(AssertUnwindSafe(|| step.happen(card, now, mem, fx))).is_ok()
        } else {
            let noted = Noted::new(mem, &mut self.notes);
            catch_unwind(AssertUnwindSafe(|| step.happen(card, now, &noted, fx))).is_ok()
        };
        if !ok {
            fx.truncate(from);
        }
        if is_kept {
            self.keep(step, now, from, !ok);
        }
        ok
    }

    /// Records a step from which nothing follows.
    fn note(&mut self, step: &Step<'_>, at: Time) {
        self.notes.clear();
        self.keep(step, at, self.fx.len(), false);
    }

    /// Records a step, what was noted for it, and the effects from number `from` on.
    fn keep(&mut self, step: &Step<'_>, at: Time, from: usize, panicked: bool) {
        let frame = Happening {
            at,
            step,
            reads: &self.notes,
            effects: &self.fx,
            from,
            panicked,
        };
        if let Some(flight) = &mut self.flight {
            flight.put(&frame);
        }
        if self.record.as_mut().is_some_and(|r| !r.put(&frame)) {
            // What cannot be recorded must not be seen to happen.
            self.fx.clear();
            self.dead = true;
        }
    }

    /// Counts how long the commands took that were answered since there were `before`.
    fn answered(&mut self, before: u64, own: Duration) {
        self.latencies.add(self.card.counters(), before, own);
    }

    /// Tells what a step has changed that no effect tells.
    fn changed(&mut self) {
        let Some(watch) = &self.watch else { return };
        for (n, known) in self.generations.iter_mut().enumerate() {
            let f = FunctionId(n as u8);
            if let Some(g) = self.card.generation(f).filter(|g| g != known) {
                *known = g;
                watch(Told::Reset(f, g));
            }
        }
        let health = self.card.health();
        if health != self.health {
            self.health = health;
            watch(Told::Health(health));
        }
    }

    /// Lets something happen, carries out what follows, and traces both. Out of line: a command that is not
    /// traced has nothing of it.
    #[cold]
    #[inline(never)]
    fn traced(
        &mut self,
        input: &Input<'_>,
        now: Time,
        began: Instant,
        mem: &dyn GuestMemory,
    ) -> Duration {
        if let Some(t) = &mut self.trace {
            t.comes(input, now);
        }
        self.contain(now, &Step::of(*input), mem);
        self.changed();
        self.happened(Some(input), now);
        self.carry_out::<true>(now, began)
    }

    /// Traces what has been done that no effect tells: by an input, or by the card's own time.
    fn happened(&mut self, input: Option<&Input<'_>>, now: Time) {
        if let Some(t) = &mut self.trace {
            t.happened(input, &self.card, now);
        }
    }

    /// Carries out what follows from what has happened since `began`, and then traces it; says how long that took
    /// without the trace. `TRACED` may be true without one.
    fn carry_out<const TRACED: bool>(&mut self, now: Time, began: Instant) -> Duration {
        let (mut began, mut before) = (began, Duration::ZERO);
        let mut touched = 0u32;
        // Each round is what the commits of the round before led to.
        loop {
            let mut commits: Vec<(Token, bool)> = Vec::new();
            for e in self.fx.iter() {
                match e {
                    Effect::Write {
                        function,
                        addr,
                        data,
                        order,
                    } => {
                        if let Some(s) = sink(&self.sinks, *function) {
                            s.write(*addr, self.fx.bytes(*data), *order);
                        }
                    }
                    Effect::Interrupt { function, vector } => {
                        if let Some(s) = sink(&self.sinks, *function) {
                            s.interrupt(*vector);
                        }
                    }
                    Effect::Reply {
                        function,
                        tag,
                        delivery,
                        outbox,
                    } => {
                        touched |= 1 << function.0;
                        if let Some(s) = sink(&self.sinks, *function) {
                            s.reply(*tag, *delivery, self.fx.bytes(*outbox));
                        }
                    }
                    Effect::Event {
                        function,
                        event_type,
                        sub_type,
                        data,
                    } => {
                        touched |= 1 << function.0;
                        if let Some(s) = sink(&self.sinks, *function) {
                            s.event(*event_type, *sub_type, self.fx.bytes(*data));
                        }
                    }
                    Effect::Commit { token, batch } => {
                        let stored = self.store.commit(batch);
                        if let Err(e) = &stored {
                            log::error!("{e}");
                        }
                        commits.push((*token, stored.is_ok()));
                    }
                    Effect::Notice { function, notice } => {
                        log::warn!("function {}: {notice}", function.0);
                        if *notice == Notice::Crash {
                            let trace = self.trace.take();
                            self.crashed(trace, e, (now, began.elapsed()));
                            drop(self.record.take());
                        }
                        if let Some(watch) = &self.watch {
                            watch(Told::Notice(*function, notice));
                        }
                    }
                    Effect::Observed(o) => {
                        if self.logged {
                            let overlay = self.card.profile().overlay.as_deref();
                            observe::log(o, &self.fx, overlay);
                        }
                    }
                    Effect::Unanswered(u) => self.unanswered(u, &self.fx, now),
                    Effect::Posted(_) => {}
                }
            }
            if commits.is_empty() {
                break;
            }
            if TRACED && let Some(t) = &mut self.trace {
                let took = began.elapsed();
                t.effects(self.fx.iter(), &self.fx, now, took);
                before += took;
                began = Instant::now();
            }
            self.fx.clear();
            for (token, stored) in commits {
                let input = Input::Committed { token, stored };
                self.contain(now, &Step::of(input), &NoMemory);
            }
        }
        if touched != 0 {
            for (n, s) in self.sinks.iter().enumerate() {
                if let Some(s) = s.as_ref().filter(|_| touched >> n & 1 == 1) {
                    s.flush();
                }
            }
        }
        let took = began.elapsed();
        if TRACED && let Some(t) = &mut self.trace {
            t.effects(self.fx.iter(), &self.fx, now, took);
        }
        before + took
    }
}

fn sink(sinks: &[Option<Arc<dyn Sink>>], f: FunctionId) -> Option<&Arc<dyn Sink>> {
    sinks.get(usize::from(f.0))?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::{CardOptions, MemStore, Profile, Unmapped};
    use fwctl_proto::cmdif::{ENTRY_BYTES, Entry, TYPE_PCI_XPORT};
    use std::{collections::BTreeMap, thread};

    /// Guest memory with one command entry at 0x1000; what is written comes back in the sink.
    struct Memory([u8; ENTRY_BYTES]);

    impl GuestMemory for Memory {
        fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
            let from = addr.checked_sub(0x1000).ok_or(Unmapped)? as usize;
            let bytes = self.0.get(from..from + buf.len()).ok_or(Unmapped)?;
            buf.copy_from_slice(bytes);
            Ok(())
        }
    }

    /// Guest memory whose every access is a bug of ours.
    struct Broken;

    impl GuestMemory for Broken {
        fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Unmapped> {
            panic!("meant: a bug in the model")
        }
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<(u64, Vec<u8>)>>);

    impl Sink for Seen {
        fn write(&self, addr: u64, data: &[u8], _: Order) {
            self.0.lock().unwrap().push((addr, data.to_vec()));
        }
        fn interrupt(&self, _: u16) {}
        fn reply(&self, _: u64, _: Delivery, _: &[u8]) {}
        fn event(&self, _: u8, _: u8, _: &[u8]) {}
    }

    fn owner() -> (Arc<Owner>, FunctionId, Arc<Seen>) {
        let profile = Profile::builtin("minimal").unwrap();
        let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let owner = Owner::new(card, Box::new(MemStore::default()));
        let f = owner.add_function(EventPath::EventQueues).unwrap();
        let seen = Arc::new(Seen::default());
        owner.attach(f, seen.clone());
        (owner, f, seen)
    }

    fn write(owner: &Owner, function: FunctionId, offset: u32, value: u32, mem: &dyn GuestMemory) {
        let data = &value.to_be_bytes();
        owner.submit(
            Input::SegmentWrite {
                function,
                offset,
                data,
            },
            mem,
        );
    }

    fn enable() -> Memory {
        let mut inline_in = [0; 16];
        inline_in[..2].copy_from_slice(&fwctl_proto::opcode::ENABLE_HCA.to_be_bytes());
        let entry = Entry {
            kind: TYPE_PCI_XPORT,
            in_len: 16,
            in_ptr: 0,
            inline_in,
            out_ptr: 0,
            out_len: 12,
            token: 1,
            hw_owned: true,
        };
        Memory(entry.to_bytes())
    }

    fn read(owner: &Owner, f: FunctionId, offset: u32) -> u32 {
        let mut b = [0; 4];
        owner.with_card(|c, now| c.read_segment(f, offset, &mut b, now));
        u32::from_be_bytes(b)
    }

    fn state(owner: &Owner, f: FunctionId) -> (&'static str, u64) {
        let r = owner.with_card(|c, _| c.report(f)).unwrap();
        (r.state, r.generation)
    }

    #[test]
    fn effects_reach_the_sink_in_order() {
        let (owner, f, seen) = owner();
        write(&owner, f, 0x14, 0x1000, &NoMemory);
        write(&owner, f, 0x18, 1, &enable());
        assert_eq!(state(&owner, f).0, "enabled");
        let mut writes = seen.0.lock().unwrap();
        assert_eq!(*writes, [(0x1020, vec![0; 12]), (0x103f, vec![0])]);
        writes.clear();
        drop(writes);
        // A function without a sink goes on, and its effects go nowhere.
        owner.detach(f);
        write(&owner, f, 0x18, 1, &enable());
        assert!(seen.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_panic_in_the_model_ends_the_function_until_its_driver_resets_the_firmware() {
        let (owner, f, seen) = owner();
        write(&owner, f, 0x14, 0x1000, &NoMemory);
        write(&owner, f, 0x18, 1, &enable());
        let (_, generation) = state(&owner, f);
        seen.0.lock().unwrap().clear();
        write(&owner, f, 0x18, 1, &Broken);
        assert_eq!(state(&owner, f), ("disabled", generation + 1));
        assert!(seen.0.lock().unwrap().is_empty());
        // Syndrome 1 and "a reset is needed", and no command is executed.
        assert_eq!(read(&owner, f, 0x23c) >> 16 & 0xff, 1);
        assert_eq!(read(&owner, f, 0x238) >> 31, 1);
        write(&owner, f, 0x14, 0x1000, &NoMemory);
        write(&owner, f, 0x18, 1, &enable());
        assert_eq!(state(&owner, f).0, "disabled");
        // nic_interface 7: reset the firmware.
        let timer = owner.clone();
        let t = thread::spawn(move || timer.run_timer());
        write(&owner, f, 0x14, 0x1700, &NoMemory);
        assert_eq!(read(&owner, f, 0x14) >> 8 & 7, 7);
        for _ in 0..500 {
            if read(&owner, f, 0x14) >> 8 & 7 == 1 && read(&owner, f, 0x1fc) >> 31 == 0 {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        write(&owner, f, 0x14, 0x1000, &NoMemory);
        write(&owner, f, 0x18, 1, &enable());
        assert_eq!(state(&owner, f).0, "enabled");
        owner.stop();
        t.join().unwrap();
    }

    #[test]
    fn the_timer_ends_when_told() {
        let (owner, _, _) = owner();
        let timer = owner.clone();
        let t = thread::spawn(move || timer.run_timer());
        owner.stop();
        t.join().unwrap();
    }
}
