// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control socket shows of a card, and what it sets; with a driver on a real socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::path::{Path, PathBuf};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Emulator, Folder, program};
use serde_json::{Value, json};

struct Lab {
    driver: Firmware<PciDriver>,
    control: PathBuf,
    _emulator: Emulator,
    _folder: Folder,
}

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn lab() -> Lab {
    let folder = Folder::new();
    let (socket, control) = (folder.at("s"), folder.at("c"));
    let e = Emulator::start(&["--vfio-user", text(&socket), "--control", text(&control)]);
    let mut driver = Firmware::new(PciDriver::probe(&socket).unwrap());
    driver.bring_up().unwrap();
    Lab {
        driver,
        control,
        _emulator: e,
        _folder: folder,
    }
}

/// A driver after another.
fn again(old: Firmware<PciDriver>, socket: &Path) -> Firmware<PciDriver> {
    drop(old);
    Firmware::new(PciDriver::probe(socket).unwrap())
}

impl Lab {
    fn ctl(&self, args: &[&str]) -> Result<Value, String> {
        let o = program()
            .args(["ctl", "--json", "--control", text(&self.control)])
            .args(args)
            .output()
            .unwrap();
        if o.status.success() {
            Ok(serde_json::from_slice(&o.stdout).unwrap())
        } else {
            Err(String::from_utf8(o.stderr).unwrap())
        }
    }

    /// An opcode alone: the outbox.
    fn send(&mut self, op: u16) -> Vec<u8> {
        Command::new(op).exec(&mut self.driver.mailbox).unwrap()
    }
}

fn number(out: &[u8]) -> u64 {
    u64::from(out[9]) << 16 | u64::from(out[10]) << 8 | u64::from(out[11])
}

#[test]
fn objects_are_shown_with_their_users() {
    let mut l = lab();
    assert_eq!(l.ctl(&["objects", "kind=pd"]), Ok(json!([])));
    let pds = [0, 1, 2].map(|_| number(&l.send(opcode::ALLOC_PD)));
    let row = |id: u64| json!({"kind": "pd", "id": id, "index": null, "uid": 0, "ids": 1, "users": 0, "bytes": 0});
    let all = l.ctl(&["objects", "kind=pd"]).unwrap();
    assert_eq!(all, json!(pds.map(row)));
    let last = l.ctl(&["objects", "function=0", "kind=pd", "skip=2"]);
    assert_eq!(last, Ok(json!([row(pds[2])])));
    let wrong = l.ctl(&["objects", "kind=pdd"]).unwrap_err();
    assert!(
        wrong.contains("there is no kind \"pdd\"; did you mean pd?"),
        "{wrong}"
    );
    let pages = l.ctl(&["pages"]).unwrap();
    let held = pages["boot"].as_u64().unwrap() + pages["init"].as_u64().unwrap();
    assert_eq!(
        (&pages["held"], &pages["damaged"]),
        (&json!(held), &json!(0))
    );
}

#[test]
fn an_answer_shows_only_so_many_objects() {
    /// `MAX_ROWS`, as docs/limits.md promises it.
    const MAX_ROWS: usize = 10_000;
    let mut l = lab();
    for _ in 0..=MAX_ROWS {
        l.send(opcode::ALLOC_PD);
    }
    let rows = |args: &[&str]| l.ctl(args).unwrap().as_array().unwrap().len();
    assert_eq!(rows(&["objects", "kind=pd"]), MAX_ROWS);
    assert_eq!(rows(&["objects", "kind=pd", "skip=9999"]), 2);
}

#[test]
fn user_contexts_and_event_queues_are_shown() {
    let mut l = lab();
    let c = Command::new(opcode::CREATE_UCTX).set("uctx.cap", 4);
    let out = c.exec(&mut l.driver.mailbox).unwrap();
    assert_eq!(out[0], 0, "{out:?}");
    let uid = u64::from(out[10]) << 8 | u64::from(out[11]);
    assert_eq!(
        l.ctl(&["uctx"]),
        Ok(json!([{"uid": uid, "cap": 4, "objects": 0}]))
    );
    let eqs = l.ctl(&["eqs"]).unwrap();
    assert_eq!(eqs, json!([]));
}

#[test]
fn a_command_is_tried_and_nothing_happens() {
    let mut l = lab();
    let first = l.ctl(&["try", "command=opcode=ALLOC_PD"]).unwrap();
    assert_eq!(
        (&first["command"], &first["status"]),
        (&json!("ALLOC_PD"), &json!("OK"))
    );
    assert_eq!(l.ctl(&["objects", "kind=pd"]), Ok(json!([])));
    // It would get what the driver then gets.
    let out = l.send(opcode::ALLOC_PD);
    let raw: String = out.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(first["raw"], json!(raw));
    let bad = l
        .ctl(&["try", "command=opcode=DEALLOC_PD pd=0x777"])
        .unwrap();
    assert_eq!(
        bad["status"].as_str().unwrap().split(' ').next(),
        Some("BAD_RES")
    );
    let caps = l
        .ctl(&["try", "command=opcode=QUERY_HCA_CAP op_mod=1"])
        .unwrap();
    assert_eq!(caps["raw"].as_str().unwrap().len(), 2 * 4112);
    assert_eq!(
        (&first["syndrome"], &caps["syndrome"]),
        (&Value::Null, &Value::Null)
    );
    // Of a refusal it is told why, and nothing of the rest of the outbox.
    assert!(bad["syndrome"].as_str().unwrap().starts_with("0x"), "{bad}");
    assert_eq!((&bad["out"], &bad["raw"]), (&json!([]), &Value::Null));
    // What is zero is told too.
    let is_zero = |v: &Value, field: &str| {
        let all = v["out"].as_array().unwrap().iter();
        all.into_iter().any(|f| f == &json!(format!("{field}=0x0")))
    };
    assert!(is_zero(&caps, "capability.ipsec_offload"), "{caps}");
    let pipg = l.ctl(&["register", "name=PIPG"]).unwrap();
    assert!(is_zero(&pipg, "ipg"), "{pipg}");
    let wrong = l.ctl(&["try", "command=nth=3 opcode=NOP"]).unwrap_err();
    assert!(
        wrong.contains("nth=, percent=, state= and at= are not of a command"),
        "{wrong}"
    );
    let wrong = l.ctl(&["try", "command=uid=3"]).unwrap_err();
    assert!(wrong.contains("give opcode= or register="), "{wrong}");
    let wrong = l
        .ctl(&["try", "command=opcode=NOP function=7"])
        .unwrap_err();
    assert!(wrong.contains("there is no such function"), "{wrong}");
    // No fault strikes what is only tried.
    l.ctl(&["fault", "when=any", "then=status=BAD_RES"])
        .unwrap();
    let nop = l.ctl(&["try", "command=opcode=NOP"]).unwrap();
    assert_eq!(nop["status"], "OK");
    assert_eq!(l.send(opcode::NOP)[0], 5);
}

#[test]
fn a_capability_that_is_set_is_what_the_driver_reads() {
    let mut l = lab();
    let set = [
        "set-capability",
        "function=0",
        "field=log_max_qp",
        "value=3",
    ];
    assert_eq!(l.ctl(&set), Ok(json!({})));
    for op_mod in [0, 1] {
        let c = Command::new(opcode::QUERY_HCA_CAP)
            .op_mod(op_mod)
            .out_len(4112);
        let out = c.exec(&mut l.driver.mailbox).unwrap();
        // cmd_hca_cap.log_max_qp: bits 0x9b..0xa0, behind the outbox's 16 bytes.
        assert_eq!(out[16 + 0x13] & 0x1f, 3, "op_mod {op_mod}");
    }
    for (args, said) in [
        (["field=log_max_pq", "value=3"], "did you mean log_max_qp"),
        (["field=log_max_qp", "value=32"], "the field has 5 bits"),
        (["field=log_max_qp", "value=x"], "is not a number"),
    ] {
        let wrong = l.ctl(&[&["set-capability", "function=0"], &args[..]].concat());
        assert!(wrong.clone().unwrap_err().contains(said), "{wrong:?}");
    }
    let wrong = l.ctl(&[&set[..], &["type=magic"]].concat()).unwrap_err();
    assert!(
        wrong.contains("there is no such capability page"),
        "{wrong}"
    );
}

#[test]
fn a_register_is_shown_and_set() {
    let l = lab();
    let mgir = l.ctl(&["register", "name=MGIR"]).unwrap();
    assert_eq!(
        (&mgir["register"], &mgir["status"]),
        (&json!("MGIR"), &json!("OK"))
    );
    let shown = mgir["out"].to_string();
    // MT2910's PCI device id is 0x1021.
    assert!(shown.contains("hw_info.device_id=0x1021\""), "{shown}");
    // For a reader a field in a line, by the name that `set-register` takes.
    let o = program()
        .args(["ctl", "--control", text(&l.control)])
        .args(["register", "name=PAOS", "at=local_port=1"])
        .output()
        .unwrap();
    let paos = String::from_utf8(o.stdout).unwrap();
    let head = "command: ACCESS_REG\nregister: PAOS\nstatus: OK\n    out: swid=0x0\n    out: local_port=0x1\n";
    assert!(paos.starts_with(head) && !paos.contains("raw"), "{paos}");
    // What no driver can write.
    let set = |name: &str, field: &str, value: &str| {
        let args = [
            "set-register",
            "function=0",
            &format!("name={name}"),
            &format!("field={field}"),
            &format!("value={value}"),
        ];
        l.ctl(&args)
    };
    assert_eq!(set("PIPG", "ipg_max_cap", "9"), Ok(json!({})));
    let pipg = l.ctl(&["register", "name=PIPG"]).unwrap();
    assert!(
        pipg["out"].to_string().contains("ipg_max_cap=0x9"),
        "{pipg}"
    );
    let wrong = set("MTMP", "temperature", "77").unwrap_err();
    assert!(
        wrong.contains("which follows from something else")
            && wrong.contains("when='register=MTMP' then='set.temperature=0x4d'"),
        "{wrong}"
    );
    let wrong = set("PIPGG", "ipg", "1").unwrap_err();
    assert!(wrong.contains("did you mean PIPG?"), "{wrong}");
}

#[test]
fn answers_are_counted() {
    let mut l = lab();
    for _ in 0..3 {
        l.send(opcode::NOP);
    }
    // The card holds this one back so long, and the time that it took has that in it.
    l.ctl(&["delay", "opcode=ALLOC_PD", "ms=200"]).unwrap();
    l.send(opcode::ALLOC_PD);
    l.send(opcode::DEALLOC_PD);
    let all = l.ctl(&["counters"]).unwrap();
    let micros = |command: &str, key: &str| {
        let row = all
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["command"] == command);
        row.unwrap()[key].as_f64().unwrap()
    };
    for key in ["mean_us", "most_us"] {
        assert!(micros("ALLOC_PD", key) >= 200_000.0, "{all}");
        assert!(micros("NOP", key) > 0.0, "{all}");
    }
    let of = |command: &str| -> Vec<_> {
        let rows = all.as_array().unwrap().iter();
        rows.filter(|r| r["command"] == command)
            .map(|r| (r["status"].as_str().unwrap(), r["count"].as_u64().unwrap()))
            .collect()
    };
    assert_eq!(of("NOP"), [("OK", 3)]);
    assert_eq!(of("DEALLOC_PD"), [("BAD_RES", 1)]);
    assert_eq!(of("ENABLE_HCA"), [("OK", 1)]);
    let recent = l.ctl(&["recent"]).unwrap();
    let last = recent.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["command"], &last["status"], &last["function"]),
        (&json!("DEALLOC_PD"), &json!("BAD_RES"), &json!(0))
    );
    let metrics = l.ctl(&["metrics"]).unwrap();
    let metrics = metrics.as_str().unwrap();
    for line in [
        "# TYPE fwctl_emu_commands_total counter",
        "fwctl_emu_commands_total{function=\"0\",opcode=\"NOP\",status=\"OK\"} 3",
        "fwctl_emu_connected{function=\"0\"} 1",
        "fwctl_emu_pending{function=\"0\"} 0",
        // It falls when a queue goes.
        "# TYPE fwctl_emu_eqs_dropped gauge",
        "fwctl_emu_eqs_dropped{function=\"0\"} 0",
        "# TYPE fwctl_emu_input_seconds histogram",
        "# TYPE fwctl_emu_command_seconds summary",
        "fwctl_emu_command_seconds_count{opcode=\"NOP\"} 3",
        "fwctl_emu_command_seconds_count{opcode=\"ALLOC_PD\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    // Every line is a comment, or a name with labels and a number.
    // Every line is a comment, or a name with labels and a number.
    // What falls when a queue goes is no counter.
    for line in metrics.lines().filter(|l| l.starts_with("# TYPE")) {
        let counts = line.ends_with("_total counter");
        assert_eq!(counts, line.contains("_total"), "{line}");
        assert!(!counts || !line.contains("dropped"), "{line}");
    }
    assert!(
        metrics.contains("# TYPE fwctl_emu_eqs_dropped gauge"),
        "{metrics}"
    );
    for line in metrics.lines().filter(|l| !l.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            name.starts_with("fwctl_emu_") && value.parse::<f64>().is_ok(),
            "{line}"
        );
    }
}

#[test]
fn what_is_set_in_the_configuration_is_shown() {
    let mut l = lab();
    assert_eq!(l.ctl(&["config"]), Ok(json!([])));
    // MNVDA (0x9024) SET of nv_global_pci_conf (class 0, id 0x80), 12 bytes: sriov_en is bit 0 of its
    // second dword; the header's dwords are length, type, and the rest.
    let mut item = [0; 24];
    item[3] = 12;
    item[7] = 0x80;
    item[12 + 4] = 0x80;
    let c = Command::new(opcode::ACCESS_REG).set("register_id", 0x9024);
    let c = c.data(&item).out_len(40);
    let out = c.exec(&mut l.driver.mailbox).unwrap();
    assert_eq!(out[0], 0, "{out:?}");
    let all = l.ctl(&["config"]).unwrap();
    assert_eq!(
        all,
        json!([{"type": "0x00000080", "item": "nv_global_pci_conf", "set": "next",
                "current": [], "next": ["sriov_en=0x1"]}])
    );
    // One item in each store, also what is zero; it is not current before a reset.
    let sriov_en = |l: &Lab| -> Vec<_> {
        let all = l.ctl(&["config", "item=nv_global_pci_conf"]).unwrap();
        let row = |r: &Value| {
            assert_eq!(
                (&r["item"], &r["status"]),
                (&json!("nv_global_pci_conf"), &json!("OK"))
            );
            let fields = r["value"].as_array().unwrap();
            let found: Vec<_> = fields
                .iter()
                .filter(|f| f.as_str().unwrap().starts_with("sriov_en="))
                .collect();
            assert_eq!(found.len(), 1, "{r}");
            assert!(
                fields
                    .iter()
                    .all(|f| !f.as_str().unwrap().contains("header")),
                "{r}"
            );
            (r["store"].clone(), found[0].clone())
        };
        all.as_array().unwrap().iter().map(row).collect()
    };
    let [off, on] = [json!("sriov_en=0x0"), json!("sriov_en=0x1")];
    let [default, current, next] = ["default", "current", "next"].map(|s| json!(s));
    assert_eq!(
        sriov_en(&l),
        [
            (default.clone(), off.clone()),
            (current.clone(), off.clone()),
            (next.clone(), on.clone())
        ]
    );
    l.ctl(&["power-cycle"]).unwrap();
    let socket = l._folder.at("s");
    // A client that goes away leaves room for the next.
    let mut l = Lab {
        driver: again(l.driver, &socket),
        ..l
    };
    l.driver.bring_up().unwrap();
    assert_eq!(
        sriov_en(&l),
        [(default, off), (current, on.clone()), (next, on)]
    );
    let wrong = l.ctl(&["config", "item=nv_global_pci_con"]).unwrap_err();
    assert!(wrong.contains("did you mean nv_global_pci_conf"), "{wrong}");
}

#[test]
fn a_register_of_a_function_without_a_driver_is_not_set() {
    let folder = Folder::new();
    let (socket, control) = (folder.at("s"), folder.at("c"));
    let _e = Emulator::start(&["--vfio-user", text(&socket), "--control", text(&control)]);
    let set = [
        "set-register",
        "function=0",
        "name=PIPG",
        "field=ipg_max_cap",
        "value=9",
    ];
    let o = program()
        .args(["ctl", "--control", text(&control)])
        .args(set)
        .output()
        .unwrap();
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(1), "{said}");
    assert!(
        said.contains("function 0 is disabled: it has no registers before"),
        "{said}"
    );
}

#[test]
fn top_shows_it_all_once_or_on_a_terminal() {
    let mut l = lab();
    l.send(opcode::NOP);
    let top = |args: &[&str]| {
        let control = ["top", "--control", text(&l.control)];
        let o = program().args(control).args(args).output().unwrap();
        let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (o.status.code(), said(o.stdout), said(o.stderr))
    };
    let (code, page, _) = top(&["--once", "--interval", "0.1"]);
    assert_eq!(code, Some(0));
    let nop = page.lines().find(|l| l.starts_with("NOP ")).unwrap();
    let nop: Vec<_> = nop.split_whitespace().collect();
    assert_eq!(nop[..4], ["NOP", "OK", "0.0", "1"]);
    assert!(nop[4].parse::<f64>().unwrap() > 0.0, "{nop:?}");
    assert!(
        page.contains("vfio-user") && page.contains(" last commands "),
        "{page}"
    );
    let (code, page, wrong) = top(&[]);
    assert_eq!((code, page.as_str()), (Some(1), ""));
    assert!(
        wrong.contains("standard output is no terminal; --once"),
        "{wrong}"
    );
    assert_eq!(top(&["--interval", "0"]).0, Some(2));
}
