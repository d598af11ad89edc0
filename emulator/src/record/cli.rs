// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu replay`.

use std::{
    fmt::Write as _,
    fs::File,
    io::{IsTerminal as _, Read as _, Write},
    panic::{self, PanicHookInfo},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use fw_model::{
    Overlay, Profile,
    record::{
        self, Broken, Frame, Happened, Record, Step,
        minimize::{self, Failure},
        replay::Difference,
    },
    save::LoadError,
};

use fwctl_proto::layout::get_bits;

use super::{MAX_FILE, sides::sides};
use crate::{
    decode::Which,
    files::{self, Output},
    observe::{self, MAX_FIELDS, Seen},
    serve,
    trace::words,
};

/// What to run again.
#[derive(Debug, Args)]
pub struct Replay {
    /// The file that `serve --record` wrote.
    file: PathBuf,
    /// The profile, if its file is not where it was.
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// The overlay, if its file is not where it was.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// Write the shortest record that fails the same way.
    #[arg(long, value_name = "FILE")]
    minimize: Option<PathBuf>,
}

/// Runs the record, and says how it went. False if something is not as recorded, or panicked.
///
/// # Errors
/// The file is no record of this version, or cannot be read; the profile is another.
pub fn run(o: &Replay, to: &mut dyn Write) -> anyhow::Result<bool> {
    let name = o.file.display();
    if let Some(short) = &o.minimize {
        files::apart(&[("--minimize", short)], &[("the record", &o.file)])?;
    }
    let bytes = read(&o.file).with_context(|| format!("record {name}"))?;
    let mut record = Record::open(&bytes).with_context(|| format!("record {name}"))?;
    let head = record.head.clone();
    let mut profile = match &o.profile {
        Some(given) => serve::profile(given)?,
        // What the record says is not on the command line.
        None => serve::profile(&head.profile).map_err(|e| anyhow!("record {name}: {e:#}"))?,
    };
    let overlay = match (&o.overlay, &head.overlay) {
        (Some(file), _) => Some(serve::overlay(file)?),
        (None, Some(file)) => Some(serve::overlay(Path::new(file))?),
        (None, None) => None,
    };
    if let Some(overlay) = &overlay {
        profile = profile.with_overlay(overlay.clone());
    }
    let mut frames = Vec::new();
    for frame in record.by_ref() {
        match frame {
            Ok(f) => frames.push(f),
            // What is before the cut is whole.
            Err(e @ Broken::Cut(_)) => eprintln!("fwctl-emu: record {name}: {e}"),
            Err(e) => bail!("record {name}: {e}"),
        }
    }
    let failure = hooked(one_line, || minimize::failure(&profile, &head, &frames));
    let failure = failure.with_context(|| format!("record {name}"))?;
    let Some(failure) = failure else {
        writeln!(to, "{} frames: all as recorded", frames.len())?;
        if o.minimize.is_some() {
            bail!("record {name}: nothing to minimize, as nothing fails");
        }
        return Ok(true);
    };
    write!(to, "{}", told(&frames, &failure, overlay.as_deref()))?;
    if let Some(short) = &o.minimize {
        let kept = shrink(&profile, &head, &frames, &failure, short)?;
        writeln!(
            to,
            "{}: {kept} of {} frames",
            short.display(),
            failure.frame + 1
        )?;
    }
    Ok(false)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(file)?;
    // Looked at first: what is too long must not be read into memory to find that out.
    let len = file.metadata()?.len();
    if len <= MAX_FILE {
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    }
    if len.max(bytes.len() as u64) > MAX_FILE {
        bail!("longer than {MAX_FILE} bytes");
    }
    Ok(bytes)
}

/// Does something whose panics are caught, and told by `tell`.
fn hooked<T>(tell: fn(&PanicHookInfo<'_>), what: impl FnOnce() -> T) -> T {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(tell));
    let done = what();
    panic::set_hook(hook);
    done
}

/// A panic in one line: where, and what it says.
fn one_line(info: &PanicHookInfo<'_>) {
    let place = info
        .location()
        .map_or_else(String::new, |l| format!(" at {l}"));
    let said = info.payload_as_str().unwrap_or_default().replace('\n', " ");
    eprintln!("fwctl-emu: panicked{place}: {said}");
}

fn shrink(
    profile: &Arc<Profile>,
    head: &record::Head,
    frames: &[Frame<'_>],
    failure: &Failure,
    to: &Path,
) -> anyhow::Result<usize> {
    let live = std::io::stderr().is_terminal();
    let progress = |left: usize| {
        if live {
            eprint!("\r{left} frames left \x1b[K");
        }
    };
    // A panic is what is looked for, again and again; where it is was said at the first.
    let (short, kept) = hooked(
        |_| {},
        || {
            let kept = minimize::minimize(profile, head, frames, failure, progress)?;
            let short = minimize::shortened(profile, head, frames, &kept)?;
            Ok::<_, LoadError>((short, kept))
        },
    )?;
    if live {
        eprintln!();
    }
    let mut out = Output::begin("--minimize", to)?;
    let mut write = |bytes: &[u8]| {
        let written = out.file().write_all(bytes);
        written.with_context(|| to.display().to_string())
    };
    write(&record::head(head)?)?;
    for frame in short {
        write(&record::framed(&frame)?)?;
    }
    out.end()?;
    Ok(kept.len())
}

/// What a frame is, in a line.
fn step(frame: &Frame<'_>) -> String {
    let at = Duration::from_nanos(frame.at.0).as_secs_f64();
    match &frame.step {
        Step::Add(events) => format!("{at:.6} a function is added ({})", events.name()),
        Step::Poll => format!("{at:.6} a deadline"),
        Step::Load(saved) => format!("{at:.6} a saved card of {} bytes is loaded", saved.len()),
        Step::Fault(f) => format!("{at:.6} fault: {}", f.text),
        Step::Input(input) => format!("{at:.6} {}", words(input)),
    }
}

/// The failure, with both sides.
fn told(frames: &[Frame<'_>], f: &Failure, overlay: Option<&Overlay>) -> String {
    // A panic that is in the record is no difference, and fails all the same.
    let same = f.done.panicked && f.difference == Difference::Panic { recorded: true };
    let how = if same {
        "fails, as recorded"
    } else {
        "is not as recorded"
    };
    let mut text = format!("frame {} of {} {how}\n", f.frame + 1, frames.len());
    if let Some(frame) = frames.get(f.frame) {
        let _ = writeln!(text, "  {}", step(frame));
    }
    let _ = match &f.difference {
        Difference::Read(addr, len) => {
            writeln!(
                text,
                "  it reads {len} bytes at {addr:#x} of guest memory: it had not"
            )
        }
        Difference::Unread(n) => {
            writeln!(
                text,
                "  it leaves {n} reads of guest memory that it had done"
            )
        }
        Difference::Panic { .. } if same => {
            writeln!(text, "  the firmware model panics, as it had")
        }
        Difference::Panic { recorded: true } => {
            writeln!(text, "  the firmware model had panicked, and does not now")
        }
        Difference::Panic { recorded: false } => {
            writeln!(text, "  the firmware model panics: it had not")
        }
        Difference::Effect {
            number,
            recorded,
            now,
        } => {
            let (a, b) = sides(recorded.as_deref(), now.as_deref());
            writeln!(
                text,
                "  effect {}\n  - recorded: {a}\n  + now:      {b}",
                number + 1
            )
        }
    };
    if let Some(inbox) = f.done.taken.last() {
        let _ = writeln!(text, "  in the command: {}", panicked(inbox, overlay));
    }
    for (inbox, outbox) in &f.done.commands {
        let _ = write!(text, "{}", command(inbox, outbox, &f.difference, overlay));
    }
    text
}

/// A command that the model panicked in: what it asked for.
fn panicked(inbox: &[u8], overlay: Option<&Overlay>) -> String {
    let n = observe::named(&Seen::lone(inbox, &[]), overlay, Which::Set);
    let names = [Some(n.command), n.register, n.item.map(str::to_owned)];
    let names: Vec<_> = names.into_iter().flatten().collect();
    let (op_mod, uid) = (get_bits(inbox, 48, 16), get_bits(inbox, 16, 16));
    let fields = n.input.join(" ");
    format!(
        "{} op_mod={op_mod:#x} uid={uid} | in: {fields}",
        names.join(" ")
    )
}

/// The commands of the frame by their fields: as they are now, and as the record has them.
fn command(inbox: &[u8], outbox: &[u8], d: &Difference, overlay: Option<&Overlay>) -> String {
    let line = |outbox: &[u8]| observe::line(&Seen::lone(inbox, outbox), overlay, MAX_FIELDS);
    let then = match d {
        Difference::Effect { recorded, now, .. } => {
            was(outbox, recorded.as_deref(), now.as_deref())
        }
        _ => None,
    };
    match then {
        Some(then) if then != outbox => {
            format!(
                "  - recorded: {}\n  + now:      {}\n",
                line(&then),
                line(outbox)
            )
        }
        _ => format!("  command: {}\n", line(outbox)),
    }
}

/// The outbox that the record has, as far as the effect that differs tells.
fn was(outbox: &[u8], recorded: Option<&Happened>, now: Option<&Happened>) -> Option<Vec<u8>> {
    match (recorded?, now?) {
        (Happened::Reply { outbox: then, .. }, Happened::Reply { .. }) => Some(then.clone()),
        (
            Happened::Write {
                data: a, addr: x, ..
            },
            Happened::Write {
                data: b, addr: y, ..
            },
        ) if x == y && a.len() == b.len() && !b.is_empty() => {
            // A part of the outbox: the 16 bytes of the entry, or a block of the mailbox.
            let part = b.len().min(outbox.len());
            let at = outbox.windows(part).position(|w| w == &b[..part])?;
            let mut then = outbox.to_vec();
            then[at..at + part].copy_from_slice(&a[..part]);
            Some(then)
        }
        _ => None,
    }
}
