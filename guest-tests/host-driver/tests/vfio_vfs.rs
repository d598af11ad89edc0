// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! SRIOV_EN and NUM_OF_VFS over a real vfio-user socket: the SR-IOV capability of configuration space,
//! which QEMU hides from its guest, comes with the reset that makes the settings current.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vfio_fixture;

use fwctl_proto::{layout::set_bits, mst::nv::named, opcode};
use host_driver::mailbox::Command;
use vfio_fixture::{Device, Driver};

const MNVDA: u16 = 0x9024;
/// Bytes of the extended capability.
const SRIOV_BYTES: usize = 0x40;

/// The SR-IOV capability: 0x40 bytes at 0x100.
fn capability(d: &mut Driver) -> [u8; SRIOV_BYTES] {
    let mut c = [0; SRIOV_BYTES];
    d.mailbox.config_read(0x100, &mut c).unwrap();
    c
}

/// Sets SRIOV_EN and NUM_OF_VFS in `nv_global_pci_conf` for the next boot.
fn set(d: &mut Driver, vfs: u64) {
    let layout = named("nv_global_pci_conf").unwrap().layout;
    let mut register = vec![0; 12 + layout.bytes()];
    register[3] = layout.bytes() as u8;
    register[7] = 0x80;
    for (name, value) in [("sriov_valid", 1), ("sriov_en", 1), ("total_vfs", vfs)] {
        let f = layout.fields.iter().find(|f| f.name == name).unwrap();
        set_bits(&mut register[12..], f.offset, f.width, value);
    }
    access(d, MNVDA, &register);
}

fn access(d: &mut Driver, id: u16, register: &[u8]) {
    let c = Command::new(opcode::ACCESS_REG)
        .op_mod(0)
        .set("register_id", u64::from(id))
        .data(register)
        .out_len(16 + register.len());
    d.ok(&c).unwrap();
}

#[test]
fn virtual_functions_are_shown_after_the_reset_that_makes_them_current() {
    let device = Device::of_profile("connectx7");
    let mut d = device.probe();
    d.bring_up().unwrap();
    assert_eq!(capability(&mut d), [0; SRIOV_BYTES]);
    set(&mut d, 8);
    assert_eq!(capability(&mut d), [0; SRIOV_BYTES], "not before a reset");
    drop(d);
    device.power_cycle();
    let mut d = device.probe();
    // PCI Express, 9.3.3: id 0x10 version 1, no next; capabilities, control and status 0; InitialVFs and
    // TotalVFs; NumVFs and the dependency link; first offset and stride; VF device id; page sizes; BAR0,
    // of 64 bits and prefetchable.
    let words: Vec<u32> = capability(&mut d)
        .chunks(4)
        .map(|c| u32::from_le_bytes(c.try_into().unwrap()))
        .collect();
    assert_eq!(words[..4], [0x0001_0010, 0, 0, 0x0008_0008]);
    assert_eq!(words[4], 0, "no VF, and a function of its own");
    assert_eq!(words[5], 1 << 16 | 2, "stride 1 from 2 on");
    assert_eq!(words[6], 0x101e << 16, "ConnectX Family mlx5Gen VF");
    assert_eq!(words[9] & 0xf, 0xc);
    d.bring_up().unwrap();
    set(&mut d, 0);
    drop(d);
    device.power_cycle();
    assert_eq!(capability(&mut device.probe()), [0; SRIOV_BYTES]);
}
