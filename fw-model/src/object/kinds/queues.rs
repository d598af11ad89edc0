// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Completion and work queues, and what leads packets to and from them.

use fwctl_proto::layouts::*;

use super::{CTX, CTX_EARLY, object, object_when, shared_receive_ids};
use crate::object::{Bits, Change, Kind, KindId, Limit, Modify, Ref, RefList, Target, rules};

/// Byte offset of `wq` in an RQ or SQ context.
const WQ: usize = Rqc::WQ.byte();
/// Byte offset of `wq` in the commands of an RQ, SQ and RMP.
pub(in crate::object) const RQ_WQ: usize = CTX + WQ;
/// Byte offset of the RQ list in the commands of an RQT.
pub(in crate::object) const RQT_LIST: usize = CTX + 240;

/// Bit `n` of a modify mask of 64 bits at byte 16.
const fn select64(n: u32) -> Bits {
    Bits::new(16 * 8 + 63 - n, 1)
}

/// Bit `n` of MODIFY_CQ's `modify_field_select` (`MLX5_CQ_MODIFY_*`), the dword at byte 12.
const fn cq_select(n: u32) -> Bits {
    Bits::new(12 * 8 + 31 - n, 1)
}

const fn change(mask: Bits, fields: &'static [Bits]) -> Change {
    Change {
        mask,
        fields,
        bytes: &[],
    }
}

/// The references of a work queue at byte `RQ_WQ`.
const WQ_PD: Ref = object(Bits::within(RQ_WQ, Wq::PD), KindId::Pd);
const WQ_UMEM: Ref = object_when(
    Bits::within(RQ_WQ, Wq::WQ_UMEM_ID),
    KindId::Umem,
    Bits::within(RQ_WQ, Wq::WQ_UMEM_VALID),
    1,
);
const DBR_UMEM: Ref = object_when(
    Bits::within(RQ_WQ, Wq::DBR_UMEM_ID),
    KindId::Umem,
    Bits::within(RQ_WQ, Wq::DBR_UMEM_VALID),
    1,
);

/// Completion queues.
pub static CQ: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    refs: &[
        Ref {
            at: Bits::within(CTX_EARLY, Cqc::C_EQN_OR_APU_ELEMENT),
            to: Target::Eq,
            when: None,
        },
        object(Bits::within(CTX_EARLY, Cqc::UAR_PAGE), KindId::Uar),
    ],
    modify: Modify::Fields(&[
        change(cq_select(0), &[Bits::within(CTX_EARLY, Cqc::CQ_PERIOD)]),
        change(cq_select(1), &[Bits::within(CTX_EARLY, Cqc::CQ_MAX_COUNT)]),
        change(cq_select(2), &[Bits::within(CTX_EARLY, Cqc::OI)]),
        change(
            cq_select(4),
            &[Bits::within(CTX_EARLY, Cqc::CQ_PERIOD_MODE)],
        ),
    ]),
    check: rules::cq,
    ..Kind::plain(
        KindId::Cq,
        "cq",
        Bits::of(CreateCqOut::CQN),
        Bits::of(DestroyCqIn::CQN),
        Limit::Log(CmdHcaCap::LOG_MAX_CQ),
    )
};

/// Receive queues.
pub static RQ: Kind = Kind {
    context: Some((CTX, CTX)),
    refs: &[
        object(Bits::within(CTX, Rqc::CQN), KindId::Cq),
        // mem_rq_type 0: the queue is in the object itself; 1: in a memory pool.
        object_when(
            Bits::within(CTX, Rqc::RMPN),
            KindId::Rmp,
            Bits::within(CTX, Rqc::MEM_RQ_TYPE),
            1,
        ),
        object(Bits::within(CTX, Rqc::COUNTER_SET_ID), KindId::QCounter),
        WQ_PD,
        WQ_UMEM,
        DBR_UMEM,
    ],
    modify: Modify::WorkQueue {
        from: Bits::of(ModifyRqIn::RQ_STATE),
        to: Bits::within(CTX, Rqc::STATE),
        // MLX5_MODIFY_RQ_IN_MODIFY_BITMASK_*.
        changes: &[
            change(select64(1), &[Bits::within(CTX, Rqc::VSD)]),
            change(select64(2), &[Bits::within(CTX, Rqc::SCATTER_FCS)]),
            change(select64(3), &[Bits::within(CTX, Rqc::COUNTER_SET_ID)]),
        ],
    },
    check: rules::work_queue,
    ..Kind::plain(
        KindId::Rq,
        "rq",
        Bits::of(CreateRqOut::RQN),
        Bits::of(DestroyRqIn::RQN),
        Limit::Log(CmdHcaCap::LOG_MAX_RQ),
    )
};

/// Send queues.
pub static SQ: Kind = Kind {
    context: Some((CTX, CTX)),
    refs: &[
        object(Bits::within(CTX, Sqc::CQN), KindId::Cq),
        object(Bits::within(CTX, Sqc::TIS_NUM_0), KindId::Tis),
        object(
            Bits::within(CTX, Sqc::QOS_QUEUE_GROUP_ID),
            KindId::SchedulingElement,
        ),
        WQ_PD,
        object(Bits::within(RQ_WQ, Wq::UAR_PAGE), KindId::Uar),
        WQ_UMEM,
        DBR_UMEM,
    ],
    modify: Modify::WorkQueue {
        from: Bits::of(ModifySqIn::SQ_STATE),
        to: Bits::within(CTX, Sqc::STATE),
        // As the driver's modify_bitmask has them: rate limit index, queue group.
        changes: &[
            change(
                select64(0),
                &[Bits::within(CTX, Sqc::PACKET_PACING_RATE_LIMIT_INDEX)],
            ),
            change(select64(2), &[Bits::within(CTX, Sqc::QOS_QUEUE_GROUP_ID)]),
        ],
    },
    check: rules::work_queue,
    ..Kind::plain(
        KindId::Sq,
        "sq",
        Bits::of(CreateSqOut::SQN),
        Bits::of(DestroySqIn::SQN),
        Limit::Log(CmdHcaCap::LOG_MAX_SQ),
    )
};

/// Receive memory pools.
pub static RMP: Kind = Kind {
    context: Some((CTX, CTX)),
    refs: &[WQ_PD, WQ_UMEM, DBR_UMEM],
    modify: Modify::WorkQueue {
        from: Bits::of(ModifyRmpIn::RMP_STATE),
        to: Bits::within(CTX, Rmpc::STATE),
        changes: &[change(
            Bits::within(16, RmpBitmask::LWM),
            &[Bits::within(RQ_WQ, Wq::LWM)],
        )],
    },
    check: rules::work_queue,
    ids: shared_receive_ids(0),
    ..Kind::plain(
        KindId::Rmp,
        "rmp",
        Bits::of(CreateRmpOut::RMPN),
        Bits::of(DestroyRmpIn::RMPN),
        Limit::Log(CmdHcaCap::LOG_MAX_RMP),
    )
};

/// Receive queue tables.
pub static RQT: Kind = Kind {
    context: Some((CTX, CTX)),
    list: Some(RefList {
        count: Bits::within(CTX, Rqtc::RQT_ACTUAL_SIZE),
        at: RQT_LIST,
        to: KindId::Rq,
        // list_q_type 0: receive queues.
        when: (Bits::within(CTX, Rqtc::LIST_Q_TYPE), 0),
    }),
    modify: Modify::Fields(&[Change {
        mask: Bits::within(16, RqtBitmask::RQN_LIST),
        fields: &[Bits::within(CTX, Rqtc::RQT_ACTUAL_SIZE)],
        // The list, which has a new length.
        bytes: &[(RQT_LIST, usize::MAX)],
    }]),
    check: rules::rqt,
    ..Kind::plain(
        KindId::Rqt,
        "rqt",
        Bits::of(CreateRqtOut::RQTN),
        Bits::of(DestroyRqtIn::RQTN),
        Limit::Log(CmdHcaCap::LOG_MAX_RQT),
    )
};

/// Transport interface receive objects.
pub static TIR: Kind = Kind {
    context: Some((CTX, CTX)),
    refs: &[
        object(Bits::within(CTX, Tirc::INLINE_RQN), KindId::Rq),
        object(Bits::within(CTX, Tirc::INDIRECT_TABLE), KindId::Rqt),
        object(
            Bits::within(CTX, Tirc::TRANSPORT_DOMAIN),
            KindId::TransportDomain,
        ),
    ],
    modify: Modify::Fields(&[
        change(
            Bits::within(16, ModifyTirBitmask::SELF_LB_EN),
            &[Bits::within(CTX, Tirc::SELF_LB_BLOCK)],
        ),
        change(
            Bits::within(16, ModifyTirBitmask::PACKET_MERGE),
            &[
                Bits::within(CTX, Tirc::PACKET_MERGE_MASK),
                Bits::within(CTX, Tirc::LRO_TIMEOUT_PERIOD_USECS),
                Bits::within(CTX, Tirc::LRO_MAX_IP_PAYLOAD_SIZE),
            ],
        ),
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
    ..Kind::plain(
        KindId::Tir,
        "tir",
        Bits::of(CreateTirOut::TIRN),
        Bits::of(DestroyTirIn::TIRN),
        Limit::Log(CmdHcaCap::LOG_MAX_TIR),
    )
};

/// Transport interface send objects.
pub static TIS: Kind = Kind {
    // QUERY_TIS's outbox has no room before the context, unlike the others'.
    context: Some((CTX, CTX_EARLY)),
    refs: &[
        object(
            Bits::within(CTX, Tisc::TRANSPORT_DOMAIN),
            KindId::TransportDomain,
        ),
        object(Bits::within(CTX, Tisc::PD), KindId::Pd),
    ],
    modify: Modify::Fields(&[
        change(
            Bits::within(16, ModifyTisBitmask::PRIO),
            &[Bits::within(CTX, Tisc::PRIO)],
        ),
        change(
            Bits::within(16, ModifyTisBitmask::LAG_TX_PORT_AFFINITY),
            &[Bits::within(CTX, Tisc::LAG_TX_PORT_AFFINITY)],
        ),
    ]),
    ..Kind::plain(
        KindId::Tis,
        "tis",
        Bits::of(CreateTisOut::TISN),
        Bits::of(DestroyTisIn::TISN),
        Limit::Log(CmdHcaCap::LOG_MAX_TIS),
    )
};

/// Queue counter sets: no counter ever counts, as no packet ever moves.
pub static Q_COUNTER: Kind = Kind::plain(
    KindId::QCounter,
    "q_counter",
    Bits::of(AllocQCounterOut::COUNTER_SET_ID),
    Bits::of(DeallocQCounterIn::COUNTER_SET_ID),
    Limit::Count(255),
);
