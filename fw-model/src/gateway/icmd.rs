// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command mailbox behind the gateway: a control word, the mailbox's size, and the mailbox. Its
//! commands are a table; the one for registers goes the way that ACCESS_REG goes.

use fwctl_proto::{
    layout::{EnumInfo, FieldInfo, LayoutInfo, get_bits, set_bits},
    opcode, status,
};

use super::host_sync;
use crate::{
    Card, Effect, Effects, FunctionId, GuestMemory, Profile, Time, Unanswered, Why,
    card::{Ended, Outbox, Shared, Via},
    copy::clone_by_fields,
    function::pending::{Origin, Pending},
    reg,
    syndrome::Syndrome,
    tracer::Filter,
};

/// Bytes of the space.
pub const SPACE_BYTES: u32 = MAILBOX + MAILBOX_BYTES as u32;
/// Bytes of the mailbox.
pub const MAILBOX_BYTES: usize = 0x340;

/// Control: bit 0 go and busy, bits 8..16 status, bits 16..32 opcode.
pub const CONTROL: u32 = 0;
const BUSY: u32 = 1;
const STATUS_SHIFT: u32 = 8;
const OPCODE_SHIFT: u32 = 16;
/// The mailbox's size in bytes.
const SIZE: u32 = 0x1000;
/// The mailbox.
const MAILBOX: u32 = 0x10_0000;

/// Ends of a command, as the control word says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Executed; of a register the operation TLV says more.
    Ok = 0,
    /// There is no such command.
    BadOpcode = 1,
    /// A reset came before the end.
    Operational = 3,
    /// The mailbox does not hold what the command takes.
    BadParameter = 4,
}

/// A command of the mailbox.
pub struct Command {
    /// Its opcode.
    pub opcode: u16,
    /// Its name.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    action: Action,
}

enum Action {
    /// Reads or writes a register.
    Register,
    /// Fills the mailbox from what the card is, and from the version that runs.
    Answer(fn(&Profile, [u16; 3], &mut [u8])),
    /// Changes the card as the mailbox says, which holds the answer then.
    Change(fn(&mut [u8], &mut Shared, Time) -> Status),
}

/// Every command of the mailbox.
pub static COMMANDS: &[Command] = &[
    Command {
        opcode: 0x8007,
        name: "GET_FW_INFO",
        about: "version and PSID of the firmware",
        action: Action::Answer(fw_info),
    },
    Command {
        opcode: 0x8400,
        name: "QUERY_CAPABILITIES",
        about: "what else can be asked for here",
        action: Action::Answer(capabilities),
    },
    Command {
        opcode: 0x8402,
        name: "MH_SYNC",
        about: "a step in which the hosts of a card agree on a reset of the firmware",
        action: Action::Change(host_sync::step),
    },
    Command {
        opcode: 0x8403,
        name: "MH_SYNC_STATUS",
        about: "which step the hosts are at",
        action: Action::Change(host_sync::status),
    },
    Command {
        opcode: 0x9001,
        name: "ACCESS_REGISTER",
        about: "reads or writes a register, as ACCESS_REG of the command queue does",
        action: Action::Register,
    },
    Command {
        opcode: 0xf003,
        name: "SET_ITRACE",
        about: "chooses the classes and the least level of the tracer's lines",
        action: Action::Change(set_itrace),
    },
];

/// The control word by its names.
pub static CONTROL_WORD: LayoutInfo = LayoutInfo {
    name: "icmd_control",
    bits: 32,
    fields: &[
        named("opcode", 0, 16, Some(&OPCODES)),
        named("status", 16, 8, Some(&STATUSES)),
        named("busy", 31, 1, None),
    ],
};

const fn named(
    name: &'static str,
    offset: u32,
    width: u32,
    values: Option<&'static EnumInfo>,
) -> FieldInfo {
    FieldInfo {
        name,
        offset,
        width,
        count: 1,
        nested: None,
        values,
        counted_by: None,
        variants: None,
    }
}

static OPCODES: EnumInfo = EnumInfo {
    name: "icmd_opcode",
    values: &[
        (0x8007, "GET_FW_INFO"),
        (0x8400, "QUERY_CAPABILITIES"),
        (0x8402, "MH_SYNC"),
        (0x8403, "MH_SYNC_STATUS"),
        (0x9001, "ACCESS_REGISTER"),
        (0xf003, "SET_ITRACE"),
    ],
};

static STATUSES: EnumInfo = EnumInfo {
    name: "icmd_status",
    values: &[
        (Status::Ok as u64, "OK"),
        (Status::BadOpcode as u64, "BAD_OPCODE"),
        (Status::Operational as u64, "OPERATIONAL"),
        (Status::BadParameter as u64, "BAD_PARAMETER"),
    ],
};

/// The mailbox of a function.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Icmd {
    control: u32,
    mailbox: Box<[u8]>,
}

clone_by_fields!(Icmd { control, mailbox });

impl Default for Icmd {
    fn default() -> Self {
        Self {
            control: 0,
            mailbox: vec![0; MAILBOX_BYTES].into_boxed_slice(),
        }
    }
}

impl Icmd {
    /// The dword at `address`; the mailbox's are big-endian.
    #[must_use]
    pub fn read(&self, address: u32) -> u32 {
        match address {
            CONTROL => self.control,
            SIZE => MAILBOX_BYTES as u32,
            _ => self
                .place(address)
                .map_or(0, |at| get_bits(&self.mailbox, at, 32) as u32),
        }
    }

    /// Writes a dword; true if a command is to be executed. A command that goes on is left alone.
    pub(super) fn write(&mut self, address: u32, value: u32) -> bool {
        if self.is_busy() {
            return false;
        }
        if address == CONTROL {
            self.control = value;
            return self.is_busy();
        }
        if let Some(at) = self.place(address) {
            set_bits(&mut self.mailbox, at, 32, u64::from(value));
        }
        false
    }

    /// Bit offset in the mailbox.
    fn place(&self, address: u32) -> Option<u32> {
        let at = address.checked_sub(MAILBOX)?;
        ((at as usize) < self.mailbox.len()).then_some(at * 8)
    }

    fn is_busy(&self) -> bool {
        self.control & BUSY != 0
    }

    fn opcode(&self) -> u16 {
        (self.control >> OPCODE_SHIFT) as u16
    }

    fn end(&mut self, status: Status) {
        let kept = self.control & !(BUSY | 0xff << STATUS_SHIFT);
        self.control = kept | (status as u32) << STATUS_SHIFT;
    }

    /// A reset of the function: what was not answered never will be.
    pub(crate) fn abort(&mut self) {
        if self.is_busy() {
            self.end(Status::Operational);
        }
    }

    /// Checks what was read from a file.
    ///
    /// # Errors
    /// What there is that cannot be.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.mailbox.len() == MAILBOX_BYTES {
            Ok(())
        } else {
            Err("a command mailbox of another length")
        }
    }
}

impl Card {
    /// Executes what is in a function's mailbox.
    pub(super) fn run_icmd(
        &mut self,
        id: FunctionId,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        // Firmware that does not run leaves it busy until it starts anew.
        if !self.shared.health.runs(now) {
            return self.not_run(id, now, fx);
        }
        let Some(f) = self.functions.get_mut(usize::from(id.0)) else {
            return;
        };
        let opcode = f.icmd.opcode();
        let Some(command) = COMMANDS.iter().find(|c| c.opcode == opcode) else {
            return f.icmd.end(Status::BadOpcode);
        };
        match command.action {
            Action::Answer(answer) => {
                f.icmd.mailbox.fill(0);
                let version = self.shared.firmware.running.version;
                answer(&self.profile, version, &mut f.icmd.mailbox);
                f.icmd.end(Status::Ok);
            }
            Action::Change(change) => {
                let status = change(&mut f.icmd.mailbox, &mut self.shared, now);
                f.icmd.end(status);
            }
            Action::Register => match access_reg(&f.icmd.mailbox) {
                None => f.icmd.end(Status::BadParameter),
                Some(inbox) => self.run_register(id, inbox, now, mem, fx),
            },
        }
    }

    /// Shows an ACCESS_REG that firmware which does not run leaves in the mailbox, if that is wanted.
    fn not_run(&self, function: FunctionId, submitted: Time, fx: &mut Effects) {
        let Some(f) = self.functions.get(usize::from(function.0)) else {
            return;
        };
        let opcode = f.icmd.opcode();
        let found = COMMANDS.iter().find(|c| c.opcode == opcode);
        let register = found.is_some_and(|c| matches!(c.action, Action::Register));
        if !register || !fx.is_observed() {
            return;
        }
        if let Some(inbox) = access_reg(&f.icmd.mailbox) {
            let inbox = fx.store(&inbox);
            fx.push(Effect::Unanswered(Unanswered {
                function,
                slot: None,
                tag: None,
                submitted,
                why: Why::NotRunning,
                inbox,
            }));
        }
    }

    fn run_register(
        &mut self,
        id: FunctionId,
        mut inbox: Vec<u8>,
        now: Time,
        mem: &dyn GuestMemory,
        fx: &mut Effects,
    ) {
        let (mut outbox, out_len) = (Vec::new(), inbox.len());
        let via = Via::Gateway;
        let wait = self.execute(id, &mut inbox, via, out_len, &mut outbox, now, mem, fx);
        let after = self.after(id, &inbox, wait, now, fx);
        if after.holds(now) {
            let pending = Pending {
                origin: Origin::Gateway,
                submitted: now,
                due: after.due,
                wait,
                stopped: after.stopped,
                inbox,
                outbox,
            };
            return self.hold(id, pending, after.why(wait, now), fx);
        }
        if let Some(f) = self.functions.get_mut(usize::from(id.0)) {
            f.icmd.answer(&outbox);
            f.deliver(fx);
        }
        self.ended(
            Ended {
                function: id,
                slot: None,
                submitted: now,
                completed: now,
                delivery: 0,
                inbox: &inbox,
                outbox: Outbox::new(&outbox),
            },
            fx,
        );
    }
}

/// Operation TLV: type, length in dwords, status.
const OP_TYPE: (u32, u32) = (0, 5);
const OP_LEN: (u32, u32) = (5, 11);
const OP_STATUS: (u32, u32) = (17, 7);
/// Register id, response, method, class.
const OP_REGISTER: (u32, u32) = (32, 16);
const OP_RESPONSE: (u32, u32) = (48, 1);
const OP_METHOD: (u32, u32) = (49, 7);
const OP_CLASS: (u32, u32) = (56, 8);
/// Register TLV behind it: type, length in dwords with this one.
const REG_TYPE: (u32, u32) = (128, 5);
const REG_LEN: (u32, u32) = (133, 11);
/// Byte offset of the register.
const REGISTER: usize = 20;
/// Values in them.
const OPERATION_TLV: u64 = 1;
const OPERATION_DWORDS: u64 = 4;
const REGISTER_TLV: u64 = 3;
const REGISTER_ACCESS: u64 = 1;
const GET: u64 = 1;
const SET: u64 = 2;

/// The inbox of the ACCESS_REG that a mailbox asks for; `None` if it holds something else.
fn access_reg(mailbox: &[u8]) -> Option<Vec<u8>> {
    let field = |f: (u32, u32)| get_bits(mailbox, f.0, f.1);
    let right = field(OP_TYPE) == OPERATION_TLV
        && field(OP_LEN) == OPERATION_DWORDS
        && field(OP_CLASS) == REGISTER_ACCESS
        && field(REG_TYPE) == REGISTER_TLV;
    let op_mod = match field(OP_METHOD) {
        GET => 1,
        SET => 0,
        _ => return None,
    };
    let bytes = (field(REG_LEN) as usize).checked_sub(1)? * 4;
    let register = mailbox.get(REGISTER..REGISTER + bytes)?;
    let mut inbox = vec![0; reg::DATA];
    inbox[..2].copy_from_slice(&opcode::ACCESS_REG.to_be_bytes());
    inbox[7] = op_mod;
    inbox[10..12].copy_from_slice(&(field(OP_REGISTER) as u16).to_be_bytes());
    inbox.extend_from_slice(register);
    right.then_some(inbox)
}

impl Icmd {
    /// Puts the outbox of an ACCESS_REG into the mailbox, and ends the command.
    pub(crate) fn answer(&mut self, outbox: &[u8]) {
        let code = outbox.first().copied().unwrap_or(0);
        let syndrome = Syndrome::from_code(get_bits(outbox, 32, 32) as u32);
        let m = &mut self.mailbox;
        let status = tlv_status(code, syndrome);
        set_bits(m, OP_STATUS.0, OP_STATUS.1, u64::from(status));
        set_bits(m, OP_RESPONSE.0, OP_RESPONSE.1, 1);
        if status == 0 {
            let register = outbox.iter().skip(reg::DATA);
            for (to, from) in m.iter_mut().skip(REGISTER).zip(register) {
                *to = *from;
            }
        }
        self.end(Status::Ok);
    }
}

/// Statuses of an operation TLV, as in `enum mlxsw_emad_op_tlv_status`.
mod tlv {
    pub const OK: u8 = 0;
    pub const BUSY: u8 = 1;
    pub const VERSION_NOT_SUPPORTED: u8 = 2;
    pub const UNKNOWN_TLV: u8 = 3;
    pub const REGISTER_NOT_SUPPORTED: u8 = 4;
    pub const METHOD_NOT_SUPPORTED: u8 = 6;
    pub const BAD_PARAMETER: u8 = 7;
    pub const NO_RESOURCE: u8 = 8;
    /// Known to mstflint alone (`ME_REG_ACCESS_BAD_CONFIG`).
    pub const BAD_CONFIGURATION: u8 = 0x20;
    pub const INTERNAL_ERROR: u8 = 0x70;
}

/// What an operation TLV says of a refused ACCESS_REG.
fn tlv_status(code: u8, syndrome: Option<Syndrome>) -> u8 {
    use status::Status as S;
    match (syndrome, S::from_code(code)) {
        (_, Some(S::OK)) => tlv::OK,
        (Some(Syndrome::RegisterUnknown), _) => tlv::REGISTER_NOT_SUPPORTED,
        (Some(Syndrome::NvVersion), _) => tlv::VERSION_NOT_SUPPORTED,
        (Some(Syndrome::NvTypeUnknown), _) => tlv::UNKNOWN_TLV,
        (Some(Syndrome::NvRange), _) => tlv::BAD_CONFIGURATION,
        (Some(Syndrome::RegisterReadOnly | Syndrome::RegisterWriteOnly), _) => {
            tlv::METHOD_NOT_SUPPORTED
        }
        (_, Some(S::BAD_PARAM | S::BAD_INP_LEN | S::BAD_OUTP_LEN)) => tlv::BAD_PARAMETER,
        (_, Some(S::RES_BUSY | S::BAD_RES_STATE)) => tlv::BUSY,
        (_, Some(S::NO_RES | S::LIM_ERR | S::BAD_RES)) => tlv::NO_RESOURCE,
        _ => tlv::INTERNAL_ERROR,
    }
}

/// Mask of the classes; delay, which is not kept; least level.
fn set_itrace(mailbox: &mut [u8], shared: &mut Shared, _: Time) -> Status {
    shared.tracer.filter = Filter {
        classes: get_bits(mailbox, 0, 32) as u32,
        level: get_bits(mailbox, 56, 8) as u8,
    };
    Status::Ok
}

/// Bits of QUERY_CAPABILITIES' first dword.
mod cap {
    pub const QCAM: u32 = 25;
    pub const MCAM: u32 = 26;
    pub const PCAM: u32 = 27;
    pub const MH_SYNC: u32 = 28;
    pub const ALL_REGISTERS: u32 = 29;
    pub const FW_INFO_PSID: u32 = 30;
    pub const NV_ACCESS: u32 = 31;
}

fn capabilities(_: &Profile, _: [u16; 3], mailbox: &mut [u8]) {
    for bit in [
        cap::QCAM,
        cap::MCAM,
        cap::PCAM,
        cap::MH_SYNC,
        cap::ALL_REGISTERS,
        cap::FW_INFO_PSID,
        cap::NV_ACCESS,
    ] {
        set_bits(mailbox, 31 - bit, 1, 1);
    }
}

fn fw_info(p: &Profile, version: [u16; 3], mailbox: &mut [u8]) {
    /// Byte offset of the PSID, whose dwords have their first byte last.
    const PSID: usize = 0x14;
    let [major, minor, sub_minor] = version.map(u64::from);
    set_bits(mailbox, 0, 16, major);
    set_bits(mailbox, 0x20, 16, minor);
    set_bits(mailbox, 0x30, 16, sub_minor);
    for (i, byte) in p.firmware.psid.bytes().take(16).enumerate() {
        if let Some(to) = mailbox.get_mut(PSID + (i ^ 3)) {
            *to = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_word_names_every_command() {
        let names: Vec<_> = COMMANDS.iter().map(|c| (c.opcode.into(), c.name)).collect();
        assert_eq!(OPCODES.values, names);
        let set = |f: &FieldInfo| f.offset + f.width;
        assert_eq!(set(&CONTROL_WORD.fields[0]), OPCODE_SHIFT);
        assert_eq!(set(&CONTROL_WORD.fields[1]), 32 - STATUS_SHIFT);
        assert_eq!(set(&CONTROL_WORD.fields[2]), 32);
    }
}
