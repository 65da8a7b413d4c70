//! Reuses a step's `/dev` in a later step of the container, if no step has changed it.
//!
//! To make a filesystem with some twenty files takes longer than many a step. A `/dev` belongs to one step at a time; init has a
//! detached mount of it open, and checks its files when the step has ended.

use crate::janitor::Janitor;
use crate::sys::{self, Result};
use crate::wire::{MountEntry, StepSetup};

/// A `/dev` with the filesystems that are mounted in it.
#[derive(Clone, Copy)]
pub struct Dev {
    /// Its detached mount.
    pub tree: i32,
    /// Its [`digest`] when it was made.
    pub made: u64,
    /// Whether each change since its step began is detected, so that a later step may reuse it: of two changes of a file within one
    /// tick of the kernel's clock, the second one is not.
    pub is_settled: bool,
}

/// The most of them that wait for a step.
const MAX_POOL: usize = 8;

/// The ones that wait for a step.
pub struct Pool {
    all: [Dev; MAX_POOL],
    count: usize,
}

impl Pool {
    pub const fn new() -> Self {
        Self { all: [Dev { tree: -1, made: 0, is_settled: false }; MAX_POOL], count: 0 }
    }

    pub fn take(&mut self) -> Option<Dev> {
        self.count = self.count.checked_sub(1)?;
        Some(self.all[self.count])
    }

    /// Adds one that was in no step. The janitor unmounts one that does not fit, because that is slow, as for the mounts of a step.
    pub fn put(&mut self, dev: Dev, janitor: &Janitor) {
        match self.all.get_mut(self.count) {
            Some(place) => {
                *place = dev;
                self.count += 1;
            }
            None => janitor.take(dev.tree),
        }
    }

    /// Adds one of a step that has ended, unless the step has changed it, or may have done so undetected. Returns whether the step
    /// has changed it.
    pub fn put_back(&mut self, dev: Dev, setup: &StepSetup<'_>, janitor: &Janitor) -> bool {
        let is_as_made = digest(dev.tree, setup).is_ok_and(|now| now.digest == dev.made);
        if is_as_made && dev.is_settled {
            self.put(dev, janitor);
        } else {
            janitor.take(dev.tree);
        }
        !is_as_made
    }
}

/// A number for the state of all files of a `/dev`, and the time of the last change of any.
#[derive(Clone, Copy)]
pub struct Digest {
    pub digest: u64,
    pub changed: sys::Time,
}

/// Digests each file of a `/dev` by its inode number and the time of its last change. Each change of a file, also of its
/// attributes, updates that time, and so does each new or removed entry of a directory; no process can set it. A `/dev` has no
/// mount point beyond [`StepSetup::dev_entries`].
///
/// # Errors
/// Where a file was removed.
pub fn digest(dev: i32, setup: &StepSetup<'_>) -> Result<Digest> {
    let mut all = Digest { digest: 0, changed: sys::Time::FIRST };
    let mut add = |path: &[u8]| -> Result<()> {
        let file = sys::change_of(dev, path)?;
        for word in [file.number, file.changed.seconds.cast_unsigned(), u64::from(file.changed.nanoseconds)] {
            // The multiplier is odd and has no pattern, so that a change in any bit changes many.
            all.digest = (all.digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        all.changed = all.changed.max(file.changed);
        Ok(())
    };
    let mut root: &[u8] = b"";
    for mount in setup.mounts().take(setup.dev_entries) {
        match mount {
            MountEntry::Directory(path) | MountEntry::Node { path, .. } | MountEntry::Link { path, .. } => add(path)?,
            MountEntry::Fresh { target, .. } if root.is_empty() => {
                root = target.strip_suffix(b"\0").ok_or(sys::EINVAL)?;
                add(b"\0")?;
            }
            MountEntry::Fresh { kind, target, .. } => {
                let path = target.strip_prefix(root).and_then(|path| path.strip_prefix(b"/")).ok_or(sys::EINVAL)?;
                add(path)?;
                if (kind, path) == (b"devpts\0", b"pts\0") {
                    add(b"pts/ptmx\0")?;
                }
            }
            _ => return Err(sys::EINVAL),
        }
    }
    Ok(all)
}
