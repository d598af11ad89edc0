// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Words for a fuzzer, from the tables.

use fw_model::{reg, table};
use fwctl_proto::{event, mst, opcode};

/// Opcodes, registers, configuration items and event types, as they lie in a command.
#[must_use]
pub fn commands() -> Vec<Vec<u8>> {
    let ops = table::OPS.iter().map(|o| o.opcode.to_be_bytes().to_vec());
    let own = reg::REGISTERS.iter().map(|r| r.id);
    let registers = own.chain(mst::REGISTERS.iter().map(|r| r.id));
    let registers = registers.map(|id| id.to_be_bytes().to_vec());
    let items = mst::nv::ITEMS.iter();
    let items = items.map(|i| (u32::from(i.class) << 24 | i.id).to_be_bytes().to_vec());
    let mut all: Vec<Vec<u8>> = ops.chain(registers).chain(items).collect();
    all.push(vec![event::PAGE_REQUEST]);
    unique(all)
}

/// Numbers of opcodes, registers and event types as postcard writes them: seven bits a byte, the least first.
/// Saved cards, traces and records have them so, beside messages as they lie in a command.
#[must_use]
pub fn encoded() -> Vec<Vec<u8>> {
    let ops = table::OPS.iter().map(|o| u64::from(o.opcode));
    let registers = reg::REGISTERS.iter().map(|r| u64::from(r.id));
    let stored = mst::REGISTERS.iter().map(|r| u64::from(r.id));
    let mut all: Vec<_> = ops.chain(registers).chain(stored).map(varint).collect();
    all.extend(commands());
    unique(all)
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// Longest word that libFuzzer takes.
pub const MAX_WORD: usize = 64;

/// Names of opcodes, for text.
#[must_use]
pub fn names() -> Vec<Vec<u8>> {
    unique(opcode::ALL.iter().map(|o| o.1.into()).collect())
}

/// Sorted, each once.
pub(crate) fn unique(mut all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    all.sort();
    all.dedup();
    all
}

/// Words that keys, tables and messages of a text are made of.
#[must_use]
pub fn words(text: &str) -> Vec<Vec<u8>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let all = text.split(|c: char| !is_word(c)).filter(|w| w.len() > 1);
    unique(all.map(|w| w.as_bytes().to_vec()).collect())
}

/// A dictionary as libFuzzer reads it.
#[must_use]
pub fn file(words: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for w in words {
        let escaped: String = w.iter().map(|b| format!("\\x{b:02x}")).collect();
        text.push_str(&format!("\"{escaped}\"\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_from_the_tables() {
        let all = commands();
        // CREATE_UCTX, MNVDA, and each once.
        assert!(all.contains(&vec![0x0a, 0x04]) && all.contains(&vec![0x90, 0x24]));
        assert!(all.is_sorted_by(|a, b| a < b));
        // 0xa04 is 20 times 128 and 4; 0x7f is one byte.
        assert!(encoded().contains(&vec![0x84, 0x14]));
        assert_eq!((varint(0x7f), varint(0x80)), (vec![0x7f], vec![0x80, 1]));
        assert_eq!(file(&[vec![1, b'"']]), "\"\\x01\\x22\"\n");
        assert_eq!(
            words("a = bc\n[de.f-g]"),
            [b"bc".to_vec(), b"de".to_vec(), b"f-g".to_vec()]
        );
    }
}
