// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a test is made of.

use std::{
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use fwctl_uapi::{Device, DeviceEntry, Roots};

use crate::{dmesg::Subjects, ktap::Outcome};

/// How long a device, node or netdev may take to appear. Generous: an emulated CPU on a busy
/// machine is slow.
pub const APPEAR: Duration = Duration::from_secs(30);
/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// A table of tests.
#[derive(Debug)]
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Whose lines in the kernel log count.
    pub subjects: Subjects,
    /// Parts of lines that are complaints and are meant: what the drivers say when they are told
    /// what this suite tells them.
    pub expects: &'static [&'static str],
    /// In the order of running.
    pub tests: &'static [Test],
}

/// Lists of lines as one: what [`Suite::expects`] takes. It has `N` lines.
#[must_use]
pub const fn joined<const N: usize>(lists: &[&[&'static str]]) -> [&'static str; N] {
    let mut all = [""; N];
    let (mut list, mut line, mut n) = (0, 0, 0);
    while list < lists.len() {
        if line == lists[list].len() {
            (list, line) = (list + 1, 0);
            continue;
        }
        all[n] = lists[list][line];
        (line, n) = (line + 1, n + 1);
    }
    // An empty line would be part of every line.
    assert!(n == N, "another number of lines");
    all
}

/// One test: a stable name, a limit and a function.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Identifier of its result line.
    pub name: &'static str,
    /// Seconds after which it is ended.
    pub limit: u64,
    /// The test.
    pub run: fn(&Ctx) -> Done,
}

/// A row of a suite's table.
#[must_use]
pub const fn test(name: &'static str, limit: u64, run: fn(&Ctx) -> Done) -> Test {
    Test { name, limit, run }
}

/// Why a test did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Something is wrong.
    #[error("{0}")]
    Fail(String),
    /// It cannot be tested here.
    #[error("{0}")]
    Skip(String),
}

impl From<fwctl_uapi::Error> for Stop {
    fn from(e: fwctl_uapi::Error) -> Self {
        Self::Fail(e.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        e.to_string().into()
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Fail(text)
    }
}

/// The result of a test.
pub type Done<T = ()> = Result<T, Stop>;

/// Fails the test with a message.
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::test::Stop::Fail(format!($($text)*))) };
}

/// Skips the test with a reason.
#[macro_export]
macro_rules! skip {
    ($($text:tt)*) => { return Err($crate::test::Stop::Skip(format!($($text)*))) };
}

/// Fails the test with a message unless a condition holds.
#[macro_export]
macro_rules! check {
    ($cond:expr, $($text:tt)*) => { if !$cond { $crate::fail!($($text)*); } };
}

/// Fails the test unless two values are equal; the message shows what was wanted and what came.
#[macro_export]
macro_rules! check_eq {
    ($found:expr, $wanted:expr, $($text:tt)*) => {
        match (&$found, &$wanted) {
            (found, wanted) if *found != *wanted => {
                $crate::fail!("{}: wanted {:?}, found {:?}", format_args!($($text)*), wanted, found)
            }
            _ => {}
        }
    };
}

/// What a test gets.
#[derive(Debug, Default)]
pub struct Ctx {
    /// The fwctl device to use by name; the first one if not given.
    pub device: Option<String>,
    /// The firmware obeys the commands of `guest-runner triggers`: it is emulated.
    pub triggers: bool,
}

impl Ctx {
    /// Prints a diagnostic line.
    pub fn note(&self, text: impl AsRef<str>) {
        println!("{}", text.as_ref());
    }

    /// The fwctl device under test.
    ///
    /// # Errors
    /// A failure if there is none.
    pub fn entry(&self) -> Done<DeviceEntry> {
        find_device(self.device.as_deref())
    }

    /// Opens the device under test.
    ///
    /// # Errors
    /// A failure if there is none or it cannot be opened.
    pub fn open(&self) -> Done<Device> {
        Ok(self.entry()?.open()?)
    }
}

/// The fwctl device with a name, or the first.
///
/// # Errors
/// A failure if there is none.
pub fn find_device(name: Option<&str>) -> Done<DeviceEntry> {
    let devices = Roots::system().devices()?;
    let found = match name {
        Some(name) => devices.into_iter().find(|d| d.name == name),
        None => devices.into_iter().next(),
    };
    found.ok_or_else(|| match name {
        Some(name) => Stop::Fail(format!("no fwctl device is called {name}")),
        None => Stop::Fail(
            "there is no fwctl device; is mlx5_fwctl or virtio_fwctl loaded and bound?".into(),
        ),
    })
}

/// Waits until `look` finds something.
///
/// # Errors
/// A failure that names `what` after `limit`, or that of `look`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Done<Option<T>>,
) -> Done<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            fail!("{what} did not happen in {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// Writes a sysfs attribute.
///
/// # Errors
/// A failure that names the file.
pub fn write_file(path: impl AsRef<Path>, text: &str) -> Done {
    let path = path.as_ref();
    std::fs::write(path, text).map_err(|e| io_failure("cannot write", path, &e))
}

/// Reads a file of text without the white space at its ends.
///
/// # Errors
/// A failure that names the file.
pub fn read_file(path: impl AsRef<Path>) -> Done<String> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|e| io_failure("cannot read", path, &e))?;
    Ok(text.trim().to_owned())
}

fn io_failure(what: &str, path: &Path, error: &io::Error) -> Stop {
    Stop::Fail(format!("{what} {}: {error}", path.display()))
}

/// Runs a test in this process.
#[must_use]
pub fn run_here(test: &Test, ctx: &Ctx) -> Outcome {
    match (test.run)(ctx) {
        Ok(()) => Outcome::Pass,
        Err(Stop::Fail(why)) => Outcome::Fail(why),
        Err(Stop::Skip(why)) => Outcome::Skip(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_lists_have_every_line_once() {
        let all = joined::<3>(&[&["a"], &[], &["b", "c"]]);
        assert_eq!(all, ["a", "b", "c"]);
    }

    #[test]
    fn waiting_ends() {
        let mut n = 0;
        let got = wait_for("three", Duration::from_secs(5), || {
            n += 1;
            Ok((n == 3).then_some(n))
        });
        assert_eq!(got.unwrap(), 3);
        let never: Done<()> = wait_for("never", Duration::ZERO, || Ok(None));
        assert_eq!(
            never.unwrap_err().to_string(),
            "never did not happen in 0 s"
        );
    }

    #[test]
    fn comparisons_show_both_sides() {
        fn compare(found: u32) -> Done {
            check_eq!(found, 2, "length of {}", "it");
            Ok(())
        }
        assert!(compare(2).is_ok());
        assert_eq!(
            compare(3).unwrap_err().to_string(),
            "length of it: wanted 2, found 3"
        );
    }
}
