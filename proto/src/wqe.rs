// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Work queue entries and their completions, in bytes: `mlx5/qp.h`, `mlx5/cq.h`, `mlx5/device.h`.
//! All fields are big-endian.

/// Bytes of a basic block of a send queue (`MLX5_SEND_WQE_BB`).
pub const BASIC_BLOCK: usize = 64;
/// Bytes of a data segment, in which `ds` counts (`MLX5_SEND_WQE_DS`).
pub const DATA_SEGMENT: usize = 16;

/// The control segment that every send WQE begins with (`struct mlx5_wqe_ctrl_seg`).
pub mod control {
    /// Bytes of it.
    pub const BYTES: usize = 16;
    /// The opcode: one byte, the last of `opmod_idx_opcode`.
    pub const OPCODE: usize = 3;
    /// Queue number in the high 24 bits, `ds` in the low six: a dword.
    pub const QPN_DS: usize = 4;
    /// Bits of `ds` in it.
    pub const DS_MASK: u32 = 0x3f;
    /// `fm_ce_se`: one byte.
    pub const FM_CE_SE: usize = 11;
    /// `fm_ce_se`: a completion is wanted (`MLX5_WQE_CTRL_CQ_UPDATE`).
    pub const CQ_UPDATE: u8 = 2 << 2;
}

/// Opcodes of send WQEs (`MLX5_OPCODE_*`).
pub const OPCODES: &[(u8, &str)] = &[
    (0x00, "NOP"),
    (0x01, "SEND_INVAL"),
    (0x08, "RDMA_WRITE"),
    (0x09, "RDMA_WRITE_IMM"),
    (0x0a, "SEND"),
    (0x0b, "SEND_IMM"),
    (0x0e, "LSO"),
    (0x10, "RDMA_READ"),
    (0x11, "ATOMIC_CS"),
    (0x12, "ATOMIC_FA"),
    (0x14, "ATOMIC_MASKED_CS"),
    (0x15, "ATOMIC_MASKED_FA"),
    (0x18, "BIND_MW"),
    (0x1f, "CONFIG_CMD"),
    (0x20, "SET_PSV"),
    (0x21, "GET_PSV"),
    (0x22, "CHECK_PSV"),
    (0x23, "DUMP"),
    (0x25, "UMR"),
    (0x26, "RGET_PSV"),
    (0x27, "RCHECK_PSV"),
    (0x29, "ENHANCED_MPSW"),
    (0x2c, "FLOW_TBL_ACCESS"),
    (0x2d, "ACCESS_ASO"),
];

/// A completion (`struct mlx5_cqe64`, `struct mlx5_err_cqe`).
pub mod cqe {
    /// Bytes of it; one of 128 bytes has it in its second half.
    pub const BYTES: usize = 64;
    /// Time stamp: eight bytes.
    pub const TIMESTAMP: usize = 48;
    /// In an error: its syndrome, one byte.
    pub const SYNDROME: usize = 55;
    /// Opcode of the WQE in the high byte, queue number in the rest: a dword.
    pub const SOP_DROP_QPN: usize = 56;
    /// Counter of the WQE's first basic block: two bytes.
    pub const WQE_COUNTER: usize = 60;
    /// Kind of completion in the high four bits, owner in bit 0: one byte.
    pub const OP_OWN: usize = 63;
    /// Kind: a send WQE is done (`MLX5_CQE_REQ`).
    pub const REQ: u8 = 0;
    /// Kind: a send WQE has failed (`MLX5_CQE_REQ_ERR`).
    pub const REQ_ERR: u8 = 13;
    /// Syndrome: the WQE makes no sense (`MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR`).
    pub const LOCAL_QP_OP_ERR: u8 = 0x02;
    /// Syndrome: the WQE could not be read (`MLX5_CQE_SYNDROME_LOCAL_PROT_ERR`).
    pub const LOCAL_PROT_ERR: u8 = 0x04;
    /// Syndrome: the queue has failed before (`MLX5_CQE_SYNDROME_WR_FLUSH_ERR`).
    pub const WR_FLUSH_ERR: u8 = 0x05;
}

/// A queue's doorbell record in guest memory.
pub mod record {
    /// Completion queue: the consumer counter, a dword.
    pub const SET_CI: u64 = 0;
    /// Completion queue: what was armed, a dword.
    pub const ARM: u64 = 4;
    /// Work queue: the send counter, a dword (`MLX5_SND_DBR`).
    pub const SEND: u64 = 4;
}

/// Doorbells in a UAR page.
pub mod uar {
    /// Completion queue: two dwords, what is armed and the queue (`MLX5_CQ_DOORBELL`).
    pub const CQ: u32 = 0x20;
    /// Send queues: registers from here on, 256 bytes each (`MLX5_BF_OFFSET`).
    pub const SEND: u32 = 0x800;
    /// Bytes of one register.
    pub const SEND_STRIDE: u32 = 0x100;
}
