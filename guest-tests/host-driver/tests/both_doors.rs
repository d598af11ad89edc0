// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The same commands through both doors: the same bytes come back.

mod vhost_fixture;

use std::{collections::BTreeMap, os::unix::net::UnixListener};

use fw_model::{Card, CardOptions, EventPath, MemStore, profile::Profile};
use fwctl_emu::{clients::Clients, memory::Files, owner::Owner, pci};
use fwctl_proto::opcode as op;
use host_driver::{
    firmware::Firmware,
    mailbox::{Command, Mailbox},
    pci::PciDriver,
};
use vhost_fixture::{Device, PROFILE};

/// Commands of every shape: no data, a long answer, a long question, refused, unknown.
fn list() -> Vec<(String, Vec<u8>, usize)> {
    let mut all = Vec::new();
    let mut add =
        |what: &str, c: Command, out: usize| all.push((what.to_owned(), c.inbox().to_vec(), out));
    add("NOP", Command::new(op::NOP), 16);
    add("NOP, long outbox", Command::new(op::NOP), 5000);
    add(
        "NOP, long inbox",
        Command::new(op::NOP).data(&[0x5a; 5000]),
        16,
    );
    for op_mod in 0..4 {
        add(
            &format!("QUERY_HCA_CAP {op_mod}"),
            Command::new(op::QUERY_HCA_CAP).op_mod(op_mod),
            4112,
        );
    }
    add(
        "QUERY_HCA_CAP, unknown type",
        Command::new(op::QUERY_HCA_CAP).op_mod(0x7e),
        4112,
    );
    add("QUERY_ISSI", Command::new(op::QUERY_ISSI), 112);
    add("QUERY_ADAPTER", Command::new(op::QUERY_ADAPTER), 272);
    add("QUERY_PAGES", Command::new(op::QUERY_PAGES).op_mod(3), 16);
    add("ENABLE_HCA again", Command::new(op::ENABLE_HCA), 16);
    add("CREATE_UCTX", Command::new(op::CREATE_UCTX), 16);
    add(
        "QUERY_ISSI as a user",
        Command::new(op::QUERY_ISSI).uid(1),
        112,
    );
    add("NOP as nobody", Command::new(op::NOP).uid(0x1234), 16);
    add(
        "DESTROY_UCTX",
        Command::new(op::DESTROY_UCTX).set("uid", 1),
        16,
    );
    add(
        "DESTROY_UCTX again",
        Command::new(op::DESTROY_UCTX).set("uid", 1),
        16,
    );
    // ACCESS_REG of MNVDA (0x9024), PCI configuration: a write that must be on stable storage before
    // it is answered, and the value for the next boot read back.
    for (what, write) in [("write MNVDA", true), ("read MNVDA", false)] {
        let mut set = vec![0u8; 16 + 268];
        set[..2].copy_from_slice(&op::ACCESS_REG.to_be_bytes());
        set[7] = u8::from(!write);
        set[10..12].copy_from_slice(&0x9024u16.to_be_bytes());
        set[19] = 4;
        set[20..24].copy_from_slice(&0x80u32.to_be_bytes());
        if write {
            set[28..32].copy_from_slice(&[1, 2, 3, 4]);
        }
        all.push((what.into(), set, 284));
    }
    all.push((
        "unknown opcode".into(),
        [&[0x77, 0x77][..], &[0; 14]].concat(),
        16,
    ));
    all
}

fn answers(m: &mut impl Mailbox) -> Vec<(String, Vec<u8>)> {
    list()
        .into_iter()
        .map(|(what, inbox, out)| {
            let mut outbox = vec![0xee; out];
            m.exec(&inbox, &mut outbox)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            (what, outbox)
        })
        .collect()
}

#[test]
fn the_same_commands_give_the_same_bytes() {
    let virtio = Device::new();
    let mut over_virtio = virtio.connect();
    over_virtio.bring_up().unwrap();

    let path = std::env::temp_dir().join(format!("fwctl-both-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let card = Card::new(
        Profile::builtin(PROFILE).unwrap(),
        CardOptions::default(),
        &BTreeMap::new(),
    );
    let owner = Owner::new(card, Box::new(MemStore::default()));
    let function = owner.add_function(EventPath::EventQueues).unwrap();
    let clients = Clients::new(|| {});
    clients.add(function, "pci", "vfio-user");
    std::thread::spawn(move || {
        pci::door::serve(owner, function, &listener, &clients, Files::Sealed)
    });
    let mut over_pci = Firmware::new(PciDriver::probe(&path).unwrap());
    over_pci.bring_up().unwrap();

    let (a, b) = (
        answers(&mut over_virtio.mailbox),
        answers(&mut over_pci.mailbox),
    );
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b);
    }
    // They are answers and not what was in the outbox before.
    let status = |what: &str| a.iter().find(|x| x.0 == what).map(|x| x.1[0]);
    assert_eq!(
        (
            status("NOP"),
            status("CREATE_UCTX"),
            status("NOP as nobody")
        ),
        (Some(0), Some(0), Some(0x5))
    );
    let value = a.iter().find(|x| x.0 == "read MNVDA").map(|x| &x.1[28..32]);
    assert_eq!(
        (status("write MNVDA"), value),
        (Some(0), Some(&[1, 2, 3, 4][..]))
    );
    assert_eq!(a.len(), list().len());
    std::fs::remove_file(&path).unwrap();
}
