// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The dissector for Wireshark, of an exported trace ([`super::pcapng`]): the tables that the model
//! and the decoder use, as Lua, in front of the code that goes over packets with them.

use std::{collections::HashMap, fmt::Write as _};

use fw_model::{Delivery, Overlay, ResetKind, Scope, Why, gateway, reg, syndrome::Syndrome};
use fwctl_proto::{
    cmdif::DeliveryStatus,
    event,
    layout::{self, EnumInfo, Layout as _, LayoutInfo},
    layouts::{Eqe, InitialSeg},
    mst::{self, nv, nv::Type},
    opcode, register,
    status::Status,
    uar,
};

use super::pcapng;
use crate::list::register_name;

const CODE: &str = include_str!("dissector.lua");

/// Numbers that Lua 5.2 keeps as they are.
const EXACT: u64 = 1 << 53;

/// Layouts and lists of values by their addresses, in the order in which they were asked for.
#[derive(Default)]
struct Tables {
    layouts: Vec<&'static LayoutInfo>,
    numbers: HashMap<*const LayoutInfo, usize>,
    enums: Vec<&'static EnumInfo>,
    enum_numbers: HashMap<*const EnumInfo, usize>,
}

impl Tables {
    /// Number of a layout, from 1.
    fn layout(&mut self, l: &'static LayoutInfo) -> usize {
        let next = self.layouts.len() + 1;
        let number = *self.numbers.entry(l).or_insert(next);
        if number == next {
            self.layouts.push(l);
        }
        number
    }

    /// Number of a list of values, from 1.
    fn values(&mut self, e: &'static EnumInfo) -> usize {
        let next = self.enums.len() + 1;
        let number = *self.enum_numbers.entry(e).or_insert(next);
        if number == next {
            self.enums.push(e);
        }
        number
    }

    /// All layouts that were asked for, with those that they hold.
    fn text(&mut self) -> String {
        let mut s = String::from("T.layouts = {\n");
        let mut next = 0;
        while let Some(l) = self.layouts.get(next).copied() {
            next += 1;
            let _ = write!(s, "{{ name = {:?}, fields = {{", l.name);
            for f in l.fields {
                let number = |n: Option<usize>| n.map_or("false".to_owned(), |n| n.to_string());
                let nested = number(f.nested.map(|l| self.layout(l)));
                let values = number(f.values.map(|e| self.values(e)));
                let counter = f
                    .counted_by
                    .map_or("false".to_owned(), |c| format!("{c:?}"));
                let variants = f.variants.map_or("false".to_owned(), |v| {
                    let arms: String = v
                        .arms
                        .iter()
                        .map(|(n, l)| format!("[{n}] = {}, ", self.layout(l)))
                        .collect();
                    let (selector, shift) = (v.selector, v.shift);
                    format!("{{ selector = {selector:?}, shift = {shift}, arms = {{ {arms}}} }}")
                });
                let _ = write!(
                    s,
                    "\n  {{ {:?}, {}, {}, {}, {nested}, {values}, {counter}, {variants} }},",
                    f.name, f.offset, f.width, f.count
                );
            }
            s += " } },\n";
        }
        s += "}\nT.enums = {\n";
        for e in &self.enums {
            let exact = e.values.iter().filter(|v| v.0 < EXACT);
            s += &map(exact.map(|(n, name)| (*n, *name)));
            s += ",\n";
        }
        s + "}\n"
    }
}

/// Numbers and names as a table.
fn map<'a>(pairs: impl Iterator<Item = (u64, &'a str)>) -> String {
    let pairs: String = pairs
        .map(|(n, name)| format!("[{n}] = {name:?}, "))
        .collect();
    format!("{{ {pairs}}}")
}

/// Numbers of something and of a layout as a table.
fn numbers(pairs: impl Iterator<Item = (u64, usize)>) -> String {
    let pairs: String = pairs.map(|(n, l)| format!("[{n}] = {l}, ")).collect();
    format!("{{ {pairs}}}")
}

/// The whole dissector; what an overlay adds is in it.
#[must_use]
pub fn dissector(overlay: Option<&Overlay>) -> String {
    let mut t = Tables::default();
    let mut s = String::from(
        "-- SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause\n\
         -- Made by `fwctl-emu trace dissector`: for what `fwctl-emu trace export --pcapng` writes.\n\
         -- Into Wireshark's folder for personal Lua plugins, or tshark -X lua_script:FILE.\n\
         local T = {}\n",
    );
    let mut put = |name: &str, value: String| {
        let _ = writeln!(s, "T.{name} = {value}");
    };
    put("version", "1".into());
    put("kinds", map((1..).zip(pcapng::KINDS.iter().copied())));
    let slots: Vec<_> = (0..32).map(|n| (n, format!("slot {n}"))).collect();
    let vias = slots.iter().map(|(n, name)| (*n, name.as_str())).chain([
        (pcapng::CHANNEL.into(), "channel"),
        (pcapng::GATEWAY.into(), "gateway"),
    ]);
    put("vias", map(vias));
    put("scopes", map((1..).zip(Scope::ALL.map(Scope::name))));
    put(
        "refusals",
        map((0..).zip(Delivery::ALL.map(Delivery::name))),
    );
    put("whys", map((0..).zip(Why::ALL.map(Why::name))));
    put(
        "resets",
        map((1..).zip(ResetKind::ALL.map(ResetKind::name))),
    );
    let delivery = |n: u8| DeliveryStatus::from_code(n).map(|d| (n.into(), d.name()));
    put("deliveries", map((0..=u8::MAX).filter_map(delivery)));
    let statuses = Status::ALL.iter().map(|s| (s.code().into(), s.name()));
    put("statuses", map(statuses));
    let syndromes = Syndrome::ALL.iter().map(|s| (s.code().into(), s.text()));
    put("syndromes", map(syndromes));
    put(
        "spaces",
        map(gateway::SPACES.iter().map(|s| (s.number.into(), s.name))),
    );
    let event = |n: u8| event::name(n).map(|name| (n.into(), name));
    put("events", map((0..=u8::MAX).filter_map(event)));
    let opcodes = (0..=u16::MAX).filter_map(|n| {
        let added = overlay.and_then(|v| v.command(n)).map(|c| c.name);
        let name = added.or_else(|| opcode::name(n))?;
        Some((n.into(), name))
    });
    put("opcodes", map(opcodes));
    let registers = (0..=u16::MAX).filter_map(|n| {
        let added = overlay.and_then(|v| v.register(n)).map(|r| r.name);
        let name = added.or_else(|| register_name(n))?;
        Some((n.into(), name))
    });
    put("registers", map(registers));
    put("access_reg", opcode::ACCESS_REG.to_string());
    put("mnvda", register::MNVDA.to_string());
    let mut commands = String::from("{ ");
    for n in 0..=u16::MAX {
        let added = overlay
            .and_then(|v| v.command(n))
            .map(|c| (c.input, c.output));
        let known = || layout::command(n).map(|c| (c.input, c.output));
        if let Some((input, output)) = added.or_else(known) {
            let (input, output) = (t.layout(input), t.layout(output));
            let _ = write!(commands, "[{n}] = {{ {input}, {output} }}, ");
        }
    }
    put("commands", commands + "}");
    let mut layouts: Vec<_> = Vec::new();
    for n in 0..=u16::MAX {
        // What the kernel's header knows, its command's layout shows.
        let store = || {
            let here = reg::find(n).and_then(|r| r.layout);
            mst::find(n).filter(|_| here.is_none()).map(|r| r.layout)
        };
        let added = overlay.and_then(|v| v.register(n)).map(|r| r.layout);
        layouts.extend(added.or_else(store).map(|l| (n.into(), t.layout(l))));
    }
    put("register_layouts", numbers(layouts.into_iter()));
    let (mut items, mut index) = (String::from("{ "), String::from("{ "));
    for class in 0..=u8::MAX {
        let of = nv::ITEMS.iter().filter(|i| i.class == class);
        let of: Vec<_> = of.map(|i| (i.id.into(), t.layout(i.layout))).collect();
        if !of.is_empty() {
            let _ = write!(items, "[{class}] = {}, ", numbers(of.into_iter()));
            // How many indices the class has.
            let last = Type::of(u32::from(class) << 24 | 0xff_ffff).id;
            let _ = write!(index, "[{class}] = {}, ", last + 1);
        }
    }
    put("items", items + "}");
    put("item_index", index + "}");
    let data = Eqe::INFO.fields.iter().find_map(|f| f.variants);
    let data: Vec<_> = data
        .iter()
        .flat_map(|v| v.arms)
        .map(|(n, l)| (*n, t.layout(l)))
        .collect();
    put("event_data", numbers(data.into_iter()));
    put("segment", t.layout(InitialSeg::INFO).to_string());
    let doorbells: Vec<_> = uar::DOORBELLS
        .iter()
        .map(|(at, l)| ((*at).into(), t.layout(l)))
        .collect();
    put("doorbells", numbers(doorbells.into_iter()));
    put("send_doorbell", uar::SEND.to_string());
    let mut words = String::from("{ ");
    for space in gateway::SPACES.iter().map(|s| s.number) {
        if let Some(l) = gateway::word(space, gateway::icmd::CONTROL) {
            let _ = write!(
                words,
                "[{space}] = {{ [{}] = {} }}, ",
                gateway::icmd::CONTROL,
                t.layout(l)
            );
        }
    }
    put("words", words + "}");
    s += &t.text();
    s += CODE.split_once("\n\n").map_or(CODE, |c| c.1);
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet says these enums by number.
    #[test]
    fn numbers_in_packets_are_those_of_the_tables() {
        assert_eq!(Scope::ALL.map(|s| s as u8), [0, 1, 2, 3]);
        assert_eq!(Delivery::ALL.map(|d| d as u8), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(ResetKind::ALL.map(|k| k as u8), [0, 1, 2, 3]);
        assert_eq!(Why::ALL.map(|w| w as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let text = dissector(None);
        for line in [
            "T.scopes = { [1] = \"configuration\", [2] = \"debug-read-only\", [3] = \"debug-write\", \
             [4] = \"debug-write-full\", }",
            "T.resets = { [1] = \"flr\", [2] = \"bus\", [3] = \"client-gone\", [4] = \"firmware\", }",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn every_layout_of_a_command_is_there() {
        let text = dissector(None);
        for name in [
            "set_issi_in",
            "cmd_hca_cap",
            "nv_global_pci_conf",
            "PIPG",
            "icmd_control",
        ] {
            assert!(text.contains(&format!("name = \"{name}\"")), "{name}");
        }
        let row = "  { \"current_issi\", 80, 16, 1, false, false, false, false },";
        assert!(text.contains(row));
    }
}
