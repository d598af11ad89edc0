// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What tracing everything costs: a command given to the owner of a card in this process, and a round
//! trip over a socket, with and without a trace in turns.

use std::{collections::BTreeMap, fs::File, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use fw_model::{
    Caller, Card, CardOptions, Delivery, EventPath, FunctionId, Input, MemStore, NoMemory, Order,
    profile::Profile,
};
use fwctl_emu::{
    owner::{Owner, Sink},
    trace::{Entry, Reader, Recorder},
};
use fwctl_proto::opcode;

use crate::{
    commands::{MEASURED, inbox},
    report::Line,
    stats::Samples,
};

/// Commands of one sample.
const BATCH: u32 = 100;
/// Samples until the other one has its turn.
const TURN: usize = 5;

/// A door that throws everything away.
struct Nobody;

impl Sink for Nobody {
    fn write(&self, _: u64, _: &[u8], _: Order) {}
    fn interrupt(&self, _: u16) {}
    fn reply(&self, _: u64, _: Delivery, outbox: &[u8]) {
        std::hint::black_box(outbox);
    }
    fn event(&self, _: u8, _: u8, _: &[u8]) {}
}

/// The owner of a card whose one function is enabled; with a trace if there is a file for it.
fn owner(profile: &Arc<Profile>, trace: Option<&Path>) -> anyhow::Result<(Arc<Owner>, FunctionId)> {
    let card = Card::new(profile.clone(), CardOptions::default(), &BTreeMap::new());
    let owner = Owner::new(card, Box::new(MemStore::default()));
    let f = owner
        .add_function(EventPath::Channel)
        .context("a card without room")?;
    owner.attach(f, Arc::new(Nobody));
    if let Some(file) = trace {
        let head = Entry::Head {
            profile: profile.name.clone(),
            program: String::new(),
        };
        let name = || file.display().to_string();
        let made = File::create(file).and_then(|f| Recorder::start(f, name(), &head));
        owner.trace(made.with_context(name)?);
    }
    call(&owner, f, &inbox(opcode::ENABLE_HCA, 0), 16);
    Ok((owner, f))
}

fn call(owner: &Owner, function: FunctionId, inbox: &[u8], outbox_len: u32) {
    let input = Input::Command {
        function,
        tag: 0,
        caller: Caller::Driver,
        inbox,
        outbox_len,
    };
    owner.submit(input, &NoMemory);
}

/// Each measured command without and with a trace: two lines, and nanoseconds between them.
///
/// # Errors
/// The trace cannot be written.
pub fn in_process(
    profile: &Arc<Profile>,
    folder: &Path,
    samples: usize,
) -> anyhow::Result<Vec<(Line, Line, f64)>> {
    let file = folder.join("bench.trace");
    let mut all = Vec::new();
    for c in &MEASURED {
        let (off, on) = (owner(profile, None)?, owner(profile, Some(&file))?);
        let bytes = inbox(c.opcode, c.op_mod);
        let (mut without, mut with) = (Samples::new(samples), Samples::new(samples));
        for n in 0..samples / TURN {
            // Who comes first changes, as the second finds warmer caches.
            let mut turns = [(&off, &mut without), (&on, &mut with)];
            if n % 2 == 1 {
                turns.reverse();
            }
            for ((owner, f), into) in turns {
                for _ in 0..TURN {
                    let from = Instant::now();
                    for _ in 0..BATCH {
                        call(owner, *f, &bytes, c.outbox_len);
                    }
                    let mean = from.elapsed() / BATCH;
                    into.add(mean);
                    into.turn(mean);
                }
            }
        }
        on.0.end_trace();
        let mut lost = 0;
        for entry in Reader::open(&file)? {
            if let Entry::Lost { count } = entry? {
                lost += count;
            }
        }
        if lost > 0 {
            // A command whose entry is dropped is a little cheaper.
            eprintln!(
                "bench: {}: {lost} entries of the trace were dropped",
                c.name
            );
        }
        let (without, with) = (without.finish(false), with.finish(false));
        let over = with.per_request_ns - without.per_request_ns;
        let line = |what: &str, stats| Line::plain(&format!("{what}, {}", c.name), None, stats);
        all.push((
            line("owner", without),
            line("owner with a trace", with),
            over,
        ));
    }
    Ok(all)
}
