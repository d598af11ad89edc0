// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every transport gives a driver: a mailbox that takes commands and answers them.

use fwctl_proto::{
    layout::{self, LayoutInfo, get_bits, set_bits},
    opcode,
};

/// Bytes of the header that every inbox begins with.
pub const HEADER_BYTES: usize = 16;

/// Why a command did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// The firmware did not get the command; what the transport says about it.
    #[error("not delivered: {0}")]
    Delivery(String),
    /// The firmware refused the command.
    #[error("{command}: status {status:#x}, syndrome {syndrome:#x}")]
    Refused {
        /// The command's name.
        command: &'static str,
        /// `status`, byte 0 of the outbox.
        status: u8,
        /// `syndrome`, bytes 4 to 7 of the outbox.
        syndrome: u32,
    },
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// Guest memory holds no more pages.
    #[error("no free page of guest memory")]
    NoPage,
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(Box<dyn std::error::Error + Send + Sync>),
}

impl MailboxError {
    /// A fault of the transport.
    pub fn transport(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Transport(e.into())
    }
}

/// A function's mailbox, over whichever transport.
pub trait Mailbox {
    /// Executes one command: `inbox` with its header, the answer in all of `outbox`.
    ///
    /// # Errors
    /// The command was not delivered. A status in the outbox is not an error here.
    fn exec(&mut self, inbox: &[u8], outbox: &mut [u8]) -> Result<(), MailboxError>;

    /// The address of a page (4096 bytes, aligned) of guest memory that nothing uses yet.
    fn page(&mut self) -> Option<u64>;
}

/// A command under construction: its inbox by field names.
#[derive(Clone, Debug)]
pub struct Command {
    name: &'static str,
    layout: &'static LayoutInfo,
    inbox: Vec<u8>,
    out_len: usize,
}

impl Command {
    /// The command with this opcode; its layouts are called after it.
    ///
    /// # Panics
    /// The opcode or its layouts are unknown: a fault of the caller.
    #[must_use]
    pub fn new(op: u16) -> Self {
        let name = opcode::name(op).unwrap_or_else(|| panic!("no opcode {op:#x}"));
        let stem = match op {
            opcode::ACCESS_REG => "access_register".to_owned(),
            _ => name.to_ascii_lowercase(),
        };
        let find = |side: &str| {
            let full = format!("{stem}_{side}");
            layout::find(&full).unwrap_or_else(|| panic!("no layout {full}"))
        };
        let (layout, out) = (find("in"), find("out"));
        let mut inbox = vec![0; layout.bytes().max(HEADER_BYTES)];
        set_bits(&mut inbox, 0, 16, op.into());
        Self {
            name,
            layout,
            inbox,
            out_len: out.bytes(),
        }
    }

    /// Sets `op_mod`.
    #[must_use]
    pub fn op_mod(mut self, op_mod: u16) -> Self {
        set_bits(&mut self.inbox, 48, 16, op_mod.into());
        self
    }

    /// Sets `uid`.
    #[must_use]
    pub fn uid(mut self, uid: u16) -> Self {
        set_bits(&mut self.inbox, 16, 16, uid.into());
        self
    }

    /// Sets the field at a dotted path.
    ///
    /// # Panics
    /// There is no such field: a fault of the caller.
    #[must_use]
    pub fn set(mut self, path: &str, value: u64) -> Self {
        let p = self
            .layout
            .field(path)
            .unwrap_or_else(|| panic!("{} has no field {path}", self.name));
        set_bits(&mut self.inbox, p.offset, p.width, value);
        self
    }

    /// Puts bytes at the field at a dotted path, from its first bit on.
    ///
    /// # Panics
    /// There is no such field on a byte boundary, or the inbox ends before the bytes do.
    #[must_use]
    pub fn bytes(mut self, path: &str, bytes: &[u8]) -> Self {
        let p = self
            .layout
            .field(path)
            .unwrap_or_else(|| panic!("{} has no field {path}", self.name));
        assert!(p.offset.is_multiple_of(8), "{path} begins within a byte");
        let at = (p.offset / 8) as usize;
        self.inbox[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Appends big-endian 64-bit words, as a page list has them.
    #[must_use]
    pub fn list(mut self, words: &[u64]) -> Self {
        self.inbox
            .extend(words.iter().flat_map(|w| w.to_be_bytes()));
        self
    }

    /// Appends bytes.
    #[must_use]
    pub fn data(mut self, bytes: &[u8]) -> Self {
        self.inbox.extend_from_slice(bytes);
        self
    }

    /// Asks for an outbox of another length than its layout has.
    #[must_use]
    pub fn out_len(mut self, bytes: usize) -> Self {
        self.out_len = bytes;
        self
    }

    /// The inbox.
    #[must_use]
    pub fn inbox(&self) -> &[u8] {
        &self.inbox
    }

    /// Executes it and returns the outbox, whatever the status.
    ///
    /// # Errors
    /// See [`Mailbox::exec`].
    pub fn exec(&self, m: &mut impl Mailbox) -> Result<Vec<u8>, MailboxError> {
        let mut out = vec![0; self.out_len];
        m.exec(&self.inbox, &mut out)?;
        Ok(out)
    }

    /// Executes it and returns the outbox of a command that succeeded.
    ///
    /// # Errors
    /// See [`Mailbox::exec`]; [`MailboxError::Refused`] for another status than OK.
    pub fn ok(&self, m: &mut impl Mailbox) -> Result<Vec<u8>, MailboxError> {
        let out = self.exec(m)?;
        match out.first() {
            Some(0) => Ok(out),
            status => Err(MailboxError::Refused {
                command: self.name,
                status: status.copied().unwrap_or(u8::MAX),
                syndrome: if out.len() < 8 {
                    0
                } else {
                    get_bits(&out, 32, 32) as u32
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(u8, Vec<u8>);

    impl Mailbox for Echo {
        fn exec(&mut self, inbox: &[u8], outbox: &mut [u8]) -> Result<(), MailboxError> {
            self.1 = inbox.to_vec();
            outbox[0] = self.0;
            outbox[4..8].copy_from_slice(&[1, 2, 3, 4]);
            Ok(())
        }

        fn page(&mut self) -> Option<u64> {
            None
        }
    }

    #[test]
    fn fields_lie_where_the_header_puts_them() {
        let mut m = Echo(0, vec![]);
        let c = Command::new(opcode::MANAGE_PAGES)
            .op_mod(1)
            .uid(0x203)
            .set("input_num_entries", 2);
        let out = c.list(&[0x1000, 0x1_0000_2000]).ok(&mut m).unwrap();
        assert_eq!(out.len(), 16);
        assert_eq!(
            m.1,
            [
                1, 8, 2, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, // header, function, count
                0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0x20, 0
            ]
        );
    }

    #[test]
    fn a_refusal_carries_status_and_syndrome() {
        let e = Command::new(opcode::NOP)
            .ok(&mut Echo(4, vec![]))
            .unwrap_err();
        assert_eq!(e.to_string(), "NOP: status 0x4, syndrome 0x1020304");
    }
}
