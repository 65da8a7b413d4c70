//! The errors of an import, with their fixes.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::content::ContentError;
use crate::error::error_chain_with_hint;
use crate::oci::OciError;
use crate::registry::RegistryError;
use crate::rootfs::RootfsError;
use crate::squashfs::WriteError;
use crate::store::StoreError;

/// The reason why a source was not imported.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Pull(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the image of the source")]
    Image(#[from] WriteError),
    #[error("cannot import the source")]
    Io(#[from] io::Error),
    #[error("cannot import {}: it changes while it is read", path.display())]
    Changing { path: PathBuf },
    #[error("{url} is an EROFS image, and `url` takes a squashfs image or a tar archive")]
    ErofsOfUrl { url: String },
    #[error("interrupted")]
    Stopped,
}

impl ImportError {
    /// Returns the fix, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Rootfs(error) if error.is_for_want_of_room() => {
                Some("make room where the store is, as with `runner store gc`".into())
            }
            Self::Content(error) => error.hint(),
            Self::Pull(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Changing { .. } => Some("stop the program that writes to it".into()),
            Self::ErofsOfUrl { .. } => {
                Some("download the file, and write `erofs: FILE` with its `digest` in place of `url`".into())
            }
            Self::Io(_) | Self::Stopped => None,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Rootfs(error) if error.is_for_want_of_room() => io::ErrorKind::StorageFull,
            Self::Rootfs(error) if error.is_of_input() => io::ErrorKind::InvalidData,
            Self::Pull(error) if error.is_of_input() => io::ErrorKind::InvalidData,
            Self::Changing { .. } | Self::ErofsOfUrl { .. } => io::ErrorKind::InvalidData,
            Self::Content(error) if error.is_of_input() => io::ErrorKind::InvalidData,
            Self::Io(error) => error.kind(),
            Self::Image(WriteError::File(source)) => source.kind(),
            Self::Store(StoreError::Io { source, .. }) => source.kind(),
            _ => io::ErrorKind::Other,
        }
    }
}

impl From<OciError> for ImportError {
    fn from(error: OciError) -> Self {
        Self::Pull(error.into())
    }
}

/// Keeps the kind, by which a session explains a full filesystem, and the hint.
impl From<ImportError> for io::Error {
    fn from(error: ImportError) -> Self {
        Self::new(error.kind(), error_chain_with_hint(&error, error.hint()))
    }
}
