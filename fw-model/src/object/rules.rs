// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Checks on the fields of a create command, a function per kind that has any. They see what is
//! to be kept: the command without its first [`HEADER`] bytes.

use fwctl_proto::{
    cap_type,
    layout::{Field, Layout as _},
    layouts::{
        AllocModifyHeaderContextIn, CmdHcaCap, Cqc, CreateFlowGroupIn, CreateSchedulingElementIn,
        FlowTableContext, FlowTableNicCap, FlowTablePropLayout, PacketReformatContextIn, QosCap,
        Qpc, Rqtc, SchedulingContext, Umem, Wq,
    },
};

use super::{
    Bits, HEADER, KindId,
    kinds::{CTX, CTX_EARLY, FLOW_TABLE_CTX, REFORMAT_CTX, RQ_WQ, SCHEDULING_CTX},
    states::QPC,
};
use crate::{cmd::Ctx, syndrome::Syndrome};

type Checked = Result<(), Syndrome>;

const FIELD: Checked = Err(Syndrome::ObjectField);

fn within<L>(kept: &[u8], at: usize, field: Field<L>) -> u64 {
    Bits::within(at, field).kept().get(kept)
}

fn at_most(value: u64, limit: u64) -> Checked {
    if value > limit { FIELD } else { Ok(()) }
}

/// Bytes of the kept command from command byte `at` on.
fn room(kept: &[u8], at: usize) -> u64 {
    kept.len().saturating_sub(at - HEADER) as u64
}

/// `log_cq_size` up to `log_max_cq_sz`.
pub(super) fn cq(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    at_most(
        within(kept, CTX_EARLY, Cqc::LOG_CQ_SIZE),
        ctx.general_cap(CmdHcaCap::LOG_MAX_CQ_SZ),
    )
}

/// `log_wq_sz` up to `log_max_wq_sz`.
pub(super) fn work_queue(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    at_most(
        within(kept, RQ_WQ, Wq::LOG_WQ_SZ),
        ctx.general_cap(CmdHcaCap::LOG_MAX_WQ_SZ),
    )
}

/// `log_rq_size` and `log_sq_size` up to `log_max_qp_sz`.
pub(super) fn qp(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    let limit = ctx.general_cap(CmdHcaCap::LOG_MAX_QP_SZ);
    at_most(within(kept, QPC, Qpc::LOG_RQ_SIZE), limit)?;
    at_most(within(kept, QPC, Qpc::LOG_SQ_SIZE), limit)
}

/// A table that is no longer than `log_max_rqt_size` says, and entries that are there.
pub(super) fn rqt(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    let max = within(kept, CTX, Rqtc::RQT_MAX_SIZE);
    let actual = within(kept, CTX, Rqtc::RQT_ACTUAL_SIZE);
    at_most(max, 1 << ctx.general_cap(CmdHcaCap::LOG_MAX_RQT_SIZE))?;
    at_most(actual, max)?;
    if room(kept, super::kinds::RQT_LIST) < actual * 4 {
        return Err(Syndrome::InboxTooShort);
    }
    Ok(())
}

/// As many translation entries as are announced.
pub(super) fn umem(_ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    /// Byte offset of the entries, 8 bytes each.
    const MTT: usize = CTX_EARLY + Umem::BYTES;
    let count = within(kept, CTX_EARLY, Umem::NUM_OF_MTT);
    if count == 0 {
        return FIELD;
    }
    if room(kept, MTT) / 8 < count {
        return Err(Syndrome::InboxTooShort);
    }
    Ok(())
}

/// The properties of the function's receive flow tables; those of other types are not told apart.
fn steering(ctx: &Ctx<'_>, field: Field<FlowTablePropLayout>) -> u64 {
    ctx.cap_view::<FlowTableNicCap>(cap_type::FLOW_TABLE)
        .map_or(0, |v| {
            v.sub(FlowTableNicCap::FLOW_TABLE_PROPERTIES_NIC_RECEIVE)
                .get(field)
        })
}

/// 2 to the power of a steering property.
fn steering_log(ctx: &Ctx<'_>, field: Field<FlowTablePropLayout>) -> u32 {
    1 << steering(ctx, field).min(24)
}

pub(super) fn flow_tables(ctx: &Ctx<'_>) -> u32 {
    steering_log(ctx, FlowTablePropLayout::LOG_MAX_FT_NUM)
}

pub(super) fn modify_headers(ctx: &Ctx<'_>) -> u32 {
    match steering(ctx, FlowTablePropLayout::LOG_MAX_MODIFY_HEADER_CONTEXT) {
        0 => 0,
        log => 1 << log.min(24),
    }
}

pub(super) fn packet_reformats(ctx: &Ctx<'_>) -> u32 {
    let log = ctx
        .cap_view::<FlowTableNicCap>(cap_type::FLOW_TABLE)
        .map_or(0, |v| {
            v.get(FlowTableNicCap::LOG_MAX_PACKET_REFORMAT_CONTEXT)
        });
    if log == 0 { 0 } else { 1 << log.min(24) }
}

pub(super) fn flow_counters(ctx: &Ctx<'_>) -> u32 {
    (ctx.general_cap(CmdHcaCap::MAX_FLOW_COUNTER_31_16) << 16
        | ctx.general_cap(CmdHcaCap::MAX_FLOW_COUNTER_15_0)) as u32
}

/// Elements of a scheduling hierarchy; the header names no limit, so it is ours.
pub(super) fn scheduling_elements(ctx: &Ctx<'_>) -> u32 {
    const ELEMENTS: u32 = 1 << 16;
    let qos = ctx.cap_view::<QosCap>(cap_type::QOS);
    let on =
        qos.is_some_and(|v| v.flag(QosCap::NIC_SQ_SCHEDULING) || v.flag(QosCap::ESW_SCHEDULING));
    if on { ELEMENTS } else { 0 }
}

/// Size within the properties. Levels are not checked: the driver of Linux 7.3 creates tables at
/// levels above the 64 that it asks `max_ft_level` for.
pub(super) fn flow_table(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    at_most(
        within(kept, FLOW_TABLE_CTX, FlowTableContext::LOG_SIZE),
        steering(ctx, FlowTablePropLayout::LOG_MAX_FT_SIZE),
    )
}

/// Indices that lie in the group's table, in order.
pub(super) fn flow_group(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    let table = Bits::of(CreateFlowGroupIn::TABLE_ID).kept().get(kept) as u32;
    let t = ctx
        .f
        .objects
        .get(KindId::FlowTable, table)
        .ok_or(Syndrome::ObjectReference)?;
    let size = 1u64 << within(&t.kept, FLOW_TABLE_CTX, FlowTableContext::LOG_SIZE).min(32);
    let start = Bits::of(CreateFlowGroupIn::START_FLOW_INDEX)
        .kept()
        .get(kept);
    let end = Bits::of(CreateFlowGroupIn::END_FLOW_INDEX).kept().get(kept);
    if start > end || end >= size {
        return FIELD;
    }
    Ok(())
}

/// Header data that is there, and no longer than `max_encap_header_size`.
pub(super) fn packet_reformat(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    /// Byte offset of the data in the context.
    const DATA: usize = REFORMAT_CTX + 6;
    let size = within(
        kept,
        REFORMAT_CTX,
        PacketReformatContextIn::REFORMAT_DATA_SIZE,
    );
    let max = ctx
        .cap_view::<FlowTableNicCap>(cap_type::FLOW_TABLE)
        .map_or(0, |v| v.get(FlowTableNicCap::MAX_ENCAP_HEADER_SIZE));
    at_most(size, max)?;
    if room(kept, DATA) < size {
        return Err(Syndrome::InboxTooShort);
    }
    Ok(())
}

/// Actions that are there, and no more than `max_modify_header_actions`.
pub(super) fn modify_header(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    const ACTIONS: usize = 16;
    const ACTION_BYTES: u64 = 8;
    let count = Bits::of(AllocModifyHeaderContextIn::NUM_OF_ACTIONS)
        .kept()
        .get(kept);
    if count == 0 {
        return FIELD;
    }
    at_most(
        count,
        steering(ctx, FlowTablePropLayout::MAX_MODIFY_HEADER_ACTIONS),
    )?;
    if room(kept, ACTIONS) < count * ACTION_BYTES {
        return Err(Syndrome::InboxTooShort);
    }
    Ok(())
}

/// `scheduling_hierarchy`: the eswitch's, and the NIC's.
const HIERARCHY_ESWITCH: u64 = 2;
const HIERARCHY_NIC: u64 = 3;

/// A hierarchy that the capabilities offer, and a parent of the same one.
pub(super) fn scheduling_element(ctx: &Ctx<'_>, kept: &[u8]) -> Checked {
    let place = Bits::of(CreateSchedulingElementIn::SCHEDULING_HIERARCHY).kept();
    let hierarchy = place.get(kept);
    let offered = ctx
        .cap_view::<QosCap>(cap_type::QOS)
        .is_some_and(|v| match hierarchy {
            HIERARCHY_NIC => v.flag(QosCap::NIC_SQ_SCHEDULING),
            HIERARCHY_ESWITCH => v.flag(QosCap::ESW_SCHEDULING),
            _ => false,
        });
    if !offered {
        return FIELD;
    }
    let parent = within(kept, SCHEDULING_CTX, SchedulingContext::PARENT_ELEMENT_ID) as u32;
    match ctx.f.objects.get(KindId::SchedulingElement, parent) {
        Some(p) if place.get(&p.kept) != hierarchy => FIELD,
        _ => Ok(()),
    }
}

/// Flow counters that one command allocates: `flow_counter_bulk` has a bit per power of two from
/// 128 on (`MLX5_FC_BULK_*`), `flow_counter_bulk_log_size` a logarithm.
pub(super) fn flow_counter_span(inbox: &[u8]) -> u32 {
    use fwctl_proto::layouts::AllocFlowCounterIn as In;
    const SMALLEST: u32 = 128;
    let bulk = Bits::of(In::FLOW_COUNTER_BULK).get(inbox) as u32;
    let log = Bits::of(In::FLOW_COUNTER_BULK_LOG_SIZE).get(inbox) as u32;
    match (bulk, log) {
        (0, log) => 1 << log.min(31),
        (bulk, _) => SMALLEST << (31 - bulk.leading_zeros()),
    }
}
