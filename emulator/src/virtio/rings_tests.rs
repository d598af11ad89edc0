// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The rings with a driver's side made by hand: no socket, no card.

use fw_model::{Delivery, Order};
use fwctl_proto::virtio::{EVENT_BYTES, Event};
use vhost_user_backend::VringT as _;
use vm_memory::{
    Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap,
};

use super::{
    COMMAND_QUEUE, EVENT_QUEUE,
    chain::Segment,
    limits::{MAX_BAD_BUFFERS, MAX_EVENT_BACKLOG},
    rings::Rings,
    vring::Vring,
};
use crate::owner::Sink as _;

const SIZE: u16 = 128;

/// Where a queue's parts lie.
fn table(queue: usize) -> u64 {
    0x1_0000 * (queue as u64 + 1)
}
fn avail(queue: usize) -> u64 {
    table(queue) + 0x4000
}
fn used(queue: usize) -> u64 {
    table(queue) + 0x5000
}

struct Bench {
    mem: GuestMemoryAtomic<GuestMemoryMmap>,
    vrings: Vec<Vring>,
    rings: Rings,
}

impl Bench {
    fn new() -> Self {
        let map = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        let mem = GuestMemoryAtomic::new(map);
        let vrings: Vec<_> = (0..2)
            .map(|_| Vring::new(mem.clone(), SIZE).unwrap())
            .collect();
        for (queue, v) in vrings.iter().enumerate() {
            v.set_queue_size(SIZE);
            v.set_queue_info(table(queue), avail(queue), used(queue))
                .unwrap();
            v.set_queue_ready(true);
            v.set_enabled(true);
        }
        let rings = Rings::new(mem.clone());
        rings.adopt(&vrings);
        Self { mem, vrings, rings }
    }

    fn bytes<const N: usize>(&self, addr: u64) -> [u8; N] {
        let mut b = [0; N];
        self.mem
            .memory()
            .read_slice(&mut b, GuestAddress(addr))
            .unwrap();
        b
    }

    fn used_idx(&self, queue: usize) -> u16 {
        u16::from_le_bytes(self.bytes(used(queue) + 2))
    }

    /// Head and length of the used element at `i`.
    fn used_at(&self, queue: usize, i: u16) -> (u32, u32) {
        let raw = u64::from_le_bytes(self.bytes(used(queue) + 4 + 8 * u64::from(i % SIZE)));
        (raw as u32, (raw >> 32) as u32)
    }

    /// Posts event buffer `i` at a place of its own.
    fn post_event(&self, i: u16, len: u32) -> u64 {
        let mem = self.mem.memory();
        let addr = 0x8_0000 + 128 * u64::from(i);
        let raw = u128::from(addr) | u128::from(len) << 64 | 2u128 << 96;
        mem.write_slice(
            &raw.to_le_bytes(),
            GuestAddress(table(EVENT_QUEUE) + 16 * u64::from(i % SIZE)),
        )
        .unwrap();
        let slot = avail(EVENT_QUEUE) + 4 + 2 * u64::from(i % SIZE);
        mem.write_slice(&(i % SIZE).to_le_bytes(), GuestAddress(slot))
            .unwrap();
        mem.write_slice(&(i + 1).to_le_bytes(), GuestAddress(avail(EVENT_QUEUE) + 2))
            .unwrap();
        addr
    }

    fn event_at(&self, addr: u64) -> Event {
        Event::from_bytes(&self.bytes::<EVENT_BYTES>(addr))
    }
}

fn room(addr: u64, len: u32) -> Vec<Segment> {
    vec![Segment {
        addr: GuestAddress(addr),
        len,
    }]
}

#[test]
fn replies_go_to_their_own_chains_in_any_order() {
    let b = Bench::new();
    let tags: Vec<_> = (0..3u16)
        .map(|i| {
            b.rings
                .keep(10 + i, &mut room(0x9_0000 + 0x100 * u64::from(i), 64))
                .unwrap()
        })
        .collect();
    for (n, i) in [2usize, 0, 1].into_iter().enumerate() {
        b.rings
            .reply(tags[i], Delivery::Executed, &[i as u8 + 1; 16]);
        assert_eq!(b.used_idx(COMMAND_QUEUE), n as u16 + 1);
        assert_eq!(b.used_at(COMMAND_QUEUE, n as u16).0, 10 + i as u32);
        let header = fwctl_proto::virtio::RESPONSE_HEADER_BYTES as u64;
        assert_eq!(
            b.bytes::<16>(0x9_0000 + 0x100 * i as u64 + header),
            [i as u8 + 1; 16]
        );
    }
    // A tag answers once.
    b.rings.reply(tags[0], Delivery::Executed, &[]);
    assert_eq!(b.used_idx(COMMAND_QUEUE), 3);
}

#[test]
fn nothing_is_written_for_a_queue_that_stopped() {
    let b = Bench::new();
    let before = b.rings.keep(1, &mut room(0x9_0000, 64)).unwrap();
    b.rings.stopped(COMMAND_QUEUE);
    b.rings.reply(before, Delivery::Executed, &[0xff; 16]);
    assert_eq!(
        (b.used_idx(COMMAND_QUEUE), b.bytes::<64>(0x9_0000)),
        (0, [0; 64])
    );
    b.vrings[COMMAND_QUEUE].set_queue_ready(false);
    let after = b.rings.keep(1, &mut room(0x9_0000, 64)).unwrap();
    b.rings.reply(after, Delivery::Executed, &[0xff; 16]);
    assert_eq!(b.used_idx(COMMAND_QUEUE), 0);
}

#[test]
fn an_event_goes_into_a_posted_buffer_with_its_number() {
    let b = Bench::new();
    let (first, second) = (b.post_event(0, EVENT_BYTES as u32), b.post_event(1, 128));
    b.rings.event(0x09, 0x04, &[7; 28]);
    b.rings.event(0x0b, 0, &[8; 28]);
    assert_eq!(b.used_idx(EVENT_QUEUE), 2);
    assert_eq!(b.used_at(EVENT_QUEUE, 1), (1, EVENT_BYTES as u32));
    assert_eq!(
        b.event_at(first),
        Event {
            sequence: 0,
            overflow: false,
            event_type: 9,
            sub_type: 4,
            data: [7; 28]
        }
    );
    assert_eq!(
        b.event_at(second),
        Event {
            sequence: 1,
            overflow: false,
            event_type: 0x0b,
            sub_type: 0,
            data: [8; 28]
        }
    );
}

#[test]
fn events_wait_for_buffers_and_what_is_lost_is_told() {
    let b = Bench::new();
    let kept = MAX_EVENT_BACKLOG as u64;
    for i in 0..kept + 3 {
        b.rings.event(0x22, i as u8, &[]);
    }
    assert_eq!(b.used_idx(EVENT_QUEUE), 0);
    let addr: Vec<_> = (0..SIZE)
        .map(|i| b.post_event(i, EVENT_BYTES as u32))
        .collect();
    b.rings.event_buffers();
    assert_eq!(u64::from(b.used_idx(EVENT_QUEUE)), kept);
    for (i, at) in addr.iter().take(MAX_EVENT_BACKLOG).enumerate() {
        let e = b.event_at(*at);
        assert_eq!(
            (e.sequence, e.sub_type, e.overflow),
            (i as u64, i as u8, false)
        );
    }
    b.rings.event(0x22, 0xee, &[]);
    let e = b.event_at(addr[MAX_EVENT_BACKLOG]);
    assert_eq!((e.sequence, e.sub_type, e.overflow), (kept + 3, 0xee, true));
    b.rings.event(0x22, 0xef, &[]);
    assert!(!b.event_at(addr[MAX_EVENT_BACKLOG + 1]).overflow);
}

#[test]
fn a_short_event_buffer_comes_back_empty_and_the_event_waits() {
    let b = Bench::new();
    b.post_event(0, EVENT_BYTES as u32 - 1);
    b.rings.event(0x09, 1, &[]);
    assert_eq!(
        (b.used_idx(EVENT_QUEUE), b.used_at(EVENT_QUEUE, 0)),
        (1, (0, 0))
    );
    let addr = b.post_event(1, EVENT_BYTES as u32);
    b.rings.event_buffers();
    assert_eq!((b.used_idx(EVENT_QUEUE), b.event_at(addr).sequence), (2, 0));
}

#[test]
fn an_event_goes_through_few_bad_buffers_and_a_kick_through_all() {
    let b = Bench::new();
    for i in 0..SIZE - 1 {
        b.post_event(i, 1);
    }
    let addr = b.post_event(SIZE - 1, EVENT_BYTES as u32);
    let few = MAX_BAD_BUFFERS as u16;
    b.rings.event(0x09, 1, &[]);
    assert_eq!(b.used_idx(EVENT_QUEUE), few);
    b.rings.event(0x09, 2, &[]);
    assert_eq!(b.used_idx(EVENT_QUEUE), 2 * few);
    b.rings.event_buffers();
    assert_eq!(b.used_idx(EVENT_QUEUE), SIZE);
    assert_eq!(b.event_at(addr).sub_type, 1);
}

#[test]
fn a_driver_kicks_for_the_buffer_that_an_event_waits_for() {
    /// `VIRTQ_USED_F_NO_NOTIFY`.
    const NO_NOTIFY: u16 = 1;
    let b = Bench::new();
    let flags = || u16::from_le_bytes(b.bytes(used(EVENT_QUEUE)));
    b.rings.event(0x09, 1, &[]);
    assert_eq!(flags() & NO_NOTIFY, 0);
    let addr = b.post_event(0, EVENT_BYTES as u32);
    b.rings.event_buffers();
    assert_eq!(b.event_at(addr).sub_type, 1);
    // Bad ones: what waits does so still.
    for i in 1..=MAX_BAD_BUFFERS as u16 {
        b.post_event(i, 1);
    }
    b.rings.event(0x09, 2, &[]);
    assert_eq!(flags() & NO_NOTIFY, 0);
}

#[test]
fn a_write_of_the_firmware_reaches_guest_memory_or_nothing() {
    let b = Bench::new();
    b.rings.write(0x9_0000, &[1, 2, 3], Order::Relaxed);
    b.rings.write(0x10_0000, &[1], Order::Publish);
    b.rings.write(u64::MAX, &[1, 2], Order::Relaxed);
    assert_eq!(b.bytes::<4>(0x9_0000), [1, 2, 3, 0]);
}

#[test]
fn events_wait_while_the_ring_of_their_buffers_is_broken() {
    let b = Bench::new();
    let mem = b.mem.memory();
    b.rings.event(0x09, 1, &[]);
    mem.write_slice(
        &40_000u16.to_le_bytes(),
        GuestAddress(avail(EVENT_QUEUE) + 2),
    )
    .unwrap();
    // It comes back at all.
    b.rings.event_buffers();
    assert_eq!(b.used_idx(EVENT_QUEUE), 0);
    let addr = b.post_event(0, EVENT_BYTES as u32);
    b.rings.event_buffers();
    assert_eq!((b.used_idx(EVENT_QUEUE), b.event_at(addr).sub_type), (1, 1));
}
