// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: JSON lines in QMP's manner. A greeting, then for each request
//! `{"execute": NAME, "id": any}` one answer `{"return": …}` or `{"error": {"class", "desc"}}`
//! with the same id. In between, what happens by itself: `{"event": NAME, "data": …, "timestamp": …}`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use fw_model::nearest;
use rustix::{net::sockopt, process::geteuid};
use serde_json::{Map, Value, json};

use crate::{clients::Clients, owner::Owner, socket::receive};

mod client;
mod events;
mod verbs;

pub use client::{Argument, argument, ask};
pub use events::{EVENTS, Events, MAX_UNREAD};
pub use verbs::{Answer, VERBS, Verb, help, new_file, script};
use verbs::{Arguments, Wrong};

/// Longest request line in bytes.
pub const MAX_LINE: u64 = 64 << 10;
/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 8;
/// How long `ctl` waits for an answer, and the server for a client that does not read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Classes of errors that are the request's own: there is no such command, or its arguments are wrong.
const NO_COMMAND: &str = "CommandNotFound";
const BAD_ARGUMENT: &str = "InvalidArgument";

/// What the control socket works on.
pub struct Server {
    /// The card.
    pub owner: Arc<Owner>,
    /// Its clients.
    pub clients: Clients,
    /// Who hears what happens by itself.
    pub events: Events,
    /// Ends the process.
    pub quit: Box<dyn Fn() + Send + Sync>,
    /// The card's non-volatile state is in a folder, which a saved card does not have.
    pub stored: bool,
    /// `quit` was asked for; it is carried out once it is answered.
    pub quitting: AtomicBool,
}

impl Server {
    /// Serves connections until the process ends.
    pub fn serve(self: Arc<Self>, listener: &UnixListener) {
        let open = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if !same_user(&stream) {
                let _ = writeln!(
                    stream,
                    "{}",
                    error("NotAllowed", "this socket belongs to another user")
                );
                continue;
            }
            let Some(place) = Place::take(&open) else {
                let _ = writeln!(
                    stream,
                    "{}",
                    error("TooMany", "too many connections; close one and try again")
                );
                continue;
            };
            let me = self.clone();
            let work = move || {
                // Given back however this thread ends, also if it cannot begin.
                let place = place;
                let connection = stream.try_clone();
                match catch_unwind(AssertUnwindSafe(|| me.talk(stream))) {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => log::debug!("control connection: {e}"),
                    Err(_) => log::error!("a control connection failed; see above"),
                }
                // Whoever sees the end of his connection may have another one at once.
                drop(place);
                // The thread that tells of events holds it a while longer.
                let _ = connection.map(|c| c.shutdown(Shutdown::Both));
            };
            if thread::Builder::new()
                .name("control connection".into())
                .spawn(work)
                .is_err()
            {
                log::warn!("control socket: no thread for a connection");
            }
        }
    }

    /// Talks with a client until it or the connection ends.
    ///
    /// # Errors
    /// What the socket says.
    pub fn talk(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        // Who has read the greeting misses nothing.
        let (_listening, events) = self.events.listen();
        let greeting =
            json!({"fwctl-emu": {"version": env!("CARGO_PKG_VERSION"), "capabilities": []}});
        writeln!(stream, "{greeting}")?;
        let mut reader = BufReader::new(Taking {
            stream: stream.try_clone()?,
            file: None,
        });
        // Lines of two threads must not mix.
        let stream = Lines(Arc::new(Mutex::new(stream)));
        let ended = stream.clone();
        thread::Builder::new()
            .name("control events".into())
            .spawn(move || ended.tell(events))?;
        loop {
            let mut line = Vec::new();
            let n = reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') && n as u64 == MAX_LINE {
                skip_line(&mut reader)?;
                let desc = format!("the line is longer than {MAX_LINE} bytes");
                stream.put(&error("GenericError", &desc))?;
                continue;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if line.last() != Some(&b'\n') {
                // Not even a request that is whole by chance: its sender was cut off.
                let desc = "the line does not end; end each request with a newline";
                return stream.put(&error("GenericError", desc));
            }
            let file = reader.get_mut().file.take();
            let answered = stream.put(&self.answer(&line, file));
            if self.quitting.load(Ordering::Acquire) {
                (self.quit)();
            }
            answered?;
        }
    }

    /// The answer to one line that came with a file or without.
    #[must_use]
    pub fn answer(&self, line: &[u8], file: Option<File>) -> Value {
        let (reply, id) = self.request(line, file);
        with_id(reply, id.as_ref())
    }

    /// The answer to one line, and its id.
    fn request(&self, line: &[u8], file: Option<File>) -> (Value, Option<Value>) {
        let request = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(o)) => o,
            Ok(_) => {
                return (
                    error("GenericError", "a request is an object {\"execute\": NAME}"),
                    None,
                );
            }
            Err(e) => return (error("GenericError", &format!("not JSON: {e}")), None),
        };
        let id = request.get("id").cloned();
        if let Some(k) = request
            .keys()
            .find(|k| !["execute", "arguments", "id"].contains(&k.as_str()))
        {
            return (
                error(
                    "GenericError",
                    &format!("unknown field {k:?}; there are: execute, arguments, id"),
                ),
                id,
            );
        }
        let Some(Value::String(name)) = request.get("execute") else {
            return (
                error("GenericError", "no \"execute\" with a command's name"),
                id,
            );
        };
        let Some(verb) = VERBS.iter().find(|v| v.name == name) else {
            let known: Vec<_> = VERBS.iter().map(|v| v.name).collect();
            let meant = nearest(name, known.iter().copied());
            let desc = format!(
                "there is no command {name:?}{meant}; there are: {}",
                known.join(", ")
            );
            return (error(NO_COMMAND, &desc), id);
        };
        let none = Map::new();
        let arguments = match request.get("arguments") {
            None => &none,
            Some(Value::Object(a)) => a,
            Some(_) => return (error(BAD_ARGUMENT, "\"arguments\" is not an object"), id),
        };
        if let Some(k) = arguments
            .keys()
            .find(|k| verb.arguments.iter().all(|a| a.0 != *k))
        {
            let known: Vec<_> = verb.arguments.iter().map(|a| a.0).collect();
            let known = if known.is_empty() {
                "it takes none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            let meant = nearest(k, verb.arguments.iter().map(|a| a.0));
            let desc = format!("{name} has no argument {k:?}{meant}; {known}");
            return (error(BAD_ARGUMENT, &desc), id);
        }
        let run = || (verb.run)(self, &Arguments::new(verb, arguments, file));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(v)) => (json!({ "return": v }), id),
            Ok(Err(Wrong::Argument(e))) => (error(BAD_ARGUMENT, &e), id),
            Ok(Err(Wrong::State(e))) => (error("GenericError", &e), id),
            Err(_) => {
                let desc =
                    "the emulator failed over this command, and its log says where; this is a bug";
                (error("GenericError", desc), id)
            }
        }
    }
}

/// One of [`MAX_CONNECTIONS`]; dropping it gives it back.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(open.clone());
        let before = place.0.fetch_add(1, Ordering::AcqRel);
        (before < MAX_CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The reading end of a connection. Of the files that come with what is read it keeps the last.
struct Taking {
    stream: UnixStream,
    file: Option<File>,
}

impl Read for Taking {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut fds = Vec::new();
        let (n, _) = receive(&self.stream, buf, &mut fds)?;
        if let Some(last) = fds.pop() {
            self.file = Some(last.into());
        }
        Ok(n)
    }
}

/// The writing end of a connection, for whole lines.
#[derive(Clone)]
struct Lines(Arc<Mutex<UnixStream>>);

impl Lines {
    fn put(&self, line: &Value) -> io::Result<()> {
        // At once: formatted to the socket, each word of it is a message.
        let line = format!("{line}\n");
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = stream.write_all(line.as_bytes());
        if written.is_err() {
            // Half a line may be there: what came next would be taken for its rest. Nor may the client wait
            // for events that nobody tells any more.
            let _ = stream.shutdown(Shutdown::Both);
        }
        written
    }

    /// Writes events until the connection ends, or is not read.
    fn tell(&self, events: Receiver<Value>) {
        for event in events {
            if self.put(&event).is_err() {
                return;
            }
        }
    }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let (n, end) = {
            let buf = reader.fill_buf()?;
            match buf.iter().position(|b| *b == b'\n') {
                Some(i) => (i + 1, true),
                None => (buf.len(), buf.is_empty()),
            }
        };
        reader.consume(n);
        if end {
            return Ok(());
        }
    }
}

fn error(class: &str, desc: &str) -> Value {
    json!({"error": {"class": class, "desc": desc}})
}

fn with_id(mut reply: Value, id: Option<&Value>) -> Value {
    if let (Some(id), Value::Object(o)) = (id, &mut reply) {
        o.insert("id".into(), id.clone());
    }
    reply
}

/// True if the peer runs as this user, or as root.
fn same_user(stream: &UnixStream) -> bool {
    let peer = sockopt::socket_peercred(stream);
    peer.is_ok_and(|p| p.uid.is_root() || p.uid == geteuid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fw_model::{Card, CardOptions, MemStore, Profile};
    use std::{collections::BTreeMap, time::Instant};
    use vmm_sys_util::tempdir::TempDir;

    #[test]
    fn who_does_not_read_sees_the_end_and_no_answer_behind_half_a_line() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_write_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        theirs
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let lines = Lines(Arc::new(Mutex::new(ours)));
        let (told, events) = std::sync::mpsc::channel();
        // More than the socket takes, and more after the first that it does not.
        for _ in 0..3 {
            told.send(json!("x".repeat(1 << 20))).unwrap();
        }
        lines.tell(events);
        let mut got = Vec::new();
        let answered = lines.put(&json!({"return": 1}));
        theirs.read_to_end(&mut got).unwrap();
        assert!(answered.is_err());
        assert!(!got.is_empty() && !got.contains(&b'\n'));
    }

    #[test]
    fn nothing_of_a_connection_is_left_on_a_card_to_which_nothing_happens() {
        let profile = Profile::builtin("minimal").unwrap();
        let card = Card::new(profile, CardOptions::default(), &BTreeMap::new());
        let events = Events::default();
        let server = Arc::new(Server {
            owner: Owner::new(card, Box::new(MemStore::default())),
            clients: Clients::new(|| {}),
            events: events.clone(),
            quit: Box::new(|| {}),
            stored: false,
            quitting: false.into(),
        });
        let folder = TempDir::new().unwrap();
        let path = folder.as_path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || server.serve(&listener));
        let greeted = || {
            let stream = UnixStream::connect(&path).unwrap();
            let mut greeting = String::new();
            let mut lines = BufReader::new(&stream);
            lines.read_line(&mut greeting).unwrap();
            assert!(greeting.starts_with("{\"fwctl-emu\""), "{greeting}");
            stream
        };
        let stays = greeted();
        for _ in 0..50 {
            let mut goes = greeted();
            goes.shutdown(Shutdown::Write).unwrap();
            goes.read_to_end(&mut Vec::new()).unwrap();
        }
        let end = Instant::now() + Duration::from_secs(10);
        while events.listeners() > 1 && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(events.listeners(), 1);
        drop(stays);
    }
}
