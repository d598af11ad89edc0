// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Limits of what commands, overlays, records and images may hold (docs/limits.md): one more is refused, and as
//! many are not.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fw_model::{
    Caller, Card, CardOptions, Effect, Effects, EventPath, FunctionId, Input, NoMemory, Overlay,
    Profile, Time,
    fault::Fault,
    firmware::{
        flash::spec,
        fs4::{self, Bad},
    },
    limits::{MAX_DELAY_NANOS, MAX_OBJECTS},
    overlay::{MAX_BYTES, MAX_ENTRIES},
    record::{self, Broken, Head, MAX_FRAME, Record},
    syndrome::Syndrome,
    vport,
};
use fwctl_proto::{
    layout::{find, set_bits},
    opcode as op, register,
};

/// A function on a command channel, up.
struct Direct {
    card: Card,
    fx: Effects,
}

const F: FunctionId = FunctionId(0);

impl Direct {
    fn up(profile: &str) -> Self {
        let profile = Profile::parse(profile, "bounds.toml").unwrap();
        let pages = profile.pages.boot + profile.pages.init;
        let mut card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        card.add_function(EventPath::Channel).unwrap();
        let mut d = Self {
            card,
            fx: Effects::new(),
        };
        d.run(&command(op::ENABLE_HCA, 16)).unwrap();
        let mut give = command(op::MANAGE_PAGES, 16 + 8 * pages as usize);
        set(&mut give, "manage_pages_in", "op_mod", 1);
        set(
            &mut give,
            "manage_pages_in",
            "input_num_entries",
            pages.into(),
        );
        for (place, n) in give[16..].chunks_exact_mut(8).zip(1u64..) {
            place.copy_from_slice(&(n << 12).to_be_bytes());
        }
        d.run(&give).unwrap();
        d.run(&command(op::INIT_HCA, 16)).unwrap();
        d
    }

    /// Its outbox, or the syndrome of its refusal.
    fn run(&mut self, inbox: &[u8]) -> Result<Vec<u8>, u32> {
        self.fx.clear();
        let input = Input::Command {
            function: F,
            tag: 1,
            caller: Caller::Driver,
            inbox,
            outbox_len: 64,
        };
        self.card.submit(input, Time::ZERO, &NoMemory, &mut self.fx);
        let reply = self.fx.iter().find_map(|e| match e {
            Effect::Reply { outbox, .. } => Some(self.fx.bytes(*outbox)),
            _ => None,
        });
        match reply.unwrap() {
            out if out[0] == 0 => Ok(out.to_vec()),
            out => Err(u32::from_be_bytes(out[4..8].try_into().unwrap())),
        }
    }
}

fn command(opcode: u16, len: usize) -> Vec<u8> {
    let mut inbox = vec![0; len];
    set_bits(&mut inbox, 0, 16, opcode.into());
    inbox
}

fn set(inbox: &mut [u8], layout: &str, path: &str, value: u64) {
    let f = find(layout).unwrap().field(path).unwrap();
    set_bits(inbox, f.offset, f.width, value);
}

#[test]
fn objects_of_a_kind_end_at_max_objects() {
    let mut d = Direct::up("inherits = \"connectx7\"\n[caps.general]\nlog_max_pd = 24\n");
    let alloc = command(op::ALLOC_PD, 16);
    for n in 0..MAX_OBJECTS {
        assert!(d.run(&alloc).is_ok(), "{n}");
    }
    assert_eq!(d.run(&alloc), Err(Syndrome::ObjectLimit.code()));
    // Others go on, and one that is gone leaves its place.
    assert!(d.run(&command(op::ALLOC_TRANSPORT_DOMAIN, 16)).is_ok());
    let pd = d.card.objects(F, Some("pd"))[7].id;
    let mut dealloc = command(op::DEALLOC_PD, 16);
    set(&mut dealloc, "dealloc_pd_in", "pd", pd.into());
    assert!(d.run(&dealloc).is_ok());
    assert!(d.run(&alloc).is_ok());
    assert_eq!(d.run(&alloc), Err(Syndrome::ObjectLimit.code()));
}

/// As many as a saved card may hold.
#[test]
fn l2_entries_end_at_max_objects() {
    let mut d = Direct::up("inherits = \"connectx7\"\n[caps.general]\nlog_max_l2_table = 24\n");
    let mut entry = command(op::SET_L2_TABLE_ENTRY, 64);
    let mut at = |d: &mut Direct, n: usize| {
        set(&mut entry, "set_l2_table_entry_in", "table_index", n as u64);
        d.run(&entry).map(drop)
    };
    for n in 0..MAX_OBJECTS {
        assert_eq!(at(&mut d, n), Ok(()), "{n}");
    }
    assert_eq!(at(&mut d, MAX_OBJECTS), Err(Syndrome::TableFull.code()));
    assert_eq!(at(&mut d, 7), Ok(()), "one that is there may change");
}

/// A full table is no reason to look at all of it for each command that is refused.
#[test]
fn ids_that_are_not_free_are_not_looked_for_again_and_again() {
    let mut d = Direct::up("inherits = \"connectx7\"\n");
    let mut alloc = command(op::ALLOC_FLOW_COUNTER, 16);
    let layout = "alloc_flow_counter_in";
    set(&mut alloc, layout, "flow_counter_bulk_log_size", 4);
    let mut made = 0;
    while d.run(&alloc).is_ok() {
        made += 1;
    }
    assert!(made > 500_000, "{made}");
    let begin = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(d.run(&alloc).is_err());
    }
    // Each of them looked at a million objects, for a tenth of a second as it is built for a release.
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
}

/// MODIFY_NIC_VPORT_CONTEXT with a list of so many addresses.
fn addresses(count: usize) -> Vec<u8> {
    const IN: &str = "modify_nic_vport_context_in";
    let at = find(IN)
        .unwrap()
        .field("nic_vport_context.current_uc_mac_address");
    let at = at.unwrap().offset as usize / 8;
    let mut inbox = command(op::MODIFY_NIC_VPORT_CONTEXT, at + 8 * count);
    set(&mut inbox, IN, "field_select.addresses_list", 1);
    set(
        &mut inbox,
        IN,
        "nic_vport_context.allowed_list_size",
        count as u64,
    );
    inbox
}

#[test]
fn an_address_list_ends_at_max_list() {
    let mut d = Direct::up("inherits = \"connectx7\"");
    assert!(d.run(&addresses(vport::MAX_LIST)).is_ok());
    let over = d.run(&addresses(vport::MAX_LIST + 1));
    assert_eq!(over, Err(Syndrome::VportField.code()));
    // A list that is not there is refused.
    let mut cut = addresses(vport::MAX_LIST);
    cut.truncate(cut.len() - 8);
    assert_eq!(d.run(&cut), Err(Syndrome::InboxTooShort.code()));
}

#[test]
fn a_flow_has_so_many_destinations_and_counters() {
    const IN: &str = "set_fte_in";
    /// `MAX_LIST` of fw-model/src/cmd/steering.rs.
    const MAX_LIST: u64 = 4096;
    let mut d = Direct::up("inherits = \"connectx7\"");
    let mut table = command(op::CREATE_FLOW_TABLE, 64);
    set(
        &mut table,
        "create_flow_table_in",
        "flow_table_context.log_size",
        4,
    );
    let made = d.run(&table).unwrap();
    let id = u32::from_be_bytes(made[8..12].try_into().unwrap()) & 0xff_ffff;
    let entry = |list: &str, count: u64| {
        // 64 bytes, a flow context of 768 bytes, and room for all that it says.
        let mut inbox = command(op::SET_FLOW_TABLE_ENTRY, 64 + 768 + 8 * 5000);
        set(&mut inbox, IN, "table_id", id.into());
        set(&mut inbox, IN, &format!("flow_context.{list}"), count);
        inbox
    };
    for list in ["destination_list_size", "flow_counter_list_size"] {
        let over = d.run(&entry(list, MAX_LIST + 1));
        assert_eq!(over, Err(Syndrome::ObjectField.code()), "{list}");
        // As many are looked at one by one: their group is not there.
        let all = d.run(&entry(list, MAX_LIST));
        assert_eq!(all, Err(Syndrome::ObjectReference.code()), "{list}");
    }
}

fn overlay(text: &str) -> Result<(), String> {
    Overlay::parse(text, "o.toml")
        .map(drop)
        .map_err(|e| e.to_string())
}

fn registers(count: usize) -> String {
    let one = |n: usize| {
        format!(
            "[[register]]\nid = {:#x}\nname = \"R{n}\"\nbytes = 4\nfields = []\n",
            0x1000 + n
        )
    };
    (0..count).map(one).collect()
}

#[test]
fn an_overlay_has_max_entries_of_max_bytes() {
    assert_eq!(overlay(&registers(MAX_ENTRIES)), Ok(()));
    let said = overlay(&registers(MAX_ENTRIES + 1)).unwrap_err();
    assert!(said.contains("more than 256 entries"), "{said}");
    let long = |bytes: usize| {
        overlay(&format!(
            "[[register]]\nid = 0x1000\nname = \"R\"\nbytes = {bytes}\nfields = []\n"
        ))
    };
    assert_eq!(long(MAX_BYTES), Ok(()));
    let said = long(MAX_BYTES + 4).unwrap_err();
    assert!(said.contains("4100 bytes are not 1 to 4096"), "{said}");
}

#[test]
fn a_record_that_says_more_than_max_frame_is_damaged_and_nothing_is_allocated_for_it() {
    let head = Head {
        program: String::new(),
        profile: String::new(),
        overlay: None,
        card: Vec::new(),
    };
    let head = record::head(&head).unwrap();
    let read = |len: usize| {
        // A length, the same inverted, and a checksum.
        let len = len as u32;
        let lengths = [len.to_le_bytes(), (!len).to_le_bytes()].concat();
        let bytes = [&head[..], &lengths, &[0; 4], b"short"].concat();
        Record::open(&bytes).unwrap().next().unwrap().unwrap_err()
    };
    let at = head.len() as u64;
    assert_eq!(read(MAX_FRAME + 1), Broken::Damaged(at));
    assert_eq!(read(u32::MAX as usize), Broken::Damaged(at));
    assert_eq!(read(MAX_FRAME), Broken::Cut(at), "it could be one");
}

/// `MAX_SECTIONS` of fw-model/src/firmware/fs4.rs, and bytes of a row of its table.
const MAX_SECTIONS: usize = 64;
const TOC_ROW: usize = 32;

#[test]
fn an_image_has_max_sections() {
    let profile = Profile::builtin("connectx7").unwrap();
    let image = fs4::build(&spec(&profile, [28, 44, 1000]));
    let toc = image.windows(4).position(|w| w == b"ITOC").unwrap();
    // The first row again and again, which says the same section each time.
    let with = |rows: usize| {
        let mut image = image.clone();
        let row = toc + TOC_ROW..toc + 2 * TOC_ROW;
        for n in 1..=rows {
            image.copy_within(row.clone(), toc + TOC_ROW * n);
        }
        fs4::parse(&image).map(|info| info.version)
    };
    // Behind them stands the end of the table, which takes a row too.
    assert_eq!(with(MAX_SECTIONS - 1), Ok([28, 44, 1000]));
    assert_eq!(with(MAX_SECTIONS), Err(Bad::Format));
}

/// `MAX_MTU` of fw-model/src/reg/ports.rs: what mlx5 ports have.
const MAX_MTU: u64 = 9978;

#[test]
fn an_mtu_ends_at_max_mtu() {
    let mut d = Direct::up("inherits = \"connectx7\"");
    let bytes = find("pmtu_reg").unwrap().bytes();
    let mut sets = |mtu: u64| {
        let mut inbox = command(op::ACCESS_REG, 16 + bytes);
        set_bits(&mut inbox, 80, 16, register::PMTU.into());
        let (mut reg, at) = (vec![0; bytes], 16);
        set(&mut reg, "pmtu_reg", "admin_mtu", mtu);
        set(&mut reg, "pmtu_reg", "local_port", 1);
        inbox[at..].copy_from_slice(&reg);
        d.run(&inbox).map(drop)
    };
    assert_eq!(sets(MAX_MTU), Ok(()));
    assert_eq!(sets(MAX_MTU + 1), Err(Syndrome::RegisterField.code()));
}

#[test]
fn a_fault_holds_an_answer_for_max_delay_ms() {
    let most = MAX_DELAY_NANOS / 1_000_000;
    assert!(Fault::parse(&format!("any : delay={most}")).is_ok());
    let said = Fault::parse(&format!("any : delay={}", most + 1)).unwrap_err();
    assert!(said.to_string().contains("at most 3600000 ms"), "{said}");
}
