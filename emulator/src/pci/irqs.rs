// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupts as a vfio client sets them up: an eventfd per MSI-X vector.

use std::{fs::File, io, io::Write};

use crate::socket::never_block;

/// `VFIO_IRQ_SET_DATA_NONE`.
const DATA_NONE: u32 = 1;
/// `VFIO_IRQ_SET_DATA_EVENTFD`.
const DATA_EVENTFD: u32 = 4;
/// `VFIO_IRQ_SET_ACTION_TRIGGER`.
const ACTION_TRIGGER: u32 = 32;
/// `VFIO_PCI_MSIX_IRQ_INDEX`.
pub const MSIX_INDEX: u32 = 2;

/// The MSI-X vectors' eventfds.
#[derive(Debug)]
pub struct Irqs {
    fds: Vec<Option<File>>,
}

impl Irqs {
    /// `vectors` vectors, none of them wired.
    #[must_use]
    pub fn new(vectors: u16) -> Self {
        Self {
            fds: (0..vectors).map(|_| None).collect(),
        }
    }

    /// VFIO_DEVICE_SET_IRQS for the MSI-X index: wires vectors from `start` on to `fds`; without
    /// fds, unwires `count` of them, or all if `count` is 0; without data, raises them.
    ///
    /// # Errors
    /// `InvalidInput` for a range that there is not, or other numbers of fds.
    pub fn set(&mut self, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        let invalid =
            |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
        if flags & ACTION_TRIGGER == 0 {
            // Masking: the client masks by not delivering.
            return Ok(());
        }
        let (start, count) = (start as usize, count as usize);
        if start
            .checked_add(count)
            .is_none_or(|end| end > self.fds.len())
        {
            return invalid("no such interrupt vectors");
        }
        if flags & DATA_EVENTFD != 0 && !fds.is_empty() {
            if fds.len() != count {
                return invalid("not one eventfd per interrupt vector");
            }
            for fd in &fds {
                never_block(fd)?;
            }
            for (slot, fd) in self.fds[start..].iter_mut().zip(fds) {
                *slot = Some(fd);
            }
        } else if flags & DATA_NONE != 0 && count > 0 {
            for vector in start..start + count {
                self.raise(vector);
            }
        } else if count == 0 {
            self.clear();
        } else {
            self.fds[start..start + count].fill_with(|| None);
        }
        Ok(())
    }

    /// Unwires all.
    pub fn clear(&mut self) {
        self.fds.fill_with(|| None);
    }

    /// Signals a vector; one that is not wired is ignored.
    pub fn raise(&self, vector: usize) {
        if let Some(Some(fd)) = self.fds.get(vector) {
            // An eventfd whose counter is full is signalled already.
            let mut fd: &File = fd;
            let _ = fd.write(&1u64.to_ne_bytes());
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    use vmm_sys_util::eventfd::EventFd;

    const EVENTFD_TRIGGER: u32 = DATA_EVENTFD | ACTION_TRIGGER;

    fn wired(count: usize) -> (Vec<EventFd>, Vec<File>) {
        let fds: Vec<_> = (0..count)
            .map(|_| EventFd::new(libc::EFD_NONBLOCK).unwrap())
            .collect();
        let files = fds
            .iter()
            // SAFETY: the duplicate is a new descriptor that nobody else owns.
            .map(|e| unsafe { File::from_raw_fd(libc::dup(e.as_raw_fd())) })
            .collect();
        (fds, files)
    }

    fn counts(fds: &[EventFd]) -> Vec<u64> {
        fds.iter().map(|e| e.read().unwrap_or(0)).collect()
    }

    #[test]
    fn vectors_are_wired_raised_and_unwired() {
        let mut irqs = Irqs::new(4);
        let (fds, files) = wired(2);
        irqs.set(EVENTFD_TRIGGER, 1, 2, files).unwrap();
        (0..5).for_each(|v| irqs.raise(v));
        assert_eq!(counts(&fds), [1, 1]);
        // Without data: raised by the client itself.
        irqs.set(DATA_NONE | ACTION_TRIGGER, 2, 1, vec![]).unwrap();
        assert_eq!(counts(&fds), [0, 1]);
        // One vector and no eventfd: unwired.
        irqs.set(EVENTFD_TRIGGER, 1, 1, vec![]).unwrap();
        (0..4).for_each(|v| irqs.raise(v));
        assert_eq!(counts(&fds), [0, 1]);
        irqs.set(DATA_NONE | ACTION_TRIGGER, 0, 0, vec![]).unwrap();
        irqs.raise(2);
        assert_eq!(counts(&fds), [0, 0]);
    }

    #[test]
    fn ranges_that_there_are_not_change_nothing() {
        let mut irqs = Irqs::new(4);
        let (fds, files) = wired(4);
        irqs.set(EVENTFD_TRIGGER, 0, 4, files).unwrap();
        for (start, count, files) in [(3, 2, 2), (u32::MAX, 1, 1), (0, u32::MAX, 0), (0, 3, 2)] {
            let (_other, files) = wired(files);
            assert!(
                irqs.set(EVENTFD_TRIGGER, start, count, files).is_err(),
                "{start} {count}"
            );
        }
        (0..4).for_each(|v| irqs.raise(v));
        assert_eq!(counts(&fds), [1, 1, 1, 1]);
    }

    #[test]
    fn a_full_pipe_does_not_hold_up_the_card() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut irqs = Irqs::new(1);
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        irqs.set(EVENTFD_TRIGGER, 0, 1, vec![file]).unwrap();
        // A pipe holds 64 KiB, 8 bytes at a time.
        (0..10_000).for_each(|_| irqs.raise(0));
    }
}
