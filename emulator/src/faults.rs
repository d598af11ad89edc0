// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Faults from a file.

use std::path::Path;

use anyhow::{Context as _, bail};
use fw_model::fault::{Fault, MAX_FAULTS};
use serde::Deserialize;

use crate::files;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
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

/// The faults of a TOML file.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(file: &Path) -> anyhow::Result<Vec<Fault>> {
    let text = files::text("--faults", file)?;
    parse(&text).with_context(|| format!("--faults {}", file.display()))
}

fn parse(text: &str) -> anyhow::Result<Vec<Fault>> {
    let list: List = toml::from_str(text)?;
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
    }
}
