//! The sources of a root filesystem that need work before they can be an overlay's lower layer.
//!
//! A squashfs image, a folder and a snapshot are lower layers as they are. What is left is made here, into an empty
//! folder that the caller gives by descriptor: [`unpack`] takes a tar archive apart, [`assemble`] gathers programs of
//! the host with all that they load. Both need root: they give owners and make device nodes.
//!
//! Both are deterministic: the same archive or the same host files give the same tree, times of change included. What
//! neither says (a folder that is only implied by what is in it) is owned by root, has mode 0755 and the time 0.
//!
//! Nothing outside the folder is touched, whatever an archive says: see the module `tree` for how a path is resolved.

mod decompress;
mod programs;
mod tar;
mod tree;

use std::io;
use std::path::PathBuf;

pub use programs::{Source, assemble, sources};
pub use tar::unpack;

/// Why a root filesystem could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// A file of the host cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An archive is broken, or is none, in a way that is not about one entry.
    #[error("cannot unpack {}: {problem}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One entry of an archive is broken or refused.
    #[error("cannot unpack {entry} of {}: {problem}", archive.display())]
    Entry {
        /// The archive.
        archive: PathBuf,
        /// The entry's name with control characters escaped.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// One entry of an archive cannot be written to the root.
    #[error("cannot unpack {entry} of {}: cannot {doing}", archive.display())]
    Write {
        /// The archive.
        archive: PathBuf,
        /// The entry's name with control characters escaped.
        entry: String,
        /// What was tried.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the host cannot be placed in the root.
    #[error("cannot place {} in the root: cannot {doing}", path.display())]
    Place {
        /// The path, the same on the host and in the root.
        path: PathBuf,
        /// What was tried.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program of the host cannot be used.
    #[error("cannot use {} as a program: {problem}", program.display())]
    Program {
        /// The program as it was named, or the interpreter or library of one.
        program: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A shared library that a program needs is not on the host.
    #[error(
        "cannot find {library}, which {} needs{}; sought in {}",
        object.display(),
        if object == program { String::new() } else { format!(" for {}", program.display()) },
        sought.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    MissingLibrary {
        /// The program as it was named.
        program: PathBuf,
        /// The program itself, or the library of it that needs the missing one.
        object: PathBuf,
        /// The missing library's name.
        library: String,
        /// The folders of the host that were looked into, in order.
        sought: Vec<PathBuf>,
    },
}

impl RootfsError {
    /// Whether the filesystem that the root is written to has no room.
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Write { source, .. } | Self::Place { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    /// Whether the archive or the program is wrong, and not this host.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Archive { .. } | Self::Entry { .. } | Self::Program { .. } => true,
            Self::Read { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            Self::Write { .. } | Self::Place { .. } | Self::MissingLibrary { .. } => false,
        }
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("check the path in the manifest; relative paths start from the manifest's folder".to_owned())
            }
            Self::Write { source, .. } | Self::Place { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some("run it as root".to_owned()),
                _ => None,
            },
            Self::MissingLibrary { library, .. } => {
                Some(format!("install the package that has it: `apt-file search {library}` names it"))
            }
            _ => None,
        }
    }
}
