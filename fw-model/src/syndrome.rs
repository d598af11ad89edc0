// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Refusals: the PRM status that a refused command carries, and the syndrome that names the check.
//!
//! Syndromes are opaque numbers that each firmware chooses for itself; these are ours. They are
//! stable: a number is never given another meaning.

use fwctl_proto::status::Status;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status in byte 0 of the outbox.
    pub status: Status,
    /// The syndrome in bytes 4..8 of the outbox.
    pub syndrome: Syndrome,
}

impl From<Syndrome> for Refusal {
    fn from(syndrome: Syndrome) -> Self {
        Self {
            status: syndrome.status(),
            syndrome,
        }
    }
}

macro_rules! syndromes {
    ($($(#[$m:meta])* $name:ident = $code:literal, $status:ident, $text:literal;)*) => {
        /// A check that refused a command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Syndrome {
            $(#[doc = $text] $name = $code,)*
        }

        impl Syndrome {
            /// Every syndrome, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number in the outbox.
            #[must_use]
            pub fn code(self) -> u32 {
                self as u32
            }

            /// The status that goes with it.
            #[must_use]
            pub fn status(self) -> Status {
                match self { $(Self::$name => Status::$status,)* }
            }

            /// The check in a sentence.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Its name in this source.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The syndrome with this number.
            #[must_use]
            pub fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

syndromes! {
    UnknownOpcode = 0x00e0_0001, BAD_OP, "The opcode is not in the command table.";
    UnsupportedOpMod = 0x00e0_0002, BAD_PARAM, "The command knows no such op_mod.";
    WrongState = 0x00e0_0003, BAD_SYS_STATE, "The function is not in a state in which the command is allowed.";
    InboxTooShort = 0x00e0_0004, BAD_INP_LEN, "The inbox is shorter than the command's layout, or than the entries that it counts.";
    OutboxTooShort = 0x00e0_0005, BAD_OUTP_LEN, "The outbox has no room for what the command must return.";
    CallerNotAllowed = 0x00e0_0006, BAD_OP, "This kind of caller may not use the command.";
    NoSuchUid = 0x00e0_0007, BAD_RES, "The uid in the header is not a user context of this function.";
    NotOwner = 0x00e0_0008, BAD_RES, "The object belongs to another user context.";
    Internal = 0x00e0_0009, INT_ERR, "The firmware failed while it executed the command.";
    StoreFailed = 0x00e0_000a, INT_ERR, "The change could not be put on stable storage.";
    NotAdvertised = 0x00e0_000b, BAD_OP, "No capability of the profile advertises the feature that the command belongs to.";

    OtherFunction = 0x00e1_0001, BAD_PARAM, "The function_id names a function that the caller may not manage.";
    IssiUnsupported = 0x00e1_0002, BAD_PARAM, "The ISSI is not one that QUERY_ISSI offers.";
    PagesMissing = 0x00e1_0003, BAD_SYS_STATE, "INIT_HCA before the driver gave all boot and init pages.";
    BadTeardownProfile = 0x00e1_0004, BAD_PARAM, "TEARDOWN_HCA knows no such profile.";

    PageNotAligned = 0x00e2_0001, BAD_PARAM, "A page address is not a multiple of 4096.";
    PageGivenTwice = 0x00e2_0002, BAD_PARAM, "A page was given that the firmware holds already.";
    TooManyPages = 0x00e2_0003, LIM_ERR, "More pages were given than one function may hold.";
    NoPageCount = 0x00e2_0004, BAD_PARAM, "MANAGE_PAGES with a count that does not fit its page list.";

    CapTypeUnknown = 0x00e3_0001, BAD_PARAM, "The profile has no capability page of this type.";
    CapAboveMax = 0x00e3_0002, BAD_PARAM, "SET_HCA_CAP asks for a field above its maximum.";
    CapReadOnly = 0x00e3_0003, BAD_PARAM, "SET_HCA_CAP on a capability type that cannot be set.";

    UctxCap = 0x00e4_0001, BAD_PARAM, "CREATE_UCTX asks for a capability that uctx_cap does not offer.";
    UctxLimit = 0x00e4_0002, NO_RES, "All user contexts of log_max_uctx are in use.";
    UctxUnknown = 0x00e4_0003, BAD_RES, "There is no user context with this uid.";

    EqLimit = 0x00e5_0001, NO_RES, "All event queues of max_num_eqs are in use.";
    EqUnknown = 0x00e5_0002, BAD_RES, "There is no event queue with this number.";
    EqSize = 0x00e5_0003, BAD_PARAM, "log_eq_size is 0 or above log_max_eq_sz.";
    EqVector = 0x00e5_0004, BAD_PARAM, "The interrupt vector is outside the function's MSI-X table.";
    EqUar = 0x00e5_0005, BAD_RES, "The UAR page of the event queue is not allocated.";
    EqCommandTaken = 0x00e5_0006, BAD_PARAM, "Another event queue already takes command completions.";
    EqPageSize = 0x00e5_0007, BAD_PARAM, "log_page_size or the alignment of a page address is not supported.";

    RegisterUnknown = 0x00e6_0001, BAD_PARAM, "The register is not in the register table.";
    RegisterReadOnly = 0x00e6_0002, BAD_PARAM, "The register cannot be written.";
    RegisterWriteOnly = 0x00e6_0003, BAD_PARAM, "The register cannot be read.";
    RegisterField = 0x00e6_0004, BAD_PARAM, "An index or value in the register is out of range.";
    RegisterPort = 0x00e6_0005, BAD_PARAM, "The register names a port that the function does not have.";
    NvTypeUnknown = 0x00e6_0006, BAD_PARAM, "There is no such configuration item, or no such port, host, function or module.";
    NvLength = 0x00e6_0007, BAD_INP_LEN, "The length of the configuration item is 0, no multiple of 4, more than the item has, or more than the inbox carries.";
    NvLimit = 0x00e6_0008, NO_RES, "No room for another configuration item.";

    ResetBusy = 0x00e6_0009, BAD_RES_STATE, "A reset of the firmware goes on already.";
    ResetNotAsked = 0x00e6_000a, BAD_RES_STATE, "Nobody waits for this function's answer to a reset of the firmware.";
    ResetRefused = 0x00e6_000b, BAD_RES_STATE, "A driver did not agree to the reset of the firmware, or did not answer; MFRL.reset_state says which.";

    TracerOwner = 0x00e6_000c, BAD_RES_STATE, "The firmware tracer belongs to another function, or to none.";
    TracerMemory = 0x00e6_000d, BAD_PARAM, "The memory key of the trace buffer does not exist, must not be written, or is shorter than the buffer.";
    RegisterLimit = 0x00e6_000e, NO_RES, "As many parts of registers were written as a function keeps.";
    UpdateState = 0x00e6_000f, BAD_RES_STATE, "The firmware update is not in a state in which MCC or MCDA can do this.";
    UpdateHandle = 0x00e6_0010, BAD_RES, "The update handle is not the one that was given, or somebody else has it.";
    UpdateComponent = 0x00e6_0011, BAD_PARAM, "There is no such firmware component, or it is not the one that comes in.";
    UpdateRange = 0x00e6_0012, BAD_PARAM, "More bytes than the firmware component has, none, or at an offset that is no multiple of 4.";
    DumpUnknown = 0x00e6_0013, BAD_PARAM, "RESOURCE_DUMP knows no such type of segment.";
    DumpTooLong = 0x00e6_0014, LIM_ERR, "The resource dump is longer than the firmware keeps.";
    DumpLost = 0x00e6_0015, BAD_PARAM, "device_opaque names no resource dump that is being read: another one was begun, or it is at its end.";
    DumpMemory = 0x00e6_0016, BAD_PARAM, "The memory key of the resource dump does not exist, must not be written, or does not cover the address.";
    NvRange = 0x00e6_0017, LIM_ERR, "A parameter of the configuration item has a value that the tools' database rules out.";
    NvVersion = 0x00e6_0018, BAD_OP, "The version of the configuration item is later than the one that the firmware knows.";

    ObjectLimit = 0x00e7_0001, LIM_ERR, "As many objects of this kind exist as the capabilities allow.";
    ObjectUnknown = 0x00e7_0002, BAD_RES, "There is no object of this kind with this id.";
    ObjectBusy = 0x00e7_0003, RES_BUSY, "Another object still refers to this one.";
    ObjectState = 0x00e7_0004, BAD_RES_STATE, "The object is not in the state that the transition starts from.";
    ObjectReference = 0x00e7_0005, BAD_RES, "An object that the context refers to does not exist.";
    ObjectField = 0x00e7_0006, BAD_PARAM, "A field of the context is out of range.";
    ObjectMemory = 0x00e7_0007, NO_RES, "The function's memory for object contexts is used up.";

    ObjectPages = 0x00e7_0008, NO_RES, "The driver did not give the pages that the objects need.";
    GeneralType = 0x00e7_0009, BAD_PARAM, "general_obj_types does not offer this type of general object.";

    VportUnknown = 0x00e8_0001, BAD_PARAM, "The vport does not exist.";
    VportField = 0x00e8_0002, BAD_PARAM, "A field of the vport context is out of range.";

    TableIndex = 0x00e9_0001, BAD_PARAM, "The index lies outside the table, or there is no entry.";
    TableFull = 0x00e9_0002, LIM_ERR, "The table has as many entries as the capabilities allow.";
    MulticastMember = 0x00e9_0003, BAD_PARAM, "The QP is attached to the multicast group already, or it is not.";
    WolMode = 0x00e9_0004, BAD_PARAM, "No capability offers this wake-on-LAN or remote on/off mode.";

    DiagnosticCounter = 0x00ea_0001, BAD_PARAM, "The debug capability does not name the diagnostic counter, or it is given twice.";
    DiagnosticParams = 0x00ea_0002, BAD_PARAM, "Diagnostic counters cannot be sampled so: no counters, neither single, repetitive nor on demand, too many samples or too often.";
}

#[cfg(test)]
mod tests {
    use super::Syndrome;

    #[test]
    fn numbers_are_unique_and_found_again() {
        for (i, s) in Syndrome::ALL.iter().enumerate() {
            assert_eq!(Syndrome::from_code(s.code()), Some(*s));
            assert!(
                Syndrome::ALL[..i].iter().all(|o| o.code() < s.code()),
                "{s:?} out of order"
            );
            assert!(s.text().ends_with('.'));
        }
        assert_eq!(Syndrome::from_code(0), None);
    }
}
