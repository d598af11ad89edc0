// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands by which a test lets something go wrong: NOP with an op_mod that no firmware looks at. The
//! emulator is given them as faults (docs/faults.md); on other devices these tests are skipped.

use std::fmt::Write;

use fwctl_proto::{opcode, status::Status};
use fwctl_uapi::{Device, Error, Scope, mlx5};

use crate::{
    skip,
    test::{Ctx, Done},
};

/// NOP with this op_mod is answered [`LATE_MS`] later, when no driver waits any more.
pub const LATE: u16 = 0x6701;
/// How much later, in milliseconds; mlx5_core waits for 60 to 65 s. It does not unload, nor recover from a
/// failure, while an answer is outstanding, so that one that never came would be the end of the guest.
pub const LATE_MS: u64 = 70_000;
/// With this one the firmware fails for good after it.
pub const FATAL: u16 = 0x6702;
/// With this one the reserved bytes of the outbox are ones.
pub const ONES: u16 = 0x6703;
/// With this one and a status' number added, it is refused with that status.
pub const REFUSED: u16 = 0x6800;

/// The syndrome that goes with a status.
pub fn syndrome(status: Status) -> u32 {
    0x5a00_0000 | u32::from(status.code())
}

/// Statuses that there are.
pub fn statuses() -> impl Iterator<Item = Status> {
    Status::ALL.iter().copied().filter(|s| *s != Status::OK)
}

/// The faults, one a line (`fwctl-emu serve --fault LINE`).
#[must_use]
pub fn lines() -> String {
    let mut text = String::new();
    let mut fault = |op_mod: u16, then: &str| {
        let _ = writeln!(text, "opcode=NOP op_mod={op_mod:#x} : {then} : times=0");
    };
    fault(LATE, &format!("delay={LATE_MS}"));
    fault(FATAL, "health=HW_FATAL_ERR fatal");
    fault(ONES, "fill=1");
    for s in statuses() {
        let then = format!("status={} syndrome={:#x}", s.name(), syndrome(s));
        fault(REFUSED + u16::from(s.code()), &then);
    }
    text
}

/// Skips a test that needs them where they are not.
pub fn needed(ctx: &Ctx) -> Done {
    if !ctx.triggers {
        skip!("this needs an emulated device: --triggers says that it is one");
    }
    Ok(())
}

/// Sends one of them; the outbox.
pub fn pull(device: &Device, op_mod: u16) -> Result<[u8; mlx5::HEADER], Error> {
    let mut outbox = [0; mlx5::HEADER];
    let inbox = mlx5::inbox(opcode::NOP, op_mod, mlx5::HEADER);
    device.rpc(Scope::DebugReadOnly, &inbox, &mut outbox)?;
    Ok(outbox)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_is_of_faults() {
        let text = super::lines();
        assert_eq!(text.lines().count(), 3 + super::statuses().count());
        let refused = "opcode=NOP op_mod=0x6803 : status=BAD_PARAM syndrome=0x5a000003 : times=0\n";
        assert!(text.contains(refused), "{text}");
    }
}
