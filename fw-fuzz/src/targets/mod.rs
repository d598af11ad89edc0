// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The project's own fuzz targets: one table, from which scripts/fuzz, the tests and the targets for
//! libFuzzer are made.

pub mod chains;
pub mod commands;
#[cfg(feature = "emulator")]
pub mod config;
#[cfg(feature = "emulator")]
pub mod control;
#[cfg(feature = "emulator")]
pub mod files;
pub mod gateway;
pub mod inbox;
#[cfg(feature = "emulator")]
pub mod sockets;
#[cfg(feature = "emulator")]
pub mod virtqueue;

use std::sync::{Arc, OnceLock};

use fw_model::Profile;

pub use chains::CHAINS;
pub use commands::{COMMANDS, SAVE};
pub use gateway::GATEWAY;
pub use inbox::INBOX;

use crate::{Device, guests};

/// A profile with everything that the firmware has, and hardly any pages to give.
pub const PROFILE: &str = include_str!("../../profiles/fuzz.toml");

/// Handles an input and gives back a record.
pub type Recorder = fn(&[u8]) -> Vec<u8>;

/// Something to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of its file in fuzz/fuzz_targets/.
    pub name: &'static str,
    /// What it gets, in a few words.
    pub about: &'static str,
    /// Longest input in bytes.
    pub max_len: usize,
    /// Whether it counts how often an edge is run. Without that an input costs half, and more edges are found in
    /// the same time where the firmware has few loops.
    pub hits: bool,
    /// Handles one input.
    pub run: fn(&[u8]),
    /// Handles one input of a model target and gives back what happened as a record.
    pub record: Option<Recorder>,
    /// Words of its language.
    pub dictionary: fn() -> Vec<Vec<u8>>,
    /// Inputs to begin with, from the tables.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    /// Its own seeds, and those that are made of what guests said.
    #[must_use]
    pub fn all_seeds(&self) -> Vec<Vec<u8>> {
        let mut all = (self.seeds)();
        all.extend(guests::seeds(self.name));
        all
    }

    /// Its options for libFuzzer, a line each.
    #[must_use]
    pub fn options(&self) -> String {
        let counters = if self.hits { "" } else { "use_counters = 0\n" };
        format!("max_len = {}\n{counters}", self.max_len)
    }
}

/// All of them.
pub static TARGETS: &[&Target] = &[
    &INBOX,
    &COMMANDS,
    &CHAINS,
    &GATEWAY,
    &SAVE,
    #[cfg(feature = "emulator")]
    &config::CONFIG,
    #[cfg(feature = "emulator")]
    &virtqueue::VIRTQUEUE,
    #[cfg(feature = "emulator")]
    &sockets::VHOST_USER,
    #[cfg(feature = "emulator")]
    &sockets::VFIO_USER,
    #[cfg(feature = "emulator")]
    &control::CONTROL,
    #[cfg(feature = "emulator")]
    &files::STATE,
    #[cfg(feature = "emulator")]
    &files::CARD,
    #[cfg(feature = "emulator")]
    &files::TRACE,
    #[cfg(feature = "emulator")]
    &files::RECORD,
    #[cfg(feature = "emulator")]
    &files::PROFILE,
    #[cfg(feature = "emulator")]
    &files::OVERLAY,
    #[cfg(feature = "emulator")]
    &files::FAULTS,
];

/// The target with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name).copied()
}

/// The profile of the model's targets.
///
/// # Panics
/// If it is none, which a test would show.
#[must_use]
pub fn profile() -> Arc<Profile> {
    static COMPILED: OnceLock<Arc<Profile>> = OnceLock::new();
    let compile = || Profile::parse(PROFILE, "fuzz.toml").expect("the fuzzer's own profile");
    COMPILED.get_or_init(compile).clone()
}

/// Lets `run` happen on a device that keeps a record, and gives the record, also if it panics.
fn recorded(device: &mut Device, run: impl FnOnce(&mut Device)) -> Vec<u8> {
    device.set_record();
    device.renew();
    let mut run = Some(run);
    // The record ends with the step that panicked.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Some(run) = run.take() {
            run(device);
        }
    }));
    device.record().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_by_their_names() {
        for t in TARGETS {
            assert!(std::ptr::eq(find(t.name).unwrap(), *t), "{} twice", t.name);
            assert!(t.max_len > 0 && !t.about.is_empty());
        }
        assert!(find("nothing").is_none());
    }
}
