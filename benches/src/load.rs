// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One request again and again through a vhost-user command queue, with so many in flight.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use host_driver::{
    vhost_ring::{Buffer, Ring},
    vhost_session::{FREE_BASE, Session},
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::stats::Samples;

/// Longest wait for one answer; a backend that hangs ends the benchmark.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the buffers of the requests begin.
const BUFFERS: u64 = FREE_BASE + 0x10_0000;

/// What is sent, and the room for what comes back.
pub struct Request<'a> {
    /// The device-readable bytes.
    pub bytes: &'a [u8],
    /// Bytes of the device-writable buffer.
    pub room: u32,
    /// What the writable buffer must begin with when an answer is there; empty for a backend
    /// that writes nothing.
    pub answer: &'a [u8],
}

/// Sends `request` `count` times with `depth` in flight, after a tenth of that as warm-up, and adds
/// what it took to `samples`.
///
/// # Errors
/// The backend does not answer, or answers something else.
pub fn run(
    session: &mut Session,
    request: &Request<'_>,
    depth: u16,
    count: usize,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let slot_bytes = (request.bytes.len() as u64).next_multiple_of(64)
        + u64::from(request.room).next_multiple_of(64);
    let mem = session.memory().clone();
    let ring = &mut session.command;
    ensure!(
        usize::from(ring.size()) >= 2 * usize::from(depth),
        "a ring of {} for depth {depth}",
        ring.size()
    );
    for slot in 0..u64::from(depth) {
        mem.write_slice(request.bytes, GuestAddress(BUFFERS + slot * slot_bytes))?;
    }
    let buffers = |slot: u16| {
        let at = BUFFERS + u64::from(slot) * slot_bytes;
        let out = at + (request.bytes.len() as u64).next_multiple_of(64);
        let len = u32::try_from(request.bytes.len()).unwrap_or(u32::MAX);
        [
            Buffer {
                addr: at,
                len,
                writable: false,
            },
            Buffer {
                addr: out,
                len: request.room,
                writable: true,
            },
        ]
    };
    // When each slot was offered, and which slot a head is.
    let mut offered = vec![Instant::now(); usize::from(depth)];
    let mut slot_of = vec![0u16; usize::from(ring.size())];
    let warm_up = count / 10;
    turn(
        ring,
        &mem,
        request,
        depth,
        warm_up,
        &mut offered,
        &mut slot_of,
        &buffers,
        None,
    )?;
    let (kicks, calls) = (ring.kicks, ring.calls);
    let start = Instant::now();
    turn(
        ring,
        &mem,
        request,
        depth,
        count,
        &mut offered,
        &mut slot_of,
        &buffers,
        Some(samples),
    )?;
    samples.turn(start.elapsed());
    samples.kicks += ring.kicks - kicks;
    samples.calls += ring.calls - calls;
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn turn(
    ring: &mut Ring,
    mem: &GuestMemoryMmap,
    request: &Request<'_>,
    depth: u16,
    count: usize,
    offered: &mut [Instant],
    slot_of: &mut [u16],
    buffers: &impl Fn(u16) -> [Buffer; 2],
    mut samples: Option<&mut Samples>,
) -> anyhow::Result<()> {
    let mut answer = vec![0u8; request.answer.len()];
    let (mut sent, mut done) = (0usize, 0usize);
    for slot in 0..depth.min(u16::try_from(count).unwrap_or(u16::MAX)) {
        let head = ring.add(&buffers(slot))?;
        slot_of[usize::from(head)] = slot;
        offered[usize::from(slot)] = Instant::now();
        sent += 1;
    }
    ring.kick()?;
    while done < count {
        let mut used = Some(ring.wait(LIMIT).context("command queue")?);
        while let Some(u) = used {
            let now = Instant::now();
            let slot = slot_of[usize::from(u.head)];
            done += 1;
            if let Some(s) = samples.as_deref_mut() {
                s.add(now - offered[usize::from(slot)]);
            }
            if !answer.is_empty() {
                mem.read_slice(&mut answer, GuestAddress(buffers(slot)[1].addr))?;
                ensure!(answer == request.answer, "answered {answer:02x?}");
            }
            if sent < count {
                let head = ring.add(&buffers(slot))?;
                slot_of[usize::from(head)] = slot;
                offered[usize::from(slot)] = now;
                sent += 1;
            }
            used = ring.pop()?;
        }
        ring.kick()?;
    }
    Ok(())
}

/// Sends `request` once.
///
/// # Errors
/// See [`run`].
pub fn once(session: &mut Session, request: &Request<'_>) -> anyhow::Result<()> {
    run(session, request, 1, 1, &mut Samples::new(1))
}
