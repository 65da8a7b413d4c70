//! Visits each directory of a hostile tree, each before those in it: by descriptors alone, whatever its depth and its changes
//! meanwhile. No link is followed.
//!
//! A directory is opened once, and once more only where the walk comes back to it from far below.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::descent::Descent;
use super::list::{Entry, entries};

/// Whether a directory on which something is mounted is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPoints {
    /// Yes, like any other directory.
    Enter,
    /// No, that is an error.
    Refuse,
}

/// A walk, and the directory that it is in.
pub struct Walk<'a> {
    descent: Descent<'a>,
    mount_points: MountPoints,
    /// The path from the top; after an error, that of the directory that could not be entered.
    path: PathBuf,
    /// For the present directory and each above it: the names of its directories that are to be entered. Empty before the top.
    pending: Vec<Vec<OsString>>,
    is_begun: bool,
    has_failed: bool,
}

impl<'a> Walk<'a> {
    /// Begins before the top, which is open for reading.
    pub fn new(top: BorrowedFd<'a>, mount_points: MountPoints) -> Self {
        let (path, pending) = (PathBuf::new(), Vec::new());
        Self { descent: Descent::new(top), mount_points, path, pending, is_begun: false, has_failed: false }
    }

    /// Goes to the next directory: the top first, then the one that [`enter`](Self::enter) was called for last. Returns whether
    /// there is one. After an error the caller may continue with the directory after the one that could not be entered.
    ///
    /// # Errors
    /// Those of openat(2), for the directory at [`path`](Self::path). Where a directory was moved while it was read, the walk
    /// ends.
    pub fn advance(&mut self) -> io::Result<bool> {
        if std::mem::take(&mut self.has_failed) {
            self.path.pop();
        }
        if !self.is_begun {
            self.is_begun = true;
            self.pending.push(Vec::new());
            return Ok(true);
        }
        let mut levels_up = 0;
        while let Some(pending) = self.pending.last_mut() {
            let Some(name) = pending.pop() else {
                self.pending.pop();
                self.path.pop();
                levels_up += 1;
                continue;
            };
            if let Err(error) = self.descent.leave_levels(levels_up) {
                // The position of the walk cannot be known. The walk ends, and no caller takes the error for that of one
                // directory.
                self.pending.clear();
                return Err(io::Error::other(error));
            }
            self.path.push(&name);
            let entered = match self.mount_points {
                MountPoints::Enter => self.descent.enter(name.as_bytes()),
                MountPoints::Refuse => self.descent.enter_on_same_mount(name.as_bytes()),
            };
            self.has_failed = entered.is_err();
            entered?;
            self.pending.push(Vec::new());
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns the directory that the walk is in.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.descent.fd()
    }

    /// Returns the path of that directory from the top, which is empty for the top itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists that directory.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        Ok(entries(self.fd())?)
    }

    /// Queues a directory in it to be visited later.
    pub fn enter(&mut self, name: OsString) {
        if let Some(pending) = self.pending.last_mut() {
            pending.push(name);
        }
    }
}

#[cfg(test)]
mod tests;
