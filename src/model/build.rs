//! The checked model of a build: [`validate`](super::validate) returns it, and all later stages read it.
//!
//! Names are resolved to indices, defaults are filled in, and paths are absolute. The model has no mistake that the
//! manifest could show.

mod copy;
mod export;
mod image;
mod mount;
mod queries;
mod step;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use oci_spec::runtime::Capability;

pub use copy::{Copy, CopySource};
pub use export::{Export, ExportFormat, OciImage, OciLayers};
pub use image::{FileSource, ImagePlace, ImageSource, UrlSource};
pub use mount::{CacheMount, Mount, MountKind, SSH_AUTH_SOCK, Secret, Sharing};
pub use step::{Action, Compression, Role, Snapshot, SnapshotMode, Step};

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
    Squashfs(Vec<FileSource>),
    /// An EROFS image file.
    Erofs(FileSource),
    /// A tar archive, plain or compressed.
    Tar(FileSource),
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
