// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The server's side of vfio-user for one client: each command gets one reply, whatever it is.
//!
//! Ours and not the crate `vfio_user`'s, whose client the tests use: docs/hardening.md says why.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::net::UnixStream,
    sync::Arc,
};

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_SET_DATA_BOOL,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};

use super::message::{Broken, Command, Connection, MAX_DATA, MAX_FDS};

/// Refusals of one client that are warned of; further ones are for who debugs.
const MAX_WARNINGS: u32 = 16;

// Commands of the protocol.
const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const DEVICE_GET_INFO: u16 = 4;
const DEVICE_GET_REGION_INFO: u16 = 5;
const DEVICE_GET_IRQ_INFO: u16 = 7;
const DEVICE_SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

/// The device may write a range that is mapped for DMA.
pub const DMA_WRITE: u32 = 1 << 1;
/// What to unmap comes with a bitmap of dirty pages.
const UNMAP_DIRTY: u32 = 1 << 1;
/// Everything is unmapped.
const UNMAP_ALL: u32 = 1 << 2;

/// What the client's commands act on.
pub trait Device {
    /// Fills `data` from a region.
    ///
    /// # Errors
    /// The client is told; the connection goes on. So it is with all that follow.
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()>;
    /// Writes `data` to a region.
    ///
    /// # Errors
    /// No such place.
    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Maps guest memory: `size` bytes at `address`, which are those of `file` from `offset` on.
    ///
    /// # Errors
    /// A range that there cannot be, or a file that is no good.
    fn dma_map(
        &mut self,
        writable: bool,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()>;
    /// Unmaps a range, or all.
    ///
    /// # Errors
    /// A range would be cut.
    fn dma_unmap(&mut self, range: Option<(u64, u64)>) -> io::Result<()>;
    /// Resets the device.
    fn reset(&mut self);
    /// VFIO_DEVICE_SET_IRQS.
    ///
    /// # Errors
    /// No such interrupts.
    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()>;
}

/// What the client can ask about.
#[derive(Clone, Debug)]
pub struct Server {
    /// Bytes of each region, 0 for one without content.
    pub regions: Vec<u64>,
    /// Flags and number of the interrupts of each index.
    pub irqs: Vec<(u32, u32)>,
}

impl Server {
    /// Serves a client until it goes.
    ///
    /// # Errors
    /// [`Broken`]: it does not keep to the protocol, so that it cannot be understood any more.
    pub fn serve(&self, stream: Arc<UnixStream>, device: &mut dyn Device) -> Result<(), Broken> {
        let mut client = Connection::new(stream);
        let mut warnings = 0;
        while let Some(mut command) = client.receive()? {
            let fds = std::mem::take(&mut command.fds);
            let fds = fds.into_iter().map(File::from).collect();
            match self.command(&command, client.body(), fds, device) {
                Ok(body) => client.reply(&command, &body)?,
                Err(e) => {
                    let warn = warnings < MAX_WARNINGS;
                    warnings += u32::from(warn);
                    let level = [log::Level::Debug, log::Level::Warn][usize::from(warn)];
                    log::log!(level, "vfio-user command {}: {e}", command.number);
                    client.refuse(&command, errno(&e))?;
                }
            }
        }
        Ok(())
    }

    /// Carries out one command; the body of its reply.
    fn command(
        &self,
        command: &Command,
        body: &[u8],
        mut fds: Vec<File>,
        device: &mut dyn Device,
    ) -> io::Result<Vec<u8>> {
        let mut body = Body(body);
        match command.number {
            VERSION => {
                let (major, minor) = (body.u16()?, body.u16()?);
                version(major, minor, body.rest())
            }
            DMA_MAP => {
                let [_argsz, flags] = [body.u32()?, body.u32()?];
                let [offset, address, size] = [body.u64()?, body.u64()?, body.u64()?];
                body.end()?;
                if fds.len() > 1 {
                    return Err(invalid("more than one file for a DMA range"));
                }
                device.dma_map(flags & DMA_WRITE != 0, offset, address, size, fds.pop())?;
                Ok(Vec::new())
            }
            DMA_UNMAP => {
                let whole = body.0.to_vec();
                let [_argsz, flags] = [body.u32()?, body.u32()?];
                let range = (body.u64()?, body.u64()?);
                body.end()?;
                if flags & UNMAP_DIRTY != 0 {
                    return Err(unsupported("dirty pages are not tracked"));
                }
                device.dma_unmap((flags & UNMAP_ALL == 0).then_some(range))?;
                Ok(whole)
            }
            DEVICE_GET_INFO => {
                let flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
                let counts = [self.regions.len() as u32, self.irqs.len() as u32];
                Ok(dwords(&[16, flags, counts[0], counts[1]]))
            }
            DEVICE_GET_REGION_INFO => {
                let [_argsz, _flags, index] = [body.u32()?, body.u32()?, body.u32()?];
                let size = self.regions.get(index as usize);
                let size = *size.ok_or_else(|| invalid("no such region"))?;
                let both = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
                let flags = if size == 0 { 0 } else { both };
                let mut info = dwords(&[32, flags, index, 0]);
                info.extend(size.to_ne_bytes());
                info.extend(0u64.to_ne_bytes());
                Ok(info)
            }
            DEVICE_GET_IRQ_INFO => {
                let [_argsz, _flags, index] = [body.u32()?, body.u32()?, body.u32()?];
                let irq = self.irqs.get(index as usize);
                let (flags, count) = *irq.ok_or_else(|| invalid("no such interrupts"))?;
                Ok(dwords(&[16, flags, index, count]))
            }
            DEVICE_SET_IRQS => {
                let [_argsz, flags, index] = [body.u32()?, body.u32()?, body.u32()?];
                let [start, count] = [body.u32()?, body.u32()?];
                if index as usize >= self.irqs.len() {
                    return Err(invalid("no such interrupts"));
                }
                if flags & VFIO_IRQ_SET_DATA_BOOL != 0 {
                    return Err(unsupported("interrupts are not raised by booleans"));
                }
                body.end()?;
                device.set_irqs(index, flags, start, count, fds)?;
                Ok(Vec::new())
            }
            REGION_READ => {
                let (offset, region, count) = body.access()?;
                body.end()?;
                // Before anything is allocated.
                if count as usize > MAX_DATA {
                    return Err(invalid("a read of too many bytes"));
                }
                let mut reply = access(offset, region, count);
                let at = reply.len();
                reply.resize(at + count as usize, 0);
                device.region_read(region, offset, reply.get_mut(at..).unwrap_or_default())?;
                Ok(reply)
            }
            REGION_WRITE => {
                let (offset, region, count) = body.access()?;
                if body.0.len() != count as usize {
                    return Err(invalid("a write of other bytes than it says"));
                }
                device.region_write(region, offset, body.0)?;
                Ok(access(offset, region, count))
            }
            DEVICE_RESET => {
                body.end()?;
                device.reset();
                Ok(Vec::new())
            }
            _ => Err(unsupported("this server has no such command")),
        }
    }
}

/// Numbers of the commands that there are.
pub const COMMANDS: &[u16] = &[
    VERSION,
    DMA_MAP,
    DMA_UNMAP,
    DEVICE_GET_INFO,
    DEVICE_GET_REGION_INFO,
    DEVICE_GET_IRQ_INFO,
    DEVICE_SET_IRQS,
    REGION_READ,
    REGION_WRITE,
    DEVICE_RESET,
];

/// Agrees on the protocol's version 0.0, and tells our limits.
fn version(major: u16, minor: u16, text: &[u8]) -> io::Result<Vec<u8>> {
    if major != 0 {
        return Err(invalid("a version that is not 0"));
    }
    // Capabilities may be left out. What they hold says nothing that we need.
    if let Some((last, json)) = text.split_last() {
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json);
        if *last != 0 || object.is_err() {
            return Err(invalid(
                "the version's text is no JSON object, or does not end",
            ));
        }
    }
    log::debug!("vfio-user client of version {major}.{minor}");
    let capabilities = serde_json::json!({"capabilities": {
        "max_msg_fds": MAX_FDS, "max_data_xfer_size": MAX_DATA,
    }});
    let mut reply = vec![0; 4];
    reply.extend(capabilities.to_string().bytes());
    reply.push(0);
    Ok(reply)
}

/// What an error is called in a reply; never 0, which would mean that there was none.
fn errno(e: &io::Error) -> i32 {
    let by_kind = match e.kind() {
        ErrorKind::InvalidInput => libc::EINVAL,
        ErrorKind::Unsupported => libc::EOPNOTSUPP,
        ErrorKind::PermissionDenied => libc::EPERM,
        ErrorKind::OutOfMemory => libc::ENOMEM,
        _ => libc::EIO,
    };
    e.raw_os_error().filter(|n| *n > 0).unwrap_or(by_kind)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what.to_owned())
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, what.to_owned())
}

fn dwords(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|d| d.to_ne_bytes()).collect()
}

/// A region access as it stands in a reply.
fn access(offset: u64, region: u32, count: u32) -> Vec<u8> {
    let mut b = offset.to_ne_bytes().to_vec();
    b.extend(dwords(&[region, count]));
    b
}

/// A command's body, from its front.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let short = || invalid("the message is too short for its command");
        let (first, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Offset, region, count.
    fn access(&mut self) -> io::Result<(u64, u32, u32)> {
        Ok((self.u64()?, self.u32()?, self.u32()?))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn end(&self) -> io::Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(invalid("the message is too long for its command"))
        }
    }
}
