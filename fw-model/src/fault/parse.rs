// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults as text: *when : then : times*.

use core::ops::RangeInclusive;

use fwctl_proto::{
    cmdif::DeliveryStatus,
    event,
    layout::{self, FieldInfo, LayoutInfo, get_bits, set_bits},
    mst::{
        self,
        nv::{self, Type},
    },
    opcode, register, segment,
    status::Status,
};

use super::{
    ACTIONS, Act, Action, Fault, Fill, ITEM_DATA, ITEM_TYPE, MAX_RAISED, MAX_TEXT, Place,
    REGISTER_BYTE, Then, When, actions,
};
use crate::{function::State, limits::MAX_MESSAGE, nearest, reg};

/// Why a fault is not taken: the part that is wrong, and what could stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault {text:?}: {what}")]
pub struct BadFault {
    /// As it was written.
    pub text: String,
    /// What is wrong.
    pub what: String,
}

/// A delay may be as long as one of the control socket.
const MAX_DELAY_MS: u64 = crate::limits::MAX_DELAY_NANOS / 1_000_000;

/// The words that something may be made of.
struct Words {
    all: &'static [&'static str],
    /// As a message about a word that is none of them says it.
    there_are: &'static str,
}

/// Those of *when*.
const WHEN: Words = Words {
    all: &[
        "any", "opcode", "register", "item", "op_mod", "uid", "function", "state", "nth",
        "percent", "at",
    ],
    there_are: "opcode=, register=, item=, op_mod=, uid=, function=, state=, nth=, percent=, any, a field of the \
                opcode's inbox, or at=",
};

/// Those of a command that is to be tried.
const COMMAND: Words = Words {
    all: &["opcode", "register", "item", "op_mod", "uid", "function"],
    there_are: "opcode=, register=, item=, op_mod=, uid=, function= and the fields of the opcode's inbox",
};

impl Words {
    fn nearest(&self, word: &str) -> String {
        let meant = nearest(word, self.all.iter().copied());
        format!("{meant}; there are {}", self.there_are)
    }
}

/// The actions that there are, for a message about a word that is none.
fn actions(word: &str) -> String {
    let forms: Vec<_> = ACTIONS.iter().map(Action::form).collect();
    let meant = nearest(word, ACTIONS.iter().map(|a| a.name));
    format!("{meant}; there are {}", forms.join(", "))
}

/// A line of three parts.
pub(super) fn line(text: &str) -> Result<Fault, BadFault> {
    let parts: Vec<&str> = text.split(':').map(str::trim).collect();
    let error = |what: &str| BadFault {
        text: text.into(),
        what: what.into(),
    };
    match parts[..] {
        [when, then] => self::parts(when, then, None),
        [when, then, times] => {
            let times = times.strip_prefix("times=").unwrap_or(times);
            let times = number(times).ok_or_else(|| error("times is a number"))?;
            self::parts(when, then, Some(times))
        }
        _ => Err(error("it is WHEN : THEN, or WHEN : THEN : times=N")),
    }
}

/// A fault of its parts.
pub(super) fn parts(when: &str, then: &str, times: Option<u64>) -> Result<Fault, BadFault> {
    let times = times.unwrap_or(1);
    let text = format!("{when} : {then} : times={times}");
    let error = |what| BadFault {
        text: text.clone(),
        what,
    };
    if text.len() > MAX_TEXT {
        return Err(error(format!("it is longer than {MAX_TEXT} bytes")));
    }
    let (parsed, layouts) = self::when(when, &WHEN).map_err(error)?;
    let then = self::then(then, &layouts).map_err(error)?;
    if let Some(ms) = parsed.at {
        by_itself(&parsed, &then, ms, times).map_err(error)?;
    }
    Ok(Fault {
        id: 0,
        when: parsed,
        then,
        left: (times != 0).then_some(times),
        matched: 0,
        struck: 0,
        followed: 0,
        changed: 0,
        consumed: 0,
        due: None,
        text,
    })
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Checks what happens by itself and not with a command.
fn by_itself(w: &When, t: &Then, ms: u32, times: u64) -> Result<(), String> {
    let alone = When {
        at: Some(ms),
        function: w.function,
        ..When::default()
    };
    if *w != alone {
        return Err("at= is not of a command: it goes with function= alone".into());
    }
    let acts = Then {
        acts: t.acts.clone(),
        ..Then::default()
    };
    if *t != acts {
        return Err(
            "at= lets the firmware do something by itself: raise=, page-demand=, cable=, health=, \
             hang, frozen-counter, starting=, removal, crash, panic"
                .into(),
        );
    }
    if ms == 0 && times != 1 {
        return Err("at=0 happens once".into());
    }
    Ok(())
}

/// A number that fits, by the name of what it is for.
fn fits<T: TryFrom<u64>>(key: &str, value: &str) -> Result<T, String> {
    let n = number(value).ok_or_else(|| format!("{key}={value}: not a number"))?;
    T::try_from(n).map_err(|_| format!("{key}={value}: too large"))
}

fn named<T>(
    key: &str,
    value: &str,
    found: Option<T>,
    list: impl FnOnce() -> String,
) -> Result<T, String> {
    found.ok_or_else(|| format!("{key}={value}: there is none of this name{}", list()))
}

fn opcode_of(value: &str) -> Option<u16> {
    let known = |n: &u16| opcode::name(*n).is_some_and(|k| k.eq_ignore_ascii_case(value));
    let number = || number(value).and_then(|n| u16::try_from(n).ok());
    (0..=u16::MAX).find(known).or_else(number)
}

fn register_of(value: &str) -> Option<u16> {
    let upper = value.to_ascii_uppercase();
    let of_tools = || mst::REGISTERS.iter().find(|r| r.layout.name == upper);
    let number = || number(value).and_then(|n| u16::try_from(n).ok());
    register::number(&upper)
        .or_else(|| of_tools().map(|r| r.id))
        .or_else(number)
}

fn state_of(value: &str) -> Option<State> {
    let all = [State::Disabled, State::Enabled, State::Up];
    all.into_iter()
        .find(|s| s.name().eq_ignore_ascii_case(value))
}

fn status_of(value: &str) -> Option<u8> {
    let known = Status::ALL
        .iter()
        .find(|s| s.name().eq_ignore_ascii_case(value));
    let number = || number(value).and_then(|n| u8::try_from(n).ok());
    known.map(|s| s.code()).or_else(number)
}

fn delivery_of(value: &str) -> Option<u8> {
    /// Seven bits.
    const ALL: u8 = 0x7f;
    let known = |code: &u8| {
        let status = DeliveryStatus::from_code(*code);
        status.is_some_and(|s| s.name().eq_ignore_ascii_case(value))
    };
    let number = || number(value).and_then(|n| u8::try_from(n).ok());
    (0..=ALL).find(known).or_else(number).filter(|n| *n <= ALL)
}

fn fill_of(key: &str, value: &str) -> Result<Fill, String> {
    match value {
        "0" => Ok(Fill::Zeros),
        "1" => Ok(Fill::Ones),
        "random" => Ok(Fill::Random),
        _ => Err(format!("{key}={value}: there are 0, 1 and random")),
    }
}

fn milliseconds(key: &str, value: &str) -> Result<u32, String> {
    let ms: u32 = fits(key, value)?;
    if u64::from(ms) > MAX_DELAY_MS {
        return Err(format!("{key}={value}: at most {MAX_DELAY_MS} ms"));
    }
    Ok(ms)
}

fn event_of(key: &str, value: &str) -> Result<u8, String> {
    let upper = value.to_ascii_uppercase();
    let found = event::number(&upper).or_else(|| u8::try_from(number(value)?).ok());
    named(key, value, found, || {
        let names = (0..=u8::MAX).filter_map(event::name);
        nearest(&upper, names) + "; they are those of EQEs, as PORT_CHANGE"
    })
}

fn health_of(value: &str) -> Result<u8, String> {
    let all = segment::health::SYNDROMES;
    let known = all.iter().find(|s| s.1.eq_ignore_ascii_case(value));
    let found = known
        .map(|s| s.0)
        .or_else(|| u8::try_from(number(value)?).ok());
    named("health", value, found, || {
        let names: Vec<_> = all.iter().map(|s| s.1).collect();
        let meant = nearest(value, names.iter().copied());
        format!("{meant}; there are {}", names.join(", "))
    })
}

/// What the messages of the commands that match hold.
struct Layouts {
    input: Option<&'static LayoutInfo>,
    output: Option<&'static LayoutInfo>,
    register: Option<&'static LayoutInfo>,
    item: Option<&'static LayoutInfo>,
}

impl Layouts {
    fn of(w: &When) -> Self {
        let command = w.opcode.and_then(layout::command);
        let register = w.register.and_then(|id| {
            let here = reg::find(id).and_then(|r| r.layout);
            here.or_else(|| mst::find(id).map(|r| r.layout))
        });
        Self {
            input: command.map(|c| c.input),
            output: command.map(|c| c.output),
            register,
            item: w.item.and_then(|(class, id)| {
                let of = |i: &&nv::Item| (i.class, i.id) == (class, id);
                nv::ITEMS.iter().find(of).map(|i| i.layout)
            }),
        }
    }

    /// Bytes that are left of an outbox: fewer than it has, as far as that is known.
    fn cut(&self, value: &str) -> Result<usize, String> {
        let bytes = fits("cut", value)?;
        let has_tail = |l: &LayoutInfo| l.fields.iter().any(|f| f.count == 0);
        let whole = match (self.register, self.output) {
            (Some(l), _) => Some(REGISTER_BYTE as usize + l.bytes()),
            (None, Some(l)) if !has_tail(l) => Some(l.bytes()),
            _ => None,
        };
        match whole {
            Some(whole) if bytes >= whole => Err(format!(
                "cut={value}: nothing is cut, as the outbox has {whole} bytes"
            )),
            _ if bytes >= MAX_MESSAGE => Err(format!(
                "cut={value}: nothing is cut, as no outbox has more than {MAX_MESSAGE} bytes"
            )),
            _ => Ok(bytes),
        }
    }

    /// A field of a message, of the register in it, or of the item in that.
    fn place(&self, path: &str, message: Option<&'static LayoutInfo>) -> Result<Target, String> {
        let all = [
            (self.item, ITEM_DATA),
            (self.register, REGISTER_BYTE * 8),
            (message, 0),
        ];
        let all = || all.iter().filter_map(|(l, base)| Some(((*l)?, *base)));
        // As the decoder has it where the command's layout has the register.
        let inner = path.strip_prefix("register_data.").unwrap_or(path);
        let found = all().find_map(|(l, base)| plain(l, inner, base));
        found.ok_or_else(|| {
            let names: Vec<_> = all().map(|(l, _)| l.name).collect();
            if names.is_empty() {
                return format!("{path}: give opcode= or register= for its fields");
            }
            let fields = all().flat_map(|(l, _)| l.fields).map(|f| f.name);
            let meant = nearest(path, fields);
            format!("{path}: no field of {}{meant}", names.join(" or "))
        })
    }
}

/// A field that is to be compared or set.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where it begins, in bits.
    pub offset: u32,
    /// Its width in bits.
    pub width: u32,
    /// What it is.
    pub field: &'static FieldInfo,
}

impl Target {
    /// A value that the field has room for: a number, decimal or 0x…, or the name of one.
    ///
    /// # Errors
    /// It is neither, or too large; `path` is what the field is called in the sentence.
    pub fn value(&self, path: &str, text: &str) -> Result<u64, String> {
        let n = number(text).or_else(|| self.named(text)).ok_or_else(|| {
            let names: Vec<_> = self.field.values.iter().flat_map(|v| v.values).collect();
            let names = || names.iter().map(|v| v.1);
            let hint = match (nearest(text, names()), names().count()) {
                (_, 0) => String::new(),
                (meant, 1..=12) => {
                    let all: Vec<_> = names().collect();
                    format!(
                        ", nor one of its values{meant}; there are {}",
                        all.join(", ")
                    )
                }
                (meant, _) => format!(", nor one of its values{meant}"),
            };
            format!("{path}={text} is not a number{hint}")
        })?;
        if self.width < 64 && n >> self.width != 0 {
            return Err(format!("{path}={text}: the field has {} bits", self.width));
        }
        Ok(n)
    }

    fn named(&self, text: &str) -> Option<u64> {
        let mut all = self.field.values.iter().flat_map(|v| v.values);
        let known = all.find(|v| v.1.eq_ignore_ascii_case(text)).map(|v| v.0);
        // Those of a message's header have their names elsewhere.
        known.or_else(|| match self.field.name {
            "status" => status_of(text).map(u64::from),
            "opcode" => opcode_of(text).map(u64::from),
            _ => None,
        })
    }

    const fn place(&self) -> Place {
        Place {
            offset: self.offset,
            width: self.width,
        }
    }
}

/// A field of a layout that begins at bit `base`, and holds no others.
fn plain(l: &'static LayoutInfo, path: &str, base: u32) -> Option<Target> {
    let flat = l.fields.iter().find(|f| f.name == path);
    let flat = flat.filter(|f| f.nested.is_none() && f.count == 1);
    let (offset, width, field) = flat.map(|f| (f.offset, f.width, f)).or_else(|| {
        let p = l.field(path).filter(|p| p.info.nested.is_none())?;
        Some((p.offset, p.width, p.info))
    })?;
    (width <= 64).then_some(Target {
        offset: base + offset,
        width,
        field,
    })
}

/// A field in the outbox of the command in `inbox`, or of the register in it.
///
/// # Errors
/// There is no such field.
pub fn answer_field(inbox: &[u8], path: &str) -> Result<Target, String> {
    let op = get_bits(inbox, 0, 16) as u16;
    let register = (op == opcode::ACCESS_REG).then(|| get_bits(inbox, super::REGISTER, 16) as u16);
    // A configuration item lies in its register.
    let item = register.filter(|id| *id == register::MNVDA);
    let item = item.and_then(|_| Type::of(get_bits(inbox, ITEM_TYPE, 32) as u32).item());
    let layouts = Layouts::of(&When {
        opcode: Some(op),
        register,
        item: item.map(|i| (i.class, i.id)),
        ..When::default()
    });
    layouts.place(path, layouts.output)
}

/// A command that a fault with this *when* strikes: function, inbox and room for the outbox in bytes.
/// All that it does not name is zero; of ACCESS_REG it is a read unless op_mod says otherwise.
///
/// # Errors
/// What is wrong with it, or no command.
pub fn message(text: &str) -> Result<Message, BadFault> {
    const NONE: &str = "give opcode= or register=";
    let error = |what: String| BadFault {
        text: text.into(),
        what,
    };
    let (mut w, layouts) = when(text, &COMMAND).map_err(error)?;
    if w.register.is_some() && w.opcode.is_none() {
        w.opcode = Some(opcode::ACCESS_REG);
    }
    let op = w.opcode.ok_or_else(|| error(NONE.into()))?;
    if w.nth.is_some() || w.percent.is_some() || w.state.is_some() || w.at.is_some() {
        return Err(error(
            "nth=, percent=, state= and at= are not of a command".into(),
        ));
    }
    let row = crate::table::find(op);
    let register = layouts
        .register
        .map_or(0, |l| REGISTER_BYTE as usize + l.bytes());
    let bytes = |l: Option<&LayoutInfo>, least: Option<u32>| {
        let least = least.map_or(0, |n| n as usize);
        l.map_or(0, LayoutInfo::bytes)
            .max(least)
            .max(register)
            .max(16)
    };
    let mut inbox = vec![0; bytes(layouts.input, row.map(|r| r.in_len.into()))];
    let mut put = |offset, width, value: u64| set_bits(&mut inbox, offset, width, value);
    put(0, 16, op.into());
    put(16, 16, w.uid.unwrap_or(0).into());
    let read = u16::from(op == opcode::ACCESS_REG);
    put(48, 16, w.op_mod.unwrap_or(read).into());
    if let Some(id) = w.register {
        put(super::REGISTER, 16, id.into());
    }
    if let Some((class, id)) = w.item {
        put(ITEM_TYPE, 32, u64::from(class) << 24 | u64::from(id));
    }
    for (p, value) in &w.fields {
        put(p.offset, p.width, *value);
    }
    Ok(Message {
        function: w.function.unwrap_or(0),
        inbox,
        out_len: bytes(layouts.output, row.map(|r| r.out_len.into())),
    })
}

/// A command as [`message`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Number of the function.
    pub function: u8,
    /// The inbox.
    pub inbox: Vec<u8>,
    /// Room for the outbox in bytes.
    pub out_len: usize,
}

/// A register's id, and a field of it with its place in the register.
///
/// # Errors
/// There is no such register or field.
pub fn register_field(register: &str, path: &str) -> Result<(u16, Target), String> {
    let names = (0..=u16::MAX).filter_map(register::name);
    let names = names.chain(mst::REGISTERS.iter().map(|r| r.layout.name));
    let list = || nearest(register, names) + "; `fwctl-emu list registers` shows them";
    let id = named("register", register, register_of(register), list)?;
    let w = When {
        register: Some(id),
        ..When::default()
    };
    let mut t = Layouts::of(&w).place(path, None)?;
    t.offset -= REGISTER_BYTE * 8;
    Ok((id, t))
}

/// Names and values.
fn pairs(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split_whitespace()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        })
}

/// Checks that no word is there twice.
pub(super) fn once(words: &[&str]) -> Result<(), String> {
    let mut all = words.iter().enumerate();
    match all.find(|(i, w)| words[..*i].contains(w)) {
        Some((_, w)) => Err(format!("{w} is there twice")),
        None => Ok(()),
    }
}

/// A number in a range.
fn within(key: &str, value: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let n = fits(key, value)?;
    if range.contains(&n) {
        return Ok(n);
    }
    let (from, to) = range.into_inner();
    Err(match to {
        u64::MAX => format!("{key}={value}: it is counted from {from}"),
        _ => format!("{key}={value}: it is {from} to {to}"),
    })
}

fn when(text: &str, known: &Words) -> Result<(When, Layouts), String> {
    let mut w = When::default();
    let mut fields = Vec::new();
    let words: Vec<_> = pairs(text).map(|p| p.0).collect();
    once(&words)?;
    for pair in pairs(text) {
        match pair {
            ("any", None) => {}
            ("opcode", Some(v)) => {
                let names = (0..=u16::MAX).filter_map(opcode::name);
                let list = || nearest(v, names) + "; `fwctl-emu list commands` shows them";
                w.opcode = Some(named("opcode", v, opcode_of(v), list)?);
            }
            ("register", Some(v)) => {
                let names = (0..=u16::MAX).filter_map(register::name);
                let names = names.chain(mst::REGISTERS.iter().map(|r| r.layout.name));
                let list = || nearest(v, names) + "; `fwctl-emu list registers` shows them";
                w.register = Some(named("register", v, register_of(v), list)?);
            }
            ("state", Some(v)) => {
                let all = ["disabled", "enabled", "up"];
                let list = || nearest(v, all) + "; there are disabled, enabled, up";
                w.state = Some(named("state", v, state_of(v), list)?);
            }
            ("item", Some(v)) => {
                let lower = v.to_ascii_lowercase();
                let list = || nearest(&lower, nv::ITEMS.iter().map(|i| i.layout.name));
                let found = nv::named(&lower).map(|i| (i.class, i.id));
                w.item = Some(named("item", v, found, list)?);
            }
            ("at", Some(v)) => w.at = Some(milliseconds("at", v)?),
            ("op_mod", Some(v)) => w.op_mod = Some(fits("op_mod", v)?),
            ("uid", Some(v)) => w.uid = Some(fits("uid", v)?),
            ("function", Some(v)) => w.function = Some(fits("function", v)?),
            ("nth", Some(v)) => w.nth = Some(within("nth", v, 1..=u64::MAX)?),
            ("percent", Some(v)) => w.percent = Some(within("percent", v, 1..=100)?),
            (path, Some(v)) => fields.push((path, v)),
            (key, None) => return Err(format!("{key}{}", known.nearest(key))),
        }
    }
    if words.is_empty() {
        return Err("it says nothing of when; `any` is every command".into());
    }
    if w.item.is_some() && w.register.is_none() {
        w.register = Some(register::MNVDA);
    }
    let layouts = Layouts::of(&w);
    for (path, v) in fields {
        let none = |e: String| e + &known.nearest(path);
        let p = layouts.place(path, layouts.input).map_err(none)?;
        w.fields.push((p.place(), p.value(path, v)?));
    }
    Ok((w, layouts))
}

/// What words say of the acts that they go with.
#[derive(Default)]
struct Amendments {
    count: Option<u16>,
    is_random: bool,
    is_fatal: bool,
}

fn amend_acts(acts: &mut [Act], said: &Amendments) -> Result<(), String> {
    let (mut raises, mut reports) = (false, false);
    for act in &mut *acts {
        match act {
            Act::Raise { count, random, .. } => {
                raises = true;
                *count = said.count.unwrap_or(1);
                *random = said.is_random;
            }
            Act::Health { fatal, .. } => {
                reports = true;
                *fatal = said.is_fatal;
            }
            _ => {}
        }
    }
    match said.count {
        Some(_) if !raises => return Err("count= goes with raise=".into()),
        Some(n) if n > MAX_RAISED => return Err(format!("count={n}: at most {MAX_RAISED}")),
        _ => {}
    }
    if said.is_random && !raises {
        return Err("random-data goes with raise=".into());
    }
    if said.is_fatal && !reports {
        return Err("fatal goes with health=".into());
    }
    Ok(())
}

/// Why a word is no action.
fn unknown(key: &str, given: Option<&str>) -> String {
    match (actions::named(key), given) {
        (Some(a), None) => format!("{key}: it is {}", a.form()),
        (Some(_), Some(_)) => format!("{key}: it takes no value"),
        (None, _) => format!("{key}: there is no such action{}", actions(key)),
    }
}

fn then(text: &str, layouts: &Layouts) -> Result<Then, String> {
    let mut t = Then::default();
    let (mut syndrome, mut said) = (None, Amendments::default());
    for pair in pairs(text) {
        match pair {
            ("status", Some(v)) => {
                let names: Vec<_> = Status::ALL.iter().map(|s| s.name()).collect();
                let meant = nearest(v, names.iter().copied());
                let list = || format!("{meant}; there are {}", names.join(", "));
                t.status = Some(named("status", v, status_of(v), list)?);
            }
            ("syndrome", Some(v)) => syndrome = Some(fits("syndrome", v)?),
            ("silent", None) => t.silent = true,
            ("lost", None) => t.lost = true,
            ("stop", None) => t.stop = true,
            ("delay", Some(v)) => {
                t.delay = Some(u64::from(milliseconds("delay", v)?));
            }
            ("fill", Some(v)) => t.fill = Some(fill_of("fill", v)?),
            ("reserved", Some(v)) => t.reserved = Some(fill_of("reserved", v)?),
            ("mutate", Some(v)) => t.mutate = Some(fits("mutate", v)?),
            ("cut", Some(v)) => t.cut = Some(layouts.cut(v)?),
            ("delivery", Some(v)) => {
                let all = (0..=u8::MAX).filter_map(DeliveryStatus::from_code);
                let meant = nearest(v, all.map(DeliveryStatus::name));
                let list = || format!("{meant}; they are those of the command entry, as TOK_ERR");
                t.twist.delivery = Some(named("delivery", v, delivery_of(v), list)?);
            }
            ("token", Some(v)) => t.twist.token = Some(fits("token", v)?),
            ("other-slot", Some(v)) => {
                let slot: u8 = fits("other-slot", v)?;
                if slot >= 32 {
                    return Err(format!("other-slot={v}: slots are 0 to 31"));
                }
                t.twist.other_slot = Some(slot);
            }
            ("signature", None) => t.twist.signature = true,
            ("owner", None) => t.twist.owner = true,
            ("no-event", None) => t.twist.no_event = true,
            ("twice", None) => t.twist.twice = true,
            ("event-owner", None) => t.twist.telling.owner = true,
            ("event-type", Some(v)) => {
                t.twist.telling.event_type = Some(event_of("event-type", v)?);
            }
            ("no-interrupt", None) => t.twist.telling.silent = true,
            ("interrupts", Some(v)) => t.twist.telling.more = fits("interrupts", v)?,
            ("late-interrupt", Some(v)) => {
                t.twist.telling.late = Some(milliseconds("late-interrupt", v)?);
            }
            ("raise", Some(v)) => t.acts.push(Act::Raise {
                event_type: event_of("raise", v)?,
                count: 1,
                random: false,
            }),
            ("random-data", None) => said.is_random = true,
            ("count", Some(v)) => said.count = Some(fits("count", v)?),
            ("page-demand", Some(v)) => {
                let n = v
                    .parse()
                    .map_err(|_| format!("page-demand={v}: not a number"))?;
                t.acts.push(Act::PageDemand(n));
            }
            ("cable", Some(v)) => match v {
                "0" | "1" => t.acts.push(Act::Cable(v == "1")),
                _ => return Err(format!("cable={v}: 0 pulls it, 1 plugs it")),
            },
            ("health", Some(v)) => {
                let syndrome = health_of(v)?;
                t.acts.push(Act::Health {
                    syndrome,
                    fatal: false,
                });
            }
            ("fatal", None) => said.is_fatal = true,
            ("hang", None) => t.acts.push(Act::Hang),
            ("frozen-counter", None) => t.acts.push(Act::FrozenCounter),
            ("starting", Some(v)) => t.acts.push(Act::Starting(milliseconds("starting", v)?)),
            ("stray-write", Some(v)) => t.acts.push(Act::StrayWrite(fits("stray-write", v)?)),
            ("removal", None) => t.acts.push(Act::Removal),
            ("crash", None) => t.acts.push(Act::Crash),
            ("panic", None) => t.acts.push(Act::Panic),
            (key, Some(v)) if key.starts_with("set.") => {
                let path = &key["set.".len()..];
                let p = layouts.place(path, layouts.output)?;
                t.set.push((p.place(), p.value(path, v)?));
            }
            (key, given) => return Err(unknown(key, given)),
        }
    }
    let words: Vec<_> = pairs(text).map(|p| p.0).collect();
    actions::together(&words)?;
    match (t.status, syndrome) {
        (None, Some(_)) => return Err("syndrome= goes with status=".into()),
        (_, s) => t.syndrome = s.unwrap_or(0),
    }
    amend_acts(&mut t.acts, &said)?;
    if t == Then::default() {
        return Err(format!("nothing happens{}", actions("")));
    }
    Ok(t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        line(text).unwrap_err().what
    }

    #[test]
    fn a_line_has_three_parts() {
        let f = line(
            "opcode=query_hca_cap op_mod=1 nth=3 : status=BAD_PARAM syndrome=0x1234 : times=2",
        )
        .unwrap();
        assert_eq!(
            (f.when.opcode, f.when.op_mod, f.when.nth),
            (Some(0x100), Some(1), Some(3))
        );
        assert_eq!(
            (f.then.status, f.then.syndrome, f.left),
            (Some(3), 0x1234, Some(2))
        );
        let f = line("any : lost").unwrap();
        assert_eq!((f.when, f.left), (When::default(), Some(1)));
        assert_eq!(line("any : lost : times=0").unwrap().left, None);
        assert_eq!(line("any : lost").unwrap().text, "any : lost : times=1");
    }

    #[test]
    fn fields_are_those_of_the_message_or_the_register() {
        let f = line("opcode=SET_ISSI current_issi=1 : delay=5").unwrap();
        assert_eq!(
            f.when.fields,
            [(
                Place {
                    offset: 0x50,
                    width: 16
                },
                1
            )]
        );
        // cmd_hca_cap.log_max_eq: 0xfc, behind the outbox's 16 bytes.
        let f = line("opcode=CREATE_MKEY : set.mkey_index=0xffffff").unwrap();
        assert_eq!(
            f.then.set,
            [(
                Place {
                    offset: 0x48,
                    width: 24
                },
                0xff_ffff
            )]
        );
        // A value may have a name: crypto_policy lies in bits 0 to 8 of the item's data, at byte 28.
        let f = line("item=nv_crypto_conf : set.crypto_policy=fips_level_2").unwrap();
        let crypto_policy = Place {
            offset: 28 * 8,
            width: 8,
        };
        assert_eq!(f.then.set, [(crypto_policy, 2)]);
        let f = line("opcode=NOP : set.status=BAD_RES_STATE").unwrap();
        assert_eq!(f.then.set[0].1, 9);
        let f = line("register=PAOS register_data.admin_status=1 : lost").unwrap();
        assert_eq!(f.when.fields[0].1, 1);
        let f = line("register=MGIR : set.hw_info.device_id=7").unwrap();
        assert_eq!(f.then.set.len(), 1);
        assert!(f.then.set[0].0.offset >= 128);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_could_be_there() {
        for (text, said) in [
            ("any", "it is WHEN : THEN"),
            (" : lost", "it says nothing of when"),
            ("any : ", "nothing happens; there are status=NAME"),
            ("any : lost : often", "times is a number"),
            (
                "opcode=ZZZZ : lost",
                "opcode=ZZZZ: there is none of this name; `fwctl-emu list",
            ),
            (
                "opcode=QUERY_HCA_CPA : lost",
                "opcode=QUERY_HCA_CPA: there is none of this name; did you mean QUERY_HCA_CAP",
            ),
            (
                "register=MGRI : lost",
                "register=MGRI: there is none of this name; did you mean MGIR",
            ),
            (
                "opcode=SET_ISSI current_isi=1 : lost",
                "current_isi: no field of set_issi_in; did you mean current_issi?; there are opcode=",
            ),
            (
                "opcode=NOP colour=1 : lost",
                "colour: no field of nop_in; there are opcode=",
            ),
            ("colour=1 : lost", "colour: give opcode= or register="),
            (
                "opcode=SET_ISSI current_issi=65536 : lost",
                "current_issi=65536: the field has 16 bits",
            ),
            (
                "any : status=FINE",
                "status=FINE: there is none of this name; there are OK, ",
            ),
            ("any : syndrome=1", "syndrome= goes with status="),
            (
                "any : explode",
                "explode: there is no such action; there are status=NAME, ",
            ),
            (
                "any : panik",
                "panik: there is no such action; did you mean panic?",
            ),
            ("any : delay", "delay: it is delay=MS"),
            ("any : hang=1", "hang: it takes no value"),
            (
                "opcod=NOP : lost",
                "opcod: give opcode= or register= for its fields; did you mean opcode",
            ),
            ("anny : lost", "anny; did you mean any?; there are opcode="),
            ("any nth=0 : lost", "nth=0: it is counted from 1"),
            ("any percent=0 : lost", "percent=0: it is 1 to 100"),
            ("any percent=101 : lost", "percent=101: it is 1 to 100"),
            ("uid=1 uid=2 : lost", "uid is there twice"),
            (
                "opcode=SET_ISSI current_issi=1 current_issi=2 : lost",
                "current_issi is there twice",
            ),
            ("any any : lost", "any is there twice"),
            ("any : lost lost", "lost is there twice"),
            ("any : raise=CMD raise=CMD", "raise is there twice"),
            (
                "opcode=NOP : set.status=1 set.status=2",
                "set.status is there twice",
            ),
            (
                "any : silent status=BAD_RES",
                "silent does not go with status: it is never answered",
            ),
            (
                "any : status=BAD_RES silent",
                "silent does not go with status: it is never answered",
            ),
            (
                "any : lost cut=8",
                "lost does not go with cut: it is never answered",
            ),
            (
                "opcode=NOP : silent set.status=1",
                "silent does not go with set.status: ",
            ),
            (
                "any : no-event interrupts=2",
                "no-event does not go with interrupts: there is no event",
            ),
            (
                "any : no-interrupt late-interrupt=2",
                "no-interrupt does not go with late-interrupt: ",
            ),
            (
                "opcode=QUERY_HCA_CAP : cut=99999",
                "cut=99999: nothing is cut, as the outbox has 4112 bytes",
            ),
            (
                "register=MGIR : cut=176",
                "cut=176: nothing is cut, as the outbox has 176 bytes",
            ),
            (
                "any : cut=9999999",
                "cut=9999999: nothing is cut, as no outbox has more than ",
            ),
            (
                "any : delivery=TOK_ER",
                "delivery=TOK_ER: there is none of this name; did you mean TOK_ERR?",
            ),
            (
                "any : status=BAD_RESS",
                "status=BAD_RESS: there is none of this name; did you mean BAD_RES",
            ),
            (
                "any : health=FW_INTERNAL_ER",
                "health=FW_INTERNAL_ER: there is none of this name; did you mean FW_INTERNAL_ERR",
            ),
            ("any : other-slot=32", "other-slot=32: slots are 0 to 31"),
            ("uid=65536 : lost", "uid=65536: too large"),
            (
                "any : raise=PORT_CHANG",
                "raise=PORT_CHANG: there is none of this name; did you mean PORT_CHANGE",
            ),
            ("any : event-type=256", "event-type=256: there is none"),
            ("any : count=2 lost", "count= goes with raise="),
            ("any : raise=CMD count=4097", "count=4097: at most 4096"),
            ("any : fatal hang", "fatal goes with health="),
            (
                "any : health=SICK",
                "health=SICK: there is none of this name; there are FW_",
            ),
            ("any : cable=2", "cable=2: 0 pulls it"),
            ("any : page-demand=many", "page-demand=many: not a number"),
            (
                "any : starting=3600001",
                "starting=3600001: at most 3600000 ms",
            ),
            ("any : interrupts=256", "interrupts=256: too large"),
            ("any : stray-write=65536", "stray-write=65536: too large"),
            ("any : fill=2", "fill=2: there are 0, 1 and random"),
            ("any : reserved=2", "reserved=2: there are 0, 1 and random"),
            (
                "item=nv_crypto_con : lost",
                "item=nv_crypto_con: there is none of this name; did you mean nv_crypto_conf",
            ),
            (
                "item=nv_crypto_conf : set.crypto_policy=FIPS_LEVEL_3",
                "crypto_policy=FIPS_LEVEL_3 is not a number, nor one of its values; did you mean FIPS_LEVEL_2",
            ),
            (
                "item=nv_crypto_conf crypto_polic=1 : lost",
                "crypto_polic: no field of nv_crypto_conf or ",
            ),
            ("at=5 uid=1 : hang", "at= is not of a command: it goes with"),
            (
                "at=5 : lost",
                "at= lets the firmware do something by itself",
            ),
            (
                "at=5 : hang lost",
                "at= lets the firmware do something by itself",
            ),
            ("at=0 : raise=CMD : times=2", "at=0 happens once"),
            ("at=3600001 : hang", "at=3600001: at most 3600000 ms"),
            (
                "state=dead : lost",
                "state=dead: there is none of this name; there are disabled",
            ),
        ] {
            assert!(wrong(text).starts_with(said), "{text}: {}", wrong(text));
        }
    }
}
