// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! RESOURCE_DUMP: a menu of what can be dumped, and the objects of the function as their query
//! commands show them. A dump is put together whole at its first request, so that its pieces fit;
//! they come in the register itself or in memory behind a memory key.

use fwctl_proto::{
    layout::{Field, Layout as _, View, ViewMut, set_bits},
    layouts::{
        ResourceDump, ResourceDumpCommandSegment, ResourceDumpErrorSegment,
        ResourceDumpInfoSegment, ResourceDumpMenuRecord, ResourceDumpResourceSegment,
        ResourceDumpSegmentHeader,
    },
    opcode,
};

use crate::{
    cmd::{Ctx, Done, Others, view, view_mut},
    function::uctx::CallerKind,
    object::{Kind, mkey::Region, ops},
    store::Batch,
    syndrome::{Refusal, Syndrome},
    table::{Action, OPS, Op},
};

/// Most bytes of a dump.
pub const MAX_DUMP: usize = 1 << 20;
/// Bytes of a piece in the register.
const INLINE: usize = 208;
/// Byte offset of the piece in the register.
const INLINE_DATA: usize = 0x30;
/// A number of objects that stands for all of them.
const ALL: u64 = 0xffff;
/// Likewise: those that there are, which is the same here.
const ACTIVE: u64 = 0xfffe;

/// Types of segments (`mlx5_ifc.h`, and the tools' constants).
mod segment {
    pub const COMMAND: u16 = 0xfffa;
    pub const TERMINATE: u16 = 0xfffb;
    pub const ERROR: u16 = 0xfffc;
    pub const INFO: u16 = 0xfffe;
    pub const MENU: u16 = 0xffff;
}
/// Type of the first kind of objects; the others follow in the order of the kinds.
const FIRST_OBJECT: u16 = 0x1000;

/// A dump that is being read.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Dump {
    number: u32,
    bytes: Vec<u8>,
}

impl Dump {
    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.bytes.len() > MAX_DUMP {
            return Err("a resource dump that is too long");
        }
        Ok(())
    }
}

/// Kinds of objects that can be dumped, each with its query command.
fn kinds() -> impl Iterator<Item = (&'static Op, &'static Kind)> {
    OPS.iter().filter_map(|o| match o.action {
        Action::Query(kind) if !kind.typed => Some((o, kind)),
        _ => None,
    })
}

fn segment_type(kind: &Kind) -> u16 {
    FIRST_OBJECT + kind.id as u16
}

/// Appends a segment: a header of its length and type, and its content.
fn segment(dump: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let mut head = [0; ResourceDumpSegmentHeader::BYTES];
    let dwords = (head.len() + content.len()).div_ceil(4);
    if let Some(mut m) = ViewMut::<ResourceDumpSegmentHeader>::new(&mut head) {
        m.set(ResourceDumpSegmentHeader::LENGTH_DW, dwords as u64);
        m.set(ResourceDumpSegmentHeader::SEGMENT_TYPE, u64::from(kind));
    }
    let end = dump.len() + dwords * 4;
    dump.extend_from_slice(&head);
    dump.extend_from_slice(content);
    dump.resize(end, 0);
}

/// The content of a segment whose layout begins with its header.
fn content<L: fwctl_proto::layout::Layout>(fields: &[(Field<L>, u64)]) -> Vec<u8> {
    let mut s = vec![0; L::BYTES];
    if let Some(mut m) = ViewMut::<L>::new(&mut s) {
        for (field, value) in fields {
            m.set(*field, *value);
        }
    }
    s.drain(..ResourceDumpSegmentHeader::BYTES);
    s
}

/// What a request asks for.
struct Asked {
    kind: u16,
    index1: u64,
    index2: u64,
    num1: u64,
    num2: u64,
}

/// The whole dump.
fn build(ctx: &mut Ctx<'_>, a: &Asked) -> Vec<u8> {
    let mut dump = Vec::new();
    let [major, minor, sub] = ctx.shared.firmware.running.version.map(u64::from);
    type Info = ResourceDumpInfoSegment;
    let info = content(&[
        (Info::DUMP_VERSION, 1),
        (Info::HW_VERSION, u64::from(ctx.profile.pci().hw_id)),
        (Info::FW_VERSION, major << 24 | minor << 16 | sub),
    ]);
    segment(&mut dump, segment::INFO, &info);
    type Command = ResourceDumpCommandSegment;
    let command = content(&[
        (Command::SEGMENT_CALLED, u64::from(a.kind)),
        (Command::INDEX1, a.index1),
        (Command::INDEX2, a.index2),
        (Command::NUM_OF_OBJ1, a.num1),
        (Command::NUM_OF_OBJ2, a.num2),
    ]);
    segment(&mut dump, segment::COMMAND, &command);
    let object = kinds().find(|(_, k)| segment_type(k) == a.kind);
    match object {
        _ if a.kind == segment::MENU => menu(&mut dump),
        Some((op, kind)) => objects(ctx, op, kind, a, &mut dump),
        None => error(&mut dump, Syndrome::DumpUnknown),
    }
    segment(&mut dump, segment::TERMINATE, &[]);
    dump
}

/// What can be dumped.
fn menu(dump: &mut Vec<u8>) {
    type Record = ResourceDumpMenuRecord;
    let mut all = vec![0; 4];
    set_bits(&mut all, 16, 16, kinds().count() as u64);
    for (op, kind) in kinds() {
        let mut r = vec![0; Record::BYTES];
        if let Some(mut m) = ViewMut::<Record>::new(&mut r) {
            m.set(Record::SEGMENT_TYPE, u64::from(segment_type(kind)));
            m.set(Record::SUPPORT_INDEX1, 1);
            m.set(Record::SUPPORT_NUM_OF_OBJ1, 1);
            m.set(Record::NUM_OF_OBJ1_SUPPORTS_ALL, 1);
            m.set(Record::NUM_OF_OBJ1_SUPPORTS_ACTIVE, 1);
        }
        let name = format!("PRM_{}", opcode::name(op.opcode).unwrap_or_default());
        let index = kind.name.to_uppercase();
        for (at, text) in [(Record::SEGMENT_NAME, name), (Record::INDEX1_NAME, index)] {
            let place = r.iter_mut().skip(at.byte()).take(15);
            for (to, from) in place.zip(text.bytes()) {
                *to = from;
            }
        }
        all.extend_from_slice(&r);
    }
    segment(dump, segment::MENU, &all);
}

/// Objects of a kind from `index1` on.
fn objects(ctx: &mut Ctx<'_>, op: &Op, kind: &'static Kind, a: &Asked, dump: &mut Vec<u8>) {
    let first = a.index1 as u32;
    let ids: Vec<u32> = match a.num1 {
        ALL | ACTIVE => ctx.f.objects.all(kind.id).map(|(n, _)| n).collect(),
        count => {
            let last = first.saturating_add((count.max(1) - 1) as u32);
            let there = ctx.f.objects.all(kind.id).map(|(n, _)| n);
            there.filter(|n| (first..=last).contains(n)).collect()
        }
    };
    if ids.is_empty() {
        return error(dump, Syndrome::ObjectUnknown);
    }
    for n in ids {
        let Ok(shown) = query(ctx, op, kind, n) else {
            continue;
        };
        type Resource = ResourceDumpResourceSegment;
        let mut s = content(&[(Resource::INDEX1, u64::from(n))]);
        // Behind status and syndrome.
        s.extend(shown.iter().skip(8));
        if dump.len() + s.len() + ResourceDumpErrorSegment::BYTES + 8 > MAX_DUMP {
            return error(dump, Syndrome::DumpTooLong);
        }
        segment(dump, a.kind, &s);
    }
}

/// What a query command shows of an object.
fn query(ctx: &mut Ctx<'_>, op: &Op, kind: &'static Kind, n: u32) -> Result<Vec<u8>, Refusal> {
    let mut inbox = vec![0; usize::from(op.in_len)];
    set_bits(&mut inbox, 0, 16, u64::from(op.opcode));
    set_bits(
        &mut inbox,
        kind.id_in.offset,
        kind.id_in.width,
        u64::from(n),
    );
    let mut out = vec![0; usize::from(op.out_len)];
    let mut inner = Ctx {
        f: &mut *ctx.f,
        others: Others {
            before: &mut *ctx.others.before,
            behind: &mut *ctx.others.behind,
        },
        shared: &mut *ctx.shared,
        profile: ctx.profile,
        now: ctx.now,
        caller: CallerKind::Kernel,
        uid: 0,
        op_mod: 0,
        inbox: &inbox,
        out_len: out.len(),
        batch: Batch::default(),
        mem: ctx.mem,
        held: false,
        gateway: ctx.gateway,
        marks: Vec::new(),
        writes: Vec::new(),
    };
    ops::query(kind, &mut inner, &mut out)?;
    Ok(out)
}

fn error(dump: &mut Vec<u8>, why: Syndrome) {
    type Error = ResourceDumpErrorSegment;
    let mut s = content(&[(Error::SYNDROME_ID, u64::from(why.code() & 0xffff))]);
    let at = Error::ERROR.byte() - ResourceDumpSegmentHeader::BYTES;
    for (to, from) in s.iter_mut().skip(at).take(31).zip(why.name().bytes()) {
        *to = from;
    }
    segment(dump, segment::ERROR, &s);
}

/// The register asks and is answered at once: drivers write it, tools read it.
#[allow(clippy::unnecessary_wraps)]
pub fn write(_: &mut Ctx<'_>, _given: &[u8], _image: &mut [u8]) -> Done {
    Ok(())
}

/// The next piece of a dump. `device_opaque`, which comes back as it was given, says which dump and
/// from where on; 0 begins one.
pub fn next(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, ResourceDump> = view(given)?;
    let get = |f| v.get(f);
    let own = u64::from(ctx.f.id.0);
    if ![0, own].contains(&get(ResourceDump::VHCA_ID)) {
        return Err(Syndrome::OtherFunction.into());
    }
    let opaque = get(ResourceDump::DEVICE_OPAQUE);
    let mut from = 0;
    if opaque == 0 {
        let asked = Asked {
            kind: get(ResourceDump::SEGMENT_TYPE) as u16,
            index1: get(ResourceDump::INDEX1),
            index2: get(ResourceDump::INDEX2),
            num1: get(ResourceDump::NUM_OF_OBJ1),
            num2: get(ResourceDump::NUM_OF_OBJ2),
        };
        let bytes = build(ctx, &asked);
        // Never 0: that begins a dump.
        let number = ctx.f.dump.number.wrapping_add(1).max(1);
        ctx.f.dump = Dump { number, bytes };
    } else {
        from = (opaque & 0xffff_ffff) as usize;
        let same = (opaque >> 32) as u32 == ctx.f.dump.number;
        if !same || from >= ctx.f.dump.bytes.len() {
            return Err(Syndrome::DumpLost.into());
        }
    }
    let is_inline = get(ResourceDump::INLINE_DUMP) == 1;
    let room = if is_inline {
        INLINE
    } else {
        get(ResourceDump::SIZE) as usize & !3
    };
    let rest = ctx.f.dump.bytes.get(from..).unwrap_or_default();
    let piece = rest
        .get(..room.min(rest.len()))
        .unwrap_or_default()
        .to_vec();
    if !is_inline && !piece.is_empty() {
        let mkey = get(ResourceDump::MKEY) as u32;
        let region = Region::of(&ctx.f.objects, mkey).ok_or(Syndrome::DumpMemory)?;
        let pieces = region.pieces(get(ResourceDump::ADDRESS), piece.len());
        let mut at = 0;
        for (addr, len) in pieces.ok_or(Syndrome::DumpMemory)? {
            let part = piece.get(at..at + len).unwrap_or_default();
            ctx.writes.push((addr, part.to_vec()));
            at += len;
        }
    }
    let end = from + piece.len();
    let more = end < ctx.f.dump.bytes.len();
    let number = ctx.f.dump.number;
    if !more {
        ctx.f.dump.bytes = Vec::new();
    }
    for (to, byte) in image.iter_mut().zip(given.iter().take(INLINE_DATA)) {
        *to = *byte;
    }
    let mut m: ViewMut<'_, ResourceDump> = view_mut(image)?;
    let seq = (get(ResourceDump::SEQ_NUM) + 1) & 0xf;
    m.set(ResourceDump::SEQ_NUM, seq);
    m.set(ResourceDump::MORE_DUMP, u64::from(more));
    m.set(ResourceDump::SIZE, piece.len() as u64);
    m.set(
        ResourceDump::DEVICE_OPAQUE,
        u64::from(number) << 32 | end as u64,
    );
    if is_inline {
        for (to, byte) in image.iter_mut().skip(INLINE_DATA).zip(piece) {
            *to = byte;
        }
    }
    Ok(())
}
