//! A step's `/dev`, which a later step of the container gets once more if it is as it was made.
//!
//! To make a filesystem with some twenty files takes longer than many a step. A `/dev` is in one step at a time; init holds
//! on to it by a mount that is attached nowhere, and looks at its files when the step has ended.

use crate::janitor::Janitor;
use crate::sys::{self, Result};
use crate::wire::{View, ViewMount};

/// A `/dev` with the filesystems that are mounted in it.
#[derive(Clone, Copy)]
pub struct Dev {
    /// Its mount, attached nowhere.
    pub tree: i32,
    /// Its [`digest`] as it was made.
    pub made: u64,
    /// Whether each change since its step began is seen, so that a later one may have it: of changes of a file within one tick of
    /// the kernel's clock, the second one is not.
    pub is_settled: bool,
}

/// The most of them that wait for a step.
const MOST: usize = 8;

/// Those that wait for a step.
pub struct Pool {
    all: [Dev; MOST],
    count: usize,
}

impl Pool {
    pub const fn new() -> Self {
        Self { all: [Dev { tree: -1, made: 0, is_settled: false }; MOST], count: 0 }
    }

    pub fn take(&mut self) -> Option<Dev> {
        self.count = self.count.checked_sub(1)?;
        Some(self.all[self.count])
    }

    /// Takes one that was in no step. To take down one too many is slow, as it is for the mounts of a step.
    pub fn put(&mut self, dev: Dev, janitor: &Janitor) {
        match self.all.get_mut(self.count) {
            Some(place) => {
                *place = dev;
                self.count += 1;
            }
            None => janitor.take(dev.tree),
        }
    }

    /// Takes one of a step that has ended, unless that has changed it, or may have without a trace. Returns whether it did.
    pub fn put_back(&mut self, dev: Dev, view: &View<'_>, janitor: &Janitor) -> bool {
        let is_as_made = digest(dev.tree, view).is_ok_and(|found| found.digest == dev.made);
        if is_as_made && dev.is_settled {
            self.put(dev, janitor);
        } else {
            janitor.take(dev.tree);
        }
        !is_as_made
    }
}

/// All its files in one number, and the time of the last change of one.
#[derive(Clone, Copy)]
pub struct Digest {
    pub digest: u64,
    pub changed: sys::Time,
}

/// Looks at each file of a `/dev` by its number and the time of its last change. Each change of a file, its attributes among
/// them, changes that time, and so does each entry of a directory that comes or goes; nobody can set it. It has no mount point
/// beyond [`View::dev_entries`].
///
/// # Errors
/// Where a file is gone.
pub fn digest(dev: i32, view: &View<'_>) -> Result<Digest> {
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
    for mount in view.mounts().take(view.dev_entries) {
        match mount {
            ViewMount::Directory(path) | ViewMount::Node { path, .. } | ViewMount::Link { path, .. } => add(path)?,
            ViewMount::Fresh { target, .. } if root.is_empty() => {
                root = target.strip_suffix(b"\0").ok_or(sys::EINVAL)?;
                add(b"\0")?;
            }
            ViewMount::Fresh { kind, target, .. } => {
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
