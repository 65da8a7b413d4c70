//! The reasons why an export cannot be written.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::snapshot::ImageError;

/// The reason why an export cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the root has no {}: {} does not exist there", path.display(), missing.display())]
    Missing { path: PathBuf, missing: PathBuf, existing: PathBuf },
    #[error("cannot export {}: it is neither a file nor a directory", path.display())]
    Kind { path: PathBuf },
    #[error("cannot read {} of the root", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: it is a file, and the format `{format}` is an image of a directory", path.display())]
    NoDirectory { path: PathBuf, format: &'static str },
    #[error("cannot write the export")]
    Write { source: io::Error },
    #[error("interrupted")]
    Interrupted,
    #[error("cannot write an EROFS image: mkfs.erofs is not in PATH")]
    NoMkfsErofs,
    #[error("cannot write an EROFS image: mkfs.erofs cannot be run")]
    MkfsErofs(#[source] io::Error),
    #[error("cannot write an EROFS image: mkfs.erofs ended with {status}, and said {}", if said.is_empty() { "nothing" } else { said })]
    MkfsErofsFailed { status: ExitStatus, said: String },
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl ExportError {
    /// Returns the way to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { existing, .. } if existing == Path::new("/") => {
                Some("write the `path` of a file that a step before the export makes".into())
            }
            Self::Missing { existing, .. } => Some(format!(
                "write the `path` of a file that a step before the export makes; {} exists",
                existing.display()
            )),
            Self::NoDirectory { .. } => {
                Some("export it with `format: files`, or write the `path` of a directory".into())
            }
            Self::Write { source } if source.kind() == io::ErrorKind::StorageFull => {
                Some("make room where the store is, as with `runner store gc`".into())
            }
            Self::NoMkfsErofs => Some("apt-get install erofs-utils".into()),
            Self::MkfsErofsFailed { .. } => Some("`format: squashfs` needs no other program".into()),
            Self::Write { .. } | Self::Interrupted | Self::MkfsErofs(_) => None,
            Self::Kind { .. } => Some("write the `path` of a file or a directory".into()),
            Self::Read { .. } => None,
            Self::Image(error) => error.hint(),
        }
    }

    /// Whether the steps before the export cause it, and not the host.
    pub fn is_of_root(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Kind { .. }
                | Self::NoDirectory { .. }
                | Self::Interrupted
                | Self::Image(ImageError::Interrupted)
        )
    }
}
