// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu ctl`: one command over a control socket, its answer as JSON or as text.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Map, Value, json};

use super::{ANSWER_TIMEOUT, BAD_ARGUMENT, NO_COMMAND, verbs::new_file};
use crate::usage::Usage;

/// The commands whose file is made here, and the one whose file is opened here.
const MAKES: [&str; 2] = ["save", "flight-dump"];
const READS: &str = "load";

/// Longest conversation that `ctl` listens to in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// An argument `NAME=VALUE`, its value a string.
pub type Argument = (String, Value);

/// Takes `NAME=VALUE` apart. The value stays as it stands, as digits may be text (hex data, a file's name): what is
/// a number is for the verb to say. A string of JSON, in quotes, is what it means.
///
/// # Errors
/// There is no `=`.
pub fn argument(text: &str) -> Result<Argument, String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    let value = serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned());
    Ok((name.to_owned(), value.into()))
}

/// `fwctl-emu ctl`: one command over the socket at `path`, as JSON or as text.
///
/// # Errors
/// No such socket, no answer in time, or the error that came back.
pub fn ask(
    path: &Path,
    command: &str,
    arguments: Vec<Argument>,
    json: bool,
) -> anyhow::Result<String> {
    ask_within(ANSWER_TIMEOUT, path, command, arguments, json)
}

fn ask_within(
    limit: Duration,
    path: &Path,
    command: &str,
    arguments: Vec<Argument>,
    json: bool,
) -> anyhow::Result<String> {
    let shown = path.display();
    let named = once(arguments)?;
    let mut stream = UnixStream::connect(path).with_context(|| {
        format!("control socket {shown}: is `fwctl-emu serve --control {shown}` running?")
    })?;
    stream.set_read_timeout(Some(limit))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(MAX_ANSWER)).lines();
    let mut receive = |what: &str| -> anyhow::Result<Value> {
        let value = loop {
            let line = lines
                .next()
                .ok_or_else(|| anyhow!("control socket {shown}: no {what}"))?;
            let line = line.map_err(|e| match e.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    let seconds = limit.as_secs_f64();
                    anyhow!("no answer within {seconds} s: control socket {shown}")
                }
                _ => anyhow!(e).context(format!("control socket {shown}")),
            })?;
            let value: Value = serde_json::from_str(&line)?;
            if value.get("event").is_none() {
                break value;
            }
        };
        match value.get("error") {
            Some(e) => Err(told(e)),
            None => Ok(value),
        }
    };
    receive("greeting")?;
    let request = format!("{}\n", json!({ "execute": command, "arguments": named }));
    let path = named.get("path").and_then(Value::as_str);
    // Our user's file: the emulator's sandbox has no say in where it is.
    let reply = match path {
        Some(path) if command == READS => {
            let file = File::open(path).with_context(|| path.to_owned())?;
            send_with_file(&stream, request.as_bytes(), &file)?;
            receive("answer")?
        }
        Some(path) if MAKES.contains(&command) => {
            let file = new_file(path).with_context(|| path.to_owned())?;
            let sent = send_with_file(&stream, request.as_bytes(), &file);
            let reply = sent.map_err(Into::into).and_then(|()| receive("answer"));
            if reply.is_err() {
                // Nothing, or half of what it should hold.
                let _ = fs::remove_file(path);
            }
            reply?
        }
        _ => {
            stream.write_all(request.as_bytes())?;
            receive("answer")?
        }
    };
    let value = reply.get("return").cloned().unwrap_or_default();
    Ok(match &value {
        _ if json => format!("{value}\n"),
        Value::Array(_) => table(&value),
        // Actions say nothing when they are done.
        Value::Object(fields) => object(fields),
        other => format!("{}\n", text(other)),
    })
}

/// The arguments by name.
fn once(arguments: Vec<Argument>) -> anyhow::Result<Map<String, Value>> {
    let mut named = Map::new();
    for (name, value) in arguments {
        if named.insert(name.clone(), value).is_some() {
            bail!(Usage(format!("{name}= is given twice")));
        }
    }
    Ok(named)
}

/// An error that came back: the caller's own, or one of the device's state.
fn told(e: &Value) -> anyhow::Error {
    let part = |name: &str| e.get(name).and_then(Value::as_str);
    let desc = part("desc").unwrap_or("unknown error").to_owned();
    match part("class") {
        Some(NO_COMMAND | BAD_ARGUMENT) => Usage(desc).into(),
        _ => anyhow!(desc),
    }
}

/// Sends a file with the first bytes of a request.
fn send_with_file(stream: &UnixStream, request: &[u8], file: &File) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [file.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let flags = SendFlags::NOSIGNAL;
    let sent = sendmsg(stream, &[IoSlice::new(request)], &mut control, flags)?;
    let mut stream = stream;
    stream.write_all(request.get(sent..).unwrap_or_default())
}

/// A value for a human reader: strings without quotes.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Columns that come first, in this order: which one a row is about. The others follow by name.
const FIRST: &[&str] = &[
    "store", "id", "at", "function", "slot", "uid", "eqn", "kind", "command", "register", "item",
    "fault", "status",
];

/// Where a column or line stands.
fn place(key: &str) -> usize {
    FIRST.iter().position(|f| *f == key).unwrap_or(FIRST.len())
}

/// A line for each member; what is in a list stands below them, as in a [`table`].
fn object(fields: &Map<String, Value>) -> String {
    let list = |v: &Value| v.as_array().is_some_and(|l| !l.is_empty());
    let decoded = fields.values().any(list);
    // Bytes are for what no field tells.
    let hidden = |k: &str, v: &Value| v.is_null() || v.is_array() || decoded && k == "raw";
    let mut lines: Vec<_> = fields.iter().filter(|(k, v)| !hidden(k, v)).collect();
    lines.sort_by_key(|(k, _)| place(k));
    let lines = lines.iter().map(|(k, v)| format!("{k}: {}\n", text(v)));
    lines.chain([lists(fields, IN_REGISTER)]).collect()
}

/// What the path of a register's field begins with; `set-register` and faults take it without.
const IN_REGISTER: &str = "register_data[0].";

/// A line for each element of a list, without what it begins with.
fn lists(fields: &Map<String, Value>, without: &str) -> String {
    let mut all = String::new();
    for (key, list) in fields {
        for item in list.as_array().into_iter().flatten() {
            let item = text(item);
            let item = item.strip_prefix(without).unwrap_or(&item);
            all += &format!("    {key}: {item}\n");
        }
    }
    all
}

/// Rows with a column for each key of the first row; `functions` has its own. What is a list in a row stands
/// below it.
fn table(rows: &Value) -> String {
    let rows: Vec<_> = rows.as_array().into_iter().flatten().collect();
    let Some(first) = rows.first().and_then(|r| r.as_object()) else {
        return "none\n".to_owned();
    };
    if first.contains_key("transport") {
        return functions(&rows);
    }
    let columns = first.iter().filter(|(_, v)| !v.is_array());
    let mut keys: Vec<_> = columns.map(|(k, _)| k).collect();
    keys.sort_by_key(|k| place(k));
    let cell = |row: &Value, key: &str| match row.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(v) => text(v),
    };
    let width = |key: &String| {
        let cells = rows.iter().map(|r| cell(r, key).chars().count());
        cells.chain([key.len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = keys.iter().map(|k| width(k)).collect();
    let line = |cells: Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}"));
        let padded: Vec<_> = padded.collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut all = line(keys.iter().map(|k| k.to_uppercase()).collect());
    for row in rows {
        all += &line(keys.iter().map(|k| cell(row, k)).collect());
        all += &row.as_object().map_or_else(String::new, |r| lists(r, ""));
    }
    all
}

fn functions(rows: &[&Value]) -> String {
    let mut all = format!(
        "{:<3} {:<10} {:<9} {:<8} {:>4} {:>4} {:>6} {:>7}  {}\n",
        "F", "TRANSPORT", "CONNECTED", "STATE", "UCTX", "EQS", "PAGES", "OBJECTS", "SOCKET"
    );
    for f in rows {
        let s = |k: &str| f.get(k).map(text).unwrap_or_default();
        let objects: u64 = f
            .get("objects")
            .and_then(Value::as_object)
            .map_or(0, |o| o.values().filter_map(Value::as_u64).sum());
        all += &format!(
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
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_begins_with_what_its_rows_are_about() {
        let rows = json!([
            {"waited_ms": 9, "command": "NOP", "id": 7, "function": 0, "slot": null, "out": ["a=0x0", "b=0x1"]},
            {"waited_ms": 10, "command": "ALLOC_PD", "id": 12, "function": 0, "slot": 3, "out": []},
        ]);
        assert_eq!(
            table(&rows),
            "ID  FUNCTION  SLOT  COMMAND   WAITED_MS\n\
             7   0         -     NOP       9\n    out: a=0x0\n    out: b=0x1\n\
             12  0         3     ALLOC_PD  10\n"
        );
        assert_eq!(table(&json!([])), "none\n");
    }

    #[test]
    fn an_object_has_a_line_for_each_field() {
        let shown = |v: Value| v.as_object().map(object).unwrap_or_default();
        let mut paos = json!({
            "command": "ACCESS_REG", "register": "PAOS", "item": null, "status": "OK", "raw": "0102",
            "out": ["register_data[0].swid=0x0", "register_data[0].admin_status=up", "argument=0x0"],
        });
        let head = "command: ACCESS_REG\nregister: PAOS\nstatus: OK\n";
        let fields = "    out: swid=0x0\n    out: admin_status=up\n    out: argument=0x0\n";
        assert_eq!(shown(paos.clone()), format!("{head}{fields}"));
        // What no field tells is there as bytes.
        paos["out"] = json!([]);
        assert_eq!(shown(paos), format!("{head}raw: 0102\n"));
        assert_eq!(shown(json!({"init": 1, "boot": 2})), "boot: 2\ninit: 1\n");
    }

    #[test]
    fn an_emulator_that_does_not_answer_is_said_by_its_socket() {
        let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = dir.as_path().join("ctl");
        // It takes connections, and that is all.
        let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let wrong = ask_within(Duration::from_millis(50), &path, "version", vec![], false);
        let shown = path.display();
        assert_eq!(
            format!("{:#}", wrong.unwrap_err()),
            format!("no answer within 0.05 s: control socket {shown}")
        );
    }
}
