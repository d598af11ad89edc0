// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands that were executed and whose answer is not out yet.

use crate::{mailbox::Taken, store::Token, time::Time};

/// Where a command came from, and so where its answer goes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Origin {
    /// A slot of the command queue.
    Slot {
        /// Its index.
        slot: u8,
        /// Guest address of its command entry.
        entry: u64,
        /// What is needed to answer it (its inbox is empty here).
        taken: Taken,
        /// Signatures are to be computed.
        checksum: bool,
        /// The event queue for the completion, if it existed when the command came.
        eq: Option<u8>,
    },
    /// A command channel.
    Channel {
        /// The channel's tag.
        tag: u64,
    },
}

/// An answer that waits.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    /// Where it goes.
    pub origin: Origin,
    /// When the command was taken.
    pub submitted: Time,
    /// Not before this time.
    pub due: Time,
    /// Not before this batch is stored.
    pub wait: Option<Token>,
    /// The inbox, for observers.
    pub inbox: Vec<u8>,
    /// The outbox.
    pub outbox: Vec<u8>,
}
