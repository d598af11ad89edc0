// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI door over its real socket: bring-up, events, resets, registers, DMA, clients that come
//! and go. Expected bytes are those of mlx5_ifc.h, mlx5/device.h and the PCI specification.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vfio_fixture;

use fwctl_proto::{layout::get_bits, opcode};
use host_driver::{
    eq::EventQueue,
    firmware::Firmware,
    mailbox::{Command, Mailbox as _},
    pci::{BAR0, COMMAND_SLOTS, CONFIG, FREE_BASE, MEMORY_BASE, MEMORY_BYTES, PciDriver},
};
use std::os::fd::AsRawFd as _;
use vfio_fixture::{Device, inbox};
use vm_memory::{Bytes as _, GuestAddress};

/// PCI Express capability.
const CAP_EXP: u8 = 0x10;
/// Device Control in it; bit 15 is "initiate function level reset".
const DEVCTL: u64 = 8;
/// `MLX5_EVENT_TYPE_CMD`.
const EVENT_CMD: u8 = 0xa;

#[test]
fn the_function_comes_up_and_goes_down() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let r = device.report();
    assert_eq!((r.state, r.issi, r.pages), ("up", 1, 48));
    assert_eq!(d.held.len(), 48);
    // cmd_hca_cap.uctx_cap holds TOOLS_RESOURCES (bit 2) in this profile.
    let cap = d.query_cap(0, true).unwrap();
    let at = fwctl_proto::layout::find("cmd_hca_cap")
        .unwrap()
        .field("uctx_cap")
        .unwrap();
    assert_eq!(get_bits(&cap, at.offset, at.width), 4);
    let uid = d.create_uctx(4).unwrap();
    assert_eq!(device.report().uctx, 1);
    // A command of that context, and of one that is not there.
    assert_eq!(d.ok(&Command::new(opcode::NOP).uid(uid)).unwrap(), [0; 16]);
    let other = Command::new(opcode::NOP)
        .uid(uid + 1)
        .exec(&mut d.mailbox)
        .unwrap();
    assert_eq!(other[0], 0x5, "BAD_RES");
    d.destroy_uctx(uid).unwrap();
    assert_eq!(device.report().uctx, 0);
    d.tear_down().unwrap();
    let r = device.report();
    assert_eq!((r.state, r.pages, d.held.len()), ("disabled", 0, 0));
    d.bring_up().unwrap();
}

#[test]
fn the_initialization_segment_reads_as_the_header_says() {
    let device = Device::new();
    let mut d = device.probe();
    let m = &mut d.mailbox;
    // Firmware 28.43.1014: fw_rev_minor, fw_rev_major; cmdif_rev 5, fw_rev_subminor.
    assert_eq!(m.segment(0x0).unwrap(), 43 << 16 | 28);
    assert_eq!(m.segment(0x4).unwrap(), 5 << 16 | 1014);
    // The queue's address as written, 32 slots of 64 bytes.
    assert_eq!(m.segment(0x10).unwrap(), 1);
    assert_eq!(m.segment(0x14).unwrap(), 0x56);
    // Not initializing; a reset of the firmware is supported.
    assert_eq!(m.segment(0x1fc).unwrap(), 1 << 30);
    let first = m.segment(0x1010).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_ne!(
        m.segment(0x1010).unwrap(),
        first,
        "the health counter moves"
    );
    // What lies behind it and between the blocks of BAR0 is 0; the end of BAR0 can be read.
    assert_eq!(
        (
            m.segment(0x2010).unwrap(),
            m.segment((1 << 20) - 4).unwrap()
        ),
        (0, 0)
    );
}

#[test]
fn every_width_and_alignment_reads_the_same() {
    let device = Device::new();
    let mut d = device.probe();
    for (region, base) in [
        (CONFIG, 0u64),
        (CONFIG, 0x60),
        (BAR0, 0),
        (BAR0, 0x14),
        (BAR0, 0x230),
    ] {
        let mut whole = [0u8; 16];
        for (i, b) in whole.iter_mut().enumerate() {
            let at = base + i as u64;
            d.mailbox
                .client()
                .region_read(region, at, std::slice::from_mut(b))
                .unwrap();
        }
        for width in [2, 4, 8] {
            for at in 0..=16 - width {
                let mut part = vec![0u8; width];
                d.mailbox
                    .client()
                    .region_read(region, base + at as u64, &mut part)
                    .unwrap();
                assert_eq!(
                    part,
                    whole[at..at + width],
                    "region {region} {base:#x}+{at} width {width}"
                );
            }
        }
    }
}

#[test]
fn every_width_and_alignment_writes_the_same() {
    let device = Device::new();
    let mut d = device.probe();
    let m = &mut d.mailbox;
    // The command queue's address, in single bytes, across both dwords, and as one quadword.
    for (i, b) in [0x11u8, 0x22, 0x33, 0x44].iter().enumerate() {
        m.client()
            .region_write(BAR0, 0x10 + i as u64, &[*b])
            .unwrap();
    }
    assert_eq!(m.segment(0x10).unwrap(), 0x1122_3344);
    m.client()
        .region_write(BAR0, 0x12, &[0xaa, 0xbb, 0xcc, 0xdd])
        .unwrap();
    assert_eq!(m.segment(0x10).unwrap(), 0x1122_aabb);
    assert_eq!(m.segment(0x14).unwrap() >> 16, 0xccdd);
    m.client()
        .region_write(BAR0, 0x10, &[0, 0, 0, 1, 0, 0, 0, 0])
        .unwrap();
    assert_eq!(
        (m.segment(0x10).unwrap(), m.segment(0x14).unwrap()),
        (1, 0x56)
    );
    // Interrupt line (0x3c) is read-write, interrupt pin (0x3d) is not.
    m.config_write(0x3c, &[0x0b, 0x77]).unwrap();
    let mut line = [0; 2];
    m.config_read(0x3c, &mut line).unwrap();
    assert_eq!(line, [0x0b, 0]);
    // BAR0 sizing by bytes: 1 MiB, 64 bits, prefetchable.
    for at in 0x10..0x18 {
        m.config_write(at, &[0xff]).unwrap();
    }
    let mut bar = [0; 8];
    m.config_read(0x10, &mut bar).unwrap();
    assert_eq!(u64::from_le_bytes(bar), 0xffff_ffff_fff0_000c);
}

#[test]
fn thirty_two_slots_go_with_one_doorbell() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    // Each slot queries a capability page, so that outputs differ by slot: current or maximum.
    for slot in 0..COMMAND_SLOTS {
        let current = u16::from(slot % 2 == 0);
        d.mailbox
            .post(slot, &inbox(opcode::QUERY_HCA_CAP, current), 4112)
            .unwrap();
    }
    d.mailbox.ring(u32::MAX).unwrap();
    let (current, max) = (
        d.query_cap(0, true).unwrap(),
        d.query_cap(0, false).unwrap(),
    );
    for slot in 1..COMMAND_SLOTS {
        let a = d.mailbox.wait(slot, 4112).unwrap();
        assert_eq!(
            (a.delivery, &a.outbox[..8]),
            (0, &[0; 8][..]),
            "slot {slot}"
        );
        assert_eq!(
            &a.outbox[16..],
            if slot % 2 == 0 { &current } else { &max },
            "slot {slot}"
        );
    }
    // A doorbell for slots that the driver owns changes nothing.
    d.mailbox.ring(u32::MAX).unwrap();
    assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
}

#[test]
fn the_longest_messages_arrive_whole() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    // 1 MiB each way, as fwctl lets through: NOP ignores what follows its header.
    let mut long = vec![0xa5; 1 << 20];
    long[..16].copy_from_slice(&inbox(opcode::NOP, 0));
    let a = d.mailbox.call(3, &long, 1 << 20).unwrap();
    assert_eq!(a.delivery, 0);
    assert!(a.outbox.iter().all(|b| *b == 0));
}

#[test]
fn command_events_name_their_slot_and_raise_an_interrupt_when_armed() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    d.mailbox.wire(8).unwrap();
    let uar = d.alloc_uar().unwrap();
    assert!(uar >= 64, "UAR pages begin at 64");
    let mut q = EventQueue::create(&mut d, 5, 6, uar, 1 << EVENT_CMD).unwrap();
    // Its own CREATE_EQ was polled for.
    assert_eq!(
        (q.next(&d.mailbox).unwrap(), d.mailbox.raised(6)),
        (None, 0)
    );
    d.mailbox.call(17, &inbox(opcode::NOP, 0), 16).unwrap();
    assert_eq!(d.mailbox.raised(6), 1);
    let e = q.next(&d.mailbox).unwrap().unwrap();
    let mut expected = [0u8; 64];
    expected[1] = EVENT_CMD;
    expected[32..36].copy_from_slice(&(1u32 << 17).to_be_bytes());
    assert_eq!(e.0, expected);
    // Not armed again: an entry, and no interrupt. Arming while behind raises it at once.
    d.mailbox.call(2, &inbox(opcode::NOP, 0), 16).unwrap();
    assert_eq!(d.mailbox.raised(6), 0);
    q.arm(&mut d.mailbox).unwrap();
    assert_eq!(d.mailbox.raised(6), 1);
    assert_eq!(
        q.next(&d.mailbox).unwrap().unwrap().data()[..4],
        [0, 0, 0, 4]
    );
    // Three rounds of the ring; the owner bit flips with each.
    for i in 0..96 {
        d.mailbox.call(1, &inbox(opcode::NOP, 0), 16).unwrap();
        let e = q.next(&d.mailbox).unwrap();
        assert_eq!(e.map(|e| e.event_type()), Some(EVENT_CMD), "event {i}");
        q.read_so_far(&mut d.mailbox).unwrap();
    }
    q.arm(&mut d.mailbox).unwrap();
    // A vector without eventfd is not raised, the entry comes none the less.
    let _before = d.mailbox.raised(6);
    d.mailbox.unwire(6).unwrap();
    d.mailbox.call(1, &inbox(opcode::NOP, 0), 16).unwrap();
    assert_eq!(d.mailbox.raised(6), 0);
    assert!(q.next(&d.mailbox).unwrap().is_some());
    assert!((0..8).all(|v| d.mailbox.raised(v) == 0));
    d.destroy_eq(q.eqn).unwrap();
    assert_eq!(
        q.next(&d.mailbox).unwrap(),
        None,
        "its DESTROY_EQ is polled for"
    );
}

#[test]
fn a_function_level_reset_ends_everything_and_the_next_probe_works() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    d.create_uctx(4).unwrap();
    let generation = device.report().generation;
    let exp = d.mailbox.capability(CAP_EXP).unwrap().unwrap();
    let mut caps = [0; 4];
    d.mailbox.config_read(exp + 4, &mut caps).unwrap();
    assert_eq!(caps[3] & 0x10, 0x10, "FLR capable");
    // As a word, with the other bits as they were.
    let mut control = [0; 2];
    d.mailbox.config_read(exp + DEVCTL, &mut control).unwrap();
    control[1] |= 0x80;
    d.mailbox.config_write(exp + DEVCTL, &control).unwrap();
    let r = device.report();
    assert_eq!(
        (r.state, r.uctx, r.pages, r.generation),
        ("disabled", 0, 0, generation + 1)
    );
    let mut command = [0xff; 2];
    d.mailbox.config_read(4, &mut command).unwrap();
    assert_eq!(command, [0, 0]);
    d.mailbox.config_read(exp + DEVCTL, &mut control).unwrap();
    assert_eq!(control[1] & 0x80, 0, "the bit reads as 0");
    d.mailbox.enable().unwrap();
    let mut d = Firmware::new(d.mailbox);
    d.bring_up().unwrap();
    assert_eq!(device.report().pages, 48);
}

#[test]
fn a_reset_by_the_client_does_the_same() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    d.mailbox.client().reset().unwrap();
    assert_eq!(device.report().state, "disabled");
    d.mailbox.enable().unwrap();
    Firmware::new(d.mailbox).bring_up().unwrap();
}

#[test]
fn clients_come_and_go() {
    let device = Device::new();
    for round in 0..3 {
        let mut d = device.probe();
        d.bring_up().unwrap();
        d.create_uctx(4).unwrap();
        assert!(device.connected(), "round {round}");
        drop(d);
        device.wait_until("function disabled", |x| x.report().state == "disabled");
        device.wait_until("no client", |x| !x.connected());
        assert_eq!(device.report().uctx, 0);
    }
    // The next client finds registers as after power on, and none of the memory of the last.
    let mut c = PciDriver::connect(device.path()).unwrap();
    let mut command = [0xff; 2];
    c.config_read(4, &mut command).unwrap();
    assert_eq!(command, [0, 0]);
    // With memory decoding off, BAR0 does not answer.
    assert_eq!(c.segment(0x4).unwrap(), u32::MAX);
    c.config_write(4, &[2, 0]).unwrap();
    assert_eq!(
        (c.segment(0x10).unwrap(), c.segment(0x14).unwrap()),
        (0, 0x56)
    );
}

#[test]
fn someone_who_only_connects_is_no_client() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    drop(d);
    device.wait_until("no client", |x| !x.connected());
    let silent = vfio_fixture::Raw::connect(device.path());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!device.connected());
    drop(silent);
    device.probe().bring_up().unwrap();
}

#[test]
fn without_bus_mastering_nothing_is_read_or_written() {
    let device = Device::new();
    let mut d = device.probe();
    d.mailbox.config_write(4, &[2, 0]).unwrap();
    d.mailbox
        .post(0, &inbox(opcode::ENABLE_HCA, 0), 12)
        .unwrap();
    d.mailbox.ring(1).unwrap();
    assert_eq!(d.mailbox.answer(0, 12).unwrap(), None);
    assert_eq!(device.report().state, "disabled");
    d.mailbox.config_write(4, &[6, 0]).unwrap();
    d.mailbox.ring(1).unwrap();
    assert_eq!(d.mailbox.wait(0, 12).unwrap().delivery, 0);
    assert_eq!(device.report().state, "enabled");
}

#[test]
fn without_bus_mastering_no_interrupt_is_raised() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    d.mailbox.wire(4).unwrap();
    let uar = d.alloc_uar().unwrap();
    let q = EventQueue::create(&mut d, 5, 3, uar, 1 << EVENT_CMD).unwrap();
    d.mailbox.call(1, &inbox(opcode::NOP, 0), 16).unwrap();
    assert_eq!(d.mailbox.raised(3), 1);
    // Arming a queue with an unread entry raises its interrupt, bus mastering given.
    d.mailbox.config_write(4, &[2, 0]).unwrap();
    q.arm(&mut d.mailbox).unwrap();
    assert_eq!(d.mailbox.raised(3), 0);
    d.mailbox.config_write(4, &[6, 0]).unwrap();
    q.arm(&mut d.mailbox).unwrap();
    assert_eq!(d.mailbox.raised(3), 1);
}

#[test]
fn eventfds_go_with_their_client() {
    let device = Device::new();
    let mut d = device.probe();
    d.mailbox.wire(4).unwrap();
    let old = d.mailbox.vector(3).unwrap().try_clone().unwrap();
    drop(d);
    device.wait_until("no client", |x| !x.connected());
    let mut d = device.probe();
    d.bring_up().unwrap();
    let uar = d.alloc_uar().unwrap();
    EventQueue::create(&mut d, 5, 3, uar, 1 << EVENT_CMD).unwrap();
    assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
    assert!(
        old.read().is_err(),
        "the eventfd of the client before was raised"
    );
}

#[test]
fn with_memory_decoding_off_bar0_takes_no_writes() {
    let device = Device::new();
    let mut d = device.probe();
    d.mailbox.config_write(4, &[4, 0]).unwrap();
    d.mailbox.segment_write(0x10, 0x55).unwrap();
    d.mailbox.config_write(4, &[6, 0]).unwrap();
    assert_eq!(d.mailbox.segment(0x10).unwrap(), 1);
}

#[test]
fn in_d3hot_bar0_does_not_answer_and_state_is_kept() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let pm = d.mailbox.capability(0x01).unwrap().unwrap();
    d.mailbox.config_write(pm + 4, &[3]).unwrap();
    assert_eq!(d.mailbox.segment(0x4).unwrap(), u32::MAX);
    d.mailbox.config_write(pm + 4, &[0]).unwrap();
    assert_eq!(d.mailbox.segment(0x4).unwrap(), 5 << 16 | 1014);
    // No_Soft_Reset is set: the way back to D0 resets nothing.
    let mut pmcsr = [0; 2];
    d.mailbox.config_read(pm + 4, &mut pmcsr).unwrap();
    assert_eq!(pmcsr, [0x08, 0]);
    assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
}

#[test]
fn memory_that_is_unmapped_fails_one_command_and_can_be_mapped_again() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    d.mailbox.post(0, &inbox(opcode::NOP, 0), 16).unwrap();
    d.mailbox
        .client()
        .dma_unmap(MEMORY_BASE, MEMORY_BYTES)
        .unwrap();
    d.mailbox.ring(1).unwrap();
    assert_eq!(
        d.mailbox.answer(0, 16).unwrap(),
        None,
        "the firmware cannot see the entry"
    );
    // In two parts that touch, with the border in the middle of a mailbox block.
    let fd = d.mailbox.memory_file().as_raw_fd();
    let first = host_driver::pci::output_at(0) + 4096 - MEMORY_BASE;
    let c = d.mailbox.client();
    c.dma_map(0, MEMORY_BASE, first, fd).unwrap();
    c.dma_map(first, MEMORY_BASE + first, MEMORY_BYTES - first, fd)
        .unwrap();
    d.mailbox.ring(1).unwrap();
    assert_eq!(d.mailbox.wait(0, 16).unwrap().delivery, 0);
    assert_eq!(d.query_cap(0, true).unwrap().len(), 4096);
    // A queue outside memory: the doorbell does nothing, and the next address is good again.
    d.mailbox.segment_write(0x10, 0x7fff_ffff).unwrap();
    d.mailbox.ring(1).unwrap();
    d.mailbox.enable().unwrap();
    assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
}

#[test]
fn an_event_queue_whose_memory_is_gone_harms_nothing() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let uar = d.alloc_uar().unwrap();
    let outside = [MEMORY_BASE - 4096];
    let request = host_driver::firmware::EqRequest {
        log_size: 5,
        vector: 0,
        uar,
        mask: [1 << EVENT_CMD, 0, 0, 0],
        pages: &outside,
    };
    d.create_eq(&request).unwrap();
    for _ in 0..3 {
        assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
    }
    d.tear_down().unwrap();
}

#[test]
fn two_functions_of_one_card_are_apart() {
    let device = Device::with_functions(2);
    let (mut a, mut b) = (device.probe_function(0), device.probe_function(1));
    a.bring_up().unwrap();
    assert_eq!(
        (device.report_of(0).state, device.report_of(1).state),
        ("up", "disabled")
    );
    b.bring_up().unwrap();
    // The same address in both is different memory.
    a.mailbox
        .memory()
        .write_obj(1u64, GuestAddress(FREE_BASE))
        .unwrap();
    assert_eq!(
        b.mailbox
            .memory()
            .read_obj::<u64>(GuestAddress(FREE_BASE))
            .unwrap(),
        0
    );
    a.create_uctx(4).unwrap();
    drop(a);
    device.wait_until("first disabled", |d| d.report_of(0).state == "disabled");
    assert_eq!(device.report_of(1).state, "up");
    assert_eq!(b.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
    assert!(b.mailbox.page().is_some());
}

#[test]
fn a_function_that_is_pulled_reads_as_ones_and_comes_back_as_new() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let slot = device.slot();
    assert!(slot.set_empty(true));
    assert!(!slot.set_empty(true), "it is out already");
    let mut id = [0; 4];
    d.mailbox.config_read(0, &mut id).unwrap();
    assert_eq!(id, [0xff; 4]);
    let mut word = [0; 4];
    d.mailbox.client().region_read(BAR0, 0, &mut word).unwrap();
    assert_eq!(word, [0xff; 4]);
    // Writes change nothing, also of what comes back.
    d.mailbox.config_write(4, &[0xff, 0xff]).unwrap();
    assert!(slot.set_empty(false));
    d.mailbox.config_read(0, &mut id).unwrap();
    assert_eq!(&id[..2], [0xb3, 0x15], "the vendor id");
    let mut command = [0; 2];
    d.mailbox.config_read(4, &mut command).unwrap();
    assert_eq!(command, [0, 0], "as after power on");
}
