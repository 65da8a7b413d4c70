//! The embedded runtime: one libcontainer container a session, whose init starts a step at each request.
//!
//! libcontainer clones raw and changes the calling process, so it is only called in a helper, `runner __session`. The
//! helper creates the container and waits for its end; the container's init serves requests on a socket that it
//! inherits. When runner goes away, however it does, the socket closes, init ends, and with it its PID namespace and
//! all in it.
//!
//! ```text
//! runner ──spawns──▶ helper (one thread) ──libcontainer──▶ init ──clone3──▶ step (PID 1 of its own namespace)
//!    └───────────── socket: Open, Opened, Start + stdio + status socket ──▶ init
//! ```

pub mod helper;
mod init;
mod step;
mod terminal;

use std::io;
use std::path::PathBuf;

pub use init::OWN_PROCESSES;
use oci_spec::runtime::{LinuxDeviceCgroup, Mount};
use serde::{Deserialize, Serialize};

use super::container::{Container, RuntimeError};
use super::sealed::SealedProgram;
use super::{Bundle, devices};

/// The argument that makes runner a helper.
pub const HELPER_ARGUMENT: &str = "__session";

/// The first message to the helper: open a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open {
    /// The container's id.
    pub id: String,
    /// The folder with config.json.
    pub bundle: PathBuf,
    /// Where the runtime keeps its state.
    pub state: PathBuf,
    /// The device rules, in order: later ones count.
    pub devices: Vec<LinuxDeviceCgroup>,
    /// Whether what runs in it may make device nodes.
    pub makes_nodes: bool,
    /// Mounts that each step gets anew.
    pub fresh: Vec<Mount>,
    /// Paths to hide in a step's own `/proc`.
    pub masked: Vec<String>,
    /// Paths to make read-only in a step's own `/proc`.
    pub read_only: Vec<String>,
    /// Cgroup mounts to make read-only, with all that is mounted below.
    pub cgroups: Vec<PathBuf>,
}

/// Creates the container that the bundle describes, with its config.json.
///
/// # Errors
/// See [`RuntimeError`]; [`RuntimeError::Create`] has libcontainer's own words.
pub(super) fn open(program: &SealedProgram, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
    let Bundle { id, folder, state, spec, makes_nodes, .. } = bundle;
    // As a whole: written as it is made, it would take a system call for each of its 1700 tokens.
    let config = serde_json::to_vec(spec).map_err(io::Error::other);
    config.and_then(|config| std::fs::write(folder.join("config.json"), config)).map_err(RuntimeError::Write)?;
    let (fresh, masked, read_only) = step::own_view(spec);
    let cgroups = step::read_only_cgroups(spec);
    let open = Open {
        id: id.into(),
        bundle: folder.into(),
        state: state.into(),
        devices: devices::of(spec),
        makes_nodes,
        fresh,
        masked,
        read_only,
        cgroups,
    };
    Container::open(program, HELPER_ARGUMENT, &open, Some(id))
}
