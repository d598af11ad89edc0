// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Listening sockets: paths that are checked before anything is served, and fds passed in.

use std::{
    convert::Infallible,
    fs, io,
    os::{
        fd::{FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail};

/// Bytes of a socket path that `sockaddr_un` holds, its NUL left out.
const MAX_PATH: usize = 107;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path.
    Path(PathBuf),
    /// A listening socket that was passed in.
    Fd(RawFd),
}

impl FromStr for Place {
    type Err = Infallible;

    fn from_str(s: &str) -> Result<Self, Infallible> {
        Ok(match s.strip_prefix("fd:").and_then(|n| n.parse().ok()) {
            Some(fd) => Self::Fd(fd),
            None => Self::Path(s.into()),
        })
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

/// A listening socket; its path, if it is ours, goes with it.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub listener: UnixListener,
    /// The path to remove at the end.
    pub path: Option<PathBuf>,
}

/// Listens at `at`, for this user alone. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// One line that says which path or fd, what is wrong with it and what to do.
pub fn listen(at: &Place) -> anyhow::Result<Listening> {
    match at {
        Place::Path(p) => Ok(Listening {
            listener: bind(p)?,
            path: Some(p.clone()),
        }),
        Place::Fd(fd) => Ok(Listening {
            listener: adopt(*fd)?,
            path: None,
        }),
    }
}

fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    if path.as_os_str().len() > MAX_PATH {
        bail!("socket {shown}: the path is longer than {MAX_PATH} bytes; choose a shorter one");
    }
    match fs::symlink_metadata(path) {
        Ok(m) if !m.file_type().is_socket() => {
            bail!("socket {shown}: there is a file that is no socket; choose another path")
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            bail!(
                "socket {shown}: another process listens on it; choose another path or end that process"
            )
        }
        Ok(_) => fs::remove_file(path)
            .with_context(|| format!("socket {shown}: a stale socket that cannot be removed"))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| format!("socket {shown}")),
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("socket {shown}: cannot be made"))?;
    // Until here only who may search the folder could connect, and nobody is accepted yet.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("socket {shown}"))?;
    Ok(listener)
}

fn adopt(fd: RawFd) -> anyhow::Result<UnixListener> {
    const STANDARD: RawFd = 2;
    if fd <= STANDARD {
        bail!("socket fd:{fd}: not a file descriptor that was passed for this");
    }
    let mut listening: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to locals of the lengths given; any fd number may be asked about.
    let answer = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut listening).cast(),
            &raw mut len,
        )
    };
    if answer != 0 || listening == 0 {
        bail!("socket fd:{fd}: not a listening socket");
    }
    // SAFETY: the descriptor is open and was passed to this process for this one use.
    Ok(UnixListener::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let path = dir.as_path().join("s");
        let at = Place::Path(path.clone());
        let first = listen(&at).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let e = listen(&at).unwrap_err().to_string();
        assert!(e.contains("another process listens"), "{e}");
        drop(first);
        assert!(listen(&at).is_ok());
    }

    #[test]
    fn unusable_places_are_named() {
        let dir = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let e = |p: &Path| format!("{:#}", listen(&Place::Path(p.into())).unwrap_err());
        let file = dir.as_path().join("f");
        fs::write(&file, b"x").unwrap();
        assert!(e(&file).ends_with("there is a file that is no socket; choose another path"));
        assert!(
            e(Path::new("/no/such/folder/s"))
                .contains("/no/such/folder/s: cannot be made: No such file")
        );
        assert!(e(Path::new(&"x".repeat(108))).contains("longer than 107 bytes"));
        for fd in ["fd:0", "fd:999"] {
            assert!(listen(&fd.parse().unwrap()).is_err());
        }
    }
}
