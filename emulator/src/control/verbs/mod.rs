// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The commands of the control socket: one table, and a function each.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    ops::Deref,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::atomic::Ordering,
};

use fw_model::{
    Card, FunctionId, Input, NoMemory, Report, ResetKind,
    fault::{Fault, MAX_FAULTS},
    nearest,
};
use fwctl_proto::{eqe, event, opcode, segment};
use serde_json::{Map, Value, json};

mod change;
mod command;
mod complete;
mod look;
mod metrics;
mod stops;

pub use complete::script;

use super::Server;

/// Bytes of a saved card that is loaded; the whole of it is a frame of a record.
const MAX_LOAD: u64 = 128 << 20;

/// Why a command is not carried out, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its arguments are wrong, whatever the card is like.
    Argument(String),
    /// The card or the system does not let it happen now.
    State(String),
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self::State(what)
    }
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Self {
        Self::State(what.into())
    }
}

/// Says what is wrong with an argument.
fn bad(what: impl Into<String>) -> Wrong {
    Wrong::Argument(what.into())
}

/// The arguments of a request, and the file that came with it.
pub struct Arguments<'a> {
    verb: &'static Verb,
    named: &'a Map<String, Value>,
    file: Cell<Option<File>>,
}

impl<'a> Arguments<'a> {
    /// As they came.
    #[must_use]
    pub fn new(verb: &'static Verb, named: &'a Map<String, Value>, file: Option<File>) -> Self {
        let file = Cell::new(file);
        Self { verb, named, file }
    }

    /// An argument that must be there.
    fn needed(&self, name: &str) -> Result<&'a Value, Wrong> {
        self.named.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Wrong {
        let all = self.verb.arguments.iter();
        let about = all.filter(|a| a.0 == name);
        let about: Vec<_> = about.map(|a| format!("{}={}: {}", a.0, a.1, a.2)).collect();
        bad(format!("{} needs {}", self.verb.name, about.join("")))
    }
}

impl Deref for Arguments<'_> {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        self.named
    }
}

/// Carries out a command.
type Run = fn(&Server, &Arguments) -> Result<Value, Wrong>;

/// A command of the control socket.
pub struct Verb {
    /// Its name in requests.
    pub name: &'static str,
    /// What it does, for whoever reads the help.
    pub about: &'static str,
    /// Its arguments: name, what to give, and what it means.
    pub arguments: &'static [(&'static str, &'static str, &'static str)],
    /// What it answers.
    pub answer: Answer,
    pub(super) run: Run,
}

/// What is in `return`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An empty object.
    Nothing,
    /// An object with these members.
    Object(&'static [&'static str]),
    /// A list of objects with these members.
    Rows(&'static [&'static str]),
    /// A text.
    Text(&'static str),
}

use Answer::{Nothing, Object, Rows, Text};

const FUNCTION: (&str, &str, &str) = ("function", "N", "which function, from 0");

const fn verb(
    name: &'static str,
    about: &'static str,
    arguments: &'static [(&'static str, &'static str, &'static str)],
    answer: Answer,
    run: Run,
) -> Verb {
    Verb {
        name,
        about,
        arguments,
        answer,
        run,
    }
}

const MAYBE: (&str, &str, &str) = ("function", "N", "which function (default 0)");
const AT: (&str, &str, &str) = (
    "at",
    "FIELD=N …",
    "its index fields, if it has several parts",
);
const STOPPED_ID: (&str, &str, &str) = ("id", "N", "its number, as `stopped` shows it");

/// Every command, by name.
pub const VERBS: &[Verb] = &[
    verb(
        "amend",
        "Set a field of a stopped command's answer.",
        &[
            STOPPED_ID,
            (
                "field",
                "FIELD",
                "of the outbox, or of its register or item",
            ),
            (
                "value",
                "N|NAME",
                "a number, decimal or 0x…, or a value's name",
            ),
        ],
        Nothing,
        stops::amend,
    ),
    verb(
        "break",
        "Stop commands once they are executed, before they are answered.",
        &[
            ("when", "WHEN", "which commands, as for `fault`"),
            ("times", "N", "how often (default 0: for ever)"),
        ],
        Object(&["id"]),
        stops::break_at,
    ),
    verb(
        "config",
        "Show the configuration items that were set, decoded; or one, in each store.",
        &[
            (
                "item",
                "NAME",
                "this one, as nv_crypto_conf (default: those that were set)",
            ),
            MAYBE,
            AT,
        ],
        Rows(&["type", "item", "set", "current", "next"]),
        look::config,
    ),
    verb(
        "continue",
        "Answer what is stopped.",
        &[("id", "N", "only this one (default: all)")],
        Object(&["continued"]),
        stops::go_on,
    ),
    verb(
        "counters",
        "Show how many commands were answered, with which status, and how long their opcode took.",
        &[],
        Rows(&[
            "function", "command", "status", "count", "mean_us", "most_us",
        ]),
        look::counters,
    ),
    verb(
        "delay",
        "Hold back the answers to a command.",
        &[
            ("opcode", "NAME|N", "the command (see `list commands`)"),
            ("ms", "N", "for how long, in milliseconds; 0 ends it"),
        ],
        Nothing,
        delay,
    ),
    verb(
        "eqs",
        "Show a function's event queues.",
        &[MAYBE],
        Rows(&[
            "eqn", "uid", "size", "vector", "producer", "consumer", "armed", "dropped", "commands",
            "types",
        ]),
        look::eqs,
    ),
    verb(
        "event",
        "Raise an asynchronous event.",
        &[
            FUNCTION,
            ("type", "NAME|N", "event type, as PORT_CHANGE"),
            ("sub-type", "N", "its sub-type (default 0)"),
            (
                "data",
                "HEX",
                "event data of at most 28 bytes (default zeros)",
            ),
        ],
        Nothing,
        event,
    ),
    verb(
        "fault",
        "Let something go wrong (docs/faults.md).",
        &[
            ("when", "WHEN", "which commands, as 'opcode=NOP uid=0'"),
            ("then", "THEN", "what happens to them, as 'status=BAD_RES'"),
            ("times", "N", "how often (default 1); 0 is for ever"),
        ],
        Object(&["id"]),
        fault,
    ),
    verb(
        "fault-clear",
        "Let nothing go wrong any more.",
        &[("id", "N", "only this fault does not (default: none does)")],
        Object(&["cleared"]),
        fault_clear,
    ),
    verb(
        "faults",
        "Show what goes wrong, and how often it has.",
        &[],
        Rows(&[
            "id", "fault", "matched", "struck", "followed", "changed", "consumed", "left",
        ]),
        faults,
    ),
    verb(
        "firmware-reset",
        "Let the firmware reset itself: next-boot configuration becomes current.",
        &[],
        Nothing,
        firmware_reset,
    ),
    verb(
        "flight-dump",
        "Write the last things that happened to a new file, for `fwctl-emu replay`.",
        &[("path", "FILE", "must not exist yet")],
        Object(&["inputs"]),
        flight_dump,
    ),
    verb(
        "functions",
        "Show the functions and what they hold.",
        &[],
        Rows(&[
            "function",
            "transport",
            "socket",
            "connected",
            "removed",
            "state",
            "generation",
            "issi",
            "uctx",
            "eqs",
            "pages",
            "pages_damaged",
            "objects",
            "pending",
        ]),
        functions,
    ),
    verb(
        "hang",
        "Let the firmware hang: no command is executed and the health counter stands.",
        &[("on", "0|1", "hang, or run again")],
        Nothing,
        hang,
    ),
    verb(
        "health",
        "Report that something is wrong with the firmware.",
        &[
            (
                "syndrome",
                "NAME|N",
                "what, as FW_INTERNAL_ERR; 0 for nothing any more",
            ),
            ("ext", "N", "extended syndrome (default 0)"),
            ("severity", "0..7", "as in a log, 0 is worst (default 3)"),
            ("fatal", "0|1", "ask the driver for a reset"),
            ("cold", "0|1", "ask for a power cycle"),
        ],
        Nothing,
        health,
    ),
    verb(
        "link",
        "Plug or pull the cable of a function's port.",
        &[FUNCTION, ("up", "0|1", "pull or plug")],
        Nothing,
        link,
    ),
    verb(
        "load",
        "Become a saved card, with the same functions. A guest does not know of it.",
        &[("path", "FILE", "what `save` wrote")],
        Nothing,
        load,
    ),
    verb(
        "metrics",
        "Show all that can be counted, as text for Prometheus.",
        &[],
        Text("Prometheus' text format"),
        metrics::metrics,
    ),
    verb(
        "objects",
        "Show a function's objects, at most 10000.",
        &[
            MAYBE,
            ("kind", "KIND", "only these, as qp, cq, mkey"),
            ("skip", "N", "not the first N"),
        ],
        Rows(&["kind", "id", "index", "uid", "ids", "users", "bytes"]),
        look::objects,
    ),
    verb(
        "page-demand",
        "Ask the driver for more pages, or give some back.",
        &[FUNCTION, ("count", "N", "pages; negative to give back")],
        Nothing,
        page_demand,
    ),
    verb(
        "pages",
        "Show how many guest pages a function has and wants.",
        &[MAYBE],
        Object(&["held", "boot", "init", "target", "for_objects", "damaged"]),
        look::pages,
    ),
    verb(
        "power-cycle",
        "Power off and on: next-boot configuration becomes current.",
        &[],
        Nothing,
        power_cycle,
    ),
    verb("quit", "End the emulator.", &[], Nothing, quit),
    verb(
        "recent",
        "Show the last commands, the oldest first.",
        &[],
        Rows(&[
            "at", "function", "slot", "uid", "command", "op_mod", "status", "syndrome", "held_us",
        ]),
        look::recent,
    ),
    verb(
        "register",
        "Show what a register reads as, decoded.",
        &[("name", "NAME|N", "the register, as PAOS"), MAYBE, AT],
        Object(&[
            "command", "register", "item", "status", "syndrome", "out", "raw",
        ]),
        look::register,
    ),
    verb(
        "save",
        "Write the whole card to a new file, for `serve --load`.",
        &[("path", "FILE", "must not exist yet")],
        Object(&["bytes"]),
        save,
    ),
    verb(
        "set-capability",
        "Set a capability, current and maximum, until the firmware starts again.",
        &[
            FUNCTION,
            ("field", "FIELD", "as log_max_qp"),
            (
                "value",
                "N|NAME",
                "a number, decimal or 0x…, or a value's name",
            ),
            ("type", "NAME", "of which kind (default general)"),
        ],
        Nothing,
        change::capability,
    ),
    verb(
        "set-register",
        "Set a field of a register, whatever a driver may write.",
        &[
            FUNCTION,
            ("name", "NAME|N", "the register, as PAOS"),
            ("field", "FIELD", "its field"),
            (
                "value",
                "N|NAME",
                "a number, decimal or 0x…, or a value's name",
            ),
            AT,
        ],
        Nothing,
        change::register,
    ),
    verb(
        "start",
        "Let the firmware say for a while that it is starting.",
        &[("ms", "N", "for how long, in milliseconds")],
        Nothing,
        start,
    ),
    verb(
        "step",
        "Answer a stopped command, and stop the next one of its function.",
        &[STOPPED_ID],
        Nothing,
        stops::step,
    ),
    verb(
        "stopped",
        "Show the commands that are stopped, decoded.",
        &[],
        Rows(&[
            "id",
            "function",
            "slot",
            "command",
            "register",
            "item",
            "status",
            "in",
            "out",
            "waited_ms",
        ]),
        stops::stopped,
    ),
    verb(
        "surprise-removal",
        "Pull a PCI function out of its slot: reads are all ones, writes and interrupts are lost.",
        &[
            FUNCTION,
            ("on", "0|1", "pull, or put back as after power on"),
        ],
        Nothing,
        surprise_removal,
    ),
    verb(
        "temperature",
        "Set the chip's temperature.",
        &[("celsius", "0..1000", "degrees; 105 and more is a warning")],
        Nothing,
        temperature,
    ),
    verb(
        "try",
        "Show what a command would be answered; it is executed on a copy of the card.",
        &[(
            "command",
            "COMMAND",
            "as 'opcode=QUERY_CQ cqn=5': what `fault` calls when",
        )],
        Object(&[
            "command", "register", "item", "status", "syndrome", "out", "raw",
        ]),
        look::attempt,
    ),
    verb(
        "uctx",
        "Show a function's user contexts.",
        &[MAYBE],
        Rows(&["uid", "cap", "objects"]),
        look::uctx,
    ),
    verb(
        "version",
        "Show the emulator's version.",
        &[],
        Object(&["fwctl-emu"]),
        version,
    ),
];

/// The verbs and their arguments as a help text.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("What to ask:");
    for v in VERBS {
        text += &format!("\n  {:<12} {}", v.name, v.about);
        for (name, value, about) in v.arguments {
            text += &format!("\n    {:<22} {about}", format!("{name}={value}"));
        }
    }
    text + "\n\nExamples:\n  fwctl-emu ctl --control fw.ctl functions\n  \
            fwctl-emu ctl --control fw.ctl link function=0 up=0\n  \
            fwctl-emu ctl --control fw.ctl try command='opcode=QUERY_HCA_CAP op_mod=1'\n  \
            fwctl-emu ctl --control fw.ctl delay opcode=QUERY_HCA_CAP ms=500"
}

fn functions(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
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
            "removed": s.clients.slot(r.id).is_empty(),
            "state": r.state,
            "generation": r.generation,
            "issi": r.issi,
            "uctx": r.uctx,
            "eqs": r.eqs,
            "pages": r.pages,
            "pages_damaged": r.pages_damaged,
            "objects": r.objects,
            "pending": r.pending,
        })
    });
    Ok(all.collect())
}

fn version(_: &Server, _: &Arguments) -> Result<Value, Wrong> {
    Ok(json!({ "fwctl-emu": env!("CARGO_PKG_VERSION") }))
}

/// Asks the driver of `function` for `count` pages more, or fewer if it is negative.
fn page_demand(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let function = function(s, a)?;
    let count = i32::try_from(number(a, "count")?).map_err(|_| bad("\"count\" is out of range"))?;
    s.owner
        .submit(Input::PageDemand { function, count }, &NoMemory);
    Ok(json!({}))
}

/// Power off and on: next-boot configuration becomes current.
fn power_cycle(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    s.owner.submit(Input::PowerCycle, &NoMemory);
    Ok(json!({}))
}

/// Writes what the flight recorder has to a new file.
fn flight_dump(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let path = text(a, "path")?;
    let (bytes, inputs) = s.owner.dump()?;
    write(a, path, &bytes)?;
    Ok(json!({ "inputs": inputs }))
}

/// The firmware resets itself.
fn firmware_reset(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    s.owner.submit(Input::FirmwareReset, &NoMemory);
    Ok(json!({}))
}

/// Becomes a saved card.
fn load(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let path = text(a, "path")?;
    if s.stored {
        return Err(
            "a saved card has its own non-volatile state, and this one's is in the folder of --state"
                .into(),
        );
    }
    let mut saved = Vec::new();
    // A pipe that nobody writes to is opened at once, and refused.
    let open = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    };
    let file = a.file.take().map_or_else(open, Ok).and_then(regular);
    let read = file.and_then(|f| f.take(MAX_LOAD + 1).read_to_end(&mut saved));
    read.map_err(|e| refused(path, &e))?;
    if saved.len() as u64 > MAX_LOAD {
        return Err(format!("{path}: longer than {MAX_LOAD} bytes").into());
    }
    s.owner.load(saved).map_err(|e| format!("{path}: {e}"))?;
    Ok(json!({}))
}

/// Writes the whole card to a new file, which only this user can read.
fn save(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let path = text(a, "path")?;
    let bytes = s.owner.with_card(|c, _| c.save());
    let bytes = bytes.map_err(|e| format!("the card cannot be written: {e}"))?;
    write(a, path, &bytes)?;
    Ok(json!({ "bytes": bytes.len() }))
}

/// Writes the file at `path`: the client makes it where its user may; without one, the sandbox says where we
/// may. Nothing is held meanwhile that anybody else waits for.
fn write(a: &Arguments, path: &str, bytes: &[u8]) -> Result<(), String> {
    let given = a.file.take();
    let ours = given.is_none();
    let file = given.map_or_else(|| new_file(path), Ok);
    let mut file = file.and_then(regular).map_err(|e| refused(path, &e))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|e| {
        if ours {
            // Half of it is of no use, and in the way of another try.
            let _ = fs::remove_file(path);
        }
        format!("{path}: {e}")
    })
}

/// The file, if it is a regular one: of any other, its other end says how long reading and writing take.
fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// Why a file that a client named cannot be opened here.
fn refused(path: &str, e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::PermissionDenied => format!(
            "{path}: {e}; the sandbox opens files in the folders of --state, --save-dir and --dump-dir, \
             and `fwctl-emu ctl` passes those of any other"
        ),
        _ => format!("{path}: {e}"),
    }
}

/// Makes a file that is not there yet, for this user alone.
///
/// # Errors
/// What the system says.
pub fn new_file(path: impl AsRef<Path>) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn quit(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    s.quitting.store(true, Ordering::Release);
    Ok(json!({}))
}

/// Holds back the answers to `opcode` (its name or number) for `ms` milliseconds; 0 ends that.
fn delay(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let opcode = named(a, "opcode", numbers(0..=u16::MAX, opcode::name))?;
    let opcode = u16::try_from(opcode).map_err(|_| bad("\"opcode\" is above 0xffff"))?;
    let ms = u64::try_from(number(a, "ms")?).map_err(|_| bad("\"ms\" is negative"))?;
    let nanos = ms.saturating_mul(1_000_000);
    s.owner.submit(Input::Delay { opcode, nanos }, &NoMemory);
    Ok(json!({}))
}

/// An argument that must be there and be text.
fn text<'a>(a: &'a Arguments, name: &str) -> Result<&'a str, Wrong> {
    let value = a.needed(name)?.as_str();
    value.ok_or_else(|| bad(format!("{name:?} is no text")))
}

/// An argument that is text, and empty if it is not there.
fn text_if<'a>(a: &'a Arguments, name: &str) -> Result<&'a str, Wrong> {
    if a.contains_key(name) {
        text(a, name)
    } else {
        Ok("")
    }
}

/// An argument that must be there: text, or a number as text.
fn word(a: &Arguments, name: &str) -> Result<String, Wrong> {
    match a.needed(name)? {
        Value::String(t) => Ok(t.clone()),
        v @ Value::Number(_) => Ok(v.to_string()),
        _ => Err(bad(format!("{name:?} is neither a number nor a name"))),
    }
}

/// The argument `times`, if it is there.
fn times(a: &Arguments) -> Result<Option<u64>, Wrong> {
    if !a.contains_key("times") {
        return Ok(None);
    }
    let n = u64::try_from(number(a, "times")?);
    Ok(Some(n.map_err(|_| bad("\"times\" is negative"))?))
}

/// Adds a fault; its number.
fn fault(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let fault = Fault::of(text(a, "when")?, text(a, "then")?, times(a)?);
    add_fault(s, &fault.map_err(|e| bad(e.to_string()))?)
}

fn add_fault(s: &Server, fault: &Fault) -> Result<Value, Wrong> {
    let known = s.owner.with_card(|c, _| c.functions().count());
    if let Some(f) = fault.function().filter(|f| usize::from(*f) >= known) {
        return Err(format!("function={f}: {}", no_function(known)).into());
    }
    let last = |c: &Card| c.faults().last().map(|f| f.id);
    let input = Input::Fault(fault);
    let (before, after) = s
        .owner
        .submit_and_see(input, &NoMemory, last, |before, c| (before, last(c)));
    match after {
        Some(id) if before != Some(id) => Ok(json!({"id": id})),
        _ => Err(format!(
            "there are {MAX_FAULTS} faults already that may still strike; `fault-clear` makes room"
        )
        .into()),
    }
}

/// Forgets a fault, or all; how many that were.
fn fault_clear(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let id = match a.get("id") {
        None => None,
        Some(_) => {
            let id = u32::try_from(number(a, "id")?).ok();
            let known = |c: &Card, _| c.faults().iter().any(|f| Some(f.id) == id);
            if !s.owner.with_card(known) {
                return Err("there is no fault with this number; `faults` shows them".into());
            }
            id
        }
    };
    let input = Input::ClearFaults(id);
    Ok(json!({"cleared": fewer(s, input, |c| c.faults().len())}))
}

/// By how much an input makes a count smaller.
fn fewer(s: &Server, input: Input<'_>, count: fn(&Card) -> usize) -> usize {
    let after = |before: usize, c: &Card| before.saturating_sub(count(c));
    s.owner.submit_and_see(input, &NoMemory, count, after)
}

fn faults(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    let row = |f: &Fault| {
        json!({
            "id": f.id, "fault": f.text, "matched": f.matched, "struck": f.struck, "followed": f.followed,
            "changed": f.changed, "consumed": f.consumed, "left": f.left,
        })
    };
    let all = |c: &Card, _| c.faults().iter().map(row).collect();
    Ok(s.owner.with_card(all))
}

/// Raises an event: `type` by name or number, `data` in hex (28 bytes, or fewer and zeros).
fn event(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let function = function(s, a)?;
    let byte = |v: u64, what: &str| {
        u8::try_from(v).map_err(|_| bad(format!("{what:?} does not fit a byte")))
    };
    let event_type = byte(named(a, "type", numbers(0..=u8::MAX, event::name))?, "type")?;
    let sub_type = match a.get("sub-type") {
        None => 0,
        Some(_) => u8::try_from(number(a, "sub-type")?)
            .map_err(|_| bad("\"sub-type\" does not fit a byte"))?,
    };
    let mut data = [0; eqe::DATA_BYTES];
    if let Some(given) = a.get("data") {
        // A number has lost its leading zeros.
        let text = given
            .as_str()
            .ok_or_else(|| bad("\"data\" is no text of hex digits"))?;
        let bytes = hex(text).filter(|b| b.len() <= data.len()).ok_or_else(|| {
            bad(format!(
                "\"data\" is not hex of at most {} bytes",
                eqe::DATA_BYTES
            ))
        })?;
        data[..bytes.len()].copy_from_slice(&bytes);
    }
    let input = Input::Event {
        function,
        event_type,
        sub_type,
        data,
    };
    s.owner.submit(input, &NoMemory);
    Ok(json!({}))
}

/// Something is wrong with the firmware: `syndrome` by name or number, 0 for nothing any more.
/// `fatal=1` asks the driver for a reset ("rfr"), `cold=1` for a power cycle ("crr").
fn health(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let all = segment::health::SYNDROMES;
    let names = all.iter().map(|s| (s.0.into(), s.1));
    let small = |name: &str, most: i128, default: i128| {
        let value = if a.contains_key(name) {
            number(a, name)?
        } else {
            default
        };
        if (0..=most).contains(&value) {
            Ok(value)
        } else {
            Err(bad(format!("{name:?} is not in 0..={most}")))
        }
    };
    let report = Report {
        syndrome: u8::try_from(named(a, "syndrome", names).map_err(with_syndromes)?)
            .map_err(|_| bad("\"syndrome\" is above 0xff"))?,
        ext_syndrome: small("ext", 0xffff, 0)? as u16,
        severity: small("severity", 7, 3)? as u8,
        fatal: small("fatal", 1, 0)? == 1,
        cold: small("cold", 1, 0)? == 1,
        ..Report::default()
    };
    s.owner.submit(Input::Health(report), &NoMemory);
    Ok(json!({}))
}

/// An error about a syndrome, with the names that there are.
fn with_syndromes(e: Wrong) -> Wrong {
    let names: Vec<_> = segment::health::SYNDROMES.iter().map(|k| k.1).collect();
    match e {
        Wrong::Argument(e) => bad(format!("{e}; there are: 0, {}", names.join(", "))),
        e @ Wrong::State(_) => e,
    }
}

/// The firmware hangs (`on=1`): no command is executed and the health counter stands; `on=0` ends
/// that.
fn hang(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let on = switch(a, "on")?;
    s.owner.submit(Input::Hang(on), &NoMemory);
    Ok(json!({}))
}

/// Plugs the cable of a function's port (`up=1`) or pulls it (`up=0`).
fn link(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let function = function(s, a)?;
    let up = switch(a, "up")?;
    s.owner.submit(Input::Link { function, up }, &NoMemory);
    Ok(json!({}))
}

/// Pulls a function of a PCI door out of its slot (`on=1`), or puts it back (`on=0`).
fn surprise_removal(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let function = function(s, a)?;
    let on = switch(a, "on")?;
    if s.clients.of(function).is_none_or(|c| c.1 != "vfio-user") {
        return Err("only a function on vfio-user can be pulled".into());
    }
    if !s.clients.slot(function).set_empty(on) {
        let state = if on { "pulled already" } else { "in its slot" };
        return Err(format!("the function is {state}").into());
    }
    let text = match on {
        true => "the operator pulls the function out of its slot",
        false => "the operator puts the function back into its slot",
    };
    s.owner.tell(Some(function), text.into());
    // Without power it has no state left.
    let kind = ResetKind::Bus;
    s.owner.submit(Input::Reset { function, kind }, &NoMemory);
    Ok(json!({}))
}

/// The chip has this temperature in degrees Celsius.
fn temperature(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let celsius = u16::try_from(number(a, "celsius")?)
        .ok()
        .filter(|c| *c <= 1000)
        .ok_or_else(|| bad("\"celsius\" is not in 0..=1000"))?;
    let eighths = celsius * 8;
    s.owner.submit(Input::Temperature { eighths }, &NoMemory);
    Ok(json!({}))
}

/// An argument that must be 0 or 1.
fn switch(a: &Arguments, name: &str) -> Result<bool, Wrong> {
    match number(a, name)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(bad(format!("{name:?} is not 0 or 1"))),
    }
}

/// The firmware says for `ms` milliseconds that it starts, and executes nothing.
fn start(s: &Server, a: &Arguments) -> Result<Value, Wrong> {
    let ms = u64::try_from(number(a, "ms")?).map_err(|_| bad("\"ms\" is negative"))?;
    let nanos = ms.saturating_mul(1_000_000);
    s.owner.submit(Input::Start { nanos }, &NoMemory);
    Ok(json!({}))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    let digits = digits.filter(|d| d.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|p| p[0] << 4 | p[1]).collect())
}

/// A whole number: one of JSON, or as text, decimal or 0x…, behind a minus or not.
fn integer(value: &Value) -> Option<i128> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => n.to_string(),
        _ => return None,
    };
    let (sign, text) = text.strip_prefix('-').map_or((1, &*text), |t| (-1, t));
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |t| (t, 16));
    if digits.starts_with('+') {
        return None;
    }
    let n = u64::from_str_radix(digits, radix).ok()?;
    Some(sign * i128::from(n))
}

/// An argument that must be there and be a number.
fn number(a: &Arguments, name: &str) -> Result<i128, Wrong> {
    integer(a.needed(name)?).ok_or_else(|| bad(format!("{name:?} is not a number")))
}

/// An argument that is a number, decimal or 0x…, or one of `names`, which are those of numbers.
fn named(
    a: &Arguments,
    name: &str,
    names: impl Iterator<Item = (u16, &'static str)>,
) -> Result<u64, Wrong> {
    let value = a.needed(name)?;
    if let Some(number) = integer(value).and_then(|n| u64::try_from(n).ok()) {
        return Ok(number);
    }
    let Value::String(text) = value else {
        return Err(bad(format!("{name:?}: there is no {value}")));
    };
    let all: Vec<_> = names.collect();
    let known = all
        .iter()
        .find(|(_, known)| known.eq_ignore_ascii_case(text));
    known.map(|(n, _)| u64::from(*n)).ok_or_else(|| {
        let meant = nearest(text, all.iter().map(|n| n.1));
        bad(format!("{name:?}: there is no {value}{meant}"))
    })
}

/// The numbers that have a name.
fn numbers<N: Copy + Into<u16>>(
    all: impl Iterator<Item = N>,
    name: fn(N) -> Option<&'static str>,
) -> impl Iterator<Item = (u16, &'static str)> {
    all.filter_map(move |n| Some((n.into(), name(n)?)))
}

fn no_function(known: usize) -> String {
    format!("there is no such function; there are {known}, from 0")
}

/// The argument `function`: the number of a function that exists.
fn function(s: &Server, a: &Arguments) -> Result<FunctionId, Wrong> {
    let known = s.owner.with_card(|c, _| c.functions().count());
    u8::try_from(number(a, "function")?)
        .ok()
        .filter(|f| usize::from(*f) < known)
        .map(FunctionId)
        .ok_or_else(|| no_function(known).into())
}
