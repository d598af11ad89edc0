// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An event queue of a PCI function as its driver reads it (`struct mlx5_eqe`): 64-byte entries
//! whose owner bit says in which round they were written.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes as _, GuestAddress};

use crate::{
    firmware::{EqRequest, Firmware},
    mailbox::{Mailbox as _, MailboxError},
    pci::{BAR0, PAGE_BYTES, PciDriver, PciError},
};

/// Bytes of an entry.
pub const EQE_BYTES: usize = 64;
/// Byte of the owner bit in an entry.
const OWNER: u64 = 63;
/// Doorbell in a UAR page: consumer index, and arm the queue.
const ARM: u64 = 0x40;
/// Doorbell in a UAR page: consumer index alone.
const CONSUMER: u64 = 0x48;

/// An event queue.
#[derive(Debug)]
pub struct EventQueue {
    /// Its number.
    pub eqn: u8,
    log_size: u8,
    uar: u32,
    base: u64,
    consumer: u32,
}

/// One entry, as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eqe(pub [u8; EQE_BYTES]);

impl Eqe {
    /// The event type.
    #[must_use]
    pub fn event_type(&self) -> u8 {
        self.0[1]
    }

    /// The event's 28 bytes of data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.0[32..60]
    }
}

impl EventQueue {
    /// Creates a queue of `1 << log_size` entries for the event types in `mask`, all entries the
    /// firmware's, and arms it.
    ///
    /// # Errors
    /// The command, guest memory or the connection.
    pub fn create(
        f: &mut Firmware<PciDriver>,
        log_size: u8,
        vector: u16,
        uar: u32,
        mask: u64,
    ) -> Result<Self, MailboxError> {
        let bytes = EQE_BYTES << log_size;
        let count = bytes.div_ceil(PAGE_BYTES as usize);
        let pages: Option<Vec<u64>> = (0..count).map(|_| f.mailbox.page()).collect();
        let pages = pages.ok_or(MailboxError::NoPage)?;
        let base = *pages.first().ok_or(MailboxError::NoPage)?;
        let mut fresh = vec![0u8; bytes];
        fresh
            .chunks_mut(EQE_BYTES)
            .for_each(|e| e[OWNER as usize] = 1);
        f.mailbox
            .memory()
            .write_slice(&fresh, GuestAddress(base))
            .map_err(PciError::from)?;
        let eqn = f.create_eq(&EqRequest {
            log_size,
            vector,
            uar,
            mask: [mask, 0, 0, 0],
            pages: &pages,
        })?;
        let q = Self {
            eqn,
            log_size,
            uar,
            base,
            consumer: 0,
        };
        q.doorbell(&mut f.mailbox, ARM)?;
        Ok(q)
    }

    /// The next entry that the firmware wrote, if there is one.
    ///
    /// # Errors
    /// Guest memory.
    pub fn next(&mut self, d: &PciDriver) -> Result<Option<Eqe>, PciError> {
        let index = self.consumer & ((1 << self.log_size) - 1);
        let at = self.base + u64::from(index) * EQE_BYTES as u64;
        let owner: u8 = d
            .memory()
            .load(GuestAddress(at + OWNER), Ordering::Acquire)?;
        if u32::from(owner & 1) != self.consumer >> self.log_size & 1 {
            return Ok(None);
        }
        let mut e = [0; EQE_BYTES];
        d.memory().read_slice(&mut e, GuestAddress(at))?;
        self.consumer = self.consumer.wrapping_add(1) & 0x00ff_ffff;
        Ok(Some(Eqe(e)))
    }

    /// Tells the firmware what was read, and to raise an interrupt for the next entry.
    ///
    /// # Errors
    /// The connection.
    pub fn arm(&self, d: &mut PciDriver) -> Result<(), PciError> {
        self.doorbell(d, ARM)
    }

    /// Tells the firmware what was read.
    ///
    /// # Errors
    /// The connection.
    pub fn read_so_far(&self, d: &mut PciDriver) -> Result<(), PciError> {
        self.doorbell(d, CONSUMER)
    }

    fn doorbell(&self, d: &mut PciDriver, which: u64) -> Result<(), PciError> {
        let value = u32::from(self.eqn) << 24 | self.consumer;
        let at = u64::from(self.uar) * PAGE_BYTES + which;
        Ok(d.client().region_write(BAR0, at, &value.to_be_bytes())?)
    }
}
