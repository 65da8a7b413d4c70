//! The embedded runtime: one container a session, made by descriptors alone, whose init starts a step at each request.
//!
//! A helper, `runner __session`, clones the container's first process, puts it into its cgroups, and waits for its end.
//! The first process builds the container (`setup`), and becomes init: a program without libc, started from sealed
//! memory (`src/init`). When runner goes away, however it does, the socket of requests closes, init ends, and with it its
//! PID namespace and all in it.
//!
//! ```text
//! runner ──spawns──▶ helper (one thread) ──clone3──▶ setup ──execve──▶ init ──clone3──▶ spare ──▶ step
//!    └───────────────────────────── socket: request + stdio + status socket ───────────────▲
//! ```

mod cgroup_mounts;
mod filter;
pub mod helper;
mod nodes;
mod request;
mod setup;
mod view;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

pub use helper::INIT;
use oci_spec::runtime::{Capability, LinuxResources, LinuxSeccomp, Spec};
pub use request::{Requests, Started};
use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Deserialize, Serialize};

use super::container::{Channel, Container, Helper, RuntimeError};
use super::status;
use super::watch::Watch;
use super::{Ahead, Bundle};

/// The argument that makes runner a helper.
pub const HELPER_ARGUMENT: &str = "__session";

/// The processes of a session that are no step's: init, its spare and its janitor.
pub const OWN_PROCESSES: u64 = 3;

/// The first message to the helper: make for a container all that needs no root, while that is being mounted.
#[derive(Debug, Serialize, Deserialize)]
struct Prepare {
    /// The container's id.
    id: String,
    /// Its limits and device rules.
    resources: LinuxResources,
    /// Whether what runs in it may make device nodes.
    makes_nodes: bool,
    /// Whether it has a network namespace of its own.
    own_network: bool,
}

/// The second message: open the container. Beside it are the socket that its init takes requests from, and the plan of
/// every step's view.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    /// Its config.json, but for the process.
    spec: Spec,
}

/// Starts a helper, which makes the container's groups and namespaces at once.
///
/// # Errors
/// [`RuntimeError::Spawn`], [`RuntimeError::Talk`].
pub(super) fn helper(ahead: Ahead<'_>) -> Result<Helper, RuntimeError> {
    let Ahead { id, resources, capabilities, own_network } = ahead;
    let makes_nodes = capabilities.contains(&Capability::Mknod);
    let prepare = Prepare { id: id.to_owned(), resources, makes_nodes, own_network };
    let helper = Helper::start(HELPER_ARGUMENT)?;
    match helper.send(&prepare) {
        // A helper that has ended already is found, with its last words, when it is to open the container.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(RuntimeError::Talk(error)),
        _ => Ok(helper),
    }
}

/// Compiles the seccomp filter of a container that is to be opened soon. A failure is reported when it is opened.
pub fn compile_ahead(rules: &LinuxSeccomp) {
    drop(filter::compiled(rules));
}

/// Creates the container that the bundle describes.
///
/// # Errors
/// See [`RuntimeError`]; [`RuntimeError::Create`] says which call failed.
pub(super) fn open(helper: Helper, bundle: Bundle<'_>) -> Result<Container, RuntimeError> {
    let Bundle { id, spec, capabilities, held_mounts, .. } = bundle;
    let (requests, for_init) = status::pair().map_err(RuntimeError::Spawn)?;
    let bounding = request::bits(capabilities.iter());
    let described = || -> io::Result<_> {
        let filter = filter::of(spec)?;
        let view = sealed("view", &view::encode(spec, &filter, bounding)?)?;
        Ok((view, view::targets(spec, view::may_unmount(&filter, bounding))?, filter.refused))
    };
    let (view, targets, refused) = described().map_err(|error| RuntimeError::Create(error.to_string()))?;
    let open = Open { spec: for_helper(spec) };
    let requests = Requests::new(requests, targets, refused);
    let channel = |helper| Channel::Embedded { requests, helper };
    let watch = Some(Watch::new(id, spec));
    let container = Container::open(helper, &open, &[for_init.as_fd(), view.as_fd()], channel, watch, held_mounts)?;
    // From here on only init holds that end: it closes with init, and init ends when runner's end closes.
    drop(for_init);
    Ok(container)
}

/// A description without the hundreds of rules that are compiled already.
fn for_helper(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(None);
    }
    spec
}

/// Bytes as a file in memory that nobody can change.
fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&memory, rest)?..];
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}
