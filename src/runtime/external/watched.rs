//! Checks, when a step has ended, that no other step has taken mounts of its container away.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::shared::SharedBinds;
use crate::fs::in_root::open_beneath;
use crate::runtime::lost_mount::{self, mounts_at_risk};

/// The watched mounts, with their ids, below the root of the container's own mount namespace.
pub struct WatchedMounts {
    root: OwnedFd,
    mounts: Vec<(PathBuf, u64)>,
}

impl WatchedMounts {
    /// Records the mounts of a container, by the number of its first process.
    ///
    /// # Errors
    /// With a message, where a mount is lost already.
    pub fn record(pid: i32, spec: &Spec) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        let mut watched = Self { root, mounts: Vec::new() };
        // A step that unmounts changes its own mounts alone, because the next step has new ones.
        for mount in mounts_at_risk(spec, false) {
            let target = mount.destination();
            let id = watched.mount_id(target).ok_or_else(|| io::Error::other(lost_mount::message(target)))?;
            watched.mounts.push((target.clone(), id));
        }
        if !watched.is_protected(spec) {
            let error = "another step has moved its /proc or /sys away while the runtime set that up; do not mount it in \
                                     a bind or cache";
            return Err(io::Error::other(error));
        }
        Ok(watched)
    }

    /// Returns the message for a mount that is no longer at its target. If the helper still sees the mount there, the step itself
    /// has unmounted it in its own namespace, and the next step has it. Removing or renaming a mount point affects both.
    pub fn lost(&self, shared: &SharedBinds) -> Option<String> {
        let is_lost = |target: &Path, id| self.mount_id(target) != Some(id) && !shared.is_in_place(target);
        let lost = self.mounts.iter().find(|(target, id)| is_lost(target, *id))?;
        Some(lost_mount::message(&lost.0))
    }

    /// Returns the id of the mount at a target.
    fn mount_id(&self, target: &Path) -> Option<u64> {
        let target = target.strip_prefix("/").unwrap_or(target);
        let place = open_beneath(self.root.as_fd(), target, OFlags::PATH).ok()?;
        mounted_at(place.as_fd())
    }

    /// Returns whether each masked or read-only path in one of the mounts is really protected.
    fn is_protected(&self, spec: &Spec) -> bool {
        let linux = spec.linux().as_ref();
        let hidden = linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten();
        let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten();
        let in_one = |path: &&Path| self.mounts.iter().any(|(target, _)| path.starts_with(target));
        hidden.chain(read_only).map(Path::new).filter(in_one).all(|path| {
            let path = path.strip_prefix("/").unwrap_or(path);
            match open_beneath(self.root.as_fd(), path, OFlags::PATH) {
                Ok(place) => mounted_at(place.as_fd()).is_some(),
                // This kernel does not have the path.
                Err(error) => error == Errno::NOENT,
            }
        })
    }
}

/// Returns the id of the mount whose root is open as `place`.
pub fn mounted_at(place: BorrowedFd<'_>) -> Option<u64> {
    let status = statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT).then_some(status.stx_mnt_id)
}
