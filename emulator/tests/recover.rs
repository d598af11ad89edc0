// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A damaged file of a state directory: refused by name and place, and recovered when told.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;
mod stored;

use std::fs;

use host_driver::{firmware::Firmware, pci::PciDriver};
use process::{Emulator, Folder, refused};
use rustix::process::Signal;
use stored::{MNVDA, WRITE, access, item, stored_item};

#[test]
fn a_damaged_card_is_refused_and_recovered_when_told() {
    let folder = Folder::new();
    let (socket, state) = (folder.at("socket"), folder.at("state"));
    let (socket_arg, state_arg) = (socket.to_str().unwrap(), state.to_str().unwrap());
    let args = ["--vfio-user", socket_arg, "--state", state_arg];
    let driver = || {
        let mut d = Firmware::new(PciDriver::probe(&socket).unwrap());
        d.bring_up().unwrap();
        d
    };
    let emulator = Emulator::start(&args);
    let mut d = driver();
    let file = state.join("card");
    let mut ends = Vec::new();
    for which in [0, 1] {
        d.ok(&access(MNVDA, WRITE, &item(which, 7))).unwrap();
        ends.push(fs::metadata(&file).unwrap().len() as usize);
    }
    drop(d);
    emulator.signal(Signal::TERM);
    assert!(emulator.end().0.success());

    // A bit of the last record, behind the end of the one before.
    let mut bytes = fs::read(&file).unwrap();
    let (first, last) = (ends[0], ends[1]);
    assert_eq!(bytes.len(), last);
    bytes[last - 1] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let (code, said) = refused(&args);
    assert_eq!(code, 2, "found before anything is served: {said}");
    let place = format!(
        "{state_arg}: file card is damaged: at byte {}: ",
        last - 512
    );
    assert!(last - 512 >= first, "{ends:?}");
    assert!(said.contains(&place), "{said}");
    assert!(said.contains("--state-recover"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), bytes, "left as it was");

    let recover = [&args[..], &["--state-recover"]].concat();
    let emulator = Emulator::start(&recover);
    let mut d = driver();
    assert_eq!([stored_item(&mut d, 0), stored_item(&mut d, 1)], [7, 0]);
    drop(d);
    emulator.signal(Signal::TERM);
    let (status, log) = emulator.end();
    assert!(status.success());
    let place = format!(
        "{state_arg}: file card was damaged at byte {}: ",
        last - 512
    );
    assert!(log.contains(&place), "{log}");
    assert!(log.contains("the file is kept as card.damaged"), "{log}");
    assert_eq!(fs::read(state.join("card.damaged")).unwrap(), bytes);
    // What is left is whole: the next start needs no permission.
    let _emulator = Emulator::start(&args);
    let mut d = driver();
    assert_eq!([stored_item(&mut d, 0), stored_item(&mut d, 1)], [7, 0]);
}
