// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every layout against the kernel's own `mlx5_ifc.h`, read by a parser that shares nothing with
//! the importer: it makes tokens, a tree of members, and sums up widths.
//!
//! The source is the folder in `FWCTL_LINUX_SOURCE`, or the first one of the imported version in
//! the cache folder that scripts/fetch fills. Without a source the test says so and passes.

mod header;
mod source;

use std::{collections::BTreeMap, fmt::Write};

use fwctl_proto::{
    layout::{Layout, LayoutInfo},
    layouts,
};
use header::{Header, Member};
use source::{ByHand, Source};

/// Fields by name: offset, bits of an element, elements, nested layout.
type Fields = BTreeMap<String, (u32, u32, u32, Option<String>)>;

fn ours(l: &LayoutInfo) -> Fields {
    l.fields
        .iter()
        .map(|f| {
            let nested = f.nested.map(|n| n.name.to_owned());
            (f.name.to_owned(), (f.offset, f.width, f.count, nested))
        })
        .collect()
}

fn theirs(members: &[Member]) -> Fields {
    let named = members.iter().filter(|m| !reserved(&m.name));
    named
        .map(|m| {
            (
                m.name.clone(),
                (m.offset, m.width, m.count, m.nested.clone()),
            )
        })
        .collect()
}

/// `reserved_at_1c0`, `reserved_2b`, and `resereved_at_54`, which the header misspells.
fn reserved(name: &str) -> bool {
    let hex = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
    name.strip_prefix("reserved_").is_some()
        || name.starts_with("rese") && name.rsplit_once("_at_").is_some_and(|(_, at)| hex(at))
}

/// What differs between our table of a layout and the header's, a line each.
fn differences(l: &LayoutInfo, bits: u32, members: &[Member], by_hand: &ByHand) -> String {
    let (mut ours, theirs) = (ours(l), theirs(members));
    let mut text = String::new();
    if l.bits != bits {
        let _ = writeln!(text, "{}: {:#x} bits, header {bits:#x}", l.name, l.bits);
    }
    if ours.len() != l.fields.len() {
        let _ = writeln!(text, "{}: two fields of one name", l.name);
    }
    ours.retain(|name, _| !by_hand.adds(l.name, name));
    for (name, field) in &ours {
        if theirs.get(name) != Some(field) {
            let header = theirs.get(name);
            let _ = writeln!(text, "{}.{name}: {field:x?}, header {header:x?}", l.name);
        }
    }
    for name in theirs.keys().filter(|n| !ours.contains_key(*n)) {
        let _ = writeln!(text, "{}.{name}: only in the header", l.name);
    }
    text
}

#[test]
fn every_layout_is_the_header_s() {
    let source = match Source::find() {
        Ok(source) => source,
        Err(why) => {
            eprintln!("SKIP every_layout_is_the_header_s: {why}");
            return;
        }
    };
    let header = Header::parse(&source.text).unwrap();
    for path in &source.missing {
        eprintln!("SKIP the layouts of {path}: the source does not have it");
    }
    let by_hand = ByHand::read();
    let mut not_there = by_hand.layouts();
    not_there.extend(source.not_there);
    let (mut checked, mut fields, mut wrong) = (0, 0, String::new());
    for l in layouts::ALL {
        if not_there.iter().any(|n| n == l.name) {
            continue;
        }
        match header.layout(l.name) {
            Ok((bits, members)) => {
                checked += 1;
                fields += theirs(members).len();
                wrong += &differences(l, bits, members, &by_hand);
            }
            Err(why) => {
                let _ = writeln!(wrong, "{}: {why}", l.name);
            }
        }
    }
    let known: Vec<_> = layouts::ALL.iter().map(|l| l.name).collect();
    for name in header.names().filter(|n| !known.contains(n)) {
        let _ = writeln!(wrong, "{name}: only in the header");
    }
    eprintln!(
        "checked {checked} layouts, {fields} fields of {}",
        source.root.display()
    );
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(checked, layouts::ALL.len() - not_there.len());
}

/// The parser by itself, on what the header uses, with sums done by hand.
#[test]
fn the_parser_sums_up_widths() {
    let text = "#define TWO (1 + \\\n ONE)\n#define ONE 1\n\
        enum { X = 3 };\n\
        struct mlx5_ifc_in_bits { u8 a[0x8]; /* u8 b[9]; */ u8 reserved_at_8[0x18]; };\n\
        struct mlx5_ifc_x_bits {\n  struct mlx5_ifc_in_bits one;\n\
        union { struct mlx5_ifc_in_bits p; u8 reserved_at_0[0x40]; } u;\n\
        union { u8 q[0x20]; struct { u8 r[0x10]; u8 s[0x10]; }; };\n\
        u8 t[TWO][0x10];\n  struct mlx5_ifc_in_bits v[2];\n\
        DECLARE_FLEX_ARRAY(struct mlx5_ifc_in_bits, w);\n  u8 y[][0x20];\n};\n";
    let h = Header::parse(text).unwrap();
    let (bits, members) = h.layout("x").unwrap();
    assert_eq!(bits, 0x20 + 0x40 + 0x20 + 0x20 + 0x40);
    let inner = || Some("in".to_owned());
    let want = [
        ("one", (0, 0x20, 1, inner())),
        ("q", (0x60, 0x20, 1, None)),
        ("r", (0x60, 0x10, 1, None)),
        ("s", (0x70, 0x10, 1, None)),
        ("t", (0x80, 0x10, 2, None)),
        ("u", (0x20, 0x40, 1, Some("x_u".to_owned()))),
        ("v", (0xa0, 0x20, 2, inner())),
        ("w", (0xe0, 0x20, 0, inner())),
        ("y", (0xe0, 0x20, 0, None)),
    ];
    let want: Fields = want.into_iter().map(|(n, f)| (n.to_owned(), f)).collect();
    assert_eq!(theirs(members), want);
    assert_eq!(h.layout("x_u").unwrap().0, 0x40);
    assert!(h.layout("nothing").is_err());
    assert!(Header::parse("struct mlx5_ifc_x_bits { float a; };").is_err());
}

/// A wrong fact is seen: each kind of fault, on a layout made for it.
#[test]
fn a_wrong_fact_is_seen() {
    let text = "struct mlx5_ifc_nop_in_bits { u8 opcode[0x10]; u8 reserved_at_10[0x20];\n\
        u8 op_mod[0x10]; u8 reserved_at_40[0x40]; };";
    let seen = |text: &str| {
        let header = Header::parse(text).unwrap();
        let (bits, members) = header.layout("nop_in").unwrap();
        differences(layouts::NopIn::INFO, bits, members, &ByHand::read())
    };
    assert_eq!(seen(text), "");
    assert!(seen(&text.replace("op_mod[0x10]", "op_mod[0x8]")).contains("nop_in.op_mod: "));
    assert!(seen(&text.replace("reserved_at_40", "more")).contains("nop_in.more: only in"));
    assert!(seen(&text.replace("op_mod", "reserved_at_30")).contains("nop_in.op_mod: "));
    assert!(seen(&text.replace("0x40", "0x60")).contains("nop_in: 0x80 bits, header 0xa0"));
}
