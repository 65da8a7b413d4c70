//! The files of a hostile root that hold its databases.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::OFlags;

use super::{Manager, PackageError};
use crate::fs::dirfd::{Identity, reopen};
use crate::fs::in_root;
use crate::fs::list::entries;
use crate::fs::regular;

/// The bytes of a database that is text.
const MAX_TEXT: u64 = 64 << 20;

/// The files of a directory such as `status.d`.
const MAX_ENTRIES: usize = 20_000;

/// A root.
#[derive(Debug)]
pub(super) struct RootFiles<'r> {
    root: BorrowedFd<'r>,
}

impl<'r> RootFiles<'r> {
    pub(super) fn new(root: BorrowedFd<'r>) -> Self {
        Self { root }
    }

    /// Opens a file, with links followed inside the root; none where the root has none.
    pub(super) fn open(&self, manager: Manager, path: &str) -> Result<Option<File>, PackageError> {
        match in_root::open(self.root, path, OFlags::PATH | OFlags::CLOEXEC) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            found => {
                let open = found.map_err(io::Error::from).and_then(|place| regular::reopen(place.as_fd()));
                open.map(Some).map_err(|source| failed(manager, path, source))
            }
        }
    }

    /// Reads a file of text; none where the root has none.
    pub(super) fn text(&self, manager: Manager, path: &str) -> Result<Option<Vec<u8>>, PackageError> {
        let Some(file) = self.open(manager, path)? else { return Ok(None) };
        regular::read_all(file, MAX_TEXT).map(Some).map_err(|source| failed(manager, path, source))
    }

    /// Returns the names in a directory, sorted; none where the root has no such directory.
    pub(super) fn names(&self, manager: Manager, path: &str) -> Result<Option<Vec<String>>, PackageError> {
        let place = match in_root::open(self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            place => place.map_err(|error| failed(manager, path, error.into()))?,
        };
        let list = || -> io::Result<Vec<String>> {
            let directory = reopen(place.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
            let all = entries(directory.as_fd())?;
            if all.len() > MAX_ENTRIES {
                return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} files")));
            }
            Ok(all.into_iter().filter_map(|entry| entry.into_name().into_string().ok()).collect())
        };
        let mut names = list().map_err(|source| failed(manager, path, source))?;
        names.sort();
        Ok(Some(names))
    }

    /// Returns the identity of a file or directory, with links followed inside the root.
    pub(super) fn identity(&self, path: &str) -> Option<Identity> {
        Identity::of(in_root::open(self.root, path, OFlags::PATH | OFlags::CLOEXEC).ok()?).ok()
    }
}

fn failed(manager: Manager, path: &str, source: io::Error) -> PackageError {
    PackageError::Read { manager, path: Path::new(path).to_owned(), source }
}
