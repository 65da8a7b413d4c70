//! Checks, before and after each step, the container's mounts that others can take away.
//!
//! A mount point can be removed or renamed by a process in whose mount namespace nothing is mounted on it. The kernel then takes
//! the mount away, or moves it along, in every mount namespace. A step of another container can do so below a bind or a
//! cache that both containers have.

use crate::ROOT;
use crate::sys::{self, AT_FDCWD, Errno, O_DIRECTORY, O_PATH, Result};
use crate::wire::{MountEntry, StepSetup};

/// The watched mounts. [`ROOT`] is open where there are any.
#[derive(Clone, Copy)]
pub struct WatchedMounts {
    /// Their ids in init's own namespace, which no other process changes; 0 for one that was lost at the start.
    ids: &'static [usize],
    /// Why they could not be recorded. Then no step starts.
    error: Option<Errno>,
}

impl WatchedMounts {
    /// Records the mounts.
    pub fn record(setup: &StepSetup<'_>) -> Self {
        match Self::ids(setup) {
            Ok(ids) => Self { ids, error: None },
            Err(error) => Self { ids: &[], error: Some(error) },
        }
    }

    /// Returns the ids. Where there are mounts to watch, it opens [`ROOT`] in init's own namespace, for preforked processes too.
    fn ids(setup: &StepSetup<'_>) -> Result<&'static [usize]> {
        let count = targets(setup).count();
        if count == 0 {
            return Ok(&[]);
        }
        let ids = sys::map_words(count)?;
        let root = sys::open(AT_FDCWD, b"/\0", O_PATH | O_DIRECTORY)?;
        sys::duplicate(root, ROOT, true)?;
        if root != ROOT {
            sys::close(root);
        }
        for (id, (_, target)) in ids.iter_mut().zip(targets(setup)) {
            *id = sys::mount_at(ROOT, target).ok().filter(|mount| mount.is_top).map_or(0, |mount| mount.id as usize);
        }
        Ok(ids)
    }

    /// Returns the first descriptor after those that stay open in a preforked process.
    pub fn end(&self) -> i32 {
        if self.ids.is_empty() { ROOT } else { ROOT + 1 }
    }

    /// Returns why the mounts could not be recorded.
    pub fn error(&self) -> Option<Errno> {
        self.error
    }

    /// Returns the index among the step's mounts of the first one that is no longer at its target, with the error.
    pub fn lost(&self, setup: &StepSetup<'_>) -> Option<(u64, Errno)> {
        self.ids.iter().zip(targets(setup)).find_map(|(id, (index, target))| {
            let error = match sys::mount_at(ROOT, target) {
                Ok(mount) if mount.id == *id as u64 => return None,
                Ok(_) => sys::ENOENT,
                Err(error) => error,
            };
            Some((index, error))
        })
    }
}

/// Returns the index of each among the step's mounts, and its path from the root.
fn targets<'a>(setup: &StepSetup<'a>) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
    setup.mounts().enumerate().filter_map(|(index, mount)| match mount {
        // Relative, because the path begins at an open directory.
        MountEntry::Watched(target) => Some((index as u64, target.strip_prefix(b"/").unwrap_or(target))),
        _ => None,
    })
}
