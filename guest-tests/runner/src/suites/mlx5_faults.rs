// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What mlx5_core makes of answers that are wrong on purpose. The scenario has a fault for each op_mod
//! of NOP (docs/faults.md).

use std::time::Instant;

use fwctl_proto::opcode;
use fwctl_uapi::{Errno, Error, Scope, mlx5};

use crate::{
    check, check_eq, fail,
    suites::mlx5_probe,
    test::{Ctx, Done, Suite, test},
};

pub const SUITE: Suite = Suite {
    name: "mlx5-faults",
    about: "commands that are refused, not delivered, late, or answered with a wrong entry",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("a-status-and-syndrome-reach-the-user", 60, status),
        test("what-was-not-delivered-is-an-error", 60, delivery),
        test("a-late-answer-is-waited-for", 60, delay),
        test(
            "token-signature-and-owner-bit-are-not-looked-at",
            60,
            ignored,
        ),
        test("interrupts-and-events-of-any-number-are-borne", 60, borne),
        test(
            "what-the-header-does-not-name-reaches-the-user",
            60,
            garbage,
        ),
        test("a-changed-answer-is-the-users-affair", 60, mutated),
    ],
};

/// NOP with this op_mod, and a plain one that must succeed: the outbox of the first.
fn nop(ctx: &Ctx, op_mod: u16) -> Done<Result<[u8; 16], Error>> {
    let device = ctx.open()?;
    let send = |op_mod| {
        let mut out = [0; 16];
        let inbox = mlx5::inbox(opcode::NOP, op_mod, mlx5::HEADER);
        let sent = device.rpc(Scope::DebugReadOnly, &inbox, &mut out);
        sent.map(|_| out)
    };
    let struck = send(op_mod);
    check_eq!(send(0)?, [0; 16], "the next command");
    Ok(struck)
}

fn status(ctx: &Ctx) -> Done {
    let out = nop(ctx, 1)??;
    check_eq!(
        (out[0], &out[4..8]),
        (8, &[0, 0, 0x0a, 0xbc][..]),
        "LIM_ERR"
    );
    Ok(())
}

fn delivery(ctx: &Ctx) -> Done {
    // deliv_status_to_err(MLX5_CMD_DELIVERY_STAT_TOK_ERR).
    match nop(ctx, 2)? {
        Err(e) => check_eq!(e.errno(), Some(Errno::EBADR), "{e}"),
        Ok(out) => fail!("an answer: {out:?}"),
    }
    Ok(())
}

fn delay(ctx: &Ctx) -> Done {
    let before = Instant::now();
    check_eq!(nop(ctx, 3)??, [0; 16], "the answer");
    check!(before.elapsed().as_millis() >= 1500, "it came early");
    Ok(())
}

fn ignored(ctx: &Ctx) -> Done {
    for op_mod in [4, 5, 6] {
        check_eq!(nop(ctx, op_mod)??, [0; 16], "op_mod {op_mod}");
    }
    Ok(())
}

fn borne(ctx: &Ctx) -> Done {
    // Interrupts repeated, lost and late; a storm, an unknown event, pages demanded and given back.
    for op_mod in 7..=13 {
        check_eq!(nop(ctx, op_mod)??, [0; 16], "op_mod {op_mod}");
    }
    Ok(())
}

fn garbage(ctx: &Ctx) -> Done {
    // What is behind status and syndrome, and the bits that the header does not name.
    const FILLED: [u8; 16] = [
        0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
    ];
    const RESERVED: [u8; 16] = [
        0, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
    ];
    for (op_mod, out) in [
        (14, [0; 16]),
        (15, FILLED),
        (17, [0; 16]),
        (18, RESERVED),
        (20, [0; 16]),
    ] {
        check_eq!(nop(ctx, op_mod)??, out, "op_mod {op_mod}");
    }
    let filled = nop(ctx, 16)??;
    check_eq!(filled[..8], [0; 8], "status and syndrome");
    check!(filled[8..] != [0; 8], "nothing is random");
    let reserved = nop(ctx, 19)??;
    check_eq!(
        (reserved[0], &reserved[4..8]),
        (0, &[0; 4][..]),
        "status and syndrome"
    );
    check!(reserved[8..] != [0; 8], "nothing is random");
    Ok(())
}

fn mutated(ctx: &Ctx) -> Done {
    // NOP's answer has no field but its status and syndrome, which stay: bytes behind them change.
    let out = nop(ctx, 21)??;
    check_eq!(out[..8], [0; 8], "status and syndrome");
    check!(out[8..] != [0; 8], "nothing is changed");
    Ok(())
}
