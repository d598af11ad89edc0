// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Numbers in a configuration item (MNVDA), to see what is kept of what was acknowledged.
#![allow(dead_code)] // Each test file uses its part.

use fwctl_proto::opcode;
use host_driver::{
    firmware::Firmware,
    mailbox::{Command, Mailbox},
};

pub const READ: u16 = 1;
pub const WRITE: u16 = 0;
pub const MNVDA: u16 = 0x9024;
/// `nv_customization_number`, a card's item of 16 bytes, and `nv_file_id_vendor`, another one.
pub const ITEMS: [u32; 2] = [0x9b, 0x10f];
/// Outbox bytes in front of a register.
pub const HEAD: usize = 16;

/// Same seed, same moments.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// ACCESS_REG of a register.
pub fn access(id: u16, op_mod: u16, register: &[u8]) -> Command {
    Command::new(opcode::ACCESS_REG)
        .op_mod(op_mod)
        .set("register_id", u64::from(id))
        .data(register)
        .out_len(HEAD + register.len())
}

/// Big-endian dwords.
pub fn words(w: &[u32]) -> Vec<u8> {
    w.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// An item with a value of `n` in each dword; its header says type, length and the next boot.
pub fn item(which: usize, n: u32) -> Vec<u8> {
    words(&[16, ITEMS[which], 0, n, n, n, n])
}

/// All of whose dwords are the same.
pub fn one_number(bytes: &[u8]) -> u32 {
    assert!(
        bytes.chunks(4).all(|c| c == &bytes[..4]),
        "torn: {bytes:x?}"
    );
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// An item's number; 0 if it is not set.
pub fn stored_item<M: Mailbox>(d: &mut Firmware<M>, which: usize) -> u32 {
    let out = d.ok(&access(MNVDA, READ, &item(which, 0))).unwrap();
    one_number(&out[HEAD + 12..])
}
