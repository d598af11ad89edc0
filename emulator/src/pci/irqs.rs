// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupts as a vfio client sets them up: an eventfd per MSI-X vector.

use std::{fs::File, io, mem, sync::Arc};

use crate::raise::{HeldUp, Line};

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
    fds: Vec<Option<Arc<File>>>,
    line: Line,
    held_up: bool,
}

impl Irqs {
    /// `vectors` vectors, none of them wired.
    #[must_use]
    pub fn new(vectors: u16) -> Self {
        Self {
            fds: (0..vectors).map(|_| None).collect(),
            line: Line::default(),
            held_up: false,
        }
    }

    /// VFIO_DEVICE_SET_IRQS for the MSI-X index: wires vectors from `start` on to `fds`; without
    /// fds, unwires `count` of them, or all if `count` is 0; without data, raises them. `fds` holds afterwards
    /// what is not wired, or was before.
    ///
    /// # Errors
    /// `InvalidInput` for a range that there is not, or other numbers of fds; [`HeldUp`], also for all that
    /// follows.
    pub fn set(
        &mut self,
        flags: u32,
        start: u32,
        count: u32,
        fds: &mut Vec<Arc<File>>,
    ) -> io::Result<()> {
        if self.held_up {
            return Err(io::Error::other(HeldUp));
        }
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
            let wired = mem::take(fds);
            for (slot, fd) in self.fds[start..].iter_mut().zip(wired) {
                fds.extend(slot.replace(fd));
            }
        } else if flags & DATA_NONE != 0 && count > 0 {
            for vector in start..start + count {
                self.raise(vector).map_err(io::Error::other)?;
            }
        } else if count == 0 {
            fds.extend(self.clear());
        } else {
            let unwired = self.fds[start..start + count].iter_mut();
            fds.extend(unwired.filter_map(Option::take));
        }
        Ok(())
    }

    /// True if the client has held up who signals to it: it is not signalled any more, and must go.
    #[must_use]
    pub fn held_up(&self) -> bool {
        self.held_up
    }

    /// Unwires all, as for the next client: what was wired.
    #[must_use]
    pub fn clear(&mut self) -> Vec<Arc<File>> {
        self.held_up = false;
        self.fds.iter_mut().filter_map(Option::take).collect()
    }

    /// Signals a vector; one that is not wired is ignored.
    ///
    /// # Errors
    /// [`HeldUp`], once.
    pub fn raise(&mut self, vector: usize) -> Result<(), HeldUp> {
        match self.fds.get(vector) {
            Some(Some(fd)) if !self.held_up => {
                let raised = self.line.raise(fd);
                self.held_up = raised.is_err();
                raised
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};
    use vmm_sys_util::eventfd::EventFd;

    const EVENTFD_TRIGGER: u32 = DATA_EVENTFD | ACTION_TRIGGER;

    fn wired(count: usize) -> (Vec<EventFd>, Vec<Arc<File>>) {
        let fds: Vec<_> = (0..count)
            .map(|_| EventFd::new(libc::EFD_NONBLOCK).unwrap())
            .collect();
        let files = fds
            .iter()
            // SAFETY: the duplicate is a new descriptor that nobody else owns.
            .map(|e| unsafe { File::from_raw_fd(libc::dup(e.as_raw_fd())) })
            .map(Arc::new)
            .collect();
        (fds, files)
    }

    fn counts(fds: &[EventFd]) -> Vec<u64> {
        fds.iter().map(|e| e.read().unwrap_or(0)).collect()
    }

    #[test]
    fn vectors_are_wired_raised_and_unwired() {
        let mut irqs = Irqs::new(4);
        let (fds, mut files) = wired(2);
        irqs.set(EVENTFD_TRIGGER, 1, 2, &mut files).unwrap();
        assert_eq!(files.len(), 0);
        (0..5).for_each(|v| irqs.raise(v).unwrap());
        assert_eq!(counts(&fds), [1, 1]);
        // Without data: raised by the client itself.
        let mut none = Vec::new();
        irqs.set(DATA_NONE | ACTION_TRIGGER, 2, 1, &mut none)
            .unwrap();
        assert_eq!(counts(&fds), [0, 1]);
        // One vector and no eventfd: unwired.
        irqs.set(EVENTFD_TRIGGER, 1, 1, &mut none).unwrap();
        assert_eq!(none.len(), 1, "it is the caller's");
        (0..4).for_each(|v| irqs.raise(v).unwrap());
        assert_eq!(counts(&fds), [0, 1]);
        none.clear();
        irqs.set(DATA_NONE | ACTION_TRIGGER, 0, 0, &mut none)
            .unwrap();
        irqs.raise(2).unwrap();
        assert_eq!(counts(&fds), [0, 0]);
    }

    #[test]
    fn ranges_that_there_are_not_change_nothing() {
        let mut irqs = Irqs::new(4);
        let (fds, mut files) = wired(4);
        irqs.set(EVENTFD_TRIGGER, 0, 4, &mut files).unwrap();
        for (start, count, files) in [(3, 2, 2), (u32::MAX, 1, 1), (0, u32::MAX, 0), (0, 3, 2)] {
            let (_other, mut files) = wired(files);
            assert!(
                irqs.set(EVENTFD_TRIGGER, start, count, &mut files).is_err(),
                "{start} {count}"
            );
        }
        (0..4).for_each(|v| irqs.raise(v).unwrap());
        assert_eq!(counts(&fds), [1, 1, 1, 1]);
    }
}
