// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A model of a driver to fuzz: it makes and ends protection domains, and relies on what the firmware
//! promises. Under libFuzzer a function with `fw_fuzz::kept` is in the place of the loop at the end
//! (fuzz/fuzz_targets/example.rs).

use fw_fuzz::{Device, command, trials::Inputs};
use fw_model::{EventPath, FunctionId};
use fwctl_proto::{layout::set_bits, opcode};

fn driver(device: &mut Device, data: &[u8]) {
    let f = FunctionId(0);
    device.renew();
    device.bring_up(f);
    let mut mine: Vec<[u8; 4]> = Vec::new();
    for step in data {
        if step & 1 == 0 {
            let made = device.command(f, &command(opcode::ALLOC_PD, 0, 16), 16);
            let outbox = device.reply().expect("answered at once").outbox;
            let id = [outbox[8], outbox[9], outbox[10], outbox[11]];
            assert!(made && !mine.contains(&id), "a number is given out twice");
            mine.push(id);
        } else if let Some(id) = mine.pop() {
            let mut inbox = command(opcode::DEALLOC_PD, 0, 16);
            set_bits(&mut inbox, 64, 32, u64::from(u32::from_be_bytes(id)));
            assert!(device.command(f, &inbox, 16), "what was made is ended");
        }
    }
    let objects = device.card.objects(f, Some("pd"));
    assert_eq!(objects.len(), mine.len());
}

fn main() -> Result<(), fw_model::ProfileError> {
    let mut device = Device::new("connectx7", &[EventPath::Channel])?;
    for input in Inputs::new(vec![vec![0, 0, 1, 0]], vec![], 64, 1).take(1000) {
        driver(&mut device, &input);
    }
    Ok(())
}
