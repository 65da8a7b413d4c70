//! The errors of a container's groups and limits, each with the way to fix it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

const PRIVILEGED: &str = "let runner make cgroups: in Docker, `docker run --privileged`";

/// The errors of cgroups.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CgroupError {
    #[error("cannot read this process' cgroups")]
    Read(#[source] io::Error),
    #[error(
        "runner's own cgroup {path} of the hierarchy {hierarchy} cannot be reached, so that no group can be made \
         below it"
    )]
    Unreachable { hierarchy: String, path: String, source: io::Error },
    #[error("cannot create the cgroup {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error(
        "cannot create the cgroup {}: {} is {most}, which allows no more {}",
        path.display(),
        file.display(),
        if *is_depth { "levels of groups" } else { "groups" }
    )]
    Full { path: PathBuf, file: PathBuf, most: u64, is_depth: bool },
    #[error("cannot mount the cgroup hierarchy at {} anew", point.display())]
    Mount { point: PathBuf, source: io::Error },
    #[error("cannot write {value} to {}", file.display())]
    Write { value: String, file: PathBuf, source: io::Error },
    #[error("`{limit}` under limits needs the cgroup controller {controller}, which no hierarchy of this host has")]
    NoController { limit: &'static str, controller: &'static str },
    #[error(
        "`{limit}` under limits needs the cgroup controller {controller}, which runner's own cgroup {} does not have",
        group.display()
    )]
    Lacking { limit: &'static str, controller: &'static str, group: PathBuf },
    #[error(
        "`{limit}` under limits needs processes of the cgroup {} moved into a group below it, and one cannot be moved",
        group.display()
    )]
    Occupied { limit: &'static str, group: PathBuf, source: io::Error },
    #[error("`{limit}` under limits cannot be set: the cgroup {} is {kind}", group.display())]
    Threaded { limit: &'static str, group: PathBuf, kind: String },
    #[error("the cgroup {} is {kind}, so that no process can be in a group below it", group.display())]
    NotADomain { group: PathBuf, kind: String },
}

impl CgroupError {
    /// Returns how to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { path, .. } if path.starts_with("/..") => {
                Some("start runner in a cgroup of its namespace: `echo $$ > /sys/fs/cgroup/cgroup.procs` first".into())
            }
            Self::Unreachable { .. } => Some(PRIVILEGED.into()),
            Self::NoController { controller, .. } => {
                Some(format!("boot with `cgroup_enable={controller}`, or leave the limit out"))
            }
            Self::Lacking { .. } | Self::Occupied { .. } | Self::Threaded { .. } | Self::NotADomain { .. } => {
                Some("start runner in a group of its own: `systemd-run --scope -p Delegate=yes runner …`".into())
            }
            Self::Create { source, .. } | Self::Mount { source, .. } | Self::Write { source, .. } => {
                let is_forbidden =
                    matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
                is_forbidden.then(|| PRIVILEGED.into())
            }
            Self::Full { file, .. } => Some(format!("`echo max > {}`", file.display())),
            Self::Read(_) => None,
        }
    }

    /// Returns the error with all its causes and the way to fix it, on one line.
    pub fn message_with_hint(&self) -> String {
        crate::error::error_chain_with_hint(self, self.hint())
    }
}
