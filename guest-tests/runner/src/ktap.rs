// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! KTAP version 1 (Documentation/dev-tools/ktap.rst).

use std::io::{self, Write};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Pass,
    /// It failed, with the reason.
    Fail(String),
    /// It could not be run here, with the reason.
    Skip(String),
    /// It did not end in its time, in seconds.
    Timeout(u64),
}

/// A KTAP report that is being written.
#[derive(Debug)]
pub struct Report<W> {
    out: W,
    number: usize,
    failed: usize,
    skipped: usize,
}

impl<W: Write> Report<W> {
    /// Writes the version line and the plan for `count` tests.
    ///
    /// # Errors
    /// Those of the writer, as everywhere here.
    pub fn start(mut out: W, count: usize) -> io::Result<Self> {
        write!(out, "KTAP version 1\n1..{count}\n")?;
        out.flush()?;
        Ok(Self {
            out,
            number: 0,
            failed: 0,
            skipped: 0,
        })
    }

    /// Writes diagnostics: one line of its own for each line of `text`.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            writeln!(self.out, "# {line}")?;
        }
        self.out.flush()
    }

    /// Writes the result line of the next test, after its reason if there is one.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn result(&mut self, name: &str, outcome: &Outcome) -> io::Result<()> {
        self.number += 1;
        let n = self.number;
        match outcome {
            Outcome::Pass => writeln!(self.out, "ok {n} {name}")?,
            Outcome::Skip(why) => {
                self.skipped += 1;
                writeln!(self.out, "ok {n} {name} # SKIP {}", one_line(why))?;
            }
            Outcome::Fail(why) => {
                self.failed += 1;
                self.note(why)?;
                writeln!(self.out, "not ok {n} {name}")?;
            }
            Outcome::Timeout(seconds) => {
                self.failed += 1;
                writeln!(self.out, "not ok {n} {name} # TIMEOUT after {seconds} s")?;
            }
        }
        self.out.flush()
    }

    /// Gives up: no further result follows.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn bail_out(&mut self, why: &str) -> io::Result<()> {
        self.failed += 1;
        writeln!(self.out, "Bail out! {}", one_line(why))?;
        self.out.flush()
    }

    /// Writes the totals and returns true if nothing failed.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<bool> {
        let passed = self.number - (self.failed.min(self.number)) - self.skipped;
        let (failed, skipped) = (self.failed, self.skipped);
        self.note(&format!(
            "totals: pass:{passed} fail:{failed} skip:{skipped}"
        ))?;
        Ok(self.failed == 0)
    }
}

/// A directive ends with its line, so a reason must not break it.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(count: usize, f: impl FnOnce(&mut Report<&mut Vec<u8>>)) -> (String, bool) {
        let mut out = Vec::new();
        let mut report = Report::start(&mut out, count).unwrap();
        f(&mut report);
        let good = report.finish().unwrap();
        (String::from_utf8(out).unwrap(), good)
    }

    #[test]
    fn a_good_run() {
        let (text, good) = written(2, |r| {
            r.result("first", &Outcome::Pass).unwrap();
            r.note("two\nlines").unwrap();
            r.result("second", &Outcome::Skip("no devlink\nhere".into()))
                .unwrap();
        });
        assert_eq!(
            text,
            "KTAP version 1\n1..2\nok 1 first\n# two\n# lines\nok 2 second # SKIP no devlink here\n\
             # totals: pass:1 fail:0 skip:1\n"
        );
        assert!(good);
    }

    #[test]
    fn failures_and_timeouts_make_it_bad() {
        let (text, good) = written(3, |r| {
            r.result("a", &Outcome::Fail("EIO (5)\nand more".into()))
                .unwrap();
            r.result("b", &Outcome::Timeout(30)).unwrap();
            r.result("c", &Outcome::Pass).unwrap();
        });
        assert_eq!(
            text,
            "KTAP version 1\n1..3\n# EIO (5)\n# and more\nnot ok 1 a\nnot ok 2 b # TIMEOUT after 30 s\nok 3 c\n\
             # totals: pass:1 fail:2 skip:0\n"
        );
        assert!(!good);
    }

    #[test]
    fn bailing_out_is_bad() {
        let (text, good) = written(2, |r| {
            r.result("a", &Outcome::Pass).unwrap();
            r.bail_out("stuck").unwrap();
        });
        assert!(text.contains("\nBail out! stuck\n"), "{text}");
        assert!(!good);
    }
}
