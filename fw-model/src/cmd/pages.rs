// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QUERY_PAGES and MANAGE_PAGES.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{ManagePagesIn, ManagePagesOut, QueryPagesIn, QueryPagesOut},
};

use super::{Ctx, Done, view, view_mut};
use crate::{
    function::{
        State,
        pages::{MARK_BYTES, mark},
    },
    syndrome::Syndrome,
};

/// QUERY_PAGES op_mod: pages for boot.
const BOOT_PAGES: u16 = 1;
/// QUERY_PAGES op_mod: pages for INIT_HCA.
const INIT_PAGES: u16 = 2;
/// QUERY_PAGES op_mod: pages wanted while up.
const REGULAR_PAGES: u16 = 3;

/// MANAGE_PAGES op_mod: the driver has none to give.
const CANT_GIVE: u16 = 0;
/// MANAGE_PAGES op_mod: the driver gives pages.
const GIVE: u16 = 1;
/// MANAGE_PAGES op_mod: the driver takes pages back.
const TAKE: u16 = 2;

/// Bytes before the page list, of inbox and outbox alike.
const LIST_OFFSET: usize = 16;

/// QUERY_PAGES: how many are wanted and not there yet.
pub fn query(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, QueryPagesIn> = view(ctx.inbox)?;
    ctx.own_function(v.get(QueryPagesIn::FUNCTION_ID))?;
    let wanted = match ctx.op_mod {
        BOOT_PAGES => i64::from(ctx.f.pages.missing_boot()),
        INIT_PAGES => i64::from(ctx.f.pages.missing_init()),
        REGULAR_PAGES => i64::from(ctx.f.pages.balance()),
        _ => return Err(Syndrome::UnsupportedOpMod.into()),
    };
    let mut o: ViewMut<'_, QueryPagesOut> = view_mut(out)?;
    // A signed number: negative for pages to take back.
    o.set(QueryPagesOut::NUM_PAGES, wanted as u64);
    Ok(())
}

/// MANAGE_PAGES: gives pages, takes them back, or says that there are none.
pub fn manage(ctx: &mut Ctx<'_>, out: &mut [u8]) -> Done {
    let v: View<'_, ManagePagesIn> = view(ctx.inbox)?;
    ctx.own_function(v.get(ManagePagesIn::FUNCTION_ID))?;
    let count = v.get(ManagePagesIn::INPUT_NUM_ENTRIES) as usize;
    match ctx.op_mod {
        CANT_GIVE => {
            ctx.f.pages.cannot_give();
            Ok(())
        }
        GIVE => {
            let list = ctx.inbox.get(LIST_OFFSET..).unwrap_or_default();
            let (list, _) = list.as_chunks();
            if list.len() < count {
                return Err(Syndrome::InboxTooShort.into());
            }
            let pages = list.iter().take(count).map(|p| u64::from_be_bytes(*p));
            ctx.f.pages.give(pages.clone())?;
            ctx.marks.extend(pages);
            Ok(())
        }
        TAKE => {
            let room = out.len().saturating_sub(LIST_OFFSET) / 8;
            if room < count {
                return Err(Syndrome::OutboxTooShort.into());
            }
            // A function that is up needs what it holds; before INIT_HCA and after TEARDOWN_HCA
            // it needs none of it.
            let keep = match ctx.f.state {
                State::Up => ctx.f.pages.target(),
                State::Enabled | State::Disabled => 0,
            };
            let (head, list) = out.split_at_mut(LIST_OFFSET);
            let mut slots = list.chunks_exact_mut(8);
            let mem = ctx.mem;
            let mut damaged = 0;
            let n = ctx.f.pages.take(count as u32, keep, |addr| {
                let mut found = [0; MARK_BYTES];
                if mem.read(addr, &mut found).is_err() || found != mark(addr) {
                    damaged += 1;
                }
                if let Some(slot) = slots.next() {
                    slot.copy_from_slice(&addr.to_be_bytes());
                }
            });
            ctx.f.pages_damaged(damaged);
            let mut o: ViewMut<'_, ManagePagesOut> = view_mut(head)?;
            o.set(ManagePagesOut::OUTPUT_NUM_ENTRIES, u64::from(n));
            Ok(())
        }
        _ => Err(Syndrome::UnsupportedOpMod.into()),
    }
}
