//! Visits each directory of a tree, each before those in it, with a descriptor of it.
//!
//! The tree in memory has the names, in their order, and a second walk opens its files; `fs/walk` would have a copy of them.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::WriteError;
use super::tree::{ROOT, Tree};
use crate::fs::descent::Descent;

/// Something that is readable when all is to end.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a>(BorrowedFd<'a>);

impl<'a> Watch<'a> {
    pub(super) fn new(interrupt: BorrowedFd<'a>) -> Self {
        Self(interrupt)
    }

    /// Returns an error where all is to end.
    ///
    /// # Errors
    /// [`WriteError::Interrupted`].
    pub(super) fn check(self) -> Result<(), WriteError> {
        let mut fds = [PollFd::from_borrowed_fd(self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(ready) if ready > 0 => Err(WriteError::Interrupted),
            // A signal comes with a byte that is read next time.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Calls `visit` for each directory below `top`, the root first. The call may add entries to the tree of `state`.
///
/// # Errors
/// Those of `visit`; what the system says, with the path.
pub(super) fn walk<S>(
    top: BorrowedFd<'_>,
    state: &mut S,
    tree: impl Fn(&S) -> &Tree,
    mut visit: impl FnMut(&mut S, BorrowedFd<'_>, u32) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let mut descent = Descent::new(top);
    visit(state, top, ROOT)?;
    // The directory that is read, and which of its entries comes next; and so on for those above it.
    let mut levels = vec![(ROOT, tree(state).children(ROOT))];
    while let Some((directory, rest)) = levels.last_mut() {
        let directory = *directory;
        let all = tree(state);
        let failed = |path: u32, source: io::Error| WriteError::Read { path: all.path(path), source };
        match rest.find(|child| all.is_directory(*child)) {
            Some(child) => {
                descent.enter(all.name(child)).map_err(|error| failed(child, error))?;
                visit(state, descent.fd(), child)?;
                levels.push((child, tree(state).children(child)));
            }
            None => {
                descent.leave().map_err(|error| failed(directory, error))?;
                levels.pop();
            }
        }
    }
    Ok(())
}
