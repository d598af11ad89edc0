// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration items: MNVDA reads and sets one, MNVDI and MNVIA take settings back, MNVGN goes
//! through them, MNVQC and MNVGC say what can be done. Which items there are says the tools' database.

use fwctl_proto::{
    layout::{get_bits, set_bits},
    mst::nv::{Item, Type, class, every, named},
};

use super::{limits, put};
use crate::{
    cmd::{Ctx, Done},
    nv::MAX_ITEM_BYTES,
    syndrome::Syndrome,
};

/// Management non-volatile data access: header and 64 dwords.
pub const MNVDA_BYTES: usize = DATA + MAX_ITEM_BYTES;
/// Invalidates one item.
pub const MNVDI: u16 = 0x9025;
/// Bytes of MNVDI: a header.
pub const MNVDI_BYTES: usize = DATA;
/// Says what can be done with an item.
pub const MNVQC: u16 = 0x9030;
/// Bytes of MNVQC.
pub const MNVQC_BYTES: usize = 8;
/// Invalidates all items.
pub const MNVIA: u16 = 0x9033;
/// Bytes of MNVIA.
pub const MNVIA_BYTES: usize = 8;
/// Says which values can be read.
pub const MNVGC: u16 = 0x9034;
/// Bytes of MNVGC.
pub const MNVGC_BYTES: usize = 16;

/// Goes through the items that were set.
pub const MNVGN: u16 = 0x9035;
/// Bytes of MNVGN: a pointer, and behind it an item.
pub const MNVGN_BYTES: usize = MNVGN_ITEM + DATA + MNVGN_DATA;
const MNVGN_ITEM: usize = 16;
/// Bytes of an item that it has room for; of longer items it tells the first.
const MNVGN_DATA: usize = 128;

/// Byte offset of the data behind an item's header.
const DATA: usize = 12;
/// `access_mode`: bits 8..10 from the start.
const ACCESS_MODE: (u32, u32) = (8, 2);
/// `writer_id`: bits 11..16.
const WRITER: (u32, u32) = (11, 5);
/// `version`: bits 16..20.
const VERSION: (u32, u32) = (16, 4);
/// `host_id_valid`: the type word's host and function count; else it names whoever asks.
const HOST_ID_VALID: (u32, u32) = (22, 1);
/// `length` in bytes: bits 23..32.
const LENGTH: (u32, u32) = (23, 9);
/// `type`: the second dword.
const TYPE: (u32, u32) = (32, 32);
/// `MNVIA.target`: all items, in bits 29..32.
const TARGET: (u32, u32) = (29, 3);
const ALL: u64 = 0;

const NEXT: u64 = 0;
const CURRENT: u64 = 1;
const DEFAULT: u64 = 2;

/// The item that a header's type word names, if this card has it, and the type words of each: more than
/// one if it names all ports or functions.
fn find_all(ctx: &Ctx<'_>, given: &[u8]) -> Result<(&'static Item, Vec<u32>), Syndrome> {
    let mut t = Type::of(get_bits(given, TYPE.0, TYPE.1) as u32);
    if get_bits(given, HOST_ID_VALID.0, HOST_ID_VALID.1) == 0 {
        (t.host, t.function) = (0, ctx.f.id.0);
    }
    let item = t.item().ok_or(Syndrome::NvTypeUnknown)?;
    // Each function has a port and a module of its own, and all have one host.
    let functions = ctx.others.functions();
    let of_class = u32::from(t.class) << 24 | t.id;
    let words = match t.class {
        class::PORT if t.all != 0 => (1..=functions)
            .map(|port| of_class | (port as u32) << 16)
            .collect(),
        class::FUNCTION if t.all != 0 => {
            let host = t.all & every::UNIT != 0 || t.host == 0;
            let of = |f: usize| of_class | (f as u32) << 10;
            let one = usize::from(t.function);
            match t.all & every::FUNCTION {
                _ if !host => Vec::new(),
                0 if one >= functions => Vec::new(),
                0 => vec![of(one)],
                _ => (0..functions).map(of).collect(),
            }
        }
        class::PORT if !(1..=functions).contains(&usize::from(t.unit)) => Vec::new(),
        class::MODULE if usize::from(t.unit) >= functions => Vec::new(),
        class::FUNCTION if t.host != 0 || usize::from(t.function) >= functions => Vec::new(),
        class::HOST if t.host != 0 => Vec::new(),
        _ => vec![t.word()],
    };
    if words.is_empty() || item.layout.bytes() > MAX_ITEM_BYTES {
        return Err(Syndrome::NvTypeUnknown);
    }
    Ok((item, words))
}

/// The item that a header's type word names, and the type word of the first.
fn find(ctx: &Ctx<'_>, given: &[u8]) -> Result<(&'static Item, u32), Syndrome> {
    let (item, words) = find_all(ctx, given)?;
    let first = words.first().copied();
    Ok((item, first.ok_or(Syndrome::NvTypeUnknown)?))
}

/// Reads an item: what was set, or else the profile's value, or zeros.
pub fn read(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    if ctx.op_mod == super::WRITE {
        // What was set stands in the image.
        return Ok(());
    }
    let (item, word) = find(ctx, given)?;
    let nv = &ctx.shared.nv;
    let (set, writer) = match get_bits(given, ACCESS_MODE.0, ACCESS_MODE.1) {
        _ if item.capability => (None, 0),
        NEXT => (nv.next(word), nv.writer(word)),
        CURRENT => (nv.current(word), 0),
        DEFAULT => (None, 0),
        _ => return Err(Syndrome::RegisterField.into()),
    };
    header(given, image, item);
    set_bits(image, WRITER.0, WRITER.1, u64::from(writer));
    let value = set.or_else(|| ctx.profile.nv(item));
    let length = value.map_or(item.layout.bytes(), <[u8]>::len);
    set_bits(image, LENGTH.0, LENGTH.1, length as u64);
    for (to, from) in image.iter_mut().skip(DATA).zip(value.unwrap_or(&[])) {
        *to = *from;
    }
    Ok(())
}

/// Sets an item's next-boot value; answered when it is stored.
pub fn write(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let (item, words) = find_all(ctx, given)?;
    if item.capability {
        return Err(Syndrome::RegisterReadOnly.into());
    }
    if get_bits(given, ACCESS_MODE.0, ACCESS_MODE.1) != NEXT {
        return Err(Syndrome::RegisterField.into());
    }
    // A tool that knows an older layout sends its version (mstconfig always 0), and may send less.
    if get_bits(given, VERSION.0, VERSION.1) > u64::from(item.version) {
        return Err(Syndrome::NvVersion.into());
    }
    let length = get_bits(given, LENGTH.0, LENGTH.1) as usize;
    let right = length != 0 && length.is_multiple_of(4) && length <= item.layout.bytes();
    // What the inbox really carries: `given` is as long as the register.
    let carried = ctx.inbox.len().saturating_sub(super::DATA);
    let data = given
        .get(DATA..DATA + length)
        .filter(|_| right && carried >= DATA + length)
        .ok_or(Syndrome::NvLength)?;
    for word in &words {
        within(ctx, *word, item, data)?;
    }
    if !ctx.shared.nv.has_room(&words) {
        return Err(Syndrome::NvLimit.into());
    }
    let writer = get_bits(given, WRITER.0, WRITER.1) as u8;
    for word in words {
        ctx.shared.nv.set(word, data, writer, &mut ctx.batch)?;
    }
    header(given, image, item);
    for (to, from) in image.iter_mut().skip(DATA).zip(data) {
        *to = *from;
    }
    Ok(())
}

/// Refuses new values of parameters that the tools' database rules out. A value that the item has
/// already is not looked at: it is the card's own, or was in order when it was set.
fn within(ctx: &Ctx<'_>, word: u32, item: &'static Item, data: &[u8]) -> Done {
    let stored = |word: u32, item: &Item| {
        let set = ctx.shared.nv.next(word).filter(|_| !item.capability);
        set.or_else(|| ctx.profile.nv(item)).unwrap_or(&[]).to_vec()
    };
    let param = |item: &Item, bytes: &[u8], name: &str| {
        let f = item.layout.fields.iter().find(|f| f.name == name)?;
        let mut whole = bytes.to_vec();
        whole.resize(item.layout.bytes().max(bytes.len()), 0);
        i64::try_from(get_bits(&whole, f.offset, f.width)).ok()
    };
    let values = |of: Option<&str>, name: &str| match of.and_then(named) {
        None if of.is_some() => None,
        None => param(item, data, name),
        // A capability that the profile does not state binds nothing.
        Some(o) if o.capability && ctx.profile.nv(o).is_none() => None,
        // Of the same port, function or module, where the class is the same.
        Some(o) => {
            let ids = Type::of(word).id;
            let at = if o.class == item.class {
                word ^ ids ^ o.id
            } else {
                u32::from(o.class) << 24 | o.id
            };
            param(o, &stored(at, o), name)
        }
    };
    let before = stored(word, item);
    let own = ctx.profile.nv(item).unwrap_or(&[]);
    if !are_listed(item, data, &[&before, own]) {
        return Err(Syndrome::NvRange.into());
    }
    for limit in item.limits {
        let new = param(item, data, limit.param);
        if new == param(item, &before, limit.param) {
            continue;
        }
        if new.is_some_and(|v| !limits::holds(limit, v, &values)) {
            return Err(Syndrome::NvRange.into());
        }
    }
    Ok(())
}

/// True if each parameter with a list of values has one of them, or what it has in one of `own`. Those that
/// `data` is too short for are not set.
fn are_listed(item: &Item, data: &[u8], own: &[&[u8]]) -> bool {
    let mut lists = item.layout.fields.iter();
    lists.all(|f| {
        let Some(list) = f.values else { return true };
        let places = (0..f.count.max(1)).map(|i| f.offset + i * f.width);
        let mut sent = places.filter(|at| ((at + f.width) as usize) <= data.len() * 8);
        sent.all(|at| {
            let value = get_bits(data, at, f.width);
            list.name_of(value).is_some() || own.iter().any(|o| get_bits(o, at, f.width) == value)
        })
    })
}

/// An item's header comes back as it was sent, with the version that there is.
fn header(given: &[u8], image: &mut [u8], item: &Item) {
    for (to, from) in image.iter_mut().take(DATA).zip(given) {
        *to = *from;
    }
    set_bits(image, VERSION.0, VERSION.1, u64::from(item.version));
}

/// MNVDI: the next-boot value of an item is the profile's again.
pub fn invalidate(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let (item, words) = find_all(ctx, given)?;
    if item.capability {
        return Err(Syndrome::RegisterReadOnly.into());
    }
    for word in words {
        ctx.shared.nv.unset(word, &mut ctx.batch);
    }
    header(given, image, item);
    Ok(())
}

/// MNVIA: all next-boot values are the profile's again.
pub fn invalidate_all(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    if get_bits(given, TARGET.0, TARGET.1) != ALL {
        return Err(Syndrome::RegisterField.into());
    }
    ctx.shared.nv.unset_all(&mut ctx.batch);
    Ok(())
}

/// MNVQC: whether an item can be read and set, and its version; of one that there is not, nothing.
#[allow(clippy::unnecessary_wraps)]
pub fn capabilities(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let word = get_bits(given, 0, 32);
    put(image, MNVQC, "type", [word]);
    // It has a type word without a header, and no data: whose item it is does not matter.
    let mut asked = [0; DATA];
    set_bits(&mut asked, TYPE.0, TYPE.1, word);
    if let Ok((item, _)) = find(ctx, &asked) {
        put(image, MNVQC, "version", [u64::from(item.version)]);
        put(image, MNVQC, "support_rd", [1]);
        put(image, MNVQC, "support_wr", [u64::from(!item.capability)]);
    }
    Ok(())
}

/// MNVGN: the item behind the one that `nv_pointer` names, of those that have a next-boot value; its
/// own pointer, or 0 behind the last. Of an item that is longer than the register or the outbox has
/// room for, the beginning.
#[allow(clippy::unnecessary_wraps)]
pub fn next_item(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    // The type word of an item is its pointer: none is 0.
    let behind = get_bits(given, 0, 32) as u32;
    image.fill(0);
    let Some((word, value)) = ctx.shared.nv.next_behind(behind) else {
        return Ok(());
    };
    set_bits(image, 0, 32, u64::from(word));
    let Some(item) = image.get_mut(MNVGN_ITEM..) else {
        return Ok(());
    };
    let carried = ctx.out_len.min(ctx.inbox.len());
    let room = carried.saturating_sub(super::DATA + MNVGN_ITEM + DATA);
    let told = value.len().min(MNVGN_DATA).min(room & !3);
    set_bits(item, LENGTH.0, LENGTH.1, told as u64);
    set_bits(item, TYPE.0, TYPE.1, u64::from(word));
    let t = Type::of(word);
    let of_one = matches!(t.class, class::FUNCTION | class::HOST);
    set_bits(item, HOST_ID_VALID.0, HOST_ID_VALID.1, u64::from(of_one));
    let writer = ctx.shared.nv.writer(word);
    set_bits(item, WRITER.0, WRITER.1, u64::from(writer));
    let version = t.item().map_or(0, |i| i.version);
    set_bits(item, VERSION.0, VERSION.1, u64::from(version));
    for (to, from) in item.iter_mut().skip(DATA).zip(value.iter().take(told)) {
        *to = *from;
    }
    Ok(())
}

/// MNVGC: current and default values can be read, and the items of other functions.
#[allow(clippy::unnecessary_wraps)]
pub fn modes(_: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    put(image, MNVGC, "priv_nv_other_host", [1]);
    put(image, MNVGC, "nvda_read_current_settings", [1]);
    put(image, MNVGC, "nvda_read_factory_settings", [1]);
    Ok(())
}
