// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages as text: their fields by name, from the layout tables.

use fwctl_proto::layout::{FieldInfo, LayoutInfo, get_bits, set_bits};

/// Elements of an array that are shown.
const MAX_ELEMENTS: u32 = 2;
/// Elements of an array that can be asked for.
const ALL_ELEMENTS: u32 = 4096;

/// Which fields of a message are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that are not zero; of an array the first elements.
    Set,
    /// Those that are not zero, and every element.
    Every,
    /// Also those that are zero, and every element.
    All,
}

impl Which {
    const fn elements(self) -> u32 {
        match self {
            Self::Set => MAX_ELEMENTS,
            Self::Every | Self::All => ALL_ELEMENTS,
        }
    }
}

/// What every message has, and what is shown apart.
const COMMON: [&str; 5] = ["opcode", "uid", "op_mod", "status", "syndrome"];

/// A message: its layout and its bytes.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Its layout.
    pub layout: &'static LayoutInfo,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Fields of `message` as `name=value`. For an outbox, `inbox` is the command that it answers: it may say
/// what the outbox holds.
#[must_use]
pub fn fields(message: Message<'_>, inbox: Option<Message<'_>>, which: Which) -> Vec<String> {
    let mut list = Vec::new();
    let mut show = |path: &str, f: &FieldInfo, v: u64, _| {
        if v != 0 || which == Which::All {
            list.push(format!("{path}={}", value(f, v)));
        }
    };
    walk(message, inbox, which.elements(), &mut show);
    list
}

/// Clears the fields of `message` in `bytes`, where it begins: what is left has no name.
pub fn clear(message: Message<'_>, inbox: Option<Message<'_>>, bytes: &mut [u8]) {
    let mut forget = |_: &str, f: &FieldInfo, _, at| set_bits(bytes, at, f.width, 0);
    walk(message, inbox, ALL_ELEMENTS, &mut forget);
}

/// The field of `message` with this path, as [`fields`] writes it: its value, and where it lies in bits.
#[must_use]
pub fn find(
    message: Message<'_>,
    inbox: Option<Message<'_>>,
    path: &str,
) -> Option<(&'static FieldInfo, u64, u32)> {
    let mut found = None;
    let mut look = |name: &str, f: &'static FieldInfo, v: u64, at: u32| {
        if name == path {
            found = Some((f, v, at));
        }
    };
    // Elements beyond those that are shown are looked for only where one is asked for.
    let most = if path.contains('[') { ALL_ELEMENTS } else { 1 };
    walk(message, inbox, most, &mut look);
    found
}

/// A value by its name, or as a number.
#[must_use]
pub fn value(f: &FieldInfo, v: u64) -> String {
    match f.values.and_then(|e| e.name_of(v)) {
        Some(known) => known.to_owned(),
        None => format!("{v:#x}"),
    }
}

/// Takes a field's path, the field, its value, and where it lies in the message in bits.
type Visit<'a> = &'a mut dyn FnMut(&str, &'static FieldInfo, u64, u32);

fn walk(message: Message<'_>, inbox: Option<Message<'_>>, most: u32, visit: Visit<'_>) {
    let d = Decoder {
        bytes: message.bytes,
        inbox,
        most,
    };
    d.collect(visit, "", message.layout, 0);
}

struct Decoder<'a> {
    bytes: &'a [u8],
    inbox: Option<Message<'a>>,
    /// Elements of an array that are looked at.
    most: u32,
}

impl Decoder<'_> {
    fn collect(&self, visit: Visit<'_>, prefix: &str, l: &'static LayoutInfo, base: u32) {
        // Registers, items and doorbells have fields of these names too.
        let message = l.name.ends_with("_in") || l.name.ends_with("_out");
        let outer = prefix.is_empty() && message;
        for f in l.fields {
            // The header of a message: the first two dwords.
            if outer && f.offset < 64 && COMMON.contains(&f.name) {
                continue;
            }
            for i in 0..self.elements(f, l, base) {
                let at = base + f.offset + i * f.width;
                let index = if f.count == 1 {
                    String::new()
                } else {
                    format!("[{i}]")
                };
                let name = format!("{prefix}{}{index}", f.name);
                self.element(visit, &name, f, l, (base, at));
                if f.variants.is_some() {
                    // One layout lies over the whole field.
                    break;
                }
            }
        }
    }

    fn element(
        &self,
        visit: Visit<'_>,
        name: &str,
        f: &'static FieldInfo,
        l: &'static LayoutInfo,
        (base, at): (u32, u32),
    ) {
        let input = self.inbox.map(|i| (i.layout, i.bytes));
        if let Some(inner) = f.inner(l, base, self.bytes, input) {
            self.collect(visit, &format!("{name}."), inner, at);
        } else if f.width <= 64 {
            visit(name, f, get_bits(self.bytes, at, f.width), at);
        }
    }

    /// Elements of a field that are in use, lie within the bytes and are worth showing.
    fn elements(&self, f: &FieldInfo, l: &LayoutInfo, base: u32) -> u32 {
        let room = (self.bytes.len() as u64 * 8).saturating_sub(u64::from(base + f.offset));
        let fit = u32::try_from(room / u64::from(f.width.max(1))).unwrap_or(u32::MAX);
        let used = f
            .counted_by
            .and_then(|name| l.field(name))
            .map_or(u32::MAX, |p| {
                get_bits(self.bytes, base + p.offset, p.width) as u32
            });
        match f.count {
            // A short message may end within its last field.
            1 => u32::from(room > 0),
            0 => fit.min(used).min(self.most),
            n => fit.min(used).min(n).min(self.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fwctl_proto::layout::{command, set_bits};

    #[test]
    fn a_capability_page_is_read_as_the_one_that_was_asked_for() {
        let c = command(0x100).unwrap();
        let mut inbox = [0u8; 16];
        inbox[1] = 0;
        let mut out = vec![0u8; 4112];
        // Bits 0xfc..0x100 of cmd_hca_cap are log_max_eq.
        set_bits(&mut out[16..], 0xfc, 4, 6);
        let shown = |op_mod: u8| {
            let mut inbox = inbox;
            inbox[7] = op_mod;
            let i = Message {
                layout: c.input,
                bytes: &inbox,
            };
            fields(
                Message {
                    layout: c.output,
                    bytes: &out,
                },
                Some(i),
                Which::Set,
            )
        };
        assert_eq!(shown(1), ["capability.log_max_eq=0x6"]);
        assert!(
            shown(3).iter().all(|f| !f.contains("log_max_eq")),
            "another page has other names"
        );
    }

    #[test]
    fn a_list_ends_where_its_count_says() {
        let c = command(0x108).unwrap();
        let mut inbox = [0u8; 48];
        inbox[15] = 1;
        inbox[23] = 1;
        inbox[31] = 2;
        let shown = fields(
            Message {
                layout: c.input,
                bytes: &inbox,
            },
            None,
            Which::Set,
        );
        assert_eq!(shown, ["input_num_entries=0x1", "pas[0]=0x1"]);
    }

    #[test]
    fn any_bytes_of_any_command_can_be_shown() {
        for op in 0..0x1000u16 {
            let Some(c) = command(op) else { continue };
            for len in [0, 1, 15, 16, 17, 300, 4112] {
                let bytes = vec![0xff; len];
                let i = Message {
                    layout: c.input,
                    bytes: &bytes,
                };
                // No panic is what is asked for.
                let _ = fields(i, None, Which::All);
                let _ = fields(
                    Message {
                        layout: c.output,
                        bytes: &bytes,
                    },
                    Some(i),
                    Which::All,
                );
            }
        }
    }
}
