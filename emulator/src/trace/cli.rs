// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu trace …`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use fw_model::Overlay;

use super::{
    Entry, Filter, Reader,
    diff::{self, Lines},
    dump, lua, pcapng, perfetto,
    show::{self, Format},
    summary::Summary,
};
use crate::{
    files::{self, Output},
    observe::{ALL_FIELDS, MAX_FIELDS},
    serve::overlay,
    usage::Usage,
};

/// What can be done with a trace.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show its entries.
    #[command(after_help = "Examples:\n  \
        fwctl-emu trace show fw.trace\n  \
        fwctl-emu trace show fw.trace --status '!=ok'\n  \
        fwctl-emu trace show fw.trace --opcode QUERY_HCA_CAP --full\n  \
        fwctl-emu trace show fw.trace --register MNVDA --raw\n  \
        fwctl-emu trace show fw.trace --field in.op_mod=1 --field out.syndrome!=0\n  \
        fwctl-emu trace show fw.trace --kind event --kind note --format json")]
    Show {
        /// How.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// All fields, however many, also those that are zero.
        #[arg(long)]
        full: bool,
        /// Both messages of a command as hex too.
        #[arg(long)]
        raw: bool,
        /// Which trace, and what of it.
        #[command(flatten)]
        what: What,
    },
    /// Count its commands: how often, how they ended, how long they took, and how long this process
    /// took for them.
    Summary {
        /// As a JSON array.
        #[arg(long)]
        json: bool,
        /// Which trace, and what of it.
        #[command(flatten)]
        what: What,
    },
    /// Compare two traces, without times and ids. Exit code 1 if they differ.
    Diff {
        /// One trace.
        a: PathBuf,
        /// Another.
        b: PathBuf,
        /// The overlay that both were made with.
        #[arg(long, value_name = "FILE")]
        overlay: Option<PathBuf>,
        /// Which entries.
        #[command(flatten)]
        filter: Filter,
    },
    /// Write it for another program.
    #[command(group(clap::ArgGroup::new("how").required(true).multiple(true)))]
    Export {
        /// For ui.perfetto.dev and chrome://tracing.
        #[arg(long, value_name = "FILE", group = "how")]
        perfetto: Option<PathBuf>,
        /// For Wireshark and tshark, with the dissector of `trace dissector`.
        #[arg(long, value_name = "FILE", group = "how")]
        pcapng: Option<PathBuf>,
        /// Which trace, and what of it.
        #[command(flatten)]
        what: What,
    },
    /// Print the dissector that shows an exported trace in Wireshark, by field.
    #[command(after_help = "Examples:\n  \
        fwctl-emu trace dissector > fwctl.lua\n  \
        fwctl-emu trace export --pcapng fw.pcapng fw.trace\n  \
        tshark -X lua_script:fwctl.lua -r fw.pcapng -Y 'fwctl.set_issi_in.current_issi == 1' -V")]
    Dissector {
        /// The overlay that the trace was made with.
        #[arg(long, value_name = "FILE")]
        overlay: Option<PathBuf>,
    },
}

/// A trace, and what of it.
#[derive(Debug, Args)]
pub struct What {
    /// The file that `serve --trace` wrote.
    file: PathBuf,
    /// The overlay that it was made with: what that adds is decoded as well.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

/// A trace that cannot be read. It has the words of its cause in it: that is not told again.
fn broken(file: &Path, e: &super::Broken) -> anyhow::Error {
    anyhow!("trace {}: {e}", file.display())
}

/// Opens a trace of which something is wanted.
fn entries(file: &Path, filter: &Filter, overlay: Option<&Overlay>) -> anyhow::Result<Reader> {
    filter.check(overlay).map_err(Usage::of)?;
    Reader::open(file).map_err(|e| broken(file, &e))
}

/// Goes through the entries that are wanted. A trace that ends too early is told, and is no failure.
fn each(
    file: &Path,
    filter: &Filter,
    overlay: Option<&Overlay>,
    mut f: impl FnMut(&Entry<'_>) -> io::Result<()>,
) -> anyhow::Result<()> {
    let name = file.display();
    for entry in entries(file, filter, overlay)? {
        match entry {
            Ok(e) if filter.matches(&e, overlay) => f(&e)?,
            Ok(_) => {}
            Err(e @ super::Broken::Cut(_)) => eprintln!("fwctl-emu: trace {name}: {e}"),
            Err(e) => return Err(broken(file, &e)),
        }
    }
    Ok(())
}

fn given(file: Option<&PathBuf>) -> anyhow::Result<Option<Arc<Overlay>>> {
    file.map(|f| overlay(f)).transpose()
}

/// Does it, and writes to `to`. False if two traces differ.
///
/// # Errors
/// What failed, with the file's name.
pub fn run(command: &Command, to: &mut dyn Write) -> anyhow::Result<bool> {
    match command {
        Command::Show {
            format,
            full,
            raw,
            what,
        } => {
            let overlay = given(what.overlay.as_ref())?;
            let fields = if *full { ALL_FIELDS } else { MAX_FIELDS };
            each(&what.file, &what.filter, overlay.as_deref(), |e| {
                let text = one(e, *format, overlay.as_deref(), fields, *raw);
                to.write_all(text.as_bytes())
            })?;
        }
        Command::Summary { json, what } => {
            let overlay = given(what.overlay.as_ref())?;
            let mut summary = Summary::default();
            let mut lost = 0u64;
            each(&what.file, &what.filter, overlay.as_deref(), |e| {
                match e {
                    Entry::Command(c) => summary.add(c, overlay.as_deref()),
                    Entry::Unanswered(u) => summary.add_unanswered(u, overlay.as_deref()),
                    Entry::Lost { count } => lost = lost.saturating_add(*count),
                    _ => {}
                }
                Ok(())
            })?;
            if lost > 0 {
                eprintln!("fwctl-emu: {lost} entries are missing in this trace");
            }
            if *json {
                writeln!(to, "{}", summary.json())?;
            } else {
                write!(to, "{}", summary.text())?;
            }
        }
        Command::Diff {
            a,
            b,
            overlay,
            filter,
        } => {
            let overlay = given(overlay.as_ref())?;
            let lines = |file: &Path| -> anyhow::Result<Lines> {
                let mut lines = Lines::default();
                each(file, filter, overlay.as_deref(), |e| {
                    lines.add(e, overlay.as_deref());
                    Ok(())
                })?;
                Ok(lines)
            };
            let names = (a.display().to_string(), b.display().to_string());
            let text = diff::unified(&lines(a)?, &lines(b)?, (&names.0, &names.1));
            to.write_all(text.as_bytes())?;
            return Ok(text.is_empty());
        }
        Command::Export {
            perfetto,
            pcapng,
            what,
        } => {
            let overlay = given(what.overlay.as_ref())?;
            export(
                perfetto.as_deref(),
                pcapng.as_deref(),
                what,
                overlay.as_deref(),
            )?;
        }
        Command::Dissector { overlay } => {
            let overlay = given(overlay.as_ref())?;
            to.write_all(lua::dissector(overlay.as_deref()).as_bytes())?;
        }
    }
    Ok(true)
}

/// Writes a trace for other programs. Nothing is touched before all is known to be right, and no file takes its
/// place before it is whole.
fn export(
    perfetto: Option<&Path>,
    pcapng: Option<&Path>,
    what: &What,
    overlay: Option<&Overlay>,
) -> anyhow::Result<()> {
    let outputs = [("--perfetto", perfetto), ("--pcapng", pcapng)];
    let outputs = outputs.into_iter().filter_map(|(o, p)| Some((o, p?)));
    let overlay_file = what.overlay.as_deref().map(|p| ("--overlay", p));
    let inputs: Vec<_> = [("the trace", what.file.as_path())]
        .into_iter()
        .chain(overlay_file)
        .collect();
    files::apart(&outputs.collect::<Vec<_>>(), &inputs)?;
    entries(&what.file, &what.filter, overlay)?;
    let begin = |option, file: Option<&Path>| file.map(|f| Output::begin(option, f)).transpose();
    let mut perfetto = begin("--perfetto", perfetto)?;
    let mut pcapng = begin("--pcapng", pcapng)?;
    if let Some(to) = &mut perfetto {
        let done = export_perfetto(what, overlay, to.file());
        named(done, to)?;
    }
    if let Some(to) = &mut pcapng {
        let done = export_pcapng(what, overlay, to.file());
        named(done, to)?;
    }
    [perfetto, pcapng]
        .into_iter()
        .flatten()
        .try_for_each(Output::end)
}

/// Says which file could not be written, if that is what failed.
fn named(done: anyhow::Result<()>, to: &Output) -> anyhow::Result<()> {
    done.map_err(|e| match e.is::<io::Error>() {
        true => e.context(to.name().to_owned()),
        false => e,
    })
}

fn export_perfetto(
    what: &What,
    overlay: Option<&Overlay>,
    file: &mut BufWriter<File>,
) -> anyhow::Result<()> {
    let mut before = "{\"traceEvents\":[\n";
    each(&what.file, &what.filter, overlay, |e| {
        if let Some(event) = perfetto::event(e, overlay) {
            write!(file, "{before}{event}")?;
            before = ",\n";
        }
        Ok(())
    })?;
    if before.starts_with('{') {
        write!(file, "{before}")?;
    }
    Ok(file.write_all(b"\n]}\n")?)
}

fn export_pcapng(
    what: &What,
    overlay: Option<&Overlay>,
    file: &mut BufWriter<File>,
) -> anyhow::Result<()> {
    pcapng::begin(file)?;
    // What has no time of its own has that of what was before it.
    let mut last = 0;
    each(&what.file, &what.filter, overlay, |e| {
        last = e.at().unwrap_or(last);
        pcapng::entry(file, last, e)
    })
}

fn one(
    e: &Entry<'_>,
    format: Format,
    overlay: Option<&Overlay>,
    fields: usize,
    raw: bool,
) -> String {
    match (format, e) {
        (Format::Json, _) => format!("{}\n", show::json(e, overlay, fields, raw)),
        (Format::Mlx5, Entry::Command(c)) => dump::mlx5(c),
        (Format::Mlx5, _) => String::new(),
        (Format::Text, Entry::Command(c)) if raw => format!(
            "{}\n{}{}",
            show::text(e, overlay, fields),
            dump::lines(&c.inbox, "    in  "),
            dump::lines(&c.outbox, "    out ")
        ),
        (Format::Text, Entry::Unanswered(u)) if raw => format!(
            "{}\n{}",
            show::text(e, overlay, fields),
            dump::lines(&u.inbox, "    in  ")
        ),
        (Format::Text, _) => format!("{}\n", show::text(e, overlay, fields)),
    }
}
