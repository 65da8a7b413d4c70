//! OCI runtimes, which run processes in a container that a bundle describes.
//!
//! ```text
//! runner ──▶ Container ─┬─ embedded ──▶ helper: makes the container once a session
//!                       │         └───▶ preforked process of the container, which becomes the step
//!                       └─ external ──▶ helper: RUNTIME create, start, delete once a step
//! ```

mod attach;
pub mod cgroups;
pub mod container;
mod devices;
#[path = "../init/disposition.rs"]
pub mod disposition;
pub mod embedded;
mod error;
pub mod external;
mod helper_process;
mod lost_mount;
mod memory;
mod options;
mod pinned_mounts;
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
use oci_spec::runtime::{Capability, LinuxResources, Spec};
pub use pinned_mounts::PinnedMounts;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// A runtime, which runs processes in containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Runtime {
    /// The built-in one.
    #[default]
    Embedded,
    /// A program with the command line of runc(8).
    External(Program),
}

/// A session's container, as runner passes it to a runtime.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// Unique on this host.
    pub id: &'a str,
    /// The directory for config.json; its `rootfs` is the mounted root.
    pub directory: &'a Path,
    /// The directory for the runtime's own files.
    pub state: &'a Path,
    /// The directory with the mounts of all sessions.
    pub workspace: &'a Path,
    /// The other directory of the workspace that the container needs.
    pub mounts: &'a Path,
    /// The content of config.json.
    pub spec: &'a Spec,
    /// The capabilities that a process in it may have at most.
    pub capabilities: &'a [Capability],
    /// The list that pins the mounts of its steps that have ended.
    pub pinned_mounts: &'a Arc<PinnedMounts>,
}

/// The facts about a container that are known before its root is mounted.
#[derive(Debug)]
pub struct Preparation<'a> {
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
    /// Starts the process that will open a container, so that this process gets ready meanwhile.
    ///
    /// # Errors
    /// [`RuntimeError::Spawn`], [`RuntimeError::Talk`].
    pub fn start_helper(&self, preparation: Preparation<'_>) -> Result<Helper, RuntimeError> {
        match self {
            Self::Embedded => embedded::start_helper(preparation),
            Self::External(_) => Helper::start(external::HELPER_ARGUMENT),
        }
    }

    /// Opens a container, with a helper of this runtime.
    ///
    /// # Errors
    /// See [`RuntimeError`]; [`RuntimeError::Create`] has the runtime's own message.
    pub fn open(&self, helper: Helper, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
        match self {
            Self::Embedded => embedded::open(helper, bundle),
            Self::External(runtime) => external::open(helper, runtime, bundle),
        }
    }

    /// Returns the number of processes in a container that belong to no step.
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
    /// The process called exit(2).
    Exited {
        /// The code, 0 to 255.
        code: i32,
    },
    /// A signal ended the process.
    Signaled {
        /// The signal's number, see signal(7).
        signal: i32,
    },
    /// The process could not be started.
    NotStarted {
        /// The reason, as it fits after "cannot start: ".
        why: String,
        /// 126 where the command cannot be executed, 127 where it does not exist, 125 for anything else, as with Docker.
        code: i32,
    },
}

impl Outcome {
    /// Returns the exit code as a shell reports it: 128 plus the signal's number after a signal.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited { code } | Self::NotStarted { code, .. } => *code,
            Self::Signaled { signal } => 128 + signal,
        }
    }

    /// Returns whether the process succeeded.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}

/// The end of a process in a container: its outcome, and the circumstances that an outcome does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEnd {
    /// How the process ended.
    pub outcome: Outcome,
    /// While it ran, the kernel killed it, or another process of its container, because memory ran out.
    pub out_of_memory: bool,
    /// While it ran, a limit on processes refused a new one to it, or to another process of its container.
    pub processes_refused: bool,
    /// Why a limit or a mount that the manifest requests was not in force until its end.
    pub lost: Option<String>,
}

impl From<Outcome> for ProcessEnd {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, out_of_memory: false, processes_refused: false, lost: None }
    }
}

/// The exit code of a step that could not be started for another reason than its command, as with Docker.
pub const CANNOT_START: i32 = 125;

/// Returns the outcome of a command that cannot be executed, for the kernel's reason; `None` means that no such command exists.
fn not_executed(name: &str, error: Option<&str>) -> Outcome {
    let Some(error) = error else {
        let why = format!("{name} does not exist, or is not in PATH, or its interpreter does not exist");
        return Outcome::NotStarted { why, code: 127 };
    };
    let mut letters = error.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let error: String = first.into_iter().chain(letters).collect();
    Outcome::NotStarted { why: format!("{name} cannot be executed: {error}"), code: 126 }
}

/// Waits for the end of a child, and returns how it ended.
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
