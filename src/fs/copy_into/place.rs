//! The two sides of a copy: an open file to copy, and the root that it is copied into.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, fstat};

use super::error::CopyError;
use super::open_directory;
use crate::fs::in_root::{ResolvedPath, open, open_beneath, resolve};

/// A file or a directory to copy, open as `O_PATH`.
#[derive(Debug)]
pub struct Source {
    file: OwnedFd,
    kind: FileType,
    /// Its path for errors; absolute.
    path: PathBuf,
}

impl Source {
    /// Takes an open file, which was found at that path.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn new(file: OwnedFd, path: &Path) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
        Ok(Self { file, kind, path: path.to_owned() })
    }

    /// Opens the file at a path of a root, with links followed inside it, the last one too. `name` is the snapshot step of the root.
    ///
    /// # Errors
    /// [`CopyError::NoSource`], and those of openat2(2).
    pub fn in_root(root: BorrowedFd<'_>, path: &Path, name: &str) -> Result<Self, CopyError> {
        let failed = |source| CopyError::Source { path: path.to_owned(), source };
        let found = match resolve(root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(CopyError::BelowAFile {
                    path: path.to_owned(),
                    file: file_on_the_way(root, path),
                    root: name.to_owned(),
                });
            }
            found => found.map_err(failed)?,
        };
        let ResolvedPath { existing, missing, .. } = found;
        if !missing.is_empty() {
            return Err(CopyError::NoSource { path: path.to_owned(), existing, root: name.to_owned() });
        }
        let below = existing.strip_prefix("/").unwrap_or(&existing);
        let file = open_beneath(root, below, OFlags::PATH | OFlags::NOFOLLOW).map_err(|error| failed(error.into()))?;
        Self::new(file, path).map_err(failed)
    }

    /// Returns its type.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Returns its path for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// Returns the open file.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Opens the directory at a path below it, for reading.
    pub(super) fn directory(&self, below: &Path) -> io::Result<OwnedFd> {
        open_directory(self.file.as_fd(), below)
    }

    /// Returns a function for `map_err` that names the file at a path below it.
    pub(super) fn at(&self, below: &Path) -> impl FnOnce(io::Error) -> CopyError + use<> {
        let path = self.path.join(below);
        move |source| CopyError::Source { path, source }
    }
}

/// Returns the first part of a path in a root that is a file, and is used as a directory.
fn file_on_the_way(root: BorrowedFd<'_>, path: &Path) -> PathBuf {
    let is_directory = |part: &&Path| open(root, *part, OFlags::PATH | OFlags::DIRECTORY).is_ok();
    let above = path.ancestors().skip(1).find(is_directory).unwrap_or(Path::new("/"));
    let next = path.strip_prefix(above).ok().and_then(|rest| rest.components().next());
    next.map_or_else(|| path.to_owned(), |next| above.join(next))
}

/// The root that files are copied into.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The root directory, possibly open as `O_PATH`.
    pub root: BorrowedFd<'a>,
    /// The mount points in it, without links; nothing is mounted there for the copy.
    pub mount_points: &'a [PathBuf],
    /// Those of them that each container has: files of a source there are left out.
    pub kernels_own: &'a [&'a str],
}

impl Target<'_> {
    /// Follows a path inside the root.
    pub(super) fn resolve(&self, path: &Path) -> Result<ResolvedPath, CopyError> {
        match resolve(self.root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(CopyError::NotADirectory { path: file_on_the_way(self.root, path) })
            }
            found => found.map_err(|source| CopyError::Io { path: path.to_owned(), source }),
        }
    }

    /// Opens a directory of the root by its path without links.
    pub(super) fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        open_directory(self.root, path)
    }

    /// Returns the mount point that contains a path without links.
    pub(super) fn mount_above(&self, path: &Path) -> Option<&Path> {
        self.mount_points.iter().map(PathBuf::as_path).find(|mount| path.starts_with(mount))
    }

    /// Returns whether a path is one of the kernel's own mounts or in one.
    pub(super) fn is_kernels_own(&self, path: &Path) -> bool {
        self.kernels_own.iter().any(|own| path.starts_with(own))
    }
}
