// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Flow steering, scheduling, and general objects.

use fwctl_proto::layouts::*;

use super::{object, object_when};
use crate::object::{
    Bits, Change, Kind, KindId, Limit, Modify,
    general::{self, BODY, SELECTED},
    rules,
};

/// Byte offset of the context in the commands of a flow table.
pub(in crate::object) const FLOW_TABLE_CTX: usize = 24;
/// Byte offset of the context in the commands of a packet reformat context.
pub(in crate::object) const REFORMAT_CTX: usize = 28;
/// Byte offset of the context in the commands of a scheduling element.
pub(in crate::object) const SCHEDULING_CTX: usize = 32;
/// Byte offset from which a flow group reads back as it was made: `start_flow_index`.
const GROUP_FIELDS: usize = 28;
/// Byte offset from which a modify header context reads back: `table_type`.
const MODIFY_HEADER_FIELDS: usize = 12;
/// `table_miss_action`: go to `table_miss_id`.
const MISS_TO_TABLE: u64 = 1;

const fn table(field: fwctl_proto::layout::Field<FlowTableContext>) -> Bits {
    Bits::within(FLOW_TABLE_CTX, field)
}

/// Flow tables.
pub static FLOW_TABLE: Kind = Kind {
    context: Some((FLOW_TABLE_CTX, FLOW_TABLE_CTX)),
    refs: &[object_when(
        table(FlowTableContext::TABLE_MISS_ID),
        KindId::FlowTable,
        table(FlowTableContext::TABLE_MISS_ACTION),
        MISS_TO_TABLE,
    )],
    // Bits of modify_field_select (MLX5_MODIFY_FLOW_TABLE_*), 16 bits at byte 14.
    modify: Modify::Fields(&[
        Change {
            mask: Bits::new(14 * 8 + 15, 1),
            fields: &[
                table(FlowTableContext::TABLE_MISS_ACTION),
                table(FlowTableContext::TABLE_MISS_ID),
            ],
            bytes: &[],
        },
        Change {
            mask: Bits::new(14 * 8, 1),
            fields: &[table(FlowTableContext::LAG_MASTER_NEXT_TABLE_ID)],
            bytes: &[],
        },
    ]),
    check: rules::flow_table,
    ..Kind::plain(
        KindId::FlowTable,
        "flow_table",
        Bits::of(CreateFlowTableOut::TABLE_ID),
        Bits::of(DestroyFlowTableIn::TABLE_ID),
        Limit::Caps(rules::flow_tables),
    )
};

/// Flow groups.
pub static FLOW_GROUP: Kind = Kind {
    context: Some((GROUP_FIELDS, GROUP_FIELDS)),
    refs: &[object(
        Bits::of(CreateFlowGroupIn::TABLE_ID),
        KindId::FlowTable,
    )],
    check: rules::flow_group,
    ..Kind::plain(
        KindId::FlowGroup,
        "flow_group",
        Bits::of(CreateFlowGroupOut::GROUP_ID),
        Bits::of(DestroyFlowGroupIn::GROUP_ID),
        Limit::Count(1 << 18),
    )
};

/// Flow counters; they stay at 0, as no packet ever moves.
pub static FLOW_COUNTER: Kind = Kind {
    span: rules::flow_counter_span,
    ..Kind::plain(
        KindId::FlowCounter,
        "flow_counter",
        Bits::of(AllocFlowCounterOut::FLOW_COUNTER_ID),
        Bits::of(DeallocFlowCounterIn::FLOW_COUNTER_ID),
        Limit::Caps(rules::flow_counters),
    )
};

/// Packet reformat contexts.
pub static PACKET_REFORMAT: Kind = Kind {
    context: Some((REFORMAT_CTX, REFORMAT_CTX)),
    check: rules::packet_reformat,
    ..Kind::plain(
        KindId::PacketReformat,
        "packet_reformat",
        Bits::of(AllocPacketReformatContextOut::PACKET_REFORMAT_ID),
        Bits::of(DeallocPacketReformatContextIn::PACKET_REFORMAT_ID),
        Limit::Caps(rules::packet_reformats),
    )
};

/// Modify header contexts.
pub static MODIFY_HEADER: Kind = Kind {
    context: Some((MODIFY_HEADER_FIELDS, MODIFY_HEADER_FIELDS)),
    check: rules::modify_header,
    ..Kind::plain(
        KindId::ModifyHeader,
        "modify_header",
        Bits::of(AllocModifyHeaderContextOut::MODIFY_HEADER_ID),
        Bits::of(DeallocModifyHeaderContextIn::MODIFY_HEADER_ID),
        Limit::Caps(rules::modify_headers),
    )
};

const fn scheduling(field: fwctl_proto::layout::Field<SchedulingContext>) -> Bits {
    Bits::within(SCHEDULING_CTX, field)
}

/// Scheduling elements.
pub static SCHEDULING_ELEMENT: Kind = Kind {
    context: Some((SCHEDULING_CTX, SCHEDULING_CTX)),
    refs: &[object(
        scheduling(SchedulingContext::PARENT_ELEMENT_ID),
        KindId::SchedulingElement,
    )],
    // Bits of modify_bitmask (MODIFY_SCHEDULING_ELEMENT_IN_MODIFY_BITMASK_*), the dword at byte 20.
    modify: Modify::Fields(&[
        Change {
            mask: Bits::new(20 * 8 + 31, 1),
            fields: &[scheduling(SchedulingContext::BW_SHARE)],
            bytes: &[],
        },
        Change {
            mask: Bits::new(20 * 8 + 30, 1),
            fields: &[scheduling(SchedulingContext::MAX_AVERAGE_BW)],
            bytes: &[],
        },
    ]),
    check: rules::scheduling_element,
    ..Kind::plain(
        KindId::SchedulingElement,
        "scheduling_element",
        Bits::of(CreateSchedulingElementOut::SCHEDULING_ELEMENT_ID),
        Bits::of(DestroySchedulingElementIn::SCHEDULING_ELEMENT_ID),
        Limit::Caps(rules::scheduling_elements),
    )
};

/// General objects of all types.
pub static GENERAL: Kind = Kind {
    context: Some((BODY, BODY)),
    modify: Modify::Replace(BODY + SELECTED),
    span: general::span,
    hide: general::hide,
    typed: true,
    ..Kind::plain(
        KindId::General,
        "general",
        Bits::of(GeneralObjOutCmdHdr::OBJ_ID),
        Bits::of(GeneralObjInCmdHdr::OBJ_ID),
        Limit::Count(1 << 18),
    )
};
