// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What must hold for a card at any time, for sequences and for drivers of others.

use core::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use foldhash::quality::FixedState;
use fw_model::{Card, FunctionId, Profile};

/// Looks at all that a function shows of itself: another number is another state.
#[must_use]
pub fn looked_at(card: &Card, f: FunctionId) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    card.fingerprint(f, &mut hasher);
    hasher.finish()
}

/// A card is saved, loaded, and is then the same.
///
/// # Panics
/// If it is not.
pub fn saves_and_loads(card: &Card, profile: &Arc<Profile>) {
    let saved = card.save().expect("a card is saved");
    let loaded = match Card::load(profile.clone(), &saved) {
        Ok(loaded) => loaded,
        Err(e) => panic!("a card that was saved is not loaded: {e}"),
    };
    assert!(
        loaded.save().expect("saved again") == saved,
        "a loaded card is another one"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    use crate::{Device, command, targets};
    use fw_model::{EventPath, Input, ResetKind};
    use fwctl_proto::{layout::set_bits, opcode, register};

    const F: FunctionId = FunctionId(0);

    #[test]
    fn whatever_a_function_shows_is_seen_to_change_and_nothing_else() {
        let mut d = Device::of(targets::profile(), &[EventPath::EventQueues]);
        let mut item = command(opcode::ACCESS_REG, 0, 16 + 16 + 12);
        set_bits(&mut item, 80, 16, u64::from(register::MNVDA));
        set_bits(&mut item, 16 * 8, 32, 12);
        set_bits(&mut item, 16 * 8 + 32, 32, 0x80);
        type Step<'a> = (&'a str, bool, &'a dyn Fn(&mut Device));
        let sent = |d: &mut Device, c: &[u8], ok: bool| {
            assert_eq!(d.command(F, c, 64), ok, "{c:x?}: {:x?}", d.reply());
        };
        let byte = |d: &Device, at: usize| d.reply().map_or(0, |r| r.outbox[at]);
        let queue = Cell::new((0, 0));
        // For page requests, with two entries.
        let create_eq = |d: &mut Device| {
            sent(d, &command(opcode::ALLOC_UAR, 0, 16), true);
            let uar = u32::from(byte(d, 11));
            let mut c = command(opcode::CREATE_EQ, 0, 272 + 8);
            set_bits(&mut c, 0x80 + 0x63, 5, 1);
            set_bits(&mut c, 0x80 + 0x68, 24, u64::from(uar));
            set_bits(&mut c, 0x2c0, 64, 1 << 0xb);
            set_bits(&mut c, 272 * 8, 64, 9 << 12);
            sent(d, &c, true);
            queue.set((uar, byte(d, 11)));
        };
        let steps: [Step<'_>; 11] = [
            ("nothing", false, &|_| {}),
            ("enabled, with pages", true, &|d| d.bring_up(F)),
            ("a question", false, &|d| {
                sent(d, &command(opcode::QUERY_ADAPTER, 0, 16), true);
            }),
            ("a refused command", false, &|d| {
                sent(d, &command(opcode::DESTROY_MKEY, 0, 16), false);
            }),
            ("an object", true, &|d| {
                sent(d, &command(opcode::ALLOC_PD, 0, 16), true);
            }),
            ("a user context", true, &|d| {
                sent(d, &command(opcode::CREATE_UCTX, 0, 64), true);
            }),
            ("a page", true, &|d| assert!(d.give_pages(F, 9000, 1))),
            ("an event queue", true, &create_eq),
            ("an event queue that is armed", true, &|d| {
                d.submit(Input::UarWrite {
                    function: F,
                    uar: queue.get().0,
                    offset: 0x40,
                    data: &[queue.get().1, 0, 0, 0],
                });
            }),
            ("an item", true, &|d| sent(d, &item, true)),
            ("a reset", true, &|d| {
                d.submit(Input::Reset {
                    function: F,
                    kind: ResetKind::Flr,
                });
            }),
        ];
        for (what, changes, step) in steps {
            let before = looked_at(&d.card, F);
            step(&mut d);
            assert_eq!(looked_at(&d.card, F) != before, changes, "{what}");
        }
    }
}
