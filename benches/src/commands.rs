// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The commands that are measured.

use fwctl_proto::opcode;
use fwctl_proto::virtio::{
    RESPONSE_HEADER_BYTES, RequestHeader, ResponseHeader, SCOPE_DRIVER, Status,
};

/// One of them.
pub struct Measured {
    /// As the table prints it.
    pub name: &'static str,
    /// Its opcode.
    pub opcode: u16,
    /// Its op_mod.
    pub op_mod: u16,
    /// Bytes of its outbox.
    pub outbox_len: u32,
}

/// A command that does nothing, and the one that drivers send most.
pub const MEASURED: [Measured; 2] = [
    Measured {
        name: "NOP",
        opcode: opcode::NOP,
        op_mod: 0,
        outbox_len: 16,
    },
    // op_mod 1: the general capabilities in force.
    Measured {
        name: "QUERY_HCA_CAP",
        opcode: opcode::QUERY_HCA_CAP,
        op_mod: 1,
        outbox_len: 4112,
    },
];

/// A 16-byte inbox with nothing but its header.
pub fn inbox(opcode: u16, op_mod: u16) -> [u8; 16] {
    let mut b = [0; 16];
    b[..2].copy_from_slice(&opcode.to_be_bytes());
    b[6..8].copy_from_slice(&op_mod.to_be_bytes());
    b
}

/// Brings a function to where it takes the measured ones.
pub fn enable() -> Measured {
    Measured {
        name: "ENABLE_HCA",
        opcode: opcode::ENABLE_HCA,
        op_mod: 0,
        outbox_len: 16,
    }
}

/// The request of a command, as the driver itself sends it over virtio.
pub fn request(c: &Measured) -> Vec<u8> {
    let inbox = inbox(c.opcode, c.op_mod);
    let header = RequestHeader {
        scope: SCOPE_DRIVER,
        uid: 0,
        in_len: 16,
        out_len: c.outbox_len,
    };
    [&header.to_bytes()[..], &inbox].concat()
}

/// Bytes of the response's buffer.
pub fn room(c: &Measured) -> u32 {
    RESPONSE_HEADER_BYTES as u32 + c.outbox_len
}

/// What a response begins with: delivered, the whole outbox, status 0.
pub fn answer(c: &Measured) -> Vec<u8> {
    let header = ResponseHeader {
        status: Status::Ok,
        out_len: c.outbox_len,
    };
    [&header.to_bytes()[..], &[0]].concat()
}
