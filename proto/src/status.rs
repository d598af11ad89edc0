// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Status values in byte 0 of an outbox (`MLX5_CMD_STAT_*` of `mlx5/device.h`).

macro_rules! statuses {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// The status of an executed command.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)]
        #[repr(u8)]
        pub enum Status {
            $(#[doc = $text] $name = $code,)*
        }

        impl Status {
            /// Every status.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The byte in the outbox.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The status with this byte.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it says.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

statuses! {
    OK = 0x0, "The command was executed.";
    INT_ERR = 0x1, "The firmware failed.";
    BAD_OP = 0x2, "The opcode is unknown or not allowed.";
    BAD_PARAM = 0x3, "A parameter is wrong.";
    BAD_SYS_STATE = 0x4, "The function is in the wrong state.";
    BAD_RES = 0x5, "The resource does not exist or belongs to another.";
    RES_BUSY = 0x6, "The resource is in use.";
    NOT_READY = 0x7, "The firmware is not ready yet.";
    LIM_ERR = 0x8, "A limit is exceeded.";
    BAD_RES_STATE = 0x9, "The resource is in the wrong state.";
    IX_ERR = 0xa, "An index is out of range.";
    NO_RES = 0xf, "The firmware has no resources left.";
    BAD_QP_STATE = 0x10, "The queue pair is in the wrong state.";
    BAD_PKT = 0x30, "A management packet is malformed.";
    BAD_SIZE_OUTS_CQES = 0x40, "More completions are outstanding than the new size holds.";
    BAD_INP_LEN = 0x50, "The inbox has the wrong length.";
    BAD_OUTP_LEN = 0x51, "The outbox has the wrong length.";
}
