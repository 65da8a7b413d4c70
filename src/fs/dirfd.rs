//! An opened directory: the one that a path led to when it was looked up, whatever the path leads to later.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;

/// A directory that is open, as `O_PATH`.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens the directory, links followed.
    ///
    /// # Errors
    /// What open(2) says: `ENOTDIR` for anything else.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())? })
    }

    /// Opens the directory, links followed, and makes it and those above it where they are missing.
    ///
    /// # Errors
    /// What mkdir(2) and open(2) say.
    pub fn open_or_create(path: &Path, mode: u32) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        Self::open_or_create(above, mode)?.create(name, mode)
    }

    /// Opens the directory of that name in it, which is made where it is missing. A link is not followed.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` for a link or a file, and what mkdir(2) says.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: openat(&self.fd, name, flags, Mode::empty())? })
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path that leads to what is open, for calls that take no descriptor, in this process alone.
pub fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens once more what is open, for example as `O_PATH`, with other flags.
///
/// # Errors
/// What open(2) says.
pub fn reopen(file: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open(path_of(file), flags | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_open_directory_stays_the_same_when_its_path_leads_elsewhere() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("x/y");
        let dir = Dir::open_or_create(&path, 0o755).unwrap();
        fs::rename(top.path().join("x"), top.path().join("moved")).unwrap();
        symlink("/etc", top.path().join("x")).unwrap();
        dir.create(OsStr::new("z"), 0o755).unwrap();
        assert!(top.path().join("moved/y/z").is_dir());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_to_make_is_refused() {
        let top = tempfile::tempdir().unwrap();
        symlink("/etc", top.path().join("link")).unwrap();
        let error = Dir::open(top.path()).unwrap().create(OsStr::new("link"), 0o755).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
