// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of object kinds.

use fwctl_proto::layouts::*;

use super::{Bits, Change, Kind, KindId, Limit, Modify, Ref, Target};

/// Byte offset of the context in most create and modify commands.
const CTX: usize = 32;
/// Byte offset of the context in CREATE_CQ, CREATE_MKEY and their queries' outboxes.
const CTX_EARLY: usize = 16;
/// Byte offset of `wq` in an RQ or SQ context.
const WQ: usize = 48;

const fn object(at: Bits, to: KindId) -> Ref {
    Ref {
        at,
        to: Target::Object(to),
    }
}

/// UAR pages.
pub static UAR: Kind = Kind {
    id: KindId::Uar,
    name: "uar",
    id_out: Bits::of(AllocUarOut::UAR),
    id_in: Bits::of(DeallocUarIn::UAR),
    context: None,
    limit: Limit::Uars,
    refs: &[],
    modify: Modify::Never,
};

/// Protection domains.
pub static PD: Kind = Kind {
    id: KindId::Pd,
    name: "pd",
    id_out: Bits::of(AllocPdOut::PD),
    id_in: Bits::of(DeallocPdIn::PD),
    context: None,
    limit: Limit::Log(CmdHcaCap::LOG_MAX_PD),
    refs: &[],
    modify: Modify::Never,
};

/// Transport domains.
pub static TRANSPORT_DOMAIN: Kind = Kind {
    id: KindId::TransportDomain,
    name: "transport_domain",
    id_out: Bits::of(AllocTransportDomainOut::TRANSPORT_DOMAIN),
    id_in: Bits::of(DeallocTransportDomainIn::TRANSPORT_DOMAIN),
    context: None,
    limit: Limit::Log(CmdHcaCap::LOG_MAX_TRANSPORT_DOMAIN),
    refs: &[],
    modify: Modify::Never,
};

/// Memory keys.
pub static MKEY: Kind = Kind {
    id: KindId::Mkey,
    name: "mkey",
    id_out: Bits::of(CreateMkeyOut::MKEY_INDEX),
    id_in: Bits::of(DestroyMkeyIn::MKEY_INDEX),
    context: Some((CTX_EARLY, CTX_EARLY)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_MKEY),
    refs: &[object(Bits::within(CTX_EARLY, Mkc::PD), KindId::Pd)],
    modify: Modify::Never,
};

/// Bit `n` of MODIFY_CQ's `modify_field_select` (`MLX5_CQ_MODIFY_*`), the dword at byte 12.
const fn cq_select(n: u32) -> Bits {
    Bits::new(12 * 8 + 31 - n, 1)
}

/// Completion queues.
pub static CQ: Kind = Kind {
    id: KindId::Cq,
    name: "cq",
    id_out: Bits::of(CreateCqOut::CQN),
    id_in: Bits::of(DestroyCqIn::CQN),
    context: Some((CTX_EARLY, CTX_EARLY)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_CQ),
    refs: &[
        Ref {
            at: Bits::within(CTX_EARLY, Cqc::C_EQN_OR_APU_ELEMENT),
            to: Target::Eq,
        },
        object(Bits::within(CTX_EARLY, Cqc::UAR_PAGE), KindId::Uar),
    ],
    modify: Modify::Fields(&[
        Change {
            mask: cq_select(0),
            fields: &[Bits::within(CTX_EARLY, Cqc::CQ_PERIOD)],
            bytes: &[],
        },
        Change {
            mask: cq_select(1),
            fields: &[Bits::within(CTX_EARLY, Cqc::CQ_MAX_COUNT)],
            bytes: &[],
        },
        Change {
            mask: cq_select(2),
            fields: &[Bits::within(CTX_EARLY, Cqc::OI)],
            bytes: &[],
        },
        Change {
            mask: cq_select(4),
            fields: &[Bits::within(CTX_EARLY, Cqc::CQ_PERIOD_MODE)],
            bytes: &[],
        },
    ]),
};

/// Receive queues.
pub static RQ: Kind = Kind {
    id: KindId::Rq,
    name: "rq",
    id_out: Bits::of(CreateRqOut::RQN),
    id_in: Bits::of(DestroyRqIn::RQN),
    context: Some((CTX, CTX)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_RQ),
    refs: &[
        object(Bits::within(CTX, Rqc::CQN), KindId::Cq),
        object(Bits::within(CTX + WQ, Wq::PD), KindId::Pd),
    ],
    modify: Modify::State {
        from: Bits::of(ModifyRqIn::RQ_STATE),
        to: Bits::within(CTX, Rqc::STATE),
        kept: Bits::within(CTX, Rqc::STATE),
    },
};

/// Send queues.
pub static SQ: Kind = Kind {
    id: KindId::Sq,
    name: "sq",
    id_out: Bits::of(CreateSqOut::SQN),
    id_in: Bits::of(DestroySqIn::SQN),
    context: Some((CTX, CTX)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_SQ),
    refs: &[
        object(Bits::within(CTX, Sqc::CQN), KindId::Cq),
        object(Bits::within(CTX, Sqc::TIS_NUM_0), KindId::Tis),
        object(Bits::within(CTX + WQ, Wq::PD), KindId::Pd),
        object(Bits::within(CTX + WQ, Wq::UAR_PAGE), KindId::Uar),
    ],
    modify: Modify::State {
        from: Bits::of(ModifySqIn::SQ_STATE),
        to: Bits::within(CTX, Sqc::STATE),
        kept: Bits::within(CTX, Sqc::STATE),
    },
};

/// Receive queue tables.
pub static RQT: Kind = Kind {
    id: KindId::Rqt,
    name: "rqt",
    id_out: Bits::of(CreateRqtOut::RQTN),
    id_in: Bits::of(DestroyRqtIn::RQTN),
    context: Some((CTX, CTX)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_RQT),
    refs: &[],
    modify: Modify::Fields(&[Change {
        mask: Bits::within(16, RqtBitmask::RQN_LIST),
        fields: &[Bits::within(CTX, Rqtc::RQT_ACTUAL_SIZE)],
        // The list, which has a new length.
        bytes: &[(CTX + 240, usize::MAX)],
    }]),
};

/// Transport interface receive objects.
pub static TIR: Kind = Kind {
    id: KindId::Tir,
    name: "tir",
    id_out: Bits::of(CreateTirOut::TIRN),
    id_in: Bits::of(DestroyTirIn::TIRN),
    context: Some((CTX, CTX)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_TIR),
    refs: &[
        object(Bits::within(CTX, Tirc::INLINE_RQN), KindId::Rq),
        object(Bits::within(CTX, Tirc::INDIRECT_TABLE), KindId::Rqt),
        object(
            Bits::within(CTX, Tirc::TRANSPORT_DOMAIN),
            KindId::TransportDomain,
        ),
    ],
    modify: Modify::Fields(&[
        Change {
            mask: Bits::within(16, ModifyTirBitmask::SELF_LB_EN),
            fields: &[Bits::within(CTX, Tirc::SELF_LB_BLOCK)],
            bytes: &[],
        },
        Change {
            mask: Bits::within(16, ModifyTirBitmask::PACKET_MERGE),
            fields: &[
                Bits::within(CTX, Tirc::PACKET_MERGE_MASK),
                Bits::within(CTX, Tirc::LRO_TIMEOUT_PERIOD_USECS),
                Bits::within(CTX, Tirc::LRO_MAX_IP_PAYLOAD_SIZE),
            ],
            bytes: &[],
        },
        Change {
            mask: Bits::within(16, ModifyTirBitmask::HASH),
            fields: &[
                Bits::within(CTX, Tirc::RX_HASH_SYMMETRIC),
                Bits::within(CTX, Tirc::RX_HASH_FN),
            ],
            // The key and both field selectors.
            bytes: &[(CTX + 40, CTX + 88)],
        },
    ]),
};

/// Transport interface send objects.
pub static TIS: Kind = Kind {
    id: KindId::Tis,
    name: "tis",
    id_out: Bits::of(CreateTisOut::TISN),
    id_in: Bits::of(DestroyTisIn::TISN),
    context: Some((CTX, CTX)),
    limit: Limit::Log(CmdHcaCap::LOG_MAX_TIS),
    refs: &[
        object(
            Bits::within(CTX, Tisc::TRANSPORT_DOMAIN),
            KindId::TransportDomain,
        ),
        object(Bits::within(CTX, Tisc::PD), KindId::Pd),
    ],
    modify: Modify::Fields(&[
        Change {
            mask: Bits::within(16, ModifyTisBitmask::PRIO),
            fields: &[Bits::within(CTX, Tisc::PRIO)],
            bytes: &[],
        },
        Change {
            mask: Bits::within(16, ModifyTisBitmask::LAG_TX_PORT_AFFINITY),
            fields: &[Bits::within(CTX, Tisc::LAG_TX_PORT_AFFINITY)],
            bytes: &[],
        },
    ]),
};

/// Queue counter sets: no counter ever counts, as no packet ever moves.
pub static Q_COUNTER: Kind = Kind {
    id: KindId::QCounter,
    name: "q_counter",
    id_out: Bits::of(AllocQCounterOut::COUNTER_SET_ID),
    id_in: Bits::of(DeallocQCounterIn::COUNTER_SET_ID),
    context: None,
    limit: Limit::Count(255),
    refs: &[],
    modify: Modify::Never,
};

/// Flow tables.
pub static FLOW_TABLE: Kind = Kind {
    id: KindId::FlowTable,
    name: "flow_table",
    id_out: Bits::of(CreateFlowTableOut::TABLE_ID),
    id_in: Bits::of(DestroyFlowTableIn::TABLE_ID),
    context: Some((24, 24)),
    limit: Limit::Count(1 << 16),
    refs: &[],
    modify: Modify::Never,
};

/// Flow groups.
pub static FLOW_GROUP: Kind = Kind {
    id: KindId::FlowGroup,
    name: "flow_group",
    id_out: Bits::of(CreateFlowGroupOut::GROUP_ID),
    id_in: Bits::of(DestroyFlowGroupIn::GROUP_ID),
    context: None,
    limit: Limit::Count(1 << 18),
    refs: &[object(
        Bits::of(CreateFlowGroupIn::TABLE_ID),
        KindId::FlowTable,
    )],
    modify: Modify::Never,
};

/// Every kind.
pub static ALL: &[&Kind] = &[
    &UAR,
    &PD,
    &TRANSPORT_DOMAIN,
    &MKEY,
    &CQ,
    &RQ,
    &SQ,
    &RQT,
    &TIR,
    &TIS,
    &Q_COUNTER,
    &FLOW_TABLE,
    &FLOW_GROUP,
];
