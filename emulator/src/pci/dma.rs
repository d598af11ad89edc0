// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory as a vfio client maps it for DMA.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use fw_model::{GuestMemory, Order, Unmapped};
use rustix::fs::fcntl_getfl;
use vm_memory::{
    Bytes, FileOffset, VolatileMemory,
    mmap::{MmapRegion, MmapRegionBuilder},
};

use crate::memory::Files;

/// Ranges that one client may map.
pub const MAX_RANGES: usize = 4096;
/// Bytes that one client may map in all: what a large guest has.
pub const MAX_BYTES: u64 = 1 << 44;

/// Files that one client may map: each keeps a descriptor of this process open.
pub const MAX_FILES: usize = 64;

/// What tells files apart: device, inode, and how it was opened.
type Identity = (u64, u64, u32);

struct Range {
    start: u64,
    size: u64,
    // The device may write it; it may read every range.
    writable: bool,
    // Ranges without a file cannot be reached: there are no DMA messages in this protocol crate.
    memory: Option<MmapRegion>,
    file: Option<(Identity, Arc<File>)>,
}

impl Range {
    fn end(&self) -> u64 {
        self.start + self.size
    }
}

/// Ranges that were mapped: dropping them unmaps them and closes their files.
#[must_use = "it is to be dropped without the lock that the card needs"]
pub struct Gone(
    // Only dropped.
    #[expect(dead_code)] Vec<Range>,
);

/// The mapped ranges, by address.
#[derive(Default)]
pub struct DmaMap {
    ranges: Vec<Range>,
    files: Files,
}

impl DmaMap {
    /// No range yet; only such files will be mapped.
    #[must_use]
    pub fn new(files: Files) -> Self {
        Self {
            ranges: Vec::new(),
            files,
        }
    }

    /// Maps `size` bytes at `address` to `file` from `offset` on; `writable` by the device or not. The file is
    /// closed by the caller if it is not kept: that may take long, and the card waits for who holds this.
    ///
    /// # Errors
    /// `InvalidInput` for an empty, overlapping or overlong range, or one that its file does not
    /// hold; what [`Files::check`] and `mmap` say.
    pub fn map(
        &mut self,
        address: u64,
        size: u64,
        offset: u64,
        writable: bool,
        file: Option<&Arc<File>>,
    ) -> io::Result<()> {
        let invalid = |what: &str| {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("DMA map of {size:#x} bytes at {address:#x}: {what}"),
            ))
        };
        if size == 0 || address.checked_add(size).is_none() {
            return invalid("the range is empty or wraps");
        }
        if self.ranges.len() >= MAX_RANGES {
            return invalid("too many ranges");
        }
        if self
            .ranges
            .iter()
            .map(|r| r.size)
            .sum::<u64>()
            .saturating_add(size)
            > MAX_BYTES
        {
            return invalid("too many bytes");
        }
        let at = self.ranges.partition_point(|r| r.start < address);
        let after = self
            .ranges
            .get(at)
            .is_some_and(|r| r.start < address + size);
        let before = at
            .checked_sub(1)
            .and_then(|i| self.ranges.get(i))
            .is_some_and(|r| r.end() > address);
        if after || before {
            return invalid("it overlaps another");
        }
        let (memory, file) = match file {
            None => (None, None),
            Some(file) => {
                self.files.check(file)?;
                let held = file.metadata()?;
                // A device file has no length of its own.
                if held.is_file() && offset.checked_add(size).is_none_or(|end| end > held.len()) {
                    return invalid("its file ends before it");
                }
                let Ok(bytes) = usize::try_from(size) else {
                    return invalid("too long");
                };
                let Some(file) = self.known(file, (held.dev(), held.ino()))? else {
                    return invalid("too many files");
                };
                let write = if writable { libc::PROT_WRITE } else { 0 };
                let region = MmapRegionBuilder::new(bytes)
                    .with_file_offset(FileOffset::from_arc(file.1.clone(), offset))
                    .with_mmap_prot(libc::PROT_READ | write)
                    .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
                    .build()
                    .map_err(io::Error::other)?;
                (Some(region), Some(file))
            }
        };
        self.ranges.insert(
            at,
            Range {
                start: address,
                size,
                writable,
                memory,
                file,
            },
        );
        Ok(())
    }

    /// The descriptor that is kept for a file: the first one of several. `None` if there are too many.
    fn known(
        &self,
        file: &Arc<File>,
        (dev, ino): (u64, u64),
    ) -> io::Result<Option<(Identity, Arc<File>)>> {
        let identity = (dev, ino, fcntl_getfl(file)?.bits());
        let mut all: Vec<_> = self.ranges.iter().filter_map(|r| r.file.as_ref()).collect();
        if let Some((_, first)) = all.iter().find(|(i, _)| *i == identity) {
            return Ok(Some((identity, first.clone())));
        }
        all.sort_by_key(|(i, _)| *i);
        all.dedup_by_key(|(i, _)| *i);
        Ok((all.len() < MAX_FILES).then(|| (identity, file.clone())))
    }

    /// Unmaps what lies wholly within `size` bytes at `address`: what is to be dropped without a lock.
    ///
    /// # Errors
    /// `InvalidInput` if a range would be cut in two.
    pub fn unmap(&mut self, address: u64, size: u64) -> io::Result<Gone> {
        let end = address.saturating_add(size);
        let cut =
            |r: &Range| r.start < end && r.end() > address && (r.start < address || r.end() > end);
        if self.ranges.iter().any(cut) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("DMA unmap of {size:#x} bytes at {address:#x}: it cuts a range"),
            ));
        }
        let gone = |r: &mut Range| r.end() > address && r.start < end;
        Ok(Gone(self.ranges.extract_if(.., gone).collect()))
    }

    /// Unmaps all, likewise.
    pub fn clear(&mut self) -> Gone {
        Gone(std::mem::take(&mut self.ranges))
    }

    fn find(&self, addr: u64, len: usize) -> Option<(&Range, &MmapRegion, usize)> {
        let i = self
            .ranges
            .partition_point(|r| r.start <= addr)
            .checked_sub(1)?;
        let r = self.ranges.get(i)?;
        let from = addr - r.start;
        if from.checked_add(len as u64)? > r.size {
            return None;
        }
        Some((r, r.memory.as_ref()?, usize::try_from(from).ok()?))
    }

    /// Writes `data` at `addr`; what is not mapped is skipped. A published write is one byte.
    pub fn write(&self, addr: u64, data: &[u8], order: Order) {
        // A message may lie across two ranges that touch.
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|r| !r.is_empty()) {
            let at = addr.wrapping_add(done as u64);
            let Some(n) = self.reach(at, rest.len()) else {
                return;
            };
            if let Some((range, region, from)) = self.find(at, n)
                && range.writable
                && let Ok(slice) = region.get_slice(from, n)
            {
                match (order, rest) {
                    (Order::Publish, [byte]) => drop(slice.store(*byte, 0, Ordering::Release)),
                    (Order::Publish, _) => {
                        fence(Ordering::Release);
                        slice.copy_from(&rest[..n]);
                    }
                    (Order::Relaxed, _) => slice.copy_from(&rest[..n]),
                }
            }
            done += n;
        }
    }

    /// Bytes from `addr` on that lie in one range, at most `len`; `None` if there is no range.
    fn reach(&self, addr: u64, len: usize) -> Option<usize> {
        let i = self
            .ranges
            .partition_point(|r| r.start <= addr)
            .checked_sub(1)?;
        let room = self
            .ranges
            .get(i)?
            .end()
            .checked_sub(addr)
            .filter(|n| *n > 0)?;
        Some(usize::try_from(room).unwrap_or(usize::MAX).min(len))
    }
}

impl GuestMemory for DmaMap {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Unmapped> {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.checked_add(done as u64).ok_or(Unmapped)?;
            let n = self.reach(at, buf.len() - done).ok_or(Unmapped)?;
            let (_, region, from) = self.find(at, n).ok_or(Unmapped)?;
            let slice = region.get_slice(from, n).map_err(|_| Unmapped)?;
            slice.copy_to(&mut buf[done..done + n]);
            done += n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::fs::FileExt};

    fn file(len: usize) -> Arc<File> {
        let mut f = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        f.write_all(&vec![0u8; len]).unwrap();
        Arc::new(f)
    }

    #[test]
    fn reads_and_writes_go_to_the_file_and_across_touching_ranges() {
        let (a, b) = (file(0x2000), file(0x1000));
        let mut m = DmaMap::new(Files::Any);
        m.map(0x1_0000, 0x1000, 0x1000, true, Some(&a)).unwrap();
        m.map(0x1_1000, 0x1000, 0, true, Some(&b)).unwrap();
        m.write(0x1_0ffe, &[1, 2, 3, 4], Order::Relaxed);
        m.write(0x1_1010, &[9], Order::Publish);
        let mut got = [0; 2];
        a.read_exact_at(&mut got, 0x1ffe).unwrap();
        assert_eq!(got, [1, 2]);
        b.read_exact_at(&mut got, 0).unwrap();
        assert_eq!(got, [3, 4]);
        let mut all = [0; 4];
        m.read(0x1_0ffe, &mut all).unwrap();
        assert_eq!(all, [1, 2, 3, 4]);
        let mut one = [0];
        m.read(0x1_1010, &mut one).unwrap();
        assert_eq!(one, [9]);
    }

    #[test]
    fn what_is_not_mapped_is_refused_or_skipped() {
        let mut m = DmaMap::new(Files::Any);
        m.map(0x1000, 0x1000, 0, true, None).unwrap();
        m.map(0x3000, 0x1000, 0, true, Some(&file(0x1000))).unwrap();
        let mut b = [0; 8];
        for addr in [0, 0x1000, 0x2ffc, 0x3ffc, u64::MAX - 3] {
            assert_eq!(m.read(addr, &mut b), Err(Unmapped), "{addr:#x}");
            m.write(addr, &[1; 8], Order::Relaxed);
        }
        assert_eq!(m.read(0x3ff8, &mut b), Ok(()));
        drop(m.unmap(0x3000, 0x1000).unwrap());
        assert_eq!(m.read(0x3ff8, &mut b), Err(Unmapped));
    }

    #[test]
    fn bad_ranges_are_refused_and_change_nothing() {
        let mut m = DmaMap::new(Files::Any);
        m.map(0x3000, 0x2000, 0, true, Some(&file(0x2000))).unwrap();
        for (address, size) in [
            (0x3000, 0),
            (0x2000, 0x1001),
            (0x4fff, 1),
            (0x3000, 0x2000),
            (u64::MAX, 2),
        ] {
            assert!(
                m.map(address, size, 0, true, None).is_err(),
                "{address:#x} {size:#x}"
            );
        }
        assert!(
            m.map(0x8000, 0x1001, 0, true, Some(&file(0x1000))).is_err(),
            "past the file's end"
        );
        assert!(m.unmap(0x3000, 0x1000).is_err(), "cuts the range");
        assert_eq!(m.read(0x3000, &mut [0; 8]), Ok(()));
        drop(m.unmap(0, u64::MAX).unwrap());
        assert_eq!(m.read(0x3000, &mut [0; 8]), Err(Unmapped));
    }

    #[test]
    fn files_are_counted_once_and_not_without_end() {
        let mut m = DmaMap::new(Files::Any);
        let files: Vec<_> = (0..=MAX_FILES).map(|_| file(0x1000)).collect();
        let mut map = |at: usize, f: &Arc<File>| {
            // Another descriptor of it each time.
            let f = Arc::new(f.try_clone().unwrap());
            m.map(at as u64 * 0x1000, 0x1000, 0, true, Some(&f))
        };
        for (i, f) in files[..MAX_FILES].iter().enumerate() {
            map(i, f).unwrap();
        }
        let e = map(1000, &files[MAX_FILES]).unwrap_err().to_string();
        assert!(e.ends_with("too many files"), "{e}");
        // The same file again is no other file.
        map(1000, &files[0]).unwrap();
        let open: Vec<_> = m.ranges.iter().filter_map(|r| r.file.as_ref()).collect();
        assert_eq!(open.len(), MAX_FILES + 1);
        assert!(Arc::ptr_eq(&open[0].1, &open[MAX_FILES].1));
    }

    /// Closing a file may take long: who holds the map holds up the card.
    #[test]
    fn no_file_is_closed_by_the_map() {
        let mut m = DmaMap::new(Files::Any);
        let f = file(0x1000);
        assert!(m.map(0, 0x2000, 0, true, Some(&f)).is_err());
        m.map(0, 0x1000, 0, true, Some(&f)).unwrap();
        assert!(m.map(0, 0x1000, 0, true, Some(&f)).is_err(), "overlaps");
        let open = Arc::strong_count(&f);
        assert!(open > 1);
        let gone = m.unmap(0, 0x1000).unwrap();
        assert_eq!(Arc::strong_count(&f), open);
        drop(gone);
        assert_eq!(Arc::strong_count(&f), 1);
        m.map(0, 0x1000, 0, true, Some(&f)).unwrap();
        let gone = m.clear();
        assert_eq!(Arc::strong_count(&f), open);
        drop(gone);
        assert_eq!(Arc::strong_count(&f), 1);
    }

    #[test]
    fn ranges_and_bytes_have_an_end() {
        let mut m = DmaMap::default();
        for i in 0..MAX_RANGES as u64 {
            m.map(i * 0x1000, 0x1000, 0, true, None).unwrap();
        }
        let e = m.map(1 << 40, 0x1000, 0, true, None).unwrap_err();
        assert!(e.to_string().ends_with("too many ranges"), "{e}");
        drop(m.clear());
        m.map(0, MAX_BYTES, 0, true, None).unwrap();
        let e = m.map(MAX_BYTES, 1, 0, true, None).unwrap_err();
        assert!(e.to_string().ends_with("too many bytes"), "{e}");
    }

    #[test]
    fn a_range_that_is_read_only_is_read_and_not_written() {
        // A read-only descriptor: a ROM that a monitor maps.
        let rom = vmm_sys_util::tempfile::TempFile::new().unwrap();
        rom.as_file().write_all_at(&[7; 0x1000], 0).unwrap();
        let mut m = DmaMap::new(Files::Any);
        let fd = Arc::new(File::open(rom.as_path()).unwrap());
        assert!(m.map(0x1000, 0x1000, 0, true, Some(&fd)).is_err());
        m.map(0x1000, 0x1000, 0, false, Some(&fd)).unwrap();
        m.write(0x1000, &[1; 8], Order::Relaxed);
        m.write(0x1000, &[1], Order::Publish);
        let mut b = [0; 8];
        m.read(0x1000, &mut b).unwrap();
        assert_eq!(b, [7; 8]);
    }
}
