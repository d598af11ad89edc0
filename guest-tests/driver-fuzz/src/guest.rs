// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A guest: started once, written to a file, and restored from it for each case.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use fwctl_emu::qmp::Client;
use serde_json::json;

/// How long a guest may take to start; a loaded machine with an emulated processor is slow.
const UP: Duration = Duration::from_secs(180);
/// How long QEMU may take to serve its control socket, to write a guest, and to restore one.
const QEMU: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);
/// What the first process in the guest prints when it is ready.
const IS_UP: &str = "guest-is-up";
/// What answers begin with: what a command in a guest prints is not taken for one.
const MARK: &str = "@driver-fuzz@";
/// The root port that functions are plugged into.
pub const PORT: &str = "pcie-root-port,id=port0,addr=4,chassis=1,slot=1";

/// What a machine is.
#[derive(Clone, Debug)]
pub struct Machine {
    qemu: PathBuf,
    options: Vec<String>,
}

impl Machine {
    /// A machine of `qemu` with the options in a file, one a line.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(qemu: &Path, options: &Path) -> Result<Self> {
        let text = fs::read_to_string(options).with_context(|| options.display().to_string())?;
        Ok(Self {
            qemu: qemu.to_owned(),
            options: text.lines().map(Into::into).collect(),
        })
    }
}

/// A guest that is up, with its drivers loaded and without a device, as a file.
#[derive(Debug)]
pub struct Snapshot {
    file: PathBuf,
    /// Its kernel, as it calls itself.
    pub kernel: String,
}

impl Snapshot {
    /// Starts a guest, and writes it to a file in `session`.
    ///
    /// # Errors
    /// The guest does not start, or QEMU cannot write it.
    pub fn make(machine: &Machine, session: &Path) -> Result<Self> {
        let file = session.join("snapshot");
        let folder = session.join("snap");
        fs::create_dir_all(&folder)?;
        let mut guest = Guest::start(machine, &folder, None)?;
        guest
            .wait_line(IS_UP, UP)
            .context("the guest does not start")?;
        let load =
            "modprobe -a mlx5_core mlx5_fwctl && echo 30 >/proc/sys/kernel/hung_task_timeout_secs";
        match guest.run(load, UP)? {
            0 => {}
            n => bail!("the guest cannot load its drivers (exit code {n})"),
        }
        let kernel = guest.says("uname -r", UP)?;
        guest.qmp.execute("stop", &json!({}))?;
        let uri = format!("file:{}", file.display());
        guest.qmp.execute("migrate", &json!({ "uri": uri }))?;
        let done = guest.settles(QEMU, |q| {
            let status = q.execute("query-migrate", &json!({}))?;
            match status["status"].as_str() {
                Some("completed") => Ok(true),
                Some("failed") => bail!("QEMU cannot write the guest: {status}"),
                _ => Ok(false),
            }
        })?;
        if !done {
            bail!("QEMU does not write the guest in time");
        }
        Ok(Self { file, kernel })
    }
}

/// A guest that runs; it ends with this value.
#[derive(Debug)]
pub struct Guest {
    process: Child,
    lines: Receiver<String>,
    qmp: Client,
    console: PathBuf,
}

impl Guest {
    /// Restores a guest.
    ///
    /// # Errors
    /// QEMU does not restore it.
    pub fn restore(machine: &Machine, snapshot: &Snapshot, folder: &Path) -> Result<Self> {
        let mut guest = Self::start(machine, folder, Some(&snapshot.file))?;
        // It was stopped when it was written, so it stands once it is there.
        let runs = guest.settles(QEMU, |q| {
            if q.execute("query-status", &json!({}))?["status"] != "paused" {
                return Ok(false);
            }
            q.execute("cont", &json!({}))?;
            Ok(true)
        })?;
        if !runs {
            bail!("QEMU does not restore the guest in time");
        }
        Ok(guest)
    }

    fn start(machine: &Machine, folder: &Path, incoming: Option<&Path>) -> Result<Self> {
        let (console, socket) = (folder.join("console.log"), folder.join("qmp"));
        let mut command = Command::new(&machine.qemu);
        command.args(&machine.options);
        let chardev = |s: String| ["-chardev".to_owned(), s];
        command.args(chardev(format!(
            "file,id=console,path={}",
            console.display()
        )));
        command.args(["-serial", "chardev:console"]);
        command.args(chardev("stdio,id=port,signal=off".into()));
        command.args(["-serial", "chardev:port"]);
        let qmp = format!("socket,id=qmp,path={},server=on,wait=off", socket.display());
        command.args(chardev(qmp));
        command.args(["-mon", "chardev=qmp,mode=control", "-device", PORT]);
        if let Some(file) = incoming {
            command.args(["-incoming", &format!("file:{}", file.display())]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(folder.join("qemu.log"))?);
        let mut process = command.spawn().context("QEMU")?;
        let output = process.stdout.take();
        let (tell, lines) = channel();
        thread::spawn(move || {
            let mut reader = output.map(BufReader::new);
            let mut line = Vec::new();
            while let Some(r) = &mut reader {
                line.clear();
                match r.read_until(b'\n', &mut line) {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
                let text = String::from_utf8_lossy(&line);
                if tell.send(text.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        let qmp = connect(&mut process, &socket);
        let qmp = qmp.inspect_err(|_| end(&mut process))?;
        Ok(Self {
            process,
            lines,
            qmp,
            console,
        })
    }

    /// Plugs the function that is served on a socket.
    ///
    /// # Errors
    /// QEMU's own.
    pub fn plug(&mut self, socket: &Path) -> Result<()> {
        let device = json!({
            "driver": "vfio-user-pci", "id": "fw", "bus": "port0",
            "socket": { "type": "unix", "path": socket },
        });
        self.qmp.execute("device_add", &device)?;
        Ok(())
    }

    /// What a command prints in the guest's shell, in one line.
    ///
    /// # Errors
    /// There is no answer in time, or no guest any more.
    pub fn says(&mut self, command: &str, patience: Duration) -> Result<String> {
        let mark = format!("{MARK} says ");
        self.send(&format!("echo {mark}$({command})"))?;
        let line = self.wait_line(&mark, patience)?;
        self.wait_line(&format!("{MARK} exit "), patience)?;
        Ok(line.trim_start_matches(&mark).to_owned())
    }

    fn send(&mut self, command: &str) -> Result<()> {
        let input = self.process.stdin.as_mut();
        Ok(writeln!(
            input.context("no input")?,
            "{MARK} run {command}"
        )?)
    }

    /// Runs a command in the guest's shell: its exit code.
    ///
    /// # Errors
    /// There is no answer in time, or no guest any more.
    pub fn run(&mut self, command: &str, patience: Duration) -> Result<i32> {
        self.send(command)?;
        let answer = self.wait_line(&format!("{MARK} exit "), patience)?;
        let code = answer.rsplit(' ').next().and_then(|n| n.parse().ok());
        code.ok_or_else(|| anyhow!("{answer:?} is no answer"))
    }

    /// The next line that begins with `start`.
    fn wait_line(&mut self, start: &str, patience: Duration) -> Result<String> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(start) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("the guest does not answer in time"),
                Err(RecvTimeoutError::Disconnected) => bail!("the guest has ended"),
            }
        }
    }

    fn settles(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&mut Client) -> Result<bool>,
    ) -> Result<bool> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if done(&mut self.qmp)? {
                return Ok(true);
            }
            thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// What the kernel has printed.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Ends a process of ours at once.
pub fn end(process: &mut Child) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}

fn connect(process: &mut Child, socket: &Path) -> Result<Client> {
    let until = Instant::now() + QEMU;
    loop {
        match Client::connect(socket) {
            Ok(client) => return Ok(client),
            Err(e) if Instant::now() > until => return Err(e).context("QEMU's control socket"),
            Err(_) => {}
        }
        if let Some(status) = process.try_wait()? {
            bail!("QEMU ended ({status}); qemu.log says why");
        }
        thread::sleep(LOOK);
    }
}
