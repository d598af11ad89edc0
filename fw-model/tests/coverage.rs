// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the opcode table says of itself.

#![allow(clippy::unwrap_used)]

use fw_model::{
    Profile,
    profile::Cap,
    table::{Action, Coverage, OPS, Why},
};
use fwctl_proto::{cap_type, opcode};

/// As many commands may be missing although something advertises them.
const GAPS: usize = 10;

#[test]
fn every_opcode_that_the_headers_name_has_a_row() {
    let missing: Vec<_> = opcode::ALL
        .iter()
        .filter(|(code, _)| OPS.iter().all(|o| o.opcode != *code))
        .collect();
    assert!(missing.is_empty(), "{missing:x?}");
}

#[test]
fn there_are_few_gaps() {
    let gaps = OPS.iter().filter(|o| o.coverage() == Coverage::Gap);
    assert!(gaps.count() <= GAPS);
}

#[test]
fn no_profile_advertises_what_is_refused() {
    let profiles: Vec<_> = Profile::names()
        .map(|n| Profile::builtin(n).unwrap())
        .collect();
    for o in OPS {
        let Action::Refuse(Why::Cap(path)) = o.action else {
            continue;
        };
        let name = opcode::name(o.opcode).unwrap();
        let (page, field) = path.split_once('.').unwrap();
        let number = cap_type::ALL
            .iter()
            .find(|c| c.1.eq_ignore_ascii_case(page))
            .unwrap_or_else(|| panic!("{name}: no page {page}"))
            .0;
        // The field exists: a profile may set it to 0.
        let text = format!("inherits = \"minimal\"\n[caps.{page}]\n\"{field}\" = 0\n");
        Profile::parse(&text, "t").unwrap_or_else(|e| panic!("{name}: {e}"));
        for p in &profiles {
            let values = p.cap(number).map(Cap::values).unwrap_or_default();
            assert!(
                values.iter().all(|v| v.0 != field),
                "{name}: {} has {path}",
                p.name
            );
        }
    }
}
