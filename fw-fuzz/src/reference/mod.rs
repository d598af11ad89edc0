// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A second, plain model of the life of a function: its states, pages, user contexts, and who may do what
//! with which object. It is written from docs/lifecycle.md, docs/commands.md and the layouts of `mlx5_ifc.h`,
//! and shares no code with fw-model but those layouts ([`crate::compare`] puts the two side by side).
//!
//! It does not choose numbers: what the firmware gives out must be free, and is taken.

pub(crate) mod objects;

use std::collections::{BTreeMap, BTreeSet};

use fwctl_proto::{
    layout::{Field, get_bits},
    layouts::{
        CmdHcaCap, CreateUctxIn, CreateUctxOut, DestroyUctxIn, EnableHcaIn, ManagePagesIn,
        ManagePagesOut, QueryIssiOut, QueryPagesOut, SetIssiIn, TeardownHcaIn,
    },
    opcode,
    status::Status,
};

use objects::{KINDS, Kind, Ref, Role, State as QueueState, role};

/// A status, if the command is refused.
type Refused = Result<(), Status>;

/// The states of docs/lifecycle.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Disabled,
    Enabled,
    Up,
}

/// What stands behind a uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Driver,
    Devx,
    Tools,
}

/// `MLX5_SHARED_RESOURCE_UID`: what all user contexts may refer to.
pub(crate) const SHARED: u16 = 0xffff;
/// `uctx.cap`: tools resources.
const TOOLS: u64 = 4;

/// An object's name: kind and number.
type Name = (usize, u32);

#[derive(Clone, Debug)]
struct Object {
    uid: u16,
    refs: Vec<Name>,
    state: QueueState,
}

/// What the firmware answered, as far as it counts.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The inbox.
    pub inbox: &'a [u8],
    /// The outbox.
    pub outbox: &'a [u8],
}

/// What the two do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement(pub String);

/// A function as a reader of the documents expects it.
#[derive(Clone, Debug)]
pub struct Reference {
    caps: Vec<u8>,
    pub(crate) boot: u32,
    pub(crate) init: u32,
    life: Life,
    pages: BTreeSet<u64>,
    issi: u64,
    uctx: BTreeMap<u16, u64>,
    objects: BTreeMap<Name, Object>,
}

fn field<L>(bytes: &[u8], f: Field<L>) -> u64 {
    get_bits(bytes, f.offset(), f.width())
}

impl Reference {
    /// A function after power on. `caps` is its general capability page, `boot` and `init` are the pages
    /// that it wants: what a driver asks a function for.
    #[must_use]
    pub fn new(caps: &[u8], boot: u32, init: u32) -> Self {
        Self {
            caps: caps.to_vec(),
            boot,
            init,
            life: Life::Disabled,
            pages: BTreeSet::new(),
            issi: 0,
            uctx: BTreeMap::new(),
            objects: BTreeMap::new(),
        }
    }

    /// A reset of any kind: of all that this model knows, none leaves anything (docs/lifecycle.md).
    pub fn reset(&mut self) {
        *self = Self::new(&self.caps, self.boot, self.init);
    }

    /// How many objects there are, and user contexts and pages.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.objects.len(), self.uctx.len(), self.pages.len())
    }

    /// All user contexts.
    #[must_use]
    pub fn uids(&self) -> Vec<u16> {
        self.uctx.keys().copied().collect()
    }

    pub(crate) fn numbers(&self, kind: usize) -> impl Iterator<Item = u32> + '_ {
        let of = move |n: &&Name| n.0 == kind;
        self.objects.keys().filter(of).map(|n| n.1)
    }

    /// The numbers of all objects of a kind, and who made them.
    pub fn all(&self, kind: &str) -> Vec<(u32, u16)> {
        let of = |name: &&Name| KINDS[name.0].name == kind;
        let row = |name: &Name| (name.1, self.objects[name].uid);
        self.objects.keys().filter(of).map(row).collect()
    }

    /// A command was executed or refused: does it what it should? If so, this function is as that one is
    /// now.
    ///
    /// # Errors
    /// [`Disagreement`].
    pub fn agrees(&mut self, a: Answer<'_>) -> Result<(), Disagreement> {
        let wrong = |what: String| Err(Disagreement(what));
        let status = a.outbox.first().copied().unwrap_or(0xff);
        let expected = self.judge(a);
        let code = expected.map_or_else(Status::code, |()| 0);
        if status != code {
            return wrong(format!("status {status:#x}, and it should be {code:#x}"));
        }
        if expected.is_err() {
            return Ok(());
        }
        self.happen(a).map_err(Disagreement)
    }

    fn who(&self, uid: u16) -> Option<Who> {
        match uid {
            0 | SHARED => Some(Who::Driver),
            _ => self.uctx.get(&uid).map(|cap| match cap & TOOLS {
                0 => Who::Devx,
                _ => Who::Tools,
            }),
        }
    }

    /// Whether a command succeeds; nothing changes. In this order: state, uid, kind of caller, length
    /// (docs/architecture.md), then the command's own rules.
    fn judge(&self, a: Answer<'_>) -> Refused {
        use Life::{Disabled, Enabled, Up};
        use Who::{Devx, Driver, Tools};
        let op = get_bits(a.inbox, 0, 16) as u16;
        let uid = get_bits(a.inbox, 16, 16) as u16;
        let op_mod = get_bits(a.inbox, 48, 16);
        let (lives, callers, len): (&[Life], &[Who], usize) = match (op, role(op)) {
            (opcode::ENABLE_HCA, _) => (&[Disabled], &[Driver], 16),
            (opcode::DISABLE_HCA | opcode::INIT_HCA | opcode::SET_ISSI, _) => {
                (&[Enabled], &[Driver], 16)
            }
            (opcode::TEARDOWN_HCA | opcode::DESTROY_UCTX, _) => (&[Up], &[Driver], 16),
            (opcode::CREATE_UCTX, _) => (&[Up], &[Driver], 64),
            (opcode::QUERY_ISSI, _) => (&[Enabled, Up], &[Driver, Devx, Tools], 16),
            (opcode::QUERY_PAGES, _) => (&[Enabled, Up], &[Driver, Tools], 16),
            (opcode::MANAGE_PAGES, _) => (&[Enabled, Up], &[Driver], 16),
            (_, Some((kind, Role::Create))) => (&[Up], &[Driver, Devx], KINDS[kind].in_len),
            (_, Some((kind, Role::Modify))) => (&[Up], &[Driver, Devx], KINDS[kind].in_len),
            (_, Some((_, Role::Destroy))) => (&[Up], &[Driver, Devx], 16),
            (_, Some((_, Role::Query))) => (&[Up], &[Driver, Devx, Tools], 16),
            _ => return Err(Status::BAD_OP),
        };
        if !lives.contains(&self.life) {
            return Err(Status::BAD_SYS_STATE);
        }
        let who = self.who(uid).ok_or(Status::BAD_RES)?;
        if !callers.contains(&who) {
            return Err(Status::BAD_OP);
        }
        if a.inbox.len() < len {
            return Err(Status::BAD_INP_LEN);
        }
        match (op, role(op)) {
            (opcode::ENABLE_HCA | opcode::DISABLE_HCA, _) => {
                own(field(a.inbox, EnableHcaIn::FUNCTION_ID))
            }
            (opcode::INIT_HCA, _) => {
                let missing = (self.pages.len() as u32) < self.boot + self.init;
                refuse_if(missing, Status::BAD_SYS_STATE)
            }
            (opcode::SET_ISSI, _) => refuse_if(
                field(a.inbox, SetIssiIn::CURRENT_ISSI) > 1,
                Status::BAD_PARAM,
            ),
            (opcode::TEARDOWN_HCA, _) => refuse_if(
                field(a.inbox, TeardownHcaIn::PROFILE) > 2,
                Status::BAD_PARAM,
            ),
            (opcode::QUERY_PAGES, _) => {
                own(field(a.inbox, EnableHcaIn::FUNCTION_ID))?;
                refuse_if(!(1..=3).contains(&op_mod), Status::BAD_PARAM)
            }
            (opcode::MANAGE_PAGES, _) => self.judge_pages(a, op_mod),
            (opcode::CREATE_UCTX, _) => {
                let offered = field(&self.caps, CmdHcaCap::UCTX_CAP);
                refuse_if(uctx_cap(a.inbox) & !offered != 0, Status::BAD_PARAM)?;
                let most = 1 << field(&self.caps, CmdHcaCap::LOG_MAX_UCTX);
                refuse_if(self.uctx.len() >= most, Status::NO_RES)
            }
            (opcode::DESTROY_UCTX, _) => {
                let uid = field(a.inbox, DestroyUctxIn::UID) as u16;
                refuse_if(!self.uctx.contains_key(&uid), Status::BAD_RES)
            }
            (_, Some((kind, role))) => self.judge_object(a, kind, role, uid, who),
            _ => Ok(()),
        }
    }

    fn judge_pages(&self, a: Answer<'_>, op_mod: u64) -> Refused {
        own(field(a.inbox, EnableHcaIn::FUNCTION_ID))?;
        let count = field(a.inbox, ManagePagesIn::INPUT_NUM_ENTRIES) as usize;
        match op_mod {
            0 => Ok(()),
            1 => {
                let list = page_list(a.inbox, count).ok_or(Status::BAD_INP_LEN)?;
                let mut all = self.pages.clone();
                let bad = list.iter().any(|p| p % 4096 != 0 || !all.insert(*p));
                refuse_if(bad, Status::BAD_PARAM)
            }
            2 => refuse_if((a.outbox.len() - 16) / 8 < count, Status::BAD_OUTP_LEN),
            _ => Err(Status::BAD_PARAM),
        }
    }

    fn judge_object(&self, a: Answer<'_>, kind: usize, role: Role, uid: u16, who: Who) -> Refused {
        let k = &KINDS[kind];
        let own = |owner: u16| who == Who::Driver || owner == uid;
        // Assumed, as no document says which commands look at it: what makes or changes an object.
        let looks = matches!(role, Role::Create | Role::Modify);
        refuse_if(looks && get_bits(a.inbox, 48, 16) != 0, Status::BAD_PARAM)?;
        if role == Role::Create {
            let there = self.objects.keys().filter(|n| n.0 == kind).count();
            let most = 1usize << field(&self.caps, k.log_max);
            refuse_if(there >= most, Status::LIM_ERR)?;
            return self.judge_refs(a.inbox, k, own);
        }
        let name = (kind, k.number_in(a.inbox));
        let o = self.objects.get(&name).ok_or(Status::BAD_RES)?;
        if role == Role::Query {
            let may = who == Who::Tools || own(o.uid);
            return refuse_if(!may, Status::BAD_RES);
        }
        refuse_if(!own(o.uid), Status::BAD_RES)?;
        if role == Role::Destroy {
            let used = self
                .objects
                .values()
                .any(|other| other.refs.contains(&name));
            return refuse_if(used, Status::RES_BUSY);
        }
        let (from, to) = k.transition(a.inbox);
        refuse_if(
            from != o.state.code() || !o.state.may_become(to),
            Status::BAD_RES_STATE,
        )
    }

    /// What a new object refers to is there, and its maker may use it.
    fn judge_refs(&self, inbox: &[u8], k: &Kind, own: impl Fn(u16) -> bool) -> Refused {
        for name in k.references(inbox) {
            let to = self.objects.get(&name).ok_or(Status::BAD_RES)?;
            refuse_if(!own(to.uid) && to.uid != SHARED, Status::BAD_RES)?;
        }
        Ok(())
    }

    /// A command succeeded: its outbox says what it should, and this function follows.
    fn happen(&mut self, a: Answer<'_>) -> Result<(), String> {
        let op = get_bits(a.inbox, 0, 16) as u16;
        match (op, role(op)) {
            (opcode::ENABLE_HCA, _) => self.life = Life::Enabled,
            (opcode::DISABLE_HCA, _) => self.reset(),
            (opcode::INIT_HCA, _) => self.life = Life::Up,
            (opcode::SET_ISSI, _) => self.issi = field(a.inbox, SetIssiIn::CURRENT_ISSI),
            (opcode::QUERY_ISSI, _) => {
                let issi = field(a.outbox, QueryIssiOut::CURRENT_ISSI);
                same("current_issi", &issi, &self.issi)?;
            }
            (opcode::TEARDOWN_HCA, _) => {
                self.uctx.clear();
                self.objects.clear();
                self.life = Life::Enabled;
            }
            (opcode::QUERY_PAGES, _) => {
                let held = self.pages.len() as i64;
                let (boot, init) = (i64::from(self.boot), i64::from(self.init));
                let wanted = match get_bits(a.inbox, 48, 16) {
                    1 => (boot - held).max(0),
                    2 => (boot + init - held).max(0),
                    _ => boot + init - held,
                };
                let said = field(a.outbox, QueryPagesOut::NUM_PAGES) as u32 as i32;
                same("num_pages", &i64::from(said), &wanted)?;
            }
            (opcode::MANAGE_PAGES, _) => self.pages_move(a)?,
            (opcode::CREATE_UCTX, _) => {
                let uid = field(a.outbox, CreateUctxOut::UID) as u16;
                if uid == 0 || uid == SHARED {
                    return Err(format!("uid {uid:#x} is given out"));
                }
                if self.uctx.insert(uid, uctx_cap(a.inbox)).is_some() {
                    return Err(format!("uid {uid:#x} is given out twice"));
                }
            }
            (opcode::DESTROY_UCTX, _) => {
                let uid = field(a.inbox, DestroyUctxIn::UID) as u16;
                self.uctx.remove(&uid);
                self.objects.retain(|_, o| o.uid != uid);
            }
            (_, Some((kind, role))) => self.object_changes(a, kind, role)?,
            _ => {}
        }
        Ok(())
    }

    fn pages_move(&mut self, a: Answer<'_>) -> Result<(), String> {
        let count = field(a.inbox, ManagePagesIn::INPUT_NUM_ENTRIES) as usize;
        match get_bits(a.inbox, 48, 16) {
            1 => self
                .pages
                .extend(page_list(a.inbox, count).unwrap_or_default()),
            2 => {
                let keep = match self.life {
                    Life::Up => (self.boot + self.init) as usize,
                    _ => 0,
                };
                let wanted = count.min(self.pages.len().saturating_sub(keep));
                let n = field(a.outbox, ManagePagesOut::OUTPUT_NUM_ENTRIES) as usize;
                same("output_num_entries", &n, &wanted)?;
                for page in page_list(a.outbox, n).unwrap_or_default() {
                    if !self.pages.remove(&page) {
                        return Err(format!("page {page:#x} comes back and was not given"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn object_changes(&mut self, a: Answer<'_>, kind: usize, role: Role) -> Result<(), String> {
        let k = &KINDS[kind];
        match role {
            Role::Create => {
                let n = k.number_out(a.outbox);
                let o = Object {
                    uid: get_bits(a.inbox, 16, 16) as u16,
                    refs: k.references(a.inbox).collect(),
                    state: QueueState::Reset,
                };
                if n == 0 {
                    return Err(format!("a {} gets number 0", k.name));
                }
                if self.objects.insert((kind, n), o).is_some() {
                    return Err(format!("number {n:#x} of a {} is given out twice", k.name));
                }
            }
            Role::Destroy => {
                self.objects.remove(&(kind, k.number_in(a.inbox)));
            }
            Role::Modify => {
                if let Some(o) = self.objects.get_mut(&(kind, k.number_in(a.inbox))) {
                    o.state = QueueState::of(k.transition(a.inbox).1).unwrap_or(o.state);
                }
            }
            Role::Query => {
                let o = &self.objects[&(kind, k.number_in(a.inbox))];
                if let Some(at) = k.state_out {
                    same("state", &get_bits(a.outbox, at, 4), &o.state.code())?;
                }
                let mut context = vec![0; k.earlier];
                context.extend(a.outbox);
                let refs: Vec<Name> = k.references(&context).collect();
                if refs != o.refs {
                    return Err(format!(
                        "a {} refers to {refs:?}, not to {:?}",
                        k.name, o.refs
                    ));
                }
            }
        }
        Ok(())
    }
}

fn uctx_cap(inbox: &[u8]) -> u64 {
    let uctx = CreateUctxIn::UCTX.byte() as u32 * 8;
    let cap = fwctl_proto::layouts::Uctx::CAP;
    get_bits(inbox, uctx + cap.offset(), cap.width())
}

/// `count` addresses behind the first 16 bytes, if there are as many.
fn page_list(bytes: &[u8], count: usize) -> Option<Vec<u64>> {
    let list = bytes.get(16..)?;
    let all = (0..count).map(|i| {
        let word = list.get(8 * i..8 * i + 8)?;
        word.try_into().ok().map(u64::from_be_bytes)
    });
    if list.len() / 8 < count {
        return None;
    }
    all.collect()
}

/// A function manages no function but itself.
fn own(function_id: u64) -> Refused {
    refuse_if(function_id != 0, Status::BAD_PARAM)
}

fn refuse_if(bad: bool, status: Status) -> Refused {
    if bad { Err(status) } else { Ok(()) }
}

fn same<T: PartialEq + core::fmt::Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should {
        Ok(())
    } else {
        Err(format!("{what} is {is:?}, and it should be {should:?}"))
    }
}

/// A reference of a new object, for the table.
const fn to(kind: usize, at: u32) -> Ref {
    Ref {
        kind,
        at,
        only_if: None,
    }
}
