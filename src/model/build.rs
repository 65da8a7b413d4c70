//! The checked model of a build: [`validate`](super::validate) returns it, and all later stages read it.
//!
//! Names are resolved to indices, defaults are filled in, and paths are absolute. The model has no mistake that the
//! manifest could show.

mod copy;
mod export;
mod image;
mod mount;
mod queries;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use oci_spec::runtime::Capability;

pub use copy::{Copy, CopySource};
pub use export::{Export, ExportFormat, OciImage, OciLayers};
pub use image::{ImagePlace, ImageSource, UrlSource};
pub use mount::{CacheMount, Mount, MountKind, SSH_AUTH_SOCK, Secret, Sharing};

use super::checkpointing::Checkpointing;
use crate::diagnostic::Problem;
use crate::seccomp::Profile;

/// A container's index in [`Build::containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub usize);

/// A step's index in [`Build::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// A checked manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// The build's name: the manifest's `name`, or else the name of its directory.
    pub name: String,
    /// The manifest's absolute path.
    pub manifest: PathBuf,
    /// The manifest's path with all links followed; it distinguishes two builds of the same name.
    pub project: PathBuf,
    /// The manifest's directory, from which relative paths start.
    pub directory: PathBuf,
    /// The latest time stamp of files in snapshots, in seconds since 1970; with `None` they have real times.
    pub source_date_epoch: Option<u64>,
    /// In the order of the manifest.
    pub containers: Vec<Container>,
    /// In the order of the manifest.
    pub steps: Vec<Step>,
    /// The secrets that did not exist when the manifest was checked. A build that runs no container with such a secret
    /// does not need it, nor does a command that builds nothing.
    pub absent_secrets: Vec<AbsentSecret>,
}

/// A secret that does not exist, and the problem to report for a step that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentSecret {
    /// The source of the secret.
    pub secret: Secret,
    /// The problem, for the user.
    pub problem: Problem,
}

impl Build {
    /// Returns the containers that have the secret, or the SSH agent of that path or variable.
    pub fn containers_with<'b>(&'b self, secret: &'b Secret) -> impl Iterator<Item = ContainerId> + 'b {
        let has = move |mount: &Mount| matches!(&mount.kind, MountKind::Secret(other) | MountKind::Ssh(other) if other == secret);
        let all = self.containers.iter().enumerate();
        all.filter(move |(_, container)| container.mounts.iter().any(has)).map(|(index, _)| ContainerId(index))
    }

    /// Returns the snapshots whose files a step takes: it copies them, or its container has them mounted.
    pub fn sources(&self, step: &Step) -> impl Iterator<Item = StepId> {
        let copied = match &step.action {
            Action::Copy(copy) => copy.snapshot(),
            _ => None,
        };
        copied.into_iter().chain(self.container(step.settings()).snapshots())
    }

    /// Returns the container of that index.
    pub fn container(&self, id: ContainerId) -> &Container {
        &self.containers[id.0]
    }

    /// Returns the step of that index.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0]
    }
}

/// One container: a root filesystem and the settings that its steps run under.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Matches `^[a-zA-Z0-9._-]+$`.
    pub name: String,
    /// The source of its root filesystem.
    pub rootfs: Rootfs,
    /// The host name that its steps see.
    pub hostname: String,
    /// The root is the read-only image itself.
    pub read_only: bool,
    /// The network of its steps.
    pub network: Network,
    /// The user that runs its steps, unless a step names another.
    pub user: User,
    /// The directory that its steps start in; absolute and normalised.
    pub cwd: PathBuf,
    /// The variables that the manifest adds to the default environment.
    pub env: BTreeMap<String, String>,
    /// The capability set of its steps: the default set with `add` and `drop` applied; by name, each once.
    pub capabilities: Vec<Capability>,
    /// `PR_SET_NO_NEW_PRIVS` for its steps, see prctl(2).
    pub no_new_privileges: bool,
    /// The system calls that its steps may make.
    pub seccomp: Seccomp,
    /// In the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// The devices that its steps may use beyond the defaults.
    pub devices: Vec<Device>,
    /// Resource limits of its steps.
    pub limits: Limits,
    /// The place of the container's changes until a snapshot.
    pub scratch: Scratch,
    /// The paths of /proc and /sys that are neither hidden nor write-protected.
    pub unmask: Unmask,
    /// The program that gets a `run` text as its last argument.
    pub shell: Option<Vec<String>>,
    /// A step has a text that is a script with its own interpreter.
    pub has_scripts: bool,
    /// The first process of each step is a small program that starts the step's own.
    pub init: bool,
    /// Inode numbers have 64 bits and stay the same for a session.
    pub xino: bool,
    /// The setting for checkpoints between two steps.
    pub checkpoint: Checkpointing,
    /// Of a container that validation has made for one step, a test or a step with settings of its own: the container of the
    /// manifest that the step names.
    pub variant_of: Option<ContainerId>,
}

impl Container {
    /// Returns the snapshots that it has mounted.
    pub fn snapshots(&self) -> impl Iterator<Item = StepId> {
        self.mounts.iter().filter_map(|mount| match mount.kind {
            MountKind::Snapshot { step, .. } => Some(step),
            _ => None,
        })
    }

    /// Returns whether its steps can write to files of the host.
    pub fn may_write_to_host(&self) -> bool {
        self.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Bind(_)) && !mount.is_read_only())
    }
}

/// A source of a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// Squashfs image files, the layers of one root, the lowest first; at least one.
    Squashfs(Vec<PathBuf>),
    /// A tar archive, plain or compressed.
    Tar(PathBuf),
    /// A directory of the host, used read-only.
    Dir(PathBuf),
    /// Programs of the host with the libraries and loaders that they need.
    Programs(Vec<PathBuf>),
    /// An image of an OCI layout or of a registry.
    Image(ImageSource),
    /// A squashfs image or a tar archive at a URL.
    Url(UrlSource),
    /// The layer chain that a snapshot step ends.
    Snapshot(StepId),
    /// An empty directory.
    Scratch,
}

/// The network of a container's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own, with loopback only.
    None,
    /// The host's.
    Host,
}

/// The system calls that a container's steps may make.
#[derive(Debug, Clone, PartialEq)]
pub enum Seccomp {
    /// Those of [`Profile::standard`].
    Default,
    /// All.
    Unconfined,
    /// Those of a profile of the manifest's author: its content when the manifest was checked, and its file.
    Profile(Arc<Profile>, PathBuf),
}

impl Seccomp {
    /// Returns the profile, if there is one.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Default => Some(Profile::standard()),
            Self::Unconfined => None,
            Self::Profile(profile, _) => Some(profile),
        }
    }

    /// Returns the file of a profile of the manifest's author.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Profile(_, file) => Some(file),
            Self::Default | Self::Unconfined => None,
        }
    }
}

/// The paths of /proc and /sys that a container neither hides nor write-protects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmask {
    /// All.
    All,
    /// These of [`MASKED_PATHS`](super::MASKED_PATHS) and [`READ_ONLY_PATHS`](super::READ_ONLY_PATHS), by name, each once.
    Paths(Vec<PathBuf>),
}

impl Default for Unmask {
    fn default() -> Self {
        Self::Paths(Vec::new())
    }
}

/// `UID[:GID]` or `USER[:GROUP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub user: Principal,
    /// The group; without it, the user's own group in the rootfs' passwd(5), else 0.
    pub group: Option<Principal>,
}

impl User {
    /// Returns whether the manifest names root.
    pub fn is_root(&self) -> bool {
        match &self.user {
            Principal::Id(id) => *id == 0,
            Principal::Name(name) => name == "root",
        }
    }
}

/// A user or a group, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A number, used unchanged.
    Id(u32),
    /// A name, looked up in the rootfs.
    Name(String),
}

/// One device node of the host that a container's steps may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The node on the host; absolute and normalised.
    pub path: PathBuf,
    /// The node inside.
    pub target: PathBuf,
    /// The access that the device cgroup allows.
    pub access: Access,
    /// Permission bits of the node inside; default: the host node's.
    pub mode: Option<u32>,
    /// Owner of the node inside; default: the host node's.
    pub uid: Option<u32>,
    /// Group of the node inside; default: the host node's.
    pub gid: Option<u32>,
}

/// Subset of `rwm`, as the device cgroup names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// `r`: open for reading.
    pub read: bool,
    /// `w`: open for writing.
    pub write: bool,
    /// `m`: make nodes of it.
    pub mknod: bool,
}

/// Resource limits of a container's steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// `RLIMIT_NOFILE`, soft and hard, if the manifest sets one: then it is required.
    pub nofile: Option<u64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processors, in thousandths.
    pub millicpus: Option<u64>,
    /// The number of processes and threads, if the manifest sets one: then it is required.
    pub pids: Option<u64>,
}

impl Limits {
    /// The default number of open files of a process. If the caller of runner allows fewer, that number is used.
    pub const DEFAULT_NOFILE: u64 = 4096;

    /// The default number of processes and threads. It is in force if the host can set it without moving processes
    /// between cgroups.
    pub const DEFAULT_PIDS: u64 = 32768;

    /// The most processes and threads of a kernel: `PID_MAX_LIMIT`, see proc_sys_kernel(5).
    pub const MAX_PIDS: u64 = 4_194_304;
}

/// The place of the container's changes until a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scratch {
    /// A tmpfs of half of the memory that runner may use, and at most 10 GiB.
    Default,
    /// A tmpfs of at most that many bytes.
    Tmpfs(u64),
    /// A directory of the store.
    Disk,
}

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
