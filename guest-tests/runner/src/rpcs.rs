// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The list of RPCs whose replies do not change: sent by the demo, compared byte for byte under
//! stress, and compared between transports by their digests.

use fwctl_proto::{opcode as op, status::Status};
use fwctl_uapi::{Device, Error, Scope, mlx5};

/// Bytes of `query_hca_cap_out`: header and a capability page.
pub const HCA_CAP_OUT: usize = 16 + 4096;

/// A firmware command with what it should give back.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    /// Stable name, the same on all transports.
    pub name: &'static str,
    /// Least scope at which the drivers let it through.
    pub scope: Scope,
    /// Opcode.
    pub opcode: u16,
    /// op_mod.
    pub op_mod: u16,
    /// Bytes of the inbox.
    pub in_len: usize,
    /// Bytes of the outbox.
    pub out_len: usize,
    /// Bytes of the inbox from offset 8 on.
    pub payload: &'static [u8],
    /// The firmware's status.
    pub status: Status,
}

const fn rpc(name: &'static str, scope: Scope, opcode: u16, op_mod: u16, out_len: usize) -> Rpc {
    Rpc {
        name,
        scope,
        opcode,
        op_mod,
        in_len: mlx5::HEADER,
        out_len,
        payload: &[],
        status: Status::OK,
    }
}

/// A read of a register: op_mod 1, register_id in bytes 10 and 11, a header before the register.
const fn read_reg(name: &'static str, id: &'static [u8; 4], register_len: usize) -> Rpc {
    let len = mlx5::HEADER + register_len;
    Rpc {
        in_len: len,
        payload: id,
        ..rpc(name, Scope::DebugReadOnly, op::ACCESS_REG, 1, len)
    }
}

/// The list. The replies depend on the profile alone, not on what ran before.
pub const RPCS: &[Rpc] = &[
    rpc("nop", Scope::DebugReadOnly, op::NOP, 0, 16),
    rpc("query_issi", Scope::DebugReadOnly, op::QUERY_ISSI, 0, 112),
    rpc(
        "query_adapter",
        Scope::Configuration,
        op::QUERY_ADAPTER,
        0,
        272,
    ),
    rpc(
        "query_pages.boot",
        Scope::DebugReadOnly,
        op::QUERY_PAGES,
        1,
        16,
    ),
    rpc(
        "query_hca_cap.general.max",
        Scope::Configuration,
        op::QUERY_HCA_CAP,
        0,
        HCA_CAP_OUT,
    ),
    rpc(
        "query_hca_cap.general.cur",
        Scope::Configuration,
        op::QUERY_HCA_CAP,
        1,
        HCA_CAP_OUT,
    ),
    rpc(
        "query_hca_cap.flow_table.cur",
        Scope::Configuration,
        op::QUERY_HCA_CAP,
        0x7 << 1 | 1,
        HCA_CAP_OUT,
    ),
    Rpc {
        status: Status::BAD_PARAM,
        ..rpc(
            "query_hca_cap.unknown",
            Scope::Configuration,
            op::QUERY_HCA_CAP,
            UNKNOWN_CAP_TYPE << 1,
            HCA_CAP_OUT,
        )
    },
    Rpc {
        status: Status::BAD_OP,
        ..rpc(
            "unknown_opcode",
            Scope::DebugReadOnly,
            op::QUERY_REGEXP_PARAMS,
            0,
            64,
        )
    },
    read_reg("access_reg.mcam", &[0, 0, 0x90, 0x7f], 72),
    read_reg("access_reg.pcam", &[0, 0, 0x50, 0x7f], 80),
    read_reg("access_reg.qcam", &[0, 0, 0x40, 0x19], 72),
    Rpc {
        status: Status::BAD_PARAM,
        ..read_reg("access_reg.unknown", &[0, 0, 0xff, 0xff], 16)
    },
];

/// Replies that tell functions apart, or that their drivers choose: their begin of a name.
pub const OWN: &str = "query_hca_cap.general";

/// A capability type that no firmware has.
pub const UNKNOWN_CAP_TYPE: u16 = 0x3ff;

/// The command of [`RPCS`] with this name.
///
/// # Panics
/// If there is none: a mistake in a test's source.
#[must_use]
pub fn named(name: &str) -> &'static Rpc {
    RPCS.iter()
        .find(|r| r.name == name)
        .unwrap_or_else(|| panic!("no RPC is called {name}"))
}

impl Rpc {
    /// Its inbox.
    #[must_use]
    pub fn inbox(&self) -> Vec<u8> {
        let mut inbox = mlx5::inbox(self.opcode, self.op_mod, self.in_len);
        for (byte, value) in inbox.iter_mut().skip(8).zip(self.payload) {
            *byte = *value;
        }
        inbox
    }

    /// Sends it at its scope and returns the outbox as far as it was written.
    ///
    /// # Errors
    /// Those of [`Device::rpc`]; a refusal by the firmware is none.
    pub fn send(&self, device: &Device) -> Result<Vec<u8>, Error> {
        self.send_at(device, self.scope)
    }

    /// Sends it at another scope.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_at(&self, device: &Device, scope: Scope) -> Result<Vec<u8>, Error> {
        let mut outbox = vec![0; self.out_len];
        let reply = device.rpc(scope, &self.inbox(), &mut outbox)?;
        outbox.truncate(reply.copied);
        Ok(outbox)
    }

    /// What is wrong with a reply, as far as one can say without another one.
    ///
    /// # Errors
    /// A sentence that says it.
    pub fn judge(&self, outbox: &[u8]) -> Result<(), String> {
        if outbox.len() != self.out_len {
            return Err(format!(
                "{}: wanted {} bytes, found {}",
                self.name,
                self.out_len,
                outbox.len()
            ));
        }
        let status = mlx5::status(outbox).map_err(|e| format!("{}: {e}", self.name))?;
        if status.status != self.status.code() {
            return Err(format!(
                "{}: wanted {}, found {status}",
                self.name,
                self.status.name()
            ));
        }
        if (self.status == Status::OK) != (status.syndrome == 0) {
            return Err(format!(
                "{}: the syndrome does not fit the status: {status}",
                self.name
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inboxes_have_their_bytes_in_place() {
        let mcam = named("access_reg.mcam");
        let inbox = mcam.inbox();
        // Length of the driver's own MCAM read: facts of the recorded sequence.
        assert_eq!((inbox.len(), mcam.out_len), (88, 88));
        assert_eq!(
            inbox[..16],
            [0x08, 0x05, 0, 0, 0, 0, 0, 1, 0, 0, 0x90, 0x7f, 0, 0, 0, 0]
        );
        assert_eq!(named("access_reg.pcam").inbox().len(), 96);
        assert_eq!(named("query_hca_cap.unknown").inbox()[6..8], [0x07, 0xfe]);
    }

    #[test]
    fn names_are_unique() {
        for (i, r) in RPCS.iter().enumerate() {
            assert!(RPCS[..i].iter().all(|o| o.name != r.name), "{}", r.name);
        }
    }

    #[test]
    fn replies_are_judged() {
        let nop = named("nop");
        let mut out = vec![0; 16];
        assert_eq!(nop.judge(&out), Ok(()));
        assert_eq!(
            nop.judge(&out[..15]),
            Err("nop: wanted 16 bytes, found 15".into())
        );
        out[7] = 1;
        assert!(
            nop.judge(&out)
                .unwrap_err()
                .contains("syndrome does not fit")
        );
        out[0] = 3;
        assert_eq!(
            nop.judge(&out),
            Err("nop: wanted OK, found BAD_PARAM (0x03), syndrome 0x00000001".into())
        );
        let unknown = named("query_hca_cap.unknown");
        out.resize(unknown.out_len, 0);
        assert_eq!(unknown.judge(&out), Ok(()));
    }
}
