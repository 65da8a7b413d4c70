//! Folders that an overlay is stacked on: mounted images, frozen folders, bound folders; kept while anyone uses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scratch::Scratch;
use crate::mount::Mounted;

/// One layer of a stack, ready to be mounted. Clones share it.
#[derive(Debug, Clone)]
pub struct Lower(Arc<Source>);

#[derive(Debug)]
enum Source {
    Mounted(Mounted),
    Folder { path: PathBuf, _kept: Arc<Scratch> },
}

impl Lower {
    /// A mounted image or a bound folder.
    pub fn mounted(mounted: Mounted) -> Self {
        Self(Arc::new(Source::Mounted(mounted)))
    }

    /// A folder of a scratch that nothing writes to any more.
    pub fn folder(path: PathBuf, scratch: Arc<Scratch>) -> Self {
        Self(Arc::new(Source::Folder { path, _kept: scratch }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match &*self.0 {
            Source::Mounted(mounted) => mounted.path(),
            Source::Folder { path, .. } => path,
        }
    }
}
