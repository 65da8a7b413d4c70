//! The errors of host paths of a build, and their fixes.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::confinement::{Confinement, ShowsStore};
use super::planted::PlantedLink;
use crate::error::Exit;
use crate::runtime::spec::HostDevice;

/// The reason why a host path of a build cannot be used.
#[derive(Debug, Error)]
pub enum NamedPathError {
    /// A path cannot be opened.
    #[error("cannot open {}, which the manifest names", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// A step of an earlier build may have changed the target of the path.
    #[error("cannot use {}: {planted}", path.display())]
    Planted { path: PathBuf, planted: PlantedLink },
    /// A device was removed, or its directory cannot be searched.
    #[error("cannot use the device {}", path.display())]
    Device { path: PathBuf, source: io::Error },
    /// The path is in the store, which only runner may write to, and which no step may read.
    #[error("cannot use {}: it is in the store {}", path.display(), store.display())]
    InStore { path: PathBuf, store: PathBuf },
    /// The root contains the store. A root is a layer of an overlay, in which no directory can be covered.
    #[error("cannot use {} as a rootfs: it contains the store {}", path.display(), store.display())]
    RootHoldsStore { path: PathBuf, store: PathBuf },
    /// A directory that a mount names in its options or as its source contains the store, which cannot be covered
    /// there.
    #[error("cannot mount a filesystem of {}: it contains the store {}", path.display(), store.display())]
    MountHoldsStore { path: PathBuf, store: PathBuf },
    /// Steps could remove the mount that hides the store, or move the store out of it.
    #[error("cannot bind {}: it contains the store {}, and {why}", path.display(), store.display())]
    BindShowsStore { path: PathBuf, store: PathBuf, why: ShowsStore },
    /// A step without the mounts below a bind could rename their mount points, if another step sends it the directory.
    #[error(
        "cannot bind {}: {} is mounted below it, and steps of the containers {container} and {other}, which can send each \
         other descriptors, could take that mount away from the host",
        path.display(),
        mount.display()
    )]
    BindTakesMount { path: PathBuf, mount: PathBuf, container: String, other: String, confinement: Confinement },
    /// An output cannot be written to its path.
    #[error("cannot write the output {}", path.display())]
    Output { path: PathBuf, source: io::Error },
    /// Two outputs are one file.
    #[error("cannot write the output {}: {} is the same file", path.display(), other.display())]
    SameFile { path: PathBuf, other: PathBuf },
    /// The mounts of this process cannot be read.
    #[error("cannot find out whether a bind shows the store")]
    Mounts(#[source] io::Error),
}

impl NamedPathError {
    /// Returns the exit code: that of a wrong path, or that of a host that cannot open it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Device { .. } => Exit::Host,
            Self::Open { source, .. } | Self::Output { source, .. } if !is_of_path(source) => Exit::Host,
            Self::Mounts(_) => Exit::Host,
            _ => Exit::Usage,
        }
    }

    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("something removed it after the manifest was checked; try again".into())
            }
            Self::InStore { .. } => {
                Some("copy the needed files out of the store, for a layer with `runner store export`".into())
            }
            Self::RootHoldsStore { .. } | Self::MountHoldsStore { .. } => {
                Some("choose a store elsewhere with `--store DIRECTORY`".into())
            }
            Self::BindShowsStore { why, .. } => {
                Some(format!("choose a store elsewhere with `--store DIRECTORY`, or {}", why.other_fix()))
            }
            Self::BindTakesMount { confinement, .. } => Some(format!(
                "bind it with `options: [ro]`, choose a source that nothing is mounted below, or {}",
                confinement.fix()
            )),
            Self::Output { .. } => Some("choose another output, in a directory that can be written to".into()),
            Self::Planted { planted, .. } => Some(planted.hint()),
            Self::SameFile { .. } => Some("give one of them another output".into()),
            Self::Device { source, .. } => HostDevice::hint(source),
            Self::Open { .. } | Self::Mounts(_) => None,
        }
    }
}

/// Returns whether the path is the cause, and not a lack of space, memory, descriptors or privileges, or a broken disk.
fn is_of_path(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, Other};
    let is_loop = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
    let kinds = [AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, Other];
    is_loop || kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_path_blames_the_manifest_and_a_lack_of_resources_the_host() {
        let exit = |errno: Errno| {
            let path = PathBuf::from("/out/image");
            NamedPathError::Output { path, source: errno.into() }.exit()
        };
        for wrong in [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP, Errno::NAMETOOLONG] {
            assert_eq!(exit(wrong), Exit::Usage, "{wrong}");
        }
        let lacks = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::NOMEM, Errno::ACCESS, Errno::PERM, Errno::ROFS];
        for lacking in lacks {
            assert_eq!(exit(lacking), Exit::Host, "{lacking}");
        }
    }
}
