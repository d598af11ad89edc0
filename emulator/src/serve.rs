// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `fwctl-emu serve`: everything is checked and listens before anything is served.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, RawFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use fw_model::{
    Card, CardOptions, EventPath, FunctionId, Input, MemStore, NoMemory, Notice, Overlay, Profile,
    Store,
    fault::{Fault, MAX_FAULTS},
    limits::{MAX_FUNCTIONS, MAX_SAVED},
    record::Head,
};

use rustix::process::{Resource, geteuid, getrlimit, setrlimit};

use crate::{
    clients::Clients,
    control, files,
    memory::Files,
    owner::{Owner, Told},
    passed::Passed,
    pci, qmp,
    record::{Disk, FlightRecorder, Recorder},
    sandbox,
    socket::{self, Listening, Place, SocketFile},
    store::FileStore,
    trace,
    usage::Usage,
    virtio,
};

/// How a function is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A PCI function.
    VfioUser,
    /// A virtio device.
    VhostUser,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::VfioUser => "vfio-user",
            Self::VhostUser => "vhost-user",
        }
    }
}

/// A function to serve.
#[derive(Clone, Debug)]
pub struct Door {
    /// How.
    pub transport: Transport,
    /// Where.
    pub at: Place,
}

/// What to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// The functions, in their order on the card.
    pub doors: Vec<Door>,
    /// Built-in profile or TOML file.
    pub profile: String,
    /// A file that adds commands and registers to the firmware.
    pub overlay: Option<PathBuf>,
    /// State directory.
    pub state: Option<PathBuf>,
    /// Take what is before a damaged place in it.
    pub state_recover: bool,
    /// A saved card to go on with.
    pub load: Option<PathBuf>,
    /// Control socket.
    pub control: Option<Place>,
    /// Where to say that all sockets listen.
    pub ready_fd: Option<RawFd>,
    /// End when the last client has gone.
    pub exit_with_client: bool,
    /// Seed of the card.
    pub seed: u64,
    /// Log every command.
    pub log_commands: bool,
    /// What goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// Write a trace to this file.
    pub trace: Option<PathBuf>,
    /// Write a record to this file.
    pub record: Option<PathBuf>,
    /// What guest memory may be.
    pub files: Files,
    /// A folder in which `ctl save` may make files, beside that of the state.
    pub save_dir: Option<PathBuf>,
    /// What the process may still do once it serves; if not said, as much as the kernel can prevent.
    pub sandbox: Option<sandbox::Mode>,
    /// Where to write what led to a panic of the model.
    pub dump_dir: Option<PathBuf>,
    /// QEMU's control socket: the machine stands while a command is stopped.
    pub qmp: Option<PathBuf>,
}

/// Why the process ends.
enum End {
    Signal,
    Quit,
    LastClient,
    Failed(anyhow::Error),
}

/// Serves until SIGTERM, SIGINT, SIGHUP, `quit` on the control socket or, if asked for, until the last
/// client has gone. Removes its sockets.
///
/// # Errors
/// What failed, or a [`Usage`] that is found before anything is served.
pub fn serve(o: Options) -> anyhow::Result<()> {
    let (ready, mut prepared, ends) = prepare(o)?;
    // Removed when this function ends, in whichever way.
    let _files = prepared.take_files();
    let owner = prepared.owner.clone();
    let end = holder(&prepared).and_then(|holder| {
        let end = run(prepared, ready, &ends, holder.clone());
        // However it ended: nobody else lets the machine run on.
        if let Some(h) = holder {
            h.end();
        }
        end
    });
    owner.end_trace();
    owner.end_record();
    owner.end_flight();
    end.and_then(|()| failed_late(&ends))
}

/// What failed when there was nobody any more who waited for it: the last of a record that cannot be written.
fn failed_late(ends: &Receiver<End>) -> anyhow::Result<()> {
    let failed = ends.try_iter().find_map(|e| match e {
        End::Failed(e) => Some(e),
        _ => None,
    });
    failed.map_or(Ok(()), Err)
}

struct Prepared {
    options: Options,
    owner: Arc<Owner>,
    doors: Vec<(Door, Listening)>,
    control: Option<Listening>,
    signals: File,
    // Of those that bring the end.
    ends: Sender<End>,
    record: Option<Written>,
    trace: Option<Written>,
}

impl Prepared {
    fn take_files(&mut self) -> Vec<SocketFile> {
        let doors = self.doors.iter_mut().map(|d| &mut d.1);
        doors
            .chain(&mut self.control)
            .filter_map(|l| l.file.take())
            .collect()
    }
}

/// Checks everything and listens, so that a bad option is said before anything is served.
fn prepare(options: Options) -> anyhow::Result<(Option<File>, Prepared, Receiver<End>)> {
    if options.doors.is_empty() {
        bail!(Usage(
            "nothing to serve: give --vfio-user PATH or --vhost-user PATH".into()
        ));
    }
    if options.doors.len() > MAX_FUNCTIONS {
        let given = options.doors.len();
        bail!(Usage(format!(
            "{given} functions: a card has at most {MAX_FUNCTIONS}"
        )));
    }
    check_files(&options)?;
    check_folder("--save-dir", options.save_dir.as_deref())?;
    check_folder("--dump-dir", options.dump_dir.as_deref())?;
    if options.faults.len() > MAX_FAULTS {
        let given = options.faults.len();
        bail!(Usage(format!("{given} faults: there may be {MAX_FAULTS}")));
    }
    let mut places: Vec<&Place> = options.doors.iter().map(|d| &d.at).collect();
    places.extend(&options.control);
    let fds: Vec<RawFd> = places.iter().filter_map(|p| p.fd()).collect();
    while let Some(p) = places.pop() {
        if places.contains(&p) {
            bail!(Usage(format!("socket {p}: given twice")));
        }
    }
    let mut passed =
        Passed::take(&fds, options.ready_fd).map_err(|e| Usage::of(format!("{e:#}")))?;
    let mut profile = profile(&options.profile)?;
    if let Some(file) = &options.overlay {
        profile = profile.with_overlay(overlay(file)?);
    }
    let mut store: Box<dyn Store + Send> = match &options.state {
        Some(dir) => Box::new(FileStore::open(dir, options.state_recover)?),
        None => Box::new(MemStore::default()),
    };
    let stored = store.load()?;
    raise_file_limit();
    // Signals are blocked before the first thread, so that all threads inherit it.
    block_signals().context("signals")?;
    let signals = signal_fd().context("signals")?;
    let mut doors = Vec::new();
    for d in &options.doors {
        doors.push((d.clone(), socket::listen(&d.at, &mut passed)?));
    }
    let control = options
        .control
        .as_ref()
        .map(|at| socket::listen(at, &mut passed))
        .transpose()?;
    let kept = profile.clone();
    let card = match &options.load {
        Some(file) => load(file, profile, &options)?,
        None => Card::new(profile, CardOptions { seed: options.seed }, &stored),
    };
    let dumps = dump_folder(&options)?;
    let record = Written::open("--record", options.record.as_deref())?;
    let trace = Written::open("--trace", options.trace.as_deref())?;
    // All files are open and no thread runs yet: those that come are restricted too.
    restrict(&options, &doors, control.as_ref(), &dumps)?;
    let owner = Owner::new(card, store);
    owner
        .keep(|card| FlightRecorder::start(card, kept, head(&options), dumps))
        .context("flight recorder")?;
    if options.log_commands {
        owner.log_commands();
    }
    let (ends, end) = channel();
    Ok((
        passed.ready(),
        Prepared {
            options,
            owner,
            doors,
            control,
            signals,
            ends,
            record,
            trace,
        },
        end,
    ))
}

/// Checks that no file that is to be written is one that is written or read besides.
fn check_files(o: &Options) -> anyhow::Result<()> {
    type Given<'a> = (&'static str, Option<&'a Path>);
    fn given<'a>(all: &[Given<'a>]) -> Vec<(&'static str, &'a Path)> {
        all.iter().filter_map(|(o, p)| Some((*o, (*p)?))).collect()
    }
    let profile = is_file(&o.profile).then_some(Path::new(&o.profile));
    files::apart(
        &given(&[
            ("--trace", o.trace.as_deref()),
            ("--record", o.record.as_deref()),
        ]),
        &given(&[
            ("--overlay", o.overlay.as_deref()),
            ("--load", o.load.as_deref()),
            ("--profile", profile),
        ]),
    )
}

/// Checks that a folder that an option names is there.
fn check_folder(option: &str, dir: Option<&Path>) -> anyhow::Result<()> {
    let Some(dir) = dir else { return Ok(()) };
    match fs::metadata(dir) {
        Ok(m) if m.is_dir() => Ok(()),
        Ok(_) => bail!("{option} {}: no folder", dir.display()),
        Err(e) => bail!("{option} {}: no folder: {e}", dir.display()),
    }
}

/// A file that an option has written. What it holds is kept until it is sure that something is written.
struct Written {
    option: &'static str,
    file: File,
    name: String,
    // Pipes and devices have nothing to forget.
    holds: bool,
}

impl Written {
    /// Opens it, made if it is not there.
    fn open(option: &'static str, path: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let name = path.display().to_string();
        let open = || -> io::Result<Self> {
            let mut how = OpenOptions::new();
            let file = how.write(true).create(true).truncate(false).open(path)?;
            Ok(Self {
                option,
                holds: file.metadata()?.is_file(),
                file,
                name: name.clone(),
            })
        };
        let opened = open().with_context(|| format!("{option} {name}"))?;
        Ok(Some(opened))
    }

    /// Forgets what it held.
    fn empty(&self) -> anyhow::Result<()> {
        if self.holds {
            let done = self.file.set_len(0);
            done.with_context(|| format!("{} {}", self.option, self.name))?;
        }
        Ok(())
    }
}

/// Has the card recorded and traced from here on. A file is emptied when all else has begun, so that a start
/// that fails takes nothing away.
fn begin(
    o: &Options,
    owner: &Owner,
    ends: &Sender<End>,
    mut to_record: Option<Written>,
    mut to_trace: Option<Written>,
) -> anyhow::Result<()> {
    for holds in [false, true] {
        let now = |w: &mut Written| w.holds == holds;
        let (record_to, trace_to) = (to_record.take_if(now), to_trace.take_if(now));
        for file in [&record_to, &trace_to].into_iter().flatten() {
            file.empty()?;
        }
        if let Some(w) = record_to {
            record(owner, w.file, &w.name, head(o), ends.clone())?;
        }
        if let Some(w) = trace_to {
            let head = trace::Entry::Head {
                profile: o.profile.clone(),
                program: env!("CARGO_PKG_VERSION").into(),
            };
            let recorder = trace::Recorder::start(w.file, w.name.clone(), &head);
            let recorder = recorder.with_context(|| format!("--trace {}", w.name))?;
            owner.trace(recorder);
        }
    }
    Ok(())
}

/// Puts the process into its sandbox.
fn restrict(
    o: &Options,
    doors: &[(Door, Listening)],
    control: Option<&Listening>,
    dumps: &Path,
) -> anyhow::Result<()> {
    let listening = doors.iter().map(|d| &d.1).chain(control);
    let files = listening.filter_map(|l| l.file.as_ref());
    let given = o.state.iter().chain(&o.save_dir).map(PathBuf::as_path);
    let writable = given.chain([dumps]);
    let needs = sandbox::Needs {
        writable: writable.map(Into::into).collect(),
        removable: files.map(|f| sandbox::folder(f.path())).collect(),
        connects: o.qmp.is_some(),
    };
    let missing = sandbox::apply(o.sandbox.unwrap_or_default(), &needs).context("--sandbox")?;
    if let (Some(mode), false) = (o.sandbox, missing.is_empty()) {
        let mode = format!("{mode:?}").to_lowercase();
        bail!(
            "--sandbox {mode}: {}; leave the option out to serve with less, or give --sandbox off",
            missing.join("; ")
        );
    }
    for what in missing {
        log::warn!("sandbox: {what}");
    }
    Ok(())
}

/// As many files as the system lets us have: what clients may make us keep open is bounded one by one.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, the last clients are refused.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The folder for what led to a panic of the model: one that is given, or this user's own among the
/// temporary ones, so that the sandbox opens no folder that others use.
fn dump_folder(o: &Options) -> anyhow::Result<PathBuf> {
    let given = [&o.dump_dir, &o.save_dir, &o.state];
    if let Some(dir) = given.into_iter().flatten().next() {
        return Ok(dir.clone());
    }
    let user = geteuid().as_raw();
    let dir = std::env::temp_dir().join(format!("fwctl-emu-{user}"));
    // It may be there from another time.
    let made = DirBuilder::new().mode(0o700).create(&dir);
    let held = fs::symlink_metadata(&dir);
    if !held.is_ok_and(|m| m.is_dir() && m.uid() == user) {
        let why = made.err().map_or_else(String::new, |e| format!(": {e}"));
        bail!(
            "{} is no folder of yours{why}; --dump-dir names another",
            dir.display()
        );
    }
    Ok(dir)
}

/// What a record of this card begins with, but for the card.
fn head(o: &Options) -> Head {
    Head {
        program: env!("CARGO_PKG_VERSION").into(),
        profile: o.profile.clone(),
        overlay: o.overlay.as_ref().map(|p| p.display().to_string()),
        card: Vec::new(),
    }
}

/// Has everything recorded. When that cannot go on, the process ends.
fn record(
    owner: &Owner,
    file: impl Disk,
    name: &str,
    head: Head,
    ends: Sender<End>,
) -> anyhow::Result<()> {
    owner.record(|card| {
        let head = Head {
            card: card.save()?,
            ..head
        };
        let told = name.to_owned();
        let failed = move |e| {
            let why = anyhow!("--record {told}: {e}; what cannot be recorded must not happen");
            let _ = ends.send(End::Failed(why));
        };
        Recorder::start(file, &head, failed).with_context(|| format!("--record {name}"))
    })
}

impl Door {
    /// How the function's events reach its driver.
    fn events(&self) -> EventPath {
        match self.transport {
            Transport::VfioUser => EventPath::EventQueues,
            Transport::VhostUser => EventPath::Channel,
        }
    }
}

/// A card from a file that `ctl save` wrote; it must have the functions that are to be served.
fn load(file: &Path, profile: Arc<Profile>, o: &Options) -> anyhow::Result<Card> {
    let name = file.display();
    if o.state.is_some() {
        bail!(Usage(format!(
            "--load {name}: a saved card has its own non-volatile state; leave --state out"
        )));
    }
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|f| f.take(MAX_SAVED as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("--load {name}"))?;
    let card = Card::load(profile, &bytes).with_context(|| format!("--load {name}"))?;
    let had: Vec<_> = card.functions().filter_map(|f| card.events(f)).collect();
    let given: Vec<_> = o.doors.iter().map(Door::events).collect();
    if had != given {
        let names: Vec<_> = had
            .iter()
            .map(|e| match e {
                EventPath::EventQueues => "--vfio-user",
                EventPath::Channel => "--vhost-user",
            })
            .collect();
        let names = names.join(", ");
        bail!(Usage(format!(
            "--load {name}: the card was saved with other functions; give {names} in this order"
        )));
    }
    Ok(card)
}

/// True if a profile's name is that of a file.
fn is_file(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some_and(|e| e == "toml")
}

/// A built-in profile, or one from a file: with a slash or `.toml` in its name.
///
/// # Errors
/// What is wrong with it, and where.
pub fn profile(name: &str) -> anyhow::Result<Arc<Profile>> {
    if !is_file(name) {
        return Profile::builtin(name).map_err(|e| Usage::of(e.to_string()));
    }
    let text = files::text("profile", Path::new(name))?;
    Ok(Profile::parse(&text, name)?)
}

/// An overlay from its file.
///
/// # Errors
/// What is wrong with it, and where.
pub fn overlay(file: &Path) -> anyhow::Result<Arc<Overlay>> {
    let text = files::text("--overlay", file)?;
    Ok(Overlay::parse(&text, &file.display().to_string())?)
}

/// Who holds the virtual machine while a command is stopped.
fn holder(p: &Prepared) -> anyhow::Result<Option<Arc<qmp::Holder>>> {
    let Some(path) = p.options.qmp.clone() else {
        return Ok(None);
    };
    let started = qmp::Holder::start(p.owner.clone(), path);
    Ok(Some(Arc::new(started.context("thread qmp")?)))
}

fn run(
    p: Prepared,
    ready: Option<File>,
    end: &Receiver<End>,
    holder: Option<Arc<qmp::Holder>>,
) -> anyhow::Result<()> {
    let ends = p.ends;
    let mut signals = p.signals;
    let tell = ends.clone();
    spawn("signals", move || {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        if signals.read_exact(&mut info).is_ok() {
            let _ = tell.send(End::Signal);
        }
    })?;
    let tell = ends.clone();
    let with_client = p.options.exit_with_client;
    let clients = Clients::new(move || {
        if with_client {
            let _ = tell.send(End::LastClient);
        }
    });
    let owner = p.owner.clone();
    spawn("timer", move || owner.run_timer())?;
    // Before anything happens to the card.
    begin(&p.options, &p.owner, &ends, p.record, p.trace)?;
    for fault in &p.options.faults {
        p.owner.submit(Input::Fault(fault), &NoMemory);
    }
    let names: Vec<String> = p
        .doors
        .iter()
        .enumerate()
        .map(|(n, (d, _))| format!("function {n} {} {}", d.transport.name(), d.at))
        .collect();
    let loaded = p.owner.with_card(|c, _| c.functions().collect::<Vec<_>>());
    for (n, (door, listening)) in p.doors.into_iter().enumerate() {
        let function = match loaded.get(n) {
            Some(f) => *f,
            None => p
                .owner
                .add_function(door.events())
                .ok_or_else(|| anyhow!("a card has at most {MAX_FUNCTIONS} functions"))?,
        };
        let files = p.options.files;
        open(&p.owner, &clients, function, &door, listening, &ends, files)?;
    }
    let events = control::Events::default();
    let (told, pulled) = (events.clone(), clients.clone());
    let of_clients = events.clone();
    clients.watch(move |f, socket, is_there| of_clients.client(f, socket, is_there));
    p.owner.watch(Box::new(move |what| {
        told.happened(what);
        let Told::Notice(f, notice) = what else {
            return;
        };
        match notice {
            Notice::Stopped(..) => {
                if let Some(h) = &holder {
                    h.stopped();
                }
            }
            Notice::Removal => pulled.pull(f),
            Notice::Crash => {
                if let Some(h) = &holder {
                    h.end();
                }
                std::process::abort();
            }
            _ => {}
        }
    }));
    if let Some(l) = p.control {
        let quit = ends.clone();
        let server = Arc::new(control::Server {
            owner: p.owner.clone(),
            clients: clients.clone(),
            events,
            quit: Box::new(move || drop(quit.send(End::Quit))),
            stored: p.options.state.is_some(),
            quitting: false.into(),
        });
        spawn("control", move || server.clone().serve(&l.listener))?;
    }
    log::info!(
        "serving profile {}: {}",
        p.options.profile,
        names.join(", ")
    );
    if let Some(mut f) = ready {
        f.write_all(b"ready\n").context("--ready-fd")?;
    }
    match end.recv() {
        Ok(End::Failed(e)) => Err(e),
        Ok(End::Signal) => {
            log::info!("ended by signal");
            Ok(())
        }
        Ok(End::Quit) => {
            log::info!("ended by the control socket");
            Ok(())
        }
        Ok(End::LastClient) => {
            log::info!("ended with the last client");
            Ok(())
        }
        Err(_) => Err(anyhow!("all threads ended")),
    }
}

/// Serves a function of the card from a thread of its own.
fn open(
    owner: &Arc<Owner>,
    clients: &Clients,
    function: FunctionId,
    door: &Door,
    l: Listening,
    ends: &Sender<End>,
    files: Files,
) -> anyhow::Result<()> {
    let name = door.at.to_string();
    clients.add(function, &name, door.transport.name());
    let (owner, clients, ends, transport) =
        (owner.clone(), clients.clone(), ends.clone(), door.transport);
    spawn(&format!("function {}", function.0), move || {
        let end = match transport {
            Transport::VfioUser => {
                pci::door::serve(owner.clone(), function, &l.listener, &clients, files)
            }
            Transport::VhostUser => l
                .listener
                .try_clone()
                .and_then(|l| virtio::serve(&owner, function, &name, l, &clients, files)),
        };
        if let Err(e) = end {
            let _ = ends.send(End::Failed(anyhow!("socket {name}: {e}")));
        }
    })
}

/// Pause after a service has failed, so that one that always does leaves time to others.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Runs a service of the process in a thread of its own. A panic of ours does not end it: it begins again.
fn spawn(name: &str, mut service: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    let called = name.to_owned();
    let live = move || {
        while catch_unwind(AssertUnwindSafe(&mut service)).is_err() {
            log::error!("the thread {called} failed and begins again; see above; this is a bug");
            thread::sleep(AFTER_FAILURE);
        }
    };
    thread::Builder::new()
        .name(name.into())
        .spawn(live)
        .with_context(|| format!("thread {name}"))?;
    Ok(())
}

/// SIGTERM, SIGINT and SIGHUP.
fn signal_set() -> libc::sigset_t {
    // SAFETY: sigemptyset makes the zeroed set valid; the signals exist.
    unsafe {
        let mut set: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGHUP);
        set
    }
}

fn block_signals() -> io::Result<()> {
    let set = signal_set();
    // SAFETY: `set` is a valid set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut()) } {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

fn signal_fd() -> io::Result<File> {
    let set = signal_set();
    // SAFETY: `set` is a valid set; -1 asks for a new descriptor, which nobody else owns.
    unsafe {
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let f = File::from_raw_fd(fd);
        debug_assert_eq!(f.as_raw_fd(), fd);
        Ok(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contained::tests::Broken;
    use fw_model::ResetKind;
    use std::collections::BTreeMap;

    #[test]
    fn a_service_that_fails_begins_again() {
        let (told, heard) = channel();
        let mut runs = 0;
        let service = move || {
            runs += 1;
            told.send(runs).unwrap();
            assert!(runs > 2, "on purpose: run {runs}");
        };
        spawn("failing", service).unwrap();
        let limit = Duration::from_secs(10);
        assert_eq!(
            [1, 2, 3].map(|_| heard.recv_timeout(limit)),
            [1, 2, 3].map(Ok)
        );
        // It has ended: nobody will send any more.
        assert!(heard.recv_timeout(limit).is_err());
    }

    /// As when it cannot be written: the process ends with what is said, and nothing happens to the card.
    #[test]
    fn a_panic_of_the_thread_that_writes_the_record_ends_the_device() {
        let profile = Profile::builtin("minimal").unwrap();
        let card = Card::new(profile, CardOptions { seed: 0 }, &BTreeMap::new());
        let owner = Owner::new(card, Box::new(MemStore::default()));
        let f = owner.add_function(EventPath::EventQueues).unwrap();
        let (ends, end) = channel();
        let head = Head {
            program: String::new(),
            profile: "minimal".into(),
            overlay: None,
            card: Vec::new(),
        };
        // The head is written, longer than the writer's buffer.
        record(&owner, Broken(1), "file", head, ends).unwrap();
        let reset = || {
            let kind = ResetKind::Flr;
            owner.submit(Input::Reset { function: f, kind }, &NoMemory);
            owner.with_card(|c, _| c.generation(f).unwrap())
        };
        reset();
        let Ok(End::Failed(why)) = end.recv_timeout(Duration::from_secs(10)) else {
            panic!("it does not end");
        };
        assert_eq!(
            why.to_string(),
            "--record file: this program panicked, see above; this is a bug; what cannot be recorded \
             must not happen"
        );
        // The first that finds that it cannot be recorded is the last that happens.
        let found = reset();
        assert_eq!([reset(), reset()], [found, found]);
        assert!(matches!(failed_late(&end), Ok(())));
    }

    /// The last that is written is written when nobody waits any more.
    #[test]
    fn a_record_whose_end_cannot_be_written_is_no_success() {
        let (ends, end) = channel();
        ends.send(End::Quit).unwrap();
        ends.send(End::Failed(anyhow!("full"))).unwrap();
        assert_eq!(failed_late(&end).unwrap_err().to_string(), "full");
    }
}
