// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu ctl`: one command over a control socket, its answer as JSON or as text.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value, json};

use super::ANSWER_TIMEOUT;

/// Longest conversation that `ctl` listens to in bytes.
const MAX_ANSWER: u64 = 16 << 20;

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
