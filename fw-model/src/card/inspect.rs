// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card holds, for whoever looks at it from outside. Looking changes nothing.

use std::collections::BTreeMap;

use super::Card;
use crate::{
    FunctionId,
    function::Function,
    health::Report,
    object::{KindId, kinds},
};

/// What a report says of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionReport {
    /// Its number.
    pub id: FunctionId,
    /// `disabled`, `enabled` or `up`.
    pub state: &'static str,
    /// Resets so far.
    pub generation: u64,
    /// Interface step sequence id in force.
    pub issi: u16,
    /// User contexts.
    pub uctx: usize,
    /// Event queues.
    pub eqs: usize,
    /// Guest pages held.
    pub pages: u32,
    /// Pages that came back with another content than the firmware had left in them.
    pub pages_damaged: u64,
    /// Objects by type; kinds without any are left out.
    pub objects: BTreeMap<&'static str, usize>,
    /// Commands executed and not yet answered.
    pub pending: usize,
}

/// An event queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EqReport {
    /// Its number.
    pub eqn: u8,
    /// User context that made it; 0 for the driver's own.
    pub uid: u16,
    /// Entries that it has room for.
    pub size: u32,
    /// MSI-X vector.
    pub vector: u16,
    /// Event types that it takes.
    pub types: Vec<u8>,
    /// Entries written, modulo 2^24.
    pub producer: u32,
    /// Entries that the driver said it has read, modulo 2^24.
    pub consumer: u32,
    /// The next entry raises an interrupt.
    pub armed: bool,
    /// Events that found it full.
    pub dropped: u64,
    /// It takes command completions.
    pub commands: bool,
}

/// A user context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UctxReport {
    /// Its uid.
    pub uid: u16,
    /// `uctx.cap`.
    pub cap: u32,
    /// Objects that it made.
    pub objects: usize,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectReport {
    /// Its kind.
    pub kind: &'static str,
    /// Its number; of a flow table entry its table's.
    pub id: u32,
    /// Of a flow table entry its index in the table.
    pub index: Option<u32>,
    /// User context that made it; 0 for the driver.
    pub uid: u16,
    /// Ids that it has, from its own on.
    pub span: u32,
    /// Objects that refer to it.
    pub users: u32,
    /// Bytes that it takes.
    pub bytes: usize,
}

/// Guest pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagesReport {
    /// Held by the firmware.
    pub held: u32,
    /// Wanted before SET_HCA_CAP.
    pub boot: u32,
    /// Wanted in addition before INIT_HCA.
    pub init: u32,
    /// Wanted in all while the function is up.
    pub target: u32,
    /// Of those for objects.
    pub grown: u32,
    /// That came back changed.
    pub damaged: u64,
}

/// A configuration item that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemReport {
    /// Its type word: class, index and parameter.
    pub item: u32,
    /// The value in force.
    pub current: Option<Vec<u8>>,
    /// The value after the next boot.
    pub next: Option<Vec<u8>>,
}

impl Card {
    /// What there is of a function; `None` for one that does not exist.
    #[must_use]
    pub fn report(&self, id: FunctionId) -> Option<FunctionReport> {
        let f = self.functions.get(usize::from(id.0))?;
        Some(FunctionReport {
            id,
            state: f.state.name(),
            generation: f.generation,
            issi: f.issi,
            uctx: f.uctx.len(),
            eqs: f.eqs.len(),
            pages: f.pages.held(),
            pages_damaged: f.pages.damaged,
            objects: f.objects.counts(),
            pending: f.pending.len(),
        })
    }

    /// How often a function has begun anew; `None` for one that does not exist.
    #[must_use]
    pub fn generation(&self, id: FunctionId) -> Option<u64> {
        self.functions.get(usize::from(id.0)).map(|f| f.generation)
    }

    /// What the firmware reports of its health.
    #[must_use]
    pub fn health(&self) -> Report {
        self.shared.health.report
    }

    /// A function's event queues by number.
    #[must_use]
    pub fn eqs(&self, id: FunctionId) -> Vec<EqReport> {
        let Some(f) = self.function(id) else {
            return Vec::new();
        };
        let row = |(eqn, q): (&u8, &crate::function::eq::Eq)| EqReport {
            eqn: *eqn,
            uid: q.uid,
            size: 1 << q.log_size,
            vector: q.vector,
            types: (0..=u8::MAX).filter(|t| q.takes(*t)).collect(),
            producer: q.producer,
            consumer: q.consumer,
            armed: q.armed,
            dropped: q.dropped,
            commands: f.cmd_eq == Some(*eqn),
        };
        f.eqs.iter().map(row).collect()
    }

    /// A function's user contexts by uid.
    #[must_use]
    pub fn uctx(&self, id: FunctionId) -> Vec<UctxReport> {
        let Some(f) = self.function(id) else {
            return Vec::new();
        };
        let mut made: BTreeMap<u16, usize> = BTreeMap::new();
        for uid in uids(f) {
            *made.entry(uid).or_default() += 1;
        }
        let row = |uid| UctxReport {
            uid,
            cap: f.uctx.cap(uid).unwrap_or(0),
            objects: made.get(&uid).copied().unwrap_or(0),
        };
        f.uctx.uids().map(row).collect()
    }

    /// A function's objects: those of a kind, or all.
    #[must_use]
    pub fn objects(&self, id: FunctionId, kind: Option<&str>) -> Vec<ObjectReport> {
        let Some(f) = self.function(id) else {
            return Vec::new();
        };
        let wanted = |name: &str| kind.is_none_or(|k| k == name);
        let mut all = Vec::new();
        for k in kinds::ALL.iter().filter(|k| wanted(k.name)) {
            all.extend(f.objects.all(k.id).map(|(n, o)| ObjectReport {
                kind: k.name,
                id: n,
                index: None,
                uid: o.uid,
                span: o.span,
                users: o.users,
                bytes: o.kept.len(),
            }));
        }
        if wanted(FLOW) {
            all.extend(f.objects.flows().map(|((table, index), o)| ObjectReport {
                kind: FLOW,
                id: table,
                index: Some(index),
                uid: o.uid,
                span: 1,
                users: 0,
                bytes: o.kept.len(),
            }));
        }
        all
    }

    /// The kinds of objects that there are.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        kinds::ALL.iter().map(|k| k.name).chain([FLOW])
    }

    /// A function's guest pages.
    #[must_use]
    pub fn pages(&self, id: FunctionId) -> Option<PagesReport> {
        let p = &self.function(id)?.pages;
        Some(PagesReport {
            held: p.held(),
            boot: p.boot,
            init: p.init,
            target: p.target(),
            grown: p.grown,
            damaged: p.damaged,
        })
    }

    /// The configuration items that somebody has set, by type word.
    #[must_use]
    pub fn items(&self) -> Vec<ItemReport> {
        let nv = &self.shared.nv;
        let own = |v: &[u8]| v.to_vec();
        let row = |item| ItemReport {
            item,
            current: nv.current(item).map(own),
            next: nv.next(item).map(own),
        };
        nv.types().into_iter().map(row).collect()
    }

    fn function(&self, id: FunctionId) -> Option<&Function> {
        self.functions.get(usize::from(id.0))
    }
}

/// The kind that flow table entries are shown as.
const FLOW: &str = "flow_table_entry";

/// Who made each object and event queue.
fn uids(f: &Function) -> impl Iterator<Item = u16> + '_ {
    let of = |k: KindId| f.objects.all(k).map(|(_, o)| o.uid);
    let objects = kinds::ALL.iter().flat_map(move |k| of(k.id));
    let flows = f.objects.flows().map(|(_, o)| o.uid);
    objects.chain(flows).chain(f.eqs.values().map(|q| q.uid))
}
