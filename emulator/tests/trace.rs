// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `serve --trace` and what `fwctl-emu trace` makes of it, with a driver on a real socket.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;
mod stored;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use fwctl_proto::opcode;
use host_driver::{firmware::Firmware, mailbox::Command, pci::PciDriver};
use process::{Emulator, Folder, program};
use rustix::process::Signal;
use serde_json::Value;
use stored::{MNVDA, READ, WRITE, access, words};

/// `mlx5_reg_id` of PAOS.
const PAOS: u16 = 0x5006;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

/// A driver that comes up, does `nops` NOPs and one command of a user context that there is not.
fn traced(folder: &Folder, name: &str, nops: usize, signal: Signal) -> PathBuf {
    trace_of(folder, name, signal, |d| {
        let nop = Command::new(opcode::NOP);
        for _ in 0..nops {
            d.ok(&nop).unwrap();
        }
        nop.uid(9).exec(&mut d.mailbox).unwrap();
    })
}

/// A driver that comes up and does something.
fn trace_of(
    folder: &Folder,
    name: &str,
    signal: Signal,
    act: impl FnOnce(&mut Firmware<PciDriver>),
) -> PathBuf {
    let (socket, file) = (folder.at("socket"), folder.at(name));
    let args = ["--vfio-user", text(&socket), "--trace", text(&file)];
    let e = Emulator::start(&args);
    let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
    d.bring_up().unwrap();
    act(&mut d);
    if signal == Signal::KILL {
        // What was written a while ago is in the file.
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    e.signal(signal);
    e.end();
    file
}

fn trace(args: &[&str]) -> Output {
    program().arg("trace").args(args).output().unwrap()
}

fn shown(args: &[&str]) -> String {
    let o = trace(args);
    let said = String::from_utf8_lossy(&o.stderr).into_owned();
    assert_eq!((o.status.code(), said.as_str()), (Some(0), ""));
    String::from_utf8(o.stdout).unwrap()
}

#[test]
fn a_trace_is_shown_filtered_counted_and_exported() {
    let folder = Folder::new();
    let file = traced(&folder, "a", 5, Signal::TERM);
    let file = text(&file);
    let all = shown(&["show", file]);
    // In order: the queue's address, the first doorbell and what it brought, and the end of the client.
    let at = |part: &str| all.lines().position(|l| l.contains(part)).unwrap();
    assert!(at("f0 segment 0x14 <- ") < at("f0 segment 0x18 <- 00000001"));
    assert!(at("f0 segment 0x18 <- 00000001") < at(" ENABLE_HCA op_mod=0x0 in=16 out=12 -> OK"));
    assert!(at(" INIT_HCA ") < at(" NOP "));
    let nops = shown(&["show", file, "--opcode", "nop"]);
    assert_eq!(nops.lines().count(), 6);
    let bad = shown(&["show", file, "--status", "!=ok"]);
    assert_eq!(bad.lines().count(), 1);
    assert!(bad.contains("NOP op_mod=0x0 uid=9 in=16 out=16 -> BAD_RES syndrome 0xe00007"));
    assert_eq!(bad, shown(&["show", file, "--uid", "9", "--function", "0"]));
    assert_eq!(shown(&["show", file, "--function", "1"]), "");
    assert_eq!(bad, shown(&["show", file, "--field", "in.uid=9"]));
    let given = [
        "--opcode",
        "MANAGE_PAGES",
        "--field",
        "input_num_entries!=0",
    ];
    let pages = shown(&[&["show", file][..], &given].concat());
    assert!(pages.lines().count() >= 2, "{pages}");
    let o = trace(&["show", file, "--field", "input_num_entrys=1"]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(2), "{said}");
    assert!(said.contains("did you mean input_num_entries"), "{said}");
    let o = trace(&["show", file, "--opcode", "MANAGE_PAGE"]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(2), "{said}");
    assert!(said.contains("did you mean MANAGE_PAGES"), "{said}");
    // ENABLE_HCA of function 0: its number is zero.
    let first = ["show", file, "--opcode", "ENABLE_HCA"];
    assert!(!shown(&first).contains("function_id"));
    let full = shown(&[&first[..], &["--full"]].concat());
    assert!(full.contains(" function_id=0x0"), "{full}");
    let raw = shown(&["show", file, "--uid", "9", "--raw"]);
    assert!(
        raw.contains("\n    in  000: 080d0009 00000000 00000000 00000000\n"),
        "{raw}"
    );
    let dump = shown(&["show", file, "--uid", "9", "--format", "mlx5"]);
    assert!(
        dump.contains("cmd[0]: dump command data NOP(0x80d) INPUT\n"),
        "{dump}"
    );
    let json = shown(&["show", file, "--uid", "9", "--format", "json"]);
    let v: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&v["command"], &v["status"]),
        (&"NOP".into(), &"BAD_RES".into())
    );
    assert_eq!(
        (&v["uid"], &v["syndrome"]),
        (&9.into(), &0x00e0_0007.into())
    );
    assert!(v["own_ns"].as_u64().unwrap() > 0);
    let table = shown(&["summary", file, "--opcode", "NOP"]);
    let row: Vec<_> = table
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .take(3)
        .collect();
    assert_eq!(row, ["NOP", "6", "1"]);
    let v: Value = serde_json::from_str(&shown(&["summary", file, "--json"])).unwrap();
    let rows = v.as_array().unwrap().iter();
    assert!(rows.clone().any(|r| r["command"] == "QUERY_HCA_CAP"), "{v}");
    let perfetto = folder.at("p.json");
    // Of the exports one must be asked for.
    assert_eq!(trace(&["export", file]).status.code(), Some(2));
    shown(&["export", "--perfetto", text(&perfetto), file]);
    let v: Value = serde_json::from_slice(&fs::read(&perfetto).unwrap()).unwrap();
    let events = v["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|e| e["name"] == "NOP").count(), 6);
}

/// Whatever is wrong with an export, no file is harmed by it.
#[test]
fn an_export_that_fails_leaves_every_file_as_it_was() {
    let folder = Folder::new();
    let file = traced(&folder, "a", 1, Signal::TERM);
    let before = fs::read(&file).unwrap();
    let (link, out, other) = (folder.at("link"), folder.at("out"), folder.at("other"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    fs::write(&out, "mine").unwrap();
    let name = text(&file);
    let wrong_field = ["--field", "input_num_entrys=1"];
    let none = folder.at("none");
    for (args, said) in [
        (vec!["--pcapng", name, name], "is the same file as"),
        (vec!["--pcapng", text(&link), name], "is the same file as"),
        (vec!["--pcapng", name, text(&link)], "is the same file as"),
        (vec!["--perfetto", name, name], "is the same file as"),
        (
            vec!["--perfetto", text(&other), "--pcapng", text(&other), name],
            "is the same file as",
        ),
        (
            [&["--pcapng", text(&out), name][..], &wrong_field].concat(),
            "did you mean input_num_entries",
        ),
        (
            vec!["--perfetto", text(&out), text(&none)],
            "No such file or directory",
        ),
        (
            vec!["--perfetto", text(&out), "--pcapng", "/none/at/all", name],
            "No such file or directory",
        ),
    ] {
        let o = trace(&[&["export"][..], &args].concat());
        let told = String::from_utf8(o.stderr).unwrap();
        // What cannot be read or written is no wrong command line.
        let code = if said.starts_with("No such") { 1 } else { 2 };
        assert_eq!(o.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(said), "{args:?}: {told}");
        assert_eq!(fs::read(&file).unwrap(), before, "{args:?}");
    }
    assert!(!other.exists());
    // One whose end is found damaged half-way.
    let damaged = folder.at("damaged");
    fs::write(&damaged, [&before[..], &[0; 8]].concat()).unwrap();
    let o = trace(&["export", "--pcapng", text(&out), text(&damaged)]);
    assert_eq!(o.status.code(), Some(1));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    let names = |d: &Path| fs::read_dir(d).unwrap().count();
    assert_eq!(names(file.parent().unwrap()), 4, "nothing is left behind");
    for option in ["--perfetto", "--pcapng"] {
        let o = trace(&["export", option, "/dev/full", name]);
        let told = String::from_utf8(o.stderr).unwrap();
        assert_eq!(o.status.code(), Some(1), "{told}");
        let want =
            format!("fwctl-emu: {option} /dev/full: No space left on device (os error 28)\n");
        assert_eq!(told, want);
    }
    // What is no regular file is written to as it is.
    shown(&["export", "--perfetto", "/dev/null", name]);
    shown(&["export", "--pcapng", text(&out), name]);
    assert_ne!(fs::read(&out).unwrap(), b"mine");
}

#[test]
fn two_outputs_of_serve_are_not_one_file() {
    let folder = Folder::new();
    let (socket, file) = (folder.at("socket"), folder.at("f"));
    let link = folder.at("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let overlay = folder.at("overlay.toml");
    fs::write(&overlay, include_str!("../examples/widget.toml")).unwrap();
    let socket = ["--vfio-user", text(&socket)];
    let (file, overlay) = (text(&file), text(&overlay));
    for (args, said) in [
        (["--trace", file, "--record", file], "--trace"),
        (["--record", text(&link), "--trace", file], "--trace"),
        (["--overlay", overlay, "--trace", overlay], "--overlay"),
        (["--record", overlay, "--overlay", overlay], "--overlay"),
    ] {
        let (code, told) = process::refused(&[&socket[..], &args].concat());
        assert_eq!(code, 2, "{told}");
        let same = told.contains(said) && told.contains("is the same file as");
        assert!(same, "{told}");
    }
    assert!(!folder.at("f").exists());
    let kept = fs::read_to_string(overlay).unwrap();
    assert_eq!(kept, include_str!("../examples/widget.toml"));
}

/// tshark, with the dissector and a file.
fn tshark(program: &str, dissector: &Path, file: &Path, args: &[&str]) -> String {
    let o = std::process::Command::new(program)
        .args(["-X", &format!("lua_script:{}", text(dissector))])
        .args(["-r", text(file)])
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&o.stderr).into_owned();
    assert!(!said.contains("Lua") && !said.contains("lua:"), "{said}");
    assert_eq!(o.status.code(), Some(0), "{said}");
    String::from_utf8_lossy(&o.stdout).into_owned()
}

/// Values of fields in the packets that `filter` takes, a line each.
fn values(with: (&str, &Path, &Path), filter: &str, fields: &[&str]) -> Vec<String> {
    let mut args = vec!["-Y", filter, "-T", "fields"];
    args.extend(fields.iter().flat_map(|f| ["-e", f]));
    let said = tshark(with.0, with.1, with.2, &args);
    said.lines().map(str::to_owned).collect()
}

/// scripts/test says where tshark is, if it could be had.
fn wireshark(test: &str) -> Option<String> {
    let program = std::env::var("FWCTL_TSHARK").ok();
    if program.is_none() {
        println!("SKIP {test}: FWCTL_TSHARK names no tshark");
    }
    program
}

/// The dissector, and a trace as it takes it.
fn exported(folder: &Folder, trace: &Path) -> (PathBuf, PathBuf) {
    let (lua, file) = (folder.at("fw.lua"), folder.at("fw.pcapng"));
    fs::write(&lua, shown(&["dissector"])).unwrap();
    shown(&["export", "--pcapng", text(&file), text(trace)]);
    (lua, file)
}

#[test]
fn wireshark_shows_the_header_of_a_configuration_item() {
    let Some(program) = wireshark("wireshark_shows_the_header_of_a_configuration_item") else {
        return;
    };
    let folder = Folder::new();
    // By the kernel's mlx5_ifc_config_item_bits: access_mode in bits 0x8 to 0xa, writer_id 0xb to 0x10, length
    // 0x17 to 0x20, then the type: of the class global (0) index 0x80 is nv_global_pci_conf, 12 bytes.
    let header = |mode: u32, writer: u32| vec![mode << 22 | writer << 16 | 12, 0x80, 0];
    let trace = trace_of(&folder, "a", Signal::TERM, |d| {
        let mut item = header(1, 0);
        item.extend([0; 3]);
        d.ok(&access(MNVDA, READ, &words(&item))).unwrap();
        // sriov_en is bit 0x20, total_vfs bits 0x30 to 0x40.
        let mut item = header(0, 0xc);
        item.extend([0, 1 << 31 | 5, 0]);
        d.ok(&access(MNVDA, WRITE, &words(&item))).unwrap();
    });
    let (lua, file) = exported(&folder, &trace);
    let with = (program.as_str(), lua.as_path(), file.as_path());
    let shown = |op_mod: u16, fields: &[&str]| {
        let filter = format!("fwctl.register == 0x9024 && fwctl.op_mod == {op_mod}");
        let fields: Vec<_> = fields.iter().map(|f| format!("fwctl.{f}")).collect();
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        values(with, &filter, &fields)
    };
    // Each once in the inbox and once in the outbox.
    let item = [
        "config_item.access_mode",
        "config_item.length",
        "configuration_item_type_class_global.type_class",
        "configuration_item_type_class_global.parameter_index",
        "status",
    ];
    let both = "0x000c,0x000c\t0x00,0x00\t0x000080,0x000080\t0x00";
    assert_eq!(shown(READ, &item), [format!("0x01,0x01\t{both}")]);
    assert_eq!(shown(WRITE, &item), [format!("0x00,0x00\t{both}")]);
    let data = [
        "config_item.writer_id",
        "nv_global_pci_conf.sriov_en",
        "nv_global_pci_conf.total_vfs",
    ];
    let written = shown(WRITE, &data);
    assert_eq!(written, ["0x0c,0x0c\t0x01,0x01\t0x0005,0x0005"]);
}

/// Wireshark takes no packet of more than 256 KiB, and reads nothing behind one.
#[test]
fn wireshark_reads_on_behind_the_largest_command() {
    use fw_model::limits::MAX_MESSAGE;
    use fwctl_emu::trace::{Command, Entry, Recorder, Via};
    let Some(program) = wireshark("wireshark_reads_on_behind_the_largest_command") else {
        return;
    };
    let folder = Folder::new();
    let trace = folder.at("a");
    let head = Entry::Head {
        profile: String::new(),
        program: String::new(),
    };
    let file = fs::File::create(&trace).unwrap();
    let mut recorder = Recorder::start(file, String::new(), &head).unwrap();
    for len in [MAX_MESSAGE, 16] {
        let mut inbox = vec![0; len];
        inbox[..2].copy_from_slice(&opcode::NOP.to_be_bytes());
        recorder.put(&Entry::Command(Command {
            function: 0,
            via: Via::Slot(3),
            submitted: 0,
            completed: 0,
            own: 0,
            delivery: 0,
            inbox: inbox.into(),
            outbox: vec![5; len].into(),
        }));
    }
    drop(recorder);
    let (lua, file) = exported(&folder, &trace);
    let with = (program.as_str(), lua.as_path(), file.as_path());
    let all = values(
        with,
        "fwctl.opcode == 0x80d",
        &["frame.len", "fwctl.status"],
    );
    let len = |message| 32 + 2 * message;
    let expected = [MAX_MESSAGE, 16].map(|m| format!("{}\t0x05", len(m)));
    assert_eq!(all, expected);
}

#[test]
fn wireshark_shows_the_fields_that_trace_show_does() {
    let Some(program) = wireshark("wireshark_shows_the_fields_that_trace_show_does") else {
        return;
    };
    let folder = Folder::new();
    let trace = traced(&folder, "a", 5, Signal::TERM);
    let (lua, file) = exported(&folder, &trace);
    let with = (program.as_str(), lua.as_path(), file.as_path());
    // From the bytes that the driver sent, and from what the firmware's rules say.
    let bad = "fwctl.opcode == 0x80d && fwctl.uid == 9";
    let fields = [
        "fwctl.status",
        "fwctl.syndrome",
        "fwctl.slot",
        "fwctl.function",
        "fwctl.inbox",
    ];
    let inbox = "080d0009000000000000000000000000";
    let expected = format!("0x05\t0x00e00007\t0\t0\t{inbox}");
    assert_eq!(values(with, bad, &fields), [expected]);
    let nops = values(with, "fwctl.opcode == 0x80d", &["fwctl.status"]);
    assert_eq!(nops, ["0x00", "0x00", "0x00", "0x00", "0x00", "0x05"]);
    let issi = values(
        with,
        "fwctl.set_issi_in.current_issi == 1",
        &["fwctl.opcode"],
    );
    assert_eq!(issi, ["0x010b"]);
    // The first ring of the command doorbell.
    let bells = values(
        with,
        "fwctl.kind == 4 && fwctl.offset == 0x18",
        &["fwctl.initial_seg.command_doorbell_vector"],
    );
    assert_eq!(bells[0], "0x00000001");
    // Every command has in Wireshark what `trace show` has: opcode, status, and each field by its name.
    let json = shown(&["show", "--format", "json", "--full", text(&trace)]);
    let (mut commands, mut compared) = (0, 0);
    let all: Vec<Value> = json
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let shown_there = tshark(
        with.0,
        with.1,
        with.2,
        &["-T", "json", "--no-duplicate-keys"],
    );
    let packets: Vec<Value> = serde_json::from_str(&shown_there).unwrap();
    assert_eq!(packets.len(), all.len());
    for (entry, packet) in all.iter().zip(&packets) {
        let layers = &packet["_source"]["layers"]["fwctl"];
        let at = entry["at_ns"].as_u64();
        if at.is_none() || entry["kind"] != "command" {
            continue;
        }
        commands += 1;
        let said = layers.to_string();
        for side in ["in", "out"] {
            for (path, value) in entry[side].as_object().unwrap() {
                let last = path.rsplit('.').next().unwrap().split('[').next().unwrap();
                let value = value.as_str().unwrap();
                let Some(digits) = value.strip_prefix("0x") else {
                    // A name: Wireshark's JSON has the number.
                    continue;
                };
                let number = u64::from_str_radix(digits, 16).unwrap();
                let there = named(layers, last);
                assert!(
                    there.contains(&number),
                    "{path}={value} of {entry}: {there:?} in {said}"
                );
                compared += 1;
            }
        }
    }
    assert!(commands > 15 && compared > 100, "{commands} {compared}");
    let verbose = tshark(with.0, with.1, with.2, &["-V"]);
    assert!(!verbose.contains("Lua Error"), "{verbose}");
    assert!(!verbose.contains("Malformed"), "{verbose}");
    // Names of values.
    assert!(verbose.contains("Opcode: NOP (0x080d)"), "{verbose}");
    assert!(verbose.contains("Status: BAD_RES (0x05)"), "{verbose}");
    damaged(&folder, with);
}

/// All values of fields whose name ends so.
fn named(layers: &Value, last: &str) -> Vec<u64> {
    let mut found = Vec::new();
    match layers {
        Value::Object(map) => {
            for (name, value) in map {
                if name.rsplit('.').next() == Some(last) {
                    let each = |v: &Value| {
                        let text = v.as_str()?;
                        match text.strip_prefix("0x") {
                            Some(digits) => u64::from_str_radix(digits, 16).ok(),
                            None => text.parse().ok(),
                        }
                    };
                    match value {
                        Value::Array(all) => found.extend(all.iter().filter_map(each)),
                        one => found.extend(each(one)),
                    }
                }
                found.extend(named(value, last));
            }
        }
        Value::Array(all) => found.extend(all.iter().flat_map(|v| named(v, last))),
        _ => {}
    }
    found
}

/// Packets cut at every length, and packets with anything in them, are called malformed or shown as far
/// as they go; no Lua error.
fn damaged(folder: &Folder, (program, lua, good): (&str, &Path, &Path)) {
    let whole = fs::read(good).unwrap();
    let (head, mut at) = (60, 60);
    let mut out = whole[..head].to_vec();
    let mut packets = 0;
    let mut put = |packet: &[u8]| {
        let pad = packet.len().next_multiple_of(4) - packet.len();
        let len = (32 + packet.len() + pad) as u32;
        for word in [6, len, 0, 0, 0, packet.len() as u32, packet.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(packet);
        out.extend(vec![0; pad]);
        out.extend(len.to_le_bytes());
        packets += 1;
    };
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    while at < whole.len() {
        let word = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        let (len, size) = (word(at + 4), word(at + 20));
        let packet = &whole[at + 28..at + 28 + size];
        for cut in (0..size).step_by(1 + size / 50) {
            put(&packet[..cut]);
        }
        let mut other = packet.to_vec();
        for (i, byte) in other.iter_mut().enumerate() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // What kind of entry it is stays, or nothing would be looked at.
            if i > 1 && random.is_multiple_of(3) {
                *byte = (random >> 32) as u8;
            }
        }
        put(&other);
        at += len;
    }
    let file = folder.at("damaged.pcapng");
    fs::write(&file, &out).unwrap();
    let said = tshark(program, lua, &file, &["-V"]);
    assert!(!said.contains("Lua Error"), "{said}");
    assert_eq!(said.matches("\nFrame ").count() + 1, packets);
    assert!(
        said.contains("not as fwctl-emu writes it, or cut"),
        "{said}"
    );
}

#[test]
fn two_runs_differ_by_what_was_done_and_by_nothing_else() {
    let folder = Folder::new();
    let names = [("a", 3), ("b", 3), ("c", 4)];
    let [a, b, c] = names.map(|(n, nops)| traced(&folder, n, nops, Signal::TERM));
    assert_eq!(shown(&["diff", text(&a), text(&b)]), "");
    let o = trace(&["diff", text(&a), text(&c)]);
    assert_eq!(o.status.code(), Some(1));
    let said = String::from_utf8(o.stdout).unwrap();
    let changed = |sign: &str| {
        let lines = said.lines().filter(|l| l.starts_with(sign));
        lines.filter(|l| l.contains(" NOP ")).count()
    };
    assert_eq!((changed("-"), changed("+")), (0, 1), "{said}");
}

#[test]
fn what_cannot_be_read_is_said_by_name() {
    let folder = Folder::new();
    let missing = folder.at("none");
    let name = text(&missing);
    for args in [&["show", name][..], &["diff", name, name]] {
        let o = trace(args);
        let said = String::from_utf8(o.stderr).unwrap();
        assert_eq!(o.status.code(), Some(1), "{said}");
        let want = format!("fwctl-emu: trace {name}: No such file or directory (os error 2)\n");
        assert_eq!(said, want);
    }
    let other = folder.at("other");
    fs::write(&other, "something else altogether").unwrap();
    let o = trace(&["summary", text(&other)]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(1));
    assert!(said.ends_with("/other: this is no trace\n"), "{said}");
    fs::write(&other, b"fwctltrc\x63\0\0\0").unwrap();
    let o = trace(&["summary", text(&other)]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(1));
    assert!(
        said.contains("has format 99, ") && said.ends_with("with the fwctl-emu that wrote it\n"),
        "{said}"
    );
    // A killed process leaves what it had written.
    let killed = traced(&folder, "killed", 2, Signal::KILL);
    let whole = shown(&["show", text(&killed), "--opcode", "NOP"]);
    assert_eq!(whole.lines().count(), 3);
    let bytes = fs::read(&killed).unwrap();
    fs::write(&killed, &bytes[..bytes.len() - 3]).unwrap();
    let o = trace(&["show", text(&killed), "--opcode", "NOP"]);
    let said = String::from_utf8(o.stderr).unwrap();
    assert_eq!(o.status.code(), Some(0));
    assert!(said.contains("it ends within an entry, at byte "), "{said}");
    let dir = folder.at("no/such/dir");
    let (code, said) = process::refused(&["--vfio-user", "fd:9", "--trace", text(&dir)]);
    assert_eq!(code, 2, "{said}");
    let (socket, dir) = (folder.at("s"), folder.at("no/dir"));
    let (code, said) = process::refused(&["--vfio-user", text(&socket), "--trace", text(&dir)]);
    assert_eq!(code, 1);
    assert!(
        said.contains("--trace ") && said.contains("No such file"),
        "{said}"
    );
}

/// `decode` with this on its standard input: exit code and what it prints.
fn decode(args: &[&str], input: &str) -> (Option<i32>, String) {
    let mut c = program()
        .arg("decode")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have read enough.
    let _ = c.stdin.take().unwrap().write_all(input.as_bytes());
    let o = c.wait_with_output().unwrap();
    let text = [o.stdout, o.stderr].concat();
    (o.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn what_a_driver_sent_is_decoded_from_its_dump() {
    let folder = Folder::new();
    let trace = trace_of(&folder, "a", Signal::TERM, |d| {
        // nv_global_pci_conf, 12 bytes: sriov_en is bit 0x20, total_vfs bits 0x30 to 0x40.
        let item = words(&[12, 0x80, 0, 0, 1 << 31 | 5, 0]);
        d.ok(&access(MNVDA, WRITE, &item)).unwrap();
        d.ok(&access(PAOS, READ, &words(&[1 << 16, 0, 0, 0])))
            .unwrap();
    });
    let dumped = |register: &str| {
        let which = ["show", text(&trace), "--register", register];
        shown(&[&which[..], &["--format", "mlx5"]].concat())
    };
    let item = "sriov_en=0x1\ntotal_vfs=0x5\n\
        configuration_item_header.length=0xc\n\
        configuration_item_header.type.configuration_item_type_class_global.parameter_index=0x80\n\
        configuration_item_header.type.configuration_item_type_class_per_host_pf.parameter_index=0x80\n";
    let mnvda = format!(
        "ACCESS_REG MNVDA nv_global_pci_conf access_register_in, 48 bytes\nuid=0\nop_mod=0x0\n\
         {item}register_id=MNVDA\n\
         \n\
         ACCESS_REG MNVDA nv_global_pci_conf access_register_out, 48 bytes\nstatus=OK\nsyndrome=0x0\n\
         {item}"
    );
    assert_eq!(decode(&[], &dumped("MNVDA")), (Some(0), mnvda.clone()));
    let paos = "ACCESS_REG PAOS access_register_in, 32 bytes\nuid=0\nop_mod=0x1\n\
         register_id=PAOS\nregister_data[0].local_port=0x1\n\
         \n\
         ACCESS_REG PAOS access_register_out, 32 bytes\nstatus=OK\nsyndrome=0x0\n\
         register_data[0].local_port=0x1\nregister_data[0].admin_status=0x1\n\
         register_data[0].oper_status=0x1\n";
    let both = dumped("MNVDA") + &dumped("PAOS");
    let (code, said) = decode(&[], &both);
    assert_eq!((code, said), (Some(0), format!("{mnvda}\n{paos}")));
    // The answer alone.
    let mnvda_dump = dumped("MNVDA");
    let (_, answer) = mnvda_dump.split_once("OUTPUT\n").unwrap();
    let (code, said) = decode(&["--out", "--register", "MNVDA"], answer);
    assert_eq!(code, Some(0), "{said}");
    assert!(mnvda.ends_with(&said), "{said}");
    let (code, said) = decode(&["--out", "--register", "MNVDDA"], answer);
    assert!(
        code == Some(2) && said.contains("did you mean MNVDA"),
        "{said}"
    );
}

#[test]
fn what_an_overlay_adds_is_decoded() {
    let overlay = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/widget.toml");
    let query = "0bf00000 00000000 00000007 00000000";
    let (code, said) = decode(&["--overlay", overlay], query);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("QUERY_WIDGET ") && said.ends_with("\nwidget_id=0x7\n"),
        "{said}"
    );
    let (code, said) = decode(&[], query);
    assert!(
        code == Some(1) && said.contains("0x0bf0 is no opcode"),
        "{said}"
    );
    let mwdg = "00000000 00000000 00000000 00000000 01070000 00000000";
    let args = ["--overlay", overlay, "--out", "--register", "0x90f0"];
    let (code, said) = decode(&args, mwdg);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("ACCESS_REG MWDG ") && said.ends_with("\nspeed=0x1\nmost=0x7\n"),
        "{said}"
    );
}

#[test]
fn a_message_on_standard_input_is_decoded() {
    let enable = "mlx5_core 0000:01:00.0: cmd[0]: start dump\n\
        cmd[0]: 000: 01040000 00000000 00000003 00000000\n";
    assert_eq!(
        decode(&[], enable),
        (
            Some(0),
            "ENABLE_HCA enable_hca_in, 16 bytes\nuid=0\nop_mod=0x0\nfunction_id=0x3\n".into()
        )
    );
    let (code, said) = decode(&["--out"], enable);
    assert!(code == Some(2) && said.contains("give --opcode"), "{said}");
    let (code, said) = decode(&[], "01");
    assert!(code == Some(1) && said.contains("half an opcode"), "{said}");
    // A line more than the largest message of 1 MiB and 4 KiB; and without end, of which only so much is read.
    for lines in [(1 << 16) + (1 << 8) + 1, 1 << 18] {
        let long = "00000000 00000000 00000000 00000000\n".repeat(lines);
        let (code, said) = decode(&[], &long);
        let want = "line 65793: more than 1052672 bytes";
        assert!(code == Some(1) && said.contains(want), "{said}");
    }
    // Of a log that is longer than what is read, what is missing is not passed over.
    let line = "cmd[0]: dump command data NOP(0x80d) INPUT\ncmd[0]: 000: 080d0000 00000000\n";
    let (code, said) = decode(&[], &line.repeat((8 << 20) / line.len() + 1));
    assert!(
        code == Some(1) && said.contains("more than 8388608 bytes"),
        "{said}"
    );
    let (code, said) = decode(&["--opcode", "NOSUCH"], "");
    assert!(code == Some(2) && said.contains("list commands"), "{said}");
}
