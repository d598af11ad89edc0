// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vendor's unmodified tools by PCI address, through the gateway in configuration space.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
};

use crate::{
    check, check_eq, fail,
    suites::{
        mlx5_probe,
        mlx5_reload::{program, program_output},
        mst_fwctl,
    },
    test::{Ctx, Done, Suite, test},
};

pub const SUITE: Suite = Suite {
    name: "mst-pci",
    about: "mstmread, mstmwrite, mstmcra, mstreg and mstconfig through the PCI gateway",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("mstmread-shows-the-chip", 60, chip),
        test("mstmwrite-and-mstmcra-agree", 60, words),
        test("mstreg-over-pci", 60, register),
        test(
            "a-dead-holder-of-the-gateway-is-passed-over",
            60,
            dead_holder,
        ),
        test("mstconfig-sets-over-pci-what-fwctl-shows", 300, config),
    ],
};

/// The function's address.
fn bdf() -> Done<String> {
    let functions = mlx5_probe::functions()?;
    let Some(first) = functions.first() else {
        fail!("no function")
    };
    Ok(first.name.clone())
}

fn chip(_: &Ctx) -> Done {
    shows_the_chip()
}

fn shows_the_chip() -> Done {
    // Its exit code is the number of bytes that it read.
    let (_, text) = program("mstmread", &[&bdf()?, "0xf0014"])?;
    check_eq!(text.trim(), "Read 0x000f0014:0x00000218", "ConnectX-7");
    Ok(())
}

fn words(_: &Ctx) -> Done {
    let bdf = bdf()?;
    program("mstmwrite", &[&bdf, "0x100000", "0x12345678"])?;
    let word = || program_output("mstmcra", &[&bdf, "0x100000"]);
    check_eq!(word()?.trim(), "0x12345678", "a word");
    // Eight bits from bit 4 on.
    program_output("mstmcra", &[&bdf, "0x100000.4:8", "0xab"])?;
    check_eq!(word()?.trim(), "0x12345ab8", "a field in it");
    Ok(())
}

fn register(_: &Ctx) -> Done {
    let bdf = bdf()?;
    let args = ["-d", &bdf, "--reg_name", "MGIR", "--get"];
    let text = program_output("mstreg", &args)?;
    for (name, value) in [("device_id", 0x1021), ("hw_dev_id", 0x218)] {
        check_eq!(mst_fwctl::field(&text, name), Some(value), "{name}");
    }
    let args = ["-d", &bdf, "--reg_id", "0x9999", "--reg_len", "16", "--get"];
    let (ok, text) = program("mstreg", &args)?;
    check!(!ok && text.contains("Register not supported"), "{text}");
    Ok(())
}

/// Registers of the capability, from its start.
const COUNTER: u64 = 0x08;
const SEMAPHORE: u64 = 0x0c;

/// Where the vendor-specific capability lies.
fn capability(config: &File) -> Done<u64> {
    let mut at = [0; 1];
    config.read_exact_at(&mut at, 0x34)?;
    for _ in 0..48 {
        let mut head = [0; 2];
        config.read_exact_at(&mut head, u64::from(at[0]))?;
        if head[0] == 9 {
            return Ok(u64::from(at[0]));
        }
        at[0] = head[1];
    }
    fail!("no vendor-specific capability")
}

fn dead_holder(_: &Ctx) -> Done {
    let path = format!("/sys/bus/pci/devices/{}/config", bdf()?);
    let config = OpenOptions::new().read(true).write(true).open(path)?;
    let at = capability(&config)?;
    let dword = |offset| -> Done<[u8; 4]> {
        let mut b = [0; 4];
        config.read_exact_at(&mut b, at + offset)?;
        Ok(b)
    };
    let ticket = dword(COUNTER)?;
    config.write_all_at(&ticket, at + SEMAPHORE)?;
    check_eq!(dword(SEMAPHORE)?, ticket, "the semaphore is ours");
    // And nobody frees it.
    shows_the_chip()
}

fn config(_: &Ctx) -> Done {
    let bdf = bdf()?;
    let next = |device: &str| -> Done<Option<String>> {
        let text = program_output("mstconfig", &["-d", device, "q", "NUM_OF_VFS"])?;
        let line = text.lines().find(|l| l.contains("NUM_OF_VFS"));
        Ok(line.and_then(|l| l.split_whitespace().last().map(str::to_owned)))
    };
    program_output("mstconfig", &["-y", "-d", &bdf, "set", "NUM_OF_VFS=5"])?;
    check_eq!(next(&bdf)?.as_deref(), Some("5"), "over PCI");
    check_eq!(next("fwctl0")?.as_deref(), Some("5"), "over fwctl");
    program_output("mstconfig", &["-y", "-d", &bdf, "reset"])?;
    check_eq!(next("fwctl0")?.as_deref(), Some("0"), "after the reset");
    Ok(())
}
