// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Descriptor chains of a split virtqueue: one walk that reads each descriptor once and checks all
//! of it.
//!
//! The crate's own iterator ends silently where a chain is broken, so that a broken chain looks
//! like a short one; here the first fault is kept and told.

use vm_memory::{Bytes as _, GuestAddress, GuestMemory as _, GuestMemoryMmap, Permissions};

use super::limits::MAX_INDIRECT;

/// `VIRTQ_DESC_F_NEXT`: the chain goes on at `next`.
const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`: the device writes this buffer.
const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`: the buffer is a table of descriptors.
const INDIRECT: u16 = 4;

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u32 = 16;

/// `struct virtq_desc`.
#[derive(Clone, Copy)]
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn parse(raw: [u8; DESCRIPTOR_BYTES as usize]) -> Self {
        let v = u128::from_le_bytes(raw);
        Self {
            addr: v as u64,
            len: (v >> 64) as u32,
            flags: (v >> 96) as u16,
            next: (v >> 112) as u16,
        }
    }
}

/// A run of guest memory that a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address of the first byte.
    pub addr: GuestAddress,
    /// Bytes; never 0.
    pub len: u32,
}

/// What is wrong with a chain; the first thing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The available ring names a descriptor beyond the table.
    #[error("head beyond the descriptor table")]
    Head,
    /// `next` names a descriptor beyond the table.
    #[error("next beyond the descriptor table")]
    Next,
    /// More descriptors than the table has: the chain loops or is longer than it may be.
    #[error("loops, or is longer than its table")]
    Loop,
    /// A descriptor of 0 bytes.
    #[error("buffer of length zero")]
    ZeroLength,
    /// A buffer or a table is outside of guest memory.
    #[error("address outside guest memory")]
    Unmapped,
    /// A device-readable buffer after a device-writable one.
    #[error("readable buffer after a writable one")]
    Order,
    /// An indirect table that was not negotiated, is nested, has a `next`, or a bad length.
    #[error("bad indirect table")]
    Indirect,
}

/// A chain that was walked. Its memory is reused from chain to chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// Device-readable buffers in their order.
    pub readable: Vec<Segment>,
    /// Device-writable buffers in their order; also those of a faulty chain that are whole.
    pub writable: Vec<Segment>,
    /// Bytes in `readable`.
    pub readable_bytes: u64,
    /// Bytes in `writable`.
    pub writable_bytes: u64,
    /// The first fault; what was found before and after it is still in the lists, as far as it
    /// could be followed.
    pub fault: Option<Fault>,
}

impl Chain {
    fn clear(&mut self) {
        self.readable.clear();
        self.writable.clear();
        self.readable_bytes = 0;
        self.writable_bytes = 0;
        self.fault = None;
    }

    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Takes a descriptor that names a buffer.
    fn buffer(&mut self, mem: &GuestMemoryMmap, d: Descriptor) {
        let len = d.len;
        let addr = GuestAddress(d.addr);
        let writable = d.flags & WRITE != 0;
        if len == 0 {
            return self.blame(Fault::ZeroLength);
        }
        let access = if writable {
            Permissions::Write
        } else {
            Permissions::Read
        };
        if !mem.check_range(addr, len as usize, access) {
            return self.blame(Fault::Unmapped);
        }
        if writable {
            self.writable.push(Segment { addr, len });
            self.writable_bytes += u64::from(len);
        } else if self.writable.is_empty() {
            self.readable.push(Segment { addr, len });
            self.readable_bytes += u64::from(len);
        } else {
            self.blame(Fault::Order);
        }
    }
}

/// Where a queue's descriptors are and what was negotiated for them.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Guest-physical address of the descriptor table.
    pub addr: GuestAddress,
    /// Descriptors in it.
    pub size: u16,
    /// `VIRTIO_F_INDIRECT_DESC` was negotiated.
    pub indirect: bool,
}

/// Walks the chain that starts at `head` into `chain`. Reads at most [`Table::size`] +
/// [`MAX_INDIRECT`] descriptors, each once.
pub fn walk(mem: &GuestMemoryMmap, table: Table, head: u16, chain: &mut Chain) {
    chain.clear();
    if head >= table.size {
        return chain.blame(Fault::Head);
    }
    let mut at = head;
    for _ in 0..table.size {
        let Some(d) = read(mem, table.addr, at) else {
            return chain.blame(Fault::Unmapped);
        };
        let flags = d.flags;
        if flags & INDIRECT != 0 {
            if !table.indirect || flags & NEXT != 0 {
                return chain.blame(Fault::Indirect);
            }
            return walk_indirect(mem, d, chain);
        }
        chain.buffer(mem, d);
        if flags & NEXT == 0 {
            return;
        }
        at = d.next;
        if at >= table.size {
            return chain.blame(Fault::Next);
        }
    }
    chain.blame(Fault::Loop);
}

fn walk_indirect(mem: &GuestMemoryMmap, outer: Descriptor, chain: &mut Chain) {
    let bytes = outer.len;
    let count = bytes / DESCRIPTOR_BYTES;
    if !bytes.is_multiple_of(DESCRIPTOR_BYTES) || count == 0 || count > u32::from(MAX_INDIRECT) {
        return chain.blame(Fault::Indirect);
    }
    let table = GuestAddress(outer.addr);
    let mut at = 0u16;
    for _ in 0..count {
        let Some(d) = read(mem, table, at) else {
            return chain.blame(Fault::Unmapped);
        };
        let flags = d.flags;
        if flags & INDIRECT != 0 {
            return chain.blame(Fault::Indirect);
        }
        chain.buffer(mem, d);
        if flags & NEXT == 0 {
            return;
        }
        at = d.next;
        if u32::from(at) >= count {
            return chain.blame(Fault::Next);
        }
    }
    chain.blame(Fault::Loop);
}

fn read(mem: &GuestMemoryMmap, table: GuestAddress, index: u16) -> Option<Descriptor> {
    let offset = u64::from(index) * u64::from(DESCRIPTOR_BYTES);
    let addr = GuestAddress(table.0.checked_add(offset)?);
    let mut raw = [0u8; DESCRIPTOR_BYTES as usize];
    mem.read_slice(&mut raw, addr).ok()?;
    Some(Descriptor::parse(raw))
}

/// Copies the bytes of `from` into `to`, whose old content goes; false if memory went away.
#[must_use]
pub fn gather(mem: &GuestMemoryMmap, from: &[Segment], to: &mut Vec<u8>) -> bool {
    to.clear();
    for s in from {
        let at = to.len();
        to.resize(at + s.len as usize, 0);
        if mem.read_slice(&mut to[at..], s.addr).is_err() {
            return false;
        }
    }
    true
}

/// Writes `parts` one after the other from the start of `to`. Bytes that find no room are cut.
///
/// Returns how many bytes were written; those after an address that is gone are not.
pub fn scatter(mem: &GuestMemoryMmap, to: &[Segment], parts: &[&[u8]]) -> u32 {
    let mut written = 0u32;
    let mut segments = to.iter();
    let (mut addr, mut room) = (GuestAddress(0), 0usize);
    for part in parts {
        let mut rest: &[u8] = part;
        while !rest.is_empty() {
            if room == 0 {
                let Some(s) = segments.next() else {
                    return written;
                };
                (addr, room) = (s.addr, s.len as usize);
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            if mem.write_slice(now, addr).is_err() {
                return written;
            }
            // Both fit: a segment is a u32 long and inside guest memory.
            written += now.len() as u32;
            room -= now.len();
            addr = GuestAddress(addr.0 + now.len() as u64);
            rest = later;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: GuestAddress = GuestAddress(0x1000);
    const INNER: u64 = 0x2000;
    const MEMORY: u64 = 0x1_0000;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
    }

    fn put(mem: &GuestMemoryMmap, table: u64, i: u64, addr: u64, len: u32, flags: u16, next: u16) {
        let raw = u128::from(addr)
            | u128::from(len) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        mem.write_slice(&raw.to_le_bytes(), GuestAddress(table + 16 * i))
            .unwrap();
    }

    fn walked(mem: &GuestMemoryMmap, head: u16) -> Chain {
        let mut chain = Chain::default();
        walk(
            mem,
            Table {
                addr: TABLE,
                size: 8,
                indirect: true,
            },
            head,
            &mut chain,
        );
        chain
    }

    #[test]
    fn a_whole_chain_is_readable_then_writable() {
        let mem = memory();
        put(&mem, TABLE.0, 3, 0x4000, 16, NEXT, 1);
        put(&mem, TABLE.0, 1, 0x5000, 32, NEXT, 7);
        put(&mem, TABLE.0, 7, 0x6000, 64, WRITE, 0);
        let c = walked(&mem, 3);
        assert_eq!(c.fault, None);
        assert_eq!(
            c.readable,
            [
                Segment {
                    addr: GuestAddress(0x4000),
                    len: 16
                },
                Segment {
                    addr: GuestAddress(0x5000),
                    len: 32
                }
            ]
        );
        assert_eq!(
            c.writable,
            [Segment {
                addr: GuestAddress(0x6000),
                len: 64
            }]
        );
        assert_eq!((c.readable_bytes, c.writable_bytes), (48, 64));
    }

    #[test]
    fn an_indirect_table_is_followed_once() {
        let mem = memory();
        put(&mem, TABLE.0, 0, INNER, 32, INDIRECT, 0);
        put(&mem, INNER, 0, 0x4000, 16, NEXT, 1);
        put(&mem, INNER, 1, 0x5000, 16, WRITE, 0);
        let c = walked(&mem, 0);
        assert_eq!(
            (c.fault, c.readable_bytes, c.writable_bytes),
            (None, 16, 16)
        );
        put(&mem, INNER, 1, INNER, 32, INDIRECT, 0);
        assert_eq!(walked(&mem, 0).fault, Some(Fault::Indirect));
    }

    #[test]
    fn an_indirect_table_needs_a_whole_number_of_descriptors_and_no_next() {
        let mem = memory();
        for (len, flags) in [
            (0, 0),
            (24, 0),
            (16 * (u32::from(MAX_INDIRECT) + 1), 0),
            (32, NEXT),
        ] {
            put(&mem, TABLE.0, 0, INNER, len, INDIRECT | flags, 1);
            assert_eq!(
                walked(&mem, 0).fault,
                Some(Fault::Indirect),
                "{len} {flags}"
            );
        }
        put(&mem, TABLE.0, 0, INNER, 32, INDIRECT, 0);
        let mut c = Chain::default();
        walk(
            &mem,
            Table {
                addr: TABLE,
                size: 8,
                indirect: false,
            },
            0,
            &mut c,
        );
        assert_eq!(c.fault, Some(Fault::Indirect));
        put(&mem, TABLE.0, 0, MEMORY, 32, INDIRECT, 0);
        assert_eq!(walked(&mem, 0).fault, Some(Fault::Unmapped));
    }

    #[test]
    fn loops_end() {
        let mem = memory();
        put(&mem, TABLE.0, 0, 0x4000, 16, NEXT, 1);
        put(&mem, TABLE.0, 1, 0x4000, 16, NEXT, 0);
        let c = walked(&mem, 0);
        assert_eq!(c.fault, Some(Fault::Loop));
        assert_eq!(c.readable.len(), 8);
        put(&mem, TABLE.0, 2, INNER, 32, INDIRECT, 0);
        put(&mem, INNER, 0, 0x4000, 16, NEXT, 1);
        put(&mem, INNER, 1, 0x4000, 16, NEXT, 0);
        assert_eq!(walked(&mem, 2).fault, Some(Fault::Loop));
    }

    #[test]
    fn the_first_fault_is_told_and_the_room_behind_it_is_found() {
        let mem = memory();
        put(&mem, TABLE.0, 0, 0x4000, 0, NEXT, 1);
        put(&mem, TABLE.0, 1, MEMORY - 8, 16, NEXT, 2);
        put(&mem, TABLE.0, 2, 0x6000, 64, WRITE, 0);
        let c = walked(&mem, 0);
        assert_eq!((c.fault, c.writable_bytes), (Some(Fault::ZeroLength), 64));
        let c = walked(&mem, 1);
        assert_eq!((c.fault, c.writable_bytes), (Some(Fault::Unmapped), 64));
        put(&mem, TABLE.0, 1, u64::MAX - 4, 16, NEXT, 2);
        assert_eq!(walked(&mem, 1).fault, Some(Fault::Unmapped));
    }

    #[test]
    fn order_and_bounds_are_checked() {
        let mem = memory();
        put(&mem, TABLE.0, 0, 0x4000, 16, WRITE | NEXT, 1);
        put(&mem, TABLE.0, 1, 0x5000, 16, 0, 0);
        let c = walked(&mem, 0);
        assert_eq!(
            (c.fault, c.readable_bytes, c.writable_bytes),
            (Some(Fault::Order), 0, 16)
        );
        put(&mem, TABLE.0, 1, 0x5000, 16, NEXT, 8);
        assert_eq!(walked(&mem, 1).fault, Some(Fault::Next));
        assert_eq!(walked(&mem, 8).fault, Some(Fault::Head));
    }

    #[test]
    fn bytes_cross_segments() {
        let mem = memory();
        let segments = [
            Segment {
                addr: GuestAddress(0x100),
                len: 3,
            },
            Segment {
                addr: GuestAddress(0x200),
                len: 4,
            },
        ];
        assert_eq!(
            scatter(&mem, &segments, &[&[1, 2], &[3, 4, 5], &[6, 7, 8, 9]]),
            7
        );
        let mut back = vec![0xee; 2];
        assert!(gather(&mem, &segments, &mut back));
        assert_eq!(back, [1, 2, 3, 4, 5, 6, 7]);
        let gone = [Segment {
            addr: GuestAddress(MEMORY),
            len: 1,
        }];
        assert!(!gather(&mem, &gone, &mut back));
        assert_eq!(scatter(&mem, &gone, &[&[1]]), 0);
    }
}
