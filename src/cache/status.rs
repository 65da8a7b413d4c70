//! The result of checking a segment, and the errors of the check.

use std::path::PathBuf;

use thiserror::Error;

use crate::cache::key::{KeyFields, Parents, Reason};
use crate::content::ContentError;
use crate::model::StepId;
use crate::rootfs::RootfsError;
use crate::runtime::spec::HostDevice;
use crate::store::{CacheRecord, RecordedLayer, StoreError};

/// An error that makes checking a segment impossible.
#[derive(Debug, Error)]
pub enum CacheCheckError {
    /// The content of a host path cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A device of the host cannot be looked at.
    #[error("cannot look at the device {}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A root of programs cannot be made.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// mksquashfs is missing.
    #[error("mksquashfs is not in PATH")]
    NoMksquashfs,
    /// The files that a segment takes from a snapshot are not known yet. No command reports it.
    #[error("the files of a snapshot are not known yet")]
    UnknownSource(StepId),
    /// mkfs.erofs is missing.
    #[error("mkfs.erofs, which writes EROFS images, is not in PATH")]
    NoMkfsErofs,
    /// The program that runs the steps or writes the images cannot be read.
    #[error("cannot read the program {}", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl CacheCheckError {
    /// Whether an input of the build causes the error, rather than the host.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Rootfs(error) => error.is_of_input(),
            Self::Content(error) => error.is_of_input(),
            _ => false,
        }
    }

    /// Returns the way to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Device { source, .. } => HostDevice::hint(source),
            Self::UnknownSource(_) => None,
            Self::NoMkfsErofs => Some("apt-get install erofs-utils, or export with `format: squashfs`".into()),
            Self::NoMksquashfs => Some("unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools".into()),
            Self::Program { path, .. } => Some(format!(
                "{} is found by `--runtime`, `RUNNER_RUNTIME` or PATH: name another, or make it readable",
                path.display()
            )),
        }
    }
}

/// The status of a segment.
#[derive(Debug, Clone)]
pub enum CacheStatus {
    /// It was built before, and the store has its result.
    Fresh(Box<CacheRecord>),
    /// Its steps must run.
    Stale {
        /// The reasons; at least one.
        reasons: Vec<Reason>,
        /// The fields of the key under which its result is stored, without its parents; none where they cannot be
        /// known, and its result is not stored.
        draft: Option<KeyFields>,
        /// The fields under which its checkpoints are stored, where its container has any: also for steps that a plan
        /// ends with before their snapshot.
        checkpoints: Option<KeyFields>,
        /// A checkpoint from which its steps can continue.
        resume: Option<Box<Resume>>,
    },
}

/// A change of a segment's inputs since it was checked.
#[derive(Debug, Clone)]
pub enum Since {
    /// Its key would differ, for these reasons.
    Changed(Vec<Reason>),
    /// These inputs were changed and changed back: the steps may have read either content.
    ChangedBack(Vec<String>),
}

/// A checkpoint in the store.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The number of the segment's first steps whose changes it contains.
    pub steps: usize,
    /// Its layer: the changes of these steps.
    pub layer: RecordedLayer,
}

/// The parents of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// All of it is known.
    Known(Parents),
    /// The layer of this snapshot step is not written yet.
    Unwritten(StepId),
}
