// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The emulator as a process of its own, in a folder of its own; it ends with the test.
#![allow(dead_code)] // Each test file uses its part.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use vmm_sys_util::{sock_ctrl_msg::ScmSocket as _, tempdir::TempDir};

/// Longest wait for anything here.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The program under test.
pub fn program() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_fwctl-emu"));
    c.env("RUST_LOG", "info").stdin(Stdio::null());
    c
}

/// A folder that goes with the test.
pub struct Folder(TempDir);

impl Folder {
    /// A fresh one.
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A path in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.as_path().join(name)
    }
}

/// `serve` with these arguments, which must be refused: exit code and standard error.
pub fn refused(args: &[&str]) -> (i32, String) {
    refused_in(Path::new("."), args)
}

/// The same in a folder.
pub fn refused_in(folder: &Path, args: &[&str]) -> (i32, String) {
    let child = program()
        .current_dir(folder)
        .arg("serve")
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (status, said) = Emulator::of(child).end();
    (status.code().unwrap(), said)
}

/// A serving emulator.
pub struct Emulator {
    child: Child,
    // Reads what it logs: a pipe that is full would hold it up.
    log: Option<JoinHandle<String>>,
}

impl Emulator {
    fn of(mut child: Child) -> Self {
        let mut stderr = child.stderr.take().unwrap();
        let log = thread::spawn(move || {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            log
        });
        Self {
            child,
            log: Some(log),
        }
    }

    /// `serve` with these arguments; returns once it says that it is ready.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = program()
            .args(["serve", "--ready-fd", "1"])
            .args(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_to_string(&mut said)
            .unwrap();
        // Read to the end: the descriptor was closed after the word.
        assert_eq!(said, "ready\n");
        Self::of(child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends; its exit status and what it logged.
    pub fn end(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(s) = self.child.try_wait().unwrap() {
                break s;
            }
            assert!(Instant::now() < end, "does not end");
            thread::sleep(Duration::from_millis(2));
        };
        let log = self.log.take().unwrap().join().unwrap();
        (status, log)
    }

    /// True while it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to the control socket, greeted.
pub struct Control {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Control {
    /// Connects; the greeting is the next line.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        Self { stream, lines }
    }

    /// Connects and takes the greeting.
    pub fn greeted(path: &Path) -> Self {
        let mut c = Self::connect(path);
        let greeting = c.line();
        assert!(greeting.starts_with("{\"fwctl-emu\":{"), "{greeting}");
        c
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes with file descriptors.
    pub fn send_with(&mut self, bytes: &[u8], fds: &[std::os::fd::RawFd]) {
        let sent = self.stream.send_with_fds(&[bytes], fds).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// Nothing more will be sent.
    pub fn half_close(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next line without its end; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut s = String::new();
        self.lines.read_line(&mut s).unwrap();
        s.trim_end_matches('\n').to_owned()
    }

    /// Sends a line and returns the next that tells no event.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line.as_bytes());
        self.send(b"\n");
        self.answer()
    }

    /// The next line that tells no event.
    pub fn answer(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.starts_with("{\"data\":") {
                return line;
            }
        }
    }

    /// The `functions` array.
    pub fn functions(&mut self) -> Vec<serde_json::Value> {
        let reply: serde_json::Value =
            serde_json::from_str(&self.ask("{\"execute\":\"functions\"}")).unwrap();
        reply["return"].as_array().unwrap().clone()
    }
}
