// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! NOP, QUERY_ADAPTER, QUERY_ESW_FUNCTIONS, QUERY_SPECIAL_CONTEXTS, SET_DRIVER_VERSION.

use fwctl_proto::{
    layout::ViewMut,
    layouts::{
        HostParamsContext, QueryAdapterOut, QueryAdapterParamBlock, QuerySpecialContextsOut,
    },
};

use super::{Ctx, Done, view_mut};
use crate::syndrome::Syndrome;

/// IEEE vendor id in QUERY_ADAPTER, as in the vendor's MAC addresses.
const IEEE_VENDOR_ID: u64 = 0x02c9;
/// PCI vendor id of whoever made the adapter's data block.
const VSD_VENDOR_ID: u64 = 0x15b3;

/// NOP: does nothing.
#[allow(clippy::unnecessary_wraps)]
pub fn nop(_ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    Ok(())
}

/// QUERY_ADAPTER: who made the board, and its PSID.
pub fn query_adapter(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let mut o: ViewMut<'_, QueryAdapterOut> = view_mut(out)?;
    let mut b = o.sub_mut(QueryAdapterOut::QUERY_ADAPTER_STRUCT);
    b.set(QueryAdapterParamBlock::IEEE_VENDOR_ID, IEEE_VENDOR_ID);
    b.set(QueryAdapterParamBlock::VSD_VENDOR_ID, VSD_VENDOR_ID);
    for (i, byte) in ctx.profile.firmware.psid.bytes().enumerate() {
        b.set_at(QueryAdapterParamBlock::VSD_CONTD_PSID, i, u64::from(byte));
    }
    Ok(())
}

/// QUERY_ESW_FUNCTIONS: the host's physical function and its virtual functions. There is one host, and
/// none of its virtual functions is enabled. The bus and device that the host gave the function are
/// not known to the firmware.
pub fn query_esw_functions(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    /// `net_function_params[0]`, in bytes.
    const PARAMS: usize = 16;
    // Other layouts (`MLX5_QUERY_ESW_FUNC_OP_MOD_LAYOUT_V1`) take a capability that no profile has.
    if ctx.op_mod != 0 {
        return Err(Syndrome::UnsupportedOpMod.into());
    }
    let params = out.get_mut(PARAMS..).unwrap_or_default();
    let mut v: ViewMut<'_, HostParamsContext> = view_mut(params)?;
    let total = u64::from(ctx.f.configured.total_vfs);
    v.set(HostParamsContext::HOST_TOTAL_VFS, total);
    v.set(HostParamsContext::HOST_PCI_FUNCTION, u64::from(ctx.f.id.0));
    Ok(())
}

/// SET_DRIVER_VERSION: the driver's name, kept for reports.
pub fn set_driver_version(ctx: &mut Ctx<'_>, _out: &mut [u8]) -> Done {
    const NAME: core::ops::Range<usize> = 16..80;
    let text = ctx.inbox.get(NAME).unwrap_or_default();
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    ctx.f.driver_version = String::from_utf8_lossy(&text[..end]).into_owned();
    Ok(())
}

/// QUERY_SPECIAL_CONTEXTS: memory keys that stand for something without being created: all of
/// memory, nothing, and the like.
pub fn query_special_contexts(_: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    /// Their common upper part: no created key has an index so high (`log_max_mkey` is less).
    const SPECIAL: u64 = 0xffff_ff00;
    /// What drivers use where the firmware does not say (`MLX5_TERMINATE_SCATTER_LIST_LKEY`).
    const TERMINATE: u64 = 0x100;
    let mut o: ViewMut<'_, QuerySpecialContextsOut> = view_mut(out)?;
    o.set(QuerySpecialContextsOut::DUMP_FILL_MKEY, SPECIAL | 1);
    o.set(QuerySpecialContextsOut::RESD_LKEY, SPECIAL | 2);
    o.set(QuerySpecialContextsOut::NULL_MKEY, SPECIAL | 3);
    o.set(
        QuerySpecialContextsOut::TERMINATE_SCATTER_LIST_MKEY,
        TERMINATE,
    );
    o.set(QuerySpecialContextsOut::REPEATED_MKEY, SPECIAL | 4);
    Ok(())
}
