// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Limits that protect the process against a guest; docs/limits.md names each with its test.

/// Longest inbox or outbox in bytes: what fwctl lets through (2 MiB would pass the kernel's core,
/// the mailbox carries 1 MiB and its header).
pub const MAX_MESSAGE: usize = (1 << 20) + 4096;

/// Log2 of the number of command slots of a function.
pub const LOG_SLOTS: u8 = 5;

/// Log2 of the bytes between two command entries.
pub const LOG_STRIDE: u8 = 6;

/// Commands in flight on a function's command channel.
pub const MAX_IN_FLIGHT: usize = 256;

/// Functions of one card.
pub const MAX_FUNCTIONS: usize = 16;

/// Pages (4 KiB) that a driver may give to one function.
pub const MAX_PAGES: usize = 1 << 18;

/// Objects of one kind in one function, whatever the profile's capability says.
pub const MAX_OBJECTS: usize = 1 << 20;

/// Bytes of object contexts in one function.
pub const MAX_OBJECT_BYTES: usize = 256 << 20;

/// Bytes of guest memory pages that one event queue may have (log_eq_size 18 of 64 B).
pub const MAX_LOG_EQ_SIZE: u8 = 18;

/// Parts of registers that are mere stores, written to one function.
pub const MAX_STORED_REGISTERS: usize = 4096;

/// Words of CR space that were written.
pub const MAX_CR_WORDS: usize = 1 << 16;

/// Bytes of a saved card.
pub const MAX_SAVED: usize = 1 << 30;

/// Opcodes whose answers can be held back at one time.
pub const MAX_DELAYS: usize = 64;

/// Longest time for which an answer is held back: an hour.
pub const MAX_DELAY_NANOS: u64 = 3_600_000_000_000;
