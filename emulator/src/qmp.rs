// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Holds the virtual machine while a command is stopped, over QEMU's own control socket (QMP): the
//! driver's time-outs do not run meanwhile.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::owner::Owner;

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is looked whether anything is stopped still.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of one answer, and how many lines before it may be events.
const MAX_LINE: u64 = 1 << 20;
const MAX_EVENTS: usize = 1000;

/// Starts the thread that holds the machine; a message tells it that a command was stopped.
///
/// # Errors
/// The thread cannot be started.
pub fn start(owner: Arc<Owner>, socket: PathBuf) -> io::Result<Sender<()>> {
    let (tell, told) = channel();
    thread::Builder::new()
        .name("qmp".into())
        .spawn(move || run(&owner, &socket, &told))?;
    Ok(tell)
}

fn run(owner: &Owner, socket: &Path, told: &Receiver<()>) {
    let any = || owner.with_card(|c, _| !c.stopped().is_empty());
    while told.recv().is_ok() {
        if !any() {
            continue;
        }
        let held = match Machine::hold(socket) {
            Ok(held) => held,
            Err(e) => {
                log::error!("--qmp {}: the machine runs on: {e}", socket.display());
                continue;
            }
        };
        log::info!("a command is stopped: the machine stands");
        while any() {
            // More that is stopped changes nothing.
            if told.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        if let Some(Err(e)) = held.map(Machine::release) {
            log::error!("--qmp {}: the machine stands still: {e}", socket.display());
        }
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

/// A client of QEMU's control socket.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects, and is ready for commands then.
    ///
    /// # Errors
    /// Nobody answers there, or not as QMP does.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
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
