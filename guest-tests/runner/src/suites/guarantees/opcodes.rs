// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which command mlx5_fwctl lets through at which scope: `mlx5ctl_validate_rpc` of
//! drivers/fwctl/mlx5/main.c, Linux 7.3, with the numbers of mlx5_ifc.h.

use fwctl_proto::opcode as op;
use fwctl_uapi::Scope;

/// From `FWCTL_RPC_CONFIGURATION` on.
const CONFIGURATION: &[u16] = &[
    0x100, 0x101, 0x109, 0x10e, 0x731, 0x740, 0x760, 0x762, 0x823, 0xb22, 0xb2e,
];

/// From `FWCTL_RPC_DEBUG_READ_ONLY` on.
const DEBUG_READ_ONLY: &[u16] = &[
    0x107, 0x10a, 0x10c, 0x111, 0x117, 0x201, 0x203, 0x303, 0x402, 0x50b, 0x512, 0x602, 0x702,
    0x707, 0x713, 0x716, 0x719, 0x722, 0x725, 0x727, 0x728, 0x730, 0x732, 0x750, 0x752, 0x754,
    0x764, 0x765, 0x76f, 0x770, 0x773, 0x781, 0x784, 0x80b, 0x80d, 0x813, 0x819, 0x821, 0x822,
    0x824, 0x826, 0x82a, 0x831, 0x842, 0x903, 0x907, 0x90b, 0x90f, 0x911, 0x915, 0x919, 0x932,
    0x935, 0x937, 0x93b, 0x93f, 0x942, 0x962, 0x964, 0x971, 0x981, 0xa02, 0xa05, 0xa09, 0xb02,
    0xb03, 0xb05, 0xb07, 0xb08, 0xb0a, 0xb0d, 0xb0f, 0xb13, 0xb14, 0xb28, 0xb2a, 0xb2f, 0x8000,
    0x8001, 0x8006,
];

/// From `FWCTL_RPC_DEBUG_WRITE` on.
const DEBUG_WRITE: &[u16] = &[0x820];

/// A write (op_mod 0) at every scope, a read from `FWCTL_RPC_DEBUG_READ_ONLY` on: ACCESS_REG and
/// ACCESS_REGISTER_USER.
const REGISTERS: &[u16] = &[op::ACCESS_REG, 0xb0c];

/// Commands of the lists that change something: MODIFY_CONG_STATUS, SET_HCA_CAP,
/// DELEGATE_VHCA_MANAGEMENT, POSTPONE_CONNECTED_QP_TIMEOUT, SET_DIAGNOSTIC_PARAMS.
const CHANGES: &[u16] = &[0x823, 0x109, 0x731, 0xb2e, 0x820];

/// Who may send a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Least {
    /// From this scope on.
    From(Scope),
    /// Nobody.
    Never,
}

impl Least {
    /// True if the command may be sent at `scope`.
    pub fn allows(self, scope: Scope) -> bool {
        matches!(self, Self::From(least) if scope.raw() >= least.raw())
    }
}

/// The least scope of a command.
pub fn least(opcode: u16, op_mod: u16) -> Least {
    let lists = [
        (CONFIGURATION, Scope::Configuration),
        (DEBUG_READ_ONLY, Scope::DebugReadOnly),
        (DEBUG_WRITE, Scope::DebugWrite),
    ];
    if REGISTERS.contains(&opcode) {
        return Least::From(if op_mod == 0 {
            Scope::Configuration
        } else {
            Scope::DebugReadOnly
        });
    }
    let found = lists.into_iter().find(|(list, _)| list.contains(&opcode));
    found.map_or(Least::Never, |(_, scope)| Least::From(scope))
}

/// True if a command of the lists changes nothing.
pub fn only_reads(opcode: u16) -> bool {
    !CHANGES.contains(&opcode) && !REGISTERS.contains(&opcode)
}

/// Commands that only read, from `FWCTL_RPC_DEBUG_READ_ONLY` on.
pub fn reads() -> impl Iterator<Item = u16> {
    let all = CONFIGURATION.iter().chain(DEBUG_READ_ONLY).copied();
    all.filter(|o| only_reads(*o))
}

/// The opcodes that there are, and their neighbours.
pub fn swept() -> impl Iterator<Item = u16> {
    (0..0xc00).chain(0x8000..0x8010).chain([0xfffe, 0xffff])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_lets_through() {
        assert_eq!(
            least(op::QUERY_HCA_CAP, 0),
            Least::From(Scope::Configuration)
        );
        assert_eq!(least(op::NOP, 0), Least::From(Scope::DebugReadOnly));
        assert_eq!(least(op::ACCESS_REG, 0), Least::From(Scope::Configuration));
        assert_eq!(least(op::ACCESS_REG, 1), Least::From(Scope::DebugReadOnly));
        for never in [op::CREATE_EQ, op::CREATE_UCTX, op::MANAGE_PAGES, 0, 0xffff] {
            assert_eq!(least(never, 0), Least::Never);
        }
        assert!(!Least::Never.allows(Scope::DebugWriteFull));
        assert!(only_reads(op::NOP) && !only_reads(op::SET_HCA_CAP));
    }
}
