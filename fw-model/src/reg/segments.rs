// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What RESOURCE_DUMP can show: a segment for each sort of objects that a command queries.

use fwctl_proto::{
    layouts::{QueryEqIn, QueryFlowCounterIn, QueryFteIn, QueryQCounterIn},
    opcode as op,
};

use crate::{
    function::Function,
    object::{Bits, HEADER, Kind, kinds},
};

/// A segment of objects.
pub struct Segment {
    /// Its type in the menu and in dumps.
    pub id: u16,
    /// Its name, of at most [`NAME`] characters.
    pub name: &'static str,
    /// The command whose answer it carries.
    pub opcode: u16,
    /// What `index1` and, if there is one, `index2` are.
    pub indices: (&'static str, Option<&'static str>),
    /// Where the query has them.
    at: (Bits, Bits),
    held: Held,
    /// Bytes of an answer beyond the least that its row in the command table says.
    more: usize,
    /// The answer is as long as what is kept of the object.
    whole: bool,
}

/// Characters that a name in the menu has room for.
pub const NAME: usize = 15;

/// Where a function holds the objects.
enum Held {
    Kind(&'static Kind),
    Eqs,
    Flows,
}

/// An object that is asked for.
pub struct One {
    /// Its numbers.
    pub indices: (u32, u32),
    /// What its query has for `op_mod`.
    pub op_mod: u16,
    /// Bytes of its query's outbox beyond the least.
    more: usize,
    /// Bytes of it that the answer must have room for.
    whole: usize,
}

/// Type of the first kind of objects; the others follow in the order of the kinds.
const FIRST_KIND: u16 = 0x1000;
/// Types of what is no kind of its own.
const EQ: u16 = 0x1080;
const FTE: u16 = 0x1081;
/// A query has no second number.
const NOWHERE: Bits = Bits::new(0, 0);

const fn of(name: &'static str, opcode: u16, kind: &'static Kind) -> Segment {
    Segment {
        id: FIRST_KIND + kind.id as u16,
        name,
        opcode,
        indices: (kind.name, None),
        at: (kind.id_in, NOWHERE),
        held: Held::Kind(kind),
        more: 0,
        whole: false,
    }
}

impl Segment {
    /// The query has the number elsewhere than the command that destroys the object.
    const fn at(mut self, at: Bits) -> Self {
        self.at = (at, NOWHERE);
        self
    }

    const fn more(mut self, bytes: usize) -> Self {
        self.more = bytes;
        self
    }

    const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    /// The objects that there are, by number.
    pub(super) fn all(&self, f: &Function) -> Vec<One> {
        let one = |indices| One {
            indices,
            op_mod: 0,
            more: self.more,
            whole: 0,
        };
        match self.held {
            Held::Eqs => f.eqs.keys().map(|n| one((u32::from(*n), 0))).collect(),
            Held::Flows => f.objects.flows().map(|(key, _)| one(key)).collect(),
            Held::Kind(kind) => {
                let whole = |kept: usize| match kind.context {
                    Some((from, at)) if self.whole => at + kept.saturating_sub(from - HEADER),
                    _ => 0,
                };
                let all = f.objects.all(kind.id);
                all.map(|(n, o)| One {
                    op_mod: o.subtype,
                    whole: whole(o.kept.len()),
                    ..one((n, 0))
                })
                .collect()
            }
        }
    }

    /// Where the query has the numbers, and the numbers.
    pub(super) fn numbers(&self, o: &One) -> [(Bits, u32); 2] {
        [(self.at.0, o.indices.0), (self.at.1, o.indices.1)]
    }
}

impl One {
    /// Bytes of its query's outbox, of which the command table says the least.
    pub(super) fn bytes(&self, least: u16) -> usize {
        (usize::from(least) + self.more).max(self.whole)
    }
}

/// Every segment of objects, by type.
pub static SEGMENTS: &[Segment] = &[
    of("PRM_QUERY_MKEY", op::QUERY_MKEY, &kinds::MKEY),
    of("PRM_QUERY_CQ", op::QUERY_CQ, &kinds::CQ),
    of("PRM_QUERY_RQ", op::QUERY_RQ, &kinds::RQ),
    of("PRM_QUERY_SQ", op::QUERY_SQ, &kinds::SQ),
    of("PRM_QUERY_RMP", op::QUERY_RMP, &kinds::RMP),
    of("PRM_QUERY_RQT", op::QUERY_RQT, &kinds::RQT),
    of("PRM_QUERY_TIR", op::QUERY_TIR, &kinds::TIR),
    of("PRM_QUERY_TIS", op::QUERY_TIS, &kinds::TIS),
    of("PRM_QUERY_QP", op::QUERY_QP, &kinds::QP),
    of("PRM_QUERY_SRQ", op::QUERY_SRQ, &kinds::SRQ),
    of("PRM_QUERY_XSRQ", op::QUERY_XRC_SRQ, &kinds::XRC_SRQ),
    of("PRM_QUERY_XRQ", op::QUERY_XRQ, &kinds::XRQ),
    of("PRM_QUERY_DCT", op::QUERY_DCT, &kinds::DCT),
    of("PRM_QUERY_QCNT", op::QUERY_Q_COUNTER, &kinds::Q_COUNTER)
        .at(Bits::of(QueryQCounterIn::COUNTER_SET_ID)),
    of("PRM_QUERY_FT", op::QUERY_FLOW_TABLE, &kinds::FLOW_TABLE),
    of("PRM_QUERY_FG", op::QUERY_FLOW_GROUP, &kinds::FLOW_GROUP),
    // Packets and octets of one counter are behind what the table counts.
    of(
        "PRM_QUERY_FCNT",
        op::QUERY_FLOW_COUNTER,
        &kinds::FLOW_COUNTER,
    )
    .at(Bits::of(QueryFlowCounterIn::FLOW_COUNTER_ID))
    .more(16),
    of(
        "PRM_QUERY_REFMT",
        op::QUERY_PACKET_REFORMAT_CONTEXT,
        &kinds::PACKET_REFORMAT,
    )
    .whole(),
    of(
        "PRM_QUERY_MODHD",
        op::QUERY_MODIFY_HEADER_CONTEXT,
        &kinds::MODIFY_HEADER,
    )
    .whole(),
    of(
        "PRM_QUERY_SCHED",
        op::QUERY_SCHEDULING_ELEMENT,
        &kinds::SCHEDULING_ELEMENT,
    ),
    of("PRM_QUERY_OBJ", op::QUERY_GENERAL_OBJECT, &kinds::GENERAL).whole(),
    Segment {
        id: EQ,
        indices: ("eq", None),
        at: (Bits::of(QueryEqIn::EQ_NUMBER), NOWHERE),
        held: Held::Eqs,
        ..of("PRM_QUERY_EQ", op::QUERY_EQ, &kinds::CQ)
    },
    Segment {
        id: FTE,
        indices: ("flow_table", Some("flow_index")),
        at: (
            Bits::of(QueryFteIn::TABLE_ID),
            Bits::of(QueryFteIn::FLOW_INDEX),
        ),
        held: Held::Flows,
        ..of(
            "PRM_QUERY_FTE",
            op::QUERY_FLOW_TABLE_ENTRY,
            &kinds::FLOW_TABLE,
        )
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{self, Action, OPS};
    use std::collections::BTreeSet;

    #[test]
    fn names_and_types_tell_segments_apart() {
        assert!(SEGMENTS.is_sorted_by(|a, b| a.id < b.id));
        let names: BTreeSet<_> = SEGMENTS.iter().map(|s| s.name).collect();
        assert_eq!(names.len(), SEGMENTS.len());
        assert!(names.iter().all(|n| n.len() <= NAME), "{names:?}");
    }

    /// What is held and has a query is there; what is not has none.
    #[test]
    fn every_kind_with_a_query_has_a_segment() {
        for s in SEGMENTS {
            let op = table::find(s.opcode).unwrap();
            assert!(!matches!(op.action, Action::Refuse(_)), "{}", s.name);
        }
        let has = |kind: &Kind| SEGMENTS.iter().any(|s| s.id == FIRST_KIND + kind.id as u16);
        let without: Vec<_> = kinds::ALL.iter().filter(|k| !has(k)).collect();
        let without: Vec<_> = without.iter().map(|k| k.name).collect();
        assert_eq!(without, ["uar", "pd", "transport_domain", "xrcd", "umem"]);
        for o in OPS {
            if let Action::Query(kind) = o.action {
                let own = |s: &Segment| s.opcode == o.opcode && has(kind);
                assert!(SEGMENTS.iter().any(own), "{:#x}", o.opcode);
            }
        }
    }
}
