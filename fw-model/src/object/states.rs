// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The state machines of work queues and of queue pairs.
//!
//! Which fields a transition sets is the InfiniBand specification's table of QP attributes, as
//! far as the context of `mlx5_ifc_qpc_bits` has them; the optional ones are those that
//! `enum mlx5_qp_optpar` names.

use fwctl_proto::{
    layout::{Layout as _, get_bits, set_bits},
    layouts::{Ads, Qpc},
    opcode as op,
};

use super::{Bits, Transition};
use crate::syndrome::Syndrome;

/// Work queue states (`MLX5_RQC_STATE_*`, `MLX5_SQC_STATE_*`): reset, ready, error.
pub(super) const WQ_RST: u64 = 0;
const WQ_RDY: u64 = 1;
const WQ_ERR: u64 = 3;

/// True if a work queue may go from one state to another: to reset and to error from anywhere, to
/// ready from reset, and ready again.
pub(super) fn work_queue(from: u64, to: u64) -> bool {
    match to {
        WQ_RST | WQ_ERR => true,
        WQ_RDY => from == WQ_RST || from == WQ_RDY,
        _ => false,
    }
}

/// QP states (`enum mlx5_qp_state`).
pub const RST: u8 = 0;
const INIT: u8 = 1;
const RTR: u8 = 2;
const RTS: u8 = 3;
const SQER: u8 = 4;
const SQD: u8 = 5;
const ERR: u8 = 6;
const ANY: u16 = 1 << RST | 1 << INIT | 1 << RTR | 1 << RTS | 1 << SQER | 1 << SQD | 1 << ERR;

/// Byte offset of the context in CREATE_QP and in all transitions.
pub(super) const QPC: usize = 24;
/// Byte offsets of the address paths in a context.
const PRIMARY: usize = QPC + Qpc::PRIMARY_ADDRESS_PATH.byte();
const ALTERNATE: usize = QPC + Qpc::SECONDARY_ADDRESS_PATH.byte();
const PATH_BYTES: usize = Ads::BYTES;
const PRIMARY_PATH: (usize, usize) = (PRIMARY, PRIMARY + PATH_BYTES);
const ALTERNATE_PATH: (usize, usize) = (ALTERNATE, ALTERNATE + PATH_BYTES);

const STATE: Bits = Bits::within(QPC, Qpc::STATE);
const OPT_PARAM_MASK: Bits = Bits::new(0x80, 32);

const PM_STATE: Bits = Bits::within(QPC, Qpc::PM_STATE);
const RRE: Bits = Bits::within(QPC, Qpc::RRE);
const RAE: Bits = Bits::within(QPC, Qpc::RAE);
const RWE: Bits = Bits::within(QPC, Qpc::RWE);
const ATOMIC_MODE: Bits = Bits::within(QPC, Qpc::ATOMIC_MODE);
const Q_KEY: Bits = Bits::within(QPC, Qpc::Q_KEY);
const PKEY_INDEX: Bits = Bits::within(PRIMARY, Ads::PKEY_INDEX);
const PORT: Bits = Bits::within(PRIMARY, Ads::VHCA_PORT_NUM);
const ACK_TIMEOUT: Bits = Bits::within(PRIMARY, Ads::ACK_TIMEOUT);
const COUNTER_SET: Bits = Bits::within(QPC, Qpc::COUNTER_SET_ID);
const MIN_RNR_NAK: Bits = Bits::within(QPC, Qpc::MIN_RNR_NAK);
const RETRY_COUNT: Bits = Bits::within(QPC, Qpc::RETRY_COUNT);
const RNR_RETRY: Bits = Bits::within(QPC, Qpc::RNR_RETRY);
const LOG_SRA_MAX: Bits = Bits::within(QPC, Qpc::LOG_SRA_MAX);
const LOG_RRA_MAX: Bits = Bits::within(QPC, Qpc::LOG_RRA_MAX);
const SRQN: Bits = Bits::within(QPC, Qpc::SRQN_RMPN_XRQN);
const CQN_RCV: Bits = Bits::within(QPC, Qpc::CQN_RCV);
const DC_KEY: Bits = Bits::within(QPC, Qpc::DC_ACCESS_KEY);
const LAG_PORT: Bits = Bits::within(QPC, Qpc::LAG_TX_PORT_AFFINITY);
const PACING: Bits = Bits::within(QPC, Qpc::PACKET_PACING_RATE_LIMIT_INDEX);
const SET_BY_INIT: &[Bits] = &[
    PM_STATE,
    PKEY_INDEX,
    PORT,
    RRE,
    RAE,
    RWE,
    ATOMIC_MODE,
    Q_KEY,
    COUNTER_SET,
    LAG_PORT,
];

/// What a bit of `opt_param_mask` lets through (`MLX5_QP_OPTPAR_*`).
const OPT_PARAMS: &[(u32, &[Bits])] = &[
    (1, &[RRE]),
    (2, &[RAE]),
    (3, &[RWE]),
    (4, &[PKEY_INDEX]),
    (5, &[Q_KEY]),
    (6, &[MIN_RNR_NAK]),
    (8, &[LOG_SRA_MAX]),
    (9, &[LOG_RRA_MAX]),
    (10, &[PM_STATE]),
    (12, &[RETRY_COUNT]),
    (13, &[RNR_RETRY]),
    (14, &[ACK_TIMEOUT]),
    (15, &[LAG_PORT]),
    (16, &[PORT]),
    (18, &[SRQN]),
    (19, &[CQN_RCV]),
    (21, &[DC_KEY]),
    (22, &[PACING]),
    (25, &[COUNTER_SET]),
];

/// Every transition.
pub(super) static QP: &[Transition] = &[
    Transition {
        opcode: op::RST2INIT_QP,
        from: 1 << RST,
        to: INIT,
        sets: SET_BY_INIT,
        bytes: &[],
        optional: true,
    },
    Transition {
        opcode: op::INIT2INIT_QP,
        from: 1 << INIT,
        to: INIT,
        sets: &[],
        bytes: &[],
        optional: true,
    },
    Transition {
        opcode: op::INIT2RTR_QP,
        from: 1 << INIT,
        to: RTR,
        sets: &[
            Bits::within(QPC, Qpc::MTU),
            Bits::within(QPC, Qpc::LOG_MSG_MAX),
            Bits::within(QPC, Qpc::REMOTE_QPN),
            Bits::within(QPC, Qpc::NEXT_RCV_PSN),
            LOG_RRA_MAX,
            MIN_RNR_NAK,
        ],
        bytes: &[PRIMARY_PATH],
        optional: true,
    },
    Transition {
        opcode: op::RTR2RTS_QP,
        from: 1 << RTR,
        to: RTS,
        sets: &[
            Bits::within(QPC, Qpc::NEXT_SEND_PSN),
            LOG_SRA_MAX,
            RETRY_COUNT,
            RNR_RETRY,
            ACK_TIMEOUT,
        ],
        bytes: &[],
        optional: true,
    },
    Transition {
        opcode: op::RTS2RTS_QP,
        from: 1 << RTS,
        to: RTS,
        sets: &[],
        bytes: &[],
        optional: true,
    },
    Transition {
        opcode: op::SQERR2RTS_QP,
        from: 1 << SQER,
        to: RTS,
        sets: &[],
        bytes: &[],
        optional: true,
    },
    Transition {
        opcode: op::SQD_RTS_QP,
        from: 1 << SQD,
        to: RTS,
        sets: &[],
        bytes: &[],
        optional: true,
    },
    Transition {
        opcode: op::OP_2ERR_QP,
        from: ANY,
        to: ERR,
        sets: &[],
        bytes: &[],
        optional: false,
    },
    Transition {
        opcode: op::OP_2RST_QP,
        from: ANY,
        to: RST,
        sets: &[],
        bytes: &[],
        optional: false,
    },
];

/// `opt_param_mask` bits that cover a whole address path.
const OPT_ALTERNATE: u32 = 0;
const OPT_PRIMARY: u32 = 7;

/// The transition of the command in `inbox` for a QP with content `kept`.
///
/// # Errors
/// [`Syndrome::ObjectState`], [`Syndrome::UnknownOpcode`].
pub(super) fn transition<'a>(
    list: &'a [Transition],
    inbox: &[u8],
    kept: &[u8],
) -> Result<&'a Transition, Syndrome> {
    let opcode = get_bits(inbox, 0, 16) as u16;
    let t = list
        .iter()
        .find(|t| t.opcode == opcode)
        .ok_or(Syndrome::UnknownOpcode)?;
    let now = STATE.kept().get(kept);
    if t.from >> now & 1 == 0 {
        return Err(Syndrome::ObjectState);
    }
    Ok(t)
}

/// The fields that the command's `opt_param_mask` adds to a transition.
pub(super) fn opt_params(t: &Transition, inbox: &[u8]) -> impl Iterator<Item = &'static Bits> {
    let mask = if t.optional {
        OPT_PARAM_MASK.get(inbox) as u32
    } else {
        0
    };
    OPT_PARAMS
        .iter()
        .filter(move |(bit, _)| mask >> bit & 1 == 1)
        .flat_map(|(_, fields)| fields.iter())
}

/// The address paths that the command's `opt_param_mask` adds to a transition.
pub(super) fn opt_paths(
    t: &Transition,
    inbox: &[u8],
) -> impl Iterator<Item = (usize, usize)> + use<> {
    let mask = if t.optional {
        OPT_PARAM_MASK.get(inbox) as u32
    } else {
        0
    };
    [(OPT_ALTERNATE, ALTERNATE_PATH), (OPT_PRIMARY, PRIMARY_PATH)]
        .into_iter()
        .filter(move |(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, path)| path)
}

/// Puts a QP into a state.
pub(super) fn enter(kept: &mut [u8], state: u8) {
    let k = STATE.kept();
    set_bits(kept, k.offset, k.width, u64::from(state));
}

#[cfg(test)]
mod tests {
    use super::*;
    use fwctl_proto::layout::find;

    #[test]
    fn places_are_those_of_the_layouts() {
        let at = |path: &str| {
            let p = find("init2rtr_qp_in").unwrap().field(path).unwrap();
            Bits::new(p.offset, p.width)
        };
        assert_eq!(at("qpc.state"), STATE);
        assert_eq!(at("opt_param_mask"), OPT_PARAM_MASK);
        assert_eq!(at("qpc.primary_address_path.vhca_port_num"), PORT);
        assert_eq!(at("qpc.primary_address_path.pkey_index"), PKEY_INDEX);
        let second = at("qpc.secondary_address_path.pkey_index");
        assert_eq!(second.offset as usize, ALTERNATE * 8 + 16);
    }

    #[test]
    fn the_optional_bits_are_the_headers() {
        // enum mlx5_qp_optpar: bit 20 (DC_HS) has no field in the context.
        let bits: Vec<u32> = OPT_PARAMS.iter().map(|(b, _)| *b).collect();
        assert_eq!(
            bits,
            [
                1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 16, 18, 19, 21, 22, 25
            ]
        );
    }
}
