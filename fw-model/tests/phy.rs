// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stores of which some fields follow the model: lanes, test patterns, wiring, the board. What the fields
//! mean is from the tools' database and from what mstlink makes of them.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Driver, cmd};
use fw_model::{EventPath, FunctionId, Input, Profile};
use fwctl_proto::{
    layout::{get_bits, set_bits},
    mst::named,
    opcode as op,
};

const READ: u16 = 1;
const WRITE: u16 = 0;
/// BAD_PARAM and the syndrome of a field that cannot be.
const FIELD: Result<Vec<u8>, (u8, u32)> = Err((3, 0x00e6_0004));

fn up() -> Driver {
    let mut d = Driver::new("connectx7");
    d.bring_up();
    d
}

/// Accesses a register with these fields set.
fn access(
    d: &mut Driver,
    name: &str,
    op_mod: u16,
    fields: &[(&str, u64)],
) -> Result<Vec<u8>, (u8, u32)> {
    let r = named(name).unwrap();
    let mut c = cmd(op::ACCESS_REG, op_mod, 16);
    c[10..12].copy_from_slice(&r.id.to_be_bytes());
    let mut image = vec![0; r.layout.bytes()];
    for (field, value) in fields {
        let f = r.layout.fields.iter().find(|f| f.name == *field).unwrap();
        set_bits(&mut image, f.offset, f.width, *value);
    }
    c.extend_from_slice(&image);
    let reply = d.exec_any(&c, c.len());
    match reply.status() {
        0 => Ok(reply.out[16..].to_vec()),
        s => Err((s, reply.syndrome())),
    }
}

/// A field of what a read of that part gives.
fn shown(d: &mut Driver, name: &str, part: &[(&str, u64)], field: &str) -> u64 {
    let image = access(d, name, READ, part).unwrap();
    let r = named(name).unwrap();
    let f = r.layout.fields.iter().find(|f| f.name == field).unwrap();
    get_bits(&image, f.offset, f.width)
}

fn cable(d: &mut Driver, plugged: bool) {
    let function = FunctionId(0);
    d.submit(Input::Link {
        function,
        up: plugged,
    });
}

#[test]
fn lanes_are_alive_while_there_is_a_link() {
    const GRADE: &str = "page_data.slrg_40nm_28nm_ext.grade";
    let mut d = up();
    for lane in 0..4 {
        let part = [("lane", lane)];
        for (plugged, status) in [(true, 1), (false, 0), (true, 1)] {
            cable(&mut d, plugged);
            assert_eq!(shown(&mut d, "SLTP", &part, "status"), status);
            assert_eq!(shown(&mut d, "SLRG", &part, "status"), status);
            assert_eq!(shown(&mut d, "SLRG", &part, GRADE) > 0, plugged);
            let histogram = shown(&mut d, "PPHCR", &[], "active_hist_type");
            assert_eq!(histogram, status, "of the profile, or none");
        }
    }
    for name in ["SLTP", "SLRG", "PPTT", "PPRT"] {
        assert_eq!(access(&mut d, name, READ, &[("lane", 4)]), FIELD, "{name}");
    }
}

/// mstlink's PNAT 3 is the link to the host, which has 16 lanes; the cable is nothing to it.
#[test]
fn the_link_to_the_host_has_lanes_of_its_own() {
    const GRADE: &str = "page_data.slrg_40nm_28nm_ext.grade";
    let mut d = up();
    cable(&mut d, false);
    for lane in [0, 4, 15] {
        let part = [("lane", lane), ("pnat", 3)];
        assert_eq!(shown(&mut d, "SLTP", &part, "status"), 1);
        assert_eq!(shown(&mut d, "SLRG", &part, "status"), 1);
        assert!(shown(&mut d, "SLRG", &part, GRADE) > 0);
    }
    let text = "inherits = \"connectx7\"\n[registers.MPEIN]\nlink_width_active = 8";
    let mut d = Driver::of(Profile::parse(text, "x8").unwrap());
    d.bring_up();
    for name in ["SLTP", "SLRG"] {
        access(&mut d, name, READ, &[("lane", 7), ("pnat", 3)]).unwrap();
        assert_eq!(
            access(&mut d, name, READ, &[("lane", 8), ("pnat", 3)]),
            FIELD,
            "{name}"
        );
    }
    // As many physical functions as the card has, and the virtual ones of this one.
    assert_eq!(shown(&mut d, "MPEIN", &[], "num_of_pfs"), 1);
    d.card.add_function(EventPath::Channel).unwrap();
    assert_eq!(shown(&mut d, "MPEIN", &[], "num_of_pfs"), 2);
    assert_eq!(shown(&mut d, "MPEIN", &[], "num_of_vfs"), 0);
}

#[test]
fn a_port_has_one_plane_and_a_passive_cable_monitors_nothing() {
    let mut d = up();
    for field in ["plane", "aggregated_port"] {
        assert_eq!(
            access(&mut d, "PPCR", WRITE, &[(field, 1)]),
            FIELD,
            "{field}"
        );
    }
    access(&mut d, "PPCR", WRITE, &[("split", 1)]).unwrap();
    assert_eq!(shown(&mut d, "PPCR", &[], "split"), 1);
    // READ_SUCCESSFUL, MODULE_NOT_CONNECTED.
    for (plugged, status) in [(true, 0), (false, 3)] {
        cable(&mut d, plugged);
        assert_eq!(
            shown(&mut d, "PEMI", &[("page_select", 16)], "status"),
            status
        );
        assert_eq!(shown(&mut d, "PEMI", &[], "group_cap_mask"), 0);
    }
}

#[test]
fn a_time_stamp_is_kept_and_the_running_image_has_none() {
    let mut d = up();
    let running = |d: &mut Driver| {
        let part = [("running_flag", 1)];
        [
            "fw_version_major",
            "fw_version_minor",
            "fw_version_subminor",
            "ts_year",
        ]
        .map(|f| shown(d, "MVTS", &part, f))
    };
    assert_eq!(running(&mut d), [0; 4]);
    let stamp = [
        ("fw_version_major", 28),
        ("ts_year", 0x2026),
        ("ts_month", 5),
        ("ts_day", 7),
    ];
    access(&mut d, "MVTS", WRITE, &stamp).unwrap();
    assert_eq!(running(&mut d), [0; 4]);
    assert_eq!(shown(&mut d, "MVTS", &[], "ts_year"), 0x2026);
    // An image from before is refused, one of that time or later is not; neither is kept.
    let check = |d: &mut Driver, month, day| {
        let given = [
            ("check_timestamp_flag", 1),
            ("ts_year", 0x2026),
            ("ts_month", month),
            ("ts_day", day),
        ];
        access(d, "MVTS", WRITE, &given).map(drop)
    };
    assert_eq!(check(&mut d, 5, 6), FIELD.map(drop));
    assert_eq!(check(&mut d, 4, 9), FIELD.map(drop));
    assert_eq!(check(&mut d, 5, 7), Ok(()));
    assert_eq!(check(&mut d, 6, 1), Ok(()));
    assert_eq!(shown(&mut d, "MVTS", &[], "ts_month"), 5);
    access(&mut d, "MVTS", WRITE, &[("clear_all_ts_flag", 1)]).unwrap();
    assert_eq!(shown(&mut d, "MVTS", &[], "ts_year"), 0);
}

/// mlx5_core sets it to the time of day in microseconds.
#[test]
fn the_clock_counts_from_what_a_driver_set() {
    let mut d = up();
    let now = |d: &mut Driver| {
        let [synced, high, low] =
            ["time_synced", "time_h", "time_l"].map(|f| shown(d, "MRTC", &[], f));
        (synced, high << 32 | low)
    };
    assert_eq!(now(&mut d).0, 0);
    let set = [("time_h", 0x6_0000), ("time_l", 0xffff_fff0)];
    access(&mut d, "MRTC", WRITE, &set).unwrap();
    let (synced, before) = now(&mut d);
    assert_eq!(synced, 1);
    d.now.0 += 20_000;
    let (_, after) = now(&mut d);
    assert!((20..1000).contains(&(after - before)), "{}", after - before);
    assert!(before >= 0x6_0000_ffff_fff0 && after >= 0x6_0001_0000_0004);
    d.submit(Input::PowerCycle);
    d.now.0 += 1_000_000_000;
    d.clear_queue();
    d.bring_up();
    assert_eq!(now(&mut d).0, 0);
}

#[test]
fn a_test_mode_that_is_asked_for_is_there() {
    let mut d = up();
    for mode in [1, 0] {
        let given = [("phy_test_mode_admin", mode), ("phy_status_admin", mode)];
        access(&mut d, "PPAOS", WRITE, &given).unwrap();
        for field in ["phy_test_mode_status", "phy_status", "phy_test_mode_admin"] {
            assert_eq!(shown(&mut d, "PPAOS", &[], field), mode, "{field}");
        }
    }
}

#[test]
fn a_receiver_finds_the_pattern_that_its_own_transmitter_sends() {
    const PRBS31: u64 = 0;
    const PRBS9: u64 = 11;
    let mut d = up();
    let lock = |d: &mut Driver| shown(d, "PPRT", &[], "prbs_lock_status");
    let set = |d: &mut Driver, name: &str, fields: &[(&str, u64)]| {
        access(d, name, WRITE, fields).unwrap();
    };
    let tuning = |d: &mut Driver| shown(d, "PPRT", &[], "prbs_rx_tuning_status");
    set(&mut d, "PPRT", &[("e", 1), ("prbs_mode_admin", PRBS9)]);
    assert_eq!(tuning(&mut d), 0);
    // As mstlink tunes: nothing else is said.
    set(&mut d, "PPRT", &[("s", 1)]);
    assert_eq!(tuning(&mut d), 2);
    set(&mut d, "PPTT", &[("e", 1), ("prbs_mode_admin", PRBS9)]);
    assert_eq!(lock(&mut d), 0, "no test mode");
    set(&mut d, "PPAOS", &[("phy_test_mode_admin", 1)]);
    assert_eq!(lock(&mut d), 0, "nobody at the other end");
    set(&mut d, "PPLR", &[("lb_en", 2)]);
    assert_eq!(lock(&mut d), 0xf);
    set(&mut d, "PPTT", &[("e", 1), ("prbs_mode_admin", PRBS31)]);
    assert_eq!(lock(&mut d), 0, "another pattern");
    set(&mut d, "PPTT", &[("e", 0), ("prbs_mode_admin", PRBS9)]);
    assert_eq!(lock(&mut d), 0, "nothing is sent");
    for name in ["PPTT", "PPRT"] {
        for mode in [1, 31, 32, 255] {
            let given = [("e", 1), ("prbs_mode_admin", mode)];
            assert_eq!(access(&mut d, name, WRITE, &given), FIELD, "{name} {mode}");
        }
    }
}

#[test]
fn the_lanes_of_the_port_are_those_of_its_module() {
    let mut d = up();
    for (field, value) in [
        ("module", 0),
        ("module_lane_mask", 0xf),
        ("lane0_physical_rx", 0),
        ("lane3_physical_rx", 3),
        ("lane2_physical_tx", 2),
    ] {
        assert_eq!(shown(&mut d, "PMDR", &[], field), value, "{field}");
    }
    for name in ["PMPT", "MTMR"] {
        assert!(access(&mut d, name, READ, &[("module", 0)]).is_ok());
        assert_eq!(access(&mut d, name, READ, &[("module", 1)]), FIELD);
    }
}

#[test]
fn the_board_is_called_as_in_its_vital_product_data() {
    let mut d = up();
    let image = access(&mut d, "MSGI", READ, &[]).unwrap();
    let text = |at: usize, len: usize| {
        let bytes = image[at..at + len].split(|b| *b == 0).next().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let p = Profile::builtin("connectx7").unwrap();
    let vpd = String::from_utf8_lossy(&fw_model::vpd::image(&p)).into_owned();
    for (key, at, len) in [("SN", 0, 24), ("PN", 0x20, 20), ("EC", 0x38, 4)] {
        let shown = text(at, len);
        assert!(!shown.is_empty(), "{key}");
        let entry = format!("{key}{}{shown}", shown.len() as u8 as char);
        assert!(vpd.contains(&entry), "{key} {shown}");
    }
    assert!(p.description.starts_with(&text(0x40, 64)));
    assert!(!text(0x40, 64).is_empty());
}
