// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What every mlx5 command has: the headers of its inbox and outbox
//! (`include/uapi/fwctl/mlx5.h`, `mbox_in`/`mbox_out` of mlx5_ifc.h).

use std::fmt;

use crate::{Device, Error, Reply, Scope};

/// Bytes of an inbox header and of an outbox header; mlx5's drivers take no shorter buffer.
pub const HEADER: usize = 16;

/// `struct fwctl_info_mlx5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mlx5Info {
    /// The firmware user context that this open file is bound to; the driver writes it into the
    /// header of each of its commands.
    pub uid: u32,
    /// Capabilities of that user context (`uctx.cap`; 0x4 is TOOLS_RESOURCES).
    pub uctx_caps: u32,
}

impl Mlx5Info {
    /// Bytes of the structure.
    pub const BYTES: usize = 8;

    /// Reads it (native byte order); `None` if there are fewer than [`Self::BYTES`] bytes.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (words, _) = data.as_chunks::<4>();
        match words {
            [uid, caps, ..] => Some(Self {
                uid: u32::from_ne_bytes(*uid),
                uctx_caps: u32::from_ne_bytes(*caps),
            }),
            _ => None,
        }
    }
}

/// The firmware's verdict in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Byte 0, `MLX5_CMD_STAT_*`; 0 is success.
    pub status: u8,
    /// Bytes 4..8: the firmware's own number for what it refused; 0 on success.
    pub syndrome: u32,
}

impl Status {
    /// True for success.
    #[must_use]
    pub fn is_ok(self) -> bool {
        self.status == 0
    }

    /// The PRM's name of the status.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        fwctl_proto::status::Status::from_code(self.status).map(fwctl_proto::status::Status::name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("unknown status");
        write!(
            f,
            "{name} ({:#04x}), syndrome {:#010x}",
            self.status, self.syndrome
        )
    }
}

/// Reads the verdict of an outbox; give it the bytes that were copied, no more.
///
/// # Errors
/// [`Error::Delivery`] if there are fewer than [`HEADER`] bytes: that is no answer.
pub fn status(outbox: &[u8]) -> Result<Status, Error> {
    match outbox {
        [status, _, _, _, s0, s1, s2, s3, ..] if outbox.len() >= HEADER => Ok(Status {
            status: *status,
            syndrome: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
        }),
        _ => Err(Error::Delivery {
            found: outbox.len(),
            expected: HEADER,
        }),
    }
}

/// Makes an inbox of `len` bytes (at least [`HEADER`]) that is zero but for opcode and op_mod.
#[must_use]
pub fn inbox(opcode: u16, op_mod: u16, len: usize) -> Vec<u8> {
    let mut inbox = vec![0; len.max(HEADER)];
    inbox[..2].copy_from_slice(&opcode.to_be_bytes());
    inbox[6..8].copy_from_slice(&op_mod.to_be_bytes());
    inbox
}

/// The opcode and op_mod of an inbox; zeros for one without a header.
#[must_use]
pub fn opcode(inbox: &[u8]) -> (u16, u16) {
    match inbox {
        [a, b, _, _, _, _, c, d, ..] => {
            (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        _ => (0, 0),
    }
}

/// Sends a command and looks at the firmware's verdict.
///
/// # Errors
/// Those of [`Device::rpc`]; [`Error::Delivery`] for an answer shorter than a header;
/// [`Error::Firmware`] if the firmware refused the command, with the refusal in `outbox`.
pub fn exec(
    device: &Device,
    scope: Scope,
    inbox: &[u8],
    outbox: &mut [u8],
) -> Result<Reply, Error> {
    let reply = device.rpc(scope, inbox, outbox)?;
    let status = status(outbox.get(..reply.copied).unwrap_or_default())?;
    if status.is_ok() {
        return Ok(reply);
    }
    let (opcode, op_mod) = opcode(inbox);
    Err(Error::Firmware {
        opcode,
        op_mod,
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let inbox = inbox(0x805, 1, 32);
        assert_eq!(inbox.len(), 32);
        assert_eq!(inbox[..8], [8, 5, 0, 0, 0, 0, 0, 1]);
        assert_eq!(opcode(&inbox), (0x805, 1));
        assert_eq!(opcode(&inbox[..7]), (0, 0));
        assert_eq!(super::inbox(0x80d, 0, 0).len(), HEADER);
    }

    #[test]
    fn verdicts() {
        let mut out = [0; 16];
        assert!(status(&out).unwrap().is_ok());
        out[0] = 3;
        out[4..8].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        let s = status(&out).unwrap();
        assert_eq!((s.status, s.syndrome, s.is_ok()), (3, 0x1234_5678, false));
        assert_eq!(s.to_string(), "BAD_PARAM (0x03), syndrome 0x12345678");
        assert_eq!(
            Status {
                status: 0x77,
                syndrome: 0
            }
            .name(),
            None
        );
        assert_eq!(
            status(&out[..15]),
            Err(Error::Delivery {
                found: 15,
                expected: 16
            })
        );
    }
}
