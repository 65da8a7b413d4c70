//! The container's mounts that others can take away, looked at before each step and after it.
//!
//! When a directory on which something is mounted is removed or renamed where nothing is mounted on it, the kernel takes
//! the mount away, or moves it along, in every mount namespace. A step of another container can do so below a bind or a
//! cache that both containers have.

use crate::ROOT;
use crate::sys::{self, AT_FDCWD, Errno, O_DIRECTORY, O_PATH, Result};
use crate::wire::{View, ViewMount};

/// The mounts, and [`ROOT`] where there are any.
#[derive(Clone, Copy)]
pub struct Watched {
    /// Their numbers in init's own namespace, which nothing else changes; 0 for one that was gone at the start.
    numbers: &'static [usize],
    /// Why they could not be noted. No step starts then.
    failed: Option<Errno>,
}

impl Watched {
    /// Notes the mounts.
    pub fn note(view: &View<'_>) -> Self {
        match Self::numbers(view) {
            Ok(numbers) => Self { numbers, failed: None },
            Err(error) => Self { numbers: &[], failed: Some(error) },
        }
    }

    /// Has [`ROOT`] lead to init's own namespace, for spares too, where there is anything to watch.
    fn numbers(view: &View<'_>) -> Result<&'static [usize]> {
        let count = targets(view).count();
        if count == 0 {
            return Ok(&[]);
        }
        let numbers = sys::map_words(count)?;
        let root = sys::open(AT_FDCWD, b"/\0", O_PATH | O_DIRECTORY)?;
        sys::duplicate(root, ROOT, true)?;
        if root != ROOT {
            sys::close(root);
        }
        for (number, (_, target)) in numbers.iter_mut().zip(targets(view)) {
            *number =
                sys::mount_at(ROOT, target).ok().filter(|mount| mount.is_top).map_or(0, |mount| mount.number as usize);
        }
        Ok(numbers)
    }

    /// Returns the first descriptor beyond those that a spare keeps.
    pub fn end(&self) -> i32 {
        if self.numbers.is_empty() { ROOT } else { ROOT + 1 }
    }

    /// Returns why the mounts could not be noted.
    pub fn failed(&self) -> Option<Errno> {
        self.failed
    }

    /// Returns the place in the view of the first one that is no longer where it was, with why.
    pub fn lost(&self, view: &View<'_>) -> Option<(u64, Errno)> {
        self.numbers.iter().zip(targets(view)).find_map(|(number, (index, target))| {
            let error = match sys::mount_at(ROOT, target) {
                Ok(found) if found.number == *number as u64 => return None,
                Ok(_) => sys::ENOENT,
                Err(error) => error,
            };
            Some((index, error))
        })
    }
}

/// Returns the place of each in the view, and its path from the root.
fn targets<'a>(view: &View<'a>) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
    view.mounts().enumerate().filter_map(|(index, mount)| match mount {
        // As a path from a directory that is open.
        ViewMount::Watched(target) => Some((index as u64, target.strip_prefix(b"/").unwrap_or(target))),
        _ => None,
    })
}
