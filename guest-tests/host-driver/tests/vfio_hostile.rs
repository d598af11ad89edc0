// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bad command entries and chains, and clients that break the protocol: each fails on its own,
//! and whoever comes next is served.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod vfio_fixture;

use std::os::fd::AsRawFd as _;

use fwctl_proto::{
    cmdif::{Entry, TYPE_PCI_XPORT},
    opcode,
};
use host_driver::{
    mailbox::Command,
    pci::{BAR0, BLOCK_STRIDE, CONFIG, FREE_BASE, MEMORY_BASE, input_at, output_at},
};
use vfio_fixture::{
    Device, Driver, Raw, Reply, inbox, map, message, region_access, set_irqs, unmap,
};
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
const GET_INFO: u16 = 4;
const GET_REGION_INFO: u16 = 5;
const GET_REGION_IO_FDS: u16 = 6;
const GET_IRQ_INFO: u16 = 7;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DMA_READ: u16 = 11;
const DMA_WRITE: u16 = 12;
const RESET: u16 = 13;
const DIRTY_PAGES: u16 = 14;
// Flags of a message.
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;
// Of errno.h.
const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const EMSGSIZE: i32 = 90;
const EOPNOTSUPP: i32 = 95;

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
fn wrong_messages_get_their_errno_and_the_connection_goes_on() {
    let device = Device::new();
    let access = |region, offset, count| (REGION_READ, region_access(region, offset, count));
    let cases = [
        ("unknown command", (0x7777, vec![]), EOPNOTSUPP),
        ("no command", (0, vec![0; 100]), EOPNOTSUPP),
        (
            "unsupported command",
            (GET_REGION_IO_FDS, vec![]),
            EOPNOTSUPP,
        ),
        // With all that follows them: it must not be taken for the next message.
        (
            "its body",
            (GET_REGION_IO_FDS, vec![0xff; 4000]),
            EOPNOTSUPP,
        ),
        (
            "DMA read from the client",
            (DMA_READ, vec![0xff; 16]),
            EOPNOTSUPP,
        ),
        (
            "DMA write from the client",
            (DMA_WRITE, vec![0xff; 160]),
            EOPNOTSUPP,
        ),
        ("dirty pages", (DIRTY_PAGES, vec![0xff; 32]), EOPNOTSUPP),
        ("region that is not there", access(99, 0, 4), EINVAL),
        ("region without content", access(1, 0, 4), EINVAL),
        ("nothing of a region", access(BAR0, 0, 0), EINVAL),
        (
            "past the end of BAR0",
            access(BAR0, (1 << 20) - 2, 4),
            EINVAL,
        ),
        (
            "end of the address space",
            access(BAR0, u64::MAX, 4),
            EINVAL,
        ),
        ("too much of BAR0", access(BAR0, 0, 16), EINVAL),
        ("4 GiB of BAR0", access(BAR0, 0, u32::MAX), EINVAL),
        ("past configuration space", access(CONFIG, 4095, 2), EINVAL),
        ("half a read", (REGION_READ, vec![0; 15]), EINVAL),
        ("more than a read", (REGION_READ, vec![0; 17]), EINVAL),
        (
            "write of more than it has",
            (REGION_WRITE, region_access(BAR0, 0, 8)),
            EINVAL,
        ),
        (
            "write of less than it has",
            (
                REGION_WRITE,
                [region_access(BAR0, 0, 4), vec![0; 8]].concat(),
            ),
            EINVAL,
        ),
        ("empty range", (DMA_MAP, map(0x1000, 0)), EINVAL),
        ("range that wraps", (DMA_MAP, map(0x1000, u64::MAX)), EINVAL),
        ("half a range", (DMA_MAP, vec![0; 31]), EINVAL),
        (
            "dirty pages of a range",
            (DMA_UNMAP, unmap(2, 0, 1)),
            EOPNOTSUPP,
        ),
        (
            "region to ask of",
            (GET_REGION_INFO, vec![0xff; 32]),
            EINVAL,
        ),
        (
            "interrupt to ask of",
            (GET_IRQ_INFO, vec![0xff; 16]),
            EINVAL,
        ),
        ("interrupts to set", (SET_IRQS, vec![0xff; 20]), EINVAL),
        ("vectors to set", (SET_IRQS, set_irqs(u32::MAX, 1)), EINVAL),
        ("reset with something", (RESET, vec![0; 4]), EINVAL),
    ];
    let mut raw = Raw::connect(device.path());
    for (what, (command, body), errno) in cases {
        raw.message(command, &body);
        let reply = raw.reply().unwrap_or_else(|| panic!("{what}: hung up"));
        let want = Reply {
            id: 7,
            command,
            flags: REPLY | ERROR,
            errno,
            body: vec![],
        };
        assert_eq!(reply, want, "{what}");
        // On the same connection: vendor and device of configuration space.
        raw.message(REGION_READ, &region_access(CONFIG, 0, 4));
        let id = raw.reply().unwrap();
        assert_eq!((id.flags, id.errno), (REPLY, 0), "after {what}");
        assert_eq!(id.body[16..], [0xb3, 0x15, 0x21, 0x10], "after {what}");
    }
    // Twice the same range, and a range that would be cut.
    for (command, body, errno) in [
        (DMA_MAP, map(0x10_0000, 0x2000), 0),
        (DMA_MAP, map(0x10_1000, 0x1000), EINVAL),
        (DMA_UNMAP, unmap(0, 0x10_0000, 0x1000), EINVAL),
        (DMA_UNMAP, unmap(4, 0, 0), 0),
        (DMA_MAP, map(0x10_1000, 0x1000), 0),
    ] {
        raw.message(command, &body);
        assert_eq!(raw.reply().unwrap().errno, errno);
    }
    drop(raw);
    device.probe().bring_up().unwrap();
}

#[test]
fn who_wants_no_reply_gets_none() {
    let device = Device::new();
    let mut raw = Raw::connect(device.path());
    for (command, body) in [
        (0x7777, vec![0xff; 40]),
        (REGION_READ, region_access(CONFIG, 0, 4)),
        (DMA_MAP, map(0x1000, 0)),
        (RESET, vec![]),
    ] {
        raw.send(&message(command, NO_REPLY, &body));
    }
    raw.message(GET_INFO, &[0; 16]);
    let reply = raw.reply().unwrap();
    assert_eq!((reply.command, reply.errno), (GET_INFO, 0));
    // Bytes, a PCI device that can be reset, 9 regions, 5 kinds of interrupts (linux/vfio.h).
    let want = [16u32, 3, 9, 5].map(u32::to_ne_bytes);
    assert_eq!(reply.body, want.as_flattened());
}

#[test]
fn messages_may_come_in_pieces() {
    let device = Device::new();
    let mut raw = Raw::connect(device.path());
    for byte in message(REGION_READ, 0, &region_access(CONFIG, 0, 2)) {
        raw.send(&[byte]);
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    assert_eq!(raw.reply().unwrap().body[16..], [0xb3, 0x15]);
    // And several at once.
    let one = message(REGION_READ, 0, &region_access(CONFIG, 2, 2));
    raw.send(&one.repeat(3));
    for _ in 0..3 {
        assert_eq!(raw.reply().unwrap().body[16..], [0x21, 0x10]);
    }
}

#[test]
fn a_version_that_makes_no_sense_is_refused_and_a_good_one_tells_the_limits() {
    let device = Device::new();
    let mut raw = Raw::connect(device.path());
    let nested = [vec![b'['; 4000], vec![0]].concat();
    let texts: [(&str, &[u8]); 7] = [
        ("no JSON", b"{\"capabilities\": nonsense}\0"),
        ("no object", b"[]\0"),
        ("no end", b"{}"),
        ("nothing but an end", b"\0"),
        ("two ends", b"{}\0\0"),
        ("no UTF-8", b"{\"\xff\": 1}\0"),
        ("deep", &nested),
    ];
    for (what, text) in texts {
        raw.message(VERSION, &[&[0; 4], text].concat());
        assert_eq!(raw.reply().unwrap().errno, EINVAL, "{what}");
    }
    raw.message(VERSION, &[1, 0, 0, 0]);
    assert_eq!(raw.reply().unwrap().errno, EINVAL, "major version 1");
    raw.message(VERSION, &[0; 3]);
    assert_eq!(raw.reply().unwrap().errno, EINVAL, "half a version");
    for text in [
        &b""[..],
        b"{}\0",
        b"{\"capabilities\":{\"max_msg_fds\":8}}\0",
    ] {
        raw.message(VERSION, &[&[0, 0, 1, 0], text].concat());
        let reply = raw.reply().unwrap();
        assert_eq!((reply.flags, reply.errno), (REPLY, 0));
        assert_eq!(reply.body[..4], [0; 4]);
        let told = reply.body[4..].strip_suffix(&[0]).unwrap();
        let want = r#"{"capabilities":{"max_data_xfer_size":4096,"max_msg_fds":8}}"#;
        assert_eq!(std::str::from_utf8(told).unwrap(), want);
    }
}

#[test]
fn who_cannot_be_understood_is_hung_up_on() {
    let device = Device::new();
    let header = |size: u32| {
        let mut b = message(REGION_READ, 0, &[]);
        b[4..8].copy_from_slice(&size.to_ne_bytes());
        b
    };
    for size in [0, 3, 15, 16 + 16 + 4096 + 1, 1 << 31, u32::MAX] {
        let mut raw = Raw::connect(device.path());
        raw.send(&header(size));
        let reply = raw.reply().unwrap();
        assert_eq!((reply.flags, reply.errno), (REPLY | ERROR, EMSGSIZE));
        assert_eq!(raw.reply(), None, "{size}");
    }
    // A reply, although nothing was asked.
    let mut raw = Raw::connect(device.path());
    raw.send(&message(DMA_READ, REPLY, &[0; 16]));
    assert_eq!(raw.reply(), None);
    device.probe().bring_up().unwrap();
}

#[test]
fn memory_that_can_be_taken_away_is_refused_unless_it_was_asked_for() {
    let unsealed = rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, 1 << 20).unwrap();
    let sealed = host_driver::sealed_file(1 << 20).unwrap();
    for (device, unsealed_errno) in [(Device::new(), EPERM), (Device::trusting(), 0)] {
        let mut raw = Raw::connect(device.path());
        raw.message_with(DMA_MAP, &map(0, 1 << 20), &[unsealed.as_raw_fd()]);
        assert_eq!(raw.reply().unwrap().errno, unsealed_errno);
        raw.message_with(DMA_MAP, &map(1 << 30, 1 << 20), &[sealed.as_raw_fd()]);
        assert_eq!(raw.reply().unwrap().errno, 0);
    }
    // The seal that was asked for is the one that counts.
    assert_eq!(sealed.set_len(0).unwrap_err().raw_os_error(), Some(EPERM));
}

#[test]
fn a_listener_that_is_shut_down_ends_the_server() {
    let path = std::env::temp_dir().join(format!("fwctl-vfio-end-{}", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let ours = listener.try_clone().unwrap();
    let device = Device::new();
    let (done, ended) = std::sync::mpsc::channel();
    device.also_serve(listener, move || done.send(()).unwrap());
    let mut raw = Raw::connect(&path);
    raw.message(REGION_READ, &region_access(CONFIG, 0, 2));
    assert_eq!(raw.reply().unwrap().errno, 0);
    rustix::net::shutdown(&ours, rustix::net::Shutdown::Both).unwrap();
    drop(raw);
    ended.recv_timeout(vfio_fixture::LIMIT).unwrap();
    std::fs::remove_file(&path).unwrap();
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
