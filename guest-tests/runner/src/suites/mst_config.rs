// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! mstconfig, over fwctl or by PCI address. Names and places of parameters are those of its own database.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use fwctl_proto::opcode;
use fwctl_uapi::{Scope, mlx5};

use crate::{
    check, check_eq,
    suites::{
        mlx5_probe::{self, first},
        mlx5_reset::{ANNOUNCED, fw_activate},
        programs::{program, program_output, tool_device},
    },
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

pub const SUITE: Suite = Suite {
    name: "mst-config",
    about: "mstconfig: query, set, reset, backup, set_raw, JSON",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("set-is-for-the-next-boot", 120, set),
        test("a-value-out-of-range-is-refused", 120, range),
        test("backup-reset-and-set-raw", 180, backup),
        test("backup-of-a-long-item", 60, backup_long),
        test("devlink-sets-a-permanent-parameter", 120, permanent),
        test("json", 60, json),
        test("show-confs", 60, show_confs),
        test("reset", 120, reset),
    ],
};

/// One after the other, with an emulator that is killed between the first two; or the first and the last, with a
/// reboot of the guest between them.
pub const VIRTUAL_FUNCTIONS: Suite = Suite {
    name: "mst-virtual-functions",
    about: "SRIOV_EN and NUM_OF_VFS: set, kept when the emulator is killed, in force after a reset",
    subjects: mlx5_probe::SUBJECTS,
    expects: ANNOUNCED,
    tests: &[
        test("set", 120, set),
        test("kept-for-the-next-boot", 120, kept),
        test("in-force-after-a-reset", 240, in_force),
        test("in-force-after-a-reboot", 120, rebooted),
    ],
};

/// While somebody changes the firmware's answers.
pub const AMENDED: Suite = Suite {
    name: "mst-amended",
    about: "mstconfig shows what a stopped answer was changed to",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[test("shows-the-changed-value", 120, amended)],
};

/// What scripts/expected-parameters makes of the tool's database and the card's profile, as a file in
/// the guest.
const EXPECTED: &str = "/files/expected-parameters";

/// On a card of any profile.
pub const LIST: Suite = Suite {
    name: "mst-config-list",
    about: "mstconfig -e query: the parameters that the database gives the card, and no others",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[test("lists-what-the-database-says", 600, list)],
};

pub fn mstconfig(ctx: &Ctx, args: &[&str]) -> Done<String> {
    let device = tool_device(ctx)?;
    program_output("mstconfig", &[&["-y", "-d", &device], args].concat())
}

/// Parameters that a query lists: name and values, each as it is printed.
fn listed(text: &str) -> BTreeMap<String, Vec<String>> {
    let lines = text
        .lines()
        .skip_while(|l| !l.starts_with("Configurations:"))
        .skip(1);
    lines
        .filter(|l| l.starts_with(['*', ' ', '\t']))
        .filter_map(|l| {
            let mut words = l.trim_start_matches(['*', ' ', '\t']).split_whitespace();
            Some((words.next()?.to_owned(), words.map(str::to_owned).collect()))
        })
        .collect()
}

/// The next-boot value of a parameter.
pub fn next(ctx: &Ctx, name: &str) -> Done<Option<String>> {
    let text = mstconfig(ctx, &["q", name])?;
    let values = listed(&text).remove(name);
    Ok(values.and_then(|v| v.into_iter().next()))
}

/// Default, current and next-boot value of a parameter.
fn values(ctx: &Ctx, name: &str) -> Done<Vec<String>> {
    let text = mstconfig(ctx, &["-e", "q", name])?;
    Ok(listed(&text).remove(name).unwrap_or_default())
}

fn set(ctx: &Ctx) -> Done {
    mstconfig(ctx, &["set", "SRIOV_EN=1", "NUM_OF_VFS=8"])?;
    check_eq!(
        values(ctx, "SRIOV_EN")?,
        ["False(0)", "False(0)", "True(1)"],
        "SRIOV_EN"
    );
    check_eq!(values(ctx, "NUM_OF_VFS")?, ["0", "0", "8"], "NUM_OF_VFS");
    Ok(())
}

fn kept(ctx: &Ctx) -> Done {
    check_eq!(
        values(ctx, "SRIOV_EN")?,
        ["False(0)", "False(0)", "True(1)"],
        "SRIOV_EN"
    );
    check_eq!(values(ctx, "NUM_OF_VFS")?, ["0", "0", "8"], "NUM_OF_VFS");
    check_eq!(total_vfs(ctx)?, 0, "virtual functions");
    Ok(())
}

/// `host_params_context.host_total_vfs` of QUERY_ESW_FUNCTIONS.
pub fn total_vfs(ctx: &Ctx) -> Done<u16> {
    const OUT_BYTES: usize = 128;
    let device = ctx.open()?;
    let mut out = [0; OUT_BYTES];
    let inbox = mlx5::inbox(opcode::QUERY_ESW_FUNCTIONS, 0, mlx5::HEADER);
    device.rpc(Scope::Configuration, &inbox, &mut out)?;
    check!(mlx5::status(&out)?.is_ok(), "{}", mlx5::status(&out)?);
    Ok(u16::from_be_bytes([out[20], out[21]]))
}

fn in_force(ctx: &Ctx) -> Done {
    fw_activate()?;
    rebooted(ctx)
}

/// mstconfig has asked for a reset at the reboot, and this is after it.
fn rebooted(ctx: &Ctx) -> Done {
    wait_for("the new values", APPEAR, || {
        Ok((total_vfs(ctx).ok() == Some(8)).then_some(()))
    })?;
    check_eq!(
        values(ctx, "SRIOV_EN")?,
        ["False(0)", "True(1)", "True(1)"],
        "SRIOV_EN"
    );
    check_eq!(values(ctx, "NUM_OF_VFS")?, ["0", "8", "8"], "NUM_OF_VFS");
    Ok(())
}

fn show_confs(ctx: &Ctx) -> Done {
    let text = mstconfig(ctx, &["show_confs"])?;
    // In the database, each visible parameter has a line that begins with its name and `=`.
    for name in [
        "SRIOV_EN=<False|True>",
        "NUM_OF_VFS=<NUM>",
        "LINK_TYPE_P1=<",
    ] {
        check!(text.contains(name), "no {name}");
    }
    let parameters = text.lines().filter(|l| l.contains("=<")).count();
    ctx.note(format!("{parameters} parameters"));
    check!(parameters > 700, "too few");
    Ok(())
}

fn range(ctx: &Ctx) -> Done {
    let device = tool_device(ctx)?;
    let args = ["-y", "-d", &device, "set", "NUM_OF_VFS=128"];
    let (ok, text) = program("mstconfig", &args)?;
    // nv_global_pci_cap.max_vfs_per_pf of the profile.
    check!(
        !ok && text.contains("larger than maximum allowed 127"),
        "{text}"
    );
    check_eq!(values(ctx, "NUM_OF_VFS")?, ["0", "0", "8"], "NUM_OF_VFS");
    Ok(())
}

fn backup(ctx: &Ctx) -> Done {
    const FILE: &str = "/tmp/backup.raw";
    mstconfig(ctx, &["-f", FILE, "backup"])?;
    let text = fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
    // sriov_valid; sriov_en and total_vfs: bits 31 of the first two dwords, 15:0 of the second.
    check!(
        text.lines().any(|l| {
            let mut words = l.split_whitespace();
            let data: Vec<_> = words.by_ref().skip(3).collect();
            l.contains(" 0x00000080 ") && data == ["0x80000000", "0x80000008", "0x00000000"]
        }),
        "{text}"
    );
    mstconfig(ctx, &["reset", "NV_GLOBAL_PCI_CONF"])?;
    check_eq!(values(ctx, "NUM_OF_VFS")?, ["0", "0", "0"], "after reset");
    mstconfig(ctx, &["-f", FILE, "set_raw"])?;
    check_eq!(values(ctx, "NUM_OF_VFS")?, ["0", "0", "8"], "after set_raw");
    Ok(())
}

/// MNVGN tells at most 128 bytes of an item, which is what the tool has room for.
fn backup_long(ctx: &Ctx) -> Done {
    const FILE: &str = "/tmp/long.raw";
    const TOLD: usize = 128;
    // nv_forbidden_versions, the card's item of 144 bytes.
    const TYPE: &str = "0x00000004";
    const BYTES: usize = 144;
    let words: Vec<_> = (1..=BYTES / 4)
        .map(|i| format!("{:#010x}", i * 0x0101))
        .collect();
    let header = ["0x00000090", TYPE, "0x00000000"].join(" ");
    fs::write(
        FILE,
        format!("MLNX_RAW_TLV_FILE\n{header} {}\n", words.join(" ")),
    )?;
    mstconfig(ctx, &["-f", FILE, "set_raw"])?;
    mstconfig(ctx, &["-f", FILE, "backup"])?;
    let text = fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
    let mut lines = text
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    let found = lines.find(|w| w.get(1) == Some(&TYPE)).unwrap_or_default();
    let length = found
        .first()
        .and_then(|w| u32::from_str_radix(w.trim_start_matches("0x"), 16).ok());
    check_eq!(
        length.map(|l| l as usize & 0x1ff),
        Some(TOLD),
        "length: {text}"
    );
    let data: Vec<_> = found.iter().skip(3).map(|w| (*w).to_owned()).collect();
    check_eq!(data, words[..TOLD / 4], "data");
    mstconfig(ctx, &["reset"])?;
    // As the tests behind this one want it.
    set(ctx)
}

/// The permanent value of a parameter of the first function, as devlink shows it.
pub fn shown(name: &str) -> Done<Option<String>> {
    let device = first()?;
    let text = program_output("devlink", &["dev", "param", "show", &device, "name", name])?;
    let line = text.lines().find(|l| l.contains("cmode permanent"));
    Ok(line.and_then(|l| l.split_whitespace().nth(3).map(str::to_owned)))
}

/// `devlink dev param set` of a permanent value.
fn devlink_set(name: &str, value: &str) -> Done<(bool, String)> {
    let device = first()?;
    let set = ["dev", "param", "set", &device, "name", name];
    let to = ["value", value, "cmode", "permanent"];
    program("devlink", &[&set[..], &to].concat())
}

/// Sets a parameter's permanent value, which devlink then shows.
pub fn set_permanent(name: &str, value: &str) -> Done {
    let (ok, text) = devlink_set(name, value)?;
    check!(ok, "{name} {value}: {text}");
    check_eq!(shown(name)?.as_deref(), Some(value), "{name}");
    Ok(())
}

/// A value that the driver refuses in these words, which stand in its source (lib/nv_param.c).
pub fn refuse_permanent(name: &str, value: &str, why: &str) -> Done {
    let before = shown(name)?;
    let (ok, text) = devlink_set(name, value)?;
    check!(!ok && text.contains(why), "{name} {value}: {text}");
    check_eq!(shown(name)?, before, "{name}");
    Ok(())
}

/// What mlx5_core does not itself set: it is asked of the firmware, and in force after a reset.
fn permanent(ctx: &Ctx) -> Done {
    const NAME: &str = "cqe_compress_type";
    let shown = || shown(NAME);
    check_eq!(shown()?.as_deref(), Some("balanced"), "devlink");
    check_eq!(
        values(ctx, "CQE_COMPRESSION")?,
        ["BALANCED(0)"; 3],
        "mstconfig"
    );
    for (value, next) in [("aggressive", "AGGRESSIVE(1)"), ("balanced", "BALANCED(0)")] {
        set_permanent(NAME, value)?;
        check_eq!(shown()?.as_deref(), Some(value), "devlink");
        check_eq!(
            values(ctx, "CQE_COMPRESSION")?,
            ["BALANCED(0)", "BALANCED(0)", next],
            "mstconfig"
        );
    }
    // A value that there is not is refused by the driver.
    refuse_permanent(
        NAME,
        "nosuch",
        "Invalid value, supported values are balanced/aggressive",
    )?;
    check_eq!(shown()?.as_deref(), Some("balanced"), "devlink");
    Ok(())
}

fn json(ctx: &Ctx) -> Done {
    const FILE: &str = "/tmp/query.json";
    mstconfig(ctx, &["-j", FILE, "q", "NUM_OF_VFS"])?;
    let text = fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    check!(
        text.contains(r#""NUM_OF_VFS" : { "next_value" : 8, "read_only" : false }"#),
        "{text}"
    );
    Ok(())
}

fn reset(ctx: &Ctx) -> Done {
    mstconfig(ctx, &["reset"])?;
    check_eq!(values(ctx, "SRIOV_EN")?, ["False(0)"; 3], "SRIOV_EN");
    Ok(())
}

fn list(ctx: &Ctx) -> Done {
    let expected = fs::read_to_string(EXPECTED).map_err(|e| format!("{EXPECTED}: {e}"))?;
    let expected: BTreeSet<&str> = expected.lines().collect();
    check!(!expected.is_empty(), "{EXPECTED} is empty");
    let text = mstconfig(ctx, &["-e", "q"])?;
    let listed = listed(&text);
    ctx.note(format!("{} parameters", listed.len()));
    let listed: BTreeSet<&str> = listed.keys().map(String::as_str).collect();
    let missing: Vec<_> = expected.difference(&listed).collect();
    let more: Vec<_> = listed.difference(&expected).collect();
    check!(missing.is_empty(), "not listed: {missing:?}");
    check!(more.is_empty(), "listed too: {more:?}");
    Ok(())
}

fn amended(ctx: &Ctx) -> Done {
    let text = mstconfig(ctx, &["q", "CRYPTO_POLICY"])?;
    // The database's name for 2, which nobody has set.
    check_eq!(
        listed(&text).remove("CRYPTO_POLICY"),
        Some(vec!["FIPS_LEVEL_2(2)".to_owned()]),
        "{text}"
    );
    Ok(())
}
