// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Bad input through the vendor's unmodified tools and through devlink: each is refused with the
//! status that is documented, the tool says so and ends, and the card is as it was. What a tool makes
//! of a status is in its sources: over fwctl it takes the command's status for one of a register, and
//! for MNVDA through a list of its own; by PCI address it reads the operation TLV's.

use std::fs;

use crate::{
    check, check_eq, fail,
    suites::{
        mlx5_probe,
        mst_flash::versions,
        mst_fwctl::field,
        mst_registers::{has_field, item_index},
        programs::{bdf, is_old, over_pci, program, program_code, program_output, tool_device},
    },
    test::{Ctx, Done, Suite, test},
};

pub const SUITE: Suite = Suite {
    name: "mst-refused",
    about: "bad input: registers, configuration items, firmware components, packages",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[
        "mlxfw: Firmware flash failed: ",
        "mlxfw_mfa2: ",
        "firmware: failed to load nosuch.mfa2 (-2)",
        "Direct firmware load for nosuch.mfa2 failed with error -2",
    ],
    tests: &[
        test("an-unknown-name-of-a-register", 60, unknown_name),
        test("an-unknown-register", 60, unknown_register),
        test("a-field-that-is-read-only", 60, read_only),
        test("registers-that-only-tell", 120, only_tell),
        test("a-port-out-of-range", 60, port),
        test("a-port-beyond-a-byte", 60, far_port),
        test("an-unknown-configuration-item", 60, unknown_item),
        test("a-configuration-item-of-a-port-out-of-range", 60, item_port),
        test("a-configuration-item-of-a-later-version", 60, item_version),
        test("a-configuration-item-that-is-too-long", 60, item_long),
        test("a-configuration-item-without-data", 60, item_empty),
        test("a-capability-is-set", 60, item_capability),
        test("a-value-that-is-not-listed", 60, item_value),
        test("an-unknown-component-is-asked-for", 60, unknown_component),
        test("an-unknown-component-is-updated", 60, update_unknown),
        test("an-unknown-update-handle", 60, unknown_handle),
        test("verify-while-nobody-updates", 60, verify_idle),
        test("data-while-nobody-updates", 60, data_idle),
        test("activate-with-nothing-verified", 60, activate_nothing),
        test("the-handle-is-taken", 60, handle_taken),
        test("data-behind-the-end-of-a-component", 60, data_behind),
        test("a-component-larger-than-its-place", 60, too_large),
        test("a-component-that-is-cut-short", 60, cut_short),
        test("a-boot-image-that-is-none", 60, no_image),
        test("an-algorithm-that-is-none", 60, no_algorithm),
        test("a-package-with-a-damaged-image", 120, package_digest),
        test("a-package-that-is-cut-short", 60, package_cut),
        test("a-package-with-a-damaged-head", 60, package_head),
        test(
            "a-package-with-damaged-compression",
            60,
            package_compression,
        ),
        test("a-package-for-another-psid", 60, package_psid),
        test(
            "a-package-with-an-image-of-another-card",
            120,
            package_image,
        ),
        test("a-file-that-is-no-package", 60, no_package),
        test("a-package-that-is-not-there", 60, package_missing),
        test("nothing-of-it-is-left", 60, nothing_left),
    ],
};

/// What the firmware answered, as the tools name it.
#[derive(Clone, Copy)]
enum Says {
    /// BAD_PARAM: an index or a value.
    BadParameter,
    /// BAD_PARAM of an item that there is not.
    UnknownItem,
    /// BAD_OP of an item whose version is not known.
    Version,
    /// BAD_INP_LEN of an item, for which mstflint 4.33 has no words over fwctl.
    Length,
    /// BAD_PARAM of what is read-only.
    ReadOnly,
    /// BAD_RES.
    Resource,
    /// BAD_RES_STATE.
    State,
    /// NO_RES or LIM_ERR.
    Unknown,
}

impl Says {
    /// In 4.33's words; 4.31 has others for the same (`m_err2str`).
    fn text(self, ctx: &Ctx) -> Done<&'static str> {
        let (fwctl, pci) = match self {
            Self::BadParameter => (
                "Register access Unknown TLV",
                "Register access bad parameter",
            ),
            Self::UnknownItem => ("Register access Unknown TLV", "Register access Unknown TLV"),
            Self::Version => (
                "Register access Version not supported",
                "Register access Version not supported",
            ),
            Self::Length => ("Unknown error code", "Register access bad parameter"),
            Self::ReadOnly => (
                "Register access Unknown TLV",
                "Register access Method not supported",
            ),
            Self::Resource => (
                "Register access class not supported",
                "Register access resource unavailable",
            ),
            Self::State => (
                "Message receipt ack",
                "Register access failed, device is busy",
            ),
            Self::Unknown => ("Register access Unknown TLV", "Register not supported"),
        };
        let said = if over_pci(ctx) { pci } else { fwctl };
        if !is_old()? {
            return Ok(said);
        }
        let older = OLDER.iter().find(|(new, _)| *new == said);
        Ok(older.map_or(said, |(_, old)| old))
    }
}

/// What 4.33 says, and what 4.31 says for it: texts of the two binaries.
const OLDER: &[(&str, &str)] = &[
    ("Register access Unknown TLV", "Unknown TLV"),
    ("Register access bad parameter", "Bad parameter"),
    (
        "Register access Version not supported",
        "Version not supported",
    ),
    (
        "Register access Method not supported",
        "Method not supported",
    ),
    ("Register access class not supported", "Class not supported"),
    (
        "Register access resource unavailable",
        "Resource unavailable",
    ),
    ("Register access failed, device is busy", "Device is busy"),
];

/// A program ends with this code, and what it says from `-E-` on is this.
fn refused(name: &str, args: &[&str], code: i32, error: &str) -> Done {
    let (ended, text) = program_code(name, args)?;
    let said = text.lines().find_map(|l| l.find("-E-").map(|at| &l[at..]));
    check_eq!(
        (ended, said.map(str::trim_end)),
        (Some(code), Some(error)),
        "{name} {}: {text}",
        args.join(" ")
    );
    Ok(())
}

/// `mstreg -d DEVICE …` is refused.
fn mstreg(ctx: &Ctx, args: &[&str], error: &str) -> Done {
    let device = tool_device(ctx)?;
    refused("mstreg", &[&["-d", &*device], args].concat(), 1, error)
}

/// `mstreg --set FIELDS` of a register is refused by the firmware. With `-w` the tool does not read first:
/// MCDA cannot be read while a component comes in.
fn set(ctx: &Ctx, register: &str, fields: &str, says: Says) -> Done {
    let error = format!("-E- Failed to send access register: {}", says.text(ctx)?);
    let args = ["--reg_name", register, "--set", fields, "-w", "--yes"];
    mstreg(ctx, &args, &error)
}

/// `mstreg --set FIELDS` of a register is taken.
fn set_ok(ctx: &Ctx, register: &str, fields: &str) -> Done {
    let device = tool_device(ctx)?;
    let args = [
        "-d",
        &device,
        "--reg_name",
        register,
        "--set",
        fields,
        "-w",
        "--yes",
    ];
    let (ok, text) = program("mstreg", &args)?;
    check!(ok, "{register} {fields}: {text}");
    Ok(())
}

fn unknown_name(ctx: &Ctx) -> Done {
    mstreg(
        ctx,
        &["--reg_name", "NOSUCH", "--get"],
        "-E- Can't find access register name: NOSUCH",
    )
}

fn unknown_register(ctx: &Ctx) -> Done {
    let error = format!(
        "-E- Failed send access register: {}",
        Says::Unknown.text(ctx)?
    );
    mstreg(
        ctx,
        &["--reg_id", "0x9999", "--reg_len", "16", "--get"],
        &error,
    )
}

fn read_only(ctx: &Ctx) -> Done {
    mstreg(
        ctx,
        &["--reg_name", "MGIR", "--set", "device_id=1", "--yes"],
        "-E- Field: device_id is ReadOnly",
    )
}

/// Registers that the firmware does not let be set although the database calls a field RW: indices and
/// that field. In several the field chooses what is told; docs/registers.md calls them RO.
pub const READ_ONLY: &[(&str, &str, &str)] = &[
    ("PCAP", "local_port=1", "cm2_en"),
    ("PMLP", "local_port=1", "width"),
    ("PDDR", "local_port=1", "cable_breakout"),
    ("MFPA", "", "boot_address"),
    ("MCIA", "module=0", "l"),
    ("MNVGN", "", "version"),
    ("MPCNT", "", "outbound_read_data_dword_low"),
    ("MCQI", "component_index=0", "offset"),
    ("MQIS", "", "read_length"),
];

fn only_tell(ctx: &Ctx) -> Done {
    let says = Says::ReadOnly.text(ctx)?;
    let error = format!("-E- Failed to send access register: {says}");
    for (name, index, field) in READ_ONLY {
        if !has_field(name, field)? {
            ctx.note(format!("this tool knows no {name}.{field}"));
            continue;
        }
        let set = format!("{field}=1");
        // All at once: the tool else reads first, and shows what it will write.
        let args = ["--reg_name", name, "--set", &set, "-w", "--yes"];
        let at: &[&str] = if index.is_empty() {
            &[]
        } else {
            &["-i", index]
        };
        mstreg(ctx, &[&args, at].concat(), &error)?;
    }
    Ok(())
}

fn no_port(ctx: &Ctx, port: &str) -> Done {
    let error = format!(
        "-E- Failed to send access register: {}",
        Says::BadParameter.text(ctx)?
    );
    mstreg(ctx, &["--reg_name", "PIPG", "--get", "-i", port], &error)
}

fn port(ctx: &Ctx) -> Done {
    no_port(ctx, "local_port=9,lp_msb=0")
}

/// Port 257.
fn far_port(ctx: &Ctx) -> Done {
    no_port(ctx, "local_port=1,lp_msb=1")
}

/// `mstconfig set_raw` of one item is refused by the firmware, and its value is what it was. The file
/// is made of the item's header and data as the tool's own `backup` writes them.
fn set_raw(ctx: &Ctx, header: u32, word: u32, data: &[u32], says: Says) -> Done {
    const FILE: &str = "/tmp/refused.raw";
    let before = next_boot(ctx)?;
    let words = [&[header, word, 0], data].concat();
    let words: Vec<_> = words.iter().map(|w| format!("{w:#010x}")).collect();
    fs::write(FILE, format!("MLNX_RAW_TLV_FILE\n{}\n", words.join(" ")))?;
    let error = format!(
        "-E- Failed to run set_raw command: Failed to set raw TLV: {}",
        says.text(ctx)?
    );
    let device = tool_device(ctx)?;
    let args = ["-y", "-d", &device, "-f", FILE, "set_raw"];
    refused("mstconfig", &args, 3, &error)?;
    check_eq!(next_boot(ctx)?, before, "next-boot value");
    Ok(())
}

/// The next-boot value of the item that is tried, as the firmware has it.
fn next_boot(ctx: &Ctx) -> Done<Vec<Option<u64>>> {
    let device = tool_device(ctx)?;
    let index = item_index(GLOBAL_PCI, 0)?;
    let args = ["-d", &device, "--reg_name", "MNVDA", "--get", "-i", &index];
    let (ok, text) = program("mstreg", &args)?;
    check!(ok, "{text}");
    let names = (0..4).map(|i| format!("configuration_item_data[{i}]"));
    Ok(names.map(|n| field(&text, &n)).collect())
}

/// `nv_global_pci_conf`: 12 bytes, version 0.
const GLOBAL_PCI: u32 = 0x80;
const GLOBAL_PCI_DATA: [u32; 3] = [0x8000_0000, 0x8000_0003, 0];

fn unknown_item(ctx: &Ctx) -> Done {
    set_raw(ctx, 0xc, 0xfff, &GLOBAL_PCI_DATA, Says::UnknownItem)
}

fn item_port(ctx: &Ctx) -> Done {
    // nv_vpi_link_type, of class 1, of the ninth port.
    set_raw(ctx, 0x4, 0x0109_0012, &[2], Says::UnknownItem)
}

fn item_version(ctx: &Ctx) -> Done {
    set_raw(ctx, 0x500c, GLOBAL_PCI, &GLOBAL_PCI_DATA, Says::Version)
}

fn item_long(ctx: &Ctx) -> Done {
    let data = [&GLOBAL_PCI_DATA[..], &[0]].concat();
    set_raw(ctx, 0x10, GLOBAL_PCI, &data, Says::Length)
}

fn item_empty(ctx: &Ctx) -> Done {
    set_raw(ctx, 0, GLOBAL_PCI, &[], Says::Length)
}

fn item_capability(ctx: &Ctx) -> Done {
    // nv_memic_cap, 4 bytes.
    set_raw(ctx, 0x4, 0x7, &[1], Says::ReadOnly)
}

/// `nv_crypto_conf`, 8 bytes, of which the first is CRYPTO_POLICY: the database lists 0 to 2.
fn item_value(ctx: &Ctx) -> Done {
    const FILE: &str = "/tmp/refused.raw";
    let device = tool_device(ctx)?;
    let args = ["-y", "-d", &device, "-f", FILE, "set_raw"];
    let with = |policy: u32| {
        let item = format!("0x00000008 0x00000120 0x00000000 {:#010x}", policy << 24);
        fs::write(FILE, format!("MLNX_RAW_TLV_FILE\n{item} 0x00000000\n"))?;
        program("mstconfig", &args)
    };
    let (ok, text) = with(7)?;
    check!(!ok && text.contains("Failed to set raw TLV"), "{text}");
    let shown = program_output("mstconfig", &["-d", &device, "q", "CRYPTO_POLICY"])?;
    check!(shown.contains("DEVICE_DEFAULT(0)"), "{shown}");
    // What it has already is taken.
    let (ok, text) = with(0)?;
    check!(ok, "{text}");
    let back = ["-y", "-d", &device, "reset", "NV_CRYPTO_CONF"];
    program_output("mstconfig", &back).map(drop)
}

/// Instructions of MCC.
const LOCK: u8 = 1;
const UPDATE: u8 = 3;
const VERIFY: u8 = 4;
const ACTIVATE: u8 = 6;
const FORCE_RELEASE: u8 = 0xa;
/// Components by their index; the second is the congestion control's.
const BOOT_IMAGE: u16 = 0;
const CONGESTION: u16 = 1;
/// `MCC.control_state` and `MCC.error_code`.
const IDLE: u64 = 0;
const LOCKED: u64 = 1;
const DIGEST: u64 = 2;
const BAD_FORMAT: u64 = 8;

/// `handle`, `control_state` and `error_code` of MCC.
fn mcc_state(ctx: &Ctx) -> Done<(u64, u64, u64)> {
    let device = tool_device(ctx)?;
    let (ok, text) = program("mstreg", &["-d", &device, "--reg_name", "MCC", "--get"])?;
    let of = |name| field(&text, name);
    match (of("update_handle"), of("control_state"), of("error_code")) {
        (Some(handle), Some(state), Some(error)) if ok => Ok((handle, state, error)),
        _ => fail!("{text}"),
    }
}

/// The fields of an instruction.
fn instruction(what: u8, handle: u64, component: u16, size: usize) -> String {
    format!(
        "instruction={what},update_handle={handle:#x},component_index={component},component_size={size}"
    )
}

/// The firmware is told, and does it.
fn told(ctx: &Ctx, what: u8, handle: u64, component: u16, size: usize) -> Done {
    set_ok(ctx, "MCC", &instruction(what, handle, component, size))
}

/// Somebody has the handle while `then` runs; whoever had one lost it before.
fn locked(ctx: &Ctx, then: impl FnOnce(u64) -> Done) -> Done {
    told(ctx, FORCE_RELEASE, 0, 0, 0)?;
    let (handle, state, _) = mcc_state(ctx)?;
    check_eq!(state, IDLE, "state");
    told(ctx, LOCK, handle, 0, 0)?;
    let done = then(handle);
    told(ctx, FORCE_RELEASE, 0, 0, 0)?;
    done
}

/// An instruction is refused, and the state is what it was.
fn mcc_refused(ctx: &Ctx, what: u8, handle: u64, component: u16, size: usize, says: Says) -> Done {
    let before = mcc_state(ctx)?;
    set(
        ctx,
        "MCC",
        &instruction(what, handle, component, size),
        says,
    )?;
    check_eq!(mcc_state(ctx)?, before, "handle, state, error");
    Ok(())
}

/// The fields of an MCDA with one dword.
fn piece(handle: u64, offset: usize, dword: u32) -> String {
    format!("update_handle={handle:#x},offset={offset:#x},size=4,data[0]={dword:#x}")
}

fn unknown_component(ctx: &Ctx) -> Done {
    let error = format!(
        "-E- Failed to send access register: {}",
        Says::BadParameter.text(ctx)?
    );
    let index = ["-i", "component_index=7"];
    mstreg(
        ctx,
        &[&["--reg_name", "MCQI", "--get"], &index[..]].concat(),
        &error,
    )
}

fn update_unknown(ctx: &Ctx) -> Done {
    locked(ctx, |h| {
        mcc_refused(ctx, UPDATE, h, 7, 64, Says::BadParameter)
    })
}

fn unknown_handle(ctx: &Ctx) -> Done {
    mcc_refused(ctx, LOCK, 0x999, 0, 0, Says::Resource)?;
    locked(ctx, |_| {
        mcc_refused(ctx, UPDATE, 0x999, CONGESTION, 64, Says::Resource)
    })
}

fn verify_idle(ctx: &Ctx) -> Done {
    let (handle, state, _) = mcc_state(ctx)?;
    check_eq!(state, IDLE, "state");
    mcc_refused(ctx, VERIFY, handle, CONGESTION, 0, Says::State)
}

fn data_idle(ctx: &Ctx) -> Done {
    let (handle, ..) = mcc_state(ctx)?;
    set(ctx, "MCDA", &piece(handle, 0, 1), Says::State)
}

fn activate_nothing(ctx: &Ctx) -> Done {
    locked(ctx, |h| mcc_refused(ctx, ACTIVATE, h, 0, 0, Says::State))
}

fn handle_taken(ctx: &Ctx) -> Done {
    locked(ctx, |h| mcc_refused(ctx, LOCK, h, 0, 0, Says::State))
}

fn data_behind(ctx: &Ctx) -> Done {
    locked(ctx, |h| {
        told(ctx, UPDATE, h, CONGESTION, 64)?;
        // Behind the end, and not at a dword.
        set(ctx, "MCDA", &piece(h, 64, 1), Says::BadParameter)?;
        set(ctx, "MCDA", &piece(h, 2, 1), Says::BadParameter)
    })
}

fn too_large(ctx: &Ctx) -> Done {
    // Of congestion control MCQI says 64 KiB.
    locked(ctx, |h| {
        let more = (64 << 10) + 4;
        mcc_refused(ctx, UPDATE, h, CONGESTION, more, Says::BadParameter)
    })
}

/// One dword of `size` bytes comes, and then it is to be verified.
fn rejected(ctx: &Ctx, component: u16, size: usize, error: u64) -> Done {
    locked(ctx, |h| {
        told(ctx, UPDATE, h, component, size)?;
        set_ok(ctx, "MCDA", &piece(h, 0, 0x1234_5678))?;
        told(ctx, VERIFY, h, component, 0)?;
        check_eq!(mcc_state(ctx)?, (h, LOCKED, error), "handle, state, error");
        // And there is nothing to activate.
        mcc_refused(ctx, ACTIVATE, h, 0, 0, Says::State)
    })
}

fn cut_short(ctx: &Ctx) -> Done {
    rejected(ctx, CONGESTION, 8, DIGEST)
}

fn no_image(ctx: &Ctx) -> Done {
    rejected(ctx, BOOT_IMAGE, 4, BAD_FORMAT)
}

fn no_algorithm(ctx: &Ctx) -> Done {
    rejected(ctx, CONGESTION, 4, BAD_FORMAT)
}

/// `fwctl-emu image --mfa2` for this card and for another one.
const PACKAGE: &str = "28.44.1.mfa2";
const OTHER_PACKAGE: &str = "other.mfa2";
/// Where in it are the first TLV, the PSID of 13 bytes, and where the compressed part begins. Then come
/// the component's head, what compresses it, and the image.
const FIRST_TLV: usize = 17;
const PSID: usize = 68;
const COMPRESSED: usize = 124;
const IMAGE: usize = 50_000;

/// `devlink dev flash` of a package that was changed is refused; the kernel's log has the same words,
/// and the versions are what they were.
fn package(from: &str, change: impl FnOnce(&mut Vec<u8>), error: &str, logged: &str) -> Done {
    const NAME: &str = "refused.mfa2";
    let mut bytes = fs::read(format!("/files/{from}"))?;
    change(&mut bytes);
    fs::write(format!("/lib/firmware/{NAME}"), bytes)?;
    flash(NAME, &format!("mlxfw: Firmware flash failed: {error}."), 1)?;
    let (_, log) = program("dmesg", &[])?;
    let line = format!("mlxfw: Firmware flash failed: {error}, err ({logged})");
    let last = log.lines().rfind(|l| l.contains("Firmware flash failed"));
    check!(last.is_some_and(|l| l.ends_with(&line)), "{last:?}");
    Ok(())
}

/// `devlink dev flash` of a file ends with this code and error; the versions are what they were.
fn flash(file: &str, error: &str, code: i32) -> Done {
    let before = versions()?;
    let device = format!("pci/{}", bdf()?);
    let (ended, text) = program_code("devlink", &["dev", "flash", &device, "file", file])?;
    let said = text.lines().find_map(|l| l.strip_prefix("Error: "));
    check_eq!((ended, said), (Some(code), Some(error)), "{text}");
    check_eq!(versions()?, before, "versions");
    Ok(())
}

fn package_digest(_: &Ctx) -> Done {
    package(
        PACKAGE,
        |b| b[IMAGE] ^= 0xff,
        "component hash mismatch",
        "2",
    )
}

fn package_cut(_: &Ctx) -> Done {
    package(
        PACKAGE,
        |b| b.truncate(b.len() - 100),
        "Failed to initialize MFA2 firmware file",
        "-22",
    )
}

fn package_head(_: &Ctx) -> Done {
    package(
        PACKAGE,
        |b| b[FIRST_TLV] = 0xff,
        "Failed to initialize MFA2 firmware file",
        "-22",
    )
}

fn package_compression(_: &Ctx) -> Done {
    package(
        PACKAGE,
        |b| b[COMPRESSED] = 0,
        "Failed to get MFA2 component",
        "-22",
    )
}

fn package_psid(_: &Ctx) -> Done {
    package(
        OTHER_PACKAGE,
        |_| (),
        "Could not find device PSID in MFA2 file",
        "-22",
    )
}

fn package_image(_: &Ctx) -> Done {
    package(
        OTHER_PACKAGE,
        |b| b[PSID..PSID + 13].copy_from_slice(b"EMU0000000007"),
        "component not applicable",
        "3",
    )
}

fn no_package(_: &Ctx) -> Done {
    package("28.45.1000.bin", |_| (), "Firmware file is not MFA2", "-22")
}

fn package_missing(_: &Ctx) -> Done {
    flash(
        "nosuch.mfa2",
        "failed to locate the requested firmware file.",
        1,
    )
}

/// Whatever was refused holds nothing back: the state is idle, and a register is read as ever.
fn nothing_left(ctx: &Ctx) -> Done {
    check_eq!(mcc_state(ctx)?.1, IDLE, "MCC's state");
    let device = tool_device(ctx)?;
    let (ok, text) = program("mstreg", &["-d", &device, "--reg_name", "MGIR", "--get"])?;
    check!(ok && field(&text, "device_id") == Some(0x1021), "{text}");
    Ok(())
}
