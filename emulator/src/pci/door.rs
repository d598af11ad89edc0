// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A function over a vfio-user socket: one client at a time, as many as come.

use std::{
    fs::File,
    io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use fw_model::{
    Card, Delivery, FunctionId, GuestMemory, Input, NoMemory, Order, Profile, ResetKind, gateway,
    profile::Pci,
};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_PCI_REQ_IRQ_INDEX,
};

use super::{
    bar::{self, MAX_ACCESS, Place},
    config::{CONFIG_BYTES, ConfigSpace},
    dma::DmaMap,
    irqs::{Irqs, MSIX_INDEX},
    server::{Device, Server},
    vsc::Spaces,
};
use crate::{
    clients::{self, Clients, Slot},
    memory::Files,
    owner::{Owner, Sink},
    raise::HeldUp,
    socket::signal,
};

/// What the model's effects reach: shared by the socket's thread and the timer.
struct Wires {
    dma: RwLock<DmaMap>,
    irqs: Mutex<Irqs>,
    bus_master: AtomicBool,
    slot: Slot,
    // The connection, until it is ended from here. Lock order: interrupts, client.
    client: Mutex<Weak<UnixStream>>,
    function: FunctionId,
}

impl Wires {
    /// True if the function may reach the bus.
    fn reaches(&self) -> bool {
        self.bus_master.load(Ordering::Acquire) && !self.slot.is_empty()
    }

    fn irqs(&self) -> MutexGuard<'_, Irqs> {
        self.irqs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dma(&self) -> RwLockWriteGuard<'_, DmaMap> {
        self.dma.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> MutexGuard<'_, Weak<UnixStream>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection of a client that has held up who signals to it. The interrupts' lock keeps the next
    /// client from being taken for it.
    fn drop_if_held_up(&self, irqs: &Irqs) {
        if irqs.held_up()
            && let Some(stream) = std::mem::take(&mut *self.client()).upgrade()
        {
            log::warn!("function {}: client dropped: {HeldUp}", self.function.0);
            // It fails if the client has gone by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Sink for Wires {
    fn write(&self, addr: u64, data: &[u8], order: Order) {
        if self.reaches() {
            self.dma
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .write(addr, data, order);
        }
    }

    fn interrupt(&self, vector: u16) {
        if self.reaches() {
            let mut irqs = self.irqs();
            if irqs.raise(usize::from(vector)).is_err() {
                self.drop_if_held_up(&irqs);
            }
        }
    }

    fn reply(&self, _tag: u64, _delivery: Delivery, _outbox: &[u8]) {}

    fn event(&self, _event_type: u8, _sub_type: u8, _data: &[u8]) {}
}

struct Backend {
    owner: Arc<Owner>,
    profile: Arc<Profile>,
    function: FunctionId,
    wires: Arc<Wires>,
    config: ConfigSpace,
    msix_table: Vec<u8>,
    vectors: u16,
    bar_bytes: u64,
    clients: Clients,
    // The client said something: it did not only look whether someone listens.
    spoken: bool,
    // Changes of the slot that the configuration space knows of.
    slot_changes: u32,
}

/// Serves a function on `listener` until the process ends, or somebody shuts the listener down. Guest
/// memory must be such `files`.
///
/// # Errors
/// What `accept` says, if it cannot go on.
pub fn serve(
    owner: Arc<Owner>,
    function: FunctionId,
    listener: &UnixListener,
    clients: &Clients,
    files: Files,
) -> io::Result<()> {
    let profile = owner.with_card(|c, _| c.profile().clone());
    let pci = profile.pci();
    let wires = Arc::new(Wires {
        dma: RwLock::new(DmaMap::new(files)),
        irqs: Mutex::new(Irqs::new(pci.msix_vectors)),
        bus_master: AtomicBool::new(false),
        slot: clients.slot(function),
        client: Mutex::default(),
        function,
    });
    owner.attach(function, wires.clone());
    let server = Server {
        regions: regions(pci),
        irqs: irqs(pci),
    };
    let mut backend = Backend {
        owner,
        function,
        wires,
        config: ConfigSpace::new(&profile),
        profile: profile.clone(),
        msix_table: vec![0; usize::from(pci.msix_vectors) * 16],
        vectors: pci.msix_vectors,
        bar_bytes: 1 << pci.log_bar0,
        clients: clients.clone(),
        spoken: false,
        slot_changes: 0,
    };
    loop {
        let stream = Arc::new(clients::accept(listener)?);
        *backend.wires.client() = Arc::downgrade(&stream);
        // A panic of ours ends the client, not the process.
        let end = catch_unwind(AssertUnwindSafe(|| server.serve(stream, &mut backend)));
        match end {
            Ok(Ok(())) => {}
            // We have ended it, and said so.
            Ok(Err(_)) if backend.wires.irqs().held_up() => {}
            Ok(Err(e)) => log::warn!("function {}: client broke the protocol: {e}", function.0),
            Err(_) => log::error!("function {}: the server failed; see above", function.0),
        }
        if catch_unwind(AssertUnwindSafe(|| backend.client_gone())).is_err() {
            log::error!("function {}: the server failed; see above", function.0);
        }
    }
}

/// Bytes of each region.
fn regions(pci: &Pci) -> Vec<u64> {
    (0..VFIO_PCI_NUM_REGIONS)
        .map(|index| match index {
            VFIO_PCI_BAR0_REGION_INDEX => 1 << pci.log_bar0,
            VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_BYTES as u64,
            _ => 0,
        })
        .collect()
}

/// Flags and number of the interrupts of each index.
fn irqs(pci: &Pci) -> Vec<(u32, u32)> {
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| {
            let count = match index {
                VFIO_PCI_MSIX_IRQ_INDEX => u32::from(pci.msix_vectors),
                VFIO_PCI_ERR_IRQ_INDEX | VFIO_PCI_REQ_IRQ_INDEX => 1,
                _ => 0,
            };
            (VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, count)
        })
        .collect()
}

impl Backend {
    /// Submits an input that may read guest memory, which takes bus mastering.
    ///
    /// The map stays locked for reading meanwhile, and the sink locks it for reading again. That
    /// cannot block: the map is only ever written by this thread, which is here.
    fn submit(&self, input: Input<'_>) {
        match memory(&self.wires, &self.config) {
            Some(dma) => self.owner.submit(input, &*dma),
            None => self.owner.submit(input, &NoMemory),
        }
    }

    /// The client said something that a driver's monitor says.
    fn heard(&mut self) {
        if !self.spoken {
            self.spoken = true;
            self.clients.came(self.function);
        }
    }

    /// True if the function is in its slot. One that was put back is as it is after power on.
    fn is_there(&mut self) -> bool {
        let changes = self.wires.slot.changes();
        if changes != self.slot_changes {
            self.slot_changes = changes;
            self.config.reset();
            self.after_config();
            self.msix_table.fill(0);
        }
        !self.wires.slot.is_empty()
    }

    fn reset_function(&mut self, kind: ResetKind) {
        self.config.reset();
        self.after_config();
        self.msix_table.fill(0);
        self.submit(Input::Reset {
            function: self.function,
            kind,
        });
    }

    fn client_gone(&mut self) {
        self.reset_function(ResetKind::ClientGone);
        let unwired = self.wires.irqs().clear();
        // Closed without the lock.
        drop(unwired);
        let gone = self.wires.dma().clear();
        drop(gone);
        if std::mem::take(&mut self.spoken) {
            self.clients.went(self.function);
        }
    }

    fn after_config(&self) {
        self.wires
            .bus_master
            .store(self.config.bus_master(), Ordering::Release);
    }

    fn bar_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match bar::place(offset, self.vectors) {
            Place::Segment(at) => self
                .owner
                .with_card(|c, now| c.read_segment(self.function, at, data, now)),
            Place::MsixTable(at) => {
                for (to, from) in data.iter_mut().zip(self.msix_table.iter().skip(at)) {
                    *to = *from;
                }
            }
            Place::Uar { .. } | Place::Nothing => {}
        }
    }

    fn bar_write(&mut self, offset: u64, data: &[u8]) {
        let function = self.function;
        match bar::place(offset, self.vectors) {
            Place::Segment(offset) => self.submit(Input::SegmentWrite {
                function,
                offset,
                data,
            }),
            Place::MsixTable(at) => {
                for (to, from) in self.msix_table.iter_mut().skip(at).zip(data) {
                    *to = *from;
                }
            }
            Place::Uar { page, offset } => self.submit(Input::UarWrite {
                function,
                uar: page,
                offset,
                data,
            }),
            Place::Nothing => {}
        }
    }

    fn check(&self, region: u32, offset: u64, len: usize) -> io::Result<()> {
        let (size, most) = match region {
            VFIO_PCI_BAR0_REGION_INDEX => (self.bar_bytes, MAX_ACCESS),
            VFIO_PCI_CONFIG_REGION_INDEX => (CONFIG_BYTES as u64, CONFIG_BYTES),
            _ => (0, 0),
        };
        if len == 0 || len > most || offset.checked_add(len as u64).is_none_or(|end| end > size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no access of {len} bytes at {offset:#x} of region {region}"),
            ));
        }
        Ok(())
    }
}

/// The guest's memory, if the function may use it.
fn memory<'a>(wires: &'a Wires, config: &ConfigSpace) -> Option<RwLockReadGuard<'a, DmaMap>> {
    let map = || wires.dma.read().unwrap_or_else(PoisonError::into_inner);
    config.bus_master().then(map)
}

/// The card's address spaces, for the gateway in configuration space.
struct Gateway<'a> {
    owner: &'a Owner,
    profile: &'a Profile,
    function: FunctionId,
    dma: Option<RwLockReadGuard<'a, DmaMap>>,
}

impl Spaces for Gateway<'_> {
    fn size(&self, space: u16) -> Option<u32> {
        gateway::size(space, self.profile)
    }

    fn read(&self, at: gateway::Place) -> Option<gateway::Word> {
        let read = |c: &Card, now| c.read_space(self.function, at, now);
        self.owner.with_card(read)
    }

    fn write(&self, at: gateway::Place, value: u32) -> bool {
        let there = gateway::can_write(at, self.profile);
        if there {
            let input = Input::Gateway {
                function: self.function,
                at,
                value,
            };
            let mem = self.dma.as_deref();
            self.owner
                .submit(input, mem.map_or(&NoMemory, |m| m as &dyn GuestMemory));
        }
        there
    }
}

impl Device for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.heard();
        self.check(region, offset, data.len())?;
        if !self.is_there() {
            data.fill(0xff);
        } else if region == VFIO_PCI_CONFIG_REGION_INDEX {
            if ConfigSpace::is_extended(offset, data.len()) {
                let total = |c: &Card, _| c.total_vfs(self.function);
                self.config.set_total_vfs(self.owner.with_card(total));
            }
            self.config.read(offset, data, self.owner.now());
        } else if self.config.memory_enabled() {
            self.bar_read(offset, data);
        } else {
            data.fill(0xff);
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.heard();
        self.check(region, offset, data.len())?;
        if !self.is_there() {
            return Ok(());
        }
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            let spaces = Gateway {
                owner: &self.owner,
                profile: &self.profile,
                function: self.function,
                dma: memory(&self.wires, &self.config),
            };
            let caused = self.config.write(offset, data, &spaces, self.owner.now());
            drop(spaces);
            if caused.flr {
                self.reset_function(ResetKind::Flr);
            }
            self.after_config();
        } else if self.config.memory_enabled() {
            self.bar_write(offset, data);
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        writable: bool,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        self.heard();
        // Ours until the lock, which the card needs, is free: closing a file may take long.
        let file = file.map(Arc::new);
        self.wires
            .dma()
            .map(address, size, offset, writable, file.as_ref())
    }

    fn dma_unmap(&mut self, range: Option<(u64, u64)>) -> io::Result<()> {
        self.heard();
        let gone = match range {
            Some((address, size)) => self.wires.dma().unmap(address, size)?,
            None => self.wires.dma().clear(),
        };
        drop(gone);
        Ok(())
    }

    fn reset(&mut self) {
        self.heard();
        self.reset_function(ResetKind::Bus);
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        self.heard();
        fds.iter().try_for_each(signal)?;
        if index != MSIX_INDEX {
            // Error and request interrupts are offered because QEMU asks for them; neither is raised.
            return Ok(());
        }
        let mut fds = fds.into_iter().map(Arc::new).collect();
        let mut irqs = self.wires.irqs();
        let done = irqs.set(flags, start, count, &mut fds);
        self.wires.drop_if_held_up(&irqs);
        drop(irqs);
        // Closed without the lock.
        drop(fds);
        done
    }
}
