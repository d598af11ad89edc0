// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line that scripts/fuzz uses: what there is to fuzz, seeds, dictionaries, single inputs.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use fw_fuzz::{
    compare::Pair,
    dictionary, panics,
    targets::{PROFILE, TARGETS, Target, find},
    trials::Inputs,
};

const HELP: &str = "\
Usage: fw-fuzz COMMAND

  list                        the targets
  options TARGET              its options for libFuzzer, as NAME = VALUE
  dictionary TARGET           its words, as libFuzzer reads them
  seeds TARGET DIR [RECORD…]  writes its seeds into DIR, and those made from records of guests
  guest RECORD                what a guest said in a record, as text (fw-fuzz/guests/)
  run TARGET FILE…            handles the inputs in the files, without libFuzzer
  try TARGET COUNT [SEED]     handles COUNT pseudo-random inputs, without libFuzzer
  compare COUNT [SEED]        COUNT random sequences for the firmware and the reference model
  record TARGET FILE OUT      handles the input in FILE and writes what happened as the record OUT, for
                              `fwctl-emu replay`; the profile it needs lies beside it

Exit codes: 0 done; 1 an input fails (a panic counts also where the process contains it), the models differ, or a
file cannot be read or written; 2 bad usage.
";

/// What ends the program.
enum End {
    Usage(String),
    File(String),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::File(what)) => {
            eprintln!("fw-fuzz: {what}");
            ExitCode::from(1)
        }
        Err(End::Usage(what)) => {
            eprintln!("fw-fuzz: {what}; see fw-fuzz --help");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[&str]) -> Result<(), End> {
    match args {
        ["-h" | "--help"] => print(HELP),
        ["list"] => {
            for t in TARGETS {
                print(&format!("{:12} {}\n", t.name, t.about))?;
            }
            Ok(())
        }
        ["options", t] => print(&target(t)?.options()),
        ["dictionary", t] => print(&dictionary::file(&(target(t)?.dictionary)())),
        ["seeds", t, dir, records @ ..] => seeds(target(t)?, dir, records),
        ["guest", file] => {
            let said = fw_fuzz::from_record::said(&read(file)?);
            let said = said.map_err(|e| End::File(format!("{file}: {e}")))?;
            print(&fw_fuzz::guests::text(&said))
        }
        ["run", t, files @ ..] => {
            for file in files {
                let (t, input) = (target(t)?, read(file)?);
                panics::none_in(|| (t.run)(&input))
                    .map_err(|what| End::File(format!("{file}: {what}")))?;
            }
            Ok(())
        }
        ["try", t, count] => trial(target(t)?, number(count)?, 1),
        ["try", t, count, seed] => trial(target(t)?, number(count)?, number(seed)?),
        ["compare", count] => compare(number(count)?, 0),
        ["compare", count, seed] => compare(number(count)?, number(seed)?),
        ["record", t, file, out] => record(target(t)?, file, out),
        [] => Err(End::Usage("a command is missing".into())),
        [other, ..] => Err(End::Usage(format!("wrong command or arguments: {other}"))),
    }
}

fn print(text: &str) -> Result<(), End> {
    let to = |e: io::Error| End::File(format!("standard output: {e}"));
    io::stdout().write_all(text.as_bytes()).map_err(to)
}

fn target(name: &str) -> Result<&'static Target, End> {
    find(name).ok_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|t| t.name).collect();
        End::Usage(format!(
            "no target is called {name}; there are: {}",
            names.join(", ")
        ))
    })
}

fn number(text: &str) -> Result<u64, End> {
    text.parse()
        .map_err(|_| End::Usage(format!("{text} is not a number")))
}

fn read(file: &str) -> Result<Vec<u8>, End> {
    fs::read(file).map_err(|e| End::File(format!("{file}: {e}")))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), End> {
    fs::write(file, bytes).map_err(|e| End::File(format!("{}: {e}", file.display())))
}

fn seeds(t: &Target, dir: &str, records: &[&str]) -> Result<(), End> {
    let dir = Path::new(dir);
    fs::create_dir_all(dir).map_err(|e| End::File(format!("{}: {e}", dir.display())))?;
    let mut all = t.all_seeds();
    for file in records {
        let bytes = read(file)?;
        let made = fw_fuzz::from_record::seeds(t.name, &bytes);
        all.extend(made.map_err(|e| End::File(format!("{file}: {e}")))?);
    }
    for seed in &all {
        let seed = &seed[..seed.len().min(t.max_len)];
        // By content: those of another record, or of other tables, take no other's place.
        write(
            &dir.join(format!("seed-{:016x}", fw_fuzz::hash(seed))),
            seed,
        )?;
    }
    Ok(())
}

fn trial(t: &Target, count: u64, seed: u64) -> Result<(), End> {
    let begin = Instant::now();
    for (n, input) in Inputs::of(t, seed).take(count as usize).enumerate() {
        panics::none_in(|| (t.run)(&input)).map_err(|what| {
            End::File(format!(
                "target {}, input {n}: {what}: {input:02x?}",
                t.name
            ))
        })?;
    }
    let spent = begin.elapsed().as_secs_f64();
    let rate = count as f64 / spent.max(1e-9);
    print(&format!(
        "{count} inputs in {spent:.1} s, {rate:.0} a second\n"
    ))
}

/// Sequences between two lines of progress.
const PROGRESS: u64 = 100_000;

fn compare(count: u64, seed: u64) -> Result<(), End> {
    let begin = Instant::now();
    let mut pair = Pair::new().map_err(|e| End::File(e.to_string()))?;
    for n in 0..count {
        if n > 0 && n % PROGRESS == 0 {
            eprintln!("fw-fuzz: {n} of {count}");
        }
        let one = seed.wrapping_add(n);
        let agreed = pair.sequence(one);
        agreed.map_err(|what| End::File(format!("the models differ in sequence {one}: {what}")))?;
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64().max(1e-9);
    let (ok, all) = pair.executed;
    print(&format!(
        "{count} sequences agree, {rate:.0} a second; {ok} of {all} commands succeeded, {} resets\n",
        pair.resets
    ))
}

fn record(t: &Target, file: &str, out: &str) -> Result<(), End> {
    let make = t.record.ok_or_else(|| {
        End::Usage(format!(
            "target {} is not of the model alone: it has no record",
            t.name
        ))
    })?;
    let bytes = make(&read(file)?);
    let out = Path::new(out);
    write(&out.with_file_name("fuzz.toml"), PROFILE.as_bytes())?;
    write(out, &bytes)
}
