// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device's own description as an emulator's profile: read through its fwctl device, written as
//! TOML.

use std::{fmt::Write as _, fs, path::Path};

use fwctl_proto::{
    cap_type,
    layout::{self, LayoutInfo, get_bits},
    mst, opcode as op, register,
};

use crate::{Device, DeviceEntry, Error, Scope, mlx5};

/// Bytes of a capability page.
const PAGE: usize = 4096;
/// A register's id and layout, and the bytes that choose a part of it: at these offsets, these
/// values.
type Chosen = (u16, &'static str, &'static [(usize, u8)]);
/// Registers that say what a card is.
const REGISTERS: &[Chosen] = &[
    (register::PTYS, "ptys_reg", &[(1, 1), (3, 4)]),
    (register::PPLM, "pplm_reg", &[(1, 1)]),
    (0x5018, "pplr_reg", &[(1, 1)]),
    (0x5036, "PPTT", &[(1, 1)]),
    (0x5037, "PPRT", &[(1, 1)]),
    (0x503e, "PPHCR", &[(1, 1)]),
    (register::PCMR, "pcmr_reg", &[(1, 1)]),
    (register::PVLC, "pvlc_reg", &[(1, 1)]),
    (register::QPTS, "qpts_reg", &[(1, 1)]),
    (register::PCAM, "pcam_reg", &[]),
    (register::QCAM, "qcam_reg", &[]),
    (register::MCAM, "mcam_reg", &[]),
    (register::MPEIN, "mpein_reg", &[]),
    (register::MFRL, "mfrl_reg", &[]),
    (register::DTOR, "dtor_reg", &[]),
];
/// Fields that say which part is meant, or follow from what the card has.
const SKIPPED: &[&str] = &[
    "local_port",
    "proto_mask",
    "port_access_reg_cap_mask",
    "qos_access_reg_cap_mask",
    "mng_access_reg_cap_mask",
    "eth_proto_oper",
    "ext_eth_proto_oper",
    "an_status",
    "reset_state",
];
/// Hardware ids by PCI device id.
const HARDWARE: &[(u32, u32)] = &[
    (0x1017, 0x20d),
    (0x101d, 0x212),
    (0x1021, 0x218),
    (0x1023, 0x21e),
    (0xa2dc, 0x21c),
];

/// Reads the device of `entry` and writes it as a profile.
///
/// Capability pages and registers that the firmware refuses are left out; a comment names them.
///
/// # Errors
/// Those of opening the device and of its RPCs, but for refusals by the firmware.
pub fn capture(entry: &DeviceEntry) -> Result<String, Error> {
    let device = entry.open()?;
    let mut text = String::from("# Captured from a device through fwctl.\n");
    let mut missing = Vec::new();
    let _ = writeln!(text, "description = \"captured from {}\"", entry.name);
    if let Some(mac) = mac(&device)? {
        let _ = writeln!(text, "base_mac = \"{mac}\"");
    }
    text.push('\n');
    pci(entry, &mut text);
    firmware(&device, &mut text)?;
    pages(&device, &mut text)?;
    for &(number, name) in cap_type::ALL {
        let Some(layout) = page_layout(number) else {
            continue;
        };
        let (current, max) = (cap(&device, number << 1 | 1)?, cap(&device, number << 1)?);
        let (Some(current), Some(max)) = (current, max) else {
            missing.push(format!("caps.{}", name.to_ascii_lowercase()));
            continue;
        };
        let name = name.to_ascii_lowercase();
        section(
            &mut text,
            &format!("caps.{name}"),
            &values(layout, &current),
        );
        let higher: Vec<_> = values(layout, &max)
            .into_iter()
            .filter(|v| !values(layout, &current).contains(v))
            .collect();
        section(&mut text, &format!("caps_max.{name}"), &higher);
    }
    for (id, layout, chosen) in REGISTERS {
        let of_tools = mst::find(*id).map(|r| r.layout.name);
        let name = register::name(*id).or(of_tools).unwrap_or("?");
        match (
            described(layout),
            read_register(&device, *id, layout, chosen)?,
        ) {
            (Some(l), Some(image)) => {
                section(&mut text, &format!("registers.{name}"), &values(l, &image));
            }
            _ => missing.push(format!("registers.{name}")),
        }
    }
    if !missing.is_empty() {
        let _ = writeln!(text, "# The firmware does not have: {}", missing.join(", "));
    }
    Ok(text)
}

/// The layout of a capability page.
fn page_layout(number: u16) -> Option<&'static LayoutInfo> {
    let place = layout::find("query_hca_cap_out")?.field("capability")?;
    place.info.variants?.get(u64::from(number) << 1)
}

/// A command's outbox, or `None` if the firmware refuses it.
fn send(device: &Device, scope: Scope, inbox: &[u8], len: usize) -> Result<Option<Vec<u8>>, Error> {
    let mut out = vec![0; len];
    let reply = device.rpc(scope, inbox, &mut out)?;
    let status = mlx5::status(&out[..reply.copied.min(len)])?;
    Ok(status.is_ok().then_some(out))
}

fn cap(device: &Device, op_mod: u16) -> Result<Option<Vec<u8>>, Error> {
    let inbox = mlx5::inbox(op::QUERY_HCA_CAP, op_mod, mlx5::HEADER);
    let out = send(device, Scope::Configuration, &inbox, mlx5::HEADER + PAGE)?;
    Ok(out.map(|o| o[mlx5::HEADER..].to_vec()))
}

/// The layout of a register by its name in the kernel's header, or in the tools' database.
fn described(name: &str) -> Option<&'static LayoutInfo> {
    layout::find(name).or_else(|| mst::named(name).map(|r| r.layout))
}

fn read_register(
    device: &Device,
    id: u16,
    layout: &str,
    chosen: &[(usize, u8)],
) -> Result<Option<Vec<u8>>, Error> {
    let Some(l) = described(layout) else {
        return Ok(None);
    };
    let bytes = (l.bits / 8) as usize;
    let mut inbox = mlx5::inbox(op::ACCESS_REG, 1, mlx5::HEADER + bytes);
    inbox[10..12].copy_from_slice(&id.to_be_bytes());
    for (at, value) in chosen {
        if let Some(b) = inbox.get_mut(mlx5::HEADER + at) {
            *b = *value;
        }
    }
    let out = send(device, Scope::DebugReadOnly, &inbox, mlx5::HEADER + bytes)?;
    Ok(out.map(|o| o[mlx5::HEADER..].to_vec()))
}

/// The fields that are not 0, by path.
fn values(l: &'static LayoutInfo, bytes: &[u8]) -> Vec<(String, u64)> {
    let skipped = |path: &str| path.split('.').next().is_some_and(|p| SKIPPED.contains(&p));
    let leaves = l.leaves().into_iter();
    let there = leaves.filter(|f| (f.offset + f.width) as usize <= bytes.len() * 8);
    let values = there.map(|f| (get_bits(bytes, f.offset, f.width), f.path));
    let kept = values.filter(|(value, path)| *value != 0 && !skipped(path));
    kept.map(|(value, path)| (path, value)).collect()
}

fn section(text: &mut String, name: &str, values: &[(String, u64)]) {
    if values.is_empty() {
        return;
    }
    let _ = writeln!(text, "[{name}]");
    for (field, value) in values {
        let key = if field.contains(['.', '[']) {
            format!("\"{field}\"")
        } else {
            field.clone()
        };
        // TOML's integers have a sign: what does not fit cannot be said.
        let _ = match i64::try_from(*value) {
            Ok(v) => writeln!(text, "{key} = {v:#x}"),
            Err(_) => writeln!(text, "# {key} = {value:#x} is too large for TOML"),
        };
    }
    text.push('\n');
}

/// A number in a file of sysfs, as the kernel writes it for PCI devices.
fn number(dir: &Path, file: &str) -> Option<u32> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// The section on PCI: from sysfs, and ids of a ConnectX-7 where there is no PCI device.
fn pci(entry: &DeviceEntry, text: &mut String) {
    let dir = entry
        .parent
        .as_deref()
        .map(|p| p.ancestors())
        .into_iter()
        .flatten()
        .find(|p| p.join("vendor").exists());
    let of = |file: &str, default: u32| dir.and_then(|d| number(d, file)).unwrap_or(default);
    let device = of("device", 0x1021);
    let vectors = dir.and_then(msix_vectors).unwrap_or(64);
    let log_bar0 = dir.and_then(log_bar0).unwrap_or(25);
    let hw_id = HARDWARE
        .iter()
        .find(|h| h.0 == device)
        .map_or(0x218, |h| h.1);
    let _ = write!(
        text,
        "[pci]\nvendor_id = {:#x}\ndevice_id = {device:#x}\nsubsystem_vendor_id = {:#x}\n\
         subsystem_id = {:#x}\nrevision = {:#x}\nclass = {:#x}\nmsix_vectors = {vectors}\n\
         log_bar0 = {log_bar0}\nhw_id = {hw_id:#x}\n\n",
        of("vendor", 0x15b3),
        of("subsystem_vendor", 0x15b3),
        of("subsystem_device", 0x41),
        of("revision", 0),
        of("class", 0x0002_0000),
    );
}

/// Entries of the MSI-X table, from configuration space; the kernel shows it whole to root alone.
fn msix_vectors(dir: &Path) -> Option<u16> {
    const STATUS: usize = 0x06;
    const CAPABILITIES: usize = 0x34;
    const MSIX: u8 = 0x11;
    let config = fs::read(dir.join("config")).ok()?;
    let byte = |at: usize| config.get(at).copied();
    if byte(STATUS)? & 0x10 == 0 {
        return None;
    }
    let mut at = usize::from(byte(CAPABILITIES)? & !3);
    // No list is longer than the space has dwords.
    for _ in 0..64 {
        if at == 0 {
            return None;
        }
        if byte(at)? == MSIX {
            return Some((u16::from(byte(at + 3)?) << 8 & 0x0700 | u16::from(byte(at + 2)?)) + 1);
        }
        at = usize::from(byte(at + 1)? & !3);
    }
    None
}

/// Log2 of the size of the first memory region.
fn log_bar0(dir: &Path) -> Option<u32> {
    let text = fs::read_to_string(dir.join("resource")).ok()?;
    let mut words = text.lines().next()?.split_whitespace();
    let mut word = || u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok();
    let (start, end) = (word()?, word()?);
    let size = end.checked_sub(start)?.checked_add(1)?;
    (size > 1).then(|| size.ilog2().clamp(20, 30))
}

fn firmware(device: &Device, text: &mut String) -> Result<(), Error> {
    let inbox = mlx5::inbox(op::QUERY_ADAPTER, 0, mlx5::HEADER);
    let adapter = send(device, Scope::Configuration, &inbox, 272)?;
    let place = layout::find("query_adapter_out")
        .and_then(|l| l.field("query_adapter_struct.vsd_contd_psid"));
    let psid: String = match (&adapter, place) {
        (Some(a), Some(p)) => a
            .iter()
            .skip(p.offset as usize / 8)
            .take(16)
            .take_while(|b| b.is_ascii_graphic())
            .map(|b| char::from(*b))
            .collect(),
        _ => String::new(),
    };
    let psid = if psid.is_empty() { "UNKNOWN" } else { &psid };
    // MCQI: the version of component 0; the register's head and the answer's.
    let mut inbox = mlx5::inbox(op::ACCESS_REG, 1, mlx5::HEADER + 148);
    inbox[10..12].copy_from_slice(&register::MCQI.to_be_bytes());
    (inbox[mlx5::HEADER + 11], inbox[mlx5::HEADER + 23]) = (1, 124);
    let out = send(device, Scope::DebugReadOnly, &inbox, mlx5::HEADER + 148)?;
    let word = out.map_or(0, |o| get_bits(&o, (mlx5::HEADER as u32 + 24 + 4) * 8, 32));
    if word == 0 {
        text.push_str("# The firmware does not tell its version.\n");
    }
    let _ = writeln!(
        text,
        "[firmware]\nversion = \"{}.{}.{}\"\npsid = \"{psid}\"\n",
        word >> 24,
        word >> 16 & 0xff,
        word & 0xffff
    );
    Ok(())
}

fn pages(device: &Device, text: &mut String) -> Result<(), Error> {
    let mut counts = [16, 32];
    for (i, count) in counts.iter_mut().enumerate() {
        let inbox = mlx5::inbox(op::QUERY_PAGES, i as u16 + 1, mlx5::HEADER);
        if let Some(out) = send(device, Scope::DebugReadOnly, &inbox, mlx5::HEADER)? {
            let asked = get_bits(&out, 96, 32);
            // A device whose driver has given them asks for none.
            if (1..=0xffff).contains(&asked) {
                *count = asked;
            }
        }
    }
    let _ = writeln!(
        text,
        "[pages]\nboot = {}\ninit = {}\n",
        counts[0], counts[1]
    );
    Ok(())
}

fn mac(device: &Device) -> Result<Option<String>, Error> {
    let inbox = mlx5::inbox(op::QUERY_NIC_VPORT_CONTEXT, 0, mlx5::HEADER);
    let out = send(device, Scope::DebugReadOnly, &inbox, 272)?;
    let place = layout::find("query_nic_vport_context_out")
        .and_then(|l| l.field("nic_vport_context.permanent_address"));
    let (Some(out), Some(place)) = (out, place) else {
        return Ok(None);
    };
    let at = place.offset as usize / 8 + 2;
    let Some(mac) = out.get(at..at + 6) else {
        return Ok(None);
    };
    let parts: Vec<String> = mac.iter().map(|b| format!("{b:02x}")).collect();
    Ok((mac.iter().any(|b| *b != 0)).then(|| parts.join(":")))
}
