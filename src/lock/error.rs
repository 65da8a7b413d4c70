//! The errors of reading and writing a lock.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use rustix::io::Errno;

use crate::diagnostic::escaped;
use crate::error::Exit;

/// An error of reading or writing a lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file is missing.
    #[error("there is no {}", path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// It has no section of the manifest and its variables.
    #[error(
        "{} has no section of {}{}",
        path.display(),
        escaped(wanted),
        if there.is_empty() { String::new() } else { format!(", only of {}", escaped(&there.join(", "))) }
    )]
    NoSection {
        /// The file.
        path: PathBuf,
        /// The manifest and its variables.
        wanted: String,
        /// The manifests that the file has sections of.
        there: Vec<String>,
    },
    /// It has the format without sections.
    #[error("{} has the former format, which does not name its manifest", path.display())]
    WithoutSections {
        /// The file.
        path: PathBuf,
    },
    /// It has the format of a later runner.
    #[error("cannot use {}: its version is {version}, and this runner knows {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
        /// The version that this runner writes.
        known: u64,
    },
    /// It cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It is no lock.
    #[error("cannot use {}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem, with its place.
        problem: String,
    },
}

impl LockError {
    /// Returns the exit code of a command that reads a lock: only a lock that was read, or is missing, counts as a
    /// mismatch.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Io { source, .. } if is_wrong_path(source) => Exit::Usage,
            Self::Io { .. } => Exit::Host,
            _ => Exit::Mismatch,
        }
    }

    /// Returns the fix.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("`runner lock` writes it".into()),
            Self::NoSection { wanted, .. } => {
                Some(format!("`runner lock {}` adds it, and does not change the others", escaped(wanted)))
            }
            Self::WithoutSections { .. } => {
                Some("write it again with `runner lock`, for each manifest that needs it".into())
            }
            Self::Newer { .. } => Some("build with the runner that wrote it, or a later one".into()),
            Self::Malformed { .. } => {
                Some("restore it from version control; or remove it, and run `runner lock` for each manifest".into())
            }
            Self::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some("run it as the user that the file belongs to, or with sudo".into())
            }
            Self::Io { action: "write", source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem => {
                Some("name another file with `--lock-file FILE` or `RUNNER_LOCK_FILE`".into())
            }
            Self::Io { .. } => None,
        }
    }
}

/// Whether a path leads to no file that could be a lock, such as a link or a directory.
fn is_wrong_path(error: &io::Error) -> bool {
    // A link and a file that is not regular have an error in words.
    let is_in_words = error.raw_os_error().is_none() && error.kind() == ErrorKind::Other;
    let kinds =
        [ErrorKind::IsADirectory, ErrorKind::NotADirectory, ErrorKind::FileTooLarge, ErrorKind::InvalidFilename];
    is_in_words
        || kinds.contains(&error.kind())
        || matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NXIO))
}
