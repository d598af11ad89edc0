// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The objects of one function: ids, who refers to whom, how much memory they take.

use std::collections::{BTreeMap, BTreeSet};

use fwctl_proto::layout::set_bits;
use serde::{Deserialize, Serialize};

use super::{Bits, KINDS, Kind, KindId, Target, kinds};
use crate::copy::clone_by_fields;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// User context that made it, or 0.
    pub uid: u16,
    /// Its type if its kind is typed, else 0.
    pub subtype: u16,
    /// Number of ids that it has, from its own on.
    pub span: u32,
    /// How many objects refer to it; counted anew when a card is restored.
    #[serde(skip)]
    pub users: u32,
    /// The create command without its header, with what modify changed.
    pub kept: Box<[u8]>,
}

/// A flow table entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// User context that made it, or 0.
    pub uid: u16,
    /// The SET_FLOW_TABLE_ENTRY command without its header.
    pub kept: Box<[u8]>,
    /// What it holds: its group, its destinations, its actions.
    pub holds: Vec<(KindId, u32)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) last: u32,
    pub(super) map: BTreeMap<u32, Object>,
    /// Ids that were looked for and are not free, side by side: as long as that is so, nobody looks again.
    #[serde(skip)]
    full: Option<Full>,
}

/// There are not so many free ids side by side in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full {
    first: u32,
    last: u32,
    span: u32,
}

impl Clone for Table {
    fn clone(&self) -> Self {
        Self {
            last: self.last,
            map: self.map.clone(),
            full: self.full,
        }
    }

    fn clone_from(&mut self, from: &Self) {
        self.last = from.last;
        self.full = from.full;
        // Most tables are as they were, and to see that takes less than to free one and make it again.
        if self.map != from.map {
            self.map.clone_from(&from.map);
        }
    }
}

impl Table {
    fn next_id(&mut self, first: u32, last: u32, span: u32) -> Option<u32> {
        let known = self.full.filter(|f| (f.first, f.last) == (first, last));
        if known.is_some_and(|f| f.span <= span) {
            return None;
        }
        let found = self.gap(first, last, span);
        if found.is_none() {
            self.full = Some(Full { first, last, span });
        }
        found
    }

    /// Looks for a gap from behind the last object on, round to where it began. Each step passes an object, or the end
    /// of the range once.
    fn gap(&self, first: u32, last: u32, span: u32) -> Option<u32> {
        let begin = match self.last.checked_add(1) {
            Some(n) if self.last >= first => n,
            _ => first,
        };
        let mut n = begin;
        let mut round = false;
        loop {
            let end = n.checked_add(span - 1).filter(|end| *end <= last);
            let passed = match end {
                Some(end) => match self.map.range(..=end).next_back() {
                    Some((at, o)) if u64::from(*at) + u64::from(o.span) > u64::from(n) => {
                        at.checked_add(o.span)
                    }
                    _ => return Some(n),
                },
                None => None,
            };
            n = match passed {
                Some(n) => n,
                None if round => return None,
                None => {
                    round = true;
                    first
                }
            };
            if round && n > begin {
                return None;
            }
        }
    }

    /// Takes an object out. Ids that are free then may be enough for what there was no room for.
    fn take(&mut self, n: u32) -> Option<Object> {
        let o = self.map.remove(&n)?;
        if let Some(full) = self.full {
            let before = self.map.range(..n).next_back();
            let begin = before.map_or(0, |(at, o)| u64::from(*at) + u64::from(o.span));
            let behind = self.map.range(n..).next();
            let end = behind.map_or(1 << 32, |(at, _)| u64::from(*at));
            let begin = begin.max(full.first.into());
            let end = end.min(u64::from(full.last) + 1);
            if end.saturating_sub(begin) >= full.span.into() {
                self.full = None;
            }
        }
        Some(o)
    }
}

/// The objects of one function.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Objects {
    /// By [`KindId`]: none, or [`KINDS`] of them.
    tables: Vec<Table>,
    flows: BTreeMap<(u32, u32), Flow>,
    /// Root flow table by table type.
    pub roots: BTreeMap<u8, u32>,
    #[serde(skip)]
    eq_users: BTreeMap<u8, u32>,
    #[serde(skip)]
    bytes: usize,
    /// What user contexts made, so that the end of one looks at nothing else: context, kind, id; and context, table,
    /// index of flows.
    #[serde(skip)]
    owned: BTreeSet<(u16, usize, u32)>,
    #[serde(skip)]
    owned_flows: BTreeSet<(u16, u32, u32)>,
}

clone_by_fields!(Objects {
    tables,
    flows,
    roots,
    eq_users,
    bytes,
    owned,
    owned_flows
});

impl Objects {
    /// Number of objects per kind, kinds without any left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<_, _> = kinds::ALL
            .iter()
            .map(|k| (k.name, self.count(k.id)))
            .filter(|(_, n)| *n > 0)
            .collect();
        if !self.flows.is_empty() {
            counts.insert("flow_table_entry", self.flows.len());
        }
        counts
    }

    /// Number of objects of a kind.
    #[must_use]
    pub fn count(&self, id: KindId) -> usize {
        self.table(id).map_or(0, |t| t.map.len())
    }

    /// Bytes that all contexts take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn table(&self, id: KindId) -> Option<&Table> {
        self.tables.get(id as usize)
    }

    /// A kind's table; a function without objects has none at all.
    fn table_mut(&mut self, id: KindId) -> &mut Table {
        if self.tables.len() < KINDS {
            self.tables.resize_with(KINDS, Table::default);
        }
        &mut self.tables[id as usize]
    }

    /// All objects of a kind by id.
    pub fn all(&self, id: KindId) -> impl Iterator<Item = (u32, &Object)> + '_ {
        self.table(id)
            .into_iter()
            .flat_map(|t| t.map.iter().map(|(n, o)| (*n, o)))
    }

    /// All objects: number of its kind, id, itself.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, u32, &Object)> + '_ {
        let tables = self.tables.iter().enumerate();
        tables.flat_map(|(kind, t)| t.map.iter().map(move |(n, o)| (kind, *n, o)))
    }

    /// An object, by any of its ids.
    #[must_use]
    pub fn get(&self, id: KindId, n: u32) -> Option<&Object> {
        let (first, o) = self.table(id)?.map.range(..=n).next_back()?;
        (n - first < o.span).then_some(o)
    }

    /// An object by its first id.
    pub(super) fn get_mut(&mut self, id: KindId, n: u32) -> Option<&mut Object> {
        self.tables.get_mut(id as usize)?.map.get_mut(&n)
    }

    fn holder(&mut self, id: KindId, n: u32) -> Option<&mut Object> {
        let (first, o) = self
            .tables
            .get_mut(id as usize)?
            .map
            .range_mut(..=n)
            .next_back()?;
        (n - first < o.span).then_some(o)
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
        if let Some(o) = self.holder(id, n) {
            o.users += 1;
        }
    }

    /// Counts one user less.
    pub fn release(&mut self, id: KindId, n: u32) {
        if let Some(o) = self.holder(id, n) {
            o.users = o.users.saturating_sub(1);
        }
    }

    pub(super) fn hold_ref(&mut self, to: Target, n: u32) {
        match to.object(n) {
            Some((id, n)) => self.hold(id, n),
            None => *self.eq_users.entry(n as u8).or_default() += 1,
        }
    }

    pub(super) fn release_ref(&mut self, to: Target, n: u32) {
        match to.object(n) {
            Some((id, n)) => self.release(id, n),
            None => {
                if let Some(u) = self.eq_users.get_mut(&(n as u8)) {
                    *u = u.saturating_sub(1);
                }
            }
        }
    }

    /// A flow table entry by table and index.
    #[must_use]
    pub fn flow(&self, key: (u32, u32)) -> Option<&Flow> {
        self.flows.get(&key)
    }

    /// All flow table entries by table and index.
    pub fn flows(&self) -> impl Iterator<Item = ((u32, u32), &Flow)> + '_ {
        self.flows.iter().map(|(key, f)| (*key, f))
    }

    /// Number of flow table entries.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// Sets a flow table entry, which holds what it names.
    pub fn set_flow(&mut self, key: (u32, u32), flow: Flow) {
        for (kind, id) in &flow.holds {
            self.hold(*kind, *id);
        }
        self.bytes += flow.kept.len();
        let uid = flow.uid;
        let old = self.flows.insert(key, flow);
        self.let_go(key, old);
        if uid != 0 {
            self.owned_flows.insert((uid, key.0, key.1));
        }
    }

    /// Removes a flow table entry; false if there is none.
    pub fn remove_flow(&mut self, key: (u32, u32)) -> bool {
        let old = self.flows.remove(&key);
        let known = old.is_some();
        self.let_go(key, old);
        known
    }

    fn let_go(&mut self, key: (u32, u32), flow: Option<Flow>) {
        let Some(flow) = flow else { return };
        self.owned_flows.remove(&(flow.uid, key.0, key.1));
        self.bytes = self.bytes.saturating_sub(flow.kept.len());
        for (kind, id) in flow.holds {
            self.release(kind, id);
        }
    }

    /// Removes all objects of a user context, whatever still refers to them.
    pub fn drop_uid(&mut self, uid: u16) {
        let flows = self
            .owned_flows
            .range((uid, 0, 0)..=(uid, u32::MAX, u32::MAX));
        let flows: Vec<_> = flows.map(|(_, table, index)| (*table, *index)).collect();
        for key in flows {
            self.remove_flow(key);
        }
        let owned = self.owned.range((uid, 0, 0)..=(uid, usize::MAX, u32::MAX));
        let owned: Vec<_> = owned.map(|(_, kind, n)| (*kind, *n)).collect();
        for (kind, n) in owned {
            if let Some(kind) = kinds::ALL.iter().find(|k| k.id as usize == kind) {
                self.remove(kind, n);
            }
        }
    }

    pub(super) fn insert(&mut self, kind: &Kind, n: u32, o: Object) {
        for (to, id) in kind.references(&o.kept) {
            self.hold_ref(to, id);
        }
        self.bytes += o.kept.len();
        if o.uid != 0 {
            self.owned.insert((o.uid, kind.id as usize, n));
        }
        let t = self.table_mut(kind.id);
        t.last = n + (o.span - 1);
        t.map.insert(n, o);
    }

    /// Sets a field of an object: a place in its create command.
    pub fn set_field(&mut self, id: KindId, n: u32, at: Bits, value: u64) {
        if let Some(o) = self.get_mut(id, n) {
            let k = at.kept();
            set_bits(&mut o.kept, k.offset, k.width, value);
        }
    }

    /// Gives an object other content.
    pub(super) fn replace(&mut self, kind: &Kind, n: u32, kept: Vec<u8>) {
        for (to, id) in kind.references(&kept) {
            self.hold_ref(to, id);
        }
        self.bytes += kept.len();
        let Some(o) = self.get_mut(kind.id, n) else {
            return;
        };
        let old = core::mem::replace(&mut o.kept, kept.into());
        self.bytes = self.bytes.saturating_sub(old.len());
        for (to, id) in kind.references(&old) {
            self.release_ref(to, id);
        }
    }

    pub(super) fn remove(&mut self, kind: &Kind, n: u32) {
        let Some(o) = self.table_mut(kind.id).take(n) else {
            return;
        };
        self.owned.remove(&(o.uid, kind.id as usize, n));
        self.bytes = self.bytes.saturating_sub(o.kept.len());
        for (to, id) in kind.references(&o.kept) {
            self.release_ref(to, id);
        }
        if kind.id == KindId::FlowTable {
            self.roots.retain(|_, root| *root != n);
        }
    }

    /// The next `span` free ids of `first..=last`: ids go up and are not reused until they have
    /// gone round.
    pub(super) fn next_id(&mut self, id: KindId, first: u32, last: u32, span: u32) -> Option<u32> {
        let size = last.checked_sub(first)?.checked_add(1)?;
        if span == 0 || span > size {
            return None;
        }
        if self.tables.is_empty() {
            return Some(first);
        }
        self.table_mut(id).next_id(first, last, span)
    }

    /// Counts anew what is derived from the objects: users and bytes. False if what is there
    /// breaks a rule that every command keeps.
    pub fn recount(&mut self) -> bool {
        if !self.tables.is_empty() && self.tables.len() != KINDS {
            return false;
        }
        self.eq_users = BTreeMap::new();
        self.bytes = self.flows.values().map(|f| f.kept.len()).sum();
        let mut held: Vec<(Target, u32)> = self
            .flows
            .values()
            .flat_map(|f| f.holds.iter().map(|(k, n)| (Target::Object(*k), *n)))
            .collect();
        for kind in kinds::ALL {
            let mut end = 0u64;
            let mut bytes = 0;
            for (n, o) in self.all(kind.id) {
                if o.span == 0 || u64::from(n) < end {
                    return false;
                }
                end = u64::from(n) + u64::from(o.span);
                bytes += o.kept.len();
                held.extend(kind.references(&o.kept));
            }
            if end > 1 << 32 {
                return false;
            }
            self.bytes += bytes;
        }
        for (to, n) in held {
            self.hold_ref(to, n);
        }
        let users = self.each().filter(|(_, _, o)| o.uid != 0);
        self.owned = users.map(|(kind, n, o)| (o.uid, kind, n)).collect();
        let users = self.flows.iter().filter(|(_, f)| f.uid != 0);
        self.owned_flows = users.map(|(key, f)| (f.uid, key.0, key.1)).collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(span: u32) -> Object {
        Object {
            uid: 0,
            subtype: 0,
            span,
            users: 0,
            kept: Box::new([]),
        }
    }

    #[test]
    fn ids_go_up_wrap_around_and_leave_room_for_spans() {
        let mut o = Objects::default();
        let kind = &kinds::FLOW_COUNTER;
        let next = |o: &mut Objects, span| o.next_id(kind.id, 1, 10, span);
        assert_eq!(next(&mut o, 4), Some(1));
        o.insert(kind, 1, object(4));
        assert_eq!(next(&mut o, 4), Some(5));
        o.insert(kind, 5, object(4));
        assert_eq!(next(&mut o, 4), None, "2 are left");
        assert_eq!(next(&mut o, 2), Some(9));
        o.insert(kind, 9, object(2));
        assert_eq!(next(&mut o, 1), None);
        o.remove(kind, 1);
        assert_eq!(next(&mut o, 3), Some(1), "round");
        assert!(o.get(kind.id, 8).is_some() && o.get(kind.id, 4).is_none());
        assert_eq!(next(&mut o, 11), None);
        assert_eq!(next(&mut o, 0), None);
    }

    /// What is remembered of a table without room says what looking at all of it says.
    #[test]
    fn a_full_table_is_remembered_until_enough_is_free() {
        let kind = &kinds::FLOW_COUNTER;
        let (mut o, mut random) = (Objects::default(), 1u32);
        let (mut free, mut full) = (0, 0);
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (span, n) = (1 << (random >> 16 & 3), random >> 20 & 63);
            if random >> 28 < 6 {
                let at = o.table(kind.id).and_then(|t| t.map.range(n..).next());
                if let Some((at, _)) = at.map(|(at, o)| (*at, o.span)) {
                    o.remove(kind, at);
                }
                continue;
            }
            let looked = o.table(kind.id).map_or(Some(2), |t| t.gap(2, 60, span));
            let ids = |n: u32| n..n + span;
            let taken = |n: u32| ids(n).any(|n| o.get(kind.id, n).is_some());
            let exists = (2..=61 - span).any(|n| !taken(n));
            assert_eq!(looked.is_some(), exists, "{span}");
            assert!(looked.is_none_or(|n| !taken(n) && n >= 2 && n + span <= 61));
            assert_eq!(o.next_id(kind.id, 2, 60, span), looked, "{span}");
            match looked {
                Some(n) => {
                    free += 1;
                    o.insert(kind, n, object(span));
                }
                None => full += 1,
            }
        }
        assert!(free > 1000 && full > 1000, "{free} {full}");
    }

    #[test]
    fn the_end_of_a_user_context_takes_what_it_made_and_nothing_else() {
        let mut o = Objects::default();
        let of = |uid| Object { uid, ..object(1) };
        for (n, uid) in [(1, 0), (2, 7), (3, 8), (4, 7)] {
            o.insert(&kinds::PD, n, of(uid));
            o.insert(&kinds::FLOW_COUNTER, n, of(uid));
            let flow = Flow {
                uid,
                kept: Box::new([]),
                holds: Vec::new(),
            };
            o.set_flow((n, n), flow.clone());
            // Another one in its place is somebody else's.
            o.set_flow((0, 0), flow);
        }
        let mut again = o.clone();
        assert!(again.recount());
        assert_eq!(
            (&again.owned, &again.owned_flows),
            (&o.owned, &o.owned_flows)
        );
        o.drop_uid(7);
        let left = |o: &Objects, id| o.all(id).map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(left(&o, KindId::Pd), [1, 3]);
        assert_eq!(left(&o, KindId::FlowCounter), [1, 3]);
        let flows: Vec<_> = o.flows().map(|(key, _)| key).collect();
        assert_eq!(flows, [(1, 1), (3, 3)]);
        o.remove(&kinds::PD, 3);
        o.drop_uid(8);
        assert_eq!((o.owned.len(), o.owned_flows.len()), (0, 0));
    }

    #[test]
    fn users_are_found_again_by_counting() {
        let mut o = Objects::default();
        o.insert(&kinds::PD, 7, object(1));
        let mut kept = vec![0; 80 - crate::object::HEADER];
        let pd = kinds::MKEY.refs[0].at.kept();
        set_bits(&mut kept, pd.offset, pd.width, 7);
        let mkey = Object {
            kept: kept.into(),
            ..object(1)
        };
        o.insert(&kinds::MKEY, 1, mkey);
        let mut again = o.clone();
        again.get_mut(KindId::Pd, 7).unwrap().users = 9;
        again.bytes = 0;
        // What a restored card starts from.
        for (_, x) in again.tables.iter_mut().flat_map(|t| &mut t.map) {
            x.users = 0;
        }
        assert!(again.recount());
        assert_eq!(again.get(KindId::Pd, 7), o.get(KindId::Pd, 7));
        assert_eq!((again.bytes(), o.bytes()), (72, 72));
    }
}
