// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An open fwctl device.

use std::{
    fmt,
    fs::{File, OpenOptions},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use crate::{
    Errno, Error,
    ioctl::{self, Malformed},
    mlx5::{self, Mlx5Info},
};

/// Bytes that [`Device::info`] asks for first; every known driver's information is shorter.
const INFO_FIRST: usize = 64;
/// Bytes of driver information that [`Device::info`] takes at most.
const INFO_MAX: usize = 64 << 10;

/// What an RPC may touch (`enum fwctl_rpc_scope`). The kernel's driver decides which command
/// needs which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `FWCTL_RPC_CONFIGURATION` (0): read and write of the device's configuration.
    Configuration,
    /// `FWCTL_RPC_DEBUG_READ_ONLY` (1): and reading of debug information.
    DebugReadOnly,
    /// `FWCTL_RPC_DEBUG_WRITE` (2): and writing of it; taints the kernel.
    DebugWrite,
    /// `FWCTL_RPC_DEBUG_WRITE_FULL` (3): everything; taints the kernel, needs `CAP_SYS_RAWIO`.
    DebugWriteFull,
    /// A number that this library does not know; a kernel that does not either says
    /// `EOPNOTSUPP`.
    Other(u32),
}

impl Scope {
    /// The four of the header, least first.
    pub const ALL: [Self; 4] = [
        Self::Configuration,
        Self::DebugReadOnly,
        Self::DebugWrite,
        Self::DebugWriteFull,
    ];

    /// The number in `fwctl_rpc.scope`.
    #[must_use]
    pub fn raw(self) -> u32 {
        match self {
            Self::Configuration => 0,
            Self::DebugReadOnly => 1,
            Self::DebugWrite => 2,
            Self::DebugWriteFull => 3,
            Self::Other(raw) => raw,
        }
    }

    /// The scope of a number.
    #[must_use]
    pub fn from_raw(raw: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|s| s.raw() == raw)
            .unwrap_or(Self::Other(raw))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("configuration"),
            Self::DebugReadOnly => f.write_str("debug-read-only"),
            Self::DebugWrite => f.write_str("debug-write"),
            Self::DebugWriteFull => f.write_str("debug-write-full"),
            Self::Other(raw) => write!(f, "{raw}"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    /// A name as [`fmt::Display`] prints it, or a decimal number.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(scope) = Self::ALL.into_iter().find(|s| s.to_string() == text) {
            return Ok(scope);
        }
        text.parse().map(Self::from_raw).map_err(|_| {
            format!("{text:?} is no scope: 0 to 3, configuration, debug-read-only, debug-write or debug-write-full")
        })
    }
}

/// The format of a device's buffers and driver information (`enum fwctl_device_type`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceType(pub u32);

impl DeviceType {
    /// mlx5 inboxes and outboxes, `struct fwctl_info_mlx5`.
    pub const MLX5: Self = Self(1);
    /// CXL mailbox commands.
    pub const CXL: Self = Self(2);
    /// Broadcom bnxt.
    pub const BNXT: Self = Self(3);
    /// AMD Pensando.
    pub const PDS: Self = Self(4);
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MLX5 => f.write_str("MLX5 (1)"),
            Self::CXL => f.write_str("CXL (2)"),
            Self::BNXT => f.write_str("BNXT (3)"),
            Self::PDS => f.write_str("PDS (4)"),
            Self(raw) => write!(f, "unknown ({raw})"),
        }
    }
}

impl fmt::Debug for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The answer to FWCTL_INFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    node: PathBuf,
    /// What the driver speaks.
    pub device_type: DeviceType,
    /// The driver's own information, in the format of the device type.
    pub data: Vec<u8>,
}

impl Info {
    /// The driver's information of an mlx5 device.
    ///
    /// # Errors
    /// [`Error::WrongType`] for a device of another type, [`Error::ShortInfo`] if the driver
    /// gives less than `struct fwctl_info_mlx5`.
    pub fn mlx5(&self) -> Result<Mlx5Info, Error> {
        if self.device_type != DeviceType::MLX5 {
            return Err(Error::WrongType {
                node: self.node.clone(),
                found: self.device_type,
                expected: DeviceType::MLX5,
            });
        }
        Mlx5Info::parse(&self.data).ok_or_else(|| Error::ShortInfo {
            node: self.node.clone(),
            found: self.data.len(),
            expected: Mlx5Info::BYTES,
        })
    }
}

/// How much came back from an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Full length of the answer in bytes, as the driver says; may exceed the outbox.
    pub len: usize,
    /// Bytes of it in the outbox: the smaller of the two.
    pub copied: usize,
}

/// An open fwctl device. Each open file is a user of its own for the firmware (for mlx5 a user
/// context with its own uid), which ends when this is dropped.
///
/// RPCs may be sent from several threads at once.
#[derive(Debug)]
pub struct Device {
    file: File,
    node: PathBuf,
}

impl Device {
    /// Opens a device node, such as `/dev/fwctl/fwctl0`.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(node: impl AsRef<Path>) -> Result<Self, Error> {
        let node = node.as_ref().to_path_buf();
        match OpenOptions::new().read(true).write(true).open(&node) {
            Ok(file) => Ok(Self { file, node }),
            Err(e) => Err(Error::Open {
                node,
                errno: Errno::of(&e),
            }),
        }
    }

    /// Takes an open file; `node` names it in messages.
    #[must_use]
    pub fn from_file(file: File, node: impl Into<PathBuf>) -> Self {
        Self {
            file,
            node: node.into(),
        }
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// FWCTL_INFO: the device type and the driver's information.
    ///
    /// # Errors
    /// [`Error::Info`].
    pub fn info(&self) -> Result<Info, Error> {
        let mut data = vec![0; INFO_FIRST];
        let ask = |data: &mut [u8]| {
            ioctl::info(&self.file, data).map_err(|errno| Error::Info {
                node: self.node.clone(),
                errno,
            })
        };
        let (mut kind, mut len) = ask(&mut data)?;
        if len as usize > data.len() {
            data.resize((len as usize).min(INFO_MAX), 0);
            (kind, len) = ask(&mut data)?;
        }
        data.truncate(len as usize);
        Ok(Info {
            node: self.node.clone(),
            device_type: DeviceType(kind),
            data,
        })
    }

    /// FWCTL_RPC: sends `inbox` and waits for the answer, of which as much as fits is copied
    /// into `outbox`.
    ///
    /// The firmware's own verdict is in the outbox; see [`crate::mlx5::exec`] for a call that
    /// looks at it.
    ///
    /// # Errors
    /// [`Error::TooLong`], or [`Error::Rpc`] with the kernel's error number. The outbox may have
    /// been written to.
    pub fn rpc(&self, scope: Scope, inbox: &[u8], outbox: &mut [u8]) -> Result<Reply, Error> {
        for (which, len) in [("inbox", inbox.len()), ("outbox", outbox.len())] {
            if u32::try_from(len).is_err() {
                return Err(Error::TooLong { which, len });
            }
        }
        let len =
            ioctl::rpc(&self.file, scope.raw(), inbox, outbox).map_err(|errno| Error::Rpc {
                node: self.node.clone(),
                scope,
                errno,
            })? as usize;
        Ok(Reply {
            len,
            copied: len.min(outbox.len()),
        })
    }

    /// Sends a request that is wrong in one way, for tests of the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn malformed(
        &self,
        which: Malformed,
        scope: Scope,
        inbox: [u8; mlx5::HEADER],
    ) -> Result<(), Errno> {
        ioctl::malformed(&self.file, which, scope.raw(), inbox)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_the_numbers_of_the_header() {
        assert_eq!(Scope::ALL.map(Scope::raw), [0, 1, 2, 3]);
        assert_eq!(Scope::from_raw(2), Scope::DebugWrite);
        assert_eq!(Scope::from_raw(9).raw(), 9);
        assert_eq!("debug-write-full".parse(), Ok(Scope::DebugWriteFull));
        assert_eq!("1".parse(), Ok(Scope::DebugReadOnly));
        assert!(
            "all"
                .parse::<Scope>()
                .unwrap_err()
                .contains("debug-read-only")
        );
    }

    #[test]
    fn open_failures_name_the_node() {
        let e = Device::open("/nonexistent/fwctl0").unwrap_err();
        assert_eq!(
            e,
            Error::Open {
                node: "/nonexistent/fwctl0".into(),
                errno: Errno::ENOENT
            }
        );
    }

    #[test]
    fn calls_on_another_file_name_the_call() {
        let d = Device::open("/dev/null").unwrap();
        assert_eq!(
            d.info(),
            Err(Error::Info {
                node: "/dev/null".into(),
                errno: Errno::ENOTTY
            })
        );
        assert_eq!(
            d.rpc(Scope::DebugReadOnly, &[0; 16], &mut [0; 16]),
            Err(Error::Rpc {
                node: "/dev/null".into(),
                scope: Scope::DebugReadOnly,
                errno: Errno::ENOTTY
            })
        );
    }

    #[test]
    fn typed_information() {
        let info = |kind, data: &[u8]| Info {
            node: "n".into(),
            device_type: DeviceType(kind),
            data: data.to_vec(),
        };
        let words = [7u32.to_ne_bytes(), 4u32.to_ne_bytes()].concat();
        assert_eq!(
            info(1, &words).mlx5(),
            Ok(Mlx5Info {
                uid: 7,
                uctx_caps: 4
            })
        );
        assert_eq!(
            info(2, &words).mlx5(),
            Err(Error::WrongType {
                node: "n".into(),
                found: DeviceType::CXL,
                expected: DeviceType::MLX5
            })
        );
        assert_eq!(
            info(1, &words[..7]).mlx5(),
            Err(Error::ShortInfo {
                node: "n".into(),
                found: 7,
                expected: 8
            })
        );
    }
}
