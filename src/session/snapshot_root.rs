//! The root of a snapshot, mounted read-only beside the sessions: files are copied and mounted from it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::{LowerLayer, Scratch, SessionError, Workspace};
use crate::mount::{FileNumbers, Mounted, mount_overlay};

/// A whole root as it was at a snapshot, mounted read-only where only runner looks.
#[derive(Debug)]
pub struct SnapshotRoot {
    // Fields are dropped in this order: a mount before the layers that it shows.
    root: OwnedFd,
    _mounted: Mounted,
    _lowers: Vec<LowerLayer>,
    _scratch: Arc<Scratch>,
}

impl SnapshotRoot {
    /// Mounts these layers, the lowest first.
    ///
    /// # Errors
    /// Those of mounting an overlay.
    pub fn mount(workspace: &Workspace, lowers: Vec<LowerLayer>, scratch: Arc<Scratch>) -> Result<Self, SessionError> {
        // An overlay needs two layers, and hides the marks that a layer alone would show as files.
        let empty = scratch.directory("empty")?;
        let mut stack: Vec<_> = lowers.iter().rev().map(LowerLayer::path).collect();
        stack.push(&empty);
        let mounted = mount_overlay(&stack, None, &workspace.directory("snapshot")?, FileNumbers::Stable)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(mounted.path(), flags, Mode::empty()).map_err(io::Error::from)?;
        Ok(Self { root, _mounted: mounted, _lowers: lowers, _scratch: scratch })
    }

    /// Returns its top directory, open as `O_PATH`.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
