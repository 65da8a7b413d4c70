//! The mounts of a step's container that others can take away, looked at once more when the step has ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, statx};

use crate::fs::in_root;
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
        Ok(watched)
    }

    /// Says which mount is no longer where it was.
    pub fn lost(&self) -> Option<String> {
        let gone = self.mounts.iter().find(|(target, number)| self.number(target) != Some(*number))?;
        Some(lost_mount::words(&gone.0))
    }

    /// The number of the mount that is mounted there.
    fn number(&self, target: &Path) -> Option<u64> {
        let place = in_root::open(self.root.as_fd(), target, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        let found = statx(&place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT).then_some(found.stx_mnt_id)
    }
}
