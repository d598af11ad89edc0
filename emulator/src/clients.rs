// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which functions have a client, and what happens when the last one goes.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use fw_model::FunctionId;

/// The clients of all doors.
#[derive(Clone)]
pub struct Clients {
    inner: Arc<Inner>,
}

struct Inner {
    connected: Mutex<Vec<Client>>,
    last_gone: Box<dyn Fn() + Send + Sync>,
}

/// Whether a function is in its slot: how often it was pulled and put back.
#[derive(Clone, Debug, Default)]
pub struct Slot(Arc<AtomicU32>);

impl Slot {
    /// How often it was pulled or put back so far.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// True if it is out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes() % 2 == 1
    }

    /// Pulls it or puts it back; false if it was out or in already.
    pub fn set_empty(&self, empty: bool) -> bool {
        let change = |n: u32| ((n % 2 == 1) != empty).then(|| n.wrapping_add(1));
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .is_ok()
    }
}

struct Client {
    function: FunctionId,
    socket: String,
    transport: &'static str,
    connected: bool,
    slot: Slot,
}

impl Clients {
    /// No client yet. `last_gone` is called whenever the last one goes.
    pub fn new(last_gone: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            inner: Arc::new(Inner {
                connected: Mutex::default(),
                last_gone: Box::new(last_gone),
            }),
        }
    }

    /// Tells of a function, its socket and its transport.
    pub fn add(&self, function: FunctionId, socket: &str, transport: &'static str) {
        self.lock().push(Client {
            function,
            socket: socket.to_owned(),
            transport,
            connected: false,
            slot: Slot::default(),
        });
    }

    /// A client came.
    pub fn came(&self, f: FunctionId) {
        // Not in the macro: what is not logged is not evaluated.
        let socket = self.set(f, true);
        log::info!("function {}: client connected on {socket}", f.0);
    }

    /// A client went.
    pub fn went(&self, f: FunctionId) {
        let socket = self.set(f, false);
        log::info!("function {}: client gone from {socket}", f.0);
        if self.lock().iter().all(|c| !c.connected) {
            (self.inner.last_gone)();
        }
    }

    /// A function's socket, its transport, and whether it has a client.
    #[must_use]
    pub fn of(&self, f: FunctionId) -> Option<(String, &'static str, bool)> {
        let all = self.lock();
        let c = all.iter().find(|c| c.function == f)?;
        Some((c.socket.clone(), c.transport, c.connected))
    }

    /// A function's slot.
    #[must_use]
    pub fn slot(&self, f: FunctionId) -> Slot {
        let all = self.lock();
        let known = all.iter().find(|c| c.function == f);
        known.map(|c| c.slot.clone()).unwrap_or_default()
    }

    /// Pulls a function out of its slot; one without a slot stays where it is.
    pub fn pull(&self, f: FunctionId) {
        match self.lock().iter().find(|c| c.function == f) {
            Some(c) if c.transport == "vfio-user" => drop(c.slot.set_empty(true)),
            _ => log::warn!("function {}: only one on vfio-user can be pulled", f.0),
        }
    }

    fn set(&self, f: FunctionId, connected: bool) -> String {
        match self.lock().iter_mut().find(|c| c.function == f) {
            Some(c) => {
                c.connected = connected;
                c.socket.clone()
            }
            None => String::new(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.inner
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until `fd` can be read or accepted from.
///
/// # Errors
/// What `poll` says.
pub fn wait_readable(fd: &impl AsRawFd) -> io::Result<()> {
    let mut p = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        // SAFETY: `p` is one valid pollfd that outlives the call.
        let n = unsafe { libc::poll(&raw mut p, 1, -1) };
        if n > 0 {
            return Ok(());
        }
        let e = io::Error::last_os_error();
        if n < 0 && e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}
