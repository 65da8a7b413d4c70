//! The errors of reading the content of a host path, and their hints.

use std::io::ErrorKind;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::digest::Digest;

const CHECK_PATH: &str = "check the path in the manifest; relative paths start from the manifest's directory";

/// An error that makes the content of a host path unknown.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ContentError {
    /// The system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// Each look found another content.
    #[error("cannot read the content of {}: it changes while it is read", path.display())]
    Changing { path: PathBuf },
    /// The kernel generates the content when it is read. Callers treat it like a writable bind.
    #[error("cannot read the content of {}: it is on {filesystem}, which the kernel generates as it is read", path.display())]
    MadeUp { path: PathBuf, filesystem: &'static str },
    /// A `.runnerignore` that cannot be understood.
    #[error("cannot use line {line} of {}: {reason}", path.display())]
    Ignore { path: PathBuf, line: usize, reason: String },
    /// A path that must be a regular file and is not.
    #[error("cannot use {}: it is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// A file that must have a digest and has another one.
    #[error("{} has the digest {found}, and the manifest names {expected}", path.display())]
    OtherDigest { path: PathBuf, expected: Digest, found: Digest },
    /// The caller has stopped the walk.
    #[error("interrupted")]
    Stopped,
    /// Overlayfs regards a file of a root as a mark of its own, so an image would differ from the root.
    #[error("cannot use {} in a root: {mark}", path.display())]
    OverlayMark { path: PathBuf, mark: OverlayMark },
    /// The file has none of the types of inode(7).
    #[error("cannot use {}: it is of a type that is unknown here", path.display())]
    UnknownType { path: PathBuf },
}

/// A mark of overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverlayMark {
    /// A device node of a deleted file.
    #[error("it is a character device 0:0, which overlayfs regards as a deleted file")]
    Whiteout,
    /// An extended attribute.
    #[error("its attribute {0} is overlayfs' own mark and would change the content of the root")]
    Attribute(&'static str),
}

impl ContentError {
    /// Returns whether the content of a file is the cause, and not this host.
    pub fn is_of_input(&self) -> bool {
        matches!(self, Self::OverlayMark { .. } | Self::OtherDigest { .. })
    }

    /// Returns the way to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, path, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some(format!("run as root, or make it readable with `chmod -R u+rX {}`", path.display()))
            }
            Self::Changing { .. } => {
                Some("stop the program that writes to it, or name it in a `.runnerignore` of the bound directory".into())
            }
            Self::MadeUp { .. } => Some(
                "mount the filesystem by its type, or name it in a `.runnerignore` of the bound directory".into(),
            ),
            Self::Ignore { .. } => Some("correct it as described in gitignore(5)".into()),
            Self::Io { source, .. } if source.kind() == ErrorKind::NotFound => Some(CHECK_PATH.into()),
            Self::OverlayMark { .. } => Some(
                "the directory is, or was copied from, the upper directory of an overlay: mount that overlay, and name the \
                 directory where it is mounted, or a copy of that"
                    .into(),
            ),
            Self::NotAFile { .. } => Some(CHECK_PATH.into()),
            Self::OtherDigest { found, .. } => {
                Some(format!("restore the file that was meant; or, if this one is meant, write `digest: {found}`"))
            }
            Self::Io { .. } | Self::Stopped | Self::UnknownType { .. } => None,
        }
    }
}

/// Returns a function for `map_err` that adds the action and the path to a system call's error. The file existed a
/// moment ago: where it is missing or has another type now, the content is changing.
pub(super) fn changed_or_failed(action: &'static str, path: impl Fn() -> PathBuf) -> impl Fn(Errno) -> ContentError {
    move |errno| match errno {
        // Removed; now a link; now a file in its path; an attribute removed; removed on a server.
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NODATA | Errno::STALE => {
            ContentError::Changing { path: path() }
        }
        errno => ContentError::Io { action, path: path(), source: errno.into() },
    }
}
