// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Seeds from records: what a guest's driver said to the firmware (`serve --record`) becomes inputs.

use fw_model::{
    Input,
    gateway::Place,
    record::{self, Broken, Frame, Record, Step},
};
use fwctl_proto::cmdif::{BLOCK_DATA, ENTRY_BYTES, Entry};

use crate::{MAX_INBOX, MAX_STEPS, raw_step, targets};

/// A command as a driver gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The function.
    pub function: u8,
    /// The inbox, whole.
    pub inbox: Vec<u8>,
    /// Bytes of the outbox.
    pub outbox_len: u32,
}

/// A word as it was written behind the PCI gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// The function.
    pub function: u8,
    /// Where to.
    pub at: Place,
    /// What.
    pub value: u32,
}

/// What a guest said to the firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Commands, over command channels and from command queues.
    pub commands: Vec<Sent>,
    /// Words behind the PCI gateway.
    pub words: Vec<Word>,
}

/// What was said in a record.
///
/// # Errors
/// [`Broken`] if it is no record, or not whole.
pub fn said(record: &[u8]) -> Result<Said, Broken> {
    let mut all = Said::default();
    for frame in Record::open(record)? {
        let frame = frame?;
        match &frame.step {
            Step::Input(Input::Command {
                function,
                inbox,
                outbox_len,
                ..
            }) => all.commands.push(Sent {
                function: function.0,
                inbox: inbox.to_vec(),
                outbox_len: *outbox_len,
            }),
            Step::Input(Input::SegmentWrite { function, .. }) => {
                queued(function.0, &frame, &mut all.commands);
            }
            Step::Input(Input::Gateway {
                function,
                at,
                value,
            }) => all.words.push(Word {
                function: function.0,
                at: *at,
                value: *value,
            }),
            _ => {}
        }
    }
    Ok(all)
}

/// The commands of a doorbell, from what was read for it.
fn queued(function: u8, frame: &Frame<'_>, all: &mut Vec<Sent>) {
    let mut reads = frame
        .reads
        .iter()
        .filter_map(|r| r.data.as_deref())
        .peekable();
    while let Some(read) = reads.next() {
        let Ok(raw) = <&[u8; ENTRY_BYTES]>::try_from(read) else {
            continue;
        };
        let e = Entry::parse(raw);
        if !e.is_xport() || !e.hw_owned {
            continue;
        }
        let mut inbox = e.inline_in.to_vec();
        while let Some(block) = reads.next_if(|r| r.len() > ENTRY_BYTES) {
            inbox.extend(block.iter().take(BLOCK_DATA));
        }
        inbox.resize(e.in_len.min(MAX_INBOX as u32) as usize, 0);
        all.push(Sent {
            function,
            inbox,
            outbox_len: e.out_len,
        });
    }
}

/// Commands in one seed of the target `chains`: it rings four times.
const CHAINED: usize = 4;
/// Frames of a record that are one seed, as many as fit into an input of the target.
const WINDOW: usize = 16;

/// Parts of a record, each one itself: the card that it begins with, and some of its frames.
fn windows(record: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    let mut open = Record::open(record)?;
    // What a guest's card differs by from its profile is not what the target's card does.
    let head = record::head(&open.head).map_err(|_| Broken::NotARecord)?;
    let frames: Vec<Frame<'_>> = open.by_ref().collect::<Result<_, _>>()?;
    let part = |some: &[Frame<'_>]| {
        // Sums are right.
        let mut seed = [&[0], &head[..]].concat();
        for frame in some {
            seed.extend(record::framed(frame).unwrap_or_default());
        }
        seed
    };
    Ok(frames.chunks(WINDOW).map(part).collect())
}

/// Seeds of a target from a record; none for a target that does not take commands.
///
/// # Errors
/// [`Broken`].
pub fn seeds(target: &str, record: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    match target {
        "record" => windows(record),
        _ => said(record).map(|s| s.seeds(target)),
    }
}

impl Said {
    /// Seeds of a target that takes commands or words, none for another one.
    #[must_use]
    pub fn seeds(&self, target: &str) -> Vec<Vec<u8>> {
        let all = &self.commands;
        match target {
            "inbox" => all
                .iter()
                .map(|c| {
                    let mut seed = vec![3, c.outbox_len.div_ceil(16).min(255) as u8];
                    seed.extend(&c.inbox);
                    seed
                })
                .collect(),
            "gateway" => targets::gateway::seeds_of(&self.words),
            "chains" => all.chunks(CHAINED).map(targets::chains::seed_of).collect(),
            "commands" | "save" => all
                .chunks(MAX_STEPS)
                .map(|some| {
                    // Both functions are up.
                    let mut seed = vec![0x0a];
                    for c in some {
                        seed.extend(raw_step(c.function, &c.inbox, c.outbox_len));
                    }
                    seed
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command, targets::find};
    use fw_model::gateway::space;
    use fwctl_proto::opcode;

    #[test]
    fn commands_of_a_record_become_a_seed() {
        let t = find("commands").unwrap();
        let seed = [
            vec![0x0a],
            raw_step(1, &command(opcode::ALLOC_PD, 0, 16), 16),
        ]
        .concat();
        let record = (t.record.unwrap())(&seed);
        let all = said(&record).unwrap().commands;
        let last = all.last().unwrap();
        assert_eq!((last.function, last.outbox_len), (1, 16));
        assert_eq!(last.inbox, command(opcode::ALLOC_PD, 0, 16));
        let made = seeds("commands", &record).unwrap();
        assert!(made[0].ends_with(&seed[1..]));
        assert_eq!(seeds("gateway", &record).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(seeds("virtqueue", &record).unwrap(), Vec::<Vec<u8>>::new());
        assert!(said(b"nothing").is_err());
        // Each part of a record is one that the target runs.
        let parts = seeds("record", &record).unwrap();
        let frames = |bytes: &[u8]| Record::open(bytes).unwrap().map(Result::unwrap).count();
        let all: usize = parts.iter().map(|p| frames(&p[1..])).sum();
        assert_eq!((all, parts[0][0]), (frames(&record), 0));
    }

    /// What a driver put into its command queue, with its chains, is found in what was read for the doorbell.
    #[test]
    fn commands_in_a_queue_are_found_whole_and_sent_again() {
        let chains = find("chains").unwrap();
        // QUERY_HCA_CAP is inline; CREATE_EQ has a chain, of which the target makes up 255 bytes a block.
        let sent = |op, op_mod, len, outbox_len| {
            let mut inbox = command(op, op_mod, len);
            for (n, b) in inbox.iter_mut().enumerate().take(240).skip(64) {
                *b = n as u8;
            }
            Sent {
                function: 0,
                inbox,
                outbox_len,
            }
        };
        let wanted = [
            sent(opcode::QUERY_HCA_CAP, 1, 16, 4112),
            sent(opcode::CREATE_EQ, 0, 272 + 8, 16),
            sent(opcode::QUERY_ISSI, 0, 16, 112),
        ];
        let record = (chains.record.unwrap())(&targets::chains::seed_of(&wanted));
        let queued = said(&record).unwrap().commands;
        // Bringing the function up was over the channel.
        let found = &queued[queued.len() - wanted.len()..];
        assert_eq!(found, wanted);
        let seeds = seeds("chains", &record).unwrap();
        let last = (chains.record.unwrap())(seeds.last().unwrap());
        let again = said(&last).unwrap().commands;
        assert_eq!(again.last(), wanted.last());
    }

    #[test]
    fn words_of_a_gateway_are_written_again() {
        let gateway = find("gateway").unwrap();
        let record = |seed: &[u8]| (gateway.record.unwrap())(seed);
        let word = |function, space, address, value| Word {
            function,
            at: Place { space, address },
            value,
        };
        let wanted = [
            word(1, space::SEMAPHORES, 0, 7),
            word(0, space::ICMD, 0x10_0000, 0x1234_5678),
            word(0, space::CR, 0xf_0014, 1),
        ];
        let made = targets::gateway::seeds_of(&wanted);
        assert_eq!(made.len(), 1);
        assert_eq!(said(&record(&made[0])).unwrap().words, wanted);
        assert_eq!(seeds("gateway", &record(&made[0])).unwrap(), made);
    }
}
