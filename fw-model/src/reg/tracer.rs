// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MTRC_CAP, MTRC_CONF, MTRC_STDB, MTRC_CTRL and CORE_DUMP: the firmware tracer's registers.

use fwctl_proto::{
    cap_type,
    layout::{Layout as _, View, ViewMut},
    layouts::{CoreDumpReg, DebugCap, MtrcCap, MtrcConf, MtrcCtrl, MtrcStdb, MtrcStringDbParam},
};

use crate::{
    cmd::{Ctx, Done, view, view_mut},
    function::eq::Event,
    iseg,
    object::mkey::Region,
    syndrome::{Refusal, Syndrome},
    tracer::{
        FIRST_EVENT, LOG_MAX_PAGES, Owner, Tracer,
        strings::{BASE, STRINGS},
        subtype,
    },
};

/// Bytes of MTRC_STDB: what chooses the strings, and the most strings of one read.
pub const STDB_BYTES: usize = STDB_DATA + 4096;
/// Byte offset of the strings in it.
const STDB_DATA: usize = MtrcStdb::BYTES;
/// `trace_mode`: to memory.
const TO_MEMORY: u64 = 1;
/// `modify_field_select`: the trace status.
const TRACE_STATUS: u64 = 1;
/// `core_dump_type`: everything.
const GENERAL: u64 = 0;

fn owns(ctx: &Ctx<'_>) -> bool {
    let own = Owner {
        function: ctx.f.id,
        generation: ctx.f.generation,
    };
    ctx.shared.tracer.owner == Some(own)
}

fn owner_only(ctx: &Ctx<'_>) -> Done {
    if owns(ctx) {
        Ok(())
    } else {
        Err(Syndrome::TracerOwner.into())
    }
}

/// What the tracer can do, and whether it is this function's.
pub fn read_cap(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let owner = owns(ctx);
    let mut m: ViewMut<'_, MtrcCap> = view_mut(image)?;
    m.set(MtrcCap::TRACE_OWNER, u64::from(owner));
    m.set(MtrcCap::TRACE_TO_MEMORY, 1);
    m.set(MtrcCap::NUM_STRING_DB, 1);
    m.set(MtrcCap::FIRST_STRING_TRACE, u64::from(FIRST_EVENT));
    m.set(
        MtrcCap::NUM_STRING_TRACE,
        crate::limits::MAX_FUNCTIONS as u64,
    );
    m.set(MtrcCap::LOG_MAX_TRACE_BUFFER_SIZE, u64::from(LOG_MAX_PAGES));
    let mut db = m.sub_mut(MtrcCap::STRING_DB_PARAM);
    db.set(MtrcStringDbParam::STRING_DB_BASE_ADDRESS, u64::from(BASE));
    db.set(
        MtrcStringDbParam::STRING_DB_SIZE,
        STRINGS.bytes.len() as u64,
    );
    Ok(())
}

/// Takes the tracer if nobody has it, or gives it back.
pub fn write_cap(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    let wanted = view::<MtrcCap>(given)?.flag(MtrcCap::TRACE_OWNER);
    if !wanted {
        if owns(ctx) {
            ctx.shared.tracer.release();
        }
    } else if ctx.shared.tracer.owner.is_none() {
        ctx.shared.tracer.owner = Some(Owner {
            function: ctx.f.id,
            generation: ctx.f.generation,
        });
    }
    Ok(())
}

/// The buffer in force.
pub fn read_conf(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let t = &ctx.shared.tracer;
    let mut m: ViewMut<'_, MtrcConf> = view_mut(image)?;
    m.set(
        MtrcConf::TRACE_MODE,
        if t.mkey == 0 { 0 } else { TO_MEMORY },
    );
    m.set(MtrcConf::LOG_TRACE_BUFFER_SIZE, u64::from(t.log_pages));
    m.set(MtrcConf::TRACE_MKEY, u64::from(t.mkey));
    Ok(())
}

/// Sets the buffer.
pub fn write_conf(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    owner_only(ctx)?;
    let v: View<'_, MtrcConf> = view(given)?;
    let log_pages = v.get(MtrcConf::LOG_TRACE_BUFFER_SIZE) as u8;
    if v.get(MtrcConf::TRACE_MODE) != TO_MEMORY || log_pages > LOG_MAX_PAGES {
        return Err(Syndrome::RegisterField.into());
    }
    let mkey = v.get(MtrcConf::TRACE_MKEY) as u32;
    let bytes = Tracer::buffer_bytes(log_pages) as usize;
    Region::of(&ctx.f.objects, mkey)
        .and_then(|r| r.pieces(r.start(), bytes))
        .ok_or(Syndrome::TracerMemory)?;
    ctx.shared.tracer.configure(mkey, log_pages);
    Ok(())
}

/// A part of the string database. Reading and writing are the same.
pub fn strings(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, MtrcStdb> = view(given)?;
    let from = v.get(MtrcStdb::START_OFFSET) as usize;
    let len = v.get(MtrcStdb::READ_SIZE) as usize;
    let part = from
        .checked_add(len)
        .and_then(|end| STRINGS.bytes.get(from..end));
    let to = image.get_mut(STDB_DATA..).and_then(|d| d.get_mut(..len));
    match (v.get(MtrcStdb::STRING_DB_INDEX), part, to) {
        (0, Some(part), Some(to)) => to.copy_from_slice(part),
        _ => return Err(Syndrome::RegisterField.into()),
    }
    Ok(())
}

/// Whether it is on, and its clock.
pub fn read_ctrl(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let ticks = iseg::ticks(ctx.profile, ctx.now);
    let mut m: ViewMut<'_, MtrcCtrl> = view_mut(image)?;
    m.set(MtrcCtrl::TRACE_STATUS, u64::from(ctx.shared.tracer.on));
    m.set(MtrcCtrl::CURRENT_TIMESTAMP52_32, ticks >> 32);
    m.set(MtrcCtrl::CURRENT_TIMESTAMP31_0, ticks & 0xffff_ffff);
    Ok(())
}

/// Switches it on or off, and asks for an event.
pub fn write_ctrl(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    owner_only(ctx)?;
    let v: View<'_, MtrcCtrl> = view(given)?;
    let status = v.get(MtrcCtrl::TRACE_STATUS);
    let tracer = &mut ctx.shared.tracer;
    if v.get(MtrcCtrl::MODIFY_FIELD_SELECT) & TRACE_STATUS != 0 {
        if status > 1 {
            return Err(Syndrome::RegisterField.into());
        }
        if status == 1 && tracer.mkey == 0 {
            return Err(Syndrome::TracerMemory.into());
        }
        tracer.on = status == 1;
    }
    if v.flag(MtrcCtrl::ARM_EVENT) && tracer.arm(ctx.shared.reset.busy()) {
        ctx.f.raise(Event::tracer(subtype::TRACES_AVAILABLE));
    }
    Ok(())
}

/// Writes a core dump as lines of the trace.
pub fn write_core_dump(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    let offered = ctx
        .cap_view::<DebugCap>(cap_type::DEBUG)
        .is_some_and(|v| v.flag(DebugCap::CORE_DUMP_GENERAL));
    if view::<CoreDumpReg>(given)?.get(CoreDumpReg::CORE_DUMP_TYPE) != GENERAL || !offered {
        return Err(Refusal::from(Syndrome::RegisterField));
    }
    owner_only(ctx)?;
    ctx.shared.tracer.dump = true;
    Ok(())
}
