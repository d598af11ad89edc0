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
    report::{Cycle, Line},
    stats::Samples,
};

/// Accesses to configuration space that a word takes: the address is written, the flag and the data
/// are read.
const ACCESSES: f64 = 3.0;

/// Measures both commands and the gateway in one placement and gives the lines of the table, and our
/// part of a configuration cycle.
///
/// # Errors
/// The emulator failed.
pub fn measure(
    cpus: &Cpus,
    placement: Placement,
    emulator: &Emulator<'_>,
    folder: &Path,
    count: usize,
) -> anyhow::Result<(Vec<Line>, Cycle)> {
    let path = folder.join(format!("vfio-{}.sock", placement as u8));
    let running = emulator.start(cpus, placement, &[("--vfio-user", &path)])?;
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
    let before = running.processor_time()?;
    let line = gateway(&mut driver, placement, count)?;
    let spent = running.processor_time()?.saturating_sub(before);
    // With those that warm up.
    let accesses = (count + count / 10) as f64 * ACCESSES;
    let cycle = Cycle {
        placement,
        access_ns: line.stats.per_request_ns / ACCESSES,
        emulator_ns: spent.as_secs_f64() * 1e9 / accesses,
    };
    lines.push(line);
    Ok((lines, cycle))
}

/// A word of the device through the PCI gateway, as a tool reads it: [`ACCESSES`].
fn gateway(driver: &mut PciDriver, placement: Placement, count: usize) -> anyhow::Result<Line> {
    /// PCI capability id of vendor specific capabilities.
    const VENDOR: u8 = 0x09;
    /// Space, address and data in the capability; CR space, and the device's id in it.
    const CONTROL: u64 = 4;
    const ADDRESS: u64 = 16;
    const DATA: u64 = 20;
    const CR: u16 = 2;
    const DEVICE_ID: u32 = 0xf_0014;
    let at = driver.capability(VENDOR)?.context("no gateway")?;
    driver.config_write(at + CONTROL, &CR.to_le_bytes())?;
    let mut samples = Samples::new(count);
    let mut word = [0; 4];
    for n in 0..count + count / 10 {
        let mut call = || -> anyhow::Result<()> {
            driver.config_write(at + ADDRESS, &DEVICE_ID.to_le_bytes())?;
            driver.config_read(at + ADDRESS, &mut word)?;
            driver.config_read(at + DATA, &mut word)?;
            Ok(())
        };
        // The first tenth warms up.
        if n < count / 10 {
            call()?;
        } else {
            samples.time(call)?;
        }
    }
    ensure!(word != [0; 4], "the gateway gives no device id");
    Ok(Line {
        what: format!("vfio-user, a word through the gateway ({ACCESSES} accesses)"),
        placement: Some(placement),
        depth: Some(1),
        stats: samples.finish(false),
        over_nothing_ns: None,
    })
}
