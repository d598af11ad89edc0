// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects of the reference model: where their numbers, references and states lie, from `mlx5_ifc.h`.

use fwctl_proto::{
    layout::{Field, get_bits},
    layouts::*,
    opcode as op,
};

use super::to;

/// What a command does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Create,
    Destroy,
    Query,
    Modify,
}

/// States of a work queue (`MLX5_RQC_STATE_*`, `MLX5_SQC_STATE_*`, `MLX5_RMPC_STATE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Reset,
    Ready,
    Error,
}

impl State {
    pub(crate) fn code(self) -> u64 {
        match self {
            Self::Reset => 0,
            Self::Ready => 1,
            Self::Error => 3,
        }
    }

    pub(crate) fn of(code: u64) -> Option<Self> {
        [Self::Reset, Self::Ready, Self::Error]
            .into_iter()
            .find(|s| s.code() == code)
    }

    /// To reset and to error from anywhere; to ready unless it is in error.
    pub(crate) fn may_become(self, code: u64) -> bool {
        match Self::of(code) {
            Some(Self::Ready) => self != Self::Error,
            Some(_) => true,
            None => false,
        }
    }
}

/// A place in a create command with another object's number; 0 stands for none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ref {
    pub(crate) kind: usize,
    /// Bit offset of 24 bits.
    pub(crate) at: u32,
    /// Only if this place (offset, width) has this value.
    pub(crate) only_if: Option<(u32, u32, u64)>,
}

/// A kind of object.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) create: u16,
    pub(crate) destroy: u16,
    pub(crate) query: Option<u16>,
    pub(crate) modify: Option<u16>,
    /// Shortest create and modify command.
    pub(crate) in_len: usize,
    /// Bits with the number: in the create command's outbox, in the other commands.
    number: (u32, u32),
    pub(crate) log_max: Field<CmdHcaCap>,
    refs: &'static [Ref],
    /// Bit offset of the state in the modify command: the old one, the new one.
    states: Option<(u32, u32)>,
    /// Bit offset of the state in the query's outbox.
    pub(crate) state_out: Option<u32>,
    /// By how many bytes the context lies earlier in the query's outbox than in the create command.
    pub(crate) earlier: usize,
}

impl Kind {
    pub(crate) fn number_out(&self, outbox: &[u8]) -> u32 {
        get_bits(outbox, self.number.0, self.number.1) as u32
    }

    /// All these commands have it where the create command's outbox has it.
    pub(crate) fn number_in(&self, inbox: &[u8]) -> u32 {
        self.number_out(inbox)
    }

    /// What an object that is made by this command refers to.
    pub(crate) fn references<'a>(
        &'a self,
        inbox: &'a [u8],
    ) -> impl Iterator<Item = (usize, u32)> + 'a {
        let holds = |r: &&Ref| {
            r.only_if
                .is_none_or(|(at, width, value)| get_bits(inbox, at, width) == value)
        };
        let named = |r: &Ref| (r.kind, get_bits(inbox, r.at, 24) as u32);
        self.refs
            .iter()
            .filter(holds)
            .map(named)
            .filter(|n| n.1 != 0)
    }

    /// The states that a modify command names.
    pub(crate) fn transition(&self, inbox: &[u8]) -> (u64, u64) {
        let (from, to) = self.states.unwrap_or((0, 0));
        (get_bits(inbox, from, 4), get_bits(inbox, to, 4))
    }
}

/// The number of most objects: 24 bits at bit 0x48 of commands and of outboxes.
const NUMBER: (u32, u32) = (0x48, 24);
/// Contexts: at bit 0x100 of most create commands, at bit 0x80 of some.
const CTX: u32 = 0x100;
const EARLY: u32 = 0x80;
/// `wq` in the contexts of queues.
const WQ: u32 = CTX + 0x180;

const PD: usize = 0;
const TRANSPORT_DOMAIN: usize = 1;
const CQ: usize = 4;
const TIS: usize = 5;
const RMP: usize = 7;
const RQ: usize = 8;

const fn plain(name: &'static str, create: u16, destroy: u16, log_max: Field<CmdHcaCap>) -> Kind {
    Kind {
        name,
        create,
        destroy,
        query: None,
        modify: None,
        in_len: 16,
        number: NUMBER,
        log_max,
        refs: &[],
        states: None,
        state_out: None,
        earlier: 0,
    }
}

/// Kinds, each at its number.
pub(crate) static KINDS: &[Kind] = &[
    plain("pd", op::ALLOC_PD, op::DEALLOC_PD, CmdHcaCap::LOG_MAX_PD),
    plain(
        "transport_domain",
        op::ALLOC_TRANSPORT_DOMAIN,
        op::DEALLOC_TRANSPORT_DOMAIN,
        CmdHcaCap::LOG_MAX_TRANSPORT_DOMAIN,
    ),
    plain(
        "xrcd",
        op::ALLOC_XRCD,
        op::DEALLOC_XRCD,
        CmdHcaCap::LOG_MAX_XRCD,
    ),
    Kind {
        in_len: 80,
        query: Some(op::QUERY_MKEY),
        refs: &[to(PD, EARLY + 0x68)],
        ..plain(
            "mkey",
            op::CREATE_MKEY,
            op::DESTROY_MKEY,
            CmdHcaCap::LOG_MAX_MKEY,
        )
    },
    Kind {
        in_len: 272,
        query: Some(op::QUERY_CQ),
        ..plain("cq", op::CREATE_CQ, op::DESTROY_CQ, CmdHcaCap::LOG_MAX_CQ)
    },
    Kind {
        in_len: 192,
        query: Some(op::QUERY_TIS),
        refs: &[to(TRANSPORT_DOMAIN, CTX + 0x128), to(PD, CTX + 0x168)],
        earlier: 16,
        ..plain(
            "tis",
            op::CREATE_TIS,
            op::DESTROY_TIS,
            CmdHcaCap::LOG_MAX_TIS,
        )
    },
    Kind {
        in_len: 272,
        query: Some(op::QUERY_SQ),
        modify: Some(op::MODIFY_SQ),
        refs: &[to(CQ, CTX + 0x48), to(TIS, CTX + 0x168), to(PD, WQ + 0x48)],
        states: Some((0x40, CTX + 8)),
        state_out: Some(CTX + 8),
        ..plain("sq", op::CREATE_SQ, op::DESTROY_SQ, CmdHcaCap::LOG_MAX_SQ)
    },
    Kind {
        in_len: 272,
        query: Some(op::QUERY_RMP),
        modify: Some(op::MODIFY_RMP),
        refs: &[to(PD, WQ + 0x48)],
        states: Some((0x40, CTX + 8)),
        state_out: Some(CTX + 8),
        ..plain(
            "rmp",
            op::CREATE_RMP,
            op::DESTROY_RMP,
            CmdHcaCap::LOG_MAX_RMP,
        )
    },
    Kind {
        in_len: 272,
        query: Some(op::QUERY_RQ),
        modify: Some(op::MODIFY_RQ),
        refs: &[
            to(CQ, CTX + 0x48),
            Ref {
                kind: RMP,
                at: CTX + 0x88,
                // mem_rq_type: the queue lies in a memory pool.
                only_if: Some((CTX + 4, 4, 1)),
            },
            to(PD, WQ + 0x48),
        ],
        states: Some((0x40, CTX + 8)),
        state_out: Some(CTX + 8),
        ..plain("rq", op::CREATE_RQ, op::DESTROY_RQ, CmdHcaCap::LOG_MAX_RQ)
    },
    Kind {
        in_len: 272,
        query: Some(op::QUERY_TIR),
        refs: &[to(RQ, CTX + 0xe8), to(TRANSPORT_DOMAIN, CTX + 0x128)],
        ..plain(
            "tir",
            op::CREATE_TIR,
            op::DESTROY_TIR,
            CmdHcaCap::LOG_MAX_TIR,
        )
    },
];

/// What a command does, and with which kind.
pub(crate) fn role(opcode: u16) -> Option<(usize, Role)> {
    KINDS.iter().enumerate().find_map(|(i, k)| {
        let role = match opcode {
            o if o == k.create => Role::Create,
            o if o == k.destroy => Role::Destroy,
            o if Some(o) == k.query => Role::Query,
            o if Some(o) == k.modify => Role::Modify,
            _ => return None,
        };
        Some((i, role))
    })
}

impl Kind {
    /// Every reference that a create command can have: offset and kind.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Ref> {
        self.refs.iter()
    }

    /// Writes the number of an object into a command.
    pub(crate) fn put_number(&self, inbox: &mut [u8], n: u32) {
        fwctl_proto::layout::set_bits(inbox, self.number.0, self.number.1, u64::from(n));
    }

    /// Writes the states of a modify command.
    pub(crate) fn put_states(&self, inbox: &mut [u8], from: u64, new: u64) {
        if let Some((old_at, new_at)) = self.states {
            fwctl_proto::layout::set_bits(inbox, old_at, 4, from);
            fwctl_proto::layout::set_bits(inbox, new_at, 4, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_at_their_numbers() {
        let names = [
            (PD, "pd"),
            (TRANSPORT_DOMAIN, "transport_domain"),
            (CQ, "cq"),
            (TIS, "tis"),
            (RMP, "rmp"),
            (RQ, "rq"),
        ];
        for (n, name) in names {
            assert_eq!(KINDS[n].name, name);
        }
    }

    /// The offsets above are those of the layouts.
    #[test]
    fn places_are_those_of_the_header() {
        let at = |layout: &str, path: &str| {
            let l = fwctl_proto::layout::find(layout).unwrap();
            l.field(path)
                .unwrap_or_else(|| panic!("{layout}.{path}"))
                .offset
        };
        assert_eq!(
            at("create_mkey_in", "memory_key_mkey_entry.pd"),
            EARLY + 0x68
        );
        assert_eq!(at("create_tis_in", "ctx.transport_domain"), CTX + 0x128);
        assert_eq!(at("create_tis_in", "ctx.pd"), CTX + 0x168);
        assert_eq!(at("create_sq_in", "ctx.cqn"), CTX + 0x48);
        assert_eq!(at("create_sq_in", "ctx.tis_num_0"), CTX + 0x168);
        assert_eq!(at("create_sq_in", "ctx.wq.pd"), WQ + 0x48);
        assert_eq!(at("create_rmp_in", "ctx.wq.pd"), WQ + 0x48);
        assert_eq!(at("create_rq_in", "ctx.rmpn"), CTX + 0x88);
        assert_eq!(at("create_rq_in", "ctx.mem_rq_type"), CTX + 4);
        assert_eq!(at("create_tir_in", "ctx.inline_rqn"), CTX + 0xe8);
        assert_eq!(at("modify_sq_in", "sq_state"), 0x40);
        assert_eq!(at("modify_rmp_in", "rmp_state"), 0x40);
        assert_eq!(at("modify_rq_in", "ctx.state"), CTX + 8);
        assert_eq!(at("query_tis_out", "tis_context"), CTX - 16 * 8);
        assert_eq!(at("query_sq_out", "sq_context"), CTX);
        assert_eq!(at("query_rq_out", "rq_context"), CTX);
        assert_eq!(at("query_rmp_out", "rmp_context"), CTX);
        assert_eq!(at("query_tir_out", "tir_context"), CTX);
        assert_eq!(at("query_cq_out", "cq_context"), EARLY);
        assert_eq!(at("query_mkey_out", "memory_key_mkey_entry"), EARLY);
        for (command, number) in [
            ("dealloc_pd_in", "pd"),
            ("alloc_pd_out", "pd"),
            ("destroy_tir_in", "tirn"),
            ("modify_rq_in", "rqn"),
            ("create_mkey_out", "mkey_index"),
            ("query_cq_in", "cqn"),
        ] {
            assert_eq!(at(command, number), NUMBER.0, "{command}");
        }
    }
}
