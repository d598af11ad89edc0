// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! MCC, MCDA, MIRC and MLOCK: firmware components are updated (docs/firmware-update.md).

use fwctl_proto::{
    layout::{View, ViewMut},
    layouts::{MccReg, McdaReg, MircReg},
};

use super::flash::swapped;
use crate::{
    cmd::{Ctx, Done, view, view_mut},
    firmware::{BOOT_IMAGE, COMPONENTS, Firmware, update::State},
    syndrome::Syndrome,
};

/// Bytes of data in an MCDA.
pub const MCDA_DATA: usize = 128;
/// Byte offset of the data.
const DATA: usize = 16;
/// Bytes of MCDA.
pub const MCDA_BYTES: usize = DATA + MCDA_DATA;

/// MLOCK: who may access the flash directly.
pub const MLOCK: u16 = 0x402d;
/// Bytes of MLOCK.
pub const MLOCK_BYTES: usize = 16;

/// `MCC.instruction` (`enum mlxsw_reg_mcc_instruction`, and those that only the tools know).
mod instruction {
    pub const LOCK_UPDATE_HANDLE: u64 = 1;
    pub const RELEASE_UPDATE_HANDLE: u64 = 2;
    pub const UPDATE_COMPONENT: u64 = 3;
    pub const VERIFY_COMPONENT: u64 = 4;
    pub const ACTIVATE: u64 = 6;
    pub const READ_COMPONENT: u64 = 7;
    pub const CANCEL: u64 = 8;
    pub const CHECK_UPDATE_HANDLE: u64 = 9;
    pub const FORCE_HANDLE_RELEASE: u64 = 0xa;
    pub const READ_PENDING_COMPONENT: u64 = 0xb;
}

/// MCC: an instruction.
pub fn write_mcc(ctx: &mut Ctx<'_>, given: &[u8], _image: &mut [u8]) -> Done {
    use instruction as i;
    let v: View<'_, MccReg> = view(given)?;
    let index = v.get(MccReg::COMPONENT_INDEX) as u16;
    let handle = v.get(MccReg::UPDATE_HANDLE) as u32;
    let size = v.get(MccReg::COMPONENT_SIZE) as usize;
    let (p, now) = (ctx.profile, ctx.now);
    let fw = &mut ctx.shared.firmware;
    let kind = COMPONENTS.get(usize::from(index));
    let kind = kind.ok_or(Syndrome::UpdateComponent);
    let mut owner = |states: &[State]| fw.update.owner(handle, states, now);
    let any = [
        State::Locked,
        State::Initialize,
        State::Download,
        State::Activate,
        State::Upload,
    ];
    let takes = p.timeouts.update();
    match v.get(MccReg::INSTRUCTION) {
        i::LOCK_UPDATE_HANDLE => fw.update.lock(handle, now)?,
        i::RELEASE_UPDATE_HANDLE => {
            // Of an idle one this says nothing new.
            if fw.update.state(now) != State::Idle {
                fw.update.owner(handle, &any, now)?;
                fw.update.release();
            }
        }
        i::FORCE_HANDLE_RELEASE => fw.update.release(),
        i::CHECK_UPDATE_HANDLE => owner(&any)?,
        i::CANCEL => {
            owner(&any)?;
            fw.update.cancel();
        }
        i::UPDATE_COMPONENT => {
            let kind = kind?;
            owner(&[State::Locked])?;
            if size == 0 || size > kind.most {
                return Err(Syndrome::UpdateRange.into());
            }
            fw.update.download(index, size);
            fw.update.passes(State::Initialize, now, takes);
        }
        i::VERIFY_COMPONENT => {
            owner(&[State::Download])?;
            if fw.update.incoming() != Some(index) {
                return Err(Syndrome::UpdateComponent.into());
            }
            let nv = &ctx.shared.nv;
            fw.update.verify(|c| Firmware::judge(p, nv, c));
        }
        i::ACTIVATE => {
            owner(&[State::Locked])?;
            if !fw.activate(p, &mut ctx.batch) {
                return Err(Syndrome::UpdateState.into());
            }
            fw.update.passes(State::Activate, now, takes);
        }
        which @ (i::READ_COMPONENT | i::READ_PENDING_COMPONENT) => {
            let kind = kind?;
            owner(&[State::Locked])?;
            let running = fw.running.slot;
            let bytes = match (index, which) {
                (BOOT_IMAGE, i::READ_COMPONENT) => fw.flash.slot(p, running),
                (BOOT_IMAGE, _) => {
                    let pending = fw.pending(p).ok_or(Syndrome::UpdateComponent)?;
                    fw.flash.slot(p, pending.slot)
                }
                _ => {
                    let there = fw.components.get(&kind.identifier);
                    there.cloned().ok_or(Syndrome::UpdateComponent)?
                }
            };
            fw.update.upload(bytes);
        }
        _ => return Err(Syndrome::RegisterField.into()),
    }
    Ok(())
}

/// MCC: state, error code, and the handle of the owner or for the next one.
pub fn read_mcc(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let u = &mut ctx.shared.firmware.update;
    let state = u.state(ctx.now);
    let idle = u.idle_for(ctx.now).as_secs().min(0xfff);
    let incoming = u.incoming().unwrap_or(0);
    let mut m: ViewMut<'_, MccReg> = view_mut(image)?;
    m.set(MccReg::CONTROL_STATE, state as u64);
    m.set(MccReg::CONTROL_PROGRESS, u64::from(u.progress(ctx.now)));
    m.set(MccReg::ERROR_CODE, u.rejected as u64);
    m.set(MccReg::UPDATE_HANDLE, u64::from(u.handle()));
    m.set(MccReg::COMPONENT_INDEX, u64::from(incoming));
    m.set(
        MccReg::TIME_ELAPSED_SINCE_LAST_CMD,
        if state == State::Idle { 0 } else { idle },
    );
    Ok(())
}

/// MCDA: bytes of a component come in.
pub fn write_mcda(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    let v: View<'_, McdaReg> = view(given)?;
    let handle = v.get(McdaReg::UPDATE_HANDLE) as u32;
    let size = v.get(McdaReg::SIZE) as usize;
    let offset = v.get(McdaReg::OFFSET) as usize;
    let carried = ctx.inbox.len().saturating_sub(super::DATA);
    let data = given.get(DATA..DATA + size);
    let data = data.filter(|_| carried >= DATA + size);
    let data = data.ok_or(Syndrome::UpdateRange)?;
    let u = &mut ctx.shared.firmware.update;
    u.owner(handle, &[State::Download], ctx.now)?;
    u.data(offset, &swapped(data))?;
    for (to, from) in image.iter_mut().zip(given) {
        *to = *from;
    }
    Ok(())
}

/// MCDA: bytes of a component go out; behind its end are zeros.
pub fn read_mcda(ctx: &mut Ctx<'_>, given: &[u8], image: &mut [u8]) -> Done {
    if ctx.op_mod == super::WRITE {
        return Ok(());
    }
    let v: View<'_, McdaReg> = view(given)?;
    let handle = v.get(McdaReg::UPDATE_HANDLE) as u32;
    let size = v.get(McdaReg::SIZE) as usize;
    let offset = v.get(McdaReg::OFFSET) as usize;
    if size > MCDA_DATA {
        return Err(Syndrome::UpdateRange.into());
    }
    let u = &mut ctx.shared.firmware.update;
    u.owner(handle, &[State::Upload], ctx.now)?;
    for (to, from) in image.iter_mut().zip(given.iter().take(DATA)) {
        *to = *from;
    }
    let from = u.outgoing.iter().skip(offset).take(size);
    let mut bytes: Vec<u8> = from.copied().collect();
    bytes.resize(size.next_multiple_of(4), 0);
    for (to, byte) in image.iter_mut().skip(DATA).zip(swapped(&bytes)) {
        *to = byte;
    }
    Ok(())
}

/// `MIRC.status_code`: what runs was to start next already.
const ALREADY_ACTIVATED: u64 = 7;

/// MIRC: an update that was activated and not started is taken back.
pub fn write_mirc(ctx: &mut Ctx<'_>, _given: &[u8], image: &mut [u8]) -> Done {
    let fw = &mut ctx.shared.firmware;
    let done = fw.reactivate(ctx.profile, &mut ctx.batch);
    let mut m: ViewMut<'_, MircReg> = view_mut(image)?;
    m.set(
        MircReg::STATUS_CODE,
        if done { 0 } else { ALREADY_ACTIVATED },
    );
    Ok(())
}
