// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Layouts: what a wire format's bits are called, and views that read and write them.
//!
//! Bits are counted as `mlx5_ifc.h` counts them: from the start of the layout, most significant
//! bit of each big-endian dword first. A field lies in one dword, or is 64 bits in two.
//!
//! Once [`View::new`] has checked the length, no accessor panics.

use core::marker::PhantomData;

/// What a layout is, as a table: for the decoder, for documents and for fuzzers.
#[derive(Debug)]
pub struct LayoutInfo {
    /// Name as in `mlx5_ifc.h`, without `mlx5_ifc_` and `_bits`.
    pub name: &'static str,
    /// Size in bits, without a variable tail.
    pub bits: u32,
    /// Its fields by offset; reserved ones are left out.
    pub fields: &'static [FieldInfo],
}

/// One field of a layout.
#[derive(Debug)]
pub struct FieldInfo {
    /// Name as in `mlx5_ifc.h`.
    pub name: &'static str,
    /// Bits from the start of the layout.
    pub offset: u32,
    /// Bits of one element.
    pub width: u32,
    /// Number of elements: 1 for a plain field, 0 for a tail of as many as there are.
    pub count: u32,
    /// The nested layout, if it is one.
    pub nested: Option<&'static LayoutInfo>,
    /// Names of its values, if they have names.
    pub values: Option<&'static EnumInfo>,
    /// The field of the same layout that holds the number of elements in use.
    pub counted_by: Option<&'static str>,
    /// Which layout lies here, if another field says so.
    pub variants: Option<&'static Variants>,
}

impl FieldInfo {
    /// The same field, with names for its values.
    #[must_use]
    pub(crate) const fn values(self, values: &'static EnumInfo) -> Self {
        Self {
            values: Some(values),
            ..self
        }
    }

    /// The same field, counted by another one.
    #[must_use]
    pub(crate) const fn counted_by(self, name: &'static str) -> Self {
        Self {
            counted_by: Some(name),
            ..self
        }
    }

    /// The same field, with the layouts that may lie here.
    #[must_use]
    pub(crate) const fn variants(self, variants: &'static Variants) -> Self {
        Self {
            variants: Some(variants),
            ..self
        }
    }
}

/// The names of a field's values.
#[derive(Debug)]
pub struct EnumInfo {
    /// Prefix of the header's constants, or what the numbers are.
    pub name: &'static str,
    /// Number and name, by number.
    pub values: &'static [(u64, &'static str)],
}

impl EnumInfo {
    /// The name of `value`, or `None` if it has none.
    #[must_use]
    pub fn name_of(&self, value: u64) -> Option<&'static str> {
        let i = self.values.binary_search_by_key(&value, |v| v.0).ok()?;
        self.values.get(i).map(|v| v.1)
    }
}

/// The layouts that may lie at a field, and what selects one.
#[derive(Debug)]
pub struct Variants {
    /// Path of the selecting field from the layout that holds the field; `in.` leads from an
    /// outbox to the inbox of its command.
    pub selector: &'static str,
    /// How far the selector's value is shifted right before it is looked up.
    pub shift: u32,
    /// Value and layout, by value.
    pub arms: &'static [(u64, &'static LayoutInfo)],
}

impl Variants {
    /// The layout for a value of the selecting field, or `None` if none is known.
    #[must_use]
    pub fn get(&self, selected: u64) -> Option<&'static LayoutInfo> {
        let value = selected.checked_shr(self.shift)?;
        let i = self.arms.binary_search_by_key(&value, |a| a.0).ok()?;
        self.arms.get(i).map(|a| a.1)
    }
}

/// A command and its layouts.
#[derive(Debug)]
pub struct Command {
    /// Its opcode.
    pub opcode: u16,
    /// The opcode's name, as in [`crate::opcode`].
    pub name: &'static str,
    /// Its inbox.
    pub input: &'static LayoutInfo,
    /// Its outbox.
    pub output: &'static LayoutInfo,
}

/// The layouts of a command, or `None` if they are not known.
#[must_use]
pub fn command(opcode: u16) -> Option<&'static Command> {
    let all = crate::layouts::commands::COMMANDS;
    let i = all.binary_search_by_key(&opcode, |c| c.opcode).ok()?;
    all.get(i)
}

impl LayoutInfo {
    /// Size in bytes, without a variable tail.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.bits / 8) as usize
    }

    /// The field at a dotted path (`wq.log_wq_sz`) with its offset from the start of this layout.
    /// Elements of arrays are written `name[3]`.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<Place> {
        let (head, rest) = path
            .split_once('.')
            .map_or((path, None), |(h, r)| (h, Some(r)));
        let (name, index) = match head.split_once('[') {
            Some((n, i)) => (n, i.strip_suffix(']')?.parse::<u32>().ok()?),
            None => (head, 0),
        };
        let f = self.fields.iter().find(|f| f.name == name)?;
        if f.count != 0 && index >= f.count {
            return None;
        }
        let offset = f.offset.checked_add(index.checked_mul(f.width)?)?;
        match (rest, f.nested) {
            (None, _) => Some(Place {
                offset,
                width: f.width,
                info: f,
            }),
            (Some(rest), Some(inner)) => {
                let p = inner.field(rest)?;
                Some(Place {
                    offset: offset.checked_add(p.offset)?,
                    ..p
                })
            }
            (Some(_), None) => None,
        }
    }
}

/// Where a field found by name lies.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Bits from the start of the outermost layout.
    pub offset: u32,
    /// Bits of one element.
    pub width: u32,
    /// The field itself.
    pub info: &'static FieldInfo,
}

/// The layout with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static LayoutInfo> {
    crate::layouts::ALL
        .binary_search_by(|l| l.name.cmp(name))
        .ok()
        .and_then(|i| crate::layouts::ALL.get(i).copied())
}

/// A wire format with a fixed part.
pub trait Layout {
    /// Its table.
    const INFO: &'static LayoutInfo;
    /// Bytes of its fixed part.
    const BYTES: usize;
}

/// A field of at most 64 bits.
pub struct Field<L> {
    offset: u32,
    width: u32,
    layout: PhantomData<fn() -> L>,
}

/// An array of fields of at most 64 bits each; a count of 0 stands for a tail.
pub struct ArrayField<L> {
    offset: u32,
    width: u32,
    count: u32,
    layout: PhantomData<fn() -> L>,
}

/// A nested layout, or an array of them; a count of 0 stands for a tail.
pub struct SubField<L, M> {
    offset: u32,
    count: u32,
    layout: PhantomData<fn() -> (L, M)>,
}

macro_rules! copy {
    ($($t:ident<$($p:ident),+>),+) => {$(
        impl<$($p),+> Clone for $t<$($p),+> {
            fn clone(&self) -> Self { *self }
        }
        impl<$($p),+> Copy for $t<$($p),+> {}
    )+};
}
copy!(Field<L>, ArrayField<L>, SubField<L, M>);

impl<L> Field<L> {
    /// `width` bits at bit `offset`.
    #[must_use]
    pub const fn new(offset: u32, width: u32) -> Self {
        Self {
            offset,
            width,
            layout: PhantomData,
        }
    }

    /// Bits from the start of the layout.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.offset
    }

    /// Its width in bits.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }
}

impl<L> ArrayField<L> {
    /// `count` elements of `width` bits from bit `offset` on.
    #[must_use]
    pub const fn new(offset: u32, width: u32, count: u32) -> Self {
        Self {
            offset,
            width,
            count,
            layout: PhantomData,
        }
    }

    fn at(self, index: usize, bytes: usize) -> Option<u32> {
        if self.count != 0 && index >= self.count as usize {
            return None;
        }
        let at = u64::from(self.offset) + u64::from(self.width) * index as u64;
        let end = (at + u64::from(self.width)).div_ceil(8);
        if end > bytes as u64 {
            None
        } else {
            u32::try_from(at).ok()
        }
    }
}

impl<L, M> SubField<L, M> {
    /// Layouts `M`, one behind the other, from bit `offset` on.
    #[must_use]
    pub const fn new(offset: u32, count: u32) -> Self {
        Self {
            offset,
            count,
            layout: PhantomData,
        }
    }

    /// Byte offset in the layout.
    #[must_use]
    pub const fn byte(self) -> usize {
        (self.offset / 8) as usize
    }
}

/// Reads `width` bits (at most 64) at bit `offset`; what lies outside `buf` reads as 0.
#[must_use]
#[inline]
pub fn get_bits(buf: &[u8], offset: u32, width: u32) -> u64 {
    if width == 64 {
        return get_bits(buf, offset, 32) << 32 | get_bits(buf, offset.saturating_add(32), 32);
    }
    let Some(dword) = dword(buf, offset) else {
        return 0;
    };
    let below = 32u32.saturating_sub((offset & 31) + width);
    u64::from(dword >> below) & mask(width)
}

/// Writes the low `width` bits (at most 64) of `value` at bit `offset`; what lies outside `buf` is
/// dropped.
#[inline]
pub fn set_bits(buf: &mut [u8], offset: u32, width: u32, value: u64) {
    if width == 64 {
        set_bits(buf, offset, 32, value >> 32);
        set_bits(buf, offset.saturating_add(32), 32, value & 0xffff_ffff);
        return;
    }
    let below = 32u32.saturating_sub((offset & 31) + width);
    let m = (mask(width) as u32) << below;
    let Some(old) = dword(buf, offset) else {
        return;
    };
    let new = old & !m | ((value as u32) << below) & m;
    let at = (offset / 32 * 4) as usize;
    let bytes = new.to_be_bytes();
    for (to, from) in buf.iter_mut().skip(at).zip(bytes) {
        *to = from;
    }
}

#[inline]
fn mask(width: u32) -> u64 {
    if width >= 32 {
        0xffff_ffff
    } else {
        (1 << width) - 1
    }
}

/// The dword that bit `offset` is in. At the end of a buffer that is not a multiple of four bytes
/// the missing bytes count as 0.
#[inline]
fn dword(buf: &[u8], offset: u32) -> Option<u32> {
    let at = (offset / 32 * 4) as usize;
    if let Some(b) = buf.get(at..at + 4) {
        return b.try_into().ok().map(u32::from_be_bytes);
    }
    let rest = buf.get(at..).filter(|r| !r.is_empty())?;
    let mut b = [0; 4];
    for (to, from) in b.iter_mut().zip(rest) {
        *to = *from;
    }
    Some(u32::from_be_bytes(b))
}

/// A layout read from bytes.
pub struct View<'a, L> {
    raw: &'a [u8],
    layout: PhantomData<fn() -> L>,
}

impl<L> Clone for View<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L> Copy for View<'_, L> {}

impl<'a, L: Layout> View<'a, L> {
    /// A view over `raw`; `None` if it is shorter than the layout's fixed part.
    #[must_use]
    #[inline]
    pub fn new(raw: &'a [u8]) -> Option<Self> {
        (raw.len() >= L::BYTES).then_some(Self {
            raw,
            layout: PhantomData,
        })
    }

    /// The value of a field.
    #[must_use]
    #[inline]
    pub fn get(&self, f: Field<L>) -> u64 {
        get_bits(self.raw, f.offset, f.width)
    }

    /// True if a field is not 0.
    #[must_use]
    #[inline]
    pub fn flag(&self, f: Field<L>) -> bool {
        self.get(f) != 0
    }

    /// Element `index` of an array; `None` past its end or the end of the bytes.
    #[must_use]
    #[inline]
    pub fn at(&self, f: ArrayField<L>, index: usize) -> Option<u64> {
        Some(get_bits(self.raw, f.at(index, self.raw.len())?, f.width))
    }

    /// A nested layout (the first, if it is an array).
    #[must_use]
    pub fn sub<M: Layout>(&self, f: SubField<L, M>) -> View<'a, M> {
        View {
            raw: self.raw.get(f.byte()..).unwrap_or_default(),
            layout: PhantomData,
        }
    }

    /// Nested layout `index` of an array; `None` past its end or the end of the bytes.
    #[must_use]
    pub fn sub_at<M: Layout>(&self, f: SubField<L, M>, index: usize) -> Option<View<'a, M>> {
        if f.count != 0 && index >= f.count as usize {
            return None;
        }
        let from = f.byte().checked_add(index.checked_mul(M::BYTES)?)?;
        View::new(self.raw.get(from..)?)
    }

    /// All bytes, a tail included.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

/// A layout in bytes that may be written. Bits that no field names keep their value.
pub struct ViewMut<'a, L> {
    raw: &'a mut [u8],
    layout: PhantomData<fn() -> L>,
}

impl<'a, L: Layout> ViewMut<'a, L> {
    /// A view over `raw`; `None` if it is shorter than the layout's fixed part.
    #[must_use]
    pub fn new(raw: &'a mut [u8]) -> Option<Self> {
        (raw.len() >= L::BYTES).then_some(Self {
            raw,
            layout: PhantomData,
        })
    }

    /// The same bytes, for reading.
    #[must_use]
    pub fn view(&self) -> View<'_, L> {
        View {
            raw: self.raw,
            layout: PhantomData,
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, f: Field<L>) -> u64 {
        self.view().get(f)
    }

    /// Sets a field to the low bits of `value`.
    #[inline]
    pub fn set(&mut self, f: Field<L>, value: u64) {
        set_bits(self.raw, f.offset, f.width, value);
    }

    /// Sets element `index` of an array; past its end nothing happens.
    pub fn set_at(&mut self, f: ArrayField<L>, index: usize, value: u64) {
        if let Some(at) = f.at(index, self.raw.len()) {
            set_bits(self.raw, at, f.width, value);
        }
    }

    /// A nested layout (the first, if it is an array).
    pub fn sub_mut<M: Layout>(&mut self, f: SubField<L, M>) -> ViewMut<'_, M> {
        ViewMut {
            raw: self.raw.get_mut(f.byte()..).unwrap_or_default(),
            layout: PhantomData,
        }
    }

    /// All bytes, a tail included.
    pub fn raw_mut(&mut self) -> &mut [u8] {
        self.raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layouts::{CreateEqIn, Eqc};

    #[test]
    fn bits_are_counted_from_the_most_significant() {
        // MLX5_SET(cmd_in, in, opcode, 0x301) puts 03 01 first; op_mod is the last 16 bits of
        // the second dword.
        let mut b = [0u8; 16];
        set_bits(&mut b, 0, 16, 0x301);
        set_bits(&mut b, 48, 16, 0xabcd);
        set_bits(&mut b, 0x43, 5, 0b1_0101);
        assert_eq!(
            b,
            [
                3,
                1,
                0,
                0,
                0,
                0,
                0xab,
                0xcd,
                0b0001_0101,
                0,
                0,
                0,
                0,
                0,
                0,
                0
            ]
        );
        set_bits(&mut b, 64, 64, 0x0102_0304_0506_0708);
        assert_eq!(b[8..], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(get_bits(&b, 64, 64), 0x0102_0304_0506_0708);
        assert_eq!(get_bits(&b, 72, 24), 0x02_0304);
    }

    #[test]
    fn outside_reads_as_zero_and_is_not_written() {
        let mut b = [0xffu8; 6];
        assert_eq!(get_bits(&b, 64, 32), 0);
        assert_eq!(get_bits(&b, 32, 32), 0xffff_0000);
        assert_eq!(get_bits(&b, u32::MAX, 64), 0);
        set_bits(&mut b, 32, 32, 0);
        set_bits(&mut b, 96, 64, 0);
        assert_eq!(b, [0xff, 0xff, 0xff, 0xff, 0, 0]);
    }

    #[test]
    fn setting_a_field_leaves_the_others() {
        let mut b = [0xa5u8; 64];
        let before = b;
        let mut v = ViewMut::<Eqc>::new(&mut b).unwrap();
        v.set(Eqc::LOG_EQ_SIZE, 0x1f);
        assert_eq!(v.get(Eqc::LOG_EQ_SIZE), 0x1f);
        // Bits 0x63..0x68: the low five of byte 12.
        assert_eq!(b[12], 0xa5 | 0x1f);
        assert_eq!(b[..12], before[..12]);
        assert_eq!(b[13..], before[13..]);
    }

    #[test]
    fn names_are_found_and_paths_add_up() {
        let l = find("create_eq_in").unwrap();
        assert_eq!(l.bits, 0x880);
        let p = l.field("eq_context_entry.log_eq_size").unwrap();
        assert_eq!((p.offset, p.width), (0x80 + 0x63, 5));
        assert_eq!(l.field("event_bitmask[1]").unwrap().offset, 0x2c0 + 0x40);
        assert!(l.field("event_bitmask[4]").is_none());
        assert!(l.field("eq_context_entry.nothing").is_none());
        assert!(find("no_such_layout").is_none());
    }

    #[test]
    fn a_tail_ends_with_the_bytes() {
        let b = [0x11u8; 0x110 + 12];
        let v = View::<CreateEqIn>::new(&b).unwrap();
        assert_eq!(v.at(CreateEqIn::PAS, 0), Some(0x1111_1111_1111_1111));
        assert_eq!(v.at(CreateEqIn::PAS, 1), None);
        assert!(View::<CreateEqIn>::new(&b[..0x10f]).is_none());
    }
}
