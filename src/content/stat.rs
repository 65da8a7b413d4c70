//! One file on the host: its location, and the result of statx(2).

use std::ffi::{CStr, CString, OsStr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, makedev, openat, readlinkat, statx};
use rustix::io::Result;

use crate::fs::dirfd::{Identity, path_of};
use crate::fs::xattr::XattrFile;

/// The location of a file: its name in an open directory, which is short however deep the directory is. With an empty
/// name, the file of the descriptor itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileLocation<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
}

/// Identifies a state of a file without reading it. In its order, records of one device are adjacent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The time of the last change of the content: seconds since 1970, and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// The time of the last change of the inode. Only the kernel sets it.
    pub(super) ctime: (i64, u32),
}

/// The state of several files: the sum of a number for the stamp of each. It differs where any file was changed, even
/// if it was changed back, because no program can set a ctime back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct State(u64);

impl State {
    pub(super) fn take(&mut self, stamp: &Stamp) {
        let mut hasher = DefaultHasher::new();
        stamp.hash(&mut hasher);
        self.0 = self.0.wrapping_add(hasher.finish());
    }

    /// Returns the state of the files of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

/// The result of statx(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) stamp: Stamp,
    pub(super) kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The device of a device node: major, minor.
    pub(super) node: (u32, u32),
    /// The number of its names, anywhere on its filesystem.
    pub(super) names: u32,
}

impl Stat {
    /// Returns the identity of the file.
    pub(super) fn identity(&self) -> Identity {
        let Stamp { device, inode, .. } = self.stamp;
        Identity::new(makedev((device >> 32) as u32, device as u32), inode)
    }
}

impl<'a> FileLocation<'a> {
    pub(super) fn new(directory: BorrowedFd<'a>, name: &'a CStr) -> Self {
        Self { directory, name }
    }

    /// Returns the location of the descriptor's file.
    pub(super) fn of(fd: &'a impl AsFd) -> Self {
        Self { directory: fd.as_fd(), name: c"" }
    }

    /// Calls statx(2). Follows no link, and triggers no automount.
    pub(super) fn stat(&self) -> Result<Stat> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let stat = statx(self.directory, self.name, flags, StatxFlags::BASIC_STATS)?;
        let mode = u32::from(stat.stx_mode);
        Ok(Stat {
            stamp: Stamp {
                device: u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
                inode: stat.stx_ino,
                size: stat.stx_size,
                mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
                ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            },
            kind: FileType::from_raw_mode(mode),
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            node: (stat.stx_rdev_major, stat.stx_rdev_minor),
            names: stat.stx_nlink,
        })
    }

    /// Opens it without following a link.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        if self.is_descriptor() {
            // The descriptor may be one of O_PATH: this opens the same file again.
            return openat(CWD, path_of(self.directory), flags | OFlags::CLOEXEC, Mode::empty());
        }
        openat(self.directory, self.name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// Returns the target of a link.
    pub(super) fn link(&self) -> Result<CString> {
        readlinkat(self.directory, self.name, Vec::new())
    }

    /// Returns its name in the directory.
    pub(super) fn name(&self) -> &'a CStr {
        self.name
    }

    /// Whether it is the file of the descriptor itself.
    pub(super) fn is_descriptor(&self) -> bool {
        self.name.is_empty()
    }

    /// Returns it for the calls of xattr(7).
    pub(super) fn xattr_file(&self) -> Result<XattrFile<'static>> {
        if self.is_descriptor() {
            return Ok(XattrFile::opened(self.directory));
        }
        XattrFile::entry(self.directory, OsStr::from_bytes(self.name.to_bytes()))
    }
}
