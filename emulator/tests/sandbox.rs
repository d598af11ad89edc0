// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The sandbox, by an attempt at each thing that it forbids from inside a process that is in it, and the
//! same attempts without it: they must fail because of the sandbox and of nothing else.
#![allow(clippy::unwrap_used)] // A failing helper fails its test.

mod process;

use std::{
    ffi::CString,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            net::{UnixListener, UnixStream},
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use fwctl_emu::sandbox::{self, Mode, Needs};
use libc::{EACCES, ENOSYS, EPERM};
use process::{Control, Emulator, Folder, LIMIT};
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Tells the test that is called again in a process of its own what to do there.
const MODE: &str = "SANDBOX_TEST_MODE";
const FOLDER: &str = "SANDBOX_TEST_FOLDER";

/// What came of an attempt: the errno, or none.
type Outcome = Option<i32>;

fn call(number: libc::c_long, arguments: [usize; 6]) -> Outcome {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: each caller's arguments are numbers, null, or strings that outlive the call; no call here
    // writes to memory of ours.
    let done = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    (done < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap())
}

fn errno<T>(r: std::io::Result<T>) -> Outcome {
    r.err().map(|e| e.raw_os_error().unwrap())
}

/// A new process; it is gone at once.
fn fork(number: libc::c_long) -> Outcome {
    // SAFETY: as fork; the child does nothing but end.
    let pid = unsafe { libc::syscall(number, libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        // SAFETY: ends the child without touching what it shares with us.
        0 => unsafe { libc::_exit(0) },
        1.. => None,
        _ => std::io::Error::last_os_error().raw_os_error(),
    }
}

/// Each attempt: its name, what it does, and the errno that the sandbox answers.
fn attempts(folder: &Path) -> Vec<(&'static str, Outcome, i32)> {
    let outside = folder.join("outside");
    let state = folder.join("state");
    let name = |p: &Path| CString::new(p.to_str().unwrap()).unwrap();
    let (nobody, root) = (name(Path::new("/no/such/program")), name(Path::new("/")));
    let at = |s: &CString| s.as_ptr() as usize;
    let old = name(&outside.join("old"));
    let here = libc::AT_FDCWD as usize;
    let socket = |family: i32, kind: i32| {
        call(
            libc::SYS_socket,
            [family as usize, kind as usize, 0, 0, 0, 0],
        )
    };
    let mmap = |prot: i32| {
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
        call(
            libc::SYS_mmap,
            [0, 4096, prot as usize, flags, usize::MAX, 0],
        )
    };
    let make = |path: PathBuf| File::options().write(true).create_new(true).open(path);
    let none = [0; 6];
    vec![
        // Files.
        (
            "read a file outside",
            errno(File::open(outside.join("old"))),
            EACCES,
        ),
        (
            "list a folder outside",
            errno(fs::read_dir(&outside)),
            EACCES,
        ),
        (
            "write a file outside",
            errno(File::options().write(true).open(outside.join("old"))),
            EACCES,
        ),
        (
            "make a file outside",
            errno(make(outside.join("new"))),
            EACCES,
        ),
        ("read a password", errno(File::open("/etc/passwd")), EACCES),
        (
            "make a file in the sockets' folder",
            errno(make(folder.join("sockets/new"))),
            EACCES,
        ),
        (
            "remove a file outside",
            errno(fs::remove_file(outside.join("goes"))),
            EACCES,
        ),
        (
            "move a file out of the state",
            errno(fs::rename(state.join("b"), outside.join("b"))),
            EACCES,
        ),
        (
            "move a file into the state",
            errno(fs::rename(outside.join("old2"), state.join("c"))),
            EACCES,
        ),
        (
            "make a folder",
            errno(fs::create_dir(state.join("d"))),
            EPERM,
        ),
        (
            "make a link",
            errno(std::os::unix::fs::symlink("/", state.join("l"))),
            EPERM,
        ),
        (
            "cut a file by name",
            call(libc::SYS_truncate, [at(&old), 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "change a file's mode",
            call(libc::SYS_fchmodat, [here, at(&old), 0o777, 0, 0, 0]),
            EPERM,
        ),
        (
            "change a file's owner",
            call(libc::SYS_fchownat, [here, at(&old), 0, 0, 0, 0]),
            EPERM,
        ),
        // The network.
        ("TCP", socket(libc::AF_INET, libc::SOCK_STREAM), EPERM),
        (
            "TCP over IPv6",
            socket(libc::AF_INET6, libc::SOCK_STREAM),
            EPERM,
        ),
        ("UDP", socket(libc::AF_INET, libc::SOCK_DGRAM), EPERM),
        (
            "raw packets",
            socket(libc::AF_PACKET, libc::SOCK_RAW),
            EPERM,
        ),
        ("netlink", socket(libc::AF_NETLINK, libc::SOCK_RAW), EPERM),
        (
            "virtual sockets",
            socket(libc::AF_VSOCK, libc::SOCK_STREAM),
            EPERM,
        ),
        (
            "another unix socket",
            socket(libc::AF_UNIX, libc::SOCK_STREAM),
            EPERM,
        ),
        // Processes.
        (
            "run a program",
            call(libc::SYS_execve, [at(&nobody), 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "run a program by descriptor",
            call(libc::SYS_execveat, [here, at(&nobody), 0, 0, 0, 0]),
            EPERM,
        ),
        ("fork", fork(libc::SYS_clone), EPERM),
        ("clone3", call(libc::SYS_clone3, none), ENOSYS),
        (
            "trace a process",
            call(libc::SYS_ptrace, [16, usize::MAX / 2, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "read another's memory",
            call(libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "a signal to another process",
            call(libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "a signal to another's thread",
            call(libc::SYS_tgkill, [1, 1, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "another's descriptors",
            call(libc::SYS_pidfd_open, [1, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        // Code and the kernel.
        (
            "memory that is code",
            mmap(libc::PROT_READ | libc::PROT_EXEC),
            EPERM,
        ),
        (
            "memory that becomes code",
            call(
                libc::SYS_mprotect,
                [0, 0, libc::PROT_EXEC as usize, 0, 0, 0],
            ),
            EPERM,
        ),
        (
            "mount",
            call(libc::SYS_mount, [at(&nobody), at(&root), 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "unmount",
            call(libc::SYS_umount2, [at(&nobody), 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "chroot",
            call(libc::SYS_chroot, [at(&nobody), 0, 0, 0, 0, 0]),
            EPERM,
        ),
        ("a namespace", call(libc::SYS_unshare, none), EPERM),
        (
            "another user",
            call(libc::SYS_setuid, [usize::MAX, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "a program in the kernel",
            call(libc::SYS_bpf, [usize::MAX, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "a key",
            call(libc::SYS_keyctl, [usize::MAX, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        ("io_uring", call(libc::SYS_io_uring_setup, none), EPERM),
        (
            "performance counters",
            call(libc::SYS_perf_event_open, none),
            EPERM,
        ),
        (
            "page faults",
            call(libc::SYS_userfaultfd, [usize::MAX, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "a module",
            call(libc::SYS_finit_module, [usize::MAX, 0, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "a terminal's input",
            call(libc::SYS_ioctl, [0, libc::TIOCSTI as usize, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "who owns a descriptor",
            call(libc::SYS_fcntl, [0, libc::F_SETOWN as usize, 0, 0, 0, 0]),
            EPERM,
        ),
        (
            "dump of its memory",
            call(
                libc::SYS_prctl,
                [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0, 0],
            ),
            EPERM,
        ),
    ]
}

/// Numbers of system calls that are tried: more than any kernel has.
const NUMBERS: std::ops::Range<i64> = 0..1024;
/// The bit of the calls of x32, another way into the same kernel.
const X32: i64 = 0x4000_0000;

/// Not calls but ways back into the kernel's own probes (uretprobe, uprobe of x86-64): Linux asks no filter about
/// them, and kills who makes them by himself.
#[cfg(target_arch = "x86_64")]
const PROBES: [i64; 2] = [335, 336];
#[cfg(not(target_arch = "x86_64"))]
const PROBES: [i64; 0] = [];

/// Every system call that is not on the list, with arguments that it would refuse. Those whose arguments decide
/// are among the attempts.
fn sweep(connects: bool) -> (usize, Vec<String>) {
    let allowed = sandbox::calls::allowed(connects).unwrap();
    let mut wrong = Vec::new();
    let mut tried = 0;
    let numbers = NUMBERS.chain((0..400).map(|n| n | X32));
    for number in numbers.filter(|n| !allowed.contains_key(n) && !PROBES.contains(n)) {
        // A process that is made after all must not go on with this test.
        let outcome = match number {
            libc::SYS_fork | libc::SYS_vfork => fork(number),
            _ => call(number, [usize::MAX; 6]),
        };
        tried += 1;
        if outcome != Some(EPERM) {
            wrong.push(format!("{number:#x}: {outcome:?}"));
        }
    }
    (tried, wrong)
}

/// A system call of the other architecture of this processor.
#[cfg(target_arch = "x86_64")]
fn foreign() {
    // SAFETY: getpid of i386, which has no arguments and writes nothing but eax.
    unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => _) };
}

/// Connects to an abstract socket, and to one with a path.
fn connect_to(folder: &Path) -> [Outcome; 2] {
    let abstract_name = folder.join("abstract");
    let name = std::os::unix::net::SocketAddr::from_abstract_name(
        abstract_name.as_os_str().as_encoded_bytes(),
    );
    let path = folder.join("outside/listens");
    [
        errno(UnixStream::connect_addr(&name.unwrap())),
        errno(UnixStream::connect(path)),
    ]
}

/// What a process that serves needs, and may do.
fn rights(folder: &Path, listener: &UnixListener) {
    let state = folder.join("state");
    File::create_new(state.join("new"))
        .unwrap()
        .write_all(b"new")
        .unwrap();
    fs::rename(state.join("new"), state.join("a")).unwrap();
    File::create(state.join("a")).unwrap().set_len(10).unwrap();
    File::open(&state).unwrap().sync_all().unwrap();
    fs::remove_file(state.join("a")).unwrap();
    fs::remove_file(folder.join("sockets/s")).unwrap();
    let (mut got, _) = listener.accept().unwrap();
    let mut said = String::new();
    got.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
    // Threads that start now are no freer.
    let outside = folder.join("outside/old");
    let there = std::thread::Builder::new().name("late".into());
    let there = there.spawn(move || errno(File::open(outside))).unwrap();
    assert_eq!(there.join().unwrap(), Some(EACCES));
    // A panic is caught, with a backtrace.
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    assert!(trace.contains("rights"), "{trace}");
    assert!(std::panic::catch_unwind(|| panic!("on purpose")).is_err());
}

/// Called by the other tests in a process of its own; alone it does nothing.
#[test]
fn inside() {
    let Ok(what) = std::env::var(MODE) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let listener = UnixListener::bind(folder.join("listens")).unwrap();
    let mut client = UnixStream::connect(folder.join("listens")).unwrap();
    client.write_all(b"hello").unwrap();
    drop(client);
    let needs = Needs {
        writable: vec![folder.join("state")],
        removable: vec![folder.join("sockets")],
        connects: what == "connects",
    };
    let mode = match what.as_str() {
        "off" => Mode::Off,
        "log" => Mode::Log,
        _ => Mode::Enforce,
    };
    let missing = sandbox::apply(mode, &needs).unwrap();
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "this kernel lacks what the test is about"
    );
    // The harness has begun a line.
    println!();
    match what.as_str() {
        "sweep" | "connects" => {
            let (tried, wrong) = sweep(needs.connects);
            println!("swept {tried}: {wrong:?}");
        }
        #[cfg(target_arch = "x86_64")]
        "foreign" => foreign(),
        _ => {}
    }
    if needs.connects {
        println!("connected {:?}", connect_to(&folder));
    }
    let all = attempts(&folder);
    for (what, outcome, want) in &all {
        println!("attempt {what}: {outcome:?} want {want}");
    }
    if mode == Mode::Enforce {
        rights(&folder, &listener);
    }
    println!("inside: done");
}

/// Runs the test `inside` in its own process; its lines about attempts.
fn run(mode: &str) -> Vec<String> {
    let (end, said, log) = ran(mode, LIMIT);
    assert!(
        end.success() && said.contains("inside: done"),
        "{end:?} {said}\n{log}"
    );
    let kept = ["attempt ", "swept ", "connected "];
    let lines = said
        .lines()
        .filter(|l| kept.iter().any(|k| l.starts_with(k)));
    lines.map(str::to_owned).collect()
}

/// Runs the test `inside` in its own process: how it ended, standard output and error.
fn ran(mode: &str, limit: Duration) -> (ExitStatus, String, String) {
    let folder = Folder::new();
    for sub in ["state", "outside", "sockets"] {
        fs::create_dir(folder.at(sub)).unwrap();
    }
    for file in [
        "outside/old",
        "outside/old2",
        "outside/goes",
        "state/b",
        "sockets/s",
    ] {
        fs::write(folder.at(file), b"x").unwrap();
    }
    // What somebody outside of the sandbox listens on.
    let abstract_name = folder.at("abstract");
    let name = std::os::unix::net::SocketAddr::from_abstract_name(
        abstract_name.as_os_str().as_encoded_bytes(),
    );
    let _listener = UnixListener::bind_addr(&name.unwrap()).unwrap();
    let _other = UnixListener::bind(folder.at("outside/listens")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["inside", "--exact", "--nocapture", "--test-threads=1"])
        .env(MODE, mode)
        .env(FOLDER, folder.at(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + limit;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            // One that waits for ever, as a call that should have failed.
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let out = child.wait_with_output().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (out.status, text(&out.stdout), text(&out.stderr))
}

/// The kernel's version of Landlock.
fn landlock() -> i64 {
    // LANDLOCK_CREATE_RULESET_VERSION.
    const VERSION: usize = 1;
    // SAFETY: asks for the version and touches no memory.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) }
}

#[test]
fn every_call_that_is_not_on_the_list_fails() {
    // Few: each one that is added is to be thought about, and has a reason in sandbox/calls.rs.
    let listed = sandbox::calls::allowed(false).unwrap().len();
    assert_eq!(listed, 71);
    let swept = |mode| {
        let lines = run(mode);
        lines.into_iter().find(|l| l.starts_with("swept ")).unwrap()
    };
    let tried = NUMBERS.count() + 400 - PROBES.len();
    assert_eq!(swept("sweep"), format!("swept {}: []", tried - listed));
    // `connect` besides; `socket` has its rule.
    assert_eq!(
        swept("connects"),
        format!("swept {}: []", tried - listed - 2)
    );
}

#[test]
fn a_call_of_another_architecture_ends_the_process() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let (end, said, log) = ran("foreign", LIMIT);
    let signal = end.signal().map(|s| Some(s) == Signal::SYS.as_raw().into());
    // SIGSEGV: this kernel has no calls of 32 bits.
    let none = end.signal() == Some(Signal::SEGV.as_raw());
    assert!(signal == Some(true) || none, "{end:?} {said}\n{log}");
    assert!(!said.contains("inside: done"));
}

#[test]
fn who_may_connect_reaches_no_abstract_socket_where_the_kernel_can_tell() {
    let lines = run("connects");
    let line = lines.iter().find(|l| l.starts_with("connected ")).unwrap();
    // Scopes of sockets came with version 6 (Linux 6.12).
    let abstract_one = match landlock() {
        6.. => format!("{:?}", Some(EPERM)),
        _ => "None".to_owned(),
    };
    assert_eq!(line, &format!("connected [{abstract_one}, None]"));
}

#[test]
fn what_is_forbidden_fails_with_its_errno_and_what_is_needed_goes() {
    let enforced = run("enforce");
    let free = run("off");
    assert!(
        enforced
            .iter()
            .chain(&free)
            .all(|l| l.starts_with("attempt "))
    );
    assert_eq!((enforced.len(), free.len()), (46, 46));
    for (held, free) in enforced.iter().zip(&free) {
        let (got, want) = held.split_once(" want ").unwrap();
        assert!(got.ends_with(&format!(": Some({want})")), "{held}");
        assert_ne!(held, free, "it fails without a sandbox too");
    }
}

#[test]
fn who_must_connect_may_use_unix_sockets_and_no_others() {
    for line in run("connects").iter().filter(|l| l.starts_with("attempt ")) {
        let socket = ["TCP", "UDP", "raw packets", "netlink", "virtual sockets"];
        if line.contains("another unix socket") {
            assert!(line.contains(": None "), "{line}");
        } else if socket.iter().any(|s| line.contains(s)) {
            assert!(line.contains(": Some(1) "), "{line}");
        }
    }
}

#[test]
fn what_is_only_logged_happens() {
    assert_eq!(run("log"), run("off"));
}

#[test]
fn a_process_that_serves_is_in_its_sandbox_unless_it_was_told_not_to_be() {
    for (mode, filters) in [
        (None, "2"),
        (Some("enforce"), "2"),
        (Some("log"), "2"),
        (Some("off"), "0"),
    ] {
        let folder = Folder::new();
        let (a, b, control) = (folder.at("a"), folder.at("b"), folder.at("control"));
        let [a, b, control] = [&a, &b, &control].map(|p| p.to_str().unwrap());
        let mut args = vec!["--vfio-user", a, "--vhost-user", b, "--control", control];
        args.extend(mode.iter().flat_map(|m| ["--sandbox", m]));
        let e = Emulator::start(&args);
        Control::greeted(Path::new(control));
        let mut threads = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", e.pid())).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status"));
            // It may be gone by now.
            let Ok(status) = status else { continue };
            let field = |name: &str| {
                status
                    .lines()
                    .find_map(|l| l.strip_prefix(name))
                    .unwrap()
                    .trim()
            };
            assert_eq!(field("Seccomp:"), filters, "{mode:?}");
            threads += 1;
        }
        assert!(threads > 3, "{threads}");
    }
}

#[test]
fn a_card_is_saved_where_the_sandbox_lets_it() {
    let folder = Folder::new();
    for sub in ["state", "save"] {
        fs::create_dir(folder.at(sub)).unwrap();
    }
    let paths = ["a", "control", "state", "save"].map(|n| folder.at(n));
    let [a, control, state, save] = paths.each_ref().map(|p| p.to_str().unwrap());
    let _e = Emulator::start(&[
        "--vfio-user",
        a,
        "--control",
        control,
        "--state",
        state,
        "--save-dir",
        save,
    ]);
    let mut c = Control::greeted(Path::new(control));
    let mut ask = |path: PathBuf| {
        c.ask(&format!(
            "{{\"execute\":\"save\",\"arguments\":{{\"path\":{path:?}}}}}"
        ))
    };
    assert!(ask(folder.at("save/card")).starts_with("{\"return\":{\"bytes\":"));
    assert!(ask(folder.at("state/saved")).starts_with("{\"return\":{\"bytes\":"));
    let no = ask(folder.at("card"));
    assert!(
        no.contains("Permission denied") && no.contains("--save-dir"),
        "{no}"
    );
    assert!(!folder.at("card").exists());
    // `ctl` makes the file itself, where its user may.
    let ctl = |path: &Path| {
        let path = format!("path={}", path.display());
        let out = process::program()
            .args(["ctl", "--control", control, "save", &path])
            .output();
        let out = out.unwrap();
        (out.status.success(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(ctl(&folder.at("card")), (true, String::new()));
    assert_eq!(
        fs::read(folder.at("card")).unwrap(),
        fs::read(folder.at("save/card")).unwrap()
    );
    let (done, said) = ctl(&folder.at("card"));
    assert!(!done && said.contains("card: File exists"), "{said}");
    assert_eq!(fs::read(folder.at("card")).unwrap()[..8], *b"fwctlcrd");
}

/// `serve` on a kernel that lacks these system calls; ended at once if it serves. Its exit code and what it
/// said.
fn serve_without(calls: &[libc::c_long], args: &[&str]) -> (Option<i32>, String) {
    let rules = calls.iter().map(|c| (*c, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let absent = SeccompAction::Errno(ENOSYS as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let mut emulator = process::program();
    emulator.args(["serve", "--ready-fd", "1"]).args(args);
    emulator.stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: two system calls between fork and exec; the filter was made before.
    unsafe {
        emulator
            .pre_exec(move || seccompiler::apply_filter(&filter).map_err(std::io::Error::other));
    }
    let mut child = emulator.spawn().unwrap();
    let mut ready = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut ready)
        .unwrap();
    if !ready.is_empty() {
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM)
            .unwrap();
    }
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn what_the_kernel_cannot_do_is_said_and_with_enforce_it_does_not_serve() {
    let folder = Folder::new();
    let s = folder.at("s");
    let door = ["--vfio-user", s.to_str().unwrap()];
    let enforce = [&door[..], &["--sandbox", "enforce"]].concat();
    let no_landlock = [libc::SYS_landlock_create_ruleset];
    let (code, said) = serve_without(&no_landlock, &enforce);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(
        said.contains("--sandbox enforce: this kernel has no Landlock"),
        "{said}"
    );
    assert!(said.contains("or give --sandbox off"), "{said}");
    let (code, said) = serve_without(&no_landlock, &door);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("WARN") && said.contains("any file may be opened"),
        "{said}"
    );
    let (code, said) = serve_without(&[libc::SYS_seccomp], &enforce);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("system calls are not restricted"), "{said}");
}
