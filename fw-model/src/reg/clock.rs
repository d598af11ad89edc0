// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MRTC: the real time clock, which a driver sets.

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::MrtcReg,
};

use crate::{
    cmd::{Ctx, Done, view, view_mut},
    time::Time,
};

/// The clock of a card: what a driver set it to, and when. Until then it counts from power on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Clock {
    /// Microseconds.
    set: u64,
    at: Time,
    /// A driver set it.
    synced: bool,
}

impl Clock {
    /// Microseconds that it shows.
    fn micros(&self, now: Time) -> u64 {
        let since = now.since(self.at).as_micros();
        self.set
            .wrapping_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// MRTC: the time, and whether anybody set it.
pub fn read(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let clock = ctx.shared.clock;
    let micros = clock.micros(ctx.now);
    let mut m: ViewMut<'_, MrtcReg> = view_mut(image)?;
    m.set(MrtcReg::TIME_SYNCED, u64::from(clock.synced));
    m.set(MrtcReg::TIME_H, micros >> 32);
    m.set(MrtcReg::TIME_L, micros & u64::from(u32::MAX));
    Ok(())
}

/// MRTC: the clock is set.
pub fn write(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    let v: View<'_, MrtcReg> = view(given)?;
    ctx.shared.clock = Clock {
        set: v.get(MrtcReg::TIME_H) << 32 | v.get(MrtcReg::TIME_L),
        at: ctx.now,
        synced: true,
    };
    Ok(())
}
