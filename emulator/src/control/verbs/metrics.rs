// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Everything that can be counted, as Prometheus' text format wants it.

use std::fmt::Write as _;

use fw_model::{Card, FunctionId, FunctionReport};
use serde_json::Value;

use super::{Arguments, Wrong, look::names};
use crate::control::Server;

/// The head of a metric: what it is, and its type.
fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// A metric of each function.
type Gauge = (
    &'static str,
    &'static str,
    &'static str,
    fn(&FunctionReport) -> u64,
);

const GAUGES: &[Gauge] = &[
    (
        "fwctl_emu_resets_total",
        "counter",
        "Resets of the function.",
        |r| r.generation,
    ),
    (
        "fwctl_emu_pages",
        "gauge",
        "Guest pages that the firmware holds.",
        |r| u64::from(r.pages),
    ),
    (
        "fwctl_emu_pages_damaged_total",
        "counter",
        "Pages that came back changed.",
        |r| r.pages_damaged,
    ),
    ("fwctl_emu_uctx", "gauge", "User contexts.", |r| {
        r.uctx as u64
    }),
    ("fwctl_emu_eqs", "gauge", "Event queues.", |r| r.eqs as u64),
    (
        "fwctl_emu_pending",
        "gauge",
        "Commands executed and not yet answered.",
        |r| r.pending as u64,
    ),
];

/// All metrics.
pub(super) fn metrics(s: &Server, _: &Arguments) -> Result<Value, Wrong> {
    let look = |c: &Card, _| {
        let ids: Vec<FunctionId> = c.functions().collect();
        let reports: Vec<_> = ids.iter().filter_map(|f| c.report(*f)).collect();
        let dropped = |f: &FunctionId| c.eqs(*f).iter().map(|q| q.dropped).sum::<u64>();
        let dropped: Vec<u64> = ids.iter().map(dropped).collect();
        let answered: Vec<_> = c.counters().answered().collect();
        let faults: Vec<_> = c.faults().iter().map(|f| (f.id, f.struck)).collect();
        (reports, dropped, answered, faults)
    };
    let (reports, dropped, answered, faults) = s.owner.with_card(look);
    let mut t = String::new();
    let name = "fwctl_emu_commands_total";
    head(&mut t, name, "counter", "Commands answered.");
    for (a, n) in answered {
        let (opcode, status) = names(&a);
        let f = a.function.0;
        let _ = writeln!(
            t,
            "{name}{{function=\"{f}\",opcode=\"{opcode}\",status=\"{status}\"}} {n}"
        );
    }
    for (name, kind, help, value) in GAUGES {
        head(&mut t, name, kind, help);
        for r in &reports {
            let _ = writeln!(t, "{name}{{function=\"{}\"}} {}", r.id.0, value(r));
        }
    }
    // No counter: it falls when a queue goes.
    let name = "fwctl_emu_eqs_dropped";
    head(
        &mut t,
        name,
        "gauge",
        "Events that found one of the event queues full that there are now.",
    );
    for (r, n) in reports.iter().zip(dropped) {
        let _ = writeln!(t, "{name}{{function=\"{}\"}} {n}", r.id.0);
    }
    let name = "fwctl_emu_objects";
    head(&mut t, name, "gauge", "Objects by kind.");
    for r in &reports {
        for (kind, n) in &r.objects {
            let _ = writeln!(t, "{name}{{function=\"{}\",kind=\"{kind}\"}} {n}", r.id.0);
        }
    }
    let name = "fwctl_emu_connected";
    head(&mut t, name, "gauge", "1 while a client is there.");
    for r in &reports {
        let connected = s.clients.of(r.id).is_some_and(|c| c.2);
        let _ = writeln!(
            t,
            "{name}{{function=\"{}\"}} {}",
            r.id.0,
            u8::from(connected)
        );
    }
    let name = "fwctl_emu_faults_struck_total";
    head(&mut t, name, "counter", "Commands that a fault struck.");
    for (id, n) in faults {
        let _ = writeln!(t, "{name}{{fault=\"{id}\"}} {n}");
    }
    s.owner.latencies(|l| l.write(&mut t));
    s.owner.spent(|h| h.write(&mut t));
    Ok(t.into())
}
