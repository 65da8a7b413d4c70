//! Why what is in a host path cannot be told, and what mends it.

use std::io::ErrorKind;
use std::path::PathBuf;

use rustix::io::Errno;

const CHECK_PATH: &str = "check the path in the manifest; relative paths start from the manifest's folder";

/// Why what is in a host path cannot be told.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ContentError {
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// It was another thing each time it was looked at.
    #[error("cannot tell what is in {}: it changes while it is read", path.display())]
    Changing { path: PathBuf },
    /// The kernel makes up what is in there when it is read. A caller is to treat it like a writable bind.
    #[error("cannot tell what is in {}: it is on {filesystem}, which the kernel makes up as it is read", path.display())]
    MadeUp { path: PathBuf, filesystem: &'static str },
    /// A `.runnerignore` that cannot be understood.
    #[error("cannot use line {line} of {}: {reason}", path.display())]
    Ignore { path: PathBuf, line: usize, reason: String },
    /// Something that is to be a file and is none.
    #[error("cannot use {}: it is no regular file", path.display())]
    NotAFile { path: PathBuf },
    /// The caller wants to know no more.
    #[error("interrupted")]
    Stopped,
    /// Overlayfs takes a file of a root for a mark of its own, so an image would not have what the root has.
    #[error("cannot use {} in a root: {mark}", path.display())]
    OverlayMark { path: PathBuf, mark: OverlayMark },
    /// None of the types of inode(7).
    #[error("cannot use {}: it is of a type that is unknown here", path.display())]
    UnknownType { path: PathBuf },
}

/// A mark of overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OverlayMark {
    /// A device node of a deleted file.
    #[error("it is a character device 0:0, which overlayfs takes for a deleted file")]
    Whiteout,
    /// An extended attribute.
    #[error("its attribute {0} is overlayfs' own mark and would change what is seen of the root")]
    Attribute(&'static str),
}

impl ContentError {
    /// What mends it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, path, .. } if source.kind() == ErrorKind::PermissionDenied => {
                Some(format!("run as root, or make it readable with `chmod -R u+rX {}`", path.display()))
            }
            Self::Changing { .. } => {
                Some("stop what writes to it, or name it in a `.runnerignore` of the folder that is bound".into())
            }
            Self::MadeUp { .. } => Some(
                "mount the filesystem by its type, or name it in a `.runnerignore` of the folder that is bound".into(),
            ),
            Self::Ignore { .. } => Some("write it as gitignore(5) says".into()),
            Self::Io { source, .. } if source.kind() == ErrorKind::NotFound => Some(CHECK_PATH.into()),
            Self::OverlayMark { .. } => Some(
                "the directory is, or was copied from, the upper directory of an overlay: mount that overlay, and name the \
                 directory where it is mounted, or a copy of that"
                    .into(),
            ),
            Self::NotAFile { .. } => Some(CHECK_PATH.into()),
            Self::Io { .. } | Self::Stopped | Self::UnknownType { .. } => None,
        }
    }
}

/// For `map_err`: a system call's error, with what was tried and on what, which was there a moment ago: where it is gone
/// or of another type now, it changes.
pub(super) fn changed_or_failed(action: &'static str, path: impl Fn() -> PathBuf) -> impl Fn(Errno) -> ContentError {
    move |errno| match errno {
        // Gone; a link now; a file on the way to it now; an attribute gone; gone on a server.
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NODATA | Errno::STALE => {
            ContentError::Changing { path: path() }
        }
        errno => ContentError::Io { action, path: path(), source: errno.into() },
    }
}
