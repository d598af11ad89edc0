// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The model without any transport: making and resetting a device, and commands by call.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use fw_model::{
    Caller, Card, CardOptions, Delivery, Effect, Effects, EventPath, FunctionId, Input, NoMemory,
    ResetKind, Time, profile::Profile,
};
use fwctl_proto::opcode;
use host_driver::{
    firmware::Firmware,
    mailbox::{Mailbox, MailboxError},
};

use crate::{
    commands::inbox,
    stats::{self, Samples, Stats},
};

/// A card with one function that takes commands by call.
pub struct Device {
    card: Card,
    function: FunctionId,
    fx: Effects,
    next_page: u64,
}

impl Device {
    /// As after power on.
    ///
    /// # Errors
    /// None in practice: a card has room for one function.
    pub fn new(profile: &Arc<Profile>) -> anyhow::Result<Self> {
        let mut card = Card::new(profile.clone(), CardOptions::default(), &BTreeMap::new());
        let function = card
            .add_function(EventPath::Channel)
            .context("a card without room")?;
        Ok(Self {
            card,
            function,
            fx: Effects::new(),
            next_page: 0,
        })
    }

    /// One command; its firmware status must be 0.
    ///
    /// # Errors
    /// It was refused.
    pub fn command(&mut self, bytes: &[u8], outbox_len: u32) -> anyhow::Result<()> {
        self.fx.clear();
        let input = Input::Command {
            function: self.function,
            tag: 0,
            caller: Caller::Driver,
            inbox: bytes,
            outbox_len,
        };
        self.card.submit(input, Time::ZERO, &NoMemory, &mut self.fx);
        for e in self.fx.iter() {
            if let Effect::Reply {
                delivery, outbox, ..
            } = e
            {
                let status = self.fx.bytes(*outbox).first().copied();
                ensure!(
                    *delivery == Delivery::Executed && status == Some(0),
                    "{delivery:?}, status {status:?}"
                );
                return Ok(());
            }
        }
        anyhow::bail!("no reply")
    }

    fn reset(&mut self) {
        self.fx.clear();
        let input = Input::Reset {
            function: self.function,
            kind: ResetKind::Flr,
        };
        self.card.submit(input, Time::ZERO, &NoMemory, &mut self.fx);
    }
}

/// Making a device, dropping it included.
///
/// # Errors
/// See [`Device::new`].
pub fn create(profile: &Arc<Profile>, count: usize) -> anyhow::Result<Stats> {
    stats::repeat_batched(count, 100, || {
        std::hint::black_box(Device::new(profile)?);
        Ok(())
    })
}

impl Mailbox for Device {
    fn exec(&mut self, inbox: &[u8], outbox: &mut [u8]) -> Result<(), MailboxError> {
        let len = u32::try_from(outbox.len()).unwrap_or(u32::MAX).max(16);
        self.command(inbox, len)
            .map_err(|e| MailboxError::Delivery(e.to_string()))?;
        for e in self.fx.iter() {
            if let Effect::Reply { outbox: bytes, .. } = e {
                for (to, from) in outbox.iter_mut().zip(self.fx.bytes(*bytes)) {
                    *to = *from;
                }
            }
        }
        Ok(())
    }

    fn page(&mut self) -> Option<u64> {
        self.next_page += 4096;
        Some(self.next_page)
    }
}

/// Resetting a device that is up, with its pages and a user context.
///
/// # Errors
/// A command was refused.
pub fn reset(profile: &Arc<Profile>, count: usize) -> anyhow::Result<Stats> {
    let mut d = Firmware::new(Device::new(profile)?);
    let mut samples = Samples::new(count);
    for _ in 0..count {
        d.bring_up()?;
        d.create_uctx(0)?;
        samples.time(|| d.mailbox.reset());
        d.held.clear();
    }
    Ok(samples.finish(false))
}

/// One command again and again on a device that has been enabled.
///
/// # Errors
/// A command was refused.
pub fn command(
    profile: &Arc<Profile>,
    bytes: &[u8],
    outbox_len: u32,
    count: usize,
) -> anyhow::Result<Stats> {
    let mut d = Device::new(profile)?;
    d.command(&inbox(opcode::ENABLE_HCA, 0), 16)?;
    stats::repeat_batched(count, 100, || d.command(bytes, outbox_len))
}
