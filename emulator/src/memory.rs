// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files behind guest memory. A file that its owner can make shorter while it is mapped here would end
//! this process with SIGBUS at the next access, so that one without the shrink seal is not taken.

use std::{io, os::fd::AsFd};

use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat, fstatfs};

/// `HUGETLBFS_MAGIC` of linux/magic.h: the pool may be empty when a page is touched, sealed or not.
const HUGETLBFS: i64 = 0x958458f6;
/// What to do about it.
const ADVICE: &str = "give QEMU `-object memory-backend-memfd,share=on`, or serve with \
                      --allow-unsealed if you trust the virtual machine monitor";

/// Which files are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// Only those that cannot be taken away.
    #[default]
    Sealed,
    /// Any file or device: whoever shares them is trusted.
    Any,
}

impl Files {
    /// Checks a file before it is mapped.
    ///
    /// # Errors
    /// `PermissionDenied` that says what to do.
    pub fn check(self, file: impl AsFd) -> io::Result<()> {
        let denied = |text| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        let refuse = |what: &str| denied(format!("{what}; {ADVICE}"));
        if self == Self::Any {
            // Some sockets can be mapped, and closing one that lingers takes as long as its peer likes.
            return match FileType::from_raw_mode(fstat(&file)?.st_mode) {
                FileType::RegularFile | FileType::CharacterDevice | FileType::BlockDevice => Ok(()),
                _ => denied("guest memory is neither a file nor a device".into()),
            };
        }
        match fcntl_get_seals(&file) {
            Ok(seals) if seals.contains(SealFlags::SHRINK) => {}
            Ok(_) => {
                return refuse("guest memory lacks the seal against shrinking (F_SEAL_SHRINK)");
            }
            Err(_) => return refuse("guest memory is no memfd, so that it can be cut off"),
        }
        if fstatfs(&file)?.f_type == HUGETLBFS {
            return refuse("guest memory lies in huge pages, which can run out");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    #[test]
    fn only_a_sealed_memfd_is_taken_or_any_file_if_so_asked() {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        let memfd = memfd_create("m", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memfd, 4096).unwrap();
        let said = |e: io::Result<()>| {
            let e = e.unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::PermissionDenied);
            e.to_string()
        };
        assert!(said(Files::Sealed.check(&file)).starts_with("guest memory is no memfd"));
        let unsealed = said(Files::Sealed.check(&memfd));
        assert!(unsealed.contains("F_SEAL_SHRINK"), "{unsealed}");
        assert!(unsealed.contains("--allow-unsealed"), "{unsealed}");
        fcntl_add_seals(&memfd, SealFlags::GROW).unwrap();
        said(Files::Sealed.check(&memfd));
        assert!(Files::Any.check(&memfd).is_ok() && Files::Any.check(&file).is_ok());
        let zeros = std::fs::File::open("/dev/zero").unwrap();
        assert!(Files::Any.check(&zeros).is_ok());
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(said(Files::Any.check(&socket)).contains("neither a file nor a device"));
        fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
        assert!(Files::Sealed.check(&memfd).is_ok());
        assert!(ftruncate(&memfd, 0).is_err(), "the seal holds");
        if let Ok(huge) = memfd_create("h", MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB) {
            fcntl_add_seals(&huge, SealFlags::SHRINK).unwrap();
            assert!(said(Files::Sealed.check(&huge)).contains("huge pages"));
        }
    }
}
