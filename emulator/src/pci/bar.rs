// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How BAR0 is laid out.
//!
//! | from | what |
//! |---|---|
//! | 0 | initialization segment (0x2010 bytes) |
//! | 0x4000 | MSI-X table |
//! | 0x10000 | MSI-X pending bits |
//! | 0x40000 | UAR pages, 4 KiB each; page n lies at n × 4096 |

use fw_model::{iseg::SEGMENT_BYTES, object::FIRST_UAR};

/// Byte offset of the MSI-X table.
pub const MSIX_TABLE: u32 = 0x4000;
/// Byte offset of the MSI-X pending bits.
pub const MSIX_PBA: u32 = 0x1_0000;
/// Bytes of an MSI-X table entry.
const MSIX_ENTRY: u32 = 16;
/// Most bytes of one access.
pub const MAX_ACCESS: usize = 8;
/// Bytes of a UAR page.
const UAR_BYTES: u64 = 4096;

/// What lies at a place in BAR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Byte offset in the initialization segment.
    Segment(u32),
    /// Byte offset in the MSI-X table.
    MsixTable(usize),
    /// Byte offset in a UAR page.
    Uar {
        /// The page, counted from the start of BAR0.
        page: u32,
        /// The offset in it.
        offset: u32,
    },
    /// Reads as zero, writes are ignored.
    Nothing,
}

/// What lies at byte `offset` of a BAR0 with `vectors` MSI-X vectors.
#[must_use]
pub fn place(offset: u64, vectors: u16) -> Place {
    let Ok(at) = u32::try_from(offset) else {
        return Place::Nothing;
    };
    let table = MSIX_TABLE..MSIX_TABLE + u32::from(vectors) * MSIX_ENTRY;
    if at < SEGMENT_BYTES {
        Place::Segment(at)
    } else if table.contains(&at) {
        Place::MsixTable((at - MSIX_TABLE) as usize)
    } else if offset >= u64::from(FIRST_UAR) * UAR_BYTES {
        Place::Uar {
            page: at / UAR_BYTES as u32,
            offset: at % UAR_BYTES as u32,
        }
    } else {
        Place::Nothing
    }
}
