// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Loads and unloads kernel modules without kmod: modules.dep and two system calls.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    system::{delete_module, finit_module, uname},
};

use crate::{
    fail,
    test::{Done, wait_for},
};

/// `O_NONBLOCK` for delete_module: a module in use is refused instead of waited for.
const O_NONBLOCK: i32 = 0o4000;
/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks the file.
const COMPRESSED: i32 = 4;
/// How long a module may stay in use after its last user has gone.
const IDLE: Duration = Duration::from_secs(30);
/// Modules that one module may pull in or hold.
const CHAIN_MAX: usize = 64;

/// True if a module is loaded or built in with parameters.
#[must_use]
pub fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module")
        .join(name)
        .join("initstate")
        .exists()
}

/// True if the running kernel has the module as a file.
#[must_use]
pub fn is_available(name: &str) -> bool {
    let dir = folder();
    fs::read_to_string(dir.join("modules.dep")).is_ok_and(|dep| !chain(&dep, name).is_empty())
}

fn folder() -> PathBuf {
    Path::new("/lib/modules").join(uname().release().to_string_lossy().as_ref())
}

/// Loads a module after those it needs; one that is loaded already is no error.
///
/// # Errors
/// A failure that names the file and the kernel's reason.
pub fn load(name: &str) -> Done {
    let dir = folder();
    let list = dir.join("modules.dep");
    let dep =
        fs::read_to_string(&list).map_err(|e| format!("cannot read {}: {e}", list.display()))?;
    let files = chain(&dep, name);
    if files.is_empty() {
        fail!("{} has no module {name}", list.display());
    }
    for file in files {
        let path = dir.join(file);
        let what = |e: &dyn std::fmt::Display| format!("cannot load {}: {e}", path.display());
        let opened = File::open(&path).map_err(|e| what(&e))?;
        let flags = if path.extension().is_some_and(|e| e == "ko") {
            0
        } else {
            COMPRESSED
        };
        match finit_module(opened, c"", flags) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => fail!("{}", what(&io::Error::from(e))),
        }
    }
    Ok(())
}

/// Unloads a module after those that use it. Returns what was unloaded, in that order; a module
/// that is not loaded is no error.
///
/// # Errors
/// A failure if one stays in use.
pub fn unload(name: &str) -> Done<Vec<String>> {
    let mut done = Vec::new();
    unload_into(name, &mut done)?;
    Ok(done)
}

fn unload_into(name: &str, done: &mut Vec<String>) -> Done {
    if done.len() >= CHAIN_MAX {
        fail!("more than {CHAIN_MAX} modules hold each other");
    }
    if !is_loaded(name) {
        return Ok(());
    }
    if let Ok(holders) = fs::read_dir(Path::new("/sys/module").join(name).join("holders")) {
        for holder in holders.filter_map(Result::ok) {
            unload_into(&holder.file_name().to_string_lossy(), done)?;
        }
    }
    let c_name = CString::new(name).map_err(|_| format!("{name:?} is no module's name"))?;
    wait_for(
        &format!("unloading {name}, which is in use,"),
        IDLE,
        || match delete_module(&c_name, O_NONBLOCK) {
            Ok(()) | Err(Errno::NOENT) => Ok(Some(())),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => fail!("cannot unload {name}: {}", io::Error::from(e)),
        },
    )?;
    done.push(name.to_owned());
    Ok(())
}

/// The files to load for a module, in order, from the text of modules.dep (a file, a colon, and
/// what it needs, each after what needs it).
fn chain<'a>(dep: &'a str, name: &str) -> Vec<&'a str> {
    for line in dep.lines() {
        let Some((file, needs)) = line.split_once(':') else {
            continue;
        };
        if module_name(file) == name.replace('-', "_") {
            let mut files: Vec<&str> = needs.split_whitespace().rev().take(CHAIN_MAX).collect();
            files.push(file);
            return files;
        }
    }
    Vec::new()
}

/// `kernel/drivers/net/mlx5/core/mlx5_core.ko.xz` → `mlx5_core`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split_once(".ko")
        .map_or(base, |(name, _)| name)
        .replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/net/mlx5_core.ko: kernel/net/devlink-x.ko kernel/lib/psample.ko.xz\n\
                       extra/virtio-fwctl.ko: extra/fwctl.ko\nextra/fwctl.ko:\n";

    #[test]
    fn needs_come_first() {
        assert_eq!(
            chain(DEP, "mlx5_core"),
            [
                "kernel/lib/psample.ko.xz",
                "kernel/net/devlink-x.ko",
                "kernel/drivers/net/mlx5_core.ko"
            ]
        );
        assert_eq!(chain(DEP, "fwctl"), ["extra/fwctl.ko"]);
        assert_eq!(
            chain(DEP, "virtio_fwctl"),
            ["extra/fwctl.ko", "extra/virtio-fwctl.ko"]
        );
        assert!(chain(DEP, "mlx5").is_empty());
    }

    #[test]
    fn names_of_files() {
        assert_eq!(module_name("a/b/mlx5_core.ko.zst"), "mlx5_core");
        assert_eq!(module_name("virtio-pci.ko"), "virtio_pci");
    }
}
