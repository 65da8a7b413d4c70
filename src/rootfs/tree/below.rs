//! A tree on top of another one: the files below stay where no entry replaces or removes them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Timespec, fstat, openat};
use rustix::io::Errno;

use super::{Context, Tree, TreeError, split};
use crate::fs::list::entries;
use crate::fs::remove_tree::remove_tree_at;

/// The directories of a tree that lies below.
#[derive(Default)]
pub(super) struct Below {
    /// The directories whose time is known, by device and inode.
    known: HashSet<(u64, u64)>,
    /// The times of the others, which no entry describes and which get entries nevertheless.
    pub(super) times: Vec<(Vec<u8>, Timespec)>,
}

impl Tree {
    /// Returns a tree on top of the files in a directory: their directories stay as they are where no entry describes
    /// them, and a file replaces a directory with all that is in it.
    pub(in crate::rootfs) fn onto(root: BorrowedFd<'_>) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(root, ".", flags, Mode::empty()).context("open the root")?;
        let mut tree = Self { root, last: None, times: Vec::new(), below: Some(Below::default()) };
        let root = tree.root.try_clone().context("open the root")?;
        tree.know(b"", root.as_fd(), true)?;
        Ok(tree)
    }

    /// Notes the time of a directory that was there before, unless an entry describes it.
    pub(super) fn know(&mut self, path: &[u8], directory: BorrowedFd<'_>, was_there: bool) -> Result<(), TreeError> {
        let Some(below) = &mut self.below else { return Ok(()) };
        let found = fstat(directory).context("look at a directory")?;
        if below.known.insert((found.st_dev, found.st_ino)) && was_there {
            let mtime = Timespec { tv_sec: found.st_mtime, tv_nsec: found.st_mtime_nsec as _ };
            below.times.push((path.to_vec(), mtime));
        }
        Ok(())
    }

    /// Removes a file or a directory with everything in it, where there is one.
    pub(in crate::rootfs) fn remove_all(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let (parent, name) = split(path);
        let Some(directory) = self.existing(parent)? else { return Ok(()) };
        remove_tree_at(directory.as_fd(), Path::new(OsStr::from_bytes(name))).context("remove a file below")?;
        self.last = None;
        Ok(())
    }

    /// Returns the names in a directory and whether each is a directory, where there is one.
    pub(in crate::rootfs) fn names(&mut self, path: &[u8]) -> Result<Vec<(Vec<u8>, bool)>, TreeError> {
        let Some(directory) = self.existing(path)? else { return Ok(Vec::new()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&directory, ".", flags, Mode::empty()).context("list a directory")?;
        let mut names = Vec::new();
        for entry in entries(directory.as_fd()).context("list a directory")? {
            let kind = entry.kind(directory.as_fd()).context("list a directory")?;
            names.push((entry.name().as_bytes().to_vec(), kind == FileType::Directory));
        }
        Ok(names)
    }

    /// Opens a directory that may be missing, and notes its time.
    fn existing(&mut self, path: &[u8]) -> Result<Option<OwnedFd>, TreeError> {
        let path = if path.is_empty() { b"." } else { path };
        match self.open_in_root(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            directory => {
                let directory = directory.context("open a directory")?;
                self.know(path, directory.as_fd(), true)?;
                Ok(Some(directory))
            }
        }
    }
}
