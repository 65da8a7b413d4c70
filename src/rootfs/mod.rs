//! The sources of a root filesystem that runner must unpack or assemble before they can be an overlay's lower layer.
//!
//! A squashfs image, a directory and a snapshot are lower layers already. The others are written here, into an empty
//! directory that the caller passes by descriptor: [`unpack`] unpacks a tar archive, and [`assemble`] gathers programs
//! of the host with all files that they load. Both need root: they set owners and make device nodes.
//!
//! Both are deterministic: the same archive or the same host files give the same tree, modification times included. A
//! directory that neither describes (one that only contains an entry) belongs to root, and has mode 0755 and the time
//! 0.
//!
//! No archive can change a file outside of the directory: the module `tree` says how a path is resolved.

mod decompress;
mod programs;
mod tar;
mod tree;

use std::io;
use std::path::PathBuf;

use crate::model::size_text;

pub use programs::{Source, assemble, sources};
pub use tar::{Bounds, UnpackRoom};
pub use tar::{unpack, unpack_layer};

/// The reasons why a root filesystem could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// A file of the host cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file is not an archive, or is broken in a place that belongs to no entry.
    #[error("cannot unpack {}: {problem}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// The problem.
        problem: String,
    },
    /// One entry of an archive is broken or refused.
    #[error("cannot unpack {entry} of {}: {problem}", archive.display())]
    Entry {
        /// The archive.
        archive: PathBuf,
        /// The entry's name with control characters escaped.
        entry: String,
        /// The problem.
        problem: String,
    },
    /// One entry of an archive cannot be written to the root.
    #[error("cannot unpack {entry} of {}: cannot {action}", archive.display())]
    Write {
        /// The archive.
        archive: PathBuf,
        /// The entry's name with control characters escaped.
        entry: String,
        /// The failed operation.
        action: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file of the host cannot be placed in the root.
    #[error("cannot place {} in the root: cannot {action}", path.display())]
    Place {
        /// The path, the same on the host and in the root.
        path: PathBuf,
        /// The failed operation.
        action: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A program of the host cannot be used.
    #[error("cannot use {} as a program: {problem}", program.display())]
    Program {
        /// The program as it was named, or the interpreter or library of one.
        program: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A shared library that a program needs is not on the host.
    #[error(
        "cannot find {library}, which {} needs{}; searched in {}",
        object.display(),
        if object == program { String::new() } else { format!(" for {}", program.display()) },
        searched.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    MissingLibrary {
        /// The program as it was named.
        program: PathBuf,
        /// The program itself, or the library of it that needs the missing one.
        object: PathBuf,
        /// The missing library's name.
        library: String,
        /// The directories of the host that were searched, in order.
        searched: Vec<PathBuf>,
    },
    /// An archive takes more room than the scratch of the container has.
    #[error(
        "cannot unpack {}: it takes more space than the scratch of the container has: {} or {files} files",
        archive.display(),
        size_text(*bytes)
    )]
    TooLarge {
        /// The archive.
        archive: PathBuf,
        /// The bytes that it may have.
        bytes: u64,
        /// The files that it may have.
        files: u64,
    },
    /// The caller stopped it.
    #[error("interrupted")]
    Stopped,
}

/// The errors of entries that contradict others or themselves: a file where a directory must be, a link to nothing, a name that is too
/// long.
const IMPOSSIBLE: [i32; 9] = [
    libc::ENOTEMPTY,
    libc::ENOTDIR,
    libc::EISDIR,
    libc::EEXIST,
    libc::ENOENT,
    libc::ELOOP,
    libc::ENAMETOOLONG,
    libc::EMLINK,
    libc::EINVAL,
];

impl RootfsError {
    /// Returns whether the filesystem that the root is written to is full.
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Write { source, .. } | Self::Place { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// Returns [`Self::TooLarge`] in the place of the error of a full filesystem that had this room for an archive.
    pub fn of_full(self, UnpackRoom { bytes, files }: UnpackRoom) -> Self {
        match self {
            Self::Write { archive, source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Self::TooLarge { archive, bytes, files }
            }
            error => error,
        }
    }

    /// Returns whether the archive or the program is the cause, and not this host.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Archive { .. } | Self::Entry { .. } | Self::Program { .. } | Self::TooLarge { .. } => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            // An entry that cannot be at its place, on any host.
            Self::Write { source, .. } => source.raw_os_error().is_some_and(|error| IMPOSSIBLE.contains(&error)),
            Self::Place { .. } | Self::MissingLibrary { .. } | Self::Stopped => false,
        }
    }

    /// Returns a way to fix it, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("check the path in the manifest; relative paths start from the manifest's directory".to_owned())
            }
            Self::Write { source, .. } | Self::Place { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some("run it as root".to_owned()),
                _ => None,
            },
            Self::TooLarge { .. } => Some(
                "if it is not to be smaller, give the container more room, as with `scratch: {tmpfs: 40GiB}` or \
                 `scratch: {disk: true}`"
                    .to_owned(),
            ),
            Self::MissingLibrary { library, .. } => {
                Some(format!("install the package that has it: `apt-file search {library}` names it"))
            }
            _ => None,
        }
    }
}
