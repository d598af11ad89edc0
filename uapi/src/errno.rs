// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Kernel error numbers with their names.

use std::{fmt, io};

/// An error number of the kernel.
///
/// Prints as its name and number: `EBADMSG (74)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self(libc::$name);)*

            /// The name in errno.h, for those that a fwctl device is known to return.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM, "The scope needs CAP_SYS_RAWIO.";
    ENOENT, "There is no such device node.";
    EINTR, "A signal ended the wait.";
    EIO, "The command did not reach the firmware, or its answer did not come back.";
    ENXIO, "The driver's command interface is down, or no driver stands behind the device number.";
    E2BIG, "The kernel is older than a field that was set.";
    EAGAIN, "The driver cannot take the command now.";
    ENOMEM, "The kernel has no memory for the buffers.";
    EACCES, "The permissions of the device node do not allow it.";
    EFAULT, "A buffer is not accessible memory.";
    EBUSY, "The device is busy.";
    ENODEV, "The device was unregistered; its open files are dead.";
    EINVAL, "A field of the request is not correct.";
    ENOSPC, "The firmware has no user context left.";
    ENOTTY, "The file is not a fwctl device.";
    ENOLINK, "The firmware is gone: the driver reads all ones from its registers.";
    EBADR, "The command entry says that the command was not delivered (wrong token, block number, pointer).";
    EBADMSG, "The driver does not let this command through at this scope.";
    EMSGSIZE, "A buffer is too long (fwctl: above 2 MiB) or shorter than a command header.";
    EOPNOTSUPP, "The kernel does not know the scope or a flag.";
    ETIMEDOUT, "The firmware did not answer in the driver's time.";
    EREMOTEIO, "The firmware refused a command that the driver sent on the caller's behalf.";
    ECANCELED, "The command was cancelled by a reset of the device.";
}

impl Errno {
    /// The error number of an I/O error; `EIO` for one that does not come from the kernel.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        error.raw_os_error().map_or(Self::EIO, Self)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn names_and_numbers() {
        // Numbers of include/uapi/asm-generic/errno.h.
        assert_eq!(Errno::EBADMSG.0, 74);
        assert_eq!(Errno::EMSGSIZE.to_string(), "EMSGSIZE (90)");
        assert_eq!(Errno(95).name(), Some("EOPNOTSUPP"));
        assert_eq!(Errno(4000).to_string(), "errno 4000");
    }

    #[test]
    fn of_io_errors() {
        assert_eq!(
            Errno::of(&std::io::Error::from_raw_os_error(19)),
            Errno::ENODEV
        );
        assert_eq!(Errno::of(&std::io::Error::other("x")), Errno::EIO);
    }
}
