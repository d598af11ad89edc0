// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Registers of priorities: what is trusted, and the priority of each DSCP.

use fwctl_proto::{
    layout::{Layout as _, View, ViewMut},
    layouts::{QpdpmDscpReg, QpdpmReg, QptsReg},
};

use crate::{
    cmd::{Ctx, Done, view, view_mut},
    syndrome::Syndrome,
};

/// `trust_state`: PCP, DSCP.
const TRUST: [u64; 2] = [1, 2];
/// Entries of QPDPM.
const DSCPS: usize = 64;

/// QPTS: what a packet's priority is taken from.
pub fn write_trust(_: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    let v: View<'_, QptsReg> = view(given)?;
    if TRUST.contains(&v.get(QptsReg::TRUST_STATE)) {
        Ok(())
    } else {
        Err(Syndrome::RegisterField.into())
    }
}

/// QPDPM: the priorities of the DSCPs whose entry is marked.
pub fn write_dscp(_: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let at = |i: usize| QpdpmReg::DSCP.byte() + i * QpdpmDscpReg::BYTES;
    for i in 0..DSCPS {
        let Some(from) = given.get(at(i)..).and_then(View::<QpdpmDscpReg>::new) else {
            break;
        };
        let Some(to) = image.get_mut(at(i)..) else {
            break;
        };
        if from.flag(QpdpmDscpReg::E) {
            let mut to: ViewMut<'_, QpdpmDscpReg> = view_mut(to)?;
            to.set(QpdpmDscpReg::PRIO, from.get(QpdpmDscpReg::PRIO));
        }
    }
    Ok(())
}
