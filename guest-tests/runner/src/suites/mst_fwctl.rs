// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vendor's unmodified tools, over fwctl or by PCI address. What they must print follows from the
//! profile connectx7 and from the facts of their own database.

use std::{collections::BTreeSet, fs};

use fwctl_proto::mst::{Access, REGISTERS};

use crate::{
    check, check_eq, skip,
    suites::{
        mlx5_probe,
        programs::{over_pci, program, program_output, tool_device},
    },
    test::{Ctx, Done, Suite, test},
};

/// The version whose database the facts are of.
pub const VERSION: &str = "4.33.0";

pub const SUITE: Suite = Suite {
    name: "mst-fwctl",
    about: "mstreg, mstmget_temp, mstconfig, mstcongestion and mstresourcedump over fwctl",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("mstreg-lists-every-register", 60, lists),
        test("mstreg-reads-every-register", 600, reads),
        test("mstreg-writes-and-reads-back", 120, writes),
        test("mstreg-is-refused-what-is-not-there", 120, refused),
        test("mstreg-shows-the-card", 60, card),
        test("mstmget-temp", 60, temperature),
        test("mstconfig-names-the-card", 120, named),
        test("mstcongestion-query", 60, congestion),
        test("mstresourcedump-query", 60, dump_menu),
        test("mstresourcedump-dump", 60, dump),
        // The last: what it leaves behind are not the values of a card.
        test("mstreg-sets-every-stored-register", 600, sets),
    ],
};

/// `mstreg -d DEVICE …`
fn mstreg(ctx: &Ctx, args: &[&str]) -> Done<(bool, String)> {
    program("mstreg", &[&["-d", &*tool_device(ctx)?], args].concat())
}

/// The value of a field in what mstreg prints.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| {
        let (n, value) = l.split_once('|')?;
        (n.trim() == name).then(|| value.trim())
    })?;
    u64::from_str_radix(line.strip_prefix("0x")?, 16).ok()
}

fn lists(ctx: &Ctx) -> Done {
    let version = program_output("mstreg", &["-v"])?;
    ctx.note(&version);
    if !version.contains(VERSION) {
        skip!("the facts are those of {VERSION}");
    }
    let text = program_output("mstreg", &["-d", &tool_device(ctx)?, "--show_regs"])?;
    // Behind the title and its line.
    let listed: BTreeSet<_> = text.lines().skip(2).map(str::trim).collect();
    let known: BTreeSet<_> = REGISTERS.iter().map(|r| r.layout.name).collect();
    let differ: Vec<_> = listed.symmetric_difference(&known).collect();
    check!(
        differ.is_empty(),
        "listed or known, but not both: {differ:?}"
    );
    check_eq!(listed.len(), 186, "registers");
    Ok(())
}

fn reads(ctx: &Ctx) -> Done {
    let mut failed = Vec::new();
    for r in REGISTERS {
        let name = r.layout.name;
        let (ok, text) = mstreg(ctx, &["--reg_name", name, "--get"])?;
        if !ok {
            ctx.note(format!("{name}: {}", text.lines().last().unwrap_or("")));
            failed.push(name);
        }
    }
    // Type 0, which mstreg asks for, names no configuration item; nobody updates the firmware.
    check_eq!(failed, ["MNVDA", "MCDA"], "not read");
    Ok(())
}

fn writes(ctx: &Ctx) -> Done {
    const PORT: [&str; 2] = ["-i", "local_port=1,lp_msb=0"];
    let ipg = || -> Done<Option<u64>> {
        let (_, text) = mstreg(ctx, &[&["--reg_name", "PIPG", "--get"], &PORT[..]].concat())?;
        Ok(field(&text, "ipg"))
    };
    check_eq!(ipg()?, Some(0), "ipg before");
    for value in [5, 0] {
        let set = format!("ipg={value}");
        let (ok, text) = mstreg(
            ctx,
            &[&["--reg_name", "PIPG", "--set", &set, "--yes"], &PORT[..]].concat(),
        )?;
        check!(ok, "{text}");
        check_eq!(ipg()?, Some(value), "ipg");
    }
    Ok(())
}

/// Names of the registers that the firmware merely stores, a line each: a file in the guest.
const STORED: &str = "/files/stored-registers";

/// The last part of a field's name, which is all that mstreg prints of it.
fn printed(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A field that can be written, of a register of the database, and that mstreg shows in `text`: of a
/// register with pages it shows one. It has names of its own for the elements of arrays.
fn writable(name: &str, text: &str) -> Option<&'static str> {
    let r = REGISTERS.iter().find(|r| r.layout.name == name)?;
    let fields = r.layout.fields.iter().zip(r.access);
    let mut writable = fields
        .filter(|(f, a)| **a == Access::Rw && f.count == 1 && !f.name.contains('['))
        .map(|(f, _)| f.name);
    writable.find(|name| field(text, printed(name)).is_some())
}

fn sets(ctx: &Ctx) -> Done {
    let stored = fs::read_to_string(STORED).map_err(|e| format!("{STORED}: {e}"))?;
    let (mut kept, mut none, mut failed) = (0, Vec::new(), Vec::new());
    for name in stored.lines() {
        let get = ["--reg_name", name, "--get"];
        let (_, before) = mstreg(ctx, &get)?;
        let Some(field_name) = writable(name, &before) else {
            none.push(name);
            continue;
        };
        let set = format!("{field_name}=1");
        let (ok, said) = mstreg(ctx, &["--reg_name", name, "--set", &set, "--yes"])?;
        let (_, after) = mstreg(ctx, &get)?;
        let same_name = |text: &str| {
            let lines = text.lines();
            lines
                .filter(|l| field(l, printed(field_name)) == Some(1))
                .count()
        };
        if ok && same_name(&after) > same_name(&before) {
            kept += 1;
        } else {
            ctx.note(format!(
                "{name}.{set}: {}",
                said.lines().last().unwrap_or("")
            ));
            failed.push(name);
        }
    }
    ctx.note(format!(
        "{kept} registers kept it; with nothing to set: {}",
        none.join(" ")
    ));
    check_eq!(failed, [""; 0], "not kept");
    Ok(())
}

fn refused(ctx: &Ctx) -> Done {
    // The last two by the firmware, BAD_PARAM: a register and a port that there are not.
    for (args, why) in [
        (
            &["--reg_name", "NOSUCH", "--get"][..],
            "Can't find access register name",
        ),
        (
            &["--reg_name", "MGIR", "--set", "device_id=1", "--yes"][..],
            "device_id is ReadOnly",
        ),
        (
            &["--reg_id", "0x9999", "--reg_len", "16", "--get"][..],
            if over_pci(ctx) {
                "Register not supported"
            } else {
                "Failed send access register"
            },
        ),
        (
            &["--reg_name", "PIPG", "--get", "-i", "local_port=9,lp_msb=0"][..],
            "Failed to send access register",
        ),
    ] {
        let (ok, text) = mstreg(ctx, args)?;
        check!(!ok && text.contains(why), "{args:?}: {text}");
    }
    Ok(())
}

fn card(ctx: &Ctx) -> Done {
    let (_, text) = mstreg(ctx, &["--reg_name", "MGIR", "--get"])?;
    for (name, value) in [
        ("device_id", 0x1021),
        ("hw_dev_id", 0x218),
        ("num_ports", 1),
        ("extended_major", 28),
        ("extended_minor", 43),
        ("extended_sub_minor", 1014),
    ] {
        check_eq!(field(&text, name), Some(value), "{name}");
    }
    Ok(())
}

fn temperature(ctx: &Ctx) -> Done {
    check_eq!(
        program_output("mstmget_temp", &["-d", &tool_device(ctx)?])?,
        "45",
        "degrees"
    );
    Ok(())
}

fn named(ctx: &Ctx) -> Done {
    let text = program_output("mstconfig", &["-d", &tool_device(ctx)?, "q"])?;
    let value = |title: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(title));
        line.map(|l| l.trim().to_owned())
    };
    check_eq!(value("Device type:").as_deref(), Some("ConnectX7"), "type");
    check_eq!(
        value("Name:").as_deref(),
        Some("emulated-connectx7"),
        "name"
    );
    let description = value("Description:").unwrap_or_default();
    check!(
        description.starts_with("ConnectX-7-like: one Ethernet port"),
        "description {description:?}"
    );
    Ok(())
}

fn dump_menu(ctx: &Ctx) -> Done {
    let text = program_output("mstresourcedump", &["query", "-d", &tool_device(ctx)?])?;
    // Names that the kernel's driver looks for as well.
    for name in ["PRM_QUERY_QP", "PRM_QUERY_CQ", "PRM_QUERY_MKEY"] {
        check!(text.contains(&format!("({name})")), "no {name}: {text}");
    }
    Ok(())
}

fn dump(ctx: &Ctx) -> Done {
    let dump = |args: &[&str]| {
        program(
            "mstresourcedump",
            &[&["dump", "-d", &tool_device(ctx)?], args].concat(),
        )
    };
    let (ok, text) = dump(&["--segment", "PRM_QUERY_CQ", "--num-of-obj1", "all"])?;
    check!(ok, "{text}");
    // Header, reserved dword and two indices; QUERY_CQ's outbox of 272 bytes behind its status.
    let size = format!("Segment Size: {} Bytes", 16 + 272 - 8);
    let queues = text.lines().filter(|l| **l == size).count();
    ctx.note(format!("{queues} completion queues"));
    check!(queues > 0, "none: {text}");
    check!(text.contains("Segment Type: 0xfffb"), "no end: {text}");
    let (ok, text) = dump(&["--segment", "NOSUCH"])?;
    check!(!ok && text.contains("NOSUCH is not supported"), "{text}");
    Ok(())
}

fn congestion(ctx: &Ctx) -> Done {
    let text = program_output("mstcongestion", &["-d", &tool_device(ctx)?, "-q"])?;
    check!(
        text.contains("Action: disabled") && text.contains("Mode: aggressive"),
        "{text}"
    );
    Ok(())
}
