// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every example in the help texts does what it says: it ends with exit code 0, in a folder with a running
//! emulator, a trace and a record of it.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use process::{Emulator, Folder, program};
use rustix::process::Signal;

/// What has a help text with examples, as far as it must have some.
const WITH_EXAMPLES: &[&[&str]] = &[
    &["serve"],
    &["ctl"],
    &["explain"],
    &["trace", "show"],
    &["trace", "dissector"],
    &["replay"],
    &["decode"],
];
/// Programs of others that examples go on with.
const OTHERS: &[&str] = &["qemu-system-x86_64 ", "tshark "];

/// The examples of a command: lines for a shell.
fn examples(command: &[&str]) -> Vec<String> {
    let help = program().args(command).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, text) = help.split_once("Examples:\n").expect("examples");
    // Exit codes or the like may stand behind a line that is empty, but two kinds of examples too.
    let text = text.replace("\\\n", "");
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let ours = lines.filter(|l| !OTHERS.iter().any(|o| l.starts_with(o)));
    // Behind several blanks it is told what the example is about.
    let line = |l: &str| l.split("   ").next().unwrap().trim().to_owned();
    ours.map(line).collect()
}

/// Writes a program of this name that prints a text.
fn prints(folder: &Folder, name: &str, text: &str) {
    let path = folder.at(name);
    fs::write(&path, format!("#!/bin/sh\ncat <<'END'\n{text}END\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(folder: &Folder, line: &str) -> Result<(), String> {
    let bin = Path::new(env!("CARGO_BIN_EXE_fwctl-emu"));
    let path = format!(
        "{}:{}:{}",
        folder.at("").display(),
        bin.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut line = line.replace("/run/", "");
    if line.contains("fwctl-emu serve ") {
        // It serves until it is ended, with exit code 0.
        line = format!("timeout --preserve-status -s TERM 2 {line}");
    }
    let done = Command::new("sh")
        .args(["-c", &line])
        .current_dir(folder.at(""))
        .env("PATH", path)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    match done.status.code() {
        Some(0) => Ok(()),
        // The record here is of a run without failures (emulator/tests/record.rs has one with).
        Some(1)
            if line.contains("--minimize") && said.contains("nothing to minimize, as nothing") =>
        {
            Ok(())
        }
        code => Err(format!("{line}: {code:?} {said}")),
    }
}

#[test]
fn every_example_of_the_help_ends_well() {
    let folder = Folder::new();
    let path = |name: &str| folder.at(name).to_str().unwrap().to_owned();
    // What the kernel's log may hold of a command, with something else before it.
    prints(
        &folder,
        "dmesg",
        "[ 1.0] random: crng init done\n\
         [ 9.1] mlx5_core 0000:01:00.0: cmd[0]: dump command data NOP(0x80d) INPUT\n\
         [ 9.1] cmd[0]: 000: 080d0000 00000000 00000000 00000000\n\
         [ 9.2] mlx5_core 0000:01:00.0: cmd[0]: dump command data NOP(0x80d) OUTPUT\n\
         [ 9.2] cmd[0]: 000: 00000000 00000000 00000000 00000000\n",
    );
    let served = Emulator::start(&[
        "--vfio-user",
        &path("a.sock"),
        "--trace",
        &path("fw.trace"),
        "--record",
        &path("fw.record"),
    ]);
    served.signal(Signal::TERM);
    let _ = served.end();
    let _serves = Emulator::start(&["--vfio-user", &path("b.sock"), "--control", &path("fw.ctl")]);
    let mut wrong = Vec::new();
    for command in WITH_EXAMPLES {
        let all = examples(command);
        assert!(!all.is_empty(), "{command:?}");
        wrong.extend(all.iter().filter_map(|line| run(&folder, line).err()));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_not_explained_and_an_unknown_name_gets_near_ones() {
    let explain = |what: &str| {
        let o = program().args(["explain", what]).output().unwrap();
        (o.status.code(), String::from_utf8(o.stderr).unwrap())
    };
    for empty in ["", "  "] {
        let (code, said) = explain(empty);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("it is empty: give a name or a number"),
            "{said}"
        );
    }
    let (code, said) = explain("RST2INIT_PQ");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("did you mean RST2INIT_QP"), "{said}");
}
