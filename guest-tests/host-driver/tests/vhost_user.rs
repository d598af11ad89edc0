// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio door over its real socket: bring-up, scope and uid, bad chains, depth, config space,
//! reset, and clients that come and go.

mod vhost_fixture;

use fwctl_proto::{
    opcode,
    virtio::{REQUEST_HEADER_BYTES, RESPONSE_HEADER_BYTES, ResponseHeader, Status},
};
use host_driver::{
    vhost::{driver_request, user_request},
    vhost_ring::{Buffer, INDIRECT, NEXT, WRITE},
    vhost_session::{EVENT_IDX, FREE_BASE, INDIRECT_DESC, MEMORY_BASE, MEMORY_BYTES, Options},
};
use vhost_fixture::{Device, OUT, inbox, status_of};
use vm_memory::{Bytes as _, GuestAddress};

/// Where tests put chains by hand; the orderly driver uses what lies before it.
const BY_HAND: u64 = FREE_BASE + 0x70_0000;

#[test]
fn the_function_comes_up_and_goes_down() {
    let device = Device::new();
    let mut d = device.connect();
    d.bring_up().unwrap();
    assert_eq!(device.state(), "up");
    assert_eq!(device.report().pages, 48);
    d.tear_down().unwrap();
    assert_eq!(device.state(), "disabled");
}

#[test]
fn a_command_in_the_wrong_state_is_delivered_and_refused_by_the_firmware() {
    let device = Device::new();
    let mut d = device.connect();
    // QUERY_PAGES before ENABLE_HCA: delivered, and BAD_SYS_STATE (0x4) in the outbox.
    let r = d
        .mailbox
        .call(
            &driver_request(16, OUT),
            &inbox(opcode::QUERY_PAGES, 1),
            OUT,
        )
        .unwrap();
    assert_eq!((r.header, r.outbox.len(), r.outbox[0]), (ok(OUT), 16, 0x4));
}

#[test]
fn config_space_comes_whole_and_in_parts() {
    let device = Device::new();
    let mut d = device.connect();
    let whole = d.mailbox.session.config(0, 32).unwrap();
    assert_eq!(whole, vhost_fixture::CONFIG);
    for (offset, len) in [(0, 4), (4, 4), (1, 3), (8, 24), (31, 1)] {
        let part = d.mailbox.session.config(offset, len).unwrap();
        assert_eq!(
            part,
            whole[offset as usize..(offset + len) as usize],
            "{offset} {len}"
        );
    }
    // A front-end that thinks it larger gets zeros behind the fields.
    let longer = d.mailbox.session.config(0, 64).unwrap();
    assert_eq!((&longer[..32], &longer[32..]), (&whole[..], &[0u8; 32][..]));
}

#[test]
fn scope_and_uid_are_checked_before_the_firmware() {
    let device = Device::new();
    let mut d = device.connect();
    d.bring_up().unwrap();
    let uid = d.create_uctx(0).unwrap();
    let mut ask = |scope, uid, op| {
        let r = d
            .mailbox
            .call(&user_request(scope, uid, 16, OUT), &inbox(op, 0), OUT)
            .unwrap();
        (r.header.status, r.outbox.len())
    };
    // NOP is readable debugging; INIT_HCA and unknown opcodes are nobody's but the driver's.
    assert_eq!(ask(0, uid, opcode::NOP), (Status::ScopeDenied, 0));
    assert_eq!(ask(1, uid, opcode::NOP), (Status::Ok, 16));
    assert_eq!(ask(3, uid, opcode::INIT_HCA), (Status::ScopeDenied, 0));
    assert_eq!(ask(3, uid, 0x7777), (Status::ScopeDenied, 0));
    assert_eq!(ask(1, uid + 1, opcode::NOP), (Status::BadUid, 0));
    assert_eq!(ask(1, 0, opcode::NOP), (Status::BadUid, 0));
    assert_eq!(ask(4, uid, opcode::NOP).0, Status::Malformed);
    // The uid of the request's header goes into the inbox, whatever was there.
    let mut forged = inbox(opcode::NOP, 0);
    forged[2..4].copy_from_slice(&[0x77, 0x77]);
    let r = d
        .mailbox
        .call(&user_request(1, uid, 16, OUT), &forged, OUT)
        .unwrap();
    assert_eq!((r.header, r.outbox), (ok(OUT), vec![0; 16]));
    // The driver's own goes as it is, and the firmware knows no such context.
    let r = d
        .mailbox
        .call(&driver_request(16, OUT), &forged, OUT)
        .unwrap();
    assert_eq!((r.header, r.outbox[0]), (ok(OUT), 0x5));
}

/// A chain by hand: what is offered, what must come back.
struct Bad {
    name: &'static str,
    // addr, len, flags, next of descriptors 200, 201, …
    descriptors: &'static [(u64, u32, u16, u16)],
    used_len: u32,
    // Where a response header must be, with which status.
    response: Option<(u64, Status)>,
}

const FIRST: u16 = 200;
const REQ: u64 = BY_HAND;
const RESP: u64 = BY_HAND + 0x1000;
const H: u32 = RESPONSE_HEADER_BYTES as u32;
const REQ_LEN: u32 = REQUEST_HEADER_BYTES as u32 + 16;
const OUTSIDE: u64 = MEMORY_BASE + MEMORY_BYTES;

const BAD: &[Bad] = &[
    Bad {
        name: "request outside memory",
        descriptors: &[(OUTSIDE, REQ_LEN, NEXT, 201), (RESP, 64, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "request across the end of memory",
        descriptors: &[(OUTSIDE - 8, REQ_LEN, NEXT, 201), (RESP, 64, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "address wraps",
        descriptors: &[(u64::MAX - 8, REQ_LEN, NEXT, 201), (RESP, 64, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "response outside memory",
        descriptors: &[(REQ, REQ_LEN, NEXT, 201), (OUTSIDE, 64, WRITE, 0)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "zero length",
        descriptors: &[(REQ, 0, NEXT, 201), (RESP, 64, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "zero length response",
        descriptors: &[(REQ, REQ_LEN, NEXT, 201), (RESP, 0, WRITE, 0)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "loop",
        descriptors: &[(REQ, REQ_LEN, NEXT, 201), (REQ, 16, NEXT, 200)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "loop with room",
        descriptors: &[(RESP, 64, WRITE | NEXT, 200)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "next out of range",
        descriptors: &[(REQ, REQ_LEN, NEXT, 9999)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "too long",
        descriptors: &[(MEMORY_BASE, 32 << 20, NEXT, 201), (RESP, 64, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::TooLong)),
    },
    Bad {
        name: "writable first",
        descriptors: &[(RESP, 64, WRITE | NEXT, 201), (REQ, REQ_LEN, 0, 0)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "no response",
        descriptors: &[(REQ, REQ_LEN, 0, 0)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "response too short for its header",
        descriptors: &[(REQ, REQ_LEN, NEXT, 201), (RESP, H - 1, WRITE, 0)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "no room for the outbox",
        descriptors: &[(REQ, REQ_LEN, NEXT, 201), (RESP, H + 15, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::NoRoom)),
    },
    Bad {
        name: "request shorter than its header",
        descriptors: &[
            (REQ, REQUEST_HEADER_BYTES as u32 - 1, NEXT, 201),
            (RESP, 64, WRITE, 0),
        ],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "inbox shorter than its header says",
        descriptors: &[(REQ, REQ_LEN - 1, NEXT, 201), (RESP, 64, WRITE, 0)],
        used_len: H,
        response: Some((RESP, Status::Malformed)),
    },
    Bad {
        name: "indirect table outside memory",
        descriptors: &[(OUTSIDE, 32, INDIRECT, 0)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "indirect table of odd length",
        descriptors: &[(BY_HAND + 0x2000, 24, INDIRECT, 0)],
        used_len: 0,
        response: None,
    },
    Bad {
        name: "indirect with next",
        descriptors: &[
            (BY_HAND + 0x2000, 32, INDIRECT | NEXT, 201),
            (RESP, 64, WRITE, 0),
        ],
        used_len: 0,
        response: None,
    },
];

#[test]
fn a_bad_chain_gets_an_error_and_the_next_one_is_served() {
    let device = Device::new();
    let mut d = device.connect();
    let mem = d.mailbox.session.memory().clone();
    let request = [
        &driver_request(16, OUT).to_bytes()[..],
        &inbox(opcode::NOP, 0),
    ]
    .concat();
    for bad in BAD {
        mem.write_slice(&request, GuestAddress(REQ)).unwrap();
        mem.write_slice(&[0xee; 64], GuestAddress(RESP)).unwrap();
        let ring = &mut d.mailbox.session.command;
        for (i, &(addr, len, flags, next)) in bad.descriptors.iter().enumerate() {
            ring.put(ring.table(), FIRST + i as u16, addr, len, flags, next)
                .unwrap();
        }
        ring.offer(FIRST).unwrap();
        ring.kick().unwrap();
        let used = ring
            .wait(vhost_fixture::LIMIT)
            .unwrap_or_else(|e| panic!("{}: {e}", bad.name));
        assert_eq!((used.head, used.len), (FIRST, bad.used_len), "{}", bad.name);
        let mut response = [0u8; 64];
        mem.read_slice(&mut response, GuestAddress(RESP)).unwrap();
        match bad.response {
            Some((_, status)) => {
                let header = ResponseHeader { status, out_len: 0 }.to_bytes();
                assert_eq!(response[..header.len()], header, "{}", bad.name);
                assert!(
                    response[header.len()..].iter().all(|b| *b == 0xee),
                    "{}",
                    bad.name
                );
            }
            None => assert_eq!(response, [0xee; 64], "{}", bad.name),
        }
        let r = d
            .mailbox
            .call(&driver_request(16, OUT), &inbox(opcode::NOP, 0), OUT)
            .unwrap();
        assert_eq!(
            (r.header, r.outbox),
            (ok(OUT), vec![0; 16]),
            "after {}",
            bad.name
        );
    }
}

#[test]
fn a_head_beyond_the_table_is_skipped() {
    let device = Device::new();
    let mut d = device.connect();
    d.mailbox
        .session
        .command
        .offer(d.mailbox.session.command.size())
        .unwrap();
    d.mailbox.session.command.offer(u16::MAX).unwrap();
    let r = d
        .mailbox
        .call(&driver_request(16, OUT), &inbox(opcode::NOP, 0), OUT)
        .unwrap();
    assert_eq!(r.header, ok(OUT));
}

#[test]
fn any_layout_of_a_chain_is_the_same_request() {
    let device = Device::new();
    let mut d = device.connect();
    let mem = d.mailbox.session.memory().clone();
    let request = [
        &driver_request(16, OUT).to_bytes()[..],
        &inbox(opcode::NOP, 0),
    ]
    .concat();
    // One byte per descriptor, in the ring and in an indirect table.
    let parts = request.len() as u64;
    let room = u64::from(H + OUT);
    for indirect in [false, true] {
        mem.write_slice(&request, GuestAddress(REQ)).unwrap();
        mem.write_slice(&[0xee; 64], GuestAddress(RESP)).unwrap();
        let ring = &mut d.mailbox.session.command;
        let table = if indirect {
            BY_HAND + 0x2000
        } else {
            ring.table()
        };
        let first = if indirect { 0 } else { 100 };
        for i in 0..parts + room {
            let (addr, flags) = if i < parts {
                (REQ + i, 0)
            } else {
                (RESP + i - parts, WRITE)
            };
            let next = if i + 1 < parts + room { NEXT } else { 0 };
            ring.put(
                table,
                first + i as u16,
                addr,
                1,
                flags | next,
                first + i as u16 + 1,
            )
            .unwrap();
        }
        let head = if indirect { 255 } else { 100 };
        if indirect {
            ring.put(
                ring.table(),
                255,
                table,
                16 * (parts + room) as u32,
                INDIRECT,
                0,
            )
            .unwrap();
        }
        ring.offer(head).unwrap();
        ring.kick().unwrap();
        let used = ring.wait(vhost_fixture::LIMIT).unwrap();
        assert_eq!((used.head, used.len), (head, H + OUT));
        let mut header = [0u8; RESPONSE_HEADER_BYTES];
        mem.read_slice(&mut header, GuestAddress(RESP)).unwrap();
        assert_eq!(header, ok(OUT).to_bytes(), "indirect {indirect}");
    }
}

#[test]
fn more_at_once_than_a_round_takes_each_get_their_own_answer() {
    let device = Device::new();
    for ring_features in [0, EVENT_IDX, INDIRECT_DESC | EVENT_IDX] {
        let options = Options {
            queue_size: 1024,
            ring_features,
            ..Options::default()
        };
        let mut d = device.connect_with(options);
        d.bring_up().unwrap();
        for round in 0..4 {
            let mut sent = std::collections::HashMap::new();
            for i in 0..300u32 {
                // Different rooms, so that an answer to another request would be seen.
                let out = 16 + 4 * (i % 64);
                let op = if i % 2 == 0 {
                    opcode::QUERY_ISSI
                } else {
                    opcode::NOP
                };
                sent.insert(
                    d.mailbox
                        .send(&driver_request(16, out), &inbox(op, 0), out)
                        .unwrap(),
                    (op, out),
                );
            }
            d.mailbox.kick().unwrap();
            while !sent.is_empty() {
                let (head, r) = d.mailbox.receive().unwrap();
                let (op, out) = sent.remove(&head).unwrap();
                assert_eq!(
                    (r.header, r.outbox[0]),
                    (ok(out), 0),
                    "round {round} {op:#x}"
                );
                // QUERY_ISSI tells the step in force (1) at bytes 10 and 11.
                let issi = if op == opcode::QUERY_ISSI {
                    [0, 1]
                } else {
                    [0, 0]
                };
                assert_eq!(r.outbox[10..12], issi, "round {round} {op:#x}");
            }
        }
    }
}

#[test]
fn a_message_of_a_mebibyte_goes_both_ways() {
    let device = Device::new();
    let mut d = device.connect();
    let out = 1 << 20;
    let mut long = inbox(opcode::NOP, 0).to_vec();
    long.resize(1 << 20, 0x5a);
    let r = d
        .mailbox
        .call(&driver_request(long.len() as u32, out), &long, out)
        .unwrap();
    assert_eq!(
        (r.header, r.outbox.len(), r.outbox[0]),
        (ok(out), 1 << 20, 0)
    );
}

#[test]
fn a_device_reset_is_a_reset_of_the_function() {
    let device = Device::new();
    let mut d = device.connect();
    for _ in 0..3 {
        d.bring_up().unwrap();
        d.create_uctx(0).unwrap();
        assert_eq!((device.state(), device.report().uctx), ("up", 1));
        d.mailbox.session.stop_queues().unwrap();
        assert_eq!(
            (device.state(), device.report().uctx, device.report().pages),
            ("disabled", 0, 0)
        );
        d.mailbox.session.restart_queues().unwrap();
    }
}

#[test]
fn stopping_one_queue_resets_nothing() {
    use vhost::VhostBackend as _;
    let device = Device::new();
    let mut d = device.connect();
    d.bring_up().unwrap();
    d.mailbox.session.frontend().get_vring_base(1).unwrap();
    assert_eq!(device.state(), "up");
    let r = d
        .mailbox
        .call(&driver_request(16, OUT), &inbox(opcode::NOP, 0), OUT)
        .unwrap();
    assert_eq!(r.header, ok(OUT));
}

#[test]
fn who_only_connects_does_no_harm() {
    let device = Device::new();
    for garbage in [&b""[..], b"hello", &[0xff; 64], &[0; 12]] {
        let mut s = std::os::unix::net::UnixStream::connect(device.path()).unwrap();
        std::io::Write::write_all(&mut s, garbage).unwrap();
        drop(s);
    }
    let mut d = device.connect();
    let r = d
        .mailbox
        .call(&driver_request(16, OUT), &inbox(opcode::NOP, 0), OUT)
        .unwrap();
    assert_eq!(r.header, ok(OUT));
}

#[test]
fn a_client_that_goes_with_requests_in_flight_leaves_a_device_that_serves() {
    let device = Device::new();
    for _ in 0..8 {
        let mut d = device.connect();
        for _ in 0..64 {
            d.mailbox
                .send(&driver_request(16, OUT), &inbox(opcode::NOP, 0), OUT)
                .unwrap();
        }
        d.mailbox.kick().unwrap();
        drop(d);
    }
    let mut d = device.connect();
    d.bring_up().unwrap();
}

#[test]
fn an_available_index_that_jumps_is_not_followed() {
    let device = Device::new();
    let mut d = device.connect();
    let avail = d.mailbox.session.command.avail();
    let mem = d.mailbox.session.memory().clone();
    mem.write_slice(&40_000u16.to_le_bytes(), GuestAddress(avail + 2))
        .unwrap();
    d.mailbox.session.command.kick_now().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    mem.write_slice(&0u16.to_le_bytes(), GuestAddress(avail + 2))
        .unwrap();
    let head = d
        .mailbox
        .send(&driver_request(16, OUT), &inbox(opcode::NOP, 0), OUT)
        .unwrap();
    d.mailbox.session.command.kick_now().unwrap();
    let (answered, r) = d.mailbox.receive().unwrap();
    assert_eq!((answered, r.header), (head, ok(OUT)));
}

#[test]
fn memory_may_be_shared_again_while_the_queues_run() {
    let device = Device::new();
    let mut d = device.connect();
    d.mailbox.session.share_memory().unwrap();
    let buffers = [
        Buffer {
            addr: REQ,
            len: REQ_LEN,
            writable: false,
        },
        Buffer {
            addr: RESP,
            len: 64,
            writable: true,
        },
    ];
    let request = [
        &driver_request(16, OUT).to_bytes()[..],
        &inbox(opcode::NOP, 0),
    ]
    .concat();
    d.mailbox
        .session
        .memory()
        .write_slice(&request, GuestAddress(REQ))
        .unwrap();
    d.mailbox.session.command.add(&buffers).unwrap();
    d.mailbox.session.command.kick().unwrap();
    assert_eq!(
        d.mailbox
            .session
            .command
            .wait(vhost_fixture::LIMIT)
            .unwrap()
            .len,
        H + OUT
    );
    assert_eq!(status_of(&d, RESP), Status::Ok);
}

fn ok(out_len: u32) -> ResponseHeader {
    ResponseHeader {
        status: Status::Ok,
        out_len,
    }
}
