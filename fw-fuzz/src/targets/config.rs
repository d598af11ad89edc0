// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Configuration space as a virtual machine reads and writes it: any width and place, with the gateway and
//! the vital product data behind it.

use core::cell::RefCell;

use arbitrary::Unstructured;
use fw_model::{
    EventPath, FunctionId, Input, ResetKind,
    gateway::{self, Place, Word},
};
use fwctl_emu::pci::{
    config::{CONFIG_BYTES, ConfigSpace},
    vsc::Spaces,
};

use super::{Target, profile};
use crate::{Device, dictionary};

/// The target.
pub static CONFIG: Target = Target {
    name: "config",
    about: "configuration space, the PCI gateway's registers and the product data",
    max_len: 1024,
    hits: true,
    run,
    record: None,
    dictionary: dictionary::commands,
    seeds,
};

const F: FunctionId = FunctionId(0);
/// The registers of the vendor-specific capability: control, counter, semaphore, address, data; and those
/// of the product data.
const PLACES: [u16; 8] = [0xa4, 0xa8, 0xac, 0xb0, 0xb4, 0xc0, 0xc2, 0xc4];
/// Most accesses of an input.
const MAX_STEPS: usize = 64;

thread_local! {
    static DEVICE: RefCell<Option<(Device, ConfigSpace)>> = const { RefCell::new(None) };
}

struct Behind<'a>(&'a RefCell<&'a mut Device>);

impl Spaces for Behind<'_> {
    fn size(&self, space: u16) -> Option<u32> {
        gateway::size(space, self.0.borrow().card.profile())
    }

    fn read(&self, at: Place) -> Option<Word> {
        let d = self.0.borrow();
        d.card.read_space(F, at, d.now)
    }

    fn write(&self, at: Place, value: u32) -> bool {
        let there = gateway::can_write(at, self.0.borrow().card.profile());
        if there {
            self.0.borrow_mut().submit(Input::Gateway {
                function: F,
                at,
                value,
            });
        }
        there
    }
}

/// Handles an input.
pub fn run(data: &[u8]) {
    DEVICE.with_borrow_mut(|kept| {
        let (device, fresh) = kept.get_or_insert_with(|| {
            let p = profile();
            let config = ConfigSpace::new(&p);
            (Device::of(p, &[EventPath::EventQueues]), config)
        });
        device.renew();
        let mut config = fresh.clone();
        crate::begins();
        access(device, &mut config, &mut Unstructured::new(data));
    });
}

fn access(device: &mut Device, config: &mut ConfigSpace, u: &mut Unstructured<'_>) {
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            return;
        }
        let how: u8 = u.arbitrary().unwrap_or(0);
        let n: u16 = u.arbitrary().unwrap_or(0);
        let at = if how & 0x80 == 0 {
            PLACES[usize::from(n) % PLACES.len()] + u16::from(how >> 4 & 3 & u8::from(n > 0xff))
        } else {
            n
        };
        let at = usize::from(at) % CONFIG_BYTES;
        let width = match how & 3 {
            0 | 1 => 4,
            2 => 1 + usize::from(how >> 2 & 7),
            _ => usize::from(u.arbitrary::<u8>().unwrap_or(0)),
        };
        // The door lets no access over the end through.
        let width = width.min(CONFIG_BYTES - at);
        device.now.0 += 1 << (how >> 2 & 31);
        let mut bytes = [0; 256];
        if how & 0x40 == 0 {
            config.read(at as u64, &mut bytes[..width], device.now);
            continue;
        }
        let n = width.min(u.len());
        let given = u.bytes(n).unwrap_or_default();
        bytes[..n].copy_from_slice(given);
        let now = device.now;
        let caused = {
            let behind = RefCell::new(&mut *device);
            config.write(at as u64, &bytes[..width], &Behind(&behind), now)
        };
        if caused.flr {
            config.reset();
            device.submit(Input::Reset {
                function: F,
                kind: ResetKind::Flr,
            });
        }
    }
}

/// Each space chosen, read and written; each register of the capabilities.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for space in [1u8, 2, 3, 7, 10, 4] {
        let mut seed = vec![0x40, 0, 0, space, 0, 0, 0];
        for address in [[0, 0, 0, 0], [0x14, 0, 0x0f, 0], [0x14, 0, 0x0f, 0x80]] {
            seed.extend([0x40, 4, 0, 1, 2, 3, 4, 0x40, 3, 0]);
            seed.extend(address);
            seed.extend([0, 4, 0]);
        }
        seeds.push(seed);
    }
    seeds.push(
        (0..CONFIG_BYTES as u16 / 4)
            .step_by(16)
            .flat_map(|n| [0x80, n as u8, (n >> 8) as u8])
            .collect(),
    );
    seeds
}
