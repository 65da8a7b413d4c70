//! Makes a cgroup namespace for a helper that calls a runtime: the runtime sees its groups as the roots of all hierarchies.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::error::CgroupError;
use super::group_set::GroupSet;
use super::layout::Layout;

/// Moves this process into a cgroup namespace whose roots are `groups`, and then into a leaf of them called `leaf`. Mounts
/// each mounted hierarchy again as that namespace shows it, in a mount namespace of this process' own.
///
/// # Errors
/// [`CgroupError`], with those of unshare(2) and mount(2).
pub fn enter(groups: &GroupSet, leaf: &str) -> Result<(), CgroupError> {
    groups.join()?;
    unshare(CloneFlags::CLONE_NEWCGROUP).map_err(|error| CgroupError::Read(error.into()))?;
    groups.create(leaf)?.join()?;
    // A mount that was made in another cgroup namespace shows another part of its hierarchy, and a runtime would find the host's
    // groups there.
    let layout = Layout::of_this_host().map_err(CgroupError::Read)?;
    let mounts: Vec<_> = layout.mounts().collect();
    for (_, point) in mounts.iter().rev() {
        match unmount(*point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It was unmounted together with the mount above it.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(source) => return Err(CgroupError::Mount { point: (*point).to_owned(), source: source.into() }),
        }
    }
    for (controllers, point) in mounts {
        match mount_anew(controllers, point) {
            Ok(()) | Err(Errno::BUSY | Errno::NOENT) => {}
            Err(source) => return Err(CgroupError::Mount { point: point.to_owned(), source: source.into() }),
        }
    }
    Ok(())
}

/// Mounts a hierarchy again. Fails with `EBUSY` where the same one is mounted there already, because it was mounted several times.
fn mount_anew(controllers: &[String], point: &Path) -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if controllers.is_empty() {
        return mount("cgroup2", point, "cgroup2", flags, None);
    }
    let mut options = controllers.join(",");
    if controllers.iter().all(|controller| controller.starts_with("name=")) {
        options.insert_str(0, "none,");
    }
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("cgroup", point, "cgroup", flags, Some(options.as_c_str()))
}
