// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands made from a fuzzer's bytes and from the tables: the firmware's opcode table says which
//! there are and which objects they name, the layouts say where their fields lie.

use arbitrary::Unstructured;
use fw_model::{
    Overlay,
    object::{KindId, Target},
    overlay, reg,
    table::{self, Action},
};
use fwctl_proto::{
    cap_type,
    layout::{self, EnumInfo, FieldInfo, LayoutInfo, get_bits, set_bits},
    layouts::AccessRegisterIn,
    mst, opcode, register,
};

use crate::{
    bytes::{byte, short},
    known::Known,
};

/// Longest inbox that is made.
pub const MAX_INBOX: usize = 8192;
/// Longest outbox that is asked for.
pub const MAX_OUTBOX: u32 = 8192;
/// Longest array of which each element is a place of its own; of longer ones the first elements are.
const MAX_ELEMENTS: u32 = 4;

/// A place that a fuzzer may fill.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u32,
    width: u32,
    values: Option<&'static EnumInfo>,
}

/// One of the layouts that may lie at the end of a command.
#[derive(Clone, Debug)]
struct Arm {
    /// Value of the selecting field.
    selects: u64,
    /// Bytes of a command with it.
    bytes: usize,
    slots: Vec<Slot>,
}

/// What selects an arm: a field of the command.
#[derive(Clone, Debug)]
struct Choice {
    offset: u32,
    width: u32,
    arms: Vec<Arm>,
}

/// A place that holds an object's id.
#[derive(Clone, Copy, Debug)]
struct IdSlot {
    offset: u32,
    width: u32,
    to: Target,
}

/// A command as it is made.
#[derive(Clone, Debug)]
struct Template {
    opcode: u16,
    in_len: usize,
    out_len: u32,
    slots: Vec<Slot>,
    choice: Option<Choice>,
    ids: Vec<IdSlot>,
}

/// A list of commands to fuzz with.
#[derive(Clone, Debug)]
pub struct Commands {
    all: Vec<Template>,
}

/// No command has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCommand(pub String);

impl core::fmt::Display for UnknownCommand {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the firmware knows no command called {}", self.0)
    }
}

impl core::error::Error for UnknownCommand {}

/// Flags of a made command, in its first byte.
mod flag {
    /// An op_mod of the fuzzer's.
    pub const OP_MOD: u8 = 0x80;
    /// Lengths of the fuzzer's.
    pub const LENGTHS: u8 = 0x40;
    /// Number of changed places.
    pub const CHANGES: u8 = 0x0f;
}

impl Commands {
    /// Every command of the firmware's table that does something.
    #[must_use]
    pub fn all() -> Self {
        let there = |o: &&table::Op| !matches!(o.action, Action::Refuse(_));
        Self {
            all: table::OPS.iter().filter(there).map(Template::of).collect(),
        }
    }

    /// The commands with these names, as in `fwctl-emu list commands`.
    ///
    /// # Errors
    /// [`UnknownCommand`], with the first name that there is not.
    pub fn only(names: &[&str]) -> Result<Self, UnknownCommand> {
        Self::named(names, |_| None)
    }

    /// As [`Commands::only`], and the names may be those of commands that an overlay adds. What the overlay
    /// says of a command goes before what the firmware's table says.
    ///
    /// ```
    /// use fw_fuzz::{Commands, Sequence, trials::Inputs};
    /// use fw_model::{Overlay, Profile};
    ///
    /// let text = "[[command]]\nopcode = 0xbf0\nname = \"QUERY_WIDGET\"\n\
    ///     in = { bytes = 16, fields = [[\"id\", 64, 32]] }\nout = { bytes = 32, fields = [] }\n";
    /// let overlay = Overlay::parse(text, "widget.toml")?;
    /// let commands = Commands::only_with(&["QUERY_WIDGET", "ALLOC_PD"], &overlay)?;
    /// let profile = Profile::builtin("connectx7")?.with_overlay(overlay);
    /// let mut sequence = Sequence::new(profile, commands);
    /// for input in Inputs::new(vec![vec![0x0a]], vec![], 256, 1).take(100) {
    ///     sequence.run(&input);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`UnknownCommand`], with the first name that neither has.
    pub fn only_with(names: &[&str], overlay: &Overlay) -> Result<Self, UnknownCommand> {
        let added = |name: &str| overlay.commands().iter().find(|c| c.name == name);
        let template = |c: &overlay::Command| Template::with(&c.op, Some(c.input));
        Self::named(names, |name| added(name).map(template))
    }

    fn named(
        names: &[&str],
        added: impl Fn(&str) -> Option<Template>,
    ) -> Result<Self, UnknownCommand> {
        let find = |name: &&str| {
            let row = || opcode::number(name).and_then(table::find);
            added(name)
                .or_else(|| row().map(Template::of))
                .ok_or_else(|| UnknownCommand((*name).into()))
        };
        Ok(Self {
            all: names.iter().map(find).collect::<Result<_, _>>()?,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Place of an opcode in the list.
    #[must_use]
    pub fn position(&self, opcode: u16) -> Option<usize> {
        self.all.iter().position(|t| t.opcode == opcode)
    }

    /// Makes a command: fills `inbox` and says how long an outbox to give. The objects in `known`
    /// are named where an object must be, unless the bytes say otherwise.
    ///
    /// The bytes: place in the list (2, little-endian); flags; op_mod and the two lengths where the
    /// flags say so; which layout, if there are several; then each changed place.
    pub fn make(&self, u: &mut Unstructured<'_>, known: &Known, inbox: &mut Vec<u8>) -> u32 {
        inbox.clear();
        let Some(t) = self.pick(u) else {
            inbox.resize(16, 0);
            return 16;
        };
        t.make(u, known, inbox)
    }

    fn pick(&self, u: &mut Unstructured<'_>) -> Option<&Template> {
        let n = usize::from(short(u));
        self.all.get(n.checked_rem(self.all.len())?)
    }

    /// The object that a command which succeeded has made.
    #[must_use]
    pub fn made(&self, inbox: &[u8], outbox: &[u8]) -> Option<(KindId, u32)> {
        let op = get_bits(inbox, 0, 16) as u16;
        match table::find(op)?.action {
            Action::Create(kind) => Some((kind.id, kind.id_out.get(outbox) as u32)),
            _ => None,
        }
    }
}

/// A length that a fuzzer says: itself up to `most`, and a short one instead of what is longer, as most
/// numbers are: long boxes of zeros take time and show little.
pub(crate) fn length(said: u16, most: u32) -> u32 {
    const SHORT: u32 = 1024;
    let said = u32::from(said);
    if said <= most { said } else { said % SHORT }
}

impl Template {
    fn of(op: &table::Op) -> Self {
        Self::with(op, layout::command(op.opcode).map(|c| c.input))
    }

    /// A command with this inbox.
    fn with(op: &table::Op, input: Option<&'static LayoutInfo>) -> Self {
        let mut slots = Vec::new();
        let mut choice = None;
        if let Some(l) = input {
            collect(l, 0, &mut slots);
            choice = choices(l, op.opcode);
        }
        if slots.is_empty() {
            slots.push(Slot {
                offset: 64,
                width: 32,
                values: None,
            });
        }
        let (kind, named) = match op.action {
            Action::Create(k) => (Some(k), None),
            Action::Destroy(k) | Action::Query(k) | Action::Modify(k) => (Some(k), Some(k)),
            _ => (None, None),
        };
        let mut ids = Vec::new();
        let refers = matches!(op.action, Action::Create(_) | Action::Modify(_));
        for r in kind.iter().filter(|_| refers).flat_map(|k| k.refs) {
            ids.push(IdSlot {
                offset: r.at.offset,
                width: r.at.width,
                to: r.to,
            });
        }
        if let Some(k) = named {
            ids.push(IdSlot {
                offset: k.id_in.offset,
                width: k.id_in.width,
                to: Target::Object(k.id),
            });
        }
        let layout = input.map_or(0, LayoutInfo::bytes);
        Self {
            opcode: op.opcode,
            in_len: usize::from(op.in_len).max(layout).clamp(16, MAX_INBOX),
            out_len: u32::from(op.out_len).max(16),
            slots,
            choice,
            ids,
        }
    }

    fn make(&self, u: &mut Unstructured<'_>, known: &Known, inbox: &mut Vec<u8>) -> u32 {
        let flags = byte(u);
        let op_mod = if flags & flag::OP_MOD == 0 {
            0
        } else {
            short(u)
        };
        let (mut in_len, mut out_len) = (self.in_len, self.out_len);
        if flags & flag::LENGTHS != 0 {
            // An inbox a little shorter or longer than the layout; an outbox of any length.
            let at = byte(u) as i8;
            in_len = in_len.saturating_add_signed(isize::from(at) * 4);
            out_len = length(short(u), MAX_OUTBOX);
        }
        let arm = self.choice.as_ref().and_then(|c| {
            let n = usize::from(short(u));
            let arm = c.arms.get(n.checked_rem(c.arms.len())?)?;
            Some((c, arm))
        });
        if let Some((_, arm)) = arm
            && flags & flag::LENGTHS == 0
        {
            in_len = arm.bytes;
            out_len = out_len.max(arm.bytes as u32);
        }
        inbox.resize(in_len.min(MAX_INBOX), 0);
        set_bits(inbox, 0, 16, u64::from(self.opcode));
        set_bits(inbox, 48, 16, u64::from(op_mod));
        for id in &self.ids {
            let n = known.latest(id.to).unwrap_or(0);
            set_bits(inbox, id.offset, id.width, u64::from(n));
        }
        let mut slots = &self.slots[..];
        if let Some((c, arm)) = arm {
            let old = get_bits(inbox, c.offset, c.width);
            // What is shifted out below belongs to the fuzzer.
            set_bits(inbox, c.offset, c.width, arm.selects | old & 1);
            slots = &arm.slots;
        }
        for _ in 0..flags & flag::CHANGES {
            self.change(u, slots, known, inbox);
        }
        out_len
    }

    /// Changes one place.
    fn change(&self, u: &mut Unstructured<'_>, slots: &[Slot], known: &Known, inbox: &mut [u8]) {
        let n = if slots.len() > 256 {
            usize::from(short(u))
        } else {
            usize::from(byte(u))
        };
        let how = byte(u);
        let slot = match n.checked_rem(slots.len()) {
            Some(n) => slots[n],
            None => self.slots[n % self.slots.len()],
        };
        let max = u64::MAX >> (64 - slot.width.clamp(1, 64));
        let value = match how % 12 {
            0 => 0,
            1 => 1,
            2 => u64::from(byte(u)),
            3 => max,
            4 => u.arbitrary().unwrap_or(0),
            5 => u64::from(known.any(byte(u))),
            6 => named(slot.values, byte(u)),
            7 => 1 << (byte(u) % 64),
            8 => u64::from(known.uid(byte(u))),
            9 => u64::from(table_number(slot.width, u.arbitrary().unwrap_or(0))),
            10 => max - 1,
            _ => u64::from(short(u)),
        };
        set_bits(inbox, slot.offset, slot.width, value & max);
    }
}

/// A value that has a name, or a power of two if none has.
fn named(values: Option<&EnumInfo>, n: u8) -> u64 {
    let list = values.map(|v| v.values).unwrap_or_default();
    match usize::from(n).checked_rem(list.len()) {
        Some(i) => list[i].0,
        None => 1 << (n % 64),
    }
}

/// A number of one of the tables that fits a place of this width: the type word of a configuration
/// item, a register, an opcode or a capability type.
fn table_number(width: u32, n: u16) -> u32 {
    let n = usize::from(n);
    let registers = register::ALL.len();
    match width {
        32 => {
            let items = mst::nv::ITEMS;
            let item = &items[n % items.len()];
            u32::from(item.class) << 24 | item.id
        }
        0..=8 => u32::from(cap_type::ALL[n % cap_type::ALL.len()].0),
        _ if n % 2 == 0 => u32::from(register::ALL[n / 2 % registers].0),
        _ => u32::from(opcode::ALL[n / 2 % opcode::ALL.len()].0),
    }
}

/// All places of a layout, nested ones too, behind the opcode.
fn collect(l: &'static LayoutInfo, base: u32, slots: &mut Vec<Slot>) {
    for f in l.fields {
        for n in 0..f.count.clamp(1, MAX_ELEMENTS) {
            let offset = base + f.offset + n * f.width;
            match f.nested {
                Some(nested) => collect(nested, offset, slots),
                None => slots.push(Slot {
                    offset,
                    width: f.width.min(64),
                    values: f.values,
                }),
            }
        }
    }
    if base == 0 {
        // The opcode is what the command is.
        slots.retain(|s| s.offset >= 16);
    }
}

/// The layouts that may lie at the end of a command.
fn choices(l: &'static LayoutInfo, op: u16) -> Option<Choice> {
    let has_variants = |f: &&FieldInfo| f.variants.is_some();
    let field = l.fields.iter().find(has_variants)?;
    let variants = field.variants?;
    let selector = l.field(variants.selector)?;
    let fixed: Vec<Slot> = {
        let mut all = Vec::new();
        collect(l, 0, &mut all);
        all.retain(|s| s.offset < field.offset);
        all
    };
    let arm = |value: u64, layout: Option<&'static LayoutInfo>, bytes: usize| {
        let mut slots = Vec::new();
        if let Some(layout) = layout {
            collect(layout, field.offset, &mut slots);
        }
        slots.extend(&fixed);
        let end = (field.offset / 8) as usize + bytes;
        Arm {
            selects: value << variants.shift,
            bytes: end.min(MAX_INBOX),
            slots,
        }
    };
    let mut arms: Vec<Arm> = Vec::new();
    if selector.width == 16 && is_register(op) {
        for r in reg::REGISTERS {
            arms.push(arm(u64::from(r.id), r.layout, r.bytes));
        }
        for r in mst::REGISTERS {
            arms.push(arm(u64::from(r.id), Some(r.layout), r.layout.bytes()));
        }
    } else {
        for (value, layout) in variants.arms {
            arms.push(arm(*value, Some(layout), layout.bytes()));
        }
    }
    Some(Choice {
        offset: selector.offset,
        width: selector.width,
        arms,
    })
}

fn is_register(op: u16) -> bool {
    let input = layout::command(op).map(|c| c.input.name);
    input == Some(<AccessRegisterIn as layout::Layout>::INFO.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use fw_model::{EventPath, FunctionId, Profile};

    #[test]
    fn lengths_that_are_too_long_become_short_ones() {
        let lengths = [0, 16, 8192, 8193, u16::MAX].map(|n| length(n, 8192));
        assert_eq!(lengths, [0, 16, 8192, 1, 1023]);
    }

    #[test]
    fn a_command_names_the_objects_that_there_are() {
        let commands = Commands::only(&["CREATE_SQ", "DESTROY_SQ"]).unwrap();
        let mut known = Known::default();
        known.add(KindId::Cq, 0x12);
        known.add(KindId::Sq, 0x34);
        let mut inbox = Vec::new();
        // create_sq_in: cqn of the context at bit 0x100 + 0x48, 24 bits.
        commands.make(&mut Unstructured::new(&[0, 0, 0]), &known, &mut inbox);
        assert_eq!(inbox[..2], [0x09, 0x04]);
        assert_eq!(get_bits(&inbox, 0x100 + 0x48, 24), 0x12);
        // destroy_sq_in: sqn at bit 0x48.
        commands.make(&mut Unstructured::new(&[1, 0, 0]), &known, &mut inbox);
        assert_eq!(inbox[..2], [0x09, 0x06]);
        assert_eq!(get_bits(&inbox, 0x48, 24), 0x34);
    }

    #[test]
    fn a_register_comes_with_its_layout() {
        let commands = Commands::only(&["ACCESS_REG"]).unwrap();
        let mut inbox = Vec::new();
        for (n, r) in reg::REGISTERS.iter().enumerate() {
            let n = n as u16;
            let bytes = [0, 0, 0x80, 1, 0, n as u8, (n >> 8) as u8];
            let known = Known::default();
            commands.make(&mut Unstructured::new(&bytes), &known, &mut inbox);
            assert_eq!(get_bits(&inbox, 0x50, 16), u64::from(r.id));
            assert_eq!(inbox.len(), 16 + r.bytes);
            assert_eq!(inbox[7], 1, "op_mod");
        }
    }

    #[test]
    fn bytes_that_are_missing_are_zero() {
        let mut inbox = Vec::new();
        let commands = Commands::all();
        let len = commands.make(&mut Unstructured::new(&[]), &Known::default(), &mut inbox);
        assert!(inbox.len() >= 16 && len >= 16);
        assert!(Commands::only(&["NO_SUCH"]).is_err());
    }

    /// A command of an overlay is made with its own fields, and the firmware executes it.
    #[test]
    fn commands_of_an_overlay_are_named_beside_the_firmwares() {
        let text = include_str!("../../emulator/examples/widget.toml");
        let overlay = Overlay::parse(text, "widget.toml").unwrap();
        assert!(Commands::only(&["QUERY_WIDGET"]).is_err());
        assert!(Commands::only_with(&["NO_SUCH"], &overlay).is_err());
        let names = ["ALLOC_PD", "QUERY_WIDGET"];
        let commands = Commands::only_with(&names, &overlay).unwrap();
        assert_eq!((commands.len(), commands.position(0xbf0)), (2, Some(1)));
        // The second of the list, one change: its only field (bit 0x48, 24 bits) becomes 9.
        let mut inbox = Vec::new();
        let bytes = [1, 0, 1, 0, 2, 9];
        let mut u = Unstructured::new(&bytes);
        let out_len = commands.make(&mut u, &Known::default(), &mut inbox);
        let mut wanted = vec![0; 16];
        (wanted[0], wanted[1], wanted[11]) = (0x0b, 0xf0, 9);
        assert_eq!((&inbox, out_len), (&wanted, 32));
        let profile = Profile::builtin("connectx7").unwrap().with_overlay(overlay);
        let mut device = Device::of(profile, &[EventPath::Channel]);
        device.bring_up(FunctionId(0));
        assert!(device.command(FunctionId(0), &inbox, out_len));
        assert_eq!(device.reply().unwrap().outbox[17..20], [0, 0, 9]);
    }
}
