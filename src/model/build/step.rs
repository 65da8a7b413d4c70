//! A step of a build, and its action.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ContainerId, Copy, Export, StepId, User};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Unique; matches `^[a-zA-Z0-9._-]+$`.
    pub name: String,
    /// The container that it runs in.
    pub container: ContainerId,
    /// Its action.
    pub action: Action,
    /// All steps that it waits for: its `needs` or the step before it in its container, the snapshot that is its
    /// container's root, and the snapshots whose files it copies; sorted, each once.
    pub needs: Vec<StepId>,
    /// The variables that it adds to the container's environment.
    pub env: BTreeMap<String, String>,
    /// Replaces the container's.
    pub cwd: Option<PathBuf>,
    /// Replaces the container's.
    pub user: Option<User>,
    /// Replaces the container's.
    pub shell: Option<Vec<String>>,
    /// The time after which the step gets SIGTERM and has failed.
    pub timeout: Option<Duration>,
    /// The time from SIGTERM to SIGKILL.
    pub grace: Duration,
    /// The number of further attempts after a failure.
    pub retries: u32,
    /// The step runs every time, and is never taken from the cache.
    pub always: bool,
    /// Of a step after its container's last snapshot: it does not run again if nothing has changed since it succeeded.
    pub cache: bool,
    /// The purpose of the step.
    pub role: Role,
    /// Of a step with mounts, devices, a network or capabilities of its own: the container that has them, and everything else
    /// from the step's own container. It has no session.
    pub settings: Option<ContainerId>,
}

/// The purpose of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It builds.
    #[default]
    Build,
    /// It is a test, alone in a container of its own. Its failure stops no step that does not need it.
    Test,
    /// It is the snapshot, in no manifest, that tests of a container start from.
    TestedState,
}

impl Step {
    /// The default time from SIGTERM to SIGKILL.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

    /// Returns the container with the settings of the step.
    pub fn settings(&self) -> ContainerId {
        self.settings.unwrap_or(self.container)
    }

    /// Whether it is a test.
    pub fn is_test(&self) -> bool {
        self.role == Role::Test
    }
}

/// The action of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A text for the shell, or a script that begins with `#!`.
    Run(String),
    /// An argument vector.
    Exec(Vec<String>),
    /// Copies files of another root into the container's.
    Copy(Copy),
    /// Writes a squashfs image.
    Snapshot(Snapshot),
    /// Writes files of the root to the host.
    Export(Export),
}

impl Action {
    /// Returns the output of a snapshot or an export.
    pub fn output(&self) -> Option<&Path> {
        match self {
            Self::Snapshot(snapshot) => snapshot.output.as_deref(),
            Self::Export(export) => export.output.as_deref(),
            Self::Run(_) | Self::Exec(_) | Self::Copy(_) => None,
        }
    }
}

/// The image that a snapshot step writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The content of the image.
    pub mode: SnapshotMode,
    /// The file that it is written to in addition to the store; absolute.
    pub output: Option<PathBuf>,
    /// The compression of the image.
    pub compression: Compression,
    /// The compressor's level; default: 3 for zstd, the compressor's own for the others.
    pub level: Option<u32>,
    /// The directory of the root that is the whole root in the image, which is a full one; runner alone sets it, for a
    /// root that a step makes.
    pub subtree: Option<PathBuf>,
}

/// The content of a snapshot's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// The changes since the layer below.
    Layer,
    /// The whole root.
    Full,
}

/// A compressor of squashfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the compressor's own name")]
pub enum Compression {
    Zstd,
    Gzip,
    Xz,
    Lz4,
    None,
}

impl Compression {
    /// Returns the compression of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Zstd, Self::Gzip, Self::Xz, Self::Lz4, Self::None].into_iter().find(|one| one.name() == name)
    }

    /// Returns its highest level, if it has levels; the lowest is 1.
    pub fn max_level(self) -> Option<u32> {
        match self {
            Self::Zstd => Some(22),
            Self::Gzip => Some(9),
            Self::Xz | Self::Lz4 | Self::None => None,
        }
    }

    /// Returns its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::None => "none",
        }
    }
}
