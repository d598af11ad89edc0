// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The address spaces behind the PCI gateway: semaphores, CR space, the flash chip's words, and commands
//! of the ICMD mailbox.

use core::cell::RefCell;

use arbitrary::Unstructured;
use fw_model::{
    EventPath, FunctionId, Input,
    gateway::{self, Place, icmd, space},
    reg,
};
use fwctl_proto::mst;

use super::{Target, profile, recorded};
use crate::{
    Device, Kept,
    bytes::{byte, short},
    dictionary,
    from_record::Word,
};

/// The target.
pub static GATEWAY: Target = Target {
    name: "gateway",
    about: "reads and writes of the address spaces behind the PCI gateway, and ICMD commands",
    max_len: 1024,
    hits: false,
    run,
    record: Some(record),
    dictionary: dictionary::commands,
    seeds,
};

/// Most accesses of an input.
const MAX_STEPS: usize = 64;
/// Spaces, and two that there are not.
const SPACES: [u16; 8] = [
    space::ICMD_EXT,
    space::CR,
    space::ICMD,
    space::SEGMENT,
    space::SCAN,
    space::SEMAPHORES,
    0x102,
    0xffff,
];
/// Words of CR space that mean something: ids, health, functions, the flash chip's gateways.
const WORDS: [u32; 16] = [
    0xf_0014, 0x200, 0x1000, 0x1100, 0xf_0400, 0xf_0404, 0xf_0410, 0xf_0414, 0xf_0418, 0xf_041c,
    0xf_0420, 0x8a_1000, 0x8a_103c, 0x8a_1010, 0x8a_1044, 0xb_5f04,
];
/// Address of the ICMD mailbox in its space.
const MAILBOX: u32 = 0x10_0000;
/// Words of the mailbox before a register, for ACCESS_REGISTER: operation TLV and the register's own.
const TLV_WORDS: u32 = 5;

/// A device, and its states at an input's begin: just powered, or with its first function up.
struct Begun {
    device: Device,
    kept: [Option<Kept>; 2],
}

thread_local! {
    static DEVICE: RefCell<Option<Begun>> = const { RefCell::new(None) };
}

fn new() -> Device {
    Device::of(profile(), &[EventPath::EventQueues, EventPath::Channel])
}

/// Handles an input.
pub fn run(data: &[u8]) {
    DEVICE.with_borrow_mut(|begun| {
        let begun = begun.get_or_insert_with(|| Begun {
            device: new(),
            kept: [None, None],
        });
        let mut u = Unstructured::new(data);
        let is_up = begins_up(&mut u);
        let kept = &mut begun.kept[usize::from(is_up)];
        begun.device.renew_to(kept, |d| begin(d, is_up));
        access(&mut begun.device, u);
    });
}

fn record(data: &[u8]) -> Vec<u8> {
    recorded(&mut new(), |d| {
        let mut u = Unstructured::new(data);
        begin(d, begins_up(&mut u));
        access(d, u);
    })
}

fn begins_up(u: &mut Unstructured<'_>) -> bool {
    byte(u) & 1 == 1
}

fn begin(d: &mut Device, is_up: bool) {
    if is_up {
        d.bring_up(FunctionId(0));
    }
}

fn access(d: &mut Device, mut u: Unstructured<'_>) {
    crate::begins();
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            return;
        }
        let what = byte(&mut u);
        let function = FunctionId(what >> 7);
        match what & 7 {
            0 => register(d, function, &mut u),
            1 => {
                let command = &icmd::COMMANDS[usize::from(what >> 3 & 7) % icmd::COMMANDS.len()];
                go(d, function, command.opcode);
            }
            2 => {
                d.now.0 += 1 << (what >> 3 & 15) << 20;
                d.poll();
            }
            3 | 4 => {
                let at = place(&mut u);
                let word = d.card.read_space(function, at, d.now);
                assert!(
                    word.is_none() || gateway::size(at.space, d.card.profile()).is_some(),
                    "a space without a size is read"
                );
            }
            _ => {
                let at = place(&mut u);
                let value = u.arbitrary().unwrap_or(0);
                write(d, function, at, value);
            }
        }
    }
}

fn write(d: &mut Device, function: FunctionId, at: Place, value: u32) {
    d.submit(Input::Gateway {
        function,
        at,
        value,
    });
}

fn place(u: &mut Unstructured<'_>) -> Place {
    let how = byte(u);
    let space = SPACES[usize::from(how & 7) % SPACES.len()];
    let n = short(u);
    let address = match how >> 3 & 3 {
        0 => WORDS[usize::from(n) % WORDS.len()],
        1 => u32::from(n) * 4,
        2 => MAILBOX + u32::from(n) * 4,
        _ => u.arbitrary().unwrap_or(0),
    };
    Place { space, address }
}

/// Writes a register command into the mailbox and starts it.
fn register(d: &mut Device, f: FunctionId, u: &mut Unstructured<'_>) {
    let n = usize::from(short(u));
    let own = reg::REGISTERS.len();
    let n = n % (own + mst::REGISTERS.len());
    let (id, bytes) = match reg::REGISTERS.get(n) {
        Some(r) => (r.id, r.bytes),
        None => {
            let r = &mst::REGISTERS[n - own];
            (r.id, r.layout.bytes())
        }
    };
    let how = byte(u);
    let method = u32::from(how & 3);
    // Operation TLV: type 1, 4 dwords; register, method, class 1. Register TLV: type 3.
    let length = 1 + bytes.div_ceil(4) as u32;
    let words = [
        1 << 27 | 4 << 16,
        u32::from(id) << 16 | method << 8 | 1,
        0,
        0,
        3 << 27 | length << 16,
    ];
    for (word, n) in words.into_iter().zip(0..) {
        put(d, f, n, word);
    }
    for n in 0..u32::from(how >> 2) {
        let word = u.arbitrary().unwrap_or(0);
        put(d, f, TLV_WORDS + n, word);
    }
    go(d, f, 0x9001);
}

fn put(d: &mut Device, f: FunctionId, n: u32, value: u32) {
    let at = Place {
        space: space::ICMD,
        address: MAILBOX + 4 * n,
    };
    write(d, f, at, value);
}

fn go(d: &mut Device, f: FunctionId, opcode: u16) {
    let at = Place {
        space: space::ICMD,
        address: 0,
    };
    write(d, f, at, u32::from(opcode) << 16 | 1);
}

/// Seeds that write these words; those in spaces that no input reaches are left out.
#[must_use]
pub fn seeds_of(words: &[Word]) -> Vec<Vec<u8>> {
    /// A write, and an address of the fuzzer's own.
    const WRITE: u8 = 5;
    const ANY_ADDRESS: u8 = 3 << 3;
    let one = |w: &Word| {
        let space = SPACES.iter().position(|s| *s == w.at.space)? as u8;
        let mut step = vec![WRITE | w.function << 7, ANY_ADDRESS | space, 0, 0];
        step.extend(w.at.address.to_le_bytes());
        step.extend(w.value.to_le_bytes());
        Some(step)
    };
    let steps: Vec<Vec<u8>> = words.iter().filter_map(one).collect();
    // The functions are up.
    let seed = |some: &[Vec<u8>]| [&[1], &some.concat()[..]].concat();
    steps.chunks(MAX_STEPS).map(seed).collect()
}

/// Each register read, each space's words.
fn seeds() -> Vec<Vec<u8>> {
    let all = reg::REGISTERS.len() + mst::REGISTERS.len();
    let mut seeds: Vec<Vec<u8>> = (0..all as u16)
        .map(|n| {
            let [low, high] = n.to_le_bytes();
            vec![1, 0, low, high, 0x81]
        })
        .collect();
    for space in 0..SPACES.len() as u8 {
        let mut seed = vec![1];
        for n in 0..WORDS.len() as u8 {
            seed.extend([
                3, space, n, 0, 5, space, n, 0, 0xff, 0xff, 0xff, 0xff, 3, space, n, 0,
            ]);
        }
        seeds.push(seed);
    }
    seeds
}
