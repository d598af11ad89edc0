// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver without a guest: the whole bring-up over real sockets.

pub mod eq;
pub mod firmware;
pub mod mailbox;
pub mod pci;
pub mod vhost;
pub mod vhost_ring;
pub mod vhost_session;
