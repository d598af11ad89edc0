// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! SET_DIAGNOSTIC_PARAMS, QUERY_DIAGNOSTIC_PARAMS, QUERY_DIAGNOSTIC_COUNTERS. The counters there are,
//! and how fast they can be sampled, is the debug capability's business.

use fwctl_proto::{
    cap_type,
    layout::{Layout, View, ViewMut},
    layouts::{
        CmdHcaCap, CounterId, DebugCap, DiagnosticCntrLayout, DiagnosticCntrStruct,
        DiagnosticParamsContext, QueryDiagnosticCountersIn, QueryDiagnosticParamsOut,
        SetDiagnosticParamsIn,
    },
};

use super::{Ctx, Done, view, view_mut};
use crate::{
    diagnostics::{Params, clock},
    syndrome::Syndrome,
};

/// Byte offset of the list of counters in the inbox and the outbox.
const LIST: usize = 8 + DiagnosticParamsContext::BYTES;
/// Byte offset of the samples in the outbox.
const SAMPLES: usize = 16;

/// True if the debug capability names the counter.
fn offered(ctx: &Ctx<'_>, debug: &View<'_, DebugCap>, id: u64) -> bool {
    let count = ctx.general_cap(CmdHcaCap::NUM_OF_DIAGNOSTIC_COUNTERS) as usize;
    (0..count)
        .filter_map(|i| debug.sub_at(DebugCap::DIAGNOSTIC_COUNTER, i))
        .any(|c| c.get(DiagnosticCntrLayout::COUNTER_ID) == id)
}

/// SET_DIAGNOSTIC_PARAMS.
pub fn set_params(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    use DiagnosticParamsContext as P;
    let v: View<'_, SetDiagnosticParamsIn> = view(ctx.inbox)?;
    let p = v.sub(SetDiagnosticParamsIn::DIAGNOSTIC_PARAMS_CONTEXT);
    let count = p.get(P::NUM_OF_COUNTERS) as usize;
    let list = ctx.inbox.get(LIST..).unwrap_or_default();
    let list = list
        .get(..count * CounterId::BYTES)
        .ok_or(Syndrome::InboxTooShort)?;
    let debug = ctx
        .cap_view::<DebugCap>(cap_type::DEBUG)
        .ok_or(Syndrome::NotAdvertised)?;
    let mut counters = Vec::with_capacity(count.min(64));
    for entry in list.chunks_exact(CounterId::BYTES) {
        let id: View<'_, CounterId> = view(entry)?;
        let id = id.get(CounterId::COUNTER_ID);
        if !offered(ctx, &debug, id) || counters.contains(&(id as u16)) {
            return Err(Syndrome::DiagnosticCounter.into());
        }
        counters.push(id as u16);
    }
    let params = Params {
        log_samples: p.get(P::LOG_NUM_OF_SAMPLES) as u8,
        log_period: p.get(P::LOG_SAMPLE_PERIOD) as u8,
        single: p.flag(P::SINGLE),
        repetitive: p.flag(P::REPETITIVE),
        sync: p.flag(P::SYNC),
        on_demand: p.flag(P::ON_DEMAND),
        enable: p.flag(P::ENABLE),
        counters,
    };
    if params.enable {
        let period = u64::from(params.log_period);
        let too_fast = !params.on_demand
            && !(debug.get(DebugCap::LOG_MIN_SAMPLE_PERIOD)..64).contains(&period);
        let too_many = u64::from(params.log_samples) > debug.get(DebugCap::LOG_MAX_SAMPLES);
        let unknown = params.single && !debug.flag(DebugCap::SINGLE)
            || params.repetitive && !debug.flag(DebugCap::REPETITIVE);
        let unclear = params.single == params.repetitive && !params.on_demand
            || params.single && params.repetitive;
        if too_fast || too_many || unknown || unclear || params.counters.is_empty() {
            return Err(Syndrome::DiagnosticParams.into());
        }
    }
    let clear = p.flag(P::CLEAR);
    let now = clock(ctx.profile.frequency_khz, ctx.now);
    ctx.f.diagnostics.catch_up(now);
    ctx.f.diagnostics.set(params, clear, now);
    Ok(())
}

/// QUERY_DIAGNOSTIC_PARAMS: what was set, with as many counters as the outbox has room for.
pub fn query_params(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    use DiagnosticParamsContext as P;
    let mut o: ViewMut<'_, QueryDiagnosticParamsOut> = view_mut(out)?;
    let mut p = o.sub_mut(QueryDiagnosticParamsOut::DIAGNOSTIC_PARAMS_CONTEXT);
    let now = &ctx.f.diagnostics.params;
    p.set(P::NUM_OF_COUNTERS, now.counters.len() as u64);
    p.set(P::LOG_NUM_OF_SAMPLES, now.log_samples.into());
    p.set(P::LOG_SAMPLE_PERIOD, now.log_period.into());
    p.set(P::SINGLE, now.single.into());
    p.set(P::REPETITIVE, now.repetitive.into());
    p.set(P::SYNC, now.sync.into());
    p.set(P::ON_DEMAND, now.on_demand.into());
    p.set(P::ENABLE, now.enable.into());
    let list = out.get_mut(LIST..).unwrap_or_default();
    for (entry, id) in list.chunks_exact_mut(CounterId::BYTES).zip(&now.counters) {
        let mut entry: ViewMut<'_, CounterId> = view_mut(entry)?;
        entry.set(CounterId::COUNTER_ID, (*id).into());
    }
    Ok(())
}

/// QUERY_DIAGNOSTIC_COUNTERS: `num_of_samples` samples from `sample_index` on, the oldest first; the
/// counters of a sample one behind the other. What was not sampled yet is zero.
pub fn query_counters(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    use DiagnosticCntrStruct as S;
    let v: View<'_, QueryDiagnosticCountersIn> = view(ctx.inbox)?;
    let first = v.get(QueryDiagnosticCountersIn::SAMPLE_INDEX) as usize;
    let count = v.get(QueryDiagnosticCountersIn::NUM_OF_SAMPLES) as usize;
    let now = clock(ctx.profile.frequency_khz, ctx.now);
    let keep = 1usize << ctx.f.diagnostics.params.log_samples.min(16);
    if first + count > keep {
        return Err(Syndrome::TableIndex.into());
    }
    let ids = ctx.f.diagnostics.params.counters.clone();
    let samples = ctx.f.diagnostics.samples(now).iter();
    let values = samples.skip(first).take(count).flat_map(|s| {
        let pairs = ids.iter().zip(&s.values);
        pairs.map(move |(id, value)| (s, *id, *value))
    });
    let room = out.get_mut(SAMPLES..).unwrap_or_default();
    for (entry, (s, id, value)) in room.chunks_exact_mut(S::BYTES).zip(values) {
        let mut e: ViewMut<'_, S> = view_mut(entry)?;
        e.set(S::COUNTER_ID, id.into());
        e.set(S::SAMPLE_ID, s.id.into());
        e.set(S::TIME_STAMP_31_0, s.clock.into());
        e.set(S::COUNTER_VALUE_H, value >> 32);
        e.set(S::COUNTER_VALUE_L, value & 0xffff_ffff);
    }
    Ok(())
}
