// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests over vhost-user, the emulator and the backend that does nothing in turns.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use host_driver::vhost_session::{Options, Session};

use crate::{
    commands::{self, MEASURED},
    cpus::{Cpus, Peer, Placement},
    floors,
    load::{self, Request},
    nothing,
    process::{Emulator, Memory},
    report::Line,
    stats::Samples,
};

/// In flight at once.
pub const DEPTHS: [u16; 3] = [1, 32, 256];

/// Entries of the queues: two descriptors for each request of the greatest depth.
const QUEUE_SIZE: u16 = 512;

/// The two backends take turns this often, so that both see the same moods of the machine.
const TURNS: usize = 50;

/// How long the do-nothing backend may take to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// Measures both backends in one placement and gives the lines of the table.
///
/// # Errors
/// One of them failed.
pub fn measure(
    cpus: &Cpus,
    placement: Placement,
    emulator: &Emulator<'_>,
    folder: &Path,
    count: usize,
) -> anyhow::Result<(Vec<Line>, Memory)> {
    // A name per placement: a killed process leaves its socket behind.
    let path = |who: &str| folder.join(format!("{who}-{}.sock", placement as u8));
    let (nothing_path, emulator_path) = (path("nothing"), path("emulator"));
    let _nothing = start_nothing(cpus, placement, &nothing_path)?;
    let running = emulator.start(cpus, placement, &[("--vhost-user", &emulator_path)])?;
    let options = |config_size| Options {
        queue_size: QUEUE_SIZE,
        config_size,
        ..Options::default()
    };
    let mut nothing = Session::connect(&nothing_path, options(0)).context("do-nothing backend")?;
    let mut emulated = Session::connect(&emulator_path, options(32)).context("emulator")?;
    enable(&mut emulated)?;
    let mut lines = Vec::new();
    for command in &MEASURED {
        let bytes = commands::request(command);
        let room = commands::room(command);
        let answer = commands::answer(command);
        for depth in DEPTHS {
            let (mut floor, mut ours) = (Samples::new(count), Samples::new(count));
            for _ in 0..TURNS {
                let request = Request {
                    bytes: &bytes,
                    room,
                    answer: &[],
                };
                load::run(&mut nothing, &request, depth, count / TURNS, &mut floor)?;
                let request = Request {
                    bytes: &bytes,
                    room,
                    answer: &answer,
                };
                load::run(&mut emulated, &request, depth, count / TURNS, &mut ours)?;
            }
            let (floor, ours) = (floor.finish(true), ours.finish(true));
            let over = ours.per_request_ns - floor.per_request_ns;
            let line = |what: String, stats, over_nothing_ns| Line {
                what,
                placement: Some(placement),
                depth: Some(depth),
                stats,
                over_nothing_ns,
            };
            lines.push(line(
                format!("vhost-user, does nothing, {} sizes", command.name),
                floor,
                None,
            ));
            lines.push(line(
                format!("vhost-user, {}", command.name),
                ours,
                Some(over),
            ));
        }
    }
    Ok((lines, running.memory()?))
}

/// A round trip of each measured command, one in flight, without and with a trace in turns.
///
/// # Errors
/// One of the emulators failed.
pub fn traced(
    cpus: &Cpus,
    placement: Placement,
    emulator: &Emulator<'_>,
    folder: &Path,
    count: usize,
) -> anyhow::Result<Vec<(Line, Line)>> {
    let path = |what: &str| folder.join(format!("trace-{what}-{}", placement as u8));
    let (plain, traced, file) = (path("off"), path("on"), path("file"));
    let doors = [("--vhost-user", traced.as_path()), ("--trace", &file)];
    let _running = [
        emulator.start(cpus, placement, &[("--vhost-user", &plain)])?,
        emulator.start(cpus, placement, &doors)?,
    ];
    let connect = |path: &Path| {
        let options = Options {
            queue_size: QUEUE_SIZE,
            config_size: 32,
            ..Options::default()
        };
        let mut s = Session::connect(path, options).context("emulator")?;
        enable(&mut s)?;
        anyhow::Ok(s)
    };
    let (mut off, mut on) = (connect(&plain)?, connect(&traced)?);
    let mut all = Vec::new();
    for command in &MEASURED {
        let bytes = commands::request(command);
        let answer = commands::answer(command);
        let request = Request {
            bytes: &bytes,
            room: commands::room(command),
            answer: &answer,
        };
        let (mut without, mut with) = (Samples::new(count), Samples::new(count));
        for n in 0..TURNS {
            let mut turns = [(&mut off, &mut without), (&mut on, &mut with)];
            if n % 2 == 1 {
                turns.reverse();
            }
            for (session, into) in turns {
                load::run(session, &request, 1, count / TURNS, into)?;
            }
        }
        let line = |what: &str, stats| Line {
            depth: Some(1),
            ..Line::plain(&format!("{what}, {}", command.name), Some(placement), stats)
        };
        all.push((
            line("round trip", without.finish(true)),
            line("round trip with a trace", with.finish(true)),
        ));
    }
    Ok(all)
}

fn start_nothing(cpus: &Cpus, placement: Placement, path: &PathBuf) -> anyhow::Result<Peer> {
    let mut command = floors::myself(nothing::ROLE)?;
    command.arg(path);
    let peer = Peer::new(cpus.spawn(placement, &mut command)?);
    let end = Instant::now() + LISTEN_LIMIT;
    while !path.exists() {
        ensure!(
            Instant::now() < end,
            "the do-nothing backend does not listen"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(peer)
}

/// Brings the function to where it takes the measured commands.
fn enable(session: &mut Session) -> anyhow::Result<()> {
    let enable = commands::enable();
    let request = Request {
        bytes: &commands::request(&enable),
        room: commands::room(&enable),
        answer: &commands::answer(&enable),
    };
    load::once(session, &request).context("ENABLE_HCA")
}
