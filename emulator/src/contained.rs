// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Panics of the threads that write files, as errors.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What an error says that was a panic; the panic itself, and where, was said on standard error before.
pub const PANICKED: &str = "this program panicked, see above; this is a bug";

/// Does something with files; a panic in it is an error like one of theirs. What it worked on must not be
/// used any more then.
///
/// # Errors
/// Those of `what`, or [`PANICKED`].
pub fn contained<T>(what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err(io::Error::other(PANICKED)))
}

#[cfg(test)]
#[allow(missing_docs)]
pub mod tests {
    use super::PANICKED;
    use crate::record::Disk;
    use std::io::{self, Write};

    /// A file whose every write is a bug of ours, after so many.
    pub struct Broken(pub usize);

    impl Write for Broken {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            assert!(self.0 > 0, "meant: a bug in a writer");
            self.0 -= 1;
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Broken {
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_an_error_and_an_error_stays_what_it_is() {
        let said = |r: io::Result<()>| r.unwrap_err().to_string();
        assert_eq!(
            said(super::contained(|| Broken(0).write_all(b"x"))),
            PANICKED
        );
        let full = || Err(io::ErrorKind::StorageFull.into());
        assert_eq!(said(super::contained(full)), "no storage space");
        assert!(super::contained(|| Broken(1).write_all(b"x")).is_ok());
    }
}
