// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the model may ask of guest memory while it handles an input: reads, and nothing else.

/// The guest address range is not mapped (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmapped;

/// Read access to the memory of the guest that an input came from.
///
/// Writes never go through this trait: they are [`Effect::Write`](crate::Effect::Write)s.
pub trait GuestMemory {
    /// Fills `buf` from guest-physical (bus) address `addr`.
    ///
    /// # Errors
    /// [`Unmapped`] if any byte of the range is not mapped; `buf` may then hold anything.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped>;

    /// The same for an observer: what the firmware itself does not read, and no record has.
    ///
    /// # Errors
    /// As for [`GuestMemory::read`].
    fn peek(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        self.read(addr, buf)
    }
}

/// Guest memory as an observer sees it.
pub(crate) struct Peeked<'a>(pub &'a dyn GuestMemory);

impl GuestMemory for Peeked<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        self.0.peek(addr, buf)
    }
}

/// A guest with no memory that the card could reach: every read fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMemory;

impl GuestMemory for NoMemory {
    fn read(&self, _addr: u64, _buf: &mut [u8]) -> Result<(), Unmapped> {
        Err(Unmapped)
    }
}
