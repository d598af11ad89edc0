// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Resets of the firmware, which concern all functions of a card: those that the drivers agree on
//! (MFRL, "sync reset"), and those that one of them forces.
//!
//! A sync reset goes: MFRL with `start`, whose answer is held back; a request to the driver of
//! every function that is up; their answers (MFRL with `resp`); then "now" or "unload" to all, or
//! "abort" if one refused or stayed silent. When all have left, the firmware starts anew. See
//! docs/lifecycle.md.

use core::time::Duration;

use fwctl_proto::{
    eqe, event,
    layout::View,
    layouts::CmdHcaCap,
    segment::{self, nic_interface},
};
use serde::{Deserialize, Serialize};

use super::Card;
use crate::{
    FunctionId,
    effect::{Delivery, Effect, Effects, Notice},
    exec,
    function::{
        Function, State,
        eq::Event,
        pending::{Origin, Wait},
    },
    gateway::{CrSpace, HostSync, Semaphores},
    input::{EventPath, ResetKind},
    profile::CAP_GENERAL,
    reg::Clock,
    settings,
    store::Batch,
    syndrome::Syndrome,
    time::Time,
    tracer::Tracer,
};

/// How long drivers may take to answer the request.
const NEGOTIATION: Duration = Duration::from_secs(10);
/// How long the firmware tracer is silent before they must leave: a driver that leaves cannot take
/// what it was told of.
const QUIET: Duration = Duration::from_millis(200);
/// How long they may take to leave.
const LEAVING: Duration = Duration::from_secs(60);
/// How long the firmware waits for the link to be toggled, which it does not see.
const TOGGLING: Duration = Duration::from_secs(1);
/// How long a reset that a driver forces shows before it is done.
const FORCED: Duration = Duration::from_millis(100);

/// `general_event` sub-type of the steps of a sync reset
/// (`MLX5_GENERAL_SUBTYPE_PCI_SYNC_FOR_FW_UPDATE_EVENT`).
const SYNC: u8 = 0x8;

/// `enum sync_rst_state_type`.
#[derive(Clone, Copy)]
enum Step {
    Request = 0,
    Now = 1,
    Abort = 2,
    Unload = 3,
}

/// `MFRL.reset_state` (`MLX5_MFRL_REG_RESET_STATE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// No reset, or the last one is done.
    #[default]
    Idle = 0,
    /// The drivers are being asked.
    InNegotiation = 1,
    /// They agreed.
    InProgress = 2,
    /// One of them did not answer.
    NegotiationTimeout = 3,
    /// One of them refused.
    Nack = 4,
    /// One of them did not leave.
    UnloadTimeout = 5,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Idle,
    Negotiating(Time),
    Agreed(Time),
    Leaving(Time),
    Toggling(Time),
    Forced(Time),
}

/// What a command asked for; taken up when it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Begin; by a reset of the bus, whatever the profile says.
    Start {
        /// The request said so.
        hot: bool,
    },
    /// The driver of this function agrees, or does not.
    Answer(FunctionId, bool),
}

/// A driver that has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Voter {
    function: FunctionId,
    generation: u64,
    answer: Option<bool>,
}

/// The reset that is going on, or how the last one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    phase: Phase,
    /// What MFRL shows.
    pub outcome: Outcome,
    voters: Vec<Voter>,
    asked: Option<Asked>,
    hot: bool,
    /// The firmware starts anew when the host is reset.
    pub at_reboot: bool,
}

impl Reset {
    /// True while a reset goes on that was asked for as a reset of the bus.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.hot && self.busy()
    }

    /// True while a reset goes on.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// True while the firmware resets itself because a driver forced it to.
    #[must_use]
    pub fn resets_itself(&self) -> bool {
        matches!(self.phase, Phase::Forced(_))
    }

    /// The state that the initialization segment shows.
    #[must_use]
    pub fn segment_state(&self) -> u32 {
        match self.phase {
            Phase::Toggling(_) => segment::RESET_STATE_TOGGLE,
            _ => 0,
        }
    }

    /// Takes up what a command asked for.
    ///
    /// # Errors
    /// [`Syndrome::ResetBusy`] if a reset goes on, [`Syndrome::ResetNotAsked`] for an answer that
    /// nobody waits for.
    pub fn ask(&mut self, asked: Asked) -> Result<(), Syndrome> {
        match asked {
            Asked::Start { .. } if self.busy() => return Err(Syndrome::ResetBusy),
            Asked::Answer(id, _) if !self.waits_for(id) => return Err(Syndrome::ResetNotAsked),
            _ => self.asked = Some(asked),
        }
        Ok(())
    }

    fn waits_for(&self, id: FunctionId) -> bool {
        let asked = |v: &Voter| v.function == id && v.answer.is_none();
        matches!(self.phase, Phase::Negotiating(_)) && self.voters.iter().any(asked)
    }

    /// When something is to be done although nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Idle => None,
            Phase::Negotiating(t)
            | Phase::Agreed(t)
            | Phase::Leaving(t)
            | Phase::Toggling(t)
            | Phase::Forced(t) => Some(t),
        }
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What it holds that no reset can hold.
    pub fn check(&self, functions: usize) -> Result<(), &'static str> {
        if self
            .voters
            .iter()
            .any(|v| usize::from(v.function.0) >= functions)
        {
            return Err("a reset that waits for a function that is not there");
        }
        Ok(())
    }
}

/// A field of the general page that this function's driver has set.
fn has_set(f: &Function, field: fwctl_proto::layout::Field<CmdHcaCap>) -> bool {
    let page = f.caps.get(&CAP_GENERAL);
    page.and_then(|p| View::<CmdHcaCap>::new(p))
        .is_some_and(|v| v.get(field) != 0)
}

fn unloads(f: &Function) -> bool {
    has_set(f, CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_WITH_DRIVER_UNLOAD)
}

impl Card {
    /// Takes resets of the firmware a step further, as far as they go.
    pub(super) fn settle(&mut self, now: Time, fx: &mut Effects) {
        if self.shared.health.awaited && self.shared.health.runs(now) {
            self.give_back(fx);
        }
        self.settle_tracer(now, fx);
        let forced = |f: &Function| f.segment.nic_interface == nic_interface::SW_RESET;
        if self.shared.reset.asked.is_none()
            && !self.shared.reset.busy()
            && !self.functions.iter().any(forced)
        {
            return;
        }
        if self.functions.iter().any(forced) && !self.shared.reset.resets_itself() {
            self.release(Err(Syndrome::ResetRefused), now, fx);
            self.shared.reset.phase = Phase::Forced(now.after(FORCED));
            for f in &mut self.functions {
                f.segment.nic_interface = nic_interface::DISABLED;
            }
        }
        match self.shared.reset.asked.take() {
            Some(Asked::Start { hot }) => {
                self.shared.reset.hot = hot;
                self.begin(now, fx);
            }
            Some(Asked::Answer(id, yes)) => {
                let voters = &mut self.shared.reset.voters;
                if let Some(v) = voters.iter_mut().find(|v| v.function == id) {
                    v.answer = Some(yes);
                }
            }
            None => {}
        }
        if let Phase::Negotiating(until) = self.shared.reset.phase {
            self.negotiate(until, now, fx);
        }
        if let Phase::Agreed(until) = self.shared.reset.phase
            && now >= until
        {
            self.dismiss(now, fx);
        }
        if let Phase::Leaving(until) = self.shared.reset.phase {
            self.leave(until, now, fx);
        }
        match self.shared.reset.phase {
            Phase::Toggling(until) if now >= until || self.any_voter_reset() => {
                self.restart(now, fx);
            }
            Phase::Forced(until) if now >= until => self.restart(now, fx),
            _ => {}
        }
    }

    /// Ends the commands that came over command channels while the firmware did not run.
    fn give_back(&mut self, fx: &mut Effects) {
        self.shared.health.awaited = false;
        for f in &mut self.functions {
            let id = f.id;
            f.pending.retain(|p| {
                let Origin::Channel { tag } = p.origin else {
                    return true;
                };
                let waits = p.wait == Some(Wait::Firmware);
                if waits {
                    let outbox = fx.store(&[]);
                    fx.push(Effect::Reply {
                        function: id,
                        tag,
                        delivery: Delivery::Reset,
                        outbox,
                    });
                }
                !waits
            });
        }
    }

    /// Asks the driver of every function that is up.
    fn begin(&mut self, now: Time, fx: &mut Effects) {
        let up = |f: &&Function| f.state == State::Up;
        let listens = |f: &Function| has_set(f, CmdHcaCap::PCI_SYNC_FOR_FW_UPDATE_EVENT);
        let reset = &mut self.shared.reset;
        reset.voters = self
            .functions
            .iter()
            .filter(up)
            .map(|f| Voter {
                function: f.id,
                generation: f.generation,
                // A driver that did not ask for the event cannot agree.
                answer: (!listens(f)).then_some(false),
            })
            .collect();
        reset.phase = Phase::Negotiating(now.after(NEGOTIATION));
        reset.outcome = Outcome::InNegotiation;
        self.tell(|v| v.answer.is_none(), |_| Step::Request, fx);
    }

    fn negotiate(&mut self, until: Time, now: Time, fx: &mut Effects) {
        let gone = |v: &Voter| {
            let f = self.functions.get(usize::from(v.function.0));
            f.is_none_or(|f| f.generation != v.generation || f.state != State::Up)
        };
        let voters = &self.shared.reset.voters;
        let refused = voters.iter().any(|v| v.answer == Some(false) && !gone(v));
        let silent = voters.iter().any(|v| v.answer.is_none() && !gone(v));
        let failed = if refused {
            Outcome::Nack
        } else if silent && now >= until {
            Outcome::NegotiationTimeout
        } else if silent {
            return;
        } else {
            let quiet = if self.shared.tracer.listens() {
                now.after(QUIET)
            } else {
                now
            };
            self.shared.reset.phase = Phase::Agreed(quiet);
            return;
        };
        self.abort(failed, now, fx);
    }

    /// Tells the drivers to leave, as all have agreed.
    fn dismiss(&mut self, now: Time, fx: &mut Effects) {
        let steps = |f: &Function| if unloads(f) { Step::Unload } else { Step::Now };
        let reset = &mut self.shared.reset;
        reset.phase = Phase::Leaving(now.after(LEAVING));
        reset.outcome = Outcome::InProgress;
        for f in &mut self.functions {
            f.segment.unloaded = false;
        }
        self.release(Ok(()), now, fx);
        self.tell(|_| true, steps, fx);
    }

    fn abort(&mut self, outcome: Outcome, now: Time, fx: &mut Effects) {
        self.tell(|v| v.answer == Some(true), |_| Step::Abort, fx);
        let reset = &mut self.shared.reset;
        reset.phase = Phase::Idle;
        reset.outcome = outcome;
        reset.voters.clear();
        self.release(Err(Syndrome::ResetRefused), now, fx);
    }

    fn leave(&mut self, until: Time, now: Time, fx: &mut Effects) {
        let mut unload = false;
        for v in &self.shared.reset.voters {
            let Some(f) = self.functions.get(usize::from(v.function.0)) else {
                continue;
            };
            if f.generation != v.generation {
                continue;
            }
            unload |= unloads(f);
            let left = f.state != State::Up && f.segment.nic_interface == nic_interface::DISABLED;
            if !left || (unloads(f) && !f.segment.unloaded) {
                if now >= until {
                    let reset = &mut self.shared.reset;
                    reset.phase = Phase::Idle;
                    reset.outcome = Outcome::UnloadTimeout;
                    reset.voters.clear();
                }
                return;
            }
        }
        if unload {
            self.shared.reset.phase = Phase::Toggling(now.after(TOGGLING));
        } else {
            self.restart(now, fx);
        }
    }

    /// A function was reset: if that was its host's reboot, and somebody asked for a reset then, the firmware
    /// starts anew. On a command channel a driver that is unloaded looks like a reboot, so there only a
    /// client that goes away is one.
    pub(super) fn rebooted(
        &mut self,
        id: FunctionId,
        kind: ResetKind,
        now: Time,
        fx: &mut Effects,
    ) {
        let f = self.functions.get(usize::from(id.0));
        let reboots = match kind {
            ResetKind::Bus => f.is_some_and(|f| f.events == EventPath::EventQueues),
            ResetKind::ClientGone => f.is_some(),
            ResetKind::Flr | ResetKind::Firmware => false,
        };
        if reboots && self.shared.reset.at_reboot {
            self.restart(now, fx);
        }
    }

    fn any_voter_reset(&self) -> bool {
        self.shared.reset.voters.iter().any(|v| {
            let f = self.functions.get(usize::from(v.function.0));
            f.is_some_and(|f| f.generation != v.generation)
        })
    }

    /// The firmware starts anew: every function as after power on, next-boot configuration in
    /// force, nothing wrong.
    pub(super) fn restart(&mut self, now: Time, fx: &mut Effects) {
        let mut batch = Batch::default();
        self.shared.nv.next_to_current(&mut batch);
        if let Err(bad) = self.shared.firmware.start(&self.profile, &mut batch) {
            fx.push(Effect::Notice {
                function: FunctionId(0),
                notice: Notice::NoImage(bad),
            });
        }
        self.commit(batch, fx);
        for i in 0..self.functions.len() {
            self.reset(FunctionId(i as u8), ResetKind::Firmware, fx);
        }
        for f in &mut self.functions {
            f.configured = settings::in_force(&self.profile, &self.shared.nv, f.id);
            f.segment.nic_interface = nic_interface::DISABLED;
        }
        let start = Duration::from_millis(u64::from(self.profile.timeouts.start_ms));
        self.shared.health.restart(now.after(start));
        self.shared.semaphores = Semaphores::default();
        self.shared.cr = CrSpace::default();
        self.shared.sync = HostSync::default();
        self.shared.reset = Reset::default();
        self.shared.tracer = Tracer::default();
        self.shared.clock = Clock::default();
    }

    /// Tells the drivers that `whom` names a step.
    fn tell(
        &mut self,
        whom: impl Fn(&Voter) -> bool,
        step: impl Fn(&Function) -> Step,
        fx: &mut Effects,
    ) {
        for v in &self.shared.reset.voters {
            let Some(f) = self.functions.get_mut(usize::from(v.function.0)) else {
                continue;
            };
            if whom(v) && f.generation == v.generation {
                let mut data = [0; eqe::DATA_BYTES];
                data[eqe::data::SYNC_RESET_STATE] = step(f) as u8;
                f.raise(Event {
                    event_type: event::GENERAL_EVENT,
                    sub_type: SYNC,
                    data,
                });
                f.deliver(fx);
            }
        }
    }

    /// Answers whoever started the reset.
    fn release(&mut self, result: Result<(), Syndrome>, now: Time, fx: &mut Effects) {
        for i in 0..self.functions.len() {
            for p in &mut self.functions[i].pending {
                if p.wait == Some(Wait::Agreement) {
                    p.wait = None;
                    if let Err(s) = result {
                        exec::refuse(&mut p.outbox, s.into());
                    }
                }
            }
            self.answer_due(i, now, fx);
        }
    }
}
