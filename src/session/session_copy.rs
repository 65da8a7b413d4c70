//! Copies the content of a session's root and tmpfs mounts before a step, so that each try of the step begins with it. The copy is
//! removed when the step has ended. Writable binds and caches are not copied, because others use them too.
//!
//! The root is copied and not frozen, because on top of a frozen directory later renames fail with EXDEV, and hard links break.

use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};

use super::{InitialChanges, Session, SessionError};
use crate::error::context;
use crate::fs::copy_tree::copy_tree_with_notes;
use crate::fs::remove_tree::{empty_directory, remove_tree};

/// A copy of a session's changes. Dropping it removes it.
#[derive(Debug)]
pub struct SessionCopy {
    directory: PathBuf,
    root: Option<PathBuf>,
    /// The path of each tmpfs mount, and that of its copy.
    tmpfs: Vec<(PathBuf, PathBuf)>,
    /// Whether earlier steps may have changed the network, which is not copied.
    has_new_network: bool,
}

impl SessionCopy {
    /// Returns whether each try begins with a new network, although earlier steps may have changed the old one.
    pub fn has_new_network(&self) -> bool {
        self.has_new_network
    }
}

impl Drop for SessionCopy {
    fn drop(&mut self) {
        // Files that cannot be removed now are removed with the scratch that contains them.
        let _ = remove_tree(&self.directory);
    }
}

impl Session<'_> {
    /// Makes an empty copy.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn empty_copy(&self) -> Result<SessionCopy, SessionError> {
        let (directory, has_new_network) = (self.scratch.directory("before")?, self.may_change_network());
        Ok(SessionCopy { directory, root: None, tmpfs: Vec::new(), has_new_network })
    }

    /// Copies the session's changes since the last snapshot, and the content of its tmpfs mounts. It must have been started, and no
    /// process may run in it.
    ///
    /// # Errors
    /// Those of copying, mostly for lack of space; [`io::ErrorKind::Interrupted`] after `stop`.
    pub fn copy_into(&self, before: &mut SessionCopy, stop: &dyn Fn() -> bool) -> Result<(), SessionError> {
        let directory = before.directory.clone();
        let copy = |from: &Path, name: &str| -> io::Result<PathBuf> {
            let to = directory.join(name);
            DirBuilder::new().create(&to)?;
            copy_tree_with_notes(from, &to, &mut |_| continue_unless(stop))?;
            Ok(to)
        };
        if let Some(changes) = self.changes().filter(|_| !self.container.read_only) {
            before.root = Some(copy(changes, "root").map_err(context("the root")).map_err(SessionError::Copy)?);
        }
        for (index, (target, place)) in self.tmpfs().enumerate() {
            let copied = copy(place, &format!("tmpfs{index}"));
            let copied = copied.map_err(context(format_args!("the tmpfs {}", target.display())));
            before.tmpfs.push((place.to_owned(), copied.map_err(SessionError::Copy)?));
        }
        Ok(())
    }

    /// Ends the session's container and restores the copied content. The session can then be started again; after an error its
    /// content is lost, and it neither starts again nor can be frozen.
    ///
    /// # Errors
    /// Those of the end of a session, and of [`copy_into`](Self::copy_into).
    pub fn restore_copy(&mut self, before: &SessionCopy, stop: &dyn Fn() -> bool) -> Result<(), SessionError> {
        self.is_lost = true;
        if let Some(live) = self.live.take() {
            let upper = live.end()?;
            remove_tree(&upper).map_err(context("remove the changes of the last try")).map_err(SessionError::Copy)?;
        }
        if let Some(root) = &before.root {
            let upper = self.scratch.directory("upper").map_err(SessionError::Copy)?;
            let copied = copy_tree_with_notes(root, &upper, &mut |_| continue_unless(stop));
            copied.map_err(context("restore the root")).map_err(SessionError::Copy)?;
            self.initial_changes = Some(InitialChanges::Upper(upper));
        }
        for (place, copied) in &before.tmpfs {
            let restore = || -> io::Result<()> {
                empty_directory(place)?;
                copy_tree_with_notes(copied, place, &mut |_| continue_unless(stop))
            };
            restore().map_err(context("restore a tmpfs")).map_err(SessionError::Copy)?;
        }
        self.is_lost = false;
        Ok(())
    }

    /// Refuses a session whose content is lost.
    pub(super) fn refuse_lost(&self) -> Result<(), SessionError> {
        if self.is_lost { Err(SessionError::Lost) } else { Ok(()) }
    }
}

fn continue_unless(stop: &dyn Fn() -> bool) -> io::Result<()> {
    if stop() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}
