// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Limits that protect the process against a guest's rings; docs/limits.md names each with its
//! test.

/// Most descriptors that an indirect table may have.
pub const MAX_INDIRECT: u16 = 1024;

/// Most entries of a queue (QEMU's own limit).
pub const MAX_QUEUE_SIZE: u16 = 1024;

/// Chains taken from a queue in one round; between rounds a stop or reset gets its turn.
pub const MAX_ROUND: usize = 256;

/// Buffers of the event queue that are none and that one event gives back; the owner waits meanwhile.
pub const MAX_BAD_BUFFERS: usize = 4;

/// Events kept while the driver has no buffer posted; further ones are lost and counted.
pub const MAX_EVENT_BACKLOG: usize = 64;

/// Requests of one connection that the firmware has and did not answer yet. It takes
/// [`MAX_IN_FLIGHT`](fw_model::limits::MAX_IN_FLIGHT) and refuses one more as busy.
pub const MAX_HELD: usize = fw_model::limits::MAX_IN_FLIGHT + 1;

/// Longest request: its header and an inbox.
pub const MAX_REQUEST_BYTES: usize =
    fwctl_proto::virtio::REQUEST_HEADER_BYTES + fw_model::limits::MAX_MESSAGE;

/// Regions of guest memory that one connection may share, each with a file descriptor. What the crate
/// tells the front-end (`MAX_MEM_SLOTS`), and does not hold it to.
pub const MAX_REGIONS: usize = 509;
