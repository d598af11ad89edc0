// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where devices sit on their buses, and how they are bound and unbound.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fwctl_uapi::{DeviceEntry, Roots};

use crate::test::{APPEAR, Done, read_file, wait_for, write_file};

/// PCI vendor of mlx5 devices.
pub const VENDOR_MELLANOX: &str = "0x15b3";
/// PCI vendor of virtio devices.
pub const VENDOR_VIRTIO: &str = "0x1af4";

/// A device on a bus of sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusDevice {
    /// `pci`, `virtio`, `auxiliary`.
    pub bus: &'static str,
    /// `0000:01:00.0`, `virtio3`, `mlx5_core.fwctl.0`.
    pub name: String,
}

impl BusDevice {
    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        Path::new("/sys/bus")
            .join(self.bus)
            .join("devices")
            .join(&self.name)
    }

    /// An attribute's text.
    ///
    /// # Errors
    /// A failure that names the file.
    pub fn attribute(&self, name: &str) -> Done<String> {
        read_file(self.dir().join(name))
    }

    /// The driver it is bound to.
    #[must_use]
    pub fn driver(&self) -> Option<String> {
        link_name(&self.dir().join("driver"))
    }

    /// Its parent's name.
    #[must_use]
    pub fn parent(&self) -> Option<String> {
        let dir = fs::canonicalize(self.dir()).ok()?;
        Some(dir.parent()?.file_name()?.to_str()?.to_owned())
    }

    /// Takes the driver away from it.
    ///
    /// # Errors
    /// A failure that names the file.
    pub fn unbind(&self, driver: &str) -> Done {
        write_file(self.driver_dir(driver).join("unbind"), &self.name)
    }

    /// Gives it to the driver.
    ///
    /// # Errors
    /// A failure that names the file; the kernel's reason is that of the driver's probe.
    pub fn bind(&self, driver: &str) -> Done {
        write_file(self.driver_dir(driver).join("bind"), &self.name)
    }

    fn driver_dir(&self, driver: &str) -> PathBuf {
        Path::new("/sys/bus")
            .join(self.bus)
            .join("drivers")
            .join(driver)
    }
}

fn link_name(link: &Path) -> Option<String> {
    fs::read_link(link)
        .ok()?
        .file_name()?
        .to_str()
        .map(str::to_owned)
}

/// The devices of a bus, by name.
#[must_use]
pub fn bus_devices(bus: &'static str) -> Vec<BusDevice> {
    let mut found: Vec<BusDevice> = names(&Path::new("/sys/bus").join(bus).join("devices"))
        .into_iter()
        .map(|name| BusDevice { bus, name })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The names in a folder; none if it does not exist.
#[must_use]
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(list) = fs::read_dir(dir) else {
        return Vec::new();
    };
    list.filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect()
}

/// The PCI functions of a vendor.
#[must_use]
pub fn pci_functions(vendor: &str) -> Vec<BusDevice> {
    bus_devices("pci")
        .into_iter()
        .filter(|d| d.attribute("vendor").is_ok_and(|v| v == vendor))
        .collect()
}

/// The fwctl device on a PCI function, when there is one with a node.
///
/// # Errors
/// Those of sysfs.
pub fn fwctl_on(pci: &str) -> Done<Option<DeviceEntry>> {
    let devices = match Roots::system().devices() {
        Ok(devices) => devices,
        Err(fwctl_uapi::Error::NoSubsystem { .. }) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    Ok(devices
        .into_iter()
        .find(|d| d.parent_name() == Some(pci) && d.node.exists()))
}

/// Waits for the fwctl device on a PCI function.
///
/// # Errors
/// A failure when it does not appear in time.
pub fn wait_for_fwctl(pci: &str) -> Done<DeviceEntry> {
    wait_for(&format!("a fwctl device on {pci}"), APPEAR, || {
        fwctl_on(pci)
    })
}
