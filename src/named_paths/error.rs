//! Why the host paths of a build cannot be used, and what fixes it.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use super::confinement::{Confinement, ShowsStore};
use super::planted::PlantedLink;
use crate::error::Exit;
use crate::runtime::spec::HostDevice;

/// Why the host paths of a build cannot be used.
#[derive(Debug, Error)]
pub enum NamedPathError {
    /// A path cannot be opened.
    #[error("cannot open {}, which the manifest names", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// A step of an earlier build may have chosen where it leads.
    #[error("cannot use {}: {planted}", path.display())]
    Planted { path: PathBuf, planted: PlantedLink },
    /// A device that is not there any more, or whose directory cannot be searched.
    #[error("cannot use the device {}", path.display())]
    Device { path: PathBuf, source: io::Error },
    /// Nobody may write to the store but runner, or see what other builds have there.
    #[error("cannot use {}: it is in the store {}", path.display(), store.display())]
    InStore { path: PathBuf, store: PathBuf },
    /// A root is a layer of an overlay, in which nothing can be covered.
    #[error("cannot use {} as a rootfs: it contains the store {}", path.display(), store.display())]
    RootHoldsStore { path: PathBuf, store: PathBuf },
    /// As for a root, with a directory that a mount names in its options or as its source.
    #[error("cannot mount a filesystem of {}: it contains the store {}", path.display(), store.display())]
    MountHoldsStore { path: PathBuf, store: PathBuf },
    /// The directory that hides the store is a mount, and steps could remove it, or have the store where it is not.
    #[error("cannot bind {}: it contains the store {}, and {why}", path.display(), store.display())]
    BindShowsStore { path: PathBuf, store: PathBuf, why: ShowsStore },
    /// A step that has none of the mounts below a bind could rename their places, if another sends it the directory.
    #[error(
        "cannot bind {}: {} is mounted below it, and steps of the containers {container} and {other}, which can send each \
         other descriptors, could take that mount away from the host",
        path.display(),
        mount.display()
    )]
    BindTakesMount { path: PathBuf, mount: PathBuf, container: String, other: String, confinement: Confinement },
    /// An output cannot be written where it is to go.
    #[error("cannot write the output {}", path.display())]
    Output { path: PathBuf, source: io::Error },
    /// Two outputs are one file.
    #[error("cannot write the output {}: {} is the same file", path.display(), other.display())]
    SameFile { path: PathBuf, other: PathBuf },
    /// The mounts of this process cannot be looked at.
    #[error("cannot tell whether the store can be seen through a bind")]
    Mounts(#[source] io::Error),
}

impl NamedPathError {
    /// Returns the exit code: a path may be wrong, or the host cannot open it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Device { .. } => Exit::Host,
            Self::Open { source, .. } | Self::Output { source, .. } if !is_of_path(source) => Exit::Host,
            Self::Mounts(_) => Exit::Host,
            _ => Exit::Usage,
        }
    }

    /// Returns the fix, where one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("something removed it after the manifest was checked; try again".into())
            }
            Self::InStore { .. } => {
                Some("copy what is needed out of the store, for a layer with `runner store export`".into())
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

/// Whether another path would do: no lack of room, memory, descriptors or privileges, and no broken disk.
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
    fn a_wrong_path_is_the_manifests_and_what_the_host_lacks_is_the_hosts() {
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
