// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver of a PCI function behind a vfio-user socket: BAR0, the command queue in guest
//! memory, mailboxes, event queues and eventfds, without a guest.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::Path,
    sync::Arc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use fwctl_proto::cmdif::{
    BLOCK_CONTROL, BLOCK_DATA, BlockControl, DeliveryStatus, ENTRY_BYTES, Entry, INLINE_BYTES,
    TYPE_PCI_XPORT,
};
use vfio_user::Client;
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{
    mailbox::{Mailbox, MailboxError},
    sealed_file,
};

/// Where guest memory begins for the device: above 4 GiB, so that both halves of addresses count.
pub const MEMORY_BASE: u64 = 0x1_0000_0000;
/// Bytes of guest memory. It is sparse.
pub const MEMORY_BYTES: u64 = 512 << 20;
/// The command queue.
pub const COMMAND_QUEUE: u64 = MEMORY_BASE;
/// Nothing uses memory from here to [`SLOTS`]; tests may.
pub const FREE_BASE: u64 = MEMORY_BASE + 0x10_0000;
/// Mailboxes of the slots.
const SLOTS: u64 = MEMORY_BASE + (16 << 20);
/// Bytes for the mailboxes of a slot: half for input, half for output.
const SLOT_BYTES: u64 = 8 << 20;
/// Pages for the firmware, up to the end of guest memory.
const PAGES: u64 = SLOTS + COMMAND_SLOTS as u64 * SLOT_BYTES;
/// Bytes between two mailbox blocks.
pub const BLOCK_STRIDE: u64 = 1024;
/// Command slots.
pub const COMMAND_SLOTS: usize = 32;
/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// Index of BAR0 among the regions.
pub const BAR0: u32 = 0;
/// Index of configuration space among the regions.
pub const CONFIG: u32 = 7;
/// Index of MSI-X among the interrupts.
pub const MSIX: u32 = 2;

/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER`.
const EVENTFD_TRIGGER: u32 = 0x4 | 0x20;
/// Eventfds in one message.
const FDS_AT_ONCE: usize = 8;

/// Initialization segment: high half of the command queue's address.
const CMDQ_ADDR_H: u64 = 0x10;
/// Initialization segment: its low half; the queue's sizes when read.
const CMDQ_ADDR_L_SZ: u64 = 0x14;
/// Initialization segment: the command doorbell, a bit per slot.
const CMD_DBELL: u64 = 0x18;
/// Initialization segment: bit 31 is set until the firmware takes commands.
const INITIALIZING: u64 = 0x1fc;

/// Longest wait for an answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What went wrong between driver and device.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// The socket or a message on it.
    #[error("vfio-user: {0}")]
    Client(#[from] vfio_user::Error),
    /// A system call here.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Guest memory.
    #[error("guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// Guest memory could not be made.
    #[error("guest memory: {0}")]
    Map(String),
    /// The device stays in `initializing`.
    #[error("the firmware does not become ready")]
    NotReady,
}

impl From<PciError> for MailboxError {
    fn from(e: PciError) -> Self {
        Self::transport(e)
    }
}

/// What a slot holds once the firmware has given it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bits 7:1 of the entry's last byte.
    pub delivery: u8,
    /// The outbox, as long as it was asked for.
    pub outbox: Vec<u8>,
}

/// A connected function.
pub struct PciDriver {
    client: Client,
    mem: Arc<GuestMemoryMmap>,
    file: File,
    token: u8,
    next_page: u64,
    vectors: Vec<EventFd>,
}

impl PciDriver {
    /// Connects, maps guest memory and wires no interrupt. The function's registers are left as
    /// they are.
    ///
    /// # Errors
    /// What failed.
    pub fn connect(path: &Path) -> Result<Self, PciError> {
        let mut client = connect(path)?;
        let (mem, file) = shared_memory()?;
        client.dma_map(0, MEMORY_BASE, MEMORY_BYTES, file.as_raw_fd())?;
        let mem = Arc::new(mem);
        Ok(Self {
            client,
            mem,
            file,
            token: 0,
            next_page: PAGES,
            vectors: Vec::new(),
        })
    }

    /// Connects and makes the function ready for the first command: memory and bus mastering on,
    /// the command queue's address written, `initializing` over.
    ///
    /// # Errors
    /// What failed.
    pub fn probe(path: &Path) -> Result<Self, PciError> {
        let mut d = Self::connect(path)?;
        d.enable()?;
        Ok(d)
    }

    /// What [`PciDriver::probe`] does on a connection that there is.
    ///
    /// # Errors
    /// What failed.
    pub fn enable(&mut self) -> Result<(), PciError> {
        self.config_write(4, &[0x06, 0x00])?;
        self.mem.write_slice(
            &[0; COMMAND_SLOTS * ENTRY_BYTES],
            GuestAddress(COMMAND_QUEUE),
        )?;
        self.segment_write(CMDQ_ADDR_H, (COMMAND_QUEUE >> 32) as u32)?;
        self.segment_write(CMDQ_ADDR_L_SZ, COMMAND_QUEUE as u32)?;
        let end = Instant::now() + ANSWER_LIMIT;
        while self.segment(INITIALIZING)? >> 31 != 0 {
            if Instant::now() > end {
                return Err(PciError::NotReady);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The connection, for messages that this module does not send.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &Arc<GuestMemoryMmap> {
        &self.mem
    }

    /// The file behind guest memory.
    #[must_use]
    pub fn memory_file(&self) -> &File {
        &self.file
    }

    /// Fills `data` from configuration space.
    ///
    /// # Errors
    /// The connection.
    pub fn config_read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), PciError> {
        Ok(self.client.region_read(CONFIG, offset, data)?)
    }

    /// Writes `data` to configuration space.
    ///
    /// # Errors
    /// The connection.
    pub fn config_write(&mut self, offset: u64, data: &[u8]) -> Result<(), PciError> {
        Ok(self.client.region_write(CONFIG, offset, data)?)
    }

    /// Offset of the first capability with this id in configuration space.
    ///
    /// # Errors
    /// The connection.
    pub fn capability(&mut self, id: u8) -> Result<Option<u64>, PciError> {
        /// As many as fit.
        const MOST: usize = 48;
        let mut at = [0x34u8];
        for _ in 0..MOST {
            self.config_read(at[0].into(), &mut at)?;
            if at[0] == 0 {
                break;
            }
            let mut head = [0u8; 2];
            self.config_read(at[0].into(), &mut head)?;
            if head[0] == id {
                return Ok(Some(at[0].into()));
            }
            at[0] += 1;
        }
        Ok(None)
    }

    /// A dword of the initialization segment.
    ///
    /// # Errors
    /// The connection.
    pub fn segment(&mut self, offset: u64) -> Result<u32, PciError> {
        let mut b = [0; 4];
        self.client.region_read(BAR0, offset, &mut b)?;
        Ok(u32::from_be_bytes(b))
    }

    /// Writes a dword of the initialization segment.
    ///
    /// # Errors
    /// The connection.
    pub fn segment_write(&mut self, offset: u64, value: u32) -> Result<(), PciError> {
        Ok(self
            .client
            .region_write(BAR0, offset, &value.to_be_bytes())?)
    }

    /// Rings the command doorbell for these slots. When this returns, the device has seen it.
    ///
    /// # Errors
    /// The connection.
    pub fn ring(&mut self, slots: u32) -> Result<(), PciError> {
        self.segment_write(CMD_DBELL, slots)
    }

    /// Wires `count` MSI-X vectors from 0 on, an eventfd each.
    ///
    /// # Errors
    /// The connection, or no more file descriptors.
    pub fn wire(&mut self, count: usize) -> Result<(), PciError> {
        self.vectors = (0..count)
            .map(|_| EventFd::new(EFD_NONBLOCK))
            .collect::<Result<_, _>>()?;
        for (i, part) in self.vectors.chunks(FDS_AT_ONCE).enumerate() {
            let fds: Vec<_> = part.iter().map(AsRawFd::as_raw_fd).collect();
            let start = (i * FDS_AT_ONCE) as u32;
            self.client
                .set_irqs(MSIX, EVENTFD_TRIGGER, start, fds.len() as u32, &fds)?;
        }
        Ok(())
    }

    /// Unwires one MSI-X vector, as QEMU does it: one vector, no eventfd.
    ///
    /// # Errors
    /// The connection.
    pub fn unwire(&mut self, vector: u32) -> Result<(), PciError> {
        Ok(self
            .client
            .set_irqs(MSIX, EVENTFD_TRIGGER, vector, 1, &[])?)
    }

    /// The eventfd of a vector that is wired.
    #[must_use]
    pub fn vector(&self, n: usize) -> Option<&EventFd> {
        self.vectors.get(n)
    }

    /// How often a vector was raised since the last look.
    #[must_use]
    pub fn raised(&self, vector: usize) -> u64 {
        self.vectors
            .get(vector)
            .and_then(|fd| fd.read().ok())
            .unwrap_or(0)
    }

    /// Writes a command into a slot and gives it to the firmware; [`PciDriver::ring`] tells it.
    ///
    /// # Errors
    /// Guest memory: the slot or the lengths are beyond it.
    pub fn post(&mut self, slot: usize, inbox: &[u8], out_len: usize) -> Result<(), PciError> {
        self.token = self.token % u8::MAX + 1;
        let (input, output) = (input_at(slot), output_at(slot));
        let mut inline_in = [0; INLINE_BYTES];
        let n = inbox.len().min(INLINE_BYTES);
        inline_in[..n].copy_from_slice(&inbox[..n]);
        let in_ptr = self.chain(input, inbox.len(), Some(&inbox[n..]))?;
        let out_ptr = self.chain(output, out_len, None)?;
        let entry = Entry {
            kind: TYPE_PCI_XPORT,
            in_len: inbox.len() as u32,
            in_ptr,
            inline_in,
            out_ptr,
            out_len: out_len as u32,
            token: self.token,
            hw_owned: true,
        };
        self.put_entry(slot, &entry.to_bytes())
    }

    /// Writes an entry as it stands.
    ///
    /// # Errors
    /// Guest memory.
    pub fn put_entry(&mut self, slot: usize, entry: &[u8; ENTRY_BYTES]) -> Result<(), PciError> {
        let at = entry_at(slot);
        let (owner, rest) = (entry[Entry::STATUS_OFFSET], &entry[..Entry::STATUS_OFFSET]);
        self.mem.write_slice(rest, GuestAddress(at))?;
        self.mem.store(
            owner,
            GuestAddress(at + Entry::STATUS_OFFSET as u64),
            Ordering::Release,
        )?;
        Ok(())
    }

    /// The token of the last command.
    #[must_use]
    pub fn token(&self) -> u8 {
        self.token
    }

    /// What the slot holds; `None` while the firmware owns it.
    ///
    /// # Errors
    /// Guest memory.
    pub fn answer(&self, slot: usize, out_len: usize) -> Result<Option<Answer>, PciError> {
        let at = entry_at(slot);
        let last: u8 = self.mem.load(
            GuestAddress(at + Entry::STATUS_OFFSET as u64),
            Ordering::Acquire,
        )?;
        if last & 1 == 1 {
            return Ok(None);
        }
        let mut outbox = vec![0; out_len];
        let n = out_len.min(INLINE_BYTES);
        self.mem.read_slice(
            &mut outbox[..n],
            GuestAddress(at + Entry::OUT_OFFSET as u64),
        )?;
        for (i, part) in outbox[n..].chunks_mut(BLOCK_DATA).enumerate() {
            self.mem.read_slice(
                part,
                GuestAddress(output_at(slot) + i as u64 * BLOCK_STRIDE),
            )?;
        }
        Ok(Some(Answer {
            delivery: last >> 1,
            outbox,
        }))
    }

    /// Waits until the firmware gives the slot back.
    ///
    /// # Errors
    /// It does not within [`ANSWER_LIMIT`].
    pub fn wait(&self, slot: usize, out_len: usize) -> Result<Answer, MailboxError> {
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            if let Some(a) = self.answer(slot, out_len)? {
                return Ok(a);
            }
            if Instant::now() > end {
                return Err(MailboxError::Timeout(ANSWER_LIMIT));
            }
            std::thread::yield_now();
        }
    }

    /// One command in one slot: posted, rung, waited for.
    ///
    /// # Errors
    /// The connection, guest memory, or no answer in time.
    pub fn call(
        &mut self,
        slot: usize,
        inbox: &[u8],
        out_len: usize,
    ) -> Result<Answer, MailboxError> {
        self.post(slot, inbox, out_len)?;
        self.ring(1 << slot)?;
        self.wait(slot, out_len)
    }

    /// A chain of blocks for a message of `len` bytes; returns its address, 0 if none is needed.
    fn chain(&self, at: u64, len: usize, data: Option<&[u8]>) -> Result<u64, PciError> {
        let count = len.saturating_sub(INLINE_BYTES).div_ceil(BLOCK_DATA);
        for i in 0..count {
            let addr = at + i as u64 * BLOCK_STRIDE;
            let next = if i + 1 < count {
                addr + BLOCK_STRIDE
            } else {
                0
            };
            let mut block = [0u8; BLOCK_DATA + BLOCK_CONTROL];
            if let Some(part) = data.and_then(|d| d.chunks(BLOCK_DATA).nth(i)) {
                block[..part.len()].copy_from_slice(part);
            }
            block[BLOCK_DATA..]
                .copy_from_slice(&BlockControl::unsigned(next, i as u32, self.token));
            self.mem.write_slice(&block, GuestAddress(addr))?;
        }
        Ok(if count == 0 { 0 } else { at })
    }
}

impl Mailbox for PciDriver {
    fn exec(&mut self, inbox: &[u8], outbox: &mut [u8]) -> Result<(), MailboxError> {
        let a = self.call(0, inbox, outbox.len())?;
        if a.delivery != 0 {
            let name =
                DeliveryStatus::from_code(a.delivery).map_or("unknown", DeliveryStatus::name);
            return Err(MailboxError::Delivery(format!(
                "delivery status {:#x} ({name})",
                a.delivery
            )));
        }
        outbox.copy_from_slice(&a.outbox);
        Ok(())
    }

    fn page(&mut self) -> Option<u64> {
        let page = self.next_page;
        (page + PAGE_BYTES <= MEMORY_BASE + MEMORY_BYTES).then(|| self.next_page += PAGE_BYTES)?;
        Some(page)
    }
}

/// Address of a slot's entry.
#[must_use]
pub fn entry_at(slot: usize) -> u64 {
    COMMAND_QUEUE + (slot * ENTRY_BYTES) as u64
}

/// Address of a slot's first input block.
#[must_use]
pub fn input_at(slot: usize) -> u64 {
    SLOTS + slot as u64 * SLOT_BYTES
}

/// Address of a slot's first output block.
#[must_use]
pub fn output_at(slot: usize) -> u64 {
    input_at(slot) + SLOT_BYTES / 2
}

/// Connects, giving a device that has just let go of its last client time to listen again.
fn connect(path: &Path) -> Result<Client, PciError> {
    let end = Instant::now() + ANSWER_LIMIT;
    loop {
        match Client::new(path) {
            Err(vfio_user::Error::Connect(e))
                if e.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return Ok(done?),
        }
    }
}

fn shared_memory() -> Result<(GuestMemoryMmap, File), PciError> {
    let file = sealed_file(MEMORY_BYTES)?;
    let range = (
        GuestAddress(MEMORY_BASE),
        MEMORY_BYTES as usize,
        Some(FileOffset::new(file.try_clone()?, 0)),
    );
    let mem = GuestMemoryMmap::from_ranges_with_files([range])
        .map_err(|e| PciError::Map(e.to_string()))?;
    Ok((mem, file))
}
