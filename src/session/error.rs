//! The errors of a session, and what fixes each.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::FullPlace;
use super::capabilities::names;
use crate::error::{Exit, error_chain};
use crate::model::Capability;
use crate::mount::OverlayError;
use crate::runtime::container::RuntimeError;
use crate::runtime::spec::HostDevice;

/// A failure of a session itself, not of a process in it.
#[derive(Debug, Error)]
pub enum SessionError {
    #[error("cannot open the session")]
    Io(#[from] io::Error),
    #[error(
        "cannot open the session: {} needs {}, which runner's caller does not have",
        if *steps { "the container" } else { "runner" },
        names(missing, "CAP_")
    )]
    Capabilities { missing: Vec<Capability>, steps: bool },
    #[error("cannot open the session: the variable {variable} of the secret {} is not set", target.display())]
    UnsetSecret { variable: String, target: PathBuf },
    #[error("cannot open the session: the file {} of the secret {} does not exist", path.display(), target.display())]
    AbsentSecret { path: PathBuf, target: PathBuf },
    #[error(
        "cannot open the session: the mount target {} is {found} in the container, and {needed} is to be mounted there: {name}",
        target.display()
    )]
    Target { target: PathBuf, found: &'static str, needed: &'static str, name: String },
    #[error(
        "cannot open the session: {requested} open files (`nofile` under limits) are more than the {most} that this host allows"
    )]
    OpenFiles { requested: u64, most: u64 },
    #[error("cannot use the device {}", path.display())]
    Device { path: PathBuf, source: io::Error },
    #[error("cannot look up the user")]
    User(#[source] io::Error),
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("cannot describe the container in config.json")]
    Spec(#[from] oci_spec::OciSpecError),
    #[error("cannot prepare the rootfs")]
    Rootfs(#[source] io::Error),
    #[error("cannot copy the session's content for another try of the step")]
    Copy(#[source] io::Error),
    #[error(
        "cannot open the session: its content from before an earlier step could not be restored for another try of that step"
    )]
    Lost,
    #[error("{}: {full}", error_chain(error))]
    Full { error: Box<SessionError>, full: FullPlace },
    #[error("cannot end the session: its root is still in use")]
    Busy(#[source] io::Error),
}

impl SessionError {
    /// Returns the exit code of a command for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::UnsetSecret { .. } | Self::AbsentSecret { .. } | Self::Target { .. } => Exit::Usage,
            // For example a truncated archive, or a root from which no container can start.
            Self::Io(error) | Self::Rootfs(error) if error.kind() == io::ErrorKind::InvalidData => Exit::Usage,
            _ => Exit::Host,
        }
    }

    /// Returns how to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { full, .. } => Some(full.hint()),
            Self::User(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Some("`user` may be numbers, as in `1000:1000`, which need no entry".into())
            }
            Self::Capabilities { missing, steps } => {
                let give = "start runner with more: in Docker, `docker run --privileged`, and in a systemd unit without a \
                            `CapabilityBoundingSet=` that removes them";
                let names = names(missing, "");
                Some(match steps {
                    true => {
                        format!(
                            "{give}; or remove them from the container, as with `capabilities: {{drop: [{names}]}}`"
                        )
                    }
                    false => give.to_owned(),
                })
            }
            Self::UnsetSecret { variable, .. } => Some(format!("run `export {variable}=…` first")),
            Self::Target { needed, .. } => {
                Some(format!("choose a `target` that is {needed}, or one that does not exist yet"))
            }
            Self::AbsentSecret { .. } => Some("make it before the build begins".to_owned()),
            Self::OpenFiles { requested, most } => Some(format!(
                "write `nofile: {most}` or less; where the limit is of runner's caller, `ulimit -Hn {requested}` raises it, and where \
                 it is the kernel's own, `sysctl -w fs.nr_open={requested}`"
            )),
            Self::Device { source, .. } => HostDevice::hint(source),
            Self::Overlay(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::Io(_)
            | Self::User(_)
            | Self::Spec(_)
            | Self::Rootfs(_)
            | Self::Copy(_)
            | Self::Lost
            | Self::Busy(_) => None,
        }
    }
}
