//! The embedded runtime: makes one container for each session, by descriptors alone, whose init starts a step at each request.
//!
//! A helper, `runner __session`, clones the container's first process, puts it into its cgroups, and waits for its end.
//! The first process builds the container (`setup`), and becomes init: a program without libc, started from sealed
//! memory (`src/init`). When runner ends for any reason, the socket of requests closes, init ends, and with it all processes
//! of its PID namespace.
//!
//! ```text
//! runner ──spawns──▶ helper (one thread) ──clone3──▶ setup ──execve──▶ init ──clone3──▶ preforked process ──▶ step
//!    └───────────────────────────── socket: request + stdio + status socket ─────────────────────▲
//! ```

mod cgroup_mounts;
mod filter;
pub mod helper;
mod nodes;
mod request;
mod setup;
mod started_step;
mod step_setup;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

pub use helper::INIT;
use oci_spec::runtime::{Capability, LinuxResources, LinuxSeccomp, Spec};
pub use request::RequestSocket;
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};
pub use started_step::StartedStep;

use super::container::{Channel, Container, Helper, RuntimeError};
use super::status;
use super::watch::Watch;
use super::{Bundle, Preparation};

/// The argument that makes runner a helper.
pub const HELPER_ARGUMENT: &str = "__session";

/// The number of processes of a session that belong to no step: init, its preforked process and its janitor.
pub const OWN_PROCESSES: u64 = 3;

/// The first message to the helper: make the parts of a container that need no root, while runner mounts the root.
#[derive(Debug, Serialize, Deserialize)]
struct PrepareRequest {
    /// The container's id.
    id: String,
    /// The container's limits and device rules.
    resources: LinuxResources,
    /// Whether its processes may make device nodes.
    makes_nodes: bool,
    /// Whether it has a network namespace of its own.
    own_network: bool,
}

/// The second message to the helper: open the container. Beside it are the socket from which init receives requests, and the
/// description of every step's own mounts.
#[derive(Debug, Serialize, Deserialize)]
struct OpenRequest {
    /// The container's config.json, without the process.
    spec: Spec,
}

/// Starts a helper, which makes the container's groups and namespaces at once.
///
/// # Errors
/// [`RuntimeError::Spawn`], [`RuntimeError::Talk`].
pub(super) fn start_helper(preparation: Preparation<'_>) -> Result<Helper, RuntimeError> {
    let Preparation { id, resources, capabilities, own_network } = preparation;
    let makes_nodes = capabilities.contains(&Capability::Mknod);
    let prepare = PrepareRequest { id: id.to_owned(), resources, makes_nodes, own_network };
    let helper = Helper::start(HELPER_ARGUMENT)?;
    match helper.send(&prepare) {
        // If the helper has ended already, `open` finds that out, and reports the helper's error message.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RuntimeError::Talk(error)),
        _ => Ok(helper),
    }
}

/// Compiles the seccomp filter of a container that will be opened soon; to open the container then reports a failure.
pub fn compile_ahead(rules: &LinuxSeccomp) {
    drop(filter::compiled(rules));
}

/// Creates the container that the bundle describes.
///
/// # Errors
/// See [`RuntimeError`]; [`RuntimeError::Create`] says which call failed.
pub(super) fn open(helper: Helper, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
    let Bundle { id, spec, capabilities, pinned_mounts, .. } = bundle;
    let (requests, for_init) = status::pair().map_err(RuntimeError::Spawn)?;
    let bounding = request::bits(capabilities.iter());
    let described = || -> io::Result<_> {
        let filter = filter::of(spec)?;
        let setup = sealed("step-setup", &step_setup::encode(spec, &filter, bounding)?)?;
        Ok((setup, step_setup::targets(spec, step_setup::may_unmount(&filter, bounding))?, filter.refused))
    };
    let (setup, targets, refused) = described().map_err(|error| RuntimeError::Create(error.to_string()))?;
    let open = OpenRequest { spec: for_helper(spec) };
    let requests = RequestSocket::new(requests, targets, refused);
    let channel = |helper| Channel::Embedded { requests, helper };
    let watch = Some(Watch::new(id, spec));
    let container = Container::open(helper, &open, &[for_init.as_fd(), setup.as_fd()], channel, watch, pinned_mounts)?;
    // From here on init alone has that end open: it closes with init, and init ends when runner's end closes.
    drop(for_init);
    Ok(container)
}

/// Returns a config.json without the hundreds of seccomp rules, which are compiled already.
fn for_helper(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(None);
    }
    spec
}

/// Returns bytes as a file in memory that cannot be changed.
fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut unwritten = bytes;
    while !unwritten.is_empty() {
        unwritten = &unwritten[rustix::io::write(&memory, unwritten)?..];
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}
