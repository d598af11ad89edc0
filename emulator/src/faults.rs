// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults from a file.

use std::path::Path;

use anyhow::{Context as _, bail};
use fw_model::{
    fault::{Fault, MAX_FAULTS},
    nearest,
};
use serde::Deserialize;

use crate::{files, usage::Usage};

macro_rules! scenario {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../scenarios/", $name, ".toml")),
        )
    };
}

/// Ready lists of faults by name: emulator/scenarios/.
const SCENARIOS: &[(&str, &str)] = &[
    scenario!("cable-pulled"),
    scenario!("crossed-answers"),
    scenario!("dead-event-queue"),
    scenario!("emulator-crash"),
    scenario!("endless-start"),
    scenario!("event-storm"),
    scenario!("failing-model"),
    scenario!("fatal-firmware"),
    scenario!("frozen-counter"),
    scenario!("hung-firmware"),
    scenario!("hungry-firmware"),
    scenario!("interrupts-late"),
    scenario!("lost-answer"),
    scenario!("random-capabilities"),
    scenario!("refused-commands"),
    scenario!("reserved-bits"),
    scenario!("sick-firmware"),
    scenario!("silent-init"),
    scenario!("slow-firmware"),
    scenario!("surprise-removal"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// What it is for.
    #[serde(default)]
    about: String,
    #[serde(default)]
    fault: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    when: String,
    then: String,
    times: Option<u64>,
}

/// A ready list of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: String,
    /// Its faults, as text.
    pub faults: Vec<String>,
}

/// All ready lists of faults.
///
/// # Errors
/// One of them is wrong, which a test rules out.
pub fn scenarios() -> anyhow::Result<Vec<Scenario>> {
    let all = SCENARIOS.iter().map(|(name, text)| {
        let faults = parse(text).context(*name)?;
        Ok(Scenario {
            name,
            about: toml::from_str::<List>(text)?.about,
            faults: faults.into_iter().map(|f| f.text).collect(),
        })
    });
    all.collect()
}

/// The faults of a ready list, or of a TOML file.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(file: &Path) -> anyhow::Result<Vec<Fault>> {
    let name = file.to_str().unwrap_or_default();
    if let Some((_, text)) = SCENARIOS.iter().find(|s| s.0 == name) {
        return parse(text).with_context(|| format!("--faults {name}"));
    }
    if !name.contains(['/', '.']) && !file.exists() {
        let names = SCENARIOS.iter().map(|s| s.0);
        let meant = nearest(name, names);
        bail!(Usage(format!(
            "--faults {name}: no file and no ready list has this name{meant}; `fwctl-emu list scenarios` \
             shows the lists"
        )));
    }
    let text = files::text("--faults", file)?;
    parse(&text).with_context(|| format!("--faults {}", file.display()))
}

fn parse(text: &str) -> anyhow::Result<Vec<Fault>> {
    let list: List = toml::from_str(text)?;
    if list.fault.is_empty() {
        bail!("there is no fault in it; each is a table [[fault]] with when and then");
    }
    if list.fault.len() > MAX_FAULTS {
        bail!("{} faults: there may be {MAX_FAULTS}", list.fault.len());
    }
    let faults = list.fault.iter().enumerate().map(|(n, r)| {
        Fault::of(&r.when, &r.then, r.times).with_context(|| format!("fault {}", n + 1))
    });
    faults.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_ready_list() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let all = scenarios().unwrap();
        let names: Vec<_> = all.iter().map(|s| s.name).collect();
        assert_eq!(files, names);
        for s in &all {
            assert!(!s.about.is_empty() && !s.faults.is_empty(), "{}", s.name);
            let read = read(Path::new(s.name)).unwrap();
            // As a saved card and a record have it.
            assert_eq!(read.iter().try_for_each(Fault::check), Ok(()), "{}", s.name);
            let read: Vec<_> = read.into_iter().map(|f| f.text).collect();
            assert_eq!(read, s.faults);
        }
        let hung = all.iter().find(|s| s.name == "hung-firmware").unwrap();
        assert_eq!(hung.faults, ["opcode=NOP : hang : times=1"]);
        let wrong = read(Path::new("hung-firmwar")).unwrap_err().to_string();
        assert!(wrong.contains("did you mean hung-firmware"), "{wrong}");
    }

    #[test]
    fn a_file_is_a_list_and_its_errors_say_where() {
        let text = "[[fault]]\nwhen = \"opcode=NOP\"\nthen = \"status=BAD_RES\"\ntimes = 3\n\
                    [[fault]]\nwhen = \"any\"\nthen = \"delay=5\"\n";
        let faults = parse(text).unwrap();
        assert_eq!(faults.len(), 2);
        assert_eq!(faults[0].text, "opcode=NOP : status=BAD_RES : times=3");
        let wrong = |text: &str| format!("{:#}", parse(text).unwrap_err());
        let second = text.replace("delay=5", "delay=x");
        assert_eq!(
            wrong(&second),
            "fault 2: fault \"any : delay=x : times=1\": delay=x: not a number"
        );
        assert!(wrong("[[fault]]\nwhen = \"any\"\n").contains("missing field `then`"));
        assert!(wrong("colour = 1\n").contains("unknown field `colour`"));
        for empty in ["", "about = \"nothing\"\n"] {
            assert!(
                wrong(empty).starts_with("there is no fault in it"),
                "{empty}"
            );
        }
    }
}
