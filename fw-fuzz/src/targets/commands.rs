// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sequences of commands on a card with two functions; and what is saved of a card after them.

use std::cell::RefCell;

use fw_model::{Profile, table};
use fwctl_proto::{layout::set_bits, opcode};

use super::{Target, profile};
use crate::{Commands, Sequence, check, command, dictionary, sequence::raw_step};

/// The target.
pub static COMMANDS: Target = Target {
    name: "commands",
    about: "sequences of up to 16 commands and events on two functions",
    max_len: 512,
    hits: false,
    run,
    record: Some(record),
    dictionary: dictionary::commands,
    seeds,
};

/// The same, and what is saved of the card is loaded again.
pub static SAVE: Target = Target {
    name: "save",
    about: "cards after such a sequence: saved, loaded, and the same again",
    max_len: 512,
    hits: false,
    run: run_and_save,
    record: Some(record),
    dictionary: dictionary::commands,
    seeds,
};

/// Both functions are up.
const BOTH_UP: u8 = 0x0a;

thread_local! {
    static SEQUENCE: RefCell<Option<Sequence>> = const { RefCell::new(None) };
}

fn new() -> Sequence {
    Sequence::new(profile(), Commands::all())
}

/// Handles an input.
pub fn run(data: &[u8]) {
    SEQUENCE.with_borrow_mut(|s| s.get_or_insert_with(new).run(data));
}

/// Handles an input, and saves the card.
pub fn run_and_save(data: &[u8]) {
    SEQUENCE.with_borrow_mut(|s| {
        let s = s.get_or_insert_with(new);
        s.run(data);
        let device = s.device();
        let profile: std::sync::Arc<Profile> = device.profile().clone();
        check::saves_and_loads(&device.card, &profile);
    });
}

fn record(data: &[u8]) -> Vec<u8> {
    let mut sequence = new();
    sequence.device().set_record();
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sequence.run(data)));
    sequence.device().record().to_vec()
}

/// Each command once as the tables have it, each create command with its destroy command behind it,
/// and what a driver does from power on.
fn seeds() -> Vec<Vec<u8>> {
    let commands = Commands::all();
    let position = |op: u16| commands.position(op).unwrap_or(0) as u16;
    let made = |op: u16| {
        let [low, high] = position(op).to_le_bytes();
        [0, 0, low, high, 0]
    };
    let mut seeds = vec![power_on()];
    for op in table::OPS {
        if commands.position(op.opcode).is_none() {
            continue;
        }
        let mut seed = vec![BOTH_UP];
        seed.extend(made(op.opcode));
        if let table::Action::Create(kind) = op.action {
            let ends = |o: &&table::Op| match o.action {
                table::Action::Destroy(k) | table::Action::Query(k) => k.id == kind.id,
                _ => false,
            };
            for end in table::OPS.iter().filter(ends) {
                seed.extend(made(end.opcode));
            }
        }
        seeds.push(seed);
    }
    seeds
}

/// From power on to a user context and an object of its own, byte by byte.
fn power_on() -> Vec<u8> {
    let p = profile();
    let pages = p.pages.boot + p.pages.init;
    let mut give = command(opcode::MANAGE_PAGES, 1, 16 + 8 * pages as usize);
    set_bits(&mut give, 0x60, 32, u64::from(pages));
    for (place, n) in give[16..].chunks_exact_mut(8).zip(1u64..) {
        place.copy_from_slice(&(n << 12).to_be_bytes());
    }
    let mut pd = command(opcode::ALLOC_PD, 0, 16);
    set_bits(&mut pd, 16, 16, 1);
    let mut issi = command(opcode::SET_ISSI, 0, 16);
    set_bits(&mut issi, 0x50, 16, 1);
    let all = [
        command(opcode::ENABLE_HCA, 0, 16),
        command(opcode::QUERY_ISSI, 0, 16),
        issi,
        command(opcode::QUERY_PAGES, 1, 16),
        give,
        command(opcode::QUERY_HCA_CAP, 0, 16),
        command(opcode::INIT_HCA, 0, 32),
        command(opcode::CREATE_UCTX, 0, 64),
        pd,
        command(opcode::TEARDOWN_HCA, 0, 16),
        command(opcode::DISABLE_HCA, 0, 16),
    ];
    let mut seed = vec![0];
    for inbox in all {
        seed.extend(raw_step(0, &inbox, 112));
    }
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed does what it says: it is no list of refusals.
    #[test]
    fn the_seed_from_power_on_gets_to_an_object_of_a_user() {
        let mut s = new();
        let seed = power_on();
        // Without the last two steps, which end it all.
        s.run(&seed[..seed.len() - 2 * 22]);
        let card = &s.device().card;
        let report = card.report(fw_model::FunctionId(0)).unwrap();
        assert_eq!((report.state, report.uctx, report.issi), ("up", 1, 1));
        let objects = card.objects(report.id, Some("pd"));
        assert_eq!((objects.len(), objects[0].uid), (1, 1));
        s.run(&seed);
        let card = &s.device().card;
        assert_eq!(
            card.report(fw_model::FunctionId(0)).unwrap().state,
            "disabled"
        );
    }
}
