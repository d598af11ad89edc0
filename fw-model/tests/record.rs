// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Records: what is recorded runs again, what differs is found, and what fails gets short.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use common::{Driver, cmd};
use fw_model::{
    Bits, Caller, Card, CardOptions, FunctionId, Input, Profile, Report, ResetKind, Time, Token,
    fault::Fault,
    gateway::Place,
    record::{
        self, Broken, Frame, Happened, Happening, Head, Noted, Notes, Record, Step,
        flight::{Flight, Follower, GENERATION},
        minimize::{failure, minimize, shortened},
        replay::Difference,
    },
};
use fwctl_proto::opcode as op;

fn profile() -> Arc<Profile> {
    Profile::builtin("connectx7").unwrap()
}

/// A driver that is up, and a record of what it does from then on.
struct Recording {
    d: Driver,
    bytes: Vec<u8>,
}

impl Recording {
    fn new() -> Self {
        let mut d = Driver::of(profile());
        d.bring_up();
        let head = Head {
            program: "test".into(),
            profile: "connectx7".into(),
            overlay: None,
            card: d.card.save().unwrap(),
        };
        let bytes = record::head(&head).unwrap();
        Self { d, bytes }
    }

    fn step(&mut self, step: Step<'_>) {
        let d = &mut self.d;
        d.now = Time(d.now.0 + 1000);
        d.fx.clear();
        let mut notes = Notes::default();
        let noted = Noted::new(&d.guest, &mut notes);
        step.happen(&mut d.card, d.now, &noted, &mut d.fx);
        let frame = Frame {
            at: d.now,
            step,
            reads: notes.reads(),
            effects: Happened::since(&d.fx, 0),
            panicked: false,
        };
        self.bytes.extend(record::framed(&frame).unwrap());
        // Written without a frame in between, it is the same.
        let mut same = Vec::new();
        let happening = Happening {
            at: frame.at,
            step: &frame.step,
            reads: &notes,
            effects: &d.fx,
            from: 0,
            panicked: false,
        };
        happening.write(&mut same).unwrap();
        assert!(self.bytes.ends_with(&record::sealed(&same)));
    }

    /// A command in slot 0.
    fn command(&mut self, inbox: &[u8], out_len: usize) {
        self.d.post(0, inbox, out_len);
        let doorbell = Input::SegmentWrite {
            function: self.d.f,
            offset: 0x18,
            data: &1u32.to_be_bytes(),
        };
        self.step(Step::of(doorbell));
    }
}

fn recorded() -> Vec<u8> {
    let mut r = Recording::new();
    r.step(Step::of(Input::Fault(
        &Fault::parse("opcode=ALLOC_UAR : status=BAD_RES").unwrap(),
    )));
    for _ in 0..10 {
        r.command(&cmd(op::NOP, 0, 16), 16);
        r.command(&cmd(op::ALLOC_PD, 0, 16), 16);
        r.command(&cmd(op::ALLOC_UAR, 0, 16), 16);
        r.command(&cmd(op::QUERY_HCA_CAP, 1, 16), 4112);
    }
    r.step(Step::Poll);
    let mut free = cmd(op::DEALLOC_PD, 0, 16);
    free[11] = 5;
    r.command(&free, 16);
    r.command(&cmd(op::NOP, 0, 16), 16);
    r.bytes
}

fn frames(bytes: &[u8]) -> (Head, Vec<Frame<'_>>) {
    let mut record = Record::open(bytes).unwrap();
    let frames = record.by_ref().map(Result::unwrap).collect();
    (record.head, frames)
}

#[test]
fn a_record_runs_again() {
    let bytes = recorded();
    let (head, frames) = frames(&bytes);
    assert_eq!(frames.len(), 44);
    // Something was read and written at all.
    assert!(frames[4].reads.len() > 2 && frames[4].effects.len() > 8);
    assert_eq!(failure(&profile(), &head, &frames).unwrap(), None);
}

#[test]
fn every_difference_is_found() {
    let bytes = recorded();
    let (head, all) = frames(&bytes);
    let seen = |change: &dyn Fn(&mut Frame<'_>)| {
        let mut frames = all.clone();
        change(&mut frames[2]);
        let f = failure(&profile(), &head, &frames).unwrap().unwrap();
        assert_eq!(f.frame, 2);
        f.difference
    };
    let d = seen(&|f| match &mut f.effects[0] {
        Happened::Write { data, .. } => data[3] ^= 1,
        other => panic!("{other:?}"),
    });
    let Difference::Effect {
        number: 0,
        recorded: Some(recorded),
        now: Some(now),
    } = d
    else {
        panic!("{d:?}")
    };
    assert_ne!(recorded, now);
    let d = seen(&|f| drop(f.effects.pop()));
    assert!(
        matches!(
            d,
            Difference::Effect {
                recorded: None,
                now: Some(_),
                ..
            }
        ),
        "{d:?}"
    );
    let d = seen(&|f| f.effects.push(f.effects[0].clone()));
    assert!(
        matches!(
            d,
            Difference::Effect {
                recorded: Some(_),
                now: None,
                ..
            }
        ),
        "{d:?}"
    );
    let d = seen(&|f| f.reads.push(f.reads[0].clone()));
    assert_eq!(d, Difference::Unread(1));
    let d = seen(&|f| f.reads[0].addr += 64);
    assert!(matches!(d, Difference::Read(common::CMDQ, _)), "{d:?}");
    let d = seen(&|f| f.panicked = true);
    assert_eq!(d, Difference::Panic { recorded: true });
}

#[test]
fn a_failing_record_gets_short_and_fails_the_same_way() {
    let bytes = recorded();
    let (head, mut all) = frames(&bytes);
    // DEALLOC_PD of the fifth: it is said to have been refused.
    let failing = all.len() - 2;
    match &mut all[failing].effects[0] {
        Happened::Write { data, .. } => data[0] = 5,
        other => panic!("{other:?}"),
    }
    let full = failure(&profile(), &head, &all).unwrap().unwrap();
    assert_eq!(full.frame, failing);
    let kept = minimize(&profile(), &head, &all, &full, |_| ()).unwrap();
    // Five protection domains must be there, whichever, and nothing else.
    let opcodes: Vec<u16> = kept
        .iter()
        .map(|n| match &all[*n].step {
            Step::Input(_) => {
                let entry = all[*n].reads[0].data.as_ref().unwrap();
                u16::from_be_bytes([entry[0x10], entry[0x11]])
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(opcodes[..5], [op::ALLOC_PD; 5]);
    assert_eq!(opcodes[5..], [op::DEALLOC_PD]);
    let short = shortened(&profile(), &head, &all, &kept).unwrap();
    let again = failure(&profile(), &head, &short).unwrap().unwrap();
    assert_eq!(again.frame, 5);
    assert_eq!(again.difference, full.difference);
}

#[test]
fn a_record_that_is_cut_or_changed_anywhere_is_told_and_never_believed() {
    let mut r = Recording::new();
    r.command(&cmd(op::NOP, 0, 16), 16);
    r.command(&cmd(op::ALLOC_PD, 0, 16), 16);
    let bytes = r.bytes;
    let read = |bytes: &[u8]| -> Result<usize, Broken> {
        let mut n = 0;
        for frame in Record::open(bytes)? {
            frame?;
            n += 1;
        }
        Ok(n)
    };
    assert_eq!(read(&bytes), Ok(2));
    let mut whole = Vec::new();
    for end in 0..bytes.len() {
        match read(&bytes[..end]) {
            // Between two frames nothing is missing.
            Ok(n) => whole.push(n),
            Err(Broken::NotARecord) => assert!(end < 8),
            Err(Broken::Cut(at)) => assert!(end >= 8 && at <= end as u64),
            Err(other) => panic!("{end}: {other}"),
        }
    }
    assert_eq!(whole, [0, 1]);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(read(&changed).is_err(), "byte {at}");
    }
}

/// A driver whose card has a flight recorder.
struct Flown {
    d: Driver,
    flight: Flight,
    follower: Follower,
    // How often frames became too old.
    turns: usize,
    steps: usize,
    // The most that was kept, as far as it was looked at.
    most: usize,
}

impl Flown {
    fn new() -> Self {
        let mut d = Driver::of(profile());
        d.bring_up();
        let follower = Follower::new(&d.card, profile()).unwrap();
        Self {
            d,
            flight: Flight::default(),
            follower,
            turns: 0,
            steps: 0,
            most: 0,
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        let d = &mut self.d;
        d.now = Time(d.now.0 + 1000);
        d.fx.clear();
        let mut notes = Notes::default();
        let noted = Noted::new(&d.guest, &mut notes);
        let happen = || step.happen(&mut d.card, d.now, &noted, &mut d.fx);
        let panicked = catch_unwind(AssertUnwindSafe(happen)).is_err();
        if panicked {
            d.fx.clear();
        }
        let frame = Happening {
            at: d.now,
            step,
            reads: &notes,
            effects: &d.fx,
            from: 0,
            panicked,
        };
        if let Some(old) = self.flight.put(&frame, Vec::new) {
            self.follower.follow(&old);
            self.turns += 1;
        }
        self.steps += 1;
        if self.steps.is_multiple_of(50) {
            let kept = self.flight.kept();
            self.most = self.most.max(kept.iter().map(|f| f.len()).sum());
        }
    }

    fn command(&mut self, inbox: &[u8], out_len: usize) {
        self.d.post(0, inbox, out_len);
        let doorbell = Input::SegmentWrite {
            function: self.d.f,
            offset: 0x18,
            data: &1u32.to_be_bytes(),
        };
        self.step(&Step::of(doorbell));
    }

    fn dump(&self) -> (Vec<u8>, usize) {
        let head = Head {
            program: "test".into(),
            profile: "connectx7".into(),
            overlay: None,
            card: Vec::new(),
        };
        self.follower.record(head, &self.flight.kept()).unwrap()
    }
}

#[test]
fn the_flight_recorder_keeps_the_last_and_its_dump_is_a_record() {
    let mut r = Flown::new();
    // Nothing has happened yet: a record without frames.
    let (bytes, count) = r.dump();
    assert_eq!((frames(&bytes).1.len(), count), (0, 0));
    for _ in 0..2500 {
        r.command(&cmd(op::ALLOC_PD, 0, 16), 16);
        r.command(&cmd(op::QUERY_HCA_CAP, 1, 16), 4112);
    }
    // So much happened that what is kept begins somewhere in between.
    assert!(r.turns > 4, "{}", r.turns);
    assert!(
        (GENERATION..2 * GENERATION + (64 << 10)).contains(&r.most),
        "{}",
        r.most
    );
    let (bytes, count) = r.dump();
    let (head, all) = frames(&bytes);
    assert_eq!(all.len(), count);
    assert!((200..2500).contains(&count), "{count}");
    assert_eq!(failure(&profile(), &head, &all).unwrap(), None);
    // Its last frame is what happened last.
    assert_eq!(all.last().unwrap().at, r.d.now);
}

#[test]
fn a_panic_runs_again_from_a_dump_and_the_card_behind_it_is_followed_further() {
    let mut r = Flown::new();
    let fault = Fault::parse("opcode=ALLOC_PD nth=3 : panic").unwrap();
    r.step(&Step::of(Input::Fault(&fault)));
    for _ in 0..3 {
        r.command(&cmd(op::ALLOC_PD, 0, 16), 16);
    }
    let (bytes, count) = r.dump();
    let (head, all) = frames(&bytes);
    assert_eq!(count, 4);
    let failed = failure(&profile(), &head, &all).unwrap().unwrap();
    assert_eq!(failed.frame, 3);
    assert_eq!(failed.difference, Difference::Panic { recorded: true });
    assert!(failed.done.panicked);
    // What led to it is the fault and what it counts.
    let kept = minimize(&profile(), &head, &all, &failed, |_| {}).unwrap();
    assert_eq!(kept, [0, 1, 2, 3]);
    // After it, and after what it left of the card became the beginning, all is as it was.
    for _ in 0..2500 {
        r.command(&cmd(op::QUERY_HCA_CAP, 1, 16), 4112);
    }
    assert!(r.turns > 1);
    // What the panic left behind counts: the fault is used up, and a protection domain was made.
    r.command(&cmd(op::ALLOC_PD, 0, 16), 16);
    let (bytes, _) = r.dump();
    let (head, all) = frames(&bytes);
    assert!(all.iter().all(|f| !f.panicked));
    assert_eq!(failure(&profile(), &head, &all).unwrap(), None);
}

/// What is written is what is read, whatever happened: the number of a variant in the file is the same for
/// both.
#[test]
fn every_input_is_read_back_as_it_was_written() {
    let function = FunctionId(1);
    let bits = Bits {
        offset: 8,
        width: 4,
        value: 9,
    };
    let at = Place {
        space: 3,
        address: 0x10_0000,
    };
    let report = Report {
        syndrome: 1,
        ext_syndrome: 2,
        severity: 3,
        fatal: true,
        cold: false,
        vars: [4; 6],
    };
    #[rustfmt::skip]
    let inputs = [
        Input::SegmentWrite { function, offset: 0x18, data: &[1, 2] },
        Input::UarWrite { function, uar: 1, offset: 2, data: &[3] },
        Input::Command { function, tag: 1, caller: Caller::Driver, inbox: &[4], outbox_len: 5 },
        Input::Reset { function, kind: ResetKind::Flr },
        Input::Committed { token: Token(6), stored: true },
        Input::PageDemand { function, count: -7 },
        Input::Delay { opcode: 8, nanos: 9 },
        Input::ClearFaults(Some(10)),
        Input::Amend { stopped: 1, offset: 2, width: 3, value: 4 },
        Input::Continue(None),
        Input::Event { function, event_type: 1, sub_type: 2, data: [3; 28] },
        Input::Gateway { function, at, value: 5 },
        Input::Link { function, up: true },
        Input::Temperature { eighths: 6 },
        Input::Health(report),
        Input::Hang(true),
        Input::Start { nanos: 7 },
        Input::PowerCycle,
        Input::SetCap { function, cap_type: 8, bits },
        Input::SetRegister { function, register: 9, given: &[10], bits },
    ];
    for input in inputs {
        let mut bytes = Recording::new().bytes;
        let frame = Frame {
            at: Time(1),
            step: Step::of(input),
            reads: Vec::new(),
            effects: Vec::new(),
            panicked: false,
        };
        bytes.extend(record::framed(&frame).unwrap());
        let read = Record::open(&bytes).unwrap().next().unwrap();
        let read = read.unwrap_or_else(|e| panic!("{input:?}: {e}"));
        assert_eq!(format!("{:?}", read.step), format!("{:?}", frame.step));
    }
}

#[test]
fn a_record_with_any_bit_changed_is_refused_and_never_taken_for_a_cut_one() {
    // Small: a card without drivers, of the smallest profile.
    let minimal = Profile::builtin("minimal").unwrap();
    let card = Card::new(minimal, CardOptions::default(), &BTreeMap::new());
    let head = Head {
        program: "test".into(),
        profile: "minimal".into(),
        overlay: None,
        card: card.save().unwrap(),
    };
    let mut bytes = record::head(&head).unwrap();
    for at in 0..3 {
        let frame = Frame {
            at: Time(at),
            step: Step::Poll,
            reads: vec![],
            effects: vec![],
            panicked: false,
        };
        bytes.extend(record::framed(&frame).unwrap());
    }
    let end = |bytes: &[u8]| match Record::open(bytes) {
        Err(e) => Some(e),
        Ok(r) => r.filter_map(Result::err).next(),
    };
    assert_eq!(end(&bytes), None);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let said = end(&bytes);
        let is_named = match bit / 8 {
            0..8 => said == Some(Broken::NotARecord),
            8..12 => matches!(said, Some(Broken::Version(_))),
            _ => matches!(said, Some(Broken::Damaged(_))),
        };
        assert!(is_named, "bit {bit}: {said:?}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    // What ends too early is no damage.
    assert!(matches!(
        end(&bytes[..bytes.len() - 1]),
        Some(Broken::Cut(_))
    ));
    // The formats before had shorter heads of frames.
    bytes[8] = 2;
    assert_eq!(end(&bytes), Some(Broken::Version(2)));
}

#[test]
fn a_fault_that_cannot_be_is_refused_at_its_byte() {
    let mut r = Recording::new();
    let at = r.bytes.len();
    let mut fault = Fault::parse("opcode=NOP percent=50 : lost").unwrap();
    r.step(Step::Fault(Box::new(fault.clone())));
    assert!(Record::open(&r.bytes).unwrap().all(|f| f.is_ok()));
    r.bytes.truncate(at);
    fault.text = "opcode=NOP percent=0 : lost : times=1".into();
    r.step(Step::Fault(Box::new(fault)));
    let mut frames = Record::open(&r.bytes).unwrap();
    let Some(Err(Broken::Fault(byte, what))) = frames.next() else {
        panic!("it is taken");
    };
    let told = "fault 0 \"opcode=NOP percent=0 : lost : times=1\": percent=0: it is 1 to 100";
    assert_eq!((byte, what.as_str()), (at as u64, told));
    assert!(frames.next().is_none());
}

/// What an observer is shown of commands without an answer is in no record, nor what was read for it.
#[test]
fn an_observer_changes_no_byte_of_a_record() {
    use fw_model::Effect;
    let frame = |observed: bool| {
        let mut d = Driver::new("minimal");
        d.fx.set_observed(observed);
        d.card.set_observed(observed);
        d.submit(Input::Hang(true));
        d.post(3, &cmd(op::ENABLE_HCA, 0, 16), 16);
        d.fx.clear();
        let data = (1u32 << 3).to_be_bytes();
        let step = Step::of(Input::SegmentWrite {
            function: d.f,
            offset: 0x18,
            data: &data,
        });
        let mut notes = Notes::default();
        let noted = Noted::new(&d.guest, &mut notes);
        step.happen(&mut d.card, d.now, &noted, &mut d.fx);
        let shown = |e: &&Effect| matches!(e, Effect::Unanswered(_));
        let happening = Happening {
            at: d.now,
            step: &step,
            reads: &notes,
            effects: &d.fx,
            from: 0,
            panicked: false,
        };
        let mut bytes = Vec::new();
        happening.write(&mut bytes).unwrap();
        (d.fx.iter().filter(shown).count(), bytes)
    };
    let (with, without) = (frame(true), frame(false));
    assert_eq!((with.0, without.0), (1, 0));
    assert_eq!(with.1, without.1);
}
