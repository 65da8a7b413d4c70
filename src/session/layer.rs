//! The lower layers of an overlay: mounted images, frozen directories and bound directories, which exist while a session uses them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scratch::Scratch;
use crate::fs::regular;
use crate::mount::Mounted;

/// One layer of a stack, ready to be mounted. Clones share it.
#[derive(Debug, Clone)]
pub struct LowerLayer {
    source: Arc<Source>,
    /// Whether its files may have attributes that squashfs cannot store, such as times before 1970.
    is_wider: bool,
    /// The squashfs image of which it is the mount, to mount that again.
    file: Option<ImageFile>,
}

/// The file of a mounted image.
#[derive(Debug, Clone)]
pub(super) enum ImageFile {
    /// A file of the store, by its path.
    Stored(PathBuf),
    /// One of the host, which was opened once.
    Open(Arc<File>),
}

#[derive(Debug)]
enum Source {
    Mounted(Mounted),
    Directory { path: PathBuf, _scratch: Arc<Scratch> },
}

impl LowerLayer {
    /// Makes a layer of a mounted image.
    pub fn image(mounted: Mounted) -> Self {
        Self { source: Arc::new(Source::Mounted(mounted)), is_wider: false, file: None }
    }

    /// Makes a layer of a mounted image of a format that stores more than squashfs does.
    pub fn wider_image(mounted: Mounted) -> Self {
        Self { source: Arc::new(Source::Mounted(mounted)), is_wider: true, file: None }
    }

    /// Makes a layer of a bound directory of the host.
    pub fn host_directory(mounted: Mounted) -> Self {
        Self { source: Arc::new(Source::Mounted(mounted)), is_wider: true, file: None }
    }

    /// Makes a layer of a directory in a scratch that was normalised to the content of its image.
    pub fn frozen(path: PathBuf, scratch: Arc<Scratch>) -> Self {
        Self { source: Arc::new(Source::Directory { path, _scratch: scratch }), is_wider: false, file: None }
    }

    /// Makes a layer of a directory in a scratch in which a root was made.
    pub fn root(path: PathBuf, scratch: Arc<Scratch>) -> Self {
        Self { source: Arc::new(Source::Directory { path, _scratch: scratch }), is_wider: true, file: None }
    }

    /// Returns whether its files may have attributes that squashfs cannot store.
    pub fn is_wider_than_squashfs(&self) -> bool {
        self.is_wider
    }

    /// Returns the same layer, as the mount of this file.
    pub(super) fn of_file(self, file: ImageFile) -> Self {
        Self { file: Some(file), ..self }
    }

    /// Returns whether both are the same mount or directory.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }

    /// Opens the squashfs image of which it is the mount; none if it is something else.
    pub(super) fn image_file(&self) -> Option<io::Result<File>> {
        self.file.as_ref().map(|file| match file {
            ImageFile::Stored(path) => regular::open(path),
            ImageFile::Open(file) => file.try_clone(),
        })
    }

    /// Returns the layer's path.
    pub fn path(&self) -> &Path {
        match &*self.source {
            Source::Mounted(mounted) => mounted.path(),
            Source::Directory { path, .. } => path,
        }
    }
}
