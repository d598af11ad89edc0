// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Typed fields, and views that read and write them. Once [`View::new`] has checked the length, no
//! accessor panics.

use core::marker::PhantomData;

use super::{LayoutInfo, get_bits, set_bits};

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
    /// Byte offset of its first element.
    #[must_use]
    pub const fn byte(self) -> usize {
        self.offset as usize / 8
    }

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

    /// Bit offset of element `index`, if it lies in the array and in `bytes` bytes.
    fn at(self, index: usize, bytes: usize) -> Option<u32> {
        if self.count != 0 && index >= self.count as usize {
            return None;
        }
        let index = u32::try_from(index).ok()?;
        let at = self.offset.checked_add(self.width.checked_mul(index)?)?;
        let end = at.checked_add(self.width)?.div_ceil(8);
        (end as usize <= bytes).then_some(at)
    }

    /// The bytes of the whole array, of which there are `bytes` at most; a tail has them all.
    fn range(self, bytes: usize) -> core::ops::Range<usize> {
        let from = ((self.offset / 8) as usize).min(bytes);
        let bits = u64::from(self.width) * u64::from(self.count);
        let len = match self.count {
            0 => bytes,
            _ => usize::try_from(bits / 8).unwrap_or(bytes),
        };
        from..from.saturating_add(len).min(bytes)
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

    /// The bytes of an array (a name, an address, a block of data); a tail reaches to the end.
    #[must_use]
    pub fn bytes(&self, f: ArrayField<L>) -> &'a [u8] {
        self.raw.get(f.range(self.raw.len())).unwrap_or_default()
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

    /// True if a field is not 0.
    #[must_use]
    pub fn flag(&self, f: Field<L>) -> bool {
        self.view().flag(f)
    }

    /// Element `index` of an array; `None` past its end or the end of the bytes.
    #[must_use]
    pub fn at(&self, f: ArrayField<L>, index: usize) -> Option<u64> {
        self.view().at(f, index)
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

    /// Nested layout `index` of an array; `None` past its end or the end of the bytes.
    pub fn sub_at_mut<M: Layout>(
        &mut self,
        f: SubField<L, M>,
        index: usize,
    ) -> Option<ViewMut<'_, M>> {
        if f.count != 0 && index >= f.count as usize {
            return None;
        }
        let from = f.byte().checked_add(index.checked_mul(M::BYTES)?)?;
        ViewMut::new(self.raw.get_mut(from..)?)
    }

    /// The bytes of an array; a tail reaches to the end.
    pub fn bytes_mut(&mut self, f: ArrayField<L>) -> &mut [u8] {
        let range = f.range(self.raw.len());
        self.raw.get_mut(range).unwrap_or_default()
    }

    /// All bytes, a tail included.
    pub fn raw_mut(&mut self) -> &mut [u8] {
        self.raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layouts::{CreateEqIn, Eqc, Eqe, QueryIssiIn, Rqtc, SetDriverVersionIn};
    use proptest::prelude::*;

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
    fn a_nested_layout_is_written_at_its_place() {
        let mut b = [0u8; 0x110];
        let mut v = ViewMut::<CreateEqIn>::new(&mut b).unwrap();
        v.sub_mut(CreateEqIn::EQ_CONTEXT_ENTRY)
            .set(Eqc::INTR, 0x123);
        v.set_at(CreateEqIn::EVENT_BITMASK, 1, 1 << 63);
        v.set_at(CreateEqIn::EVENT_BITMASK, 4, u64::MAX);
        v.set_at(CreateEqIn::PAS, 0, u64::MAX);
        // The context is at byte 0x10; intr is bits 0xb4..0xc0 of it.
        assert_eq!(b[0x10 + 0x16..0x10 + 0x18], [0x01, 0x23]);
        assert_eq!(b[0x58 + 8], 0x80);
        assert_eq!(b.iter().filter(|x| **x != 0).count(), 3);
    }

    #[test]
    fn a_tail_ends_with_the_bytes() {
        let mut b = [0x11u8; 0x110 + 12];
        let v = View::<CreateEqIn>::new(&b).unwrap();
        assert_eq!(v.at(CreateEqIn::PAS, 0), Some(0x1111_1111_1111_1111));
        assert_eq!(v.at(CreateEqIn::PAS, 1), None);
        assert_eq!(v.at(CreateEqIn::PAS, usize::MAX), None);
        assert_eq!(v.bytes(CreateEqIn::PAS).len(), 12);
        assert!(View::<CreateEqIn>::new(&b[..0x10f]).is_none());
        let mut v = ViewMut::<CreateEqIn>::new(&mut b).unwrap();
        v.set_at(CreateEqIn::PAS, 1, 0);
        assert_eq!(b[0x110..], [0x11; 12]);
    }

    #[test]
    fn a_tail_of_layouts_ends_with_the_bytes() {
        // rqtc: 0xf0 bytes and then a dword a queue.
        let b = [0u8; 0xf0 + 7];
        let v = View::<Rqtc>::new(&b).unwrap();
        assert!(v.sub_at(Rqtc::RQ_NUM, 0).is_some());
        assert!(v.sub_at(Rqtc::RQ_NUM, 1).is_none());
        assert!(v.sub_at(Rqtc::RQ_NUM, usize::MAX).is_none());
    }

    #[test]
    fn an_array_of_bytes_is_a_slice() {
        let mut b = [0u8; 0x50 + 4];
        let mut v = ViewMut::<SetDriverVersionIn>::new(&mut b).unwrap();
        v.bytes_mut(SetDriverVersionIn::DRIVER_VERSION)[..3].copy_from_slice(b"1.0");
        assert_eq!(v.at(SetDriverVersionIn::DRIVER_VERSION, 1), Some(0x2e));
        assert_eq!(v.view().bytes(SetDriverVersionIn::DRIVER_VERSION).len(), 64);
        assert_eq!(b[0x10..0x13], *b"1.0");
    }

    #[test]
    fn an_event_lies_as_the_header_says() {
        // struct mlx5_eqe of mlx5/device.h: type at 1, sub_type at 3, data at 32, owner at 63.
        let mut b = [0u8; 64];
        let mut v = ViewMut::<Eqe>::new(&mut b).unwrap();
        v.set(Eqe::EVENT_TYPE, 0xb);
        v.set(Eqe::EVENT_SUB_TYPE, 0x5);
        v.set(Eqe::OWNER, 1);
        assert_eq!((b[1], b[3], b[63]), (0xb, 5, 1));
        assert_eq!(Eqe::EVENT_DATA.byte(), 32);
    }

    proptest! {
        /// What no field names survives a round trip through every field.
        #[test]
        fn reserved_bits_survive(b: [u8; 64], values: [u64; 16]) {
            let mut after = b;
            let mut named = [false; 512];
            let info = Eqc::INFO;
            prop_assert!(info.fields.len() <= values.len());
            for (f, value) in info.fields.iter().zip(values) {
                ViewMut::<Eqc>::new(&mut after).unwrap().set(Field::new(f.offset, f.width), value);
                for n in &mut named[f.offset as usize..(f.offset + f.width) as usize] {
                    *n = true;
                }
            }
            for (at, named) in named.iter().enumerate() {
                let bit = |b: &[u8]| b[at / 8] >> (7 - at % 8) & 1;
                prop_assert!(*named || bit(&b) == bit(&after), "bit {:#x}", at);
            }
            for (f, value) in info.fields.iter().zip(values) {
                let v = View::<Eqc>::new(&after).unwrap();
                prop_assert_eq!(v.get(Field::new(f.offset, f.width)), value & ((1 << f.width) - 1));
            }
        }

        /// Accessors of a view that was made never panic, whatever the bytes' number.
        #[test]
        fn no_accessor_panics(b in proptest::collection::vec(any::<u8>(), 0..400), index: usize) {
            if let Some(v) = View::<CreateEqIn>::new(&b) {
                let _ = (v.at(CreateEqIn::PAS, index), v.bytes(CreateEqIn::PAS));
                let _ = v.sub(CreateEqIn::EQ_CONTEXT_ENTRY).get(Eqc::LOG_EQ_SIZE);
            }
            if let Some(v) = View::<QueryIssiIn>::new(&b) {
                prop_assert_eq!(v.get(QueryIssiIn::OPCODE), u64::from(b[0]) << 8 | u64::from(b[1]));
            } else {
                prop_assert!(b.len() < 16);
            }
        }
    }
}
