// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects: everything that a CREATE or ALLOC command makes and a DESTROY or DEALLOC ends.
//!
//! A [`Kind`] is a table row: where ids and contexts lie in the commands of a kind, what limits
//! it, what it refers to, what may change. The operations in [`ops`] serve all kinds; [`store`]
//! keeps the objects of a function.

pub mod general;
pub mod kinds;
pub mod mkey;
pub mod ops;
mod rules;
mod states;
mod store;

use fwctl_proto::{
    layout::{Field, get_bits},
    layouts::CmdHcaCap,
};

use crate::{cmd::Ctx, syndrome::Syndrome};

pub use kinds::UAR;
pub use store::{Flow, Object, Objects};

/// Bytes of a command that an object does not keep: opcode, uid, op_mod.
pub const HEADER: usize = 8;

/// A place in a command: bits from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// First bit.
    pub offset: u32,
    /// Number of bits.
    pub width: u32,
}

impl Bits {
    /// The place of a layout's field.
    #[must_use]
    pub const fn of<L>(f: Field<L>) -> Self {
        Self {
            offset: f.offset(),
            width: f.width(),
        }
    }

    /// The place of a field of a layout that is nested at byte `at`.
    #[must_use]
    pub const fn within<L>(at: usize, f: Field<L>) -> Self {
        Self {
            offset: at as u32 * 8 + f.offset(),
            width: f.width(),
        }
    }

    /// `width` bits from bit `offset` on.
    #[must_use]
    pub const fn new(offset: u32, width: u32) -> Self {
        Self { offset, width }
    }

    /// The value at this place of a command; 0 behind its end.
    #[must_use]
    pub fn get(self, buf: &[u8]) -> u64 {
        get_bits(buf, self.offset, self.width)
    }

    /// A place in the create command, as a place in what is kept of it.
    #[must_use]
    pub const fn kept(self) -> Self {
        Self {
            offset: self.offset - HEADER as u32 * 8,
            width: self.width,
        }
    }
}

/// How many of a kind there may be.
#[derive(Clone, Copy)]
pub enum Limit {
    /// 2 to the power of a field of the general capability page.
    Log(Field<CmdHcaCap>),
    /// A number of our own.
    Count(u32),
    /// As many as there are UAR pages in BAR0 behind the first [`FIRST_UAR`].
    Uars,
    /// What a function makes of the capabilities.
    Caps(fn(&Ctx<'_>) -> u32),
}

/// First UAR page that ALLOC_UAR gives out; those before it hold the initialization segment and
/// the MSI-X table.
pub const FIRST_UAR: u32 = 64;

/// One thing that an object refers to; 0 stands for nothing.
#[derive(Clone, Copy)]
pub struct Ref {
    /// Where the id lies in the create command.
    pub at: Bits,
    /// What it is.
    pub to: Target,
    /// It is a reference only if this place has this value.
    pub when: Option<(Bits, u64)>,
}

/// A list of references: dwords with an id of 24 bits.
#[derive(Clone, Copy)]
pub struct RefList {
    /// Where the number of entries lies.
    pub count: Bits,
    /// Byte offset of the first entry.
    pub at: usize,
    /// What they are.
    pub to: KindId,
    /// They are references only if this place has this value.
    pub when: (Bits, u64),
}

/// What a reference points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object of a kind.
    Object(KindId),
    /// An event queue.
    Eq,
    /// A shared receive queue of any sort: its number tells which.
    SharedReceive,
}

impl Target {
    /// The object that number `n` names; `None` for an event queue.
    #[must_use]
    pub fn object(self, n: u32) -> Option<(KindId, u32)> {
        match self {
            Self::Object(kind) => Some((kind, n)),
            Self::SharedReceive => Some((kinds::shared_receive(n), n)),
            Self::Eq => None,
        }
    }
}

/// What a modify command may change.
#[derive(Clone, Copy)]
pub enum Modify {
    /// Nothing: there is no such command.
    Never,
    /// A work queue: the state that it must be in, the one that it gets, and fields by mask.
    WorkQueue {
        /// The state that the driver believes it is in.
        from: Bits,
        /// The new state; it lies at the same place in the create command.
        to: Bits,
        /// Fields, chosen by bits of a mask.
        changes: &'static [Change],
    },
    /// Fields, chosen by bits of a mask; they lie at the same places in both commands.
    Fields(&'static [Change]),
    /// A transition per opcode.
    Transitions(&'static [Transition]),
    /// Everything from this byte on.
    Replace(usize),
}

/// A bit of a modify mask and what it lets through.
pub struct Change {
    /// The bit in the modify command.
    pub mask: Bits,
    /// Fields that it covers.
    pub fields: &'static [Bits],
    /// Byte ranges that it covers; one that ends at `usize::MAX` is as long as the command.
    pub bytes: &'static [(usize, usize)],
}

/// A change of a QP's state; see [`states`].
pub struct Transition {
    /// The command.
    pub opcode: u16,
    /// States that it may start from, a bit each.
    pub from: u16,
    /// The state that it leads to.
    pub to: u8,
    /// Fields of the context that it sets.
    pub sets: &'static [Bits],
    /// Byte ranges of the command that it sets.
    pub bytes: &'static [(usize, usize)],
    /// True if bits of `opt_param_mask` choose further fields.
    pub optional: bool,
}

/// A kind of object. See the table in [`kinds`].
pub struct Kind {
    /// Its number; index in [`Objects`].
    pub id: KindId,
    /// Its name in reports.
    pub name: &'static str,
    /// Where the create command's outbox carries the id.
    pub id_out: Bits,
    /// Where destroy, modify and query carry it.
    pub id_in: Bits,
    /// Byte offset of its context in the create command and in the query's outbox, if it has one.
    pub context: Option<(usize, usize)>,
    /// How many there may be.
    pub limit: Limit,
    /// First and last id that it may have.
    pub ids: (u32, u32),
    /// What it refers to.
    pub refs: &'static [Ref],
    /// A list of further references.
    pub list: Option<RefList>,
    /// What may change.
    pub modify: Modify,
    /// Checks fields of what is to be kept, at create and after modify.
    pub check: fn(&Ctx<'_>, kept: &[u8]) -> Result<(), Syndrome>,
    /// Number of ids that a create command takes, its own first: 1 except for bulk allocation.
    pub span: fn(inbox: &[u8]) -> u32,
    /// Blanks what a query must not show, in the context as it is returned.
    pub hide: fn(object: &Object, context: &mut [u8]),
    /// True if `op_mod` is the object's type and every command must name the right one.
    pub typed: bool,
}

impl Kind {
    /// A kind with neither references, context, modify command nor rules.
    #[must_use]
    pub const fn plain(
        id: KindId,
        name: &'static str,
        id_out: Bits,
        id_in: Bits,
        limit: Limit,
    ) -> Self {
        Self {
            id,
            name,
            id_out,
            id_in,
            context: None,
            limit,
            ids: (
                1,
                ((1u64 << (if id_out.width > 24 { 24 } else { id_out.width })) - 1) as u32,
            ),
            refs: &[],
            list: None,
            modify: Modify::Never,
            check: |_, _| Ok(()),
            span: |_| 1,
            hide: |_, _| {},
            typed: false,
        }
    }

    /// Every object that what is kept of a command refers to.
    pub fn references<'a>(&'a self, kept: &'a [u8]) -> impl Iterator<Item = (Target, u32)> + 'a {
        let applies = |when: (Bits, u64)| when.0.kept().get(kept) == when.1;
        let single = self
            .refs
            .iter()
            .filter(move |r| r.when.is_none_or(applies))
            .map(|r| (r.to, r.at.kept().get(kept) as u32));
        let listed = self
            .list
            .iter()
            .filter(move |l| applies(l.when))
            .flat_map(|l| {
                let entries = kept.get(l.at - HEADER..).unwrap_or_default();
                let count = l.count.kept().get(kept) as usize;
                entries
                    .chunks_exact(4)
                    .take(count)
                    .map(|e| (Target::Object(l.to), get_bits(e, 8, 24) as u32))
            });
        single.chain(listed).filter(|(_, n)| *n != 0)
    }
}

macro_rules! kind_ids {
    ($($(#[$m:meta])* $name:ident,)*) => {
        /// A kind's number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[repr(u8)]
        pub enum KindId { $($(#[$m])* $name,)* }

        /// Number of kinds.
        pub const KINDS: usize = [$(KindId::$name),*].len();
    };
}

kind_ids! {
    /// UAR page.
    Uar,
    /// Protection domain.
    Pd,
    /// Transport domain.
    TransportDomain,
    /// XRC domain.
    Xrcd,
    /// Memory key.
    Mkey,
    /// User memory.
    Umem,
    /// Completion queue.
    Cq,
    /// Receive queue.
    Rq,
    /// Send queue.
    Sq,
    /// Receive memory pool.
    Rmp,
    /// Receive queue table.
    Rqt,
    /// Transport interface receive.
    Tir,
    /// Transport interface send.
    Tis,
    /// Queue pair.
    Qp,
    /// Shared receive queue.
    Srq,
    /// XRC shared receive queue.
    XrcSrq,
    /// Shared receive queue with tag matching.
    Xrq,
    /// Dynamically connected target.
    Dct,
    /// Queue counter set.
    QCounter,
    /// Flow table.
    FlowTable,
    /// Flow group.
    FlowGroup,
    /// Flow counter.
    FlowCounter,
    /// Packet reformat context.
    PacketReformat,
    /// Modify header context.
    ModifyHeader,
    /// Scheduling element.
    SchedulingElement,
    /// General object of any type.
    General,
}
