// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages of vfio-user on a stream socket: read whole, with their file descriptors, or not at all.
//!
//! Numbers are host-endian, as the protocol says.

use std::{
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use rustix::io::Errno;

pub use crate::socket::MAX_FDS;
use crate::socket::receive;

/// Bytes of a header: id, command, size of the message, flags, errno.
pub const HEADER_BYTES: usize = 16;
/// Data bytes of a region access: the whole of configuration space. The server tells the client
/// (`max_data_xfer_size`).
pub const MAX_DATA: usize = 4096;
/// Bytes of a message: a region write with its header and its place, or a version with its text.
pub const MAX_MESSAGE: usize = HEADER_BYTES + 16 + MAX_DATA;

/// Type of a message in the low bits of its flags; a command is 0.
const TYPE_MASK: u32 = 0xf;
const REPLY: u32 = 1;
/// The sender of a command wants no reply.
const NO_REPLY: u32 = 1 << 4;
/// The reply holds an errno.
const ERROR: u32 = 1 << 5;

/// What goes wrong with a connection; it ends with it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The client went in the middle of a message.
    #[error("a message ends after {0} bytes")]
    Half(usize),
    /// A size that no message has.
    #[error("a message of {0} bytes: there are messages of {HEADER_BYTES} to {MAX_MESSAGE}")]
    Size(u32),
    /// More file descriptors than were agreed on.
    #[error("more than {MAX_FDS} file descriptors come with a message")]
    Fds,
    /// A reply, and nothing was asked.
    #[error("a message that is no command (flags {0:#x})")]
    NoCommand(u32),
}

/// A command as it came; its body is [`Connection::body`].
#[derive(Debug)]
pub struct Command {
    /// Chosen by the client, for the reply.
    pub id: u16,
    /// Which one.
    pub number: u16,
    /// The client waits for a reply.
    pub wants_reply: bool,
    /// What came with it; closed when this is dropped.
    pub fds: Vec<OwnedFd>,
}

/// A connected client.
pub struct Connection {
    stream: Arc<UnixStream>,
    body: Vec<u8>,
}

impl Connection {
    /// A client that has just been accepted.
    #[must_use]
    pub fn new(stream: Arc<UnixStream>) -> Self {
        let body = Vec::new();
        Self { stream, body }
    }

    /// What stands behind the header of the last command.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The next command; `None` if the client has gone between two messages.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn receive(&mut self) -> Result<Option<Command>, Broken> {
        let mut header = [[0; 4]; HEADER_BYTES / 4];
        let mut fds = Vec::new();
        match fill(&self.stream, header.as_flattened_mut(), &mut fds)? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            n => return Err(Broken::Half(n)),
        }
        let [[id0, id1, number0, number1], size, flags, _errno] = header;
        let (size, flags) = (u32::from_ne_bytes(size), u32::from_ne_bytes(flags));
        if flags & TYPE_MASK != 0 {
            return Err(Broken::NoCommand(flags));
        }
        let mut command = Command {
            id: u16::from_ne_bytes([id0, id1]),
            number: u16::from_ne_bytes([number0, number1]),
            wants_reply: flags & NO_REPLY == 0,
            fds,
        };
        let len = (size as usize).wrapping_sub(HEADER_BYTES);
        if len > MAX_MESSAGE - HEADER_BYTES {
            // What follows cannot be told from the next message: said, then hung up.
            self.refuse(&command, Errno::MSGSIZE.raw_os_error())?;
            return Err(Broken::Size(size));
        }
        self.body.resize(len, 0);
        let got = fill(&self.stream, &mut self.body, &mut command.fds)?;
        if got < len {
            return Err(Broken::Half(HEADER_BYTES + got));
        }
        Ok(Some(command))
    }

    /// Answers a command with a message of this body.
    ///
    /// # Errors
    /// The socket.
    pub fn reply(&mut self, to: &Command, body: &[u8]) -> io::Result<()> {
        self.put(to, REPLY, 0, body)
    }

    /// Answers a command with an errno.
    ///
    /// # Errors
    /// The socket.
    pub fn refuse(&mut self, to: &Command, errno: i32) -> io::Result<()> {
        self.put(to, REPLY | ERROR, errno.unsigned_abs(), &[])
    }

    fn put(&mut self, to: &Command, flags: u32, errno: u32, body: &[u8]) -> io::Result<()> {
        if !to.wants_reply {
            return Ok(());
        }
        let size = (HEADER_BYTES + body.len()) as u32;
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        message.extend(to.id.to_ne_bytes());
        message.extend(to.number.to_ne_bytes());
        for field in [size, flags, errno] {
            message.extend(field.to_ne_bytes());
        }
        message.extend(body);
        (&*self.stream).write_all(&message)
    }
}

/// Fills `buf`, or as much of it as comes before the end of the connection.
fn fill(stream: &UnixStream, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, Broken> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
        let (got, more) = receive(stream, rest, fds)?;
        if more || fds.len() > MAX_FDS {
            return Err(Broken::Fds);
        }
        if got == 0 {
            break;
        }
        done += got;
    }
    Ok(done)
}
