// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The two sides of a difference, in words: an effect as the record has it, and as it is now.

use std::{collections::BTreeSet, fmt::Write as _};

use fw_model::{Batch, record::Happened};

use crate::trace::{dump, event_text};

/// Bytes of a stored value that are shown, from just before the first that differs.
const SHOWN: usize = 64;

/// Both sides. Of two commits only what differs, as a value may be a sector of the flash.
pub fn sides(recorded: Option<&Happened>, now: Option<&Happened>) -> (String, String) {
    match (recorded, now) {
        (
            Some(Happened::Commit { token: a, batch: x }),
            Some(Happened::Commit { token: b, batch: y }),
        ) => (commit(a.0, x, Some(y)), commit(b.0, y, Some(x))),
        _ => (one(recorded), one(now)),
    }
}

fn one(e: Option<&Happened>) -> String {
    let Some(e) = e else {
        return "nothing more".into();
    };
    match e {
        Happened::Write {
            function,
            addr,
            data,
            order,
        } => with_bytes(
            &format!(
                "f{} writes {} bytes at {addr:#x} ({})",
                function.0,
                data.len(),
                order.name()
            ),
            data,
        ),
        Happened::Interrupt { function, vector } => {
            format!("f{} raises interrupt vector {vector}", function.0)
        }
        Happened::Reply {
            function,
            tag,
            delivery,
            outbox,
        } => with_bytes(
            &format!(
                "f{} answers request {tag} ({})",
                function.0,
                delivery.name()
            ),
            outbox,
        ),
        Happened::Event {
            function,
            event_type,
            sub_type,
            data,
        } => {
            let known = event_text(*event_type, *sub_type, data);
            with_bytes(&format!("f{} raises {known}", function.0), data)
        }
        Happened::Commit { token, batch } => commit(token.0, batch, None),
        Happened::Notice { function, text } => format!("f{} says: {text}", function.0),
    }
}

fn with_bytes(head: &str, data: &[u8]) -> String {
    format!("{head}\n{}", dump::lines(data, "      "))
}

/// What a batch stores; beside another one, only what that has not.
fn commit(token: u64, batch: &Batch, other: Option<&Batch>) -> String {
    let mut text = format!("batch {token} is to be stored:");
    let keys: BTreeSet<&String> = batch
        .puts
        .keys()
        .chain(other.iter().flat_map(|o| o.puts.keys()))
        .collect();
    for key in keys {
        let (mine, theirs) = (batch.puts.get(key), other.map(|o| o.puts.get(key)));
        if theirs == Some(mine) {
            continue;
        }
        let theirs = theirs.flatten().and_then(Option::as_ref);
        let _ = match mine {
            None => writeln!(text, "\n      {key}: not in it"),
            Some(None) => writeln!(text, "\n      {key}: removed"),
            Some(Some(value)) => write!(text, "\n      {key}: {}", bytes(value, theirs)),
        };
    }
    text
}

/// A value from about where it parts from another one.
fn bytes(value: &[u8], other: Option<&Vec<u8>>) -> String {
    let same = |other: &Vec<u8>| value.iter().zip(other).take_while(|(a, b)| a == b).count();
    let from = other.map_or(0, same) / 16 * 16;
    let part = value.get(from..).unwrap_or_default();
    let part = part.get(..SHOWN).unwrap_or(part);
    let head = format!("{} bytes, from {from:#x}", value.len());
    format!("{head}\n{}", dump::lines(part, "        "))
}

#[cfg(test)]
mod tests {
    use fw_model::{FunctionId, Token};

    use super::*;

    fn batch(puts: &[(&str, Option<Vec<u8>>)]) -> Happened {
        let puts = puts
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect();
        Happened::Commit {
            token: Token(7),
            batch: Batch { puts },
        }
    }

    #[test]
    fn two_commits_show_what_differs() {
        let mut sector = vec![0x11; 4096];
        let same = ("nv/same", Some(vec![1]));
        let a = batch(&[
            same.clone(),
            ("flash/1", Some(sector.clone())),
            ("nv/old", None),
        ]);
        sector[0x123] = 0x22;
        let b = batch(&[same, ("flash/1", Some(sector))]);
        let (a, b) = sides(Some(&a), Some(&b));
        let ones = |n| vec!["11111111"; n].join(" ");
        let row = |at: usize, words: &str| format!("        {at:03x}: {words}\n");
        let rest = [0x10, 0x20, 0x30].map(|at| row(at, &ones(4))).concat();
        let head = "batch 7 is to be stored:\n      flash/1: 4096 bytes, from 0x120\n";
        assert_eq!(
            a,
            format!("{head}{}{rest}\n      nv/old: removed\n", row(0, &ones(4)))
        );
        let first = row(0, &format!("11111122 {}", ones(3)));
        assert_eq!(b, format!("{head}{first}{rest}\n      nv/old: not in it\n"));
    }

    #[test]
    fn every_kind_is_said_in_words() {
        let function = FunctionId(2);
        let event = Happened::Event {
            function,
            event_type: 9,
            sub_type: 4,
            data: vec![0; 8],
        };
        let vector = Happened::Interrupt {
            function,
            vector: 3,
        };
        let text = "no room".to_owned();
        let (a, b) = sides(Some(&event), Some(&vector));
        assert!(
            a.starts_with("f2 raises event PORT_CHANGE sub_type ACTIVE"),
            "{a}"
        );
        assert_eq!(b, "f2 raises interrupt vector 3");
        let (a, b) = sides(Some(&Happened::Notice { function, text }), None);
        assert_eq!(
            (a.as_str(), b.as_str()),
            ("f2 says: no room", "nothing more")
        );
    }
}
