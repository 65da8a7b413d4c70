//! The mounts of a step's container that others can take away, looked at once more when the step has ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::shared::Shared;
use crate::fs::in_root::open_beneath;
use crate::runtime::lost_mount::{self, mounts_at_risk};

/// The mounts, with their numbers, below the root of the container's own mount namespace.
pub struct Watched {
    root: OwnedFd,
    mounts: Vec<(PathBuf, u64)>,
}

impl Watched {
    /// Notes the mounts of a container whose first process has that number.
    ///
    /// # Errors
    /// In words, where one is gone already.
    pub fn note(pid: i32, spec: &Spec) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        let mut watched = Self { root, mounts: Vec::new() };
        // A step that unmounts and removes changes its own mounts alone: the next one mounts all anew.
        for mount in mounts_at_risk(spec, false) {
            let target = mount.destination();
            let number = watched.number(target).ok_or_else(|| io::Error::other(lost_mount::words(target)))?;
            watched.mounts.push((target.clone(), number));
        }
        if !watched.is_protected(spec) {
            let error =
                "a step has moved a /proc or /sys of it away while that was set up; mount it in no bind or cache";
            return Err(io::Error::other(error));
        }
        Ok(watched)
    }

    /// Says which mount is no longer where it was. One that the helper still sees in its place was unmounted by the step
    /// itself, in its own namespace: the next step has it. A place that is removed or renamed takes it from both.
    pub fn lost(&self, shared: &Shared) -> Option<String> {
        let is_gone = |target: &Path, number| self.number(target) != Some(number) && !shared.is_in_place(target);
        let gone = self.mounts.iter().find(|(target, number)| is_gone(target, *number))?;
        Some(lost_mount::words(&gone.0))
    }

    /// The number of the mount that is mounted there.
    fn number(&self, target: &Path) -> Option<u64> {
        let target = target.strip_prefix("/").unwrap_or(target);
        let place = open_beneath(self.root.as_fd(), target, OFlags::PATH).ok()?;
        mounted_at(place.as_fd())
    }

    /// Returns whether each path that is to be hidden or read-only in one of the mounts is so.
    fn is_protected(&self, spec: &Spec) -> bool {
        let linux = spec.linux().as_ref();
        let hidden = linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten();
        let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten();
        let in_one = |path: &&Path| self.mounts.iter().any(|(target, _)| path.starts_with(target));
        hidden.chain(read_only).map(Path::new).filter(in_one).all(|path| {
            let path = path.strip_prefix("/").unwrap_or(path);
            match open_beneath(self.root.as_fd(), path, OFlags::PATH) {
                Ok(place) => mounted_at(place.as_fd()).is_some(),
                // This kernel does not have it.
                Err(error) => error == Errno::NOENT,
            }
        })
    }
}

/// Returns the number of the mount that is mounted at what is open.
pub fn mounted_at(place: BorrowedFd<'_>) -> Option<u64> {
    let found = statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT).then_some(found.stx_mnt_id)
}
