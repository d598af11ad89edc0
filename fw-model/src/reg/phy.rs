// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the lanes of the port and its module tell, besides PDDR: registers that are kept as stores,
//! and of which some fields follow the model.
//!
//! There is no signal: a link that is up has open eyes, and a test pattern is found by a receiver that
//! is looped back to a transmitter that sends the same one.

use fwctl_proto::{
    layout::View,
    layouts::{MpeinReg, PplrReg},
    mst, register,
};

use super::{
    look, module,
    ports::{PPLR, up},
    put, stored, take,
};
use crate::{
    cmd::{Ctx, Done, view},
    syndrome::Syndrome,
    vpd,
};

const SLTP: u16 = 0x5027;
const SLRG: u16 = 0x5028;
const PPTT: u16 = 0x5036;
const PPRT: u16 = 0x5037;
const PMDR: u16 = 0x503c;
const PPHCR: u16 = 0x503e;
const PPAOS: u16 = 0x5040;
const PPCR: u16 = 0x504c;
const PMPT: u16 = 0x5064;
const PEMI: u16 = 0x5075;
const MSGI: u16 = 0x9021;
const MVTS: u16 = 0x902c;
const MTMR: u16 = 0x910e;

/// `pnat`: the link to the host is meant, not the port.
const PCI: u64 = 3;
/// `pemi.status`: there is no module.
const NOT_CONNECTED: u64 = 3;
/// Byte offset of the time in MVTS, the most significant first: year, month, day, hour, minute, second.
const MVTS_TIME: usize = 12;

/// `pplr_reg.lb_en`: the PHY hears itself.
const PHY_LOCAL: u64 = 1 << 1;
/// `prbs_rx_tuning_status`: done.
const TUNED: u64 = 2;
/// An open eye: its grade, and its halves in millivolts and picoseconds (our cable's).
const GRADE: u64 = 4000;
const HALF_HEIGHT: u64 = 100;
const HALF_PHASE: u64 = 10;

/// Refuses a write; what it begins is put into the image that is kept. Gets what was written, what was
/// kept before, and what is kept if nothing is said against it.
type Write = fn(&[u8], &[u8], &mut [u8]) -> Result<(), Syndrome>;

/// What the model adds to a store.
pub struct Meaning {
    id: u16,
    /// Refuses what names a part that is not there.
    part: fn(&Ctx<'_>, &[u8]) -> Result<(), Syndrome>,
    write: Write,
    /// Fills in what follows from the model. Gets what was sent.
    read: Read,
}

type Read = fn(&mut Ctx<'_>, &[u8], &mut [u8]) -> Done;

impl Meaning {
    const fn of(id: u16) -> Self {
        Self {
            id,
            part: |_, _| Ok(()),
            write: |_, _, _| Ok(()),
            read: |_, _, _| Ok(()),
        }
    }

    const fn part(mut self, part: fn(&Ctx<'_>, &[u8]) -> Result<(), Syndrome>) -> Self {
        self.part = part;
        self
    }

    const fn write(mut self, write: Write) -> Self {
        self.write = write;
        self
    }

    const fn read(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    /// Refuses a part that is not there.
    pub(super) fn check(&self, ctx: &Ctx<'_>, given: &[u8]) -> Result<(), Syndrome> {
        (self.part)(ctx, given)
    }

    /// What a write does besides being kept.
    pub(super) fn written(
        &self,
        given: &[u8],
        before: &[u8],
        image: &mut [u8],
    ) -> Result<(), Syndrome> {
        (self.write)(given, before, image)
    }

    /// What is shown besides what is kept.
    pub(super) fn show(&self, ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
        (self.read)(ctx, given, image)
    }
}

/// The stores that follow the model in part.
static MEANINGS: &[Meaning] = &[
    Meaning::of(SLTP)
        .part(|ctx, g| lane(SLTP, ctx, g))
        .read(transmitter),
    Meaning::of(SLRG)
        .part(|ctx, g| lane(SLRG, ctx, g))
        .read(eye),
    Meaning::of(PPTT)
        .part(|ctx, g| lane(PPTT, ctx, g))
        .write(|given, _, image| pattern(PPTT, given, image)),
    Meaning::of(PPRT)
        .part(|ctx, g| lane(PPRT, ctx, g))
        .write(tune)
        .read(receiver),
    Meaning::of(PMDR).read(wiring),
    Meaning::of(PPHCR).read(|ctx, _, image| {
        // Nothing is corrected where there is no link.
        if !up(ctx) {
            put(image, PPHCR, "active_hist_type", [0]);
        }
        Ok(())
    }),
    Meaning::of(PPAOS).write(|given, _, image| {
        let mode = take(given, PPAOS, "phy_test_mode_admin");
        put(image, PPAOS, "phy_test_mode_status", [mode]);
        let status = take(given, PPAOS, "phy_status_admin");
        put(image, PPAOS, "phy_status", [status]);
        Ok(())
    }),
    // The ports have one plane each.
    Meaning::of(PPCR).write(|given, _, _| {
        let planes = ["plane", "aggregated_port"].map(|name| take(given, PPCR, name));
        (planes == [0, 0])
            .then_some(())
            .ok_or(Syndrome::RegisterField)
    }),
    Meaning::of(PMPT).part(|ctx, g| own_module(PMPT, ctx, g)),
    // A passive cable monitors nothing: there are no groups.
    Meaning::of(PEMI).read(|ctx, _, image| {
        let there = ctx.shared.port(ctx.f.id).cable;
        let status = if there { 0 } else { NOT_CONNECTED };
        put(image, PEMI, "status", [status]);
        Ok(())
    }),
    Meaning::of(MSGI).read(board),
    Meaning::of(MVTS).write(stamp).read(stamped),
    Meaning::of(MTMR).part(|ctx, g| own_module(MTMR, ctx, g)),
];

/// What the model adds to the store with this id.
#[must_use]
pub fn meaning(id: u16) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|m| m.id == id)
}

/// True if the link to the host is meant.
fn is_pci(id: u16, given: &[u8]) -> bool {
    take(given, id, "pnat") == PCI
}

fn lane(id: u16, ctx: &Ctx<'_>, given: &[u8]) -> Result<(), Syndrome> {
    let link = ctx.profile.register(register::MPEIN).and_then(View::new);
    let width = link.map(|v: View<'_, MpeinReg>| v.get(MpeinReg::LINK_WIDTH_ACTIVE));
    let lanes = match width {
        Some(width) if is_pci(id, given) => width,
        _ => module::LANES,
    };
    if take(given, id, "lane") < lanes {
        Ok(())
    } else {
        Err(Syndrome::RegisterField)
    }
}

fn own_module(id: u16, ctx: &Ctx<'_>, given: &[u8]) -> Result<(), Syndrome> {
    module::own(ctx, take(given, id, "module")).map(drop)
}

/// A test pattern that the lane can.
fn pattern(id: u16, given: &[u8], image: &[u8]) -> Result<(), Syndrome> {
    let wanted = take(given, id, "prbs_mode_admin");
    let can = take(image, id, "prbs_modes_cap");
    // A profile that says nothing of patterns has none to refuse.
    if can == 0 || (wanted < 32 && can & 1 << wanted != 0) {
        Ok(())
    } else {
        Err(Syndrome::RegisterField)
    }
}

/// PPRT: a receiver is set to a pattern, or, if `s` says so, tuned to the one that it is set to: a tool
/// that asks for that gives no pattern.
fn tune(given: &[u8], before: &[u8], image: &mut [u8]) -> Result<(), Syndrome> {
    let start = take(given, PPRT, "s") == 1;
    if start {
        image.copy_from_slice(before);
    }
    let status = if start { TUNED } else { 0 };
    put(image, PPRT, "prbs_rx_tuning_status", [status]);
    pattern(PPRT, image, image)
}

/// True if the port sends test patterns.
fn is_tested(ctx: &Ctx<'_>) -> bool {
    kept(ctx, PPAOS, &[]).is_some_and(|i| take(i, PPAOS, "phy_test_mode_status") == 1)
}

/// What is kept for the part of a store that `index` chooses; other index fields are 0.
fn kept<'a>(ctx: &'a Ctx<'_>, id: u16, index: &[(&str, u64)]) -> Option<&'a [u8]> {
    let bytes = mst::find(id)?.layout.bytes();
    let mut part = vec![0; bytes];
    for (name, value) in index {
        put(&mut part, id, name, [*value]);
    }
    let key: stored::Part = (id, part.into_boxed_slice());
    ctx.f.registers.stored.get(&key).map(|b| &**b)
}

/// SLTP: what the transmitters are set to is in force while they send.
fn transmitter(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let sends = is_pci(SLTP, given) || up(ctx) || is_tested(ctx);
    put(image, SLTP, "status", [u64::from(sends)]);
    Ok(())
}

/// SLRG: how open the receivers' eyes are.
fn eye(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    // Whoever asks is at the other end of the link to the host.
    if !is_pci(SLRG, given) && !up(ctx) {
        return Ok(());
    }
    put(image, SLRG, "status", [1]);
    for (field, value) in [
        ("grade", GRADE),
        ("height_eo_pos", HALF_HEIGHT),
        ("height_eo_neg", HALF_HEIGHT),
        ("phase_eo_pos", HALF_PHASE),
        ("phase_eo_neg", HALF_PHASE),
    ] {
        let name = format!("page_data.slrg_40nm_28nm_ext.{field}");
        put(image, SLRG, &name, [value]);
    }
    Ok(())
}

/// PPRT: a receiver that hears its own transmitter finds the pattern that it looks for.
fn receiver(ctx: &mut Ctx<'_>, _: &[u8], image: &mut [u8]) -> Done {
    let pplr = look(ctx, PPLR)?;
    let pplr: View<'_, PplrReg> = view(&pplr)?;
    let looped = pplr.get(PplrReg::LB_EN) & PHY_LOCAL != 0;
    let sent = kept(ctx, PPTT, &[]).map_or((0, 0), |i| {
        (take(i, PPTT, "e"), take(i, PPTT, "prbs_mode_admin"))
    });
    let wanted = (1, take(image, PPRT, "prbs_mode_admin"));
    let listens = take(image, PPRT, "e") == 1;
    let locked = is_tested(ctx) && looped && listens && sent == wanted;
    let lanes = (1 << module::LANES) - 1;
    let status = if locked { lanes } else { 0 };
    put(image, PPRT, "prbs_lock_status", [status]);
    Ok(())
}

/// PMDR: lane n of the port is lane n of the module.
fn wiring(ctx: &mut Ctx<'_>, _: &[u8], image: &mut [u8]) -> Done {
    let number = u64::from(ctx.f.id.0);
    put(image, PMDR, "module", [number]);
    put(image, PMDR, "pport", [number]);
    put(image, PMDR, "module_lane_mask", [(1 << module::LANES) - 1]);
    for n in 0..module::LANES {
        for side in ["rx", "tx"] {
            let name = format!("lane{n}_physical_{side}");
            put(image, PMDR, &name, [n]);
        }
    }
    Ok(())
}

/// MSGI: the board, as its vital product data have it.
fn board(ctx: &mut Ctx<'_>, _: &[u8], image: &mut [u8]) -> Done {
    let p = ctx.profile;
    for (field, text) in [
        ("serial_number", vpd::serial_number(p)),
        ("part_number", vpd::part_number(p)),
        ("revision", vpd::REVISION.into()),
        ("product_name", p.description.clone()),
    ] {
        let mut bytes = text.into_bytes();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let dwords = bytes.chunks(4);
        let dwords = dwords.map(|d| d.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
        put(image, MSGI, field, dwords);
    }
    Ok(())
}

/// MVTS: a time stamp is kept for the next image, all are forgotten, or one is looked at: an image must
/// not be older than what is kept.
fn stamp(given: &[u8], before: &[u8], image: &mut [u8]) -> Result<(), Syndrome> {
    let flag = |name| take(given, MVTS, name) == 1;
    let time = |image: &[u8]| image.get(MVTS_TIME..).map(<[u8]>::to_vec);
    if flag("clear_all_ts_flag") {
        image.fill(0);
    } else if flag("check_timestamp_flag") {
        image.copy_from_slice(before);
        if time(given) < time(before) {
            return Err(Syndrome::RegisterField);
        }
    }
    Ok(())
}

/// MVTS: what was kept; nothing of the running image, as ours have no time. A version without a time would
/// let mstflint refuse to burn ("No valid timestamp detected").
fn stamped(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    if take(given, MVTS, "running_flag") == 1 {
        image.fill(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_to_is_a_store() {
        for m in MEANINGS {
            let id = m.id;
            assert!(super::super::find(id).is_none(), "{id:#x} is in the table");
            assert!(mst::find(id).is_some(), "{id:#x} is in no database");
        }
    }
}
