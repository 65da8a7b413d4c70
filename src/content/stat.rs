//! One file on the host: where it is, and what statx(2) says of it.

use std::ffi::{CStr, CString, OsStr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, makedev, openat, readlinkat, statx};
use rustix::io::Result;

use crate::fs::dirfd::{Identity, path_of};
use crate::fs::xattr::XattrFile;

/// Where a file is: its name in an open directory, so that it stays short however deep the directory is. An empty name
/// is what the descriptor itself is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
}

/// What tells one state of a file from another without reading it. In its order, records of one device lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// In bytes.
    pub(super) size: u64,
    /// When the content changed: seconds since 1970, and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// When anything of the inode changed. Nobody but the kernel sets it.
    pub(super) ctime: (i64, u32),
}

/// The state of several files: the sum of a number for the stamp of each. It is another one where any of them was changed,
/// also where it was changed back since, for nobody sets a ctime back.
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

/// What statx(2) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) stamp: Stamp,
    pub(super) kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Which device a device node is of: major, minor.
    pub(super) node: (u32, u32),
    /// How many names it has, anywhere on its filesystem.
    pub(super) names: u32,
}

impl Stat {
    /// Which file it is.
    pub(super) fn identity(&self) -> Identity {
        let Stamp { device, inode, .. } = self.stamp;
        Identity::new(makedev((device >> 32) as u32, device as u32), inode)
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(directory: BorrowedFd<'a>, name: &'a CStr) -> Self {
        Self { directory, name }
    }

    /// What this descriptor is of.
    pub(super) fn of(fd: &'a impl AsFd) -> Self {
        Self { directory: fd.as_fd(), name: c"" }
    }

    /// Links are not followed, and automounts not mounted.
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
            // The descriptor may be one that only says where the file is: this opens the same file anew.
            return openat(CWD, path_of(self.directory), flags | OFlags::CLOEXEC, Mode::empty());
        }
        openat(self.directory, self.name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// What a link says.
    pub(super) fn link(&self) -> Result<CString> {
        readlinkat(self.directory, self.name, Vec::new())
    }

    /// Its name in the directory.
    pub(super) fn name(&self) -> &'a CStr {
        self.name
    }

    /// Whether it is what the descriptor itself is of.
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
