//! A saved image of what was changed in a session, copied back: a session continues where a checkpoint was taken, or a step
//! failed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Lower, Workspace, exact};
use crate::fs::copy_tree::{copy_tree, now_and_then};

/// An image of what was changed in a session, to be copied back.
#[derive(Debug)]
pub struct Saved {
    mounted: Lower,
    file: PathBuf,
    report: RestoreReport,
}

/// How far a saved image is copied back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoring {
    /// So many bytes are there by now.
    Bytes(u64),
    /// All is.
    Done,
}

/// Is told how far a saved image is copied back; an error of it ends the copying.
#[derive(Clone, Default)]
pub struct RestoreReport(Option<Arc<Report>>);

type Report = dyn Fn(Restoring) -> io::Result<()> + Send + Sync;

impl RestoreReport {
    /// Calls that.
    pub fn to(report: impl Fn(Restoring) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    fn tell(&self, restoring: Restoring) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |report| report(restoring))
    }
}

impl fmt::Debug for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RestoreReport").field(&self.0.is_some()).finish()
    }
}

impl Saved {
    /// Mounts the image.
    ///
    /// # Errors
    /// As [`Workspace::image`].
    pub fn open(workspace: &Workspace, image: &Path, report: RestoreReport) -> io::Result<Self> {
        Ok(Self { mounted: workspace.image(image)?, file: image.to_owned(), report })
    }

    /// Copies it into an empty directory.
    ///
    /// # Errors
    /// Those of the system calls, with the path; the error of the report.
    pub(super) fn restore(&self, to: &Path) -> io::Result<()> {
        let mut report = now_and_then(|bytes| self.report.tell(Restoring::Bytes(bytes)));
        copy_tree(self.mounted.path(), to, &mut report)?;
        exact::restore(&self.file, to)?;
        self.report.tell(Restoring::Done)
    }
}
