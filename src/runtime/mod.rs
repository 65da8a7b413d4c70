//! OCI runtimes: what runs processes in a container that a bundle describes.
//!
//! ```text
//! runner ──▶ Container ─┬─ embedded ──▶ helper: makes the container once a session
//!                       │         └───▶ spare: a process of the container that becomes the step
//!                       └─ external ──▶ helper: RUNTIME create, start, delete once a step
//! ```

mod attach;
pub mod cgroups;
pub mod container;
mod devices;
#[path = "../init/disposition.rs"]
pub mod disposition;
pub mod embedded;
pub mod external;
mod held_mounts;
mod lost_mount;
mod memory;
mod options;
pub mod process;
mod processes;
pub mod protocol;
pub mod spec;
pub mod status;
mod watch;
#[path = "../init/wire/mod.rs"]
pub mod wire;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use container::{Container, Helper, RuntimeError};
use external::Program;
pub use held_mounts::HeldMounts;
use oci_spec::runtime::{Capability, LinuxResources, Spec};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What runs processes in containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Runtime {
    /// The one that is built in.
    #[default]
    Embedded,
    /// A program with the command line of runc(8).
    External(Program),
}

/// A session's container, as a runtime is given it.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// Unique on this host.
    pub id: &'a str,
    /// A folder for config.json; its `rootfs` is the mounted root.
    pub folder: &'a Path,
    /// A folder for the runtime's own files.
    pub state: &'a Path,
    /// Where all sessions' mounts are.
    pub workspace: &'a Path,
    /// What else of the workspace the container needs.
    pub mounts: &'a Path,
    /// What config.json says.
    pub spec: &'a Spec,
    /// The most that a process in it may do.
    pub capabilities: &'a [Capability],
    /// Where the mounts of its steps go that have ended.
    pub held_mounts: &'a Arc<HeldMounts>,
}

/// What of a container is known before its root is mounted.
#[derive(Debug)]
pub struct Ahead<'a> {
    /// As in [`Bundle`].
    pub id: &'a str,
    /// As in its config.json.
    pub resources: LinuxResources,
    /// As in [`Bundle`].
    pub capabilities: &'a [Capability],
    /// Whether it has a network namespace of its own.
    pub own_network: bool,
}

impl Runtime {
    /// Starts the process that will open a container, so that it gets ready meanwhile.
    ///
    /// # Errors
    /// [`RuntimeError::Spawn`], [`RuntimeError::Talk`].
    pub fn helper(&self, ahead: Ahead<'_>) -> Result<Helper, RuntimeError> {
        match self {
            Self::Embedded => embedded::helper(ahead),
            Self::External(_) => Helper::start(external::HELPER_ARGUMENT),
        }
    }

    /// Opens a container, with a helper of this runtime.
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Create`] has the runtime's own words.
    pub fn open(&self, helper: Helper, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
        match self {
            Self::Embedded => embedded::open(helper, bundle),
            Self::External(runtime) => external::open(helper, runtime, bundle),
        }
    }

    /// The processes in a container that are no step's.
    pub fn own_processes(&self) -> u64 {
        match self {
            Self::Embedded => embedded::OWN_PROCESSES,
            Self::External(_) => 0,
        }
    }
}

/// The descriptors that a process is started with.
#[derive(Debug)]
pub struct Stdio {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

/// How a process in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It called exit(2).
    Exited {
        /// The code, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number, see signal(7).
        signal: i32,
    },
    /// It could not be started.
    NotStarted {
        /// What went wrong, as it fits after "cannot start: ".
        why: String,
        /// 126 where the command cannot be executed, 127 where it is not there, 125 for anything else, as with Docker.
        code: i32,
    },
}

impl Outcome {
    /// The exit code as a shell gives it: 128 and the signal's number after a signal.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited { code } | Self::NotStarted { code, .. } => *code,
            Self::Signaled { signal } => 128 + signal,
        }
    }

    /// Whether it ended well.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}

/// How a process in a container ended, and what of that its outcome does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// Meanwhile the kernel killed it, or another process of its container, for want of memory.
    pub out_of_memory: bool,
    /// Meanwhile a limit of processes refused one to it, or to another process of its container.
    pub processes_refused: bool,
    /// Why a limit or a mount that the manifest asks for did not hold to its end.
    pub lost: Option<String>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, out_of_memory: false, processes_refused: false, lost: None }
    }
}

/// The exit code of a step that could not be started for another reason than its command, as with Docker.
pub const CANNOT_START: i32 = 125;

/// A command that cannot be executed, by the kernel's word for why; by none where there is no such command.
fn not_executed(name: &str, error: Option<&str>) -> Outcome {
    let Some(error) = error else {
        let why = format!("{name} is not there, or not in PATH, or its interpreter is not there");
        return Outcome::NotStarted { why, code: 127 };
    };
    let mut letters = error.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let error: String = first.into_iter().chain(letters).collect();
    Outcome::NotStarted { why: format!("{name} cannot be executed: {error}"), code: 126 }
}

/// Waits for the end of a child and gives how it ended.
fn reap(process: BorrowedFd<'_>) -> io::Result<Outcome> {
    let Some(status) = waitid(WaitId::PidFd(process), WaitIdOptions::EXITED)? else {
        return Err(io::Error::other("a process that has ended has no status"));
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ok(Outcome::Exited { code }),
        (None, Some(signal)) => Ok(Outcome::Signaled { signal }),
        (None, None) => Err(io::Error::other("a process ended neither by itself nor by a signal")),
    }
}
