//! The errors of a copy, and what fixes each.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

/// An error of copying files into a root. Paths are seen from inside the root.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source root has no such file.
    #[error("there is no {} in the root at {root}: {} is the last part of it that exists", path.display(), existing.display())]
    NoSource {
        /// The requested path.
        path: PathBuf,
        /// The nearest part of it that exists.
        existing: PathBuf,
        /// The snapshot step of the root.
        root: String,
    },
    /// The path of the source leads through a file.
    #[error("there is no {} in the root at {root}: {} is not a directory", path.display(), file.display())]
    BelowAFile {
        /// The requested path.
        path: PathBuf,
        /// The file on the way.
        file: PathBuf,
        /// The snapshot step of the root.
        root: String,
    },
    /// A directory of the source would replace a file.
    #[error("{} is not a directory, and the copy needs one there", path.display())]
    NotADirectory {
        /// The existing file.
        path: PathBuf,
    },
    /// A file of the source would replace a directory.
    #[error("{} is a directory, and the copy has a file there", path.display())]
    IsADirectory {
        /// The existing directory.
        path: PathBuf,
    },
    /// A directory of the source would replace a link.
    #[error("{} is a link to {}, and the copy has a directory there", path.display(), leads_to.display())]
    Link {
        /// The existing link.
        path: PathBuf,
        /// Its target.
        leads_to: PathBuf,
    },
    /// A mount of the container would hide the copy.
    #[error("{} is in the mount {} of the container, which would hide the copy", path.display(), mount.display())]
    InMount {
        /// The place of the copy.
        path: PathBuf,
        /// The mount point.
        mount: PathBuf,
    },
    /// A system call failed.
    #[error("cannot copy to {}", path.display())]
    Io {
        /// The place of the copy.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A system call failed for a file of the source.
    #[error("cannot copy {}", path.display())]
    Source {
        /// The file of the source.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The caller ended the copy.
    #[error("the copy was stopped")]
    Stopped(#[source] io::Error),
}

impl CopyError {
    /// Makes the error of a link in the place of a directory.
    pub(super) fn link(path: &Path, leads_to: &CStr) -> Self {
        Self::Link { path: path.to_owned(), leads_to: PathBuf::from(OsStr::from_bytes(leads_to.to_bytes())) }
    }

    /// Names the file of the source that could not be copied, where the place of the copy alone does not say which one it is.
    pub(super) fn of(self, source: &Path) -> Self {
        match self {
            Self::Io { path, source: error } if path.file_name() != source.file_name() => {
                let words = format!("to {}: {error}", path.display());
                Self::Source { path: source.to_owned(), source: io::Error::new(error.kind(), words) }
            }
            error => error,
        }
    }

    /// Returns the way to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSource { root, .. } | Self::BelowAFile { root, .. } => {
                Some(format!("write a path that the root has; `runner shell {root}` shows it"))
            }
            Self::IsADirectory { path } => {
                Some(format!("write the target `{}/` to copy into that directory", path.display()))
            }
            Self::NotADirectory { .. } => Some("write another target, or remove the file in a step before".into()),
            Self::Link { leads_to, .. } => Some(format!(
                "copy the content of the directory in a step of its own, to the directory that the link leads to, {}",
                leads_to.display()
            )),
            Self::InMount { .. } => Some("write another target, or remove the mount from the container".into()),
            Self::Io { source, .. } | Self::Source { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                Some("where the changes live in memory and cannot have it, `scratch: {disk: true}` may".into())
            }
            Self::Io { .. } | Self::Source { .. } | Self::Stopped(_) => None,
        }
    }

    /// Returns the system's error, if one is the cause.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } | Self::Source { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Returns a function for `map_err` that names the place of the copy.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> CopyError + use<> {
    let path = path.to_owned();
    move |source| CopyError::Io { path, source }
}

/// Names the attribute that could not be set.
pub(super) fn attribute(name: &[u8], error: Errno) -> io::Error {
    // The kernel reports ENOSPC also for an attribute that does not fit into its file, on a disk with room.
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("its attribute {}: {error}", OsStr::from_bytes(name).display()))
}
