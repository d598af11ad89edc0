// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! mstconfig, over fwctl or by PCI address. Names and places of parameters are those of its own database.

use std::{collections::BTreeMap, fs};

use crate::{
    check, check_eq,
    suites::{
        mlx5_probe,
        programs::{program, program_output, tool_device},
    },
    test::{Ctx, Done, Suite, test},
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
        test("json", 60, json),
        test("reset", 120, reset),
    ],
};

/// On a card of profile all-caps with two ports.
pub const ALL: Suite = Suite {
    name: "mst-config-all",
    about: "mstconfig -e query with every capability, on two ports",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[test("lists-at-least-595-parameters", 180, all)],
};

fn mstconfig(ctx: &Ctx, args: &[&str]) -> Done<String> {
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

fn all(ctx: &Ctx) -> Done {
    let text = mstconfig(ctx, &["-e", "q"])?;
    let listed = listed(&text);
    ctx.note(format!("{} parameters", listed.len()));
    // What the tool lists, counted once against another responder that had no capability unset.
    check!(listed.len() >= 595, "too few");
    for name in [
        "NUM_OF_VFS",
        "LINK_TYPE_P1",
        "LINK_TYPE_P2",
        "NUM_OF_PFC_P2",
    ] {
        check!(listed.contains_key(name), "no {name}");
    }
    Ok(())
}
