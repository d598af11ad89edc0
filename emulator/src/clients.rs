// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which functions have a client, and what happens when the last one goes.

use std::{
    io,
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use fw_model::FunctionId;

/// Pause while there are too few file descriptors, so that nothing spins.
const AFTER_SHORTAGE: Duration = Duration::from_millis(100);

/// The clients of all doors.
#[derive(Clone)]
pub struct Clients {
    inner: Arc<Inner>,
}

struct Inner {
    connected: Mutex<Vec<Client>>,
    last_gone: Box<dyn Fn() + Send + Sync>,
    // Told who came and who went.
    watch: OnceLock<Watch>,
}

/// Told of a function, its socket, and whether it has a client now.
type Watch = Box<dyn Fn(FunctionId, &str, bool) + Send + Sync>;

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
                watch: OnceLock::new(),
            }),
        }
    }

    /// Tells `watch` from now on who comes and who goes; only the first one that asks.
    pub fn watch(&self, watch: impl Fn(FunctionId, &str, bool) + Send + Sync + 'static) {
        drop(self.inner.watch.set(Box::new(watch)));
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
        let known = self.lock().iter_mut().find(|c| c.function == f).map(|c| {
            c.connected = connected;
            c.socket.clone()
        });
        let socket = known.unwrap_or_default();
        if let Some(watch) = self.inner.watch.get() {
            watch(f, &socket, connected);
        }
        socket
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.inner
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next client; waits while there are too few file descriptors or too little memory for one.
///
/// # Errors
/// Nobody can connect any more.
pub fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(e) if is_shortage(&e) => {
                log::warn!("a client cannot be accepted yet: {e}");
                thread::sleep(AFTER_SHORTAGE);
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => return Err(e),
        }
    }
}

/// True for an error of accept that passes: too few file descriptors or too little memory.
#[must_use]
pub fn is_shortage(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
