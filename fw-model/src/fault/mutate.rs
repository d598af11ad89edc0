// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Answers with a few fields changed at random: what a fuzzer of drivers lets a card answer.

use fwctl_proto::{
    layout::{self, LayoutInfo, get_bits, set_bits},
    mst, opcode,
};

use super::{Place, REGISTER, REGISTER_BYTE, STATUS_BYTES, next};
use crate::reg;

/// Elements of an array that may change.
const MAX_ELEMENTS: u32 = 4;
/// Layouts within layouts; none is deeper.
const MAX_DEPTH: u32 = 8;

/// Changes up to `count` fields of the outbox of the command in `inbox`; where no layout is known, bytes.
/// Status and syndrome stay as they are. `dice` is the source of chance.
pub(super) fn mutate(inbox: &[u8], outbox: &mut [u8], count: u8, dice: &mut u64) {
    let places = places(inbox, outbox);
    for _ in 0..count {
        let Some(p) = pick(&places, outbox.len(), dice) else {
            return;
        };
        let all = u64::MAX >> (64 - p.width);
        let old = get_bits(outbox, p.offset, p.width);
        let new = match next(dice) % 6 {
            0 => 0,
            1 => all,
            2 => old ^ 1 << (next(dice) % u64::from(p.width)),
            3 => old.wrapping_add(1),
            4 => old.wrapping_sub(1),
            _ => next(dice),
        };
        set_bits(outbox, p.offset, p.width, new & all);
    }
}

fn pick(places: &[Place], bytes: usize, dice: &mut u64) -> Option<Place> {
    if let Some(n) = core::num::NonZeroU64::new(places.len() as u64) {
        return places.get((next(dice) % n) as usize).copied();
    }
    let behind = bytes.checked_sub(STATUS_BYTES).filter(|n| *n > 0)? as u64;
    let byte = STATUS_BYTES as u64 + next(dice) % behind;
    Some(Place {
        offset: u32::try_from(byte * 8).ok()?,
        width: 8,
    })
}

/// The plain fields of an outbox, also those of the register in it.
fn places(inbox: &[u8], outbox: &[u8]) -> Vec<Place> {
    let op = get_bits(inbox, 0, 16) as u16;
    let mut all = Vec::new();
    let Some(command) = layout::command(op) else {
        return all;
    };
    let walk = Walk {
        input: command.input,
        inbox,
        outbox,
    };
    walk.collect(command.output, 0, 0, &mut all);
    if op == opcode::ACCESS_REG {
        let id = get_bits(inbox, REGISTER, 16) as u16;
        let known = reg::find(id).and_then(|r| r.layout);
        if let Some(l) = known.or_else(|| mst::find(id).map(|r| r.layout)) {
            walk.collect(l, REGISTER_BYTE * 8, 0, &mut all);
        }
    }
    all
}

struct Walk<'a> {
    input: &'static LayoutInfo,
    inbox: &'a [u8],
    outbox: &'a [u8],
}

impl Walk<'_> {
    fn collect(&self, l: &LayoutInfo, base: u32, depth: u32, all: &mut Vec<Place>) {
        for f in l.fields {
            let elements = match f.count {
                0 => MAX_ELEMENTS,
                n => n.min(MAX_ELEMENTS),
            };
            for i in 0..elements {
                let offset = base + f.offset + i * f.width;
                let end = u64::from(offset) + u64::from(f.width.min(64));
                if (offset as usize) < STATUS_BYTES * 8 || end > self.outbox.len() as u64 * 8 {
                    continue;
                }
                match f.inner(l, base, self.outbox, Some((self.input, self.inbox))) {
                    Some(inner) if depth < MAX_DEPTH => self.collect(inner, offset, depth + 1, all),
                    None if (1..=64).contains(&f.width) => all.push(Place {
                        offset,
                        width: f.width,
                    }),
                    _ => {}
                }
                if f.variants.is_some() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(page: u8) -> [u8; 16] {
        let mut inbox = [0; 16];
        inbox[0..2].copy_from_slice(&opcode::QUERY_HCA_CAP.to_be_bytes());
        inbox[7] = page << 1 | 1;
        inbox
    }

    #[test]
    fn fields_of_the_page_that_was_asked_for_change() {
        // cmd_hca_cap.log_max_eq, bits 0xfc..0x100 of the page behind the header of 16 bytes.
        let log_max_eq = Place {
            offset: 128 + 0xfc,
            width: 4,
        };
        let outbox = [0; 4112];
        assert!(places(&capabilities(0), &outbox).contains(&log_max_eq));
        assert!(!places(&capabilities(1), &outbox).contains(&log_max_eq));
    }

    #[test]
    fn fields_of_the_register_change() {
        let mut inbox = [0; 32];
        inbox[0..2].copy_from_slice(&opcode::ACCESS_REG.to_be_bytes());
        inbox[10..12].copy_from_slice(&fwctl_proto::register::PAOS.to_be_bytes());
        // paos_reg.oper_status: bits 0x1c..0x20 of the register.
        let oper_status = Place {
            offset: 128 + 0x1c,
            width: 4,
        };
        assert!(places(&inbox, &[0; 32]).contains(&oper_status));
        assert!(!places(&inbox, &[0; 16]).contains(&oper_status), "no room");
    }

    #[test]
    fn a_status_stays_and_the_same_seed_changes_the_same() {
        for op in 0..0x1000u16 {
            let mut inbox = [0u8; 64];
            inbox[0..2].copy_from_slice(&op.to_be_bytes());
            for len in [0, 8, 9, 16, 300] {
                let change = || {
                    let (mut outbox, mut dice) = (vec![0; len], 7);
                    mutate(&inbox, &mut outbox, 8, &mut dice);
                    outbox
                };
                let outbox = change();
                assert!(outbox.iter().take(STATUS_BYTES).all(|b| *b == 0));
                assert_eq!(outbox, change());
            }
        }
    }

    #[test]
    fn something_changes_in_nearly_every_answer() {
        let mut dice = 1;
        let changed = (0..100).filter(|_| {
            let mut outbox = [0; 4112];
            mutate(&capabilities(0), &mut outbox, 4, &mut dice);
            outbox != [0; 4112]
        });
        assert!(changed.count() > 90);
    }
}
