//! Bundles that are kept for people to look at, or to run by hand: `--bundle-dir`.
//!
//! ```text
//! DIR/CONTAINER/config.json    with the process that was started last
//! DIR/CONTAINER/rootfs         empty: mount the root there, then `runc run --bundle DIR/CONTAINER NAME`
//! ```

use std::ffi::OsStr;
use std::io;

use oci_spec::runtime::{Process, Spec};

use crate::error::context;
use crate::fs::atomic;
use crate::fs::dirfd::Dir;
use crate::runtime::spec::HostDevice;

/// Where the root goes, seen from the bundle.
pub const ROOTFS: &str = "rootfs";

/// A config.json that does not depend on what a session makes: all devices are the runtime's to make, and the cgroup is
/// named by it.
pub fn by_hand(mut spec: Spec, devices: &[HostDevice]) -> Spec {
    if let Some(linux) = spec.linux_mut() {
        linux.set_devices(Some(devices.iter().map(|device| device.node.clone()).collect()));
        linux.set_cgroups_path(None);
    }
    spec
}

/// Writes the bundle, in place of an older one.
///
/// # Errors
/// With its name, where it cannot be written to.
pub fn write(bundles: &Dir, name: &str, spec: &Spec, process: &Process) -> io::Result<()> {
    let mut process = process.clone();
    // What has a terminal here would want a socket to hand it over on there.
    process.set_terminal(Some(false));
    process.set_console_size(None);
    let mut spec = spec.clone();
    spec.set_process(Some(process));
    let write = || {
        let dir = bundles.create(OsStr::new(name), 0o700)?;
        dir.create(OsStr::new(ROOTFS), 0o700)?;
        // A path is all that can be wrong with it.
        let config = serde_json::to_vec_pretty(&spec).map_err(|_| {
            io::Error::other("a host path in its config.json is not UTF-8, as JSON must be; leave `--bundle-dir` out")
        })?;
        // Two steps may start at once: whole, whichever comes last.
        let permissions = atomic::Permissions::Exactly(0o600);
        atomic::replace(dir, OsStr::new("config.json"), &config, permissions)
    };
    write().map_err(context::<io::Error>(format_args!("keep the bundle of {name}")))
}
