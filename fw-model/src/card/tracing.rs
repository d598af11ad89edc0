// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the firmware tracer says, and how it reaches its owner's memory (docs/tracer.md).

use fwctl_proto::{layout::get_bits, opcode, register};

use super::{Card, FunctionId};
use crate::{
    effect::{Effects, Order},
    function::{State, eq::Event},
    health::Report,
    iseg,
    object::mkey::Region,
    time::Time,
    tracer::{
        FIRST_EVENT,
        strings::{Line, STRINGS, class, level},
        subtype,
    },
};

/// Bit offset of the register's id in ACCESS_REG.
const REGISTER_ID: u32 = 0x50;

/// The parameters of [`Line::Health`].
pub(super) fn health_words(r: Report) -> [u32; 3] {
    [
        u32::from(r.syndrome),
        u32::from(r.ext_syndrome),
        u32::from(r.severity),
    ]
}

impl Card {
    /// Says `line` about a function, if anybody listens.
    pub(super) fn trace(
        &mut self,
        about: FunctionId,
        line: Line,
        params: &[u32],
        fx: &mut Effects,
    ) {
        let t = &self.shared.tracer;
        if t.listens() && t.filter.wants(line.kind()) && self.shared.health.runs(self.shared.time) {
            self.say(about, STRINGS.line(line), params, fx);
        }
    }

    /// Says that a command has its answer. The tracer's own registers are left out: a driver that
    /// arms the tracer would be told of it, and arm it again.
    pub(super) fn trace_command(
        &mut self,
        about: FunctionId,
        inbox: &[u8],
        outbox: &[u8],
        fx: &mut Effects,
    ) {
        let failed = get_bits(outbox, 0, 8) != 0;
        let level = if failed { level::WARNING } else { level::INFO };
        let t = &self.shared.tracer;
        if !t.listens() || !t.filter.wants((class::CMD_DRIVER, level)) {
            return;
        }
        let code = get_bits(inbox, 0, 16) as u16;
        let own = register::MTRC_CAP..=register::MTRC_CTRL;
        if code == opcode::ACCESS_REG && own.contains(&(get_bits(inbox, REGISTER_ID, 16) as u16)) {
            return;
        }
        let tail = [
            get_bits(inbox, 48, 16) as u32,
            get_bits(inbox, 16, 16) as u32,
            get_bits(outbox, 0, 8) as u32,
            get_bits(outbox, 32, 32) as u32,
        ];
        if let Some(string) = STRINGS.command(code) {
            self.say(about, string, &tail, fx);
        } else {
            let [op_mod, uid, status, syndrome] = tail;
            let all = [u32::from(code), op_mod, uid, status, syndrome];
            self.say(about, STRINGS.line(Line::UnknownCommand), &all, fx);
        }
    }

    /// Says how the firmware and its functions are, and writes that out at once.
    pub(super) fn core_dump(&mut self, fx: &mut Effects) {
        self.shared.tracer.dump = false;
        let [syndrome, ext, _] = health_words(self.shared.health.report);
        let count = self.functions.len() as u32;
        self.trace(FunctionId(0), Line::DumpHealth, &[syndrome, ext, count], fx);
        for n in 0..self.functions.len() {
            let f = &self.functions[n];
            let objects: usize = f.objects.counts().values().sum();
            let words = [
                u32::from(f.id.0),
                f.state as u32,
                u32::from(f.issi),
                f.pages.held(),
                f.uctx.len() as u32,
                f.eqs.len() as u32,
                objects as u32,
            ];
            self.trace(FunctionId(n as u8), Line::DumpFunction, &words, fx);
        }
        self.flush_trace(fx);
    }

    /// Gives the tracer back if its owner is gone, and writes out what has waited long enough.
    pub(super) fn settle_tracer(&mut self, now: Time, fx: &mut Effects) {
        // Drivers that leave for a reset, or whose firmware does not run, are left alone.
        if !self.is_calm() {
            return;
        }
        let tracer = &mut self.shared.tracer;
        if let Some(owner) = tracer.owner {
            let there = self.functions.get(usize::from(owner.function.0));
            let same = |f: &&crate::function::Function| {
                f.generation == owner.generation && f.state == State::Up
            };
            if there.filter(same).is_none() {
                tracer.release();
            }
        }
        if let Some(gone) = tracer.released.take() {
            for f in self.functions.iter_mut().filter(|f| f.id != gone) {
                f.raise(Event::tracer(subtype::OWNERSHIP_CHANGE));
                f.deliver(fx);
            }
        }
        if self.trace_deadline().is_some_and(|t| t <= now) {
            self.flush_trace(fx);
        }
    }

    fn is_calm(&self) -> bool {
        self.shared.health.runs(self.shared.time) && !self.shared.reset.busy()
    }

    /// When lines must go out.
    pub(super) fn trace_deadline(&self) -> Option<Time> {
        self.shared.tracer.deadline().filter(|_| self.is_calm())
    }

    fn say(&mut self, about: FunctionId, string: u32, params: &[u32], fx: &mut Effects) {
        if self.shared.tracer.is_full(params.len()) {
            self.flush_trace(fx);
        }
        let now = self.shared.time;
        let ticks = iseg::ticks(&self.profile, now);
        let event = FIRST_EVENT + about.0;
        self.shared.tracer.line(event, string, params, ticks, now);
    }

    /// Writes the block as it is to the owner's memory.
    fn flush_trace(&mut self, fx: &mut Effects) {
        let tracer = &mut self.shared.tracer;
        let ticks = iseg::ticks(&self.profile, self.shared.time);
        let (Some(owner), Some(block)) = (tracer.owner, tracer.take_block(ticks)) else {
            return;
        };
        let Some(f) = self.functions.get_mut(usize::from(owner.function.0)) else {
            return;
        };
        let pieces = Region::of(&f.objects, tracer.mkey).and_then(|r| {
            let at = r.start().checked_add(block.at)?;
            r.pieces(at, block.bytes.len())
        });
        let Some(pieces) = pieces else {
            return tracer.dropped();
        };
        // Its last entry, the time stamp, says that the block is there: it is seen last.
        let (body, stamp) = block.bytes.split_at(block.bytes.len() - 8);
        let mut bytes = [(body, Order::Relaxed), (stamp, Order::Publish)].into_iter();
        let mut rest: (&[u8], Order) = (&[], Order::Relaxed);
        for (mut addr, mut len) in pieces {
            while len > 0 {
                if rest.0.is_empty() {
                    let Some(next) = bytes.next() else { break };
                    rest = next;
                }
                let (now, behind) = rest.0.split_at(len.min(rest.0.len()));
                fx.write(owner.function, addr, now, rest.1);
                rest.0 = behind;
                addr += now.len() as u64;
                len -= now.len();
            }
        }
        if tracer.written() {
            f.raise(Event::tracer(subtype::TRACES_AVAILABLE));
            f.deliver(fx);
        }
    }
}
