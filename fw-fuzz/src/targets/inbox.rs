// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Raw inbox bytes to the engine, in each state of a function: no command knows of another one.

use std::cell::RefCell;

use fw_model::{Delivery, EventPath, FunctionId, object::KindId, table};
use fwctl_proto::{layout::get_bits, opcode};

use super::{Target, profile, recorded};
use crate::{Commands, Device, Kept, check::looked_at, command, dictionary};

/// The target.
pub static INBOX: Target = Target {
    name: "inbox",
    about: "raw inbox bytes to the engine, in each state of a function",
    max_len: 384,
    hits: false,
    run,
    record: Some(record),
    dictionary: dictionary::commands,
    seeds,
};

/// Bytes before the inbox: which state, and the outbox's length in units of 16.
const HEAD: usize = 2;
/// In the first byte: whether the inbox ends with zeros, as long as the opcode's inbox is.
const WHOLE: u8 = 0x20;
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
    kept: Option<Kept>,
    /// What it looks like in its state.
    looks: u64,
    used: bool,
}

impl Prepared {
    fn new(state: usize) -> Self {
        let device = Device::of(profile(), &[EventPath::Channel]);
        let mut prepared = Self {
            state,
            device,
            kept: None,
            looks: 0,
            used: false,
        };
        prepared.bring();
        prepared.looks = looked_at(&prepared.device.card, F);
        prepared
    }

    fn bring(&mut self) {
        let state = self.state;
        self.device
            .renew_to(&mut self.kept, |device| bring(state, device));
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

/// An input, as its first bytes say.
struct Parsed<'a> {
    state: usize,
    outbox_len: u32,
    given: &'a [u8],
    inbox_len: usize,
}

fn parse(data: &[u8]) -> Option<Parsed<'_>> {
    let (head, given) = data.split_at_checked(HEAD)?;
    let op = given.first_chunk().map(|b| u16::from_be_bytes(*b));
    let row = op.filter(|_| head[0] & WHOLE != 0).and_then(table::find);
    Some(Parsed {
        state: STATE[usize::from(head[0] & 0xf)],
        outbox_len: u32::from(head[1]) * 16,
        given,
        inbox_len: row.map_or(0, |r| r.in_len.into()).max(given.len()),
    })
}

impl Parsed<'_> {
    /// Sends it; gives its inbox to `then`.
    fn send<R>(&self, device: &mut Device, then: impl FnOnce(&Device, &[u8]) -> R) -> R {
        let mut inbox = device.take_buffer();
        inbox.clear();
        inbox.extend_from_slice(self.given);
        inbox.resize(self.inbox_len, 0);
        device.command(F, &inbox, self.outbox_len);
        let r = then(device, &inbox);
        device.return_buffer(inbox);
        r
    }
}

/// Handles an input.
pub fn run(data: &[u8]) {
    let Some(input) = parse(data) else {
        return;
    };
    DEVICES.with_borrow_mut(|devices| {
        let devices = devices.get_or_insert_with(|| core::array::from_fn(Prepared::new));
        let d = &mut devices[input.state];
        if core::mem::take(&mut d.used) {
            d.bring();
            crate::begins();
        }
        d.used = !input.send(&mut d.device, changed_nothing);
        // Else the next input would find another device than it should.
        assert!(
            d.used || looked_at(&d.device.card, F) == d.looks,
            "a command that changes nothing has changed something"
        );
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
        if let Some(input) = parse(data) {
            bring(input.state, device);
            input.send(device, |_, _| {});
        }
    })
}

/// Each command of the table once, with nothing but its header; what names an object, where there are some.
fn seeds() -> Vec<Vec<u8>> {
    let commands = Commands::all();
    let all = table::OPS
        .iter()
        .filter(|o| commands.position(o.opcode).is_some());
    let seed = |op: &table::Op| {
        let state = match op.action {
            table::Action::Destroy(_) | table::Action::Query(_) | table::Action::Modify(_) => 3,
            _ => 2,
        };
        let how = state | WHOLE;
        let mut seed = vec![how, op.out_len.div_ceil(16).clamp(1, 255) as u8];
        seed.extend(command(op.opcode, 0, 16));
        seed
    };
    all.map(seed).collect()
}
