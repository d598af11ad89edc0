// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The kernel log through /dev/kmsg, and which of its lines are complaints.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
};

use rustix::io::Errno;

/// Longest record of /dev/kmsg (`PRINTK_MESSAGE_MAX` and its prefix).
const RECORD_MAX: usize = 8192;
/// Most records that one reading takes; a log that grows faster is not read to its end.
const RECORDS_MAX: usize = 100_000;
/// `O_NONBLOCK` of x86 and arm64: reading stops at the end of the log.
const O_NONBLOCK: i32 = 0o4000;
/// Level of a warning (`KERN_WARNING`); a lower number is worse.
const WARNING: u8 = 4;

/// Parts of the names whose lines count: `mlx5` for those of `mlx5_core` and `mlx5_fwctl`.
pub type Subjects = &'static [&'static str];

/// Complaints of the kernel itself: whoever caused one, the run is bad.
const ALWAYS: &[&str] = &[
    "WARNING: ",
    "BUG: ",
    "Oops",
    "Call Trace:",
    "[ cut here ]",
    "Kernel panic",
    "general protection fault",
    "refcount_t:",
    "blocked for more than",
    "DMA-API:",
    "UBSAN:",
];

/// Words that make a complaint of a subject's line of any level.
const WORDS: &[&str] = &[
    "timeout",
    "timed out",
    "error",
    "fail",
    "fatal",
    "unable to",
    "cannot",
    "could not",
    "leak",
    "corrupt",
    "stuck",
];

/// Lines that look like complaints and are none, with the reason. Keep it short: each entry hides
/// what it names from every suite.
const BENIGN: &[(&str, &str)] = &[
    (
        "module verification failed: signature",
        "modules built here are not signed by the distribution",
    ),
    (
        "loading out-of-tree module taints kernel",
        "virtio_fwctl is not in the kernel tree",
    ),
    (
        "has requested full access to the physical device",
        "the tests use scopes 2 and 3, which fwctl announces once",
    ),
];

/// A record of the kernel log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Microseconds since boot.
    pub micros: u64,
    /// Its text, without the key-value lines.
    pub text: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<{}>[{:5}.{:06}] {}",
            self.level,
            self.micros / 1_000_000,
            self.micros % 1_000_000,
            self.text
        )
    }
}

impl Record {
    /// Reads `PRIORITY,SEQUENCE,MICROS,FLAGS[,…];TEXT\n KEY=VALUE\n…`.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let (head, rest) = raw.split_once(';')?;
        let mut fields = head.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let micros = fields.nth(1)?.parse().ok()?;
        let text = rest.lines().next().unwrap_or_default().to_owned();
        Some(Self {
            level: (priority & 7) as u8,
            micros,
            text,
        })
    }

    /// True if this line speaks against the drivers in `subjects`.
    fn complains(&self, subjects: Subjects) -> bool {
        if ALWAYS.iter().any(|s| self.text.contains(s)) {
            return true;
        }
        if !subjects.iter().any(|s| self.text.contains(s))
            || BENIGN.iter().any(|(s, _)| self.text.contains(s))
        {
            return false;
        }
        let lower = self.text.to_lowercase();
        self.level <= WARNING || WORDS.iter().any(|w| lower.contains(w))
    }
}

/// The records that speak against the drivers in `subjects`, or against the kernel as a whole.
#[must_use]
pub fn complaints(records: &[Record], subjects: Subjects) -> Vec<&Record> {
    records.iter().filter(|r| r.complains(subjects)).collect()
}

/// An open kernel log with a place in it.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    fn open() -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open("/dev/kmsg")
    }

    /// All that the kernel still has.
    ///
    /// # Errors
    /// Those of opening /dev/kmsg.
    pub fn from_boot() -> io::Result<Self> {
        Self::open().map(Self)
    }

    /// What comes from now on.
    ///
    /// # Errors
    /// Those of opening /dev/kmsg and of going to its end.
    pub fn from_now() -> io::Result<Self> {
        let mut file = Self::open()?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// The records up to the end of the log.
    ///
    /// # Errors
    /// Those of reading. Records that the kernel has overwritten are left out.
    pub fn read_new(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut buf = [0; RECORD_MAX];
        while records.len() < RECORDS_MAX {
            match self.0.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => records.extend(Record::parse(&String::from_utf8_lossy(&buf[..n]))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // EPIPE: the place was overwritten; the next read goes on behind the gap.
                Err(e) if e.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: u8, text: &str) -> Record {
        Record {
            level,
            micros: 0,
            text: text.into(),
        }
    }

    fn bad(level: u8, text: &str) -> bool {
        record(level, text).complains(&["mlx5"])
    }

    #[test]
    fn records_are_read() {
        let raw = "30,339,5140900,-;mlx5_core 0000:01:00.0: firmware version: 28.1.0\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n";
        let r = Record::parse(raw).unwrap();
        assert_eq!(r.level, 6);
        assert_eq!(
            r.to_string(),
            "<6>[    5.140900] mlx5_core 0000:01:00.0: firmware version: 28.1.0"
        );
        assert_eq!(
            Record::parse("4,1,7,-,caller=T1;x"),
            Some(Record {
                level: 4,
                micros: 7,
                text: "x".into()
            })
        );
        for broken in ["", "no semicolon", ";text", "x,1,2,-;t", "6,1;t"] {
            assert_eq!(Record::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn only_the_subjects_lines_count() {
        assert!(!bad(6, "mlx5_core 0000:01:00.0: firmware version: 28.1.0"));
        assert!(bad(3, "mlx5_core 0000:01:00.0: something of level err"));
        assert!(bad(4, "mlx5_core 0000:01:00.0: something of level warning"));
        assert!(!bad(3, "e1000: something of level err"));
        for text in [
            "ENABLE_HCA(0x104) timeout. Will cause a leak",
            "probe failed with error -22",
            "Fatal error 1 detected",
        ] {
            assert!(bad(6, &format!("mlx5_core 0000:01:00.0: {text}")), "{text}");
        }
        assert!(!bad(6, "systemd: failed"));
    }

    #[test]
    fn the_kernels_own_complaints_always_count() {
        for text in [
            "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2",
            "BUG: kernel NULL pointer dereference",
            "Oops: 0002 [#1] SMP",
        ] {
            assert!(bad(6, text), "{text}");
        }
        assert!(bad(4, "------------[ cut here ]------------"));
    }

    #[test]
    fn benign_lines_are_named_with_a_reason() {
        assert!(!bad(
            5,
            "mlx5_fwctl: module verification failed: signature and/or required key missing - tainting kernel"
        ));
        assert!(bad(5, "mlx5_fwctl: verification failed"));
        assert!(BENIGN.iter().all(|(_, why)| !why.is_empty()));
    }

    #[test]
    fn complaints_keep_their_order() {
        let records = [
            record(6, "mlx5_core: fine"),
            record(3, "mlx5_core: a"),
            record(6, "mlx5_core: timeout"),
        ];
        assert_eq!(complaints(&records, &["mlx5"]), [&records[1], &records[2]]);
    }
}
