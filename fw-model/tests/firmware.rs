// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Firmware components are updated as mlxfw and mstflint do it. Registers are laid out as
//! `mcc_reg`, `mcda_reg` and `mcqs_reg` of mlx5_ifc.h.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{
    Effect, Input, MemStore, Profile, Store, Time, Token,
    firmware::{flash::spec, fs4, update::SILENCE},
};
use fwctl_proto::opcode as op;

const READ: u16 = 1;
const WRITE: u16 = 0;
const MCC: u16 = 0x9062;
const MCDA: u16 = 0x9063;
const MCQS: u16 = 0x9060;
const MCQI: u16 = 0x9061;
const MIRC: u16 = 0x9162;
const LOCK: u8 = 1;
const RELEASE: u8 = 2;
const UPDATE: u8 = 3;
const VERIFY: u8 = 4;
const ACTIVATE: u8 = 6;
const UPLOAD: u8 = 7;
const CANCEL: u8 = 8;
const FORCE: u8 = 0xa;
const PENDING: u8 = 0xb;
const IDLE: u8 = 0;
const LOCKED: u8 = 1;
const INITIALIZE: u8 = 2;
const DOWNLOAD: u8 = 3;
const STATE_ACTIVATE: u8 = 6;
const BAD_STATE: u32 = 0x00e6_000f;
const BAD_HANDLE: u32 = 0x00e6_0010;
const BAD_COMPONENT: u32 = 0x00e6_0011;
const BAD_RANGE: u32 = 0x00e6_0012;

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

fn access(d: &mut Driver, id: u16, op_mod: u16, r: &[u8]) -> Result<Vec<u8>, u32> {
    let mut c = cmd(op::ACCESS_REG, op_mod, 16);
    c[10..12].copy_from_slice(&id.to_be_bytes());
    c.extend_from_slice(r);
    let reply = d.exec_any(&c, c.len());
    match reply.status() {
        0 => Ok(reply.out[16..].to_vec()),
        _ => Err(reply.syndrome()),
    }
}

/// MCC: state, error code, handle.
fn mcc(d: &mut Driver) -> (u8, u8, u32) {
    let r = access(d, MCC, READ, &[0; 32]).unwrap();
    let handle = u32::from_be_bytes(r[8..12].try_into().unwrap()) & 0xff_ffff;
    (r[15] & 0xf, r[14], handle)
}

fn instruct(d: &mut Driver, what: u8, index: u8, handle: u32, size: usize) -> Result<(), u32> {
    let mut r = [0; 32];
    r[3] = what;
    r[7] = index;
    r[8..12].copy_from_slice(&handle.to_be_bytes());
    r[16..20].copy_from_slice(&(size as u32).to_be_bytes());
    access(d, MCC, WRITE, &r).map(|_| ())
}

fn mcda(d: &mut Driver, op_mod: u16, handle: u32, at: usize, data: &[u8]) -> Result<Vec<u8>, u32> {
    let mut r = vec![0; 16];
    r[..4].copy_from_slice(&handle.to_be_bytes());
    r[4..8].copy_from_slice(&(at as u32).to_be_bytes());
    r[10..12].copy_from_slice(&(data.len() as u16).to_be_bytes());
    r.extend_from_slice(data);
    access(d, MCDA, op_mod, &r)
}

/// Dwords as tools and mlxfw send them: filled up, and their last byte first.
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let dword = |d: &[u8]| {
        let mut out = [0; 4];
        out[..d.len()].copy_from_slice(d);
        out.reverse();
        out
    };
    bytes.chunks(4).flat_map(dword).collect()
}

fn lock(d: &mut Driver) -> u32 {
    let (state, _, handle) = mcc(d);
    assert_eq!(state, IDLE);
    instruct(d, LOCK, 0, handle, 0).unwrap();
    assert_eq!(mcc(d), (LOCKED, 0, handle));
    handle
}

fn download(d: &mut Driver, handle: u32, index: u8, bytes: &[u8]) {
    instruct(d, UPDATE, index, handle, bytes.len()).unwrap();
    assert_eq!(mcc(d).0, DOWNLOAD);
    for (i, piece) in bytes.chunks(128).enumerate() {
        mcda(d, WRITE, handle, 128 * i, &swapped(piece)).unwrap();
    }
}

/// State and error code after verification.
fn verified(d: &mut Driver, handle: u32, index: u8, bytes: &[u8]) -> (u8, u8) {
    download(d, handle, index, bytes);
    instruct(d, VERIFY, index, handle, 0).unwrap();
    let (state, error, _) = mcc(d);
    (state, error)
}

fn image(version: [u16; 3]) -> Vec<u8> {
    fs4::build(&spec(&Profile::builtin("connectx7").unwrap(), version))
}

/// Running and pending version, and whether something is pending.
fn versions(d: &mut Driver) -> ([u8; 4], [u8; 4], bool) {
    let mut ask = [0; 148];
    (ask[11], ask[23]) = (1, 124);
    let version = |d: &mut Driver, ask: &[u8]| {
        let r = access(d, MCQI, READ, ask).unwrap();
        <[u8; 4]>::try_from(&r[28..32]).unwrap()
    };
    let running = version(d, &ask);
    ask[0] = 0x80;
    let pending = version(d, &ask);
    let state = access(d, MCQS, READ, &[0; 16]).unwrap()[11] & 0xf;
    assert!([0, 4].contains(&state));
    (running, pending, state == 4)
}

const OLD: [u8; 4] = [28, 43, 0x03, 0xf6];
const NEW: [u8; 4] = [28, 44, 0x03, 0xe8];

fn burn(d: &mut Driver) -> u32 {
    let handle = lock(d);
    assert_eq!(verified(d, handle, 0, &image([28, 44, 1000])), (LOCKED, 0));
    instruct(d, ACTIVATE, 0, handle, 0).unwrap();
    handle
}

#[test]
fn a_new_image_is_pending_until_the_firmware_starts_anew() {
    let mut d = up();
    assert_eq!(versions(&mut d), (OLD, OLD, false));
    let handle = burn(&mut d);
    instruct(&mut d, RELEASE, 0, handle, 0).unwrap();
    assert_eq!(mcc(&mut d).0, IDLE);
    assert_ne!(mcc(&mut d).2, handle, "the next one has another handle");
    assert_eq!(versions(&mut d), (OLD, NEW, true));
    d.submit(Input::PowerCycle);
    d.now.0 += 1_000_000_000;
    d.clear_queue();
    d.bring_up();
    assert_eq!(versions(&mut d), (NEW, NEW, false));
    let mut rev = [0; 8];
    d.card.read_segment(d.f, 0, &mut rev, d.now);
    assert_eq!(rev, [0, 44, 0, 28, 0, 5, 0x03, 0xe8], "fw_rev");
}

#[test]
fn the_magic_that_tools_leave_to_the_firmware_is_written() {
    let mut d = up();
    let handle = lock(&mut d);
    // mstflint masks the first 16 bytes of what it sends, and no others.
    let mut masked = image([28, 44, 1000]);
    masked[..15].fill(0xff);
    assert_eq!(verified(&mut d, handle, 0, &masked), (LOCKED, 8));
    masked[15] = 0xff;
    assert_eq!(verified(&mut d, handle, 0, &masked), (LOCKED, 0));
    instruct(&mut d, ACTIVATE, 0, handle, 0).unwrap();
    assert_eq!(versions(&mut d), (OLD, NEW, true));
}

/// MCC with ACTIVATE in a slot, not answered yet, and the batch that it waits for.
fn activates(d: &mut Driver, slot: u8, handle: u32) -> Option<Token> {
    let mut activate = cmd(op::ACCESS_REG, WRITE, 16 + 32);
    activate[10..12].copy_from_slice(&MCC.to_be_bytes());
    activate[16 + 3] = ACTIVATE;
    activate[16 + 8..16 + 12].copy_from_slice(&handle.to_be_bytes());
    d.post(slot, &activate, 48);
    d.ring(1 << slot);
    d.fx.iter().find_map(|e| match e {
        Effect::Commit { token, .. } => Some(*token),
        _ => None,
    })
}

/// The status and syndrome in a slot after a batch's end.
fn ends(d: &mut Driver, slot: u8, token: Token, stored: bool) -> (u8, u32) {
    d.submit(Input::Committed { token, stored });
    let reply = d.reply(slot, 48).unwrap();
    (reply.status(), reply.syndrome())
}

const STORE_FAILED: (u8, u32) = (1, 0x00e0_000a);

#[test]
fn an_activation_that_cannot_be_stored_can_be_asked_for_again() {
    let mut d = slow(5000);
    let handle = lock(&mut d);
    let algorithm = [&[0xcc, 0, 0xcc, 1][..], &[7; 60]].concat();
    let update = |d: &mut Driver, index: u8, bytes: &[u8]| {
        instruct(d, UPDATE, index, handle, bytes.len()).unwrap();
        d.now.0 += 5_000_000_000;
        for (i, piece) in bytes.chunks(128).enumerate() {
            mcda(d, WRITE, handle, 128 * i, &swapped(piece)).unwrap();
        }
        instruct(d, VERIFY, index, handle, 0).unwrap();
        assert_eq!(mcc(d), (LOCKED, 0, handle));
    };
    update(&mut d, 1, &algorithm);
    update(&mut d, 0, &image([28, 44, 1000]));
    let token = activates(&mut d, 1, handle).unwrap();
    assert_eq!(mcc(&mut d).0, STATE_ACTIVATE);
    assert_eq!(ends(&mut d, 1, token, false), STORE_FAILED);
    assert_eq!(mcc(&mut d).0, LOCKED, "at once");
    assert_eq!(versions(&mut d), (OLD, OLD, false));
    let kept = |d: &mut Driver| instruct(d, UPLOAD, 1, handle, 0);
    assert_eq!(kept(&mut d), Err(BAD_COMPONENT), "nor the algorithm");
    let token = activates(&mut d, 1, handle).unwrap();
    assert_eq!(ends(&mut d, 1, token, true), (0, 0));
    d.now.0 += 5_000_000_000;
    assert_eq!(versions(&mut d), (OLD, NEW, true));
    kept(&mut d).unwrap();
    instruct(&mut d, CANCEL, 0, handle, 0).unwrap();
    assert_eq!(instruct(&mut d, ACTIVATE, 0, handle, 0), Err(BAD_STATE));
}

#[test]
fn what_is_not_stored_yet_is_not_acknowledged_to_whoever_asks_for_the_same() {
    let mut d = up();
    let handle = lock(&mut d);
    let good = image([28, 44, 1000]);
    let mut tokens = Vec::new();
    for slot in [1, 2] {
        assert_eq!(verified(&mut d, handle, 0, &good), (LOCKED, 0));
        tokens.push(activates(&mut d, slot, handle).unwrap());
        assert!(d.reply(slot, 48).is_none(), "{slot}");
    }
    assert_eq!(ends(&mut d, 1, tokens[0], false), STORE_FAILED);
    assert!(d.reply(2, 48).is_none());
    assert_eq!(versions(&mut d), (OLD, NEW, true));
    assert_eq!(ends(&mut d, 2, tokens[1], false), STORE_FAILED);
    assert_eq!(versions(&mut d), (OLD, OLD, false));
}

#[test]
fn what_is_activated_is_not_activated_again() {
    let mut d = up();
    let handle = burn(&mut d);
    assert_eq!(access(&mut d, MIRC, WRITE, &[0; 8]).unwrap()[3], 0);
    let algorithm = [&[0xcc, 0, 0xcc, 1][..], &[7; 60]].concat();
    assert_eq!(verified(&mut d, handle, 1, &algorithm), (LOCKED, 0));
    instruct(&mut d, ACTIVATE, 0, handle, 0).unwrap();
    assert_eq!(versions(&mut d), (OLD, OLD, false));
    // The same bytes once more change nothing, and are activated all the same.
    assert_eq!(verified(&mut d, handle, 1, &algorithm), (LOCKED, 0));
    instruct(&mut d, ACTIVATE, 0, handle, 0).unwrap();
    assert_eq!(instruct(&mut d, ACTIVATE, 0, handle, 0), Err(BAD_STATE));
}

/// A card whose steps take so many milliseconds.
fn slow(ms: u32) -> Driver {
    let text = format!("inherits = \"connectx7\"\n[timeouts]\nupdate_ms = {ms}");
    let mut d = Driver::of(Profile::parse(&text, "slow").unwrap());
    d.bring_up();
    d
}

#[test]
fn steps_take_the_time_that_the_profile_says() {
    let text = "inherits = \"connectx7\"\n[timeouts]\nupdate_ms = 10001";
    let why = Profile::parse(text, "slow").unwrap_err();
    assert_eq!(why.what, "timeouts.update_ms: 10001 is above 10000");
    let mut d = slow(500);
    let handle = lock(&mut d);
    let good = image([28, 44, 1000]);
    let half = |d: &mut Driver, state: u8| {
        d.now.0 += 250_000_000;
        let r = access(d, MCC, READ, &[0; 32]).unwrap();
        assert_eq!(r[15] & 0xf, state);
        assert_eq!(r[13] & 0x7f, 50, "control_progress");
        // Nothing else begins meanwhile.
        for what in [UPDATE, VERIFY, ACTIVATE] {
            assert_eq!(instruct(d, what, 0, handle, 4), Err(BAD_STATE));
        }
        assert_eq!(mcda(d, WRITE, handle, 0, &[0; 4]), Err(BAD_STATE));
        d.now.0 += 250_000_000;
    };
    instruct(&mut d, UPDATE, 0, handle, good.len()).unwrap();
    half(&mut d, INITIALIZE);
    assert_eq!(mcc(&mut d).0, DOWNLOAD);
    for (i, piece) in good.chunks(128).enumerate() {
        mcda(&mut d, WRITE, handle, 128 * i, &swapped(piece)).unwrap();
    }
    // mstflint does not wait for the end of VERIFY.
    instruct(&mut d, VERIFY, 0, handle, 0).unwrap();
    assert_eq!(mcc(&mut d), (LOCKED, 0, handle));
    instruct(&mut d, ACTIVATE, 0, handle, 0).unwrap();
    half(&mut d, STATE_ACTIVATE);
    assert_eq!(mcc(&mut d).0, LOCKED);
    assert_eq!(versions(&mut d), (OLD, NEW, true));
    // Whoever gives up in the middle of a step is heard, and a start of the firmware ends it.
    instruct(&mut d, UPDATE, 0, handle, 4).unwrap();
    instruct(&mut d, CANCEL, 0, handle, 0).unwrap();
    assert_eq!(mcc(&mut d).0, LOCKED);
    instruct(&mut d, UPDATE, 0, handle, 4).unwrap();
    instruct(&mut d, RELEASE, 0, handle, 0).unwrap();
    let handle = lock(&mut d);
    instruct(&mut d, UPDATE, 0, handle, 4).unwrap();
    d.submit(Input::PowerCycle);
    d.now.0 += 100_000_000;
    d.clear_queue();
    d.bring_up();
    assert_eq!(mcc(&mut d).0, IDLE);
}

#[test]
fn mirc_takes_an_update_back() {
    let mut d = up();
    let handle = burn(&mut d);
    // As mstflint does: it looks for the status in a second access alone.
    let mirc = |d: &mut Driver| {
        let written = access(d, MIRC, WRITE, &[0; 8]).unwrap();
        assert_eq!(access(d, MIRC, READ, &[0; 8]).unwrap(), written);
        written[3]
    };
    assert_eq!(mirc(&mut d), 0);
    assert_eq!(versions(&mut d), (OLD, OLD, false));
    assert_eq!(mirc(&mut d), 7, "there is nothing to take back");
    // And it can be burnt again.
    assert_eq!(
        verified(&mut d, handle, 0, &image([28, 44, 1000])),
        (LOCKED, 0)
    );
    instruct(&mut d, ACTIVATE, 0, handle, 0).unwrap();
    assert_eq!(versions(&mut d), (OLD, NEW, true));
}

#[test]
fn what_is_no_image_of_this_card_is_rejected() {
    let mut d = up();
    let handle = lock(&mut d);
    let good = image([28, 44, 1000]);
    let mut damaged = good.clone();
    damaged[0x4000] ^= 1;
    let mut p = (*Profile::builtin("connectx7").unwrap()).clone();
    p.firmware.psid = "EMU0000000008".into();
    let other = fs4::build(&spec(&p, [28, 44, 1000]));
    for (bytes, error) in [
        (&b"no image at all, but long enough"[..], 8),
        (&good[..good.len() - 4], 8),
        (&damaged, 2),
        (&other, 3),
    ] {
        assert_eq!(verified(&mut d, handle, 0, bytes), (LOCKED, error));
    }
    // A piece is missing.
    instruct(&mut d, UPDATE, 0, handle, good.len()).unwrap();
    mcda(&mut d, WRITE, handle, 0, &swapped(&good[..128])).unwrap();
    instruct(&mut d, VERIFY, 0, handle, 0).unwrap();
    assert_eq!(mcc(&mut d), (LOCKED, 2, handle));
    assert_eq!(instruct(&mut d, ACTIVATE, 0, handle, 0), Err(BAD_STATE));
    assert_eq!(versions(&mut d), (OLD, OLD, false));
}

#[test]
fn steps_in_the_wrong_order_or_by_another_are_refused() {
    let mut d = up();
    let (_, _, free) = mcc(&mut d);
    assert_eq!(instruct(&mut d, LOCK, 0, free + 1, 0), Err(BAD_HANDLE));
    for what in [UPDATE, VERIFY, ACTIVATE, CANCEL, UPLOAD] {
        assert_eq!(instruct(&mut d, what, 0, free, 1), Err(BAD_STATE), "{what}");
    }
    let handle = lock(&mut d);
    assert_eq!(instruct(&mut d, LOCK, 0, handle, 0), Err(BAD_STATE));
    assert_eq!(instruct(&mut d, VERIFY, 0, handle, 0), Err(BAD_STATE));
    assert_eq!(mcda(&mut d, WRITE, handle, 0, &[0; 4]), Err(BAD_STATE));
    for (index, size, why) in [
        (0, 0, BAD_RANGE),
        (0, 0xff_0001, BAD_RANGE),
        (1, 0x1_0001, BAD_RANGE),
        (2, 4, BAD_COMPONENT),
    ] {
        assert_eq!(instruct(&mut d, UPDATE, index, handle, size), Err(why));
    }
    instruct(&mut d, UPDATE, 0, handle, 100).unwrap();
    assert_eq!(mcda(&mut d, WRITE, handle + 1, 0, &[0; 4]), Err(BAD_HANDLE));
    assert_eq!(mcda(&mut d, WRITE, handle, 100, &[0; 4]), Err(BAD_RANGE));
    assert_eq!(mcda(&mut d, WRITE, handle, 0, &[0; 129]), Err(BAD_RANGE));
    assert_eq!(mcda(&mut d, READ, handle, 0, &[0; 4]), Err(BAD_STATE));
    instruct(&mut d, CANCEL, 0, handle, 0).unwrap();
    assert_eq!(mcc(&mut d).0, LOCKED);
    // 0x63 is no instruction.
    assert_eq!(instruct(&mut d, 0x63, 0, handle, 0), Err(0x00e6_0004));
    instruct(&mut d, FORCE, 0, 0, 0).unwrap();
    assert_eq!(mcc(&mut d).0, IDLE);
    // An owner who says nothing for long loses it.
    let handle = lock(&mut d);
    d.now = d.now.after(SILENCE);
    assert_eq!(mcc(&mut d).0, IDLE);
    assert_eq!(instruct(&mut d, UPDATE, 0, handle, 4), Err(BAD_STATE));
}

#[test]
fn components_are_read_back() {
    let mut d = up();
    let handle = lock(&mut d);
    let running = image([28, 43, 1014]);
    let upload = |d: &mut Driver, what, index, len: usize| {
        instruct(d, what, index, handle, 0)?;
        let mut got = Vec::new();
        while got.len() < len {
            let n = 128.min(len - got.len());
            let r = mcda(d, READ, handle, got.len(), &vec![0; n])?;
            got.extend_from_slice(&swapped(&r[16..16 + n.next_multiple_of(4)])[..n]);
        }
        instruct(d, CANCEL, 0, handle, 0)?;
        Ok(got)
    };
    assert!(upload(&mut d, UPLOAD, 0, running.len()) == Ok(running));
    assert_eq!(upload(&mut d, PENDING, 0, 4), Err(BAD_COMPONENT));
    assert_eq!(upload(&mut d, UPLOAD, 1, 4), Err(BAD_COMPONENT));
    let algorithm = b"\xcc\x00\xcc\x01, an algorithm".repeat(40);
    assert_eq!(verified(&mut d, handle, 1, &algorithm), (LOCKED, 0));
    instruct(&mut d, ACTIVATE, 0, handle, 0).unwrap();
    assert!(upload(&mut d, UPLOAD, 1, algorithm.len()) == Ok(algorithm.clone()));
    // It is there now.
    let mut second = [0; 16];
    second[3] = 1;
    assert_eq!(access(&mut d, MCQS, READ, &second).unwrap()[11], 0x10);
}

/// `MCC.error_code` 8 is a bad format, 0xf a forbidden version. mstflint sends an algorithm with its first
/// dword as ff.
#[test]
fn what_is_no_algorithm_and_what_the_card_forbids_is_rejected() {
    let mut d = up();
    let handle = lock(&mut d);
    for (bytes, error) in [
        (&b"no algorithm"[..], 8),
        (b"\xcc\x00", 8),
        (b"\xcc\x00\xcc\x01, one", 0),
        (b"\xff\xff\xff\xff, one", 0),
    ] {
        assert_eq!(
            verified(&mut d, handle, 1, bytes),
            (LOCKED, error),
            "{bytes:x?}"
        );
    }
    // 28.43.1014 runs; a card takes an older one.
    assert_eq!(
        verified(&mut d, handle, 0, &image([28, 42, 1000])),
        (LOCKED, 0)
    );
    instruct(&mut d, RELEASE, 0, handle, 0).unwrap();
    // nv_forbidden_versions (item 4): the least at byte 8, others from byte 16 on.
    let mut item = [vec![0, 0, 0, 144, 0, 0, 0, 4, 0, 0, 0, 0], vec![0; 144]].concat();
    item[12 + 8..][..4].copy_from_slice(&[28, 43, 0, 0]);
    item[12 + 20..][..4].copy_from_slice(&[28, 44, 0x03, 0xe8]);
    access(&mut d, 0x9024, WRITE, &item).unwrap();
    let handle = lock(&mut d);
    assert_eq!(
        verified(&mut d, handle, 0, &image([28, 42, 1000])),
        (LOCKED, 0),
        "not in force"
    );
    d.submit(Input::PowerCycle);
    d.now.0 += 1_000_000_000;
    d.clear_queue();
    d.bring_up();
    let handle = lock(&mut d);
    for (version, error) in [
        ([28, 42, 65535], 0xf),
        ([28, 43, 0], 0),
        ([28, 44, 1000], 0xf),
        ([28, 44, 1001], 0),
    ] {
        assert_eq!(
            verified(&mut d, handle, 0, &image(version)),
            (LOCKED, error),
            "{version:?}"
        );
    }
}

/// What the card stored while it ran, as after kill -9.
#[test]
fn what_was_activated_outlives_the_process() {
    let mut d = up();
    let mut store = MemStore::default();
    let mut stored = |d: &Driver| {
        for e in d.fx.iter() {
            if let Effect::Commit { batch, .. } = e {
                store.commit(batch).unwrap();
            }
        }
        store.load().unwrap()
    };
    let handle = lock(&mut d);
    assert_eq!(
        verified(&mut d, handle, 0, &image([28, 44, 1000])),
        (LOCKED, 0)
    );
    let mut r = [0; 32];
    r[3] = ACTIVATE;
    r[8..12].copy_from_slice(&handle.to_be_bytes());
    let mut c = cmd(op::ACCESS_REG, WRITE, 16);
    c[10..12].copy_from_slice(&MCC.to_be_bytes());
    c.extend_from_slice(&r);
    d.post(0, &c, c.len());
    d.ring(1);
    let content = stored(&d);
    let p = Profile::builtin("connectx7").unwrap();
    let mut card = fw_model::Card::new(p.clone(), fw_model::CardOptions::default(), &content);
    let version = |c: &fw_model::Card| {
        let at = fw_model::gateway::Place {
            space: 2,
            address: 4,
        };
        c.read_space(fw_model::FunctionId(0), at, Time::ZERO)
            .unwrap()
            .value
    };
    card.add_function(fw_model::EventPath::EventQueues);
    assert_eq!(version(&card), 43, "not started anew");
    let mut fx = fw_model::Effects::new();
    card.submit(Input::PowerCycle, Time::ZERO, &fw_model::NoMemory, &mut fx);
    assert_eq!(version(&card), 44);
}
