// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Objects: everything that a CREATE or ALLOC command makes and a DESTROY or DEALLOC ends.
//!
//! A [`Kind`] is a table row: where ids and contexts lie in the commands of a kind, what limits
//! it, what it refers to, what may change. The four operations below serve all kinds.

pub mod kinds;

use std::collections::BTreeMap;

use fwctl_proto::{
    layout::{Field, get_bits, set_bits},
    layouts::CmdHcaCap,
};

use crate::{
    cmd::{Ctx, Done},
    limits::{MAX_OBJECT_BYTES, MAX_OBJECTS},
    syndrome::Syndrome,
};

pub use kinds::UAR;

/// Bytes of a command's header, which is not part of what an object keeps.
const HEADER: usize = 16;

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

    fn get(self, buf: &[u8]) -> u64 {
        get_bits(buf, self.offset, self.width)
    }
}

/// How many of a kind there may be.
#[derive(Clone, Copy)]
pub enum Limit {
    /// 2 to the power of a capability.
    Log(Field<CmdHcaCap>),
    /// A number of our own.
    Count(u32),
    /// As many as there are UAR pages in BAR0 behind the first [`FIRST_UAR`].
    Uars,
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
}

/// What a reference points to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An object of a kind, by the kind's number.
    Object(KindId),
    /// An event queue.
    Eq,
}

/// What a modify command may change.
#[derive(Clone, Copy)]
pub enum Modify {
    /// Nothing: there is no such command.
    Never,
    /// A work queue's state: `from` in the modify command must be the state that it is in.
    State {
        /// The state that the driver believes it is in.
        from: Bits,
        /// The new state in the modify command.
        to: Bits,
        /// The state in the create command, and so in what is kept.
        kept: Bits,
    },
    /// Fields, chosen by bits of a mask; they lie at the same places in both commands.
    Fields(&'static [Change]),
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
    /// What it refers to.
    pub refs: &'static [Ref],
    /// What may change.
    pub modify: Modify,
}

/// A kind's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum KindId {
    /// UAR page.
    Uar,
    /// Protection domain.
    Pd,
    /// Transport domain.
    TransportDomain,
    /// Memory key.
    Mkey,
    /// Completion queue.
    Cq,
    /// Receive queue.
    Rq,
    /// Send queue.
    Sq,
    /// Receive queue table.
    Rqt,
    /// Transport interface receive.
    Tir,
    /// Transport interface send.
    Tis,
    /// Queue counter set.
    QCounter,
    /// Flow table.
    FlowTable,
    /// Flow group.
    FlowGroup,
}

const KINDS: usize = KindId::FlowGroup as usize + 1;

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    /// User context that made it, or 0.
    pub uid: u16,
    /// How many objects refer to it.
    pub users: u32,
    /// The create command without its header, with what modify changed.
    pub kept: Box<[u8]>,
}

/// A flow table entry.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The SET_FLOW_TABLE_ENTRY command without its header.
    pub kept: Box<[u8]>,
    /// What it holds: its group and its destinations.
    pub holds: Vec<(KindId, u32)>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    last: u32,
    map: BTreeMap<u32, Object>,
}

/// The objects of one function.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    tables: [Table; KINDS],
    /// Flow table entries by table and index.
    pub flows: BTreeMap<(u32, u32), Flow>,
    /// Root flow table by table type.
    pub roots: BTreeMap<u8, u32>,
    eq_users: BTreeMap<u8, u32>,
    bytes: usize,
}

impl Objects {
    /// Number of objects per kind, kinds without any left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<_, _> = kinds::ALL
            .iter()
            .map(|k| (k.name, self.table(k.id).map.len()))
            .filter(|(_, n)| *n > 0)
            .collect();
        if !self.flows.is_empty() {
            counts.insert("flow_table_entry", self.flows.len());
        }
        counts
    }

    fn table(&self, id: KindId) -> &Table {
        &self.tables[id as usize]
    }

    /// An object.
    #[must_use]
    pub fn get(&self, id: KindId, n: u32) -> Option<&Object> {
        self.table(id).map.get(&n)
    }

    /// True if a kind has an object with this id.
    #[must_use]
    pub fn exists(&self, kind: &Kind, n: u32) -> bool {
        self.get(kind.id, n).is_some()
    }

    /// True if a completion queue still uses an event queue.
    #[must_use]
    pub fn refers_to_eq(&self, eqn: u8) -> bool {
        self.eq_users.get(&eqn).is_some_and(|n| *n > 0)
    }

    /// Counts one more user of an object.
    pub fn hold(&mut self, id: KindId, n: u32) {
        if let Some(o) = self.tables[id as usize].map.get_mut(&n) {
            o.users += 1;
        }
    }

    /// Counts one user less.
    pub fn release(&mut self, id: KindId, n: u32) {
        if let Some(o) = self.tables[id as usize].map.get_mut(&n) {
            o.users = o.users.saturating_sub(1);
        }
    }

    fn hold_ref(&mut self, to: Target, n: u32) {
        match to {
            Target::Object(id) => self.hold(id, n),
            Target::Eq => *self.eq_users.entry(n as u8).or_default() += 1,
        }
    }

    fn release_ref(&mut self, to: Target, n: u32) {
        match to {
            Target::Object(id) => self.release(id, n),
            Target::Eq => {
                if let Some(u) = self.eq_users.get_mut(&(n as u8)) {
                    *u = u.saturating_sub(1);
                }
            }
        }
    }

    /// Removes all objects of a user context, whatever still refers to them.
    pub fn drop_uid(&mut self, uid: u16) {
        for kind in kinds::ALL {
            let ids: Vec<u32> = self
                .table(kind.id)
                .map
                .iter()
                .filter(|(_, o)| o.uid == uid)
                .map(|(n, _)| *n)
                .collect();
            for n in ids {
                self.remove(kind, n);
            }
        }
    }

    fn remove(&mut self, kind: &Kind, n: u32) {
        let Some(o) = self.tables[kind.id as usize].map.remove(&n) else {
            return;
        };
        self.bytes -= o.kept.len();
        for (to, id) in references(kind, &o.kept) {
            self.release_ref(to, id);
        }
    }

    /// The next free id: ids go up and are not reused until they have gone round.
    fn next_id(&mut self, kind: &Kind, first: u32, last: u32) -> Option<u32> {
        let t = &mut self.tables[kind.id as usize];
        let mut n = t.last.max(first.saturating_sub(1));
        // At most one lap: `map` holds fewer than all ids, or there is none.
        for _ in 0..=t.map.len() {
            n = if n >= last { first } else { n + 1 };
            if !t.map.contains_key(&n) {
                t.last = n;
                return Some(n);
            }
        }
        None
    }
}

/// What the kept command of an object refers to.
fn references<'a>(kind: &'a Kind, kept: &'a [u8]) -> impl Iterator<Item = (Target, u32)> + 'a {
    kind.refs
        .iter()
        .map(|r| (r.to, kept_bits(r.at).get(kept) as u32))
        .filter(|(_, n)| *n != 0)
}

/// A place in the create command, as a place in what is kept of it.
const fn kept_bits(b: Bits) -> Bits {
    Bits {
        offset: b.offset - HEADER as u32 * 8,
        width: b.width,
    }
}

/// The largest number of a kind, and the ids that they may have.
fn bounds(kind: &Kind, ctx: &Ctx<'_>) -> (usize, u32, u32) {
    let top = (1u64 << kind.id_out.width.min(24)) as u32 - 1;
    let (count, first) = match kind.limit {
        Limit::Log(field) => (1usize << ctx.general_cap(field).min(24), 1),
        Limit::Count(n) => (n as usize, 1),
        Limit::Uars => (
            (ctx.profile.pci.bar0_pages().saturating_sub(FIRST_UAR)) as usize,
            FIRST_UAR,
        ),
    };
    let last = match kind.limit {
        Limit::Uars => ctx.profile.pci.bar0_pages().saturating_sub(1),
        _ => top,
    };
    (count.min(MAX_OBJECTS), first, last)
}

/// Makes an object.
///
/// # Errors
/// Refused with nothing changed: [`Syndrome::ObjectLimit`], [`Syndrome::ObjectMemory`],
/// [`Syndrome::ObjectReference`], [`Syndrome::NotOwner`].
pub fn create(kind: &'static Kind, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let (limit, first, last) = bounds(kind, ctx);
    if ctx.f.objects.table(kind.id).map.len() >= limit {
        return Err(Syndrome::ObjectLimit.into());
    }
    let kept = ctx.inbox.get(HEADER..).unwrap_or_default();
    let kept = if kind.context.is_some() || !kind.refs.is_empty() {
        kept
    } else {
        &[]
    };
    if ctx.f.objects.bytes + kept.len() > MAX_OBJECT_BYTES {
        return Err(Syndrome::ObjectMemory.into());
    }
    let kept: Box<[u8]> = kept.into();
    check_references(kind, ctx, &kept)?;
    let id = ctx
        .f
        .objects
        .next_id(kind, first, last)
        .ok_or(Syndrome::ObjectLimit)?;
    for (to, n) in references(kind, &kept) {
        ctx.f.objects.hold_ref(to, n);
    }
    ctx.f.objects.bytes += kept.len();
    ctx.f.objects.tables[kind.id as usize].map.insert(
        id,
        Object {
            uid: ctx.uid,
            users: 0,
            kept,
        },
    );
    set_bits(out, kind.id_out.offset, kind.id_out.width, u64::from(id));
    Ok(())
}

fn check_references(kind: &Kind, ctx: &Ctx<'_>, kept: &[u8]) -> Done {
    for (to, n) in references(kind, kept) {
        let uid = match to {
            Target::Object(id) => ctx.f.objects.get(id, n).map(|o| o.uid),
            Target::Eq => u8::try_from(n)
                .ok()
                .and_then(|n| ctx.f.eqs.get(&n))
                .map(|q| q.uid),
        };
        ctx.may_use(uid.ok_or(Syndrome::ObjectReference)?)?;
    }
    Ok(())
}

/// The id in a destroy, modify or query command, if there is such an object.
fn named(kind: &Kind, ctx: &Ctx<'_>) -> Result<(u32, u16, u32), Syndrome> {
    let n = kind.id_in.get(ctx.inbox) as u32;
    let o = ctx
        .f
        .objects
        .get(kind.id, n)
        .ok_or(Syndrome::ObjectUnknown)?;
    Ok((n, o.uid, o.users))
}

/// Ends an object.
///
/// # Errors
/// [`Syndrome::ObjectUnknown`], [`Syndrome::NotOwner`], [`Syndrome::ObjectBusy`].
pub fn destroy(kind: &'static Kind, ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    let (n, uid, users) = named(kind, ctx)?;
    ctx.may_change(uid)?;
    if users > 0 {
        return Err(Syndrome::ObjectBusy.into());
    }
    ctx.f.objects.remove(kind, n);
    if kind.id == KindId::FlowTable {
        ctx.f.objects.roots.retain(|_, root| *root != n);
    }
    Ok(())
}

/// Changes an object.
///
/// # Errors
/// [`Syndrome::ObjectUnknown`], [`Syndrome::NotOwner`], [`Syndrome::ObjectState`],
/// [`Syndrome::ObjectReference`].
pub fn modify(kind: &'static Kind, ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    if ctx.op_mod != 0 {
        return Err(Syndrome::UnsupportedOpMod.into());
    }
    let (n, uid, _) = named(kind, ctx)?;
    ctx.may_change(uid)?;
    let old = ctx
        .f
        .objects
        .get(kind.id, n)
        .map(|o| o.kept.clone())
        .ok_or(Syndrome::ObjectUnknown)?;
    let mut new = old.to_vec();
    match kind.modify {
        Modify::Never => return Err(Syndrome::UnknownOpcode.into()),
        Modify::State { from, to, kept } => {
            let now = kept_bits(kept).get(&old);
            let asked = to.get(ctx.inbox);
            if from.get(ctx.inbox) != now || !transition(now, asked) {
                return Err(Syndrome::ObjectState.into());
            }
            let k = kept_bits(kept);
            set_bits(&mut new, k.offset, k.width, asked);
        }
        Modify::Fields(changes) => {
            for c in changes.iter().filter(|c| c.mask.get(ctx.inbox) != 0) {
                for &field in c.fields {
                    let k = kept_bits(field);
                    set_bits(&mut new, k.offset, k.width, field.get(ctx.inbox));
                }
                for &(from, to) in c.bytes {
                    replace(&mut new, ctx.inbox, from, to);
                }
            }
        }
    }
    check_references(kind, ctx, &new)?;
    if ctx.f.objects.bytes - old.len() + new.len() > MAX_OBJECT_BYTES {
        return Err(Syndrome::ObjectMemory.into());
    }
    for (to, id) in references(kind, &new) {
        ctx.f.objects.hold_ref(to, id);
    }
    for (to, id) in references(kind, &old) {
        ctx.f.objects.release_ref(to, id);
    }
    ctx.f.objects.bytes = ctx.f.objects.bytes - old.len() + new.len();
    if let Some(o) = ctx.f.objects.tables[kind.id as usize].map.get_mut(&n) {
        o.kept = new.into();
    }
    Ok(())
}

/// Copies bytes `from..to` of a command into what is kept; an open end (`usize::MAX`) also makes
/// the kept part as long as the command.
fn replace(kept: &mut Vec<u8>, inbox: &[u8], from: usize, to: usize) {
    let end = to.min(inbox.len());
    let Some(given) = inbox.get(from..end) else {
        return;
    };
    let at = from - HEADER;
    if to == usize::MAX || kept.len() < at + given.len() {
        kept.resize(at + given.len(), 0);
    }
    if let Some(place) = kept.get_mut(at..at + given.len()) {
        place.copy_from_slice(given);
    }
}

/// Work queue states: reset, ready, error.
const RST: u64 = 0;
const RDY: u64 = 1;
const ERR: u64 = 3;

/// True if a work queue may go from one state to another: to reset and to error from anywhere, to
/// ready from reset, and ready again.
fn transition(from: u64, to: u64) -> bool {
    match to {
        RST | ERR => true,
        RDY => from == RST || from == RDY,
        _ => false,
    }
}

/// Reads an object back: its context as it was created and modified.
///
/// # Errors
/// [`Syndrome::ObjectUnknown`], [`Syndrome::NotOwner`].
pub fn query(kind: &'static Kind, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let (n, uid, _) = named(kind, ctx)?;
    ctx.may_see(uid)?;
    let (Some((from, at)), Some(o)) = (kind.context, ctx.f.objects.get(kind.id, n)) else {
        return Ok(());
    };
    let context = o.kept.get(from - HEADER..).unwrap_or_default();
    for (to, b) in out.iter_mut().skip(at).zip(context) {
        *to = *b;
    }
    Ok(())
}
