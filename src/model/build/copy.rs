//! The copy of a checked step: files of another root, and their place.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{StepId, User};

/// The files that a step copies into its container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The root that the files come from.
    pub from: CopySource,
    /// Of a snapshot: absolute and normalised paths in its root. Of the host: absolute paths.
    pub sources: Vec<PathBuf>,
    /// The place in the root; absolute and normalised.
    pub target: PathBuf,
    /// The target is a directory, and each source goes into it under its own name.
    pub into: bool,
    /// The owner of the copies; default: that of the source, or root for files of the host.
    pub owner: Option<User>,
    /// The permission bits of copied files.
    pub mode: Option<u32>,
}

/// The root that copied files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopySource {
    /// The root as it was at this snapshot.
    Snapshot(StepId),
    /// The host.
    Host,
}

impl Copy {
    /// Returns the snapshot that the files come from, if it is one.
    pub fn snapshot(&self) -> Option<StepId> {
        match self.from {
            CopySource::Snapshot(step) => Some(step),
            CopySource::Host => None,
        }
    }

    /// Returns the paths of the host that it reads.
    pub fn host_paths(&self) -> &[PathBuf] {
        match self.from {
            CopySource::Snapshot(_) => &[],
            CopySource::Host => &self.sources,
        }
    }

    /// Returns the place of the copy of a source.
    pub fn place(&self, source: &Path) -> PathBuf {
        match source.file_name().filter(|_| self.into) {
            Some(name) => self.target.join(name),
            None => self.target.clone(),
        }
    }

    /// Returns the name under which a source goes into the target, if it does.
    pub fn name<'s>(&self, source: &'s Path) -> Option<&'s OsStr> {
        source.file_name().filter(|_| self.into)
    }
}
