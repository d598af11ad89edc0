// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! General objects: one set of commands for objects of many types, told apart by `obj_type`.
//!
//! The body of each is kept and read back as it was written; what is secret is not. Which types
//! there are is what `general_obj_types` advertises.

use fwctl_proto::{
    cap_type,
    layouts::{CmdHcaCap, CmdHcaCap2},
};

use super::Object;
use crate::{cmd::Ctx, syndrome::Syndrome};

/// Byte offset of an object's body in create, modify and query.
pub const BODY: usize = 16;
/// Byte offset in the body behind `modify_field_select`, which a modify command carries for itself.
pub const SELECTED: usize = 8;

/// `obj_type` of a data encryption key.
const ENCRYPTION_KEY: u16 = 0xc;
/// Bytes of its body that hold keys: `key` and `sw_wrapped_dek`, 128 bytes each.
const KEYS: core::ops::Range<usize> = 64..320;

/// Blanks what no query shows: key material.
pub(super) fn hide(o: &Object, body: &mut [u8]) {
    if o.subtype == ENCRYPTION_KEY {
        let end = KEYS.end.min(body.len());
        if let Some(keys) = body.get_mut(KEYS.start..end) {
            keys.fill(0);
        }
    }
}

/// Refuses an object type that the capabilities do not offer.
pub(super) fn advertised(ctx: &Ctx<'_>) -> Result<(), Syndrome> {
    let (types, bit) = match ctx.op_mod {
        n @ 0..64 => (ctx.general_cap(CmdHcaCap::GENERAL_OBJ_TYPES), n),
        n @ 64..128 => (
            ctx.cap_view::<CmdHcaCap2>(cap_type::GENERAL_2)
                .map_or(0, |v| v.get(CmdHcaCap2::GENERAL_OBJ_TYPES_127_64)),
            n - 64,
        ),
        _ => (0, 0),
    };
    if types >> bit & 1 == 1 {
        Ok(())
    } else {
        Err(Syndrome::GeneralType)
    }
}

/// `op_param.create.log_obj_range`: how many objects of one type are made at once.
pub(super) fn span(inbox: &[u8]) -> u32 {
    let log = super::Bits::new(0x63, 5).get(inbox);
    1 << log.min(24)
}
