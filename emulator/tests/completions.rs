// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The scripts of `fwctl-emu completions`, asked by the shells themselves, of those that are installed.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use fwctl_emu::control::VERBS;

/// What each of some command lines may go on with.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("ctl --control x fault-cl", &["fault-clear"]),
    ("ctl --control x fault-clear ", &["id="]),
    (
        "ctl --control x event ty",
        &["type=PORT_CHANGE", "type=CMD"],
    ),
    ("ctl --control x event type=PORT_C", &["type=PORT_CHANGE"]),
    ("ctl --control x event function=0 sub", &["sub-type="]),
    ("ctl --control x delay opcode=NO", &["opcode=NOP"]),
    ("ctl --control x register name=PAO", &["name=PAOS"]),
    ("ctl --control x link function=0 up=", &["up=0", "up=1"]),
    ("ctl --control x objects kind=c", &["kind=cq"]),
    ("serve --vfio", &["--vfio-user"]),
];

/// The script for a shell.
fn script(shell: &str) -> String {
    let me = env!("CARGO_BIN_EXE_fwctl-emu");
    let done = Command::new(me).args(["completions", shell]).output();
    String::from_utf8(done.unwrap().stdout).unwrap()
}

/// What a shell prints for a program of its own; `None` if it is not installed.
fn run(shell: &str, arguments: &[&str], text: &str) -> Option<String> {
    let child = Command::new(shell)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("{shell} is not installed");
        return None;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.is_empty(), "{shell}: {said}");
    Some(String::from_utf8(done.stdout).unwrap())
}

/// Lines, and what they may go on with: examples, and each argument of each verb.
fn lines() -> Vec<(String, Vec<String>)> {
    let named = |(line, words): &(&str, &[&str])| {
        let words = words.iter().map(|w| (*w).to_owned());
        (format!("fwctl-emu {line}"), words.collect())
    };
    let mut all: Vec<_> = EXAMPLES.iter().map(named).collect();
    for v in VERBS {
        let begin = format!("fwctl-emu ctl --control x {} ", v.name);
        let wanted = v.arguments.iter().map(|(name, ..)| format!("{name}="));
        all.push((begin, wanted.collect()));
    }
    all
}

/// Checks what a shell said: a line of words for each line that it was asked.
fn check(shell: &str, said: &str, whole: impl Fn(&str, &str) -> String) {
    let lines = lines();
    assert_eq!(said.lines().count(), lines.len(), "{shell}: {said}");
    for ((line, wanted), words) in lines.iter().zip(said.lines()) {
        let words: Vec<_> = words.split(' ').map(|w| whole(line, w)).collect();
        for w in wanted {
            let there = words.iter().any(|found| found.starts_with(w));
            assert!(
                there,
                "{shell}: {line:?} does not go on with {w}: {words:?}"
            );
        }
    }
}

#[test]
fn bash_completes_verbs_arguments_and_values() {
    let mut text = script("bash");
    text += "complete -p fwctl-emu | grep -q -- '-F _fwctl_emu ' || echo 'not its function' >&2\n";
    for (line, _) in lines() {
        text += &format!(
            "COMP_LINE='{line}' COMP_POINT={} COMPREPLY=()\n_fwctl_emu fwctl-emu\necho \"${{COMPREPLY[*]}}\"\n",
            line.len()
        );
    }
    let said = run("bash", &["--norc"], &text).expect("the scripts here need bash");
    // bash is told what stands behind the last break: `=` is one.
    check("bash", &said, |line, word| {
        let last = line.rsplit(' ').next().unwrap();
        match last.rsplit_once('=') {
            Some((before, _)) => format!("{before}={word}"),
            None => word.to_owned(),
        }
    });
}

#[test]
fn fish_completes_verbs_arguments_and_values() {
    let mut text = script("fish");
    for (line, _) in lines() {
        text += &format!("echo (complete -C '{line}' | string replace -r '\\t.*' '')\n");
    }
    if let Some(said) = run("fish", &["--no-config"], &text) {
        check("fish", &said, |_, word| word.to_owned());
    }
}

#[test]
fn zsh_takes_its_script() {
    run("zsh", &["-f", "-n"], &script("zsh"));
}
