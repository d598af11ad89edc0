// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! mstlink: the port as the vendor's tool shows it and changes it. What it must print follows from the
//! profile connectx7: 100GBASE-CR4 over a QSFP28 copper cable of one metre, RS-FEC.

use std::collections::BTreeMap;

use crate::{
    check, check_eq, fail,
    suites::{
        mlx5_probe,
        programs::{program, program_code, program_output, tool_device},
    },
    sysfs,
    test::{APPEAR, Ctx, Done, Suite, test, wait_for},
};

pub const SUITE: Suite = Suite {
    name: "mst-link",
    about: "mstlink: state, module, counters, eye, error correction, speed, port up and down",
    subjects: mlx5_probe::SUBJECTS,
    expects: &[],
    tests: &[
        test("the-link-is-up", 60, up),
        test("module", 60, module),
        test("counters-eye-and-fec", 60, pages),
        test("module-eeprom", 60, eeprom),
        test("speed", 60, speed),
        test("loopback", 60, loopback),
        test("fec-histogram-and-clearing-counters", 60, histogram),
        test("test-mode", 120, test_mode),
        test("ber-monitor-is-refused", 60, ber_monitor),
        test("pcie-link", 60, pcie),
        test("pcie-eye", 60, pcie_eye),
        test("port-down-and-up", 120, down_and_up),
    ],
};

/// Titles and values that mstlink prints, without its colours.
fn mstlink(ctx: &Ctx, args: &[&str]) -> Done<BTreeMap<String, String>> {
    let text = program_output("mstlink", &[&["-d", &tool_device(ctx)?], args].concat())?;
    let mut plain = String::new();
    let mut parts = text.split('\u{1b}');
    plain.extend(parts.next());
    for part in parts {
        plain.extend(part.split_once('m').map(|(_, rest)| rest));
    }
    let pair = |l: &str| {
        let (title, value) = l.split_once(':')?;
        Some((title.trim().to_owned(), value.trim().to_owned()))
    };
    Ok(plain.lines().filter_map(pair).collect())
}

fn expect(shown: &BTreeMap<String, String>, expected: &[(&str, &str)]) -> Done {
    for (title, value) in expected {
        check_eq!(
            shown.get(*title).map(String::as_str),
            Some(*value),
            "{title}"
        );
    }
    Ok(())
}

const LINK: &[(&str, &str)] = &[
    ("State", "Active"),
    ("Speed", "100GbE"),
    ("Width", "4x"),
    ("FEC", "Standard RS-FEC - RS(528,514)"),
    ("Auto Negotiation", "ON"),
    ("Enabled Link Speed", "0x00100000 (100G)"),
    ("Supported Cable Speed", "0x00100000 (100G)"),
    ("Status Opcode", "0"),
    ("Firmware Version", "28.43.1014"),
];

fn up(ctx: &Ctx) -> Done {
    let functions = mlx5_probe::functions()?;
    let Some(f) = functions.first() else {
        fail!("no function")
    };
    let dir = f.dir().join("net");
    let name = wait_for("a netdev", APPEAR, || {
        Ok(sysfs::names(&dir).into_iter().next())
    })?;
    program_output("ip", &["link", "set", &name, "up"])?;
    wait_for("the link", APPEAR, || {
        Ok(mstlink(ctx, &[])?
            .get("State")
            .filter(|s| *s == "Active")
            .cloned())
    })?;
    expect(&mstlink(ctx, &[])?, LINK)
}

fn module(ctx: &Ctx) -> Done {
    expect(
        &mstlink(ctx, &["-m"])?,
        &[
            ("Identifier", "QSFP28"),
            ("Cable Type", "Passive copper cable"),
            ("Cable Technology", "Copper cable, passive, unequalized"),
            ("Vendor Name", "FWCTL-EMU"),
            ("Vendor Part Number", "DAC-QSFP28-1M"),
            ("Transfer Distance [m]", "1"),
            // Bytes 165, 184, 196, 1, 222 (units of 250 MBd), 212 and 220 of the EEPROM.
            ("OUI", "Other"),
            ("Rev", "A1"),
            ("Vendor Serial Number", "EMU00000"),
            ("Memory Map Revision", "7"),
            ("Nominal bit rate", "25.750Gb/s"),
            ("Manufacturing Date", "01_01_26"),
            ("Digital Diagnostic Monitoring", "No"),
        ],
    )
}

fn pages(ctx: &Ctx) -> Done {
    expect(
        &mstlink(ctx, &["-c"])?,
        &[
            ("Effective Physical Errors", "0"),
            ("Link Down Counter", "0"),
        ],
    )?;
    let fec = mstlink(ctx, &["--show_fec"])?;
    expect(
        &fec,
        &[("FEC Capability 100GbE", "0x5 (No-FEC, RS-FEC (528,514))")],
    )?;
    // docs/registers.md: an open eye on each of four lanes; mstlink adds the halves of a height and a
    // phase.
    let eye = mstlink(ctx, &["-e"])?;
    expect(&eye, LINK)?;
    for (title, lane) in [
        ("Physical Grade", "4000"),
        ("Height Eye Opening [mV]", "200"),
        ("Phase  Eye Opening [psec]", "20"),
    ] {
        let values = eye.get(title).map(|v| v.split(',').map(str::trim));
        let values: Vec<_> = values.into_iter().flatten().collect();
        check_eq!(values, [lane; 4], "{title}");
    }
    // The board as mstvpd has it, made from the profile's PSID and base address.
    expect(
        &mstlink(ctx, &["--show_device"])?,
        &[
            ("Part Number", "EMU-0000000007"),
            ("Serial Number", "EMU02C907000000"),
            ("Revision", "A0"),
            ("FW Version", "28.43.1014"),
        ],
    )
}

fn eeprom(ctx: &Ctx) -> Done {
    let shown = mstlink(ctx, &["--cable", "--dump"])?;
    // SFF-8636: QSFP28; revision 2.8; flat memory.
    expect(&shown, &[("000", "11,07,06,00")])?;
    let (ok, text) = program("mstlink", &["-d", &tool_device(ctx)?, "--cable", "--ddm"])?;
    check!(!ok && text.contains("Cable does not support DDM"), "{text}");
    Ok(())
}

fn speed(ctx: &Ctx) -> Done {
    program_output("mstlink", &["-d", &tool_device(ctx)?, "-s", "100G"])?;
    expect(&mstlink(ctx, &[])?, LINK)?;
    let (ok, text) = program("mstlink", &["-d", &tool_device(ctx)?, "-s", "10G"])?;
    check!(
        !ok && text.contains("10G is not supported by Device!"),
        "{text}"
    );
    Ok(())
}

fn loopback(ctx: &Ctx) -> Done {
    // Of the profile's lb_cap: to itself, but not on the link layer.
    mstlink(ctx, &["-l", "PH"])?;
    expect(
        &mstlink(ctx, &[])?,
        &[("Loopback Mode", "PHY Local Loopback")],
    )?;
    let (ok, text) = program("mstlink", &["-d", &tool_device(ctx)?, "-l", "LL"])?;
    check!(
        !ok && text.contains("LL Loopback configuration is not supported"),
        "{text}"
    );
    mstlink(ctx, &["-l", "NO"])?;
    expect(&mstlink(ctx, &[])?, &[("Loopback Mode", "No Loopback")])
}

fn histogram(ctx: &Ctx) -> Done {
    let shown = mstlink(ctx, &["--rx_fec_histogram", "--show_histogram"])?;
    let value = |bin: usize| shown.get(&format!("Bin {bin}"));
    for bin in 0..16 {
        let words = value(bin).map(|v| v.split_whitespace().collect::<Vec<_>>());
        check_eq!(words, Some(vec![&*format!("[{bin}]"), "0"]), "bin {bin}");
    }
    check_eq!(value(16), None, "a bin too many");
    mstlink(ctx, &["--rx_fec_histogram", "--clear_histogram"])?;
    mstlink(ctx, &["--pc"])?;
    Ok(())
}

fn test_mode(ctx: &Ctx) -> Done {
    mstlink(ctx, &["--test_mode", "EN", "--rx_prbs", "PRBS9"])?;
    expect(
        &mstlink(ctx, &[])?,
        &[
            ("RX PRBS Mode", "PRBS9"),
            ("TX PRBS Mode", "PRBS31"),
            ("RX Lane Rate", "25.78125G"),
            ("Tuning Status", "PRBS mode tuning was not performed."),
            (
                "Lock Status",
                "Not Locked,    Not Locked,    Not Locked,    Not Locked",
            ),
        ],
    )?;
    mstlink(ctx, &["--test_mode", "TU"])?;
    expect(
        &mstlink(ctx, &[])?,
        &[
            ("RX PRBS Mode", "PRBS9"),
            ("Tuning Status", "PRBS mode tuning completed."),
        ],
    )?;
    mstlink(ctx, &["--test_mode", "DS"])?;
    // A port that hears itself finds what it sends.
    mstlink(ctx, &["-l", "PH"])?;
    mstlink(
        ctx,
        &[
            "--test_mode",
            "EN",
            "--rx_prbs",
            "PRBS7",
            "--tx_prbs",
            "PRBS7",
        ],
    )?;
    expect(
        &mstlink(ctx, &[])?,
        &[("Lock Status", "Locked,    Locked,    Locked,    Locked")],
    )?;
    mstlink(ctx, &["--test_mode", "DS"])?;
    mstlink(ctx, &["-l", "NO"])?;
    expect(&mstlink(ctx, &[])?, LINK)
}

/// The tool itself refuses it for a network card.
fn ber_monitor(ctx: &Ctx) -> Done {
    let device = tool_device(ctx)?;
    let (code, text) = program_code("mstlink", &["-d", &device, "--show_ber_monitor"])?;
    let said = text.lines().find(|l| l.contains("-E-")).map(str::trim);
    check_eq!(
        (code, said),
        (
            Some(1),
            Some("-E- \"--show_ber_monitor\" option is not supported for HCA")
        ),
        "{text}"
    );
    Ok(())
}

/// Options for the PCIe link at a depth.
fn pcie_at(depth: &str) -> [&str; 8] {
    [
        "--port_type",
        "PCIE",
        "--depth",
        depth,
        "--pcie_index",
        "0",
        "--node",
        "0",
    ]
}

/// Each of the 16 lanes has an eye.
fn pcie_eye(ctx: &Ctx) -> Done {
    let eye = mstlink(ctx, &[&pcie_at("0")[..], &["-e"]].concat())?;
    expect(&eye, &[("Link Width Active (Enabled)", "16X (16X)")])?;
    for title in [
        "Physical Grade",
        "Height Eye Opening [mV]",
        "Phase  Eye Opening [psec]",
    ] {
        let values = eye.get(title).map(|v| v.split(',').map(str::trim));
        let open = values.into_iter().flatten().filter(|v| *v != "0");
        check_eq!(open.count(), 16, "{title}: {eye:?}");
    }
    Ok(())
}

fn pcie(ctx: &Ctx) -> Done {
    let at = pcie_at;
    expect(
        &mstlink(ctx, &at("0"))?,
        &[
            ("Link Speed Active (Enabled)", "32G-Gen 5 (32G-Gen 5)"),
            ("Link Width Active (Enabled)", "16X (16X)"),
        ],
    )?;
    let device = tool_device(ctx)?;
    let (ok, text) = program("mstlink", &[&["-d", &*device], &at("1")[..]].concat())?;
    check!(!ok && text.contains("Invalid PCIe link"), "{text}");
    Ok(())
}

fn down_and_up(ctx: &Ctx) -> Done {
    program_output("mstlink", &["-d", &tool_device(ctx)?, "-a", "DN"])?;
    expect(
        &mstlink(ctx, &[])?,
        &[
            ("State", "Disable"),
            ("Speed", "N/A"),
            ("Status Opcode", "1"),
        ],
    )?;
    program_output("mstlink", &["-d", &tool_device(ctx)?, "-a", "UP"])?;
    expect(&mstlink(ctx, &[])?, LINK)
}
