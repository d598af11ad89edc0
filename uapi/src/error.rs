// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What can go wrong, by who said so: the file system, the kernel, the delivery, the firmware.

use std::path::PathBuf;

use crate::{Errno, Scope, mlx5};

/// A failure of this library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no fwctl class in sysfs.
    #[error("{path}: no such directory; is the module fwctl loaded, and is sysfs mounted?")]
    NoSubsystem {
        /// The directory that was looked for.
        path: PathBuf,
    },
    /// A file of sysfs could not be read or understood.
    #[error("{path}: {what}: {errno}")]
    Sysfs {
        /// The file.
        path: PathBuf,
        /// What was being done with it.
        what: &'static str,
        /// The error number.
        errno: Errno,
    },
    /// A file of sysfs holds something else than what the kernel writes there.
    #[error("{path}: {text:?} is not {expected}")]
    SysfsValue {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The device node could not be opened.
    #[error("cannot open {node}: {errno}; {}", hint_open(*.errno))]
    Open {
        /// The device node.
        node: PathBuf,
        /// The error number.
        errno: Errno,
    },
    /// The device node is there and belongs to another device than sysfs says.
    #[error(
        "{node} is device {found}, and sysfs says {expected}; the node is stale: remove it, devtmpfs or udev makes a right one"
    )]
    StaleNode {
        /// The device node.
        node: PathBuf,
        /// The number in sysfs.
        expected: crate::DeviceNumber,
        /// The number of the node; 0:0 for what is not a device.
        found: crate::DeviceNumber,
    },
    /// The kernel refused FWCTL_INFO.
    #[error("FWCTL_INFO on {node}: {errno}; {}", hint_ioctl(*.errno, None))]
    Info {
        /// The device node.
        node: PathBuf,
        /// The error number.
        errno: Errno,
    },
    /// The driver's information is not that of the expected device type.
    #[error("{node} is of type {found}, not {expected}; its buffers have another format")]
    WrongType {
        /// The device node.
        node: PathBuf,
        /// Its type.
        found: crate::DeviceType,
        /// The type that the caller can talk to.
        expected: crate::DeviceType,
    },
    /// The driver's information is shorter than its device type promises.
    #[error(
        "{node}: the driver's information is {found} bytes, {expected} were promised by its device type"
    )]
    ShortInfo {
        /// The device node.
        node: PathBuf,
        /// Bytes that came.
        found: usize,
        /// Bytes that the header file promises.
        expected: usize,
    },
    /// The kernel refused FWCTL_RPC: the command did not reach the firmware, or its answer did
    /// not come back.
    #[error("FWCTL_RPC at scope {scope} on {node}: {errno}; {}", hint_ioctl(*.errno, Some(*.scope)))]
    Rpc {
        /// The device node.
        node: PathBuf,
        /// The scope that was asked for.
        scope: Scope,
        /// The error number.
        errno: Errno,
    },
    /// A buffer is longer than the uAPI's 32-bit length field can say.
    #[error("the {which} has {len} bytes; the length field of FWCTL_RPC ends at 4294967295")]
    TooLong {
        /// `inbox` or `outbox`.
        which: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The RPC went well for the kernel, and what came back is not an answer.
    #[error("the answer has {found} bytes of the {expected} of a header; give a longer outbox")]
    Delivery {
        /// Bytes that came.
        found: usize,
        /// Bytes that an answer has at least.
        expected: usize,
    },
    /// The firmware executed the command and refused it.
    #[error("command {opcode:#06x} (op_mod {op_mod:#x}): firmware says {status}")]
    Firmware {
        /// Opcode in the inbox.
        opcode: u16,
        /// op_mod in the inbox.
        op_mod: u16,
        /// Status and syndrome in the outbox.
        status: mlx5::Status,
    },
}

impl Error {
    /// The kernel's error number, if the kernel said no.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. }
            | Self::Info { errno, .. }
            | Self::Rpc { errno, .. }
            | Self::Sysfs { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The firmware's status, if the firmware said no.
    #[must_use]
    pub fn firmware(&self) -> Option<mlx5::Status> {
        match self {
            Self::Firmware { status, .. } => Some(*status),
            _ => None,
        }
    }
}

fn hint_open(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT => "is the device's fwctl driver loaded (mlx5_fwctl, virtio_fwctl)?",
        Errno::EACCES | Errno::EPERM => {
            "the node belongs to root: run as root or change its permissions"
        }
        Errno::ENODEV | Errno::ENXIO => "the device was removed; look for it again",
        Errno::ENOLINK | Errno::EIO => "the firmware does not answer; see the kernel log",
        Errno::ENOSPC | Errno::EREMOTEIO => {
            "the firmware gave no user context; close other users of the device"
        }
        Errno::ETIMEDOUT => "the firmware did not answer in time; see the kernel log",
        _ => "see the kernel log",
    }
}

fn hint_ioctl(errno: Errno, scope: Option<Scope>) -> &'static str {
    match errno {
        Errno::EBADMSG if scope == Some(Scope::DebugWriteFull) => {
            "the driver lets no user send this command"
        }
        Errno::EBADMSG => {
            "the driver does not allow this command at this scope: try a higher one, or it lets no user send it"
        }
        Errno::EMSGSIZE => {
            "each buffer must have a command header at least (16 bytes for mlx5) and 2 MiB at most"
        }
        Errno::EOPNOTSUPP => "this kernel does not know the scope",
        Errno::EPERM => "this scope needs the capability CAP_SYS_RAWIO: run as root",
        Errno::ENODEV => "the device was removed: look for it again and open it anew",
        Errno::ENXIO => "the driver's command interface is down; see the kernel log",
        Errno::EIO | Errno::ECANCELED | Errno::ENOLINK => {
            "the command or its answer was lost on the way to the firmware; see the kernel log"
        }
        Errno::ETIMEDOUT => "the firmware did not answer in time; see the kernel log",
        Errno::ENOTTY => "the file is not a fwctl device",
        Errno::E2BIG => "this kernel is older than the request",
        _ => "see the kernel log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_where_and_what_to_do() {
        let e = Error::Rpc {
            node: "/dev/fwctl/fwctl0".into(),
            scope: Scope::Configuration,
            errno: Errno::EBADMSG,
        };
        assert_eq!(
            e.to_string(),
            "FWCTL_RPC at scope configuration on /dev/fwctl/fwctl0: EBADMSG (74); the driver does not allow this \
             command at this scope: try a higher one, or it lets no user send it"
        );
        assert_eq!(e.errno(), Some(Errno::EBADMSG));
        assert_eq!(e.firmware(), None);
        let e = Error::Open {
            node: "/dev/fwctl/fwctl0".into(),
            errno: Errno::ENOENT,
        };
        assert!(
            e.to_string()
                .ends_with("is the device's fwctl driver loaded (mlx5_fwctl, virtio_fwctl)?"),
            "{e}"
        );
    }

    #[test]
    fn firmware_refusals_are_told_apart() {
        let status = mlx5::Status {
            status: 3,
            syndrome: 0x1234,
        };
        let e = Error::Firmware {
            opcode: 0x100,
            op_mod: 0x7ffe,
            status,
        };
        assert_eq!(e.errno(), None);
        assert_eq!(e.firmware(), Some(status));
        assert_eq!(
            e.to_string(),
            "command 0x0100 (op_mod 0x7ffe): firmware says BAD_PARAM (0x03), syndrome 0x00001234"
        );
    }
}
