// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! mstflint, mstlink and mstmget_temp by PCI address on whichever card the scenario has; its image is the
//! scenario's, too. What the tools must say is in their sources.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{
    check, check_eq, fail, skip,
    suites::{
        mlx5_probe,
        mst_flash::{mstflint, value, versions},
        programs::{bdf, program, program_output},
    },
    test::{Ctx, Done, Suite, read_file, test, wait_for},
};

/// An image that is newer than the profile's, and its version.
const IMAGE: &str = "/files/newer.bin";
const VERSION: &str = "/files/newer.version";
/// Device ids of ConnectX-5, of which the chip's own gateway reaches one half, and of ConnectX-8, whose
/// images are FS5.
const CONNECTX5: &str = "0x0000020d";
const CONNECTX8: &str = "0x0000021e";

pub const SUITE: Suite = Suite {
    name: "mst-card",
    about: "mstflint query, verify, burn and read by PCI address, a burn that is killed, mstlink, mstmget_temp",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("mstmget-temp", 60, temperature),
        test("mstlink", 120, link),
        test("mstlink-module", 120, module),
        test("an-address-out-of-range", 60, out_of_range),
        test("mstflint-query", 60, query),
        test("mstflint-verify", 180, verify),
        test("mstflint-verify-past-the-firmware", 240, verify_direct),
        test("mstflint-burns-a-newer-image", 240, burn),
        test("mstflint-reads-the-image-back", 240, read_back),
        test("a-killed-burn-is-passed-over", 400, killed),
    ],
};

fn temperature(_: &Ctx) -> Done {
    let text = program_output("mstmget_temp", &["-d", &bdf()?])?;
    let degrees: Option<u32> = text.trim().parse().ok();
    check!(degrees.is_some_and(|d| d > 0), "{text}");
    Ok(())
}

fn link(_: &Ctx) -> Done {
    let text = program_output("mstlink", &["-d", &bdf()?])?;
    check!(text.contains("State"), "no state: {text}");
    Ok(())
}

fn module(_: &Ctx) -> Done {
    let text = program_output("mstlink", &["-d", &bdf()?, "-m"])?;
    check!(text.contains("Identifier"), "no identifier: {text}");
    Ok(())
}

fn hw_id() -> Done<String> {
    // Its exit code is the number of bytes that it read.
    let (_, text) = program("mstmread", &[&bdf()?, "0xf0014"])?;
    match text.trim().rsplit_once(':') {
        Some((_, id)) => Ok(id.to_owned()),
        None => fail!("{text}"),
    }
}

/// The tools look at the gateway's syndrome on a card that has the spaces of the PCI core, and try both.
fn out_of_range(_: &Ctx) -> Done {
    let card = bdf()?;
    let (ok, text) = program("mstmcra", &[&card, "0x30000000"])?;
    if hw_id()? == CONNECTX8 {
        check!(!ok && text.contains("cr read"), "{text}");
    } else {
        check!(ok, "{text}");
        check_eq!(text.trim(), "0x00000000", "the word");
    }
    Ok(())
}

fn format() -> Done<&'static str> {
    Ok(if hw_id()? == CONNECTX8 { "FS5" } else { "FS4" })
}

fn query(_: &Ctx) -> Done {
    let (running, _) = versions()?;
    let (ok, text) = mstflint(&["q", "full"])?;
    check!(ok, "{text}");
    for (title, expected) in [("Image type:", format()?), ("FW Version:", &running)] {
        check_eq!(value(&text, title).as_deref(), Some(expected), "{text}");
    }
    Ok(())
}

fn bootable(text: &str) -> Done {
    for line in [
        &*format!("{} failsafe image", format()?),
        "(BOOT2)",
        "(ITOC_HEADER) - OK",
        "(MAIN_CODE) - OK",
        "(IMAGE_INFO) - OK",
        "(DEV_INFO) - OK",
        "(MFG_INFO) - OK",
        "FW image verification succeeded. Image is bootable.",
    ] {
        check!(text.contains(line), "no {line}: {text}");
    }
    Ok(())
}

fn verify(_: &Ctx) -> Done {
    let (ok, text) = mstflint(&["verify"])?;
    check!(ok, "{text}");
    bootable(&text)
}

fn verify_direct(_: &Ctx) -> Done {
    if hw_id()? == CONNECTX5 {
        skip!("its gateway has addresses of three bytes");
    }
    let (ok, text) = mstflint(&["-ocr", "verify"])?;
    check!(ok, "{text}");
    bootable(&text)
}

fn burn(_: &Ctx) -> Done {
    let (running, stored) = versions()?;
    let newer = read_file(VERSION)?;
    check!(stored == running && newer != running, "{stored}, {newer}");
    let (ok, text) = mstflint(&["-i", IMAGE, "burn"])?;
    check!(ok && text.contains("To load new FW"), "{text}");
    check!(!text.contains("-W-"), "a warning: {text}");
    check_eq!(versions()?, (running, newer), "versions");
    verify_now()
}

fn verify_now() -> Done {
    let (ok, text) = mstflint(&["verify"])?;
    check!(ok, "{text}");
    bootable(&text)
}

fn read_back(_: &Ctx) -> Done {
    const FILE: &str = "/tmp/read.bin";
    let (ok, text) = mstflint(&["ri", FILE])?;
    check!(ok, "{text}");
    let image = fs::read(IMAGE)?;
    check!(
        fs::read(FILE)?.starts_with(&image),
        "another image than was burnt"
    );
    let text = program_output("mstflint", &["-i", FILE, "q"])?;
    let version = value(&text, "FW Version:");
    check_eq!(version, Some(read_file(VERSION)?), "version");
    fs::remove_file(FILE)?;
    Ok(())
}

/// A tool that is killed while it burns leaves the flash's semaphore taken: the next one gets it a minute
/// after the last use.
fn killed(ctx: &Ctx) -> Done {
    let args = ["-y", "-d", &bdf()?, "-i", IMAGE, "burn"];
    let mut tool = Command::new("mstflint")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    sleep(Duration::from_secs(3));
    let ended = tool.try_wait()?;
    tool.kill()?;
    tool.wait()?;
    check!(ended.is_none(), "it ended before it was killed");
    let (free, text) = mstflint(&["verify"])?;
    ctx.note(if free { "not held" } else { text.trim() });
    wait_for("the flash", Duration::from_secs(180), || {
        Ok(mstflint(&["verify"])?.0.then_some(()))
    })?;
    // The firmware's own lock of an update lasts 20 s.
    wait_for("another burn", Duration::from_secs(120), || {
        Ok(mstflint(&["-i", IMAGE, "burn"])?.0.then_some(()))
    })?;
    verify_now()
}
