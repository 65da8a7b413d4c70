//! Folders that an overlay is stacked on: mounted images, frozen folders, bound folders; kept while anyone uses them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scratch::Scratch;
use crate::mount::Mounted;

/// One layer of a stack, ready to be mounted. Clones share it.
#[derive(Debug, Clone)]
pub struct Lower {
    source: Arc<Source>,
    /// It may have what squashfs cannot hold, such as times before 1970.
    is_wider: bool,
}

#[derive(Debug)]
enum Source {
    Mounted(Mounted),
    Folder { path: PathBuf, _kept: Arc<Scratch> },
}

impl Lower {
    /// A mounted image.
    pub fn image(mounted: Mounted) -> Self {
        Self { source: Arc::new(Source::Mounted(mounted)), is_wider: false }
    }

    /// A bound directory of the host.
    pub fn host_directory(mounted: Mounted) -> Self {
        Self { source: Arc::new(Source::Mounted(mounted)), is_wider: true }
    }

    /// A directory of a scratch that was made to hold what an image of it does.
    pub fn frozen(path: PathBuf, scratch: Arc<Scratch>) -> Self {
        Self { source: Arc::new(Source::Folder { path, _kept: scratch }), is_wider: false }
    }

    /// A directory of a scratch that a root was made in.
    pub fn root(path: PathBuf, scratch: Arc<Scratch>) -> Self {
        Self { source: Arc::new(Source::Folder { path, _kept: scratch }), is_wider: true }
    }

    /// Whether it may have what squashfs cannot hold.
    pub fn is_wider_than_squashfs(&self) -> bool {
        self.is_wider
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match &*self.source {
            Source::Mounted(mounted) => mounted.path(),
            Source::Folder { path, .. } => path,
        }
    }
}
