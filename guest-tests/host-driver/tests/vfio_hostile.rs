// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bad command entries and chains, and clients that break the protocol: each fails on its own,
//! and whoever comes next is served.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vfio_fixture;

use fwctl_proto::{
    cmdif::{Entry, TYPE_PCI_XPORT},
    opcode,
};
use host_driver::{
    mailbox::Command,
    pci::{BAR0, BLOCK_STRIDE, CONFIG, FREE_BASE, MEMORY_BASE, input_at, output_at},
};
use vfio_fixture::{Device, Driver, Raw, inbox, region_access};
use vm_memory::{Bytes as _, GuestAddress};

// Delivery statuses of mlx5/core/cmd.c (MLX5_CMD_DELIVERY_STAT_*).
const TOK_ERR: u8 = 0x2;
const BAD_BLK_NUM_ERR: u8 = 0x3;
const OUT_PTR_ALIGN_ERR: u8 = 0x4;
const IN_PTR_ALIGN_ERR: u8 = 0x5;
const FW_ERR: u8 = 0x6;
const IN_LENGTH_ERR: u8 = 0x7;
const OUT_LENGTH_ERR: u8 = 0x8;
const CMD_DESCR_ERR: u8 = 0x10;

/// Commands of vfio-user.
const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const GET_REGION_IO_FDS: u16 = 6;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DMA_READ: u16 = 11;
/// Bit of an error in a reply's flags.
const ERROR: u32 = 1 << 5;

/// An entry for a message of `in_len` and `out_len` bytes, with blocks that are right.
fn good(d: &mut Driver, in_len: usize, out_len: usize) -> Entry {
    let mut message = vec![0u8; in_len.max(16)];
    message[..16].copy_from_slice(&inbox(opcode::NOP, 0));
    d.mailbox.post(0, &message, out_len).unwrap();
    Entry {
        kind: TYPE_PCI_XPORT,
        in_len: in_len as u32,
        in_ptr: if in_len > 16 { input_at(0) } else { 0 },
        inline_in: inbox(opcode::NOP, 0),
        out_ptr: if out_len > 16 { output_at(0) } else { 0 },
        out_len: out_len as u32,
        token: d.mailbox.token(),
        hw_owned: true,
    }
}

/// The delivery status of what lies in slot 0.
fn delivery(d: &mut Driver) -> u8 {
    d.mailbox.ring(1).unwrap();
    d.mailbox.wait(0, 16).unwrap().delivery
}

fn entry(d: &mut Driver, e: &Entry) -> u8 {
    d.mailbox.put_entry(0, &e.to_bytes()).unwrap();
    delivery(d)
}

fn still_serves(d: &mut Driver) {
    assert_eq!(d.ok(&Command::new(opcode::NOP)).unwrap(), [0; 16]);
}

#[test]
fn bad_entries_get_their_delivery_status() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let g = good(&mut d, 1040, 1040);
    assert_eq!(entry(&mut d, &g), 0);
    let outside = MEMORY_BASE - (1 << 20);
    let last_byte = MEMORY_BASE + host_driver::pci::MEMORY_BYTES - 512;
    let cases = [
        ("type", Entry { kind: 1, ..g }, CMD_DESCR_ERR),
        ("short inbox", Entry { in_len: 15, ..g }, IN_LENGTH_ERR),
        ("no inbox", Entry { in_len: 0, ..g }, IN_LENGTH_ERR),
        (
            "huge inbox",
            Entry {
                in_len: u32::MAX,
                ..g
            },
            IN_LENGTH_ERR,
        ),
        ("short outbox", Entry { out_len: 7, ..g }, OUT_LENGTH_ERR),
        (
            "huge outbox",
            Entry {
                out_len: u32::MAX,
                ..g
            },
            OUT_LENGTH_ERR,
        ),
        (
            "input not aligned",
            Entry {
                in_ptr: g.in_ptr + 1,
                ..g
            },
            IN_PTR_ALIGN_ERR,
        ),
        (
            "output not aligned",
            Entry {
                out_ptr: g.out_ptr + 0x100,
                ..g
            },
            OUT_PTR_ALIGN_ERR,
        ),
        (
            "input not mapped",
            Entry {
                in_ptr: outside,
                ..g
            },
            FW_ERR,
        ),
        (
            "output not mapped",
            Entry {
                out_ptr: outside,
                ..g
            },
            FW_ERR,
        ),
        (
            "input ends outside",
            Entry {
                in_ptr: last_byte,
                ..g
            },
            FW_ERR,
        ),
        (
            "input at the end of the address space",
            Entry {
                in_ptr: !0x1ff,
                ..g
            },
            FW_ERR,
        ),
        (
            "output at the end of the address space",
            Entry {
                out_ptr: !0x1ff,
                ..g
            },
            FW_ERR,
        ),
        ("no input block", Entry { in_ptr: 0, ..g }, FW_ERR),
        (
            "token",
            Entry {
                token: g.token ^ 1,
                ..g
            },
            TOK_ERR,
        ),
    ];
    for (what, e, status) in cases {
        assert_eq!(entry(&mut d, &e), status, "{what}");
        assert_eq!(entry(&mut d, &g), 0, "after {what}");
    }
}

#[test]
fn bad_chains_get_their_delivery_status() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let (input, output) = (input_at(0), output_at(0));
    let second = |first: u64| first + BLOCK_STRIDE;
    // What is written over the good chain: where, which bytes, and what comes of it. A loop is
    // found by the block number, a chain that ends too early by its next pointer of 0.
    let cases: [(&str, u64, Vec<u8>, u8); 7] = [
        ("input token", second(input) + 573, vec![0], TOK_ERR),
        ("output token", second(output) + 573, vec![0], TOK_ERR),
        (
            "input block number",
            second(input) + 568,
            vec![0, 0, 0, 2],
            BAD_BLK_NUM_ERR,
        ),
        (
            "output block number",
            output + 568,
            vec![0xff; 4],
            BAD_BLK_NUM_ERR,
        ),
        (
            "input loop",
            input + 560,
            input.to_be_bytes().to_vec(),
            BAD_BLK_NUM_ERR,
        ),
        (
            "output loop",
            output + 560,
            output.to_be_bytes().to_vec(),
            BAD_BLK_NUM_ERR,
        ),
        ("input too short", input + 560, vec![0; 8], FW_ERR),
    ];
    for (what, at, bytes, status) in cases {
        // 1040 bytes: two blocks each way behind the entry.
        let e = good(&mut d, 1040, 1040);
        d.mailbox
            .memory()
            .write_slice(&bytes, GuestAddress(at))
            .unwrap();
        assert_eq!(entry(&mut d, &e), status, "{what}");
        still_serves(&mut d);
    }
    // Input and output in the same blocks: read first, then written.
    let e = good(&mut d, 1040, 1040);
    assert_eq!(
        entry(
            &mut d,
            &Entry {
                out_ptr: e.in_ptr,
                ..e
            }
        ),
        0
    );
    still_serves(&mut d);
}

#[test]
fn outputs_over_the_command_queue_harm_only_their_owner() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    let e = good(&mut d, 16, 1040);
    // An output chain that lies in the queue itself, over slots 8 and on.
    let at = host_driver::pci::entry_at(8);
    let block = fwctl_proto::cmdif::BlockControl::unsigned(FREE_BASE, 0, e.token);
    d.mailbox
        .memory()
        .write_slice(&block, GuestAddress(at + 512))
        .unwrap();
    let block = fwctl_proto::cmdif::BlockControl::unsigned(0, 1, e.token);
    d.mailbox
        .memory()
        .write_slice(&block, GuestAddress(FREE_BASE + 512))
        .unwrap();
    assert_eq!(entry(&mut d, &Entry { out_ptr: at, ..e }), 0);
    d.mailbox.ring(u32::MAX).unwrap();
    still_serves(&mut d);
}

#[test]
fn odd_doorbells_do_nothing() {
    let device = Device::new();
    let mut d = device.probe();
    d.bring_up().unwrap();
    for page in [0, 1, 63, 64, 65, 255] {
        for offset in [0x0, 0x3e, 0x40, 0x44, 0x48, 0xffc] {
            for bytes in [&[0xffu8; 1][..], &[0xff; 2], &[0xff; 4], &[0xff; 8]] {
                let at = page * 4096 + offset;
                // Not the registers that a driver writes on purpose.
                if at + 8 <= 1 << 20 && (page != 0 || offset >= 0x40) {
                    d.mailbox.client().region_write(BAR0, at, bytes).unwrap();
                }
            }
        }
    }
    still_serves(&mut d);
    assert_eq!(device.report().state, "up");
}

#[test]
fn wrong_messages_get_an_error_and_the_next_client_is_served() {
    let device = Device::new();
    let mut uneven = 0x1000u64.to_ne_bytes().to_vec();
    uneven.extend([0; 8]);
    let map = |address: u64, size: u64| {
        let mut b = 32u32.to_ne_bytes().to_vec();
        b.extend(3u32.to_ne_bytes());
        b.extend(0u64.to_ne_bytes());
        b.extend(address.to_ne_bytes());
        b.extend(size.to_ne_bytes());
        b
    };
    let unmap = |address: u64, size: u64| {
        let mut b = 24u32.to_ne_bytes().to_vec();
        b.extend(0u32.to_ne_bytes());
        b.extend(address.to_ne_bytes());
        b.extend(size.to_ne_bytes());
        b
    };
    let cases = [
        ("unknown command", 0x7777, vec![]),
        ("unsupported command", GET_REGION_IO_FDS, vec![]),
        ("DMA read from the client", DMA_READ, vec![]),
        (
            "region that is not there",
            REGION_READ,
            region_access(99, 0, 4),
        ),
        (
            "region without content",
            REGION_READ,
            region_access(1, 0, 4),
        ),
        (
            "nothing of a region",
            REGION_READ,
            region_access(BAR0, 0, 0),
        ),
        (
            "past the end of BAR0",
            REGION_READ,
            region_access(BAR0, (1 << 20) - 2, 4),
        ),
        (
            "end of the address space",
            REGION_READ,
            region_access(BAR0, u64::MAX, 4),
        ),
        ("too much of BAR0", REGION_READ, region_access(BAR0, 0, 16)),
        (
            "past the end of configuration space",
            REGION_READ,
            region_access(CONFIG, 4095, 2),
        ),
        ("empty range", DMA_MAP, map(0x1000, 0)),
        ("range that wraps", DMA_MAP, map(0x1000, u64::MAX)),
    ];
    for (what, command, body) in cases {
        let mut raw = Raw::connect(device.path());
        raw.message(command, &body);
        let flags = raw
            .reply_flags()
            .unwrap_or_else(|| panic!("{what}: hung up"));
        assert_eq!(flags & ERROR, ERROR, "{what}");
    }
    // Twice the same range, and a range that would be cut.
    let mut raw = Raw::connect(device.path());
    raw.message(DMA_MAP, &map(0x10_0000, 0x2000));
    assert_eq!(raw.reply_flags().unwrap() & ERROR, 0);
    raw.message(DMA_MAP, &map(0x10_1000, 0x1000));
    assert_eq!(raw.reply_flags().unwrap() & ERROR, ERROR);
    raw.message(DMA_UNMAP, &unmap(0x10_0000, 0x1000));
    assert_eq!(raw.reply_flags().unwrap() & ERROR, ERROR);
    drop(raw);
    device.probe().bring_up().unwrap();
}

#[test]
fn clients_that_break_off_or_talk_nonsense_end_alone() {
    let device = Device::new();
    let mut version = [0u8; 4].to_vec();
    version.extend(b"{\"capabilities\": nonsense}\0");
    let mut no_nul = [0u8; 4].to_vec();
    no_nul.extend(b"{}");
    let size_too_small = {
        let mut b = vec![0u8; 16];
        b[2..4].copy_from_slice(&VERSION.to_ne_bytes());
        b[4..8].copy_from_slice(&3u32.to_ne_bytes());
        b.extend([0; 4]);
        b
    };
    type Break<'a> = (&'a str, Box<dyn Fn(&mut Raw) + 'a>);
    let cases: Vec<Break<'_>> = vec![
        ("nothing", Box::new(|_| {})),
        ("half a header", Box::new(|r| r.send(&[1, 0, 1]))),
        (
            "half a message",
            Box::new(|r| r.message(REGION_READ, &[0; 3])),
        ),
        (
            "write without its data",
            Box::new(|r| r.message(REGION_WRITE, &region_access(BAR0, 0, 8))),
        ),
        ("bad version", Box::new(|r| r.message(VERSION, &version))),
        (
            "version without end",
            Box::new(|r| r.message(VERSION, &no_nul)),
        ),
        (
            "version of a wrong size",
            Box::new(|r| r.send(&size_too_small)),
        ),
        ("noise", Box::new(|r| r.send(&[0xa5; 4096]))),
    ];
    for (what, act) in cases {
        let mut raw = Raw::connect(device.path());
        act(&mut raw);
        drop(raw);
        let mut d = device.probe();
        d.bring_up().unwrap_or_else(|e| panic!("after {what}: {e}"));
    }
}
