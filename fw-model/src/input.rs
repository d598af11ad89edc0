// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything that can happen to a card.

use crate::{
    card::{Bits, FunctionId},
    fault::Fault,
    gateway::Place,
    health::Report,
    store::Token,
};

/// How a function's events reach its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EventPath {
    /// Event queues in guest memory that the driver creates with CREATE_EQ, and their interrupts.
    EventQueues,
    /// A channel of its own: each event is an [`Effect::Event`](crate::Effect::Event), as soon as
    /// the function is enabled. The driver may create event queues none the less.
    Channel,
}

impl EventPath {
    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EventQueues => "event-queues",
            Self::Channel => "channel",
        }
    }
}

/// What ends a function's state. docs/lifecycle.md says what survives which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ResetKind {
    /// Function level reset, asked for through Device Control in config space.
    Flr,
    /// Reset of the device by the virtual machine monitor (bus reset, guest reboot) or, on a
    /// command channel, the driver's device reset.
    Bus,
    /// The client of the function's socket went away.
    ClientGone,
    /// The firmware starts anew.
    Firmware,
}

impl ResetKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flr, Self::Bus, Self::ClientGone, Self::Firmware];

    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flr => "flr",
            Self::Bus => "bus",
            Self::ClientGone => "client-gone",
            Self::Firmware => "firmware",
        }
    }
}

/// The scope that a command channel's request carries (`enum fwctl_rpc_scope`, and the driver's
/// own commands).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Scope {
    /// `FWCTL_RPC_CONFIGURATION`.
    Configuration,
    /// `FWCTL_RPC_DEBUG_READ_ONLY`.
    DebugReadOnly,
    /// `FWCTL_RPC_DEBUG_WRITE`.
    DebugWrite,
    /// `FWCTL_RPC_DEBUG_WRITE_FULL`.
    DebugWriteFull,
}

impl Scope {
    /// All of them, least first.
    pub const ALL: [Self; 4] = [
        Self::Configuration,
        Self::DebugReadOnly,
        Self::DebugWrite,
        Self::DebugWriteFull,
    ];

    /// Its name: the header's `FWCTL_RPC_…` as an overlay's file writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::DebugReadOnly => "debug-read-only",
            Self::DebugWrite => "debug-write",
            Self::DebugWriteFull => "debug-write-full",
        }
    }
}

/// Who sent a command on a command channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Caller {
    /// The driver itself: any command, no user context.
    Driver,
    /// A user of the driver's fwctl device: its scope is checked at the door, and `uid` is
    /// forced into the inbox.
    User {
        /// The scope of the request.
        scope: Scope,
        /// The user context (CREATE_UCTX) that the request belongs to; never 0.
        uid: u16,
    },
}

/// One thing that happens to a card.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub enum Input<'a> {
    /// The driver writes `data` (1 to 8 bytes) at byte `offset` of the initialization segment,
    /// which includes the command doorbell at 0x18.
    SegmentWrite {
        /// The function whose BAR0 is written.
        function: FunctionId,
        /// Byte offset from the start of BAR0.
        offset: u32,
        /// The bytes as they lie in memory (registers are big-endian).
        #[serde(serialize_with = "bytes")]
        data: &'a [u8],
    },
    /// The driver writes `data` in a UAR page (event queue doorbells at 0x40 and 0x48).
    UarWrite {
        /// The function whose BAR0 is written.
        function: FunctionId,
        /// Index of the 4 KiB UAR page, counted from the start of BAR0.
        uar: u32,
        /// Byte offset in that page.
        offset: u32,
        /// The bytes as they lie in memory.
        #[serde(serialize_with = "bytes")]
        data: &'a [u8],
    },
    /// A command that came whole over a command channel.
    Command {
        /// The function it is for.
        function: FunctionId,
        /// Chosen by the channel and given back in [`Effect::Reply`](crate::Effect::Reply).
        tag: u64,
        /// Who sent it.
        caller: Caller,
        /// The inbox, with its 16-byte header.
        #[serde(serialize_with = "bytes")]
        inbox: &'a [u8],
        /// Room for the outbox in bytes, its 16-byte header included.
        outbox_len: u32,
    },
    /// The function is reset.
    Reset {
        /// The function.
        function: FunctionId,
        /// How.
        kind: ResetKind,
    },
    /// A batch is on stable storage; what waited for it goes on.
    Committed {
        /// The batch's token, as in [`Effect::Commit`](crate::Effect::Commit).
        token: Token,
        /// False if it could not be stored: what waited fails.
        stored: bool,
    },
    /// The firmware wants more pages, or fewer: a PAGE_REQUEST event to an up function.
    PageDemand {
        /// The function.
        function: FunctionId,
        /// How many more; negative for pages to give back.
        count: i32,
    },
    /// From now on answers to commands with this opcode come so much later, on all functions; 0
    /// for at once again. Other slots go on meanwhile.
    Delay {
        /// The opcode.
        opcode: u16,
        /// Nanoseconds.
        nanos: u64,
    },
    /// The fault with this number is forgotten, or all.
    ClearFaults(Option<u32>),
    /// A field of the answer that a breakpoint holds gets another value.
    Amend {
        /// The breakpoint's number.
        stopped: u32,
        /// First bit in the outbox.
        offset: u32,
        /// Bits, at most 64.
        width: u32,
        /// The value.
        value: u64,
    },
    /// What a breakpoint holds is answered: this one, or all.
    Continue(Option<u32>),
    /// The firmware raises an event, whatever its state says.
    Event {
        /// The function.
        function: FunctionId,
        /// Event type as in an EQE (`enum mlx5_event`).
        event_type: u8,
        /// Event sub-type as in an EQE.
        sub_type: u8,
        /// The event data of an EQE.
        data: [u8; 28],
    },
    /// A write behind the PCI gateway.
    Gateway {
        /// The function whose gateway it is.
        function: FunctionId,
        /// Where to.
        at: Place,
        /// The dword.
        value: u32,
    },
    /// The cable of a function's port is plugged, or pulled.
    Link {
        /// The function.
        function: FunctionId,
        /// Plugged.
        up: bool,
    },
    /// The chip has this temperature.
    Temperature {
        /// Units of 1/8 degree Celsius.
        eighths: u16,
    },
    /// The firmware finds something wrong with itself, or nothing any more.
    Health(Report),
    /// The firmware hangs: it executes no command and its health counter stands; or goes on.
    /// Doorbells that are rung meanwhile are lost.
    Hang(bool),
    /// The firmware starts, and is ready so much later (`initializing` in the segment).
    Start {
        /// Nanoseconds.
        nanos: u64,
    },
    /// Power off and on: every function loses its state, next-boot configuration becomes current.
    PowerCycle,
    /// The firmware resets itself, as when a driver writes 7 to `nic_interface`.
    FirmwareReset,
    /// A capability of a function has another value, until the firmware starts again.
    SetCap {
        /// The function.
        function: FunctionId,
        /// Type of the capability page.
        cap_type: u16,
        /// Where in the page, and the value.
        bits: Bits,
    },
    /// A register of a function has another value, as if the firmware had set it.
    SetRegister {
        /// The function.
        function: FunctionId,
        /// The register's id.
        register: u16,
        /// A register whose index fields choose the part.
        #[serde(serialize_with = "bytes")]
        given: &'a [u8],
        /// Where in the register, and the value.
        bits: Bits,
    },
    /// From now on something goes wrong; nothing more than
    /// [`MAX_FAULTS`](crate::fault::MAX_FAULTS) things.
    ///
    /// The last one: serde counts a variant that is skipped when it writes, and does not when it reads.
    #[serde(skip)]
    Fault(&'a Fault),
}

/// Writes bytes as one piece and not one after the other; they are the same in the end.
fn bytes<S: serde::Serializer>(all: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_bytes(all)
}

impl Input<'_> {
    /// The function that it is for; none if for the whole card.
    #[must_use]
    pub fn function(&self) -> Option<FunctionId> {
        match self {
            Self::SegmentWrite { function, .. }
            | Self::UarWrite { function, .. }
            | Self::Command { function, .. }
            | Self::PageDemand { function, .. }
            | Self::Event { function, .. }
            | Self::Link { function, .. }
            | Self::Gateway { function, .. }
            | Self::SetCap { function, .. }
            | Self::SetRegister { function, .. }
            | Self::Reset { function, .. } => Some(*function),
            Self::Committed { .. }
            | Self::Delay { .. }
            | Self::Fault(_)
            | Self::ClearFaults(_)
            | Self::Amend { .. }
            | Self::Continue(_)
            | Self::Health(_)
            | Self::Temperature { .. }
            | Self::Hang(_)
            | Self::Start { .. }
            | Self::FirmwareReset
            | Self::PowerCycle => None,
        }
    }
}
