// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The mailbox engine: command entries and mailbox chains in guest memory.
//!
//! A command is read once: the entry, then the input blocks, then the control part of the output
//! blocks. What was read is checked and kept; nothing is read again. Layout and check order follow
//! `struct mlx5_cmd_layout` and `struct mlx5_cmd_prot_block`.

use fwctl_proto::cmdif::{
    BLOCK_DATA, BlockControl, DeliveryStatus, ENTRY_BYTES, Entry, INLINE_BYTES, xor8,
};

use crate::{
    FunctionId,
    effect::{Bytes, Effect, Effects, Order},
    fault::Twist,
    limits::MAX_MESSAGE,
    memory::GuestMemory,
};

/// Bytes of a mailbox block, control part included.
const BLOCK_BYTES: usize = 576;
/// Shortest inbox: its header.
const MIN_IN: usize = 16;
/// Shortest outbox: status and syndrome.
const MIN_OUT: usize = 8;
/// Mailbox pointers carry bits 63:9.
const POINTER_MASK: u64 = 0x1ff;

/// A command as taken from a slot.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    /// The inbox, whole.
    pub inbox: Vec<u8>,
    /// Guest addresses of the output blocks.
    pub blocks: Vec<u64>,
    /// Bytes of the outbox.
    pub out_len: usize,
    /// Token of entry and blocks.
    pub token: u8,
    /// Xor of the entry's bytes that an answer leaves as they are.
    pub kept_xor: u8,
}

/// Why a slot's command is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The entry is not the firmware's, or cannot be read: there is nothing to answer.
    NotOwned,
    /// The entry or its chains are malformed; the slot is completed with this delivery status.
    Bad(DeliveryStatus),
}

/// Reads the command of the entry at `addr` into `t`, whose memory is reused.
///
/// # Errors
/// [`Skip`]; `t` then holds nothing of use.
pub fn take(mem: &dyn GuestMemory, addr: u64, checksum: bool, t: &mut Taken) -> Result<(), Skip> {
    use DeliveryStatus as D;
    t.inbox.clear();
    t.blocks.clear();
    let mut raw = [0u8; ENTRY_BYTES];
    mem.read(addr, &mut raw).map_err(|_| Skip::NotOwned)?;
    let entry = Entry::parse(&raw);
    if !entry.hw_owned {
        return Err(Skip::NotOwned);
    }
    if !entry.is_xport() {
        return Err(Skip::Bad(D::CMD_DESCR_ERR));
    }
    if checksum && xor8(&raw) != 0xff {
        return Err(Skip::Bad(D::SIGNAT_ERR));
    }
    let in_len = entry.in_len as usize;
    let out_len = entry.out_len as usize;
    if !(MIN_IN..=MAX_MESSAGE).contains(&in_len) {
        return Err(Skip::Bad(D::IN_LENGTH_ERR));
    }
    if !(MIN_OUT..=MAX_MESSAGE).contains(&out_len) {
        return Err(Skip::Bad(D::OUT_LENGTH_ERR));
    }
    t.out_len = out_len;
    t.token = entry.token;
    t.kept_xor = xor8(&raw[..Entry::OUT_OFFSET])
        ^ xor8(&raw[Entry::OUT_OFFSET + INLINE_BYTES..Entry::SIG_OFFSET])
        ^ raw[Entry::SIG_OFFSET + 1];
    t.inbox.extend_from_slice(&entry.inline_in);
    let mut next = entry.in_ptr;
    for i in 0..blocks(in_len) {
        if next & POINTER_MASK != 0 {
            return Err(Skip::Bad(D::IN_PTR_ALIGN_ERR));
        }
        let mut block = [0u8; BLOCK_BYTES];
        mem.read(next, &mut block)
            .map_err(|_| Skip::Bad(D::FW_ERR))?;
        if checksum && (xor8(&block[BLOCK_DATA..BLOCK_BYTES - 1]) != 0xff || xor8(&block) != 0xff) {
            return Err(Skip::Bad(D::SIGNAT_ERR));
        }
        next = control(&block[BLOCK_DATA..], entry.token, i)?;
        t.inbox.extend_from_slice(&block[..BLOCK_DATA]);
    }
    t.inbox.truncate(in_len);
    let mut next = entry.out_ptr;
    for i in 0..blocks(out_len) {
        if next & POINTER_MASK != 0 {
            return Err(Skip::Bad(D::OUT_PTR_ALIGN_ERR));
        }
        t.blocks.push(next);
        let mut part = [0u8; BLOCK_BYTES - BLOCK_DATA];
        let at = next
            .checked_add(BLOCK_DATA as u64)
            .ok_or(Skip::Bad(D::FW_ERR))?;
        mem.read(at, &mut part).map_err(|_| Skip::Bad(D::FW_ERR))?;
        next = control(&part, entry.token, i)?;
    }
    Ok(())
}

/// Checks a block's control part and returns the address of the next block.
fn control(part: &[u8], token: u8, number: usize) -> Result<u64, Skip> {
    let c = BlockControl::parse(part).ok_or(Skip::Bad(DeliveryStatus::FW_ERR))?;
    if c.token != token {
        return Err(Skip::Bad(DeliveryStatus::TOK_ERR));
    }
    if c.block_num as usize != number {
        return Err(Skip::Bad(DeliveryStatus::BAD_BLK_NUM_ERR));
    }
    Ok(c.next)
}

/// Blocks behind an entry for a message of `len` bytes.
pub(crate) fn blocks(len: usize) -> usize {
    len.saturating_sub(INLINE_BYTES).div_ceil(BLOCK_DATA)
}

/// Answers a slot: the outbox into the output blocks and the entry, the ownership byte last.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The function.
    pub function: FunctionId,
    /// Guest address of the entry.
    pub entry: u64,
    /// The command as it was taken.
    pub taken: &'a Taken,
    /// Compute signatures.
    pub checksum: bool,
}

impl Answer<'_> {
    /// Emits the writes of a delivered command. `outbox` is its whole outbox in `fx`.
    pub fn delivered(&self, outbox: Bytes, twist: Twist, fx: &mut Effects) {
        let function = self.function;
        for (i, &addr) in self.taken.blocks.iter().enumerate() {
            let from = INLINE_BYTES + i * BLOCK_DATA;
            let data = Effects::part(outbox, from, from + BLOCK_DATA);
            if self.checksum {
                let next = self.taken.blocks.get(i + 1).copied().unwrap_or(0);
                let signed = self.signed_block(fx.bytes(data), i as u32, next);
                fx.write(function, addr, &signed, Order::Relaxed);
            } else {
                fx.push(Effect::Write {
                    function,
                    addr,
                    data,
                    order: Order::Relaxed,
                });
            }
        }
        let inline = Effects::part(outbox, 0, INLINE_BYTES);
        let addr = self.entry.wrapping_add(Entry::OUT_OFFSET as u64);
        fx.push(Effect::Write {
            function,
            addr,
            data: inline,
            order: Order::Relaxed,
        });
        if self.checksum {
            let sig = !(self.taken.kept_xor ^ xor8(fx.bytes(inline)));
            let sig = if twist.signature { !sig } else { sig };
            let addr = self.entry.wrapping_add(Entry::SIG_OFFSET as u64);
            fx.write(function, addr, &[sig], Order::Relaxed);
        }
        if let Some(token) = twist.token {
            let addr = self.entry.wrapping_add(Entry::TOKEN_OFFSET as u64);
            fx.write(function, addr, &[token], Order::Relaxed);
        }
        if !twist.owner {
            self.publish(twist.delivery.unwrap_or(DeliveryStatus::OK.code()), fx);
        }
    }

    /// Completes the slot of a command that could not be delivered.
    pub fn publish(&self, status: u8, fx: &mut Effects) {
        let addr = self.entry.wrapping_add(Entry::STATUS_OFFSET as u64);
        fx.write(self.function, addr, &[status << 1], Order::Publish);
    }

    fn signed_block(&self, data: &[u8], number: u32, next: u64) -> [u8; BLOCK_BYTES] {
        let mut b = [0u8; BLOCK_BYTES];
        for (to, from) in b.iter_mut().zip(data) {
            *to = *from;
        }
        b[BLOCK_DATA..].copy_from_slice(&BlockControl::unsigned(next, number, self.taken.token));
        b[BLOCK_BYTES - 2] = !xor8(&b[BLOCK_DATA..BLOCK_BYTES - 2]);
        b[BLOCK_BYTES - 1] = !xor8(&b[..BLOCK_BYTES - 1]);
        b
    }
}
