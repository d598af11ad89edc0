// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The table of object kinds, a file per family.

mod memory;
mod queues;
mod rdma;
mod steering;

use super::{Bits, Kind, KindId, Ref, Target};

pub use memory::{MKEY, PD, TRANSPORT_DOMAIN, UAR, UMEM, XRCD};
pub use queues::{CQ, Q_COUNTER, RMP, RQ, RQT, SQ, TIR, TIS};
pub use rdma::{DCT, QP, SRQ, XRC_SRQ, XRQ};
pub use steering::{
    FLOW_COUNTER, FLOW_GROUP, FLOW_TABLE, GENERAL, MODIFY_HEADER, PACKET_REFORMAT,
    SCHEDULING_ELEMENT,
};

pub(super) use queues::{RQ_WQ, RQT_LIST};
pub(super) use steering::{FLOW_TABLE_CTX, REFORMAT_CTX, SCHEDULING_CTX};

/// Byte offset of the context in most create and modify commands.
pub(super) const CTX: usize = 32;
/// Byte offset of the context in CREATE_CQ, CREATE_MKEY and their queries' outboxes.
pub(super) const CTX_EARLY: usize = 16;

/// A reference to an object.
const fn object(at: Bits, to: KindId) -> Ref {
    Ref {
        at,
        to: Target::Object(to),
        when: None,
    }
}

/// A reference to an object, if a place has a value.
const fn object_when(at: Bits, to: KindId, place: Bits, value: u64) -> Ref {
    Ref {
        at,
        to: Target::Object(to),
        when: Some((place, value)),
    }
}

/// A reference to a shared receive queue, if a place has a value.
const fn shared_receive_when(at: Bits, place: Bits, value: u64) -> Ref {
    Ref {
        at,
        to: Target::SharedReceive,
        when: Some((place, value)),
    }
}

/// The ids of the four sorts of shared receive queue: a QP or DCT refers to any by its number
/// alone, so each sort has a quarter of the 24-bit numbers.
const fn shared_receive_ids(quarter: u32) -> (u32, u32) {
    let first = quarter << SORT_SHIFT;
    (
        if first == 0 { 1 } else { first },
        first + (1 << SORT_SHIFT) - 1,
    )
}

const SORT_SHIFT: u32 = 22;
const SORTS: [KindId; 4] = [KindId::Rmp, KindId::Srq, KindId::XrcSrq, KindId::Xrq];

/// The sort of a shared receive queue.
pub(super) fn shared_receive(n: u32) -> KindId {
    SORTS[(n >> SORT_SHIFT & 3) as usize]
}

/// Every kind.
pub static ALL: &[&Kind] = &[
    &UAR,
    &PD,
    &TRANSPORT_DOMAIN,
    &XRCD,
    &MKEY,
    &UMEM,
    &CQ,
    &RQ,
    &SQ,
    &RMP,
    &RQT,
    &TIR,
    &TIS,
    &QP,
    &SRQ,
    &XRC_SRQ,
    &XRQ,
    &DCT,
    &Q_COUNTER,
    &FLOW_TABLE,
    &FLOW_GROUP,
    &FLOW_COUNTER,
    &PACKET_REFORMAT,
    &MODIFY_HEADER,
    &SCHEDULING_ELEMENT,
    &GENERAL,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_there_once_and_at_its_number() {
        assert_eq!(ALL.len(), super::super::KINDS);
        for (i, k) in ALL.iter().enumerate() {
            assert_eq!(k.id as usize, i, "{}", k.name);
        }
    }

    /// A context lies where the layouts of the create command and of the query's outbox have it.
    #[test]
    fn contexts_are_where_the_header_has_them() {
        use crate::table::{Action, OPS};
        use fwctl_proto::layout::{LayoutInfo, command};

        let nested = |l: &LayoutInfo, at: usize| {
            let here = |f: &&fwctl_proto::layout::FieldInfo| f.offset as usize == at * 8;
            let found = l.fields.iter().find(here).and_then(|f| f.nested);
            found.map(|n| n.name)
        };
        let mut seen = 0;
        for op in OPS {
            let Action::Query(kind) = op.action else {
                continue;
            };
            let of =
                |o: &&crate::table::Op| matches!(o.action, Action::Create(k) if k.id == kind.id);
            let create = OPS.iter().find(of).and_then(|o| command(o.opcode));
            let (Some((from, at)), Some(query), Some(create)) =
                (kind.context, command(op.opcode), create)
            else {
                continue;
            };
            if let Some(name) = nested(create.input, from) {
                assert_eq!(nested(query.output, at), Some(name), "{}", query.name);
                seen += 1;
            }
        }
        assert!(seen > 10, "only {seen} contexts");
    }
}
