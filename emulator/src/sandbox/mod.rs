// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process may still do once it serves (docs/hardening.md): Landlock bounds its files, seccomp
//! its system calls. What is outside fails with an error; only calls of another architecture kill.

pub mod calls;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath,
    PathFd, PathFdError, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

/// The newest Landlock that this was tried with; rules of later ones are not asked for.
const LANDLOCK: ABI = ABI::V7;

/// How strict the sandbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// What is not allowed fails.
    #[default]
    Enforce,
    /// System calls that are not allowed happen, and the kernel logs them (audit, dmesg).
    Log,
    /// No sandbox.
    Off,
}

/// What the options of a process need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Folders in which files are read, written, made and replaced.
    pub writable: Vec<PathBuf>,
    /// Folders in which files are removed: those of the sockets.
    pub removable: Vec<PathBuf>,
    /// Connections to unix sockets are made.
    pub connects: bool,
}

/// Restricts this thread and those that it will start; system calls also of those that there are. It
/// cannot be taken back. Only what this kernel cannot do is returned, to warn of; nothing in mode
/// [`Mode::Off`].
///
/// # Errors
/// The kernel refuses, or a folder cannot be opened.
pub fn apply(mode: Mode, needs: &Needs) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    match mode {
        Mode::Off => return Ok(missing),
        // Landlock cannot merely log.
        Mode::Log => {}
        Mode::Enforce => {
            if !files(needs).context("Landlock")? {
                missing.push(
                    "this kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK, and \
                     `landlock` in lsm=): any file may be opened"
                        .to_owned(),
                );
            }
        }
    }
    if let Err(e) = system_calls(mode, needs) {
        missing.push(format!("system calls are not restricted: {e:#}"));
    }
    Ok(missing)
}

/// True if the rules are in force.
fn files(needs: &Needs) -> anyhow::Result<bool> {
    let read_file: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let remove = AccessFs::RemoveFile.into();
    let write = read_file
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    // A panic's backtrace has names in it.
    let program = std::env::current_exe().ok();
    let each = |paths: &[PathBuf], access| paths.iter().map(move |p| (p.clone(), access)).collect();
    let all: [Vec<(PathBuf, BitFlags<AccessFs>)>; 3] = [
        each(&needs.writable, write),
        each(&needs.removable, remove),
        each(program.as_slice(), read_file),
    ];
    for (path, access) in all.into_iter().flatten() {
        match PathFd::new(&path) {
            Ok(fd) => rules = rules.add_rule(PathBeneath::new(fd, access))?,
            // The program's file may be gone since it was started.
            Err(_) if Some(&path) == program.as_ref() => {}
            Err(PathFdError::OpenCall { source, .. }) => {
                bail!("{}: {source}", path.display());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

fn system_calls(mode: Mode, needs: &Needs) -> anyhow::Result<()> {
    let otherwise = match mode {
        Mode::Log => SeccompAction::Log,
        Mode::Enforce | Mode::Off => SeccompAction::Errno(libc::EPERM as u32),
    };
    let allowed = filter(
        calls::allowed(needs.connects)?,
        otherwise,
        SeccompAction::Allow,
    )?;
    // The C library makes threads with `clone` where there is no `clone3`, whose flags no filter sees.
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let clone3 = filter(calls::absent(), SeccompAction::Allow, absent)?;
    if mode == Mode::Enforce {
        seccompiler::apply_filter_all_threads(&clone3)?;
    }
    seccompiler::apply_filter_all_threads(&allowed)?;
    Ok(())
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    then: SeccompAction,
) -> anyhow::Result<BpfProgram> {
    let arch = std::env::consts::ARCH;
    let arch = arch
        .try_into()
        .map_err(|_| anyhow!("no filter is known for {arch}"))?;
    Ok(SeccompFilter::new(rules, otherwise, then, arch)?.try_into()?)
}

/// The folder of a file.
#[must_use]
pub fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    }
}
