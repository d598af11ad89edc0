// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The one opcode table: every check that holds for all commands reads it, and so do the
//! documents, the decoder and the tests.

use fwctl_proto::opcode as op;

use crate::{
    cmd::{Ctx, Done, Handler, caps, eq, lifecycle, misc, pages, steering, uctx, vport},
    function::State,
    input::Scope,
    object::{self, Kind, kinds},
    reg,
    syndrome::Syndrome,
};

/// In which states of the function a command is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// In all of them.
    Any,
    /// Only before ENABLE_HCA.
    Disabled,
    /// Only between ENABLE_HCA and INIT_HCA.
    Enabled,
    /// From ENABLE_HCA on.
    EnabledOrUp,
    /// Only after INIT_HCA.
    Up,
}

impl Needs {
    /// True if a function in `state` may run the command.
    #[must_use]
    pub fn allows(self, state: State) -> bool {
        match self {
            Self::Any => true,
            Self::Disabled => state == State::Disabled,
            Self::Enabled => state == State::Enabled,
            Self::EnabledOrUp => state != State::Disabled,
            Self::Up => state == State::Up,
        }
    }
}

/// Which kinds of caller may use a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// The driver alone (uid 0).
    Kernel,
    /// The driver and DEVX user contexts; a tools context may not.
    KernelDevx,
    /// The driver and tools user contexts.
    KernelTools,
    /// Everybody.
    All,
}

/// The least scope at which a fwctl user may send a command through a command channel. Over PCI
/// the guest's driver enforces it and the firmware never sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeRule {
    /// No fwctl user may.
    Never,
    /// From this scope on.
    From(Scope),
    /// A write (op_mod 0) from `Configuration` on, a read from `DebugReadOnly` on.
    WriteOrRead,
}

impl ScopeRule {
    /// True if a request at `scope` with `op_mod` passes the door.
    #[must_use]
    pub fn allows(self, scope: Scope, op_mod: u16) -> bool {
        match self {
            Self::Never => false,
            Self::From(least) => scope >= least,
            Self::WriteOrRead => op_mod == 0 || scope >= Scope::DebugReadOnly,
        }
    }
}

/// Where the knowledge of a row's statuses comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A field or comment of the kernel's headers.
    Header,
    /// How the driver reacts.
    Driver,
    /// Nobody outside knows; ours.
    Assumed,
}

/// What executes a command.
#[derive(Clone, Copy)]
pub enum Action {
    /// A handler of its own.
    Call(Handler),
    /// Makes an object of a kind.
    Create(&'static Kind),
    /// Ends one.
    Destroy(&'static Kind),
    /// Changes one.
    Modify(&'static Kind),
    /// Reads one back.
    Query(&'static Kind),
    /// Refuses it: no profile advertises the feature.
    Refuse,
}

impl core::fmt::Debug for Action {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Call(_) => f.write_str("Call"),
            Self::Create(k) => write!(f, "Create({})", k.name),
            Self::Destroy(k) => write!(f, "Destroy({})", k.name),
            Self::Modify(k) => write!(f, "Modify({})", k.name),
            Self::Query(k) => write!(f, "Query({})", k.name),
            Self::Refuse => f.write_str("Refuse"),
        }
    }
}

impl Action {
    /// Executes the command.
    ///
    /// # Errors
    /// The refusal; nothing was changed then.
    pub fn run(&self, ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
        match self {
            Self::Call(h) => h(ctx, out),
            Self::Create(k) => object::create(k, ctx, out),
            Self::Destroy(k) => object::destroy(k, ctx, out),
            Self::Modify(k) => object::modify(k, ctx, out),
            Self::Query(k) => object::query(k, ctx, out),
            Self::Refuse => Err(Syndrome::NotAdvertised.into()),
        }
    }
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// Its number; the name is `fwctl_proto::opcode::name`.
    pub opcode: u16,
    /// Shortest inbox in bytes.
    pub in_len: u16,
    /// Bytes of the outbox that the handler fills (an outbox that is shorter is cut).
    pub out_len: u16,
    /// States in which it is allowed.
    pub needs: Needs,
    /// Who may use it.
    pub callers: Callers,
    /// From which scope on a fwctl user may.
    pub scope: ScopeRule,
    /// What executes it.
    pub action: Action,
    /// Source of its statuses.
    pub evidence: Evidence,
}

const CONF: ScopeRule = ScopeRule::From(Scope::Configuration);
const READ: ScopeRule = ScopeRule::From(Scope::DebugReadOnly);
const WRITE: ScopeRule = ScopeRule::From(Scope::DebugWrite);
const NEVER: ScopeRule = ScopeRule::Never;

macro_rules! ops {
    ($($name:ident, $in:expr, $out:expr, $needs:ident, $callers:ident, $scope:expr, $evidence:ident => $action:expr;)*) => {
        &[$(Op {
            opcode: op::$name,
            in_len: $in,
            out_len: $out,
            needs: Needs::$needs,
            callers: Callers::$callers,
            scope: $scope,
            action: $action,
            evidence: Evidence::$evidence,
        }),*]
    };
}

use Action::{Call, Create, Destroy, Modify, Query, Refuse};

/// Every command that the firmware knows, by opcode.
pub const OPS: &[Op] = ops! {
    QUERY_HCA_CAP, 16, 4112, EnabledOrUp, All, CONF, Driver => Call(caps::query);
    QUERY_ADAPTER, 16, 272, EnabledOrUp, All, CONF, Driver => Call(misc::query_adapter);
    INIT_HCA, 16, 16, Enabled, Kernel, NEVER, Driver => Call(lifecycle::init_hca);
    TEARDOWN_HCA, 16, 16, Up, Kernel, NEVER, Driver => Call(lifecycle::teardown_hca);
    ENABLE_HCA, 16, 12, Disabled, Kernel, NEVER, Driver => Call(lifecycle::enable_hca);
    DISABLE_HCA, 16, 12, Enabled, Kernel, NEVER, Driver => Call(lifecycle::disable_hca);
    QUERY_PAGES, 16, 16, EnabledOrUp, KernelTools, READ, Driver => Call(pages::query);
    MANAGE_PAGES, 16, 16, EnabledOrUp, Kernel, NEVER, Driver => Call(pages::manage);
    SET_HCA_CAP, 16, 16, EnabledOrUp, KernelTools, CONF, Driver => Call(caps::set);
    QUERY_ISSI, 16, 112, EnabledOrUp, All, READ, Driver => Call(lifecycle::query_issi);
    SET_ISSI, 16, 16, Enabled, Kernel, NEVER, Driver => Call(lifecycle::set_issi);
    SET_DRIVER_VERSION, 16, 16, EnabledOrUp, Kernel, NEVER, Driver => Call(misc::set_driver_version);
    CREATE_EQ, 272, 16, Up, KernelDevx, NEVER, Driver => Call(eq::create);
    DESTROY_EQ, 16, 16, Up, KernelDevx, NEVER, Driver => Call(eq::destroy);
    QUERY_EQ, 16, 144, Up, All, READ, Header => Call(eq::query);
    CREATE_MKEY, 80, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::MKEY);
    QUERY_MKEY, 16, 272, Up, All, READ, Header => Query(&kinds::MKEY);
    DESTROY_MKEY, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::MKEY);
    CREATE_CQ, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::CQ);
    DESTROY_CQ, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::CQ);
    MODIFY_CQ, 80, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::CQ);
    QUERY_CQ, 16, 272, Up, All, READ, Header => Query(&kinds::CQ);
    QUERY_VPORT_STATE, 16, 16, Up, All, READ, Driver => Call(vport::query_state);
    MODIFY_VPORT_STATE, 16, 16, Up, Kernel, NEVER, Driver => Call(vport::modify_state);
    QUERY_NIC_VPORT_CONTEXT, 16, 272, Up, All, READ, Driver => Call(vport::query_nic);
    MODIFY_NIC_VPORT_CONTEXT, 512, 16, Up, Kernel, NEVER, Driver => Call(vport::modify_nic);
    QUERY_VPORT_COUNTER, 32, 528, Up, All, READ, Driver => Call(vport::query_counter);
    ALLOC_Q_COUNTER, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::Q_COUNTER);
    DEALLOC_Q_COUNTER, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::Q_COUNTER);
    QUERY_Q_COUNTER, 32, 256, Up, All, READ, Driver => Call(vport::query_q_counter);
    ALLOC_PD, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::PD);
    DEALLOC_PD, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::PD);
    ALLOC_UAR, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::UAR);
    DEALLOC_UAR, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::UAR);
    ALLOC_TRANSPORT_DOMAIN, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::TRANSPORT_DOMAIN);
    DEALLOC_TRANSPORT_DOMAIN, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::TRANSPORT_DOMAIN);
    CREATE_TIR, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::TIR);
    MODIFY_TIR, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::TIR);
    DESTROY_TIR, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::TIR);
    QUERY_TIR, 16, 272, Up, All, READ, Header => Query(&kinds::TIR);
    CREATE_SQ, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::SQ);
    MODIFY_SQ, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::SQ);
    DESTROY_SQ, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::SQ);
    QUERY_SQ, 16, 272, Up, All, READ, Header => Query(&kinds::SQ);
    CREATE_RQ, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::RQ);
    MODIFY_RQ, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::RQ);
    DESTROY_RQ, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::RQ);
    QUERY_RQ, 16, 272, Up, All, READ, Header => Query(&kinds::RQ);
    CREATE_TIS, 192, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::TIS);
    MODIFY_TIS, 192, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::TIS);
    DESTROY_TIS, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::TIS);
    QUERY_TIS, 16, 192, Up, All, READ, Header => Query(&kinds::TIS);
    CREATE_RQT, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::RQT);
    MODIFY_RQT, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::RQT);
    DESTROY_RQT, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::RQT);
    QUERY_RQT, 16, 272, Up, All, READ, Header => Query(&kinds::RQT);
    SET_FLOW_TABLE_ROOT, 64, 16, Up, KernelDevx, NEVER, Driver => Call(steering::set_root);
    CREATE_FLOW_TABLE, 64, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::FLOW_TABLE);
    DESTROY_FLOW_TABLE, 64, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::FLOW_TABLE);
    QUERY_FLOW_TABLE, 64, 64, Up, All, READ, Header => Query(&kinds::FLOW_TABLE);
    CREATE_FLOW_GROUP, 1024, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::FLOW_GROUP);
    DESTROY_FLOW_GROUP, 64, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::FLOW_GROUP);
    SET_FLOW_TABLE_ENTRY, 832, 16, Up, KernelDevx, NEVER, Driver => Call(steering::set_fte);
    QUERY_FLOW_TABLE_ENTRY, 64, 832, Up, All, READ, Header => Call(steering::query_fte);
    DELETE_FLOW_TABLE_ENTRY, 64, 16, Up, KernelDevx, NEVER, Driver => Call(steering::delete_fte);
    NOP, 16, 16, Any, All, READ, Header => Call(misc::nop);
    ACCESS_REG, 16, 16, EnabledOrUp, All, ScopeRule::WriteOrRead, Driver => Call(reg::access);
    CREATE_UCTX, 64, 16, Up, Kernel, NEVER, Driver => Call(uctx::create);
    DESTROY_UCTX, 16, 16, Up, Kernel, NEVER, Driver => Call(uctx::destroy);

    // Commands that mlx5_fwctl lets users send and no profile advertises: they pass the door by
    // their scope, and the firmware refuses them.
    QUERY_DRIVER_VERSION, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_OTHER_HCA_CAP, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_SF_PARTITION, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_VHCA_MIGRATION_STATE, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_SPECIAL_CONTEXTS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_QP, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_RDB, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_PSV, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_SRQ, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_XRC_SRQ, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_DCT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_DC_CNAK_TRACE, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_XRQ, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_NVMF_BACKEND_CONTROLLER, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_XRQ_DC_PARAMS_ENTRY, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_XRQ_ERROR_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_NVMF_NAMESPACE_CONTEXT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_ADJACENT_FUNCTIONS_ID, 16, 16, Any, All, READ, Assumed => Refuse;
    DELEGATE_VHCA_MANAGEMENT, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_DELEGATED_VHCA, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_ESW_FUNCTIONS, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_ESW_VPORT_CONTEXT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_ROCE_ADDRESS, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_HCA_VPORT_CONTEXT, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_HCA_VPORT_GID, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_HCA_VPORT_PKEY, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_VNIC_ENV, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_RATE_LIMIT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_SCHEDULING_ELEMENT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_MAD_DEMUX, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_BURST_SIZE, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_DIAGNOSTIC_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse;
    SET_DIAGNOSTIC_PARAMS, 16, 16, Any, All, WRITE, Assumed => Refuse;
    QUERY_DIAGNOSTIC_COUNTERS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_CONG_STATUS, 16, 16, Any, All, READ, Assumed => Refuse;
    MODIFY_CONG_STATUS, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_CONG_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_CONG_STATISTICS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_L2_TABLE_ENTRY, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_WOL_ROL, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_LAG, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_RMP, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_DELAY_DROP_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_FLOW_GROUP, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_FLOW_COUNTER, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_PACKET_REFORMAT_CONTEXT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_MODIFY_HEADER_CONTEXT, 16, 16, Any, All, READ, Assumed => Refuse;
    FPGA_QUERY_QP, 16, 16, Any, All, READ, Assumed => Refuse;
    FPGA_QUERY_QP_COUNTERS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_AFU, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_CAPI_PEC, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_GENERAL_OBJECT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_UCTX, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_UMEM, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_NVMF_CC_RESPONSE, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_EMULATED_FUNCTIONS_INFO, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_REGEXP_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_REGEXP_REGISTER, 16, 16, Any, All, READ, Assumed => Refuse;
    USER_QUERY_XRQ_DC_PARAMS_ENTRY, 16, 16, Any, All, READ, Assumed => Refuse;
    USER_QUERY_XRQ_ERROR_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_VHCA_STATE, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_EMULATION_DEVICE_EQ_MSIX_MAPPING, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_MATCH_SAMPLE_INFO, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_CRYPTO_STATE, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_VUID, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_DPA_PARTITION, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_DPA_PARTITIONS, 16, 16, Any, All, READ, Assumed => Refuse;
    POSTPONE_CONNECTED_QP_TIMEOUT, 16, 16, Any, All, CONF, Assumed => Refuse;
    QUERY_EMULATED_RESOURCES_INFO, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_RSV_RESOURCES, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_MTT, 16, 16, Any, All, READ, Assumed => Refuse;
    QUERY_SCHED_QUEUE, 16, 16, Any, All, READ, Assumed => Refuse;
    ACCESS_REGISTER_USER, 16, 16, Any, All, ScopeRule::WriteOrRead, Assumed => Refuse;
};

/// Opcodes below this are found through the index; those above by search.
const INDEXED: usize = 0x1000;

const fn index() -> [u16; INDEXED] {
    let mut table = [u16::MAX; INDEXED];
    let mut i = 0;
    while i < OPS.len() {
        let at = OPS[i].opcode as usize;
        if at < INDEXED {
            assert!(table[at] == u16::MAX, "two rows for one opcode");
            table[at] = i as u16;
        }
        i += 1;
    }
    table
}

static INDEX: [u16; INDEXED] = index();

/// The row of an opcode.
#[must_use]
pub fn find(opcode: u16) -> Option<&'static Op> {
    match INDEX.get(usize::from(opcode)) {
        Some(&row) => OPS.get(usize::from(row)),
        None => OPS.iter().find(|o| o.opcode == opcode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_opcode_and_have_names() {
        for o in OPS {
            assert_eq!(find(o.opcode).map(|f| f.opcode), Some(o.opcode));
            assert!(op::name(o.opcode).is_some(), "{:#x}", o.opcode);
        }
        assert!(find(0).is_none() && find(0xffff).is_none() && find(0xfff).is_none());
    }

    #[test]
    fn users_may_send_what_mlx5_fwctl_lets_through() {
        // mlx5ctl_validate_rpc() of Linux 7.3: 11 labels from configuration on, 80 from
        // debug-read, 1 from debug-write, and two whose op_mod decides.
        let count = |r: ScopeRule| OPS.iter().filter(|o| o.scope == r).count();
        assert_eq!(count(CONF), 11);
        assert_eq!(count(READ), 80);
        assert_eq!(count(WRITE), 1);
        assert_eq!(count(ScopeRule::WriteOrRead), 2);
    }
}
