// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The virtio door: a function of the card behind a vhost-user socket, as docs/virtio-fwctl.md
//! specifies it. `chain` walks descriptors, `door` makes inputs of kicks, `rings` carries out
//! effects, `serve` goes from client to client, `vring` is a queue.

mod chain;
mod config;
mod door;
mod events;
mod held;
pub mod limits;
mod request;
mod rings;
#[cfg(test)]
mod rings_tests;
mod serve;
mod vring;

pub use door::Door;
pub use serve::serve;
pub use vring::Vring;

/// Index of the command queue.
const COMMAND_QUEUE: usize = fwctl_proto::virtio::COMMAND_QUEUE as usize;
/// Index of the event queue.
const EVENT_QUEUE: usize = fwctl_proto::virtio::EVENT_QUEUE as usize;
/// Queues of the device.
const QUEUES: usize = fwctl_proto::virtio::QUEUES;
