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
};

use crate::{
    cmd::{Ctx, Done, Others, view, view_mut},
    function::uctx::CallerKind,
    object::mkey::Region,
    store::Batch,
    syndrome::{Refusal, Syndrome},
    table,
};

use super::segments::{self, One, SEGMENTS, Segment};

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
    let of_objects = SEGMENTS.iter().find(|s| s.id == a.kind);
    match of_objects {
        _ if a.kind == segment::MENU => menu(&mut dump),
        Some(s) => objects(ctx, s, a, &mut dump),
        None => error(&mut dump, Syndrome::DumpUnknown),
    }
    segment(&mut dump, segment::TERMINATE, &[]);
    dump
}

/// What can be dumped.
fn menu(dump: &mut Vec<u8>) {
    type Record = ResourceDumpMenuRecord;
    let mut all = vec![0; 4];
    set_bits(&mut all, 16, 16, SEGMENTS.len() as u64);
    for s in SEGMENTS {
        let (index1, index2) = s.indices;
        let mut r = vec![0; Record::BYTES];
        if let Some(mut m) = ViewMut::<Record>::new(&mut r) {
            m.set(Record::SEGMENT_TYPE, u64::from(s.id));
            m.set(Record::SUPPORT_INDEX1, 1);
            m.set(Record::SUPPORT_NUM_OF_OBJ1, 1);
            m.set(Record::NUM_OF_OBJ1_SUPPORTS_ALL, 1);
            m.set(Record::NUM_OF_OBJ1_SUPPORTS_ACTIVE, 1);
            let second = u64::from(index2.is_some());
            m.set(Record::SUPPORT_INDEX2, second);
            m.set(Record::SUPPORT_NUM_OF_OBJ2, second);
            m.set(Record::NUM_OF_OBJ2_SUPPORTS_ALL, second);
            m.set(Record::NUM_OF_OBJ2_SUPPORTS_ACTIVE, second);
        }
        for (at, text) in [
            (Record::SEGMENT_NAME, s.name.to_owned()),
            (Record::INDEX1_NAME, index1.to_uppercase()),
            (
                Record::INDEX2_NAME,
                index2.unwrap_or_default().to_uppercase(),
            ),
        ] {
            let place = r.iter_mut().skip(at.byte()).take(segments::NAME);
            for (to, from) in place.zip(text.bytes()) {
                *to = from;
            }
        }
        all.extend_from_slice(&r);
    }
    segment(dump, segment::MENU, &all);
}

/// True if an object of this number is among `count` from `first` on; no count is one.
fn asked_for(n: u32, first: u64, count: u64) -> bool {
    let n = u64::from(n);
    matches!(count, ALL | ACTIVE) || (first..first + count.max(1)).contains(&n)
}

/// Objects of a sort from `index1` and `index2` on.
fn objects(ctx: &mut Ctx<'_>, s: &Segment, a: &Asked, dump: &mut Vec<u8>) {
    let mut all = s.all(ctx.f);
    all.retain(|o| {
        let second = s.indices.1.is_none() || asked_for(o.indices.1, a.index2, a.num2);
        second && asked_for(o.indices.0, a.index1, a.num1)
    });
    if all.is_empty() {
        return error(dump, Syndrome::ObjectUnknown);
    }
    for o in all {
        let Ok(shown) = query(ctx, s, &o) else {
            continue;
        };
        type Resource = ResourceDumpResourceSegment;
        let mut c = content(&[
            (Resource::INDEX1, u64::from(o.indices.0)),
            (Resource::INDEX2, u64::from(o.indices.1)),
        ]);
        // Behind status and syndrome.
        c.extend(shown.iter().skip(8));
        if dump.len() + c.len() + ResourceDumpErrorSegment::BYTES + 8 > MAX_DUMP {
            return error(dump, Syndrome::DumpTooLong);
        }
        segment(dump, a.kind, &c);
    }
}

/// What a query command shows of an object.
fn query(ctx: &mut Ctx<'_>, s: &Segment, o: &One) -> Result<Vec<u8>, Refusal> {
    let op = table::find(s.opcode).ok_or(Syndrome::DumpUnknown)?;
    let mut inbox = vec![0; usize::from(op.in_len)];
    set_bits(&mut inbox, 0, 16, u64::from(op.opcode));
    set_bits(&mut inbox, 48, 16, u64::from(o.op_mod));
    for (at, n) in s.numbers(o) {
        set_bits(&mut inbox, at.offset, at.width, u64::from(n));
    }
    let mut out = vec![0; o.bytes(op.out_len)];
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
        op_mod: o.op_mod,
        inbox: &inbox,
        out_len: out.len(),
        batch: Batch::default(),
        mem: ctx.mem,
        held: false,
        gateway: ctx.gateway,
        marks: Vec::new(),
        writes: Vec::new(),
    };
    op.action.run(&mut inner, &mut out)?;
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
