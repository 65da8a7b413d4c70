//! Restores a session's changes from a saved image, so that the session continues at a checkpoint, or where a step failed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{LowerLayer, Workspace, exact};
use crate::fs::copy_tree::{copy_tree, now_and_then};

/// An image of a session's changes, from which they can be restored.
#[derive(Debug)]
pub struct SavedImage {
    mounted: LowerLayer,
    file: PathBuf,
    report: RestoreReport,
}

/// The progress of a restoration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreProgress {
    /// The number of bytes restored so far.
    Bytes(u64),
    /// Everything is restored.
    Done,
}

/// A function that receives the progress of a restoration; its error ends the restoration.
#[derive(Clone, Default)]
pub struct RestoreReport(Option<Arc<Report>>);

type Report = dyn Fn(RestoreProgress) -> io::Result<()> + Send + Sync;

impl RestoreReport {
    /// Makes a report that calls a function.
    pub fn to(report: impl Fn(RestoreProgress) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    fn send(&self, progress: RestoreProgress) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |report| report(progress))
    }
}

impl fmt::Debug for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RestoreReport").field(&self.0.is_some()).finish()
    }
}

impl SavedImage {
    /// Mounts the image.
    ///
    /// # Errors
    /// Those of [`Workspace::image`].
    pub fn open(workspace: &Workspace, image: &Path, report: RestoreReport) -> io::Result<Self> {
        Ok(Self { mounted: workspace.image(image)?, file: image.to_owned(), report })
    }

    /// Copies the image into an empty directory.
    ///
    /// # Errors
    /// Those of the system calls, with the path; the error of the report.
    pub(super) fn restore(&self, to: &Path) -> io::Result<()> {
        let mut report = now_and_then(|bytes| self.report.send(RestoreProgress::Bytes(bytes)));
        copy_tree(self.mounted.path(), to, &mut report)?;
        exact::restore(&self.file, to)?;
        self.report.send(RestoreProgress::Done)
    }
}
