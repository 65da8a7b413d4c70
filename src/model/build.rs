//! The checked model of a build: what [`validate`](super::validate) gives, and all that comes after it reads.
//!
//! Names are resolved to indices, defaults are filled in, paths are absolute. Nothing here can be wrong in a way that
//! the manifest could have told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use oci_spec::runtime::Capability;

use super::checkpointing::Checkpointing;
use crate::diagnostic::Problem;
use crate::seccomp::Profile;

/// A container's index in [`Build::containers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub usize);

/// A step's index in [`Build::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// A whole manifest, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// The build's name: the manifest's `name`, else its folder's.
    pub name: String,
    /// The manifest's absolute path.
    pub manifest: PathBuf,
    /// The manifest's path with all links followed, by which two builds of one name are told apart.
    pub project: PathBuf,
    /// The manifest's folder, which relative paths start from.
    pub folder: PathBuf,
    /// Seconds since 1970 that time stamps are clamped to; `None` keeps real times.
    pub source_date_epoch: Option<u64>,
    /// In the manifest's order.
    pub containers: Vec<Container>,
    /// In the manifest's order.
    pub steps: Vec<Step>,
    /// The secrets that were not there when the manifest was checked. A build that runs no container with one does not need
    /// it, nor does a command that builds nothing.
    pub absent_secrets: Vec<AbsentSecret>,
}

/// A secret that is not there, and the problem that this is to a step with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentSecret {
    /// Where it is read from.
    pub secret: Secret,
    /// For the user.
    pub problem: Problem,
}

impl Build {
    /// The indices of the containers that have a secret.
    pub fn containers_with<'b>(&'b self, secret: &'b Secret) -> impl Iterator<Item = ContainerId> + 'b {
        let has = move |mount: &Mount| matches!(&mount.kind, MountKind::Secret(other) if other == secret);
        let all = self.containers.iter().enumerate();
        all.filter(move |(_, container)| container.mounts.iter().any(has)).map(|(index, _)| ContainerId(index))
    }

    /// The container of that index.
    pub fn container(&self, id: ContainerId) -> &Container {
        &self.containers[id.0]
    }

    /// The step of that index.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0]
    }
}

/// One container: a root filesystem and the settings that its steps run under.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Matches `^[a-zA-Z0-9._-]+$`.
    pub name: String,
    /// Where its root filesystem comes from.
    pub rootfs: Rootfs,
    /// The host name that its steps see.
    pub hostname: String,
    /// The root is the read-only image itself.
    pub read_only: bool,
    /// Which network namespace its steps are in.
    pub network: Network,
    /// Who runs its steps, unless a step says otherwise.
    pub user: User,
    /// Where its steps start; absolute and normalised.
    pub cwd: PathBuf,
    /// What the manifest adds to the default environment.
    pub env: BTreeMap<String, String>,
    /// The capability set of its steps: the default set with `add` and `drop` applied; by name, each once.
    pub capabilities: Vec<Capability>,
    /// `PR_SET_NO_NEW_PRIVS` for its steps, see prctl(2).
    pub no_new_privileges: bool,
    /// Which system calls its steps may make.
    pub seccomp: Seccomp,
    /// In the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// The devices that its steps may use beyond the defaults.
    pub devices: Vec<Device>,
    /// Resource limits of its steps.
    pub limits: Limits,
    /// Where changes live until a snapshot.
    pub scratch: Scratch,
    /// What of /proc and /sys is as open as the kernel has it.
    pub unmask: Unmask,
    /// The program that gets a `run` text as its last argument.
    pub shell: Option<Vec<String>>,
    /// A text of one of its steps is a script with an interpreter of its own.
    pub has_scripts: bool,
    /// A small program is the first process of each step.
    pub init: bool,
    /// Files have numbers of 64 bits that stay the same for a session.
    pub xino: bool,
    /// When a checkpoint is made between two steps.
    pub checkpoint: Checkpointing,
}

impl Container {
    /// Whether its steps can write to files of the host.
    pub fn may_write_to_host(&self) -> bool {
        self.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Bind(_)) && !mount.is_read_only())
    }
}

/// A source of a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// Squashfs image files, which are layers of one root, the lowest first; one at least.
    Squashfs(Vec<PathBuf>),
    /// A tar archive, plain or compressed.
    Tar(PathBuf),
    /// A folder of the host, used read-only.
    Dir(PathBuf),
    /// Programs of the host with the libraries and loaders that they need.
    Programs(Vec<PathBuf>),
    /// The layer chain that a snapshot step ends.
    Snapshot(StepId),
    /// An empty folder.
    Scratch,
}

/// Which network a container's steps are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own, with loopback only.
    None,
    /// The host's.
    Host,
}

/// Which system calls a container's steps may make.
#[derive(Debug, Clone, PartialEq)]
pub enum Seccomp {
    /// Those of [`Profile::standard`].
    Default,
    /// All.
    Unconfined,
    /// Those of a profile of the manifest's author, as it was when the manifest was checked, in that file.
    Profile(Arc<Profile>, PathBuf),
}

impl Seccomp {
    /// The profile, where there is one.
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

/// What of /proc and /sys a container does not hide or write-protect.
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
    /// Whether that is root, as far as the manifest says it.
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
    /// A number, taken as it is.
    Id(u32),
    /// A name, looked up in the rootfs.
    Name(String),
}

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where, inside the container; absolute and normalised.
    pub target: PathBuf,
    /// mount(8) options, none with a comma.
    pub options: Vec<String>,
    /// What is in it changes nothing of what the steps give, the manifest says.
    pub ignored: bool,
}

impl Mount {
    /// Whether the options ask for a read-only mount.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().rev().find(|o| *o == "ro" || *o == "rw").is_some_and(|o| o == "ro")
    }
}

/// What a mount puts at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or a folder of the host; absolute.
    Bind(PathBuf),
    /// A tmpfs that lasts as long as the session.
    Tmpfs,
    /// A directory of the store that lasts between builds.
    Cache(CacheMount),
    /// One host file or host variable.
    Secret(Secret),
    /// A kernel filesystem: its type and its source.
    Kernel(String, String),
}

impl MountKind {
    /// The path on the host that is mounted, or else the type.
    pub fn name(&self) -> String {
        match self {
            Self::Bind(source) => source.display().to_string(),
            Self::Tmpfs => "a tmpfs".into(),
            Self::Cache(cache) => format!("the cache {}", cache.id),
            Self::Secret(Secret::File(path)) => format!("the secret {}", path.display()),
            Self::Secret(Secret::Variable(variable)) => format!("the secret {variable}"),
            Self::Kernel(kind, _) => format!("a filesystem {kind}"),
        }
    }
}

/// A directory of the store that lasts between builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name in the store: all mounts with this id share one directory.
    pub id: String,
    /// Which steps use it at once.
    pub sharing: Sharing,
}

impl CacheMount {
    /// Returns the cache of that id, which any number of steps use at once.
    pub fn shared(id: &str) -> Self {
        Self { id: id.to_owned(), sharing: Sharing::Shared }
    }
}

/// Which steps use a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All that have it shared.
    Shared,
    /// One step, and no other.
    Locked,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A host file; absolute.
    File(PathBuf),
    /// A variable of runner's environment.
    Variable(String),
}

/// One device node of the host that a container's steps may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The node on the host; absolute and normalised.
    pub path: PathBuf,
    /// The node inside.
    pub target: PathBuf,
    /// What the device cgroup allows.
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
    /// `RLIMIT_NOFILE`, soft and hard, where the manifest asks for one: then it must be had.
    pub nofile: Option<u64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processors, in thousandths.
    pub millicpus: Option<u64>,
    /// Number of processes and threads, where the manifest asks for one: then it must hold.
    pub pids: Option<u64>,
}

impl Limits {
    /// The open files of a process where the manifest asks for no other number, or as many as the caller of runner may
    /// pass on, if those are fewer.
    pub const DEFAULT_NOFILE: u64 = 4096;

    /// The most processes and threads where the manifest asks for no other number; it holds where that can be limited
    /// without moving processes of the host between cgroups.
    pub const DEFAULT_PIDS: u64 = 32768;

    /// The kernel has no more processes and threads at once: `PID_MAX_LIMIT`, see proc_sys_kernel(5).
    pub const MAX_PIDS: u64 = 4_194_304;
}

/// Where changes live until a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scratch {
    /// A tmpfs of half of the memory that runner may use, and of 10 GiB at most.
    Default,
    /// A tmpfs of at most that many bytes.
    Tmpfs(u64),
    /// A folder of the store.
    Disk,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Unique; matches `^[a-zA-Z0-9._-]+$`.
    pub name: String,
    /// Where it runs.
    pub container: ContainerId,
    /// What it does.
    pub action: Action,
    /// All that it waits for: its `needs` or the step before it in its container, and the snapshot that its
    /// container's rootfs is; sorted, each once.
    pub needs: Vec<StepId>,
    /// Added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// In place of the container's.
    pub cwd: Option<PathBuf>,
    /// In place of the container's.
    pub user: Option<User>,
    /// In place of the container's.
    pub shell: Option<Vec<String>>,
    /// After this long the step is asked to end, and has failed.
    pub timeout: Option<Duration>,
    /// As long after that it is killed.
    pub grace: Duration,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// Never taken from the cache.
    pub always: bool,
    /// After its container's last snapshot: not run again where nothing has changed since it ended well.
    pub cache: bool,
}

impl Step {
    /// The grace where the manifest names none.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A text for the shell, or a script that begins with `#!`.
    Run(String),
    /// An argument vector.
    Exec(Vec<String>),
    /// Writes a squashfs image.
    Snapshot(Snapshot),
}

/// What a snapshot step writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How much of the root goes into it.
    pub mode: SnapshotMode,
    /// Where it is put beside the store; absolute.
    pub output: Option<PathBuf>,
    /// How it is compressed.
    pub compression: Compression,
    /// The compressor's level; default: 3 for zstd, the compressor's own for the others.
    pub level: Option<u32>,
}

/// How much of the root a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// What changed since the layer below.
    Layer,
    /// The whole root.
    Full,
}

/// squashfs compressors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the compressor's own name")]
pub enum Compression {
    Zstd,
    Gzip,
    Xz,
    Lz4,
    None,
}
