//! Writes bundles that users can inspect, or run themselves: `--bundle-dir`.
//!
//! ```text
//! DIR/CONTAINER/config.json    with the last started process
//! DIR/CONTAINER/rootfs         empty: mount the root there, then `runc run --bundle DIR/CONTAINER NAME`
//! ```

use std::ffi::OsStr;
use std::io;

use oci_spec::runtime::{Process, Spec};

use crate::error::context;
use crate::fs::atomic;
use crate::fs::dirfd::Dir;
use crate::runtime::spec::HostDevice;

/// The path of the root, relative to the bundle.
pub const ROOTFS: &str = "rootfs";

/// Returns a config.json that does not depend on the session: the runtime makes all devices, and names the cgroup.
pub fn portable(mut spec: Spec, devices: &[HostDevice]) -> Spec {
    if let Some(linux) = spec.linux_mut() {
        linux.set_devices(Some(devices.iter().map(|device| device.node.clone()).collect()));
        linux.set_cgroups_path(None);
    }
    spec
}

/// Writes the bundle, and replaces an older one.
///
/// # Errors
/// With the bundle's name, where it cannot be written.
pub fn write(bundles: &Dir, name: &str, spec: &Spec, process: &Process) -> io::Result<()> {
    let mut process = process.clone();
    // A process with a terminal would need a socket to which the runtime sends that.
    process.set_terminal(Some(false));
    process.set_console_size(None);
    let mut spec = spec.clone();
    spec.set_process(Some(process));
    let write = || {
        let dir = bundles.create(OsStr::new(name), 0o700, None)?;
        dir.create(OsStr::new(ROOTFS), 0o700, None)?;
        // Only a path in it can make this fail.
        let config = serde_json::to_vec_pretty(&spec).map_err(|_| {
            io::Error::other("a host path in its config.json is not UTF-8, as JSON must be; omit `--bundle-dir`")
        })?;
        // Two steps may start at once: the last one's file is complete.
        let permissions = atomic::Permissions::Exactly(0o600);
        atomic::replace(dir, OsStr::new("config.json"), &config, permissions)
    };
    write().map_err(context::<io::Error>(format_args!("write the bundle of {name}")))
}
