//! The errors of a session, and what fixes each.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::Full;
use super::capabilities::names;
use crate::error::{Exit, error_chain};
use crate::model::Capability;
use crate::mount::OverlayError;
use crate::runtime::container::RuntimeError;
use crate::runtime::spec::HostDevice;

/// What goes wrong with a session itself, not with what runs in it.
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
    #[error("cannot open the session: the file {} of the secret {} is not there", path.display(), target.display())]
    AbsentSecret { path: PathBuf, target: PathBuf },
    #[error(
        "cannot open the session: the mount target {} is {found} in the container, and {wanted} is to be mounted there: {name}",
        target.display()
    )]
    Target { target: PathBuf, found: &'static str, wanted: &'static str, name: String },
    #[error(
        "cannot open the session: {wanted} open files (`nofile` under limits) are more than the {most} that this host allows"
    )]
    OpenFiles { wanted: u64, most: u64 },
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
    #[error("cannot make the rootfs ready")]
    Rootfs(#[source] io::Error),
    #[error("cannot copy what the session holds, for another try of the step")]
    Copy(#[source] io::Error),
    #[error(
        "cannot open the session: what it held before an earlier step could not be put back when that was tried again"
    )]
    Lost,
    #[error("{}: {full}", error_chain(error))]
    Full { error: Box<SessionError>, full: Full },
    #[error("cannot end the session: its root is still in use")]
    Busy(#[source] io::Error),
}

impl SessionError {
    /// Returns the exit code of a command for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::UnsetSecret { .. } | Self::AbsentSecret { .. } | Self::Target { .. } => Exit::Usage,
            // An archive that is cut off, a root that no container can start from.
            Self::Io(error) | Self::Rootfs(error) if error.kind() == io::ErrorKind::InvalidData => Exit::Usage,
            _ => Exit::Host,
        }
    }

    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { full, .. } => Some(full.hint()),
            Self::User(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Some("`user` may be numbers, as in `1000:1000`, which need no entry".into())
            }
            Self::Capabilities { missing, steps } => {
                let give = "start runner with more: in Docker, `docker run --privileged`, and in a systemd unit without a \
                            `CapabilityBoundingSet=` that takes them away";
                let names = names(missing, "");
                Some(match steps {
                    true => {
                        format!("{give}; or take them from the container, as with `capabilities: {{drop: [{names}]}}`")
                    }
                    false => give.to_owned(),
                })
            }
            Self::UnsetSecret { variable, .. } => Some(format!("run `export {variable}=…` first")),
            Self::Target { wanted, .. } => {
                Some(format!("choose a `target` that is {wanted}, or one that is not there yet"))
            }
            Self::AbsentSecret { .. } => Some("make it before the build begins".to_owned()),
            Self::OpenFiles { wanted, most } => Some(format!(
                "write `nofile: {most}` or less; where the limit is of runner's caller, `ulimit -Hn {wanted}` raises it, and where \
                 it is the kernel's own, `sysctl -w fs.nr_open={wanted}`"
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
