// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Breakpoints, with a driver on a real socket and a client on the control socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Control, Emulator, Folder, program};
use serde_json::{Value, json};

struct Served {
    // Ends with the test.
    _e: Emulator,
    driver: Firmware<PciDriver>,
    control: PathBuf,
    _folder: Folder,
}

fn served() -> Served {
    let folder = Folder::new();
    let (socket, control) = (folder.at("socket"), folder.at("control"));
    let args = [
        "--vfio-user",
        socket.to_str().unwrap(),
        "--control",
        control.to_str().unwrap(),
    ];
    let e = Emulator::start(&args);
    let mut driver = Firmware::new(PciDriver::probe(&socket).unwrap());
    driver.bring_up().unwrap();
    Served {
        _e: e,
        driver,
        control,
        _folder: folder,
    }
}

/// One `ctl`: its standard output, or its standard error.
fn ctl(control: &Path, args: &[&str]) -> Result<String, String> {
    let o = program()
        .args(["ctl", "--control", control.to_str().unwrap()])
        .args(args)
        .output()
        .unwrap();
    let text = |b| String::from_utf8(b).unwrap();
    if o.status.success() {
        Ok(text(o.stdout))
    } else {
        Err(text(o.stderr))
    }
}

fn stopped(control: &Path) -> Vec<Value> {
    let json = ctl(control, &["stopped", "--json"]).unwrap();
    serde_json::from_str::<Value>(&json)
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

/// Waits until `count` commands are stopped.
fn wait(control: &Path, count: usize) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let all = stopped(control);
        if all.len() == count {
            return all;
        }
        assert!(Instant::now() < end, "{all:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_is_stopped_shown_changed_and_answered() {
    let mut s = served();
    let mut events = Control::greeted(&s.control);
    let control = s.control.clone();
    let id = ctl(&control, &["break", "when=opcode=QUERY_ISSI", "times=1"]).unwrap();
    assert_eq!(id, "id: 1\n");
    let query = Command::new(opcode::QUERY_ISSI);
    let driver = thread::spawn(move || {
        let first = s.driver.ok(&query).unwrap();
        let second = s.driver.ok(&query).unwrap();
        (first, second, s)
    });
    let all = wait(&control, 1);
    let of = |key: &str| all[0][key].clone();
    assert_eq!(of("command"), "QUERY_ISSI");
    assert_eq!(
        (of("function"), of("slot"), of("status")),
        (json!(0), json!(0), json!("OK"))
    );
    assert!(
        of("out").to_string().contains("current_issi"),
        "{}",
        of("out")
    );
    let mut event: Value = serde_json::from_str(&events.line()).unwrap();
    // As QMP has it; `date +%s` was past this when this was written.
    let timestamp = event.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(timestamp["seconds"].as_u64().unwrap() > 1_700_000_000);
    assert!(timestamp["microseconds"].as_u64().unwrap() < 1_000_000);
    let want = json!({"event": "STOPPED", "data": {
        "function": 0, "id": all[0]["id"], "opcode": 0x10a, "command": "QUERY_ISSI",
    }});
    assert_eq!(event, want);
    let number = format!("id={}", of("id"));
    let text = ctl(&control, &["stopped"]).unwrap();
    assert!(text.starts_with("ID  FUNCTION  SLOT  COMMAND "), "{text}");
    assert!(text.contains("    out: current_issi=0x1\n"), "{text}");
    let set = |field: &str, value: &str| {
        let (field, value) = (format!("field={field}"), format!("value={value}"));
        ctl(&control, &["amend", &number, &field, &value])
    };
    // What is zero is told too.
    assert_eq!(set("current_issi", "0"), Ok(String::new()));
    let text = ctl(&control, &["stopped"]).unwrap();
    assert!(text.contains("    out: current_issi=0x0\n"), "{text}");
    assert_eq!(set("current_issi", "0x77"), Ok(String::new()));
    let too_large = set("current_issi", "0x10000").unwrap_err();
    assert!(too_large.contains("the field has 16 bits"), "{too_large}");
    let unknown = set("nonsense", "1").unwrap_err();
    assert!(
        unknown.contains("nonsense: no field of query_issi_out"),
        "{unknown}"
    );
    let other = ctl(&control, &["amend", "id=99", "field=status", "value=1"]).unwrap_err();
    assert!(
        other.contains("no command is stopped with this number"),
        "{other}"
    );

    assert_eq!(ctl(&control, &["continue"]).unwrap(), "continued: 1\n");
    let (first, second, _s) = driver.join().unwrap();
    // `current_issi` lies in bytes 10 and 11 of the outbox; the second was not stopped.
    assert_eq!(first[10..12], [0, 0x77]);
    assert_eq!(second[10..12], [0, 1]);
    assert_eq!(stopped(&control), [] as [Value; 0]);
}

#[test]
fn a_step_answers_one_and_stops_the_next() {
    let mut s = served();
    let control = s.control.clone();
    ctl(&control, &["break", "when=opcode=NOP", "times=1"]).unwrap();
    let driver = thread::spawn(move || {
        for op in [opcode::NOP, opcode::ALLOC_PD, opcode::QUERY_ADAPTER] {
            s.driver.ok(&Command::new(op)).unwrap();
        }
        s
    });
    for name in ["NOP", "ALLOC_PD"] {
        let all = wait(&control, 1);
        assert_eq!(all[0]["command"], name);
        ctl(&control, &["step", &format!("id={}", all[0]["id"])]).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        // The next is another one.
        while stopped(&control)
            .first()
            .is_none_or(|p| p["id"] == all[0]["id"])
        {
            assert!(Instant::now() < end);
        }
    }
    assert_eq!(wait(&control, 1)[0]["command"], "QUERY_ADAPTER");
    ctl(&control, &["continue"]).unwrap();
    drop(driver.join().unwrap());
}

#[test]
fn other_slots_go_on_while_one_is_stopped() {
    let mut s = served();
    ctl(&s.control, &["break", "when=opcode=NOP"]).unwrap();
    let nop = Command::new(opcode::NOP);
    s.driver.mailbox.post(3, nop.inbox(), 16).unwrap();
    s.driver.mailbox.ring(1 << 3).unwrap();
    wait(&s.control, 1);
    for _ in 0..10 {
        s.driver.ok(&Command::new(opcode::ALLOC_PD)).unwrap();
    }
    // A reset of the function forgets what was stopped.
    assert_eq!(stopped(&s.control)[0]["slot"], 3);
    drop(s.driver);
    wait(&s.control, 0);
}
