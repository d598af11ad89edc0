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
    lines.push(gateway(&mut driver, placement, count)?);
    Ok(lines)
}

/// A word of the device through the PCI gateway, as a tool reads it: the address is written, the flag
/// and the data are read.
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
        what: "vfio-user, a word through the gateway (3 accesses)".into(),
        placement: Some(placement),
        depth: Some(1),
        stats: samples.finish(false),
        over_nothing_ns: None,
    })
}
