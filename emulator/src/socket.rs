// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Listening sockets: paths that are checked before anything is served, and fds passed in.

use std::{
    fs,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, Mode, OFlags, fcntl_getfl, fcntl_setfl, flock},
    io::Errno,
    net::{
        self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SocketAddrUnix, SocketFlags, SocketType,
    },
    process::umask,
};

use crate::{passed::Passed, usage::Usage};

/// Bytes of a socket path that `sockaddr_un` holds, its NUL left out.
const MAX_PATH: usize = 107;
/// File descriptors that one message may bring.
pub const MAX_FDS: usize = 8;
/// How often a folder's lock is tried, and the pause between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path.
    Path(PathBuf),
    /// A listening socket that was passed in.
    Fd(RawFd),
}

impl Place {
    /// The number of a file descriptor that was passed in.
    #[must_use]
    pub fn fd(&self) -> Option<RawFd> {
        match self {
            Self::Path(_) => None,
            Self::Fd(fd) => Some(*fd),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let Some(number) = s.strip_prefix("fd:") else {
            return Ok(Self::Path(s.into()));
        };
        let fd = number.parse().map_err(|_| {
            format!(
                "after fd: comes the number of a listening socket that was passed; a path that begins so is ./{s}"
            )
        })?;
        Ok(Self::Fd(fd))
    }
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Path(p) => write!(f, "{}", p.display()),
            Self::Fd(n) => write!(f, "fd:{n}"),
        }
    }
}

/// A listening socket, and its file if we made one.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub listener: UnixListener,
    /// Removed when this is dropped.
    pub file: Option<SocketFile>,
}

/// The file of a socket that we made; dropping it removes the file, unless another took its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            // If it cannot be removed, the next process takes it for stale and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `at`, for this user alone. A socket that nobody listens on any more is replaced; one that was
/// passed in is that of `passed`.
///
/// Call it before there are other threads: the process's umask changes for a moment.
///
/// # Errors
/// One line that says which path or fd, what is wrong with it and what to do.
pub fn listen(at: &Place, passed: &mut Passed) -> anyhow::Result<Listening> {
    match at {
        Place::Path(p) => bind(p),
        Place::Fd(fd) => Ok(Listening {
            listener: passed
                .socket(*fd)
                .with_context(|| format!("socket {at}: was not passed"))?,
            file: None,
        }),
    }
}

/// Reads what there is, up to the length of `buf`, and the file descriptors that come with it. True if
/// there were more than [`MAX_FDS`]: the kernel closes those for which there was no room.
///
/// # Errors
/// What the socket says.
pub fn receive(
    stream: &UnixStream,
    buf: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<(usize, bool)> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = match net::recvmsg(stream, &mut [IoSliceMut::new(buf)], &mut control, flags) {
            Err(Errno::INTR) => continue,
            got => got?,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                fds.extend(files);
            }
        }
        return Ok((got.bytes, got.flags.contains(ReturnFlags::CTRUNC)));
    }
}

fn bind(path: &Path) -> anyhow::Result<Listening> {
    let shown = path.display();
    if path.as_os_str().len() > MAX_PATH {
        bail!(Usage(format!(
            "socket {shown}: the path is longer than {MAX_PATH} bytes; choose a shorter one"
        )));
    }
    // Two processes that find the same stale socket must not both replace it.
    let _lock = lock_folder(path);
    match fs::symlink_metadata(path) {
        Ok(m) if !m.file_type().is_socket() => {
            bail!("socket {shown}: there is a file that is no socket; choose another path")
        }
        Ok(_) if someone_listens(path)? => {
            bail!(
                "socket {shown}: another process listens on it; choose another path or end that process"
            )
        }
        Ok(_) => fs::remove_file(path)
            .with_context(|| format!("socket {shown}: a stale socket that cannot be removed"))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("socket {shown}")),
    }
    let before = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.with_context(|| format!("socket {shown}: cannot be made"))?;
    let inode = fs::symlink_metadata(path)
        .with_context(|| format!("socket {shown}"))?
        .ino();
    let path = path.to_owned();
    Ok(Listening {
        listener,
        file: Some(SocketFile { path, inode }),
    })
}

/// Holds off others of our kind while the lock lives; without the right to open the folder there
/// is no lock, and the race is as small as it is for everybody else.
fn lock_folder(path: &Path) -> Option<fs::File> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let f = fs::File::open(folder).ok()?;
    for _ in 0..LOCK_TRIES {
        if flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(f);
        }
        thread::sleep(LOCK_PAUSE);
    }
    None
}

/// True if a connection to `path` is taken or would be; false for a stale socket.
fn someone_listens(path: &Path) -> anyhow::Result<bool> {
    // Non-blocking: a live socket with a full queue of connections would block.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connect = || {
        let s = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        net::connect(&s, &SocketAddrUnix::new(path)?)
    };
    match connect() {
        // EAGAIN: its queue is full. EPROTOTYPE: a unix socket of another kind, not ours to remove.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(e) => Err(e).with_context(|| format!("socket {}", path.display())),
    }
}

/// What the kernel calls an eventfd.
const EVENTFD: &str = "anon_inode:[eventfd]";

/// Checks that a client's descriptor for signals is an eventfd: of any other kind, even the closing may take
/// long, as that of a socket that lingers. Writes to one that is full fail from now on instead of block, unless
/// the client takes that back: see [`crate::raise`].
///
/// # Errors
/// `InvalidInput` if it is none; what the system says.
pub fn signal(fd: &fs::File) -> io::Result<()> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let name =
        fs::read_link(&link).map_err(|e| io::Error::new(e.kind(), format!("{link}: {e}")))?;
    if name.as_os_str() != EVENTFD {
        let text = format!("a descriptor for signals is no eventfd: {}", name.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::{
        event::{EventfdFlags, epoll, eventfd},
        fs::{MemfdFlags, memfd_create},
    };
    use std::os::unix::{fs::PermissionsExt, net::UnixDatagram};

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = dir.as_path().join("s");
        let at = Place::Path(path.clone());
        let first = listen(&at, &mut Passed::default()).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let e = listen(&at, &mut Passed::default()).unwrap_err().to_string();
        assert!(e.contains("another process listens"), "{e}");
        // Dropped with its file.
        drop(first);
        assert!(!path.exists());
        // Left behind by a process that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let second = listen(&at, &mut Passed::default()).unwrap();
        // Another took its place: that one stays.
        fs::remove_file(&path).unwrap();
        let other = UnixDatagram::bind(&path).unwrap();
        drop(second);
        assert!(path.exists());
        let e = listen(&at, &mut Passed::default()).unwrap_err().to_string();
        assert!(e.contains("another process listens"), "{e}");
        drop(other);
    }

    #[test]
    fn unusable_places_are_named() {
        let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let e = |p: &Path| {
            format!(
                "{:#}",
                listen(&Place::Path(p.into()), &mut Passed::default()).unwrap_err()
            )
        };
        let file = dir.as_path().join("f");
        fs::write(&file, b"x").unwrap();
        assert!(e(&file).ends_with("there is a file that is no socket; choose another path"));
        assert!(
            e(Path::new("/no/such/folder/s"))
                .contains("/no/such/folder/s: cannot be made: No such file")
        );
        assert!(e(Path::new(&"x".repeat(108))).contains("longer than 107 bytes"));
        let e = listen(&Place::Fd(999), &mut Passed::default()).unwrap_err();
        assert_eq!(e.to_string(), "socket fd:999: was not passed");
    }

    #[test]
    fn a_signal_is_an_eventfd_and_one_that_is_full_is_left_alone() {
        let event: fs::File = eventfd(u32::MAX, EventfdFlags::empty()).unwrap().into();
        signal(&event).unwrap();
        // Its counter ends at 2^64 - 2.
        rustix::io::write(&event, &(u64::MAX - 1 - u64::from(u32::MAX)).to_ne_bytes()).unwrap();
        let full = rustix::io::write(&event, &1u64.to_ne_bytes());
        assert_eq!(full, Err(Errno::AGAIN));
        let (_reader, pipe) = io::pipe().unwrap();
        let (stream, _peer) = UnixStream::pair().unwrap();
        let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let memory = memfd_create("anon_inode:[eventfd]", MemfdFlags::empty()).unwrap();
        let other = epoll::create(epoll::CreateFlags::empty()).unwrap();
        let all: [OwnedFd; 5] = [pipe.into(), stream.into(), network.into(), memory, other];
        for fd in all {
            let refused = signal(&fd.into()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
        }
    }
}
