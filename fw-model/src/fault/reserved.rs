// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which bits of an outbox no layout names: what a driver must not look at.

use fwctl_proto::{
    layout::{self, LayoutInfo, get_bits},
    mst, opcode,
};

use super::{REGISTER, REGISTER_BYTE};
use crate::reg;

/// A mask of `len` bytes in which every bit is set that a layout names, or may name: what lies behind
/// a selector that nobody knows is not reserved, nor is what lies behind the layout's end. `None`
/// without a layout.
pub(super) fn named(inbox: &[u8], outbox: &[u8]) -> Option<Vec<u8>> {
    let op = get_bits(inbox, 0, 16) as u16;
    let command = layout::command(op)?;
    let mut n = Named {
        mask: vec![0; outbox.len()],
        input: command.input,
        inbox,
        outbox,
    };
    let mut end = n.layout(command.output, 0);
    let id = get_bits(inbox, REGISTER, 16) as u16;
    let ours = reg::find(id).and_then(|r| r.layout);
    if op == opcode::ACCESS_REG && ours.is_none() {
        let base = REGISTER_BYTE * 8;
        if let Some(r) = mst::find(id) {
            n.clear(REGISTER_BYTE as usize, r.layout.bytes());
            end = n.layout(r.layout, base);
        }
    }
    n.mark(end, u64::MAX);
    Some(n.mask)
}

struct Named<'a> {
    mask: Vec<u8>,
    input: &'static LayoutInfo,
    inbox: &'a [u8],
    outbox: &'a [u8],
}

impl Named<'_> {
    /// Marks what a layout names; where it ends, with all that lies in it.
    fn layout(&mut self, l: &'static LayoutInfo, base: u32) -> u64 {
        let mut end = u64::from(base) + u64::from(l.bits);
        for f in l.fields {
            let at = base.saturating_add(f.offset);
            let inner = f.inner(l, base, self.outbox, Some((self.input, self.inbox)));
            let Some(inner) = inner else {
                let bits = match f.count {
                    0 => u64::MAX,
                    n => u64::from(f.width) * u64::from(n),
                };
                let to = u64::from(at).saturating_add(bits);
                self.mark(at.into(), to);
                end = end.max(to);
                continue;
            };
            if f.variants.is_some() {
                // One layout lies over the whole field; what is behind it is its padding.
                end = end.max(self.layout(inner, at));
                continue;
            }
            let count = if f.count == 0 { u32::MAX } else { f.count };
            for i in 0..count {
                let at = u64::from(at) + u64::from(i) * u64::from(f.width);
                if f.width == 0 || at >= self.mask.len() as u64 * 8 {
                    break;
                }
                end = end.max(self.layout(inner, at as u32));
            }
        }
        end
    }

    /// Marks bits from one to before another, as far as they are there.
    fn mark(&mut self, from: u64, to: u64) {
        let end = (self.mask.len() as u64 * 8).min(to);
        let mut at = from;
        while at < end {
            let (byte, bit) = ((at / 8) as usize, at % 8);
            let Some(b) = self.mask.get_mut(byte) else {
                return;
            };
            let n = (8 - bit).min(end - at);
            *b |= ((0xff << (8 - n)) as u8) >> bit;
            at += n;
        }
    }

    /// Marks nothing in these bytes.
    fn clear(&mut self, from: usize, len: usize) {
        for b in self.mask.iter_mut().skip(from).take(len) {
            *b = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(op: u16, op_mod: u8, len: usize) -> Vec<u8> {
        let mut inbox = vec![0; 16];
        inbox[..2].copy_from_slice(&op.to_be_bytes());
        inbox[7] = op_mod;
        named(&inbox, &vec![0; len]).unwrap()
    }

    #[test]
    fn what_the_header_names_is_named() {
        // mlx5_ifc_create_cq_out_bits: status 8, reserved 24, syndrome 32, reserved 8, cqn 24, reserved 32.
        let m = mask(opcode::CREATE_CQ, 0, 16);
        assert_eq!(
            m,
            [
                0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0
            ]
        );
        // Behind its end nothing is known.
        assert_eq!(mask(opcode::CREATE_CQ, 0, 18)[16..], [0xff, 0xff]);
    }

    #[test]
    fn a_page_of_capabilities_is_the_one_that_was_asked_for() {
        let general = mask(opcode::QUERY_HCA_CAP, 1, 4112);
        let offloads = mask(opcode::QUERY_HCA_CAP, 1 << 1 | 1, 4112);
        assert_ne!(general, offloads);
        // cmd_hca_cap: reserved_at_0[0x6] at first in 7.3's header, then page_request_disable.
        let bits = |m: &[u8], from, width| get_bits(&m[16..], from, width);
        let l = layout::find("cmd_hca_cap").unwrap();
        for p in l.leaves() {
            let all = if p.width == 64 {
                u64::MAX
            } else {
                (1 << p.width) - 1
            };
            assert_eq!(bits(&general, p.offset, p.width), all, "{}", p.path);
        }
        assert!(general[16..].contains(&0));
        // A page that nobody knows has no reserved bits.
        let unknown = mask(opcode::QUERY_HCA_CAP, 0xff, 4112);
        assert!(unknown[16..].iter().all(|b| *b == 0xff));
    }

    #[test]
    fn a_register_of_the_tools_has_their_names() {
        let mut inbox = vec![0; 32];
        inbox[..2].copy_from_slice(&opcode::ACCESS_REG.to_be_bytes());
        // PIPG: local_port at bits 8..16 of dword 0.
        inbox[10..12].copy_from_slice(&0x5017u16.to_be_bytes());
        let m = named(&inbox, &[0; 24]).unwrap();
        let l = mst::find(0x5017).unwrap().layout;
        for p in l.leaves() {
            let all = (1u64 << p.width) - 1;
            assert_eq!(get_bits(&m[16..], p.offset, p.width), all, "{}", p.path);
        }
        let set: u32 = m[16..].iter().map(|b| b.count_ones()).sum();
        let named: u32 = l.leaves().iter().map(|p| p.width).sum();
        assert_eq!(set, named, "and nothing else");
    }

    #[test]
    fn every_command_has_a_mask_of_any_length() {
        for op in 0..0x1000 {
            for len in [0, 1, 16, 17, 300, 4112] {
                let inbox = [op_bytes(op), [0; 2]].concat();
                let m = named(&inbox, &vec![0xff; len]);
                assert!(m.is_none_or(|m| m.len() == len));
            }
        }
    }

    fn op_bytes(op: u16) -> [u8; 2] {
        op.to_be_bytes()
    }
}
