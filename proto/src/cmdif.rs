// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command interface in guest memory: command entries, mailbox blocks and their signatures
//! (`struct mlx5_cmd_layout` and `struct mlx5_cmd_prot_block` of `mlx5/device.h`, delivery
//! statuses of `mlx5/core/cmd.c`).

use crate::layout::get_bits;

/// Bytes of a command entry.
pub const ENTRY_BYTES: usize = 64;
/// Bytes of inbox and of outbox that lie in the entry itself.
pub const INLINE_BYTES: usize = 16;
/// Bytes of data in a mailbox block.
pub const BLOCK_DATA: usize = 512;
/// Bytes of a mailbox block's control part, behind its data.
pub const BLOCK_CONTROL: usize = 64;
/// Type of a command that comes over PCI.
pub const TYPE_PCI_XPORT: u8 = 7;

macro_rules! delivery {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// How an entry was delivered: bits 7:1 of its last byte.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        #[repr(u8)]
        pub enum DeliveryStatus {
            $(#[doc = $text] $name = $code,)*
        }

        impl DeliveryStatus {
            /// Its number.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The delivery status with this number.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

delivery! {
    OK = 0x0, "Delivered.";
    SIGNAT_ERR = 0x1, "A signature is wrong.";
    TOK_ERR = 0x2, "A block's token is not the entry's.";
    BAD_BLK_NUM_ERR = 0x3, "A block's number is not its place in the chain.";
    OUT_PTR_ALIGN_ERR = 0x4, "A pointer to an output block is not aligned.";
    IN_PTR_ALIGN_ERR = 0x5, "A pointer to an input block is not aligned.";
    FW_ERR = 0x6, "The firmware failed.";
    IN_LENGTH_ERR = 0x7, "The inbox length is out of range.";
    OUT_LENGTH_ERR = 0x8, "The outbox length is out of range.";
    RES_FLD_NOT_CLR_ERR = 0x9, "A reserved field is not zero.";
    CMD_DESCR_ERR = 0x10, "The entry is not of a known type.";
}

/// A command entry as the driver wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Transport type, [`TYPE_PCI_XPORT`].
    pub kind: u8,
    /// Bytes of the inbox.
    pub in_len: u32,
    /// Guest address of the first input block.
    pub in_ptr: u64,
    /// The inbox's first bytes.
    pub inline_in: [u8; INLINE_BYTES],
    /// Guest address of the first output block.
    pub out_ptr: u64,
    /// Bytes of the outbox.
    pub out_len: u32,
    /// Token that all blocks of the command carry.
    pub token: u8,
    /// The entry belongs to the firmware.
    pub hw_owned: bool,
}

impl Entry {
    /// Byte offset of the inline outbox.
    pub const OUT_OFFSET: usize = 32;
    /// Byte offset of the token.
    pub const TOKEN_OFFSET: usize = 60;
    /// Byte offset of the signature.
    pub const SIG_OFFSET: usize = 61;
    /// Byte offset of delivery status and owner bit.
    pub const STATUS_OFFSET: usize = 63;

    /// Reads an entry.
    #[must_use]
    pub fn parse(raw: &[u8; ENTRY_BYTES]) -> Self {
        let mut inline_in = [0; INLINE_BYTES];
        inline_in.copy_from_slice(&raw[16..32]);
        Self {
            kind: raw[0],
            in_len: get_bits(raw, 32, 32) as u32,
            in_ptr: get_bits(raw, 64, 64),
            inline_in,
            out_ptr: get_bits(raw, 48 * 8, 64),
            out_len: get_bits(raw, 56 * 8, 32) as u32,
            token: raw[60],
            hw_owned: raw[Self::STATUS_OFFSET] & 1 == 1,
        }
    }

    /// True if it is of the type that comes over PCI.
    #[must_use]
    pub fn is_xport(&self) -> bool {
        self.kind == TYPE_PCI_XPORT
    }

    /// The entry as bytes, without a signature.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut b = [0; ENTRY_BYTES];
        b[0] = self.kind;
        b[4..8].copy_from_slice(&self.in_len.to_be_bytes());
        b[8..16].copy_from_slice(&self.in_ptr.to_be_bytes());
        b[16..32].copy_from_slice(&self.inline_in);
        b[48..56].copy_from_slice(&self.out_ptr.to_be_bytes());
        b[56..60].copy_from_slice(&self.out_len.to_be_bytes());
        b[60] = self.token;
        b[Self::STATUS_OFFSET] = u8::from(self.hw_owned);
        b
    }
}

/// The control part of a mailbox block: bytes 512..576.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockControl {
    /// Guest address of the next block.
    pub next: u64,
    /// Place in the chain, from 0.
    pub block_num: u32,
    /// The entry's token.
    pub token: u8,
}

impl BlockControl {
    /// Reads the 64 bytes behind a block's data; `None` if there are fewer.
    #[must_use]
    pub fn parse(part: &[u8]) -> Option<Self> {
        (part.len() >= BLOCK_CONTROL).then(|| Self {
            next: get_bits(part, 48 * 8, 64),
            block_num: get_bits(part, 56 * 8, 32) as u32,
            token: part[61],
        })
    }

    /// The 64 bytes, without signatures.
    #[must_use]
    pub fn unsigned(next: u64, block_num: u32, token: u8) -> [u8; BLOCK_CONTROL] {
        let mut b = [0; BLOCK_CONTROL];
        b[48..56].copy_from_slice(&next.to_be_bytes());
        b[56..60].copy_from_slice(&block_num.to_be_bytes());
        b[61] = token;
        b
    }
}

/// Xor of all bytes: 0xff over anything that carries a right signature.
#[must_use]
pub fn xor8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |x, b| x ^ b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lies_as_the_header_says() {
        let e = Entry {
            kind: 7,
            in_len: 0x0102_0304,
            in_ptr: 0x1112_1314_1516_1718,
            inline_in: [0xee; 16],
            out_ptr: 0x2122_2324_2526_2728,
            out_len: 0x3132_3334,
            token: 0x41,
            hw_owned: true,
        };
        let b = e.to_bytes();
        assert_eq!(b[0], 7);
        assert_eq!(b[4..8], [1, 2, 3, 4]);
        assert_eq!(b[8..10], [0x11, 0x12]);
        assert_eq!(b[48..50], [0x21, 0x22]);
        assert_eq!((b[59], b[60], b[63]), (0x34, 0x41, 1));
        assert_eq!(Entry::parse(&b), e);
    }

    #[test]
    fn a_control_part_lies_as_the_header_says() {
        let b = BlockControl::unsigned(0x0102_0304_0506_0708, 9, 0x55);
        assert_eq!(b[48..56], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((b[59], b[61], b[62], b[63]), (9, 0x55, 0, 0));
        assert_eq!(BlockControl::parse(&b[..63]), None);
        assert_eq!(BlockControl::parse(&b).map(|c| c.block_num), Some(9));
    }
}
