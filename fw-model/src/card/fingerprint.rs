// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whether anything has changed, for whoever asks often: without memory, and without a name.

use core::hash::{Hash, Hasher};

use super::Card;
use crate::{FunctionId, function::Function, object::Objects};

impl Card {
    /// Hashes what a function holds and what the card has stored: all that its reports ([`Card::report`],
    /// [`Card::objects`], [`Card::uctx`], [`Card::eqs`], [`Card::pages`], [`Card::items`]) tell. Two cards with the
    /// same hash tell the same.
    pub fn fingerprint(&self, id: FunctionId, to: &mut impl Hasher) {
        if let Some(f) = self.functions.get(usize::from(id.0)) {
            function(f, to);
        }
        self.shared.nv.fingerprint(to);
    }
}

fn function(f: &Function, to: &mut impl Hasher) {
    (f.state as u8, f.generation, f.issi, f.pending.len()).hash(to);
    let p = &f.pages;
    (p.held(), p.boot, p.init, p.target(), p.grown, p.damaged).hash(to);
    for uid in f.uctx.uids() {
        (uid, f.uctx.cap(uid)).hash(to);
    }
    f.cmd_eq.hash(to);
    for (eqn, q) in &f.eqs {
        (eqn, q.uid, q.log_size, q.vector, q.mask).hash(to);
        (q.producer, q.consumer, q.armed, q.dropped).hash(to);
    }
    objects(&f.objects, to);
}

fn objects(all: &Objects, to: &mut impl Hasher) {
    for (kind, n, o) in all.each() {
        (kind, n, o.uid, o.span, o.users, o.kept.len()).hash(to);
    }
    for (key, flow) in all.flows() {
        (key, flow.uid, flow.kept.len()).hash(to);
    }
}
