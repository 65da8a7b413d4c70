//! Why an image could not be written, and what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why there is no image.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WriteError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    #[error("{} has {size} bytes, and an image can have files of up to {most} bytes", path.display())]
    FileTooLarge { path: PathBuf, size: u64, most: u64 },
    #[error("in {}…: a path is longer than {most} bytes, and no program can open it", path.display().to_string().chars().take(80).collect::<String>())]
    PathTooLong { path: PathBuf, most: usize },
    #[error("there are more than {most} {what}, the most that an image can have")]
    TooMany { what: &'static str, most: u64 },
    #[error("cannot write to its file")]
    File(#[source] io::Error),
    #[error("cannot compress a block")]
    Compress(#[source] io::Error),
    #[error("interrupted")]
    Interrupted,
}

impl WriteError {
    /// Returns what fixes it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::File(error) if error.kind() == io::ErrorKind::StorageFull => {
                "make room where the store is, as with `runner store gc`"
            }
            Self::Read { source, .. } if source.raw_os_error() == Some(libc::EIO) => {
                "a layer below may be damaged: `runner store verify` looks at those of the store, and `unsquashfs \
                 -no-progress -d /tmp/try IMAGE` reads an image of the rootfs"
            }
            Self::Changed(_) => "let nothing else write there, and build again",
            Self::FileTooLarge { .. } => "remove that file in the step that makes it, or shorten it with `truncate -s`",
            Self::PathTooLong { .. } => "remove that directory in the step that makes it",
            Self::TooMany { .. } => "remove what the image does not need in a step before the snapshot",
            Self::File(_) | Self::Read { .. } | Self::Compress(_) | Self::Interrupted => return None,
        };
        Some(hint.to_owned())
    }
}
