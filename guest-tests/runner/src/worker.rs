// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Processes that send RPCs at the same time: each compares every reply with the one taken before.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use fwctl_uapi::{Device, Errno};

use crate::{
    engine::reap,
    fail, hex,
    rpcs::RPCS,
    test::{Done, Stop, find_device},
};

/// Bytes of one reference reply at most.
const REPLY_MAX: usize = 1 << 16;

/// The replies of [`RPCS`], in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(pub Vec<Vec<u8>>);

impl Reference {
    /// Sends every RPC once and keeps the replies.
    ///
    /// # Errors
    /// A failure if one is not answered as [`RPCS`] says.
    pub fn take(device: &Device) -> Done<Self> {
        let mut replies = Vec::new();
        for rpc in RPCS {
            let reply = rpc.send(device).map_err(|e| format!("{}: {e}", rpc.name))?;
            rpc.judge(&reply)?;
            replies.push(reply);
        }
        Ok(Self(replies))
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for reply in &self.0 {
            out.write_all(&(reply.len() as u32).to_le_bytes())?;
            out.write_all(reply)?;
        }
        Ok(())
    }

    fn read(input: &mut impl Read) -> io::Result<Self> {
        let mut replies = Vec::new();
        for _ in RPCS {
            let mut len = [0; 4];
            input.read_exact(&mut len)?;
            let len = u32::from_le_bytes(len) as usize;
            if len > REPLY_MAX {
                return Err(io::Error::other("a reference reply is too long"));
            }
            let mut reply = vec![0; len];
            input.read_exact(&mut reply)?;
            replies.push(reply);
        }
        Ok(Self(replies))
    }
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All its replies were right; their number.
    Right(u64),
    /// The kernel refused an RPC after this many right ones.
    Refused(Errno, u64),
}

/// The worker's side: opens the device, reads the reference, waits for the end of its input, and
/// sends `count` RPCs, or without end if it is 0.
///
/// # Errors
/// A failure for a wrong reply or a device that cannot be opened.
pub fn work(device: Option<&str>, first: usize, count: u64) -> Done<End> {
    let device = find_device(device)?.open()?;
    let mut input = io::stdin().lock();
    let bad = |e: io::Error| Stop::Fail(format!("no reference: {e}"));
    let reference = Reference::read(&mut input).map_err(bad)?;
    println!("ready");
    input.read_to_end(&mut Vec::new()).map_err(bad)?;
    println!("started");
    let mut sent = 0;
    while count == 0 || sent < count {
        let i = (first + sent as usize) % RPCS.len();
        let reply = match RPCS[i].send(&device) {
            Ok(reply) => reply,
            Err(e) => match e.errno() {
                Some(errno) => return Ok(End::Refused(errno, sent)),
                None => return Err(e.into()),
            },
        };
        if reply != reference.0[i] {
            fail!(
                "reply {sent}, {}: {}",
                RPCS[i].name,
                difference(&reference.0[i], &reply)
            );
        }
        sent += 1;
    }
    Ok(End::Right(sent))
}

/// Where two replies differ first.
#[must_use]
pub fn difference(wanted: &[u8], found: &[u8]) -> String {
    if wanted.len() != found.len() {
        return format!("wanted {} bytes, found {}", wanted.len(), found.len());
    }
    match wanted.iter().zip(found).position(|(w, f)| w != f) {
        None => "equal".into(),
        Some(at) => {
            let end = (at + 16).min(wanted.len());
            let show = |bytes: &[u8]| hex::encode(&bytes[at..end]);
            format!(
                "from byte {at} on wanted {}, found {}",
                show(wanted),
                show(found)
            )
        }
    }
}

/// A line that a worker prints at its end.
#[must_use]
pub fn last_line(end: &Done<End>) -> String {
    match end {
        Ok(End::Right(n)) => format!("right {n}"),
        Ok(End::Refused(errno, n)) => format!("refused {} {n}", errno.0),
        Err(e) => format!("wrong {e}"),
    }
}

fn parse_end(line: &str) -> Done<End> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let end = match kind {
        "right" => rest.parse().ok().map(End::Right),
        "refused" => rest
            .split_once(' ')
            .and_then(|(errno, n)| Some(End::Refused(Errno(errno.parse().ok()?), n.parse().ok()?))),
        "wrong" => fail!("{rest}"),
        _ => None,
    };
    end.ok_or_else(|| Stop::Fail(format!("a worker ended with {line:?}")))
}

/// One worker, ended with this value.
#[derive(Debug)]
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = reap(&mut self.child, Duration::from_secs(1));
    }
}

impl Worker {
    fn line(&mut self) -> Done<String> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .map_err(|e| format!("cannot read from a worker: {e}"))?;
        Ok(line.trim_end().to_owned())
    }
}

/// Workers that wait with the device open, or run.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

impl Workers {
    /// Starts `n` processes, each of which opens the device `device`, and returns when all have.
    /// `count` is the number of RPCs each will send, 0 for no end.
    ///
    /// # Errors
    /// A failure if one cannot be started or cannot open the device.
    pub fn start(n: usize, device: &str, count: u64, reference: &Reference) -> Done<Self> {
        let mut workers = Vec::new();
        for i in 0..n {
            let mut child = Command::new("/proc/self/exe")
                .args([
                    "worker",
                    "--device",
                    device,
                    "--first",
                    &i.to_string(),
                    "--count",
                    &count.to_string(),
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|e| format!("cannot start a worker: {e}"))?;
            let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                fail!("a worker has no pipes");
            };
            let sent = reference.write(&mut input);
            workers.push(Worker {
                child,
                input: Some(input),
                output: BufReader::new(output),
            });
            if let Err(e) = sent {
                let why = workers
                    .last_mut()
                    .map(Worker::line)
                    .transpose()?
                    .unwrap_or_default();
                fail!("worker {i} did not take the reference: {e}: {why}");
            }
        }
        for (i, worker) in workers.iter_mut().enumerate() {
            let line = worker.line()?;
            if line != "ready" {
                fail!("worker {i} is not ready: {line}");
            }
        }
        Ok(Self(workers))
    }

    /// Lets all of them go at once, and returns when all have begun.
    ///
    /// # Errors
    /// A failure if one has ended.
    pub fn go(&mut self) -> Done {
        for worker in &mut self.0 {
            worker.input = None;
        }
        for (i, worker) in self.0.iter_mut().enumerate() {
            let line = worker.line()?;
            if line != "started" {
                fail!("worker {i} did not start: {line}");
            }
        }
        Ok(())
    }

    /// Waits for all of them, and says how each ended.
    ///
    /// # Errors
    /// A failure for the first one that had a wrong reply.
    pub fn join(mut self) -> Done<Vec<End>> {
        let mut ends = Vec::new();
        for worker in &mut self.0 {
            let line = worker.line()?;
            ends.push(parse_end(&line)?);
        }
        Ok(ends)
    }

    /// Ends all of them with SIGKILL, wherever they are, and waits for them.
    ///
    /// # Errors
    /// A failure if one ended before that, or does not die within `limit`.
    pub fn kill(mut self, limit: Duration) -> Done {
        for (i, worker) in self.0.iter_mut().enumerate() {
            if let Ok(Some(status)) = worker.child.try_wait() {
                fail!("worker {i} ended by itself: {status}: {}", worker.line()?);
            }
            worker
                .child
                .kill()
                .map_err(|e| format!("cannot kill worker {i}: {e}"))?;
        }
        for (i, worker) in self.0.iter_mut().enumerate() {
            if reap(&mut worker.child, limit).is_none() {
                fail!(
                    "worker {i} did not die of SIGKILL within {} s",
                    limit.as_secs()
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_go_through_a_pipe() {
        let reference = Reference(
            RPCS.iter()
                .map(|r| vec![r.out_len as u8; r.out_len])
                .collect(),
        );
        let mut bytes = Vec::new();
        reference.write(&mut bytes).unwrap();
        assert_eq!(Reference::read(&mut bytes.as_slice()).unwrap(), reference);
        assert!(Reference::read(&mut &bytes[..bytes.len() - 1]).is_err());
        let e = Reference::read(&mut [0xff; 64].as_slice()).unwrap_err();
        assert_eq!(e.to_string(), "a reference reply is too long");
    }

    #[test]
    fn ends_go_through_a_line() {
        for end in [End::Right(1000), End::Refused(Errno::ENODEV, 3)] {
            assert_eq!(parse_end(&last_line(&Ok(end.clone()))).unwrap(), end);
        }
        let wrong = last_line(&Err(Stop::Fail("reply 3, nop: x".into())));
        assert_eq!(
            parse_end(&wrong).unwrap_err().to_string(),
            "reply 3, nop: x"
        );
        for broken in ["", "right", "right x", "refused 5", "hello"] {
            assert!(parse_end(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn differences_are_shown_where_they_begin() {
        assert_eq!(difference(&[1, 2, 3], &[1, 2]), "wanted 3 bytes, found 2");
        assert_eq!(
            difference(&[1, 2, 3], &[1, 9, 3]),
            "from byte 1 on wanted 0203, found 0903"
        );
    }
}
