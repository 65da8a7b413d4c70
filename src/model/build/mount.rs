//! The mounts of a checked container: type, source, target and options.

use std::path::PathBuf;

use super::StepId;

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The type and source of the mount.
    pub kind: MountKind,
    /// The path inside the container; absolute and normalised.
    pub target: PathBuf,
    /// mount(8) options, none with a comma.
    pub options: Vec<String>,
    /// The manifest says that its content does not change the results of the steps.
    pub ignored: bool,
}

impl Mount {
    /// Returns whether the mount is read-only: by its options, or because nothing can write to it.
    pub fn is_read_only(&self) -> bool {
        let is_fixed = matches!(self.kind, MountKind::Snapshot { .. } | MountKind::Image(_));
        is_fixed || self.options.iter().rev().find(|o| *o == "ro" || *o == "rw").is_some_and(|o| o == "ro")
    }
}

/// The variable that has the path of the SSH agent's socket, on the host and inside.
pub const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// The type and source of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or a directory of the host; absolute.
    Bind(PathBuf),
    /// A tmpfs that lasts as long as the session.
    Tmpfs,
    /// A directory of the store that lasts between builds.
    Cache(CacheMount),
    /// One host file or host variable.
    Secret(Secret),
    /// A path of the root as it was at a snapshot.
    Snapshot {
        /// The snapshot.
        step: StepId,
        /// The path in its root; absolute and normalised.
        path: PathBuf,
    },
    /// A squashfs or EROFS image of the host; absolute.
    Image(PathBuf),
    /// The caller's SSH agent: the path of its socket, or the variable that should have it.
    Ssh(Secret),
    /// A kernel filesystem: its type and its source.
    Kernel(String, String),
}

impl MountKind {
    /// Returns the mounted path of the host, or else the type.
    pub fn name(&self) -> String {
        match self {
            Self::Bind(source) => source.display().to_string(),
            Self::Tmpfs => "a tmpfs".into(),
            Self::Cache(cache) => format!("the cache {}", cache.id),
            Self::Secret(Secret::File(path)) => format!("the secret {}", path.display()),
            Self::Secret(Secret::Variable(variable)) => format!("the secret {variable}"),
            Self::Snapshot { path, .. } => format!("{} of a snapshot", path.display()),
            Self::Image(path) => format!("the image {}", path.display()),
            Self::Ssh(_) => "the SSH agent".into(),
            Self::Kernel(kind, _) => format!("a filesystem {kind}"),
        }
    }
}

/// A directory of the store that lasts between builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name in the store: all mounts with this id share one directory.
    pub id: String,
    /// The steps that may use it at the same time.
    pub sharing: Sharing,
}

impl CacheMount {
    /// Returns the cache of that id, which any number of steps may use at the same time.
    pub fn shared(id: &str) -> Self {
        Self { id: id.to_owned(), sharing: Sharing::Shared }
    }
}

/// The steps that may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Any number of steps.
    Shared,
    /// One step.
    Locked,
}

/// The source of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A host file; absolute.
    File(PathBuf),
    /// A variable of runner's environment.
    Variable(String),
}
