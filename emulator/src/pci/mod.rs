// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The PCI door: a function's configuration space, BAR0, DMA and interrupts over a vfio-user
//! socket. What the initialization segment and the doorbells mean is the model's business.

pub mod bar;
pub mod config;
pub mod dma;
pub mod door;
pub mod irqs;
pub mod message;
pub mod server;
pub mod vpd;
pub mod vsc;
