// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Firmware is updated: by devlink through mlxfw, by mstflint through fwctl and through the flash.
//! The files come from `fwctl-emu image`; what the tools must say is in their sources.

use std::fs;

use crate::{
    check, check_eq, fail,
    suites::{
        mlx5_probe,
        mlx5_reload::{back, replies},
        mlx5_reset::fw_activate,
        programs::{bdf, program, program_output, run_program, tool_device},
    },
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

/// The profile's version, and those of the files. The firmware's text of the second one, 28.44.1, is shorter.
const FACTORY: &str = "28.43.1014";
const FROM_DEVLINK: &str = "28.44.0001";
/// What `mstflint burn` leaves behind, in this suite.
pub const FROM_MSTFLINT: &str = "28.45.1000";
const PACKAGE: &str = "28.44.1.mfa2";
const IMAGE: &str = "/files/28.45.1000.bin";
const OTHER_CARD: &str = "/files/other.bin";

pub const SUITE: Suite = Suite {
    name: "mst-flash",
    about: "devlink dev flash, mstflint query, burn, verify and read; the new firmware after a reset",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[
        "mlxfw: Firmware flash failed: Firmware file is not MFA2",
        "PCI Sync FW Update Reset Ack. Device reset is expected.",
        "Sync Reset now. Device is going to reset.",
        // Announced before the reset, and armed again when the channel is gone.
        "FWTracer: Failed to arm tracer event -67",
        "Skipping wait for vf pages stage",
        "No PCI link reporting capability",
    ],
    tests: &[
        test("mstflint-query", 60, query),
        test("mstflint-burns-congestion-control", 60, congestion_control),
        test("devlink-dev-flash", 120, flash),
        test("mstflint-shows-what-is-pending", 60, pending),
        test("mstflint-takes-the-update-back", 180, take_back),
        test("fw-activate-starts-it", 240, activate),
        test("a-file-that-is-no-package-is-refused", 60, no_package),
        test("mstflint-verify", 180, verify),
        test("mstflint-refuses-an-image-of-another-card", 120, other_card),
        test("mstflint-burns-a-newer-image", 240, burn),
        test("mstflint-reads-the-image-back", 180, read_back),
    ],
};

/// Behind [`SUITE`], which leaves an image of [`FROM_MSTFLINT`] to start with next.
pub const FORBIDDEN: Suite = Suite {
    name: "mst-flash-forbidden",
    about: "a version that nv_forbidden_versions names is refused until it no longer does",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[
        "mlxfw: Firmware flash failed: unknown error",
        "PCI Sync FW Update Reset Ack. Device reset is expected.",
        "Sync Reset now. Device is going to reset.",
        "FWTracer: Failed to arm tracer event -67",
        "Skipping wait for vf pages stage",
        "No PCI link reporting capability",
    ],
    tests: &[
        test("a-forbidden-version-is-refused", 400, forbidden),
        test("an-allowed-version-is-taken", 400, allowed),
    ],
};

/// Past the firmware, through the flash chip's own gateway.
pub const DIRECT: Suite = Suite {
    name: "mst-flash-direct",
    about: "mstflint -ocr: the flash chip itself is queried, verified and burnt",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("knows-the-chip", 120, chip),
        test("verifies", 240, verify_direct),
        test("burns", 400, burn_direct),
    ],
};

/// What is behind `title` in what mstflint prints.
pub fn value(text: &str, title: &str) -> Option<String> {
    let line = text.lines().find_map(|l| l.strip_prefix(title))?;
    Some(line.trim().to_owned())
}

/// Running and stored version as devlink knows them.
pub fn versions() -> Done<(String, String)> {
    let text = program_output("devlink", &["dev", "info", &format!("pci/{}", bdf()?)])?;
    let of = |part: &str| {
        let behind = text.split(part).nth(1)?;
        let line = behind
            .lines()
            .find_map(|l| l.trim().strip_prefix("fw.version "))?;
        Some(line.to_owned())
    };
    match (of("running:"), of("stored:")) {
        (Some(running), Some(stored)) => Ok((running, stored)),
        _ => fail!("{text}"),
    }
}

/// Checks [`versions`].
pub fn expect(running: &str, stored: &str) -> Done {
    check_eq!(
        versions()?,
        (running.to_owned(), stored.to_owned()),
        "versions"
    );
    Ok(())
}

fn query(ctx: &Ctx) -> Done {
    let text = program_output("mstflint", &["-d", &tool_device(ctx)?, "q", "full"])?;
    for (title, expected) in [
        ("Image type:", "FS4"),
        ("FW Version:", FACTORY),
        ("PSID:", "EMU0000000007"),
        ("Part Number:", "EMU-0000000007"),
        // The profile's base_mac and its EUI-64, with how many the card has been given.
        ("Base GUID:", "00c907fffe000000        16"),
        ("Base MAC:", "02c907000000            16"),
    ] {
        check_eq!(value(&text, title).as_deref(), Some(expected), "{title}");
    }
    Ok(())
}

fn congestion_control(ctx: &Ctx) -> Done {
    const FILE: &str = "/tmp/cc.bin";
    // mstflint wants these four bytes first.
    let mut bytes = vec![0xcc, 0x00, 0xcc, 0x01];
    bytes.extend((0..20_000u32).map(|i| (i * 7) as u8));
    fs::write(FILE, &bytes)?;
    program_output(
        "mstflint",
        &["-y", "-d", &tool_device(ctx)?, "--cc", "x", "-i", FILE, "b"],
    )?;
    fs::write(FILE, &bytes[4..])?;
    let (ok, text) = program(
        "mstflint",
        &["-y", "-d", &tool_device(ctx)?, "--cc", "x", "-i", FILE, "b"],
    )?;
    check!(!ok && text.contains("Wrong Image signature"), "{text}");
    Ok(())
}

fn devlink_flash(file: &str) -> Done<(bool, String)> {
    let device = format!("pci/{}", bdf()?);
    program("devlink", &["dev", "flash", &device, "file", file])
}

fn flash(_: &Ctx) -> Done {
    expect(FACTORY, FACTORY)?;
    let (ok, text) = devlink_flash(PACKAGE)?;
    check!(ok && text.contains("Firmware flash done"), "{text}");
    expect(FACTORY, FROM_DEVLINK)
}

fn pending(ctx: &Ctx) -> Done {
    let text = program_output("mstflint", &["-d", &tool_device(ctx)?, "q"])?;
    check_eq!(
        value(&text, "FW Version:").as_deref(),
        Some(FROM_DEVLINK),
        "pending"
    );
    check_eq!(
        value(&text, "FW Version(Running):").as_deref(),
        Some(FACTORY),
        "running"
    );
    // The text of the one that runs, and nothing behind it.
    check_eq!(
        value(&text, "Product Version:").as_deref(),
        Some(FACTORY),
        "{text}"
    );
    Ok(())
}

/// MIRC. The tool writes it, and reads its status until that is no longer busy.
fn take_back(ctx: &Ctx) -> Done {
    let device = tool_device(ctx)?;
    let reactivate = || program("mstflint", &["-d", &device, "ir"]);
    let (ok, text) = reactivate()?;
    check!(
        ok && text.contains("-I- FW Image Reactivation succeeded."),
        "{text}"
    );
    expect(FACTORY, FACTORY)?;
    let text = program_output("mstflint", &["-d", &device, "q"])?;
    check_eq!(
        value(&text, "FW Version:").as_deref(),
        Some(FACTORY),
        "{text}"
    );
    // Printed only where it is another one than starts next.
    check_eq!(value(&text, "FW Version(Running):"), None, "{text}");
    let (ok, text) = reactivate()?;
    check!(!ok && text.contains("FW already reactivated"), "{text}");
    expect(FACTORY, FACTORY)?;
    // The tests to come start from an update that is pending.
    let (ok, text) = devlink_flash(PACKAGE)?;
    check!(ok && text.contains("Firmware flash done"), "{text}");
    expect(FACTORY, FROM_DEVLINK)
}

fn activate(ctx: &Ctx) -> Done {
    let before = replies()?;
    let device = format!("pci/{}", bdf()?);
    run_program(
        ctx,
        "devlink",
        &["dev", "reload", &device, "action", "fw_activate"],
    )?;
    wait_for("the new version", APPEAR, || {
        Ok(versions().ok().filter(|v| v.0 == FROM_DEVLINK))
    })?;
    expect(FROM_DEVLINK, FROM_DEVLINK)?;
    back(&before)
}

fn no_package(_: &Ctx) -> Done {
    // mlxfw wants MFA2.
    let (ok, text) = devlink_flash("28.45.1000.bin")?;
    check!(!ok && text.contains("Firmware file is not MFA2"), "{text}");
    expect(FROM_DEVLINK, FROM_DEVLINK)
}

fn forbidden(ctx: &Ctx) -> Done {
    const FILE: &str = "/tmp/forbidden.raw";
    /// `nv_forbidden_versions`: item 4 of 144 bytes, with the first of 32 versions at byte 16.
    const DWORDS: usize = 36;
    const FIRST: usize = 4;
    let mut words = [0u32; DWORDS];
    // As MCQI writes a version: a byte, a byte and two of 28.44.1.
    words[FIRST] = 28 << 24 | 44 << 16 | 1;
    let words: Vec<_> = words.iter().map(|w| format!("{w:#010x}")).collect();
    let header = "0x00000090 0x00000004 0x00000000";
    fs::write(
        FILE,
        format!("MLNX_RAW_TLV_FILE\n{header} {}\n", words.join(" ")),
    )?;
    let device = tool_device(ctx)?;
    program_output("mstconfig", &["-y", "-d", &device, "-f", FILE, "set_raw"])?;
    fw_activate()?;
    mlx5_probe::wait_until_up()?;
    let before = versions()?;
    check!(before.1 != FROM_DEVLINK, "{before:?}");
    // MCC.error_code is 0xf, for which the kernel has no words (mlxfw_fsm_state_err); the tool has them
    // (FWCOMPS_MCC_REJECTED_FORBIDDEN_VERSION).
    let (ok, text) = devlink_flash(PACKAGE)?;
    check!(
        !ok && text.contains("mlxfw: Firmware flash failed: unknown error."),
        "{text}"
    );
    check_eq!(versions()?, before, "versions");
    Ok(())
}

fn allowed(ctx: &Ctx) -> Done {
    let (running, _) = versions()?;
    program_output("mstconfig", &["-y", "-d", &tool_device(ctx)?, "reset"])?;
    fw_activate()?;
    mlx5_probe::wait_until_up()?;
    let (ok, text) = devlink_flash(PACKAGE)?;
    check!(ok && text.contains("Firmware flash done"), "{text}");
    expect(&running, FROM_DEVLINK)
}

/// `mstflint -d BDF …`, through the flash itself.
pub fn mstflint(args: &[&str]) -> Done<(bool, String)> {
    let bdf = bdf()?;
    program("mstflint", &[&["-y", "-d", &bdf], args].concat())
}

fn is_bootable() -> Done {
    let (ok, text) = mstflint(&["verify"])?;
    check!(
        ok && text.contains("FW image verification succeeded. Image is bootable."),
        "{text}"
    );
    for section in [
        "BOOT2",
        "ITOC_HEADER",
        "MAIN_CODE",
        "IMAGE_INFO",
        "DEV_INFO",
        "MFG_INFO",
    ] {
        check!(
            text.contains(&format!("({section}) - OK")),
            "no {section}: {text}"
        );
    }
    Ok(())
}

fn verify(_: &Ctx) -> Done {
    is_bootable()
}

fn other_card(_: &Ctx) -> Done {
    let (ok, text) = mstflint(&["-i", OTHER_CARD, "burn"])?;
    check!(!ok && text.contains("PSID mismatch"), "{text}");
    expect(FROM_DEVLINK, FROM_DEVLINK)
}

fn burn(_: &Ctx) -> Done {
    let (ok, text) = mstflint(&["-i", IMAGE, "burn"])?;
    check!(ok && text.contains("To load new FW"), "{text}");
    check!(!text.contains("-W-"), "a warning: {text}");
    expect(FROM_DEVLINK, FROM_MSTFLINT)?;
    is_bootable()
}

fn read_back(_: &Ctx) -> Done {
    const FILE: &str = "/tmp/read.bin";
    let (ok, text) = mstflint(&["ri", FILE])?;
    check!(ok, "{text}");
    let read = fs::read(FILE)?;
    let image = fs::read(IMAGE)?;
    check_eq!(read.len(), 32 << 20, "bytes");
    check!(read.starts_with(&image), "another image than was burnt");
    let text = program_output("mstflint", &["-i", FILE, "q"])?;
    check_eq!(
        value(&text, "FW Version:").as_deref(),
        Some(FROM_MSTFLINT),
        "version"
    );
    Ok(())
}

fn direct(args: &[&str]) -> Done<String> {
    let (ok, text) = mstflint(&[&["-ocr"], args].concat())?;
    check!(ok, "{text}");
    Ok(text)
}

fn chip(_: &Ctx) -> Done {
    let text = direct(&["hw", "query"])?;
    let of = |title: &str| {
        let mut words = text.lines().map(str::split_whitespace);
        words.find_map(|mut w| (w.next() == Some(title)).then(|| w.next()))?
    };
    // mstflint's own name for the chip with this id; 32 MiB.
    check_eq!(of("Type"), Some("MX25Lxxx"), "{text}");
    check_eq!(of("TotalSize"), Some("0x2000000"), "{text}");
    check_eq!(of("JEDEC_ID"), Some("0x1920c2"), "{text}");
    Ok(())
}

fn verify_direct(_: &Ctx) -> Done {
    let text = direct(&["verify"])?;
    check!(
        text.contains("FW image verification succeeded. Image is bootable."),
        "{text}"
    );
    Ok(())
}

fn burn_direct(ctx: &Ctx) -> Done {
    let before = value(&direct(&["q"])?, "FW Version:");
    let text = direct(&["-i", IMAGE, "burn"])?;
    check!(text.contains("To load new FW"), "{text}");
    let after = value(&direct(&["q"])?, "FW Version:");
    ctx.note(format!("{before:?} -> {after:?}"));
    check_eq!(after.as_deref(), Some(FROM_MSTFLINT), "by the chip");
    // The firmware sees the same flash, and still runs what it did.
    let (ok, text) = mstflint(&["q"])?;
    check!(ok, "{text}");
    check_eq!(
        value(&text, "FW Version:").as_deref(),
        Some(FROM_MSTFLINT),
        "{text}"
    );
    check_eq!(value(&text, "FW Version(Running):"), before, "{text}");
    verify_direct(ctx)
}
