// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Interrupts as a vfio client sets them up: an eventfd per MSI-X vector.

use std::{fs::File, io, io::Write};

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
    /// fds, unwires `count` of them, or all if `count` is 0.
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
