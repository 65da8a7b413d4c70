//! Paths that were opened once: what each led to then, whatever it leads to now.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::dirfd::Identity;

/// What paths of the host led to when they were opened.
#[derive(Debug, Default)]
pub struct OpenedPaths {
    files: HashMap<PathBuf, OwnedFd>,
    hidden: Option<Identity>,
}

impl OpenedPaths {
    /// Opens a path, links followed, unless that was done.
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        if !self.files.contains_key(path) {
            let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            self.files.insert(path.to_owned(), file);
        }
        self.get(path).map_or_else(|| Err(io::ErrorKind::NotFound.into()), Ok)
    }

    /// Notes which directory can be seen through none of them.
    pub fn hide(&mut self, hidden: Identity) {
        self.hidden = Some(hidden);
    }

    /// A directory that can be seen through none of them.
    pub fn hidden(&self) -> Option<Identity> {
        self.hidden
    }

    /// What a path led to, as `O_PATH`; none for one that was not opened.
    pub fn get(&self, path: &Path) -> Option<BorrowedFd<'_>> {
        self.files.get(path).map(AsFd::as_fd)
    }
}
