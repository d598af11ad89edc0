// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Virtqueues: descriptors, rings and requests that a driver makes up, against the virtio door in this
//! process, without a socket.

use std::{collections::BTreeMap, fs::File, sync::Arc};

use arbitrary::Unstructured;
use fw_model::{Card, CardOptions, EventPath, FunctionId, Input, MemStore, NoMemory};
use fwctl_emu::{
    clients::Clients,
    memory::Files,
    owner::Owner,
    virtio::{Door, Vring},
};
use fwctl_proto::virtio::{QUEUES, REQUEST_HEADER_BYTES, RequestHeader, SCOPE_DRIVER};
use rustix::fs::{MemfdFlags, memfd_create};
use vhost_user_backend::{VhostUserBackend as _, VringT as _};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::{Target, profile};
use crate::dictionary;

/// The target.
pub static VIRTQUEUE: Target = Target {
    name: "virtqueue",
    about: "descriptor chains, rings and requests of the virtio device",
    max_len: 2048,
    hits: true,
    run,
    record: None,
    dictionary: dictionary::commands,
    seeds,
};

const F: FunctionId = FunctionId(0);
/// Entries of each queue.
const SIZE: u16 = 16;
/// Bytes of guest memory; where the queues and the buffers lie.
const MEMORY: usize = 64 << 10;
const PART: u64 = 0x1000;
const BUFFERS: u64 = 0x8000;
/// Most steps of an input.
const MAX_STEPS: usize = 64;
/// `VIRTIO_F_INDIRECT_DESC`.
const INDIRECT: u64 = 1 << 28;

fn table(queue: u64) -> u64 {
    queue * 3 * PART
}

fn avail(queue: u64) -> u64 {
    table(queue) + PART
}

fn used(queue: u64) -> u64 {
    table(queue) + 2 * PART
}

struct Bench {
    owner: Arc<Owner>,
    door: Door,
    vrings: Vec<Vring>,
    mem: GuestMemoryMmap,
}

impl Bench {
    fn new() -> Self {
        let mut card = Card::new(profile(), CardOptions::default(), &BTreeMap::new());
        card.add_function(EventPath::Channel);
        let owner = Owner::new(card, Box::new(MemStore::default()));
        let door = Door::new(owner.clone(), F, "fuzz", Clients::new(|| {}), Files::Any);
        owner.attach(F, door.rings().clone());
        let file = memfd_create("fw-fuzz", MemfdFlags::CLOEXEC).expect("memory");
        let file = File::from(file);
        file.set_len(MEMORY as u64).expect("memory");
        let range = (GuestAddress(0), MEMORY, Some(FileOffset::new(file, 0)));
        let mem = GuestMemoryMmap::from_ranges_with_files([range]).expect("memory");
        let shared = GuestMemoryAtomic::new(mem.clone());
        door.update_memory(shared.clone()).expect("memory");
        let vring = |queue: u64| {
            let v = Vring::new(shared.clone(), SIZE).expect("a queue");
            v.set_queue_size(SIZE);
            v.set_queue_info(table(queue), avail(queue), used(queue))
                .expect("in memory");
            v.set_queue_ready(true);
            v.set_enabled(true);
            v
        };
        let vrings = (0..QUEUES as u64).map(vring).collect();
        Self {
            owner,
            door,
            vrings,
            mem,
        }
    }

    fn write(&self, addr: u64, data: &[u8]) {
        let _ = self.mem.write_slice(data, GuestAddress(addr));
    }

    fn kick(&self, queue: u16) {
        let served = self.door.handle_event(queue, EventSet::IN, &self.vrings, 0);
        assert!(served.is_ok(), "a driver ends the worker: {served:?}");
    }
}

/// Handles an input.
///
/// # Panics
/// If the door gives up.
pub fn run(data: &[u8]) {
    let b = Bench::new();
    crate::begins();
    drive(&b, data);
    b.door.stop();
}

fn drive(b: &Bench, data: &[u8]) {
    let mut u = Unstructured::new(data);
    let begin: u8 = u.arbitrary().unwrap_or(0);
    b.door
        .acked_features(if begin & 1 == 0 { INDIRECT } else { 0 });
    for v in &b.vrings {
        v.set_queue_event_idx(begin & 2 != 0);
    }
    let mut heads = [0u16; QUEUES];
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            break;
        }
        step(b, &mut u, &mut heads);
    }
}

fn step(b: &Bench, u: &mut Unstructured<'_>, heads: &mut [u16; QUEUES]) {
    let what: u8 = u.arbitrary().unwrap_or(0);
    let n: u8 = u.arbitrary().unwrap_or(0);
    let queue = usize::from(what >> 7);
    match what & 0xf {
        // A descriptor in a table: the queue's or an indirect one.
        0..=4 => {
            let flags = u16::from(what >> 4 & 7);
            let base = if n & 0x80 == 0 {
                table(queue as u64)
            } else {
                BUFFERS
            };
            let at: u16 = u.arbitrary().unwrap_or(0);
            let addr = if at & 0x8000 == 0 {
                BUFFERS + u64::from(at & 0x7f) * 64
            } else {
                u.arbitrary().unwrap_or(u64::MAX)
            };
            let len: u16 = u.arbitrary().unwrap_or(0);
            let len = if len & 0x8000 == 0 {
                u32::from(len)
            } else {
                u32::from(len) << 16
            };
            let next: u8 = u.arbitrary().unwrap_or(0);
            let mut d = [0; 16];
            d[..8].copy_from_slice(&addr.to_le_bytes());
            d[8..12].copy_from_slice(&len.to_le_bytes());
            d[12..14].copy_from_slice(&flags.to_le_bytes());
            d[14..].copy_from_slice(&u16::from(next).to_le_bytes());
            b.write(base + u64::from(n & 0x1f) * 16, &d);
        }
        // A request.
        5 | 6 => {
            let op: u16 = u.arbitrary().unwrap_or(0);
            let scope = if what & 0x40 == 0 {
                SCOPE_DRIVER
            } else {
                n & 3
            };
            let header = RequestHeader {
                scope,
                uid: if scope == SCOPE_DRIVER {
                    0
                } else {
                    u16::from(n >> 4)
                },
                in_len: 16 + u32::from(u.arbitrary::<u8>().unwrap_or(0)),
                out_len: 16 + u32::from(u.arbitrary::<u8>().unwrap_or(0)),
            };
            let at = BUFFERS + u64::from(n & 7) * 64;
            b.write(at, &header.to_bytes());
            let mut inbox = [0; 64];
            inbox[..2].copy_from_slice(&op.to_be_bytes());
            let given = u.bytes(u.len().min(32)).unwrap_or_default();
            inbox[6..6 + given.len()].copy_from_slice(given);
            b.write(at + REQUEST_HEADER_BYTES as u64, &inbox);
        }
        // The available ring gets a head.
        7 | 8 => {
            let at = avail(queue as u64);
            let head = &mut heads[queue];
            b.write(
                at + 4 + u64::from(*head % SIZE) * 2,
                &u16::from(n).to_le_bytes(),
            );
            *head = head.wrapping_add(1);
            b.write(at + 2, &head.to_le_bytes());
        }
        9 | 10 => b.kick(queue as u16),
        // Any bytes anywhere, rings included.
        11 => {
            let at: u16 = u.arbitrary().unwrap_or(0);
            let given = u
                .bytes(usize::from(n & 0x1f).min(u.len()))
                .unwrap_or_default();
            b.write(u64::from(at), given);
        }
        12 => b.owner.submit(
            Input::Event {
                function: F,
                event_type: n,
                sub_type: 0,
                data: [n; 28],
            },
            &NoMemory,
        ),
        13 => {
            let _ = b.door.stop_vring(u32::from(n) & 3);
        }
        14 => b.door.reset_device(),
        _ => {
            let v = &b.vrings[queue];
            v.set_queue_ready(n & 1 == 0);
            v.set_enabled(n & 2 == 0);
        }
    }
}

/// A whole request and its answer; event buffers and an event.
fn seeds() -> Vec<Vec<u8>> {
    // ENABLE_HCA at buffer 0; a readable descriptor for it, a writable one for the answer.
    let request = [5, 0, 4, 1, 0, 0];
    let readable = [0x10, 0, 0, 0, 40, 0, 1];
    let writable = [0x20, 1, 4, 0, 64, 0, 0];
    let go = [7, 0, 9, 0];
    let mut one = vec![0];
    one.extend(request);
    one.extend([0; 32]);
    one.extend(readable);
    one.extend(writable);
    one.extend(go);
    let mut events = one.clone();
    events.extend([0xa0, 0, 8, 0, 48, 0, 0, 0x87, 0, 0x89, 0, 12, 9, 0x89, 0]);
    // The table lies at buffer 0, the request behind it.
    let mut indirect = vec![0, 5, 1];
    indirect.extend(&request[2..]);
    indirect.extend([0; 32]);
    indirect.extend([0x10, 0x80, 1, 0, 40, 0, 1, 0x20, 0x81, 4, 0, 64, 0, 0]);
    indirect.extend([0x40, 0, 0, 0, 32, 0, 0]);
    indirect.extend(go);
    vec![one, events, indirect]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seeds are what they say: requests are executed, also through an indirect table, and an event is
    /// delivered.
    #[test]
    fn seeds_are_answered() {
        for (n, seed) in seeds().iter().enumerate() {
            let b = Bench::new();
            drive(&b, seed);
            let index = |queue| {
                let mut i = [0; 2];
                b.mem
                    .read_slice(&mut i, GuestAddress(used(queue) + 2))
                    .unwrap();
                u16::from_le_bytes(i)
            };
            assert_eq!((index(0), index(1)), (1, u16::from(n == 1)), "seed {n}");
            // The answer at buffer 4: delivered, 16 bytes of outbox.
            let mut answer = [0; 17];
            b.mem
                .read_slice(&mut answer, GuestAddress(BUFFERS + 4 * 64))
                .unwrap();
            let (status, length, executed) = (answer[0], answer[4], answer[16]);
            assert_eq!((status, length, executed), (0, 16, 0), "seed {n}");
        }
    }
}
