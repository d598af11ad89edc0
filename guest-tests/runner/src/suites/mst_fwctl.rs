// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vendor's unmodified tools, over fwctl or by PCI address. What they must print follows from the
//! profile connectx7 and from the facts of their own database.

use std::{collections::BTreeSet, fs};

use fwctl_proto::mst::REGISTERS;

use crate::{
    check, check_eq, fail,
    suites::{
        mlx5_probe, mst_flash, mst_refused,
        mst_registers::{Known, VERSION, fact, has_field, item_index, known, printed},
        programs::{is_old, is_the_version, program, program_output, tool_device, tool_version},
    },
    test::{Ctx, Done, Suite, test},
};

pub const SUITE: Suite = Suite {
    name: "mst-fwctl",
    about: "mstreg, mstmget_temp, mstconfig, mstcongestion and mstresourcedump over fwctl",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test(
            "the-tools-are-of-the-version-that-is-meant",
            60,
            is_the_version,
        ),
        test("mstreg-lists-every-register", 60, lists),
        test("mstreg-reads-every-register", LONG, reads),
        test("mstreg-reads-a-configuration-item", 60, reads_item),
        test(
            "mstreg-reads-a-component-that-goes-out",
            60,
            reads_component,
        ),
        test("mstreg-writes-and-reads-back", 120, writes),
        test("mstreg-shows-the-card", 60, card),
        test("mstmget-temp", 60, temperature),
        test("mstconfig-names-the-card", 120, named),
        test("mstcongestion-query", 60, congestion),
        test("mstresourcedump-query", 60, dump_menu),
        test("mstresourcedump-dump", 60, dump),
        // The last: what it leaves behind are not the values of a card.
        test("mstreg-maps-a-dscp", 60, maps_dscp),
        test(
            "mstreg-sets-every-register-with-a-meaning",
            LONG,
            sets_meaning,
        ),
        test("mstreg-sets-every-stored-register", LONG, sets),
    ],
};

/// Seconds for a run of mstreg for each register: by PCI address each takes seconds, twice that on a machine that does
/// something else too.
const LONG: u64 = 1200;

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
    let text = program_output("mstreg", &["-d", &tool_device(ctx)?, "--show_regs"])?;
    // Behind the title and its line.
    let listed: BTreeSet<_> = text.lines().skip(2).map(str::trim).collect();
    let same = |known: BTreeSet<&str>| -> Done {
        let differ: Vec<_> = listed.symmetric_difference(&known).collect();
        check!(
            differ.is_empty(),
            "listed or known, but not both: {differ:?}"
        );
        Ok(())
    };
    same(known()?.iter().map(|r| r.name.as_str()).collect())?;
    // Counted in the two databases.
    let count = if is_old()? { 176 } else { 186 };
    check_eq!(listed.len(), count, "registers");
    if tool_version()? == VERSION {
        same(REGISTERS.iter().map(|r| r.layout.name).collect())?;
    }
    Ok(())
}

fn reads(ctx: &Ctx) -> Done {
    let mut failed = Vec::new();
    for Known { name, .. } in known()? {
        let (ok, text) = mstreg(ctx, &["--reg_name", &name, "--get"])?;
        if !ok {
            ctx.note(format!("{name}: {}", text.lines().last().unwrap_or("")));
            failed.push(name);
        }
    }
    // Type 0, which mstreg asks for, names no configuration item; nobody updates the firmware. The
    // next two tests ask for what there is.
    failed.sort();
    check_eq!(failed, ["MCDA", "MNVDA"], "not read");
    Ok(())
}

fn reads_item(ctx: &Ctx) -> Done {
    // nv_global_pci_cap: of the profile max_vfs_per_pf with its valid bit, and sriov_support.
    let index = item_index(0x81, 2)?;
    let (ok, text) = mstreg(ctx, &["--reg_name", "MNVDA", "--get", "-i", &index])?;
    check!(ok, "{text}");
    let word = |i: u8| field(&text, &format!("configuration_item_data[{i}]")).unwrap_or(0);
    check_eq!(word(0) >> 31, 1, "max_vfs_per_pf_valid");
    check_eq!(word(1) >> 31, 1, "sriov_support");
    check_eq!(word(1) & 0xffff, 127, "max_vfs_per_pf");
    Ok(())
}

fn reads_component(ctx: &Ctx) -> Done {
    let mcc = |set: &str| -> Done {
        let (ok, text) = mstreg(ctx, &["--reg_name", "MCC", "--set", set, "--yes"])?;
        check!(ok, "{set}: {text}");
        Ok(())
    };
    // FORCE_HANDLE_RELEASE; then LOCK_UPDATE_HANDLE and READ_COMPONENT of the boot image.
    mcc("instruction=0xa")?;
    let (_, text) = mstreg(ctx, &["--reg_name", "MCC", "--get"])?;
    let Some(handle) = field(&text, "update_handle") else {
        fail!("{text}")
    };
    mcc(&format!("instruction=1,update_handle={handle}"))?;
    mcc(&format!(
        "instruction=7,update_handle={handle},component_index=0"
    ))?;
    // By id: the database calls neither the handle nor the size an index.
    let index = format!("0x0.0:24={handle:#x},0x8.0:16=16");
    let args = [
        "--reg_id",
        "0x9063",
        "--reg_len",
        "144",
        "--get",
        "-i",
        &index,
    ];
    let (ok, text) = mstreg(ctx, &args)?;
    mcc("instruction=0xa")?;
    check!(ok, "{text}");
    // How an FS4 image begins; the last byte of a dword comes first (mlx5_reg_mcda_set).
    for (at, word) in [("0x00000010", 0x5746_544d), ("0x00000014", 0x00ef_cdab)] {
        check_eq!(field(&text, at), Some(word), "{at}: {text}");
    }
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

/// A field of a register that can be written and that mstreg shows in `text`: of a register with pages it
/// shows one. If there are only arrays, the first element of one.
fn writable<'a>(known: &'a Known, text: &str) -> Option<&'a str> {
    let names = known.writable.iter().map(String::as_str);
    let alone = names.filter(|n| !n.trim_end_matches("[0]").contains('['));
    let (arrays, plain): (Vec<_>, Vec<_>) = alone.partition(|n| n.ends_with("[0]"));
    let mut names = plain.into_iter().chain(arrays);
    names.find(|name| field(text, printed(name)).is_some())
}

/// Of the registers that are more than stored, each that can be set, in each way: indices, a field, and
/// a value that the profile's card takes. What the values mean says the kernel's port.h or the database.
const MEANING: &[(&str, &str, &str, u64)] = &[
    ("QPTS", "local_port=1", "trust_state", 2),
    ("QTCT", "local_port=1,switch_prio=3", "tclass", 2),
    ("DCBX_PARAM", "port_number=1", "willing_admin", 1),
    ("DCBX_PARAM", "port_number=1", "num_of_tc_admin", 3),
    ("PMTU", "local_port=1", "admin_mtu", 1500),
    ("PFCC", "local_port=1", "pptx", 1),
    ("PFCC", "local_port=1", "pfctx", 3),
    ("PTYS", "local_port=1,proto_mask=4", "an_disable_admin", 1),
    ("PMAOS", "module=0", "e", 1),
    ("PPLR", "local_port=1", "lb_en", 2),
    ("PCMR", "local_port=1", "fcs_chk", 0),
    ("PPLM", "local_port=1", "fec_override_admin_100g", 1),
    ("MTMP", "sensor_index=0", "temperature_threshold_hi", 0x320),
    ("MTMP", "sensor_index=0", "mte", 1),
    ("MLCR", "local_port=1,lp_msb=0", "beacon_duration", 5),
    ("HOST_ENDIANNESS", "", "he", 1),
    ("SET_NODE", "", "node_description[0]", 0x6675_6a69),
    ("MVTS", "", "ts_year", 0x2025),
    ("PPCR", "local_port=1,lp_msb=0", "split", 1),
    (
        "PEMI",
        "local_port=1,lp_msb=0,pnat=0,module_ind_type=0,page_select=2",
        "els_laser_temperature",
        1,
    ),
    (
        "SLTP",
        "local_port=1,lp_msb=0,pnat=0,lane=0,port_type=0",
        "tx_policy",
        1,
    ),
    (
        "PPHCR",
        "local_port=1,lp_msb=0,pnat=0,port_type=0,plane_ind=0,hist_type=0",
        "low_val_0",
        1,
    ),
    (
        "PPAOS",
        "local_port=1,lp_msb=0,port_type=0,plane_ind=0,swid=0",
        "phy_test_mode_admin",
        1,
    ),
    (
        "PMPT",
        "slot_index=0,module=0,host_media=0,lane_mask=0,ch_ge=0,modulation=0",
        "invt_admin",
        1,
    ),
];

/// What 4.31's database has beside these.
const MEANING_BEFORE: &[(&str, &str, &str, u64)] = &[(
    "QETCR",
    "local_port=1,operation_type=0",
    "bw_allocation_0",
    0x32,
)];

/// What is set in another test, because a write does something, or reads back otherwise.
const ELSEWHERE: &[(&str, &str)] = &[
    ("QPDPM", "mst-fwctl: mstreg-maps-a-dscp"),
    ("PAOS", "mst-link: port-down-and-up"),
    ("PPCNT", "mst-link: fec-histogram-and-clearing-counters"),
    ("PPTT", "mst-link: test-mode"),
    ("PPRT", "mst-link: test-mode"),
    (
        "SLRG",
        "mst-link: counters-eye-and-fec; no page that a 100G port has can be set",
    ),
    ("MFBA", "mst-flash: mstflint-burns-a-newer-image"),
    ("MNVDA", "mst-config: set-is-for-the-next-boot"),
    ("MNVDI", "mst-config: backup-reset-and-set-raw"),
    ("MNVIA", "mst-config: reset"),
    ("MFRL", "mst-config: set-is-for-the-next-boot"),
    ("MRTC", "fw-model/tests: it runs on"),
    ("MTRC_CAP", "mlx5-tracer"),
    ("MTRC_CONF", "mlx5-tracer"),
    ("MTRC_CTRL", "mlx5-tracer"),
    (
        "MCC",
        "mst-refused, mst-flash: mstflint-burns-congestion-control",
    ),
    (
        "MCDA",
        "mst-refused, mst-flash: mstflint-burns-congestion-control",
    ),
    ("Resource_dump_registers", "mst-fwctl: mstresourcedump-dump"),
];

/// A DSCP's priority: set with its enable bit (`qpdpm_dscp_reg.e`), read without.
fn maps_dscp(ctx: &Ctx) -> Done {
    const PORT: [&str; 2] = ["-i", "local_port=1"];
    let shown = || -> Done<Option<u64>> {
        let (_, text) = mstreg(
            ctx,
            &[&["--reg_name", "QPDPM", "--get"], &PORT[..]].concat(),
        )?;
        Ok(field(&text, "dscp[3]"))
    };
    let before = shown()?;
    for (set, after) in [("dscp[3]=0x8005", Some(5)), ("dscp[3]=0x8000", before)] {
        let args = ["--reg_name", "QPDPM", "--set", set, "--yes"];
        let (ok, text) = mstreg(ctx, &[&args, &PORT[..]].concat())?;
        check!(ok, "{set}: {text}");
        check_eq!(shown()?, after, "{set}");
    }
    Ok(())
}

fn sets_meaning(ctx: &Ctx) -> Done {
    let before: &[_] = if is_old()? { MEANING_BEFORE } else { &[] };
    for &(name, index, field_name, value) in MEANING.iter().chain(before) {
        if !has_field(name, field_name)? {
            ctx.note(format!("this tool knows no {name}.{field_name}"));
            continue;
        }
        let at: &[&str] = if index.is_empty() {
            &[]
        } else {
            &["-i", index]
        };
        let get = || -> Done<Option<u64>> {
            let (_, text) = mstreg(ctx, &[&["--reg_name", name, "--get"], at].concat())?;
            Ok(field(&text, field_name))
        };
        let set = |value: u64| -> Done {
            let field = format!("{field_name}={value:#x}");
            let args = ["--reg_name", name, "--set", &field, "--yes"];
            let (ok, text) = mstreg(ctx, &[&args, at].concat())?;
            check!(ok, "{name} {field}: {text}");
            Ok(())
        };
        let Some(before) = get()? else {
            fail!("{name}: no {field_name}")
        };
        check!(before != value, "{name}.{field_name} is {value:#x} already");
        set(value)?;
        check_eq!(get()?, Some(value), "{name}.{field_name}");
        set(before)?;
        check_eq!(get()?, Some(before), "{name}.{field_name} again");
    }
    // Nothing that can be set is left out.
    let stored = stored()?;
    let tested = |name: &str| {
        stored.iter().any(|s| s == name)
            || MEANING.iter().chain(before).any(|m| m.0 == name)
            || ELSEWHERE.iter().any(|e| e.0 == name)
            || mst_refused::READ_ONLY.iter().any(|r| r.0 == name)
    };
    let all = known()?;
    let settable = all.iter().filter(|r| !r.writable.is_empty());
    let left: Vec<_> = settable
        .map(|r| r.name.as_str())
        .filter(|n| !tested(n))
        .collect();
    check_eq!(left, [""; 0], "can be set, and no test does");
    Ok(())
}

/// The names in [`STORED`].
fn stored() -> Done<Vec<String>> {
    let text = fs::read_to_string(STORED).map_err(|e| format!("{STORED}: {e}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Stored registers that 4.33's database gives no field with access RW; of SLLM, none on the page that mstreg
/// shows.
const NOTHING_TO_SET: &[&str] = &[
    "UNIT_PERF_COUNTERS_GLOBAL_CTRL",
    "UNIT_PERF_COUNTERS_DATA",
    "MISC_COUNTERS",
    "CWCAM",
    "DCBX_APPLICATION",
    "PRTL",
    "PBSR",
    "SLLM",
    "PMPD",
    "PGUID",
    "MVCR",
    "MIDFV",
    "MISOC",
    "MSCI",
    "MVCAP",
    "MGCR",
    "MMHI",
    "MPCIR",
    "MTCQ",
    "MKDC",
    "MGLS",
    "MRFV",
    "MDTR",
    "MDSR",
    "MQDIK",
    "MTEIM",
    "MDIR",
    "MRSI",
    "MSECQ",
    "MRSV",
    "MFCDR",
    "MPCS",
    "MTCTR",
    "MRTCQ",
    "MPCAM",
    "MPLH",
    "SBCAM",
    "IMPORT_KEK_HANDLE",
    "CREDENTIAL_HANDLE",
    "ZTT",
    "NIC_CAP_EXT_REG",
];

/// Those that 4.31's database gives none either.
const NOTHING_TO_SET_BEFORE: &[&str] = &["Loopback_Control_Register", "PCNR"];

fn sets(ctx: &Ctx) -> Done {
    let stored = stored()?;
    let mut all = known()?;
    all.retain(|r| stored.contains(&r.name));
    // A store keeps what 4.33's database lets be written; an older one calls more so.
    for r in &mut all {
        let of_store = REGISTERS.iter().find(|f| f.layout.name == r.name).map(fact);
        let of_store = of_store.map_or(Vec::new(), |f| f.writable);
        r.writable.retain(|f| of_store.contains(f));
    }
    let (mut kept, mut none, mut failed) = (0, Vec::new(), Vec::new());
    for r in &all {
        let name = r.name.as_str();
        let get = ["--reg_name", name, "--get"];
        let (_, before) = mstreg(ctx, &get)?;
        let Some(field_name) = writable(r, &before) else {
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
    ctx.note(format!("{kept} registers kept it"));
    check_eq!(failed, [""; 0], "not kept");
    let old = is_old()?;
    let before: &[&str] = if old { NOTHING_TO_SET_BEFORE } else { &[] };
    let mut nothing: Vec<_> = NOTHING_TO_SET.iter().chain(before).copied().collect();
    // An older tool does not know all.
    nothing.retain(|n| !old || all.iter().any(|r| r.name == *n));
    nothing.sort_unstable();
    none.sort_unstable();
    check_eq!(none, nothing, "with nothing to set");
    check_eq!(kept + none.len(), all.len(), "registers");
    check!(
        old || all.len() == stored.len(),
        "{} of {}",
        all.len(),
        stored.len()
    );
    Ok(())
}

fn card(ctx: &Ctx) -> Done {
    let (_, text) = mstreg(ctx, &["--reg_name", "MGIR", "--get"])?;
    for (name, value) in [
        ("device_id", 0x1021),
        ("hw_dev_id", 0x218),
        ("num_ports", 1),
    ] {
        check_eq!(field(&text, name), Some(value), "{name}");
    }
    // Another suite may have updated the firmware; the driver asks MCQI which runs.
    let version = ["major", "minor", "sub_minor"].map(|part| {
        let part = field(&text, &format!("extended_{part}"));
        part.map_or("none".to_owned(), |n| n.to_string())
    });
    check_eq!(version.join("."), mst_flash::versions()?.0, "version");
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
    check_eq!(value("Name:").as_deref(), Some("EMU-0000000007"), "name");
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
    // Each has a name of its own.
    let names = text.split("(PRM_QUERY_").skip(1);
    let mut names: Vec<_> = names.filter_map(|n| n.split(')').next()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    check!(all > 20 && names.len() == all, "{all} {names:?}");
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
    // The driver's event queues; QUERY_EQ's outbox has 272 bytes too.
    let (ok, text) = dump(&["--segment", "PRM_QUERY_EQ", "--num-of-obj1", "all"])?;
    let queues = text.lines().filter(|l| **l == size).count();
    check!(ok && queues > 1, "{queues} event queues: {text}");
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
