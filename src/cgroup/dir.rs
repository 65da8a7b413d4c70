//! Reads, writes and makes one group: a directory of a cgroup filesystem, used by its descriptor.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, unlinkat};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// An open group. Its path is for messages, and dates from when the group was opened.
#[derive(Debug)]
pub struct GroupDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl GroupDir {
    /// Opens the group at `below`, which may be empty, in the hierarchy that is open as `root` and has the path `path`.
    pub(super) fn open_at(root: BorrowedFd<'_>, path: &Path, below: &Path) -> io::Result<Self> {
        let name = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let fd = openat(root, name, DIRECTORY - OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { fd, path: path.join(below) })
    }

    /// Opens the group with this name below this one.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn child(&self, name: &str) -> io::Result<Self> {
        Ok(Self { fd: openat(&self.fd, name, DIRECTORY, Mode::empty())?, path: self.path.join(name) })
    }

    /// Opens the group above, which must be visible from here.
    pub(super) fn parent(&self) -> io::Result<Self> {
        let fd = openat(&self.fd, "..", DIRECTORY, Mode::empty())?;
        Ok(Self { fd, path: self.path.parent().unwrap_or(Path::new("/")).to_owned() })
    }

    /// Makes a group below this one.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn create(&self, name: &str) -> io::Result<Self> {
        mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))?;
        self.child(name)
    }

    /// Returns the text of a file of the group.
    ///
    /// # Errors
    /// Those of open(2) and read(2): `ENOENT` where the controller is not enabled here.
    pub fn read(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        self.file(name, OFlags::RDONLY)?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Returns the words of a file of the group; none where the file does not exist.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        self.read(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Writes to a file of the group, in one call, as cgroup files require it.
    ///
    /// # Errors
    /// Those of open(2) and write(2).
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let file = self.file(name, OFlags::WRONLY)?;
        Ok(rustix::io::write(&file, text.as_bytes()).map(drop)?)
    }

    /// Opens a file of the group.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        Ok(openat(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    /// Returns whether the group has this file.
    pub(super) fn has(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Removes the group, which must contain neither processes nor groups.
    ///
    /// # Errors
    /// Those of rmdir(2); none where the group was removed already.
    pub fn remove(&self) -> io::Result<()> {
        let Some(name) = self.path.file_name() else { return Err(rustix::io::Errno::BUSY.into()) };
        let above = openat(&self.fd, "..", DIRECTORY, Mode::empty());
        let removed = above.and_then(|above| unlinkat(above, name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the group's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for GroupDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns the names of the groups directly below one.
pub(super) fn children(group: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(group)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Opens a group below one, or `..`.
pub(super) fn step_to(group: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(group, name, DIRECTORY, Mode::empty())?)
}
