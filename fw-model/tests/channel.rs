// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command channel: what its door refuses, what it passes on, and events.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::cmd;
use fw_model::{
    Caller, Card, CardOptions, Delivery, Effect, Effects, EventPath, FunctionId, Input, NoMemory,
    Profile, ResetKind, Scope, Store, Time, Token, store::MemStore,
};

struct Channel {
    card: Card,
    f: FunctionId,
    fx: Effects,
    store: MemStore,
}

impl Channel {
    fn new() -> Self {
        let mut card = Card::new(
            Profile::builtin("minimal").unwrap(),
            CardOptions::default(),
            &BTreeMap::new(),
        );
        let f = card.add_function(EventPath::Channel).unwrap();
        let mut c = Self {
            card,
            f,
            fx: Effects::new(),
            store: MemStore::default(),
        };
        for (inbox, out_len) in bring_up() {
            let (delivery, out) = c.driver(&inbox, out_len);
            assert_eq!(
                (delivery, out[0]),
                (Delivery::Executed, 0),
                "{:02x?}",
                &inbox[..16]
            );
        }
        c
    }

    fn submit(&mut self, input: Input<'_>) {
        self.fx.clear();
        self.card.submit(input, Time::ZERO, &NoMemory, &mut self.fx);
    }

    fn command(
        &mut self,
        caller: Caller,
        inbox: &[u8],
        outbox_len: u32,
    ) -> Option<(Delivery, Vec<u8>)> {
        let function = self.f;
        self.submit(Input::Command {
            function,
            tag: 77,
            caller,
            inbox,
            outbox_len,
        });
        self.reply()
    }

    fn reply(&self) -> Option<(Delivery, Vec<u8>)> {
        self.fx.iter().find_map(|e| match e {
            Effect::Reply {
                tag: 77,
                delivery,
                outbox,
                ..
            } => Some((*delivery, self.fx.bytes(*outbox).to_vec())),
            _ => None,
        })
    }

    fn driver(&mut self, inbox: &[u8], outbox_len: u32) -> (Delivery, Vec<u8>) {
        self.command(Caller::Driver, inbox, outbox_len)
            .expect("answered at once")
    }

    fn uctx(&mut self) -> u16 {
        let mut c = cmd(0xa04, 0, 64);
        c[19] = 4;
        let (_, out) = self.driver(&c, 16);
        u16::from_be_bytes([out[10], out[11]])
    }
}

fn bring_up() -> Vec<(Vec<u8>, u32)> {
    let mut give = cmd(0x108, 1, 16 + 48 * 8);
    give[15] = 48;
    for i in 0..48u64 {
        let at = 16 + 8 * i as usize;
        give[at..at + 8].copy_from_slice(&((i + 1) * 4096).to_be_bytes());
    }
    vec![(cmd(0x104, 0, 16), 16), (give, 16), (cmd(0x102, 0, 16), 16)]
}

#[test]
fn the_door_checks_scope_uid_and_lengths_before_the_mailbox() {
    let mut c = Channel::new();
    let uid = c.uctx();
    assert_ne!(uid, 0);
    let user = |scope| Caller::User { scope, uid };
    let nop = cmd(0x80d, 0, 16);
    let cases = [
        // NOP is a debug-read command, QUERY_HCA_CAP a configuration one, CREATE_EQ nobody's.
        (
            user(Scope::Configuration),
            nop.clone(),
            16,
            Delivery::ScopeDenied,
        ),
        (
            user(Scope::DebugReadOnly),
            nop.clone(),
            16,
            Delivery::Executed,
        ),
        (
            user(Scope::Configuration),
            cmd(0x100, 1, 16),
            4112,
            Delivery::Executed,
        ),
        (
            user(Scope::DebugWriteFull),
            cmd(0x301, 0, 272),
            16,
            Delivery::ScopeDenied,
        ),
        (
            user(Scope::DebugWriteFull),
            cmd(0xeee, 0, 16),
            16,
            Delivery::ScopeDenied,
        ),
        // ACCESS_REG: a write is configuration, a read is debug-read.
        (
            user(Scope::Configuration),
            cmd(0x805, 1, 32),
            32,
            Delivery::ScopeDenied,
        ),
        (
            user(Scope::Configuration),
            cmd(0x805, 0, 32),
            32,
            Delivery::Executed,
        ),
        (
            Caller::User {
                scope: Scope::DebugReadOnly,
                uid: uid + 1,
            },
            nop.clone(),
            16,
            Delivery::BadUid,
        ),
        (Caller::Driver, nop[..15].to_vec(), 16, Delivery::TooShort),
        (Caller::Driver, nop.clone(), 15, Delivery::TooShort),
        (Caller::Driver, nop.clone(), 0x4000_0000, Delivery::TooLong),
    ];
    for (caller, inbox, out_len, expected) in cases {
        let (delivery, out) = c.command(caller, &inbox, out_len).unwrap();
        assert_eq!(
            delivery,
            expected,
            "{caller:?} {:02x?}",
            &inbox[..inbox.len().min(8)]
        );
        assert_eq!(
            out.len(),
            if expected == Delivery::Executed {
                out_len as usize
            } else {
                0
            }
        );
    }
}

#[test]
fn the_uid_of_the_request_is_forced_into_the_inbox() {
    let mut c = Channel::new();
    let uid = c.uctx();
    c.card.set_observed(true);
    let mut nop = cmd(0x80d, 0, 16);
    nop[2..4].copy_from_slice(&[0, 0]);
    c.command(
        Caller::User {
            scope: Scope::DebugReadOnly,
            uid,
        },
        &nop,
        16,
    )
    .unwrap();
    let seen = c.fx.iter().find_map(|e| match e {
        Effect::Observed(o) => Some(c.fx.bytes(o.inbox).to_vec()),
        _ => None,
    });
    assert_eq!(seen.unwrap()[2..4], uid.to_be_bytes());
}

#[test]
fn a_configuration_item_is_answered_only_when_it_is_stored() {
    let mut c = Channel::new();
    // MNVDA write: register 0x9024 at byte 10, item header, type 0x80, four bytes of data.
    let mut set = cmd(0x805, 0, 16 + 268);
    set[10..12].copy_from_slice(&0x9024u16.to_be_bytes());
    set[16 + 3] = 4;
    set[16 + 4..16 + 8].copy_from_slice(&0x80u32.to_be_bytes());
    set[16 + 12..16 + 16].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(c.command(Caller::Driver, &set, 284), None);
    assert_eq!(c.card.report(c.f).unwrap().pending, 1);
    let (token, batch) =
        c.fx.iter()
            .find_map(|e| match e {
                Effect::Commit { token, batch } => Some((*token, batch.clone())),
                _ => None,
            })
            .unwrap();
    c.store.commit(&batch).unwrap();
    c.submit(Input::Committed {
        token,
        stored: true,
    });
    assert_eq!(
        c.reply().map(|r| (r.0, r.1[0])),
        Some((Delivery::Executed, 0))
    );
    // A card with the same store still has it for the next boot, and not as current.
    let stored = c.store.load().unwrap();
    let mut again = Channel::new();
    again.card = Card::new(
        Profile::builtin("minimal").unwrap(),
        CardOptions::default(),
        &stored,
    );
    again.f = again.card.add_function(EventPath::Channel).unwrap();
    for (inbox, out_len) in bring_up() {
        again.driver(&inbox, out_len);
    }
    for (access_mode, expected) in [(0u8, [1, 2, 3, 4]), (1, [0; 4])] {
        let mut get = cmd(0x805, 1, 16 + 268);
        get[10..12].copy_from_slice(&0x9024u16.to_be_bytes());
        get[16 + 1] = access_mode << 6;
        get[16 + 3] = 4;
        get[16 + 4..16 + 8].copy_from_slice(&0x80u32.to_be_bytes());
        let (_, out) = again.driver(&get, 284);
        assert_eq!(out[16 + 12..16 + 16], expected, "access mode {access_mode}");
    }
}

/// MNVDA of item 0x80, four bytes: SET of `value`, or GET of the next-boot value.
fn mnvda(op_mod: u16, value: u32) -> Vec<u8> {
    let mut c = cmd(0x805, op_mod, 16 + 268);
    c[10..12].copy_from_slice(&0x9024u16.to_be_bytes());
    c[16 + 3] = 4;
    c[16 + 7] = 0x80;
    c[16 + 12..16 + 16].copy_from_slice(&value.to_be_bytes());
    c
}

impl Channel {
    /// SET of `value`, which the store is told of; its token.
    fn set(&mut self, value: u32) -> Token {
        assert_eq!(self.command(Caller::Driver, &mnvda(0, value), 284), None);
        let token = self.fx.iter().find_map(|e| match e {
            Effect::Commit { token, .. } => Some(*token),
            _ => None,
        });
        token.unwrap()
    }

    /// The next-boot value that is shown.
    fn next_boot(&mut self) -> u32 {
        let (_, out) = self.driver(&mnvda(1, 0), 284);
        u32::from_be_bytes(out[16 + 12..16 + 16].try_into().unwrap())
    }

    /// The status and syndrome that a batch's end is answered with.
    fn stored(&mut self, token: Token, stored: bool) -> (u8, u32) {
        self.submit(Input::Committed { token, stored });
        let (_, out) = self.reply().unwrap();
        (out[0], u32::from_be_bytes(out[4..8].try_into().unwrap()))
    }
}

#[test]
fn what_cannot_be_stored_fails_and_is_as_before() {
    const FAILED: (u8, u32) = (1, 0x00e0_000a);
    let mut c = Channel::new();
    let before = c.next_boot();
    let token = c.set(0x0102_0304);
    assert_eq!(c.stored(token, false), FAILED);
    assert_eq!(c.next_boot(), before);
    let token = c.set(0x0102_0304);
    assert_eq!(c.stored(token, true), (0, 0));
    assert_eq!(c.next_boot(), 0x0102_0304);
    // The first of two fails, and then the second: what was stored counts.
    let (first, second) = (c.set(1), c.set(2));
    c.submit(Input::Committed {
        token: first,
        stored: false,
    });
    assert_eq!(c.next_boot(), 2);
    c.submit(Input::Committed {
        token: second,
        stored: false,
    });
    assert_eq!(c.next_boot(), 0x0102_0304);
}

#[test]
fn a_reset_answers_what_was_held() {
    let mut c = Channel::new();
    let mut set = cmd(0x805, 0, 16 + 268);
    set[10..12].copy_from_slice(&0x9024u16.to_be_bytes());
    set[16 + 3] = 4;
    set[16 + 7] = 0x80;
    assert_eq!(c.command(Caller::Driver, &set, 284), None);
    let function = c.f;
    c.submit(Input::Reset {
        function,
        kind: ResetKind::Bus,
    });
    assert_eq!(c.reply(), Some((Delivery::Reset, vec![])));
}
