// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Enumeration on a made-up tree.

use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;
use crate::Scope;

/// A tree with sysfs and device nodes, removed at the end.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "fwctl-uapi-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let tree = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(tree.0.join("dev/fwctl")).unwrap();
        tree
    }

    fn roots(&self) -> Roots {
        Roots {
            sysfs: self.0.join("sys"),
            dev: self.0.join("dev"),
        }
    }

    /// A fwctl device under a parent on `bus`, laid out as the kernel does it.
    fn add(&self, name: &str, dev: &str, bus: &str, parent: &str, driver: Option<&str>) {
        let sys = self.0.join("sys");
        let parent = sys.join("devices/pci0000:00").join(parent);
        let fwctl = parent.join("fwctl").join(name);
        for dir in [
            &fwctl,
            &sys.join("bus").join(bus).join("drivers"),
            &sys.join("class/fwctl"),
        ] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(fwctl.join("dev"), dev).unwrap();
        symlink(&parent, fwctl.join("device")).unwrap();
        symlink(sys.join("bus").join(bus), parent.join("subsystem")).unwrap();
        if let Some(driver) = driver {
            symlink(
                sys.join("bus").join(bus).join("drivers").join(driver),
                parent.join("driver"),
            )
            .unwrap();
        }
        symlink(&fwctl, sys.join("class/fwctl").join(name)).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn without_the_subsystem() {
    let tree = Tree::new();
    assert_eq!(
        tree.roots().devices(),
        Err(Error::NoSubsystem {
            path: tree.0.join("sys/class/fwctl")
        })
    );
}

#[test]
fn devices_come_by_number_with_their_parents() {
    let tree = Tree::new();
    tree.add(
        "fwctl10",
        "511:10\n",
        "pci",
        "0000:0a:00.1",
        Some("mlx5_core"),
    );
    tree.add("fwctl2", "511:2\n", "cxl", "mem0", None);
    let found = tree.roots().devices().unwrap();
    assert_eq!(
        found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(),
        ["fwctl2", "fwctl10"]
    );

    let mlx5 = &found[1];
    assert_eq!(
        mlx5.number,
        DeviceNumber {
            major: 511,
            minor: 10
        }
    );
    assert_eq!(mlx5.node, tree.0.join("dev/fwctl/fwctl10"));
    assert_eq!(mlx5.driver.as_deref(), Some("mlx5_core"));
    assert_eq!(
        mlx5.pci(),
        Some(PciAddress {
            domain: 0,
            bus: 10,
            device: 0,
            function: 1
        })
    );
    assert_eq!(mlx5.parent_name(), Some("0000:0a:00.1"));

    let cxl = &found[0];
    assert_eq!(
        (cxl.pci(), cxl.driver.as_deref(), cxl.bus.as_deref()),
        (None, None, Some("cxl"))
    );
}

#[test]
fn a_device_that_goes_away_is_left_out() {
    let tree = Tree::new();
    tree.add("fwctl0", "511:0\n", "pci", "0000:01:00.0", None);
    fs::remove_file(tree.0.join("sys/class/fwctl/fwctl0/dev")).unwrap();
    assert_eq!(tree.roots().devices(), Ok(vec![]));
    assert_eq!(tree.roots().device("fwctl0"), Ok(None));
}

#[test]
fn a_number_that_is_none() {
    let tree = Tree::new();
    tree.add("fwctl0", "511", "pci", "0000:01:00.0", None);
    let e = tree.roots().devices().unwrap_err();
    assert!(
        e.to_string()
            .ends_with("fwctl0/dev: \"511\" is not MAJOR:MINOR"),
        "{e}"
    );
}

#[test]
fn open_looks_at_the_node() {
    let tree = Tree::new();
    // /dev/null is 1:3 on every Linux.
    tree.add("fwctl0", "1:3\n", "pci", "0000:01:00.0", None);
    let entry = tree.roots().device("fwctl0").unwrap().unwrap();
    assert_eq!(
        entry.open().unwrap_err(),
        Error::Open {
            node: entry.node.clone(),
            errno: Errno::ENOENT
        }
    );

    symlink("/dev/zero", &entry.node).unwrap();
    let stale = Error::StaleNode {
        node: entry.node.clone(),
        expected: DeviceNumber { major: 1, minor: 3 },
        found: DeviceNumber { major: 1, minor: 5 },
    };
    assert_eq!(entry.open().unwrap_err(), stale);

    fs::remove_file(&entry.node).unwrap();
    symlink("/dev/null", &entry.node).unwrap();
    let device = entry.open().unwrap();
    assert_eq!(
        device
            .rpc(Scope::Configuration, &[], &mut [])
            .unwrap_err()
            .errno(),
        Some(Errno::ENOTTY)
    );
}

#[test]
fn a_file_is_no_node() {
    let tree = Tree::new();
    tree.add("fwctl0", "0:1\n", "pci", "0000:01:00.0", None);
    let entry = tree.roots().device("fwctl0").unwrap().unwrap();
    fs::write(&entry.node, b"").unwrap();
    assert!(matches!(entry.open(), Err(Error::StaleNode { .. })));
}

#[test]
fn pci_addresses() {
    let a: PciAddress = "0001:a0:1f.7".parse().unwrap();
    assert_eq!(
        a,
        PciAddress {
            domain: 1,
            bus: 0xa0,
            device: 0x1f,
            function: 7
        }
    );
    assert_eq!(a.to_string(), "0001:a0:1f.7");
    assert_eq!(
        "01:00.0".parse::<PciAddress>().unwrap().to_string(),
        "0000:01:00.0"
    );
    for bad in [
        "",
        "fwctl0",
        "0000:01:20.0",
        "0000:01:00.8",
        "0000:101:00.0",
        "0:0:0:0.0",
    ] {
        assert!(bad.parse::<PciAddress>().is_err(), "{bad}");
    }
}
