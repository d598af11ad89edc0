// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MCAM, PCAM and QCAM: which registers there are, as the register table and the profile say, and
//! which features, as the profile says.

use fwctl_proto::layout::set_bits;

use super::REGISTERS;
use crate::{
    cmd::{Ctx, Done},
    profile::Profile,
};

/// Bytes of the two fields that say which group is meant.
const FEATURE_GROUP: usize = 1;
const ACCESS_GROUP: usize = 3;
/// Byte offset of the mask of registers; it has 128 bits, the last of them for the group's first.
const ACCESS_MASK: usize = 8;
/// Byte offset of the mask of features.
const FEATURE_MASK: usize = 0x28;
const MASK_BYTES: usize = 16;
const GROUP: u16 = 128;
/// Feature of MCAM that the header does not name: drivers are asked before a reset.
const RESET_BY_DRIVERS: u32 = 19;

/// First register id of each group, by the register that describes them.
const MANAGEMENT: &[u16] = &[0x9000, 0x9080, 0x9100, 0x9180];
const PORTS: &[u16] = &[0x5000];
const QOS: &[u16] = &[0x4000];

/// MCAM.
pub fn read_mcam(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    read(ctx, MANAGEMENT, given, image)?;
    let first = given.get(FEATURE_GROUP).copied().unwrap_or(0) == 0;
    if first && super::reset::asks_drivers(ctx)? {
        let bit = FEATURE_MASK as u32 * 8 + u32::from(GROUP) - 1 - RESET_BY_DRIVERS;
        set_bits(image, bit, 1, 1);
    }
    Ok(())
}

/// PCAM.
pub fn read_pcam(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    read(ctx, PORTS, given, image)
}

/// QCAM.
pub fn read_qcam(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    read(ctx, QOS, given, image)
}

#[allow(clippy::unnecessary_wraps)]
fn read(ctx: &Ctx<'_>, groups: &[u16], given: &[u8], image: &mut [u8]) -> Done {
    let byte = |at: usize| given.get(at).copied().unwrap_or(0);
    if let Some(mask) = image.get_mut(ACCESS_MASK..ACCESS_MASK + MASK_BYTES) {
        mask.fill(0);
        if let Some(first) = groups.get(usize::from(byte(ACCESS_GROUP))) {
            registers(ctx.profile, *first, mask);
        }
    }
    // A profile describes the features of group 0.
    if byte(FEATURE_GROUP) != 0
        && let Some(mask) = image.get_mut(FEATURE_MASK..FEATURE_MASK + MASK_BYTES)
    {
        mask.fill(0);
    }
    Ok(())
}

/// Sets the bits of the registers from `first` on that there are.
fn registers(profile: &Profile, first: u16, mask: &mut [u8]) {
    let known = REGISTERS.iter().map(|r| r.id);
    let known = known.filter(|id| profile.has_register(*id));
    let added = profile.overlay.iter().flat_map(|o| o.register_ids());
    for id in known.chain(added) {
        if let Some(n) = id.checked_sub(first).filter(|n| *n < GROUP) {
            set_bits(mask, u32::from(GROUP - 1 - n), 1, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fwctl_proto::{
        layout::View,
        layouts::{McamAccessReg, PcamRegs5000To507f, QcamAccessRegCapMask},
        register as id,
    };

    /// The bits that the header names are those of the registers that it names them after.
    #[test]
    fn bits_are_where_the_header_has_them() {
        let all = |first| {
            let p = Profile::builtin("connectx7").unwrap();
            let mut mask = [0; MASK_BYTES];
            registers(&p, first, &mut mask);
            mask
        };
        let m = all(0x9000);
        let v = View::<McamAccessReg>::new(&m).unwrap();
        assert!(v.flag(McamAccessReg::MFRL) && v.flag(McamAccessReg::MTMP));
        assert!(v.flag(McamAccessReg::MPIR) && v.flag(McamAccessReg::MRTC));
        assert!(!v.flag(McamAccessReg::MTUTC), "which is not in the table");
        let m = all(0x5000);
        let v = View::<PcamRegs5000To507f>::new(&m).unwrap();
        assert!(v.flag(PcamRegs5000To507f::PPLM) && v.flag(PcamRegs5000To507f::PPCNT));
        assert!(!v.flag(PcamRegs5000To507f::PBMC));
        let m = all(0x4000);
        let v = View::<QcamAccessRegCapMask>::new(&m).unwrap();
        assert!(v.flag(QcamAccessRegCapMask::QPTS) && v.flag(QcamAccessRegCapMask::QPDPM));
        assert_eq!(REGISTERS.iter().filter(|r| r.id == id::MFRL).count(), 1);
    }
}
