//! External runtimes: a program with runc's command line, called for each step.
//!
//! A helper, `runner __external`, is the first process of a PID namespace of its own, with its own `/proc`. All that the
//! runtime starts is below it, and containers whose runtime has ended become its children: so it sees how each really
//! ended, and when it ends, with runner or however else, the kernel kills everything in there.
//!
//! For each step it makes cgroups and writes a bundle, calls `create`, takes from the device rules what only the runtime
//! needed, calls `start`, and when the container's first process has ended, `delete`. That is what `run` does, in three:
//! runc before 1.2 opens /dev/net/tun to every container, and what a runtime does about rules that it cannot set is its
//! own affair.
//!
//! ```text
//! runner ──spawns──▶ watcher ──clone3──▶ helper (PID 1) ──▶ RUNTIME create, start, delete
//!    └───────────── socket: Open, Opened, Start + stdio + status socket ──▶ helper ──▶ a container a step
//! ```

mod child;
mod console;
mod ending;
mod folder;
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

use std::path::PathBuf;
use std::sync::Mutex;

use oci_spec::runtime::{Capability, Spec};
pub use program::{FindError, Program};
use serde::{Deserialize, Serialize};

use super::Bundle;
use super::container::{Channel, Container, Helper, RuntimeError};

/// Where a session has the program that is to be the first process of steps, inside.
pub const INIT_PATH: &str = "/dev/runner-init";

/// The argument that makes runner a helper.
pub const HELPER_ARGUMENT: &str = "__external";

/// The first message to the helper.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    /// The runtime's program.
    runtime: PathBuf,
    /// What the ids of the steps' containers begin with.
    id: String,
    /// Where the steps' bundles go.
    folder: PathBuf,
    /// Where the runtime keeps its state.
    state: PathBuf,
    /// Where the mounts of all sessions are.
    workspace: PathBuf,
    /// Those of them that this session needs lie in these.
    kept: Vec<PathBuf>,
    /// The config.json of every step but for its process, id and terminal.
    spec: Spec,
    /// Whether what runs in it may make device nodes.
    makes_nodes: bool,
}

/// Starts a helper that runs each step in a container of its own.
///
/// # Errors
/// See [`RuntimeError`].
pub(super) fn open(helper: Helper, runtime: &Program, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
    let open = Open {
        runtime: runtime.path().to_owned(),
        id: bundle.id.to_owned(),
        folder: bundle.folder.to_owned(),
        state: bundle.state.to_owned(),
        workspace: bundle.workspace.to_owned(),
        kept: vec![bundle.folder.to_owned(), bundle.mounts.to_owned(), bundle.state.to_owned()],
        spec: bundle.spec.clone(),
        makes_nodes: bundle.capabilities.contains(&Capability::Mknod),
    };
    Container::open(helper, &open, &[], |control| Channel::External(Mutex::new(control)), None, bundle.held_mounts)
}
