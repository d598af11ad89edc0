// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio door: a function of the card behind a vhost-user socket, as docs/virtio-fwctl.md
//! specifies it. `chain` walks descriptors, `door` makes inputs of kicks, `rings` carries out
//! effects, `serve` goes from client to client.

mod chain;
mod config;
mod door;
mod events;
mod held;
pub mod limits;
mod rings;
mod serve;
pub mod wire;

pub use serve::serve;

/// Number of the command queue.
const COMMAND_QUEUE: usize = 0;
/// Number of the event queue.
const EVENT_QUEUE: usize = 1;
/// Queues of the device.
const QUEUES: usize = 2;
