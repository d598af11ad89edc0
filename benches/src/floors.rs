// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the machine costs without any device: a message there and back between two processes.

use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
};

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};

use crate::{
    cpus::{Cpus, Peer, Placement},
    stats::{self, Stats},
};

/// Bytes of a ping on the unix socket; a small vhost-user or vfio-user message is that long.
const MESSAGE_BYTES: usize = 32;

/// Argument of the peer's side of [`eventfd_ping`].
pub const EVENTFD_PEER: &str = "peer-eventfd";
/// Argument of the peer's side of [`socket_ping`].
pub const SOCKET_PEER: &str = "peer-socket";

/// Round trip of two eventfds between two processes.
///
/// # Errors
/// The peer cannot be started or went away.
pub fn eventfd_ping(cpus: &Cpus, placement: Placement, count: usize) -> anyhow::Result<Stats> {
    let there = eventfd(0, EventfdFlags::CLOEXEC)?;
    let back = eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut command = myself(EVENTFD_PEER)?;
    command
        .stdin(Stdio::from(there.try_clone()?))
        .stdout(Stdio::from(back.try_clone()?));
    let _peer = Peer::new(cpus.spawn(placement, &mut command)?);
    let one = 1u64.to_ne_bytes();
    let mut buf = [0u8; 8];
    stats::repeat(count, count / 10, || {
        rustix::io::write(&there, &one)?;
        rustix::io::read(&back, &mut buf)?;
        Ok(())
    })
}

/// The other side of [`eventfd_ping`]: standard input there, standard output back.
///
/// # Errors
/// The eventfds fail.
pub fn eventfd_peer() -> anyhow::Result<()> {
    let (there, back) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut buf = [0u8; 8];
    loop {
        rustix::io::read(there, &mut buf)?;
        rustix::io::write(back, &buf)?;
    }
}

/// Round trip of a short message on a unix stream socket between two processes.
///
/// # Errors
/// The peer cannot be started or went away.
pub fn socket_ping(cpus: &Cpus, placement: Placement, count: usize) -> anyhow::Result<Stats> {
    let (mut mine, other) = UnixStream::pair()?;
    let mut command = myself(SOCKET_PEER)?;
    command
        .stdin(Stdio::from(OwnedFd::from(other)))
        .stdout(Stdio::null());
    let _peer = Peer::new(cpus.spawn(placement, &mut command)?);
    drop(command);
    let mut buf = [0u8; MESSAGE_BYTES];
    stats::repeat(count, count / 10, || {
        mine.write_all(&buf)?;
        mine.read_exact(&mut buf)?;
        Ok(())
    })
}

/// The other side of [`socket_ping`] on standard input; ends with the socket.
///
/// # Errors
/// The socket fails.
pub fn socket_peer() -> anyhow::Result<()> {
    let mut socket = UnixStream::from(rustix::stdio::stdin().as_fd().try_clone_to_owned()?);
    let mut buf = [0u8; MESSAGE_BYTES];
    while socket.read_exact(&mut buf).is_ok() {
        socket.write_all(&buf)?;
    }
    Ok(())
}

/// This program again with another role.
///
/// # Errors
/// Its own path is unknown.
pub fn myself(role: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("own path")?);
    command.arg(role);
    Ok(command)
}
