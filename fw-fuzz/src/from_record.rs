// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Seeds from records: what a guest's driver said to the firmware (`serve --record`) becomes inputs.

use fw_model::{
    Input,
    record::{Broken, Frame, Record, Step},
};
use fwctl_proto::cmdif::{BLOCK_DATA, ENTRY_BYTES, Entry};

use crate::{MAX_INBOX, MAX_STEPS, raw_step};

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

/// All commands in a record, over command channels and from command queues.
///
/// # Errors
/// [`Broken`] if it is no record, or not whole.
pub fn commands(record: &[u8]) -> Result<Vec<Sent>, Broken> {
    let mut all = Vec::new();
    for frame in Record::open(record)? {
        let frame = frame?;
        match &frame.step {
            Step::Input(Input::Command {
                function,
                inbox,
                outbox_len,
                ..
            }) => all.push(Sent {
                function: function.0,
                inbox: inbox.to_vec(),
                outbox_len: *outbox_len,
            }),
            Step::Input(Input::SegmentWrite { function, .. }) => {
                queued(function.0, &frame, &mut all);
            }
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

/// Seeds of a target from a record; none for a target that does not take commands.
///
/// # Errors
/// [`Broken`].
pub fn seeds(target: &str, record: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
    let all = commands(record)?;
    Ok(match target {
        "inbox" => all
            .iter()
            .map(|c| {
                let mut seed = vec![3, c.outbox_len.div_ceil(16).min(255) as u8];
                seed.extend(&c.inbox);
                seed
            })
            .collect(),
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command, targets::find};
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
        let all = commands(&record).unwrap();
        let last = all.last().unwrap();
        assert_eq!((last.function, last.outbox_len), (1, 16));
        assert_eq!(last.inbox, command(opcode::ALLOC_PD, 0, 16));
        let made = seeds("commands", &record).unwrap();
        assert!(made[0].ends_with(&seed[1..]));
        assert_eq!(seeds("gateway", &record).unwrap(), Vec::<Vec<u8>>::new());
        assert!(commands(b"nothing").is_err());
    }
}
