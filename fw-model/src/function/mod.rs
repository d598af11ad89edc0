// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One function of a card: the sparse difference between it and its profile.

pub mod eq;
pub mod pages;
pub mod pending;
mod restore;
pub mod uctx;

use std::collections::{BTreeMap, VecDeque};

use fwctl_proto::{eqe, event};

use crate::{
    FunctionId,
    copy::clone_by_fields,
    diagnostics::Diagnostics,
    effect::{Delivery, Effect, Effects, Notice, Why},
    gateway::icmd::Icmd,
    input::EventPath,
    object::{KindId, Objects},
    overlay::OverlayState,
    profile::Profile,
    reg::{RegisterState, resource_dump::Dump},
    settings::InForce,
    syndrome::Syndrome,
    tables::Tables,
    time::Time,
    vport::Vport,
    work::Work,
};

use self::{
    eq::{Eq, Event},
    pages::Pages,
    pending::{Origin, Pending, Wait},
    uctx::UserContexts,
};

/// Events held back while a function's channel or queues are not there; more are dropped.
pub const MAX_EVENTS_WAITING: usize = 64;

/// Where a function is in its life (PRM: driver initialization flow).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum State {
    /// Before ENABLE_HCA and after DISABLE_HCA or a reset.
    #[default]
    Disabled,
    /// After ENABLE_HCA: pages and capabilities are settled.
    Enabled,
    /// After INIT_HCA: every command is allowed.
    Up,
}

impl State {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Up => "up",
        }
    }
}

/// What the driver wrote to the initialization segment.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Segment {
    /// Guest address of the command queue.
    pub cmdq: u64,
    /// `nic_interface` field (`fwctl_proto::segment::nic_interface`).
    pub nic_interface: u8,
    /// The driver has unloaded for a reset of the firmware.
    pub unloaded: bool,
}

/// A function.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Function {
    /// Its number on the card.
    pub id: FunctionId,
    /// How its events reach the driver.
    pub events: EventPath,
    /// Counts resets: what was started in an earlier one is never finished in this.
    pub generation: u64,
    /// Where it is in its life.
    pub state: State,
    /// The initialization segment's registers.
    pub segment: Segment,
    /// Interface step sequence id in force (SET_ISSI).
    pub issi: u16,
    /// What configuration items changed, as of the last start of the firmware.
    pub configured: InForce,
    /// Capability pages that SET_HCA_CAP changed, by type.
    pub caps: BTreeMap<u16, Box<[u8]>>,
    /// Guest pages.
    pub pages: Pages,
    /// User contexts.
    pub uctx: UserContexts,
    /// Event queues by number.
    pub eqs: BTreeMap<u8, Eq>,
    /// The queue that takes command completions.
    pub cmd_eq: Option<u8>,
    /// All other objects.
    pub objects: Objects,
    /// Multicast groups, L2 addresses, UDP ports and other small tables.
    pub tables: Tables,
    /// How far its work queues are.
    pub work: Work,
    /// Its diagnostic counters.
    pub diagnostics: Diagnostics,
    /// Its virtual port.
    pub vport: Vport,
    /// Register fields that differ from the profile.
    pub registers: RegisterState,
    /// Its command mailbox behind the PCI gateway.
    pub icmd: Icmd,
    /// The resource dump that is being read.
    pub dump: Dump,
    /// What its overlay remembers.
    pub overlay: OverlayState,
    /// Commands that are executed and not yet answered.
    pub pending: Vec<Pending>,
    /// Interrupts that a fault lets come later: when, and which vector.
    pub late: Vec<(Time, u16)>,
    /// What the operator should be told.
    pub notices: VecDeque<Notice>,
    /// Events that wait for the current command's completion.
    pub raised: VecDeque<Event>,
    /// Entries for one event queue each, that wait for the current command's completion.
    pub generated: VecDeque<(u8, Event)>,
    /// The last event queue number given out.
    pub last_eqn: u8,
    /// What SET_DRIVER_VERSION said.
    pub driver_version: String,
}

clone_by_fields!(Function {
    id,
    events,
    generation,
    state,
    segment,
    issi,
    configured,
    caps,
    pages,
    uctx,
    eqs,
    cmd_eq,
    objects,
    tables,
    work,
    diagnostics,
    vport,
    registers,
    icmd,
    dump,
    overlay,
    pending,
    late,
    notices,
    raised,
    generated,
    last_eqn,
    driver_version
});

impl Function {
    /// Tells those who wait on a command channel that they wait in vain, and an observer of the others.
    pub(crate) fn abandon(&self, fx: &mut Effects) {
        for p in &self.pending {
            if let Origin::Channel { tag } = p.origin {
                let outbox = fx.store(&[]);
                fx.push(Effect::Reply {
                    function: self.id,
                    tag,
                    delivery: Delivery::Reset,
                    outbox,
                });
            } else if p.wait != Some(Wait::Lost) {
                // What was lost before is known.
                p.unanswered(self.id, Why::Reset, fx);
            }
        }
    }

    /// A function as after power on.
    #[must_use]
    pub fn new(id: FunctionId, events: EventPath, profile: &Profile) -> Self {
        Self {
            id,
            events,
            generation: 0,
            state: State::Disabled,
            segment: Segment::default(),
            issi: 0,
            configured: InForce::default(),
            caps: BTreeMap::new(),
            pages: Pages::new(profile.pages.boot, profile.pages.init),
            uctx: UserContexts::default(),
            eqs: BTreeMap::new(),
            cmd_eq: None,
            objects: Objects::default(),
            tables: Tables::default(),
            work: Work::default(),
            diagnostics: Diagnostics::default(),
            vport: Vport::default(),
            registers: RegisterState::default(),
            icmd: Icmd::default(),
            dump: Dump::default(),
            overlay: OverlayState::default(),
            pending: Vec::new(),
            late: Vec::new(),
            notices: VecDeque::new(),
            raised: VecDeque::new(),
            generated: VecDeque::new(),
            last_eqn: 0,
            driver_version: String::new(),
        }
    }

    /// Back to the state after power on; only the generation counts on.
    pub fn reset(&mut self, profile: &Profile) {
        // Only compared; one that was read may be any.
        let generation = self.generation.wrapping_add(1);
        // The gateway lives on: who waits there is told.
        let mut icmd = core::mem::take(&mut self.icmd);
        icmd.abort();
        let configured = core::mem::take(&mut self.configured);
        *self = Self {
            generation,
            icmd,
            configured,
            ..Self::new(self.id, self.events, profile)
        };
    }

    /// What INIT_HCA … TEARDOWN_HCA brackets: objects, contexts, queues.
    pub fn drop_objects(&mut self) {
        self.uctx = UserContexts::default();
        self.eqs = BTreeMap::new();
        self.cmd_eq = None;
        self.objects = Objects::default();
        self.tables = Tables::default();
        self.work = Work::default();
        self.pages.extra = self.pages.extra.saturating_sub(self.pages.grown);
        self.pages.grown = 0;
        self.vport = Vport::default();
        self.raised.clear();
        self.generated.clear();
    }

    /// Queues an event behind the current command's completion. More than
    /// [`MAX_EVENTS_WAITING`] are dropped.
    pub fn raise(&mut self, event: Event) {
        if self.raised.len() < MAX_EVENTS_WAITING {
            self.raised.push_back(event);
        }
    }

    /// Queues an entry for one event queue, behind the current command's completion.
    pub fn generate(&mut self, eq: u8, event: Event) {
        if self.generated.len() < MAX_EVENTS_WAITING {
            self.generated.push_back((eq, event));
        }
    }

    /// Changes the page demand of an up function and tells the driver.
    pub fn demand_pages(&mut self, count: i32) {
        if self.state != State::Up {
            return;
        }
        self.pages.demand(count);
        // Function 0 is this one.
        let mut data = [0; eqe::DATA_BYTES];
        let at = eqe::data::PAGE_REQUEST_PAGES;
        data[at..at + 4].copy_from_slice(&count.to_be_bytes());
        self.raise(Event {
            event_type: event::PAGE_REQUEST,
            sub_type: 0,
            data,
        });
    }

    /// Counts pages that came back changed: somebody wrote to memory that is the firmware's.
    pub fn pages_damaged(&mut self, count: u64) {
        self.pages.damaged = self.pages.damaged.saturating_add(count);
        if count > 0 {
            self.notices.push_back(Notice::PagesDamaged(count));
        }
    }

    /// Ends everything that a user context made.
    pub fn drop_uid(&mut self, uid: u16) {
        self.objects.drop_uid(uid);
        let objects = &self.objects;
        self.tables
            .multicast
            .retain(|qpn| objects.get(KindId::Qp, qpn).is_some());
        self.work.retain(objects);
        self.eqs.retain(|_, q| q.uid != uid);
        if self.cmd_eq.is_some_and(|n| !self.eqs.contains_key(&n)) {
            self.cmd_eq = None;
        }
        self.balance_pages();
    }

    /// Refuses a new object if the driver owes too many pages.
    ///
    /// # Errors
    /// [`Syndrome::ObjectPages`].
    pub fn pages_for_objects(&self) -> Result<(), Syndrome> {
        if self.pages.owed() {
            Err(Syndrome::ObjectPages)
        } else {
            Ok(())
        }
    }

    /// Asks for pages, or gives some back, as objects have come or gone.
    pub fn balance_pages(&mut self) {
        let change = self.pages.for_objects(self.objects.bytes());
        if change != 0 && self.state == State::Up {
            self.pages.grown = self.pages.grown.saturating_add_signed(change);
            self.demand_pages(change);
        }
    }

    /// Delivers what was raised.
    pub fn deliver(&mut self, fx: &mut Effects) {
        while let Some(notice) = self.notices.pop_front() {
            fx.push(Effect::Notice {
                function: self.id,
                notice,
            });
        }
        while let Some((number, event)) = self.generated.pop_front() {
            if let Some(q) = self.eqs.get_mut(&number) {
                q.post(self.id, &event, fx);
            }
        }
        while let Some(event) = self.raised.pop_front() {
            let takes = |q: &&mut Eq| self.state == State::Up && q.takes(event.event_type);
            for q in self.eqs.values_mut().filter(takes) {
                q.post(self.id, &event, fx);
            }
            if self.events == EventPath::Channel && self.state != State::Disabled {
                let data = fx.store(&event.data);
                fx.push(Effect::Event {
                    function: self.id,
                    event_type: event.event_type,
                    sub_type: event.sub_type,
                    data,
                });
            }
        }
    }

    /// The capability page of `cap_type` in force: the driver's own or the profile's.
    #[must_use]
    pub fn cap_page<'a>(&'a self, profile: &'a Profile, cap_type: u16) -> Option<&'a [u8]> {
        match self.caps.get(&cap_type) {
            Some(page) => Some(page),
            None => self.limits(profile, cap_type).map(|(current, _)| current),
        }
    }

    /// The capability page of `cap_type` after power on, and the largest values that the driver
    /// may choose.
    #[must_use]
    pub fn limits<'a>(
        &'a self,
        profile: &'a Profile,
        cap_type: u16,
    ) -> Option<(&'a [u8], &'a [u8])> {
        if let Some(c) = self.configured.pages.get(&cap_type) {
            return Some((&c.current, &c.max));
        }
        let cap = profile.cap(cap_type)?;
        Some((&cap.current, &cap.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one command may raise is bounded, and the first are kept.
    #[test]
    fn events_that_wait_end_at_max_events_waiting() {
        let profile = Profile::builtin("minimal").expect("a built-in profile");
        let mut f = Function::new(FunctionId(0), EventPath::Channel, &profile);
        let event = |n: usize| Event {
            event_type: event::PORT_CHANGE,
            sub_type: n as u8,
            data: [0; eqe::DATA_BYTES],
        };
        for n in 0..MAX_EVENTS_WAITING + 5 {
            f.raise(event(n));
            f.generate(1, event(n));
        }
        let last = (MAX_EVENTS_WAITING - 1) as u8;
        let raised = f.raised.back().map(|e| e.sub_type);
        assert_eq!((f.raised.len(), raised), (MAX_EVENTS_WAITING, Some(last)));
        let generated = f.generated.back().map(|(_, e)| e.sub_type);
        assert_eq!(
            (f.generated.len(), generated),
            (MAX_EVENTS_WAITING, Some(last))
        );
    }

    #[test]
    fn pages_of_a_saved_event_queue_end_at_max_page_shift() {
        let profile = Profile::builtin("minimal").expect("a built-in profile");
        let restored = |page_shift| {
            let mut f = Function::new(FunctionId(0), EventPath::EventQueues, &profile);
            let eq = Eq {
                uid: 0,
                log_size: 4,
                vector: 0,
                uar_page: 0,
                mask: [0; 4],
                pages: vec![0],
                page_shift,
                offset: 0,
                context: Box::default(),
                producer: 0,
                consumer: 0,
                armed: false,
                dropped: 0,
            };
            f.eqs.insert(1, eq);
            f.restore()
        };
        // 4 KiB and as much as `log_page_size`, of five bits, can say.
        assert_eq!((restored(12), restored(12 + 31)), (Ok(()), Ok(())));
        let size = Err("an event queue of an impossible size");
        assert_eq!((restored(11), restored(12 + 32)), (size, size));
    }
}
