// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu top`: a running emulator at a glance, over its control socket.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, stdout},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Args;
use ratatui_core::{
    backend::TestBackend,
    buffer::Cell,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    terminal::{Frame, Terminal},
    text::Line,
};
use ratatui_crossterm::{
    CrosstermBackend,
    crossterm::{
        event::{self, Event, KeyCode, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use ratatui_widgets::{
    block::Block,
    borders::Borders,
    table::{Row, Table},
};
use serde_json::Value;

use crate::control;

/// Shortest time between two looks in seconds.
const MIN_INTERVAL: f64 = 0.1;
/// Longest.
const MAX_INTERVAL: f64 = 3600.0;
/// The size of what `--once` prints.
const ONCE: (u16, u16) = (110, 40);

/// What keys there are.
const KEYS: &str = "(q ends) ";

/// What `top` is told.
#[derive(Debug, Args)]
pub struct Top {
    /// The socket that `serve --control` made.
    #[arg(long, value_name = "PATH")]
    control: PathBuf,
    /// Seconds between two looks.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Print what there is after one interval, as text, and end.
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let n: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (MIN_INTERVAL..=MAX_INTERVAL).contains(&n) {
        Ok(Duration::from_secs_f64(n))
    } else {
        Err(format!("it is {MIN_INTERVAL} to {MAX_INTERVAL} seconds"))
    }
}

/// What the emulator says at one time.
#[derive(Clone, Debug)]
struct Look {
    at: Instant,
    functions: Vec<Value>,
    counters: Vec<Value>,
    recent: Vec<Value>,
    faults: Vec<Value>,
    /// Seconds that inputs took so far, and how many those were.
    spent: (f64, u64),
}

impl Look {
    fn take(path: &Path) -> anyhow::Result<Self> {
        let ask = |query: &str| -> anyhow::Result<Value> {
            let text = control::ask(path, query, Vec::new(), true)?;
            serde_json::from_str(&text).with_context(|| format!("the answer to {query}"))
        };
        let rows = |query: &str| Ok::<_, anyhow::Error>(array(ask(query)?));
        let metrics = ask("metrics")?;
        Ok(Self {
            at: Instant::now(),
            functions: rows("functions")?,
            counters: rows("counters")?,
            recent: rows("recent")?,
            faults: rows("faults")?,
            spent: spent(metrics.as_str().unwrap_or_default()),
        })
    }

    /// Answers by command and status.
    fn answers(&self) -> BTreeMap<(String, String), u64> {
        let mut all = BTreeMap::new();
        for c in &self.counters {
            let key = (text(c, "command"), text(c, "status"));
            *all.entry(key).or_default() += c["count"].as_u64().unwrap_or(0);
        }
        all
    }

    /// How long a command takes on average, in microseconds, whatever becomes of it.
    fn mean(&self, command: &str) -> String {
        let mut all = self.counters.iter();
        let row = all.find(|c| c["command"] == command);
        let mean = row.and_then(|r| r["mean_us"].as_f64()).unwrap_or(0.0);
        format!("{mean:>9.1}")
    }
}

fn array(v: Value) -> Vec<Value> {
    match v {
        Value::Array(all) => all,
        _ => Vec::new(),
    }
}

fn spent(metrics: &str) -> (f64, u64) {
    let find = |name: &str| {
        let line = metrics.lines().find_map(|l| l.strip_prefix(name));
        line.map(str::trim).unwrap_or_default()
    };
    (
        find("fwctl_emu_input_seconds_sum ").parse().unwrap_or(0.0),
        find("fwctl_emu_input_seconds_count ").parse().unwrap_or(0),
    )
}

/// A field as a reader wants to see it.
fn text(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::Null => "-".into(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn cells(row: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|k| text(row, k)).collect()
}

/// A table under a title, its first row the names of its columns.
fn table<'a>(title: String, names: &[&'a str], widths: &[u16], rows: Vec<Row<'a>>) -> Table<'a> {
    let head = Row::new(names.iter().map(|n| Line::from(*n)));
    let head = head.style(Style::new().add_modifier(Modifier::BOLD));
    let last = widths.len().saturating_sub(1);
    let widths = widths.iter().enumerate().map(|(i, w)| {
        if i == last {
            Constraint::Min(*w)
        } else {
            Constraint::Length(*w)
        }
    });
    let block = Block::new().borders(Borders::TOP).title(title);
    Table::new(rows, widths).header(head).block(block)
}

/// Red for what did not go well.
fn row_of(cells: Vec<String>, ok: bool) -> Row<'static> {
    let style = if ok {
        Style::new()
    } else {
        Style::new().fg(Color::Red)
    };
    Row::new(cells).style(style)
}

/// Rows that fit a part of `height` rows with a title and a head.
fn room(height: u16) -> usize {
    usize::from(height.saturating_sub(2))
}

/// Draws all; `hint` says behind the first title what keys there are.
fn draw(f: &mut Frame<'_>, before: &Look, now: &Look, hint: &str) {
    let lines = |n: usize| Constraint::Length(u16::try_from(n + 2).unwrap_or(u16::MAX).min(8));
    let [functions, commands, recent, faults] = Layout::vertical([
        lines(now.functions.len()),
        Constraint::Fill(2),
        Constraint::Fill(1),
        lines(now.faults.len()),
    ])
    .areas(f.area());

    let keys = [
        "function",
        "transport",
        "connected",
        "state",
        "uctx",
        "eqs",
        "pages",
        "pending",
        "socket",
    ];
    let rows = now.functions.iter();
    let rows = rows.map(|r| row_of(cells(r, &keys), r["connected"] == true));
    let names = [
        "F",
        "TRANSPORT",
        "CLIENT",
        "STATE",
        "UCTX",
        "EQS",
        "PAGES",
        "WAIT",
        "SOCKET",
    ];
    let widths = [3, 10, 6, 8, 5, 4, 7, 5, 10];
    let title = format!(" functions {hint}");
    f.render_widget(
        table(title, &names, &widths, rows.take(6).collect()),
        functions,
    );

    let seconds = (now.at - before.at).as_secs_f64().max(1e-3);
    let old = before.answers();
    let mut rates: Vec<_> = now.answers().into_iter().collect();
    let new = |key: &(String, String), n: u64| n.saturating_sub(old.get(key).copied().unwrap_or(0));
    // What happens now first, then what has happened most.
    rates.sort_by_key(|(key, n)| std::cmp::Reverse((new(key, *n), *n)));
    let rows = rates.iter().take(room(commands.height)).map(|(key, n)| {
        let rate = new(key, *n) as f64 / seconds;
        let cells = vec![
            key.0.clone(),
            key.1.clone(),
            format!("{rate:>9.1}"),
            format!("{n:>9}"),
            now.mean(&key.0),
        ];
        row_of(cells, key.1 == "OK")
    });
    let (took, inputs) = (
        now.spent.0 - before.spent.0,
        now.spent.1.saturating_sub(before.spent.1),
    );
    let mean = if inputs == 0 {
        0.0
    } else {
        took * 1e6 / inputs as f64
    };
    let title = format!(
        " commands: {:.0} inputs/s, {mean:.1} us each ",
        inputs as f64 / seconds
    );
    let names = [
        "COMMAND",
        "STATUS",
        "      PER S",
        "    IN ALL",
        "  MEAN US",
    ];
    f.render_widget(
        table(title, &names, &[34, 24, 11, 10, 9], rows.collect()),
        commands,
    );

    let keys = [
        "at", "function", "slot", "uid", "command", "op_mod", "status", "syndrome", "held_us",
    ];
    let skip = now.recent.len().saturating_sub(room(recent.height));
    let rows = now.recent.iter().skip(skip);
    let rows = rows.map(|r| row_of(cells(r, &keys), r["status"] == "OK"));
    let names = [
        "AT", "F", "SLOT", "UID", "COMMAND", "OP_MOD", "STATUS", "SYNDROME", "HELD US",
    ];
    let widths = [12, 3, 4, 5, 34, 6, 16, 10, 8];
    f.render_widget(
        table(" last commands ".into(), &names, &widths, rows.collect()),
        recent,
    );

    let rows = now.faults.iter().take(6);
    let rows = rows.map(|r| Row::new(cells(r, &["id", "struck", "left", "fault"])));
    let names = ["ID", "STRUCK", "LEFT", "FAULT"];
    let title = " faults ".to_owned();
    f.render_widget(table(title, &names, &[4, 8, 8, 10], rows.collect()), faults);
}

/// The terminal as `top` needs it, put back when it ends however it does.
struct Screen;

impl Screen {
    fn enter() -> anyhow::Result<Self> {
        enable_raw_mode()?;
        // Put back even if this fails.
        let screen = Self;
        execute!(stdout(), EnterAlternateScreen)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// True if somebody wants to end within `wait`.
fn ended(wait: Duration) -> anyhow::Result<bool> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if !event::poll(left)? {
            return Ok(false);
        }
        if let Event::Key(key) = event::read()? {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                || (control && key.code == KeyCode::Char('c'))
            {
                return Ok(true);
            }
        }
    }
}

/// `fwctl-emu top`: what `--once` prints, else nothing.
///
/// # Errors
/// No such socket, no terminal, or the emulator has ended.
pub fn top(t: &Top) -> anyhow::Result<String> {
    let mut before = Look::take(&t.control)?;
    if t.once {
        std::thread::sleep(t.interval);
        return page(&before, &Look::take(&t.control)?);
    }
    if !stdout().is_terminal() {
        bail!("standard output is no terminal; --once prints text");
    }
    let screen = Screen::enter()?;
    let mut terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
    let mut now = before.clone();
    loop {
        terminal.draw(|f| draw(f, &before, &now, KEYS))?;
        if ended(t.interval)? {
            drop(screen);
            return Ok(String::new());
        }
        before = now;
        now = Look::take(&t.control)?;
    }
}

/// What a terminal would show, as text without the rows that nothing is in.
fn page(before: &Look, now: &Look) -> anyhow::Result<String> {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(ONCE.0, ONCE.1));
    let Ok(_) = terminal.draw(|f| draw(f, before, now, ""));
    let buffer = terminal.backend().buffer();
    let mut all = String::new();
    for row in buffer.content.chunks(usize::from(ONCE.0)) {
        let line: String = row.iter().map(Cell::symbol).collect();
        let line = line.trim_end();
        if !line.is_empty() {
            all += line;
            all.push('\n');
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(nops: u64, at: Instant) -> Look {
        Look {
            at,
            functions: vec![json!({
                "function": 0, "transport": "vfio-user", "connected": true, "state": "up",
                "uctx": 2, "eqs": 7, "pages": 4096, "pending": 1, "socket": "/run/fw",
            })],
            counters: vec![
                json!({"function": 0, "command": "CREATE_EQ", "status": "OK", "count": 9, "mean_us": 7.25}),
                json!({"function": 0, "command": "NOP", "status": "OK", "count": nops}),
                json!({"function": 1, "command": "NOP", "status": "OK", "count": 1}),
                json!({"function": 0, "command": "NOP", "status": "BAD_RES", "count": 3}),
            ],
            recent: vec![json!({
                "at": "1.5", "function": 0, "slot": null, "uid": 3, "command": "NOP", "op_mod": 0,
                "status": "BAD_RES", "syndrome": "0xe00001", "held_us": 12,
            })],
            faults: vec![json!({"id": 4, "struck": 3, "left": null, "fault": "any : lost"})],
            spent: (nops as f64 * 2e-6, nops),
        }
    }

    #[test]
    fn a_page_has_rates_and_what_happened_last() {
        let at = Instant::now();
        let text = page(&look(100, at), &look(600, at + Duration::from_secs(2))).unwrap();
        let line = |start: &str| {
            let found = text.lines().find(|l| l.starts_with(start));
            let words = found.unwrap_or_else(|| panic!("no {start} in\n{text}"));
            words.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("0  "), "0 vfio-user true up 2 7 4096 1 /run/fw");
        // 500 more in two seconds, of both functions; the most frequent comes first.
        assert_eq!(line("NOP "), "NOP OK 250.0 601 0.0");
        assert_eq!(line("CREATE_EQ"), "CREATE_EQ OK 0.0 9 7.2");
        assert_eq!(line("1.5"), "1.5 0 - 3 NOP 0 BAD_RES 0xe00001 12");
        assert_eq!(line("4  "), "4 3 - any : lost");
        assert!(text.lines().all(|l| !l.is_empty()), "{text}");
        assert!(!text.contains("q ends"), "{text}");
        assert!(
            text.contains(" commands: 250 inputs/s, 2.0 us each "),
            "{text}"
        );
    }

    #[test]
    fn a_small_terminal_and_empty_answers_are_no_trouble() {
        let at = Instant::now();
        let empty = Look {
            functions: Vec::new(),
            counters: Vec::new(),
            recent: Vec::new(),
            faults: Vec::new(),
            spent: (0.0, 0),
            at,
        };
        for (w, h) in [(1, 1), (20, 4), (300, 100)] {
            let Ok(mut t) = Terminal::new(TestBackend::new(w, h));
            let Ok(_) = t.draw(|f| draw(f, &empty, &empty, KEYS));
            let Ok(_) = t.draw(|f| draw(f, &look(1, at), &look(2, at), KEYS));
        }
    }

    #[test]
    fn what_inputs_took_is_found_in_the_metrics() {
        let text = "fwctl_emu_input_seconds_sum 1.5\nfwctl_emu_input_seconds_count 30\n";
        assert_eq!((spent(text), spent("")), ((1.5, 30), (0.0, 0)));
    }

    #[test]
    fn an_interval_is_one_that_can_be_waited_for() {
        assert_eq!(seconds("3600"), Ok(Duration::from_secs(3600)));
        for bad in ["3600.1", "0", "-1", "inf", "NaN", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
