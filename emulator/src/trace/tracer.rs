// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the owner of a card tells its trace.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use fw_model::{
    Caller, Card, Delivery, Effect, Effects, FunctionId, Input, ResetKind, Scope, Time,
};

use super::{Command, Entry, Recorder, Unanswered, Via, inputs};

/// Bytes of an inbox that are kept of a command that was not executed: its header and its first words.
const HEADER: usize = 16;
/// Commands of channels that wait for an answer, at most; of older ones the scope is not known. Above what
/// all functions may have in flight.
const MAX_WAITING: usize = 1 << 14;

/// A command of a channel that has no answer yet.
struct Waiting {
    function: FunctionId,
    tag: u64,
    scope: Option<Scope>,
    header: [u8; HEADER],
    len: usize,
}

/// A trace that is being written.
pub struct Tracer {
    recorder: Recorder,
    /// As many as functions have in flight: each ends with an [`Effect::Reply`].
    waiting: Vec<Waiting>,
    /// Of the last such command that was executed; its [`Effect::Observed`] comes next.
    answered: Option<Option<Scope>>,
    /// How often each function has begun anew.
    generations: Vec<u64>,
    /// How often each fault has struck.
    struck: BTreeMap<u32, u64>,
}

impl Tracer {
    /// A trace of a card, from now on.
    #[must_use]
    pub fn new(recorder: Recorder, card: &Card) -> Self {
        Self {
            recorder,
            waiting: Vec::new(),
            answered: None,
            generations: generations(card).collect(),
            struck: card.faults().iter().map(|f| (f.id, f.struck)).collect(),
        }
    }

    /// Something is about to happen.
    pub fn comes(&mut self, input: &Input<'_>, now: Time) {
        match input {
            Input::Command {
                function,
                tag,
                caller,
                inbox,
                ..
            } => {
                let (header, len) = match inbox.first_chunk() {
                    Some(whole) => (*whole, HEADER),
                    None => {
                        let mut header = [0; HEADER];
                        for (to, from) in header.iter_mut().zip(*inbox) {
                            *to = *from;
                        }
                        (header, inbox.len())
                    }
                };
                let scope = match caller {
                    Caller::Driver => None,
                    Caller::User { scope, .. } => Some(*scope),
                };
                if self.waiting.len() >= MAX_WAITING {
                    self.waiting.clear();
                }
                self.waiting.push(Waiting {
                    function: *function,
                    tag: *tag,
                    scope,
                    header,
                    len,
                });
            }
            other => {
                if let Some(entry) = inputs::entry(other, now) {
                    self.recorder.put(&entry);
                }
            }
        }
    }

    /// It has happened: what no effect tells of it.
    pub fn happened(&mut self, input: Option<&Input<'_>>, card: &Card, now: Time) {
        self.faults(card, now);
        match input {
            Some(Input::Reset { kind, function }) => {
                self.begun_anew(Some((*function, *kind)), card, now);
            }
            Some(Input::Gateway {
                function,
                at,
                value,
            }) => {
                let then = card.read_space(*function, *at, now);
                self.recorder.put(&Entry::Gateway {
                    at: now.0,
                    function: function.0,
                    space: at.space,
                    address: at.address,
                    value: *value,
                    then: then.map(|w| w.value),
                });
                self.begun_anew(None, card, now);
            }
            _ => self.begun_anew(None, card, now),
        }
    }

    /// Tells which faults have struck since the last time: what follows is their doing.
    fn faults(&mut self, card: &Card, now: Time) {
        let list = card.faults();
        if list.is_empty() && self.struck.is_empty() {
            return;
        }
        for f in list {
            let known = self.struck.get(&f.id).copied().unwrap_or(0);
            if f.struck > known {
                let text = format!("fault {} strikes: {}", f.id, f.text);
                let function = f.function().map(FunctionId);
                self.note(function, text, now);
            }
        }
        self.struck = list.iter().map(|f| (f.id, f.struck)).collect();
    }

    /// Tells which functions have begun anew since the last time; one was told to.
    fn begun_anew(&mut self, told: Option<(FunctionId, ResetKind)>, card: &Card, now: Time) {
        for (n, generation) in generations(card).enumerate() {
            let Some(known) = self.generations.get_mut(n) else {
                self.generations.push(generation);
                continue;
            };
            let kind = told.filter(|t| usize::from(t.0.0) == n).map(|t| t.1);
            if *known != generation || kind.is_some() {
                *known = generation;
                self.recorder.put(&Entry::Reset {
                    at: now.0,
                    function: n as u8,
                    kind,
                    generation,
                });
            }
        }
    }

    /// Something that only this program can tell has happened.
    pub fn note(&mut self, function: Option<FunctionId>, text: String, now: Time) {
        self.recorder.put(&Entry::Note {
            at: now.0,
            function: function.map(|f| f.0),
            text,
        });
    }

    /// How a command came that has no answer.
    fn via(&mut self, u: &fw_model::Unanswered) -> Via {
        let same = |w: &&Waiting| w.function == u.function && Some(w.tag) == u.tag;
        match (u.slot, u.tag, self.answered.take()) {
            (Some(slot), ..) => Via::Slot(slot),
            (None, Some(_), _) => {
                Via::Channel(self.waiting.iter().find(same).and_then(|w| w.scope))
            }
            // An answer that nobody sees any more.
            (None, None, Some(scope)) => Via::Channel(scope),
            (None, None, None) => Via::Gateway,
        }
    }

    /// Effects were carried out, which took this process so long; of several commands each has its share.
    pub fn effects<'e>(
        &mut self,
        effects: impl IntoIterator<Item = &'e Effect> + Clone,
        fx: &Effects,
        now: Time,
        took: Duration,
    ) {
        let is_command = |e: &&Effect| matches!(e, Effect::Observed(_));
        let commands = effects.clone().into_iter().filter(is_command).count();
        let took = took.as_nanos() as u64;
        // Nearly always it is one, and dividing takes its time.
        let own = match commands {
            0 | 1 => took,
            n => took / n as u64,
        };
        for e in effects {
            self.effect(e, fx, now, own);
        }
    }

    fn effect(&mut self, effect: &Effect, fx: &Effects, now: Time, own: u64) {
        let at = now.0;
        let entry = match effect {
            Effect::Write { .. } | Effect::Commit { .. } => return,
            Effect::Interrupt { function, vector } => Entry::Interrupt {
                at,
                function: function.0,
                vector: *vector,
            },
            Effect::Reply {
                function,
                tag,
                delivery,
                ..
            } => {
                let same = |w: &Waiting| (w.function, w.tag) == (*function, *tag);
                let found = self.waiting.iter().position(same);
                let waited = found.map(|i| self.waiting.swap_remove(i));
                let scope = waited.as_ref().and_then(|w| w.scope);
                if *delivery == Delivery::Executed {
                    self.answered = Some(scope);
                    return;
                }
                let header = waited.iter().flat_map(|w| w.header.iter().take(w.len));
                Entry::Refused {
                    at,
                    function: function.0,
                    scope,
                    delivery: *delivery,
                    header: header.copied().collect(),
                }
            }
            Effect::Event {
                function,
                event_type,
                sub_type,
                data,
            } => Entry::Event {
                at,
                function: function.0,
                event_type: *event_type,
                sub_type: *sub_type,
                data: fx.bytes(*data).into(),
                lost: false,
            },
            Effect::Posted(p) => Entry::Event {
                at,
                function: p.function.0,
                event_type: p.event.event_type,
                sub_type: p.event.sub_type,
                data: Cow::Borrowed(&p.event.data),
                lost: p.lost,
            },
            Effect::Notice { function, notice } => Entry::Note {
                at,
                function: Some(function.0),
                text: notice.to_string(),
            },
            Effect::Unanswered(u) => Entry::Unanswered(Unanswered {
                function: u.function.0,
                via: self.via(u),
                submitted: u.submitted.0,
                at,
                why: u.why,
                inbox: fx.bytes(u.inbox).into(),
            }),
            Effect::Observed(o) => {
                let via = match (o.slot, self.answered.take()) {
                    (Some(slot), _) => Via::Slot(slot),
                    (None, Some(scope)) => Via::Channel(scope),
                    (None, None) => Via::Gateway,
                };
                Entry::Command(Command {
                    function: o.function.0,
                    via,
                    submitted: o.submitted.0,
                    completed: o.completed.0,
                    own,
                    delivery: o.delivery,
                    inbox: fx.bytes(o.inbox).into(),
                    outbox: fx.bytes(o.outbox).into(),
                })
            }
        };
        self.recorder.put(&entry);
    }
}

fn generations(card: &Card) -> impl Iterator<Item = u64> + '_ {
    (0..=u8::MAX).map_while(|n| card.generation(FunctionId(n)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{owner::Owner, trace::Reader};
    use fw_model::{
        Batch, CardOptions, EventPath, MemStore, NoMemory, Profile, Store, StoreError,
        fault::Fault, gateway::Place,
    };
    use fwctl_proto::opcode;
    use std::{fs, thread, time::Instant};
    use vmm_sys_util::tempdir::TempDir;

    fn command(op: u16, uid: u16) -> [u8; 16] {
        let mut inbox = [0; 16];
        inbox[..2].copy_from_slice(&op.to_be_bytes());
        inbox[2..4].copy_from_slice(&uid.to_be_bytes());
        inbox
    }

    /// An owner that is traced; what was done with it, as the trace has it.
    fn traced(events: EventPath, act: impl FnOnce(&Owner, FunctionId)) -> Vec<Entry<'static>> {
        traced_with(Box::new(MemStore::default()), events, act)
    }

    fn traced_with(
        store: Box<dyn Store + Send>,
        events: EventPath,
        act: impl FnOnce(&Owner, FunctionId),
    ) -> Vec<Entry<'static>> {
        let dir = TempDir::new().unwrap();
        let file = dir.as_path().join("t");
        let profile = Profile::builtin("connectx7").unwrap();
        let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let owner = Owner::new(card, store);
        let f = owner.add_function(events).unwrap();
        let head = Entry::Lost { count: 0 };
        owner.trace(
            Recorder::start(fs::File::create(&file).unwrap(), String::new(), &head).unwrap(),
        );
        act(&owner, f);
        owner.end_trace();
        let all: Result<Vec<_>, _> = Reader::open(&file).unwrap().skip(1).collect();
        all.unwrap()
    }

    #[test]
    fn a_channel_s_commands_have_their_scope_whether_executed_or_not() {
        let send = |owner: &Owner, function, tag, caller, inbox: &[u8]| {
            let input = Input::Command {
                function,
                tag,
                caller,
                inbox,
                outbox_len: 16,
            };
            owner.submit(input, &NoMemory);
        };
        let all = traced(EventPath::Channel, |o, f| {
            let user = |scope| Caller::User { scope, uid: 7 };
            send(o, f, 1, Caller::Driver, &command(opcode::ENABLE_HCA, 0));
            // There is no such user context, and no scope at which a user may end the function.
            let read = user(Scope::DebugReadOnly);
            send(o, f, 2, read, &command(opcode::NOP, 7));
            let write = user(Scope::DebugWriteFull);
            send(o, f, 3, write, &command(opcode::TEARDOWN_HCA, 7));
            send(o, f, 4, Caller::Driver, &[8, 13, 0]);
        });
        let said: Vec<_> = all
            .iter()
            .map(|e| match e {
                Entry::Command(c) => (c.opcode(), c.via.scope(), None),
                Entry::Refused {
                    header,
                    scope,
                    delivery,
                    ..
                } => (Command::word(header, 0), *scope, Some(*delivery)),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            said,
            [
                (opcode::ENABLE_HCA, None, None),
                (
                    opcode::NOP,
                    Some(Scope::DebugReadOnly),
                    Some(Delivery::BadUid)
                ),
                (
                    opcode::TEARDOWN_HCA,
                    Some(Scope::DebugWriteFull),
                    Some(Delivery::ScopeDenied)
                ),
                (opcode::NOP, None, Some(Delivery::TooShort)),
            ]
        );
        assert!(matches!(&all[0], Entry::Command(c) if c.via == Via::Channel(None)));
        assert!(matches!(&all[3], Entry::Refused { header, .. } if header[..] == [8, 13, 0]));
    }

    #[test]
    fn a_word_behind_the_gateway_is_there_with_what_came_of_it() {
        let all = traced(EventPath::EventQueues, |o, function| {
            for (space, address, value) in [
                // The semaphore is taken by 7, and is not there for 9.
                (0xa, 0x20, 7),
                (0xa, 0x20, 9),
                // GET_FW_INFO, and a command that there is not.
                (3, 0, 0x8007_0001),
                (3, 0, 0x1234_0001),
            ] {
                let input = Input::Gateway {
                    function,
                    at: Place { space, address },
                    value,
                };
                o.submit(input, &NoMemory);
            }
        });
        let said: Vec<_> = all
            .iter()
            .map(|e| match e {
                Entry::Gateway {
                    space, value, then, ..
                } => (*space, *value, *then),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            said,
            [
                (0xa, 7, Some(7)),
                (0xa, 9, Some(7)),
                (3, 0x8007_0001, Some(0x8007_0000)),
                (3, 0x1234_0001, Some(0x1234_0100)),
            ]
        );
        let text = crate::trace::show::body(&all[3], None, 9);
        assert_eq!(
            text,
            "f0 gateway ICMD 0x0 <- 0x12340001: opcode=0x1234 busy=0x1 and then 0x12340100: \
             opcode=0x1234 status=BAD_OPCODE"
        );
    }

    /// The text of each note, and `-` for each other entry.
    fn notes<'e>(all: &'e [Entry<'_>]) -> Vec<&'e str> {
        let text = |e: &'e Entry<'_>| match e {
            Entry::Note { text, .. } => text.as_str(),
            _ => "-",
        };
        all.iter().map(text).collect()
    }

    #[test]
    fn what_a_fault_has_done_is_told_before_it() {
        let all = traced(EventPath::EventQueues, |o, function| {
            let by_opcode = Fault::parse("opcode=NOP : status=BAD_RES").unwrap();
            let by_itself = Fault::parse("at=0 : cable=0").unwrap();
            for fault in [&by_opcode, &by_itself] {
                o.submit(Input::Fault(fault), &NoMemory);
            }
            thread::scope(|s| {
                s.spawn(|| o.run_timer());
                let end = Instant::now() + Duration::from_secs(10);
                while o.with_card(|c, _| c.faults()[1].struck) == 0 && Instant::now() < end {
                    thread::sleep(Duration::from_millis(1));
                }
                o.stop();
            });
            o.submit(Input::Link { function, up: true }, &NoMemory);
        });
        assert_eq!(
            notes(&all),
            [
                "fault: opcode=NOP : status=BAD_RES : times=1",
                "fault: at=0 : cable=0 : times=1",
                "fault 2 strikes: at=0 : cable=0 : times=1",
                "the cable is plugged",
            ]
        );
        let all = traced(EventPath::Channel, |o, function| {
            let fault = Fault::parse("opcode=NOP nth=2 : status=BAD_RES").unwrap();
            o.submit(Input::Fault(&fault), &NoMemory);
            for tag in 1..=3 {
                let inbox = command(opcode::NOP, 0);
                let input = Input::Command {
                    function,
                    tag,
                    caller: Caller::Driver,
                    inbox: &inbox,
                    outbox_len: 16,
                };
                o.submit(input, &NoMemory);
            }
        });
        let strikes = "fault 1 strikes: opcode=NOP nth=2 : status=BAD_RES : times=1";
        assert_eq!(notes(&all)[1..], ["-", strikes, "-", "-"]);
    }

    /// What is stored on the way takes its time, which is counted once.
    #[test]
    fn commands_have_no_more_time_of_their_own_than_there_was() {
        // MNVDA, written: nv_global_pci_conf is 0x80 of class 0, 12 bytes.
        let mut set = vec![0; 16 + 16 + 12];
        set[..2].copy_from_slice(&opcode::ACCESS_REG.to_be_bytes());
        set[10..12].copy_from_slice(&fwctl_proto::register::MNVDA.to_be_bytes());
        set[19] = 12;
        set[23] = 0x80;
        let enable = command(opcode::ENABLE_HCA, 0);
        let (mut took, mut sum) = (Duration::ZERO, Duration::ZERO);
        let all = traced_with(Box::new(Slow), EventPath::Channel, |o, function| {
            for (tag, inbox) in [(1, &enable[..]), (2, &set)] {
                let input = Input::Command {
                    function,
                    tag,
                    caller: Caller::Driver,
                    inbox,
                    outbox_len: inbox.len() as u32,
                };
                let began = Instant::now();
                o.submit(input, &NoMemory);
                took = began.elapsed();
            }
            sum = o.latencies(|l| l.of(Some(opcode::ACCESS_REG)).sum);
        });
        let [_, Entry::Command(c)] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(c.status(), Some(0));
        // The store's time is that of the round before.
        assert!(Duration::from_nanos(c.own) < Slow::TAKES, "{} ns", c.own);
        assert!((Slow::TAKES..took).contains(&sum), "{sum:?} of {took:?}");
    }

    /// A store that takes its time: far more than all else, on a busy machine too.
    struct Slow;

    impl Slow {
        const TAKES: Duration = Duration::from_millis(500);
    }

    impl Store for Slow {
        fn load(&mut self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
            Ok(BTreeMap::new())
        }

        fn commit(&mut self, _: &Batch) -> Result<(), StoreError> {
            thread::sleep(Self::TAKES);
            Ok(())
        }
    }

    #[test]
    fn a_reset_is_there_whoever_asked_for_it() {
        let all = traced(EventPath::EventQueues, |o, function| {
            let kind = ResetKind::Flr;
            o.submit(Input::Reset { function, kind }, &NoMemory);
            o.submit(Input::PowerCycle, &NoMemory);
        });
        let kinds: Vec<_> = all
            .iter()
            .filter_map(|e| match e {
                Entry::Reset { kind, .. } => Some(*kind),
                _ => None,
            })
            .collect();
        assert_eq!(kinds, [Some(ResetKind::Flr), None]);
    }

    /// A trace goes on behind the largest command that there is.
    #[test]
    fn the_largest_command_is_read_back_whole() {
        const LONG: usize = fw_model::limits::MAX_MESSAGE;
        let all = traced(EventPath::Channel, |o, function| {
            for (tag, len) in [(1, LONG), (2, 16)] {
                let mut inbox = vec![0x5a; len];
                inbox[..16].copy_from_slice(&command(opcode::NOP, 0));
                let input = Input::Command {
                    function,
                    tag,
                    caller: Caller::Driver,
                    inbox: &inbox,
                    outbox_len: len as u32,
                };
                o.submit(input, &NoMemory);
            }
        });
        let lens = |e: &Entry<'_>| match e {
            Entry::Command(c) => (c.inbox.len(), c.outbox.len()),
            other => panic!("{other:?}"),
        };
        let found: Vec<_> = all.iter().map(lens).collect();
        assert_eq!(found, [(LONG, LONG), (16, 16)]);
    }

    /// Commands that are never answered are forgotten at some time, and the trace goes on.
    #[test]
    fn commands_without_an_answer_end_at_max_waiting() {
        let dir = TempDir::new().unwrap();
        let file = fs::File::create(dir.as_path().join("t")).unwrap();
        let profile = Profile::builtin("minimal").unwrap();
        let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let head = Entry::Lost { count: 0 };
        let recorder = Recorder::start(file, String::new(), &head).unwrap();
        let mut tracer = Tracer::new(recorder, &card);
        let inbox = command(opcode::NOP, 0);
        let mut comes = |tag| {
            let input = Input::Command {
                function: FunctionId(0),
                tag,
                caller: Caller::Driver,
                inbox: &inbox,
                outbox_len: 16,
            };
            tracer.comes(&input, Time::ZERO);
            tracer.waiting.len()
        };
        let most = (0..MAX_WAITING as u64).map(&mut comes).max();
        assert_eq!(most, Some(MAX_WAITING));
        assert_eq!(comes(MAX_WAITING as u64), 1);
    }
}
