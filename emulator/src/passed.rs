// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! File descriptors that were passed to the process, by their numbers.
//!
//! They are taken before the process opens anything: afterwards a number that nobody passed may be one of
//! our own files, such as the lock of the state folder.

use std::{
    collections::BTreeMap,
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
};

use anyhow::{Context as _, anyhow, bail};
use rustix::{
    fs::{OFlags, fcntl_getfl, fstat},
    io::fcntl_dupfd_cloexec,
    net::{AddressFamily, sockopt},
    stdio::dup2_stdout,
};

/// The largest number of a standard stream. Others in the process use these too.
const STANDARD: RawFd = 2;

/// What was passed and is not used yet.
#[derive(Debug, Default)]
pub struct Passed {
    /// Listening sockets by number.
    sockets: BTreeMap<RawFd, UnixListener>,
    /// Where to say that all sockets listen.
    ready: Option<File>,
}

impl Passed {
    /// Takes the descriptors with these numbers, each once. Call it first of all.
    ///
    /// # Errors
    /// A number that is not open, is given twice, or is no listening unix socket; for `ready`, one that is not
    /// open for writing.
    pub fn take(sockets: &[RawFd], ready: Option<RawFd>) -> anyhow::Result<Self> {
        let mut passed = Self::default();
        if let Some(fd) = ready {
            if sockets.contains(&fd) {
                bail!("--ready-fd {fd}: also given as a socket");
            }
            passed.ready = Some(ready_file(fd)?);
        }
        let mut seen = BTreeMap::new();
        for fd in sockets {
            let name = || format!("socket fd:{fd}");
            let listener = listener(*fd).with_context(name)?;
            let held = fstat(&listener).with_context(name)?;
            if let Some(other) = seen.insert((held.st_dev, held.st_ino), fd) {
                bail!("socket fd:{fd}: the same socket as fd:{other}");
            }
            passed.sockets.insert(*fd, listener);
        }
        Ok(passed)
    }

    /// The listening socket with this number.
    pub fn socket(&mut self, fd: RawFd) -> Option<UnixListener> {
        self.sockets.remove(&fd)
    }

    /// Where to say that all sockets listen, if anywhere.
    pub fn ready(&mut self) -> Option<File> {
        self.ready.take()
    }
}

/// The descriptor `fd` as our own. A standard stream stays where it is, and we get a duplicate.
fn take(fd: RawFd) -> anyhow::Result<OwnedFd> {
    let closed = || anyhow!("not an open file descriptor");
    if fd < 0 {
        return Err(closed());
    }
    // SAFETY: F_GETFD takes any number and only says whether it is open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(closed());
    }
    if fd <= STANDARD {
        // SAFETY: it is open, and nobody closes the standard streams; borrowed to be duplicated.
        let stream = unsafe { BorrowedFd::borrow_raw(fd) };
        return Ok(fcntl_dupfd_cloexec(stream, STANDARD + 1)?);
    }
    // SAFETY: it is open; the process has opened nothing yet, so that it was passed, and each number is
    // taken once: this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn listener(fd: RawFd) -> anyhow::Result<UnixListener> {
    if (0..=STANDARD).contains(&fd) {
        bail!("not a file descriptor that was passed for this");
    }
    let fd = take(fd)?;
    let listens = sockopt::socket_acceptconn(&fd).unwrap_or(false);
    if !listens || sockopt::socket_domain(fd.as_fd()) != Ok(AddressFamily::UNIX) {
        bail!("not a listening unix socket");
    }
    let listener = UnixListener::from(fd);
    listener.set_nonblocking(false)?;
    Ok(listener)
}

fn ready_file(n: RawFd) -> anyhow::Result<File> {
    let name = || format!("--ready-fd {n}");
    let fd = take(n).with_context(name)?;
    let flags = fcntl_getfl(&fd).with_context(name)?;
    if flags & OFlags::RWMODE == OFlags::RDONLY || flags.contains(OFlags::PATH) {
        bail!("--ready-fd {n}: not open for writing");
    }
    if n == 1 {
        // Who reads it waits for its end: we write nothing else there. The number must not become free, or
        // the next file that is opened would be the standard output.
        let nothing = File::options().write(true).open("/dev/null");
        dup2_stdout(nothing.context("/dev/null")?).with_context(name)?;
    }
    Ok(File::from(fd))
}
