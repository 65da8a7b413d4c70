//! The reasons why an image cannot be used, with the fix.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;

/// The reason why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// A file of a layout cannot be read.
    #[error("cannot read {} of the OCI layout {}", name, path.display())]
    Read {
        /// The layout.
        path: PathBuf,
        /// The file in it.
        name: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A directory or an archive is no layout.
    #[error("{} is not an OCI layout: {problem}", path.display())]
    NoLayout {
        /// The directory or the archive.
        path: PathBuf,
        /// The problem.
        problem: String,
        /// The fix.
        hint: String,
    },
    /// A layout has no image with that tag, or several and no tag was named.
    #[error("{} has {problem}", path.display())]
    Tag {
        /// The layout.
        path: PathBuf,
        /// The problem, in words that fit after "has".
        problem: String,
        /// The tags that it has.
        tags: Vec<String>,
    },
    /// There is no image for the platform.
    #[error("the image is not for {wanted}")]
    Platform {
        /// The platform.
        wanted: String,
        /// The platforms that it is for.
        found: Vec<String>,
    },
    /// A document of the image is broken or refused.
    #[error("{name} of the image is refused: {problem}")]
    Document {
        /// The document.
        name: String,
        /// The problem.
        problem: String,
    },
    /// A blob has another content than its digest says.
    #[error("the blob {expected} of the image has another content, with the digest {found}")]
    Digest {
        /// Its digest by the image.
        expected: Digest,
        /// The digest of its content.
        found: Digest,
    },
    /// A blob has another size than the image says.
    #[error("the blob {digest} of the image has {found} bytes, and the image says {expected}")]
    Size {
        /// Its digest.
        digest: Digest,
        /// Its size by the image.
        expected: u64,
        /// The size of its content.
        found: u64,
    },
    /// A blob cannot be written to the store.
    #[error("cannot write a layer of the image to the store")]
    Write(#[source] io::Error),
}

impl OciError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        let list = |names: &[String]| names.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
        match self {
            Self::NoLayout { hint, .. } => Some(hint.clone()),
            Self::Tag { tags, .. } if tags.is_empty() => Some("write the image again, with a tag".to_owned()),
            Self::Tag { path, tags, .. } => {
                Some(format!("write `oci: {}:TAG` with one of its tags: {}", path.display(), list(tags)))
            }
            Self::Platform { found, .. } if found.is_empty() => None,
            Self::Platform { found, .. } => Some(format!("write `platform:` with one of these: {}", list(found))),
            Self::Digest { .. } | Self::Size { .. } => Some("copy the image again: it is damaged".to_owned()),
            Self::Write(source) if source.kind() == io::ErrorKind::StorageFull => {
                Some("free space with `runner store gc`, or use another store with --store DIRECTORY".to_owned())
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("copy the image again: a part of it is missing".to_owned())
            }
            Self::Read { .. } | Self::Document { .. } | Self::Write(_) => None,
        }
    }

    /// Returns whether the image is the cause, and not this host.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Write(_) => false,
            _ => true,
        }
    }
}
