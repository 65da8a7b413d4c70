//! What is said of a segment, and why nothing can be said of it.

use std::path::PathBuf;

use thiserror::Error;

use crate::cache::key::{Fields, Parents, Reason};
use crate::content::ContentError;
use crate::model::StepId;
use crate::rootfs::RootfsError;
use crate::runtime::spec::HostDevice;
use crate::store::{CacheRecord, RecordedLayer, StoreError};

/// Why nothing can be said of a segment.
#[derive(Debug, Error)]
pub enum CacheCheckError {
    /// What is in a host path cannot be told.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A device of the host cannot be looked at.
    #[error("cannot look at the device {}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A root of programs cannot be made.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no mksquashfs.
    #[error("mksquashfs is not in PATH")]
    NoMksquashfs,
    /// The program that runs the steps or writes the images cannot be read.
    #[error("cannot read the program {}", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CacheCheckError {
    /// Whether an input of the build is wrong, rather than that the host cannot do something.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Rootfs(error) => error.is_of_input(),
            Self::Content(error) => matches!(error, ContentError::OverlayMark { .. }),
            _ => false,
        }
    }

    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Device { source, .. } => HostDevice::hint(source),
            Self::NoMksquashfs => Some("unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools".into()),
            Self::Program { path, .. } => Some(format!(
                "{} is found by `--runtime`, `RUNNER_RUNTIME` or PATH: name another, or make it readable",
                path.display()
            )),
        }
    }
}

/// What is to be done about a segment.
#[derive(Debug, Clone)]
pub enum CacheStatus {
    /// Nothing: it was built before, and what it gave is there.
    Fresh(Box<CacheRecord>),
    /// Its steps are to be run.
    Stale {
        /// Why; at least one.
        reasons: Vec<Reason>,
        /// The fields of the key under which what it gives is kept, but for what it stands on; none where they cannot
        /// be told, and nothing is kept.
        draft: Option<Fields>,
        /// The fields under which checkpoints of it are stored, where its container has any: also of steps that a plan ends
        /// with before their snapshot.
        checkpoints: Option<Fields>,
        /// A checkpoint from which its steps can go on.
        resume: Option<Box<Resume>>,
    },
}

/// A change of a segment's inputs since it was checked.
#[derive(Debug, Clone)]
pub enum Since {
    /// Its key would be another one; why.
    Changed(Vec<Reason>),
    /// These were changed, and are as they were: the steps may have read either.
    ChangedBack(Vec<String>),
}

/// A checkpoint in the store.
#[derive(Debug, Clone)]
pub struct Resume {
    /// How many of the segment's first steps it holds the changes of.
    pub steps: usize,
    /// Its layer: what they changed.
    pub layer: RecordedLayer,
}

/// What a segment stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// All of it is known.
    Known(Parents),
    /// The layer that this snapshot step is to write is not.
    Unwritten(StepId),
}
