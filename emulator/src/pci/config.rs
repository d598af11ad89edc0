// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration space: bytes, a mask of those that may be written, and what some writes cause.
//!
//! Accesses have any width and alignment; each byte is handled on its own.

use std::ops::Range;

use fw_model::{Profile, Time, vpd::image};

use super::{
    bar::{MSIX_PBA, MSIX_TABLE},
    vpd::{self, Vpd},
    vsc::{self, Gateway, Spaces},
};

/// Bytes of configuration space of a PCIe function.
pub const CONFIG_BYTES: usize = 4096;

/// Offset of the power management capability.
const PM: usize = 0x40;
/// Power states that there are.
const D0: u8 = 0;
const D3_HOT: u8 = 3;
/// Offset of the MSI-X capability.
const MSIX: usize = 0x48;
/// Offset of the PCI Express capability.
const EXP: usize = 0x60;
/// Offset of the vendor-specific capability.
const VSC: usize = 0xa0;
/// Its registers, behind its header.
const VSC_REGISTERS: Range<usize> = VSC + 4..VSC + vsc::BYTES;
/// Offset of the vital product data capability.
const VPD: usize = 0xc0;
/// Its registers, behind its header.
const VPD_REGISTERS: Range<usize> = VPD + 2..VPD + vpd::BYTES;
/// Offset of the SR-IOV capability, where the function may have virtual functions.
const SRIOV: usize = 0x100;
/// Bytes of the SR-IOV capability.
const SRIOV_BYTES: usize = 0x40;
/// Routing ids between the function and its first virtual function, and from one to the next.
const FIRST_VF: u16 = 2;
const VF_STRIDE: u16 = 1;
/// Supported page sizes: 4 KiB to 4 MiB, as every device must.
const VF_PAGES: u32 = 0x553;
/// BAR0 of a virtual function: memory, 64 bits, prefetchable, of 1 MiB.
const VF_BAR: u32 = 0xc;
const VF_BAR_MASK: u32 = 0xfff0_0000;
/// Device Control in the PCI Express capability.
const EXP_DEVCTL: usize = EXP + 8;

/// Command register: memory space.
const COMMAND_MEMORY: u16 = 0x2;
/// Command register: bus master.
const COMMAND_MASTER: u16 = 0x4;
/// Command register: all bits that a PCIe endpoint without I/O space has.
const COMMAND_MASK: u16 = 0x0546;
/// Device Control bit 15: initiate function level reset; reads as 0.
const DEVCTL_FLR: u8 = 0x80;

/// What a write caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caused {
    /// A function level reset was asked for.
    pub flr: bool,
}

/// A function's configuration space.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: Box<[u8; CONFIG_BYTES]>,
    writable: Box<[u8; CONFIG_BYTES]>,
    fresh: Box<[u8; CONFIG_BYTES]>,
    gateway: Gateway,
    vpd: Vpd,
    vf_device_id: u16,
    total_vfs: u16,
}

impl ConfigSpace {
    /// As after power on.
    #[must_use]
    pub fn new(profile: &Profile) -> Self {
        let p = profile.pci();
        let mut b = Builder {
            bytes: Box::new([0; CONFIG_BYTES]),
            writable: Box::new([0; CONFIG_BYTES]),
        };
        b.u16(0x00, p.vendor_id, 0);
        b.u16(0x02, p.device_id, 0);
        b.u16(0x04, 0, COMMAND_MASK);
        // Status: there is a capability list.
        b.u16(0x06, 0x0010, 0);
        b.u32(0x08, p.class << 8 | u32::from(p.revision), 0);
        // Cache line size and interrupt line are the software's.
        b.u8(0x0c, 0, 0xff);
        b.u8(0x3c, 0, 0xff);
        // BAR0: memory, 64 bits, prefetchable.
        let mask = !((1u64 << p.log_bar0) - 1);
        b.u32(0x10, 0xc, mask as u32);
        b.u32(0x14, 0, (mask >> 32) as u32);
        b.u16(0x2c, p.subsystem_vendor_id, 0);
        b.u16(0x2e, p.subsystem_id, 0);
        b.u8(0x34, PM as u8, 0);

        // Power management, version 3; D0 and D3hot, no soft reset between them.
        b.u16(PM, 0x01 | (MSIX as u16) << 8, 0);
        b.u16(PM + 2, 0x0003, 0);
        b.u16(PM + 4, 0x0008, 0x0003);

        b.u16(MSIX, 0x11 | (EXP as u16) << 8, 0);
        b.u16(MSIX + 2, p.msix_vectors - 1, 0xc000);
        b.u32(MSIX + 4, MSIX_TABLE, 0);
        b.u32(MSIX + 8, MSIX_PBA, 0);

        // Functional gateway: type 0.
        b.u32(VSC, 0x09 | (VPD as u32) << 8 | (vsc::BYTES as u32) << 16, 0);

        b.u16(VPD, 0x03, 0);

        // PCI Express endpoint, version 2.
        b.u16(EXP, 0x10 | (VSC as u16) << 8, 0);
        b.u16(EXP + 2, 0x0002, 0);
        // Device Capabilities: 512-byte payloads, role-based errors, FLR.
        b.u32(EXP + 4, 0x1000_8002, 0);
        // Device Control: 512-byte reads, no snoop, relaxed ordering; bit 15 asks for FLR.
        b.u16(EXP_DEVCTL, 0x2810, 0x78ff | 0x8000);
        // Link: 32 GT/s, 16 lanes, and that is what is in force.
        b.u32(EXP + 0x0c, 0x0000_0105, 0);
        b.u16(EXP + 0x10, 0, 0x0fcb);
        b.u16(EXP + 0x12, 0x0105, 0);
        b.u32(EXP + 0x24, 0x0000_001f, 0);
        b.u16(EXP + 0x28, 0, 0x001f);
        b.u32(EXP + 0x2c, 0x0000_003e, 0);
        b.u16(EXP + 0x30, 0x0005, 0x000f);
        Self {
            fresh: b.bytes.clone(),
            bytes: b.bytes,
            writable: b.writable,
            gateway: Gateway::default(),
            vpd: Vpd::new(image(profile)),
            vf_device_id: p.vf_device_id,
            total_vfs: 0,
        }
    }

    /// Shows how many virtual functions the function may have; without any there is no SR-IOV
    /// capability. VF Enable stays 0: virtual functions are not there yet.
    pub fn set_total_vfs(&mut self, total: u16) {
        if total == self.total_vfs {
            return;
        }
        self.total_vfs = total;
        let mut b = Builder {
            bytes: self.bytes.clone(),
            writable: self.writable.clone(),
        };
        b.bytes[SRIOV..SRIOV + SRIOV_BYTES].fill(0);
        b.writable[SRIOV..SRIOV + SRIOV_BYTES].fill(0);
        if total != 0 {
            b.u32(SRIOV, 0x0010 | 1 << 16, 0);
            b.u16(SRIOV + 0x0c, total, 0);
            b.u16(SRIOV + 0x0e, total, 0);
            b.u16(SRIOV + 0x10, 0, 0xffff);
            b.u16(SRIOV + 0x14, FIRST_VF, 0);
            b.u16(SRIOV + 0x16, VF_STRIDE, 0);
            b.u16(SRIOV + 0x1a, self.vf_device_id, 0);
            b.u32(SRIOV + 0x1c, VF_PAGES, 0);
            b.u32(SRIOV + 0x20, 1, VF_PAGES);
            b.u32(SRIOV + 0x24, VF_BAR, VF_BAR_MASK);
            b.u32(SRIOV + 0x28, 0, u32::MAX);
        }
        let range = SRIOV..SRIOV + SRIOV_BYTES;
        self.fresh[range.clone()].copy_from_slice(&b.bytes[range]);
        (self.bytes, self.writable) = (b.bytes, b.writable);
    }

    /// True if an access reaches what [`Self::set_total_vfs`] changes.
    #[must_use]
    pub fn is_extended(offset: u64, len: usize) -> bool {
        offset.saturating_add(len as u64) > SRIOV as u64
    }

    /// Fills `buf` from byte `offset`; past the end is all ones.
    pub fn read(&mut self, offset: u64, buf: &mut [u8], now: Time) {
        for (i, b) in buf.iter_mut().enumerate() {
            *b = match place(offset, i) {
                Some(at) if VSC_REGISTERS.contains(&at) => self.gateway.read(at - VSC, now),
                Some(at) if VPD_REGISTERS.contains(&at) => self.vpd.read(at - VPD),
                Some(at) => self.bytes.get(at).copied().unwrap_or(0xff),
                None => 0xff,
            };
        }
    }

    /// Writes what may be written of `data` at byte `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8], spaces: &dyn Spaces, now: Time) -> Caused {
        let mut caused = Caused::default();
        if let Some((at, part)) = part_in(&VSC_REGISTERS, offset, data) {
            self.gateway.write(at - VSC, part, spaces, now);
        }
        if let Some((at, part)) = part_in(&VPD_REGISTERS, offset, data) {
            self.vpd.write(at - VPD, part);
        }
        for (i, new) in data.iter().enumerate() {
            let Some(at) = place(offset, i) else { break };
            let (Some(b), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) else {
                break;
            };
            let mut value = *b & !mask | new & mask;
            if at == PM + 4 && !matches!(value & 3, D0 | D3_HOT) {
                // D1 and D2 are not there: the write is discarded.
                value = value & !3 | *b & 3;
            }
            if at == EXP_DEVCTL + 1 && value & DEVCTL_FLR != 0 {
                caused.flr = true;
                value &= !DEVCTL_FLR;
            }
            *b = value;
        }
        caused
    }

    /// Back to the state after power on.
    pub fn reset(&mut self) {
        self.bytes = self.fresh.clone();
        self.gateway = Gateway::default();
        self.vpd.reset();
    }

    /// True if BAR0 answers.
    #[must_use]
    pub fn memory_enabled(&self) -> bool {
        self.command() & COMMAND_MEMORY != 0 && self.power_state() == D0
    }

    /// True if the function may write to memory and raise interrupts.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0 && self.power_state() == D0
    }

    fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[4], self.bytes[5]])
    }

    /// [`D0`] or [`D3_HOT`].
    fn power_state(&self) -> u8 {
        self.bytes[PM + 4] & 3
    }
}

fn place(offset: u64, i: usize) -> Option<usize> {
    usize::try_from(offset).ok()?.checked_add(i)
}

/// The part of a write that lies in `range`, as one access, and where it begins.
fn part_in<'a>(range: &Range<usize>, offset: u64, data: &'a [u8]) -> Option<(usize, &'a [u8])> {
    let from = usize::try_from(offset).ok()?;
    let skip = range.start.saturating_sub(from);
    let end = range.end.saturating_sub(from).min(data.len());
    let part = data.get(skip..end).filter(|p| !p.is_empty())?;
    Some((from + skip, part))
}

struct Builder {
    bytes: Box<[u8; CONFIG_BYTES]>,
    writable: Box<[u8; CONFIG_BYTES]>,
}

impl Builder {
    fn u8(&mut self, at: usize, value: u8, writable: u8) {
        self.bytes[at] = value;
        self.writable[at] = writable;
    }

    fn u16(&mut self, at: usize, value: u16, writable: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32, writable: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&writable.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::gateway::{Place, Word};

    struct NoSpaces;

    impl Spaces for NoSpaces {
        fn size(&self, space: u16) -> Option<u32> {
            (space == 7).then_some(16)
        }
        fn read(&self, _: Place) -> Option<Word> {
            None
        }
        fn write(&self, _: Place, _: u32) -> bool {
            false
        }
    }

    fn space() -> ConfigSpace {
        ConfigSpace::new(&Profile::builtin("connectx7").unwrap())
    }

    fn dword(c: &mut ConfigSpace, at: u64) -> u32 {
        let mut b = [0; 4];
        c.read(at, &mut b, Time::ZERO);
        u32::from_le_bytes(b)
    }

    #[test]
    fn ids_class_and_capability_list() {
        let mut c = space();
        assert_eq!(dword(&mut c, 0), 0x1021_15b3);
        assert_eq!(dword(&mut c, 8) >> 8, 0x02_0000);
        let (mut at, mut ids) = (dword(&mut c, 0x34) & 0xff, vec![]);
        while at != 0 {
            let head = dword(&mut c, u64::from(at));
            ids.push(head & 0xff);
            at = head >> 8 & 0xff;
        }
        assert_eq!(ids, [0x01, 0x11, 0x10, 0x09, 0x03]);
    }

    #[test]
    fn bar0_is_sized_by_writing_ones() {
        let mut c = space();
        c.write(0x10, &[0xff; 8], &NoSpaces, Time::ZERO);
        // 32 MiB, 64 bits, prefetchable.
        assert_eq!(
            (dword(&mut c, 0x10), dword(&mut c, 0x14)),
            (0xfe00_000c, 0xffff_ffff)
        );
        c.write(0x18, &[0xff; 4], &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0x18), 0, "there is no other BAR");
    }

    #[test]
    fn read_only_stays_and_every_width_writes_the_same() {
        let mut c = space();
        c.write(0, &[0; 4], &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0), 0x1021_15b3);
        c.write(4, &[0x06], &NoSpaces, Time::ZERO);
        assert!(c.memory_enabled() && c.bus_master());
        let mut one = [0; 1];
        c.read(5, &mut one, Time::ZERO);
        assert_eq!(one, [0]);
        c.write(3, &[0xff, 0x02, 0x04], &NoSpaces, Time::ZERO);
        assert!(c.memory_enabled() && !c.bus_master());
        assert_eq!(dword(&mut c, 4) & 0xffff, 0x0402);
        let mut over = [0; 4];
        c.read(4094, &mut over, Time::ZERO);
        assert_eq!(over, [0, 0, 0xff, 0xff]);
        c.write(u64::MAX, &[1, 2], &NoSpaces, Time::ZERO);
    }

    #[test]
    fn flr_is_seen_in_any_width_and_reads_as_zero() {
        let mut c = space();
        assert!(!c.write(0x68, &[0xff], &NoSpaces, Time::ZERO).flr);
        assert!(c.write(0x69, &[0x80], &NoSpaces, Time::ZERO).flr);
        assert!(c.write(0x68, &[0, 0x80], &NoSpaces, Time::ZERO).flr);
        assert!(c.write(0x66, &[0, 0, 0, 0x80], &NoSpaces, Time::ZERO).flr);
        assert_eq!(dword(&mut c, 0x68) & 0x8000, 0);
        c.write(0x10, &[0, 0, 0, 0xf0], &NoSpaces, Time::ZERO);
        c.reset();
        assert_eq!(dword(&mut c, 0x10), 0xc);
    }

    #[test]
    fn the_gateway_is_reached_in_any_width() {
        let mut c = space();
        c.write(0xa4, &7u32.to_le_bytes(), &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0xa4), 0x3000_0007, "the space is there");
        c.write(0xa2, &[0xff, 0xff, 9], &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0xa4), 9);
        assert_eq!(dword(&mut c, 0xa0), 0x0018_c009);
        c.write(0xb4, &[1, 2, 3, 4, 0xff], &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0xb4), 0x0403_0201);
        assert_eq!(dword(&mut c, 0xb8), 0);
    }

    #[test]
    fn vital_product_data_are_read_a_dword_at_a_time() {
        let mut c = space();
        c.write(0xc0, &[0xff, 0xff, 4, 0], &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0xc0), 0x8004_0003);
        // The tag and its length are three bytes, and the name begins with the family.
        let mut name = [0; 4];
        c.read(0xc4, &mut name, Time::ZERO);
        assert_eq!(&name, b"onne");
        c.reset();
        assert_eq!(dword(&mut c, 0xc0), 3);
    }

    #[test]
    fn virtual_functions_are_a_capability_that_comes_and_goes() {
        let mut c = space();
        assert_eq!(dword(&mut c, 0x100), 0);
        c.set_total_vfs(8);
        assert_eq!(dword(&mut c, 0x100), 0x0001_0010);
        assert_eq!(dword(&mut c, 0x10c), 0x0008_0008, "initial and total");
        assert_eq!(dword(&mut c, 0x114), 0x0001_0002, "offset and stride");
        assert_eq!(dword(&mut c, 0x118) >> 16, 0x101e);
        // VF Enable does not stay, NumVFs does, and the BAR is sized like any.
        c.write(0x108, &[1, 0], &NoSpaces, Time::ZERO);
        c.write(0x110, &[5, 0], &NoSpaces, Time::ZERO);
        c.write(0x124, &[0xff; 4], &NoSpaces, Time::ZERO);
        assert_eq!((dword(&mut c, 0x108), dword(&mut c, 0x110)), (0, 5));
        assert_eq!(dword(&mut c, 0x124), 0xfff0_000c);
        c.reset();
        assert_eq!(
            (dword(&mut c, 0x10c), dword(&mut c, 0x110)),
            (0x0008_0008, 0)
        );
        c.set_total_vfs(0);
        c.reset();
        assert_eq!((dword(&mut c, 0x100), dword(&mut c, 0x11c)), (0, 0));
        assert!(ConfigSpace::is_extended(0xfe, 4) && !ConfigSpace::is_extended(0xfc, 4));
    }

    #[test]
    fn in_d3hot_nothing_answers() {
        let mut c = space();
        c.write(4, &[0x06, 0], &NoSpaces, Time::ZERO);
        c.write(0x44, &[3], &NoSpaces, Time::ZERO);
        assert!(!c.memory_enabled() && !c.bus_master());
        // D1 and D2 are not there.
        c.write(0x44, &[1], &NoSpaces, Time::ZERO);
        assert_eq!(dword(&mut c, 0x44) & 3, 3);
        c.write(0x44, &[0], &NoSpaces, Time::ZERO);
        assert!(c.memory_enabled() && c.bus_master());
    }
}
