// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Holds the virtual machine while a command is stopped, over QEMU's own control socket (QMP): the
//! driver's time-outs do not run meanwhile.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde_json::{Value, json};

use crate::owner::Owner;

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is looked whether anything is stopped still.
const LOOK: Duration = Duration::from_millis(20);
/// How long until it is looked again if the card was busy.
const BUSY: Duration = Duration::from_millis(1);
/// How long the end of the process waits for the machine: for one answer, and some more.
const END: Duration = Duration::from_secs(8);
/// Bytes of one answer, and how many lines before it may be events.
const MAX_LINE: u64 = 1 << 20;
const MAX_EVENTS: usize = 1000;

/// What the thread is told.
enum Told {
    /// A command was stopped.
    Stopped,
    /// The process ends.
    End,
}

/// The thread that holds the machine.
pub struct Holder {
    tell: Sender<Told>,
    // Nothing comes, and that is over when the thread is.
    ended: Mutex<Receiver<()>>,
}

impl Holder {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(owner: Arc<Owner>, socket: PathBuf) -> io::Result<Self> {
        let (tell, told) = channel();
        let (lives, ended) = channel::<()>();
        thread::Builder::new().name("qmp".into()).spawn(move || {
            let _lives = lives;
            run(&owner, &socket, &told);
        })?;
        let ended = Mutex::new(ended);
        Ok(Self { tell, ended })
    }

    /// Tells it that a command was stopped.
    pub fn stopped(&self) {
        let _ = self.tell.send(Told::Stopped);
    }

    /// Lets the machine run on if it stands because of us, and holds it no more: for the end of the process. May
    /// be called with the owner's lock held. If QEMU does not answer it returns all the same.
    pub fn end(&self) {
        let _ = self.tell.send(Told::End);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(END) == Err(RecvTimeoutError::Timeout) {
            log::error!("--qmp: no answer in time: the machine may stand still");
        }
    }
}

fn run(owner: &Owner, socket: &Path, told: &Receiver<Told>) {
    let mut ends = false;
    while !ends && matches!(told.recv(), Ok(Told::Stopped)) {
        match look(owner, told, Duration::ZERO) {
            Some(true) => {}
            Some(false) => continue,
            None => return,
        }
        let held = match Machine::hold(socket) {
            Ok(held) => held,
            Err(e) => {
                log::error!("--qmp {}: the machine runs on: {e}", socket.display());
                continue;
            }
        };
        log::info!("a command is stopped: the machine stands");
        ends = loop {
            match look(owner, told, LOOK) {
                // More that is stopped changes nothing.
                Some(true) => {}
                Some(false) => break false,
                None => break true,
            }
        };
        match held.map(Machine::release) {
            None => {}
            Some(Ok(())) => log::info!("the machine runs on"),
            Some(Err(e)) => {
                log::error!("--qmp {}: the machine stands still: {e}", socket.display());
            }
        }
    }
}

/// Whether any command is stopped after `wait`; none if the process ends.
fn look(owner: &Owner, told: &Receiver<Told>, mut wait: Duration) -> Option<bool> {
    loop {
        match told.recv_timeout(wait) {
            Ok(Told::Stopped) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => return None,
        }
        // Who says that the process ends may hold the owner's lock.
        let any = owner.try_with_card(|c, _| !c.stopped().is_empty());
        if any.is_some() {
            return any;
        }
        wait = BUSY;
    }
}

/// A machine that stands because of us.
struct Machine(Client);

impl Machine {
    /// Stops the machine; none if it stood already.
    fn hold(socket: &Path) -> io::Result<Option<Self>> {
        let mut client = Client::connect(socket)?;
        if client.execute("query-status", &json!({}))?["running"] != true {
            return Ok(None);
        }
        client.execute("stop", &json!({}))?;
        Ok(Some(Self(client)))
    }

    fn release(mut self) -> io::Result<()> {
        self.0.execute("cont", &json!({})).map(drop)
    }
}

/// A connection. QEMU takes one at a time: with others before it, connecting would wait without end.
fn connected(socket: &Path, limit: Duration) -> io::Result<UnixStream> {
    let at = SocketAddrUnix::new(socket)?;
    let stream = net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_timeout(&stream, Timeout::Send, Some(limit))?;
    match net::connect(&stream, &at) {
        Ok(()) => Ok(stream.into()),
        Err(Errno::AGAIN) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it takes no further connection",
        )),
        Err(e) => Err(e.into()),
    }
}

/// A client of QEMU's control socket.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects, and is ready for commands then.
    ///
    /// # Errors
    /// Nobody answers there, or not as QMP does.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = connected(socket, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut client = Self(BufReader::new(stream));
        client.line()?;
        client.execute("qmp_capabilities", &json!({}))?;
        Ok(client)
    }

    /// What a command returns.
    ///
    /// # Errors
    /// QEMU's own, with the command's name, or there is no answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let message = json!({ "execute": command, "arguments": arguments });
        writeln!(self.0.get_mut(), "{message}")?;
        for _ in 0..MAX_EVENTS {
            let mut answer = self.line()?;
            if let Some(e) = answer.get("error") {
                return Err(io::Error::other(format!("{command}: {e}")));
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
        Err(io::Error::other(format!("{command}: no answer")))
    }

    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if (&mut self.0).take(MAX_LINE).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn a_monitor_that_takes_no_further_connection_is_not_waited_for() {
        let folder = TempDir::new().unwrap();
        let path = folder.as_path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        net::listen(&listener, 0).unwrap();
        let limit = Duration::from_millis(50);
        let _first = connected(&path, limit).unwrap();
        let e = connected(&path, limit).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::TimedOut, "{e}");
        drop(listener);
        let e = connected(&path, limit).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused, "{e}");
    }
}
