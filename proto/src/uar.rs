// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Doorbells: what lies at which byte of a UAR page (`mlx5/device.h`, `mlx5/cq.h`, `mlx5/qp.h` and
//! `mlx5/core/lib/eq.h`). All of it is big-endian.

use crate::layout::{FieldInfo, LayoutInfo};

/// CQ doorbell (`MLX5_CQ_DOORBELL`): arms a completion queue.
pub const CQ_ARM: u32 = 0x20;
/// EQ doorbell (`MLX5_EQ_DOORBEL_OFFSET`): takes entries and arms the queue.
pub const EQ_ARM: u32 = 0x40;
/// EQ doorbell that takes entries only.
pub const EQ_CONSUMER: u32 = 0x48;
/// Send doorbells (`MLX5_BF_OFFSET`) begin here, in two buffers that take turns.
pub const SEND: u32 = 0x800;

const fn field(name: &'static str, offset: u32, width: u32) -> FieldInfo {
    FieldInfo {
        name,
        offset,
        width,
        count: 1,
        nested: None,
        values: None,
        counted_by: None,
        variants: None,
    }
}

/// Every doorbell: its place and what it holds. That of sends is the last.
pub static DOORBELLS: &[(u32, &LayoutInfo)] = &[
    (
        CQ_ARM,
        &LayoutInfo {
            name: "cq_arm_doorbell",
            bits: 64,
            fields: &[
                field("cmd_sn", 2, 2),
                field("cmd", 7, 1),
                field("consumer_index", 8, 24),
                field("cqn", 40, 24),
            ],
        },
    ),
    (EQ_ARM, &eq("eq_arm_doorbell")),
    (EQ_CONSUMER, &eq("eq_doorbell")),
    (
        SEND,
        &LayoutInfo {
            name: "send_doorbell",
            bits: 64,
            fields: &[
                field("opmod", 0, 8),
                field("wqe_index", 8, 16),
                field("opcode", 24, 8),
                field("qp_or_sq", 32, 24),
                field("ds", 58, 6),
            ],
        },
    ),
];

const EQ_FIELDS: &[FieldInfo] = &[field("eqn", 0, 8), field("consumer_index", 8, 24)];

const fn eq(name: &'static str) -> LayoutInfo {
    LayoutInfo {
        name,
        bits: 32,
        fields: EQ_FIELDS,
    }
}

/// What a write at byte `offset` of a page holds; `None` if no doorbell is there.
#[must_use]
pub fn doorbell(offset: u32) -> Option<&'static LayoutInfo> {
    let at = |d: &&(u32, &'static LayoutInfo)| d.0 == offset.min(SEND);
    DOORBELLS.iter().find(at).map(|d| d.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_in_their_doorbells() {
        for (_, l) in DOORBELLS {
            let end = l.fields.last().map(|f| f.offset + f.width);
            assert_eq!(end, Some(l.bits), "{}", l.name);
        }
        assert_eq!(doorbell(0x40).map(|l| l.name), Some("eq_arm_doorbell"));
        assert_eq!(doorbell(0x900).map(|l| l.name), Some("send_doorbell"));
        assert!(doorbell(0x44).is_none());
    }
}
