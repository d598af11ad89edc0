// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Raw inbox bytes to the engine, in each state of a function: no command knows of another one.

use std::cell::RefCell;

use fw_model::{Delivery, EventPath, FunctionId, object::KindId, table};
use fwctl_proto::{layout::get_bits, opcode};

use super::{Target, profile, recorded};
use crate::{Commands, Device, check::looked_at, command, dictionary};

/// The target.
pub static INBOX: Target = Target {
    name: "inbox",
    about: "raw inbox bytes to the engine, in each state of a function",
    max_len: 1024,
    run,
    record: Some(record),
    dictionary: dictionary::commands,
    seeds,
};

/// Bytes before the inbox: which state, and the outbox's length in units of 16.
const HEAD: usize = 2;
/// In the first byte: whether what a command that changes nothing has left is compared with what was before.
const COMPARE: u8 = 0x10;
/// States: disabled, enabled, up, up with an object of each kind that can be made from zeros.
const STATES: usize = 4;
/// The state by the first byte: the last one takes the longest to be brought to again.
const STATE: [usize; 16] = [0, 1, 2, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2];
const F: FunctionId = FunctionId(0);

thread_local! {
    static DEVICES: RefCell<Option<[Prepared; STATES]>> = const { RefCell::new(None) };
}

/// A device in a state, which it is brought to again only after a command that may have changed it:
/// one that is refused changes nothing.
struct Prepared {
    state: usize,
    device: Device,
    used: bool,
}

impl Prepared {
    fn new(state: usize) -> Self {
        let device = Device::of(profile(), &[EventPath::Channel]);
        let mut prepared = Self {
            state,
            device,
            used: false,
        };
        prepared.bring();
        prepared
    }

    fn bring(&mut self) {
        self.device.renew();
        bring(self.state, &mut self.device);
    }
}

fn bring(state: usize, device: &mut Device) {
    match state {
        0 => {}
        1 => {
            device.bring_to_enabled(F);
        }
        2 => device.bring_up(F),
        _ => {
            device.bring_up(F);
            for op in table::OPS {
                if let table::Action::Create(kind) = op.action
                    && kind.id != KindId::General
                {
                    device.command(F, &command(op.opcode, 0, usize::from(op.in_len)), 16);
                }
            }
        }
    }
}

/// What the first bytes say: the state, the outbox's length, the inbox.
fn parse(data: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (head, inbox) = data.split_at_checked(HEAD)?;
    Some((
        STATE[usize::from(head[0] & 0xf)],
        u32::from(head[1]) * 16,
        inbox,
    ))
}

/// Handles an input.
pub fn run(data: &[u8]) {
    let Some((state, out_len, inbox)) = parse(data) else {
        return;
    };
    DEVICES.with_borrow_mut(|devices| {
        let devices = devices.get_or_insert_with(|| core::array::from_fn(Prepared::new));
        let d = &mut devices[state];
        if core::mem::take(&mut d.used) {
            d.bring();
        }
        let compared = data.first().is_some_and(|b| b & COMPARE != 0);
        let before = compared.then(|| looked_at(&d.device.card, F));
        crate::begins();
        d.device.command(F, inbox, out_len);
        d.used = !changed_nothing(&d.device, inbox);
        if let (Some(before), false) = (before, d.used) {
            // Else the next input would find another device than it should.
            let now = looked_at(&d.device.card, F);
            assert_eq!(
                before, now,
                "a command that changes nothing has changed something"
            );
        }
    });
}

/// True if the last command was refused, or only asked.
fn changed_nothing(device: &Device, inbox: &[u8]) -> bool {
    let Some(r) = device.reply() else {
        return false;
    };
    if r.delivery != Delivery::Executed || r.status() != Some(0) {
        return true;
    }
    let op = get_bits(inbox, 0, 16) as u16;
    let read = op == opcode::ACCESS_REG && get_bits(inbox, 48, 16) == 1;
    read || op == opcode::NOP || opcode::name(op).is_some_and(|n| n.starts_with("QUERY_"))
}

fn record(data: &[u8]) -> Vec<u8> {
    let mut device = Device::of(profile(), &[EventPath::Channel]);
    recorded(&mut device, |device| {
        if let Some((state, out_len, inbox)) = parse(data) {
            bring(state, device);
            device.command(F, inbox, out_len);
        }
    })
}

/// Each command of the table once, with nothing but its opcode, where it is allowed.
fn seeds() -> Vec<Vec<u8>> {
    let commands = Commands::all();
    let all = table::OPS
        .iter()
        .filter(|o| commands.position(o.opcode).is_some());
    let seed = |op: &table::Op| {
        let mut seed = vec![3 | COMPARE, op.out_len.div_ceil(16).clamp(1, 255) as u8];
        seed.extend(command(op.opcode, 0, usize::from(op.in_len).max(16)));
        seed
    };
    all.map(seed).collect()
}
