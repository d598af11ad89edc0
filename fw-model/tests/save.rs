// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A saved and loaded card behaves as the one that it was, and hostile bytes load no card.

#![allow(clippy::unwrap_used)]

mod common;
mod steps;

use common::{Driver, cmd};
use fw_model::{
    Caller, Card, Input, Profile, ResetKind,
    fault::Fault,
    limits::MAX_SAVED,
    save::{LoadError, MAGIC, VERSION},
};
use fwctl_proto::opcode;
use proptest::prelude::*;
use steps::{config, run, step};

/// One who means it also mends the checksum.
fn mend(bytes: &mut [u8]) {
    let sum = crc32fast::hash(&bytes[16..]).to_le_bytes();
    bytes[12..16].copy_from_slice(&sum);
}

fn reload(d: &mut Driver) {
    let bytes = d.card.save().unwrap();
    let profile = Profile::builtin("connectx7").unwrap();
    d.card = Card::load(profile, &bytes).unwrap();
    assert_eq!(d.card.save().unwrap(), bytes, "saved again it is the same");
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn a_sequence_goes_on_behind_a_save(
        steps in prop::collection::vec(step(), 2..60),
        at in any::<prop::sample::Index>(),
    ) {
        let (mut a, mut b) = (Driver::new("connectx7"), Driver::new("connectx7"));
        for d in [&mut a, &mut b] {
            d.bring_up();
        }
        let at = at.index(steps.len());
        for (i, s) in steps.iter().enumerate() {
            if i == at {
                reload(&mut b);
            }
            prop_assert_eq!(run(&mut a, s), run(&mut b, s), "{:?}", s);
            prop_assert_eq!(a.card.report(a.f), b.card.report(b.f));
            prop_assert_eq!(a.effects(), b.effects());
        }
        prop_assert_eq!(a.card.save().unwrap(), b.card.save().unwrap());
    }

    #[test]
    fn hostile_bytes_never_load_a_card_that_fails(
        steps in prop::collection::vec(step(), 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        after in prop::collection::vec(step(), 1..20),
    ) {
        let mut d = Driver::new("connectx7");
        d.bring_up();
        for s in &steps {
            run(&mut d, s);
        }
        let mut bytes = d.card.save().unwrap();
        for (at, value) in changes {
            let at = 16 + at.index(bytes.len() - 16);
            bytes[at] = value;
        }
        mend(&mut bytes);
        if let Ok(card) = Card::load(Profile::builtin("connectx7").unwrap(), &bytes) {
            d.card = card;
            for s in &after {
                run(&mut d, s);
            }
            d.submit(Input::PowerCycle);
        }
    }
}

/// Numbers are written seven bits a byte, so that a large one can stand in any place.
#[test]
fn a_card_with_the_largest_number_in_any_place_is_refused_or_works() {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d.ok(&cmd(opcode::ALLOC_PD, 0, 16), 16);
    let saved = d.card.save().unwrap();
    let profile = Profile::builtin("connectx7").unwrap();
    let mut taken = 0;
    for at in 16..saved.len() {
        let end = saved[at..].iter().position(|b| b & 0x80 == 0);
        let Some(end) = end.map(|n| at + n + 1) else {
            continue;
        };
        for largest in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9]] {
            let mut bytes = [&saved[..at], largest].concat();
            if largest.len() > 5 {
                bytes.push(1);
            }
            bytes.extend(&saved[end..]);
            mend(&mut bytes);
            let Ok(card) = Card::load(profile.clone(), &bytes) else {
                continue;
            };
            taken += 1;
            d.card = card;
            after_a_load(&mut d);
        }
    }
    assert!(taken > 100, "{taken}");
}

fn after_a_load(d: &mut Driver) {
    let function = d.f;
    for count in [i32::MIN, i32::MAX, 1] {
        d.submit(Input::PageDemand { function, count });
    }
    let ops = [
        (opcode::ENABLE_HCA, 0),
        (opcode::QUERY_PAGES, 1),
        (opcode::QUERY_PAGES, 2),
        (opcode::QUERY_PAGES, 3),
        (opcode::INIT_HCA, 0),
        (opcode::ALLOC_PD, 0),
        (opcode::CREATE_UCTX, 0),
        (opcode::DEALLOC_PD, 0),
        (opcode::TEARDOWN_HCA, 0),
    ];
    for (op, op_mod) in ops {
        d.submit(Input::Command {
            function,
            tag: 1,
            caller: Caller::Driver,
            inbox: &cmd(op, op_mod, 64),
            outbox_len: 64,
        });
    }
    let kinds = [
        ResetKind::Flr,
        ResetKind::Bus,
        ResetKind::ClientGone,
        ResetKind::Firmware,
    ];
    for kind in kinds {
        d.submit(Input::Reset { function, kind });
    }
    d.submit(Input::FirmwareReset);
    d.submit(Input::PowerCycle);
    d.card.save().unwrap();
}

#[test]
fn what_is_not_a_whole_card_of_this_profile_is_refused_by_name() {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    let bytes = d.card.save().unwrap();
    let profile = || Profile::builtin("connectx7").unwrap();
    let refused = |bytes: &[u8]| Card::load(profile(), bytes).unwrap_err();
    assert_eq!(refused(&[]), LoadError::NotACard);
    assert_eq!(refused(&vec![0; MAX_SAVED + 1]), LoadError::TooLong);
    assert_eq!(refused(&[0; 64]), LoadError::NotACard);
    for n in 16..bytes.len() {
        assert!(
            matches!(refused(&bytes[..n]), LoadError::Damaged { .. }),
            "cut at {n}"
        );
    }
    let mut other = bytes.clone();
    other[8] = VERSION as u8 + 1;
    assert_eq!(refused(&other), LoadError::Version(VERSION + 1));
    assert_eq!((&bytes[..8], bytes[8]), (&MAGIC[..], VERSION as u8));
    let mut empty = bytes[..16].to_vec();
    mend(&mut empty);
    assert!(matches!(refused(&empty), LoadError::Unreadable(_)));
    assert_eq!(
        Card::load(Profile::builtin("minimal").unwrap(), &bytes).unwrap_err(),
        LoadError::Profile {
            saved: "connectx7".into(),
            given: "minimal".into()
        }
    );
}

#[test]
fn an_answer_that_waits_is_given_by_the_loaded_card() {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d.submit(Input::Delay {
        opcode: 0x101,
        nanos: 1000,
    });
    d.post(5, &cmd(0x101, 0, 16), 272);
    d.ring(1 << 5);
    assert_eq!(d.reply(5, 272), None);
    reload(&mut d);
    d.now = d.card.next_deadline().unwrap();
    d.poll();
    let r = d.reply(5, 272).unwrap();
    assert_eq!((r.delivery, r.status()), (0, 0));
    assert_eq!(r.out[0x1c + 2..0x1c + 4], [0; 2]);
}

#[test]
fn a_fault_that_cannot_be_is_refused_by_name() {
    const TEXT: &str = "opcode=NOP percent=50 : delay=77 : times=9";
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d.submit(Input::Fault(
        &Fault::parse("opcode=NOP nth=99 : lost").unwrap(),
    ));
    d.submit(Input::Fault(&Fault::parse(TEXT).unwrap()));
    reload(&mut d);
    let saved = d.card.save().unwrap();
    let mut found = saved.windows(TEXT.len());
    let text = found.position(|w| w == TEXT.as_bytes()).unwrap();
    let refused = |at: usize, was: &[u8], becomes: &[u8]| {
        let mut bytes = saved.clone();
        assert_eq!(&bytes[at..at + was.len()], was);
        bytes[at..at + was.len()].copy_from_slice(becomes);
        mend(&mut bytes);
        let profile = Profile::builtin("connectx7").unwrap();
        Card::load(profile, &bytes).unwrap_err().to_string()
    };
    let begins = "the saved card holds a fault that cannot be: fault 2 \"opcode=NOP percent=";
    let number = text + TEXT.find("50").unwrap();
    assert_eq!(
        refused(number, b"50", b"00"),
        format!("{begins}00 : delay=77 : times=9\": percent=00: it is 1 to 100")
    );
    // The number itself, behind the text: there is one, and it is 50.
    let behind = text + TEXT.len();
    let percent = saved[behind..].windows(2).position(|w| w == [1, 50]);
    assert_eq!(
        refused(behind + percent.unwrap(), &[1, 50], &[1, 101]),
        format!("{begins}50 : delay=77 : times=9\": it is another than its text says")
    );
}
