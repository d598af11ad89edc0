// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control socket: JSON lines in QMP's manner. A greeting, then for each request
//! `{"execute": NAME, "id": any}` one answer `{"return": …}` or `{"error": {"class", "desc"}}`
//! with the same id.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use fw_model::{FunctionId, Input, NoMemory};
use serde_json::{Map, Value, json};

use crate::{clients::Clients, owner::Owner};

/// Longest request line in bytes.
pub const MAX_LINE: u64 = 64 << 10;
/// Longest conversation that `ctl` listens to in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 8;
/// How long `ctl` waits for an answer, and the server for a client that does not read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the control socket works on.
pub struct Server {
    /// The card.
    pub owner: Arc<Owner>,
    /// Its clients.
    pub clients: Clients,
    /// Ends the process.
    pub quit: Box<dyn Fn() + Send + Sync>,
    /// `quit` was asked for; it is carried out once it is answered.
    pub quitting: AtomicBool,
}

type Command = fn(&Server, &Map<String, Value>) -> Result<Value, String>;

/// Every command: its name, its arguments and what it does.
const COMMANDS: &[(&str, &[&str], Command)] = &[
    ("functions", &[], functions),
    ("page-demand", &["function", "count"], page_demand),
    ("power-cycle", &[], power_cycle),
    ("quit", &[], quit),
    ("version", &[], version),
];

fn functions(s: &Server, _: &Map<String, Value>) -> Result<Value, String> {
    let reports = s.owner.with_card(|c, _| {
        c.functions()
            .filter_map(|f| c.report(f))
            .collect::<Vec<_>>()
    });
    let all = reports.into_iter().map(|r| {
        let (socket, transport, connected) = s.clients.of(r.id).unwrap_or_default();
        json!({
            "function": r.id.0,
            "transport": transport,
            "socket": socket,
            "connected": connected,
            "state": r.state,
            "generation": r.generation,
            "issi": r.issi,
            "uctx": r.uctx,
            "eqs": r.eqs,
            "pages": r.pages,
            "objects": r.objects,
            "pending": r.pending,
        })
    });
    Ok(all.collect())
}

fn version(_: &Server, _: &Map<String, Value>) -> Result<Value, String> {
    Ok(json!({ "fwctl-emu": env!("CARGO_PKG_VERSION") }))
}

/// Asks the driver of `function` for `count` pages more, or fewer if it is negative.
fn page_demand(s: &Server, a: &Map<String, Value>) -> Result<Value, String> {
    let number = |name: &str| {
        a.get(name)
            .and_then(Value::as_i64)
            .ok_or_else(|| format!("{name:?} is not a number"))
    };
    let known = s.owner.with_card(|c, _| c.functions().count());
    let function = u8::try_from(number("function")?)
        .ok()
        .filter(|f| usize::from(*f) < known)
        .ok_or_else(|| format!("there is no such function; there are {known}, from 0"))?;
    let count =
        i32::try_from(number("count")?).map_err(|_| "\"count\" is out of range".to_owned())?;
    let function = FunctionId(function);
    s.owner
        .submit(Input::PageDemand { function, count }, &NoMemory);
    Ok(json!({}))
}

/// Power off and on: next-boot configuration becomes current.
fn power_cycle(s: &Server, _: &Map<String, Value>) -> Result<Value, String> {
    s.owner.submit(Input::PowerCycle, &NoMemory);
    Ok(json!({}))
}

fn quit(s: &Server, _: &Map<String, Value>) -> Result<Value, String> {
    s.quitting.store(true, Ordering::Release);
    Ok(json!({}))
}

impl Server {
    /// Serves connections until the process ends.
    pub fn serve(self, listener: &UnixListener) {
        let me = Arc::new(self);
        let open = Arc::new(AtomicUsize::new(0));
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if !same_user(&stream) {
                let _ = answer(
                    &mut stream,
                    &error("NotAllowed", "this socket belongs to another user"),
                    None,
                );
                continue;
            }
            if open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::AcqRel);
                let _ = answer(
                    &mut stream,
                    &error("TooMany", "too many connections; close one and try again"),
                    None,
                );
                continue;
            }
            let (me, open) = (me.clone(), open.clone());
            let work = move || {
                if let Err(e) = me.connection(stream) {
                    log::debug!("control connection: {e}");
                }
                open.fetch_sub(1, Ordering::AcqRel);
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

    fn connection(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let greeting =
            json!({"fwctl-emu": {"version": env!("CARGO_PKG_VERSION"), "capabilities": []}});
        writeln!(stream, "{greeting}")?;
        let mut reader = BufReader::new(stream.try_clone()?);
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
                answer(
                    &mut stream,
                    &error(
                        "GenericError",
                        &format!("the line is longer than {MAX_LINE} bytes"),
                    ),
                    None,
                )?;
                continue;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if line.last() != Some(&b'\n') {
                // Not even a request that is whole by chance: its sender was cut off.
                let desc = "the line does not end; end each request with a newline";
                return answer(&mut stream, &error("GenericError", desc), None);
            }
            let (reply, id) = self.request(&line);
            let answered = answer(&mut stream, &reply, id.as_ref());
            if self.quitting.load(Ordering::Acquire) {
                (self.quit)();
            }
            answered?;
        }
    }

    /// The answer to one line, and its id.
    fn request(&self, line: &[u8]) -> (Value, Option<Value>) {
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
        let Some((_, takes, run)) = COMMANDS.iter().find(|c| c.0 == name) else {
            let known: Vec<_> = COMMANDS.iter().map(|c| c.0).collect();
            let desc = format!(
                "there is no command {name:?}; there are: {}",
                known.join(", ")
            );
            return (error("CommandNotFound", &desc), id);
        };
        let none = Map::new();
        let arguments = match request.get("arguments") {
            None => &none,
            Some(Value::Object(a)) => a,
            Some(_) => return (error("GenericError", "\"arguments\" is not an object"), id),
        };
        if let Some(k) = arguments.keys().find(|k| !takes.contains(&k.as_str())) {
            return (
                error("GenericError", &format!("{name} has no argument {k:?}")),
                id,
            );
        }
        match run(self, arguments) {
            Ok(v) => (json!({ "return": v }), id),
            Err(e) => (error("GenericError", &e), id),
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

fn answer(stream: &mut UnixStream, reply: &Value, id: Option<&Value>) -> io::Result<()> {
    let mut reply = reply.clone();
    if let (Some(id), Value::Object(o)) = (id, &mut reply) {
        o.insert("id".into(), id.clone());
    }
    writeln!(stream, "{reply}")
}

/// True if the peer runs as this user, or as root.
fn same_user(stream: &UnixStream) -> bool {
    let mut cred = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to locals of the lengths given.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    };
    // SAFETY: geteuid has no conditions.
    got == 0 && (cred.uid == 0 || cred.uid == unsafe { libc::geteuid() })
}

/// `fwctl-emu ctl`: one command over the socket at `path`, as JSON or as text. Each argument is
/// `NAME=VALUE`, the value JSON or else a string.
///
/// # Errors
/// No such socket, no answer in time, or the error that came back.
pub fn ask(path: &Path, command: &str, arguments: &[String], json: bool) -> anyhow::Result<String> {
    let shown = path.display();
    let mut named = Map::new();
    for a in arguments {
        let (name, value) = a
            .split_once('=')
            .ok_or_else(|| anyhow!("argument {a:?} is not NAME=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        named.insert(name.to_owned(), value);
    }
    let mut stream = UnixStream::connect(path).with_context(|| {
        format!("control socket {shown}: is `fwctl-emu serve --control {shown}` running?")
    })?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(MAX_ANSWER)).lines();
    let mut receive = |what: &str| -> anyhow::Result<Value> {
        let line = lines
            .next()
            .ok_or_else(|| anyhow!("control socket {shown}: no {what}"))?;
        let value: Value = serde_json::from_str(&line?)?;
        match value.get("error") {
            Some(e) => bail!(
                "{}",
                e.get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or("unknown error")
            ),
            None => Ok(value),
        }
    };
    receive("greeting")?;
    writeln!(
        stream,
        "{}",
        json!({ "execute": command, "arguments": named })
    )?;
    let reply = receive("answer")?;
    let value = reply.get("return").cloned().unwrap_or_default();
    if json || command != "functions" {
        return Ok(format!("{value}\n"));
    }
    Ok(table(&value))
}

fn table(functions: &Value) -> String {
    let mut text = format!(
        "{:<3} {:<10} {:<9} {:<8} {:>4} {:>4} {:>6} {:>7}  {}\n",
        "F", "TRANSPORT", "CONNECTED", "STATE", "UCTX", "EQS", "PAGES", "OBJECTS", "SOCKET"
    );
    for f in functions.as_array().into_iter().flatten() {
        let s = |k: &str| {
            f.get(k)
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .unwrap_or_default()
        };
        let objects: u64 = f
            .get("objects")
            .and_then(Value::as_object)
            .map_or(0, |o| o.values().filter_map(Value::as_u64).sum());
        text += &format!(
            "{:<3} {:<10} {:<9} {:<8} {:>4} {:>4} {:>6} {objects:>7}  {}\n",
            s("function"),
            s("transport"),
            s("connected"),
            s("state"),
            s("uctx"),
            s("eqs"),
            s("pages"),
            s("socket")
        );
    }
    text
}
