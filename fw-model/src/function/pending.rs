// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands that were executed and whose answer is not out yet.

use crate::{
    FunctionId,
    effect::{Effect, Effects, Unanswered, Why},
    fault::Twist,
    mailbox::Taken,
    store::Token,
    time::Time,
};

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
        /// How a fault changes the answer.
        twist: Twist,
    },
    /// A command channel.
    Channel {
        /// The channel's tag.
        tag: u64,
    },
    /// The function's command mailbox behind the PCI gateway.
    Gateway,
}

/// What an answer waits for besides its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Wait {
    /// A batch that is to be stored.
    Stored(Token),
    /// The drivers' agreement on a reset of the firmware.
    Agreement,
    /// Firmware that runs: only a reset ends it.
    Firmware,
    /// Nothing: a fault has lost it, and only a reset ends it.
    Lost,
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
    /// Not before this.
    pub wait: Option<Wait>,
    /// Not before somebody has looked at it: a breakpoint's number.
    pub stopped: Option<u32>,
    /// The inbox, for observers.
    pub inbox: Vec<u8>,
    /// The outbox.
    pub outbox: Vec<u8>,
}

impl Pending {
    /// True if nothing but time keeps it.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.wait.is_none() && self.stopped.is_none()
    }

    /// Shows that it is not answered, if that is wanted.
    pub fn unanswered(&self, function: FunctionId, why: Why, fx: &mut Effects) {
        if !fx.is_observed() {
            return;
        }
        let (slot, tag) = match self.origin {
            Origin::Slot { slot, .. } => (Some(slot), None),
            Origin::Channel { tag } => (None, Some(tag)),
            Origin::Gateway => (None, None),
        };
        let inbox = fx.store(&self.inbox);
        fx.push(Effect::Unanswered(Unanswered {
            function,
            slot,
            tag,
            submitted: self.submitted,
            why,
            inbox,
        }));
    }
}
