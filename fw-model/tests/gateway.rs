// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command mailbox behind the PCI gateway, as the vendor's tools use it: a register access is an
//! operation TLV (16 bytes), a register TLV (4 bytes) and the register.

#![allow(clippy::unwrap_used)]

mod common;

use core::time::Duration;

use common::{CMDQ, Driver};
use fw_model::{
    Effect, Input, Report, ResetKind, Time,
    gateway::{
        Place,
        icmd::MAILBOX_BYTES,
        space::{ICMD, ICMD_EXT, SEMAPHORES},
    },
};

const CONTROL: u32 = 0;
const MAILBOX: u32 = 0x10_0000;
const GET: u32 = 1;
const SET: u32 = 2;
const MGIR: u32 = 0x9020;
const MNVDA: u32 = 0x9024;
/// `nv_memic_conf`, 4 bytes.
const ITEM: u32 = 6;

fn write(d: &mut Driver, address: u32, value: u32) {
    let (function, space) = (d.f, ICMD);
    d.submit(Input::Gateway {
        function,
        at: Place { space, address },
        value,
    });
}

fn read(d: &Driver, address: u32) -> u32 {
    let at = |space| Place { space, address };
    let word = d.card.read_space(d.f, at(ICMD), d.now).unwrap();
    assert_eq!(
        d.card.read_space(d.f, at(ICMD_EXT), d.now),
        Some(word),
        "both numbers name one mailbox"
    );
    word.value
}

fn fill(d: &mut Driver, words: &[u32]) {
    for (i, w) in (0..).zip(words) {
        write(d, MAILBOX + 4 * i, *w);
    }
}

/// A register access with the register's first words.
fn register(id: u32, method: u32, dwords: u32, words: &[u32]) -> Vec<u32> {
    let mut m = vec![
        1 << 27 | 4 << 16,
        id << 16 | method << 8 | 1,
        0x1122,
        0x3344,
        3 << 27 | (dwords + 1) << 16,
    ];
    m.extend_from_slice(words);
    m.resize(5 + dwords as usize, 0);
    m
}

fn go(d: &mut Driver, opcode: u32) -> u32 {
    write(d, CONTROL, opcode << 16 | 1);
    read(d, CONTROL)
}

#[test]
fn a_register_is_read_without_a_driver() {
    let mut d = Driver::new("connectx7");
    assert_eq!(read(&d, 0x1000), 0x340, "bytes of the mailbox");
    fill(&mut d, &register(MGIR, GET, 40, &[]));
    assert_eq!(go(&mut d, 0x9001), 0x9001_0000);
    // The operation TLV comes back as a response with status 0, and its transaction id.
    assert_eq!(read(&d, MAILBOX), 1 << 27 | 4 << 16);
    assert_eq!(read(&d, MAILBOX + 4), 0x9020_8101);
    assert_eq!(read(&d, MAILBOX + 8), 0x1122);
    // hw_info.device_id is the low half of the register's first dword, the chip's id that of the third.
    assert_eq!(read(&d, MAILBOX + 20) & 0xffff, 0x1021);
    assert_eq!(read(&d, MAILBOX + 28) & 0xffff, 0x0218);
}

#[test]
fn a_setting_is_answered_when_it_is_stored() {
    let mut d = Driver::new("connectx7");
    let header = [4, ITEM, 0, 0x0001_4110];
    fill(&mut d, &register(MNVDA, SET, 4, &header));
    assert_eq!(go(&mut d, 0x9001), 0x9001_0001, "busy");
    let token = d.fx.iter().find_map(|e| match e {
        Effect::Commit { token, .. } => Some(*token),
        _ => None,
    });
    // Meanwhile nothing changes the mailbox.
    write(&mut d, MAILBOX, 0);
    write(&mut d, CONTROL, 0x8400_0001);
    d.submit(Input::Committed {
        token: token.unwrap(),
        stored: true,
    });
    assert_eq!(read(&d, CONTROL), 0x9001_0000);
    assert_eq!(read(&d, MAILBOX), 1 << 27 | 4 << 16);
    fill(&mut d, &register(MNVDA, GET, 67, &[256, ITEM]));
    assert_eq!(go(&mut d, 0x9001), 0x9001_0000);
    assert_eq!(read(&d, MAILBOX + 20) & 0x1ff, 4, "length");
    assert_eq!(read(&d, MAILBOX + 32), 0x0001_4110);
}

#[test]
fn a_reset_ends_what_waits() {
    let mut d = Driver::new("connectx7");
    fill(&mut d, &register(MNVDA, SET, 4, &[4, ITEM, 0, 0]));
    assert_eq!(go(&mut d, 0x9001), 0x9001_0001);
    let function = d.f;
    d.submit(Input::Reset {
        function,
        kind: ResetKind::Flr,
    });
    assert_eq!(read(&d, CONTROL), 0x9001_0300);
}

#[test]
fn what_cannot_be_is_refused_with_its_status() {
    let mut d = Driver::new("connectx7");
    assert_eq!(go(&mut d, 0x1234), 0x1234_0100, "bad opcode");
    assert_eq!(go(&mut d, 0x9001), 0x9001_0400, "an empty mailbox");
    let good = register(MGIR, GET, 40, &[]);
    // Another type, length or class of the operation TLV; method 3; another register TLV; none; one
    // longer than the mailbox.
    let bad = [
        (0, 2 << 27 | 4 << 16),
        (0, 1 << 27 | 5 << 16),
        (1, MGIR << 16 | GET << 8 | 2),
        (1, MGIR << 16 | 3 << 8 | 1),
        (4, 2 << 27 | 41 << 16),
        (4, 3 << 27),
        (4, 3 << 27 | 205 << 16),
    ];
    for (at, word) in bad {
        let mut m = good.clone();
        m[at] = word;
        fill(&mut d, &m);
        assert_eq!(go(&mut d, 0x9001), 0x9001_0400, "{at}: {word:#x}");
    }
    // The longest register that fits is taken.
    fill(&mut d, &register(MGIR, GET, 203, &[]));
    assert_eq!(go(&mut d, 0x9001), 0x9001_0000);
    assert_eq!(MAILBOX_BYTES, 20 + 203 * 4);
    // Refused registers: unknown; read-only; an item that there is not, of a later version, of a length
    // that it has not, with a value that the database rules out (total_vfs 128 of at most 127).
    for (words, status) in [
        (register(0x1, GET, 4, &[]), 4),
        (register(MGIR, SET, 40, &[]), 6),
        (register(MNVDA, GET, 67, &[1 << 9 | 256, 0x0300_1234]), 3),
        (register(MNVDA, SET, 6, &[5 << 12 | 12, ITEM]), 2),
        (register(MNVDA, SET, 6, &[7, ITEM]), 7),
        (register(MNVDA, SET, 6, &[12, 0x80, 0, 0, 128]), 0x20),
    ] {
        fill(&mut d, &words);
        assert_eq!(go(&mut d, 0x9001), 0x9001_0000);
        assert_eq!(read(&d, MAILBOX) >> 8 & 0x7f, status, "{:#x}", words[1]);
    }
}

#[test]
fn what_the_card_is_and_can() {
    let mut d = Driver::new("connectx7");
    assert_eq!(go(&mut d, 0x8400), 0x8400_0000);
    // Registers of all kinds may be accessed, and the registers with masks are there.
    assert_eq!(read(&d, MAILBOX), 0xfe00_0000);
    assert_eq!(go(&mut d, 0x8007), 0x8007_0000);
    let psid = d.card.profile().firmware.psid.clone();
    assert_eq!(read(&d, MAILBOX) >> 16, 28, "major");
    assert_eq!(read(&d, MAILBOX + 4), 43 << 16 | 1014, "minor, sub-minor");
    let first = u32::from_le_bytes(psid.as_bytes()[..4].try_into().unwrap());
    assert_eq!(read(&d, MAILBOX + 0x14), first);
}

/// MH_SYNC as `mstfwreset` sends it, and its status and answer.
fn sync(d: &mut Driver, state: u32, kind: u32) -> (u32, [u32; 3]) {
    let asked = kind << 8 | state;
    fill(d, &[asked, 0, 0, 0]);
    let status = go(d, 0x8402) >> 8 & 0xff;
    assert_eq!(read(d, MAILBOX), asked);
    (status, [4, 8, 12].map(|at| read(d, MAILBOX + at)))
}

#[test]
fn one_host_agrees_with_itself_on_a_reset() {
    const FW_RESET: u32 = 1;
    let mut d = Driver::new("connectx7");
    d.now = Time(5_000_000_000);
    assert_eq!(sync(&mut d, 2, FW_RESET).0, 4, "GO before GET_READY");
    assert_eq!(sync(&mut d, 1, 2).0, 4, "another type");
    // GET_READY, then GO; start_uptime stays that of the first step.
    let first = [0x101, 1, 5_000_000];
    assert_eq!(sync(&mut d, 1, FW_RESET), (0, first));
    d.now.0 += 1_000_000;
    assert_eq!(go(&mut d, 0x8403), 0x8403_0000);
    assert_eq!(read(&d, MAILBOX + 4), 0x101);
    assert_eq!(sync(&mut d, 1, FW_RESET), (0, [0x102, 1, 5_000_000]));
    assert_eq!(sync(&mut d, 2, FW_RESET), (0, [0x102, 0, 5_000_000]));
    // The reset ends it, or IDLE.
    let mut other = d.card.clone();
    assert_eq!(sync(&mut d, 0, 0), (0, [0, 0, 0]));
    core::mem::swap(&mut d.card, &mut other);
    d.submit(Input::PowerCycle);
    d.now.0 += 1_000_000_000;
    fill(&mut d, &[0, 7, 7, 7]);
    assert_eq!(go(&mut d, 0x8403), 0x8403_0000);
    assert_eq!([4, 8, 12].map(|at| read(&d, MAILBOX + at)), [0; 3]);
}

#[test]
fn firmware_that_hangs_stays_busy_until_it_starts_anew() {
    let mut d = Driver::new("connectx7");
    d.submit(Input::Hang(true));
    fill(&mut d, &register(MGIR, GET, 40, &[]));
    assert_eq!(go(&mut d, 0x9001), 0x9001_0001);
    d.submit(Input::Hang(false));
    assert_eq!(read(&d, CONTROL), 0x9001_0001);
    d.submit(Input::PowerCycle);
    assert_eq!(read(&d, CONTROL), 0x9001_0300);
    // The command queue is not disturbed by any of it.
    d.now = Time(60_000_000_000);
    d.submit(Input::Health(Report::default()));
    assert!(d.guest.bytes(CMDQ, 64).iter().all(|b| *b == 0));
}

#[test]
fn a_flash_that_is_used_keeps_its_semaphore() {
    const MFBA: u32 = 0x9011;
    /// `TRM_RES_FLASH_PROGRAMING` in the semaphores' space, as mstflint's tools_res_mgmt.c has it.
    const FLASH: u32 = 0x10;
    let mut d = Driver::new("connectx7");
    let at = Place {
        space: SEMAPHORES,
        address: FLASH,
    };
    let holder = |d: &Driver| d.card.read_space(d.f, at, d.now).unwrap().value;
    d.submit(Input::Gateway {
        function: d.f,
        at,
        value: 77,
    });
    // A burn of three minutes, four bytes in each half of one.
    for _ in 0..6 {
        d.now = d.now.after(Duration::from_secs(30));
        fill(&mut d, &register(MFBA, GET, 67, &[0, 4, 0]));
        assert_eq!(go(&mut d, 0x9001), 0x9001_0000);
        assert_eq!(read(&d, MAILBOX) >> 8 & 0x7f, 0);
    }
    assert_eq!(holder(&d), 77);
    d.now = d.now.after(Duration::from_secs(60));
    assert_eq!(holder(&d), 0);
}
