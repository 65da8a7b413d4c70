//! The content of a session's root and tmpfs mounts before a step, so that each try of the step begins there: a copy, which goes
//! with the step. Writable binds and caches are nobody's to copy.
//!
//! The root is copied and not frozen: above a frozen directory later renames fail with EXDEV, and hard links break.

use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};

use super::{Seed, Session, SessionError};
use crate::error::context;
use crate::fs::copy_tree::copy_tree_with_notes;
use crate::fs::remove_tree::{empty_directory, remove_tree};

/// A copy of what was changed in a session. Dropped, it is removed.
#[derive(Debug)]
pub struct Before {
    folder: PathBuf,
    root: Option<PathBuf>,
    /// By the place of each tmpfs mount.
    tmpfs: Vec<(PathBuf, PathBuf)>,
    /// Steps before it may have changed the network, which is not copied.
    has_new_network: bool,
}

impl Before {
    /// Whether a network that steps before it may have changed begins anew.
    pub fn has_new_network(&self) -> bool {
        self.has_new_network
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        // What cannot be removed now goes with the scratch that it is in.
        let _ = remove_tree(&self.folder);
    }
}

impl Session<'_> {
    /// Makes room for a copy.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn empty_copy(&self) -> Result<Before, SessionError> {
        let (folder, has_new_network) = (self.scratch.folder("before")?, self.may_change_network());
        Ok(Before { folder, root: None, tmpfs: Vec::new(), has_new_network })
    }

    /// Copies what has been changed in it since the last snapshot, and what its tmpfs mounts hold. It must have been started,
    /// and nothing may run in it.
    ///
    /// # Errors
    /// Those of copying, for want of room above all; [`io::ErrorKind::Interrupted`] after `stop`.
    pub fn copy_before(&self, before: &mut Before, stop: &dyn Fn() -> bool) -> Result<(), SessionError> {
        let folder = before.folder.clone();
        let copy = |from: &Path, name: &str| -> io::Result<PathBuf> {
            let to = folder.join(name);
            DirBuilder::new().create(&to)?;
            copy_tree_with_notes(from, &to, &mut |_| wanted(stop))?;
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

    /// Ends its container and puts back what was copied. It is to be started again; after an error it is lost, and neither
    /// starts again nor gives a layer.
    ///
    /// # Errors
    /// As for the end of a session, and as for [`copy_before`](Self::copy_before).
    pub fn restore_before(&mut self, before: &Before, stop: &dyn Fn() -> bool) -> Result<(), SessionError> {
        self.is_lost = true;
        if let Some(live) = self.live.take() {
            let upper = live.end()?;
            remove_tree(&upper).map_err(context("remove what the try before changed")).map_err(SessionError::Copy)?;
        }
        if let Some(root) = &before.root {
            let upper = self.scratch.folder("upper").map_err(SessionError::Copy)?;
            let copied = copy_tree_with_notes(root, &upper, &mut |_| wanted(stop));
            copied.map_err(context("put the root back")).map_err(SessionError::Copy)?;
            self.seed = Some(Seed::Upper(upper));
        }
        for (place, copied) in &before.tmpfs {
            let put_back = || -> io::Result<()> {
                empty_directory(place)?;
                copy_tree_with_notes(copied, place, &mut |_| wanted(stop))
            };
            put_back().map_err(context("put a tmpfs back")).map_err(SessionError::Copy)?;
        }
        self.is_lost = false;
        Ok(())
    }

    /// Refuses one that has lost what it held.
    pub(super) fn refuse_lost(&self) -> Result<(), SessionError> {
        if self.is_lost { Err(SessionError::Lost) } else { Ok(()) }
    }
}

fn wanted(stop: &dyn Fn() -> bool) -> io::Result<()> {
    if stop() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}
