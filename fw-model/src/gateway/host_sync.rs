// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Hosts that share a card agree on a reset of its firmware (MH_SYNC of ICMD). This card has one host, to
//! which all of its functions belong: it agrees with itself.
//!
//! The mailbox is laid out as the tools' library sends it (`connectx4_icmd_mh_sync` of mstflint): what is asked
//! in the first dword, and the answer in the three behind it. How the steps follow one another is what
//! `mstfwreset` expects of a card with one host: GET_READY twice, then GO.

use fwctl_proto::layout::{get_bits, set_bits};

use super::icmd::Status;
use crate::{Time, card::Shared};

/// `state`, in the dword of what is asked and in that of the answer.
const STATE: (u32, u32) = (28, 4);
/// `sync_type`: what is to be done together.
const SYNC_TYPE: (u32, u32) = (16, 8);
const FW_RESET: u8 = 1;
/// `ignore_inactive_hosts`.
const IGNORE_INACTIVE: (u32, u32) = (0, 1);
/// `fsm_host_ready`: a bit for each host that the others wait for.
const HOST_READY: (u32, u32) = (92, 4);
/// `fsm_start_uptime`: microseconds from the firmware's start to the first GET_READY.
const START_UPTIME: (u32, u32) = (96, 32);
/// Where the dword of the answer begins, and what follows it ends; in bits.
const ANSWER: u32 = 32;
const END: u32 = 128;

/// Where the hosts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
enum State {
    #[default]
    Idle = 0,
    /// The first host asked.
    GetReady = 1,
    /// All of them asked.
    Go = 2,
}

/// The hosts' agreement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostSync {
    state: State,
    ignore_inactive: bool,
    /// The host did what it has to do before.
    done: bool,
    start_uptime: u32,
}

/// MH_SYNC: the next step, and then MH_SYNC_STATUS.
pub(super) fn step(mailbox: &mut [u8], shared: &mut Shared, now: Time) -> Status {
    let asked = get_bits(mailbox, STATE.0, STATE.1);
    let kind = get_bits(mailbox, SYNC_TYPE.0, SYNC_TYPE.1) as u8;
    let ignore = get_bits(mailbox, IGNORE_INACTIVE.0, IGNORE_INACTIVE.1) == 1;
    let uptime = shared.health.uptime(now).as_micros() as u32;
    let s = &mut shared.sync;
    match (s.state, asked) {
        (_, 0) => *s = HostSync::default(),
        _ if kind != FW_RESET => return Status::BadParameter,
        (State::Idle, 1) => {
            *s = HostSync {
                state: State::GetReady,
                ignore_inactive: ignore,
                done: false,
                start_uptime: uptime,
            }
        }
        (State::GetReady, 1) => s.state = State::Go,
        (State::Go, 2) => s.done = true,
        _ => return Status::BadParameter,
    }
    status(mailbox, shared, now)
}

/// MH_SYNC_STATUS: where the hosts are.
pub(super) fn status(mailbox: &mut [u8], shared: &mut Shared, _: Time) -> Status {
    let s = shared.sync;
    let is_on = s.state != State::Idle;
    let mut put = |at: u32, width: u32, value: u64| set_bits(mailbox, at, width, value);
    for at in (ANSWER..END).step_by(32) {
        put(at, 32, 0);
    }
    put(ANSWER + STATE.0, STATE.1, s.state as u64);
    let kind = u64::from(is_on) * u64::from(FW_RESET);
    put(ANSWER + SYNC_TYPE.0, SYNC_TYPE.1, kind);
    let ignore = u64::from(s.ignore_inactive);
    put(ANSWER + IGNORE_INACTIVE.0, IGNORE_INACTIVE.1, ignore);
    put(HOST_READY.0, HOST_READY.1, u64::from(is_on && !s.done));
    put(START_UPTIME.0, START_UPTIME.1, s.start_uptime.into());
    Status::Ok
}
