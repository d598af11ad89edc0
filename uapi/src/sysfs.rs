// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which fwctl devices there are: `/sys/class/fwctl` and `/dev/fwctl`.

use std::{
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Device, Errno, Error};

/// Where sysfs and the device nodes are. A test gives a tree of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/sys`.
    pub sysfs: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self::system()
    }
}

impl Roots {
    /// Those of the running system.
    #[must_use]
    pub fn system() -> Self {
        Self {
            sysfs: "/sys".into(),
            dev: "/dev".into(),
        }
    }

    /// Every fwctl device, by number.
    ///
    /// # Errors
    /// [`Error::NoSubsystem`] if the kernel has no fwctl class; [`Error::Sysfs`] and
    /// [`Error::SysfsValue`] for files that cannot be read. A device that is removed meanwhile
    /// is left out.
    pub fn devices(&self) -> Result<Vec<DeviceEntry>, Error> {
        let class = self.sysfs.join("class/fwctl");
        let list = match fs::read_dir(&class) {
            Ok(list) => list,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoSubsystem { path: class });
            }
            Err(e) => return Err(sysfs_error(&class, "cannot list it", &e)),
        };
        let mut devices = Vec::new();
        for entry in list {
            let entry = entry.map_err(|e| sysfs_error(&class, "cannot list it", &e))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if let Some(device) = self.device(&name)? {
                devices.push(device);
            }
        }
        devices.sort_by_key(|d| (d.index(), d.name.clone()));
        Ok(devices)
    }

    /// One device by its name, such as `fwctl0`; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Sysfs`] and [`Error::SysfsValue`].
    pub fn device(&self, name: &str) -> Result<Option<DeviceEntry>, Error> {
        let dir = self.sysfs.join("class/fwctl").join(name);
        let dev = dir.join("dev");
        let text = match fs::read_to_string(&dev) {
            Ok(text) => text,
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) => return Err(sysfs_error(&dev, "cannot read it", &e)),
        };
        let number = text.trim().parse().map_err(|()| Error::SysfsValue {
            path: dev,
            text,
            expected: "MAJOR:MINOR",
        })?;
        let parent = fs::canonicalize(dir.join("device")).ok();
        Ok(Some(DeviceEntry {
            name: name.to_owned(),
            number,
            node: self.dev.join("fwctl").join(name),
            driver: parent.as_deref().and_then(|p| link_name(&p.join("driver"))),
            bus: parent
                .as_deref()
                .and_then(|p| link_name(&p.join("subsystem"))),
            parent,
        }))
    }
}

/// A fwctl device as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    /// `fwctl0`.
    pub name: String,
    /// Its character device number.
    pub number: DeviceNumber,
    /// Its node, `/dev/fwctl/fwctl0`; whether it exists was not looked at.
    pub node: PathBuf,
    /// The parent device's folder in sysfs, without symbolic links.
    pub parent: Option<PathBuf>,
    /// The parent's bus, such as `pci`.
    pub bus: Option<String>,
    /// The driver that the parent is bound to, such as `mlx5_core`.
    pub driver: Option<String>,
}

impl DeviceEntry {
    /// The number in its name; `u32::MAX` for a name without one.
    fn index(&self) -> u32 {
        self.name
            .strip_prefix("fwctl")
            .and_then(|n| n.parse().ok())
            .unwrap_or(u32::MAX)
    }

    /// The parent's name on its bus, such as `0000:01:00.0`.
    #[must_use]
    pub fn parent_name(&self) -> Option<&str> {
        self.parent.as_deref()?.file_name()?.to_str()
    }

    /// The parent's PCI address, if it is a PCI device.
    #[must_use]
    pub fn pci(&self) -> Option<PciAddress> {
        if self.bus.as_deref() != Some("pci") {
            return None;
        }
        self.parent_name()?.parse().ok()
    }

    /// Opens the device, and makes sure that the node belongs to it.
    ///
    /// # Errors
    /// [`Error::Open`]; [`Error::StaleNode`] if the node has another device number.
    pub fn open(&self) -> Result<Device, Error> {
        let device = Device::open(&self.node)?;
        let found = device
            .file()
            .metadata()
            .map_err(|e| Error::Open {
                node: self.node.clone(),
                errno: Errno::of(&e),
            })
            .map(|m| {
                if m.file_type().is_char_device() {
                    DeviceNumber::of(m.rdev())
                } else {
                    DeviceNumber::default()
                }
            })?;
        if found != self.number {
            return Err(Error::StaleNode {
                node: self.node.clone(),
                expected: self.number,
                found,
            });
        }
        Ok(device)
    }
}

/// The number of a character device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Of the driver.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
}

impl DeviceNumber {
    fn of(dev: u64) -> Self {
        Self {
            major: libc::major(dev),
            minor: libc::minor(dev),
        }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Self {
            major: major.parse().map_err(|_| ())?,
            minor: minor.parse().map_err(|_| ())?,
        })
    }
}

/// Where a PCI function sits: `domain:bus:device.function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// Segment group.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, below 32.
    pub device: u8,
    /// Function, below 8.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

impl FromStr for PciAddress {
    type Err = String;

    /// Reads `0000:01:00.0`, or `01:00.0` in domain 0.
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.split_once(':').unwrap_or(("0", rest));
            let hex = |t: &str| u32::from_str_radix(t, 16).ok();
            let address = Self {
                domain: hex(domain)?,
                bus: hex(bus)?.try_into().ok()?,
                device: hex(device)?.try_into().ok()?,
                function: hex(function)?.try_into().ok()?,
            };
            (address.device < 32 && address.function < 8).then_some(address)
        };
        parse().ok_or_else(|| format!("{text:?} is not a PCI address like 0000:01:00.0"))
    }
}

fn sysfs_error(path: &Path, what: &'static str, error: &io::Error) -> Error {
    Error::Sysfs {
        path: path.to_path_buf(),
        what,
        errno: Errno::of(error),
    }
}

/// True if the file went away, before or after it was opened.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::of(error), Errno::ENOENT | Errno::ENODEV)
}

fn link_name(link: &Path) -> Option<String> {
    fs::read_link(link)
        .ok()?
        .file_name()?
        .to_str()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
