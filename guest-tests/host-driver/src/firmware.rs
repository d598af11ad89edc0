// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver says to the firmware from ENABLE_HCA to DISABLE_HCA, in the order in which
//! mlx5_core says it; the transport does not matter.

use fwctl_proto::{layout::get_bits, opcode as op};

use crate::mailbox::{Command, Mailbox, MailboxError};

/// QUERY_PAGES `op_mod`: pages for boot.
const BOOT: u16 = 1;
/// QUERY_PAGES `op_mod`: pages for INIT_HCA.
const INIT: u16 = 2;
/// MANAGE_PAGES `op_mod`: give.
const GIVE: u16 = 1;
/// MANAGE_PAGES `op_mod`: take.
const TAKE: u16 = 2;
/// Pages of one MANAGE_PAGES.
const PAGES_AT_ONCE: usize = 512;
/// Most pages that a firmware may want here.
const MAX_PAGES: usize = 16384;
/// Byte offset of a capability page in QUERY_HCA_CAP's outbox.
const CAP_OFFSET: usize = 16;
/// `cmd_hca_cap.issi` that the driver speaks.
const ISSI: u64 = 1;

/// An event queue to be created.
#[derive(Clone, Copy, Debug)]
pub struct EqRequest<'a> {
    /// Log2 of its entries.
    pub log_size: u8,
    /// MSI-X vector.
    pub vector: u16,
    /// UAR page for its doorbells.
    pub uar: u32,
    /// Event types, bit n of word n / 64.
    pub mask: [u64; 4],
    /// Addresses of its 4 KiB pages.
    pub pages: &'a [u64],
}

/// A function's firmware as its driver sees it.
#[derive(Debug)]
pub struct Firmware<M> {
    /// Where commands go.
    pub mailbox: M,
    /// Pages that the firmware holds.
    pub held: Vec<u64>,
}

impl<M: Mailbox> Firmware<M> {
    /// A driver that has not said anything yet.
    pub fn new(mailbox: M) -> Self {
        Self {
            mailbox,
            held: Vec::new(),
        }
    }

    /// From power on to INIT_HCA and SET_DRIVER_VERSION.
    ///
    /// # Errors
    /// The first command that fails.
    pub fn bring_up(&mut self) -> Result<(), MailboxError> {
        self.ok(&Command::new(op::ENABLE_HCA))?;
        self.choose_issi()?;
        self.give_wanted(BOOT)?;
        self.choose_caps()?;
        self.give_wanted(INIT)?;
        self.ok(&Command::new(op::INIT_HCA))?;
        self.ok(&Command::new(op::SET_DRIVER_VERSION)
            .bytes("driver_version", b"Linux,host-driver,0.1.0"))?;
        Ok(())
    }

    /// TEARDOWN_HCA, all pages back, DISABLE_HCA.
    ///
    /// # Errors
    /// The first command that fails.
    pub fn tear_down(&mut self) -> Result<(), MailboxError> {
        self.ok(&Command::new(op::TEARDOWN_HCA))?;
        self.take_all()?;
        self.ok(&Command::new(op::DISABLE_HCA))?;
        Ok(())
    }

    /// Executes a command that must succeed and returns its outbox.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn ok(&mut self, c: &Command) -> Result<Vec<u8>, MailboxError> {
        c.ok(&mut self.mailbox)
    }

    /// Gives the pages that the firmware wants: 1 for boot, 2 for INIT_HCA, 3 while up.
    /// Returns how many they were.
    ///
    /// # Errors
    /// The first command that fails, or no free page.
    pub fn give_wanted(&mut self, when: u16) -> Result<usize, MailboxError> {
        let out = self.ok(&Command::new(op::QUERY_PAGES).op_mod(when))?;
        let wanted = (get_bits(&out, 96, 32) as u32 as i32).max(0) as usize;
        if wanted > MAX_PAGES {
            return Err(MailboxError::NoPage);
        }
        let mut left = wanted;
        while left > 0 {
            let n = left.min(PAGES_AT_ONCE);
            let pages: Option<Vec<u64>> = (0..n).map(|_| self.mailbox.page()).collect();
            let pages = pages.ok_or(MailboxError::NoPage)?;
            let c = Command::new(op::MANAGE_PAGES)
                .op_mod(GIVE)
                .set("input_num_entries", n as u64);
            self.ok(&c.list(&pages))?;
            self.held.extend(pages);
            left -= n;
        }
        Ok(wanted)
    }

    /// A capability page: of `cap_type`, current values or the largest possible.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn query_cap(&mut self, cap_type: u16, current: bool) -> Result<Vec<u8>, MailboxError> {
        let c = Command::new(op::QUERY_HCA_CAP).op_mod(cap_type << 1 | u16::from(current));
        let out = self.ok(&c)?;
        Ok(out[CAP_OFFSET..].to_vec())
    }

    /// A UAR page.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn alloc_uar(&mut self) -> Result<u32, MailboxError> {
        let out = self.ok(&Command::new(op::ALLOC_UAR))?;
        Ok(get_bits(&out, 72, 24) as u32)
    }

    /// An event queue; returns its number.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn create_eq(&mut self, eq: &EqRequest<'_>) -> Result<u8, MailboxError> {
        let mut c = Command::new(op::CREATE_EQ)
            .set("eq_context_entry.log_eq_size", eq.log_size.into())
            .set("eq_context_entry.uar_page", eq.uar.into())
            .set("eq_context_entry.intr", eq.vector.into());
        for (i, word) in eq.mask.iter().enumerate() {
            c = c.set(&format!("event_bitmask[{i}]"), *word);
        }
        let out = self.ok(&c.list(eq.pages))?;
        Ok(get_bits(&out, 88, 8) as u8)
    }

    /// Ends an event queue.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn destroy_eq(&mut self, eqn: u8) -> Result<(), MailboxError> {
        self.ok(&Command::new(op::DESTROY_EQ).set("eq_number", eqn.into()))
            .map(|_| ())
    }

    /// A user context with the capability bits `cap`; returns its uid.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn create_uctx(&mut self, cap: u32) -> Result<u16, MailboxError> {
        let out = self.ok(&Command::new(op::CREATE_UCTX).set("uctx.cap", cap.into()))?;
        Ok(get_bits(&out, 80, 16) as u16)
    }

    /// Ends a user context.
    ///
    /// # Errors
    /// See [`Command::ok`].
    pub fn destroy_uctx(&mut self, uid: u16) -> Result<(), MailboxError> {
        self.ok(&Command::new(op::DESTROY_UCTX).set("uid", uid.into()))
            .map(|_| ())
    }

    /// Takes back all pages that the firmware holds.
    ///
    /// # Errors
    /// The first command that fails; [`MailboxError::Delivery`] if the firmware returns a page
    /// that it was not given, or none.
    pub fn take_all(&mut self) -> Result<(), MailboxError> {
        while !self.held.is_empty() {
            let n = self.held.len().min(PAGES_AT_ONCE);
            let c = Command::new(op::MANAGE_PAGES)
                .op_mod(TAKE)
                .set("input_num_entries", n as u64);
            let out = self.ok(&c.out_len(16 + 8 * n))?;
            let count = get_bits(&out, 64, 32) as usize;
            let back: Vec<u64> = out[16..]
                .chunks_exact(8)
                .take(count)
                .map(|b| get_bits(b, 0, 64))
                .collect();
            for page in &back {
                let at = self.held.iter().position(|p| p == page);
                let at = at.ok_or_else(|| {
                    MailboxError::Delivery(format!("page {page:#x} was never given"))
                })?;
                self.held.swap_remove(at);
            }
            if back.is_empty() {
                return Err(MailboxError::Delivery(
                    "the firmware returned no page".into(),
                ));
            }
        }
        Ok(())
    }

    fn choose_issi(&mut self) -> Result<(), MailboxError> {
        let out = self.ok(&Command::new(op::QUERY_ISSI))?;
        // supported_issi_dw0: the last dword.
        let at = out.len() as u32 * 8 - 32;
        if get_bits(&out, at, 32) >> ISSI & 1 == 1 {
            self.ok(&Command::new(op::SET_ISSI).set("current_issi", ISSI))?;
        }
        Ok(())
    }

    /// SET_HCA_CAP with the current general page, as mlx5_core does it with little to change.
    fn choose_caps(&mut self) -> Result<(), MailboxError> {
        let page = self.query_cap(0, true)?;
        self.ok(&Command::new(op::SET_HCA_CAP).bytes("capability", &page))
            .map(|_| ())
    }
}
