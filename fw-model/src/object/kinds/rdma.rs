// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Queue pairs, shared receive queues of all sorts, dynamically connected targets.

use fwctl_proto::layouts::*;

use super::{CTX_EARLY, object, object_when, shared_receive_ids, shared_receive_when};
use crate::object::{
    Bits, Kind, KindId, Limit, Modify, Ref, Target, rules,
    states::{QP as TRANSITIONS, QPC},
};

/// `qpc.rq_type`: the receive queue is a shared one (`MLX5_SRQ_RQ`).
const RQ_TYPE_SRQ: u64 = 1;
/// Byte offset of the work queue in the commands of an XRQ.
const XRQ_WQ: usize = CTX_EARLY + 128;

const fn qpc(field: fwctl_proto::layout::Field<Qpc>) -> Bits {
    Bits::within(QPC, field)
}

/// Queue pairs.
pub static QP: Kind = Kind {
    context: Some((QPC, QPC)),
    refs: &[
        object(qpc(Qpc::PD), KindId::Pd),
        object(qpc(Qpc::CQN_SND), KindId::Cq),
        object(qpc(Qpc::CQN_RCV), KindId::Cq),
        object(qpc(Qpc::UAR_PAGE), KindId::Uar),
        object(qpc(Qpc::COUNTER_SET_ID), KindId::QCounter),
        shared_receive_when(qpc(Qpc::SRQN_RMPN_XRQN), qpc(Qpc::RQ_TYPE), RQ_TYPE_SRQ),
        object(qpc(Qpc::XRCD), KindId::Xrcd),
        object_when(
            Bits::of(CreateQpIn::WQ_UMEM_ID),
            KindId::Umem,
            Bits::of(CreateQpIn::WQ_UMEM_VALID),
            1,
        ),
    ],
    modify: Modify::Transitions(TRANSITIONS),
    check: rules::qp,
    ..Kind::plain(
        KindId::Qp,
        "qp",
        Bits::of(CreateQpOut::QPN),
        Bits::of(DestroyQpIn::QPN),
        Limit::Log(CmdHcaCap::LOG_MAX_QP),
    )
};

/// Shared receive queues of ISSI 0.
pub static SRQ: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    refs: &[
        object(Bits::within(CTX_EARLY, Srqc::PD), KindId::Pd),
        object(Bits::within(CTX_EARLY, Srqc::CQN), KindId::Cq),
    ],
    ids: shared_receive_ids(1),
    ..Kind::plain(
        KindId::Srq,
        "srq",
        Bits::of(CreateSrqOut::SRQN),
        Bits::of(DestroySrqIn::SRQN),
        Limit::Log(CmdHcaCap::LOG_MAX_SRQ),
    )
};

/// XRC shared receive queues.
pub static XRC_SRQ: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    refs: &[
        object(Bits::within(CTX_EARLY, XrcSrqc::PD), KindId::Pd),
        object(Bits::within(CTX_EARLY, XrcSrqc::CQN), KindId::Cq),
        object(Bits::within(CTX_EARLY, XrcSrqc::XRCD), KindId::Xrcd),
    ],
    ids: shared_receive_ids(2),
    ..Kind::plain(
        KindId::XrcSrq,
        "xrc_srq",
        Bits::of(CreateXrcSrqOut::XRC_SRQN),
        Bits::of(DestroyXrcSrqIn::XRC_SRQN),
        Limit::Log(CmdHcaCap::LOG_MAX_SRQ),
    )
};

const XRQ_REFS: &[Ref] = &[
    object(Bits::within(CTX_EARLY, Xrqc::CQN), KindId::Cq),
    object(Bits::within(XRQ_WQ, Wq::PD), KindId::Pd),
    object_when(
        Bits::within(XRQ_WQ, Wq::WQ_UMEM_ID),
        KindId::Umem,
        Bits::within(XRQ_WQ, Wq::WQ_UMEM_VALID),
        1,
    ),
];

/// Shared receive queues with tag matching.
pub static XRQ: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    refs: XRQ_REFS,
    ids: shared_receive_ids(3),
    ..Kind::plain(
        KindId::Xrq,
        "xrq",
        Bits::of(CreateXrqOut::XRQN),
        Bits::of(DestroyXrqIn::XRQN),
        Limit::Log(CmdHcaCap::LOG_MAX_XRQ),
    )
};

/// Dynamically connected targets. They share the number of QPs, as no capability names theirs.
pub static DCT: Kind = Kind {
    context: Some((CTX_EARLY, CTX_EARLY)),
    refs: &[
        object(Bits::within(CTX_EARLY, Dctc::PD), KindId::Pd),
        object(Bits::within(CTX_EARLY, Dctc::CQN), KindId::Cq),
        object(
            Bits::within(CTX_EARLY, Dctc::COUNTER_SET_ID),
            KindId::QCounter,
        ),
        Ref {
            at: Bits::within(CTX_EARLY, Dctc::SRQN_XRQN),
            to: Target::SharedReceive,
            when: None,
        },
    ],
    ..Kind::plain(
        KindId::Dct,
        "dct",
        Bits::of(CreateDctOut::DCTN),
        Bits::of(DestroyDctIn::DCTN),
        Limit::Log(CmdHcaCap::LOG_MAX_QP),
    )
};
