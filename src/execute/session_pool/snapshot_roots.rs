//! The roots of snapshots that steps of other containers copy and mount files from.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::SessionPool;
use crate::error::error_chain_with_hint;
use crate::fs::copy_into::Source;
use crate::model::StepId;
use crate::session::{SessionError, SnapshotRoot};

impl SessionPool<'_> {
    /// Returns the root as it was at a snapshot that has been taken or is in the store, mounted read-only.
    ///
    /// # Errors
    /// Where its layers cannot be mounted.
    pub fn snapshot_root(&self, step: StepId) -> Result<Arc<SnapshotRoot>, SessionError> {
        let mount = || -> io::Result<Arc<SnapshotRoot>> {
            let container = self.build.container(self.build.step(step).container);
            let scratch = Arc::new(self.workspace.scratch(container.scratch)?);
            let lowers = self.chain(step, &scratch)?;
            let mounted = SnapshotRoot::mount(self.workspace, lowers, Arc::clone(&scratch));
            let mounted = mounted.map_err(|error| self.explained(error, Some(&scratch)));
            let words = |error: SessionError| io::Error::other(error_chain_with_hint(&error, error.hint()));
            Ok(Arc::new(mounted.map_err(words)?))
        };
        self.snapshot_roots.get(step.0.to_string(), mount).map_err(SessionError::Rootfs)
    }

    /// Returns the file at a path of the root of a snapshot, open as `O_PATH`; links are followed inside the root.
    ///
    /// # Errors
    /// Where the root has no such file; those of mounting it.
    pub(super) fn file_of_snapshot(&self, step: StepId, path: &Path) -> io::Result<OwnedFd> {
        let root = self.snapshot_root(step).map_err(io::Error::other)?;
        let name = &self.build.step(step).name;
        let found = Source::in_root(root.root(), path, name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error_chain_with_hint(&error, error.hint())))?;
        found.file().try_clone_to_owned()
    }
}
