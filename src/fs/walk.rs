//! Visits each directory of a tree that others have made, each before those in it: by descriptors alone, however deep it is and
//! whatever changes in it meanwhile. No link is followed.
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
    /// It is like any other.
    Enter,
    /// It is an error.
    Refuse,
}

/// A walk, and the directory that it is in.
pub struct Walk<'a> {
    descent: Descent<'a>,
    mount_points: MountPoints,
    /// From the top on; after an error, that of the directory that could not be entered.
    path: PathBuf,
    /// Of the directory that the walk is in and each above it: the directories in it that are to be entered. None before the
    /// top.
    rest: Vec<Vec<OsString>>,
    is_begun: bool,
    has_failed: bool,
}

impl<'a> Walk<'a> {
    /// Begins before the top, which is open for reading.
    pub fn new(top: BorrowedFd<'a>, mount_points: MountPoints) -> Self {
        let (path, rest) = (PathBuf::new(), Vec::new());
        Self { descent: Descent::new(top), mount_points, path, rest, is_begun: false, has_failed: false }
    }

    /// Goes to the next directory: the top first, then the one that [`enter`](Self::enter) was called for last. Returns whether
    /// there is one. After an error the caller may continue with the directory after the one that could not be entered.
    ///
    /// # Errors
    /// Those of openat(2), of the directory at [`path`](Self::path). Where one was moved while it was read, the walk ends.
    pub fn advance(&mut self) -> io::Result<bool> {
        if std::mem::take(&mut self.has_failed) {
            self.path.pop();
        }
        if !self.is_begun {
            self.is_begun = true;
            self.rest.push(Vec::new());
            return Ok(true);
        }
        let mut left = 0;
        while let Some(rest) = self.rest.last_mut() {
            let Some(name) = rest.pop() else {
                self.rest.pop();
                self.path.pop();
                left += 1;
                continue;
            };
            if let Err(error) = self.descent.leave_levels(left) {
                // Where the walk is cannot be known. It ends, and no caller takes the error for that of one directory.
                self.rest.clear();
                return Err(io::Error::other(error));
            }
            self.path.push(&name);
            let entered = match self.mount_points {
                MountPoints::Enter => self.descent.enter(name.as_bytes()),
                MountPoints::Refuse => self.descent.enter_on_same_mount(name.as_bytes()),
            };
            self.has_failed = entered.is_err();
            entered?;
            self.rest.push(Vec::new());
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns the directory that the walk is in.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.descent.fd()
    }

    /// Returns its path from the top on, which is empty for the top itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists it.
    ///
    /// # Errors
    /// Those of getdents64(2).
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        Ok(entries(self.fd())?)
    }

    /// Has the walk visit a directory in it later.
    pub fn enter(&mut self, name: OsString) {
        if let Some(rest) = self.rest.last_mut() {
            rest.push(name);
        }
    }
}

#[cfg(test)]
mod tests;
