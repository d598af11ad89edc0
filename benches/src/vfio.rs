// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Requests over vfio-user: from the doorbell to the answer in the slot.

use std::path::Path;

use anyhow::{Context as _, ensure};
use fwctl_proto::opcode;
use host_driver::pci::PciDriver;

use crate::{
    commands::{MEASURED, inbox},
    cpus::{Cpus, Placement},
    process::Emulator,
    report::Line,
    stats::Samples,
};

/// Measures both commands in one placement and gives the lines of the table.
///
/// # Errors
/// The emulator failed.
pub fn measure(
    cpus: &Cpus,
    placement: Placement,
    emulator: &Emulator<'_>,
    folder: &Path,
    count: usize,
) -> anyhow::Result<Vec<Line>> {
    let path = folder.join(format!("vfio-{}.sock", placement as u8));
    let _running = emulator.start(cpus, placement, &[("--vfio-user", &path)])?;
    let mut driver = PciDriver::probe(&path)?;
    let out = driver.call(0, &inbox(opcode::ENABLE_HCA, 0), 16)?.outbox;
    ensure!(out[0] == 0, "ENABLE_HCA: status {:#x}", out[0]);
    let mut lines = Vec::new();
    for c in &MEASURED {
        let mut samples = Samples::new(count);
        for n in 0..count + count / 10 {
            driver.post(0, &inbox(c.opcode, c.op_mod), c.outbox_len as usize)?;
            let mut call = || {
                driver.ring(1)?;
                driver.wait(0, c.outbox_len as usize)
            };
            // The first tenth warms up.
            let answer = if n < count / 10 {
                call()
            } else {
                samples.time(call)
            };
            let answer = answer.context(c.name)?;
            ensure!(
                answer.outbox[0] == 0,
                "{}: status {:#x}",
                c.name,
                answer.outbox[0]
            );
        }
        let stats = samples.finish(false);
        lines.push(Line {
            what: format!("vfio-user, {}, doorbell to answer", c.name),
            placement: Some(placement),
            depth: Some(1),
            stats,
            over_nothing_ns: None,
        });
    }
    Ok(lines)
}
