//! External runtimes: calls a program with runc's command line for each step.
//!
//! A helper, `runner __external`, is the first process of a PID namespace of its own, with its own `/proc`. All processes that the
//! runtime starts are in that namespace, and become the helper's children when the runtime has ended. So the helper sees how each
//! container really ended, and when the helper ends for any reason, the kernel kills all of them.
//!
//! For each step the helper makes cgroups and writes a bundle, calls `create`, removes the device rules that only the runtime
//! needed, calls `start`, and when the container's first process has ended, `delete`. The call `run` would do all three at once,
//! but runc before 1.2 opens /dev/net/tun to every container, and runtimes differ in how they treat rules that they cannot set.
//!
//! ```text
//! runner ──spawns──▶ watcher ──clone3──▶ helper (PID 1) ──▶ RUNTIME create, start, delete
//!    └───────────── socket: OpenRequest, OpenReply, StartRequest + stdio + status socket ──▶ helper ──▶ a container a step
//! ```

mod child;
mod console;
mod ending;
mod groups;
pub mod helper;
mod log;
mod own_tmpfs;
mod program;
mod root_devices;
mod serve;
mod shared;
mod step;
mod watched;
mod working_directory;

use std::path::PathBuf;
use std::sync::Mutex;

use oci_spec::runtime::{Capability, Spec};
pub use program::{FindError, Program};
use serde::{Deserialize, Serialize};

use super::Bundle;
use super::container::{Channel, Container, Helper, RuntimeError};

/// The path, inside a container, of the program that becomes the first process of steps with `init: true`.
pub const INIT_PATH: &str = "/dev/runner-init";

/// The argument that makes runner a helper.
pub const HELPER_ARGUMENT: &str = "__external";

/// The first message to the helper.
#[derive(Debug, Serialize, Deserialize)]
struct OpenRequest {
    /// The runtime's program.
    runtime: PathBuf,
    /// The prefix of the ids of the steps' containers.
    id: String,
    /// The directory for the steps' bundles.
    directory: PathBuf,
    /// The directory for the runtime's state.
    state: PathBuf,
    /// The directory with the mounts of all sessions.
    workspace: PathBuf,
    /// The directories below the workspace that contain the mounts of this session.
    own_directories: Vec<PathBuf>,
    /// The config.json of every step, without its process, id and terminal.
    spec: Spec,
    /// Whether processes of the container may make device nodes.
    makes_nodes: bool,
}

/// Starts a helper that runs each step in a container of its own.
///
/// # Errors
/// See [`RuntimeError`].
pub(super) fn open(helper: Helper, runtime: &Program, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
    let open = OpenRequest {
        runtime: runtime.path().to_owned(),
        id: bundle.id.to_owned(),
        directory: bundle.directory.to_owned(),
        state: bundle.state.to_owned(),
        workspace: bundle.workspace.to_owned(),
        own_directories: vec![bundle.directory.to_owned(), bundle.mounts.to_owned(), bundle.state.to_owned()],
        spec: bundle.spec.clone(),
        makes_nodes: bundle.capabilities.contains(&Capability::Mknod),
    };
    Container::open(helper, &open, &[], |control| Channel::External(Mutex::new(control)), None, bundle.pinned_mounts)
}
