// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A damaged state file: refused by name and place, and what is before the damage is taken when told.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;
mod stored;

use std::{fs, path::Path};

use host_driver::{firmware::Firmware, pci::PciDriver};
use process::{Emulator, Folder, refused};
use rustix::process::Signal;
use stored::{MNVDA, WRITE, access, item, stored_item};

/// Bytes of a frame of the journal (docs/state.md); an item's record is one.
const FRAME: usize = 512;

fn text(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn driver(socket: &Path) -> Firmware<PciDriver> {
    let mut d = Firmware::new(PciDriver::probe(socket).unwrap());
    d.bring_up().unwrap();
    d
}

#[test]
fn a_damaged_file_is_refused_and_recovered_when_told() {
    let folder = Folder::new();
    let (socket, state) = (folder.at("s"), folder.at("state"));
    let args = ["--vfio-user", text(&socket), "--state", text(&state)];
    let e = Emulator::start(&args);
    let mut d = driver(&socket);
    // Three records: the first item, the second, and the first again.
    for (which, n) in [(0, 1), (1, 2), (0, 3)] {
        d.ok(&access(MNVDA, WRITE, &item(which, n))).unwrap();
    }
    drop(d);
    e.signal(Signal::TERM);
    e.end();
    let file = state.join("card");
    let mut bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.len(), 3 * FRAME);
    bytes[2 * FRAME + 100] ^= 1;
    fs::write(&file, &bytes).unwrap();

    let (code, said) = refused(&args);
    assert_eq!(code, 1, "{said}");
    let want = format!(
        "fwctl-emu: state store: {}: file card is damaged: at byte 1024: a checksum is wrong; restore it, \
         remove it, or take what is before that place with --state-recover\n",
        text(&state)
    );
    assert_eq!(said, want);
    assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was touched");
    assert!(!state.join("card.damaged").exists() && !socket.exists());

    let recover = [&args[..], &["--state-recover"]].concat();
    let e = Emulator::start(&recover);
    let mut d = driver(&socket);
    assert_eq!([0, 1].map(|i| stored_item(&mut d, i)), [1, 2]);
    assert_eq!(fs::read(state.join("card.damaged")).unwrap(), bytes);
    // It goes on from there.
    d.ok(&access(MNVDA, WRITE, &item(0, 4))).unwrap();
    drop(d);
    e.signal(Signal::TERM);
    let (status, log) = e.end();
    assert_eq!(status.code(), Some(0));
    let want = "file card was damaged at byte 1024: a checksum is wrong; what was before is in force, and \
                the 512 bytes from there on are dropped; the file is kept as card.damaged";
    assert_eq!(log.matches(want).count(), 1, "{log}");

    // The next needs no telling, and with it says nothing.
    for args in [&args[..], &recover] {
        let e = Emulator::start(args);
        let mut d = driver(&socket);
        assert_eq!([0, 1].map(|i| stored_item(&mut d, i)), [4, 2]);
        drop(d);
        e.signal(Signal::TERM);
        let (status, log) = e.end();
        assert_eq!(status.code(), Some(0));
        assert!(!log.contains("damaged"), "{log}");
    }
    // Without a folder there is nothing to recover.
    let (code, said) = refused(&["--vfio-user", text(&socket), "--state-recover"]);
    assert!(
        code == 2 && said.contains("--state <DIR>"),
        "{code}: {said}"
    );
}
