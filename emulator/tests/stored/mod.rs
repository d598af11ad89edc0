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
/// `nv_global_pci_conf`, a card's item of 12 bytes.
const ITEM: u32 = 0x9b;
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

/// The item with a value of `n` in each dword; its header says type, length and the next boot.
pub fn item(n: u32) -> Vec<u8> {
    let mut r = vec![0, 0, 0, 16];
    r.extend(ITEM.to_be_bytes());
    r.extend([0; 4]);
    r.extend(n.to_be_bytes().repeat(4));
    r
}

/// The item's number, all of whose dwords are the same.
pub fn stored_item<M: Mailbox>(d: &mut Firmware<M>) -> u32 {
    let out = d.ok(&access(MNVDA, READ, &item(0))).unwrap();
    let value = &out[HEAD + 12..];
    assert!(
        value.chunks(4).all(|c| c == &value[..4]),
        "torn: {value:x?}"
    );
    u32::from_be_bytes(value[..4].try_into().unwrap())
}
