// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The mailbox engine and the function's life, driven through command entries in guest memory.
//! Expected numbers are those of mlx5_ifc.h, mlx5/device.h and mlx5/core/cmd.c.

#![allow(clippy::unwrap_used)]

mod common;

use common::{CMDQ, Driver, IN_BLOCKS, OUT_BLOCKS, cmd};
use fw_model::{Input, ResetKind, syndrome::Syndrome};

const BAD_OP: u8 = 0x2;
const BAD_PARAM: u8 = 0x3;
const BAD_SYS_STATE: u8 = 0x4;
const BAD_RES: u8 = 0x5;
const BAD_INP_LEN: u8 = 0x50;

#[test]
fn the_whole_life_of_a_function() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let r = d.card.report(d.f).unwrap();
    assert_eq!((r.state, r.issi, r.pages), ("up", 1, 48));
    let cap = d.ok(&cmd(0x100, 1, 16), 4112);
    // MLX5_UCTX_CAP_TOOLS_RESOURCES, where mlx5_ifc.h puts uctx_cap.
    let uctx_cap = fwctl_proto::layout::find("cmd_hca_cap")
        .unwrap()
        .field("uctx_cap")
        .unwrap();
    assert_eq!(
        fwctl_proto::layout::get_bits(&cap[16..], uctx_cap.offset, uctx_cap.width),
        4
    );
    d.teardown();
    let r = d.card.report(d.f).unwrap();
    assert_eq!((r.state, r.issi, r.pages), ("disabled", 0, 0));
    d.bring_up();
}

#[test]
fn a_command_in_the_wrong_state_is_refused_and_changes_nothing() {
    let mut d = Driver::new("minimal");
    let early = d.exec(&cmd(0x10a, 0, 16), 112);
    assert_eq!((early.delivery, early.status()), (0, BAD_SYS_STATE));
    assert_eq!(early.syndrome(), Syndrome::WrongState.code());
    d.ok(&cmd(0x104, 0, 16), 12);
    assert_eq!(d.exec(&cmd(0x104, 0, 16), 12).status(), BAD_SYS_STATE);
    let init = d.exec(&cmd(0x102, 0, 32), 16);
    assert_eq!(
        (init.status(), init.syndrome()),
        (BAD_SYS_STATE, Syndrome::PagesMissing.code())
    );
    assert_eq!(d.exec(&cmd(0x802, 0, 16), 16).status(), BAD_SYS_STATE);
    assert_eq!(d.card.report(d.f).unwrap().state, "enabled");
    d.ok(&cmd(0x105, 0, 16), 12);
}

#[test]
fn unknown_opcode_op_mod_issi_and_short_inbox() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    assert_eq!(d.exec(&cmd(0xeee, 0, 16), 16).status(), BAD_OP);
    assert_eq!(d.exec(&cmd(0xffff, 0, 16), 16).status(), BAD_OP);
    assert_eq!(d.exec(&cmd(0x107, 9, 16), 16).status(), BAD_PARAM);
    assert_eq!(d.exec(&cmd(0x301, 0, 80), 16).status(), BAD_INP_LEN);
    assert_eq!(d.exec(&cmd(0x100, 0x7ff, 16), 4112).status(), BAD_PARAM);
    let mut foreign = cmd(0x80d, 0, 16);
    foreign[3] = 9;
    let r = d.exec(&foreign, 16);
    assert_eq!(
        (r.status(), r.syndrome()),
        (BAD_RES, Syndrome::NoSuchUid.code())
    );
}

#[test]
fn all_slots_of_one_doorbell_are_served_and_the_rest_left_alone() {
    let mut d = Driver::new("minimal");
    for slot in 0..32 {
        d.post(slot, &cmd(0x80d, 0, 16), 16);
    }
    d.ring(0x7fff_ffff);
    for slot in 0..31 {
        assert_eq!(d.reply(slot, 16).unwrap().out, [0; 16]);
    }
    assert_eq!(d.reply(31, 16), None);
    d.ring(0x8000_0000);
    assert_eq!(d.reply(31, 16).unwrap().delivery, 0);
}

#[test]
fn what_the_firmware_does_not_fill_is_zero() {
    let mut d = Driver::new("minimal");
    d.ok(&cmd(0x104, 0, 16), 12);
    let out = d.ok(&cmd(0x80d, 0, 16), 2000);
    assert_eq!(out, vec![0; 2000], "nothing of the mailbox's old bytes");
}

#[test]
fn a_short_outbox_is_cut_and_nothing_is_written_behind_it() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let full = d.ok(&cmd(0x100, 1, 16), 4112);
    let cut = d.ok(&cmd(0x100, 1, 16), 100);
    assert_eq!(cut, full[..100]);
    let block = d.guest.bytes(OUT_BLOCKS, 576);
    assert!(
        block[84..512].iter().all(|b| *b == 0xee),
        "only outbox bytes are written"
    );
}

#[test]
fn malformed_entries_and_chains_get_their_delivery_status() {
    // (what is broken, delivery status of cmd.c)
    type Harm = fn(&Driver) -> bool;
    let broken: &[(&str, u8, Harm)] = &[
        ("type", 0x10, |d| d.guest.write(CMDQ, &[3])),
        ("inlen 0", 0x7, |d| {
            d.guest.write(CMDQ + 4, &0u32.to_be_bytes())
        }),
        ("inlen huge", 0x7, |d| {
            d.guest.write(CMDQ + 4, &u32::MAX.to_be_bytes())
        }),
        ("outlen 0", 0x8, |d| {
            d.guest.write(CMDQ + 56, &0u32.to_be_bytes())
        }),
        ("outlen huge", 0x8, |d| {
            d.guest.write(CMDQ + 56, &0x7fff_ffffu32.to_be_bytes())
        }),
        ("in pointer", 0x5, |d| d.guest.write(CMDQ + 15, &[4])),
        ("out pointer", 0x4, |d| d.guest.write(CMDQ + 55, &[4])),
        ("in token", 0x2, |d| d.guest.write(IN_BLOCKS + 573, &[0xaa])),
        ("out token", 0x2, |d| {
            d.guest.write(OUT_BLOCKS + 573, &[0xaa])
        }),
        ("in block number", 0x3, |d| {
            d.guest.write(IN_BLOCKS + 571, &[7])
        }),
        ("out block number", 0x3, |d| {
            d.guest.write(OUT_BLOCKS + 571, &[7])
        }),
        ("in chain loops", 0x3, |d| {
            d.guest.write(IN_BLOCKS + 560, &IN_BLOCKS.to_be_bytes())
        }),
        ("in block unmapped", 0x6, |d| {
            d.guest.write(CMDQ + 8, &0x7777_0000_0000u64.to_be_bytes())
        }),
        ("out block at the end", 0x6, |d| {
            d.guest
                .write(CMDQ + 48, &0xffff_ffff_ffff_fe00u64.to_be_bytes())
        }),
    ];
    for (what, delivery, harm) in broken {
        let mut d = Driver::new("minimal");
        d.bring_up();
        d.post(0, &cmd(0x100, 1, 1600), 1600);
        assert!(harm(&d));
        d.ring(1);
        let e = d.guest.bytes(CMDQ, 64);
        assert_eq!(e[63], delivery << 1, "{what}");
        assert_eq!(
            d.guest.bytes(OUT_BLOCKS, 4),
            [0xee; 4],
            "{what}: nothing is executed"
        );
        d.ok(&cmd(0x80d, 0, 16), 16);
    }
}

#[test]
fn an_entry_that_is_not_the_firmwares_is_left_alone() {
    let mut d = Driver::new("minimal");
    d.post(0, &cmd(0x80d, 0, 16), 16);
    d.guest.write(CMDQ + 63, &[0]);
    let before = d.guest.bytes(CMDQ, 64);
    d.ring(1);
    assert_eq!(d.guest.bytes(CMDQ, 64), before);
    assert!(d.fx.is_empty());
}

#[test]
fn one_megabyte_comes_back_whole() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let out = d.ok(&cmd(0x100, 1, 16), 1 << 20);
    assert!(out[4112..].iter().all(|b| *b == 0));
    assert!(out[16..4112].iter().any(|b| *b != 0));
}

#[test]
fn a_reset_ends_everything_and_the_next_life_is_clean() {
    for kind in [ResetKind::Flr, ResetKind::Bus, ResetKind::ClientGone] {
        let mut d = Driver::new("minimal");
        d.bring_up();
        let mut uctx = cmd(0xa04, 0, 64);
        uctx[19] = 4;
        d.ok(&uctx, 16);
        let function = d.f;
        d.submit(Input::Reset { function, kind });
        let r = d.card.report(d.f).unwrap();
        assert_eq!(
            (r.state, r.uctx, r.pages, r.generation),
            ("disabled", 0, 0, 1)
        );
        d.segment_write(0x14, &(CMDQ as u32).to_be_bytes());
        d.bring_up();
    }
}

#[test]
fn pages_are_taken_back_down_to_what_the_function_needs() {
    let mut d = Driver::new("minimal");
    d.bring_up();
    let mut take = cmd(0x108, 2, 16);
    take[15] = 8;
    let out = d.ok(&take, 16 + 64);
    assert_eq!(out[8..12], [0; 4], "an up function needs all it asked for");
    let mut give = cmd(0x108, 1, 24);
    give[15] = 1;
    give[16..24].copy_from_slice(&0x3_0000_0000u64.to_be_bytes());
    d.ok(&give, 16);
    assert_eq!(d.exec(&give, 16).status(), BAD_PARAM, "given twice");
    let out = d.ok(&take, 16 + 64);
    assert_eq!(out[8..12], [0, 0, 0, 1]);
    assert_eq!(out[16..24], 0x3_0000_0000u64.to_be_bytes());
    give[15] = 2;
    assert_eq!(
        d.exec(&give, 16).status(),
        BAD_INP_LEN,
        "counts more than it carries"
    );
}

#[test]
fn segment_reads_of_any_width_agree() {
    let d = Driver::new("connectx7");
    let mut whole = vec![0; 0x2010];
    d.card.read_segment(d.f, 0, &mut whole, d.now);
    // fw_rev 28.43, cmdif_rev 5, sub-minor 1014 = 0x3f6; queue of 32 entries of 64 bytes.
    assert_eq!(whole[..8], [0, 43, 0, 28, 0, 5, 0x03, 0xf6]);
    assert_eq!(whole[0x14..0x18], [0, 0x10, 0, 0x56]);
    // Not initializing; a reset of the firmware is supported. The timeouts: 60 s and 2 s, in ms.
    assert_eq!(whole[0x1fc..0x200], [0x40, 0, 0, 0]);
    assert_eq!(whole[0xff8..0x1000], [0, 0, 0xea, 0x60, 0, 0, 0x07, 0xd0]);
    for width in [1, 2, 3, 8] {
        for at in (0..0x2010 - width).step_by(7) {
            let mut part = vec![0; width];
            d.card.read_segment(d.f, at as u32, &mut part, d.now);
            assert_eq!(part, whole[at..at + width], "{width} bytes at {at:#x}");
        }
    }
}

#[test]
fn the_health_counter_moves_between_two_polls() {
    let d = Driver::new("minimal");
    let at = |ms: u64| {
        let mut b = [0; 4];
        d.card
            .read_segment(d.f, 0x1010, &mut b, fw_model::Time(ms * 1_000_000));
        u32::from_be_bytes(b)
    };
    assert!(at(2000) > at(0) && at(4000) > at(2000));
}

#[test]
fn a_queue_address_written_in_bytes_is_the_same() {
    let mut d = Driver::new("minimal");
    for (i, b) in [0u8, 0, 0, 1].iter().enumerate() {
        d.segment_write(0x10 + i as u32, &[*b]);
    }
    d.segment_write(0x14, &[0, 0x20]);
    d.segment_write(0x16, &[0, 0]);
    let mut b = [0; 8];
    d.card.read_segment(d.f, 0x10, &mut b, d.now);
    assert_eq!(b, [0, 0, 0, 1, 0, 0x20, 0, 0x56]);
}
