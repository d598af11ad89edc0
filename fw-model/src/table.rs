// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The one opcode table: every check that holds for all commands reads it, and so do the
//! documents, the decoder and the tests.

use fwctl_proto::opcode as op;

use crate::{
    cmd::{
        Ctx, Done, Handler, caps, diagnostics, eq, hca_vport, lifecycle, misc, pages, receive,
        steering, tables, uctx, vport,
    },
    function::State,
    input::Scope,
    object::{self, Kind, kinds},
    overlay, reg,
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
    /// Its name in lists, and in an overlay's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::EnabledOrUp => "enabled-or-up",
            Self::Up => "up",
        }
    }

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

impl Callers {
    /// Its name in lists, and in an overlay's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::KernelDevx => "kernel-devx",
            Self::KernelTools => "kernel-tools",
            Self::All => "all",
        }
    }
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
    /// Its name in lists, and in an overlay's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::From(least) => least.name(),
            Self::WriteOrRead => "configuration to write, debug-read-only to read",
        }
    }

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
    /// What a public tool sends and how it reads the answer.
    Tool,
    /// Nobody outside knows; ours.
    Assumed,
}

impl Evidence {
    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Driver => "driver",
            Self::Tool => "tool",
            Self::Assumed => "assumed",
        }
    }
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
    /// Refuses it: no shipped profile advertises the feature.
    Refuse(Why),
    /// What an overlay says, by its index there.
    Overlay(u16),
}

/// Why a command is refused, and so what would have to be advertised for it to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This capability field, as `page.field`, is 0 in every shipped profile.
    Cap(&'static str),
    /// The command serves InfiniBand ports, and every shipped profile has Ethernet ports.
    InfiniBand,
    /// The headers give neither what it carries nor a capability for it, so that no profile can
    /// advertise it.
    NoLayout,
    /// Known to be missing: a profile has what it belongs to, and nobody outside knows its layout,
    /// or it is still to come.
    Gap,
}

/// How far a command is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// It does what its layout says.
    Implemented,
    /// Refused, because nothing advertises it.
    Refused,
    /// Refused, and that is a gap.
    Gap,
}

impl Coverage {
    /// Its name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Implemented => "implemented",
            Self::Refused => "refused",
            Self::Gap => "gap",
        }
    }
}

impl Op {
    /// How far it is there.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        match self.action {
            Refuse(Why::Gap) => Coverage::Gap,
            Refuse(_) => Coverage::Refused,
            _ => Coverage::Implemented,
        }
    }

    /// Why its statuses are what they are, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        match self.action {
            Refuse(Why::Cap(field)) => format!("no profile has capability {field}"),
            Refuse(Why::InfiniBand) => "for InfiniBand ports, which no profile has".into(),
            Refuse(Why::NoLayout) => "the headers have no layout and no capability for it".into(),
            Refuse(Why::Gap) => "not there yet, or its layout is not public".into(),
            _ => match self.evidence {
                Evidence::Header => "as mlx5_ifc.h describes it".into(),
                Evidence::Driver => "as the driver uses it and reacts".into(),
                Evidence::Tool => "as a public tool's source uses it".into(),
                Evidence::Assumed => "assumed".into(),
            },
        }
    }
}

impl core::fmt::Debug for Action {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Call(_) => f.write_str("Call"),
            Self::Create(k) => write!(f, "Create({})", k.name),
            Self::Destroy(k) => write!(f, "Destroy({})", k.name),
            Self::Modify(k) => write!(f, "Modify({})", k.name),
            Self::Query(k) => write!(f, "Query({})", k.name),
            Self::Refuse(why) => write!(f, "Refuse({why:?})"),
            Self::Overlay(i) => write!(f, "Overlay({i})"),
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
            Self::Create(k) => object::ops::create(k, ctx, out),
            Self::Destroy(k) => object::ops::destroy(k, ctx, out),
            Self::Modify(k) => object::ops::modify(k, ctx, out),
            Self::Query(k) => object::ops::query(k, ctx, out),
            Self::Refuse(_) => Err(Syndrome::NotAdvertised.into()),
            Self::Overlay(i) => overlay::run(*i, ctx, out),
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
    SET_HCA_CAP, 4112, 16, EnabledOrUp, KernelTools, CONF, Driver => Call(caps::set);
    QUERY_ISSI, 16, 112, EnabledOrUp, All, READ, Driver => Call(lifecycle::query_issi);
    SET_ISSI, 16, 16, Enabled, Kernel, NEVER, Driver => Call(lifecycle::set_issi);
    SET_DRIVER_VERSION, 16, 16, EnabledOrUp, Kernel, NEVER, Driver => Call(misc::set_driver_version);
    CREATE_EQ, 272, 16, Up, KernelDevx, NEVER, Driver => Call(eq::create);
    DESTROY_EQ, 16, 16, Up, KernelDevx, NEVER, Driver => Call(eq::destroy);
    QUERY_EQ, 16, 272, Up, All, READ, Header => Call(eq::query);
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
    QUERY_TIS, 16, 176, Up, All, READ, Header => Query(&kinds::TIS);
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
    CREATE_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::QP);
    DESTROY_QP, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::QP);
    RST2INIT_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    INIT2RTR_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    RTR2RTS_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    RTS2RTS_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    SQERR2RTS_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    SQD_RTS_QP, 272, 16, Up, KernelDevx, NEVER, Header => Modify(&kinds::QP);
    INIT2INIT_QP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    OP_2ERR_QP, 16, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    OP_2RST_QP, 16, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::QP);
    CREATE_SRQ, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::SRQ);
    DESTROY_SRQ, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::SRQ);
    ARM_RQ, 16, 16, Up, KernelDevx, NEVER, Driver => Call(receive::arm_rq);
    CREATE_XRC_SRQ, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::XRC_SRQ);
    DESTROY_XRC_SRQ, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::XRC_SRQ);
    ARM_XRC_SRQ, 16, 16, Up, KernelDevx, NEVER, Driver => Call(receive::arm_xrc_srq);
    CREATE_DCT, 128, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::DCT);
    DESTROY_DCT, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::DCT);
    DRAIN_DCT, 16, 16, Up, KernelDevx, NEVER, Driver => Call(receive::drain_dct);
    ARM_DCT_FOR_KEY_VIOLATION, 16, 16, Up, KernelDevx, NEVER, Header => Call(receive::arm_dct);
    CREATE_XRQ, 336, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::XRQ);
    DESTROY_XRQ, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::XRQ);
    ARM_XRQ, 16, 16, Up, KernelDevx, NEVER, Header => Call(receive::arm_xrq);
    CREATE_RMP, 272, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::RMP);
    MODIFY_RMP, 272, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::RMP);
    DESTROY_RMP, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::RMP);
    ALLOC_XRCD, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::XRCD);
    DEALLOC_XRCD, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::XRCD);
    CREATE_UMEM, 48, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::UMEM);
    DESTROY_UMEM, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::UMEM);
    ATTACH_TO_MCG, 32, 16, Up, KernelDevx, NEVER, Driver => Call(tables::attach);
    DETACH_FROM_MCG, 32, 16, Up, KernelDevx, NEVER, Driver => Call(tables::detach);
    CREATE_SCHEDULING_ELEMENT, 128, 64, Up, KernelDevx, NEVER, Driver => Create(&kinds::SCHEDULING_ELEMENT);
    MODIFY_SCHEDULING_ELEMENT, 128, 64, Up, KernelDevx, NEVER, Driver => Modify(&kinds::SCHEDULING_ELEMENT);
    DESTROY_SCHEDULING_ELEMENT, 64, 64, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::SCHEDULING_ELEMENT);
    SET_PP_RATE_LIMIT, 64, 16, Up, KernelDevx, NEVER, Driver => Call(tables::set_rate);
    SET_L2_TABLE_ENTRY, 64, 16, Up, Kernel, NEVER, Driver => Call(tables::set_l2);
    DELETE_L2_TABLE_ENTRY, 64, 16, Up, Kernel, NEVER, Driver => Call(tables::delete_l2);
    ADD_VXLAN_UDP_DPORT, 16, 16, Up, Kernel, NEVER, Driver => Call(tables::add_vxlan);
    DELETE_VXLAN_UDP_DPORT, 16, 16, Up, Kernel, NEVER, Driver => Call(tables::delete_vxlan);
    SET_WOL_ROL, 16, 16, Up, Kernel, NEVER, Driver => Call(tables::set_wol);
    MODIFY_FLOW_TABLE, 64, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::FLOW_TABLE);
    ALLOC_FLOW_COUNTER, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::FLOW_COUNTER);
    DEALLOC_FLOW_COUNTER, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::FLOW_COUNTER);
    ALLOC_PACKET_REFORMAT_CONTEXT, 36, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::PACKET_REFORMAT);
    DEALLOC_PACKET_REFORMAT_CONTEXT, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::PACKET_REFORMAT);
    ALLOC_MODIFY_HEADER_CONTEXT, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::MODIFY_HEADER);
    DEALLOC_MODIFY_HEADER_CONTEXT, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::MODIFY_HEADER);
    CREATE_GENERAL_OBJECT, 16, 16, Up, KernelDevx, NEVER, Driver => Create(&kinds::GENERAL);
    MODIFY_GENERAL_OBJECT, 16, 16, Up, KernelDevx, NEVER, Driver => Modify(&kinds::GENERAL);
    DESTROY_GENERAL_OBJECT, 16, 16, Up, KernelDevx, NEVER, Driver => Destroy(&kinds::GENERAL);
    CREATE_UCTX, 64, 16, Up, Kernel, NEVER, Driver => Call(uctx::create);
    DESTROY_UCTX, 16, 16, Up, Kernel, NEVER, Driver => Call(uctx::destroy);

    // The other commands that mlx5_fwctl lets users send. What no profile advertises passes the
    // door by its scope, and the firmware refuses it.
    QUERY_DRIVER_VERSION, 16, 16, Any, All, READ, Assumed => Refuse(Why::Gap);
    QUERY_OTHER_HCA_CAP, 16, 16, Any, All, CONF, Assumed => Refuse(Why::NoLayout);
    QUERY_SF_PARTITION, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.max_num_sf_partitions"));
    QUERY_VHCA_MIGRATION_STATE, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.migration"));
    QUERY_SPECIAL_CONTEXTS, 16, 32, Up, All, READ, Driver => Call(misc::query_special_contexts);
    QUERY_QP, 16, 272, Up, All, READ, Driver => Query(&kinds::QP);
    QUERY_RDB, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_PSV, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.sho"));
    QUERY_SRQ, 16, 272, Up, All, READ, Header => Query(&kinds::SRQ);
    QUERY_XRC_SRQ, 16, 272, Up, All, READ, Header => Query(&kinds::XRC_SRQ);
    QUERY_DCT, 16, 128, Up, All, READ, Header => Query(&kinds::DCT);
    QUERY_DC_CNAK_TRACE, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_XRQ, 16, 336, Up, All, READ, Header => Query(&kinds::XRQ);
    QUERY_NVMF_BACKEND_CONTROLLER, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_XRQ_DC_PARAMS_ENTRY, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_XRQ_ERROR_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_NVMF_NAMESPACE_CONTEXT, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_ADJACENT_FUNCTIONS_ID, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general_2.query_adjacent_functions_id"));
    DELEGATE_VHCA_MANAGEMENT, 16, 16, Any, All, CONF, Assumed => Refuse(Why::Cap("general_2.delegated_vhca_max"));
    QUERY_DELEGATED_VHCA, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general_2.delegated_vhca_max"));
    QUERY_ESW_FUNCTIONS, 16, 128, Up, All, CONF, Driver => Call(misc::query_esw_functions);
    QUERY_ESW_VPORT_CONTEXT, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.vport_group_manager"));
    QUERY_ROCE_ADDRESS, 16, 48, Up, All, CONF, Header => Call(tables::query_roce_address);
    QUERY_HCA_VPORT_CONTEXT, 16, 528, Up, All, CONF, Driver => Call(hca_vport::query);
    QUERY_HCA_VPORT_GID, 16, 32, Up, All, READ, Driver => Call(hca_vport::query_gid);
    QUERY_HCA_VPORT_PKEY, 16, 20, Up, All, READ, Driver => Call(hca_vport::query_pkey);
    QUERY_VNIC_ENV, 16, 528, Up, All, READ, Driver => Call(vport::query_vnic_env);
    QUERY_RATE_LIMIT, 16, 16, Any, All, READ, Assumed => Refuse(Why::Gap);
    QUERY_SCHEDULING_ELEMENT, 64, 128, Up, All, READ, Header => Query(&kinds::SCHEDULING_ELEMENT);
    QUERY_MAD_DEMUX, 16, 16, Any, All, READ, Assumed => Refuse(Why::InfiniBand);
    QUERY_BURST_SIZE, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("qos.packet_pacing_burst_bound"));
    QUERY_DIAGNOSTIC_PARAMS, 16, 32, Up, All, READ, Tool => Call(diagnostics::query_params);
    SET_DIAGNOSTIC_PARAMS, 32, 16, Up, KernelTools, WRITE, Tool => Call(diagnostics::set_params);
    QUERY_DIAGNOSTIC_COUNTERS, 16, 16, Up, All, READ, Tool => Call(diagnostics::query_counters);
    QUERY_CONG_STATUS, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.cc_query_allowed"));
    MODIFY_CONG_STATUS, 16, 16, Any, All, CONF, Assumed => Refuse(Why::Cap("general.cc_modify_allowed"));
    QUERY_CONG_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.cc_query_allowed"));
    QUERY_CONG_STATISTICS, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.cc_query_allowed"));
    QUERY_L2_TABLE_ENTRY, 64, 64, Up, All, READ, Header => Call(tables::query_l2);
    QUERY_WOL_ROL, 16, 16, Up, All, READ, Driver => Call(tables::query_wol);
    QUERY_LAG, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.lag_master"));
    QUERY_RMP, 16, 272, Up, All, READ, Header => Query(&kinds::RMP);
    QUERY_DELAY_DROP_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.rq_delay_drop"));
    QUERY_FLOW_GROUP, 64, 1024, Up, All, READ, Header => Query(&kinds::FLOW_GROUP);
    QUERY_FLOW_COUNTER, 32, 16, Up, All, READ, Driver => Call(steering::query_counter);
    QUERY_PACKET_REFORMAT_CONTEXT, 16, 36, Up, All, READ, Header => Query(&kinds::PACKET_REFORMAT);
    QUERY_MODIFY_HEADER_CONTEXT, 16, 16, Up, All, READ, Assumed => Query(&kinds::MODIFY_HEADER);
    FPGA_QUERY_QP, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.fpga"));
    FPGA_QUERY_QP_COUNTERS, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.fpga"));
    QUERY_AFU, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_CAPI_PEC, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_GENERAL_OBJECT, 16, 16, Up, All, READ, Driver => Query(&kinds::GENERAL);
    QUERY_UCTX, 16, 16, Any, All, READ, Assumed => Refuse(Why::Gap);
    QUERY_UMEM, 16, 16, Any, All, READ, Assumed => Refuse(Why::Gap);
    QUERY_NVMF_CC_RESPONSE, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_EMULATED_FUNCTIONS_INFO, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.virtio_net_device_emualtion_manager"));
    QUERY_REGEXP_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.regexp_params"));
    QUERY_REGEXP_REGISTER, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.regexp_params"));
    USER_QUERY_XRQ_DC_PARAMS_ENTRY, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    USER_QUERY_XRQ_ERROR_PARAMS, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_VHCA_STATE, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.vhca_state"));
    QUERY_EMULATION_DEVICE_EQ_MSIX_MAPPING, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.virtio_net_device_emualtion_manager"));
    QUERY_MATCH_SAMPLE_INFO, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_CRYPTO_STATE, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.crypto"));
    QUERY_VUID, 16, 16, Any, All, CONF, Assumed => Refuse(Why::Cap("general_2.query_vuid"));
    QUERY_DPA_PARTITION, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_DPA_PARTITIONS, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    POSTPONE_CONNECTED_QP_TIMEOUT, 16, 16, Any, All, CONF, Assumed => Refuse(Why::NoLayout);
    QUERY_EMULATED_RESOURCES_INFO, 16, 16, Any, All, READ, Assumed => Refuse(Why::Cap("general.virtio_net_device_emualtion_manager"));
    QUERY_RSV_RESOURCES, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_MTT, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    QUERY_SCHED_QUEUE, 16, 16, Any, All, READ, Assumed => Refuse(Why::NoLayout);
    ACCESS_REGISTER_USER, 16, 16, EnabledOrUp, All, ScopeRule::WriteOrRead, Assumed => Call(reg::access);

    // Commands that the kernel's drivers name and no shipped profile advertises.
    ALLOC_SF, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.sf"));
    DEALLOC_SF, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.sf"));
    SUSPEND_VHCA, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.migration"));
    RESUME_VHCA, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.migration"));
    SAVE_VHCA_STATE, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.migration"));
    LOAD_VHCA_STATE, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.migration"));
    PAGE_FAULT_RESUME, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.pg"));
    ALLOC_MEMIC, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.device_memory"));
    DEALLOC_MEMIC, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.device_memory"));
    MODIFY_MEMIC, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.device_memory"));
    CREATE_PSV, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.sho"));
    DESTROY_PSV, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.sho"));
    MODIFY_ESW_VPORT_CONTEXT, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.vport_group_manager"));
    SET_MONITOR_COUNTER, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.max_num_of_monitor_counters"));
    ARM_MONITOR_COUNTER, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.max_num_of_monitor_counters"));
    CREATE_QOS_PARA_VPORT, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("qos.max_qos_para_vport"));
    DESTROY_QOS_PARA_VPORT, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("qos.max_qos_para_vport"));
    CREATE_LAG, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.lag_master"));
    MODIFY_LAG, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.lag_master"));
    DESTROY_LAG, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.lag_master"));
    CREATE_VPORT_LAG, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.lag_master"));
    DESTROY_VPORT_LAG, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.lag_master"));
    SET_DELAY_DROP_PARAMS, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.rq_delay_drop"));
    FPGA_CREATE_QP, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.fpga"));
    FPGA_MODIFY_QP, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.fpga"));
    FPGA_DESTROY_QP, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.fpga"));
    MODIFY_VHCA_STATE, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.vhca_state"));
    SYNC_STEERING, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("flow_table.flow_table_properties_nic_receive.sw_owner_v2"));
    PSP_GEN_SPI, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.psp"));
    PSP_ROTATE_KEY, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.psp"));
    SYNC_CRYPTO, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.crypto"));
    SET_ROCE_ADDRESS, 48, 16, Up, Kernel, NEVER, Driver => Call(tables::set_roce_address);
    MODIFY_CONG_PARAMS, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.cc_modify_allowed"));
    MODIFY_HCA_VPORT_CONTEXT, 528, 16, Up, Kernel, NEVER, Driver => Call(hca_vport::modify);
    MAD_IFC, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::InfiniBand);
    SET_MAD_DEMUX, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::InfiniBand);
    CREATE_ESW_VPORT, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.eswitch_manager"));
    DESTROY_ESW_VPORT, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general.eswitch_manager"));
    GEN_EQE, 80, 16, Up, KernelDevx, NEVER, Header => Call(eq::generate);
    CONFIG_INT_MODERATION, 16, 16, Up, Kernel, NEVER, Header => Call(tables::moderate);
    GET_DROPPED_PACKET_LOG, 16, 208, Up, Kernel, NEVER, Header => Call(misc::nop);
    SET_XRQ_DC_PARAMS_ENTRY, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::NoLayout);
    RELEASE_XRQ_ERROR, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::NoLayout);
    MODIFY_XRQ, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Gap);
    ALLOW_OTHER_VHCA_ACCESS, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general_2.allowed_object_for_other_vhca_access"));
    GENERATE_WQE, 16, 16, Any, KernelDevx, NEVER, Assumed => Refuse(Why::Cap("general_2.generate_wqe_type"));
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
